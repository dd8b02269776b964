//! `cargo xtask bench nfs`: cairn, and a peer, under the same load in turn, as one table.
//!
//! A single figure from a shared machine is worth little, and two figures from different hours are
//! worth less. So both servers are up at once, the load goes to one and then the other, round after
//! round, with a pause in between for what a server still does on its own; the table has the median
//! and the spread of the rounds. Both store on the same disk: cairn in a pool file, the peer in an
//! XFS image.
//!
//! Everything lives in one folder below the build's, which is removed at the end; the results are put
//! beside it. Servers, mounts and loop devices end with the values that stand for them, so an error,
//! Ctrl-C and the time limit of `--quick` clean up by the same way as success.

mod callgrind;
mod ganesha;
mod image;
mod instructions;
mod ours;
mod plot;
mod process;
mod server;
mod stop;
mod table;
mod tail;

use crate::run;
use anyhow::{Context, Result, ensure};
use clap::{Args, ValueEnum};
use ganesha::Ganesha;
pub use instructions::{Options as InstructionOptions, run_instructions};
use ours::Cairn;
use plot::Chart;
use serde_json::Value;
use server::{Generator, Server, let_settle};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;
use stop::{Stop, now};
use table::{Row, Runs};
pub use tail::{Options as TailOptions, run_tail};

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Peer {
    /// Debian's nfs-ganesha-vfs on XFS mounted wsync
    Ganesha,
}

#[derive(Args)]
pub struct Options {
    /// What to compare with; root is needed for it
    #[arg(long, value_enum)]
    peer: Option<Peer>,
    /// Shorter runs, and an end within 4 minutes once everything is built
    #[arg(long)]
    quick: bool,
    /// One JSON object a row
    #[arg(long)]
    json: bool,
    /// How often each server is measured [default: 5, with --quick 3]
    #[arg(long, value_parser = clap::value_parser!(u16).range(1..=1000))]
    rounds: Option<u16>,
    /// Where rows and plots are written [default: bench in the build's folder]
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// A cairn to measure in place of the tree's own, which is then not built
    #[arg(long, value_name = "FILE")]
    cairn: Option<PathBuf>,
    /// Cores that cairn serves with
    #[arg(long, value_name = "N")]
    shards: Option<u16>,
    /// Given to `cairn-bench nfs`, after `--`: for example `-- --workload null,create`
    #[arg(last = true, value_name = "ARGS")]
    generator: Vec<String>,
}

/// `--quick` promises 4 minutes; ending takes some of it.
const QUICK_TIME_MAX: Duration = Duration::from_secs(215);
/// No round is begun later.
const QUICK_LAST_ROUND: Duration = Duration::from_secs(140);
const QUICK_RUN_MAX: Duration = Duration::from_secs(90);
const RUN_MAX: Duration = Duration::from_secs(600);
const QUICK_ARGUMENTS: &[&str] = &["--seconds", "0.6", "--size", "256M", "--files", "4000"];

pub fn run_nfs(root: &Path, options: &Options) -> Result<ExitCode> {
    let (target, cairn) = build(root, options.cairn.as_deref())?;
    let out = options.out.clone().unwrap_or_else(|| target.join("bench"));
    std::fs::create_dir_all(&out).with_context(|| format!("cannot make {}", out.display()))?;
    let stop = Stop::install(options.quick.then_some(QUICK_TIME_MAX))?;
    // Dropped last: the servers below have their files in it.
    let folder = tempfile::Builder::new()
        .prefix("bench-run-")
        .tempdir_in(&target)
        .context("cannot make a folder for the servers")?;
    let quick = QUICK_ARGUMENTS.iter().filter(|_| options.quick).map(|text| (*text).to_owned());
    let generator = Generator {
        binary: target.join("release/cairn-bench"),
        // Clap takes the last of two like options only where it is told to.
        arguments: merged(quick.collect(), &options.generator),
        folder: folder.path().to_owned(),
        time_max: if options.quick { QUICK_RUN_MAX } else { RUN_MAX },
    };
    let peer = match options.peer {
        Some(Peer::Ganesha) => Some(Ganesha::start(folder.path(), &stop)?),
        None => None,
    };
    let shards = options.shards.map(|shards| shards.to_string());
    let more: Vec<&str> = shards.iter().flat_map(|shards| ["--shards", shards]).collect();
    let cairn = Cairn::start(&cairn, folder.path(), &more, &stop)?;
    let runs = take_turns(options, &generator, &cairn, peer.as_ref(), &stop)?;
    drop((cairn, peer));
    report(options, &runs, &out)?;
    Ok(ExitCode::SUCCESS)
}

/// The build's folder, with what is needed in it, and the cairn to measure: `given`, or one that is built.
fn build(root: &Path, given: Option<&Path>) -> Result<(PathBuf, PathBuf)> {
    let mut command = run::cargo(root);
    command.args(["build", "--release", "--package", "cairn-bench"]);
    if given.is_none() {
        command.args(["--package", "cairn"]);
    }
    ensure!(run::succeeds(&mut command)?, "what is to be measured does not build");
    let metadata = run::metadata(root)?;
    let target = metadata["target_directory"].as_str().context("metadata without target")?;
    let target = PathBuf::from(target);
    let cairn = match given {
        Some(given) => given.canonicalize().with_context(|| format!("no {}", given.display()))?,
        None => target.join("release/cairn"),
    };
    Ok((target, cairn))
}

/// `defaults` are pairs; those that `given` names itself are left out.
fn merged(defaults: Vec<String>, given: &[String]) -> Vec<String> {
    let is_given = |option: &str| {
        given.iter().any(|word| word == option || word.starts_with(&format!("{option}=")))
    };
    let kept = defaults.chunks(2).filter(|pair| !is_given(&pair[0])).flatten();
    kept.chain(given).cloned().collect()
}

fn take_turns(
    options: &Options,
    generator: &Generator,
    cairn: &Cairn,
    peer: Option<&Ganesha>,
    stop: &Stop,
) -> Result<Runs> {
    let begun = now();
    let rounds = options.rounds.unwrap_or(if options.quick { 3 } else { 5 });
    let ours = cairn.server();
    let theirs = peer.map(|peer| (peer.synced(), peer.unsynced()));
    let mut runs = Runs::default();
    for round in 1..=rounds {
        if options.quick && round > 1 && begun.elapsed() > QUICK_LAST_ROUND {
            eprintln!("{} of {rounds} rounds: the time of --quick allows no more", round - 1);
            break;
        }
        let all: Vec<&Server> = theirs.iter().map(|(synced, _)| synced).chain([&ours]).collect();
        let turn = |name: &str, server: &Server| -> Result<Vec<Value>> {
            let_settle(&all, stop)?;
            let started = now();
            let rows = generator.run(server, stop)?;
            let seconds = started.elapsed().as_secs_f64();
            eprintln!("round {round} of {rounds}: {name} {seconds:.1} s");
            Ok(rows)
        };
        runs.ours.push(turn("ours", &ours)?);
        if let Some((synced, unsynced)) = &theirs {
            runs.peer.push(turn("peer", synced)?);
            // Its figures are no target: once is enough in a hurry.
            if !options.quick || round == 1 {
                runs.unsynced.push(turn("peer, unsynced", unsynced)?);
            }
        }
    }
    Ok(runs)
}

fn report(options: &Options, runs: &Runs, out: &Path) -> Result<()> {
    let rows = table::rows(runs);
    let lines: Vec<String> = rows.iter().map(|row| row.json().to_string()).collect();
    if options.json {
        lines.iter().for_each(|line| println!("{line}"));
    } else {
        println!("{}", table::heading());
        rows.iter().for_each(|row| println!("{}", row.text()));
        if let Some(summary) = table::summary(&rows) {
            println!("{summary}");
        }
    }
    let file = out.join("nfs.jsonl");
    std::fs::write(&file, lines.join("\n") + "\n")
        .with_context(|| format!("cannot write {}", file.display()))?;
    draw(&rows, out)?;
    eprintln!("rows and plots are in {}", out.display());
    Ok(())
}

fn draw(rows: &[Row], out: &Path) -> Result<()> {
    let pair = |row: &Row, of: fn(&table::Figures) -> Option<f64>| {
        (row.workload.clone(), vec![of(&row.ours), row.peer.as_ref().and_then(of)])
    };
    let relative = |row: &Row| {
        let base = row.peer.as_ref()?.rate.value;
        let unsynced = row.unsynced.as_ref().map(|figures| figures.rate.value / base);
        Some((row.workload.clone(), vec![row.ratio(), unsynced]))
    };
    let charts = [
        (
            "nfs-ratio.png",
            Chart {
                title: "Rate as a multiple of the peer's (the line)",
                series: &["cairn", "peer, unsynced"],
                groups: rows.iter().filter_map(relative).collect(),
                mark: Some(1.0),
            },
        ),
        (
            "nfs-cpu.png",
            Chart {
                title: "Server CPU: us per operation (streams: ms per GiB)",
                series: &["cairn", "peer"],
                groups: rows
                    .iter()
                    .map(|row| {
                        let scale = if row.is_stream() { 1e3 } else { 1.0 };
                        let (label, values) = pair(row, |figures| figures.cpu);
                        let scaled = values.into_iter().map(|value| value.map(|cpu| cpu * scale));
                        (label, scaled.collect())
                    })
                    .collect(),
                mark: None,
            },
        ),
        (
            "nfs-p99.png",
            Chart {
                title: "99th percentile of the wait, us",
                series: &["cairn", "peer"],
                groups: rows.iter().map(|row| pair(row, |figures| figures.p99_us)).collect(),
                mark: None,
            },
        ),
    ];
    charts.iter().try_for_each(|(name, chart)| chart.draw(&out.join(name)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_given_replaces_the_default_of_the_same_name() {
        let words = |text: &str| text.split(' ').map(str::to_owned).collect::<Vec<_>>();
        let defaults = words("--seconds 0.6 --size 256M");
        assert_eq!(
            merged(defaults.clone(), &words("--seconds 2")).join(" "),
            "--size 256M --seconds 2"
        );
        assert_eq!(
            merged(defaults.clone(), &words("--size=1G")).join(" "),
            "--seconds 0.6 --size=1G"
        );
        assert_eq!(merged(defaults.clone(), &[]), defaults);
    }
}
