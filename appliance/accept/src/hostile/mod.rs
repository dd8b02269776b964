//! A server under attack, and one client that must not notice.
//!
//! A daemon serves one good client, which creates, writes, reads back, compares and removes all the
//! time. Meanwhile a crowd of connections is held open, thousands of them from many addresses, most of
//! them silent or in the middle of a record (`crowd.rs`), and some threads do everything else that a
//! peer can do wrong (`attack.rs`). The daemon's memory is sampled from outside.
//!
//! It has failed when a call of the good client is refused, lost or answered wrongly, when one takes
//! longer than `CALL_MAX`, when the daemon's memory goes above the bound of `bound_bytes`, or still
//! grows in the second half of the run by more than `DRIFT_MAX`. This is the one verdict here that
//! depends on time, since not being stalled by others is what is promised.

mod attack;
mod crowd;
mod good;

use crate::clock::{Deadline, pause};
use crate::daemon::{Daemon, ServeConfig, Setup};
use crate::served::Address;
use anyhow::{Context, Result, ensure};
use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

/// A call of the good client that takes longer is a stall.
const CALL_MAX: Duration = Duration::from_secs(5);
/// By which memory may still grow when everything has been met once.
const DRIFT_MAX: u64 = 192 << 20;
const SAMPLE_EVERY: Duration = Duration::from_millis(100);
/// Descriptors of this process that are no connection of the crowd.
const DESCRIPTORS_SPARED: u64 = 1000;
const DATA_CACHE_MIB: u64 = 32;

#[derive(Clone, Debug)]
pub struct Options {
    pub length: Duration,
    /// Connections of the crowd; fewer where this process may not have as many.
    pub connections: usize,
    pub shards: u32,
    pub seed: u64,
}

/// What all threads of a run have in common.
struct Run {
    server: Address,
    ends: AtomicBool,
    seed: u64,
    attacks: [AtomicU64; attack::Attack::ALL.len()],
    crowd_open: AtomicU64,
    crowd_closed_by_server: AtomicU64,
}

impl Run {
    fn is_over(&self) -> bool {
        self.ends.load(Ordering::Relaxed)
    }
}

#[derive(Debug)]
pub struct Summary {
    pub calls: u64,
    pub slowest_call: Duration,
    pub connections_peak: u64,
    pub refused: u64,
    pub cut: u64,
    pub attacks: Vec<(&'static str, u64)>,
    pub rss_before: u64,
    pub rss_peak: u64,
    pub rss_after: u64,
    pub bound: u64,
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mib = |bytes: u64| bytes >> 20;
        write!(
            f,
            "good client: {} calls, slowest {} ms; connections: {} at the peak, {} refused, {} cut; \
             resident MiB: {} before, {} at the peak (bound {}), {} after; attacks:",
            self.calls,
            self.slowest_call.as_millis(),
            self.connections_peak,
            self.refused,
            self.cut,
            mib(self.rss_before),
            mib(self.rss_peak),
            mib(self.bound),
            mib(self.rss_after),
        )?;
        self.attacks.iter().try_for_each(|(name, count)| write!(f, " {name} {count}"))
    }
}

/// What the daemon may need at most beside what it needed before. Its buffers are in one mapping of
/// 768 MiB a shard, of which what was touched once stays. On the heap there are answers of listings,
/// which the budget of a shard's connections bounds (256 MiB), and buffers that did not fit the mapping,
/// which are those of half-open records here: no more than the crowd sends, 4 KiB each. A connection
/// has its task, its counters and its slots in the ring: 64 KiB are plenty. And 128 MiB for the trees and
/// logs that the attackers' own writes build.
fn bound_bytes(before: u64, shards: u32, connections: u64) -> u64 {
    const ARENA: u64 = 768 << 20;
    const ANSWERS: u64 = 256 << 20;
    before + u64::from(shards) * (ARENA + ANSWERS) + connections * (64 << 10) + (128 << 20)
}

pub fn run(options: &Options) -> Result<Summary> {
    let connections = options.connections.min(descriptors()?);
    let dir = tempfile::Builder::new().prefix("cairn-hostile-").tempdir()?;
    let mut setup = Setup::new(&dir.path().join("pool"))?;
    setup.shards = options.shards;
    setup.arguments = vec![format!("--data-cache={DATA_CACHE_MIB}M")];
    setup.serve = Some(ServeConfig {
        listen: None,
        nfs: format!(
            "connections_max = {}\nconnections_per_client_max = 64\nrecord_seconds_max = 5\n\
             send_seconds_max = 5",
            connections + 200
        ),
        exports: "[[export]]\npath = '/'\nclients = ['127.0.0.0/8']\nsquash = 'none'".into(),
    });
    let mut daemon = Daemon::start(setup)?;
    let run = Run {
        server: daemon.address(),
        ends: AtomicBool::new(false),
        seed: options.seed,
        attacks: Default::default(),
        crowd_open: AtomicU64::new(0),
        crowd_closed_by_server: AtomicU64::new(0),
    };
    let target = attack::Target::make(&run.server)?;
    let mut good = good::Good::connect(&run.server)?;
    for _ in 0..20 {
        good.round()?;
    }
    let rss_before = resident(daemon.pid())?;
    let bound = bound_bytes(rss_before, options.shards, connections as u64);

    let mut peaks = [0; 2];
    let mut connections_peak = 0;
    let outcome = std::thread::scope(|threads| {
        let run = &run;
        let working = threads.spawn(move || {
            let outcome = good.until_the_end(run);
            (good, outcome)
        });
        threads.spawn(move || crowd::hold(run, connections));
        for nth in 0..attack::THREADS {
            let target = &target;
            threads.spawn(move || attack::attack(run, target, nth));
        }
        let watched =
            watch(&mut daemon, options.length, &working, &mut peaks, &mut connections_peak);
        run.ends.store(true, Ordering::Relaxed);
        let (good, outcome) =
            working.join().map_err(|_| anyhow::anyhow!("the good client broke"))?;
        outcome.with_context(|| format!("the good client{}", daemon.last_words()))?;
        watched?;
        Ok::<_, anyhow::Error>(good)
    })?;
    daemon.expect_alive()?;
    let shown = exports(&daemon)?;
    let rss_after = resident(daemon.pid())?;
    let [first_half, second_half] = peaks;
    let rss_peak = first_half.max(second_half);
    let count = |nth: usize| run.attacks[nth].load(Ordering::Relaxed);
    let attacks = attack::Attack::ALL.iter().enumerate();
    let summary = Summary {
        calls: outcome.calls,
        slowest_call: outcome.slowest,
        connections_peak,
        refused: shown["nfs"]["connections_refused"].as_u64().context("no number")?,
        cut: shown["nfs"]["connections_cut"].as_u64().context("no number")?,
        attacks: attacks.map(|(nth, attack)| (attack.name(), count(nth))).collect(),
        rss_before,
        rss_peak,
        rss_after,
        bound,
    };
    ensure!(rss_peak <= bound, "the daemon's memory is above its bound: {summary}");
    ensure!(
        second_half <= first_half + DRIFT_MAX,
        "the daemon's memory grew by {} MiB in the second half: {summary}",
        (second_half - first_half) >> 20
    );
    ensure!(outcome.slowest <= CALL_MAX, "a call of the good client was stalled: {summary}");
    let stopped = daemon.stop()?;
    ensure!(stopped.success(), "the daemon ended with {stopped}:{}", daemon.last_words());
    Ok(summary)
}

/// Samples until the time is over or the good client has had enough.
fn watch<T>(
    daemon: &mut Daemon,
    length: Duration,
    working: &std::thread::ScopedJoinHandle<'_, T>,
    peaks: &mut [u64; 2],
    connections_peak: &mut u64,
) -> Result<()> {
    let end = Deadline::after(length);
    let half = Deadline::after(length / 2);
    let mut samples = 0_u32;
    while !end.passed() && !working.is_finished() {
        daemon.expect_alive()?;
        let now = resident(daemon.pid())?;
        let peak = &mut peaks[usize::from(half.passed())];
        *peak = (*peak).max(now);
        if samples.is_multiple_of(10) {
            // Control calls are served under attack as well.
            let connections = exports(daemon)?["nfs"]["connections"].as_u64();
            *connections_peak = (*connections_peak).max(connections.context("no number")?);
        }
        samples += 1;
        pause(SAMPLE_EVERY);
    }
    Ok(())
}

fn exports(daemon: &Daemon) -> Result<serde_json::Value> {
    let text = daemon.command(&["exports", "--json"])?.succeeded("cairn exports --json")?;
    serde_json::from_str(&text).context("cairn exports --json printed what is not JSON")
}

/// VmRSS of a process, bytes.
fn resident(pid: u32) -> Result<u64> {
    let path = format!("/proc/{pid}/status");
    let text = std::fs::read_to_string(&path).with_context(|| format!("cannot read {path}"))?;
    let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = line.and_then(|line| line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok());
    Ok(kib.with_context(|| format!("{path} has no VmRSS"))? << 10)
}

/// Connections this process may have, after asking for as many as it can get. The daemon inherits it.
fn descriptors() -> Result<usize> {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let now = getrlimit(Resource::Nofile);
    let wanted = 65_536;
    // More than the hard limit is for root only.
    let raised = Rlimit {
        current: Some(wanted),
        maximum: Some(now.maximum.map_or(wanted, |m| m.max(wanted))),
    };
    if setrlimit(Resource::Nofile, raised).is_err() {
        setrlimit(Resource::Nofile, Rlimit { current: now.maximum, maximum: now.maximum })
            .context("cannot raise the limit of open files")?;
    }
    let have = getrlimit(Resource::Nofile).current.unwrap_or(wanted);
    Ok(usize::try_from(have.saturating_sub(DESCRIPTORS_SPARED))?)
}
