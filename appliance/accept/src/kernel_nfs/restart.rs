//! The daemon is killed and started again while programs work, and they notice nothing but a pause.
//!
//! The mount is hard, so the kernel repeats its calls until they are answered; no call of the load
//! may fail. Three kinds of work go on: small files that are fsynced, whose every byte must be there
//! afterwards; one large file written with no fsync until its end, whose UNSTABLE writes the client
//! must send again when the daemon's write verifier has changed (RFC 1813 section 3.3.21); and
//! renames. A rename or unlink whose answer was lost is repeated after the restart and then finds
//! its work done: ENOENT is accepted when the outcome is the wanted one, as with any NFSv3 server.
//!
//! The load is a process of its own, and must be. Whoever starts a program closes, in the new
//! process, its own open files, and closing a file of a mount waits for its server: a process with
//! such files can never start the server they wait for. The load says in a line what it has
//! finished, and ends when its stdin does.

use super::world::{World, drop_caches};
use crate::clock::{self, Stopwatch};
use crate::program;
use anyhow::{Context, Result, bail, ensure};
use fastrand::Rng;
use std::fs::File;
use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// The subcommand of `cairn-accept` that is the load.
pub const LOAD_COMMAND: &str = "kernel-nfs-load";

const WRITERS: u64 = 3;
/// From a restart to the next finished file: the client waits longer each time a connection fails.
const RECOVERY_LIMIT: Duration = Duration::from_secs(300);
const CHUNK: usize = 64 * 1024;

pub fn under_load(world: &mut World) -> Result<String> {
    let home = world.home("restart")?;
    let kills = world.amount(2, 8);
    let mut load = Load::start(&home)?;
    let outcome = kill_often(world, kills, &mut load).and_then(|worst| {
        load.finish()?;
        Ok(worst)
    });
    if outcome.is_err() {
        // Or the load would wait for its server for ever, and the kernel with it.
        world.mount.give_up()?;
    }
    let worst = outcome.map_err(|error| error.context(load.told().last_words.clone()))?;
    drop_caches()?;
    let told = load.told();
    for number in &told.kept {
        let path = home.join(file_name(*number));
        let found = std::fs::read(&path).with_context(|| format!("cannot read {path:?}"))?;
        ensure!(found == small_content(*number), "{path:?} was fsynced and has other bytes");
    }
    let large = std::fs::read(home.join("large"))?;
    let chunks = told.chunks.context("the load did not say how large its file is")?;
    let wanted = chunks * CHUNK;
    ensure!(large.len() == wanted, "the large file has {} of {wanted} bytes", large.len());
    let mut numbered = large.chunks(CHUNK).zip(0..);
    if let Some(bad) = numbered.position(|(found, number)| found != chunk(number)) {
        bail!("chunk {bad} of {chunks} was written, and fsynced at the end, and differs");
    }
    let files = told.kept.len();
    let mib = large.len() >> 20;
    Ok(format!("{kills} kills, {files} small files, {mib} MiB in one, longest pause {worst:.0?}"))
}

/// Answers the longest time from a kill to the next finished file.
fn kill_often(world: &mut World, kills: u32, load: &mut Load) -> Result<Duration> {
    let mut rng = Rng::with_seed(world.seed);
    let mut worst = Duration::ZERO;
    load.wait_for(2 * WRITERS).context("before the first kill")?;
    for kill in 1..=kills {
        clock::pause(Duration::from_micros(rng.u64(..400_000)));
        world.daemon.kill()?;
        let watch = Stopwatch::start();
        let finished = load.told().finished;
        world.daemon.restart().with_context(|| format!("start after kill {kill}"))?;
        // Each writer may have had an answer on its way when the daemon died.
        let aim = finished + WRITERS + 1 + rng.u64(..6);
        load.wait_for(aim).with_context(|| format!("after kill {kill} of {kills}"))?;
        worst = worst.max(watch.elapsed());
    }
    world.daemon.expect_alive()?;
    Ok(worst)
}

/// The load as its parent sees it.
struct Load {
    child: Child,
    told: Arc<Mutex<Told>>,
}

#[derive(Default)]
struct Told {
    finished: u64,
    kept: Vec<u64>,
    chunks: Option<usize>,
    last_words: String,
}

impl Told {
    fn note(&mut self, line: &str) {
        match line.split_once(' ').map(|(word, number)| (word, number.parse::<u64>())) {
            Some(("kept", Ok(number))) => {
                self.finished += 1;
                self.kept.push(number);
            }
            Some(("removed", Ok(_))) => self.finished += 1,
            Some(("chunks", Ok(number))) => self.chunks = usize::try_from(number).ok(),
            _ => self.last_words = format!("the load said: {line}"),
        }
    }
}

impl Load {
    fn start(home: &Path) -> Result<Load> {
        let this = std::env::current_exe().context("cannot find our own program")?;
        let mut command = Command::new(this);
        command.arg(LOAD_COMMAND).arg(home);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::inherit());
        let mut child = command.spawn().context("cannot start the load")?;
        let told = Arc::new(Mutex::new(Told::default()));
        let stdout = child.stdout.take().context("no pipe")?;
        let notes = Arc::clone(&told);
        std::thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                lock(&notes).note(&line);
            }
        });
        Ok(Load { child, told })
    }

    fn told(&self) -> MutexGuard<'_, Told> {
        lock(&self.told)
    }

    /// Until so many files are finished.
    fn wait_for(&mut self, aim: u64) -> Result<()> {
        let told = Arc::clone(&self.told);
        let child = &mut self.child;
        let done = || match child.try_wait() {
            Ok(None) => (lock(&told).finished >= aim).then_some(Ok(())),
            Ok(Some(status)) => Some(Err(anyhow::anyhow!("the load ended with {status}"))),
            Err(error) => Some(Err(error.into())),
        };
        clock::eventually(RECOVERY_LIMIT, done)
            .with_context(|| format!("nothing finished in {RECOVERY_LIMIT:?}"))?
    }

    /// Asks it to end, and waits for all it had begun.
    fn finish(&mut self) -> Result<()> {
        drop(self.child.stdin.take());
        let ended = program::wait(&mut self.child, RECOVERY_LIMIT)?;
        let status = ended.context("the load did not end")?;
        ensure!(status.success(), "the load ended with {status}");
        // Its last line may still be on its way through the pipe.
        let told = || self.told().chunks;
        clock::eventually(Duration::from_secs(10), told).context("no last line from the load")?;
        Ok(())
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        // It has ended, or what waits for its calls has been given up.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn lock(told: &Mutex<Told>) -> MutexGuard<'_, Told> {
    told.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The load itself: works in `home` until stdin ends.
pub fn load(home: &Path) -> Result<()> {
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            // Whatever ends it, there is nobody left to work for.
            let _ = std::io::stdin().read_to_end(&mut Vec::new());
            stop.store(true, Ordering::SeqCst);
        });
        let mut threads = vec![scope.spawn(|| write_large(&home.join("large"), &stop))];
        for writer in 0..WRITERS {
            let stop = &stop;
            threads.push(scope.spawn(move || write_small(home, writer, stop)));
        }
        for thread in threads {
            let outcome = thread.join().expect("a writer does not panic");
            if let Err(error) = outcome {
                println!("{error:#}");
                // The other threads may work on; the answer is clear already.
                std::process::exit(1);
            }
        }
        Ok(())
    })
}

/// Files of one writer, each written, fsynced and renamed; every third removed again.
fn write_small(home: &Path, writer: u64, stop: &AtomicBool) -> Result<()> {
    for turn in 0.. {
        if stop.load(Ordering::SeqCst) {
            break;
        }
        let number = writer * 1_000_000 + turn;
        let (temporary, path) = (home.join(format!("t-{number}")), home.join(file_name(number)));
        let mut file = File::create(&temporary).context("create")?;
        file.write_all(&small_content(number)).context("write")?;
        file.sync_all().context("fsync")?;
        drop(file);
        match std::fs::rename(&temporary, &path) {
            Err(error) if error.kind() == ErrorKind::NotFound && path.exists() => {}
            other => other.context("rename")?,
        }
        if turn % 3 == 2 {
            match std::fs::remove_file(&path) {
                Err(error) if error.kind() == ErrorKind::NotFound => {}
                other => other.context("unlink")?,
            }
            ensure!(!path.exists(), "{path:?} was removed and is there");
            println!("removed {number}");
        } else {
            println!("kept {number}");
        }
    }
    Ok(())
}

/// At least enough to be in the middle of it at a kill, and bounded by what a small guest holds.
fn write_large(path: &Path, stop: &AtomicBool) -> Result<()> {
    let mut file = File::create(path).context("create the large file")?;
    let mut chunks = 0;
    while chunks < 1_024 && (chunks < 64 || !stop.load(Ordering::SeqCst)) {
        file.write_all(&chunk(chunks)).context("write the large file")?;
        chunks += 1;
        // Slower than the kills come, or it would all be written before the first.
        clock::pause(Duration::from_millis(40));
    }
    file.sync_all().context("fsync the large file")?;
    println!("chunks {chunks}");
    Ok(())
}

fn file_name(number: u64) -> String {
    format!("f-{number}")
}

fn small_content(number: u64) -> Vec<u8> {
    let mut rng = Rng::with_seed(number);
    (0..rng.usize(1..30_000)).map(|_| rng.u8(..)).collect()
}

fn chunk(number: usize) -> Vec<u8> {
    format!("{number:015} ").repeat(CHUNK / 16).into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chunks_are_whole_and_differ() {
        assert_eq!(chunk(3).len(), CHUNK);
        assert_ne!(chunk(3), chunk(4));
    }

    #[test]
    fn what_the_load_says_is_counted_and_the_rest_is_its_last_words() {
        let mut told = Told::default();
        for line in ["kept 7", "removed 8", "chunks 64", "rename: no such file"] {
            told.note(line);
        }
        assert_eq!((told.finished, told.kept.as_slice(), told.chunks), (2, &[7][..], Some(64)));
        assert_eq!(told.last_words, "the load said: rename: no such file");
    }
}
