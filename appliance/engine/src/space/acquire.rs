//! How a tablet gets space: from its own deferred and unloaded runs, then a zone of tablet 1, then
//! zones that other tablets have wholly free. ENOSPC only when none of them has any.
//!
//! A snapshot (`snapshot.rs`) keeps freed runs for as long as a check takes. Nobody waits for that:
//! what it keeps is passed over while zones are plenty, and when they are few it is given up.

use crate::error::FsError;
use crate::failpoint::{Point, fails};
use crate::limits::{FREE_RUNS_LOAD, NODE_UNIT, ZONES_AT_ONCE_BLOCKS};
use crate::log::is_damage;
use crate::peer::{Answer, Ask, mismatch};
use crate::pool::Device;
use crate::shard::Shard;
use crate::space::{Promise, Reservation, find_wholly_free, zone_piece};
use crate::tablet::Tablet;
use crate::trouble::{During, Trouble};
use crate::txn::across::Watch;
use crate::txn::{Class, Need};
use cairn_base::door::Doors;
use cairn_base::{BlockNo, Nanos, Run};
use cairn_format::item::{FreeRunItem, PartChange};
use cairn_format::key::{Key, ParsedKey, Purpose};
use cairn_format::{InodeNo, ShardId, TabletId};
use cairn_reactor::Slot;
use std::ops::ControlFlow;
use std::rc::Rc;

/// The tablet that has every run no other tablet has.
pub const SPACE_TABLET: TabletId = InodeNo::ROOT.tablet();

/// Below this part of the pool in zones of nobody a snapshot is given up, and zones go out one by one: a zone
/// that is taken in place of what a snapshot keeps, or beyond what is needed, has a purpose from then on, and
/// comes back only when it is wholly free.
const PLENTY_SHARE: u64 = 8;

/// How often zones are looked for again while earlier reads end, a millisecond each.
const RETURN_TURNS: usize = 100;

/// Bytes of edits of one zone's move, at most.
const ZONE_EDIT_BYTES: usize = 2 << 10;

impl<D: Doors> Shard<D> {
    /// Promises data blocks, taking zones as needed.
    pub(crate) async fn promise_data(
        self: &Rc<Self>,
        id: TabletId,
        blocks: u64,
    ) -> Result<Promise, FsError> {
        let tablet = self.core.tablet(id);
        loop {
            if let Some(promise) = tablet.space.promise(Purpose::Data, blocks, 0) {
                return Ok(promise);
            }
            if Box::pin(self.take_zone(id, Purpose::Data, Class::Growing)).await? {
                continue;
            }
            let is_shared = |device: &Device| device.holds_nodes && device.holds_data;
            if !self.core.pool.devices.iter().any(is_shared) || !self.fold_for_zones().await? {
                return Err(self.no_space());
            }
        }
    }

    /// Why there is no room: the pool is full, or damage hides what is free.
    pub(crate) fn no_space(&self) -> FsError {
        self.zones_hidden.get().unwrap_or(FsError::NoSpace)
    }

    /// Makes more space ready to be reserved, if need be with a zone.
    pub(crate) async fn more_space(
        self: &Rc<Self>,
        tablet: &Rc<Tablet>,
        purpose: Purpose,
    ) -> Result<(), FsError> {
        let before = tablet.space.ready(purpose);
        if self.ready_more(tablet, purpose).await? {
            return Ok(());
        }
        // Nodes are for a freeze or a fold, which make room in the end.
        let class = if purpose == Purpose::Node { Class::Room } else { Class::Growing };
        if Box::pin(self.take_zone(tablet.id, purpose, class)).await? {
            return Ok(());
        }
        if tablet.space.is_kept(purpose, self.kept_from()) {
            self.give_up_snapshot();
        }
        // Also when it was given up by somebody else, or ended, meanwhile.
        let more = self.ready_more(tablet, purpose).await? || tablet.space.ready(purpose) > before;
        if more { Ok(()) } else { Err(FsError::NoSpace) }
    }

    /// Makes more of what the tablet has ready to be reserved: deferred runs that are safe by now,
    /// items that were not loaded yet; else waits a moment for readers and the log. False when there
    /// is nothing to wait for.
    async fn ready_more(
        self: &Rc<Self>,
        tablet: &Rc<Tablet>,
        purpose: Purpose,
    ) -> Result<bool, FsError> {
        if self.mature(tablet) {
            return Ok(true);
        }
        if tablet.space.unloaded_from(purpose).is_some() {
            self.load_runs(tablet, purpose).await?;
            return Ok(true);
        }
        // Before the epoch has begun nothing that was freed may be reused, however long we wait.
        if tablet.space.has_waiting(purpose, self.epoch_begun.get(), self.kept_from()) {
            self.settle(self.log.newest_ticket()).await?;
            if !self.mature(tablet) {
                self.handle.sleep(Nanos::from_millis(1)).await;
            }
            return Ok(true);
        }
        Ok(false)
    }

    pub(crate) fn mature(&self, tablet: &Tablet) -> bool {
        tablet.space.mature(self.epoch_begun.get(), |ticket| self.log.is_settled(ticket))
    }

    /// Every unassigned run, for who must know them all; on the owner of tablet 1.
    pub(crate) async fn load_unassigned(&self) -> Result<Rc<Tablet>, FsError> {
        let tablet = self.core.tablet(SPACE_TABLET);
        while tablet.space.unloaded_from(Purpose::Unassigned).is_some() {
            self.load_runs(&tablet, Purpose::Unassigned).await?;
        }
        Ok(tablet)
    }

    /// Loads some more of the tablet's free runs. Those that cannot be read are done without: a tablet
    /// without them, and each other one that asks all for a zone, takes another.
    pub(crate) async fn load_runs(
        &self,
        tablet: &Rc<Tablet>,
        purpose: Purpose,
    ) -> Result<(), FsError> {
        match self.load_some_runs(tablet, purpose).await {
            Err(error) if is_damage(error) => {
                tablet.space.give_up_unloaded(purpose);
                if purpose == Purpose::Unassigned {
                    self.zones_hidden.set(Some(error));
                }
                self.note(Trouble { during: During::Upkeep(tablet.id), ino: None, error });
                Ok(())
            }
            loaded => loaded,
        }
    }

    async fn load_some_runs(&self, tablet: &Rc<Tablet>, purpose: Purpose) -> Result<(), FsError> {
        self.read_with(|view| {
            let Some(from) = tablet.space.unloaded_from(purpose) else { return Ok(()) };
            let prefix = Key::of_purpose(purpose);
            let mut runs: Vec<Run> = Vec::new();
            let mut next = None;
            let mut damage = None;
            view.scan(
                tablet.id,
                Key::free_run(purpose, from),
                prefix.prefix_end(),
                |key, value| {
                    let Some(ParsedKey::FreeRun(_, start)) = key.parse() else {
                        damage = Some(cairn_format::Damage::Value("free run key"));
                        return ControlFlow::Break(());
                    };
                    if runs.len() == FREE_RUNS_LOAD {
                        next = Some(start);
                        return ControlFlow::Break(());
                    }
                    match FreeRunItem::parse(value).and_then(|item| item.run(start)) {
                        Ok(run) => runs.push(run),
                        Err(bad) => damage = Some(bad),
                    }
                    ControlFlow::Continue(())
                },
            )?;
            if let Some(damage) = damage {
                return Err(view.damaged(tablet.id, damage));
            }
            tablet.space.load(purpose, &runs, next);
            Ok(())
        })
        .await
    }

    /// Gets a zone for one of this shard's tablets. False when no tablet of the pool has one that `class`
    /// may have.
    pub(crate) async fn take_zone(
        self: &Rc<Self>,
        tablet: TabletId,
        purpose: Purpose,
        class: Class,
    ) -> Result<bool, FsError> {
        let before = self.core.tablet(tablet).space.unpromised(purpose);
        let _turn = self.zone_turn.acquire(1).await;
        if self.core.tablet(tablet).space.unpromised(purpose) > before {
            // Somebody who waited for the same has brought one meanwhile.
            return Ok(true);
        }
        if class == Class::Growing && fails(Point::Zone) {
            return Ok(false);
        }
        match self.ask_for_zone(tablet, purpose, class).await {
            Err(error) if is_damage(error) => self.zones_hidden.set(Some(error)),
            Ok(false) => {}
            given => return given,
        }
        let mut returned = self.return_zones().await?;
        for shard in (0..self.core.pool.shards).map(ShardId).filter(|id| *id != self.core.id) {
            match self.ask_for_room(shard, Ask::ReturnZones).await? {
                Answer::Zone(some) => returned |= some?,
                other => mismatch(&other),
            }
        }
        if !returned {
            return Ok(false);
        }
        match self.ask_for_zone(tablet, purpose, class).await {
            Err(error) if is_damage(error) => Ok(false),
            given => given,
        }
    }

    async fn ask_for_zone(
        self: &Rc<Self>,
        tablet: TabletId,
        purpose: Purpose,
        class: Class,
    ) -> Result<bool, FsError> {
        let owner = self.core.pool.owner(SPACE_TABLET);
        let zones = match purpose {
            Purpose::Data => self.core.tablet(tablet).space.zones_at_once(self.handle.now()),
            Purpose::Node | Purpose::Unassigned => 1,
        };
        if owner == self.core.id {
            return self.hand_out_zone(tablet, purpose, class, zones).await;
        }
        match self.ask_for_room(owner, Ask::Zone { tablet, purpose, class, zones }).await? {
            Answer::Zone(zone) => zone,
            other => mismatch(&other),
        }
    }

    async fn ask_for_room(&self, to: ShardId, ask: Ask) -> Result<Answer, FsError> {
        let mut slot = self.slot_for_room(to).await?;
        Ok(slot.ask(ask).await)
    }

    /// Waits for one of the slots that are kept for this: whoever is refused a zone because its
    /// neighbour is busy would have to fail although there is room.
    pub(crate) async fn slot_for_room(&self, to: ShardId) -> Result<Slot<Ask, Answer>, FsError> {
        loop {
            if self.log.has_failed() || self.gate.is_closed() {
                return Err(FsError::Stopped);
            }
            if let Ok(slot) = self.peers.open_kept(to) {
                return Ok(slot);
            }
            self.handle.sleep(Nanos::from_millis(1)).await;
        }
    }

    /// On the owner of tablet 1: moves a zone to `tablet`, wherever that is, or up to `zones` adjoining ones
    /// while they are plenty.
    pub(crate) async fn hand_out_zone(
        self: &Rc<Self>,
        tablet: TabletId,
        purpose: Purpose,
        class: Class,
        zones: u64,
    ) -> Result<bool, FsError> {
        let pool = &self.core.pool;
        let unit = if purpose == Purpose::Node { NODE_UNIT } else { 1 };
        let space = self.core.tablet(SPACE_TABLET);
        let are_few = space.space.total(Purpose::Unassigned) < pool.blocks() / PLENTY_SHARE;
        if are_few {
            self.give_up_snapshot();
        }
        let most = |zone_blocks: u64| match are_few {
            true => 1,
            false => zones.min(ZONES_AT_ONCE_BLOCKS / zone_blocks),
        };
        let choose = |free: &super::RunSet| {
            let usable = || free.iter().map(|run| pool.usable(run));
            let for_nodes = |run: &Run| pool.serves(run.start.device(), Purpose::Node);
            let spare = usable().filter(for_nodes).map(|run| run.blocks).sum::<u64>();
            let spare = spare.saturating_sub(pool.zone_blocks_kept());
            let may_have =
                |piece: &Run| class != Class::Growing || !for_nodes(piece) || piece.blocks <= spare;
            let serves = |run: &Run| pool.serves(run.start.device(), purpose);
            let pieces = usable().filter(serves);
            let pieces = pieces.filter_map(|run| {
                let zone_blocks = pool.zone_blocks(run.start);
                zone_piece(run, zone_blocks, unit, most(zone_blocks))
            });
            pieces
                .filter(may_have)
                .max_by_key(|piece| (piece.blocks, std::cmp::Reverse(piece.start)))
        };
        let held = loop {
            if let Some(held) = space.space.reserve_one(Purpose::Unassigned, choose) {
                break held;
            }
            if !self.ready_more(&space, Purpose::Unassigned).await? {
                return self.zones_hidden.get().map_or(Ok(false), Err);
            }
        };
        self.move_run(held, (SPACE_TABLET, Purpose::Unassigned), (tablet, purpose)).await?;
        self.core.counters.zones_taken.add(1);
        Ok(true)
    }

    /// Gives every wholly free zone of this shard's tablets back to tablet 1.
    pub(crate) async fn return_zones(self: &Rc<Self>) -> Result<bool, FsError> {
        // Zones are few: what merges hold may be in the way of a whole one, and can be done without.
        for tablet in self.core.tablets() {
            self.give_up_merges(tablet);
        }
        if self.return_free_zones().await? {
            return Ok(true);
        }
        // What was freed until now, and is not free yet, may make zones whole.
        let age = self.core.reads.close_age() + 1;
        let reuse = self.epoch_begun.get();
        let waits = |tablet: &Rc<Tablet>| {
            let purposes = [Purpose::Node, Purpose::Data];
            tablet.merges.is_letting_go()
                || purposes.into_iter().any(|side| tablet.space.has_waiting(side, reuse, Some(age)))
        };
        for turn in 0..RETURN_TURNS {
            if !self.core.tablets().any(waits) {
                return Ok(false);
            }
            self.give_up_snapshot();
            if turn == 0 {
                self.settle(self.log.newest_ticket()).await?;
            } else {
                self.handle.sleep(Nanos::from_millis(1)).await;
            }
            if self.return_free_zones().await? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    async fn return_free_zones(self: &Rc<Self>) -> Result<bool, FsError> {
        let tablets: Vec<Rc<Tablet>> = self.core.tablets().cloned().collect();
        let mut any = false;
        for tablet in tablets {
            for purpose in [Purpose::Node, Purpose::Data] {
                while tablet.space.unloaded_from(purpose).is_some()
                    && tablet.space.total(purpose) > 0
                {
                    self.load_runs(&tablet, purpose).await?;
                }
                self.mature(&tablet);
                while let Some(held) = self.spare_zone(&tablet, purpose) {
                    let to = (SPACE_TABLET, Purpose::Unassigned);
                    self.move_run(held, (tablet.id, purpose), to).await?;
                    self.core.counters.zones_returned.add(1);
                    any = true;
                }
            }
        }
        if any {
            self.settle(self.log.newest_ticket()).await?;
        }
        Ok(any)
    }

    /// A zone the tablet does not need: wholly free, beyond what is promised, owed and reserved.
    fn spare_zone(&self, tablet: &Rc<Tablet>, purpose: Purpose) -> Option<Reservation> {
        let keep = match purpose {
            Purpose::Node => crate::txn::node_blocks_kept(tablet),
            Purpose::Data | Purpose::Unassigned => 0,
        };
        let zone_blocks = |block: BlockNo| self.core.pool.zone_blocks(block);
        let spare = tablet.space.unpromised(purpose).saturating_sub(keep);
        tablet.space.reserve_one(purpose, |free| {
            find_wholly_free(free, zone_blocks).filter(|zone| zone.blocks <= spare)
        })
    }

    /// Moves a reserved run from a tablet of this shard to any tablet: an operation over tablets. Between two
    /// tablets of this shard it is one record, which is not waited for: the run can be promised from now on,
    /// and is reserved only when that record is stable (`Space::receive`).
    async fn move_run(
        self: &Rc<Self>,
        held: Reservation,
        from: (TabletId, Purpose),
        to: (TabletId, Purpose),
    ) -> Result<(), FsError> {
        let run = held.runs()[0];
        if self.core.owns(to.0) {
            let need = Need::new(Class::Room, &[from.0, to.0], ZONE_EDIT_BYTES);
            let moved = self.transact(need, |view| {
                view.take_run(from.0, from.1, run);
                view.receive_run(to.0, to.1, run);
                Ok(())
            });
            moved.await?;
            return Ok(());
        }
        let watches = vec![Watch::Tablet { tablet: to.0 }];
        self.across(from.0, Class::Room, watches, |_, view| {
            view.take_run(from.0, from.1, run);
            let part = PartChange::AddRun { tablet: to.0, purpose: to.1, run };
            Ok((vec![part], ()))
        })
        .await
    }
}
