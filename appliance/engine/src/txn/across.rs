//! Operations over tablets of several shards.
//!
//! The shard of the operation's home tablet coordinates. *Prepare*, in inode order: each participant
//! takes a permit, locks the inode against change, and tells what it is (`Fact`) when that is
//! durable. With all facts in hand the coordinator decides, in one synchronous stretch, exactly as
//! it would if everything were here. *Commit*: one record holds its own changes and a `pending` item
//! with what each other participant is to change. Once that is durable each participant applies its
//! part in one record, with a `done` item, and unlocks; then the operation is answered. `pending` is
//! deleted when every `done` is durable, `done` when that deletion is.
//!
//! Nothing is durable before commit, so a crash before it leaves nothing. A crash after it leaves
//! `pending`, and open applies every part that has no `done` before anybody is served
//! (`Shard::finish_pending`). A participant's part cannot fail for want of room: its permit is held
//! since prepare. Where damage hides what it is about, the other parts are applied and this one is given up:
//! that is told, and its client hears EIO. Locks are taken in inode order, one at a time, so two operations never wait for
//! each other; a participant with no slot free answers `Busy` before anything is held.

use crate::error::FsError;
use crate::item::Entry;
use crate::log::{self, Ticket};
use crate::peer::{Answer, Ask, mismatch};
use crate::sabotage::{Sabotage, planted};
use crate::shard::Shard;
use crate::trouble::{During, Trouble};
use crate::txn::{Class, Need, Permit, Stop, View};
use cairn_base::door::Doors;
use cairn_format::item::{InodeItem, PartChange};
use cairn_format::key::{Key, ParsedKey, RANGE_DONE, RANGE_PENDING};
use cairn_format::{Damage, InodeNo, OpId, ShardId, TabletId};
use cairn_reactor::Slot;
use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::rc::Rc;

/// What an operation wants held and told.
#[derive(Clone, Debug)]
pub enum Watch {
    /// An inode, and what these names stand for in it.
    Inode { ino: InodeNo, names: Vec<Box<[u8]>> },
    /// A new inode number.
    NewInode { tablet: TabletId },
    /// Room for an edit that no inode guards.
    Tablet { tablet: TabletId },
}

impl Watch {
    fn tablet(&self) -> TabletId {
        match self {
            Watch::Inode { ino, .. } => ino.tablet(),
            Watch::NewInode { tablet } | Watch::Tablet { tablet } => *tablet,
        }
    }

    /// Locks are taken in inode order; what takes no lock comes last.
    fn order(&self) -> u64 {
        match self {
            Watch::Inode { ino, .. } => ino.raw(),
            Watch::NewInode { .. } | Watch::Tablet { .. } => u64::MAX,
        }
    }
}

/// What a participant told, under its lock.
#[derive(Clone, Debug)]
pub enum Fact {
    Inode { ino: InodeNo, item: InodeItem, entries: Vec<Option<Entry>> },
    NewInode(InodeNo),
    Tablet,
}

/// The facts of one operation.
pub struct Facts(Vec<Fact>);

impl Facts {
    /// A watched inode.
    pub fn item(&self, of: InodeNo) -> InodeItem {
        self.find(of).0
    }

    /// What the watched names of an inode stand for.
    pub fn entries(&self, of: InodeNo) -> &[Option<Entry>] {
        self.find(of).1
    }

    pub fn new_inode(&self) -> InodeNo {
        let found = self.0.iter().find_map(|fact| match fact {
            Fact::NewInode(ino) => Some(*ino),
            _ => None,
        });
        found.expect("a new inode number was asked for")
    }

    fn find(&self, of: InodeNo) -> (InodeItem, &[Option<Entry>]) {
        let found = self.0.iter().find_map(|fact| match fact {
            Fact::Inode { ino, item, entries } if *ino == of => Some((*item, &entries[..])),
            _ => None,
        });
        found.expect("only watched inodes are asked about")
    }
}

/// Bytes of edits that one part makes at most.
const PART_BYTES: usize = 8 << 10;

type Slots = BTreeMap<ShardId, Slot<Ask, Answer>>;

impl<D: Doors> Shard<D> {
    /// Runs an operation that needs shards beside this one, which owns `home`.
    pub async fn across<R>(
        self: &Rc<Self>,
        home: TabletId,
        class: Class,
        mut watches: Vec<Watch>,
        mut decide: impl FnMut(&Facts, &mut View<'_>) -> Result<(Vec<PartChange>, R), Stop>,
    ) -> Result<R, FsError> {
        let op = self.next_op_id();
        let mut slots = Slots::new();
        for watch in &watches {
            let owner = self.core.pool.owner(watch.tablet());
            if owner != self.core.id && !slots.contains_key(&owner) {
                let slot = match class {
                    Class::Room => self.slot_for_room(owner).await?,
                    Class::Growing | Class::Freeing | Class::Placing => self.peers.open(owner)?,
                };
                slots.insert(owner, slot);
            }
        }
        watches.sort_by_key(Watch::order);
        let prepared = self.prepare_all(op, class, &watches, &mut slots).await;
        let (facts, permit) = match prepared {
            Ok(facts) => match self.permit(&Need::new(class, &[home], PART_BYTES)).await {
                Ok(permit) => (facts, permit),
                Err(error) => return self.abandon(op, slots, error).await,
            },
            Err(error) => return self.abandon(op, slots, error).await,
        };
        let decided = self
            .apply(&permit, Some(op), |view| {
                let (changes, result) = decide(&facts, view)?;
                let (here, there): (Vec<_>, Vec<_>) =
                    changes.into_iter().partition(|part| self.core.owns(part.tablet()));
                for part in &here {
                    view.apply_change(part)?;
                }
                if !there.is_empty() {
                    put_pending(view, home, op, &there);
                }
                newborn(&there).for_each(|ino| self.core.locks.expect_birth(ino));
                Ok((there, result))
            })
            .await;
        let ((there, result), ticket) = match decided {
            Ok(decided) => decided,
            Err(error) => return self.abandon(op, slots, error).await,
        };
        drop(permit);
        // In doubt when this fails: the shard has stopped, and only the next open can decide. The
        // others refuse what their locks stand for until then.
        let expected: Vec<InodeNo> = newborn(&there).collect();
        let applied = self.settle_and_apply(op, home, ticket, there, slots).await;
        expected.into_iter().for_each(|ino| self.core.locks.born(ino));
        applied?;
        Ok(result)
    }

    async fn settle_and_apply(
        self: &Rc<Self>,
        op: OpId,
        home: TabletId,
        ticket: Ticket,
        there: Vec<PartChange>,
        slots: Slots,
    ) -> Result<(), FsError> {
        let settled = match planted(Sabotage::ApplyBeforeCommit) {
            true => Ok(()),
            false => self.settle(ticket).await,
        };
        if let Err(error) = settled {
            for slot in slots.into_values() {
                self.tell(slot, Ask::Doubt { op }).await;
            }
            return Err(error);
        }
        self.release(op);
        self.core.counters.across_commits.add(1);
        self.apply_everywhere(op, home, there, slots).await
    }

    async fn prepare_all(
        self: &Rc<Self>,
        op: OpId,
        class: Class,
        watches: &[Watch],
        slots: &mut Slots,
    ) -> Result<Facts, FsError> {
        let mut facts = Vec::with_capacity(watches.len());
        for watch in watches {
            let owner = self.core.pool.owner(watch.tablet());
            let fact = match slots.get_mut(&owner) {
                None => self.prepare(op, watch, 0, class).await?,
                Some(slot) => {
                    let watch = watch.clone();
                    let ask = Ask::Prepare { op, watch, bytes: PART_BYTES, class };
                    match slot.ask(ask).await {
                        Answer::Fact(fact) => fact?,
                        other => mismatch(&other),
                    }
                }
            };
            facts.push(fact);
        }
        Ok(Facts(facts))
    }

    /// Undoes a prepare, here and there, and answers `error`.
    async fn abandon<R>(&self, op: OpId, slots: Slots, error: FsError) -> Result<R, FsError> {
        self.release(op);
        for slot in slots.into_values() {
            self.tell(slot, Ask::Abandon { op }).await;
        }
        Err(error)
    }

    /// Tells a participant how it ends. One that has stopped is not to keep it from the others.
    async fn tell(&self, mut slot: Slot<Ask, Answer>, ask: Ask) {
        let _stopped = slot.ask(ask).await;
    }

    async fn apply_everywhere(
        self: &Rc<Self>,
        op: OpId,
        home: TabletId,
        there: Vec<PartChange>,
        mut slots: Slots,
    ) -> Result<(), FsError> {
        let committed = !there.is_empty();
        let mut tablets: BTreeMap<ShardId, Vec<TabletId>> = BTreeMap::new();
        let mut parts: BTreeMap<ShardId, Vec<PartChange>> = BTreeMap::new();
        for part in there {
            let owner = self.core.pool.owner(part.tablet());
            tablets.entry(owner).or_default().push(part.tablet());
            parts.entry(owner).or_default().push(part);
        }
        // All of them are told, whichever fails: it stops, and the rest go on.
        let (mut applied, mut damage) = (Ok(()), Ok(()));
        for (owner, slot) in &mut slots {
            let ask = match parts.remove(owner) {
                Some(changes) => Ask::Apply { op, changes },
                None => Ask::Abandon { op },
            };
            match slot.ask(ask).await.done() {
                Err(error) if error.is_trouble() => damage = Err(error),
                done => applied = applied.and(done),
            }
        }
        applied?;
        if committed {
            let shard = Rc::clone(self);
            let cleanup = async move {
                // What is left undone here is done at the next open.
                let _unfinished = shard.clean_up(op, home, tablets, slots).await;
            };
            // A closing gate means that the shard stops: the same.
            let _closed = self.gate.spawn(cleanup);
        }
        damage
    }

    async fn clean_up(
        self: &Rc<Self>,
        op: OpId,
        home: TabletId,
        tablets: BTreeMap<ShardId, Vec<TabletId>>,
        mut slots: Slots,
    ) -> Result<(), FsError> {
        let need = Need::new(Class::Room, &[home], PART_BYTES);
        let ((), ticket) = self
            .transact(need, |view| {
                drop_pending(view, home, op);
                Ok(())
            })
            .await?;
        self.settle(ticket).await?;
        for (owner, tablets) in tablets {
            match slots.get_mut(&owner) {
                Some(slot) => slot.ask(Ask::Forget { op, tablets }).await.done()?,
                None => self.forget(op, &tablets).await?,
            }
        }
        Ok(())
    }

    /// First phase, on the participant (or here, for the coordinator's own inodes).
    pub(crate) async fn prepare(
        self: &Rc<Self>,
        op: OpId,
        watch: &Watch,
        bytes: usize,
        class: Class,
    ) -> Result<Fact, FsError> {
        if bytes > 0 {
            let permit = self.permit(&Need::new(class, &[watch.tablet()], bytes)).await?;
            self.parts.borrow_mut().entry(op).or_default().push(permit);
        }
        match watch {
            Watch::Tablet { .. } => Ok(Fact::Tablet),
            Watch::NewInode { tablet } => {
                let need = Need::new(Class::Growing, &[*tablet], 512);
                let (ino, ticket) = self.transact(need, |view| view.new_inode_no(*tablet)).await?;
                self.settle(ticket).await?;
                Ok(Fact::NewInode(ino))
            }
            Watch::Inode { ino, names } => {
                if !planted(Sabotage::LockNotTaken) {
                    self.core.locks.acquire(*ino, op).await?;
                }
                let fact = self
                    .read_with(|view| {
                        let item = view.inode(*ino)?;
                        let entries: Result<Vec<_>, Stop> =
                            names.iter().map(|name| view.entry(*ino, name)).collect();
                        Ok(Fact::Inode { ino: *ino, item, entries: entries? })
                    })
                    .await?;
                self.settle(self.log.newest_ticket()).await?;
                Ok(fact)
            }
        }
    }

    /// Second phase, on the participant: once, however often it is asked.
    pub(crate) async fn apply_part(
        self: &Rc<Self>,
        op: OpId,
        changes: &[PartChange],
    ) -> Result<(), FsError> {
        let permits = self.parts.borrow_mut().remove(&op).unwrap_or_default();
        let applied = match permits.first() {
            // Prepared, so it has not been applied. To look for the note would read the tablets' trees, for what
            // is not there, and damage in them must not be met now any more.
            Some(permit) => {
                self.apply_changes(permit, op, changes, &tablets_of(changes), false).await
            }
            None => self.apply_late(op, changes).await,
        };
        drop(permits);
        match applied {
            // What was read when it was prepared was written out since, and cannot be read again.
            Err(error) if error.is_trouble() && !self.log.has_failed() => {
                let tablet = tablets_of(changes)[0];
                self.note(Trouble { during: During::Finishing(tablet), ino: None, error });
            }
            // It is committed, and what is shown here is older: only an open can bring that together.
            Err(error) => {
                self.log.fail(error);
                return Err(FsError::Stopped);
            }
            Ok(()) => {}
        }
        self.release(op);
        applied
    }

    /// After a restart: what was promised before the crash is owed still, unless damage hides what it is about.
    async fn apply_late(self: &Rc<Self>, op: OpId, changes: &[PartChange]) -> Result<(), FsError> {
        for tablet in tablets_of(changes) {
            let permit = self.permit(&Need::new(Class::Room, &[tablet], PART_BYTES)).await?;
            match self.apply_changes(&permit, op, changes, &[tablet], true).await {
                Err(error) if error.is_trouble() && !self.log.has_failed() => {
                    self.note(Trouble { during: During::Finishing(tablet), ino: None, error });
                }
                applied => applied?,
            }
        }
        Ok(())
    }

    async fn apply_changes(
        &self,
        permit: &Permit<D>,
        op: OpId,
        changes: &[PartChange],
        tablets: &[TabletId],
        may_be_done: bool,
    ) -> Result<(), FsError> {
        let applied = self.apply(permit, Some(op), |view| {
            for tablet in tablets {
                let looks = may_be_done && !planted(Sabotage::PartAppliedTwice);
                if looks && view.get(*tablet, &Key::done(op))?.is_some() {
                    continue;
                }
                for part in changes.iter().filter(|part| part.tablet() == *tablet) {
                    view.apply_change(part)?;
                }
                view.put(*tablet, Key::done(op), &[]);
                let totals = view.totals(*tablet);
                totals.done = (totals.done.get() + 1).into();
            }
            Ok(())
        });
        let ((), ticket) = applied.await?;
        self.settle(ticket).await
    }

    /// Lets go of everything `op` holds here.
    pub(crate) fn release(&self, op: OpId) {
        self.parts.borrow_mut().remove(&op);
        self.core.locks.release(op);
    }

    /// The pending item is durably gone, so the notes that its parts were applied can go.
    pub(crate) async fn forget(
        self: &Rc<Self>,
        op: OpId,
        tablets: &[TabletId],
    ) -> Result<(), FsError> {
        let need = Need::new(Class::Room, tablets, PART_BYTES);
        self.transact(need, |view| {
            for tablet in tablets {
                drop_done(view, *tablet, op)?;
            }
            Ok(())
        })
        .await?;
        Ok(())
    }

    /// At open: applies every part of a committed operation that has not been applied, and deletes
    /// the pending items. Notes of parts stay until every shard has come this far.
    ///
    /// What damage hides is given up, durably, and told: applied at a later open, when clients have gone on,
    /// it would do more harm than it mends.
    pub(crate) async fn finish_pending(self: &Rc<Self>) -> Result<(), FsError> {
        for tablet in self.tablets_with(|totals| totals.pending.get() > 0) {
            let Pending { operations, void, damage } = self.pending_of(tablet).await?;
            for (op, changes) in operations {
                if !planted(Sabotage::PendingIgnored) {
                    self.apply_recovered(op, changes).await?;
                }
                self.end_pending(tablet, |view| drop_pending(view, tablet, op)).await?;
            }
            if let Some(error) = damage {
                self.note(Trouble { during: During::Finishing(tablet), ino: None, error });
            }
            if damage.is_some() || !void.is_empty() {
                let give_up = |view: &mut View<'_>| {
                    void.iter().for_each(|op| view.delete(tablet, Key::pending(*op)));
                    view.totals(tablet).pending = 0.into();
                };
                self.end_pending(tablet, give_up).await?;
            }
        }
        Ok(())
    }

    async fn end_pending(
        self: &Rc<Self>,
        tablet: TabletId,
        end: impl Fn(&mut View<'_>),
    ) -> Result<(), FsError> {
        let need = Need::new(Class::Room, &[tablet], PART_BYTES);
        let ((), ticket) = self
            .transact(need, |view| {
                end(view);
                Ok(())
            })
            .await?;
        self.settle(ticket).await
    }

    async fn apply_recovered(
        self: &Rc<Self>,
        op: OpId,
        changes: Vec<PartChange>,
    ) -> Result<(), FsError> {
        let mut parts: BTreeMap<ShardId, Vec<PartChange>> = BTreeMap::new();
        for part in changes {
            parts.entry(self.core.pool.owner(part.tablet())).or_default().push(part);
        }
        for (owner, changes) in parts {
            if owner == self.core.id {
                self.apply_part(op, &changes).await?;
            } else {
                self.peers.ask(owner, Ask::Apply { op, changes }).await?.done()?;
            }
        }
        Ok(())
    }

    async fn pending_of(&self, id: TabletId) -> Result<Pending, FsError> {
        let tablet = self.core.tablet(id);
        let (from, end) = Pending::range();
        let mut newest = Pending::default();
        for (key, entry) in tablet.active.borrow().range(from, end) {
            if let log::Entry::Put { value, .. } = entry {
                // What is wrong is told below.
                let _damage = newest.take(key, value);
            }
        }
        let count = tablet.totals.get().pending.get() as usize;
        // They are young: mostly no tree has to be read for them.
        if newest.operations.len() == count {
            return Ok(newest);
        }
        let read = self.read_with(|view| {
            let mut all = Pending::default();
            let mut damage = None;
            view.scan(id, from, end, |key, value| {
                damage = damage.or(all.take(&key, value).err());
                ControlFlow::Continue(())
            })?;
            damage.map_or(Ok(all), |damage| Err(view.damaged(id, damage)))
        });
        match read.await {
            Ok(mut all) => {
                all.void_all_but(count);
                Ok(all)
            }
            Err(error) if error.is_trouble() => Ok(Pending { damage: Some(error), ..newest }),
            Err(error) => Err(error),
        }
    }

    /// At open, once no shard has anything pending: the notes of applied parts go. Those that damage hides
    /// stay, and stand for nothing.
    pub(crate) async fn forget_all_done(self: &Rc<Self>) -> Result<(), FsError> {
        for tablet in self.tablets_with(|totals| totals.done.get() > 0) {
            match self.forget_done_of(tablet).await {
                Err(error) if error.is_trouble() && !self.log.has_failed() => {
                    self.note(Trouble { during: During::Upkeep(tablet), ino: None, error });
                }
                forgotten => forgotten?,
            }
        }
        Ok(())
    }

    async fn forget_done_of(self: &Rc<Self>, tablet: TabletId) -> Result<(), FsError> {
        let done = self
            .read_with(|view| {
                let mut found = Vec::new();
                let prefix = Key::of_range(RANGE_DONE);
                view.scan(tablet, prefix, prefix.prefix_end(), |key, _| {
                    if let Some(ParsedKey::Done(op)) = key.parse() {
                        found.push(op);
                    }
                    ControlFlow::Continue(())
                })?;
                Ok(found)
            })
            .await?;
        for op in done {
            self.forget(op, &[tablet]).await?;
        }
        Ok(())
    }

    fn tablets_with(
        &self,
        test: impl Fn(&cairn_format::tablet_root::Totals) -> bool,
    ) -> Vec<TabletId> {
        let matching = self.core.tablets().filter(|tablet| test(&tablet.totals.get()));
        matching.map(|tablet| tablet.id).collect()
    }
}

/// What a tablet has pending when the pool opens.
#[derive(Default)]
struct Pending {
    operations: Vec<(OpId, Vec<PartChange>)>,
    /// Given up at an earlier open, when they could not be read.
    void: Vec<OpId>,
    /// Hides the others.
    damage: Option<FsError>,
}

impl Pending {
    fn range() -> (Key, Key) {
        let prefix = Key::of_range(RANGE_PENDING);
        (prefix, prefix.prefix_end())
    }

    fn take(&mut self, key: &Key, value: &[u8]) -> Result<(), Damage> {
        let Some(ParsedKey::Pending(op)) = key.parse() else {
            return Err(Damage::Value("pending key"));
        };
        self.operations.push((op, PartChange::parse_all(value)?));
        Ok(())
    }

    /// There are as many as the totals say: the newest.
    fn void_all_but(&mut self, count: usize) {
        self.operations.sort_by_key(|(op, _)| (op.epoch, op.counter));
        let surplus = self.operations.len().saturating_sub(count);
        self.void.extend(self.operations.drain(..surplus).map(|(op, _)| op));
    }
}

fn tablets_of(changes: &[PartChange]) -> Vec<TabletId> {
    let mut tablets: Vec<TabletId> = changes.iter().map(PartChange::tablet).collect();
    tablets.sort_unstable();
    tablets.dedup();
    tablets
}

/// Directories that other shards are to make.
fn newborn(parts: &[PartChange]) -> impl Iterator<Item = InodeNo> + '_ {
    parts.iter().filter_map(|part| match part {
        PartChange::NewDirectory { ino, .. } => Some(*ino),
        _ => None,
    })
}

fn put_pending(view: &mut View<'_>, home: TabletId, op: OpId, there: &[PartChange]) {
    let mut value = Vec::new();
    there.iter().for_each(|part| part.encode(&mut value));
    view.put_new(home, Key::pending(op), &value);
    let totals = view.totals(home);
    totals.pending = (totals.pending.get() + 1).into();
}

fn drop_pending(view: &mut View<'_>, home: TabletId, op: OpId) {
    view.delete(home, Key::pending(op));
    let totals = view.totals(home);
    totals.pending = (totals.pending.get() - 1).into();
}

fn drop_done(view: &mut View<'_>, tablet: TabletId, op: OpId) -> Result<(), Stop> {
    if view.get(tablet, &Key::done(op))?.is_some() {
        view.delete(tablet, Key::done(op));
        let totals = view.totals(tablet);
        totals.done = (totals.done.get() - 1).into();
    }
    Ok(())
}
