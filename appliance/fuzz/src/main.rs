//! `fuzz`: targets, a seed and a measure of time in, counts and failures out.
//!
//! The last line is `N passed, M failed`, in targets. A failure names its seed and leaves its input in
//! a file, by default in the current folder. Exit 0 when all passed, 1 when not, 2 for wrong usage.

use anyhow::{Context, Result, bail};
use cairn_base::hash::xxh3;
use cairn_fuzz::runner::{self, Outcome};
use cairn_fuzz::{TARGETS, Target, corpus, targets};
use clap::Parser;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

/// Between two looks at the clock.
const INPUTS_A_LOOK: u64 = 64;

/// Feeds foreign bytes to the parsers that meet them.
#[derive(Parser)]
#[command(name = "fuzz")]
struct Args {
    /// Of which; without any, all
    targets: Vec<String>,
    /// Run each target for a time: 60s, 10m, 2h
    #[arg(long = "for", value_name = "D", value_parser = parse_duration, conflicts_with = "iterations")]
    duration: Option<Duration>,
    /// Mutated inputs of each target
    #[arg(long, value_name = "N", default_value_t = 20_000)]
    iterations: u64,
    /// What the inputs are made from, beside the corpus
    #[arg(long, value_name = "S", default_value_t = 1)]
    seed: u64,
    /// The folder of the corpus
    #[arg(long, value_name = "DIR", default_value_os_t = corpus::folder())]
    corpus: PathBuf,
    /// Where inputs that fail are left
    #[arg(long, value_name = "DIR", default_value = ".")]
    found: PathBuf,
    /// Show how many inputs were refused why
    #[arg(long)]
    kinds: bool,
    /// Run the inputs of these files and no others; needs one target
    #[arg(long, value_name = "FILE", num_args = 1..)]
    input: Vec<PathBuf>,
    /// Write each input to this file before it is tried, for failures that end the process
    #[arg(long, value_name = "FILE")]
    trace: Option<PathBuf>,
    /// Write the corpus that the product's own writers make, and run nothing
    #[arg(long)]
    write_corpus: bool,
}

fn main() -> ExitCode {
    let args = Args::parse();
    match run(&args) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("fuzz: {error:#}");
            ExitCode::from(2)
        }
    }
}

fn run(args: &Args) -> Result<bool> {
    let targets = chosen(&args.targets)?;
    if args.write_corpus {
        for target in targets {
            let files = corpus::write(&args.corpus, target)?;
            println!("{}: {files} files", target.name);
        }
        return Ok(true);
    }
    if !args.input.is_empty() {
        let [target] = targets[..] else { bail!("--input needs one target") };
        return replay(target, &args.input);
    }
    let (mut passed, mut failed) = (0, 0);
    for target in targets {
        let outcome = one(target, args)?;
        println!("{}: {outcome}", target.name);
        if args.kinds {
            for (kind, count) in &outcome.refused {
                println!("    {count:>9}  {kind}");
            }
        }
        match outcome.complaint() {
            None => passed += 1,
            Some(complaint) => {
                failed += 1;
                println!("{}: FAILED: {complaint}", target.name);
            }
        }
        if let Some(failure) = &outcome.failure {
            leave(&args.found, &failure.input)?;
        }
    }
    println!("{passed} passed, {failed} failed");
    Ok(failed == 0)
}

fn chosen(names: &[String]) -> Result<Vec<&'static Target>> {
    if names.is_empty() {
        return Ok(TARGETS.iter().collect());
    }
    let known = || TARGETS.iter().map(|target| target.name).collect::<Vec<_>>().join(" ");
    let find = |name: &String| {
        targets::find(name).with_context(|| format!("no target {name}: there are {}", known()))
    };
    names.iter().map(find).collect()
}

fn one(target: &'static Target, args: &Args) -> Result<Outcome> {
    let inputs = corpus::read(&args.corpus, target)?;
    let end = args.duration.map(|duration| now() + duration);
    let mut until = |done: u64| match end {
        None => done < args.iterations,
        Some(end) => !done.is_multiple_of(INPUTS_A_LOOK) || now() < end,
    };
    let mut untraceable = None;
    let mut trace = |input: &[u8]| {
        if let Some(path) = &args.trace
            && let Err(error) = std::fs::write(path, input)
        {
            untraceable = Some(error);
        }
    };
    // Targets do not share inputs, though they share the seed.
    let seed = args.seed ^ xxh3(target.name.as_bytes());
    let outcome = runner::run(target, &inputs, seed, &mut until, &mut trace);
    match untraceable {
        Some(error) => Err(error).context("cannot write the trace"),
        None => Ok(outcome),
    }
}

/// Panics go their way here: a debugger or a backtrace is what is wanted.
fn replay(target: &Target, files: &[PathBuf]) -> Result<bool> {
    for path in files {
        let input =
            std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
        let verdict = (target.run)(&input);
        println!("{}: {verdict:?}", path.display());
    }
    Ok(true)
}

fn leave(folder: &Path, input: &[u8]) -> Result<()> {
    std::fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
    let path = folder.join(corpus::crash_name(input));
    std::fs::write(&path, input).with_context(|| format!("cannot write {}", path.display()))?;
    println!("its input: {}", path.display());
    Ok(())
}

fn parse_duration(text: &str) -> Result<Duration, String> {
    let wrong = || format!("{text:?} is not a time like 60s, 10m or 2h");
    let cut = text.len().saturating_sub(1);
    let (digits, unit) = text.split_at_checked(cut).ok_or_else(wrong)?;
    let seconds = match unit {
        "s" => 1,
        "m" => 60,
        "h" => 3600,
        _ => return Err(wrong()),
    };
    digits.parse::<u32>().map(|n| Duration::from_secs(u64::from(n) * seconds)).map_err(|_| wrong())
}

#[expect(clippy::disallowed_methods, reason = "a stopwatch for people; inputs do not depend on it")]
fn now() -> Instant {
    Instant::now()
}
