//! One tablet's free blocks, by purpose.
//!
//! Free runs are items of the tablet, so a record that links blocks also takes them from the free
//! runs, and a crash leaks nothing. In memory there are three states in front of that: *free* (may
//! be reserved), *reserved* (an operation holds the run and will take it, or drop it), *promised* (a
//! permit counts on so many blocks, not yet which). A freed run is *deferred*: it is free in the
//! items at once, but is handed out only when the record that freed it is durable and every read
//! that began before has ended. A run that *arrives* from another tablet was free there, so nobody
//! reads it and no tree of an earlier epoch holds it: it waits for its record only.
//!
//! Items are loaded in address order, `FREE_RUNS_LOAD` at a time, when what is loaded does not
//! suffice; a tablet nobody writes to loads nothing. The totals in the root say how much there is
//! without loading.

use super::holds::{HoldId, Holder, Holds};
use super::{Reads, RunSet};
use crate::failpoint::{Point, fails};
use crate::limits::{NODE_UNIT, ZONES_AT_ONCE_MAX, ZONES_STREAM_MS};
use crate::log::Ticket;
use crate::sabotage::{Sabotage, planted};
use cairn_base::{BlockNo, DeviceId, Nanos, Run};
use cairn_format::key::{Key, Purpose};
use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, VecDeque};
use std::rc::Rc;

/// Runs that are freed between two looks at those that wait.
const DEFERRED_BETWEEN: usize = 64;

struct Deferred {
    ticket: Ticket,
    age: u64,
    run: Run,
}

#[derive(Default)]
struct Side {
    /// Items as applied, of the loaded part.
    items: BTreeMap<BlockNo, u64>,
    free: RunSet,
    deferred: VecDeque<Deferred>,
    arriving: VecDeque<(Ticket, Run)>,
    /// Items from here on are not loaded; `None` when all are.
    unloaded_from: Option<BlockNo>,
    /// Blocks of all items.
    total: u64,
    /// Runs that operations hold.
    reserved: Holds,
    promised: u64,
    /// Where the next search begins.
    hint: Option<BlockNo>,
}

impl Side {
    fn is_loaded(&self, block: BlockNo) -> bool {
        self.unloaded_from.is_none_or(|from| block < from)
    }

    /// Blocks that a new promise may count on: also those that are deferred, which come back by
    /// themselves.
    fn unpromised(&self) -> u64 {
        // What a tablet keeps (`txn/permit.rs`) is for freezes, folds and merges: what they hold is not
        // counted a second time.
        self.total.saturating_sub(self.reserved.of_changes() + self.promised)
    }
}

/// The edits a take or a free makes: an item's key, and its new length or nothing.
pub type FreeEdit = (Key, Option<u64>);

/// What a record does to a tablet's space.
#[derive(Clone, Copy, Debug)]
pub enum SpaceChange {
    /// Takes blocks out of the free runs; a reservation holds them until now.
    Take(Run),
    Free(Run),
    /// A run that was free in another tablet is now this one's.
    Receive(Run),
}

pub struct Space {
    sides: [RefCell<Side>; 3],
    reads: Rc<Reads>,
    /// When data zones were asked for last, and how many.
    asked: Cell<(Nanos, u64)>,
}

impl Space {
    pub fn new(reads: Rc<Reads>, totals: [u64; 3]) -> Rc<Space> {
        let side = |total| {
            RefCell::new(Side {
                total,
                unloaded_from: (total > 0).then_some(BlockNo::from_raw(0)),
                ..Side::default()
            })
        };
        Rc::new(Space { sides: totals.map(side), reads, asked: Cell::default() })
    }

    fn side(&self, purpose: Purpose) -> &RefCell<Side> {
        &self.sides[purpose as usize]
    }

    /// How many data zones to ask for now: who comes back soon has a stream to write, and asks for twice as
    /// many as before. A zone takes a record, or two and an answer from another shard.
    pub fn zones_at_once(&self, now: Nanos) -> u64 {
        let (last, zones) = self.asked.get();
        let is_soon = zones > 0 && now <= last + Nanos::from_millis(ZONES_STREAM_MS);
        let zones = if is_soon { (2 * zones).min(ZONES_AT_ONCE_MAX) } else { 1 };
        self.asked.set((now, zones));
        zones
    }

    /// Blocks of all free runs, reserved, promised and deferred ones included.
    pub fn total(&self, purpose: Purpose) -> u64 {
        self.side(purpose).borrow().total
    }

    pub fn unpromised(&self, purpose: Purpose) -> u64 {
        self.side(purpose).borrow().unpromised()
    }

    /// Whether the items have `block` as free; of the loaded ones.
    pub fn holds(&self, purpose: Purpose, block: BlockNo) -> bool {
        let side = self.side(purpose).borrow();
        let before = side.items.range(..=block).next_back();
        before.is_some_and(|(start, blocks)| Run::new(*start, *blocks).contains(block))
    }

    /// Blocks of the loaded items on one device.
    pub fn blocks_on(&self, purpose: Purpose, device: DeviceId) -> u64 {
        let side = self.side(purpose).borrow();
        let items = side.items.iter().filter(|(start, _)| start.device() == device);
        items.map(|(_, blocks)| blocks).sum()
    }

    /// Blocks that can be reserved now.
    pub fn ready(&self, purpose: Purpose) -> u64 {
        self.side(purpose).borrow().free.blocks()
    }

    /// From where items are still to be loaded.
    pub fn unloaded_from(&self, purpose: Purpose) -> Option<BlockNo> {
        self.side(purpose).borrow().unloaded_from
    }

    /// Does without the items that are not loaded: they cannot be read. Nothing counts on them any more.
    pub fn give_up_unloaded(&self, purpose: Purpose) {
        let mut side = self.side(purpose).borrow_mut();
        let side = &mut *side;
        let Some(from) = side.unloaded_from.take() else { return };
        // What was freed there since is an item by itself.
        let deferred = side.deferred.iter().map(|deferred| deferred.run);
        let since = deferred.chain(side.arriving.iter().map(|(_, run)| *run));
        for run in since.filter(|run| run.start >= from) {
            side.items.insert(run.start, run.blocks);
        }
        side.total = side.items.values().sum();
    }

    /// Takes up loaded items; `next` is where the next load begins.
    pub fn load(&self, purpose: Purpose, runs: &[Run], next: Option<BlockNo>) {
        let mut side = self.side(purpose).borrow_mut();
        // They may be many while a snapshot keeps them.
        let mut waiting = RunSet::default();
        let deferred = side.deferred.iter().map(|deferred| deferred.run);
        for run in deferred.chain(side.arriving.iter().map(|(_, run)| *run)) {
            waiting.insert(run);
        }
        for run in runs {
            side.items.insert(run.start, run.blocks);
            let mut from = run.start;
            for hole in waiting.within(*run) {
                if from < hole.start {
                    side.free.insert(Run::new(from, hole.start.index() - from.index()));
                }
                from = hole.end();
            }
            if from < run.end() {
                side.free.insert(Run::new(from, run.end().index() - from.index()));
            }
        }
        side.unloaded_from = next;
    }

    /// Moves runs that are safe by now to the free ones: those that have arrived, and, where blocks
    /// of the last epoch may be overwritten (`reuse`), the deferred ones.
    ///
    /// True when there were some.
    pub fn mature(&self, reuse: bool, settled: impl Fn(Ticket) -> bool) -> bool {
        let mut any = false;
        for side in &self.sides {
            let mut side = side.borrow_mut();
            let mut safe = Vec::new();
            while side.arriving.front().is_some_and(|(ticket, _)| settled(*ticket)) {
                safe.extend(side.arriving.pop_front().map(|(_, run)| run));
            }
            let is_safe = |front: &Deferred| settled(front.ticket) && self.reads.is_over(front.age);
            while reuse && side.deferred.front().is_some_and(is_safe) {
                safe.extend(side.deferred.pop_front().map(|deferred| deferred.run));
            }
            let room = 2 * side.deferred.len() + DEFERRED_BETWEEN;
            if side.deferred.capacity() > 2 * room {
                side.deferred.shrink_to(room);
            }
            for run in safe.into_iter().filter(|run| side.is_loaded(run.start)).collect::<Vec<_>>()
            {
                side.free.insert(run);
                any = true;
            }
        }
        any
    }

    /// Will `mature` find something soon? Not what a snapshot keeps, from age `kept_from` on.
    pub fn has_waiting(&self, purpose: Purpose, reuse: bool, kept_from: Option<u64>) -> bool {
        let side = self.side(purpose).borrow();
        let is_soon = |front: &Deferred| kept_from.is_none_or(|age| front.age < age);
        !side.arriving.is_empty() || reuse && side.deferred.front().is_some_and(is_soon)
    }

    /// Are there runs that only wait for a snapshot's end?
    pub fn is_kept(&self, purpose: Purpose, kept_from: Option<u64>) -> bool {
        let side = self.side(purpose).borrow();
        kept_from.is_some_and(|age| side.deferred.back().is_some_and(|back| back.age >= age))
    }

    /// Promises `blocks`, if so many are free beyond `keep`.
    pub fn promise(self: &Rc<Self>, purpose: Purpose, blocks: u64, keep: u64) -> Option<Promise> {
        let mut side = self.side(purpose).borrow_mut();
        if side.unpromised() < blocks + keep || fails(Point::Promise) {
            return None;
        }
        side.promised += blocks;
        Some(Promise { space: Rc::clone(self), purpose, blocks })
    }

    /// Reserves up to `want` blocks of data, in one run where it can be had, else in several.
    /// Less than `want` means that more must be loaded or must mature first.
    pub fn reserve_data(self: &Rc<Self>, want: u64) -> Reservation {
        let want = if fails(Point::Reservation) { 0 } else { want };
        let mut side = self.side(Purpose::Data).borrow_mut();
        let mut runs = Vec::new();
        let mut left = want;
        while left > 0 {
            let Some(found) = pick(&side, left) else { break };
            let run = Run::new(found.start, found.blocks.min(left));
            side.free.remove(run);
            side.hint = Some(run.end());
            left -= run.blocks;
            runs.push(run);
        }
        let id = side.reserved.begin(&runs, Holder::Change);
        drop(side);
        Reservation { space: Rc::clone(self), purpose: Purpose::Data, id, runs }
    }

    /// Reserves node units for a freeze or a fold, `want` blocks of them, lowest addresses first.
    pub fn reserve_nodes(self: &Rc<Self>, want: u64) -> Reservation {
        assert!(want.is_multiple_of(NODE_UNIT), "nodes come in whole units");
        let want = if fails(Point::Reservation) { 0 } else { want };
        let side = self.side(Purpose::Node).borrow();
        let mut runs: Vec<Run> = Vec::new();
        let mut left = want;
        for run in side.free.iter() {
            if left == 0 {
                break;
            }
            let take = run.blocks.min(left);
            runs.push(Run::new(run.start, take));
            left -= take;
        }
        drop(side);
        self.hold_for_steps(runs)
    }

    /// Reserves `want` blocks of node units for a merge, in the longest runs there are, if that takes no
    /// more than `runs_max` of them.
    pub fn reserve_longest(self: &Rc<Self>, want: u64, runs_max: usize) -> Option<Reservation> {
        assert!(want.is_multiple_of(NODE_UNIT), "nodes come in whole units");
        if fails(Point::Reservation) {
            return None;
        }
        let mut left = want;
        let mut runs = Vec::new();
        for run in self.side(Purpose::Node).borrow().free.longest_first().take(runs_max) {
            if left == 0 {
                break;
            }
            runs.push(Run::new(run.start, run.blocks.min(left)));
            left = left.saturating_sub(run.blocks);
        }
        (left == 0).then(|| self.hold_for_steps(runs))
    }

    fn hold_for_steps(self: &Rc<Self>, runs: Vec<Run>) -> Reservation {
        let mut side = self.side(Purpose::Node).borrow_mut();
        for run in &runs {
            side.free.remove(*run);
        }
        let id = side.reserved.begin(&runs, Holder::Step);
        drop(side);
        Reservation { space: Rc::clone(self), purpose: Purpose::Node, id, runs }
    }

    /// Reserves one run that `choose` picks among the free ones.
    pub fn reserve_one(
        self: &Rc<Self>,
        purpose: Purpose,
        choose: impl FnOnce(&RunSet) -> Option<Run>,
    ) -> Option<Reservation> {
        let mut side = self.side(purpose).borrow_mut();
        let run = choose(&side.free)?;
        side.free.remove(run);
        let id = side.reserved.begin(&[run], Holder::Change);
        drop(side);
        Some(Reservation { space: Rc::clone(self), purpose, id, runs: vec![run] })
    }

    /// The record that is being applied takes `run`, which a reservation holds until now.
    pub fn take(&self, purpose: Purpose, run: Run, edits: &mut Vec<FreeEdit>) {
        let mut side = self.side(purpose).borrow_mut();
        let mut at = run;
        while at.blocks > 0 {
            let held = side.items.range(..=at.start).next_back();
            let (start, blocks) = held.map(|(s, b)| (*s, *b)).expect("a reserved run is free");
            let item = Run::new(start, blocks);
            assert!(item.contains(at.start), "a reserved run is free in the items");
            let here = Run::new(at.start, at.blocks.min(item.end().index() - at.start.index()));
            side.items.remove(&item.start);
            let before = edits.len();
            edits.push((Key::free_run(purpose, item.start), None));
            for piece in RunSet::without(item, here) {
                side.items.insert(piece.start, piece.blocks);
                edits.push((Key::free_run(purpose, piece.start), Some(piece.blocks)));
            }
            if planted(Sabotage::TakenRunStaysFree) {
                edits.truncate(before);
            }
            at = Run::new(here.end(), at.blocks - here.blocks);
        }
        side.total -= run.blocks;
        side.reserved.take(run);
    }

    /// The record that is being applied frees `run`; it is deferred until that record is durable.
    ///
    /// True when it is time for `mature`: a tablet that nobody writes to any more, where files are removed,
    /// would else remember each of their runs.
    pub fn free(
        &self,
        purpose: Purpose,
        run: Run,
        ticket: Ticket,
        edits: &mut Vec<FreeEdit>,
    ) -> bool {
        let age = self.reads.close_age();
        let mut side = self.side(purpose).borrow_mut();
        if planted(Sabotage::RunReusedEarly) && side.is_loaded(run.start) {
            side.free.insert(run);
            side.hint = Some(run.start);
        } else {
            side.deferred.push_back(Deferred { ticket, age, run });
        }
        side.add_item(purpose, run, edits);
        side.deferred.len() % DEFERRED_BETWEEN == DEFERRED_BETWEEN - 1
    }

    /// The record that is being applied brings `run` from another tablet, where it was free.
    pub fn receive(&self, purpose: Purpose, run: Run, ticket: Ticket, edits: &mut Vec<FreeEdit>) {
        let mut side = self.side(purpose).borrow_mut();
        side.arriving.push_back((ticket, run));
        side.add_item(purpose, run, edits);
    }
}

impl Side {
    /// Adds a free-run item, merged with its neighbours where they are known.
    fn add_item(&mut self, purpose: Purpose, run: Run, edits: &mut Vec<FreeEdit>) {
        let side = self;
        side.total += run.blocks;
        if !side.is_loaded(run.start) {
            edits.push((Key::free_run(purpose, run.start), Some(run.blocks)));
            return;
        }
        let mut merged = run;
        let before = side.items.range(..run.start).next_back().map(|(s, b)| Run::new(*s, *b));
        if let Some(before) = before.filter(|before| before.end() == run.start) {
            side.items.remove(&before.start);
            edits.push((Key::free_run(purpose, before.start), None));
            merged = Run::new(before.start, before.blocks + merged.blocks);
        }
        if side.is_loaded(run.end())
            && let Some(blocks) = side.items.remove(&run.end())
        {
            edits.push((Key::free_run(purpose, run.end()), None));
            merged.blocks += blocks;
        }
        side.items.insert(merged.start, merged.blocks);
        edits.push((Key::free_run(purpose, merged.start), Some(merged.blocks)));
    }
}

/// The free run to allocate from: on from the hint, in the run it lies in or the next one, if that is
/// large enough; then the shortest that is; then the longest.
fn pick(side: &Side, want: u64) -> Option<Run> {
    if let Some(hint) = side.hint
        && let Some(run) = side.free.covering(hint)
    {
        let rest = Run::new(hint, run.end().index() - hint.index());
        if rest.blocks >= want {
            return Some(rest);
        }
    }
    let next = side.hint.and_then(|hint| side.free.first_from(hint));
    next.filter(|run| run.blocks >= want)
        .or_else(|| side.free.shortest_of(want))
        .or_else(|| side.free.longest())
}

/// Blocks a permit counts on.
pub struct Promise {
    space: Rc<Space>,
    purpose: Purpose,
    blocks: u64,
}

impl Promise {
    pub fn blocks(&self) -> u64 {
        self.blocks
    }

    /// Takes over another promise of the same tablet and purpose.
    pub fn absorb(&mut self, mut other: Promise) {
        assert!(Rc::ptr_eq(&self.space, &other.space) && self.purpose == other.purpose);
        self.blocks += std::mem::take(&mut other.blocks);
    }

    /// Gives back all but `blocks`.
    pub fn shrink(&mut self, blocks: u64) {
        let back = self.blocks.saturating_sub(blocks);
        self.space.side(self.purpose).borrow_mut().promised -= back;
        self.blocks -= back;
    }
}

impl Drop for Promise {
    fn drop(&mut self) {
        self.space.side(self.purpose).borrow_mut().promised -= self.blocks;
    }
}

/// Runs an operation holds. What it does not take goes back when this is dropped.
pub struct Reservation {
    space: Rc<Space>,
    purpose: Purpose,
    id: HoldId,
    runs: Vec<Run>,
}

impl Reservation {
    pub fn runs(&self) -> &[Run] {
        &self.runs
    }

    pub fn blocks(&self) -> u64 {
        self.runs.iter().map(|run| run.blocks).sum()
    }

    pub fn absorb(&mut self, mut other: Reservation) {
        assert!(Rc::ptr_eq(&self.space, &other.space) && self.purpose == other.purpose);
        let mut side = self.space.side(self.purpose).borrow_mut();
        for run in &other.runs {
            side.reserved.hand_over(other.id, self.id, *run);
        }
        drop(side);
        self.runs.append(&mut other.runs);
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        let mut side = self.space.side(self.purpose).borrow_mut();
        for run in &self.runs {
            // What a record took is not its own any more.
            for left in side.reserved.end(self.id, *run) {
                side.free.insert(left);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(start: u64, blocks: u64) -> Run {
        Run::new(BlockNo::new(DeviceId(0), start), blocks)
    }

    /// A long write links part of its blocks; those are freed, and handed to somebody else, while it is
    /// still at the rest.
    #[test]
    fn a_reservation_that_ends_leaves_alone_what_it_held_once_and_others_hold_now() {
        let space = Space::new(Rc::new(Reads::default()), [0, 0, 8]);
        space.load(Purpose::Data, &[run(64, 8)], None);
        let mut edits = Vec::new();
        let first = space.reserve_data(8);
        space.take(Purpose::Data, run(64, 4), &mut edits);
        space.free(Purpose::Data, run(64, 4), Ticket::NONE, &mut edits);
        assert!(space.mature(true, |_| true));
        let second = space.reserve_data(4);
        assert_eq!(second.runs(), [run(64, 4)]);

        drop(first);
        assert_eq!(space.ready(Purpose::Data), 4);
        let third = space.reserve_data(8);
        assert_eq!(third.runs(), [run(68, 4)], "nobody gets what the second holds");
        space.take(Purpose::Data, run(64, 4), &mut edits);
        drop((second, third));
        assert_eq!((space.ready(Purpose::Data), space.total(Purpose::Data)), (4, 4));
        assert_eq!(space.unpromised(Purpose::Data), 4);
    }

    #[test]
    fn a_tablet_where_files_are_only_removed_remembers_few_of_their_runs() {
        let space = Space::new(Rc::new(Reads::default()), [0; 3]);
        let (mut edits, mut looks) = (Vec::new(), 0);
        for n in 0..10_000 {
            if space.free(Purpose::Data, run(64 + 2 * n, 1), Ticket::NONE, &mut edits) {
                looks += 1;
                space.mature(true, |_| true);
            }
            assert!(space.side(Purpose::Data).borrow().deferred.len() < DEFERRED_BETWEEN);
        }
        assert!((100..200).contains(&looks), "{looks}");
        // While they must be kept, the look is cheap; afterwards their memory is given back.
        for n in 10_000..50_000 {
            if space.free(Purpose::Data, run(64 + 2 * n, 1), Ticket::NONE, &mut edits) {
                space.mature(false, |_| true);
            }
        }
        assert!(space.side(Purpose::Data).borrow().deferred.len() >= 40_000);
        space.mature(true, |_| true);
        let side = space.side(Purpose::Data).borrow();
        assert!(side.deferred.is_empty() && side.deferred.capacity() < 1000);
        assert_eq!(side.free.blocks(), 50_000);
    }
}
