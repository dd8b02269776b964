//! What a check found: each finding says what kind of promise is broken, on which object, and how.
//!
//! Findings are noted while the pool is still being read, when the name of a directory may not be
//! known yet. So they keep the object's identity, and its path is looked up when the report is made
//! (`namespace.rs`). The list is cut at a cap, the count is not: one lost node can break a hundred
//! thousand promises.

use crate::space::Owner;
use cairn_base::{BlockNo, Run};
use cairn_format::key::ParsedKey;
use cairn_format::{InodeNo, Key, OpId, TabletId};
use std::cell::{Cell, RefCell};
use std::fmt;

/// Most findings that a report lists when nothing else is asked for.
pub const FINDINGS_MAX: usize = 1000;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// The promise that is broken, one word.
    pub kind: &'static str,
    /// What it is broken for: a block, a tablet, an inode with its path.
    pub object: String,
    pub detail: String,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}: {}", self.kind, self.object, self.detail)
    }
}

/// What was looked at.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    pub tablets: u64,
    pub log_batches: u64,
    pub nodes: u64,
    pub filters: u64,
    pub items: u64,
    pub inodes: u64,
    pub dirents: u64,
    pub extents: u64,
    pub free_runs: u64,
    pub data_blocks_read: u64,
    /// Operations over tablets that the next open still has to finish.
    pub pending: u64,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// At most as many as the options' cap.
    pub findings: Vec<Finding>,
    pub findings_total: u64,
    pub counts: Counts,
}

impl Report {
    pub fn is_clean(&self) -> bool {
        self.findings_total == 0
    }
}

/// What a finding is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Object {
    Device(u8),
    Superblock(BlockNo),
    /// A write log, and the place in it that is meant.
    Log {
        node: u16,
        shard: u16,
        place: Option<BlockNo>,
    },
    Root(TabletId, BlockNo),
    Tablet(TabletId),
    Tree(TabletId, TreeName),
    /// A node or filter, with the first key that it answers for.
    Node {
        tablet: TabletId,
        tree: TreeName,
        block: BlockNo,
        from: Key,
    },
    Inode(InodeNo),
    FileBlock {
        inode: InodeNo,
        file_block: u64,
    },
    Entry {
        dir: InodeNo,
        name: Box<[u8]>,
    },
    Item(TabletId, Key),
    Run(Run),
    /// Blocks with those who claim them.
    Owned {
        run: Run,
        owners: [Option<Owner>; 2],
    },
    Operation(OpId),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TreeName {
    Fs,
    /// By its place, the oldest being 0.
    Log(usize),
}

impl fmt::Display for TreeName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            TreeName::Fs => write!(f, "fs tree"),
            TreeName::Log(index) => write!(f, "log tree {index}"),
        }
    }
}

impl Object {
    /// The object in words; `path` knows where inodes are.
    fn render(&self, path: &dyn Fn(InodeNo) -> Option<String>) -> String {
        let inode = |ino: InodeNo| match path(ino) {
            Some(path) => format!("ino:{ino} {path}"),
            None => format!("ino:{ino}"),
        };
        match self {
            Object::Device(device) => format!("device {device}"),
            Object::Superblock(block) => format!("superblock {block}"),
            Object::Log { node, shard, place: None } => format!("log of node {node} shard {shard}"),
            Object::Log { node, shard, place: Some(block) } => {
                format!("log of node {node} shard {shard}, block {block}")
            }
            Object::Root(tablet, block) => format!("tablet {tablet} root, block {block}"),
            Object::Tablet(tablet) => format!("tablet {tablet}"),
            Object::Tree(tablet, tree) => format!("tablet {tablet} {tree}"),
            Object::Node { tablet, tree, block, from } => {
                let at = match from.parse().and_then(|key| inode_of(&key)) {
                    Some(ino) => format!("{from:?}, {}", inode(ino)),
                    None => format!("{from:?}"),
                };
                format!("tablet {tablet} {tree}, block {block}, from {at}")
            }
            Object::Inode(ino) => inode(*ino),
            Object::FileBlock { inode: ino, file_block } => {
                format!("{}, file block {file_block}", inode(*ino))
            }
            Object::Entry { dir, name } => {
                format!("{}, entry \"{}\"", inode(*dir), name.escape_ascii())
            }
            Object::Item(tablet, key) => match key.parse().and_then(|key| inode_of(&key)) {
                Some(ino) => format!("tablet {tablet} {key:?}, {}", inode(ino)),
                None => format!("tablet {tablet} {key:?}"),
            },
            Object::Run(run) => format!("blocks {run:?}"),
            Object::Owned { run, owners } => {
                let owners: Vec<String> =
                    owners.iter().flatten().map(|owner| owner.render(&inode)).collect();
                format!("blocks {run:?} ({})", owners.join(", "))
            }
            Object::Operation(op) => {
                format!("operation {}.{}.{}.{}", op.node, op.shard, op.epoch, op.counter)
            }
        }
    }
}

/// The inode that a key belongs to.
pub(crate) fn inode_of(key: &ParsedKey) -> Option<InodeNo> {
    match *key {
        ParsedKey::Inode(inode)
        | ParsedKey::Symlink(inode)
        | ParsedKey::BackReference { child: inode, .. }
        | ParsedKey::Xattr { inode, .. }
        | ParsedKey::Lookup { dir: inode, .. }
        | ParsedKey::Readdir { dir: inode, .. }
        | ParsedKey::Extent { inode, .. }
        | ParsedKey::Checksums { inode, .. }
        | ParsedKey::Fixity { inode, .. }
        | ParsedKey::MetaSeq(_, inode)
        | ParsedKey::DataSeq(_, inode)
        | ParsedKey::Deletion(_, inode)
        | ParsedKey::Srch { inode, .. }
        | ParsedKey::Indx { inode, .. }
        | ParsedKey::DamagedData { inode, .. }
        | ParsedKey::Orphan(inode) => Some(inode),
        ParsedKey::Totl(_)
        | ParsedKey::Quota { .. }
        | ParsedKey::Project(_)
        | ParsedKey::FreeRun(..)
        | ParsedKey::Pending(_)
        | ParsedKey::Done(_)
        | ParsedKey::Consumer { .. }
        | ParsedKey::Scrub
        | ParsedKey::ScrubPlace
        | ParsedKey::DamagedBlock(_)
        | ParsedKey::Trimmed => None,
    }
}

struct Draft {
    kind: &'static str,
    object: Object,
    detail: String,
}

/// Where findings gather; shared by everything that looks.
pub(crate) struct Findings {
    drafts: RefCell<Vec<Draft>>,
    total: Cell<u64>,
    max: usize,
}

impl Findings {
    pub fn new(max: usize) -> Findings {
        Findings { drafts: RefCell::default(), total: Cell::new(0), max }
    }

    pub fn note(&self, kind: &'static str, object: Object, detail: impl fmt::Display) {
        self.total.set(self.total.get() + 1);
        let mut drafts = self.drafts.borrow_mut();
        if drafts.len() < self.max {
            drafts.push(Draft { kind, object, detail: detail.to_string() });
        }
    }

    pub fn into_report(self, counts: Counts, path: &dyn Fn(InodeNo) -> Option<String>) -> Report {
        let finding = |draft: Draft| Finding {
            kind: draft.kind,
            object: draft.object.render(path),
            detail: draft.detail,
        };
        Report {
            findings: self.drafts.into_inner().into_iter().map(finding).collect(),
            findings_total: self.total.get(),
            counts,
        }
    }
}
