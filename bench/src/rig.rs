//! A server under test: its export mounted, one lane for each connection, and phases run over them.
//!
//! A phase is the same small program in every slot of every lane, between a barrier and the end of the
//! last slot. Each phase connects anew, so what one left in a socket does not reach the next, and
//! spreads its connections over a few threads with a single-threaded runtime each: one thread answers
//! half a million calls a second, and more of them than half the machine's cores would compete with a
//! server on the same machine.
//!
//! All files are made in a folder of our own below the export and removed at the end, also after an
//! error. A server that stops answering ends the phase some time after its deadline.

use crate::clock;
use crate::cpu::{self, Pid};
use crate::lane::{Bound, Lane, Slot, Tally};
use crate::nfs::{Handle, Limits, Page};
use crate::pattern::{PIECE_BYTES_MAX, Pattern};
use crate::rpc;
use crate::url::Url;
use crate::wire::{self, Task, Wire};
use anyhow::{Context, Result, ensure};
use std::cell::Cell;
use std::future::Future;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::{Arc, Barrier};
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::task::{JoinSet, LocalSet};

const CONNECT_TIME_MAX: Duration = Duration::from_secs(5);
/// How long after its end a phase may still wait for replies.
const GRACE: Duration = Duration::from_secs(30);
/// The bound of a phase that is bounded in turns only.
const UNTIMED_MAX: Duration = Duration::from_secs(300);

pub struct Rig {
    address: SocketAddr,
    pattern: Arc<Pattern>,
    lanes: Vec<Lane>,
    /// Where our folder is.
    exported: Handle,
    folder: String,
    depth: usize,
    threads: usize,
    server: Option<Pid>,
}

/// How many calls are kept under way, and by whom.
#[derive(Clone, Copy)]
pub struct Load {
    pub connections: usize,
    pub depth: usize,
    pub threads: usize,
}

/// When a phase ends: after so many turns of each lane, or after a time, whichever is first.
#[derive(Clone, Copy)]
pub struct Span {
    pub turns: u64,
    pub time: Option<Duration>,
}

impl Span {
    pub fn turns(turns: u64) -> Span {
        Span { turns, time: None }
    }

    pub fn time(time: Duration) -> Span {
        Span { turns: u64::MAX, time: Some(time) }
    }

    pub fn at_most(self, time: Duration) -> Span {
        Span { time: Some(time), ..self }
    }
}

/// What a phase did and what it took.
pub struct Measure {
    pub tally: Tally,
    pub elapsed: Duration,
    pub client_cpu: Duration,
    pub server_cpu: Option<Duration>,
}

impl Measure {
    pub fn add(&mut self, other: &Measure) {
        self.tally.add(&other.tally);
        self.elapsed += other.elapsed;
        self.client_cpu += other.client_cpu;
        self.server_cpu = self.server_cpu.zip(other.server_cpu).map(|(a, b)| a + b);
    }
}

impl Rig {
    pub fn mount(url: &Url, load: Load, server: Option<Pid>, pattern: Pattern) -> Result<Rig> {
        let address = url.address()?;
        server.map(cpu::used).transpose()?;
        let pattern = Arc::new(pattern);
        let mount_address = find_mount(url, address, &pattern)?;
        let path = url.path.clone();
        let exported =
            talk(mount_address, &pattern, |slot| async move { slot.mount(&path).await })?;
        let folder = format!("cairn-bench-{}-{:08x}", std::process::id(), fastrand::u32(..));
        let name = folder.clone();
        let connections = load.connections;
        let (directories, limits) = talk(address, &pattern, |slot| async move {
            let limits = slot.fsinfo(&exported).await?;
            let root = slot.mkdir(&exported, name.as_bytes()).await?;
            let mut directories = Vec::new();
            for number in 0..connections {
                directories.push(slot.mkdir(&root, lane_name(number).as_bytes()).await?);
            }
            Ok((directories, limits))
        })?;
        ensure!(
            limits.read_bytes_max >= 4096 && limits.write_bytes_max >= 4096,
            "the server transfers fewer than 4096 bytes at a time"
        );
        let lanes =
            (0..).zip(directories).map(|(number, directory)| Lane::new(number, directory, limits));
        Ok(Rig {
            address,
            pattern,
            lanes: lanes.collect(),
            exported,
            folder,
            depth: load.depth,
            threads: load.threads.min(connections),
            server: server.or_else(|| cpu::listener(address)),
        })
    }

    pub fn lanes(&self) -> &[Lane] {
        &self.lanes
    }

    pub fn connections(&self) -> u64 {
        u64::try_from(self.lanes.len()).expect("lanes are few")
    }

    /// The largest transfer that is no larger than wished and that the server takes both ways.
    pub fn transfer(&self, wished: u64) -> u64 {
        let limits = self.lanes[0].limits;
        let most = limits.read_bytes_max.min(limits.write_bytes_max);
        wished.min(u64::from(most)).min(PIECE_BYTES_MAX as u64)
    }

    /// Runs `work` in all slots.
    pub fn run<F, W>(&mut self, span: Span, work: F) -> Result<Measure>
    where
        F: Fn(Slot) -> W + Sync,
        W: Future<Output = Result<()>> + 'static,
    {
        self.run_at_depth(span, self.depth, work)
    }

    pub fn run_at_depth<F, W>(&mut self, span: Span, depth: usize, work: F) -> Result<Measure>
    where
        F: Fn(Slot) -> W + Sync,
        W: Future<Output = Result<()>> + 'static,
    {
        let mut shares: Vec<Vec<Lane>> = (0..self.threads).map(|_| Vec::new()).collect();
        for (turn, lane) in std::mem::take(&mut self.lanes).into_iter().enumerate() {
            shares[turn % self.threads].push(lane);
        }
        let barrier = Barrier::new(self.threads + 1);
        let (address, pattern, server) = (self.address, &self.pattern, self.server);
        let (work, barrier) = (&work, &barrier);
        let make = |slot: Slot| -> Task { Box::pin(work(slot)) };
        let ended = std::thread::scope(|scope| {
            let threads: Vec<_> = shares
                .into_iter()
                .map(|lanes| {
                    scope.spawn(move || {
                        let phase = Phase { address, pattern, span, depth, barrier };
                        phase.run(lanes, &make)
                    })
                })
                .collect();
            barrier.wait();
            let start = clock::now();
            let before = (cpu::used(cpu::myself()), server.map(cpu::used));
            let ended: Vec<_> = threads
                .into_iter()
                .map(|thread| thread.join().expect("no thread panics"))
                .collect();
            (ended, start.elapsed(), before)
        });
        let (ended, elapsed, (client_before, server_before)) = ended;
        let (client_after, server_after) = (cpu::used(cpu::myself()), server.map(cpu::used));
        // The lanes come back before anything may fail: cleaning up needs them.
        let mut tally = Tally::default();
        let mut outcome = Ok(());
        for (lanes, result) in ended {
            lanes.iter().for_each(|lane| tally.add(&lane.take_tally()));
            self.lanes.extend(lanes);
            outcome = outcome.and(result);
        }
        self.lanes.sort_by_key(|lane| lane.number);
        outcome?;
        let client_cpu = client_after?.saturating_sub(client_before?);
        let server_cpu = match (server_before.transpose()?, server_after.transpose()?) {
            (Some(before), Some(after)) => Some(after.saturating_sub(before)),
            _ => None,
        };
        Ok(Measure { tally, elapsed, client_cpu, server_cpu })
    }

    /// Removes everything that was made.
    pub fn clean_up(mut self) -> Result<()> {
        self.run_at_depth(Span::turns(1), 1, list_leftovers)?;
        self.run(Span::turns(u64::MAX), remove_leftovers)?;
        let (exported, folder, lanes) = (self.exported, self.folder, self.lanes.len());
        talk(self.address, &self.pattern, |slot| async move {
            let root = slot.lookup(&exported, folder.as_bytes()).await?;
            for number in 0..lanes {
                slot.rmdir(&root, lane_name(number).as_bytes()).await?;
            }
            slot.rmdir(&exported, folder.as_bytes()).await
        })
    }
}

async fn list_leftovers(slot: Slot) -> Result<()> {
    let mut page = Page::FIRST;
    while !page.is_last {
        page = slot.readdir(&slot.lane.directory, &page).await?;
        let names = page.names.iter().filter(|name| !matches!(name.as_slice(), b"." | b".."));
        slot.lane.leftovers.borrow_mut().extend(names.cloned());
    }
    Ok(())
}

async fn remove_leftovers(slot: Slot) -> Result<()> {
    loop {
        let name = slot.lane.leftovers.borrow_mut().pop();
        let Some(name) = name else {
            return Ok(());
        };
        slot.remove(&slot.lane.directory, &name).await?;
    }
}

fn lane_name(number: usize) -> String {
    format!("lane{number}")
}

/// MOUNT answers where the URL says, else where NFS does, else where a port mapper says.
fn find_mount(url: &Url, address: SocketAddr, pattern: &Arc<Pattern>) -> Result<SocketAddr> {
    let at = |port| SocketAddr::new(address.ip(), port);
    if let Some(port) = url.mount_port {
        return Ok(at(port));
    }
    let here = talk(address, pattern, |slot| async move { Ok(slot.has_mount().await) })?;
    let Err(refused) = here else {
        return Ok(address);
    };
    let mapped = talk(at(111), pattern, |slot| async move { slot.getport(rpc::MOUNT).await });
    match mapped.map(u16::try_from) {
        Ok(Ok(port)) if port != 0 => Ok(at(port)),
        _ => Err(refused.context(format!(
            "no MOUNT at {address} and no port mapper knows it: give the port as ?mountport=PORT"
        ))),
    }
}

/// One conversation over a connection of its own.
fn talk<T, F, W>(address: SocketAddr, pattern: &Arc<Pattern>, work: F) -> Result<T>
where
    T: 'static,
    F: FnOnce(Slot) -> W,
    W: Future<Output = Result<T>> + 'static,
{
    let limits = Limits { read_bytes_max: 0, write_bytes_max: 0 };
    let lane = Rc::new(Lane::new(0, Handle::NONE, limits));
    let wire = Wire::new(1, Arc::clone(pattern));
    let said = Rc::new(Cell::new(None));
    let (work, say) = (work(Slot::new(lane, Rc::clone(&wire), 0)), Rc::clone(&said));
    let task: Task = Box::pin(async move {
        say.set(Some(work.await?));
        Ok(())
    });
    runtime()?.block_on(async {
        let stream = connect(address).await?;
        tokio::time::timeout(GRACE, wire::drive(&stream, &wire, vec![task]))
            .await
            .with_context(|| format!("{address} does not answer"))?
    })?;
    said.take().context("the conversation ended without a word")
}

fn runtime() -> Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_current_thread()
        .enable_io()
        .enable_time()
        .build()
        .context("cannot start the client's event loop")
}

async fn connect(address: SocketAddr) -> Result<TcpStream> {
    let stream = tokio::time::timeout(CONNECT_TIME_MAX, TcpStream::connect(address))
        .await
        .with_context(|| format!("{address} does not answer"))?
        .with_context(|| format!("cannot connect to {address}: is the server up?"))?;
    stream.set_nodelay(true).context("cannot set TCP_NODELAY")?;
    Ok(stream)
}

/// What one thread needs to know of a phase.
struct Phase<'a> {
    address: SocketAddr,
    pattern: &'a Arc<Pattern>,
    span: Span,
    depth: usize,
    barrier: &'a Barrier,
}

impl Phase<'_> {
    /// Gives the lanes back whatever happens.
    fn run(&self, lanes: Vec<Lane>, make: &dyn Fn(Slot) -> Task) -> (Vec<Lane>, Result<()>) {
        let lanes: Vec<Rc<Lane>> = lanes.into_iter().map(Rc::new).collect();
        let result = self.drive(&lanes, make);
        let lanes = lanes.into_iter().map(|lane| {
            Rc::into_inner(lane).expect("its slots ended with the event loop that held them")
        });
        (lanes.collect(), result)
    }

    fn drive(&self, lanes: &[Rc<Lane>], make: &dyn Fn(Slot) -> Task) -> Result<()> {
        let started = runtime();
        let connected = started.and_then(|runtime| {
            let connect = async {
                let mut streams = Vec::new();
                for _ in lanes {
                    streams.push(connect(self.address).await?);
                }
                Ok::<_, anyhow::Error>(streams)
            };
            let streams = runtime.block_on(connect)?;
            Ok((runtime, streams))
        });
        // The other threads wait for this one even when it has failed.
        self.barrier.wait();
        let (runtime, streams) = connected?;
        let bound = Bound {
            turns: self.span.turns,
            deadline: self.span.time.map(|time| clock::now() + time),
        };
        let time_max = self.span.time.unwrap_or(UNTIMED_MAX) + GRACE;
        let local = LocalSet::new();
        local.block_on(&runtime, async {
            let mut drives = JoinSet::new();
            for (lane, stream) in lanes.iter().zip(streams) {
                lane.begin(bound, self.depth);
                let wire = Wire::new(self.depth, Arc::clone(self.pattern));
                let slot = |index| Slot::new(Rc::clone(lane), Rc::clone(&wire), index);
                let tasks: Vec<Task> = (0..self.depth).map(|index| make(slot(index))).collect();
                drives.spawn_local(async move { wire::drive(&stream, &wire, tasks).await });
            }
            let all = async {
                while let Some(ended) = drives.join_next().await {
                    ended.context("a connection's task panicked")??;
                }
                Ok(())
            };
            tokio::time::timeout(time_max, all)
                .await
                .with_context(|| format!("{} stopped answering", self.address))?
        })
    }
}
