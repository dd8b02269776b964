//! `cairn-bench engine`: the engine alone, on a pool file, without a network or a daemon.
//!
//! What a row of `nfs` costs is the sum of the protocol, the socket, the client and the engine. This one
//! is the engine's part, and it counts at the disk door what the engine asks of the device: blocks read,
//! and bytes written for each byte of payload. So it says what an operation costs in reads and in wear,
//! and not only how fast this machine is.

mod disk;
mod rows;
mod session;

use crate::{report, size};
use anyhow::{Context, Result, anyhow, ensure};
use cairn_base::dma_buf::HugePages;
use cairn_base::{Arena, BLOCK_BYTES};
use cairn_daemon::{Claim, FormatRequest, Mode, Place};
use cairn_engine::counters::CounterValues;
use clap::Args;
use rows::{Row, Scale};
use serde_json::json;
use session::Measure;
use std::path::PathBuf;
use std::time::Duration;

/// Buffers of the engine: its caches, dirty data and what is under way.
const ARENA_BYTES: usize = 768 << 20;

#[derive(Args)]
#[command(after_help = "Examples:\n  cairn-bench engine --dir bench-pool\n  \
                  cairn-bench engine --dir bench-pool --files 1000000 --seconds 60\n  \
                  cairn-bench engine --dir bench-pool --depth 1 --json | jq '{workload, p50_us}'\n\n\
                  Columns: operations a second, the wait of one, blocks of 4 KiB read from the device for \
                  each operation, entries of an index read a second, bytes written to the device for each byte of payload, metadata on the \
                  device for each file made, processor time for each operation.")]
pub struct Options {
    /// Where the pool file goes; it is made there and removed at the end
    #[arg(long, value_name = "DIR")]
    dir: PathBuf,
    /// Empty files to make, look up, list and remove
    #[arg(long, default_value_t = 100_000, value_parser = clap::value_parser!(u64).range(1..=crate::nfs_command::FILES_MAX))]
    files: u64,
    /// Bytes of the large files together
    #[arg(long, default_value = "1G", value_parser = size::parse, value_name = "SIZE")]
    size: u64,
    /// How long each row is measured at most
    #[arg(long, default_value_t = 5.0, value_parser = crate::nfs_command::seconds)]
    seconds: f64,
    /// Operations under way at once
    #[arg(long, default_value_t = 16, value_parser = clap::value_parser!(u64).range(1..=48))]
    depth: u64,
    /// Bytes of changes kept in memory before they are written as trees [default: the engine's own]
    #[arg(long, value_parser = size::parse, value_name = "SIZE")]
    memtable: Option<u64>,
    /// Cores that serve; the engine without a daemon has one
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=1))]
    shards: u16,
    /// Bytes of the pool file, sparse
    #[arg(long, default_value = "16G", value_parser = size::parse, value_name = "SIZE")]
    pool_size: u64,
    /// One JSON object a row
    #[arg(long)]
    json: bool,
    /// Leave the pool file
    #[arg(long)]
    keep: bool,
}

pub fn run(options: &Options) -> Result<()> {
    debug_assert!(options.shards == 1, "checked by the parser");
    let place = Place::Dir(options.dir.clone());
    let pool = options.dir.join("pool");
    ensure!(
        !pool.exists(),
        "{} is there already: not ours to overwrite. Remove it, or name another --dir",
        pool.display()
    );
    let request = FormatRequest {
        place: place.clone(),
        size: Some(options.pool_size),
        tablets: None,
        force: false,
    };
    cairn_daemon::format(&request).map_err(|failure| anyhow!("{}", failure.text))?;
    let measured = measure(options, &place);
    if options.keep {
        return measured;
    }
    let removed = std::fs::remove_file(&pool);
    let removed = removed.with_context(|| format!("cannot remove {}", pool.display()));
    // Fails when the folder holds something else, which is then not ours either.
    let _ = std::fs::remove_dir(&options.dir);
    measured.and(removed)
}

fn measure(options: &Options, place: &Place) -> Result<()> {
    let claim = Claim::take(place.devices(), Mode::ReadWrite);
    let claim = claim.map_err(|failure| anyhow!("{}", failure.text))?;
    let (arena, _) = Arena::new(ARENA_BYTES, HugePages::Try);
    let scale = Scale {
        files: options.files,
        bytes: options.size,
        time: Duration::from_secs_f64(options.seconds),
        depth: options.depth,
        memtable: options.memtable,
    };
    if !options.json {
        report::say(&format!(
            "{:<15}{:>11}{:>10}{:>10}{:>13}{:>12}{:>14}{:>14}{:>13}",
            "workload",
            "op/s",
            "p50 us",
            "p99",
            "blocks read",
            "entries/s",
            "written/byte",
            "bytes/file",
            "CPU us/op"
        ))?;
    }
    rows::run(&claim, &arena, &scale, |row| {
        report::say(&if options.json { as_json(row).to_string() } else { as_text(row) })
    })
}

struct Figures {
    rate: f64,
    p50_us: f64,
    p99_us: f64,
    blocks_read_per_op: f64,
    /// Of an index; `None` where none was read.
    entries_rate: Option<f64>,
    /// `None` where there was no payload.
    write_amplification: Option<f64>,
    cpu_us_per_op: f64,
}

fn figures(row: &Row) -> Figures {
    let measure = &row.measure;
    let operations = measure.operations.max(1) as f64;
    let waited_us = |percentile| measure.latency_ns.value_at_percentile(percentile) as f64 / 1e3;
    let seconds = measure.elapsed.as_secs_f64().max(f64::MIN_POSITIVE);
    let writes = row.name.starts_with("write") && measure.did.payload_bytes > 0;
    Figures {
        rate: measure.operations as f64 / seconds,
        p50_us: waited_us(50.0),
        p99_us: waited_us(99.0),
        blocks_read_per_op: measure.moved.blocks_read as f64 / operations,
        entries_rate: (measure.did.entries > 0).then(|| measure.did.entries as f64 / seconds),
        write_amplification: writes
            .then(|| measure.moved.bytes_written as f64 / measure.did.payload_bytes as f64),
        cpu_us_per_op: measure.cpu.as_secs_f64() * 1e6 / operations,
    }
}

fn as_text(row: &Row) -> String {
    let figures = figures(row);
    let optional = |number: Option<f64>| number.map_or("-".to_owned(), |n| format!("{n:.2}"));
    format!(
        "{:<15}{:>11.0}{:>10.0}{:>10.0}{:>13.2}{:>12}{:>14}{:>14}{:>13.1}",
        row.name,
        figures.rate,
        figures.p50_us,
        figures.p99_us,
        figures.blocks_read_per_op,
        figures.entries_rate.map_or("-".to_owned(), |rate| format!("{rate:.0}")),
        optional(figures.write_amplification),
        optional(row.metadata_bytes_per_file),
        figures.cpu_us_per_op,
    )
}

fn as_json(row: &Row) -> serde_json::Value {
    let (figures, measure) = (figures(row), &row.measure);
    json!({
        "workload": row.name,
        "rate": figures.rate,
        "unit": "op/s",
        "operations": measure.operations,
        "entries": measure.did.entries,
        "entries_per_second": figures.entries_rate,
        "bytes": measure.did.payload_bytes,
        "seconds": measure.elapsed.as_secs_f64(),
        "p50_us": figures.p50_us,
        "p99_us": figures.p99_us,
        "blocks_read_per_op": figures.blocks_read_per_op,
        "device_bytes_written": measure.moved.bytes_written,
        "device_bytes_written_per_op":
            measure.moved.bytes_written as f64 / measure.operations.max(1) as f64,
        "write_amplification": figures.write_amplification,
        "metadata_bytes_per_file": row.metadata_bytes_per_file,
        "written": written_by_kind(measure),
        "cpu_us_per_op": figures.cpu_us_per_op,
    })
}

/// What the engine counted of the bytes written: by whom, and in how many steps.
fn written_by_kind(measure: &Measure) -> serde_json::Value {
    let counted = CounterValues::NAMES.iter().zip(measure.counters.to_array());
    let of = |name: &str| counted.clone().find(|(known, _)| **known == name).map_or(0, |(_, n)| n);
    let bytes = |name: &str| of(name) * BLOCK_BYTES as u64;
    json!({
        "log_bytes": of("log_bytes"),
        "log_tree_bytes": bytes("log_tree_blocks_written"),
        "merge_bytes": bytes("merge_blocks_written"),
        "fold_bytes": bytes("fold_blocks_written"),
        "log_trees": of("log_trees_written"),
        "merge_steps": of("merge_steps"),
        "merges": of("merges_finished"),
        "fold_steps": of("fold_steps"),
        "folds": of("folds_finished"),
    })
}

/// Bytes that differ between operations and do not compress to nothing.
fn fill(nth: u64, data: &mut [u8]) {
    let mut random = fastrand::Rng::with_seed(nth);
    for block in data.chunks_mut(4096) {
        let line = block.len().min(64);
        random.fill(&mut block[..line]);
    }
}
