//! The root of a tablet: everything that must be known to serve it, in one block.
//!
//! A root changes only by a log record that carries the whole `RootBody` (`record.rs`). The root
//! block is a copy of the newest such record, in the slot of its generation's lowest bit
//! (`superblock::root_block`), written once the record is durable and before the log is trimmed; so
//! a torn or lost root write leaves the other slot, and the trim record tells that it is an old one.
//!
//! The body names the trees: the fs tree, and the log trees oldest first. A log tree's blocks come
//! from one allocation; what it did not use (`spare`) is freed together with it. Free space needs no
//! map here: free runs are items of the fs tree.

use crate::damage::Damage;
use crate::filter::FilterRef;
use crate::ids::{RootGeneration, TABLETS_MAX, TabletId};
use crate::key::{KEY_BYTES_MAX, Key};
use crate::node::{LEVEL_MAX, NodeRef};
use crate::seal;
use crate::superblock::root_block;
use crate::version::{FORMAT_VERSION, ROOT_MAGIC};
use cairn_base::{BLOCK_BYTES, BlockNo, Run};
use zerocopy::little_endian::{U16, U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// Most log trees of one tablet; `engine/src/limits.rs` keeps below it.
pub const LOG_TREES_MAX: usize = 12;
pub const FOLD_CURSOR_BYTES: usize = 32;

const _: () = assert!(FOLD_CURSOR_BYTES >= KEY_BYTES_MAX);

/// A tree: its root node and what it holds.
#[derive(
    FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned, Clone, Copy, Debug, PartialEq, Eq,
)]
#[repr(C)]
pub struct TreeRef {
    pub root: NodeRef,
    pub items: U64,
    pub nodes: U64,
    /// Level of the root node; 0 when it is a leaf.
    pub level: u8,
    pub reserved: [u8; 7],
}

const _: () = assert!(size_of::<TreeRef>() == 48);

impl TreeRef {
    pub const EMPTY: TreeRef = TreeRef {
        root: NodeRef::NONE,
        items: U64::ZERO,
        nodes: U64::ZERO,
        level: 0,
        reserved: [0; 7],
    };

    pub fn is_empty(&self) -> bool {
        self.root.is_none()
    }

    fn check(&self) -> Result<(), Damage> {
        if self.is_empty() {
            return if *self == TreeRef::EMPTY { Ok(()) } else { Err(Damage::Value("empty tree")) };
        }
        if self.level > LEVEL_MAX || self.reserved != [0; 7] {
            return Err(Damage::Value("tree level"));
        }
        if self.items.get() == 0 || self.nodes.get() <= u64::from(self.level) {
            return Err(Damage::Value("tree counts"));
        }
        self.root.check()
    }
}

/// A log tree with its filter and the blocks that were allocated for it and are not used.
#[derive(
    FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned, Clone, Copy, Debug, PartialEq, Eq,
)]
#[repr(C)]
pub struct LogTreeEntry {
    pub tree: TreeRef,
    pub filter: FilterRef,
    pub spare_start: U64,
    pub spare_blocks: U64,
    /// No entry of a seq index that it holds is newer, nor any that an older tree holds.
    pub frozen_seq: U64,
}

const _: () = assert!(size_of::<LogTreeEntry>() == 96);

impl LogTreeEntry {
    pub const EMPTY: LogTreeEntry = LogTreeEntry {
        tree: TreeRef::EMPTY,
        filter: FilterRef::NONE,
        spare_start: U64::ZERO,
        spare_blocks: U64::ZERO,
        frozen_seq: U64::ZERO,
    };

    pub fn spare_start(&self) -> BlockNo {
        BlockNo::from_raw(self.spare_start.get())
    }

    fn check(&self) -> Result<(), Damage> {
        if self.tree.is_empty() {
            return Err(Damage::Value("log tree"));
        }
        let spare = self.spare_blocks.get();
        if spare > 0 && Run::parse(self.spare_start(), spare).is_none() {
            return Err(Damage::Bounds("log tree spare"));
        }
        self.tree.check()?;
        self.filter.check()
    }
}

/// Absolute sums of one tablet: its owner changes them in the record that changes what they count.
#[derive(
    FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned, Clone, Copy, Debug, PartialEq, Eq,
)]
#[repr(C)]
pub struct Totals {
    /// Counters of inode numbers below this may have been shown.
    pub inode_high_water: U64,
    pub inodes: U64,
    pub orphans: U64,
    /// Operations over tablets, as their coordinator: `pending` items.
    pub pending: U64,
    /// Operations over tablets, as a participant: `done` items.
    pub done: U64,
    /// Entries of the deletion index.
    pub deletions: U64,
    /// Free blocks of the tablet's zones for nodes.
    pub free_node: U64,
    /// Free blocks of the tablet's zones for data.
    pub free_data: U64,
    /// Free blocks in no zone yet, on any device; tablet 1 only.
    pub free_unassigned: U64,
}

const _: () = assert!(size_of::<Totals>() == 72);

impl Totals {
    pub const ZERO: Totals = Totals {
        inode_high_water: U64::ZERO,
        inodes: U64::ZERO,
        orphans: U64::ZERO,
        pending: U64::ZERO,
        done: U64::ZERO,
        deletions: U64::ZERO,
        free_node: U64::ZERO,
        free_data: U64::ZERO,
        free_unassigned: U64::ZERO,
    };
}

/// Where replay of this tablet begins: records at or behind `position` are not in its trees.
#[derive(
    FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned, Clone, Copy, Debug, PartialEq, Eq,
)]
#[repr(C)]
pub struct Replay {
    pub epoch: U64,
    pub position: U64,
    pub node: U16,
    pub shard: U16,
    pub reserved: [u8; 4],
}

const _: () = assert!(size_of::<Replay>() == 24);

impl Replay {
    pub const ZERO: Replay = Replay {
        epoch: U64::ZERO,
        position: U64::ZERO,
        node: U16::ZERO,
        shard: U16::ZERO,
        reserved: [0; 4],
    };
}

#[derive(
    FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned, Clone, Copy, Debug, PartialEq, Eq,
)]
#[repr(C)]
pub struct RootBody {
    pub generation: U64,
    /// The owner's.
    pub epoch: U64,
    /// The owner.
    pub node: U16,
    pub tablet: U16,
    pub log_tree_count: u8,
    /// 0: no fold is under way.
    pub fold_cursor_len: u8,
    pub reserved: [u8; 2],
    pub replay: Replay,
    pub totals: Totals,
    pub newest_meta_seq: U64,
    pub newest_data_seq: U64,
    /// No entry of a seq index in the fs tree is newer.
    pub folded_seq: U64,
    pub fs: TreeRef,
    /// Oldest first.
    pub log_trees: [LogTreeEntry; LOG_TREES_MAX],
    /// Keys below this are already folded from the oldest log tree into the fs tree.
    pub fold_cursor: [u8; FOLD_CURSOR_BYTES],
}

const _: () = assert!(size_of::<RootBody>() == 1376);

impl RootBody {
    /// The root of a tablet that holds nothing.
    pub fn empty(tablet: TabletId) -> RootBody {
        RootBody {
            generation: U64::ZERO,
            epoch: U64::ZERO,
            node: U16::ZERO,
            tablet: tablet.0.into(),
            log_tree_count: 0,
            fold_cursor_len: 0,
            reserved: [0; 2],
            replay: Replay::ZERO,
            totals: Totals::ZERO,
            newest_meta_seq: U64::ZERO,
            newest_data_seq: U64::ZERO,
            folded_seq: U64::ZERO,
            fs: TreeRef::EMPTY,
            log_trees: [LogTreeEntry::EMPTY; LOG_TREES_MAX],
            fold_cursor: [0; FOLD_CURSOR_BYTES],
        }
    }

    pub fn tablet(&self) -> TabletId {
        TabletId(self.tablet.get())
    }

    pub fn generation(&self) -> RootGeneration {
        RootGeneration(self.generation.get())
    }

    /// The log trees there are, oldest first.
    pub fn log_trees(&self) -> &[LogTreeEntry] {
        &self.log_trees[..usize::from(self.log_tree_count).min(LOG_TREES_MAX)]
    }

    /// Replaces the log trees. Panics when there are more than `LOG_TREES_MAX`.
    pub fn set_log_trees(&mut self, entries: &[LogTreeEntry]) {
        self.log_trees = [LogTreeEntry::EMPTY; LOG_TREES_MAX];
        self.log_trees[..entries.len()].copy_from_slice(entries);
        self.log_tree_count = entries.len() as u8;
    }

    /// How far the fold under way has come.
    pub fn fold_cursor(&self) -> Option<Key> {
        let bytes = self.fold_cursor.get(..usize::from(self.fold_cursor_len))?;
        Key::from_bytes(bytes).filter(|_| self.fold_cursor_len > 0)
    }

    pub fn set_fold_cursor(&mut self, cursor: Option<&Key>) {
        let bytes = cursor.map_or(&[][..], |key| key.as_bytes());
        self.fold_cursor = [0; FOLD_CURSOR_BYTES];
        self.fold_cursor[..bytes.len()].copy_from_slice(bytes);
        self.fold_cursor_len = bytes.len() as u8;
    }

    /// What every reader of a root relies on; asked before writing and after reading.
    pub fn check(&self) -> Result<(), Damage> {
        if usize::from(self.tablet.get()) >= TABLETS_MAX {
            return Err(Damage::Bounds("root tablet"));
        }
        if self.reserved != [0; 2] || self.replay.reserved != [0; 4] {
            return Err(Damage::Value("root reserved"));
        }
        let count = usize::from(self.log_tree_count);
        if count > LOG_TREES_MAX {
            return Err(Damage::Bounds("root log tree count"));
        }
        self.fs.check()?;
        let (used, unused) = self.log_trees.split_at(count);
        used.iter().try_for_each(LogTreeEntry::check)?;
        if unused.iter().any(|entry| *entry != LogTreeEntry::EMPTY) {
            return Err(Damage::Value("unused log tree"));
        }
        let len = usize::from(self.fold_cursor_len);
        if len > KEY_BYTES_MAX {
            return Err(Damage::Bounds("root fold cursor"));
        }
        if self.fold_cursor[len..].iter().any(|byte| *byte != 0) {
            return Err(Damage::Value("root fold cursor"));
        }
        Ok(())
    }
}

#[derive(FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct TabletRootBlock {
    pub magic: U64,
    /// CRC-32C of everything behind it.
    pub crc: U32,
    pub version: U32,
    pub fsid: [u8; 16],
    pub body: RootBody,
    pub reserved: [u8; BLOCK_BYTES - 32 - size_of::<RootBody>()],
}

const _: () = assert!(size_of::<TabletRootBlock>() == BLOCK_BYTES);

impl TabletRootBlock {
    /// Fills `out`, one block. A body that `check` refuses is a mistake of the caller's.
    pub fn seal(body: &RootBody, fsid: &[u8; 16], out: &mut [u8]) {
        assert!(out.len() == BLOCK_BYTES, "a root is one block");
        if let Err(damage) = body.check() {
            panic!("a root that could not be read back: {damage}");
        }
        out.fill(0);
        let block = TabletRootBlock::mut_from_bytes(out).expect("one block long");
        block.magic = ROOT_MAGIC.into();
        block.version = FORMAT_VERSION.into();
        block.fsid = *fsid;
        block.body = *body;
        seal::seal(out);
    }

    /// The root in one of `tablet`'s two slots. Whether it is the newest is for the caller to know.
    pub fn parse<'a>(
        bytes: &'a [u8],
        fsid: &[u8; 16],
        tablet: TabletId,
    ) -> Result<&'a RootBody, Damage> {
        let bytes = bytes.get(..BLOCK_BYTES).ok_or(Damage::Bounds("root block"))?;
        seal::check(bytes, ROOT_MAGIC)?;
        let block =
            TabletRootBlock::ref_from_bytes(bytes).map_err(|_| Damage::Bounds("root block"))?;
        if block.version.get() != FORMAT_VERSION {
            return Err(Damage::Value("root version"));
        }
        if block.fsid != *fsid {
            return Err(Damage::Value("root fsid"));
        }
        if block.reserved.iter().any(|byte| *byte != 0) {
            return Err(Damage::Value("root reserved"));
        }
        block.body.check()?;
        if block.body.tablet() != tablet {
            let claims = root_block(block.body.tablet(), block.body.generation());
            return Err(Damage::Misdirected { claims: claims.raw() });
        }
        Ok(&block.body)
    }
}
