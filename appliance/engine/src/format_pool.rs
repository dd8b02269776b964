//! Makes a pool: superblocks, root blocks, log areas, and the root directory.
//!
//! There is no zone map: all free space is one run a device, an item of tablet 1. The log areas are
//! written full, so that a log write to a file never has to allocate. Everything is durable before
//! the superblock is, so a format that is interrupted leaves no pool.

use crate::limits::POSITION_FIRST;
use crate::open::{OpenError, write_superblock, write_to_all};
use cairn_base::door::{Clock, Disk, Durability, Entropy};
use cairn_base::{BLOCK_BYTES, BlockNo, DeviceId, DmaSlice, Run};
use cairn_format::item::{FileKind, FreeRunItem, InodeItem};
use cairn_format::key::{Key, Purpose};
use cairn_format::node::{NODE_BLOCKS, NODE_BYTES, NodeBuilder};
use cairn_format::superblock::{
    DEVICE_IN_SERVICE, DeviceEntry, EPOCH_OF_FORMAT, LOG_IN_USE, LOG_RETIRING, LogArea, ROLE_DATA,
    ROLE_META, ROLE_MIXED, Superblock, front_blocks, root_block,
};
use cairn_format::tablet_root::{RootBody, TabletRootBlock, Totals, TreeRef};
use cairn_format::{InodeNo, RootGeneration, Seq, TabletId};
use zerocopy::IntoBytes;

#[derive(Clone, Debug)]
pub struct FormatOptions {
    /// Fixed for the life of the pool; 2 to 4096.
    pub tablets: u16,
    /// Shards whose logs get room now.
    pub shards: u16,
    /// Blocks of one log area; each shard gets two.
    pub log_blocks: u64,
    /// Owner of the root directory.
    pub uid: u32,
    pub gid: u32,
}

impl FormatOptions {
    /// What fits a pool of so many bytes.
    pub fn for_size(bytes: u64, shards: u16) -> FormatOptions {
        let tablets = (bytes / (64 << 20)).clamp(4, 256).next_power_of_two().min(256) as u16;
        let log = (bytes / 128).clamp(4 << 20, 64 << 20);
        FormatOptions { tablets, shards, log_blocks: log / BLOCK_BYTES as u64, uid: 0, gid: 0 }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FormatError {
    /// The device has fewer blocks than the fixed structures and the logs need.
    TooSmall {
        device: DeviceId,
        blocks: u64,
        needed: u64,
    },
    Tablets {
        asked: u16,
    },
    /// More tablets than the write log can serve beside operations.
    Log {
        tablets: u16,
        most: u64,
    },
    Devices {
        given: usize,
    },
}

impl std::fmt::Display for FormatError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            FormatError::TooSmall { device, blocks, needed } => write!(
                f,
                "device {} has {blocks} blocks of 4 KiB, at least {needed} are needed",
                device.0
            ),
            FormatError::Tablets { asked } => {
                write!(f, "{asked} tablets asked for, 2 to 4096 are possible")
            }
            FormatError::Log { tablets, most } => write!(
                f,
                "{tablets} tablets asked for; the write log of a device this small serves at most {most}"
            ),
            FormatError::Devices { given } => {
                write!(
                    f,
                    "{given} devices given: one (mixed), or one for metadata and one for data"
                )
            }
        }
    }
}

impl std::error::Error for FormatError {}

/// Why no pool was made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FormatFailed {
    Refused(FormatError),
    Disk(OpenError),
}

impl From<FormatError> for FormatFailed {
    fn from(error: FormatError) -> FormatFailed {
        FormatFailed::Refused(error)
    }
}

impl From<OpenError> for FormatFailed {
    fn from(error: OpenError) -> FormatFailed {
        FormatFailed::Disk(error)
    }
}

impl std::fmt::Display for FormatFailed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            FormatFailed::Refused(error) => error.fmt(f),
            FormatFailed::Disk(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for FormatFailed {}

/// A log keeps two blocks of itself for each tablet's root records (`log/write_log.rs`), and may be the
/// only one of a pool that is opened with one shard. Most of it is to be for operations.
const LOG_BLOCKS_PER_TABLET: u64 = 8;

/// Zones are a 4096th of their device, within 1 MiB and 1 GiB.
fn zone_blocks(device_blocks: u64) -> u64 {
    const MIB: u64 = (1 << 20) / BLOCK_BYTES as u64;
    (device_blocks / 4096).clamp(MIB, 1024 * MIB).next_power_of_two()
}

/// One device: mixed. Two: metadata, then data.
pub async fn format_pool<K: Disk>(
    disk: &K,
    options: &FormatOptions,
    entropy: &impl Entropy,
    clock: &impl Clock,
) -> Result<(), FormatFailed> {
    let mut superblock = plan(disk, options, entropy, clock)?;
    erase_superblocks(disk, &superblock).await?;
    for area in superblock.log_table().to_vec() {
        fill(disk, area.run()).await?;
    }
    write_root_directory(disk, &superblock, options, clock.wall()).await?;
    for index in (0..superblock.device_count).rev() {
        disk.flush(DeviceId(index))
            .await
            .map_err(|error| OpenError::Media { block: BlockNo::new(DeviceId(index), 0), error })?;
    }
    for index in (0..superblock.device_count).rev() {
        superblock.device_index = index;
        write_superblock(disk, &mut superblock).await?;
    }
    // It is a pool now. With one copy alone it would hang on every bit of that until its first start.
    write_to_all(disk, &mut superblock).await?;
    Ok(())
}

fn plan<K: Disk>(
    disk: &K,
    options: &FormatOptions,
    entropy: &impl Entropy,
    clock: &impl Clock,
) -> Result<Box<Superblock>, FormatError> {
    if !(2..=4096).contains(&options.tablets) {
        return Err(FormatError::Tablets { asked: options.tablets });
    }
    let most = options.log_blocks / LOG_BLOCKS_PER_TABLET;
    if u64::from(options.tablets) > most {
        return Err(FormatError::Log { tablets: options.tablets, most });
    }
    let roles: &[u8] = match disk.device_count() {
        1 => &[ROLE_MIXED],
        2 => &[ROLE_META, ROLE_DATA],
        given => return Err(FormatError::Devices { given }),
    };
    let mut superblock = Superblock::zeroed();
    entropy.fill(&mut superblock.fsid);
    entropy.fill(&mut superblock.name_key);
    entropy.fill(&mut superblock.handle_key);
    superblock.generation = 1.into();
    superblock.epoch = EPOCH_OF_FORMAT.into();
    superblock.created = clock.wall().into();
    superblock.seq_ceiling = first_seq(clock).0.into();
    superblock.tablets = options.tablets.into();
    superblock.device_count = roles.len() as u8;
    for (index, role) in roles.iter().enumerate() {
        let device = DeviceId(index as u8);
        let blocks = disk.device_blocks(device);
        let logs = if index == 0 { 2 * u64::from(options.shards) * options.log_blocks } else { 0 };
        // Beside the fixed parts: a few zones for the first tablets.
        let needed = front_blocks(index, options.tablets) + logs + 8 * zone_blocks(blocks);
        if blocks < needed {
            return Err(FormatError::TooSmall { device, blocks, needed });
        }
        let mut entry = DeviceEntry::EMPTY;
        entropy.fill(&mut entry.uuid);
        entry.blocks = blocks.into();
        entry.zone_blocks = zone_blocks(blocks).into();
        entry.generation = 1.into();
        entry.role = *role;
        entry.state = DEVICE_IN_SERVICE;
        superblock.devices[index] = entry;
    }
    let mut start = logs_start(options.tablets);
    for index in 0..2 * options.shards {
        let mut area = LogArea::EMPTY;
        area.shard = (index / 2).into();
        area.state = if index % 2 == 0 { LOG_IN_USE } else { LOG_RETIRING };
        area.epoch = u64::from(index % 2 == 0).into();
        area.start = BlockNo::new(DeviceId(0), start).raw().into();
        area.blocks = options.log_blocks.into();
        superblock.logs[usize::from(index)] = area;
        start += options.log_blocks;
    }
    superblock.log_count = (2 * options.shards).into();
    Ok(superblock)
}

fn first_seq(clock: &impl Clock) -> Seq {
    Seq((clock.wall() / 1000).max(1) as u64)
}

fn logs_start(tablets: u16) -> u64 {
    front_blocks(0, tablets).next_multiple_of(NODE_BLOCKS)
}

/// Nothing here is a pool until the end.
async fn erase_superblocks<K: Disk>(disk: &K, superblock: &Superblock) -> Result<(), OpenError> {
    for index in 0..superblock.device_count {
        let from = BlockNo::new(DeviceId(index), 0);
        fill(disk, Run::new(from, front_blocks(usize::from(index), superblock.tablets.get())))
            .await?;
        let flushed = disk.flush(DeviceId(index)).await;
        flushed.map_err(|error| OpenError::Media { block: from, error })?;
    }
    Ok(())
}

/// Writes zeros over a run.
pub(crate) async fn fill<K: Disk>(disk: &K, run: Run) -> Result<(), OpenError> {
    const STEP: u64 = 256;
    let mut at = run.start;
    while at < run.end() {
        let blocks = (run.end().index() - at.index()).min(STEP);
        let buf = disk.arena().alloc_zeroed(blocks as usize * BLOCK_BYTES);
        let wrote = disk.write(at, vec![DmaSlice::whole(buf)], Durability::Cached).await;
        wrote.map_err(|error| OpenError::Media { block: at, error })?;
        at = at.after(blocks);
    }
    Ok(())
}

/// Tablet 1 gets a first tree of one node: the root directory and all free runs.
async fn write_root_directory<K: Disk>(
    disk: &K,
    superblock: &Superblock,
    options: &FormatOptions,
    now: i64,
) -> Result<(), OpenError> {
    let log_end = superblock.log_table().iter().map(|area| area.run().end().index()).max();
    let node = BlockNo::new(DeviceId(0), log_end.unwrap_or(logs_start(options.tablets)));
    let seq = Seq(superblock.seq_ceiling.get());
    let root = InodeNo::ROOT;
    let inode = InodeItem {
        mode: 0o755.into(),
        kind: FileKind::Directory as u8,
        flags: 0,
        nlink: 2.into(),
        uid: options.uid.into(),
        gid: options.gid.into(),
        size: 0.into(),
        atime: now.into(),
        mtime: now.into(),
        ctime: now.into(),
        crtime: now.into(),
        meta_seq: seq.0.into(),
        data_seq: 0.into(),
        data_version: 0.into(),
        online_blocks: 0.into(),
        offline_blocks: 0.into(),
        special: POSITION_FIRST.into(),
    };
    let mut items: Vec<(Key, Vec<u8>)> =
        vec![(Key::inode(root), inode.as_bytes().to_vec()), (Key::meta_seq(seq, root), Vec::new())];
    let mut free = 0;
    for (index, entry) in superblock.device_table().iter().enumerate() {
        let first = if index == 0 {
            node.index() + NODE_BLOCKS
        } else {
            front_blocks(index, options.tablets).next_multiple_of(NODE_BLOCKS)
        };
        let blocks = entry.blocks.get() - first;
        let start = BlockNo::new(DeviceId(index as u8), first);
        let run = FreeRunItem { blocks: blocks.into() };
        items.push((Key::free_run(Purpose::Unassigned, start), run.as_bytes().to_vec()));
        free += blocks;
    }
    let mut buf = disk.arena().alloc(NODE_BYTES);
    let mut builder = NodeBuilder::new(&mut buf, root.tablet(), 0);
    for (key, value) in &items {
        assert!(builder.try_push(key, value, false), "a few items fit one node");
    }
    let tree = TreeRef {
        root: builder.finish(node, 1),
        items: (items.len() as u64).into(),
        nodes: 1.into(),
        level: 0,
        reserved: [0; 7],
    };
    let wrote = disk.write(node, vec![DmaSlice::whole(buf)], Durability::Cached).await;
    wrote.map_err(|error| OpenError::Media { block: node, error })?;
    for tablet in (0..options.tablets).map(TabletId) {
        let mut body = RootBody::empty(tablet);
        body.generation = 1.into();
        body.epoch = EPOCH_OF_FORMAT.into();
        if tablet == root.tablet() {
            body.fs = tree;
            body.newest_meta_seq = seq.0.into();
            body.folded_seq = seq.0.into();
            body.totals.inodes = 1.into();
            body.totals.inode_high_water = 1.into();
            body.totals.free_unassigned = free.into();
        } else {
            // Inode number 0 does not exist.
            body.totals = Totals { inode_high_water: 1.into(), ..Totals::ZERO };
        }
        write_root(disk, superblock, &body).await?;
    }
    Ok(())
}

async fn write_root<K: Disk>(
    disk: &K,
    superblock: &Superblock,
    body: &RootBody,
) -> Result<(), OpenError> {
    let at = root_block(body.tablet(), RootGeneration(body.generation.get()));
    let mut buf = disk.arena().alloc_zeroed(BLOCK_BYTES);
    TabletRootBlock::seal(body, &superblock.fsid, &mut buf);
    let wrote = disk.write(at, vec![DmaSlice::whole(buf)], Durability::Cached).await;
    wrote.map_err(|error| OpenError::Media { block: at, error })
}
