//! Who has the files: writes, changes, removes and reads them over NFS.

use super::{AGAIN, Expected, Options, World, count, lock};
use crate::client::{Answer, Client, Cred, Fault, set_size};
use crate::clock;
use crate::nfs3_types::nfs3::*;
use crate::tree::Tree;
use anyhow::{Context, Result, bail, ensure};
use std::sync::atomic::Ordering;

/// As much as one WRITE carries.
const WRITE_BYTES: usize = 256 << 10;
/// Each so manyth file has more than a MiB, which staged data is compared by.
const LARGE_EVERY: usize = 40;
const FILES_A_DIR: usize = 100;
/// Files that are written and not copied yet.
const AHEAD_MAX: u64 = 100;
/// Who compares at the end.
const COMPARERS: usize = 8;

/// A connection that is made again after each death of the daemon.
pub struct Patient<'w> {
    world: &'w World,
    tree: Option<Tree>,
}

impl<'w> Patient<'w> {
    pub fn new(world: &'w World) -> Patient<'w> {
        Patient { world, tree: None }
    }

    /// Does something until a daemon has answered it; it must bear being done twice.
    pub fn until_answered<T>(&mut self, mut what: impl FnMut(&mut Tree) -> Answer<T>) -> Result<T> {
        loop {
            if self.tree.is_none() {
                let client = Client::connect(&self.world.address, &Cred::ROOT);
                self.tree = client.ok().map(Tree::new);
            }
            let answer = self.tree.as_mut().map(&mut what);
            match answer {
                Some(Ok(done)) => return Ok(done),
                Some(Err(Fault::Lost(_))) | None => {
                    self.tree = None;
                    ensure!(!self.world.deadline.passed(), "no daemon answers in time");
                    clock::pause(AGAIN);
                }
                Some(Err(fault)) => bail!("{fault}"),
            }
        }
    }
}

fn content(random: &mut fastrand::Rng, nth: usize) -> Vec<u8> {
    let len = match nth % LARGE_EVERY {
        0 => random.usize(1 << 20..3 << 20),
        1 => 0,
        _ => random.usize(1..24 << 10),
    };
    let salt = random.u8(1..);
    (0..len).map(|at| (at as u8).wrapping_mul(31) ^ (at >> 8) as u8 ^ salt).collect()
}

fn expect(world: &World, path: &str, what: Expected) {
    lock(&world.files).insert(path.to_owned(), what);
}

/// The whole file anew, whatever an earlier try has left.
fn put(tree: &mut Tree, path: &str, bytes: &[u8]) -> Answer<()> {
    let (dir, name) = crate::tree::split(path.as_bytes());
    tree.make_dirs(dir)?;
    let dir = tree.dir(dir)?;
    let how = createhow3::UNCHECKED(set_size(0));
    let file = tree.client.create(&dir, name, how)?.handle;
    for (nth, piece) in bytes.chunks(WRITE_BYTES).enumerate() {
        tree.client.write(&file, (nth * WRITE_BYTES) as u64, piece, stable_how::UNSTABLE)?;
    }
    // A verifier that has changed means that a daemon died: then the connection broke as well.
    tree.client.commit(&file, 0, 0).map(drop)
}

/// Writes all files, then changes some and removes some. How many were removed.
pub fn write(world: &World, options: &Options) -> Result<usize> {
    let mut random = fastrand::Rng::with_seed(options.seed);
    let mut client = Patient::new(world);
    let mut removed = 0;
    for nth in 0..options.files {
        let path = format!("dir-{}/file-{nth}", nth / FILES_A_DIR);
        let bytes = content(&mut random, nth);
        client.until_answered(|tree| put(tree, &path, &bytes)).with_context(|| path.clone())?;
        expect(world, &path, Some(bytes));
        if nth % 10 == 9 {
            let other = random.usize(..nth);
            let path = format!("dir-{}/file-{other}", other / FILES_A_DIR);
            removed += usize::from(change(world, &mut client, &mut random, &path)?);
        }
        // The agent is at work all the while.
        let ahead =
            |world: &World| nth as u64 > world.counts.archived.load(Ordering::Relaxed) + AHEAD_MAX;
        while ahead(world) && !world.is_over() {
            ensure!(!world.deadline.passed(), "the agent copies nothing");
            clock::pause(AGAIN);
        }
        if world.is_over() {
            bail!("given up at file {nth}");
        }
    }
    Ok(removed)
}

/// Changes or removes a file, which may be offline by now. True when it was removed.
fn change(
    world: &World,
    client: &mut Patient<'_>,
    random: &mut fastrand::Rng,
    path: &str,
) -> Result<bool> {
    let Some(Some(mut bytes)) = lock(&world.files).get(path).cloned() else { return Ok(false) };
    expect(world, path, None);
    match random.u8(..4) {
        0 => {
            client.until_answered(|tree| {
                let (dir, name) = crate::tree::split(path.as_bytes());
                let dir = tree.dir(dir)?;
                match tree.client.remove(&dir, name) {
                    Err(fault) if !fault.is_no_entry() => Err(fault),
                    _ => Ok(()),
                }
            })?;
            lock(&world.files).remove(path);
            return Ok(true);
        }
        1 => {
            bytes = content(random, 2);
            client.until_answered(|tree| put(tree, path, &bytes))?;
        }
        _ => {
            // In the middle: all of the file has to come back for it.
            let at = random.usize(..bytes.len() + 1);
            let new = vec![random.u8(1..); 300];
            bytes.resize(bytes.len().max(at + new.len()), 0);
            bytes[at..at + new.len()].copy_from_slice(&new);
            client.until_answered(|tree| {
                let Some(file) = tree.find(path.as_bytes())? else {
                    return Err(Fault::Status(nfsstat3::NFS3ERR_NOENT));
                };
                let stable = stable_how::FILE_SYNC;
                tree.client.write(&file.handle, at as u64, &new, stable).map(drop)
            })?;
        }
    }
    expect(world, path, Some(bytes));
    Ok(false)
}

/// Reads files at random until it is over.
pub fn read_at_random(world: &World, seed: u64) -> Result<()> {
    let mut random = fastrand::Rng::with_seed(seed);
    let mut client = Patient::new(world);
    while !world.is_over() {
        let path = {
            let files = lock(&world.files);
            let nth = random.usize(..files.len().max(1));
            files.keys().nth(nth).cloned()
        };
        if let Some(path) = path {
            compare(world, &mut client, &path)?;
            count(&world.counts.reads);
        }
        clock::pause(AGAIN);
    }
    Ok(())
}

/// Reads a file and compares it, unless it changes meanwhile. How many bytes that were.
fn compare(world: &World, client: &mut Patient<'_>, path: &str) -> Result<u64> {
    let expected = |world: &World| lock(&world.files).get(path).cloned();
    let Some(Some(before)) = expected(world) else { return Ok(0) };
    let read = client.until_answered(|tree| read_whole(world, tree, path))?;
    let after = expected(world);
    if after.as_ref() == Some(&Some(before.clone())) {
        let read = read.with_context(|| format!("{path} is lost"))?;
        ensure!(read.len() == before.len(), "{path}: {} bytes of {}", read.len(), before.len());
        let wrong = read.iter().zip(&before).position(|(a, b)| a != b);
        ensure!(wrong.is_none(), "{path}: a wrong byte at {wrong:?}");
    }
    Ok(before.len() as u64)
}

/// What a reader gets who comes again when it is told to.
fn read_whole(world: &World, tree: &mut Tree, path: &str) -> Answer<Option<Vec<u8>>> {
    let Some(file) = tree.find(path.as_bytes())? else { return Ok(None) };
    let mut bytes = Vec::new();
    loop {
        let part = match tree.client.read_once(&file.handle, bytes.len() as u64, 1 << 20) {
            Err(Fault::Status(nfsstat3::NFS3ERR_JUKEBOX)) if !world.deadline.passed() => {
                count(&world.counts.later);
                clock::pause(AGAIN);
                continue;
            }
            // Removed while it was read.
            Err(Fault::Status(nfsstat3::NFS3ERR_STALE)) => return Ok(None),
            other => other?,
        };
        bytes.extend_from_slice(&part.data);
        if part.eof {
            return Ok(Some(bytes));
        }
    }
}

/// Of the files there are.
pub fn count_offline(world: &World) -> Result<usize> {
    let paths: Vec<String> = lock(&world.files).keys().cloned().collect();
    let mut offline = 0;
    for path in paths {
        let blocks = world.done(&["stat", &format!("/{path}"), "-s", "offline_blocks"])?;
        offline += usize::from(blocks.trim() != "0");
    }
    Ok(offline)
}

/// Reads all files once more. How many bytes that were.
pub fn compare_all(world: &World) -> Result<u64> {
    let paths: Vec<String> = lock(&world.files).keys().cloned().collect();
    let part = |paths: &[String]| -> Result<u64> {
        let mut client = Patient::new(world);
        let mut bytes = 0;
        for path in paths {
            ensure!(!world.is_over(), "somebody else has failed");
            bytes += compare(world, &mut client, path)?;
        }
        Ok(bytes)
    };
    std::thread::scope(|scope| {
        let parts = paths.chunks(paths.len().div_ceil(COMPARERS).max(1));
        let parts: Vec<_> = parts.map(|paths| scope.spawn(move || part(paths))).collect();
        parts.into_iter().map(|part| part.join().expect("it does not panic")).sum()
    })
}
