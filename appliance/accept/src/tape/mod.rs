//! An archive from end to end, through any number of kills: clients write files over NFS, an agent copies them to
//! a folder that stands for the tapes, releases them, and brings back what clients wait for.
//!
//! One user writes, changes and removes files, others read at random; two agents work with nothing but the
//! command line and NFS, as an operator's script would (`agent.rs`). One thread kills the daemon. What always
//! holds: a reader gets the bytes that were written or is told to come again; what was acknowledged is there.
//! At the end every file is read once more, all copies of removed files are gone from the tapes, and the verifier
//! finds nothing.

mod agent;
mod user;

use crate::clock::{self, Deadline};
use crate::daemon::{Daemon, Setup};
use crate::program;
use crate::served::Address;
use anyhow::{Context, Result, bail};
use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// The agent's name in the pool.
const CONSUMER: &str = "tape";
/// Between two tries of what a dead daemon does not answer.
const AGAIN: Duration = Duration::from_millis(20);
/// A file is copied, released, and brought back, roughly: sets how far kills lie apart.
const STEPS_A_FILE: u64 = 2;
/// A kill comes then at the latest.
const WITHOUT_A_STEP: Duration = Duration::from_secs(10);

#[derive(Clone, Debug)]
pub struct Options {
    pub files: usize,
    pub kills: u32,
    pub shards: u32,
    pub seed: u64,
    /// The run fails when it is not done by then.
    pub limit: Duration,
}

/// What a run did.
#[derive(Debug, Default)]
pub struct Summary {
    pub kills: u32,
    pub files: usize,
    pub removed: usize,
    /// Files that were offline when all was archived.
    pub offline: usize,
    pub bytes: u64,
    pub counts: Counts,
}

/// What happened, counted by whom it happened to.
#[derive(Debug, Default)]
pub struct Counts {
    /// Copies made, releases done, and those refused since the file had changed.
    pub archived: AtomicU64,
    pub released: AtomicU64,
    pub stale: AtomicU64,
    /// Stages for who waited, and copies dropped for removed files.
    pub staged: AtomicU64,
    pub dropped: AtomicU64,
    /// Whole files read and compared, and answers to come again on the way.
    pub reads: AtomicU64,
    pub later: AtomicU64,
}

impl Counts {
    /// How far all of it is.
    fn steps(&self) -> u64 {
        let all = [&self.archived, &self.released, &self.staged];
        all.iter().map(|count| count.load(Ordering::Relaxed)).sum()
    }
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let of = |count: &AtomicU64| count.load(Ordering::Relaxed);
        let counts = &self.counts;
        for (name, value) in [
            ("kills", u64::from(self.kills)),
            ("files", self.files as u64),
            ("files removed", self.removed as u64),
            ("files offline when all was archived", self.offline as u64),
            ("bytes compared at the end", self.bytes),
            ("copies made", of(&counts.archived)),
            ("releases", of(&counts.released)),
            ("releases refused: changed meanwhile", of(&counts.stale)),
            ("stages for who waited", of(&counts.staged)),
            ("copies dropped", of(&counts.dropped)),
            ("files read and compared meanwhile", of(&counts.reads)),
            ("reads told to come again", of(&counts.later)),
        ] {
            writeln!(f, "{name:<36} {value:>12}")?;
        }
        write!(f, "nothing lost, no wrong byte")
    }
}

/// What a file should hold; `None` while its user changes it.
type Expected = Option<Vec<u8>>;

/// What all who take part share.
struct World {
    address: Address,
    socket: PathBuf,
    tapes: PathBuf,
    /// By path. A removed file is not in it.
    files: Mutex<BTreeMap<String, Expected>>,
    counts: Counts,
    /// Nobody has to go on: all is done, or something is wrong.
    over: AtomicBool,
    /// All was compared.
    settled: AtomicBool,
    deadline: Deadline,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}

/// How a command ended.
enum Told {
    Done(String),
    /// By the errno that it names.
    Refused(String),
}

impl World {
    fn is_over(&self) -> bool {
        self.over.load(Ordering::Relaxed)
    }

    /// Runs a command until a daemon has answered it.
    fn ask(&self, arguments: &[&str]) -> Result<Told> {
        loop {
            let mut command = program::cairn(arguments)?;
            command.arg("--socket").arg(&self.socket);
            let finished = program::finish(command)?;
            if finished.status.success() {
                return Ok(Told::Done(finished.stdout));
            }
            let errno = finished.stderr.trim_end().rsplit_once('(').map(|(_, errno)| errno);
            match errno.and_then(|errno| errno.strip_suffix(')')) {
                Some(
                    errno @ ("ESTALE" | "EBADMSG" | "EINVAL" | "ENOSPC" | "EEXIST" | "ENODATA"),
                ) => {
                    return Ok(Told::Refused(errno.to_owned()));
                }
                // It is being killed, is dead, or starts.
                _ if self.deadline.passed() => bail!("{arguments:?}: {}", finished.stderr),
                _ => clock::pause(AGAIN),
            }
        }
    }

    /// The same of what is not refused.
    fn done(&self, arguments: &[&str]) -> Result<String> {
        match self.ask(arguments)? {
            Told::Done(text) => Ok(text),
            Told::Refused(errno) => bail!("{arguments:?}: {errno}"),
        }
    }
}

pub fn run(options: &Options) -> Result<Summary> {
    let dir = tempfile::Builder::new().prefix("cairn-tape-").tempdir()?;
    let mut setup = Setup::new(&dir.path().join("pool"))?;
    setup.size = "8G";
    setup.shards = options.shards;
    setup.memtable = Some("256K".to_owned());
    let tapes = dir.path().join("tapes");
    std::fs::create_dir(&tapes)?;
    let mut daemon = Daemon::start(setup)?;
    let world = World {
        address: daemon.address(),
        socket: daemon.socket(),
        tapes,
        files: Mutex::default(),
        counts: Counts::default(),
        over: AtomicBool::new(false),
        settled: AtomicBool::new(false),
        deadline: Deadline::after(options.limit),
    };
    world.done(&["changes", "consumer", "add", CONSUMER, "--from", "0"])?;
    let done = play(&mut daemon, &world, options);
    let (removed, offline, bytes) = match done {
        Ok(done) => done,
        Err(error) => return Err(error.context(daemon.how_it_ended())),
    };
    daemon.stop_and_check()?;
    let World { counts, files, .. } = world;
    let files = lock(&files).len();
    Ok(Summary { kills: options.kills, files, removed, offline, bytes, counts })
}

/// Everybody's part; how many files were removed, how many were offline at the end, and the bytes compared.
fn play(daemon: &mut Daemon, world: &World, options: &Options) -> Result<(usize, usize, u64)> {
    let (written, archived) = (AtomicBool::new(false), AtomicBool::new(false));
    std::thread::scope(|scope| {
        // Whoever fails ends it for all.
        let part = |result: Result<()>| {
            if result.is_err() {
                world.over.store(true, Ordering::Relaxed);
            }
            result
        };
        let killer = scope.spawn(move || part(kill(daemon, world, options)));
        let mut all = Vec::new();
        for nth in 0..2 {
            let seed = options.seed ^ (nth << 32);
            all.push(scope.spawn(move || part(user::read_at_random(world, seed))));
        }
        all.push(scope.spawn(move || part(agent::recall(world))));
        let (written, archived) = (&written, &archived);
        all.push(scope.spawn(move || part(agent::archive(world, written, archived))));
        let user = scope.spawn(move || {
            let removed = user::write(world, options);
            written.store(true, Ordering::Relaxed);
            part(removed.as_ref().map(drop).map_err(|error| anyhow::anyhow!("{error:#}")))?;
            removed
        });
        let ended = || -> Result<(usize, usize, u64)> {
            let removed = user.join().expect("it does not panic")?;
            while !archived.load(Ordering::Relaxed) && !world.is_over() {
                anyhow::ensure!(!world.deadline.passed(), "the agent is not done");
                clock::pause(AGAIN);
            }
            let offline = user::count_offline(world)?;
            let bytes = user::compare_all(world)?;
            Ok((removed, offline, bytes))
        };
        let ended = ended();
        // What is left of the kills comes now.
        world.settled.store(true, Ordering::Relaxed);
        let killed = killer.join().expect("it does not panic");
        world.over.store(true, Ordering::Relaxed);
        for one in all {
            one.join().expect("it does not panic")?;
        }
        let ended = ended?;
        killed?;
        agent::look_at_tapes(world).context("the tapes at the end")?;
        Ok(ended)
    })
}

/// Kills the daemon at random moments, spread over what there is to do, and starts it again.
fn kill(daemon: &mut Daemon, world: &World, options: &Options) -> Result<()> {
    let mut random = fastrand::Rng::with_seed(options.seed ^ 0x6b69_6c6c);
    let steps = STEPS_A_FILE * options.files as u64 / u64::from(options.kills.max(1));
    for nth in 0..options.kills {
        let until = world.counts.steps() + random.u64(1..2 * steps.max(1));
        let patience = Deadline::after(WITHOUT_A_STEP);
        let goes_on = || world.counts.steps() < until && !patience.passed();
        while goes_on() && !world.settled.load(Ordering::Relaxed) && !world.is_over() {
            clock::pause(AGAIN);
        }
        clock::pause(Duration::from_millis(random.u64(..50)));
        if world.is_over() {
            bail!("given up after {nth} kills");
        }
        daemon.expect_alive()?;
        daemon.kill()?;
        daemon.restart().with_context(|| format!("after kill {}", nth + 1))?;
    }
    Ok(())
}
