//! One shard's thread, from the core it is pinned to until its engine is closed: what is made in
//! which order, and in which order it ends.
//!
//! The thread goes through phases. It makes its ring, disk and engine, then recovers together with
//! all other shards; it waits for the rules of its frontend, which name directories of the pool and so
//! can only be made now, and listens; it serves until shutdown is asked for; then it closes its frontend,
//! its engine, and ends, in step with the others (`shutdown.rs`). In every phase it polls the same
//! things, so that no shard waits for one that does not answer mail.

use crate::doors::{RealDoors, SystemClock};
use crate::error::{Failure, listen_failure, open_failure};
use crate::frontend::{Buffers, Frontend};
use crate::frontend_mail::{FrontendMail, Letter, Rules};
use crate::memory::Division;
use crate::observed::Observed;
use crate::offline::ring_failure;
use crate::pin::pin;
use crate::place::{Claim, device_failure};
use crate::shard_loop::{Mailbox, ShardLoop};
use crate::shutdown::{Shutdown, Stage};
use crate::tally::Tally;
use crate::told::Told;
use cairn_base::door::Clock;
use cairn_base::ring::{Ring, RingWaker};
use cairn_base::{Arena, Nanos};
use cairn_control::{Bridge, answer};
use cairn_engine::open::ShardSeed;
use cairn_engine::sabotage::{self, Sabotage};
use cairn_engine::{FsError, Mail, Shard};
use cairn_net::Budget;
use cairn_net::listener::{Listener, Sharing};
use cairn_nfs::{NfsConfig, NfsServer};
use cairn_nvme::FileDisk;
use cairn_reactor::{Config as ReactorConfig, Gate, IdlePolicy, Port, Reactor, StallLimit};
use nix::errno::Errno;
use std::cell::RefCell;
use std::future::Future;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use tokio::sync::mpsc::UnboundedSender;

/// Commands that may wait for the kernel at once; more are queued behind them.
const RING_ENTRIES: u32 = 1024;
/// A task that holds its core longer than this is counted, and named in the log at the end.
const STALL: Nanos = Nanos::from_millis(10);

/// What a shard's thread is given. Everything in it may cross threads.
pub struct ShardPlan {
    pub core: Option<usize>,
    pub waker: RingWaker,
    pub arena: Arena,
    pub claim: Arc<Claim>,
    pub seed: ShardSeed,
    pub port: Port<Mail>,
    pub bridge: Bridge,
    pub division: Division,
    pub idle: IdlePolicy,
    pub nfs: Vec<SocketAddr>,
    pub frontend_mail: FrontendMail,
    pub tally: Tally,
    pub shutdown: Shutdown,
    pub news: UnboundedSender<News>,
}

/// What a shard's thread tells the control thread.
#[derive(Debug)]
pub enum News {
    /// Its part of the pool can be asked.
    Recovered,
    /// It listens.
    Serving,
    Failed(Failure),
    /// It has ended, in order or by a panic: the last thing it says.
    Ended,
}

/// Plants the bug that `CAIRN_SABOTAGE` names, so that a test can show that it would be seen.
fn plant_sabotage() {
    let Ok(name) = std::env::var("CAIRN_SABOTAGE") else { return };
    match Sabotage::by_name(&name) {
        Some(bug) => {
            tracing::error!("CAIRN_SABOTAGE={name}: THIS DAEMON LOSES DATA ON PURPOSE");
            sabotage::plant(Some(bug));
        }
        None => tracing::warn!("CAIRN_SABOTAGE={name}: no such bug; nothing is planted"),
    }
}

/// The thread's body.
pub fn run(plan: ShardPlan) {
    plant_sabotage();
    let news = plan.news.clone();
    let _ended = SayEnded(news.clone());
    if let Err(failure) = try_run(plan) {
        // Nobody listens only when the whole daemon is going down already.
        let _ = news.send(News::Failed(failure));
    }
}

/// Says so also when the thread panics.
struct SayEnded(UnboundedSender<News>);

impl Drop for SayEnded {
    fn drop(&mut self) {
        let _ = self.0.send(News::Ended);
    }
}

fn try_run(plan: ShardPlan) -> Result<(), Failure> {
    let ShardPlan { core, waker, arena, claim, mut seed, port, bridge, nfs, shutdown, .. } = plan;
    let (mail, tally) = (plan.frontend_mail, plan.tally);
    if let Some(core) = core
        && let Err(errno) = pin(core)
    {
        tracing::warn!("cannot pin a shard to core {core}: {}", errno.desc());
    }
    let ring = Ring::with_waker(RING_ENTRIES, &waker).map_err(|e| ring_failure(&e))?;
    let clock = SystemClock::new();
    let stall = StallLimit { limit: STALL, clock: Rc::new(move || clock.monotonic()) };
    let reactor = Reactor::new(ReactorConfig { stall: Some(stall), ..ReactorConfig::default() });
    let handle = reactor.handle();
    let disk = FileDisk::new(ring.clone(), arena.clone(), claim.devices());
    let disk = Rc::new(disk.map_err(device_failure)?);
    let wakes = waker.clone();
    port.set_wake(Arc::new(move || wakes.wake()));
    let mut shard_loop = ShardLoop::new(ring.clone(), reactor, clock, plan.idle);

    let shard: Rc<Shard<RealDoors>> =
        Shard::begin(&mut seed, disk, Rc::new(clock), handle.clone(), port, plan.division.shard);
    let lane = Lane {
        shard: shard.clone(),
        bridge,
        calls: handle.gate("control call"),
        observed: Observed::new(&handle, shard_loop.share(), &arena, plan.division.limits),
        mail,
        rules: RefCell::default(),
        frontend: RefCell::default(),
    };
    let phases = handle.gate("shard phase");

    let recovering = shard.clone();
    let recovered =
        shard_loop.finish(&lane, &phases, async move { recovering.recover(seed).await });
    recovered.map_err(|error| open_failure(&error))?;

    let _ = plan.news.send(News::Recovered);
    while lane.rules.borrow().is_none() && !shutdown.is_asked() {
        shard_loop.round(&lane);
    }
    if let Some(Rules { exports, limits }) = lane.rules.take() {
        let bind = |addr: &SocketAddr| Listener::bind(&ring, *addr, Sharing::WithinUser);
        let listeners = nfs.iter().map(bind).collect::<Result<Vec<_>, _>>();
        let listeners = listeners.map_err(|error| listen_failure(&error))?;
        let port = nfs.first().map_or(0, SocketAddr::port);
        let server = NfsServer::new(shard.clone(), NfsConfig { exports, port });
        let Division { held_bytes, open_bytes, .. } = plan.division;
        let budget = Budget::with_open(held_bytes, open_bytes);
        let traffic = lane.observed.serves(&server, &budget);
        let buffers = Buffers { arena, budget };
        let frontend = Frontend::start(&handle, server, listeners, buffers, tally, limits, traffic);
        lane.frontend.replace(Some(frontend));
        let _ = plan.news.send(News::Serving);
    }

    let mut is_told = false;
    let mut told = Told::default();
    while !shutdown.is_asked() {
        shard_loop.round(&lane);
        told.tell(shard.id().0, &shard.troubles, &clock);
        told.tell_lagging(shard.id().0, || shard.deletions_alarm(), &clock);
        if let Some(reason) = shard.failure().filter(|_| !is_told) {
            is_told = true;
            tracing::error!(
                "shard {} takes no more changes: {reason}; look at the device, then start again: \
                 nothing acknowledged is lost (EIO)",
                shard.id().0
            );
        }
    }
    let closing = lane.frontend.borrow().as_ref().map(Frontend::close);
    if let Some(closing) = closing {
        shard_loop.finish(&lane, &phases, closing);
    }
    shutdown.arrive(Stage::FrontendsClosed);
    while !shutdown.all_arrived(Stage::FrontendsClosed) {
        shard_loop.round(&lane);
    }
    let closing = shard.clone();
    let closed = shard_loop.finish(&lane, &phases, async move { closing.stop().await });
    told.tell(shard.id().0, &shard.troubles, &clock);
    shutdown.arrive(Stage::EngineClosed);
    while !shutdown.all_arrived(Stage::EngineClosed) {
        shard_loop.round(&lane);
    }
    let stalls = handle.stalls();
    if stalls.count > 0 {
        let worst_us = stalls.worst.0 / 1000;
        tracing::debug!(
            "{} stalls, the worst {worst_us} us in {}",
            stalls.count,
            stalls.worst_task
        );
    }
    closed.map_err(|error: FsError| {
        Failure::new(
            Errno::from_raw(error.errno()),
            format!("not everything could be written: {error}"),
        )
    })
}

/// What reaches one shard from other threads.
struct Lane {
    shard: Rc<Shard<RealDoors>>,
    bridge: Bridge,
    calls: Gate,
    observed: Rc<Observed>,
    mail: FrontendMail,
    /// What the frontend is to begin with.
    rules: RefCell<Option<Rules>>,
    frontend: RefCell<Option<Frontend>>,
}

impl Lane {
    /// Whoever asked and went away is told nothing.
    fn take_letter(&self, letter: Letter) {
        let frontend = self.frontend.borrow();
        match letter {
            Letter::Use(rules, done) => {
                match &*frontend {
                    Some(frontend) => frontend.use_rules(rules),
                    None => _ = self.rules.replace(Some(rules)),
                }
                let _ = done.send(());
            }
            Letter::Turned(answer) => {
                let turned = frontend.as_ref().map(Frontend::turned).unwrap_or_default();
                let _ = answer.send(turned);
            }
        }
    }
}

impl Mailbox for Lane {
    fn poll(&self) -> usize {
        let letters = self.shard.poll_mail();
        let calls = self.bridge.poll(|request, place| {
            let (shard, observed) = (self.shard.clone(), self.observed.clone());
            let local = move || observed.local();
            let call = async move { place.send(answer(shard, request, local).await) };
            // Refused only when the reactor has ended; then the caller learns that we are gone.
            let _ = self.calls.spawn(call);
        });
        let mut orders = 0;
        while let Some(letter) = self.mail.take() {
            self.take_letter(letter);
            orders += 1;
        }
        letters + calls + orders
    }

    fn prepare_sleep(&self) -> bool {
        self.bridge.is_empty() && self.mail.is_empty() && self.shard.port().prepare_sleep()
    }

    fn awake(&self) {
        self.shard.port().awake();
    }
}

impl ShardLoop {
    /// Runs the loop until `work` has its answer.
    fn finish<T: 'static>(
        &mut self,
        lane: &Lane,
        gate: &Gate,
        work: impl Future<Output = T> + 'static,
    ) -> T {
        let place = Rc::new(RefCell::new(None));
        let answer = place.clone();
        let spawned = gate.spawn(async move {
            let output = work.await;
            *answer.borrow_mut() = Some(output);
        });
        assert!(spawned.is_ok(), "phases end with the thread");
        loop {
            self.round(lane);
            if let Some(output) = place.borrow_mut().take() {
                return output;
            }
        }
    }
}
