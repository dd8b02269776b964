//! What is done to the engine, in which order, and the rows that come of it.
//!
//! Four lives of one pool. In the first, files are made. In the second they are looked up and listed,
//! from a device and not from what making them left in memory; what they cost there is known from a life
//! in between, which writes all memtables into trees. Then large files are written.
//! In the third these are read, in the fourth the small ones are removed.
//!
//! Every change is durable when its operation ends, as an NFS server would ask for it.

use super::fill;
use super::session::{BenchShard, Bounds, Measure, Session, free_blocks_in_trees, with_pool};
use anyhow::Result;
use cairn_base::{Arena, BLOCK_BYTES};
use cairn_daemon::Claim;
use cairn_engine::attr::SetAttr;
use cairn_engine::op::{Create, CreateHow, Getattr, Lookup, Mkdir, Read, Readdir, Unlink, Write};
use cairn_engine::{Cred, FsError, Name};
use cairn_format::{EntryPosition, InodeNo};
use std::rc::Rc;
use std::time::Duration;

/// Directories below the root: over that many tablets the files are spread.
const DIRECTORIES: u64 = 64;
const MIB: u64 = 1 << 20;
const PAGE_ENTRIES: usize = 512;

pub struct Scale {
    pub files: u64,
    pub bytes: u64,
    pub time: Duration,
    pub depth: u64,
    /// Other than the engine's own.
    pub memtable: Option<u64>,
}

pub struct Row {
    pub name: &'static str,
    pub measure: Measure,
    /// Of the device, for each file that exists; only where files were just made.
    pub metadata_bytes_per_file: Option<f64>,
}

fn dir_name(nth: u64) -> Result<Name, FsError> {
    Name::parse(format!("d{nth}").as_bytes())
}

fn file_name(nth: u64) -> Result<Name, FsError> {
    Name::parse(format!("file-{nth:08}").as_bytes())
}

/// Calls `tell` with each row as it is done.
pub fn run(
    claim: &Claim,
    arena: &Arena,
    scale: &Scale,
    mut tell: impl FnMut(&Row) -> Result<()>,
) -> Result<()> {
    let bounds = |operations| Bounds { operations, time: scale.time };
    let plain = |name, measure| Row { name, measure, metadata_bytes_per_file: None };

    let dirs = with_pool(claim, arena, scale, async |session| make_dirs(session).await)?;
    let free_before = free_blocks_in_trees(claim, arena)?;
    let created = with_pool(claim, arena, scale, async |session| {
        create(session, &dirs, bounds(scale.files)).await
    })?;
    let files = created.operations;
    let used = free_before.saturating_sub(free_blocks_in_trees(claim, arena)?);
    let per_file = (used * BLOCK_BYTES as u64) as f64 / files.max(1) as f64;
    let metadata_bytes_per_file = Some(per_file);

    let (large, mib_written) = with_pool(claim, arena, scale, async |session| {
        tell(&Row { name: "create", measure: created, metadata_bytes_per_file })?;
        tell(&plain("stat", stat(session, &dirs, files, bounds(scale.files)).await?))?;
        tell(&plain("readdir", readdir(session, &dirs, bounds(files)).await?))?;
        let large = make_large(session).await?;
        let wanted = (scale.bytes / MIB).max(1);
        let written = write(session, &large, MIB, bounds(wanted)).await?;
        let mib_written = written.operations;
        tell(&plain("write-1m", written))?;
        let wanted = scale.bytes / BLOCK_BYTES as u64;
        tell(&plain("write-4k", write(session, &large, 4096, bounds(wanted)).await?))?;
        Ok((large, mib_written))
    })?;

    with_pool(claim, arena, scale, async |session| {
        let wanted = bounds(mib_written);
        tell(&plain("read-1m", read(session, &large, MIB, mib_written, wanted).await?))?;
        let wanted = bounds(scale.bytes / BLOCK_BYTES as u64);
        tell(&plain("read-4k", read(session, &large, 4096, mib_written, wanted).await?))
    })?;

    with_pool(claim, arena, scale, async |session| {
        let dirs = dirs.clone();
        let unlink = move |shard: BenchShard, nth: u64| {
            let dir = dirs[(nth % DIRECTORIES) as usize];
            async move {
                let name = file_name(nth)?;
                shard.call(Unlink { cred: Cred::root(), dir, name }).await.map(|_| 0)
            }
        };
        tell(&plain("unlink", session.measure(bounds(files), unlink).await?))
    })
}

type Inodes = Rc<Vec<InodeNo>>;

async fn make_dirs(session: &Session) -> Result<Inodes> {
    let mut dirs = Vec::new();
    for nth in 0..DIRECTORIES {
        let (cred, set) = (Cred::root(), SetAttr::default());
        let make = Mkdir { cred, dir: InodeNo::ROOT, name: dir_name(nth)?, set };
        dirs.push(session.shard.call(make).await?.ino);
    }
    Ok(Rc::new(dirs))
}

/// One large file for each lane.
async fn make_large(session: &Session) -> Result<Inodes> {
    let mut files = Vec::new();
    for nth in 0..session.depth {
        let name = Name::parse(format!("large-{nth}").as_bytes())?;
        let how = CreateHow::Guarded(SetAttr::default());
        let make = Create { cred: Cred::root(), dir: InodeNo::ROOT, name, how };
        files.push(session.shard.call(make).await?.ino);
    }
    Ok(Rc::new(files))
}

async fn create(session: &Session, dirs: &Inodes, bounds: Bounds) -> Result<Measure> {
    let dirs = Rc::clone(dirs);
    let create = move |shard: BenchShard, nth: u64| {
        let dir = dirs[(nth % DIRECTORIES) as usize];
        async move {
            let how = CreateHow::Guarded(SetAttr::default());
            let name = file_name(nth)?;
            shard.call(Create { cred: Cred::root(), dir, name, how }).await.map(|_| 0)
        }
    };
    session.measure(bounds, create).await
}

/// LOOKUP and GETATTR of files in scrambled order.
async fn stat(session: &Session, dirs: &Inodes, files: u64, bounds: Bounds) -> Result<Measure> {
    let dirs = Rc::clone(dirs);
    let stat = move |shard: BenchShard, nth: u64| {
        let file = scrambled(nth) % files.max(1);
        let dir = dirs[(file % DIRECTORIES) as usize];
        async move {
            let name = file_name(file)?;
            let found = shard.call(Lookup { cred: Cred::root(), dir, name }).await?;
            shard.call(Getattr { ino: found.child }).await.map(|_| 0)
        }
    };
    session.measure(bounds, stat).await
}

/// An operation is a page of a listing.
async fn readdir(session: &Session, dirs: &Inodes, bounds: Bounds) -> Result<Measure> {
    // Where each directory's listing has come to; a lane that meets its end begins it again.
    let places: Rc<Vec<std::cell::Cell<EntryPosition>>> =
        Rc::new(dirs.iter().map(|_| std::cell::Cell::new(EntryPosition(0))).collect());
    let dirs = Rc::clone(dirs);
    let readdir = move |shard: BenchShard, nth: u64| {
        let at = (nth % DIRECTORIES) as usize;
        let (dir, places) = (dirs[at], Rc::clone(&places));
        async move {
            let after = places[at].get();
            let page = Readdir { cred: Cred::root(), dir, after, count_max: PAGE_ENTRIES };
            let listing = shard.call(page).await?;
            let last = listing.entries.last().filter(|_| !listing.eof);
            places[at].set(last.map_or(EntryPosition(0), |entry| entry.position));
            Ok(0)
        }
    };
    session.measure(bounds, readdir).await
}

/// A MiB in sequence, each file in turn; or 4 KiB at scrambled places of a GiB.
async fn write(session: &Session, files: &Inodes, bytes: u64, bounds: Bounds) -> Result<Measure> {
    let files = Rc::clone(files);
    let write = move |shard: BenchShard, nth: u64| {
        let count = files.len() as u64;
        let ino = files[(nth % count) as usize];
        let at = if bytes == MIB { nth / count } else { scrambled(nth) % (1024 * MIB / bytes) };
        async move {
            let len = bytes as usize;
            let mut data = shard.arena().alloc(len);
            fill(nth, &mut data);
            let stability = cairn_engine::op::Stability::FileSync;
            let offset = at * bytes;
            let cred = Cred::root();
            shard.call(Write { cred, ino, offset, data, len, stability }).await?;
            Ok(bytes)
        }
    };
    session.measure(bounds, write).await
}

/// Of what `write` has written in sequence, in scrambled order.
async fn read(
    session: &Session,
    files: &Inodes,
    bytes: u64,
    mib_written: u64,
    bounds: Bounds,
) -> Result<Measure> {
    let files = Rc::clone(files);
    let read = move |shard: BenchShard, nth: u64| {
        let count = files.len() as u64;
        let place = scrambled(nth) % mib_written.max(1);
        let within = if bytes == MIB { 0 } else { scrambled(nth + 1) % (MIB / bytes) };
        let (ino, offset) = (files[(place % count) as usize], place / count * MIB + within * bytes);
        async move {
            let len = bytes as u32;
            let data = shard.call(Read { cred: Cred::root(), ino, offset, len }).await?;
            Ok(data.parts.iter().map(|part| part.len() as u64).sum())
        }
    };
    session.measure(bounds, read).await
}

/// The same order in every run.
fn scrambled(nth: u64) -> u64 {
    fastrand::Rng::with_seed(nth).u64(..)
}
