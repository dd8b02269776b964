//! cairn as the Linux kernel's NFS client sees it.
//!
//! The other acceptance tests send calls one by one. A kernel sends what its page cache, its
//! attribute cache and its retransmission make of what programs do: writes split, gathered and
//! reordered, COMMIT when memory is short, unlink as a rename while the file is open, whole minutes
//! of patience while the server is away. So here ordinary programs work on a mounted cairn, and the
//! same work on the local disk says what should have come out.
//!
//! It wants root, a kernel with NFS and a machine nobody else uses: `cargo xtask guest --suite nfs`
//! boots one. There is one daemon and one mount for all steps. Each step has a folder of its own,
//! and a step that fails does not end the run: the later ones tell how far the damage goes. At the
//! end the daemon stops and `cairn check --data` has the last word.
//!
//! Speed is not looked at. The time behind each step is for planning.

mod compare;
mod copies;
mod exerciser;
mod meaning;
mod mount;
mod programs;
mod recall;
mod restart;
mod sample;
mod sharing;
mod world;

use crate::clock::Stopwatch;
use crate::skip::{skip, skip_without};
use anyhow::{Result, ensure};
use world::World;

pub use restart::{LOAD_COMMAND, load};

const NAME: &str = "kernel-nfs";

#[derive(Clone, Debug)]
pub struct Options {
    /// Only what is quick enough for every change.
    pub slice: bool,
    /// Only these steps; all when empty.
    pub only: Vec<String>,
    pub seed: u64,
    pub shards: u32,
}

struct Step {
    name: &'static str,
    in_slice: bool,
    /// Answers what it did, for the report.
    run: fn(&mut World) -> Result<String>,
}

const fn step(name: &'static str, run: fn(&mut World) -> Result<String>) -> Step {
    Step { name, in_slice: true, run }
}

const fn long(name: &'static str, run: fn(&mut World) -> Result<String>) -> Step {
    Step { name, in_slice: false, run }
}

/// In the order in which they run: the last two need what the others left behind.
const STEPS: &[Step] = &[
    step("copy", copies::copy),
    step("untar", copies::untar),
    long("rsync", copies::rsync),
    step("names", meaning::names),
    step("meaning", meaning::calls),
    step("special", meaning::special_files),
    step("users", meaning::users),
    step("listing", meaning::listing),
    step("two-mounts", sharing::two_mounts),
    step("recall", recall::recall),
    step("git", programs::git),
    step("sqlite", programs::sqlite),
    long("sqlite-wal", programs::sqlite_wal),
    step("fio-direct", programs::fio_direct),
    step("fio-buffered", programs::fio_buffered),
    long("fio-mmap", programs::fio_mmap),
    step("fsx", exerciser::buffered),
    step("fsx-direct", exerciser::direct),
    step("restart", restart::under_load),
    step("remount", copies::remount),
    step("check", world::check),
];

/// Runs the steps and prints a line for each; true when none failed.
pub fn run(options: &Options) -> Result<bool> {
    if !rustix::process::geteuid().is_root() {
        skip(NAME, "root");
        return Ok(true);
    }
    if skip_without(NAME, "mount.nfs", "nfs-common") {
        return Ok(true);
    }
    for name in &options.only {
        let known: Vec<&str> = STEPS.iter().map(|step| step.name).collect();
        ensure!(known.contains(&name.as_str()), "no step `{name}`; there are: {}", known.join(" "));
    }
    let chosen = |step: &&Step| match options.only.is_empty() {
        true => step.in_slice || !options.slice,
        false => options.only.iter().any(|name| name == step.name),
    };
    let mut world = World::start(options)?;
    let (mut passed, mut failed) = (0, 0);
    for step in STEPS.iter().filter(chosen) {
        // A step that hangs is told from this line, when the machine's own time is up.
        eprintln!("begin {}", step.name);
        let watch = Stopwatch::start();
        let outcome = (step.run)(&mut world).and_then(|done| {
            world.daemon.expect_alive()?;
            Ok(done)
        });
        let seconds = watch.elapsed().as_secs_f64();
        match outcome {
            Ok(done) => {
                passed += 1;
                println!("ok   {:<12} {seconds:>7.1} s  {done}", step.name);
            }
            Err(error) => {
                failed += 1;
                println!("FAIL {:<12} {seconds:>7.1} s  {error:#}", step.name);
            }
        }
    }
    if failed > 0 {
        eprintln!("the daemon's last words:{}", world.daemon.last_words());
    }
    println!("{passed} passed, {failed} failed");
    Ok(failed == 0)
}
