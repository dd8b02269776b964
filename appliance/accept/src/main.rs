//! `cairn-accept`: the acceptance runs that are too long for the test suite.

use anyhow::{Context, Result};
use cairn_accept::{crowd, hostile, kernel_nfs, kill_run, memory, tape};
use clap::builder::{RangedI64ValueParser, RangedU64ValueParser};
use clap::{Parser, Subcommand};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

#[derive(Parser)]
#[command(about = "Acceptance runs of the cairn program, with an NFS client that is not ours")]
struct Arguments {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// Copy real files in, kill the daemon in the middle, compare.
    KillRun(KillRuns),
    /// Attack a daemon in every way a peer can, while one client works and must not notice.
    Hostile {
        #[arg(long, default_value_t = 10, value_parser = minutes())]
        minutes: u64,
        /// Held open at once; fewer where the limit of open files is lower.
        #[arg(long, default_value_t = 10_000, value_parser = at_least_one)]
        connections: usize,
        #[arg(long, default_value_t = 2, value_parser = shards())]
        shards: u32,
        #[arg(long, default_value_t = 1)]
        seed: u64,
    },
    /// Load a daemon that has a budget of memory, and watch that it keeps to it, within a tenth.
    Memory {
        #[arg(long, default_value_t = 5, value_parser = minutes())]
        minutes: u64,
        /// The budget: a number, perhaps with M or G.
        #[arg(long, default_value = "256M", value_parser = size)]
        memory: u64,
        #[arg(long, default_value_t = 1, value_parser = shards())]
        shards: u32,
    },
    /// Have very many clients wait for offline data, and weigh them.
    Waiters {
        #[arg(long, default_value_t = 1_000_000, value_parser = clap::value_parser!(u64).range(1..=1 << 20))]
        waiters: u64,
        #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u64).range(1..=512))]
        connections: u64,
        /// What they may cost: a number, perhaps with M or G.
        #[arg(long, default_value = "300M", value_parser = size)]
        bound: u64,
    },
    /// Archive files to a folder and bring them back, with users at work, and kill the daemon in the middle.
    Tape {
        #[arg(long, default_value_t = 5_000, value_parser = at_least_one)]
        files: usize,
        #[arg(long, default_value_t = 50)]
        kills: u32,
        #[arg(long, default_value_t = 2, value_parser = shards())]
        shards: u32,
        #[arg(long, default_value_t = 1)]
        seed: u64,
        /// Minutes that the run may take.
        #[arg(long, default_value_t = 20, value_parser = minutes())]
        minutes: u64,
    },
    /// Mount a daemon with the kernel's NFS client and let programs work on it. Needs root, and
    /// takes the machine for its own: `cargo xtask guest --suite nfs` boots one for it.
    KernelNfs {
        /// Only the steps, and the amounts, for every change.
        #[arg(long)]
        slice: bool,
        /// Only these steps.
        #[arg(long, value_delimiter = ',', value_name = "STEP")]
        only: Vec<String>,
        #[arg(long, default_value_t = 1)]
        seed: u64,
        #[arg(long, default_value_t = 2, value_parser = shards())]
        shards: u32,
    },
    /// The part of kernel-nfs that works while the daemon is killed, as a process of its own.
    #[command(name = kernel_nfs::LOAD_COMMAND, hide = true)]
    KernelNfsLoad { home: PathBuf },
}

#[derive(clap::Args)]
struct KillRuns {
    #[arg(long, default_value_t = 5_000, value_parser = at_least_one)]
    files: usize,
    /// One run for each number of shards.
    #[arg(long, value_delimiter = ',', default_value = "1,2,3", value_parser = shards())]
    shards: Vec<u32>,
    #[arg(long, default_value = "256K")]
    memtable: String,
    /// A folder to copy from; a Debian source package when not given.
    #[arg(long)]
    source: Option<PathBuf>,
    /// Kills while copying, at least.
    #[arg(long, default_value_t = 20)]
    kills: u32,
    /// MiB of the largest file.
    #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u64).range(..=1 << 20))]
    large_mib: u64,
    #[arg(long, default_value_t = 4, value_parser = at_least_one)]
    connections: usize,
    /// Where the kills fall follows from it, as far as timing lets it.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Minutes that one run may take.
    #[arg(long, default_value_t = 60, value_parser = minutes())]
    minutes: u64,
}

/// A week at most.
fn minutes() -> RangedU64ValueParser<u64> {
    RangedU64ValueParser::new().range(1..=7 * 24 * 60)
}

/// As `cairn up --shards` has it.
fn shards() -> RangedI64ValueParser<u32> {
    RangedI64ValueParser::new().range(1..=1024)
}

fn at_least_one(text: &str) -> Result<usize> {
    let number: usize = text.parse().context("a number")?;
    anyhow::ensure!(number > 0, "at least 1");
    Ok(number)
}

fn main() -> ExitCode {
    match perform(Arguments::parse().verb) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("cairn-accept: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// False when something that was tested failed, and has been told.
fn perform(verb: Verb) -> Result<bool> {
    match verb {
        Verb::KillRun(runs) => kill_runs(&runs).map(|()| true),
        Verb::Hostile { minutes, connections, shards, seed } => {
            let length = Duration::from_secs(minutes * 60);
            let summary = hostile::run(&hostile::Options { length, connections, shards, seed })?;
            println!("{summary}");
            Ok(true)
        }
        Verb::Memory { minutes, memory, shards } => {
            let length = Duration::from_secs(minutes * 60);
            let summary = memory::run(&memory::Options { length, memory_bytes: memory, shards })?;
            println!("{summary}");
            Ok(summary.is_within())
        }
        Verb::Waiters { waiters, connections, bound } => {
            let options = crowd::Options { waiters, connections, bound_bytes: bound };
            let summary = crowd::run(&options)?;
            println!("{summary}");
            Ok(summary.is_good())
        }
        Verb::Tape { files, kills, shards, seed, minutes } => {
            let limit = Duration::from_secs(minutes * 60);
            let summary = tape::run(&tape::Options { files, kills, shards, seed, limit })?;
            println!("{summary}");
            Ok(true)
        }
        Verb::KernelNfsLoad { home } => kernel_nfs::load(&home).map(|()| true),
        Verb::KernelNfs { slice, only, seed, shards } => {
            kernel_nfs::run(&kernel_nfs::Options { slice, only, seed, shards })
        }
    }
}

fn size(text: &str) -> Result<u64> {
    let (digits, shift) = match text.strip_suffix(['M', 'G']) {
        Some(digits) => (digits, if text.ends_with('G') { 30 } else { 20 }),
        None => (text, 0),
    };
    let number: u64 = digits.parse().context("a size is a number, perhaps with M or G")?;
    number.checked_mul(1 << shift).context("that is more than 64 bits hold")
}

fn kill_runs(runs: &KillRuns) -> Result<()> {
    for &shards in &runs.shards {
        let options = kill_run::Options {
            files: runs.files,
            shards,
            memtable: runs.memtable.clone(),
            source: runs.source.clone(),
            kills: runs.kills,
            large_bytes: runs.large_mib << 20,
            connections: runs.connections,
            seed: runs.seed,
            limit: Duration::from_secs(runs.minutes * 60),
        };
        let summary = kill_run::run(&options).with_context(|| format!("{shards} shards"))?;
        println!("{summary}");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_that_could_not_be_is_wrong_usage() {
        let refused = |arguments: &str| {
            let words = ["cairn-accept"].into_iter().chain(arguments.split(' '));
            Arguments::try_parse_from(words).err().map(|error| error.exit_code())
        };
        for arguments in [
            "memory --minutes 0",
            "memory --minutes 18446744073709551615",
            "memory --shards 0",
            "memory --memory lots",
            "hostile --minutes 18446744073709551615",
            "hostile --connections 0",
            "hostile --shards 1025",
            "kill-run --shards 1,0",
            "kill-run --files 0",
            "kill-run --connections 0",
            "kill-run --large-mib 18446744073709551615",
            "kill-run --minutes 18446744073709551615",
        ] {
            assert_eq!(refused(arguments), Some(2), "{arguments}");
        }
        assert_eq!(refused("kill-run --shards 1,2 --minutes 60"), None);
    }
}
