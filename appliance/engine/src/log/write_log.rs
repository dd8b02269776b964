//! The shard's sequential log of committed changes, and the answer to "when is a change durable".
//!
//! Records gather in the forming batch; a task seals it and writes it as soon as fewer than
//! `LOG_WRITES_MAX` writes are in flight, so a batch holds whatever arrived while the device was
//! busy. A batch is acknowledged when it and every batch before it are on stable media; only then
//! does `settle` return. Batches lie back to back in a ring and never wrap: empty ones pad its end.
//!
//! Each batch says up to where everything was acknowledged when it was sent. Recovery takes a gap
//! below the highest such mark for damage and a gap above it for the tail, so the last mark matters:
//! a log that goes idle writes one empty batch to carry it.
//!
//! Seqs come from here, one a batch, and none above the ceiling that is durable. A failed write is
//! final: the log stops, everyone who waits is told, and nothing is retried.
//!
//! When the ring is full, `admit` waits, and `pace.rs` freezes what holds the tail. Room for the
//! next root record of every tablet is never given to anything else, so that can always go on.

use crate::error::FsError;
use crate::limits::{
    BATCH_BYTES_MAX, CEILING_AHEAD_US, LOG_IDLE_MS, LOG_WRITES_MAX, RECORD_BYTES_MAX,
};
use crate::sabotage::{Sabotage, planted, planted_every};
use crate::trigger::{Trigger, die_if};
use cairn_base::door::{Disk, Doors, Durability};
use cairn_base::{BLOCK_BYTES, DmaSlice, Nanos, Run};
use cairn_format::record::{BATCH_HEADER_BYTES, BatchHeader, batch_bytes, seal_batch};
use cairn_format::{Epoch, LogPosition, NodeId, Seq, ShardId};
use cairn_reactor::{Either, Gate, Handle, WaitList, race};
use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::Rc;

/// The batch a record went into, in order of sealing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Ticket(u64);

impl Ticket {
    /// Settled since ever.
    pub const NONE: Ticket = Ticket(0);
}

/// Who asks for room in the ring.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogClass {
    /// Waits for free room.
    Operation,
    /// May use the room that is kept for root and trim records.
    Root,
}

struct Forming {
    bytes: Vec<u8>,
    records: u32,
    seq: Seq,
}

struct Sealed {
    batch: u64,
    header: BatchHeader,
    bytes: Vec<u8>,
}

struct Flying {
    batch: u64,
    seq: u64,
    has_records: bool,
    end: u64,
    tail: u64,
    ceiling: u64,
    done: bool,
}

struct State {
    forming: Option<Forming>,
    sealed: VecDeque<Sealed>,
    flying: VecDeque<Flying>,
    /// Number of the forming batch.
    batch: u64,
    acked_batch: u64,
    /// Position behind the last sealed batch.
    next: u64,
    acked: u64,
    /// Position behind the last acknowledged batch that holds records.
    promised: u64,
    /// What the next header says about the tail, and what is durable of that.
    tail: u64,
    tail_durable: u64,
    last_mark: u64,
    last_seq: u64,
    ceiling: u64,
    ceiling_durable: u64,
    admitted: u64,
}

pub struct WriteLog<D: Doors> {
    disk: Rc<D::Disk>,
    handle: Handle,
    area: Run,
    node: NodeId,
    shard: ShardId,
    epoch: Epoch,
    log_tag: u64,
    reserve_blocks: u64,
    batch_blocks_max: u64,
    state: RefCell<State>,
    /// The first reason.
    failed: Cell<Option<FsError>>,
    paused: Cell<bool>,
    closing: Cell<bool>,
    work: WaitList,
    progress: WaitList,
    pub batches: Cell<u64>,
    pub bytes: Cell<u64>,
}

pub struct LogConfig {
    pub area: Run,
    pub node: NodeId,
    pub shard: ShardId,
    pub epoch: Epoch,
    pub log_tag: u64,
    /// Seqs begin above this: the highest ceiling any log of the pool ever carried.
    pub seq_floor: Seq,
    pub tablets: usize,
}

/// Room in the ring for one record; given back when dropped, by then the record is in the batch.
pub struct Admission<D: Doors> {
    log: Rc<WriteLog<D>>,
    blocks: u64,
}

impl<D: Doors> Drop for Admission<D> {
    fn drop(&mut self) {
        self.log.state.borrow_mut().admitted -= self.blocks;
        self.log.progress.wake_all();
    }
}

/// Keeps a log from sending; it goes on when this is dropped.
pub struct Pause<D: Doors> {
    log: Rc<WriteLog<D>>,
}

impl<D: Doors> Drop for Pause<D> {
    fn drop(&mut self) {
        self.log.paused.set(false);
        self.log.work.wake_all();
    }
}

impl<D: Doors> WriteLog<D> {
    pub fn new(disk: Rc<D::Disk>, handle: Handle, config: LogConfig) -> Rc<WriteLog<D>> {
        let batch_blocks_max =
            (BATCH_BYTES_MAX / BLOCK_BYTES) as u64 + (RECORD_BYTES_MAX / BLOCK_BYTES) as u64 + 1;
        let batch_blocks_max = batch_blocks_max.min(config.area.blocks / 8);
        let ceiling = config.seq_floor.0;
        Rc::new(WriteLog {
            disk,
            handle,
            area: config.area,
            node: config.node,
            shard: config.shard,
            epoch: config.epoch,
            log_tag: config.log_tag,
            // Root records, and what padding at the ring's end can cost.
            reserve_blocks: 2 * config.tablets as u64 + 2 * batch_blocks_max,
            batch_blocks_max,
            state: RefCell::new(State {
                forming: None,
                sealed: VecDeque::new(),
                flying: VecDeque::new(),
                batch: 1,
                acked_batch: 0,
                next: 0,
                acked: 0,
                promised: 0,
                tail: 0,
                tail_durable: 0,
                last_mark: 0,
                last_seq: ceiling,
                ceiling,
                ceiling_durable: ceiling,
                admitted: 0,
            }),
            failed: Cell::new(None),
            paused: Cell::new(false),
            closing: Cell::new(false),
            work: WaitList::new(),
            progress: WaitList::new(),
            batches: Cell::new(0),
            bytes: Cell::new(0),
        })
    }

    /// The writer: seals and sends until the gate closes.
    pub async fn run(self: Rc<Self>, gate: Gate) {
        loop {
            let ready = || self.ready_to_send().or(self.is_over());
            let stale = || self.mark_is_stale().then_some(());
            self.work.until(|| ready().or_else(stale)).await;
            if ready().is_none() {
                let rest = self.handle.sleep(Nanos::from_millis(LOG_IDLE_MS));
                let idle = race(self.work.until(ready), rest).await == Either::Right(());
                if idle && self.mark_is_stale() {
                    self.seal_empty();
                }
            }
            if self.is_over().is_some() {
                return;
            }
            while self.ready_to_send().is_some() {
                let Some(sealed) = self.take_sealed() else { break };
                let log = Rc::clone(&self);
                if gate.spawn(async move { log.send(sealed).await }).is_err() {
                    return;
                }
            }
        }
    }

    /// Nothing will be written any more.
    fn is_over(&self) -> Option<()> {
        let idle = self.ready_to_send().is_none() && self.state.borrow().flying.is_empty();
        (self.has_failed() || self.closing.get() && idle && !self.paused.get()).then_some(())
    }

    fn flying_max(&self) -> usize {
        if self.disk.has_fua(self.area.start.device()) { LOG_WRITES_MAX } else { 1 }
    }

    fn ready_to_send(&self) -> Option<()> {
        let state = self.state.borrow();
        let waiting = !state.sealed.is_empty()
            || state.forming.as_ref().is_some_and(|forming| forming.records > 0);
        let free = state.flying.len() < self.flying_max();
        (waiting && free && !self.has_failed() && !self.paused.get()).then_some(())
    }

    fn mark_is_stale(&self) -> bool {
        let state = self.state.borrow();
        state.flying.is_empty()
            && state.sealed.is_empty()
            && state.last_mark < state.promised
            && !self.has_failed()
    }

    /// The forming batch's seq: one a batch, taken when its first record comes.
    pub fn seq(&self, wall_us: u64) -> Seq {
        let mut state = self.state.borrow_mut();
        if let Some(forming) = &state.forming {
            return forming.seq;
        }
        let seq = wall_us.min(state.ceiling_durable).max(state.last_seq + 1);
        state.last_seq = seq;
        // The batch's own header makes this ceiling durable together with the seq.
        if state.ceiling < seq + CEILING_AHEAD_US / 2 {
            state.ceiling = seq.max(wall_us) + CEILING_AHEAD_US;
        }
        let mut bytes = Vec::with_capacity(16 << 10);
        bytes.resize(BATCH_HEADER_BYTES, 0);
        state.forming = Some(Forming { bytes, records: 0, seq: Seq(seq) });
        Seq(seq)
    }

    /// No number above this is ever shown before a higher ceiling is durable.
    pub fn ceiling(&self) -> Seq {
        Seq(self.state.borrow().ceiling_durable)
    }

    /// Raises the clock to `seen`, and answers what is stable here: everything at or below it is
    /// durable, and nothing at or below it will be added.
    pub fn stable(&self, seen: Seq) -> Seq {
        let mut state = self.state.borrow_mut();
        if state.forming.as_ref().is_some_and(|forming| forming.records == 0) {
            state.forming = None;
        }
        state.last_seq = state.last_seq.max(seen.0.min(state.ceiling_durable));
        let flying = state.flying.front().map(|flying| flying.seq);
        let sealed = state.sealed.front().map(|sealed| sealed.header.seq.get());
        let forming = state.forming.as_ref().map(|forming| forming.seq.0);
        let oldest = flying.or(sealed).or(forming);
        if planted(Sabotage::StableTooHigh) {
            return Seq(state.last_seq);
        }
        Seq(oldest.map_or(state.last_seq, |seq| seq - 1))
    }

    /// Is `seen` so near the highest seq that may be shown here that a higher one should be made durable?
    pub fn is_near_ceiling(&self, seen: Seq) -> bool {
        seen.0.saturating_add(CEILING_AHEAD_US / 2) > self.state.borrow().ceiling_durable
    }

    /// Sees to it that `seen` may be shown, where a batch does not do so already: by an empty one. An
    /// idle log would keep the whole pool's stable seq below its own ceiling.
    pub fn raise_ceiling(&self, seen: Seq) {
        {
            let mut state = self.state.borrow_mut();
            let wanted = seen.0.saturating_add(CEILING_AHEAD_US / 2);
            if state.ceiling < wanted {
                state.ceiling = seen.0.saturating_add(CEILING_AHEAD_US);
            }
            // What has not been sent yet will carry it.
            let carried = !state.sealed.is_empty()
                || state.forming.as_ref().is_some_and(|forming| forming.records > 0)
                || state.flying.back().is_some_and(|flying| flying.ceiling >= wanted);
            if carried {
                return;
            }
        }
        self.seal_empty();
        self.work.wake_all();
    }

    /// The position the next batch will not be below.
    pub fn next_position(&self) -> LogPosition {
        LogPosition(self.state.borrow().next)
    }

    /// Seals what has gathered. Records from now on are at or behind the position given.
    pub fn cut(&self) -> LogPosition {
        self.seal_forming();
        self.next_position()
    }

    /// Adds one record, which `write` appends to the batch. `seq` has opened the batch before.
    pub fn append(&self, write: impl FnOnce(&mut Vec<u8>)) -> Ticket {
        let full = {
            let mut state = self.state.borrow_mut();
            let batch = state.batch;
            let forming = state.forming.as_mut().expect("a seq was taken for this record");
            let before = forming.bytes.len();
            write(&mut forming.bytes);
            assert!(forming.bytes.len() - before <= RECORD_BYTES_MAX, "a record is bounded");
            if planted_every(Sabotage::DroppedRecord, 8) {
                forming.bytes.truncate(before);
            } else {
                forming.records += 1;
            }
            let most =
                (self.batch_blocks_max as usize * BLOCK_BYTES).saturating_sub(RECORD_BYTES_MAX);
            (Ticket(batch), forming.bytes.len() >= most.max(RECORD_BYTES_MAX / 2))
        };
        if full.1 {
            self.seal_forming();
        }
        self.work.wake_all();
        full.0
    }

    /// Waits until the record is on stable media.
    pub async fn settle(&self, ticket: Ticket) -> Result<(), FsError> {
        if planted(Sabotage::AckBeforeDurable) {
            return Ok(());
        }
        self.progress.until(|| self.settled(ticket)).await
    }

    fn settled(&self, ticket: Ticket) -> Option<Result<(), FsError>> {
        if self.state.borrow().acked_batch >= ticket.0 {
            return Some(Ok(()));
        }
        self.has_failed().then_some(Err(FsError::Stopped))
    }

    pub fn is_settled(&self, ticket: Ticket) -> bool {
        self.state.borrow().acked_batch >= ticket.0
    }

    /// What the next `append` answers with.
    pub fn forming_ticket(&self) -> Ticket {
        Ticket(self.state.borrow().batch)
    }

    /// Everything that was appended until now.
    pub fn newest_ticket(&self) -> Ticket {
        let state = self.state.borrow();
        let open = state.forming.as_ref().is_some_and(|forming| forming.records > 0);
        Ticket(if open { state.batch } else { state.batch - 1 })
    }

    pub fn has_failed(&self) -> bool {
        self.failed.get().is_some()
    }

    /// Why it stopped; `Stopped` where it was asked to.
    pub fn failure(&self) -> Option<FsError> {
        self.failed.get()
    }

    /// Stops the log for good. The first reason is the one that is told.
    pub fn fail(&self, reason: FsError) {
        self.failed.set(self.failed.get().or(Some(reason)));
        self.progress.wake_all();
        self.work.wake_all();
    }

    /// Blocks in use from which on pacing has to make room: half of the log, and no more than leaves
    /// operations the room they may ask for at once, which their own bound must not reach before.
    pub fn paced_from(&self) -> u64 {
        let usable = self.area.blocks.saturating_sub(self.reserve_blocks);
        let largest = batch_bytes(RECORD_BYTES_MAX) as u64 / BLOCK_BYTES as u64 + 1;
        (self.area.blocks / 2).min(usable / 2).min(usable.saturating_sub(largest))
    }

    /// Waits for room for a record of at most `bytes`.
    pub async fn admit(
        self: &Rc<Self>,
        bytes: usize,
        class: LogClass,
    ) -> Result<Admission<D>, FsError> {
        assert!(bytes <= RECORD_BYTES_MAX, "a record is bounded");
        let blocks = batch_bytes(bytes) as u64 / BLOCK_BYTES as u64 + 1;
        let wait = self.progress.until(|| {
            if self.has_failed() {
                return Some(Err(FsError::Stopped));
            }
            let mut state = self.state.borrow_mut();
            let kept = if class == LogClass::Root { 0 } else { self.reserve_blocks };
            if self.free_blocks(&state) < blocks + kept {
                return None;
            }
            state.admitted += blocks;
            Some(Ok(()))
        });
        wait.await?;
        Ok(Admission { log: Rc::clone(self), blocks })
    }

    fn free_blocks(&self, state: &State) -> u64 {
        let forming = state.forming.as_ref().map_or(0, |forming| forming.bytes.len());
        let forming = forming.div_ceil(BLOCK_BYTES) as u64;
        let used = state.next - state.tail_durable + forming + state.admitted;
        self.area.blocks.saturating_sub(used)
    }

    /// Would copying a small memtable to the head leave the kept room alone?
    pub fn has_room_for_relog(&self) -> bool {
        let needed = (crate::limits::RELOG_BYTES_MAX / BLOCK_BYTES) as u64 * 2;
        self.free_blocks(&self.state.borrow()) > needed + self.reserve_blocks / 2
    }

    /// Does what an earlier epoch left leave half of the log to this one, with so much more?
    pub fn has_room_to_carry(&self, blocks: u64) -> bool {
        let used = self.area.blocks - self.free_blocks(&self.state.borrow());
        used + blocks + self.reserve_blocks <= self.area.blocks / 2
    }

    pub fn used_blocks(&self) -> u64 {
        let state = self.state.borrow();
        state.next - state.tail_durable
    }

    /// What admissions hold.
    pub fn admitted_blocks(&self) -> u64 {
        self.state.borrow().admitted
    }

    pub fn area_blocks(&self) -> u64 {
        self.area.blocks
    }

    pub fn tail(&self) -> LogPosition {
        LogPosition(self.state.borrow().tail)
    }

    /// Announces a new tail. It counts once the batch that carries it is durable; the caller has
    /// just appended the trim record and settles it.
    pub fn set_tail(&self, tail: LogPosition) {
        let mut state = self.state.borrow_mut();
        assert!(tail.0 >= state.tail && tail.0 <= state.next, "the tail moves up, inside the log");
        state.tail = tail.0;
    }

    /// Makes the first ceiling durable, with everything appended so far.
    pub fn begin_with_mark(&self) {
        self.seal_forming();
        self.seal_empty();
        self.work.wake_all();
    }

    /// Lets the writer end once nothing is left to write.
    pub fn close(&self) {
        self.closing.set(true);
        self.work.wake_all();
    }

    fn seal_empty(&self) {
        self.seq(0);
        let mut state = self.state.borrow_mut();
        if let Some(forming) = state.forming.take() {
            self.seal_into(&mut state, forming);
        }
    }

    fn seal_forming(&self) {
        let mut state = self.state.borrow_mut();
        let worth = state.forming.as_ref().is_some_and(|forming| forming.records > 0);
        if worth && let Some(forming) = state.forming.take() {
            self.seal_into(&mut state, forming);
            drop(state);
            self.work.wake_all();
        }
    }

    fn seal_into(&self, state: &mut State, forming: Forming) {
        let payload = forming.bytes.len() - BATCH_HEADER_BYTES;
        let blocks = (batch_bytes(payload) / BLOCK_BYTES) as u64;
        let to_end = self.area.blocks - state.next % self.area.blocks;
        if blocks > to_end {
            for _ in 0..to_end {
                let pad = self.sealed(state, vec![0; BATCH_HEADER_BYTES], 0, forming.seq, 1);
                // Answers for no record: only what came before it is acknowledged with it.
                state.sealed.push_back(Sealed { batch: state.batch - 1, ..pad });
            }
        }
        let sealed = self.sealed(state, forming.bytes, forming.records, forming.seq, blocks);
        state.sealed.push_back(sealed);
        state.batch += 1;
    }

    fn sealed(
        &self,
        state: &mut State,
        mut bytes: Vec<u8>,
        records: u32,
        seq: Seq,
        blocks: u64,
    ) -> Sealed {
        let used = state.next + blocks - state.tail_durable;
        assert!(used <= self.area.blocks, "admission keeps the ring from running into its tail");
        let payload_bytes = (bytes.len() - BATCH_HEADER_BYTES) as u32;
        bytes.resize(blocks as usize * BLOCK_BYTES, 0);
        let header = BatchHeader {
            magic: 0.into(),
            crc: 0.into(),
            blocks: (blocks as u32).into(),
            log_tag: self.log_tag.into(),
            node: self.node.0.into(),
            shard: self.shard.0.into(),
            records: records.into(),
            epoch: self.epoch.0.into(),
            position: state.next.into(),
            seq: seq.0.into(),
            // The marks are those of the moment it is sent.
            acked: 0.into(),
            tail: 0.into(),
            ceiling: 0.into(),
            payload_bytes: payload_bytes.into(),
            reserved: 0.into(),
        };
        state.next += blocks;
        Sealed { batch: state.batch, header, bytes }
    }

    /// Stops sending and waits for what is under way. Then all that was ever sent is durable; gives
    /// the runs that hold what a replay would read, the oldest first.
    pub async fn pause(self: &Rc<Self>) -> Result<(Pause<D>, Vec<Run>), FsError> {
        assert!(!self.paused.replace(true), "there is one snapshot at a time");
        let pause = Pause { log: Rc::clone(self) };
        let landed = self.progress.until(|| {
            if self.has_failed() {
                return Some(Err(FsError::Stopped));
            }
            self.state.borrow().flying.is_empty().then_some(Ok(()))
        });
        landed.await?;
        let state = self.state.borrow();
        let used = state.acked - state.tail_durable;
        let from = state.tail_durable % self.area.blocks;
        let head = used.min(self.area.blocks - from);
        let runs =
            [Run::new(self.area.start.after(from), head), Run::new(self.area.start, used - head)];
        Ok((pause, runs.into_iter().filter(|run| run.blocks > 0).collect()))
    }

    pub fn area(&self) -> Run {
        self.area
    }

    fn take_sealed(&self) -> Option<Sealed> {
        if self.state.borrow().sealed.is_empty() {
            self.seal_forming();
        }
        let mut state = self.state.borrow_mut();
        let mut sealed = state.sealed.pop_front()?;
        sealed.header.acked = match planted(Sabotage::MarkTooHigh) {
            true => sealed.header.position,
            false => state.acked.into(),
        };
        sealed.header.tail = state.tail.into();
        sealed.header.ceiling = state.ceiling.into();
        seal_batch(&mut sealed.bytes, sealed.header);
        let header = &sealed.header;
        state.last_mark = state.acked;
        let flying = Flying {
            batch: sealed.batch,
            seq: header.seq.get(),
            has_records: header.records.get() > 0,
            end: header.position.get() + u64::from(header.blocks.get()),
            tail: state.tail,
            ceiling: state.ceiling,
            done: false,
        };
        state.flying.push_back(flying);
        Some(sealed)
    }

    async fn send(self: Rc<Self>, sealed: Sealed) {
        let position = sealed.header.position.get();
        let end = position + u64::from(sealed.header.blocks.get());
        let at = self.area.start.after(position % self.area.blocks);
        let mut buf = self.disk.arena().alloc(sealed.bytes.len());
        buf.copy_from_slice(&sealed.bytes);
        self.batches.set(self.batches.get() + 1);
        self.bytes.set(self.bytes.get() + sealed.bytes.len() as u64);
        let wrote = self.write_durably(at, buf).await;
        if let Err(error) = wrote {
            self.fail(FsError::Media { block: at, error });
            return;
        }
        {
            let mut state = self.state.borrow_mut();
            for flying in &mut state.flying {
                flying.done |= flying.end == end;
            }
            if planted(Sabotage::AckOutOfOrder) {
                state.acked_batch = state.acked_batch.max(sealed.batch);
            }
            while state.flying.front().is_some_and(|flying| flying.done) {
                let Some(flying) = state.flying.pop_front() else { break };
                state.acked = flying.end;
                if flying.has_records {
                    state.promised = flying.end;
                }
                state.acked_batch = state.acked_batch.max(flying.batch);
                state.tail_durable = flying.tail;
                state.ceiling_durable = flying.ceiling;
            }
        }
        self.progress.wake_all();
        self.work.wake_all();
    }

    async fn write_durably(
        &self,
        at: cairn_base::BlockNo,
        buf: cairn_base::DmaBuf,
    ) -> Result<(), cairn_base::door::MediaError> {
        let bufs = vec![DmaSlice::whole(buf)];
        die_if(Trigger::DieAtLogBatch, None);
        if planted(Sabotage::SkippedFlush) {
            return self.disk.write(at, bufs, Durability::Cached).await;
        }
        if self.disk.has_fua(at.device()) {
            return self.disk.write(at, bufs, Durability::Durable).await;
        }
        self.disk.write(at, bufs, Durability::Cached).await?;
        let flushed = self.disk.flush(at.device()).await;
        if planted(Sabotage::FailedFlushForgiven) { Ok(()) } else { flushed }
    }
}
