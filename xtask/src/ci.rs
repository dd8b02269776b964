//! `cargo xtask ci`: every check of the tree, which is what `.ci/run` calls.
//!
//! All steps run even when an early one fails, so that one push shows everything that is wrong with
//! it. Each prints its name and its seconds. The line before the last names the steps that failed;
//! the last line adds up the tests and the simulator's seeds and planted bugs, and nothing else, so
//! the exit code and not that line says whether all is well.

use crate::totals::Totals;
use crate::{format_doc, fuzz, run, sim, test, tidy};
use anyhow::Result;
use clap::ValueEnum;
use std::path::Path;
use std::process::ExitCode;

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Step {
    Fmt,
    Lint,
    Build,
    Test,
    Sim,
    Fuzz,
    Docs,
    Tidy,
}

/// What a step found: whether it passed, and what it counted.
struct Found {
    passed: bool,
    totals: Totals,
}

impl Found {
    fn verdict(passed: bool) -> Found {
        Found { passed, totals: Totals::default() }
    }

    fn counted(totals: Totals) -> Found {
        Found { passed: totals.failed == 0, totals }
    }
}

pub fn run(root: &Path, steps: &[Step]) -> Result<ExitCode> {
    let steps = if steps.is_empty() { Step::value_variants() } else { steps };
    let mut sum = Totals::default();
    let mut report = Vec::new();
    let mut failed = Vec::new();
    for &step in steps {
        println!("==> {}", name(step));
        let started = now();
        let found = check(root, step).unwrap_or_else(|error| {
            eprintln!("{error:#}");
            Found::verdict(false)
        });
        let seconds = started.elapsed().as_secs_f64();
        let verdict = if found.passed { "ok" } else { "FAILED" };
        let line = format!("{:<6} {seconds:>7.1} s  {verdict}", name(step));
        println!("<== {line}");
        report.push(line);
        sum += found.totals;
        if !found.passed {
            failed.push(name(step));
        }
    }
    println!("{}", report.join("\n"));
    if failed.is_empty() {
        println!("all steps passed");
    } else {
        println!("failed: {}", failed.join(" "));
    }
    println!("{sum}");
    Ok(if failed.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn check(root: &Path, step: Step) -> Result<Found> {
    let cargo = |arguments: &[&str]| run::succeeds(run::cargo(root).args(arguments));
    Ok(match step {
        Step::Fmt => {
            require(root, "fmt", "rustfmt")?;
            Found::verdict(cargo(&["fmt", "--all", "--check"])?)
        }
        Step::Lint => {
            require(root, "clippy", "clippy")?;
            let clippy = ["clippy", "--workspace", "--all-targets", "--", "-D", "warnings"];
            Found::verdict(cargo(&clippy)?)
        }
        // What users run and the simulator; the rest is built for the tests.
        Step::Build => {
            let release = ["build", "--release", "--package", "cairn", "--package", "cairn-sim"];
            Found::verdict(cargo(&release)?)
        }
        Step::Test => Found::counted(test::totals(root, &[], test::Skips::Judged)?),
        Step::Sim => {
            // Eight minutes or so; `sim --for` and `--exhaustive 3` are for nights (docs/reliability.md).
            let mut totals = sim::totals(root, &["--seeds", "60"])?;
            totals += sim::totals(root, &["--mutations"])?;
            totals += sim::totals(root, &["--exhaustive", "2"])?;
            totals += sim::totals(root, &["--sabotage"])?;
            Found::counted(totals)
        }
        Step::Fuzz => Found::counted(fuzz::totals(root, &["--iterations", "50000"])?),
        Step::Docs => Found::verdict(format_doc::is_current(root)?),
        Step::Tidy => Found::verdict(tidy::is_clean(root)?),
    })
}

/// A toolchain without the component would fail with a message about a missing file.
fn require(root: &Path, subcommand: &str, component: &str) -> Result<()> {
    let mut probe = run::cargo(root);
    probe.args([subcommand, "--version"]);
    anyhow::ensure!(
        run::succeeds(&mut probe)?,
        "no cargo {subcommand}: run `rustup component add {component}`"
    );
    Ok(())
}

fn name(step: Step) -> &'static str {
    match step {
        Step::Fmt => "fmt",
        Step::Lint => "lint",
        Step::Build => "build",
        Step::Test => "test",
        Step::Sim => "sim",
        Step::Fuzz => "fuzz",
        Step::Docs => "docs",
        Step::Tidy => "tidy",
    }
}

#[expect(clippy::disallowed_methods, reason = "a stopwatch for people; nothing depends on it")]
fn now() -> std::time::Instant {
    std::time::Instant::now()
}
