//! What is done to the engine, in which order, and the rows that come of it.
//!
//! Several lives of one pool. In the first, files are made. In the second they are looked up and listed,
//! from a device and not from what making them left in memory; what they cost there is known from a life
//! in between, which writes all memtables into trees. Then large files are written.
//! In the next these are read. Then some of the small ones are changed, and a life later the change stream is
//! read, first with nothing in memory, then with all of it there. In the last the small ones are removed.
//!
//! Every change is durable when its operation ends, as an NFS server would ask for it.

use super::fill;
use super::session::{BenchShard, Bounds, Did, Measure, Session, free_blocks_in_trees, with_pool};
use anyhow::Result;
use cairn_base::{Arena, BLOCK_BYTES};
use cairn_daemon::Claim;
use cairn_engine::attr::SetAttr;
use cairn_engine::op::{
    Create, CreateHow, Getattr, Lookup, Mkdir, Read, Readdir, Setattr, Unlink, Write,
};
use cairn_engine::{Cred, FsError, Name, SeqIndex};
use cairn_format::{EntryPosition, InodeNo, Seq};
use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

/// Directories below the root: over that many tablets the files are spread.
const DIRECTORIES: u64 = 64;
const MIB: u64 = 1 << 20;
const PAGE_ENTRIES: usize = 512;
/// Changes read at once, and entries of a page of a walk: as the daemon reads them for an agent.
const CHANGES: u64 = 1000;
const PAGE_CHANGES: usize = 256;
const PAGE_WALK: usize = 4096;
/// More would say no more.
const READINGS_MAX: u64 = 5_000;
const PAGES_MAX: u64 = 50_000;

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
        tell(&plain("readdir", readdir(session, &dirs, bounds(files.min(PAGES_MAX))).await?))?;
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

    let since = with_pool(claim, arena, scale, async |session| {
        let since = session.shard.stable().await?;
        change(session, &dirs, files).await?;
        Ok(since)
    })?;
    free_blocks_in_trees(claim, arena)?;
    with_pool(claim, arena, scale, async |session| {
        let once = bounds(1);
        tell(&plain("changes", changes(session, since, once).await?))?;
        tell(&plain("changes-cached", changes(session, since, bounds(READINGS_MAX)).await?))?;
        walk(session, bounds(files.div_ceil(PAGE_WALK as u64))).await?;
        tell(&plain("walk-cached", walk(session, bounds(READINGS_MAX)).await?))
    })?;

    with_pool(claim, arena, scale, async |session| {
        let dirs = dirs.clone();
        let unlink = move |shard: BenchShard, nth: u64| {
            let dir = dirs[(nth % DIRECTORIES) as usize];
            async move {
                let name = file_name(nth)?;
                shard.call(Unlink { cred: Cred::root(), dir, name }).await.map(|_| Did::default())
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
            shard.call(Create { cred: Cred::root(), dir, name, how }).await.map(|_| Did::default())
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
            shard.call(Getattr { ino: found.child }).await.map(|_| Did::default())
        }
    };
    session.measure(bounds, stat).await
}

/// An operation is a page of a listing.
async fn readdir(session: &Session, dirs: &Inodes, bounds: Bounds) -> Result<Measure> {
    // Where each directory's listing has come to; a lane that meets its end begins it again.
    let places: Rc<Vec<Cell<EntryPosition>>> =
        Rc::new(dirs.iter().map(|_| Cell::new(EntryPosition(0))).collect());
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
            Ok(Did::default())
        }
    };
    session.measure(bounds, readdir).await
}

/// Changes files all over the pool.
async fn change(session: &Session, dirs: &Inodes, files: u64) -> Result<()> {
    for nth in 0..CHANGES.min(files) {
        let file = scrambled(nth) % files;
        let (cred, dir) = (Cred::root(), dirs[(file % DIRECTORIES) as usize]);
        let name = file_name(file)?;
        let ino = session.shard.call(Lookup { cred: cred.clone(), dir, name }).await?.child;
        let set = SetAttr { mode: Some(0o600), ..SetAttr::default() };
        session.shard.call(Setattr { cred, ino, set, guard: None }).await?;
    }
    Ok(())
}

/// An operation is all that changed since then, as an agent reads it.
async fn changes(session: &Session, since: Seq, bounds: Bounds) -> Result<Measure> {
    let changes = move |shard: BenchShard, _: u64| async move {
        let end = (Seq(u64::MAX), u64::MAX);
        let mut from = (Seq(since.0 + 1), 0);
        let mut entries = 0;
        loop {
            let page = shard.changes(from, end, PAGE_CHANGES).await?;
            entries += page.len() as u64;
            match page.last() {
                Some(last) if page.len() == PAGE_CHANGES => from = (last.seq, last.ino.raw() + 1),
                _ => return Ok(Did::entries(entries)),
            }
        }
    };
    session.measure(bounds, changes).await
}

/// An operation is a page of the index of all changes; at its end it begins again.
async fn walk(session: &Session, bounds: Bounds) -> Result<Measure> {
    let place = Rc::new(Cell::new((Seq(0), 0)));
    let walk = move |shard: BenchShard, _: u64| {
        let place = Rc::clone(&place);
        async move {
            let end = (Seq(u64::MAX), u64::MAX);
            let page = shard.walk_seq(SeqIndex::Meta, place.get(), end, PAGE_WALK).await?;
            let last = page.last().filter(|_| page.len() == PAGE_WALK);
            place.set(last.map_or((Seq(0), 0), |(seq, ino)| (*seq, ino.raw() + 1)));
            Ok(Did::entries(page.len() as u64))
        }
    };
    session.measure(bounds, walk).await
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
            Ok(Did::bytes(bytes))
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
            Ok(Did::bytes(data.parts.iter().map(|part| part.len() as u64).sum()))
        }
    };
    session.measure(bounds, read).await
}

/// The same order in every run.
fn scrambled(nth: u64) -> u64 {
    fastrand::Rng::with_seed(nth).u64(..)
}
