//! What one shard may ask of another: a closed list, carried by bounded mail.
//!
//! A request that opens something may meet `Busy`; what follows through the same slot never does
//! (`cairn_reactor::Post`). Everything here is plain data that can cross threads.

use crate::error::FsError;
use crate::index::{Change, Consumer, Tend};
use crate::limits::{PEER_OPEN_KEPT, PEER_OPEN_MAX};
use crate::once::CallKey;
use crate::op::{Reply, Request};
use crate::scrub::{Command, Damaged, Order, Part};
use crate::shard::Shard;
use crate::status::ShardStatus;
use crate::txn::Class;
use crate::txn::across::{Fact, Watch};
use cairn_base::door::Doors;
use cairn_base::{DeviceId, Run};
use cairn_format::item::{PartChange, ScrubItem};
use cairn_format::key::{Key, Purpose};
use cairn_format::{InodeNo, OpId, Seq, ShardId, TabletId};
use cairn_reactor::{Letter, Port, Post, Replier, Slot};
use std::rc::Rc;

#[derive(Debug)]
pub enum Ask {
    /// Run an operation whose home is there.
    Op {
        request: Box<Request>,
        /// Set for what must not be carried out twice.
        once: Option<CallKey>,
    },
    /// First phase: lock and tell (`txn/across.rs`).
    Prepare {
        op: OpId,
        watch: Watch,
        bytes: usize,
        class: Class,
    },
    /// Second phase: the operation is committed.
    Apply {
        op: OpId,
        changes: Vec<PartChange>,
    },
    /// The operation will not be: let go.
    /// Second phase: the coordinator stopped while it committed, and nobody knows.
    Doubt {
        op: OpId,
    },
    Abandon {
        op: OpId,
    },
    /// The coordinator's pending item is gone for good.
    Forget {
        op: OpId,
        tablets: Vec<TabletId>,
    },
    /// The pool's one lock for moves of directories; asked of tablet 1's owner.
    LockRenames {
        op: OpId,
    },
    UnlockRenames {
        op: OpId,
    },
    /// The parent of a directory; `None` for the root.
    ParentOf(InodeNo),
    /// A zone for a tablet of the asker; asked of tablet 1's owner. False: there is none.
    Zone {
        tablet: TabletId,
        purpose: Purpose,
        class: Class,
        /// So many adjoining ones, if there are plenty.
        zones: u64,
    },
    /// Give wholly free zones back to tablet 1. True: there were some.
    ReturnZones,
    /// Fold what tablets owe until zones can be given back. True: there were some.
    FoldForZones,
    /// Raise your clock to this and say what is stable.
    Stable(Seq),
    /// Entries of a seq index.
    Walk {
        range: u8,
        from: (Seq, u64),
        to: (Seq, u64),
        max: usize,
    },
    /// Changes of all kinds, by seq.
    Changes {
        from: (Seq, u64),
        floor: Seq,
        to: (Seq, u64),
        max: usize,
    },
    /// Change a consumer of the change stream; asked of tablet 1's owner.
    Consumer(Tend),
    /// All consumers; asked of tablet 1's owner.
    Consumers,
    /// Up to where deletions were trimmed.
    Trimmed,
    Status,
    /// Start, pause or cancel a scrub; asked of tablet 1's owner.
    Scrub(Command),
    /// The order as it stands; asked of tablet 1's owner.
    ScrubPlan,
    /// What is to be scrubbed from now on.
    ScrubOrder(Order),
    /// How far this shard is in a pass.
    ScrubPart(u64),
    /// The asker has done its part of a pass; asked of tablet 1's owner.
    ScrubDone(u64),
    /// What is known to be damaged behind a place.
    Damage {
        after: Option<(TabletId, Key)>,
        max: usize,
    },
    /// Look how long the devices are now.
    Measure,
    /// Tablet 1 gets what a device has grown by, unless it has it; asked of its owner.
    TakeUp(Run),
    /// So many blocks of the device may be used from now on.
    Grown {
        device: DeviceId,
        blocks: u64,
    },
    /// Unassigned blocks of each device; asked of tablet 1's owner.
    Unassigned,
    /// This shard has recovered its tablets; answered when the pool's new epoch is durable.
    Recovered,
    /// This shard has applied what it had pending; answered when all have.
    Applied,
}

#[derive(Debug)]
pub enum Answer {
    Op(Result<Box<Reply>, FsError>),
    Fact(Result<Fact, FsError>),
    Done(Result<(), FsError>),
    Parent(Result<Option<InodeNo>, FsError>),
    Zone(Result<bool, FsError>),
    Stable(Seq),
    Walk(Result<Vec<(Seq, InodeNo)>, FsError>),
    Changes(Result<Vec<Change>, FsError>),
    Consumers(Result<Vec<Consumer>, FsError>),
    Trimmed(Result<Option<(Seq, u64)>, FsError>),
    Status(Box<ShardStatus>),
    Unassigned(Result<Vec<u64>, FsError>),
    ScrubPlan(Result<ScrubItem, FsError>),
    ScrubPart(Part),
    Damage(Result<Vec<Damaged>, FsError>),
}

pub type Mail = Letter<Ask, Answer>;

pub struct Peers {
    post: Post<Ask, Answer>,
}

/// Ports for all shards of one daemon.
pub fn ports(shards: usize) -> Vec<Port<Mail>> {
    Post::<Ask, Answer>::mesh(shards, PEER_OPEN_MAX)
}

impl Peers {
    pub fn new(port: Port<Mail>) -> Peers {
        Peers { post: Post::new(port, PEER_OPEN_MAX, PEER_OPEN_KEPT) }
    }

    pub fn port(&self) -> &Port<Mail> {
        self.post.port()
    }

    pub fn open(&self, to: ShardId) -> Result<Slot<Ask, Answer>, FsError> {
        self.post.open(usize::from(to.0)).map_err(|_| FsError::Busy)
    }

    /// For what makes room: operations that hold slots wait for it.
    pub fn open_kept(&self, to: ShardId) -> Result<Slot<Ask, Answer>, FsError> {
        self.post.open_kept(usize::from(to.0)).map_err(|_| FsError::Busy)
    }

    pub async fn ask(&self, to: ShardId, ask: Ask) -> Result<Answer, FsError> {
        let mut slot = self.open(to)?;
        Ok(slot.ask(ask).await)
    }
}

/// The answer was not one to this question: the lists above do not match.
pub(crate) fn mismatch(answer: &Answer) -> ! {
    unreachable!("an answer to another question: {answer:?}")
}

impl Answer {
    pub(crate) fn done(self) -> Result<(), FsError> {
        match self {
            Answer::Done(result) => result,
            other => mismatch(&other),
        }
    }
}

impl<D: Doors> Shard<D> {
    /// This shard's mailbox, for the loop around it: sleeping and waking.
    pub fn port(&self) -> &Port<Mail> {
        self.peers.port()
    }

    /// Takes in mail and starts what it asks for. Gives how many letters there were.
    pub fn poll_mail(self: &Rc<Self>) -> usize {
        self.peers.post.poll(|from, ask, replier| {
            if self.gate.is_closed() {
                // This shard has ended; its peers are about to.
                replier.reply(self.refuse(&ask));
                return;
            }
            let shard = Rc::clone(self);
            let from = ShardId(from as u16);
            let served = self.gate.spawn(async move { shard.serve(from, ask, replier).await });
            assert!(served.is_ok(), "the gate was open a moment ago");
        })
    }

    fn refuse(&self, ask: &Ask) -> Answer {
        let stopped = FsError::Stopped;
        match ask {
            Ask::Op { .. } => Answer::Op(Err(stopped)),
            Ask::Prepare { .. } => Answer::Fact(Err(stopped)),
            Ask::Apply { .. }
            | Ask::Abandon { .. }
            | Ask::Doubt { .. }
            | Ask::Forget { .. }
            | Ask::LockRenames { .. }
            | Ask::UnlockRenames { .. }
            | Ask::Measure
            | Ask::Consumer(_)
            | Ask::Scrub(_)
            | Ask::ScrubOrder(_)
            | Ask::ScrubDone(_)
            | Ask::TakeUp(_)
            | Ask::Grown { .. }
            | Ask::Recovered
            | Ask::Applied => Answer::Done(Err(stopped)),
            Ask::ParentOf(_) => Answer::Parent(Err(stopped)),
            Ask::Zone { .. } | Ask::ReturnZones | Ask::FoldForZones => Answer::Zone(Err(stopped)),
            Ask::Stable(_) => Answer::Stable(Seq(0)),
            Ask::Walk { .. } => Answer::Walk(Err(stopped)),
            Ask::Changes { .. } => Answer::Changes(Err(stopped)),
            Ask::Consumers => Answer::Consumers(Err(stopped)),
            Ask::Trimmed => Answer::Trimmed(Err(stopped)),
            Ask::Status => Answer::Status(Box::new(self.status_here())),
            Ask::Unassigned => Answer::Unassigned(Err(stopped)),
            Ask::ScrubPlan => Answer::ScrubPlan(Err(stopped)),
            Ask::ScrubPart(pass) => Answer::ScrubPart(self.part_here(*pass)),
            Ask::Damage { .. } => Answer::Damage(Err(stopped)),
        }
    }

    async fn serve(self: Rc<Self>, from: ShardId, ask: Ask, replier: Replier<Ask, Answer>) {
        let answer = match ask {
            Ask::Op { request, once } => {
                Answer::Op(self.run_once(*request, once).await.map(Box::new))
            }
            Ask::Prepare { op, watch, bytes, class } => {
                Answer::Fact(self.prepare(op, &watch, bytes, class).await)
            }
            Ask::Apply { op, changes } => Answer::Done(self.apply_part(op, &changes).await),
            Ask::Abandon { op } => {
                self.release(op);
                Answer::Done(Ok(()))
            }
            Ask::Doubt { op } => {
                self.core.locks.doubt(op);
                Answer::Done(Ok(()))
            }
            Ask::Forget { op, tablets } => Answer::Done(self.forget(op, &tablets).await),
            Ask::LockRenames { op } => {
                let guard = self.rename_lock.acquire(1).await;
                self.rename_held.borrow_mut().insert(op, guard);
                Answer::Done(Ok(()))
            }
            Ask::UnlockRenames { op } => {
                self.rename_held.borrow_mut().remove(&op);
                Answer::Done(Ok(()))
            }
            Ask::ParentOf(dir) => Answer::Parent(self.parent_of(dir).await),
            Ask::Zone { tablet, purpose, class, zones } => {
                Answer::Zone(self.hand_out_zone(tablet, purpose, class, zones).await)
            }
            Ask::ReturnZones => Answer::Zone(self.return_zones().await),
            Ask::FoldForZones => Answer::Zone(self.fold_here_for_zones().await),
            Ask::Stable(seen) => Answer::Stable(self.stable_here(seen).await),
            Ask::Walk { range, from, to, max } => {
                Answer::Walk(self.walk_here(range, from, to, max).await)
            }
            Ask::Changes { from, floor, to, max } => {
                Answer::Changes(self.changes_here(from, floor, to, max).await)
            }
            Ask::Consumer(tend) => Answer::Done(self.tend_here(tend).await),
            Ask::Consumers => Answer::Consumers(self.consumers_here().await),
            Ask::Trimmed => Answer::Trimmed(self.trimmed_here().await),
            Ask::Status => Answer::Status(Box::new(self.status_here())),
            Ask::Measure => {
                self.measure_here();
                Answer::Done(Ok(()))
            }
            Ask::TakeUp(run) => Answer::Done(self.take_up_here(run).await),
            Ask::Grown { device, blocks } => {
                self.grown_here(device, blocks);
                Answer::Done(Ok(()))
            }
            Ask::Unassigned => Answer::Unassigned(self.unassigned_here().await),
            Ask::Scrub(command) => Answer::Done(self.command_here(command).await),
            Ask::ScrubPlan => Answer::ScrubPlan(Ok(self.plan().await)),
            Ask::ScrubOrder(order) => {
                self.order_here(order);
                Answer::Done(Ok(()))
            }
            Ask::ScrubPart(pass) => Answer::ScrubPart(self.part_here(pass)),
            Ask::ScrubDone(pass) => Answer::Done(self.done_here(pass).await),
            Ask::Damage { after, max } => Answer::Damage(self.damage_here(after, max).await),
            Ask::Recovered => {
                self.barrier.recovered(from).await;
                Answer::Done(Ok(()))
            }
            Ask::Applied => {
                self.barrier.applied(from).await;
                Answer::Done(Ok(()))
            }
        };
        replier.reply(answer);
    }
}
