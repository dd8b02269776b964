//! `cairn-bench nfs`: options, and the order of things.
//!
//! Rows are printed as they come, so an interrupted run has said what it knew. Our folder on the
//! server is removed whatever happened. When that fails too, both errors are told, the first one last.

use crate::cpu::Pid;
use crate::pattern::{Pattern, Sameness};
use crate::report::{self, Row};
use crate::rig::{Load, Rig};
use crate::rpc;
use crate::size;
use crate::url::Url;
use crate::workload::{Scale, Workload};
use anyhow::{Context, Result};
use clap::{Args, ValueEnum};
use std::time::Duration;

/// Each takes a byte of ours.
pub const FILES_MAX: u64 = 100_000_000;

#[derive(Args)]
pub struct Options {
    /// nfs://HOST[:PORT]/EXPORT[?mountport=PORT]; without mountport MOUNT is sought at PORT, then by a
    /// port mapper
    #[arg(value_parser = Url::parse)]
    url: Url,
    /// Connections, each with a directory of its own
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u16).range(1..=1024))]
    connections: u16,
    /// Calls under way on each connection
    #[arg(long, default_value_t = 8,
          value_parser = clap::value_parser!(u16).range(1..=(rpc::SLOTS_MAX as i64)))]
    depth: u16,
    /// Bytes of the large files together
    #[arg(long, default_value = "1G", value_parser = size::parse, value_name = "SIZE")]
    size: u64,
    /// Small files, over all connections
    #[arg(long, default_value_t = 20_000, value_parser = clap::value_parser!(u64).range(1..=FILES_MAX))]
    files: u64,
    /// How long each workload is measured; those with a natural end may end before
    #[arg(long, default_value_t = 3.0, value_parser = seconds)]
    seconds: f64,
    /// End a workload after so many operations over all connections (READDIRPLUS: after so many pages),
    /// if not before; CREATE and ingest end with --files, streams with --size
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..), value_name = "N")]
    calls: Option<u64>,
    /// Workloads, in this order, separated by commas; all without it
    #[arg(long, value_enum, value_delimiter = ',', value_name = "LIST")]
    workload: Vec<Workload>,
    /// Bytes of a sequential READ or WRITE, at most what the server takes
    #[arg(long, default_value = "1M", value_parser = size::parse, value_name = "SIZE")]
    transfer: u64,
    /// Client threads; half the cores without it
    #[arg(long, value_parser = clap::value_parser!(u16).range(1..=256))]
    threads: Option<u16>,
    /// The server's process, for its processor time; found by its port when it is on this machine
    #[arg(long, value_name = "PID")]
    server_pid: Option<u32>,
    /// Share of the data that is zeros, for servers that compress
    #[arg(long, default_value_t = 0, value_name = "PERCENT",
          value_parser = clap::value_parser!(u8).range(0..=100))]
    compress: u8,
    /// Share of the transfers that hold one and the same data, for servers that find that out
    #[arg(long, default_value_t = 0, value_name = "PERCENT",
          value_parser = clap::value_parser!(u8).range(0..=100))]
    repeat: u8,
    /// One JSON object a row
    #[arg(long)]
    json: bool,
    /// Leave the files on the server
    #[arg(long)]
    keep: bool,
}

pub fn seconds(text: &str) -> Result<f64> {
    let seconds: f64 = text.parse().context("a number of seconds")?;
    anyhow::ensure!((0.05..=3600.0).contains(&seconds), "between 0.05 and 3600 seconds");
    Ok(seconds)
}

pub fn run(options: &Options) -> Result<()> {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let load = Load {
        connections: usize::from(options.connections),
        depth: usize::from(options.depth),
        threads: options.threads.map_or((cores / 2).max(1), usize::from),
    };
    let sameness = Sameness { compress_percent: options.compress, repeat_percent: options.repeat };
    let server = options.server_pid.map(Pid);
    let mut rig = Rig::mount(&options.url, load, server, Pattern::new(sameness))?;
    let measured = measure_all(options, &mut rig);
    if options.keep {
        return measured;
    }
    let cleaned = rig.clean_up().context("cannot remove what was made on the server");
    if let (Err(_), Err(error)) = (&measured, &cleaned) {
        eprintln!("cairn-bench: {error:#}");
    }
    measured.and(cleaned)
}

fn measure_all(options: &Options, rig: &mut Rig) -> Result<()> {
    let scale = Scale {
        bytes: options.size,
        files: options.files,
        time: Duration::from_secs_f64(options.seconds),
        calls: options.calls,
        transfer: options.transfer,
    };
    let workloads = match options.workload.as_slice() {
        [] => Workload::value_variants(),
        chosen => chosen,
    };
    if !options.json {
        report::say(&report::heading())?;
    }
    for workload in workloads {
        let measure = workload.measure(rig, &scale).with_context(|| workload.name())?;
        let row = Row { workload: *workload, measure: &measure };
        report::say(&if options.json { row.json().to_string() } else { row.text() })?;
    }
    Ok(())
}
