//! Replays a corpus and runs seeded mutations of it, without help from the compiler.
//!
//! Every input is made from (seed, number of the input) and the corpus, so a failure is found again by
//! its two numbers, on any machine, as long as the corpus is the same. A failure is a panic of the
//! target, which is how beliefs are broken, or more memory than the target may hold. Panics are caught
//! and the run of that target ends, since the first one is what a person can look at.
//!
//! A target that took none of the mutated inputs, or refused none, has not looked behind its first
//! question, and counts as failed: fuzzing that tests nothing looks like fuzzing that finds nothing.
//!
//! What cannot be caught (a stack that is used up, memory that is refused) ends the process. `Trace` is
//! for that: it writes every input down before it is tried.

use crate::corpus::crash_name;
use crate::mutate::mutated;
use crate::specimen::Specimen;
use crate::tally::most_during;
use crate::targets::{Target, Verdict};
use cairn_base::prng::Prng;
use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Once;

/// What one run of one target saw.
#[derive(Debug, Default)]
pub struct Outcome {
    /// Mutated ones, the corpus not counted.
    pub inputs: u64,
    pub accepted: u64,
    /// By kind.
    pub refused: BTreeMap<String, u64>,
    /// The most that one input held.
    pub heap_most: usize,
    pub failure: Option<Failure>,
}

#[derive(Debug)]
pub struct Failure {
    /// A file of the corpus, or a number under the run's seed.
    pub found: String,
    pub text: String,
    pub input: Vec<u8>,
}

/// Looked at before each mutated input: whether to go on after so many.
pub type Until<'a> = &'a mut dyn FnMut(u64) -> bool;

/// Called with each input before it is tried.
pub type Trace<'a> = &'a mut dyn FnMut(&[u8]);

pub fn run(
    target: &Target,
    corpus: &[Specimen],
    seed: u64,
    until: Until<'_>,
    trace: Trace<'_>,
) -> Outcome {
    let mut outcome = Outcome::default();
    for input in corpus {
        trace(&input.bytes);
        let verdict = match tried(target, &input.bytes) {
            Ok((verdict, heap)) => {
                outcome.heap_most = outcome.heap_most.max(heap);
                verdict
            }
            Err(text) => return outcome.failed(&input.name, text, &input.bytes),
        };
        if let Some(text) = misnamed(&input.name, &verdict) {
            return outcome.failed(&input.name, text, &input.bytes);
        }
    }
    let seeds: Vec<Vec<u8>> = corpus.iter().map(|input| input.bytes.clone()).collect();
    while until(outcome.inputs) {
        let input = input_of(target, &seeds, seed, outcome.inputs);
        trace(&input);
        match tried(target, &input) {
            Ok((verdict, heap)) => {
                outcome.heap_most = outcome.heap_most.max(heap);
                match verdict {
                    Verdict::Accepted => outcome.accepted += 1,
                    Verdict::Refused(kind) => {
                        *outcome.refused.entry(kind.into_owned()).or_default() += 1;
                    }
                }
            }
            Err(text) => {
                let found = format!("seed {seed}, input {}", outcome.inputs);
                return outcome.failed(&found, text, &input);
            }
        }
        outcome.inputs += 1;
    }
    outcome
}

/// One input of a run again.
pub fn input_of(target: &Target, seeds: &[Vec<u8>], seed: u64, number: u64) -> Vec<u8> {
    // Neighbours must not be alike: the generator spreads what it is given.
    let mut prng = Prng::new(Prng::new(seed).next_u64() ^ number);
    mutated(seeds, target.modes, target.bytes_max, &mut prng)
}

thread_local! {
    /// A target is being run, whose panics are the run's to tell.
    static TRYING: Cell<bool> = const { Cell::new(false) };
    /// Where it panicked.
    static PLACE: RefCell<String> = const { RefCell::new(String::new()) };
}

/// Panics of targets are kept for the outcome; those of others are told as before.
fn keep_panics_of_targets() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let others = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| match (TRYING.get(), panic.location()) {
            (true, Some(place)) => PLACE.set(place.to_string()),
            (true, None) => PLACE.set(String::new()),
            (false, _) => others(panic),
        }));
    });
}

/// The verdict on one input and what it held in memory, or what is wrong.
pub fn tried(target: &Target, input: &[u8]) -> Result<(Verdict, usize), String> {
    keep_panics_of_targets();
    let run = AssertUnwindSafe(|| (target.run)(input));
    TRYING.set(true);
    let (caught, heap) = most_during(|| catch_unwind(run));
    TRYING.set(false);
    match caught {
        Err(panic) => Err(format!("{}: {}", PLACE.take(), said(&*panic))),
        Ok(_) if heap > target.heap_max => Err(format!(
            "held {heap} bytes at once for an input of {}; its most is {}",
            input.len(),
            target.heap_max
        )),
        Ok(verdict) => Ok((verdict, heap)),
    }
}

fn said(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("a panic").to_owned()
}

/// What a file of the corpus promises by its name.
fn misnamed(name: &str, verdict: &Verdict) -> Option<String> {
    let promised = match name.split_once('-')?.0 {
        "ok" => "accepted",
        "no" => "refused",
        _ => return None,
    };
    let kept = (*verdict == Verdict::Accepted) == (promised == "accepted");
    (!kept).then(|| format!("is to be {promised}: {verdict:?}"))
}

impl Outcome {
    fn failed(mut self, found: &str, text: String, input: &[u8]) -> Outcome {
        self.failure = Some(Failure { found: found.to_owned(), text, input: input.to_vec() });
        self
    }

    pub fn refused_count(&self) -> u64 {
        self.refused.values().sum()
    }

    /// Why the run does not count as passed, in one line.
    pub fn complaint(&self) -> Option<String> {
        if let Some(failure) = &self.failure {
            let name = crash_name(&failure.input);
            return Some(format!("{}: {} ({name})", failure.found, failure.text));
        }
        if self.accepted == 0 {
            return Some("no mutated input was accepted: it tests nothing behind the door".into());
        }
        if self.refused_count() == 0 {
            return Some("no mutated input was refused: it tests no door".into());
        }
        None
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} inputs, {} accepted, {} refused in {} kinds, at most {} KiB held",
            self.inputs,
            self.accepted,
            self.refused_count(),
            self.refused.len(),
            self.heap_most.div_ceil(1024)
        )
    }
}
