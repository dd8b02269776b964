//! What one core owns, and the loop that turns a synchronous stretch into a durable change.
//!
//! `Core` is the part that needs no doors: tablets, cache, locks. `Shard` adds the disk, the log,
//! the reactor and the way to the other shards. Neither is `Send`; a shard never leaves the thread
//! that opened it.

use crate::block::{Absent, Cache, Pins, fetch_filter, fetch_node};
use crate::counters::Counters;
use crate::data::{Arriving, DataCache, Dirty, Streams};
use crate::error::FsError;
use crate::index::Trims;
use crate::limits::{FILTER_BYTES_MIN, MEMTABLE_BYTES_MIN, MEMTABLE_TABLET_BYTES};
use crate::lock::Locks;
use crate::log::{MemtableBytes, Ticket, WriteLog};
use crate::once::Answers;
use crate::open::Barrier;
use crate::peer::Peers;
use crate::pool::Pool;
use crate::resize::Growth;
use crate::scrub::Scrub;
use crate::snapshot::Snapshot;
use crate::space::{Reads, SpaceChange};
use crate::tablet::Tablet;
use crate::trouble::Troubles;
use crate::txn::{Need, Permit, Stop, View};
use crate::waiters::Waiters;
use cairn_base::door::{Clock, Disk, Doors};
use cairn_base::{Arena, DmaBuf, Nanos};
use cairn_format::item::FreeRunItem;
use cairn_format::key::Purpose;
use cairn_format::record::{EditKind, RecordWriter};
use cairn_format::{Epoch, InodeNo, OpId, ShardId, TabletId};
use cairn_reactor::{Gate, Handle, Semaphore, WaitList};
use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;
use zerocopy::IntoBytes;

/// What an operator may set for one shard.
#[derive(Clone, Copy, Debug)]
pub struct ShardConfig {
    /// Budget of all memtables; raised to what `limits.rs` says is the least.
    pub memtable_bytes: usize,
    pub cache_bytes: usize,
    /// Blocks of file data in memory.
    pub data_cache_bytes: usize,
    /// Filters of log trees in memory.
    pub filter_bytes: usize,
    /// File data that is buffered and not written.
    pub dirty_bytes: usize,
    /// Answers kept for calls that are repeated; half of them are those of writes.
    pub answers: usize,
    /// Clients that wait for offline data.
    pub waiters: usize,
    /// Deletions that all consumers have passed are kept so long; not configured, but by tests.
    pub deletion_age: Nanos,
    /// Deletions that a tablet keeps at most, and how often it is looked at; the same.
    pub deletions_tablet_max: u64,
    pub trim_round: Nanos,
}

impl Default for ShardConfig {
    fn default() -> ShardConfig {
        ShardConfig {
            memtable_bytes: crate::limits::MEMTABLE_BYTES_DEFAULT,
            cache_bytes: crate::limits::CACHE_BYTES_DEFAULT,
            data_cache_bytes: crate::limits::DATA_CACHE_BYTES_DEFAULT,
            filter_bytes: crate::limits::FILTER_BYTES_DEFAULT,
            dirty_bytes: crate::limits::DIRTY_BYTES_DEFAULT,
            answers: crate::limits::ANSWERS_DEFAULT,
            waiters: crate::limits::WAITERS_DEFAULT,
            deletion_age: crate::limits::DELETION_AGE,
            deletions_tablet_max: crate::limits::DELETIONS_TABLET_MAX,
            trim_round: crate::limits::TRIM_ROUND,
        }
    }
}

/// The part of a shard that synchronous code works on.
pub struct Core {
    pub id: ShardId,
    pub pool: Pool,
    /// By number, for every step of every operation; `None` is another shard's.
    tablets: Vec<Option<Rc<Tablet>>>,
    memory: MemtableBytes,
    pub cache: Cache,
    pub(crate) data_cache: DataCache,
    pub(crate) arriving: Arriving,
    pub(crate) streams: Streams,
    /// What a hole reads as.
    pub(crate) zeros: Arc<DmaBuf>,
    pub locks: Locks,
    pub reads: Rc<Reads>,
    pub counters: Counters,
    pub dirty: Dirty,
    /// Round robin over all tablets for new directories near the root.
    pub rotor: Cell<u16>,
    /// Of the many items that are all key.
    pub(crate) empty_value: Rc<[u8]>,
}

impl Core {
    pub fn new(
        id: ShardId,
        pool: Pool,
        tablets: Vec<Tablet>,
        memory: MemtableBytes,
        reads: Rc<Reads>,
        config: &ShardConfig,
    ) -> Core {
        let mut by_number = vec![None; usize::from(pool.tablets)];
        for tablet in tablets {
            let place = usize::from(tablet.id.0);
            by_number[place] = Some(Rc::new(tablet));
        }
        // Every epoch goes on at another tablet, or short lives would fill the first few only.
        let turn = u64::from(id.0) + pool.epoch.0.wrapping_mul(29);
        let rotor = (turn % u64::from(pool.tablets)) as u16;
        Core {
            id,
            pool,
            tablets: by_number,
            memory,
            cache: Cache::new(config.cache_bytes),
            data_cache: DataCache::new(config.data_cache_bytes),
            arriving: Arriving::default(),
            streams: Streams::new(config.data_cache_bytes),
            zeros: Arc::new(Arena::heap().alloc_zeroed(crate::limits::IO_BYTES_MAX)),
            locks: Locks::default(),
            reads,
            counters: Counters::default(),
            dirty: Dirty::new(config.dirty_bytes),
            rotor: Cell::new(rotor),
            empty_value: Rc::default(),
        }
    }

    /// A tablet of this shard. Requests for others were routed before.
    pub fn tablet(&self, id: TabletId) -> Rc<Tablet> {
        let tablet = self.tablets.get(usize::from(id.0)).and_then(Option::as_ref);
        Rc::clone(tablet.expect("requests are routed to the tablet's owner"))
    }

    pub fn owns(&self, id: TabletId) -> bool {
        self.tablets.get(usize::from(id.0)).is_some_and(Option::is_some)
    }

    pub fn tablets(&self) -> impl Iterator<Item = &Rc<Tablet>> {
        self.tablets.iter().flatten()
    }

    pub fn memtable_bytes(&self) -> usize {
        self.memory.get()
    }

    /// Filters of log trees in memory.
    pub fn filter_bytes(&self) -> usize {
        self.tablets().map(|tablet| tablet.filter_bytes()).sum()
    }

    /// Drops filters of other tablets than `kept`, beginning behind it, until no more than `most` bytes
    /// are left. Whoever still wants one reads it again.
    pub(crate) fn thin_out_filters(&self, kept: TabletId, most: usize) {
        let mut bytes = self.filter_bytes();
        let (before, behind) = self.tablets.split_at(usize::from(kept.0));
        for tablet in behind.iter().skip(1).chain(before).flatten() {
            if bytes <= most {
                break;
            }
            bytes -= tablet.filter_bytes();
            tablet.drop_filters();
        }
    }
}

pub struct Shard<D: Doors> {
    pub core: Core,
    pub(crate) disk: Rc<D::Disk>,
    pub(crate) clock: Rc<D::Clock>,
    pub(crate) handle: Handle,
    pub(crate) log: Rc<WriteLog<D>>,
    pub(crate) peers: Peers,
    pub(crate) answers: Answers,
    /// Of writes.
    pub(crate) written: Answers,
    pub(crate) gate: Gate,
    pub(crate) config: ShardConfig,
    /// Something changed that pacing, or somebody waiting for memory, wants to look at.
    pub(crate) pace: WaitList,
    /// What the first waiting operation needs beside what the memtables hold.
    pub(crate) memory_wanted: Cell<usize>,
    memory_turn: Semaphore,
    /// How many records had been logged when the last step of a fold or merge ended.
    pub(crate) stepped_at: Cell<u64>,
    /// The next step waits until so many more have come.
    pub(crate) step_waits: Cell<Option<u64>>,
    pub(crate) zone_turn: Semaphore,
    /// Damage that hides unassigned space.
    pub(crate) zones_hidden: Cell<Option<FsError>>,
    /// Whose turn it is to have tablets fold for their space (`space/repay.rs`).
    pub(crate) repay_turn: Semaphore,
    pub(crate) across_counter: Cell<u64>,
    /// The pool's one rename lock; used on the shard of tablet 1.
    /// Whose turn it is here to ask for the pool's lock for moves of directories.
    pub(crate) rename_turn: Semaphore,
    pub(crate) rename_lock: Semaphore,
    pub(crate) rename_held: RefCell<BTreeMap<OpId, cairn_reactor::Guard>>,
    /// Permits of operations this shard takes part in, from prepare to apply.
    pub(crate) parts: RefCell<BTreeMap<OpId, Vec<Permit<D>>>>,
    pub(crate) barrier: Barrier,
    pub(crate) growth: Growth,
    /// Kept for a check on line; at most one.
    pub(crate) snapshot: RefCell<Option<Snapshot<D>>>,
    pub(crate) scrub: Scrub,
    pub(crate) trims: Trims,
    pub(crate) waiters: Waiters,
    write_verifier: Cell<u64>,
    pub troubles: Troubles,
    /// The pool's new epoch is durable: what the old one's trees held may be overwritten.
    pub(crate) epoch_begun: Cell<bool>,
    stopping: Cell<bool>,
}

pub(crate) struct ShardParts<D: Doors> {
    pub core: Core,
    pub disk: Rc<D::Disk>,
    pub clock: Rc<D::Clock>,
    pub handle: Handle,
    pub log: Rc<WriteLog<D>>,
    pub peers: Peers,
    pub config: ShardConfig,
}

impl<D: Doors> Shard<D> {
    pub(crate) fn new(parts: ShardParts<D>) -> Rc<Shard<D>> {
        let epoch = parts.core.pool.epoch.0;
        let mut config = parts.config;
        let least = MEMTABLE_BYTES_MIN.max(parts.core.tablets().count() * MEMTABLE_TABLET_BYTES);
        config.memtable_bytes = config.memtable_bytes.max(least);
        config.filter_bytes = config.filter_bytes.max(FILTER_BYTES_MIN + config.memtable_bytes / 8);
        let gate = parts.handle.gate("shard");
        Rc::new(Shard {
            core: parts.core,
            disk: parts.disk,
            clock: parts.clock,
            handle: parts.handle,
            log: parts.log,
            peers: parts.peers,
            answers: Answers::new(config.answers.div_ceil(2)),
            written: Answers::new(config.answers.div_ceil(2)),
            gate,
            config,
            pace: WaitList::new(),
            memory_wanted: Cell::new(0),
            memory_turn: Semaphore::new(1),
            stepped_at: Cell::new(0),
            step_waits: Cell::new(None),
            zone_turn: Semaphore::new(1),
            zones_hidden: Cell::new(None),
            repay_turn: Semaphore::new(1),
            across_counter: Cell::new(1),
            rename_turn: Semaphore::new(1),
            rename_lock: Semaphore::new(1),
            rename_held: RefCell::default(),
            parts: RefCell::default(),
            barrier: Barrier::default(),
            growth: Growth::default(),
            snapshot: RefCell::default(),
            scrub: Scrub::default(),
            trims: Trims::default(),
            waiters: Waiters::new(config.waiters),
            write_verifier: Cell::new(epoch << 16),
            troubles: Troubles::default(),
            epoch_begun: Cell::new(false),
            stopping: Cell::new(false),
        })
    }

    pub fn id(&self) -> ShardId {
        self.core.id
    }

    pub fn epoch(&self) -> Epoch {
        self.core.pool.epoch
    }

    /// Changes with every start, and when buffered data of this shard was lost.
    pub fn write_verifier(&self) -> u64 {
        self.write_verifier.get()
    }

    pub(crate) fn change_write_verifier(&self) {
        self.write_verifier.set(self.write_verifier.get() + 1);
    }

    pub fn fsid(&self) -> [u8; 16] {
        self.core.pool.fsid
    }

    pub fn handle_key(&self) -> [u8; 16] {
        self.core.pool.handle_key
    }

    pub fn reactor(&self) -> &Handle {
        &self.handle
    }

    pub fn arena(&self) -> &Arena {
        self.disk.arena()
    }

    /// Why nothing changes here any more, unless that was asked for.
    pub fn failure(&self) -> Option<FsError> {
        self.log.failure().filter(|reason| *reason != FsError::Stopped)
    }

    /// Did a write to the log fail? Then nothing changes here any more.
    pub fn has_stopped(&self) -> bool {
        self.log.has_failed()
    }

    pub(crate) fn is_stopping(&self) -> bool {
        self.stopping.get()
    }

    pub(crate) fn begin_stop(&self) {
        self.stopping.set(true);
        self.pace.wake_all();
        self.scrub.wake();
        self.trims.wake();
        self.waiters.wake();
        self.core.dirty.more().wake_all();
    }

    pub(crate) fn wall_us(&self) -> u64 {
        micros(self.clock.wall())
    }

    /// Runs a stretch that only reads.
    pub async fn read_with<R>(
        &self,
        body: impl FnMut(&mut View<'_>) -> Result<R, Stop>,
    ) -> Result<R, FsError> {
        let (result, ticket) = self.attempt(None, body).await?;
        assert!(ticket == Ticket::NONE, "a reading stretch has no edits");
        Ok(result)
    }

    /// Takes a permit, runs the stretch until it comes to an end, and logs what it changed.
    pub async fn transact<R>(
        self: &Rc<Self>,
        need: Need,
        body: impl FnMut(&mut View<'_>) -> Result<R, Stop>,
    ) -> Result<(R, Ticket), FsError> {
        let permit = self.permit(&need).await?;
        self.apply(&permit, None, body).await
    }

    /// The same under a permit taken before.
    pub async fn apply<R>(
        &self,
        permit: &Permit<D>,
        owner: Option<OpId>,
        body: impl FnMut(&mut View<'_>) -> Result<R, Stop>,
    ) -> Result<(R, Ticket), FsError> {
        let _held = permit;
        self.attempt(owner, body).await
    }

    async fn attempt<R>(
        &self,
        owner: Option<OpId>,
        mut body: impl FnMut(&mut View<'_>) -> Result<R, Stop>,
    ) -> Result<(R, Ticket), FsError> {
        let mut pins = Pins::default();
        let mut reading = self.core.reads.begin();
        loop {
            let stop = {
                let now = self.clock.wall();
                let seq = self.log.seq(micros(now));
                let mut view = View::new(&self.core, &pins, seq, now);
                view.owner = owner;
                match body(&mut view) {
                    Ok(result) => {
                        let ticket = self.commit(view)?;
                        return Ok((result, ticket));
                    }
                    Err(stop) => stop,
                }
            };
            match stop {
                Stop::Fs(error) => return Err(error),
                Stop::Absent(Absent::Node(at)) => {
                    self.core.counters.node_reads.add(1);
                    let node = fetch_node(&*self.disk, &at).await?;
                    self.core.cache.insert(&at, Rc::clone(&node));
                    pins.pin(at, node);
                }
                Stop::Absent(Absent::Filter(tablet, at)) => {
                    let filter = fetch_filter(&*self.disk, &at).await?;
                    self.core.tablet(tablet).keep_filter(&at, &filter);
                    self.core.thin_out_filters(tablet, self.config.filter_bytes);
                }
                Stop::Locked(ino) => {
                    drop(reading);
                    self.core.locks.free(ino, owner).await?;
                    reading = self.core.reads.begin();
                    pins = Pins::default();
                }
            }
        }
    }

    /// Makes a view's edits one record and applies it. Synchronous: the stretch has not ended yet.
    fn commit(&self, view: View<'_>) -> Result<Ticket, FsError> {
        if view.is_unchanged() {
            return Ok(Ticket::NONE);
        }
        if self.log.has_failed() {
            return Err(FsError::Stopped);
        }
        let View { mut edits, mut totals, next_inodes, space, forgotten, seq, .. } = view;
        let ticket = self.log.forming_ticket();
        self.space_edits(&space, ticket, &mut edits, &mut totals);
        let position = self.log.next_position();
        let has_orphans = totals.values().any(|totals| totals.orphans.get() > 0);
        let mut tablets: Vec<TabletId> = edits.keys().map(|(tablet, _)| *tablet).collect();
        tablets.extend(totals.keys());
        tablets.sort_unstable();
        tablets.dedup();
        for tablet in &tablets {
            let owner = self.core.tablet(*tablet);
            if let Some(next) = next_inodes.get(tablet) {
                owner.next_inode.set(*next);
            }
            if let Some(totals) = totals.get(tablet) {
                owner.totals.set(*totals);
            }
        }
        self.log.append(|out| {
            let mut record = RecordWriter::begin(out);
            let mut edits = edits.iter().peekable();
            for tablet in &tablets {
                record.section(*tablet, &self.core.tablet(*tablet).totals.get(), None);
                while let Some(((_, key), edit)) = edits.next_if(|((of, _), _)| of == tablet) {
                    record.edit(edit.kind, key, edit.value.as_deref().unwrap_or(&[]));
                }
            }
            record.finish();
        });
        self.core.counters.log_records.add(1);
        for ((id, key), edit) in edits {
            let tablet = self.core.tablet(id);
            if tablet.active_first.get().is_none() {
                tablet.active_first.set(Some(position));
            }
            note_seq(&tablet, &key, seq);
            tablet.active.borrow_mut().apply(edit.kind, key, edit.value);
        }
        for ino in forgotten {
            self.core.tablet(ino.tablet()).overlays.forget(ino);
        }
        if has_orphans || self.pace_is_due() {
            self.pace.wake_all();
        }
        Ok(ticket)
    }

    pub(crate) fn space_edits(
        &self,
        changes: &[(TabletId, Purpose, SpaceChange)],
        ticket: Ticket,
        edits: &mut BTreeMap<(TabletId, cairn_format::Key), crate::txn::PendingEdit>,
        totals: &mut BTreeMap<TabletId, cairn_format::tablet_root::Totals>,
    ) {
        let mut changed = Vec::new();
        // Takes come first: what a record frees is never what it takes.
        let is_take = |change: &SpaceChange| matches!(change, SpaceChange::Take(_));
        let (takes, others): (Vec<_>, Vec<_>) = changes.iter().partition(|(_, _, c)| is_take(c));
        for &(id, purpose, change) in takes.into_iter().chain(others) {
            let tablet = self.core.tablet(id);
            let space = &tablet.space;
            match change {
                SpaceChange::Take(run) => space.take(purpose, run, &mut changed),
                SpaceChange::Free(run) => {
                    // Nobody will ask for it again: its memory is for others.
                    if purpose == Purpose::Data {
                        self.core.data_cache.forget(run.start, run.blocks);
                    }
                    if space.free(purpose, run, ticket, &mut changed) {
                        self.mature(&tablet);
                    }
                }
                SpaceChange::Receive(run) => space.receive(purpose, run, ticket, &mut changed),
            }
            let totals = totals.entry(id).or_insert_with(|| tablet.totals.get());
            let total = match purpose {
                Purpose::Unassigned => &mut totals.free_unassigned,
                Purpose::Node => &mut totals.free_node,
                Purpose::Data => &mut totals.free_data,
            };
            *total = tablet.space.total(purpose).into();
            for (key, blocks) in changed.drain(..) {
                let value =
                    blocks.map(|blocks| FreeRunItem { blocks: blocks.into() }.as_bytes().into());
                let kind = if value.is_some() { EditKind::Put } else { EditKind::Delete };
                edits.insert((id, key), crate::txn::PendingEdit { kind, value });
            }
        }
    }

    /// Waits until a change is on stable media.
    pub async fn settle(&self, ticket: Ticket) -> Result<(), FsError> {
        if ticket == Ticket::NONE {
            return Ok(());
        }
        self.log.settle(ticket).await
    }

    /// Waits while the memtables are over their budget: in order, so that a small operation neither passes a
    /// large one for ever nor takes its wish from pacing.
    pub(crate) async fn memory_for(&self, bytes: usize) -> Result<(), FsError> {
        // Half of the budget can always be made free, so nothing waits for more.
        let bytes = bytes.min(self.config.memtable_bytes / 2);
        let _turn = self.memory_turn.acquire(1).await;
        let freed = self.pace.until(|| {
            if self.log.has_failed() {
                return Some(Err(FsError::Stopped));
            }
            if self.core.memtable_bytes() + bytes <= self.config.memtable_bytes {
                return Some(Ok(()));
            }
            if self.memory_wanted.replace(bytes) != bytes {
                // Pacing freezes until so much is free.
                self.pace.wake_all();
            }
            None
        });
        let freed = freed.await;
        self.memory_wanted.set(0);
        freed
    }

    pub(crate) fn next_op_id(&self) -> OpId {
        let counter = self.across_counter.get();
        self.across_counter.set(counter + 1);
        OpId {
            node: self.core.pool.node,
            shard: self.core.id,
            epoch: self.core.pool.epoch,
            counter,
        }
    }

    /// Which shard answers for `ino`.
    pub fn home(&self, ino: InodeNo) -> Result<ShardId, FsError> {
        if ino.tablet().0 >= self.core.pool.tablets {
            return Err(FsError::Stale);
        }
        Ok(self.core.pool.owner(ino.tablet()))
    }
}

/// Of nanoseconds since 1970, as seqs count them.
fn micros(wall: i64) -> u64 {
    (wall / 1000).max(0) as u64
}

/// Keeps the tablet's newest index seqs in memory: an index walk skips tablets below its cursor. Forgets up to
/// where it was trimmed when that changes.
fn note_seq(tablet: &Tablet, key: &cairn_format::Key, seq: cairn_format::Seq) {
    use cairn_format::key::{RANGE_DATA_SEQ, RANGE_DELETION, RANGE_META_SEQ, RANGE_TRIMMED};
    match key.as_bytes().first() {
        Some(&(RANGE_META_SEQ | RANGE_DELETION)) => {
            tablet.newest_meta_seq.set(tablet.newest_meta_seq.get().max(seq))
        }
        Some(&RANGE_DATA_SEQ) => tablet.newest_data_seq.set(tablet.newest_data_seq.get().max(seq)),
        // Whoever asks reads it again.
        Some(&RANGE_TRIMMED) => tablet.trimmed.set(None),
        _ => {}
    }
}
