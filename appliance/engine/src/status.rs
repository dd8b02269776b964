//! What an operator asks of a running pool: counts of each shard and their sums. Asked by mail;
//! nothing here reads a tree.

use crate::counters::CounterValues;
use crate::error::FsError;
use crate::index::DeletionsStatus;
use crate::log::LogClass;
use crate::peer::{Answer, Ask, mismatch};
use crate::resize::DeviceSpace;
use crate::shard::Shard;
use cairn_base::Nanos;
use cairn_base::door::{Clock, Doors};
use cairn_format::{InodeNo, Seq, ShardId, TabletId};
use std::rc::Rc;

/// One shard at one moment.
#[derive(Clone, Debug, Default)]
pub struct ShardStatus {
    pub shard: u16,
    pub stopped: bool,
    /// Why, where it was not asked to.
    pub failure: Option<FsError>,
    pub counters: CounterValues,
    pub tablets: u64,
    /// Tablets that have inodes.
    pub tablets_in_use: u64,
    /// The tablet with the most inodes, and how many.
    pub fullest_tablet: (u16, u64),
    pub log_trees: u64,
    pub memtable_bytes: u64,
    pub memtable_bytes_max: u64,
    pub data_cache_bytes: u64,
    pub data_cache_bytes_max: u64,
    pub log_used_blocks: u64,
    pub log_blocks: u64,
    pub cache_nodes: u64,
    pub filter_bytes: u64,
    pub answers: u64,
    pub waiters: u64,
    pub dirty_bytes: u64,
    pub inodes: u64,
    pub orphans: u64,
    pub pending: u64,
    pub free_node_blocks: u64,
    pub free_data_blocks: u64,
    pub free_unassigned_blocks: u64,
    pub locked_inodes: u64,
    pub deletions: DeletionsStatus,
}

/// The pool's use of space, for df and FSSTAT.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PoolTotals {
    /// Blocks of 4 KiB of the devices that hold data.
    pub blocks: u64,
    /// What new data could use: free data blocks there, and blocks there in no zone.
    pub blocks_free: u64,
    pub inodes: u64,
}

impl<D: Doors> Shard<D> {
    pub(crate) fn status_here(&self) -> ShardStatus {
        let mut status = ShardStatus {
            shard: self.core.id.0,
            stopped: self.has_stopped(),
            failure: self.failure(),
            counters: self.core.counters.values(),
            memtable_bytes: self.core.memtable_bytes() as u64,
            memtable_bytes_max: self.config.memtable_bytes as u64,
            data_cache_bytes: self.core.data_cache.bytes() as u64,
            data_cache_bytes_max: self.config.data_cache_bytes as u64,
            log_used_blocks: self.log.used_blocks(),
            log_blocks: self.log.area_blocks(),
            cache_nodes: self.core.cache.nodes_len() as u64,
            filter_bytes: self.core.filter_bytes() as u64,
            answers: (self.answers.kept() + self.written.kept()) as u64,
            waiters: self.waiters.len() as u64,
            dirty_bytes: self.core.dirty.bytes() as u64,
            locked_inodes: self.core.locks.held_len() as u64,
            deletions: self.deletions_here(),
            ..ShardStatus::default()
        };
        status.counters.log_batches = self.log.batches.get();
        status.counters.log_bytes = self.log.bytes.get();
        for tablet in self.core.tablets() {
            let totals = tablet.totals.get();
            let inodes = totals.inodes.get();
            status.tablets += 1;
            status.tablets_in_use += u64::from(inodes > 0);
            if inodes > status.fullest_tablet.1 {
                status.fullest_tablet = (tablet.id.0, inodes);
            }
            status.log_trees += tablet.root.borrow().log_trees.len() as u64;
            status.inodes += inodes;
            status.orphans += totals.orphans.get();
            status.pending += totals.pending.get();
            status.free_node_blocks += totals.free_node.get();
            status.free_data_blocks += totals.free_data.get();
            status.free_unassigned_blocks += totals.free_unassigned.get();
        }
        status
    }

    /// Every shard's status, in order.
    pub async fn status(&self) -> Result<Vec<ShardStatus>, FsError> {
        let mut all = Vec::new();
        for id in (0..self.core.pool.shards).map(ShardId) {
            if id == self.core.id {
                all.push(self.status_here());
                continue;
            }
            match self.peers.ask(id, Ask::Status).await? {
                Answer::Status(status) => all.push(*status),
                other => mismatch(&other),
            }
        }
        Ok(all)
    }

    pub async fn statfs(&self) -> Result<PoolTotals, FsError> {
        let all = self.status().await?;
        let devices = self.spaces(&all).await?;
        let sum = |of: fn(&DeviceSpace) -> u64| {
            devices.iter().filter(|device| device.holds_data).map(of).sum::<u64>()
        };
        let blocks = sum(|device| device.blocks);
        Ok(PoolTotals {
            blocks,
            blocks_free: sum(|device| device.blocks_free).min(blocks),
            inodes: all.iter().map(|status| status.inodes).sum(),
        })
    }

    /// Everything at or below this is durable, and nothing at or below it will appear any more.
    pub async fn stable(&self) -> Result<Seq, FsError> {
        // A shard may have given out seqs above this clock: the second round raises everybody to
        // the highest that was seen.
        let (_, highest) = self.stable_at(Seq(self.wall_us())).await?;
        let (least, _) = self.stable_at(highest).await?;
        Ok(least)
    }

    /// Raises every shard's clock to `clock`; the least and the highest answer.
    /// What is stable on this shard, which raises its clock to `seen`.
    pub(crate) async fn stable_here(&self, seen: Seq) -> Seq {
        if self.log.is_near_ceiling(seen) {
            // A log that has failed says what was stable before.
            let _failed = self.raise_ceiling(seen).await;
        }
        self.log.stable(seen)
    }

    async fn raise_ceiling(&self, seen: Seq) -> Result<(), FsError> {
        let room = self.log.admit(0, LogClass::Root).await?;
        self.log.raise_ceiling(seen);
        drop(room);
        self.settle(self.log.newest_ticket()).await
    }

    async fn stable_at(&self, clock: Seq) -> Result<(Seq, Seq), FsError> {
        let here = self.stable_here(clock).await;
        let (mut least, mut highest) = (here, here.max(clock));
        for id in (0..self.core.pool.shards).map(ShardId).filter(|id| *id != self.core.id) {
            match self.peers.ask(id, Ask::Stable(clock)).await? {
                Answer::Stable(seq) => {
                    least = least.min(seq);
                    highest = highest.max(seq);
                }
                other => mismatch(&other),
            }
        }
        Ok((least, highest))
    }

    /// Time as the clock door has it, for measuring how long something took.
    pub fn monotonic(&self) -> Nanos {
        self.clock.monotonic()
    }

    /// How many shards serve this pool.
    pub fn shards(&self) -> u16 {
        self.core.pool.shards
    }

    pub fn tablets(&self) -> u16 {
        self.core.pool.tablets
    }

    /// Divides inode numbers by the shard that answers for them; numbers no tablet has are left out.
    pub fn group_by_owner(&self, inos: &[InodeNo]) -> Vec<Vec<InodeNo>> {
        let mut groups = vec![Vec::new(); usize::from(self.core.pool.shards)];
        for ino in inos.iter().filter(|ino| ino.tablet().0 < self.core.pool.tablets) {
            groups[usize::from(self.core.pool.owner(ino.tablet()).0)].push(*ino);
        }
        groups.retain(|group| !group.is_empty());
        groups
    }

    pub fn owner_of(self: &Rc<Self>, tablet: TabletId) -> ShardId {
        self.core.pool.owner(tablet)
    }
}
