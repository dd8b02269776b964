//! Folds a tablet's oldest log tree into its fs tree, a step at a time.
//!
//! A frozen memtable becomes a log tree because that is one long sequential write. The price is
//! paid by readers, who must ask every log tree before the fs tree; merging (`merge.rs`) and folding
//! keep them few. A step (`tree/fold.rs`) rewrites a bounded number of leaves and installs them by one root record, with
//! the key it came to: a crash repeats at most one step, and the next open goes on from that key.
//!
//! What always holds: only the oldest log tree folds; the fs tree only receives younger versions; a
//! log tree's blocks are freed by the record that drops it, and reused only when that is durable and
//! no reader from before is left. A half folded tree stays in front of the fs tree, where it gives
//! the same answers as what was folded of it.
//!
//! Not here: when to fold (`pace.rs`, `choice.rs`).

use crate::block::fetch_node;
use crate::error::FsError;
use crate::limits::{FOLD_STEP_LEAVES, FOLD_STEP_NODES, NODE_UNIT, RUN_EDIT_BYTES};
use crate::log::freeze::RootChange;
use crate::log::{LogClass, is_damage};
use crate::shard::Shard;
use crate::space::Reservation;
use crate::tablet::Tablet;
use crate::tree::{Fold, FoldBounds, NodePlaces, Stream, fold_nodes_min, write_nodes};
use cairn_base::Run;
use cairn_base::door::{Disk, Doors};
use cairn_format::key::Key;
use cairn_format::node::{NODE_BLOCKS, NODE_BYTES};
use cairn_format::tablet_root::LogTreeEntry;
use cairn_format::{Seq, TabletId};
use std::rc::Rc;

impl<D: Doors> Shard<D> {
    /// One step; true when it finished a log tree. Where damage is in its way the tree is barred.
    pub(crate) async fn fold_step(self: &Rc<Self>, id: TabletId) -> Result<bool, FsError> {
        let tablet = self.core.tablet(id);
        let _turn = tablet.remaking.acquire(1).await;
        let oldest = tablet.root.borrow().log_trees.first().map(|tree| tree.entry.tree.root);
        match self.fold_some(id, &tablet).await {
            Err(error) if is_damage(error) => {
                if let Some(oldest) = oldest {
                    self.bar(&tablet, oldest, error);
                }
                Ok(false)
            }
            folded => folded,
        }
    }

    async fn fold_some(
        self: &Rc<Self>,
        id: TabletId,
        tablet: &Rc<Tablet>,
    ) -> Result<bool, FsError> {
        let (fs, oldest, cursor, generation) = {
            let root = tablet.root.borrow();
            let Some(oldest) = root.log_trees.first() else { return Ok(false) };
            if tablet.merges.has(&oldest.entry.tree.root) {
                // Whoever folds now cannot wait for the merge.
                self.give_up_merges(tablet);
            }
            let cursor = root.fold_cursor.unwrap_or(Key::MIN);
            (root.fs, oldest.entry, cursor, root.generation + 1)
        };
        let (leaves, reservation) = self.room_for_fold(tablet, fs.level).await?;
        let mut places = NodePlaces::new(reservation.runs().iter().copied());
        let bounds = FoldBounds { leaves_touched: leaves, leaves_written: leaves };
        let fold = Fold {
            disk: &*self.disk,
            arena: self.disk.arena(),
            tablet: id,
            generation,
            log: Stream::seek(&*self.disk, &oldest.tree, &cursor).await?,
            places: &mut places,
            bounds,
            built: Vec::new(),
            dropped: Vec::new(),
            items_delta: 0,
            level: fs.level,
            touched: 0,
            joined: 0,
            came_between: false,
            pending_bytes: 0,
            log_bytes: 0,
        };
        let step = fold.step(&fs).await?;
        let mut takes: Vec<Run> =
            step.built.iter().map(|built| Run::new(built.block, NODE_BLOCKS)).collect();
        let blocks = takes.iter().map(|run| run.blocks).sum();
        self.core.counters.fold_blocks_written.add(blocks);
        let device = takes.first().map(|run| run.start.device());
        write_nodes(&*self.disk, step.built).await?;
        if let Some(device) = device {
            self.flush(device).await?;
        }
        let mut frees = step.dropped;
        if step.next.is_none() {
            frees.extend(self.blocks_of(&oldest).await?);
        }
        coalesce(&mut takes);
        coalesce(&mut frees);
        let admission = self
            .log
            .admit(4096 + RUN_EDIT_BYTES * (takes.len() + frees.len()), LogClass::Root)
            .await?;
        let change = RootChange { takes, frees };
        self.change_root(tablet, change, |root| {
            root.fs = step.fs;
            root.folded_seq = root.folded_seq.max(Seq(oldest.frozen_seq.get()));
            root.fold_cursor = step.next;
            if step.next.is_none() {
                root.log_trees.remove(0);
            }
        });
        drop((admission, reservation));
        self.core.counters.fold_steps.add(1);
        self.stepped_at.set(self.core.counters.log_records.get());
        if step.next.is_none() {
            self.core.counters.folds_finished.add(1);
            tablet.merges.allow();
        }
        self.pace.wake_all();
        Ok(step.next.is_none())
    }

    /// How many leaves the next step may touch, and places for what it then writes at most. In a full
    /// tablet a step touches one.
    async fn room_for_fold(
        self: &Rc<Self>,
        tablet: &Rc<Tablet>,
        level: u8,
    ) -> Result<(usize, Reservation), FsError> {
        match self.reserve_nodes(tablet, FOLD_STEP_NODES * NODE_UNIT).await {
            Ok(held) => Ok((self.step_leaves(), held)),
            Err(FsError::NoSpace) => {
                let held = self.reserve_nodes(tablet, fold_nodes_min(level) * NODE_UNIT).await?;
                Ok((1, held))
            }
            Err(error) => Err(error),
        }
    }

    /// Leaves of one step, here and of a merge: a small part of the memtable budget, so that a freeze that
    /// is due never waits for more than that.
    pub(crate) fn step_leaves(&self) -> usize {
        (self.config.memtable_bytes / NODE_BYTES / 64).clamp(1, FOLD_STEP_LEAVES)
    }

    /// Every block of a log tree: its nodes, its filter, its spare.
    async fn blocks_of(&self, entry: &LogTreeEntry) -> Result<Vec<Run>, FsError> {
        let mut blocks = Vec::new();
        let mut level = vec![entry.tree.root];
        for _ in 0..entry.tree.level {
            let mut below = Vec::new();
            for at in level {
                blocks.push(Run::new(at.block_no(), NODE_BLOCKS));
                let held = fetch_node(&*self.disk, &at).await?;
                let node = held.node();
                below.extend((0..node.count()).map(|index| node.child(index)));
            }
            level = below;
        }
        blocks.extend(level.iter().map(|at| Run::new(at.block_no(), NODE_BLOCKS)));
        if !entry.filter.is_none() {
            let filter = u64::from(entry.filter.blocks.get()).next_multiple_of(NODE_UNIT);
            blocks.push(Run::new(entry.filter.block_no(), filter));
        }
        if entry.spare_blocks.get() > 0 {
            blocks.push(Run::new(entry.spare_start(), entry.spare_blocks.get()));
        }
        Ok(blocks)
    }
}

/// Joins neighbouring runs.
pub fn coalesce(runs: &mut Vec<Run>) {
    runs.sort_unstable();
    let mut joined: Vec<Run> = Vec::with_capacity(runs.len());
    for run in runs.drain(..) {
        match joined.last_mut() {
            Some(last) if last.end() == run.start => last.blocks += run.blocks,
            _ => joined.push(run),
        }
    }
    *runs = joined;
}
