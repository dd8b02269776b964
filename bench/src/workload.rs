//! The workloads by name, what each needs to exist before it is measured, and which phases it is.
//!
//! What a workload needs is made by an earlier one or, when that was not asked for, made first without
//! being measured: so any list of workloads works, in any order. `bench/README.md` says what each row
//! means to a reader.

mod ingest;
mod names;
mod random;
mod small;
mod stream;
mod verify;

use crate::nfs::Stability;
use crate::rig::{Measure, Rig, Span};
use anyhow::{Result, ensure};
use clap::ValueEnum;
use std::time::Duration;

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Workload {
    /// NULL: the RPC layer alone
    Null,
    /// GETATTR of one file
    Getattr,
    /// LOOKUP of 64 names that exist
    Lookup,
    /// READ of 4 KiB from a 1 MiB file
    Read4kCached,
    /// WRITE in sequence, UNSTABLE, and a COMMIT at the end
    Seqwrite,
    /// READ in sequence of what seqwrite wrote
    Seqread,
    /// READ of 4 KiB at random places of what seqwrite wrote
    Randread,
    /// WRITE of 4 KiB, UNSTABLE, at random places, and a COMMIT at the end
    RandwriteUnstable,
    /// WRITE of 4 KiB, FILE_SYNC, at random places
    RandwriteSync,
    /// CREATE of empty files
    Create,
    /// LOOKUP and GETATTR of random names
    Stat,
    /// READDIRPLUS; an operation is an entry
    Readdirplus,
    /// RENAME within a directory
    Rename,
    /// REMOVE of files
    Unlink,
    /// Many small files and a few large ones; an operation is a file, created, written and durable
    Ingest,
    /// Unaligned writes and rewrites in scrambled order, read back and compared
    Verify,
}

/// Sizes of what is worked on, over all connections.
#[derive(Clone, Copy)]
pub struct Scale {
    pub bytes: u64,
    pub files: u64,
    pub time: Duration,
    /// Over all connections; CREATE and ingest have `files` for it.
    pub calls: Option<u64>,
    pub transfer: u64,
}

impl Workload {
    pub fn name(self) -> String {
        self.to_possible_value().expect("none is hidden").get_name().to_owned()
    }

    /// Whether its rate is in bytes.
    pub fn is_stream(self) -> bool {
        matches!(self, Workload::Seqwrite | Workload::Seqread)
    }

    pub fn measure(self, rig: &mut Rig, scale: &Scale) -> Result<Measure> {
        let turns = scale.calls.map_or(Ok(u64::MAX), |calls| share(rig, calls))?;
        let timed = Span::turns(turns).at_most(scale.time);
        match self {
            Workload::Null => rig.run(timed, small::null),
            Workload::Getattr => {
                small::prepare(rig)?;
                rig.run(timed, small::getattr)
            }
            Workload::Lookup => {
                small::prepare(rig)?;
                rig.run(timed, small::lookup)
            }
            Workload::Read4kCached => {
                small::prepare(rig)?;
                rig.run(timed, small::read)
            }
            Workload::Seqwrite => stream::write(rig, scale, Span::time(scale.time)),
            Workload::Seqread => {
                stream::prepare(rig, scale)?;
                let transfer = rig.transfer(scale.transfer);
                rig.run(timed, move |slot| stream::read(slot, transfer))
            }
            Workload::Randread => {
                stream::prepare(rig, scale)?;
                rig.run(timed, random::read)
            }
            Workload::RandwriteUnstable => {
                stream::prepare(rig, scale)?;
                rig.run(timed, |slot| random::write(slot, Stability::Unstable))
            }
            Workload::RandwriteSync => {
                stream::prepare(rig, scale)?;
                rig.run(timed, |slot| random::write(slot, Stability::FileSync))
            }
            Workload::Create => {
                names::remove_all(rig)?;
                names::create_all(rig, scale, Some(scale.time))
            }
            Workload::Stat => {
                names::prepare(rig, scale)?;
                rig.run(timed, names::stat)
            }
            Workload::Readdirplus => {
                names::prepare(rig, scale)?;
                rig.run(timed, names::readdirplus)
            }
            Workload::Rename => {
                names::prepare(rig, scale)?;
                let each = names::count(rig);
                rig.run(Span { turns: each.min(turns), ..timed }, names::rename)
            }
            Workload::Unlink => {
                names::prepare(rig, scale)?;
                let each = names::count(rig);
                rig.run(Span { turns: each.min(turns), ..timed }, names::unlink)
            }
            Workload::Ingest => ingest::run(rig, scale),
            Workload::Verify => verify::run(rig, scale),
        }
    }
}

/// Each connection's part of something.
fn share(rig: &Rig, whole: u64) -> Result<u64> {
    let part = whole / rig.connections();
    ensure!(part > 0, "{whole} is too little for {} connections", rig.connections());
    Ok(part)
}
