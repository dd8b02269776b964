//! The independent verifier of a pool: reads everything, changes nothing, and believes no count.
//!
//! A pool need not have been closed. The check begins where an open would: superblock (`superblock.rs`),
//! write logs (`log.rs`), and from both each tablet's newest root with the changes that are only in
//! the log (`replay.rs`), including operations over tablets that were committed and not yet applied
//! everywhere (`pending.rs`). Then each tablet is walked whole, its trees verified node by node
//! (`tree.rs`) and merged (`merged.rs`); the items are judged by themselves (`items.rs`, `inode.rs`,
//! `mapping.rs`), against each other over all tablets (`namespace.rs`), and against the devices, whose
//! every block has exactly one owner (`space.rs`).
//!
//! It uses `format`, so that there is one parser, and nothing of the engine: what the engine keeps
//! by arithmetic is counted here. Memory goes with the number of names and runs, some hundred bytes
//! each, and with the logs; that of one tablet's walk is given back when it ends.
//!
//! What is damaged is reported once, as what it is: what is missing because a node above it could
//! not be read is not.

#![forbid(unsafe_code)]

mod inode;
mod items;
mod key_words;
mod log;
mod mapping;
mod media;
mod merged;
mod namespace;
mod pending;
pub mod print;
mod replay;
mod report;
mod space;
mod superblock;
mod tree;

pub use report::{Counts, FINDINGS_MAX, Finding, Report};

use crate::inode::Judge;
use crate::items::Pass;
use crate::log::Log;
use crate::mapping::DataRead;
use crate::merged::Merged;
use crate::namespace::Namespace;
use crate::pending::Unfinished;
use crate::replay::TabletState;
use crate::report::{Findings, Object};
use crate::space::{Owner, Space};
use crate::tree::Ground;
use cairn_base::door::Disk;
use cairn_base::{BLOCK_BYTES, Run, hash};
use cairn_format::Seq;
use cairn_format::superblock::{LOG_IN_USE, Superblock, SuperblockError};
use std::cell::Cell;
use std::fmt;

#[derive(Clone, Copy, Debug)]
pub struct CheckOptions {
    /// Read every data block as well, and compare it with its checksum.
    pub data: bool,
    /// Findings beyond this many are counted and not listed.
    pub findings_max: usize,
}

impl Default for CheckOptions {
    fn default() -> CheckOptions {
        CheckOptions { data: false, findings_max: FINDINGS_MAX }
    }
}

/// How far a check has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    pub phase: &'static str,
    pub done: u64,
    pub total: u64,
}

/// Why there is nothing to check.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CheckError {
    /// No copy on any device can be used; this is what the best of them said.
    Superblock(SuperblockError),
    /// Devices were given in another order than the pool's.
    WrongDevice {
        device: u8,
        claims: u8,
    },
    OtherPool {
        device: u8,
    },
    DeviceMissing {
        listed: usize,
        given: usize,
    },
    /// More devices were given than the pool has.
    DeviceTooMany {
        listed: usize,
        given: usize,
    },
}

impl fmt::Display for CheckError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            CheckError::Superblock(error) => write!(f, "{error}"),
            CheckError::WrongDevice { device, claims } => {
                write!(f, "device {device} is device {claims} of its pool")
            }
            CheckError::OtherPool { device } => {
                write!(f, "device {device} belongs to another pool")
            }
            CheckError::DeviceMissing { listed, given }
            | CheckError::DeviceTooMany { listed, given } => {
                write!(f, "the pool has {listed} devices, {given} were given")
            }
        }
    }
}

impl std::error::Error for CheckError {}

/// Verifies a pool that nobody is serving. An error says that it could not be read as a pool.
pub async fn check<K: Disk>(
    disk: &K,
    options: CheckOptions,
    mut progress: impl FnMut(Progress),
) -> Result<Report, CheckError> {
    let findings = Findings::new(options.findings_max);
    let pool = Pool::load(disk, &findings, &mut progress).await?;
    let Pool { superblock, logs, mut tablets } = pool;
    let space = Space::of(&superblock, &findings);
    let shared = Shared {
        disk,
        superblock: &superblock,
        findings: &findings,
        space: &space,
        nodes: Cell::new(0),
        filters: Cell::new(0),
    };
    finish_pending(&shared, &mut tablets).await;
    let mut walk = WalkAll {
        shared: &shared,
        options: &options,
        ceiling: ceiling(&superblock, &logs),
        namespace: Namespace::default(),
        counts: Counts::default(),
        reads: Vec::new(),
    };
    let total = tablets.len() as u64;
    for (done, state) in (0..).zip(tablets) {
        progress(Progress { phase: "tablets", done, total });
        walk.tablet(&state).await;
    }
    progress(Progress { phase: "tablets", done: total, total });
    let WalkAll { mut namespace, mut counts, .. } = walk;
    counts.tablets = total;
    counts.log_batches = logs.iter().map(|log| log.chain.len() as u64).sum();
    counts.nodes = shared.nodes.get();
    counts.filters = shared.filters.get();
    counts.dirents = namespace.names_count();
    namespace.join(&findings);
    space.finish(namespace.torn_tablets(), &findings);
    Ok(findings.into_report(counts, &|ino| namespace.path(ino)))
}

/// What an open would begin with.
struct Pool {
    superblock: Box<Superblock>,
    logs: Vec<Log>,
    tablets: Vec<TabletState>,
}

impl Pool {
    async fn load<K: Disk>(
        disk: &K,
        findings: &Findings,
        progress: &mut impl FnMut(Progress),
    ) -> Result<Pool, CheckError> {
        let superblock = superblock::load(disk, findings).await?;
        let areas = superblock.log_table().iter().filter(|area| area.state == LOG_IN_USE);
        let total = areas.clone().count() as u64;
        let mut logs = Vec::new();
        for (done, area) in (0..).zip(areas) {
            progress(Progress { phase: "logs", done, total });
            logs.push(log::load(disk, &superblock, area, findings).await);
        }
        logs.sort_by_key(|log| log.epoch);
        let tablets = replay::replay(disk, &superblock, &logs, findings).await;
        Ok(Pool { superblock, logs, tablets })
    }
}

/// No seq above this was ever given out.
fn ceiling(superblock: &Superblock, logs: &[Log]) -> Seq {
    let logs = logs.iter().map(|log| log.ceiling);
    Seq(logs.chain([superblock.seq_ceiling.get()]).max().unwrap_or(0))
}

/// What the walks of all tablets share.
struct Shared<'a, K> {
    disk: &'a K,
    superblock: &'a Superblock,
    findings: &'a Findings,
    space: &'a Space,
    nodes: Cell<u64>,
    filters: Cell<u64>,
}

impl<K: Disk> Shared<'_, K> {
    fn ground(&self, state: &TabletState) -> Ground<'_, K> {
        Ground {
            disk: self.disk,
            tablet: state.id,
            name_key: self.superblock.name_key,
            generation: state.root.as_ref().map_or(0, |body| body.generation.get()),
            findings: self.findings,
            space: self.space,
            nodes: &self.nodes,
            filters: &self.filters,
        }
    }
}

async fn finish_pending<K: Disk>(shared: &Shared<'_, K>, tablets: &mut [TabletState]) {
    let mut unfinished = Unfinished::default();
    for state in tablets.iter() {
        unfinished.gather(&shared.ground(state), state).await;
    }
    let epoch = shared.superblock.epoch.get();
    for state in tablets {
        unfinished.finish(&shared.ground(state), state, epoch).await;
    }
}

struct WalkAll<'a, K> {
    shared: &'a Shared<'a, K>,
    options: &'a CheckOptions,
    ceiling: Seq,
    namespace: Namespace,
    counts: Counts,
    reads: Vec<DataRead>,
}

impl<K: Disk> WalkAll<'_, K> {
    async fn tablet(&mut self, state: &TabletState) {
        let shared = self.shared;
        if let Some(root) = &state.root {
            for entry in root.log_trees().iter().filter(|entry| entry.spare_blocks.get() > 0) {
                let spare = Run::new(entry.spare_start(), entry.spare_blocks.get());
                shared.space.claim(spare, Owner::Spare(state.id), shared.findings);
            }
        }
        let dropped = Findings::new(0);
        let judge = Judge {
            name_key: shared.superblock.name_key,
            data: self.options.data,
            findings: shared.findings,
            dropped: &dropped,
            space: shared.space,
            whole: Cell::new(state.root.is_some()),
        };
        let ground = shared.ground(state);
        let mut pass =
            Pass::begin(judge, state, self.ceiling, &mut self.namespace, &mut self.counts);
        let mut merged = Merged::begin(&ground, state).await;
        let mut data_blocks = 0;
        while let Some(item) = merged.next().await {
            if !merged.is_whole() {
                pass.lost_something();
            }
            pass.take(item.key, &item.value, item.from_log, &mut self.reads);
            for read in self.reads.drain(..) {
                data_blocks += read.crcs.len() as u64;
                check_data(shared.disk, &read, shared.findings).await;
            }
        }
        if !merged.is_whole() {
            pass.lost_something();
        }
        merged.finish();
        pass.finish();
        self.counts.data_blocks_read += data_blocks;
    }
}

/// Reads a run of data and compares each block with its checksum.
async fn check_data<K: Disk>(disk: &K, read: &DataRead, findings: &Findings) {
    let object = |n: u64| Object::FileBlock { inode: read.inode, file_block: read.file_block + n };
    let run = Run::new(read.start, read.crcs.len() as u64);
    if let Ok(bytes) = media::read(disk, run).await {
        for (n, (block, crc)) in (0..).zip(bytes.chunks_exact(BLOCK_BYTES).zip(&read.crcs)) {
            if hash::crc32c(block) != *crc {
                let detail = format!("block {} does not match its checksum", read.start.after(n));
                findings.note("data", object(n), detail);
            }
        }
        return;
    }
    for (n, crc) in (0..).zip(&read.crcs) {
        match media::read(disk, Run::new(read.start.after(n), 1)).await {
            Ok(block) if hash::crc32c(&block) == *crc => {}
            Ok(_) => findings.note("data", object(n), "does not match its checksum"),
            Err(error) => findings.note("data", object(n), error),
        }
    }
}
