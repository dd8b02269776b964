//! Who says what is scrubbed: the owner of tablet 1, where the order stands as an item.
//!
//! An order is durable before any shard hears of it, so that a restart goes on with it; then every shard is
//! told. A shard that has come to the end of its part says so, and when all have, the pass has ended. After
//! a restart each shard is told again, finds what its tablets have come to, and says again that it is done.
//!
//! Where the item cannot be written because the pool is full, the order holds until the daemon ends. Where it
//! cannot be read there is none; a new pass still gets a number above all earlier ones, since that is the
//! time.

use super::{Damaged, Order, Part};
use crate::error::FsError;
use crate::peer::{Answer, Ask, mismatch};
use crate::shard::Shard;
use crate::txn::{Class, Need};
use cairn_base::door::{Clock, Doors};
use cairn_format::item::{SCRUB_IDLE, SCRUB_PAUSED, SCRUB_RUNNING, ScrubItem};
use cairn_format::key::Key;
use cairn_format::{InodeNo, ShardId, TabletId};
use std::rc::Rc;
use zerocopy::IntoBytes;

/// Rate of a pass that was begun without one, bytes a second of the whole pool: what a busy pool of disks
/// has to spare.
const RATE_DEFAULT: u64 = 200 << 20;

/// The tablet that has the order.
const PLAN_TABLET: TabletId = InodeNo::ROOT.tablet();

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Command {
    /// Begins a pass, goes on with one that is paused, or joins the one that runs; with another rate
    /// where one is given.
    Start { rate: Option<u64> },
    /// Stays where it is, over restarts as well.
    Pause,
    /// Ends without a result; what was found stays listed.
    Cancel,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ScrubState {
    /// None has begun, or the last one has ended.
    #[default]
    Idle,
    Running,
    Paused,
}

/// A pass as a whole.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ScrubReport {
    pub state: ScrubState,
    /// 0: there was none.
    pub pass: u64,
    /// Bytes a second of the whole pool; 0: no bound.
    pub rate: u64,
    /// Nanoseconds since 1970.
    pub began: u64,
    /// Of the last pass that came to its end; 0: none has.
    pub ended: u64,
    /// What that one had found.
    pub findings_ended: u64,
    /// Of this pass, all shards together.
    pub part: Part,
}

impl<D: Doors> Shard<D> {
    fn plan_owner(&self) -> ShardId {
        self.core.pool.owner(PLAN_TABLET)
    }

    /// Carries out a command, from any shard.
    pub async fn scrub(self: &Rc<Self>, command: Command) -> Result<ScrubReport, FsError> {
        if self.plan_owner() == self.core.id {
            self.command_here(command).await?;
        } else {
            self.peers.ask(self.plan_owner(), Ask::Scrub(command)).await?.done()?;
        }
        self.scrub_report().await
    }

    /// How far the pass is, from any shard.
    pub async fn scrub_report(self: &Rc<Self>) -> Result<ScrubReport, FsError> {
        let plan = if self.plan_owner() == self.core.id {
            self.plan().await
        } else {
            match self.peers.ask(self.plan_owner(), Ask::ScrubPlan).await? {
                Answer::ScrubPlan(plan) => plan?,
                other => mismatch(&other),
            }
        };
        let part = self.parts(plan.pass.get()).await?;
        Ok(ScrubReport {
            state: match plan.state {
                SCRUB_RUNNING => ScrubState::Running,
                SCRUB_PAUSED => ScrubState::Paused,
                _ => ScrubState::Idle,
            },
            pass: plan.pass.get(),
            rate: plan.rate.get(),
            began: plan.began.get(),
            ended: plan.ended.get(),
            findings_ended: plan.findings.get(),
            part,
        })
    }

    /// What is known to be damaged behind a place, from any shard, in order of tablet and key; nothing
    /// at the end. What is not there any more is left out.
    pub async fn damage(
        self: &Rc<Self>,
        after: Option<(TabletId, Key)>,
        max: usize,
    ) -> Result<Vec<Damaged>, FsError> {
        let mut all = self.damage_here(after, max).await?;
        for id in (0..self.core.pool.shards).map(ShardId).filter(|id| *id != self.core.id) {
            match self.peers.ask(id, Ask::Damage { after, max }).await? {
                Answer::Damage(more) => all.extend(more?),
                other => mismatch(&other),
            }
        }
        all.sort_unstable_by_key(|damaged| (damaged.tablet, damaged.key()));
        all.truncate(max);
        Ok(all)
    }

    async fn parts(self: &Rc<Self>, pass: u64) -> Result<Part, FsError> {
        let mut sum = Part::default();
        for id in (0..self.core.pool.shards).map(ShardId) {
            let part = if id == self.core.id {
                self.part_here(pass)
            } else {
                match self.peers.ask(id, Ask::ScrubPart(pass)).await? {
                    Answer::ScrubPart(part) => part,
                    other => mismatch(&other),
                }
            };
            sum.tablets += part.tablets;
            sum.tablets_done += part.tablets_done;
            sum.nodes += part.nodes;
            sum.blocks += part.blocks;
            sum.findings += part.findings;
            sum.unlisted += part.unlisted;
            sum.unsaved |= part.unsaved;
            sum.is_loading |= part.is_loading;
        }
        Ok(sum)
    }

    /// The order, on the owner of tablet 1.
    pub(crate) async fn plan(&self) -> ScrubItem {
        if let Some(plan) = self.scrub.plan.get() {
            return plan;
        }
        let value = self.read_with(|view| view.get(PLAN_TABLET, &Key::scrub())).await;
        let parsed = value.ok().flatten().and_then(|value| ScrubItem::parse(&value).ok());
        let plan = parsed.unwrap_or(ScrubItem::NONE);
        // Somebody else may have come first, with an order.
        let plan = self.scrub.plan.get().unwrap_or(plan);
        self.scrub.plan.set(Some(plan));
        plan
    }

    async fn keep_plan(self: &Rc<Self>, plan: ScrubItem) -> Result<(), FsError> {
        let need = Need::new(Class::Growing, &[PLAN_TABLET], Need::SMALL);
        let written = self.transact(need, |view| {
            view.put(PLAN_TABLET, Key::scrub(), plan.as_bytes());
            Ok(())
        });
        match written.await {
            Ok(((), ticket)) => self.settle(ticket).await?,
            Err(FsError::NoSpace) => self.scrub.unsaved.set(true),
            Err(error) => return Err(error),
        }
        self.scrub.plan.set(Some(plan));
        Ok(())
    }

    pub(crate) async fn command_here(self: &Rc<Self>, command: Command) -> Result<(), FsError> {
        let _turn = self.scrub.turn.acquire(1).await;
        let mut plan = self.plan().await;
        let before = plan;
        match command {
            Command::Start { rate } => {
                if plan.state == SCRUB_IDLE {
                    let now = self.clock.wall().max(0) as u64;
                    plan.pass = (now / 1000).max(plan.pass.get() + 1).into();
                    plan.began = now.into();
                    plan.rate = RATE_DEFAULT.into();
                }
                plan.state = SCRUB_RUNNING;
                if let Some(rate) = rate {
                    plan.rate = rate.into();
                }
            }
            Command::Pause if plan.state == SCRUB_IDLE => return Ok(()),
            Command::Pause => plan.state = SCRUB_PAUSED,
            Command::Cancel => plan.state = SCRUB_IDLE,
        }
        if plan == before {
            return Ok(());
        }
        self.keep_plan(plan).await?;
        self.order_all(&plan).await
    }

    async fn order_all(self: &Rc<Self>, plan: &ScrubItem) -> Result<(), FsError> {
        let shards = u64::from(self.core.pool.shards);
        let rate = match plan.rate.get() {
            0 => 0,
            rate => (rate / shards).max(1),
        };
        let order = Order { pass: plan.pass.get(), rate, runs: plan.state == SCRUB_RUNNING };
        for id in (0..self.core.pool.shards).map(ShardId) {
            if id == self.core.id {
                self.order_here(order);
            } else {
                self.ask_patiently(id, || Ask::ScrubOrder(order)).await?;
            }
        }
        Ok(())
    }

    /// After a start: everybody is told what was ordered before.
    pub(super) async fn resume_plan(self: &Rc<Self>) {
        if self.plan_owner() != self.core.id {
            return;
        }
        let _turn = self.scrub.turn.acquire(1).await;
        let plan = self.plan().await;
        if plan.state != SCRUB_IDLE {
            // A shard that cannot be told is going down, and so are all.
            let _ = self.order_all(&plan).await;
        }
    }

    /// This shard's part of the pass is done.
    pub(super) async fn tell_done(self: &Rc<Self>, pass: u64) {
        // Whoever cannot be told is going down; after a restart all is told again.
        let _ = if self.plan_owner() == self.core.id {
            self.done_here(pass).await
        } else {
            self.ask_patiently(self.plan_owner(), || Ask::ScrubDone(pass)).await
        };
    }

    /// The pass has ended if all parts have.
    pub(crate) async fn done_here(self: &Rc<Self>, pass: u64) -> Result<(), FsError> {
        let _turn = self.scrub.turn.acquire(1).await;
        let mut plan = self.plan().await;
        if plan.pass.get() != pass || plan.state != SCRUB_RUNNING {
            return Ok(());
        }
        let sum = self.parts(pass).await?;
        if sum.tablets_done < sum.tablets {
            return Ok(());
        }
        plan.state = SCRUB_IDLE;
        plan.ended = (self.clock.wall().max(0) as u64).into();
        plan.findings = sum.findings.into();
        self.keep_plan(plan).await
    }
}
