//! Devices that grow while the pool is served, and what each device has.
//!
//! Two things on the pool must change together when a device grows: its size in the superblock, and
//! the free runs of tablet 1, which get the new blocks. They are in different places, so power can
//! fail between them. Without a trace that would lose the space (in the superblock, in no run) or put
//! a run outside the pool. The trace is in the superblock: `growing`, how many blocks at the device's
//! end are on their way. The order:
//!
//! 1. The superblock has the new size, and the new blocks as growing. They may be nobody's.
//! 2. One record gives them to tablet 1 as an unassigned run. It is durable before the next step.
//! 3. The superblock says that nothing is growing, in both slots, so that none is left from which the
//!    step before could come back.
//! 4. Every shard is told, and only now may any of the new blocks be used.
//!
//! An open that finds a device growing goes on at 2 before anybody is served (`resume_growing`).
//! Whether the record is there already can be told: as nothing was used before 4, the new blocks are
//! in tablet 1's free runs all or not at all. `Pool::usable` is what keeps them from being used, in the
//! two places where unassigned space is given away (`space/acquire.rs`, `log/area.rs`).
//!
//! Shard 0 does this, since it has the superblock; one at a time, and never while a check copies the
//! superblocks (`snapshot.rs`). After a superblock could not be written nobody knows what the devices
//! hold of it, so nothing is resized any more until the pool is opened again. Devices never shrink.

use crate::error::FsError;
use crate::open::{OpenError, write_to_all};
use crate::peer::{Answer, Ask, mismatch};
use crate::sabotage::{Sabotage, planted};
use crate::shard::Shard;
use crate::space::SPACE_TABLET;
use crate::status::ShardStatus;
use crate::txn::{Class, Need};
use cairn_base::door::{Disk, Doors, MediaError};
use cairn_base::{BlockNo, DeviceId, Nanos, Run};
use cairn_format::ShardId;
use cairn_format::key::Purpose;
use cairn_format::superblock::{GROWING_MAX, Superblock};
use cairn_reactor::{Guard, Semaphore};
use std::cell::{Cell, RefCell};
use std::rc::Rc;

/// Bytes of edits of the record that takes up new blocks: three free-run items.
const TAKE_UP_EDIT_BYTES: usize = 1 << 10;

/// One device, for an operator.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DeviceSpace {
    pub holds_nodes: bool,
    pub holds_data: bool,
    /// Blocks the pool has on it.
    pub blocks: u64,
    /// What new data could use; of a device for metadata only, what new metadata could.
    pub blocks_free: u64,
    /// Blocks it has and the pool does not use: it grew.
    pub blocks_more: u64,
    /// A file, which can be made longer.
    pub can_lengthen: bool,
}

/// What is wanted of one device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Grow {
    pub device: DeviceId,
    /// Blocks; `None`: all it has.
    pub blocks: Option<u64>,
}

/// What became of one device, in blocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Resized {
    pub device: DeviceId,
    pub before: u64,
    pub after: u64,
}

/// What shard 0 keeps for growing.
pub(crate) struct Growth {
    /// As the devices hold it; nothing while it is being changed, and after that has failed.
    superblock: RefCell<Option<Box<Superblock>>>,
    turn: Semaphore,
    under_way: Cell<bool>,
}

impl Default for Growth {
    fn default() -> Growth {
        let turn = Semaphore::new(1);
        Growth { superblock: RefCell::default(), turn, under_way: Cell::new(false) }
    }
}

impl Growth {
    pub fn keep(&self, superblock: Box<Superblock>) {
        self.superblock.replace(Some(superblock));
    }

    /// The generation of the newest superblock, and nobody writes another while it is held. Nothing after
    /// one could not be written.
    pub async fn hold(&self) -> Option<(u64, Guard)> {
        let guard = self.turn.acquire(1).await;
        let generation = self.superblock.borrow().as_ref()?.generation.get();
        Some((generation, guard))
    }

    pub fn is_under_way(&self) -> bool {
        self.under_way.get()
    }
}

/// Ends with the value, however the growing ends.
struct UnderWay<'a>(&'a Growth);

impl<'a> UnderWay<'a> {
    fn begin(growth: &'a Growth) -> UnderWay<'a> {
        growth.under_way.set(true);
        UnderWay(growth)
    }
}

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        self.0.under_way.set(false);
    }
}

impl<D: Doors> Shard<D> {
    /// Each device of the pool, in order, as long as it is now.
    pub async fn device_spaces(&self) -> Result<Vec<DeviceSpace>, FsError> {
        self.spaces(&self.status().await?).await
    }

    pub(crate) async fn spaces(&self, all: &[ShardStatus]) -> Result<Vec<DeviceSpace>, FsError> {
        let devices = &self.core.pool.devices;
        let sum = |of: fn(&ShardStatus) -> u64| all.iter().map(of).sum::<u64>();
        let unassigned = match devices.len() {
            1 => vec![sum(|status| status.free_unassigned_blocks)],
            _ => self.unassigned().await?,
        };
        let free_data = sum(|status| status.free_data_blocks);
        let free_nodes = sum(|status| status.free_node_blocks);
        let space = |(index, unassigned): (u8, u64)| {
            let (id, device) = (DeviceId(index), &devices[usize::from(index)]);
            let blocks = device.blocks.get();
            // Tablets count their zones' free blocks by purpose, and each purpose has one device.
            let in_zones = if device.holds_data { free_data } else { free_nodes };
            // What folds and removals keep is not what a new file could use.
            let kept = if device.holds_nodes { self.core.pool.zone_blocks_kept() } else { 0 };
            let unassigned = unassigned.saturating_sub(kept);
            DeviceSpace {
                holds_nodes: device.holds_nodes,
                holds_data: device.holds_data,
                blocks,
                blocks_free: (in_zones + unassigned).min(blocks),
                blocks_more: self.disk.measure(id).saturating_sub(blocks),
                can_lengthen: self.disk.can_lengthen(id),
            }
        };
        Ok((0..).zip(unassigned).map(space).collect())
    }

    async fn unassigned(&self) -> Result<Vec<u64>, FsError> {
        let owner = self.core.pool.owner(SPACE_TABLET);
        if owner == self.core.id {
            return self.unassigned_here().await;
        }
        match self.peers.ask(owner, Ask::Unassigned).await? {
            Answer::Unassigned(blocks) => blocks,
            other => mismatch(&other),
        }
    }

    pub(crate) async fn unassigned_here(&self) -> Result<Vec<u64>, FsError> {
        let tablet = self.load_unassigned().await?;
        let on = |index: usize| tablet.space.blocks_on(Purpose::Unassigned, DeviceId(index as u8));
        Ok((0..self.core.pool.devices.len()).map(on).collect())
    }

    /// Takes up what devices have grown by, on shard 0. All wishes are looked at before the first
    /// device changes. `Invalid`: a device has not so much, or has more in use. `Busy`: a check runs.
    pub async fn resize_devices(self: &Rc<Self>, wanted: &[Grow]) -> Result<Vec<Resized>, FsError> {
        assert!(self.core.id == ShardId(0), "shard 0 has the superblock");
        let _turn = self.growth.turn.acquire(1).await;
        self.tell_all(|| Ask::Measure).await?;
        let mut plan = Vec::new();
        for Grow { device, blocks } in wanted {
            let entry = self.core.pool.devices.get(usize::from(device.0));
            let before = entry.ok_or(FsError::Invalid)?.blocks.get();
            let there = self.disk.device_blocks(*device);
            if there < before {
                let block = BlockNo::new(*device, there);
                return Err(FsError::Media { block, error: MediaError::OutOfRange });
            }
            let after = blocks.unwrap_or(there.max(before));
            if after < before || after > there && !self.disk.can_lengthen(*device) {
                return Err(FsError::Invalid);
            }
            plan.push(Resized { device: *device, before, after });
        }
        for resized in plan.iter().filter(|r| r.after > self.disk.device_blocks(r.device)) {
            self.lengthen(resized).await?;
            self.tell_all(|| Ask::Measure).await?;
        }
        if plan.iter().all(|resized| resized.after == resized.before) {
            return Ok(plan);
        }
        if self.snapshot.borrow().is_some() {
            return Err(FsError::Busy);
        }
        let _under_way = UnderWay::begin(&self.growth);
        let kept = self.growth.superblock.take();
        let mut superblock = kept.ok_or(FsError::Stopped)?;
        for resized in &plan {
            self.grow(&mut superblock, resized).await?;
        }
        self.growth.keep(superblock);
        Ok(plan)
    }

    /// The length must be durable before the superblock counts on it.
    async fn lengthen(&self, resized: &Resized) -> Result<(), FsError> {
        let block = BlockNo::new(resized.device, resized.before);
        let media = |error: MediaError| FsError::Media { block, error };
        self.disk.lengthen(resized.device, resized.after).map_err(media)?;
        self.disk.flush(resized.device).await.map_err(media)
    }

    async fn grow(
        self: &Rc<Self>,
        superblock: &mut Superblock,
        resized: &Resized,
    ) -> Result<(), FsError> {
        let mut at = resized.before;
        while at < resized.after {
            let step = (resized.after - at).min(GROWING_MAX);
            let entry = &mut superblock.devices[usize::from(resized.device.0)];
            entry.blocks = (at + step).into();
            entry.set_growing_blocks(step);
            if planted(Sabotage::GrownWithoutMark) {
                entry.set_growing_blocks(0);
            }
            write_to_all(&*self.disk, superblock).await.map_err(media_only)?;
            let run = Run::new(BlockNo::new(resized.device, at), step);
            self.finish_growing(superblock, run).await?;
            at += step;
        }
        Ok(())
    }

    /// From the record on: steps 2 to 4.
    async fn finish_growing(
        self: &Rc<Self>,
        superblock: &mut Superblock,
        run: Run,
    ) -> Result<(), FsError> {
        let owner = self.core.pool.owner(SPACE_TABLET);
        if owner == self.core.id {
            self.take_up_here(run).await?;
        } else {
            self.ask_patiently(owner, || Ask::TakeUp(run)).await?;
        }
        let device = run.start.device();
        superblock.devices[usize::from(device.0)].set_growing_blocks(0);
        for _both_slots in 0..2 {
            write_to_all(&*self.disk, superblock).await.map_err(media_only)?;
        }
        let blocks = run.end().index();
        self.tell_all(|| Ask::Grown { device, blocks }).await
    }

    /// Finishes what an earlier daemon had begun; on shard 0, before anybody is served.
    pub(crate) async fn resume_growing(self: &Rc<Self>) -> Result<(), OpenError> {
        let kept = self.growth.superblock.take();
        let mut superblock = kept.expect("shard 0 has begun the epoch");
        for index in 0..superblock.device_count {
            let entry = superblock.devices[usize::from(index)];
            if entry.growing_blocks() > 0 {
                let start = BlockNo::new(DeviceId(index), entry.usable_blocks());
                let run = Run::new(start, entry.growing_blocks());
                self.finish_growing(&mut superblock, run).await?;
            }
        }
        self.growth.keep(superblock);
        Ok(())
    }

    /// On the owner of tablet 1: the new blocks are an unassigned run, durably.
    pub(crate) async fn take_up_here(self: &Rc<Self>, run: Run) -> Result<(), FsError> {
        let tablet = self.load_unassigned().await?;
        if tablet.space.holds(Purpose::Unassigned, run.start) {
            return Ok(());
        }
        let need = Need::new(Class::Room, &[SPACE_TABLET], TAKE_UP_EDIT_BYTES);
        let taken = self.transact(need, |view| {
            view.receive_run(SPACE_TABLET, Purpose::Unassigned, run);
            Ok(())
        });
        let ((), ticket) = taken.await?;
        self.settle(ticket).await
    }

    pub(crate) fn measure_here(&self) {
        for index in 0..self.core.pool.devices.len() {
            self.disk.measure(DeviceId(index as u8));
        }
    }

    pub(crate) fn grown_here(&self, device: DeviceId, blocks: u64) {
        self.core.pool.devices[usize::from(device.0)].blocks.set(blocks);
    }

    /// Half way a full mailbox is no reason to give up.
    pub(crate) async fn ask_patiently(
        &self,
        to: ShardId,
        ask: impl Fn() -> Ask,
    ) -> Result<(), FsError> {
        loop {
            match self.peers.ask(to, ask()).await {
                Err(FsError::Busy) => self.handle.sleep(Nanos::from_millis(1)).await,
                answered => return answered?.done(),
            }
        }
    }

    /// Every shard, this one included.
    async fn tell_all(self: &Rc<Self>, ask: impl Fn() -> Ask) -> Result<(), FsError> {
        for id in (0..self.core.pool.shards).map(ShardId) {
            if id != self.core.id {
                self.ask_patiently(id, &ask).await?;
                continue;
            }
            match ask() {
                Ask::Grown { device, blocks } => self.grown_here(device, blocks),
                _ => self.measure_here(),
            }
        }
        Ok(())
    }
}

/// Writing a superblock fails by its device only.
fn media_only(error: OpenError) -> FsError {
    match error {
        OpenError::Media { block, error } => FsError::Media { block, error },
        OpenError::Fs(error) => error,
        other => unreachable!("a superblock was written, not read: {other}"),
    }
}
