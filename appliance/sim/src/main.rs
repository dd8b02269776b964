//! `sim`: seeds in, verdicts out.
//!
//! The last line is always the count; the line before it the digest of all runs, or of the run that
//! was asked for. Exit 0 when all passed (all planted bugs were caught), 1 when not, 2 for wrong
//! usage.

use anyhow::{Context, bail};
use cairn_engine::counters::CounterValues;
use cairn_sim::digest::{Digest, Event};
use cairn_sim::exhaustive::{self, Exhaustive, Tally};
use cairn_sim::scenario::{Log, Scenario};
use cairn_sim::verdict::{Verdict, judge, keep_panics_quiet};
use cairn_sim::{mutation, parallel, sabotage, seeds, shrink};
use clap::Parser;
use std::process::ExitCode;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// Lines of the story that a failure shows.
const STORY_LINES: usize = 400;

/// Runs the appliance in a simulated world, from seeds.
#[derive(Parser)]
#[command(name = "sim")]
#[command(
    after_help = "Examples:\n  sim --seeds 100\n  sim --mutations\n  sim --mutations dangling-entry"
)]
#[command(group = clap::ArgGroup::new("what").required(true))]
struct Args {
    /// Run seeds 0 to N-1 and every kept seed
    #[arg(long, value_name = "N", group = "what")]
    seeds: Option<u64>,
    /// Run one seed and tell its story
    #[arg(long, value_name = "S", group = "what")]
    seed: Option<u64>,
    /// Run seeds for a time: 90s, 10m, 2h
    #[arg(long = "for", value_name = "D", group = "what", value_parser = parse_duration)]
    duration: Option<Duration>,
    /// Run one seed twice: both runs must take the same path
    #[arg(long, value_name = "S", group = "what")]
    twice: Option<u64>,
    /// Make a failing seed's scenario as small as possible
    #[arg(long, value_name = "S", group = "what")]
    shrink: Option<u64>,
    /// Plant each known bug in turn, or the one named, and find it
    #[arg(long, value_name = "BUG", group = "what", num_args = 0..=1, default_missing_value = "")]
    sabotage: Option<String>,
    /// Run every script of up to N operations, with the power cut before and after every write and flush
    #[arg(long, value_name = "N", group = "what", value_parser = clap::value_parser!(u8).range(1..=4))]
    exhaustive: Option<u8>,
    /// With --exhaustive: cut the recovery everywhere as well for scripts of up to M operations only
    #[arg(long, value_name = "M", requires = "exhaustive")]
    recovery: Option<u8>,
    /// Put each inconsistency into a sound pool, or the one named: the verifier must find it
    #[arg(long, value_name = "NAME", group = "what", num_args = 0..=1, default_missing_value = "")]
    mutations: Option<String>,
}

fn main() -> ExitCode {
    let args = Args::parse();
    keep_panics_quiet();
    let good = if let Some(count) = args.seeds {
        let kept = seeds::kept().into_iter().map(|kept| kept.seed).filter(|seed| *seed >= count);
        run((0..count).chain(kept))
    } else if let Some(duration) = args.duration {
        let end = now() + duration;
        run((0..).take_while(|_| now() < end))
    } else if let Some(seed) = args.seed {
        tell(seed)
    } else if let Some(seed) = args.twice {
        twice(seed)
    } else if let Some(seed) = args.shrink {
        smallest(seed)
    } else if let Some(length) = args.exhaustive {
        match every_script(length.into(), args.recovery.unwrap_or(length).into()) {
            Ok(good) => good,
            Err(what) => {
                eprintln!("sim: {what}");
                false
            }
        }
    } else if let Some(only) = args.mutations {
        mutate(&only)
    } else {
        hunt(&args.sabotage.unwrap_or_default())
    };
    if good { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn run(seeds: impl Iterator<Item = u64> + Send) -> bool {
    let (mut passed, mut failed) = (0, 0);
    let digest = Digest::new(0);
    let mut counters = CounterValues::default();
    let (mut blows, mut met, mut refused) = (0, 0, 0);
    let work = |seed: &u64| judge(&Scenario::from_seed(*seed), &Log::default());
    parallel::in_order(seeds, work, |seed, verdict| match verdict {
        Verdict::Passed(report) => {
            passed += 1;
            digest.fold(Event::Observe, &[seed, report.digest]);
            counters.add(&report.counters);
            (blows, met, refused) =
                (blows + report.blows, met + report.damage_met, refused + report.refused);
        }
        Verdict::Failed(what) => {
            failed += 1;
            digest.fold_bytes(Event::Observe, what.as_bytes());
            println!("seed {seed}: {what}");
        }
    });
    // A path that never ran was not tested.
    let counts = CounterValues::NAMES.iter().zip(counters.to_array());
    let counts: Vec<String> = counts.map(|(name, count)| format!("{name} {count}")).collect();
    println!("{}", counts.join(", "));
    println!("{blows} runs with silent damage, met in {met}; {refused} pools refused in the end");
    conclude(digest.value(), passed, failed)
}

fn tell(seed: u64) -> bool {
    let scenario = Scenario::from_seed(seed);
    println!("{scenario:?}");
    let log = Log::last(STORY_LINES);
    match judge(&scenario, &log) {
        Verdict::Passed(report) => {
            println!("{report:?}");
            conclude(report.digest, 1, 0)
        }
        Verdict::Failed(what) => {
            for line in log.take() {
                println!("  {line}");
            }
            println!("seed {seed}: {what}");
            conclude(0, 0, 1)
        }
    }
}

fn twice(seed: u64) -> bool {
    let scenario = Scenario::from_seed(seed);
    let (first, second) = (judge(&scenario, &Log::default()), judge(&scenario, &Log::default()));
    let good = first == second && !first.is_failure();
    for verdict in [&first, &second] {
        match verdict {
            Verdict::Passed(report) => println!("{:016x}", report.digest),
            Verdict::Failed(what) => println!("seed {seed}: {what}"),
        }
    }
    if first != second {
        println!("seed {seed}: two runs took different paths");
    }
    let digest = if let Verdict::Passed(report) = first { report.digest } else { 0 };
    conclude(digest, usize::from(good), usize::from(!good))
}

fn smallest(seed: u64) -> bool {
    let told = |scenario: &Scenario| eprintln!("still fails: {scenario:?}");
    match shrink::shrink(&Scenario::from_seed(seed), told) {
        Some((scenario, what)) => {
            let log = Log::last(STORY_LINES);
            judge(&scenario, &log);
            for line in log.take() {
                println!("  {line}");
            }
            println!("{scenario:?}\nseed {seed}: {what}");
            conclude(0, 0, 1)
        }
        None => conclude(0, 1, 0),
    }
}

fn every_script(length: usize, recovery_length: usize) -> Result<bool, String> {
    let threads = std::thread::available_parallelism().map_or(1, |count| count.get());
    let all = Exhaustive { length, recovery_length, threads, bug: None };
    let scripts = exhaustive::count(&all)?;
    let done = AtomicUsize::new(0);
    let found = exhaustive::explore(&all, || {
        let done = 1 + done.fetch_add(1, Ordering::Relaxed);
        if done.is_multiple_of(100) {
            eprintln!("{done} of {scripts} scripts");
        }
    })?;
    for (number, what) in &found.failures {
        println!("script {number}: {what}");
    }
    let Tally { scripts, moments, states, recovery_states } = found.tally;
    println!(
        "{scripts} scripts, {moments} moments of a cut, {states} different states after it, \
         {recovery_states} more after a cut in recovery"
    );
    let failed = found.failures.len();
    println!("{} passed, {failed} failed", scripts as usize - failed);
    Ok(failed == 0)
}

fn hunt(only: &str) -> bool {
    let (mut caught, mut all) = (0, 0);
    let bugs = sabotage::named(only).into_iter();
    parallel::in_order(
        bugs,
        |(_, bug)| sabotage::find(*bug),
        |(bug, _), found| {
            all += 1;
            match found {
                Some((seed, what)) => {
                    caught += 1;
                    let line = what.lines().next().unwrap_or_default();
                    println!("{bug:<24} seed {seed:>3}  {line}");
                }
                None => println!("{bug:<24} not found in {} seeds", sabotage::SEEDS_MAX),
            }
        },
    );
    println!("caught {caught} of {all}");
    caught == all && all > 0
}

fn mutate(only: &str) -> bool {
    let (mut caught, mut all) = (0, 0);
    let mut pools = mutation::Pools::default();
    for mutation in mutation::all().filter(|of| only.is_empty() || of.name == only) {
        all += 1;
        match pools.try_out(mutation) {
            Ok(finding) => {
                caught += 1;
                println!("{:<32} {finding}", mutation.name);
            }
            Err(what) => println!("{:<32} MISSED ({}): {what}", mutation.name, mutation.breaks),
        }
    }
    if all == 0 {
        println!("no mutation is called {only:?}: --mutations alone lists all of them");
    }
    println!("caught {caught} of {all}");
    caught == all && all > 0
}

fn conclude(digest: u64, passed: usize, failed: usize) -> bool {
    println!("digest {digest:016x}");
    println!("{passed} passed, {failed} failed");
    failed == 0
}

#[expect(clippy::disallowed_methods, reason = "how long to search is a matter of real time")]
fn now() -> Instant {
    Instant::now()
}

fn parse_duration(text: &str) -> anyhow::Result<Duration> {
    let unit = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let count: u64 = text[..unit].parse().context("a duration is a number and s, m or h")?;
    let seconds = match &text[unit..] {
        "" | "s" => count,
        "m" => count * 60,
        "h" => count * 3600,
        unit => bail!("unknown unit {unit:?}: use s, m or h"),
    };
    Ok(Duration::from_secs(seconds))
}
