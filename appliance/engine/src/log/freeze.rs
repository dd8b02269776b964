//! A full memtable becomes a log tree: frozen, packed, written in long sequential writes, flushed,
//! and only then named by a root record.
//!
//! Freezing cuts the log: records of the frozen memtable lie below the cut, later ones at or behind
//! it, and the cut is the new root's replay position. Until the root record is durable a crash
//! replays from the old position and the blocks written here are still free.
//!
//! What else changes a root is here too: installing one by a record, writing the newest ones to their
//! blocks, and trimming the log up to what no tablet needs any more.

use crate::error::FsError;
use crate::limits::{NODE_FILL_MIN, NODE_UNIT};
use crate::log::{Entry, LogClass, Memtable, Ticket};
use crate::sabotage::{Sabotage, planted};
use crate::shard::Shard;
use crate::space::{Reservation, SpaceChange};
use crate::tablet::{LogTree, Root, Tablet, filter_hash};
use crate::tree::{Built, Item, NodePlaces, pack_tree, write_nodes};
use cairn_base::door::{Disk, Doors, Durability};
use cairn_base::{BLOCK_BYTES, DmaSlice, Run};
use cairn_format::filter::{FilterBuilder, FilterRef, filter_blocks};
use cairn_format::key::Purpose;
use cairn_format::record::{RecordWriter, write_trim};
use cairn_format::tablet_root::{LogTreeEntry, RootBody};
use cairn_format::{RootGeneration, Seq, TabletId};
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;

/// The blocks that a change of a tablet's root takes and frees.
#[derive(Default)]
pub struct RootChange {
    pub takes: Vec<Run>,
    pub frees: Vec<Run>,
}

impl<D: Doors> Shard<D> {
    pub(crate) async fn freeze(self: &Rc<Self>, id: TabletId) -> Result<(), FsError> {
        let tablet = self.core.tablet(id);
        let _turn = tablet.remaking.acquire(1).await;
        if let Err(FsError::Stopped) = self.spill_inline(&tablet).await {
            return Err(FsError::Stopped);
        }
        if tablet.active.borrow().is_empty() {
            return Ok(());
        }
        let cut = self.log.cut();
        let table = Rc::new(tablet.active.borrow_mut().replace());
        tablet.frozen_first.set(tablet.active_first.take());
        *tablet.frozen.borrow_mut() = Some(Rc::clone(&table));
        let newest = match planted(Sabotage::TreeSaidToBeOld) {
            true => Seq(tablet.newest_seq().0.saturating_sub(1_000_000)),
            false => tablet.newest_seq(),
        };
        let log_tree = self.write_log_tree(&tablet, &table, newest).await;
        let (log_tree, reservation, used) = match log_tree {
            Ok(written) => written,
            Err(error) => {
                // The frozen table stays readable and pinned; nothing was named. A device that
                // cannot take a log tree cannot take the log either.
                self.log.fail(error);
                return Err(error);
            }
        };
        let admission = self.log.admit(8 << 10, LogClass::Root).await?;
        let blocks = used.iter().map(|run| run.blocks).sum();
        self.core.counters.log_tree_blocks_written.add(blocks);
        let change = RootChange { takes: used, ..RootChange::default() };
        self.change_root(&tablet, change, |root| {
            root.log_trees.push(log_tree);
            root.replay = match planted(Sabotage::ReplayTooLate) {
                true => self.log.next_position(),
                false => cut,
            };
        });
        drop((admission, reservation));
        *tablet.frozen.borrow_mut() = None;
        tablet.frozen_first.set(None);
        self.core.counters.log_trees_written.add(1);
        if !tablet.barred.is_empty() {
            // No fold may ever end.
            tablet.merges.allow();
        }
        self.pace.wake_all();
        Ok(())
    }

    async fn write_log_tree(
        self: &Rc<Self>,
        tablet: &Rc<Tablet>,
        table: &Memtable,
        newest: Seq,
    ) -> Result<(LogTree, Reservation, Vec<Run>), FsError> {
        let lookups = table.iter().filter(|(key, _)| filter_hash(key).is_some()).count() as u64;
        let filter_room = if lookups > 0 { filter_blocks(lookups) } else { 0 };
        let want = tree_blocks(table.node_bytes()) + filter_room.next_multiple_of(NODE_UNIT);
        let reservation = self.reserve_nodes(tablet, want).await?;
        let mut places = NodePlaces::new(reservation.runs().iter().copied());
        let generation = tablet.root.borrow().generation + 1;
        let filter = if lookups > 0 { places.take(filter_room) } else { None };
        let arena = self.disk.arena();
        let mut built: Vec<Built> = Vec::new();
        let mut items = table.iter().map(|(key, entry)| match entry {
            Entry::Put { value, .. } => Item { key: *key, value: Rc::clone(value), delete: false },
            Entry::Delete => Item { key: *key, value: Rc::from(&[][..]), delete: true },
        });
        let tree = pack_tree(arena, tablet.id, generation, &mut items, &mut places, &mut built);
        let device = tree.root.block_no().device();
        write_nodes(&*self.disk, built).await?;
        let filter = match filter {
            Some(run) => self.write_filter(table, run, lookups).await?,
            None => FilterRef::NONE,
        };
        self.flush(device).await?;
        let frozen_seq = newest.0.into();
        let entry = LogTreeEntry { tree, filter, frozen_seq, ..LogTreeEntry::EMPTY };
        let filter = RefCell::default();
        let used = places.used().to_vec();
        Ok((LogTree { entry, filter }, reservation, used))
    }

    async fn write_filter(
        &self,
        table: &Memtable,
        run: Run,
        lookups: u64,
    ) -> Result<FilterRef, FsError> {
        let blocks = filter_blocks(lookups) as usize;
        let mut buf = self.disk.arena().alloc_zeroed(blocks * BLOCK_BYTES);
        let mut builder = FilterBuilder::new(&mut buf, lookups);
        let omitted = usize::from(planted(Sabotage::FilterOmitsName));
        for hash in table.iter().filter_map(|(key, _)| filter_hash(key)).skip(omitted) {
            builder.add(hash);
        }
        let filter = builder.finish(run.start);
        let wrote = self.disk.write(run.start, vec![DmaSlice::whole(buf)], Durability::Cached);
        wrote.await.map_err(|error| FsError::Media { block: run.start, error })?;
        Ok(filter)
    }

    pub(crate) async fn flush(&self, device: cairn_base::DeviceId) -> Result<(), FsError> {
        if planted(Sabotage::SkippedFlush) {
            return Ok(());
        }
        let block = cairn_base::BlockNo::new(device, 0);
        let flushed = self.disk.flush(device).await;
        if planted(Sabotage::FailedFlushForgiven) {
            return Ok(());
        }
        flushed.map_err(|error| {
            // Nothing since the last good flush can be trusted any more.
            let reason = FsError::Media { block, error };
            self.log.fail(reason);
            reason
        })
    }

    /// Installs a new root, by a record that also takes and frees the blocks. Synchronous.
    pub(crate) fn change_root(
        &self,
        tablet: &Rc<Tablet>,
        change: RootChange,
        edit: impl FnOnce(&mut Root),
    ) -> Ticket {
        self.log.seq(self.wall_us());
        let ticket = self.log.forming_ticket();
        let position = self.log.next_position();
        let takes = change.takes.into_iter().map(SpaceChange::Take);
        let space = takes.chain(change.frees.into_iter().map(SpaceChange::Free));
        let space: Vec<_> = space.map(|change| (tablet.id, Purpose::Node, change)).collect();
        let mut edits = BTreeMap::new();
        let mut totals = BTreeMap::new();
        self.space_edits(&space, ticket, &mut edits, &mut totals);
        if let Some(totals) = totals.get(&tablet.id) {
            tablet.totals.set(*totals);
        }
        edit(&mut tablet.root.borrow_mut());
        let body = self.next_root(tablet);
        self.log.append(|out| {
            let mut record = RecordWriter::begin(out);
            record.section(tablet.id, &body.totals, Some(&body));
            for ((_, key), edit) in &edits {
                record.edit(edit.kind, key, edit.value.as_deref().unwrap_or(&[]));
            }
            record.finish();
        });
        tablet.root_record.set(Some((ticket, body)));
        let mut active = tablet.active.borrow_mut();
        for ((_, key), edit) in edits {
            if tablet.active_first.get().is_none() {
                tablet.active_first.set(Some(position));
            }
            active.apply(edit.kind, key, edit.value);
        }
        ticket
    }

    /// Counts the root on and gives it as its record holds it.
    pub(crate) fn next_root(&self, tablet: &Tablet) -> Box<RootBody> {
        tablet.root.borrow_mut().generation += 1;
        Box::new(tablet.root_body(self.core.pool.epoch, self.core.pool.node, self.core.id))
    }

    /// Reserves node blocks that a permit has promised before.
    pub(crate) async fn reserve_nodes(
        self: &Rc<Self>,
        tablet: &Rc<Tablet>,
        want: u64,
    ) -> Result<Reservation, FsError> {
        let mut held = tablet.space.reserve_nodes(want);
        while held.blocks() < want {
            self.more_space(tablet, Purpose::Node).await?;
            held.absorb(tablet.space.reserve_nodes(want - held.blocks()));
        }
        Ok(held)
    }

    /// Writes the root blocks that the log's tail is about to pass, then moves the tail up.
    pub(crate) async fn trim(self: &Rc<Self>) -> Result<(), FsError> {
        let pinned = self.core.tablets().filter_map(|tablet| tablet.pinned_position());
        let tail = pinned.min().unwrap_or(self.log.next_position());
        if tail <= self.log.tail() {
            return Ok(());
        }
        self.settle(self.log.newest_ticket()).await?;
        let mut wrote = None;
        let tablets: Vec<Rc<Tablet>> = self.core.tablets().cloned().collect();
        for tablet in &tablets {
            if let Some((ticket, body)) = tablet.root_record.take() {
                if self.log.is_settled(ticket) {
                    wrote = Some(self.write_root_block(tablet, &body).await?);
                    tablet.root_block_generation.set(body.generation.get());
                } else {
                    // Newer than the settle above, so newer than the tail as well.
                    tablet.keep_root_record(ticket, body);
                }
            }
        }
        if let Some(device) = wrote {
            self.flush(device).await?;
        }
        let admission = self.log.admit(trim_bytes(&tablets), LogClass::Root).await?;
        self.log.seq(self.wall_us());
        self.log.set_tail(tail);
        let ticket = self.append_root_generations(&tablets);
        drop(admission);
        self.core.counters.trims.add(1);
        self.settle(ticket).await
    }

    /// Lists which root blocks this epoch began with: an older one, found in the place of one that
    /// was lost since, is then known for what it is.
    pub(crate) async fn log_root_generations(&self, tablets: &[Rc<Tablet>]) -> Result<(), FsError> {
        let _admission = self.log.admit(trim_bytes(tablets), LogClass::Root).await?;
        self.log.seq(self.wall_us());
        self.append_root_generations(tablets);
        Ok(())
    }

    fn append_root_generations(&self, tablets: &[Rc<Tablet>]) -> Ticket {
        let generation =
            |tablet: &Rc<Tablet>| (tablet.id, RootGeneration(tablet.root_block_generation.get()));
        self.log.append(|out| {
            write_trim(out, tablets.iter().map(generation));
        })
    }

    async fn write_root_block(
        &self,
        tablet: &Tablet,
        body: &cairn_format::tablet_root::RootBody,
    ) -> Result<cairn_base::DeviceId, FsError> {
        let at = cairn_format::superblock::root_block(tablet.id, body.generation());
        let mut buf = self.disk.arena().alloc_zeroed(BLOCK_BYTES);
        cairn_format::tablet_root::TabletRootBlock::seal(body, &self.core.pool.fsid, &mut buf);
        let wrote = self.disk.write(at, vec![DmaSlice::whole(buf)], Durability::Cached).await;
        wrote.map_err(|error| FsError::Media { block: at, error })?;
        Ok(at.device())
    }
}

fn trim_bytes(tablets: &[Rc<Tablet>]) -> usize {
    64 + 16 * tablets.len()
}

/// Blocks that a tree of so many item bytes takes at most.
fn tree_blocks(bytes: usize) -> u64 {
    let leaves = bytes.div_ceil(NODE_FILL_MIN) as u64;
    (leaves + leaves / 8 + 6) * NODE_UNIT
}
