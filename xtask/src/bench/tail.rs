//! `cargo xtask bench tail`: what writers wait at worst while log trees are merged and folded, beside the
//! same load where none are.
//!
//! A file system that puts work off can look fast until the work comes due, and then answers nobody for
//! a while. A median does not show that, so this is about the slowest calls: of durable creates, at a fixed
//! number of connections and calls under way. In each round two daemons serve a new pool, one after the
//! other: a quiet one, whose memtables take all that comes, and a busy one, whose memtables are so small
//! that something is frozen, merged and folded all the time. Their counters say whether that was so.
//!
//! The figure is the ratio of the two tails. Either one alone says more about the machine, and about what
//! else ran on it.

use super::ours::Cairn;
use super::server::{Generator, let_settle};
use super::stop::Stop;
use super::{RUN_MAX, build, table};
use anyhow::{Context, Result, ensure};
use clap::Args;
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

#[derive(Args)]
pub struct Options {
    /// How often each of the two is measured
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u16).range(1..=1000))]
    rounds: u16,
    /// How long the busy one is measured
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u16).range(1..=600))]
    seconds: u16,
    /// Memtables of the busy daemon
    #[arg(long, default_value = "4M", value_name = "SIZE")]
    memtable: String,
    /// Creates that the quiet one is measured with: no more than its write log holds
    #[arg(long, default_value_t = 24_000, value_parser = clap::value_parser!(u32).range(1000..))]
    files_quiet: u32,
    /// Memtables of the quiet one: more than these bring
    #[arg(long, default_value = "4G", value_name = "SIZE")]
    memtable_quiet: String,
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u16).range(1..=64))]
    connections: u16,
    /// Calls under way on each connection
    #[arg(long, default_value_t = 8, value_parser = clap::value_parser!(u16).range(1..=64))]
    depth: u16,
    /// Cores that cairn serves with
    #[arg(long, value_name = "N", default_value_t = 1)]
    shards: u16,
    /// One JSON object a round, and one for all
    #[arg(long)]
    json: bool,
    /// A cairn to measure in place of the tree's own, which is then not built
    #[arg(long, value_name = "FILE")]
    cairn: Option<PathBuf>,
}

/// Waits of one daemon, in microseconds, with the names the load generator gives them.
const WAITS: [&str; 4] = ["p50_us", "p99_us", "p999_us", "max_us"];
/// What shows whether trees were written, merged and folded.
const COUNTERS: [&str; 7] = [
    "log_trees_written",
    "merge_steps",
    "merges_finished",
    "merges_given_up",
    "fold_steps",
    "folds_finished",
    "log_records",
];
/// More than any machine makes in the time.
const FILES: &str = "100000000";

/// One daemon's part of a round.
struct Half {
    row: Value,
    counters: Value,
}

impl Half {
    fn wait(&self, name: &str) -> f64 {
        self.row[name].as_f64().unwrap_or(f64::NAN)
    }

    fn count(&self, name: &str) -> u64 {
        self.counters[name].as_u64().unwrap_or(0)
    }
}

struct Round {
    quiet: Half,
    busy: Half,
}

impl Round {
    fn ratio(&self, name: &str) -> f64 {
        self.busy.wait(name) / self.quiet.wait(name)
    }
}

pub fn run_tail(root: &Path, options: &Options) -> Result<ExitCode> {
    let (target, cairn) = build(root, options.cairn.as_deref())?;
    let stop = Stop::install(None)?;
    let folder = tempfile::Builder::new()
        .prefix("bench-run-")
        .tempdir_in(&target)
        .context("cannot make a folder for the servers")?;
    let load = [
        ("--workload", "create".to_owned()),
        ("--seconds", options.seconds.to_string()),
        ("--connections", options.connections.to_string()),
        ("--depth", options.depth.to_string()),
    ];
    let mut arguments: Vec<String> =
        load.into_iter().flat_map(|(name, value)| [name.to_owned(), value]).collect();
    // The pool goes as a whole.
    arguments.push("--keep".to_owned());
    let generator = Generator {
        binary: target.join("release/cairn-bench"),
        arguments,
        folder: folder.path().to_owned(),
        time_max: RUN_MAX,
    };
    let mut rounds = Vec::new();
    for nth in 1..=options.rounds {
        let half = |memtable: &str, files: &str| {
            let mut generator = generator.clone();
            generator.arguments.extend(["--files".to_owned(), files.to_owned()]);
            measure(&cairn, options, memtable, &generator, &stop)
        };
        let quiet = half(&options.memtable_quiet, &options.files_quiet.to_string())?;
        let busy = half(&options.memtable, FILES)?;
        let round = Round { quiet, busy };
        if options.json {
            println!("{}", as_json(&round, nth));
        } else {
            eprintln!(
                "round {nth} of {}: p99.9 {:.2} times",
                options.rounds,
                round.ratio("p999_us")
            );
        }
        rounds.push(round);
    }
    report(options, &rounds)
}

/// A daemon on a new pool, loaded, asked for its counters, and ended.
fn measure(
    cairn: &Path,
    options: &Options,
    memtable: &str,
    generator: &Generator,
    stop: &Stop,
) -> Result<Half> {
    let folder = tempfile::tempdir_in(&generator.folder).context("cannot make a folder")?;
    let shards = options.shards.to_string();
    let more = ["--shards", &shards, "--memtable", memtable];
    let daemon = Cairn::start(cairn, folder.path(), &more, stop)?;
    let server = daemon.server();
    let_settle(&[&server], stop)?;
    let rows = generator.run(&server, stop)?;
    let row = rows.into_iter().find(|row| row["workload"] == "create");
    let row = row.context("the load generator gave no row for create")?;
    let counters = counters(cairn, daemon.socket())?;
    Ok(Half { row, counters })
}

fn counters(cairn: &Path, socket: &str) -> Result<Value> {
    let mut command = Command::new(cairn);
    command.args(["counters", "--json", "--socket", socket]);
    let output = command.output().context("cannot run cairn counters")?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).context("counters are text")?;
    let mut known = serde_json::Map::new();
    for line in text.lines() {
        let counter: Value =
            serde_json::from_str(line).with_context(|| format!("not a counter: {line}"))?;
        if let Some(name) = counter["name"].as_str().filter(|name| COUNTERS.contains(name)) {
            known.insert(name.to_owned(), counter["value"].clone());
        }
    }
    Ok(Value::Object(known))
}

fn as_json(round: &Round, nth: u16) -> Value {
    let half = |half: &Half| {
        let mut all = half.counters.clone();
        for name in WAITS.into_iter().chain(["rate", "operations"]) {
            all[name] = half.row[name].clone();
        }
        all
    };
    json!({
        "round": nth,
        "quiet": half(&round.quiet),
        "busy": half(&round.busy),
        "p999_ratio": round.ratio("p999_us"),
    })
}

fn report(options: &Options, rounds: &[Round]) -> Result<ExitCode> {
    let median = |of: &dyn Fn(&Round) -> f64| {
        let values: Vec<f64> = rounds.iter().map(of).collect();
        table::median(&values).context("there was no round")
    };
    let ratio = median(&|round| round.ratio("p999_us"))?;
    let sum = |of: &dyn Fn(&Round) -> u64| rounds.iter().map(of).sum::<u64>();
    let is_busy = sum(&|round| round.busy.count("merges_finished")) > 0
        && sum(&|round| round.busy.count("folds_finished")) > 0;
    let is_quiet = sum(&|round| round.quiet.count("log_trees_written")) == 0;
    if options.json {
        let all = json!({
            "rounds": rounds.len(),
            "p999_ratio": ratio.value,
            "p999_ratio_spread_percent": ratio.spread_percent,
            "quiet_was_quiet": is_quiet,
            "busy_was_busy": is_busy,
        });
        println!("{all}");
    } else {
        println!("{:<12}{:>12}{:>12}{:>9}", "create", "quiet", "busy", "ratio");
        for name in ["rate"].into_iter().chain(WAITS) {
            let quiet = median(&|round| round.quiet.wait(name))?.value;
            let busy = median(&|round| round.busy.wait(name))?.value;
            let ratio = median(&|round| round.ratio(name))?.value;
            println!("{name:<12}{quiet:>12.0}{busy:>12.0}{ratio:>9.2}");
        }
        for name in COUNTERS {
            let quiet = sum(&|round| round.quiet.count(name));
            let busy = sum(&|round| round.busy.count(name));
            println!("{name:<20}{quiet:>4}{busy:>12}");
        }
        println!("p99.9 ratio {:.2}, spread {:.0}%", ratio.value, ratio.spread_percent);
    }
    ensure!(
        is_quiet,
        "the quiet daemon froze memtables: a larger --memtable-quiet or smaller --files-quiet"
    );
    ensure!(
        is_busy,
        "the busy daemon neither merged nor folded: a smaller --memtable or more --seconds"
    );
    Ok(ExitCode::SUCCESS)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn half(p999: f64) -> Half {
        let row =
            json!({ "p50_us": 1.0, "p99_us": 2.0, "p999_us": p999, "max_us": 9.0, "rate": 5.0 });
        Half { row, counters: json!({ "merges_finished": 3 }) }
    }

    #[test]
    fn a_round_says_what_both_waited_and_what_was_merged() {
        let round = Round { quiet: half(2.0), busy: half(5.0) };
        let json = as_json(&round, 1);
        assert_eq!(json["p999_ratio"], 2.5);
        assert_eq!(json["busy"]["merges_finished"], 3);
        assert_eq!(json["quiet"]["p999_us"], 2.0);
        assert_eq!(round.quiet.count("folds_finished"), 0);
    }
}
