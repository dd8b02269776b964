//! One life of a pool: opened, worked on, closed. What was written is then on the device, and what is
//! read in the next life is not in memory.

use super::disk::{MeteredDisk, Moved};
use super::rows::Scale;
use crate::clock;
use crate::cpu;
use anyhow::{Context, Result, anyhow, bail};
use cairn_base::door::Doors;
use cairn_base::{Arena, Nanos};
use cairn_daemon::{Claim, Offline, SystemClock, SystemEntropy};
use cairn_engine::counters::CounterValues;
use cairn_engine::open::read_and_divide;
use cairn_engine::{FsError, Shard, ShardConfig, ports};
use cairn_reactor::Handle;
use hdrhistogram::Histogram;
use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::{Duration, Instant};

/// Longer waits count as this one.
const WAIT_NS_MAX: u64 = 600_000_000_000;

/// Looks, 20 ms apart, until memtables must have been written out.
const FREEZE_LOOKS_MAX: u32 = 3_000;

pub struct BenchDoors;

impl Doors for BenchDoors {
    type Disk = MeteredDisk;
    type Clock = SystemClock;
    type Entropy = SystemEntropy;
}

pub type BenchShard = Rc<Shard<BenchDoors>>;

#[derive(Clone)]
pub struct Session {
    pub shard: BenchShard,
    pub depth: u64,
    handle: Handle,
    disk: Rc<MeteredDisk>,
}

/// What a row is to do.
#[derive(Clone, Copy)]
pub struct Bounds {
    pub operations: u64,
    pub time: Duration,
}

/// What one operation did.
#[derive(Clone, Copy, Default)]
pub struct Did {
    pub payload_bytes: u64,
    /// Of an index.
    pub entries: u64,
}

impl Did {
    pub fn bytes(payload_bytes: u64) -> Did {
        Did { payload_bytes, entries: 0 }
    }

    pub fn entries(entries: u64) -> Did {
        Did { payload_bytes: 0, entries }
    }
}

/// What all of them did.
pub struct Measure {
    pub operations: u64,
    pub did: Did,
    pub elapsed: Duration,
    pub cpu: Duration,
    pub moved: Moved,
    pub counters: CounterValues,
    pub latency_ns: Histogram<u64>,
}

/// Opens the pool, runs `work` on it, and closes it.
pub fn with_pool<R>(
    claim: &Claim,
    arena: &Arena,
    scale: &Scale,
    work: impl AsyncFnOnce(&Session) -> Result<R>,
) -> Result<R> {
    let mut config = ShardConfig::default();
    if let Some(bytes) = scale.memtable {
        config.memtable_bytes = bytes as usize;
    }
    with_configured(claim, arena, scale.depth, config, work)
}

/// A life with hardly any memtables: what the log held goes into trees. Answers how many blocks of the pool
/// nobody uses then.
pub fn free_blocks_in_trees(claim: &Claim, arena: &Arena) -> Result<u64> {
    // Raised to the least that the engine takes.
    let config = ShardConfig { memtable_bytes: 0, ..ShardConfig::default() };
    with_configured(claim, arena, 1, config, async |session| {
        for _ in 0..FREEZE_LOOKS_MAX {
            let all = session.shard.status().await?;
            if all.iter().all(|shard| shard.memtable_bytes * 2 <= shard.memtable_bytes_max) {
                return session.free_blocks().await;
            }
            session.handle.sleep(Nanos::from_millis(20)).await;
        }
        bail!("the engine does not write its memtables out")
    })
}

fn with_configured<R>(
    claim: &Claim,
    arena: &Arena,
    depth: u64,
    config: ShardConfig,
    work: impl AsyncFnOnce(&Session) -> Result<R>,
) -> Result<R> {
    let offline = Offline::with_arena(claim.devices(), arena.clone())
        .map_err(|failure| anyhow!("{failure:?}"))?;
    let disk = Rc::new(MeteredDisk::new(Rc::clone(offline.disk())));
    let handle = offline.handle();
    offline.run(async {
        let seeds = read_and_divide(&*disk, 1).await.map_err(|error| anyhow!("{error}"))?;
        let mut seed = seeds.into_iter().next().context("one shard was asked for")?;
        let port = ports(1).pop().context("one shard has one port")?;
        let clock = Rc::new(*offline.clock());
        let shard: BenchShard =
            Shard::begin(&mut seed, Rc::clone(&disk), clock, handle.clone(), port, config);
        shard.recover(seed).await.map_err(|error| anyhow!("{error}"))?;
        let session = Session { shard, depth, handle: handle.clone(), disk: Rc::clone(&disk) };
        let done = work(&session).await?;
        session.shard.stop().await.context("cannot close the pool")?;
        Ok(done)
    })
}

/// The common state of a row's lanes.
struct Progress {
    next: Cell<u64>,
    did: Cell<Did>,
    latency_ns: RefCell<Histogram<u64>>,
    ends: Instant,
}

impl Session {
    /// `depth` lanes, each doing the next operation, until all are done or the time is over.
    pub async fn measure<F>(
        &self,
        bounds: Bounds,
        operation: impl Fn(BenchShard, u64) -> F + 'static,
    ) -> Result<Measure>
    where
        F: Future<Output = Result<Did, FsError>> + 'static,
    {
        let began = clock::now();
        let progress = Rc::new(Progress {
            next: Cell::new(0),
            did: Cell::default(),
            latency_ns: RefCell::new(Histogram::new_with_max(WAIT_NS_MAX, 3)?),
            ends: began + bounds.time,
        });
        let operation = Rc::new(operation);
        let counters_before = self.counters().await?;
        let (cpu_before, moved_before) = (cpu::used(cpu::myself())?, self.disk.moved());
        let lanes = self.handle.gate("bench");
        let mut running = Vec::new();
        for _ in 0..self.depth {
            let (shard, progress) = (Rc::clone(&self.shard), Rc::clone(&progress));
            let operation = Rc::clone(&operation);
            let lane = async move {
                loop {
                    let before = clock::now();
                    let nth = progress.next.get();
                    if nth >= bounds.operations || before >= progress.ends {
                        return Ok(());
                    }
                    progress.next.set(nth + 1);
                    let did = operation(Rc::clone(&shard), nth).await?;
                    let took = clock::now().duration_since(before).as_nanos();
                    progress.latency_ns.borrow_mut().saturating_record(took as u64);
                    let all = progress.did.get();
                    progress.did.set(Did {
                        payload_bytes: all.payload_bytes + did.payload_bytes,
                        entries: all.entries + did.entries,
                    });
                }
            };
            running.push(lanes.spawn_with(lane).map_err(|_| anyhow!("the reactor has ended"))?);
        }
        for lane in running {
            let done: Result<(), FsError> = lane.await;
            done?;
        }
        let latency_ns = progress.latency_ns.borrow().clone();
        let counters = self.counters().await?.since(&counters_before);
        Ok(Measure {
            counters,
            operations: latency_ns.len(),
            did: progress.did.get(),
            elapsed: clock::now().duration_since(began),
            cpu: cpu::used(cpu::myself())?.saturating_sub(cpu_before),
            moved: self.disk.moved().since(moved_before),
            latency_ns,
        })
    }

    async fn counters(&self) -> Result<CounterValues> {
        let mut sum = CounterValues::default();
        self.shard.status().await?.iter().for_each(|shard| sum.add(&shard.counters));
        Ok(sum)
    }

    /// Blocks of the pool that nobody uses.
    pub async fn free_blocks(&self) -> Result<u64> {
        let all = self.shard.status().await?;
        let free = |shard: &cairn_engine::status::ShardStatus| {
            shard.free_node_blocks + shard.free_data_blocks + shard.free_unassigned_blocks
        };
        Ok(all.iter().map(free).sum())
    }
}
