//! From superblock to serving: the recovery order, top to bottom.
//!
//! 1. One shard reads the superblock, all root blocks and every log area (`read_pool`), takes the
//!    next epoch's number, and hands each shard its tablets. No tree is read: the cost is the size of
//!    the logs and the number of tablets, never the number of files.
//! 2. Each shard starts an empty log of the next epoch, in its other log area, and copies to it what
//!    its tablets had in memory (`log/relog.rs`); what does not fit, because there are fewer shards
//!    now, becomes a log tree. The old epoch stays whole meanwhile: its logs are not written to, and
//!    blocks that are freed now are not reused yet. A crash here opens the old epoch again.
//! 3. When every shard has come so far, the superblock names the new epoch and its logs: one
//!    durable write, the moment the old logs end.
//! 4. Operations over tablets that were committed are finished, a device that was growing has grown
//!    (`resize.rs`), and only then is anybody served.
//!
//! More or fewer shards than last time is normal: tablets go to whoever owns them now, log areas
//! of shards that are no more are kept for when they are again, and new ones come out of tablet 1.

use crate::error::FsError;
use crate::log::recover::{LogImage, RecoveredTablet, read_log, read_what_can_be};
use crate::log::{LogConfig, MemtableBytes, WriteLog};
use crate::peer::{Ask, Mail, Peers};
use crate::pool::Pool;
use crate::sabotage::{Sabotage, planted};
use crate::shard::{Core, Shard, ShardConfig, ShardParts};
use crate::space::Reads;
use crate::tablet::Tablet;
use cairn_base::door::{Disk, Doors, Durability, MediaError};
use cairn_base::{BLOCK_BYTES, BlockNo, DeviceId, DmaBuf, DmaSlice, Run};
use cairn_format::record::EditKind;
use cairn_format::superblock::{
    LOG_IN_USE, LOG_RETIRING, LogArea, ROOTS_START, SUPERBLOCK_A, SUPERBLOCK_B, SUPERBLOCK_BYTES,
    Superblock, SuperblockError,
};
use cairn_format::tablet_root::{RootBody, TabletRootBlock};
use cairn_format::{Damage, Epoch, LogPosition, NodeId, RootGeneration, Seq, ShardId, TabletId};
use cairn_reactor::{Handle, Port, WaitList};
use std::cell::Cell;
use std::collections::BTreeMap;
use std::rc::Rc;
use zerocopy::IntoBytes;

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OpenError {
    /// A device has no usable superblock.
    Superblock {
        device: DeviceId,
        error: SuperblockError,
    },
    /// The device belongs elsewhere in this pool, or to another pool.
    WrongDevice {
        device: DeviceId,
        is: DeviceId,
    },
    OtherPool {
        device: DeviceId,
    },
    DeviceMissing {
        listed: usize,
        given: usize,
    },
    /// The device is shorter than the pool has it.
    Truncated {
        device: DeviceId,
        blocks: u64,
        listed: u64,
    },
    Media {
        block: BlockNo,
        error: MediaError,
    },
    /// A batch is gone that was acknowledged.
    LogDamaged {
        shard: ShardId,
        position: LogPosition,
        acknowledged: LogPosition,
    },
    RecordDamaged {
        shard: ShardId,
        damage: Damage,
    },
    /// Neither root block of a tablet can be read, and no log has its root.
    RootDamaged {
        tablet: TabletId,
    },
    /// The log was trimmed by a newer root than any that is left.
    RootLost {
        tablet: TabletId,
        found: RootGeneration,
        trimmed: RootGeneration,
    },
    TooManyShards {
        asked: u16,
        most: u16,
    },
    /// Each shard has two log areas of so many blocks, and there is room for those of fewer shards.
    NoRoomForLogs {
        asked: u16,
        most: u16,
        area_blocks: u64,
    },
    Fs(FsError),
}

impl std::fmt::Display for OpenError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            OpenError::Superblock { device, error } => write!(f, "device {}: {error}", device.0),
            OpenError::WrongDevice { device, is } => write!(
                f,
                "device {} is device {} of this pool: give the devices in the order of format",
                device.0, is.0
            ),
            OpenError::OtherPool { device } => {
                write!(f, "device {} belongs to another pool", device.0)
            }
            OpenError::DeviceMissing { listed, given } => {
                write!(f, "the pool has {listed} devices, {given} were given")
            }
            OpenError::Truncated { device, blocks, listed } => write!(
                f,
                "device {} was cut short: it has {} bytes, the pool has {} on it; nothing was written",
                device.0,
                blocks * BLOCK_BYTES as u64,
                listed * BLOCK_BYTES as u64
            ),
            OpenError::Media { block, error } => {
                write!(f, "device {} at block {}: {error}", block.device().0, block.index())
            }
            OpenError::LogDamaged { shard, position, acknowledged } => write!(
                f,
                "the log of shard {shard} is damaged at position {position}: changes up to {acknowledged} were acknowledged"
            ),
            OpenError::RecordDamaged { shard, damage } => {
                write!(f, "a record in the log of shard {shard}: {damage}")
            }
            OpenError::RootDamaged { tablet } => {
                write!(f, "both root blocks of tablet {tablet} are damaged")
            }
            OpenError::RootLost { tablet, found, trimmed } => write!(
                f,
                "the newest root of tablet {tablet} is lost: found generation {found}, the log was trimmed by {trimmed}"
            ),
            OpenError::TooManyShards { asked, most } => {
                write!(f, "{asked} shards asked for, this pool has room for the logs of {most}")
            }
            OpenError::NoRoomForLogs { asked, most, area_blocks } => write!(
                f,
                "{asked} shards need two logs of {} bytes each, and the pool has room for those of {most}",
                area_blocks * BLOCK_BYTES as u64
            ),
            OpenError::Fs(error) => write!(f, "{error}"),
        }
    }
}

impl std::error::Error for OpenError {}

impl From<FsError> for OpenError {
    fn from(error: FsError) -> OpenError {
        OpenError::Fs(error)
    }
}

/// A pool as its devices hold it, before anything of this run was written.
#[derive(Debug)]
pub struct PoolImage {
    pub superblock: Box<Superblock>,
    tablets: BTreeMap<TabletId, RecoveredTablet>,
    seq_floor: Seq,
    pub blocks_read_in_logs: u64,
    pub blocks_read_outside_logs: u64,
}

/// What one shard needs to begin. Plain data: it crosses to the shard's thread.
#[derive(Debug)]
pub struct ShardSeed {
    pub id: ShardId,
    pool: Pool,
    area: Run,
    tablets: Vec<RecoveredTablet>,
    seq_floor: Seq,
    /// The superblock of the new epoch, for the shard that writes it.
    next: Option<Box<Superblock>>,
    blocks_read: (u64, u64),
}

/// Reads the newest superblock of every device and checks that they belong together.
pub async fn read_superblock<K: Disk>(disk: &K) -> Result<Box<Superblock>, OpenError> {
    let first = newest_copy(disk, DeviceId(0)).await?;
    if first.device_index != 0 {
        // Before their number: whoever names one alone is told which it is.
        let is = DeviceId(first.device_index);
        return Err(OpenError::WrongDevice { device: DeviceId(0), is });
    }
    let listed = usize::from(first.device_count);
    if listed != disk.device_count() {
        return Err(OpenError::DeviceMissing { listed, given: disk.device_count() });
    }
    for (index, entry) in first.device_table().iter().enumerate() {
        let device = DeviceId(index as u8);
        let copy = newest_copy(disk, device).await?;
        if copy.fsid != first.fsid {
            return Err(OpenError::OtherPool { device });
        }
        if copy.device_index != device.0 {
            return Err(OpenError::WrongDevice { device, is: DeviceId(copy.device_index) });
        }
        let blocks = disk.device_blocks(device);
        if blocks < entry.blocks.get() {
            return Err(OpenError::Truncated { device, blocks, listed: entry.blocks.get() });
        }
    }
    Ok(first)
}

async fn read_copy<K: Disk>(
    disk: &K,
    device: DeviceId,
    slot: u64,
) -> (BlockNo, DmaBuf, Result<(), MediaError>) {
    let block = BlockNo::new(device, slot);
    let (buf, read) = disk.read(block, disk.arena().alloc(SUPERBLOCK_BYTES)).await;
    (block, buf, read)
}

async fn newest_copy<K: Disk>(disk: &K, device: DeviceId) -> Result<Box<Superblock>, OpenError> {
    let mut newest: Option<Box<Superblock>> = None;
    let mut refused = SuperblockError::NotAPool;
    let mut unreadable = None;
    for slot in [SUPERBLOCK_A, SUPERBLOCK_B] {
        let (block, buf, read) = read_copy(disk, device, slot).await;
        match read {
            Ok(()) => {}
            Err(MediaError::OutOfRange) => continue,
            // The other copy says the same: none counts before both are written.
            Err(error) => {
                unreadable = unreadable.or(Some(OpenError::Media { block, error }));
                continue;
            }
        }
        match Superblock::parse(&buf) {
            Ok(found) => {
                let best = newest.as_ref().map_or(0, |best| best.generation.get());
                if newest.is_none() || found.generation.get() > best {
                    let mut copy = Superblock::zeroed();
                    copy.as_mut_bytes().copy_from_slice(found.as_bytes());
                    newest = Some(copy);
                }
            }
            Err(SuperblockError::NotAPool) => {}
            Err(error) => refused = error,
        }
    }
    newest.ok_or(unreadable.unwrap_or(OpenError::Superblock { device, error: refused }))
}

/// Copies of superblocks that cannot be used, of a pool that can be opened by the others. The next change of a
/// superblock writes them again.
pub async fn unusable_superblocks<K: Disk>(disk: &K) -> Vec<BlockNo> {
    let mut found = Vec::new();
    for index in 0..disk.device_count() {
        for slot in [SUPERBLOCK_A, SUPERBLOCK_B] {
            let (block, buf, read) = read_copy(disk, DeviceId(index as u8), slot).await;
            if read.is_err() || Superblock::parse(&buf).is_err() {
                found.push(block);
            }
        }
    }
    found
}

/// Step 1 of opening, for so many shards: reads the pool and divides it.
pub async fn read_and_divide<K: Disk>(disk: &K, shards: u16) -> Result<Vec<ShardSeed>, OpenError> {
    let before = disk.blocks_read();
    let mut image = read_pool(disk).await?;
    image.grow_logs(disk, shards).await?;
    image.claim_epoch(disk).await?;
    image.blocks_read_outside_logs = disk.blocks_read() - before - image.blocks_read_in_logs;
    image.seeds(shards)
}

/// Everything that is read before anything is written.
pub async fn read_pool<K: Disk>(disk: &K) -> Result<PoolImage, OpenError> {
    let before = disk.blocks_read();
    let superblock = read_superblock(disk).await?;
    let mut tablets = read_roots(disk, &superblock).await?;
    let mut seq_floor = Seq(superblock.seq_ceiling.get());
    let mut in_logs = 0;
    let mut logs: Vec<LogImage> = Vec::new();
    for area in superblock.log_table().iter().filter(|area| area.state == LOG_IN_USE) {
        let log = read_log(disk, area, superblock.log_tag()).await?;
        in_logs += area.blocks.get();
        if !planted(Sabotage::CeilingIgnored) {
            seq_floor = seq_floor.max(log.ceiling);
        }
        logs.push(log);
    }
    for log in &logs {
        log.replay_roots(&mut tablets)?;
    }
    if let Some(tablet) = tablets.values().find(|tablet| tablet.body.generation.get() == 0) {
        return Err(OpenError::RootDamaged { tablet: tablet.body.tablet() });
    }
    for tablet in tablets.values_mut() {
        tablet.totals = tablet.body.totals;
        let newest = tablet.body.newest_meta_seq.get().max(tablet.body.newest_data_seq.get());
        tablet.newest_seq = Seq(newest);
    }
    for log in &logs {
        log.replay_edits(&mut tablets)?;
    }
    Ok(PoolImage {
        superblock,
        tablets,
        seq_floor,
        blocks_read_in_logs: in_logs,
        blocks_read_outside_logs: disk.blocks_read() - before - in_logs,
    })
}

/// The newer valid root block of each tablet; generation 0 where there is none.
async fn read_roots<K: Disk>(
    disk: &K,
    superblock: &Superblock,
) -> Result<BTreeMap<TabletId, RecoveredTablet>, OpenError> {
    const STEP: u64 = 256;
    let mut tablets = BTreeMap::new();
    let slots = 2 * u64::from(superblock.tablets.get());
    for id in (0..superblock.tablets.get()).map(TabletId) {
        let body = Box::new(RootBody::empty(id));
        let (totals, newest_seq) = (body.totals, Seq(0));
        let block_generation = 0;
        let edits = Vec::new();
        tablets.insert(id, RecoveredTablet { body, block_generation, edits, totals, newest_seq });
    }
    let mut at = 0;
    while at < slots {
        let count = (slots - at).min(STEP);
        let block = BlockNo::new(DeviceId(0), ROOTS_START + at);
        // A block that cannot be read is like one that is damaged: there are two of each root, and the
        // logs say which one is needed.
        let (buf, _unreadable) = read_what_can_be(disk, Run::new(block, count)).await;
        for (index, bytes) in buf.chunks_exact(BLOCK_BYTES).enumerate() {
            let id = TabletId(((at + index as u64) / 2) as u16);
            let Ok(body) = TabletRootBlock::parse(bytes, &superblock.fsid, id) else { continue };
            let Some(tablet) = tablets.get_mut(&id) else { continue };
            if body.generation.get() > tablet.body.generation.get() {
                *tablet.body = *body;
                tablet.block_generation = body.generation.get();
            }
        }
        at += count;
    }
    Ok(tablets)
}

impl PoolImage {
    pub fn epoch(&self) -> Epoch {
        Epoch(self.superblock.epoch.get())
    }

    pub fn tablets(&self) -> impl Iterator<Item = &RecoveredTablet> {
        self.tablets.values()
    }

    pub(crate) fn tablet_mut(&mut self, id: TabletId) -> &mut RecoveredTablet {
        self.tablets.get_mut(&id).expect("every tablet was read in")
    }

    /// Takes the next epoch's number, durably, before anything is written under it. An open that is
    /// cut short never gives it back: what it left in a log area would else be taken for the next
    /// one's batches.
    async fn claim_epoch<K: Disk>(&mut self, disk: &K) -> Result<(), OpenError> {
        if planted(Sabotage::EpochNotClaimed) {
            self.superblock.epoch = (self.log_epoch().0 + 1).into();
            return Ok(());
        }
        self.superblock.epoch = (self.superblock.epoch.get() + 1).into();
        write_to_all(disk, &mut self.superblock).await
    }

    /// The epoch whose logs are in use.
    fn log_epoch(&self) -> Epoch {
        let in_use = self.superblock.log_table().iter().filter(|area| area.state == LOG_IN_USE);
        Epoch(in_use.map(|area| area.epoch.get()).max().unwrap_or(0))
    }

    /// Divides the pool among `shards` shards and prepares the superblock with their logs.
    fn seeds(mut self, shards: u16) -> Result<Vec<ShardSeed>, OpenError> {
        let mut next = self.superblock;
        let epoch = next.epoch.get();
        // One of each shard's two areas held the old epoch; the other takes the new one.
        let mut areas = Vec::new();
        let table: Vec<LogArea> = next.log_table().to_vec();
        for area in next.logs.iter_mut().take(table.len()) {
            area.state = LOG_RETIRING;
        }
        for shard in 0..shards {
            let of_shard = |area: &LogArea| area.shard.get() == shard && area.node.get() == 0;
            let free = table.iter().position(|area| of_shard(area) && area.state != LOG_IN_USE);
            let Some(index) = free else {
                let most = table.iter().map(|area| area.shard.get() + 1).max().unwrap_or(0);
                return Err(OpenError::TooManyShards { asked: shards, most });
            };
            let area = &mut next.logs[index];
            area.state = LOG_IN_USE;
            area.epoch = epoch.into();
            areas.push(area.run());
        }
        let pool = Pool::of(&next, shards);
        let mut seeds: Vec<ShardSeed> = Vec::new();
        for (id, area) in areas.into_iter().enumerate() {
            let id = ShardId(id as u16);
            let tablets = pool.owns(id).filter_map(|tablet| self.tablets.remove(&tablet));
            seeds.push(ShardSeed {
                id,
                pool: pool.clone(),
                area,
                tablets: tablets.collect(),
                seq_floor: self.seq_floor,
                next: None,
                blocks_read: (0, 0),
            });
        }
        let leader = &mut seeds[0];
        leader.blocks_read = (self.blocks_read_in_logs, self.blocks_read_outside_logs);
        leader.next = Some(next);
        Ok(seeds)
    }
}

/// Where shards wait for each other while a pool opens. Only the first shard's is used.
#[derive(Default)]
pub struct Barrier {
    recovered: Cell<u16>,
    begun: Cell<bool>,
    applied: Cell<u16>,
    all_applied: Cell<bool>,
    changed: WaitList,
}

impl Barrier {
    pub(crate) async fn recovered(&self, _from: ShardId) {
        self.recovered.set(self.recovered.get() + 1);
        self.changed.wake_all();
        self.changed.until(|| self.begun.get().then_some(())).await;
    }

    pub(crate) async fn applied(&self, _from: ShardId) {
        self.applied.set(self.applied.get() + 1);
        self.changed.wake_all();
        self.changed.until(|| self.all_applied.get().then_some(())).await;
    }

    async fn wait_recovered(&self, others: u16) {
        self.changed.until(|| (self.recovered.get() >= others).then_some(())).await;
    }

    async fn wait_applied(&self, others: u16) {
        self.changed.until(|| (self.applied.get() >= others).then_some(())).await;
    }
}

impl<D: Doors> Shard<D> {
    /// Makes a shard of its seed. Its mail is to be polled from now on; `recover` must follow.
    pub fn begin(
        seed: &mut ShardSeed,
        disk: Rc<D::Disk>,
        clock: Rc<D::Clock>,
        handle: Handle,
        port: Port<Mail>,
        config: ShardConfig,
    ) -> Rc<Shard<D>> {
        let reads = Rc::new(Reads::default());
        let memory = MemtableBytes::default();
        let mut tablets = Vec::new();
        for recovered in seed.tablets.drain(..) {
            tablets.push(revive(recovered, &reads, &memory));
        }
        let log = LogConfig {
            area: seed.area,
            node: NodeId(0),
            shard: seed.id,
            epoch: seed.pool.epoch,
            log_tag: seed.pool.log_tag(),
            seq_floor: seed.seq_floor,
            tablets: tablets.len(),
        };
        let log = WriteLog::new(Rc::clone(&disk), handle.clone(), log);
        let core = Core::new(seed.id, seed.pool.clone(), tablets, memory, reads, &config);
        core.counters.open_blocks_read_in_logs.add(seed.blocks_read.0);
        core.counters.open_blocks_read_outside_logs.add(seed.blocks_read.1);
        let peers = Peers::new(port);
        Shard::new(ShardParts { core, disk, clock, handle, log, peers, config })
    }

    /// Steps 2 to 4 of opening, on every shard at once. The pool serves when this returns.
    pub async fn recover(self: &Rc<Self>, seed: ShardSeed) -> Result<(), OpenError> {
        let before = self.disk.blocks_read();
        let log = Rc::clone(&self.log);
        let _gate_is_open = self.gate.spawn(log.run(self.gate.clone()));
        let folding = self.core.tablets().filter(|t| t.root.borrow().fold_cursor.is_some());
        self.core.counters.folds_resumed.add(folding.count() as u64);
        self.carry_over().await?;
        // The mark that follows says that what was carried over is all there.
        self.settle(self.log.newest_ticket()).await?;
        self.log.begin_with_mark();
        self.settle(self.log.newest_ticket()).await?;
        let others = self.core.pool.shards - 1;
        let leader = ShardId(0);
        match seed.next {
            Some(superblock) => {
                self.barrier.wait_recovered(others).await;
                self.begin_epoch(superblock).await?;
                self.barrier.begun.set(true);
                self.barrier.changed.wake_all();
            }
            None => self.peers.ask(leader, Ask::Recovered).await?.done()?,
        }
        self.epoch_begun.set(true);
        self.finish_pending().await?;
        if self.core.id == leader {
            self.barrier.wait_applied(others).await;
            self.resume_growing().await?;
            self.barrier.all_applied.set(true);
            self.barrier.changed.wake_all();
        } else {
            self.peers.ask(leader, Ask::Applied).await?.done()?;
        }
        self.forget_all_done().await?;
        let read = self.disk.blocks_read() - before;
        self.core.counters.open_blocks_read_outside_logs.add(read);
        self.start_background();
        Ok(())
    }

    /// The moment the old epoch ends: the first durable write of the new superblock. The second
    /// copy follows at once, so that no slot is left from which the old epoch could be taken for the
    /// newest if the other one rots.
    async fn begin_epoch(&self, mut superblock: Box<Superblock>) -> Result<(), OpenError> {
        superblock.seq_ceiling = self.log.ceiling().0.into();
        for _both_slots in 0..2 {
            write_to_all(&*self.disk, &mut superblock).await?;
        }
        self.growth.keep(superblock);
        Ok(())
    }

    fn start_background(self: &Rc<Self>) {
        let tasks: [std::pin::Pin<Box<dyn Future<Output = ()>>>; 6] = [
            Box::pin(Rc::clone(self).run_pace()),
            Box::pin(Rc::clone(self).run_write_back()),
            Box::pin(Rc::clone(self).run_removals()),
            Box::pin(Rc::clone(self).run_scrub()),
            Box::pin(Rc::clone(self).run_trims()),
            Box::pin(Rc::clone(self).run_waiters()),
        ];
        for task in tasks {
            let spawned = self.gate.spawn(task);
            assert!(spawned.is_ok(), "the gate is open until the shard stops");
        }
    }

    /// Ends in order: buffered data is written, everything logged is durable. What is acknowledged
    /// is safe without this as well.
    pub async fn stop(self: &Rc<Self>) -> Result<(), FsError> {
        self.give_up_snapshot();
        let written = self.write_back_all().await;
        self.begin_stop();
        let settled = self.settle(self.log.newest_ticket()).await;
        self.log.close();
        // Whoever still waits (a clean-up that the next open does as well) is told.
        self.log.fail(FsError::Stopped);
        self.gate.close().await;
        written.and(settled)
    }
}

/// Writes the next generation of the superblock to every device, durably.
pub(crate) async fn write_to_all<K: Disk>(
    disk: &K,
    superblock: &mut Superblock,
) -> Result<(), OpenError> {
    superblock.generation = (superblock.generation.get() + 1).into();
    // Device 0 decides which generation counts, so it comes last.
    for index in (0..superblock.device_count).rev() {
        superblock.device_index = index;
        write_superblock(disk, superblock).await?;
    }
    Ok(())
}

/// Writes one device's copy of the superblock, durably.
pub(crate) async fn write_superblock<K: Disk>(
    disk: &K,
    superblock: &mut Superblock,
) -> Result<(), OpenError> {
    superblock.seal();
    let device = DeviceId(superblock.device_index);
    let at = BlockNo::new(device, Superblock::slot(superblock.generation.get()));
    let mut buf = disk.arena().alloc(SUPERBLOCK_BYTES);
    buf.copy_from_slice(superblock.as_bytes());
    let wrote = disk.write(at, vec![DmaSlice::whole(buf)], Durability::Cached).await;
    wrote.map_err(|error| OpenError::Media { block: at, error })?;
    disk.flush(device).await.map_err(|error| OpenError::Media { block: at, error })
}

pub(crate) fn revive(
    recovered: RecoveredTablet,
    reads: &Rc<Reads>,
    memory: &MemtableBytes,
) -> Tablet {
    let RecoveredTablet { mut body, block_generation, edits, totals, newest_seq } = recovered;
    body.totals = totals;
    let tablet = Tablet::new(&body, Rc::clone(reads), memory);
    tablet.root_block_generation.set(block_generation);
    let mut table = tablet.active.borrow_mut();
    for edit in edits {
        let value = (edit.kind != EditKind::Delete).then(|| Rc::from(edit.value));
        table.apply(edit.kind, edit.key, value);
    }
    if !table.is_empty() {
        tablet.active_first.set(Some(LogPosition(0)));
    }
    drop(table);
    tablet.newest_meta_seq.set(tablet.newest_meta_seq.get().max(newest_seq));
    tablet.newest_data_seq.set(tablet.newest_data_seq.get().max(newest_seq));
    tablet
}
