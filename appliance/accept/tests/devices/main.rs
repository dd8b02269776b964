//! Pools on block devices: loop devices, which behave like disks where it matters here. They can be
//! partitioned, mounted, held by somebody else, read-only, and made longer or shorter under a pool.

#![allow(clippy::unwrap_used, reason = "a helper of a test fails like the test")]

mod refuse;
mod serve;

use cairn_accept::{Finished, LoopDisk, binary, cairn, finish, skip, skip_without};

const MIB: u64 = 1 << 20;

/// Whether this machine cannot run tests on loop devices; then `test` has been reported.
fn skipped(test: &str) -> bool {
    if binary().is_none() {
        skip(test, "the cairn binary");
        return true;
    }
    if !rustix::process::geteuid().is_root() {
        skip(test, "root");
        return true;
    }
    if !std::path::Path::new("/dev/loop-control").exists() {
        skip(test, "loop device");
        return true;
    }
    skip_without(test, "losetup", "loop device")
}

fn disk(mib: u64) -> LoopDisk {
    LoopDisk::attach(mib * MIB, &[]).expect("a loop device")
}

fn run(arguments: &[&str]) -> Finished {
    finish(cairn(arguments).expect("cairn")).expect("ends by itself")
}

#[track_caller]
fn succeeds(arguments: &[&str]) -> String {
    run(arguments).succeeded(&arguments.join(" ")).unwrap_or_else(|error| panic!("{error:#}"))
}

/// It fails with one line that has all of `words`.
#[track_caller]
fn refused(arguments: &[&str], words: &[&str]) {
    let Finished { status, stderr, .. } = run(arguments);
    assert_eq!(status.code(), Some(1), "{arguments:?}: {stderr}");
    let line = stderr.lines().find(|line| line.starts_with("cairn: ")).unwrap_or_default();
    for word in words {
        assert!(line.contains(word), "no {word:?} in: {stderr}");
    }
}
