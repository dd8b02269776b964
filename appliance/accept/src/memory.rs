//! A daemon with a budget of memory, under a mixed load, watched from outside.
//!
//! Clients of ours create and remove small files, list them, stream large ones and write at random
//! places; where `cairn-bench` was built beside this program it works on the same daemon as well, which
//! is a load that these clients cannot make. All the while the daemon's resident memory is read from
//! `/proc`, and what it says of its parts is asked for, so that a run that fails says which part it was.
//!
//! It has failed when the memory was ever more than a tenth above the budget, or when the check of the
//! pool finds anything afterwards.

use crate::client::{Client, Cred};
use crate::clock::{Deadline, pause};
use crate::daemon::{Daemon, Setup};
use crate::nfs3_types::nfs3::*;
use crate::program::binary;
use crate::served::Address;
use anyhow::{Context, Result};
use std::fmt;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

const CLIENTS: u64 = 4;
const SAMPLE_EVERY: Duration = Duration::from_millis(200);
/// Samples between two questions for the parts.
const PARTS_EVERY: u32 = 5;
const LARGE_BYTES: u64 = 96 << 20;
const SMALL_FILES: u64 = 400;
const BENCH_WORKLOADS: &str = "create,ingest,randwrite-unstable,randwrite-sync,seqwrite,seqread,\
                               readdirplus,stat,verify";

#[derive(Clone, Debug)]
pub struct Options {
    pub length: Duration,
    pub memory_bytes: u64,
    pub shards: u32,
}

#[derive(Debug)]
pub struct Summary {
    pub budget: u64,
    pub resident_before: u64,
    pub resident_peak: u64,
    /// What the daemon said when it was largest.
    pub parts: String,
    pub rounds: u64,
    /// Whether `cairn-bench` took part, and how often it came to its end.
    pub bench_runs: Option<u32>,
}

impl Summary {
    pub fn bound(&self) -> u64 {
        self.budget + self.budget / 10
    }

    pub fn is_within(&self) -> bool {
        self.resident_peak <= self.bound()
    }
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mib = |bytes: u64| bytes >> 20;
        let bench = self.bench_runs.map_or("not built".into(), |runs| format!("{runs} runs"));
        write!(
            f,
            "resident MiB: {} before, {} at the peak; budget {}, bound {}; client rounds {}, \
             cairn-bench {bench}; parts at the peak: {}",
            mib(self.resident_before),
            mib(self.resident_peak),
            mib(self.budget),
            mib(self.bound()),
            self.rounds,
            self.parts,
        )
    }
}

pub fn run(options: &Options) -> Result<Summary> {
    let dir = tempfile::Builder::new().prefix("cairn-memory-").tempdir()?;
    let mut setup = Setup::new(&dir.path().join("pool"))?;
    setup.size = "16G";
    setup.shards = options.shards;
    setup.arguments = vec![format!("--memory={}", options.memory_bytes)];
    let mut daemon = Daemon::start(setup)?;
    let mut summary = Summary {
        budget: options.memory_bytes,
        resident_before: resident_bytes(daemon.pid())?,
        resident_peak: 0,
        parts: String::new(),
        rounds: 0,
        bench_runs: None,
    };
    if let Err(error) = load(&mut daemon, options, &mut summary) {
        return Err(error.context(daemon.how_it_ended()));
    }
    daemon.expect_alive()?;
    daemon.stop_and_check()?;
    Ok(summary)
}

/// The clients and the watch over the daemon, until the time is over.
fn load(daemon: &mut Daemon, options: &Options, summary: &mut Summary) -> Result<()> {
    let address = daemon.address();
    let over = AtomicBool::new(false);
    let (watched, rounds) = std::thread::scope(|scope| {
        let clients: Vec<_> = (0..CLIENTS)
            .map(|nth| {
                let (address, over) = (&address, &over);
                scope.spawn(move || work(address, nth, over))
            })
            .collect();
        let watched = watch(daemon, options, summary);
        over.store(true, Ordering::Relaxed);
        let rounds: Result<Vec<u64>> = clients
            .into_iter()
            .map(|client| client.join().expect("a client does not panic"))
            .collect();
        (watched, rounds)
    });
    watched?;
    summary.rounds = rounds?.iter().sum();
    Ok(())
}

/// Samples until the time is over, and keeps `cairn-bench` running, where there is one.
fn watch(daemon: &mut Daemon, options: &Options, summary: &mut Summary) -> Result<()> {
    let end = Deadline::after(options.length);
    let mut bench = Bench::start(daemon)?;
    let mut samples = 0_u32;
    let mut parts_peak = 0;
    while !end.passed() {
        daemon.expect_alive()?;
        let now = resident_bytes(daemon.pid())?;
        summary.resident_peak = summary.resident_peak.max(now);
        if samples.is_multiple_of(PARTS_EVERY) && now >= parts_peak {
            parts_peak = now;
            summary.parts = parts(daemon)?;
        }
        if let Some(running) = &mut bench
            && running.has_ended()?
        {
            *summary.bench_runs.get_or_insert(0) += 1;
            bench = Bench::start(daemon)?;
        }
        samples += 1;
        pause(SAMPLE_EVERY);
    }
    if bench.is_some() {
        summary.bench_runs.get_or_insert(0);
    }
    Ok(())
}

fn parts(daemon: &Daemon) -> Result<String> {
    let text = daemon.command(&["status"])?.succeeded("cairn status")?;
    let line = text.lines().find_map(|line| line.strip_prefix("memory_parts "));
    Ok(line.context("cairn status says nothing of memory_parts")?.to_owned())
}

/// VmRSS of a process.
pub(crate) fn resident_bytes(pid: u32) -> Result<u64> {
    let path = format!("/proc/{pid}/status");
    let text = std::fs::read_to_string(&path).with_context(|| format!("cannot read {path}"))?;
    let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = line.and_then(|line| line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok());
    Ok(kib.with_context(|| format!("{path} has no VmRSS"))? << 10)
}

/// One run of `cairn-bench`; dropping it ends it.
struct Bench(Child);

impl Bench {
    /// `None` where it is not built.
    fn start(daemon: &Daemon) -> Result<Option<Bench>> {
        let Some(program) = binary().map(|cairn| cairn.with_file_name("cairn-bench")) else {
            return Ok(None);
        };
        if !program.is_file() {
            return Ok(None);
        }
        let mut command = Command::new(program);
        command.args(["nfs", &format!("nfs://{}/", daemon.address().nfs), "--seconds", "4"]);
        command.args(["--size", "512M", "--workload", BENCH_WORKLOADS]);
        command.stdin(Stdio::null()).stdout(Stdio::null());
        Ok(Some(Bench(command.spawn().context("cannot run cairn-bench")?)))
    }

    /// An error when it failed: its own words are on stderr.
    fn has_ended(&mut self) -> Result<bool> {
        match self.0.try_wait()? {
            None => Ok(false),
            Some(status) if status.success() => Ok(true),
            Some(status) => anyhow::bail!("cairn-bench ended with {status}"),
        }
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        // It may have ended already; there is nobody left to tell either way.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Rounds of work in a directory of its own.
fn work(address: &Address, nth: u64, over: &AtomicBool) -> Result<u64> {
    let mut client = Client::connect(address, &Cred::ROOT).context("mount")?;
    let root = client.root().clone();
    let name = format!("client-{nth}");
    let dir = client.mkdir(&root, name.as_bytes(), sattr3::default()).context("mkdir")?.handle;
    let mut random = fastrand::Rng::with_seed(nth);
    let mut rounds = 0;
    while !over.load(Ordering::Relaxed) {
        round(&mut client, &dir, &mut random, over)
            .with_context(|| format!("{name}, round {rounds}"))?;
        rounds += 1;
    }
    Ok(rounds)
}

fn round(
    client: &mut Client,
    dir: &nfs_fh3,
    random: &mut fastrand::Rng,
    over: &AtomicBool,
) -> Result<()> {
    let data: Vec<u8> = (0..1 << 20).map(|_| random.u8(..)).collect();
    let guarded = || createhow3::GUARDED(sattr3::default());
    let large = client.create(dir, b"large", guarded()).context("CREATE")?.handle;
    for at in (0..LARGE_BYTES).step_by(data.len()) {
        if over.load(Ordering::Relaxed) {
            break;
        }
        client.write(&large, at, &data, stable_how::UNSTABLE).context("WRITE in sequence")?;
    }
    for _ in 0..SMALL_FILES {
        let at = random.u64(..LARGE_BYTES / 4096) * 4096;
        client.write(&large, at, &data[..4096], stable_how::UNSTABLE).context("WRITE at random")?;
    }
    client.commit(&large, 0, 0).context("COMMIT")?;
    for file in 0..SMALL_FILES {
        let name = format!("small-{file}");
        let made = client.create(dir, name.as_bytes(), guarded()).context("CREATE")?.handle;
        let size = random.usize(1..20_000);
        client.write(&made, 0, &data[..size], stable_how::FILE_SYNC).context("WRITE, small")?;
    }
    client.readdirplus(dir, (0, cookieverf3::default()), 64 << 10).context("READDIRPLUS")?;
    for _ in 0..32 {
        let at = random.u64(..LARGE_BYTES >> 20) << 20;
        client.read(&large, at, 1 << 20).context("READ")?;
    }
    for file in 0..SMALL_FILES {
        client.remove(dir, format!("small-{file}").as_bytes()).context("REMOVE")?;
    }
    client.remove(dir, b"large").context("REMOVE, large")?;
    Ok(())
}
