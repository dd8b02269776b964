//! Acknowledged means flushed: each CREATE, COMMIT and FILE_SYNC WRITE is answered only after the
//! device has completed a flush that began or ended since the call was sent.
//!
//! The pool is on a file system on a loop device that nobody else uses, one client makes one call
//! at a time, and the device counts its flushes (`loop_device.rs` of the library). A single call
//! could be lucky, when the kernel flushes for reasons of its own; a hundred of each kind cannot.
//! That the test can fail is tested too: with the daemon's flushes planted out
//! (CAIRN_SABOTAGE=skip-flush) it must find calls that were answered without one.

use anyhow::{Context, Result};
use cairn_accept::nfs3_types::nfs3::*;
use cairn_accept::{Client, Cred, Daemon, LoopDevice, Setup, binary, skip, skip_without};
use std::fmt;
use std::sync::{Mutex, PoisonError};

const CALLS: usize = 100;

/// Two loop devices at once would be fine; two daemons on two cores make it slow.
static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Sabotage {
    None,
    SkipFlush,
}

/// Calls of each kind that were answered before a flush.
#[derive(Debug, Default, PartialEq, Eq)]
struct Unflushed {
    creates: usize,
    commits: usize,
    writes: usize,
}

impl fmt::Display for Unflushed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Unflushed { creates, commits, writes } = self;
        write!(
            f,
            "of {CALLS} calls each, answered without a flush: CREATE {creates}, COMMIT {commits}, \
             FILE_SYNC WRITE {writes}"
        )
    }
}

/// Nothing when this machine cannot run it.
fn unflushed(test: &str, sabotage: Sabotage) -> Option<Result<Unflushed>> {
    if binary().is_none() {
        skip(test, "the cairn binary");
        return None;
    }
    if !rustix::process::geteuid().is_root() {
        skip(test, "root");
        return None;
    }
    if !std::path::Path::new("/dev/loop-control").exists() {
        skip(test, "loop device");
        return None;
    }
    if skip_without(test, "mkfs.ext4", "e2fsprogs") || skip_without(test, "losetup", "loop device")
    {
        return None;
    }
    let _turn = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    Some(measure(sabotage))
}

fn measure(sabotage: Sabotage) -> Result<Unflushed> {
    let device = LoopDevice::mount(2 << 30)?;
    let mut setup = Setup::new(&device.path().join("pool"))?;
    setup.size = "1G";
    if sabotage == Sabotage::SkipFlush {
        setup.environment.push(("CAIRN_SABOTAGE", "skip-flush".to_owned()));
    }
    // Declared after the device: it must end before its file system goes.
    let mut daemon = Daemon::start(setup)?;
    let mut client = Client::connect(&daemon.address(), &Cred::ROOT)?;
    let root = client.root().clone();
    let mut unflushed = Unflushed::default();
    let flushed = |what: &mut dyn FnMut() -> Result<()>| -> Result<bool> {
        let before = device.flushes()?;
        what()?;
        Ok(device.flushes()? > before)
    };

    let mut files = Vec::new();
    for number in 0..CALLS {
        let name = format!("file-{number}");
        let ok = flushed(&mut || {
            let how = createhow3::GUARDED(sattr3::default());
            files.push(client.create(&root, name.as_bytes(), how).context("CREATE")?.handle);
            Ok(())
        })?;
        unflushed.creates += usize::from(!ok);
    }
    for (number, file) in files.iter().enumerate() {
        // Sizes on both sides of what is kept inline.
        let bytes = vec![7; [100, 4_096, 32_768, 65_536][number % 4]];
        let ok = flushed(&mut || {
            let written = client.write(file, 0, &bytes, stable_how::FILE_SYNC).context("WRITE")?;
            anyhow::ensure!(written.committed == stable_how::FILE_SYNC, "{written:?}");
            Ok(())
        })?;
        unflushed.writes += usize::from(!ok);
    }
    for (number, file) in files.iter().enumerate() {
        let bytes = vec![9; [100, 4_096, 32_768, 65_536][number % 4]];
        let written = client.write(file, 1 << 20, &bytes, stable_how::UNSTABLE).context("WRITE")?;
        if written.committed != stable_how::UNSTABLE {
            continue; // already durable: its COMMIT has nothing to flush
        }
        let ok = flushed(&mut || {
            client.commit(file, 0, 0).context("COMMIT")?;
            Ok(())
        })?;
        unflushed.commits += usize::from(!ok);
    }
    drop(client);
    daemon.kill()?;
    Ok(unflushed)
}

#[test]
fn a_durable_call_is_answered_after_a_flush_of_its_device() {
    let Some(measured) = unflushed("flush_proof", Sabotage::None) else { return };
    let unflushed = measured.unwrap_or_else(|error| panic!("{error:#}"));
    assert_eq!(unflushed, Unflushed::default(), "{unflushed}");
}

#[test]
fn the_flush_test_fails_when_the_flush_is_planted_out() {
    let Some(measured) = unflushed("flush_proof_sabotaged", Sabotage::SkipFlush) else { return };
    let unflushed = measured.unwrap_or_else(|error| panic!("{error:#}"));
    let Unflushed { creates, commits, writes } = unflushed;
    assert!(creates > 0 && commits > 0 && writes > 0, "the plant was not noticed: {unflushed}");
}
