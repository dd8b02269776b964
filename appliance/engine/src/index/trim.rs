//! Trimming the deletion index: the note of a deletion goes when nobody can need it any more.
//!
//! Nobody can when it is old (30 days) and every named consumer has gone by (`consumer.rs`). A tablet
//! with more notes than its bound gives up the oldest all the same, since one consumer that was forgotten
//! must not fill the pool; long before, the consumer that holds them back is named, in `status` and in the
//! daemon's log.
//!
//! Whoever comes too late must hear it. So the record that deletes notes also puts the place of the last
//! one into the tablet, as an item of its own beside them: both are there after a crash, or neither. A
//! reader finds it in the stretch that reads the notes (`stream.rs`), and never reads over a gap. A tablet
//! that a reader may skip has trimmed nothing above its newest change.
//!
//! Each shard trims its own tablets, in the background, a bounded number of notes in a record. Before each
//! step it asks the owner of tablet 1 where the slowest consumer is, and holds its turn from there to the
//! end of the step, so that a consumer that is added meanwhile can wait for what does not know it. Nothing
//! above what is stable goes. A tablet whose oldest note may not go yet is not looked at again before it
//! may, or before a round ends.

use super::change::Place;
use super::consumer::{Consumer, ConsumerName};
use crate::error::FsError;
use crate::limits::{
    DELETION_ENTRY_BYTES, DELETIONS_ALARM_PERCENT, DELETIONS_POOL_PART, DELETIONS_TABLET_MIN,
};
use crate::shard::Shard;
use crate::tablet::Tablet;
use crate::trouble::{During, Trouble};
use crate::txn::{Class, Need, Stop, View};
use cairn_base::door::Doors;
use cairn_base::{BLOCK_BYTES, Nanos};
use cairn_format::item::TrimmedItem;
use cairn_format::key::{Key, ParsedKey, RANGE_DELETION};
use cairn_format::{Seq, TabletId};
use cairn_reactor::{Semaphore, WaitList, race};
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::rc::Rc;
use zerocopy::IntoBytes;

const END: Place = (Seq(u64::MAX), u64::MAX);

/// Notes that one record deletes. With their keys some 8 KiB.
const STEP_MAX: usize = 128;
/// Of such a record: a deletion mark with its key.
const ITEM_BYTES: usize = 128;
/// Between two steps.
const STEP_PAUSE: Nanos = Nanos::from_millis(5);

/// The deletion index of one shard, for its operator.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DeletionsStatus {
    pub entries: u64,
    /// Of the tablet with the most, and the bound of each tablet.
    pub entries_fullest: u64,
    pub entries_tablet_max: u64,
    /// Notes trimmed since the start, and those of them that a consumer had not passed.
    pub trimmed: u64,
    pub trimmed_unseen: u64,
    /// The consumer that holds notes back of which there are nearly too many, or more.
    pub held_by: Option<ConsumerName>,
}

pub(crate) struct Trims {
    /// One change of a consumer at a time; on tablet 1's owner.
    pub turn_of_consumers: Semaphore,
    /// Held by a step from its question to the end of its record.
    turn: Semaphore,
    changed: WaitList,
    /// Who held a tablet's notes back when it was looked at last, while it had nearly too many.
    alarm: RefCell<Option<ConsumerName>>,
    /// The oldest note of a tablet that was looked at: younger ones come behind it.
    oldest: RefCell<BTreeMap<TabletId, Place>>,
}

impl Default for Trims {
    fn default() -> Trims {
        Trims {
            turn_of_consumers: Semaphore::new(1),
            turn: Semaphore::new(1),
            changed: WaitList::new(),
            alarm: RefCell::default(),
            oldest: RefCell::default(),
        }
    }
}

impl Trims {
    pub fn wake(&self) {
        self.changed.wake_all();
    }
}

/// What a step may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Bound {
    stable: Seq,
    /// Consumers have passed up to and with this.
    passed: Place,
    /// Notes at or above this are too young.
    young: Seq,
    /// So many go in any case, oldest first.
    excess: u64,
}

impl Bound {
    /// May the tablet's `nth` note, counted from the oldest, go?
    fn takes(&self, nth: u64, place: Place) -> bool {
        let is_due = place <= self.passed && place.0 < self.young;
        place.0 <= self.stable && (is_due || nth < self.excess)
    }
}

impl<D: Doors> Shard<D> {
    /// The trimming task; ends when the shard stops.
    pub(crate) async fn run_trims(self: Rc<Self>) {
        while self.pause_trims(self.config.trim_round).await {
            let tablets: Vec<Rc<Tablet>> = self.core.tablets().cloned().collect();
            let mut alarm = None;
            for tablet in tablets {
                while tablet.totals.get().deletions.get() > 0 && !self.is_stopping() {
                    match self.trim_step(&tablet, &mut alarm).await {
                        Ok(0) => break,
                        Ok(_) => {}
                        Err(FsError::Stopped) => return,
                        // Full, damaged, or a neighbour is busy: the next round comes here again.
                        Err(error) => {
                            if error.is_trouble() {
                                let during = During::Upkeep(tablet.id);
                                self.note(Trouble { during, ino: None, error });
                            }
                            break;
                        }
                    }
                    if !self.pause_trims(STEP_PAUSE).await {
                        return;
                    }
                }
            }
            self.trims.alarm.replace(alarm);
        }
    }

    /// False when the shard stops.
    async fn pause_trims(&self, pause: Nanos) -> bool {
        let stopped = self
            .trims
            .changed
            .until(|| (self.is_stopping() || self.log.has_failed()).then_some(()));
        race(self.handle.sleep(pause), stopped).await;
        !self.is_stopping() && !self.log.has_failed()
    }

    /// How many notes of a tablet there may be.
    pub(crate) fn deletions_max(&self) -> u64 {
        let bytes = self.core.pool.blocks() * BLOCK_BYTES as u64;
        let tablets = u64::from(self.core.pool.tablets);
        let share = bytes / DELETIONS_POOL_PART / tablets / DELETION_ENTRY_BYTES;
        share.max(DELETIONS_TABLET_MIN).min(self.config.deletions_tablet_max)
    }

    /// Trims what may go of a tablet, some at most; how many.
    async fn trim_step(
        self: &Rc<Self>,
        tablet: &Tablet,
        alarm: &mut Option<ConsumerName>,
    ) -> Result<usize, FsError> {
        let id = tablet.id;
        let Some(oldest) = self.oldest_deletion(id).await? else { return Ok(0) };
        let max = self.deletions_max();
        let nearly = max * DELETIONS_ALARM_PERCENT / 100;
        let young = Seq(self.wall_us().saturating_sub(self.config.deletion_age.0 / 1000));
        let count = tablet.totals.get().deletions.get();
        if count <= nearly && oldest.0 >= young {
            return Ok(0);
        }
        let _turn = self.trims.turn.acquire(1).await;
        let (passed, consumer) = match self.slowest_consumer().await? {
            Some(slowest) => (slowest.passed(), Some(slowest.name)),
            None => (END, None),
        };
        if let Some(consumer) = consumer.filter(|_| count > nearly && oldest > passed) {
            alarm.get_or_insert(consumer.clone());
            self.trims.alarm.replace(Some(consumer));
        }
        let bound = Bound { stable: self.stable().await?, passed, young, excess: 0 };
        if !(Bound { excess: count.saturating_sub(max), ..bound }).takes(0, oldest) {
            return Ok(0);
        }
        let prefix = Key::of_range(RANGE_DELETION);
        let need = Need::new(Class::Freeing, &[id], STEP_MAX * ITEM_BYTES);
        let trimmed = self.transact(need, |view| {
            let excess = view.tablet(id).totals.get().deletions.get().saturating_sub(max);
            let bound = Bound { excess, ..bound };
            let mut gone: Vec<(Key, Place)> = Vec::new();
            view.scan(id, prefix, prefix.prefix_end(), |key, _| {
                let Some(place) = place_of(&key) else { return ControlFlow::Break(()) };
                if gone.len() >= STEP_MAX || !bound.takes(gone.len() as u64, place) {
                    return ControlFlow::Break(());
                }
                gone.push((key, place));
                ControlFlow::Continue(())
            })?;
            let Some((_, last)) = gone.last().copied() else { return Ok((0, 0)) };
            for (key, _) in &gone {
                view.delete(id, *key);
            }
            let item = TrimmedItem { seq: last.0.0.into(), inode: last.1.into() };
            view.put(id, Key::trimmed(), item.as_bytes());
            let totals = view.totals(id);
            totals.deletions = (totals.deletions.get() - gone.len() as u64).into();
            let unseen = gone.iter().filter(|(_, place)| *place > bound.passed).count();
            Ok((gone.len(), unseen))
        });
        let ((gone, unseen), _) = trimmed.await?;
        self.trims.oldest.borrow_mut().remove(&id);
        self.core.counters.deletions_trimmed.add(gone as u64);
        self.core.counters.deletions_trimmed_unseen.add(unseen as u64);
        Ok(gone)
    }

    /// Read once, as long as nothing is trimmed: a note that comes is younger than all that are there.
    async fn oldest_deletion(&self, id: TabletId) -> Result<Option<Place>, FsError> {
        if let Some(oldest) = self.trims.oldest.borrow().get(&id) {
            return Ok(Some(*oldest));
        }
        let prefix = Key::of_range(RANGE_DELETION);
        let first = self.read_with(|view| view.first(id, prefix, prefix.prefix_end())).await?;
        let oldest = first.and_then(|(key, _)| place_of(&key));
        if let Some(oldest) = oldest {
            self.trims.oldest.borrow_mut().insert(id, oldest);
        }
        Ok(oldest)
    }

    async fn slowest_consumer(self: &Rc<Self>) -> Result<Option<Consumer>, FsError> {
        Ok(self.consumers().await?.into_iter().min_by_key(Consumer::passed))
    }

    /// Up to where deletions of this shard's tablets were trimmed, between two steps.
    pub(crate) async fn trimmed_here(self: &Rc<Self>) -> Result<Option<Place>, FsError> {
        let _turn = self.trims.turn.acquire(1).await;
        let tablets: Vec<TabletId> = self.core.tablets().map(|tablet| tablet.id).collect();
        let mut newest = None;
        for id in tablets {
            newest = newest.max(self.read_with(|view| trimmed(view, id, Seq(0))).await?);
        }
        Ok(newest)
    }

    /// The deletion index of this shard's tablets.
    pub(crate) fn deletions_here(&self) -> DeletionsStatus {
        let mut status = DeletionsStatus {
            entries_tablet_max: self.deletions_max(),
            trimmed: self.core.counters.deletions_trimmed.get(),
            trimmed_unseen: self.core.counters.deletions_trimmed_unseen.get(),
            held_by: self.trims.alarm.borrow().clone(),
            ..DeletionsStatus::default()
        };
        for tablet in self.core.tablets() {
            let entries = tablet.totals.get().deletions.get();
            status.entries += entries;
            status.entries_fullest = status.entries_fullest.max(entries);
        }
        status
    }

    /// Who holds so many notes back that the oldest will go unseen, or go already.
    pub fn deletions_alarm(&self) -> Option<DeletionsStatus> {
        self.trims.alarm.borrow().is_some().then(|| self.deletions_here())
    }
}

/// Up to where the tablet's deletions were trimmed, if that is at `since` or behind it: read once, then
/// remembered. It names a deletion that was there, so it is in no tree whose entries are all older.
pub(super) fn trimmed(view: &View<'_>, id: TabletId, since: Seq) -> Result<Option<Place>, Stop> {
    let tablet = view.tablet(id);
    if let Some(known) = tablet.trimmed.get() {
        return Ok(known);
    }
    let value = view.get_newer(id, &Key::trimmed(), since)?;
    let item = value.map(|value| TrimmedItem::parse(&value)).transpose();
    let item = item.map_err(|damage| view.damaged(id, damage))?;
    let place = item.map(|item| (Seq(item.seq.get()), item.inode.get()));
    if place.is_some() || since == Seq(0) {
        tablet.trimmed.set(Some(place));
    }
    Ok(place)
}

fn place_of(key: &Key) -> Option<Place> {
    match key.parse() {
        Some(ParsedKey::Deletion(seq, ino)) => Some((seq, ino.raw())),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_note_goes_when_it_is_old_and_was_passed_or_there_are_too_many() {
        let bound = Bound { stable: Seq(100), passed: (Seq(50), 7), young: Seq(60), excess: 0 };
        assert!(bound.takes(0, (Seq(50), 7)));
        assert!(!bound.takes(0, (Seq(50), 8)), "a consumer has still to come by");
        let passed = Bound { passed: END, ..bound };
        assert!(passed.takes(9, (Seq(59), 9)));
        assert!(!passed.takes(0, (Seq(60), 1)), "too young");
        let crowded = Bound { excess: 2, ..bound };
        assert!(crowded.takes(1, (Seq(100), 1)));
        assert!(!crowded.takes(2, (Seq(100), 1)), "the others stay");
        assert!(!crowded.takes(0, (Seq(101), 1)), "a crash may take it back");
    }
}
