//! Copies real files in over NFS, kills the daemon in the middle, again and again, and then
//! compares: everything acknowledged is there and right.
//!
//! Several connections copy at once (`worker.rs`), each file by a sequence of steps that crosses
//! directories, tablets and shards (`job.rs`). One thread kills: after a random number of
//! acknowledged calls and a random moment more. When the files are copied, the daemon has been
//! killed often enough and its counters say that the paths behind the write log have been taken
//! too (`totals.rs`), the workers finish; after a last kill and restart the tree is compared with
//! the ledger, the daemon is asked to stop, and `cairn check --data` must find nothing.
//!
//! Killing a process proves what recovery does with a log that ends anywhere; that data reached the
//! device is proved elsewhere (`tests/flush_proof.rs`).

mod compare;
mod job;
mod ledger;
mod source;
mod stage;
mod totals;
mod worker;

pub use totals::Totals;

use crate::client::{Client, Cred};
use crate::clock::{self, Deadline};
use crate::daemon::{Daemon, Setup};
use crate::tree::Tree;
use anyhow::{Context, Result};
use compare::Compared;
use ledger::Ledger;
use stage::{Queue, Stage};
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;
use worker::Worker;

/// After so many kills without a resumed fold the run gives up.
const KILLS_MAX: u32 = 50;
/// Calls that copy one file, roughly: sets how far kills lie apart.
const CALLS_A_FILE: u64 = 8;

#[derive(Clone, Debug)]
pub struct Options {
    pub files: usize,
    pub shards: u32,
    pub memtable: String,
    /// Where the files come from; a Debian source package when not said.
    pub source: Option<PathBuf>,
    /// Kills while copying; there may be more, until a fold was resumed.
    pub kills: u32,
    pub large_bytes: u64,
    pub connections: usize,
    pub seed: u64,
    /// The run fails when it is not done by then.
    pub limit: Duration,
}

/// What a run did. Printed as a table.
pub struct Summary {
    pub shards: u32,
    pub kills: u32,
    pub acknowledged: u64,
    pub totals: Totals,
    compared: Compared,
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Summary { shards, kills, acknowledged, totals, compared } = self;
        let rows: [(&str, u64); 14] = [
            ("shards", u64::from(*shards)),
            ("kills", u64::from(*kills)),
            ("calls acknowledged", *acknowledged),
            ("files compared", compared.files),
            ("directories compared", compared.dirs),
            ("symlinks compared", compared.symlinks),
            ("bytes compared", compared.bytes),
            ("log trees written", totals.log_trees_written),
            ("log trees at once, most", totals.log_trees),
            ("merges finished", totals.merges_finished),
            ("folds finished", totals.folds_finished),
            ("folds resumed", totals.folds_resumed),
            ("tablets in use", totals.tablets_in_use),
            ("commits across shards", totals.across_commits),
        ];
        for (what, number) in rows {
            writeln!(f, "{what:<26}{number:>12}")?;
        }
        Ok(())
    }
}

/// Runs once. On failure the pool and the log of what was acknowledged are kept and named.
pub fn run(options: &Options) -> Result<Summary> {
    let work = tempfile::Builder::new().prefix("cairn-kill-run-").tempdir()?;
    run_in(work.path(), options).map_err(|error| {
        let kept = work.keep();
        error.context(format!("kill run with {options:?}; kept: {}", kept.display()))
    })
}

fn run_in(work: &Path, options: &Options) -> Result<Summary> {
    let deadline = Deadline::after(options.limit);
    let originals = source::gather(options.source.as_deref(), options.files, options.large_bytes)?;
    let ledger = Mutex::new(Ledger::create(&work.join("acknowledged.log"))?);
    let queue = Queue::new(originals);
    let stage = Stage::default();

    let mut setup = Setup::new(&work.join("pool"))?;
    setup.shards = options.shards;
    setup.memtable = Some(options.memtable.clone());
    let mut daemon = Daemon::start(setup)?;
    stage.started(daemon.address());

    let outcome = std::thread::scope(|scope| {
        let workers: Vec<_> = (0..options.connections)
            .map(|_| {
                scope.spawn(|| {
                    let worked = Worker::run(&stage, &ledger, &queue);
                    if worked.is_err() {
                        stage.abandon();
                    }
                    worked
                })
            })
            .collect();
        let mut killer = Killer {
            options,
            daemon: &mut daemon,
            stage: &stage,
            ledger: &ledger,
            queue: &queue,
            deadline,
            dice: fastrand::Rng::with_seed(options.seed),
            totals: Totals::default(),
            kills: 0,
        };
        let mut killed = killer.go_on_until_enough();
        queue.close();
        while killed.is_ok() && !workers.iter().all(|worker| worker.is_finished()) {
            killed = killer.look();
            clock::pause(Duration::from_millis(5));
        }
        if killed.is_err() {
            stage.abandon();
        }
        let (totals, kills) = (killer.totals, killer.kills);
        // What a worker saw comes first: the killer only noticed that somebody gave up.
        for worker in workers {
            let worked = worker.join().map_err(|_| anyhow::anyhow!("a worker panicked"));
            worked??;
        }
        killed?;
        Ok((totals, kills))
    });
    lock(&ledger).flush()?;
    let (totals, kills) =
        outcome.map_err(|error: anyhow::Error| error.context(daemon.last_words()))?;
    last_look(daemon, &ledger, options, totals, kills)
}

/// The comparison, the orderly end and the check.
fn last_look(
    mut daemon: Daemon,
    ledger: &Mutex<Ledger>,
    options: &Options,
    mut totals: Totals,
    kills: u32,
) -> Result<Summary> {
    totals.add(&daemon.status()?)?;
    daemon.kill()?;
    daemon.restart()?;
    let client = Client::connect(&daemon.address(), &Cred::ROOT)?;
    let (compared, acknowledged) = {
        let ledger = lock(ledger);
        let mut tree = Tree::new(client);
        (compare::compare(&mut tree, ledger.tree())?, ledger.acknowledged())
    };
    totals.add(&daemon.status()?)?;
    daemon.stop_and_check()?;

    let summary =
        Summary { shards: options.shards, kills: kills + 1, acknowledged, totals, compared };
    let missing = totals.missing(options.shards);
    anyhow::ensure!(
        missing.is_empty(),
        "after {} kills the run has not seen:\n  {}\n{summary}",
        summary.kills,
        missing.join("\n  ")
    );
    Ok(summary)
}

/// Ends and starts the daemon while others use it.
struct Killer<'r> {
    options: &'r Options,
    daemon: &'r mut Daemon,
    stage: &'r Stage,
    ledger: &'r Mutex<Ledger>,
    queue: &'r Queue,
    deadline: Deadline,
    dice: fastrand::Rng,
    totals: Totals,
    kills: u32,
}

impl Killer<'_> {
    fn go_on_until_enough(&mut self) -> Result<()> {
        let calls = self.options.files as u64 * CALLS_A_FILE;
        let apart = (calls / u64::from(self.options.kills + 1)).max(8);
        while !self.is_enough() {
            let calls = self.dice.u64(apart / 4..apart * 2);
            if !self.wait_for_calls(calls)? {
                return Ok(()); // a worker has something to say
            }
            let mut seen = self.totals;
            seen.add(&self.daemon.status()?)?;
            self.totals = seen;
            clock::pause(Duration::from_micros(self.dice.u64(0..20_000)));
            self.daemon.kill()?;
            self.kills += 1;
            self.daemon.restart().with_context(|| format!("start after kill {}", self.kills))?;
            self.stage.started(self.daemon.address());
        }
        Ok(())
    }

    fn is_enough(&self) -> bool {
        let met = self.totals.missing(self.options.shards).is_empty();
        self.queue.first_round_is_over()
            && self.kills >= self.options.kills
            && (met || self.kills >= KILLS_MAX)
    }

    /// Nobody would wake the workers if the daemon ended by itself, or if nothing went on.
    fn look(&mut self) -> Result<()> {
        self.daemon.expect_alive()?;
        anyhow::ensure!(
            !self.deadline.passed(),
            "not done after {:?}: {} kills, {} files finished, {} calls acknowledged",
            self.options.limit,
            self.kills,
            self.queue.finished(),
            lock(self.ledger).acknowledged()
        );
        Ok(())
    }

    /// Waits for so many more acknowledged calls; false when the run is being abandoned.
    fn wait_for_calls(&mut self, calls: u64) -> Result<bool> {
        let aim = lock(self.ledger).acknowledged() + calls;
        loop {
            if self.stage.is_abandoned() {
                return Ok(false);
            }
            if lock(self.ledger).acknowledged() >= aim {
                return Ok(true);
            }
            self.look()?;
            clock::pause(Duration::from_millis(1));
        }
    }
}

fn lock(ledger: &Mutex<Ledger>) -> std::sync::MutexGuard<'_, Ledger> {
    ledger.lock().unwrap_or_else(PoisonError::into_inner)
}
