//! `cairn-accept`: the acceptance runs that are too long for the test suite.

use anyhow::{Context, Result};
use cairn_accept::{hostile, kernel_nfs, kill_run, memory};
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
        #[arg(long, default_value_t = 10)]
        minutes: u64,
        /// Held open at once; fewer where the limit of open files is lower.
        #[arg(long, default_value_t = 10_000)]
        connections: usize,
        #[arg(long, default_value_t = 2)]
        shards: u32,
        #[arg(long, default_value_t = 1)]
        seed: u64,
    },
    /// Load a daemon that has a budget of memory, and watch that it keeps to it, within a tenth.
    Memory {
        #[arg(long, default_value_t = 5)]
        minutes: u64,
        /// The budget: a number, perhaps with M or G.
        #[arg(long, default_value = "256M", value_parser = size)]
        memory: u64,
        #[arg(long, default_value_t = 1)]
        shards: u32,
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
        #[arg(long, default_value_t = 2)]
        shards: u32,
    },
    /// The part of kernel-nfs that works while the daemon is killed, as a process of its own.
    #[command(name = kernel_nfs::LOAD_COMMAND, hide = true)]
    KernelNfsLoad { home: PathBuf },
}

#[derive(clap::Args)]
struct KillRuns {
    #[arg(long, default_value_t = 5_000)]
    files: usize,
    /// One run for each number of shards.
    #[arg(long, value_delimiter = ',', default_value = "1,2,3")]
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
    #[arg(long, default_value_t = 64)]
    large_mib: u64,
    #[arg(long, default_value_t = 4)]
    connections: usize,
    /// Where the kills fall follows from it, as far as timing lets it.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Minutes that one run may take.
    #[arg(long, default_value_t = 60)]
    minutes: u64,
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
