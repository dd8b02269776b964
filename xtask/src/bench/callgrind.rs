//! What callgrind counted, read from its dump: instructions by function, and how often a function was
//! called.
//!
//! `callgrind_annotate` prints the same of one dump; we want the difference of two, by function, and
//! without perl. The dumps must be written with `--compress-strings=no --compress-pos=no`, so that each
//! line stands for itself: `fn=` opens a function, a line that begins with a digit is a cost of it,
//! and the one behind `calls=` is the cost of the callee, which is counted there.

use anyhow::{Context, Result};
use std::collections::BTreeMap;

/// Amounts are `f64`: a difference divided by a number of calls is a profile too.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Profile {
    /// Without those of its callees.
    instructions: BTreeMap<String, f64>,
    calls: BTreeMap<String, f64>,
}

impl Profile {
    pub fn parse(dump: &str) -> Result<Profile> {
        let mut profile = Profile::default();
        let mut function = None;
        let mut callee = "";
        let mut lines = dump.lines();
        while let Some(line) = lines.next() {
            if let Some(name) = line.strip_prefix("fn=") {
                function = Some(plain(name));
            } else if let Some(name) = line.strip_prefix("cfn=") {
                callee = plain(name);
            } else if let Some(call) = line.strip_prefix("calls=") {
                add(&mut profile.calls, callee, amount(call, 0)?);
                lines.next().context("a dump that ends within a call")?;
            } else if line.starts_with(|first: char| first.is_ascii_digit()) {
                let name = function.with_context(|| format!("a cost of no function: {line}"))?;
                add(&mut profile.instructions, name, amount(line, 1)?);
            }
        }
        Ok(profile)
    }

    pub fn total(&self) -> f64 {
        self.instructions.values().sum()
    }

    pub fn calls_of(&self, function: &str) -> f64 {
        self.calls.get(function).copied().unwrap_or(0.0)
    }

    /// `self` without `times` times `other`.
    pub fn less(&self, other: &Profile, times: f64) -> Profile {
        let mut less = self.clone();
        other.instructions.iter().for_each(|(f, n)| add(&mut less.instructions, f, -n * times));
        other.calls.iter().for_each(|(f, n)| add(&mut less.calls, f, -n * times));
        less
    }

    pub fn divided(mut self, by: f64) -> Profile {
        let amounts = self.instructions.values_mut().chain(self.calls.values_mut());
        amounts.for_each(|amount| *amount /= by);
        self
    }

    /// The functions with the most instructions of their own, most first.
    pub fn top(&self, count: usize) -> Vec<(&str, f64)> {
        let mut functions: Vec<_> =
            self.instructions.iter().map(|(name, amount)| (name.as_str(), *amount)).collect();
        functions.sort_by(|(_, a), (_, b)| b.total_cmp(a));
        functions.truncate(count);
        functions
    }
}

/// Callgrind marks a recursive call as `name'2`.
fn plain(name: &str) -> &str {
    match name.rsplit_once('\'') {
        Some((name, level)) if level.bytes().all(|byte| byte.is_ascii_digit()) => name,
        _ => name,
    }
}

fn add(amounts: &mut BTreeMap<String, f64>, function: &str, amount: f64) {
    match amounts.get_mut(function) {
        Some(sum) => *sum += amount,
        None => _ = amounts.insert(function.to_owned(), amount),
    }
}

fn amount(line: &str, field: usize) -> Result<f64> {
    let text = line.split_whitespace().nth(field);
    text.and_then(|text| text.parse().ok()).with_context(|| format!("no amount in {line:?}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const DUMP: &str = "# callgrind format\nversion: 1\nevents: Ir\nsummary: 31\n\n\
        ob=/bin/a\nfl=a.rs\nfn=a::outer\n10 5\nfi=b.rs\n3 2\ncfi=b.rs\ncfn=a::inner'2\n\
        calls=4 77\n12 20\n13 1\n\nfn=a::inner'2\n77 20\nfn=a::inner\n77 3\n";

    #[test]
    fn a_call_is_charged_to_the_callee_and_recursion_to_one_name() {
        let profile = Profile::parse(DUMP).unwrap();
        assert_eq!(profile.total(), 31.0);
        assert_eq!(profile.top(9), [("a::inner", 23.0), ("a::outer", 8.0)]);
        assert_eq!((profile.calls_of("a::inner"), profile.calls_of("a::outer")), (4.0, 0.0));
    }

    #[test]
    fn a_difference_is_taken_function_by_function() {
        let profile = Profile::parse(DUMP).unwrap();
        let rest = profile.less(&Profile::parse("fn=a::inner\n1 2\nfn=x\n1 1\n").unwrap(), 10.0);
        assert_eq!(rest.divided(2.0).top(2), [("a::outer", 4.0), ("a::inner", 1.5)]);
    }

    #[test]
    fn a_dump_that_makes_no_sense_is_refused() {
        for bad in ["10 5\n", "fn=a\n10 x\n", "fn=a\ncalls=1 2\n"] {
            assert!(Profile::parse(bad).is_err(), "{bad:?}");
        }
    }
}
