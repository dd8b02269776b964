//! What one shard does so that its pool can be checked while it is served: it keeps a state of the
//! pool readable, and holds its log still while that state is copied.
//!
//! A state of the whole pool cannot be read at one moment, but it can be kept. What is ever written
//! twice in one place are the front of each device (superblocks, root blocks) and the write logs;
//! everything else goes to fresh blocks. So the logs of all shards stand still together, the fronts
//! and the used part of the logs are copied, the logs go on, and no block that was readable then is
//! used again before the snapshot ends. That state is what a power cut would have left.
//!
//! The order makes it true. The read guard comes first: runs freed from then on are not reused. Then
//! all that was appended before settles: runs freed earlier may be reused, and the state has the
//! records that freed them. Only then does the log stop.
//!
//! Clients come first, and whoever asked may have gone. The log goes on after `PAUSE_MAX` whatever
//! happens, a snapshot that is not renewed ends after `LEASE`, and one that keeps the last free space
//! from a writer is given up (`space/acquire.rs`). Who reads a snapshot asks at the end whether it was
//! held all the time, and believes nothing it read when it was not.

use crate::error::FsError;
use crate::log::Pause;
use crate::shard::Shard;
use crate::space::ReadGuard;
use cairn_base::door::Doors;
use cairn_base::{BlockNo, DeviceId, Nanos, Run};
use cairn_format::superblock::front_blocks;
use std::rc::Rc;

/// From the request on to the end of the copy.
const PAUSE_MAX: Nanos = Nanos::from_secs(3);
/// How long a snapshot lives without being renewed.
pub const LEASE: Nanos = Nanos::from_secs(10);

/// What must be copied before the logs go on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cut {
    /// The fixed front of each device; every shard says the same.
    pub fronts: Vec<Run>,
    /// This shard's log area, and the runs of it that hold batches that count.
    pub log: Run,
    pub log_used: Vec<Run>,
}

/// Names one snapshot over all shards.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SnapshotId(pub u64);

pub(crate) struct Snapshot<D: Doors> {
    id: SnapshotId,
    guard: ReadGuard,
    pause: Option<Pause<D>>,
    expires: Nanos,
}

impl<D: Doors> Shard<D> {
    /// Begins to keep what is readable, and stops the log. `Busy` when there is a snapshot, or while the
    /// superblock is being written.
    pub async fn begin_snapshot(self: &Rc<Self>, id: SnapshotId) -> Result<Cut, FsError> {
        if self.is_stopping() {
            return Err(FsError::Stopped);
        }
        if self.snapshot.borrow().is_some() || self.growth.is_under_way() {
            return Err(FsError::Busy);
        }
        let expires = self.handle.now() + PAUSE_MAX;
        let guard = self.core.reads.begin();
        *self.snapshot.borrow_mut() = Some(Snapshot { id, guard, pause: None, expires });
        let shard = Rc::clone(self);
        if self.gate.spawn(async move { shard.watch_snapshot(id).await }).is_err() {
            self.end_snapshot(id);
            return Err(FsError::Stopped);
        }
        let pausing = async {
            self.settle(self.log.newest_ticket()).await?;
            self.log.pause().await
        };
        let paused = self.handle.timeout(PAUSE_MAX, pausing).await;
        match (paused, &mut *self.snapshot.borrow_mut()) {
            (Ok(Ok((pause, log_used))), Some(snapshot)) if snapshot.id == id => {
                snapshot.pause = Some(pause);
                return Ok(Cut { fronts: self.fronts(), log: self.log.area(), log_used });
            }
            (Ok(Err(error)), _) => return Err(error),
            // Too slow, or ended meanwhile; the watch ends what is left.
            _ => {}
        }
        Err(FsError::Busy)
    }

    /// The copy is made: the log goes on. False when the snapshot has ended before.
    pub fn resume_log(&self, id: SnapshotId) -> bool {
        let pause = match &mut *self.snapshot.borrow_mut() {
            Some(snapshot) if snapshot.id == id => {
                snapshot.expires = self.handle.now() + LEASE;
                snapshot.pause.take()
            }
            _ => None,
        };
        pause.is_some()
    }

    /// Whether it is still held; if so, for another `LEASE`.
    pub fn keep_snapshot(&self, id: SnapshotId) -> bool {
        match &mut *self.snapshot.borrow_mut() {
            Some(snapshot) if snapshot.id == id => {
                snapshot.expires = self.handle.now() + LEASE;
                true
            }
            _ => false,
        }
    }

    /// Lets go. Whether it was held until now.
    pub fn end_snapshot(&self, id: SnapshotId) -> bool {
        let is_it = |snapshot: &mut Snapshot<D>| snapshot.id == id;
        let ended = self.snapshot.borrow_mut().take_if(is_it);
        ended.is_some()
    }

    /// Somebody needs what it keeps more than a check does.
    pub(crate) fn give_up_snapshot(&self) {
        let ended = self.snapshot.borrow_mut().take();
        drop(ended);
    }

    /// Runs freed at this age or later are kept for a snapshot.
    pub(crate) fn kept_from(&self) -> Option<u64> {
        self.snapshot.borrow().as_ref().map(|snapshot| snapshot.guard.age())
    }

    /// Ends it when whoever asked for it does not answer for it any more.
    async fn watch_snapshot(self: Rc<Self>, id: SnapshotId) {
        loop {
            let expires = match &*self.snapshot.borrow() {
                Some(snapshot) if snapshot.id == id => snapshot.expires,
                _ => return,
            };
            if expires <= self.handle.now() || self.gate.is_closed() {
                self.end_snapshot(id);
                return;
            }
            cairn_reactor::race(self.handle.sleep_until(expires), self.gate.closing()).await;
        }
    }

    fn fronts(&self) -> Vec<Run> {
        let pool = &self.core.pool;
        let front = |index: usize| {
            let start = BlockNo::new(DeviceId(index as u8), 0);
            Run::new(start, front_blocks(index, pool.tablets))
        };
        (0..pool.devices.len()).map(front).collect()
    }
}
