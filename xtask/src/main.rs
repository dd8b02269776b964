//! The developer's one way in: `cargo xtask VERB`. Each verb is a file of this folder, and a verb
//! exists here only when what it runs exists.
//!
//! Everything is Rust on std and cargo, so a machine that can build the tree can also check it.
//! Verbs return the number of what failed through the exit code; words go to stdout as they come.

#![forbid(unsafe_code)]

mod bench;
mod ci;
mod format_doc;
mod fuzz;
mod guest;
mod run;
mod sim;
mod source;
mod test;
mod tidy;
mod totals;

use anyhow::{Context, Result};
use clap::{Parser, Subcommand};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

#[derive(Parser)]
#[command(name = "cargo xtask", about = "Builds, checks and documents the tree", version)]
struct Command {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// Run the tests of all packages, after installing what they need when root
    Test {
        /// Passed to `cargo test` in place of `--workspace`
        #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "ARGS")]
        cargo_args: Vec<String>,
    },
    /// Run every check, or the steps named, with the time of each
    Ci {
        #[arg(value_enum)]
        steps: Vec<ci::Step>,
    },
    /// Check layout, dependency arrows, licences, unsafe islands, paths in the documents
    Tidy,
    /// Run the simulator, built for release; all arguments are its own
    #[command(disable_help_flag = true)]
    Sim {
        #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "ARGS")]
        sim_args: Vec<String>,
    },
    /// Feed foreign bytes to the parsers that meet them; all arguments are the runner's own
    #[command(disable_help_flag = true)]
    Fuzz {
        #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "ARGS")]
        fuzz_args: Vec<String>,
    },
    /// Measure cairn beside another server
    Bench {
        #[command(subcommand)]
        subject: Subject,
    },
    /// Run a command as root in a throw-away Linux guest with real NFS, NVMe and ublk
    Guest(guest::Options),
    /// Write docs/format.md from appliance/format
    FormatDoc {
        /// Write nothing; fail when the page is stale
        #[arg(long)]
        check: bool,
    },
}

#[derive(Subcommand)]
enum Subject {
    /// Over NFS version 3, in interleaved runs; prints medians, spreads and ratios, draws plots
    Nfs(bench::Options),
    /// What durable creates wait at worst while log trees are merged and folded, and while none are
    Tail(bench::TailOptions),
    /// Instructions of user space for each call, counted by valgrind's callgrind
    Instructions(bench::InstructionOptions),
}

fn main() -> ExitCode {
    run_verb(Command::parse().verb).unwrap_or_else(|error| {
        eprintln!("xtask: {error:#}");
        ExitCode::FAILURE
    })
}

fn run_verb(verb: Verb) -> Result<ExitCode> {
    let root = workspace_root()?;
    match verb {
        Verb::Test { cargo_args } => test::run(&root, &cargo_args),
        Verb::Ci { steps } => ci::run(&root, &steps),
        Verb::Tidy => tidy::run(&root),
        Verb::Sim { sim_args } => sim::run(&root, &sim_args),
        Verb::Fuzz { fuzz_args } => fuzz::run(&root, &fuzz_args),
        Verb::Bench { subject: Subject::Nfs(options) } => bench::run_nfs(&root, &options),
        Verb::Bench { subject: Subject::Tail(options) } => bench::run_tail(&root, &options),
        Verb::Bench { subject: Subject::Instructions(options) } => {
            bench::run_instructions(&root, &options)
        }
        Verb::Guest(options) => Ok(guest::run(&root, &options)),
        Verb::FormatDoc { check: true } => format_doc::run_check(&root),
        Verb::FormatDoc { check: false } => format_doc::run_write(&root),
    }
}

/// The nearest folder at or above the current one whose manifest has a `[workspace]` table. Not the
/// folder this binary was built in: two clones may share a target directory.
fn workspace_root() -> Result<PathBuf> {
    let start = std::env::current_dir().context("no current directory")?;
    start
        .ancestors()
        .find(|folder| is_workspace(folder))
        .map(Path::to_owned)
        .with_context(|| format!("no workspace manifest at or above {}", start.display()))
}

fn is_workspace(folder: &Path) -> bool {
    let Ok(manifest) = std::fs::read_to_string(folder.join("Cargo.toml")) else {
        return false;
    };
    manifest.lines().any(|line| line.trim() == "[workspace]")
}
