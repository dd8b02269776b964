//! The daemon from the first look at its pool to its exit.
//!
//! The calling thread becomes the control thread: it claims and reads the pool, starts the shards,
//! says when all of them serve, answers control calls, and waits for a signal. It touches no state
//! of the file system after the shards have started.
//!
//! A shard that panics takes the daemon with it. What it owned is safe on the pool, its peers wait
//! for answers that will not come, and the next start recovers: that is the tested path, half a
//! daemon is not.

use crate::config::{Config, FirstUse};
use crate::descriptors;
use crate::error::{Failure, errno_of, listen_failure, open_failure_on, socket_failure};
use crate::format::make_embedded;
use crate::frontend_mail::frontend_mail;
use crate::memory::Division;
use crate::offline::Offline;
use crate::online_check;
use crate::patience::patiently;
use crate::pin::Cores;
use crate::place::{Claim, DevicePath, Place, embedded_exists};
use crate::ready::Ready;
use crate::reload::Frontends;
use crate::rpcbind;
use crate::shutdown::Shutdown;
use crate::supervisor;
use crate::tally::Tally;
use crate::warmer::Warmer;
use crate::wire_up::{self, News, ShardPlan};
use cairn_base::BLOCK_BYTES;
use cairn_base::dma_buf::Backing;
use cairn_base::ring::RingWaker;
use cairn_control::{Caller, ControlSocket, ServeWith, ShowExports, StartCheck, bridge};
use cairn_engine::open::{ShardSeed, read_and_divide, unusable_superblocks};
use cairn_engine::ports;
use cairn_net::listener::{BindError, Listener};
use cairn_nvme::Mode;
use nix::errno::Errno;
use socket2::{Domain, Protocol, Socket, Type};
use std::net::SocketAddr;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

/// The orderly end of the shards; control calls had two seconds before. Past it the process exits all the same: nothing that was promised
/// is lost by that.
const SHUTDOWN_MAX: Duration = Duration::from_secs(7);

/// Serves until a signal. `ready` is called once, when clients may come.
pub fn run(config: Config, ready: impl FnOnce(&Ready)) -> Result<(), Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::io("cannot start the control thread", &error))?;
    runtime.block_on(async {
        // From here on a signal is an orderly end, also while the pool recovers.
        let stop = stop_signal().map_err(|e| Failure::io("cannot catch signals", &e))?;
        // Once caught it ends nobody: a pool file that may not grow is an error of one write.
        let too_large = SignalKind::from_raw(rustix::process::Signal::XFSZ.as_raw());
        let _caught = signal(too_large).map_err(|e| Failure::io("cannot catch signals", &e))?;
        supervisor::recovering();
        if let Err(errno) = descriptors::take_all() {
            tracing::warn!("cannot raise the limit of open files: {}", errno.desc());
        }
        let hangup = hangup_signal(&config).map_err(|e| Failure::io("cannot catch signals", &e))?;
        let reserved = config.nfs.iter().map(|addr| patiently(|| Reserved::port(*addr)));
        let reserved = reserved.collect::<Result<Vec<_>, _>>()?;
        let nfs: Vec<SocketAddr> = reserved.iter().map(|reserved| reserved.local).collect();
        let metrics = config.metrics.map(|addr| patiently(|| listen_for_metrics(addr)));
        let metrics = metrics.transpose()?;
        let metrics_at = metrics.as_ref().and_then(|at| at.local_addr().ok());
        let cores = Cores::allowed()
            .map_err(|errno| Failure::new(errno, "cannot see which cores are ours"))?;
        let shards = config.shards.unwrap_or_else(|| cores.shards_default());
        let division = Division::of(&config, usize::from(shards))?;
        let claim = Arc::new(claim(&config)?);
        let seeds = read_seeds(&claim, shards)?;
        let socket = ControlSocket::bind(&config.socket)
            .map_err(|error| socket_failure(&config.socket, &error))?;
        let check = online_check::starter(claim.clone());
        let mut shards = Shards::start(&config, division, &cores, claim, seeds, &nfs)?;
        tokio::pin!(stop);
        let served = tokio::select! {
            served = shards.all_serve(&config) => served.map(|()| true),
            () = &mut stop => Ok(false),
        };
        if served? {
            drop(reserved);
            let registered = match config.portmap.then(|| rpcbind::register(&nfs)).transpose() {
                Ok(registered) => registered,
                Err(failure) => {
                    // What could not be written as well would hide why it ends at all.
                    let _: Result<(), Failure> = shards.stop().await;
                    return Err(failure);
                }
            };
            let now = Ready {
                nfs,
                socket: config.socket.clone(),
                metrics: metrics_at,
                shards: shards.count(),
            };
            ready(&now);
            supervisor::ready(&now);
            if config.debug_triggers {
                tracing::warn!("--debug-triggers: whoever may open the socket may set off faults");
            }
            let with = ServeWith { metrics_at: metrics, debug_triggers: config.debug_triggers };
            let watch = tokio::spawn(supervisor::watch(shards.callers.clone()));
            let served = shards.serve_control(&socket, with, check, hangup, stop).await;
            watch.abort();
            supervisor::stopping();
            tracing::info!("stopping");
            if let Some(registered) = registered {
                registered.unset();
            }
            served?;
        }
        drop(socket);
        shards.stop().await
    })
}

/// Caught only where there is a file to read again: of `up`, a terminal that goes away is the end.
fn hangup_signal(config: &Config) -> std::io::Result<Option<Signal>> {
    config.file.as_ref().map(|_| signal(SignalKind::hangup())).transpose()
}

/// Ends at SIGTERM or SIGINT.
fn stop_signal() -> std::io::Result<impl Future<Output = ()>> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    })
}

fn claim(config: &Config) -> Result<Claim, Failure> {
    match (&config.place, config.first_use) {
        (Place::Dir(dir), FirstUse::Format { size }) if !embedded_exists(dir)? => {
            // The socket is made when the pool can be asked: what is wrong with its place is told
            // before there is a pool.
            ControlSocket::refuse_place(&config.socket, dir)
                .map_err(|error| socket_failure(&config.socket, &error))?;
            make_embedded(dir, size, config.shards.unwrap_or(1))
        }
        (place, first_use) => {
            let claim = patiently(|| Claim::take(place.devices(), Mode::ReadWrite))?;
            warn_of_size(&claim, first_use);
            Ok(claim)
        }
    }
}

/// A size that was said and does not count.
fn warn_of_size(claim: &Claim, first_use: FirstUse) {
    let FirstUse::Format { size: Some(said) } = first_use else { return };
    let [DevicePath { path, .. }] = claim.paths() else { return };
    let length = std::fs::metadata(path).map_or(said, |file| file.len());
    if length / BLOCK_BYTES as u64 != said / BLOCK_BYTES as u64 {
        tracing::warn!(
            "{} has {length} bytes and keeps them: --size is for a new pool; \
             `cairn resize-devices --size` makes it longer",
            path.display()
        );
    }
}

fn read_seeds(claim: &Claim, shards: u16) -> Result<Vec<ShardSeed>, Failure> {
    for path in claim.devices().without_direct_io() {
        tracing::warn!("{} has no direct I/O: the page cache stands in between", path.display());
    }
    let offline = Offline::new(claim.devices())?;
    // Before the pool is opened, which writes the next generation in the place of the older copy.
    let unusable = offline.run(unusable_superblocks(&**offline.disk()));
    let divided = offline.run(read_and_divide(&**offline.disk(), shards));
    let divided = divided.map_err(|error| open_failure_on(&error, claim.paths()))?;
    for block in unusable {
        let device = claim.paths().get(usize::from(block.device().0));
        tracing::warn!(
            "{}: the copy of the superblock at block {} is damaged, unreadable, or its writing was cut off; the other one is \
             sound, and this one is written again: look at the device",
            device.map_or_else(String::new, |device| device.path.display().to_string()),
            block.index()
        );
    }
    Ok(divided)
}

/// Bound before the pool is touched, and answered when it is served.
fn listen_for_metrics(addr: SocketAddr) -> Result<TcpListener, Failure> {
    let listen = || {
        let listener = std::net::TcpListener::bind(addr)?;
        listener.set_nonblocking(true)?;
        TcpListener::from_std(listener)
    };
    listen().map_err(|error| {
        Failure::new(errno_of(&error), format!("cannot listen on {addr} for metrics"))
    })
}

/// The port, held from before the pool is touched until every shard listens on it: whoever has it
/// already is found out early, and nobody takes it meanwhile. Bound, not listening, so no client is
/// let in.
struct Reserved {
    _socket: Socket,
    local: SocketAddr,
}

impl Reserved {
    fn port(wanted: SocketAddr) -> Result<Reserved, Failure> {
        Listener::assert_free(wanted).map_err(|error| listen_failure(&error))?;
        let bind = || {
            let socket =
                Socket::new(Domain::for_address(wanted), Type::STREAM, Some(Protocol::TCP))?;
            if wanted.is_ipv6() {
                socket.set_only_v6(false)?;
            }
            socket.set_reuse_address(true)?;
            socket.set_reuse_port(true)?;
            socket.bind(&wanted.into())?;
            let local = socket.local_addr()?.as_socket().unwrap_or(wanted);
            Ok(Reserved { _socket: socket, local })
        };
        let refused = |error| BindError { addr: wanted, errno: errno_of(&error) as i32 };
        bind().map_err(|error| listen_failure(&refused(error)))
    }
}

/// The shards' threads, as the control thread sees them.
struct Shards {
    threads: Vec<JoinHandle<()>>,
    callers: Vec<Caller>,
    frontends: Arc<Frontends>,
    news: UnboundedReceiver<News>,
    shutdown: Shutdown,
    /// Where memory has no budget.
    _warmer: Option<Warmer>,
}

impl Shards {
    fn start(
        config: &Config,
        division: Division,
        cores: &Cores,
        claim: Arc<Claim>,
        seeds: Vec<ShardSeed>,
        nfs: &[SocketAddr],
    ) -> Result<Shards, Failure> {
        let count = seeds.len();
        let wakers = (0..count)
            .map(|_| RingWaker::new())
            .collect::<Result<Vec<_>, _>>()
            .map_err(|error| Failure::io("cannot make an eventfd", &error))?;
        let to_wake = wakers.clone();
        let shutdown = Shutdown::new(count, move || to_wake.iter().for_each(RingWaker::wake));
        let (arena, backing) = division.arena(count);
        if division.limits.budget.is_none() && backing != Backing::HugeTlb {
            let pages = match backing {
                Backing::HugeTlb => "those",
                Backing::Transparent => "ordinary memory, in transparent huge pages where it can",
                Backing::Small => "pages of 4 KiB",
                Backing::Heap => "the heap",
            };
            tracing::warn!("no reserved 2 MiB pages (vm.nr_hugepages): buffers use {pages}");
        }
        let warmer = match division.limits.budget {
            None => Some(Warmer::start(arena.clone())),
            Some(_) => None,
        };
        let warmer = warmer.transpose().map_err(|e| Failure::io("cannot start a thread", &e))?;
        let (teller, news) = unbounded_channel();
        let pins = cores.assign(u16::try_from(count).unwrap_or(u16::MAX));
        let tally = Tally::default();
        let (mut threads, mut callers, mut desks) = (Vec::new(), Vec::new(), Vec::new());
        for (((seed, port), waker), core) in
            seeds.into_iter().zip(ports(count)).zip(wakers).zip(pins)
        {
            let wakes = waker.clone();
            let (caller, bridge) = bridge(move || wakes.wake());
            callers.push(caller);
            let wakes = waker.clone();
            let (desk, frontend_mail) = frontend_mail(move || wakes.wake());
            desks.push(desk);
            let name = format!("shard {}", seed.id.0);
            let plan = ShardPlan {
                core,
                waker,
                arena: arena.clone(),
                claim: claim.clone(),
                seed,
                port,
                bridge,
                division,
                idle: config.idle,
                nfs: nfs.to_vec(),
                frontend_mail,
                tally: tally.clone(),
                shutdown: shutdown.clone(),
                news: teller.clone(),
            };
            let thread = std::thread::Builder::new().name(name).spawn(|| wire_up::run(plan));
            threads.push(thread.map_err(|e| Failure::io("cannot start a thread", &e))?);
        }
        let lookup = callers.first().cloned().ok_or_else(broken)?;
        let frontends = Frontends::new(desks, lookup, tally, division);
        Ok(Shards { threads, callers, frontends, news, shutdown, _warmer: warmer })
    }

    fn count(&self) -> u16 {
        u16::try_from(self.threads.len()).unwrap_or(u16::MAX)
    }

    /// Recovered, then told what to serve, then listening.
    async fn all_serve(&mut self, config: &Config) -> Result<(), Failure> {
        self.all_say(|news| matches!(news, News::Recovered)).await?;
        self.frontends.begin(config).await?;
        self.all_say(|news| matches!(news, News::Serving)).await
    }

    async fn all_say(&mut self, expected: impl Fn(&News) -> bool) -> Result<(), Failure> {
        for _ in 0..self.threads.len() {
            match self.news.recv().await {
                Some(news) if expected(&news) => {}
                Some(News::Failed(failure)) => return Err(failure),
                Some(News::Recovered | News::Serving | News::Ended) | None => return Err(broken()),
            }
        }
        Ok(())
    }

    /// Answers control calls, and reads the configuration again when told, until `stop`, or until a
    /// shard ends by itself.
    async fn serve_control(
        &mut self,
        socket: &ControlSocket,
        with: ServeWith,
        check: StartCheck,
        hangup: Option<Signal>,
        stop: impl Future<Output = ()>,
    ) -> Result<(), Failure> {
        let news = &mut self.news;
        let mut failed = None;
        let frontends = self.frontends.clone();
        let show: ShowExports = Arc::new(move || {
            let frontends = frontends.clone();
            Box::pin(async move { frontends.show().await })
        });
        let until = async {
            tokio::select! {
                () = stop => {}
                () = reload_at(hangup, &self.frontends) => {}
                told = news.recv() => failed = Some(match told {
                    Some(News::Failed(failure)) => failure,
                    Some(News::Recovered | News::Serving | News::Ended) | None => broken(),
                }),
            }
        };
        let callers = self.callers.clone();
        let served = cairn_control::serve(socket, callers, check, show, with, until).await;
        match failed {
            Some(failure) => Err(failure),
            None => served.map_err(|e| Failure::file("cannot serve", socket.path(), &e)),
        }
    }

    /// The orderly end. What could not be written is the failure that is reported.
    async fn stop(mut self) -> Result<(), Failure> {
        self.shutdown.ask();
        let mut outcome = Ok(());
        let all_ended = async {
            let mut running = self.threads.len();
            while running > 0 {
                match self.news.recv().await {
                    Some(News::Recovered | News::Serving) => {}
                    Some(News::Failed(failure)) => outcome = Err(failure),
                    Some(News::Ended) => running -= 1,
                    None => break,
                }
            }
        };
        if tokio::time::timeout(SHUTDOWN_MAX, all_ended).await.is_err() {
            tracing::warn!(
                "still writing after {} s: what is not written was never promised",
                SHUTDOWN_MAX.as_secs()
            );
            return Ok(());
        }
        for thread in self.threads {
            if thread.join().is_err() {
                outcome = Err(broken());
            }
        }
        outcome
    }
}

/// Never ends.
async fn reload_at(hangup: Option<Signal>, frontends: &Frontends) {
    if let Some(mut hangup) = hangup {
        while hangup.recv().await.is_some() {
            frontends.reload().await;
        }
    }
    std::future::pending().await
}

fn broken() -> Failure {
    Failure::new(Errno::EIO, "a shard has ended unexpectedly; the next start recovers")
}
