//! `cairn-accept`: the acceptance runs that are too long for the test suite.

use anyhow::{Context, Result};
use cairn_accept::kill_run;
use clap::{Parser, Subcommand};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

#[derive(Parser)]
#[command(about = "Acceptance runs of the cairn program, with an NFS client that is not ours")]
struct Arguments {
    #[command(subcommand)]
    run: Run,
}

#[derive(Subcommand)]
enum Run {
    /// Copy real files in, kill the daemon in the middle, compare.
    KillRun {
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
    },
}

fn main() -> ExitCode {
    match perform(Arguments::parse().run) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("cairn-accept: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn perform(run: Run) -> Result<()> {
    let Run::KillRun {
        files,
        shards,
        memtable,
        source,
        kills,
        large_mib,
        connections,
        seed,
        minutes,
    } = run;
    for shards in shards {
        let options = kill_run::Options {
            files,
            shards,
            memtable: memtable.clone(),
            source: source.clone(),
            kills,
            large_bytes: large_mib << 20,
            connections,
            seed,
            limit: Duration::from_secs(minutes * 60),
        };
        let summary = kill_run::run(&options).with_context(|| format!("{shards} shards"))?;
        println!("{summary}");
    }
    Ok(())
}
