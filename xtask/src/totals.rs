//! How many passed, failed and were skipped: the one line that ends `test` and `ci`.
//!
//! The numbers are read from what the tools print, since stable Rust's test harness has no machine
//! form. A tool that fails without saying what failed counts as one failure, so that the line never
//! reads `0 failed` beside a bad exit.

use std::fmt;
use std::ops::AddAssign;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    pub passed: u64,
    pub failed: u64,
    pub skipped: u64,
}

impl Totals {
    /// One line of output: the harness's `test result: ok. P passed; F failed; I ignored; …`, the
    /// simulator's `P passed, F failed`, or its `caught P of N`. Any other line counts nothing.
    pub fn of_line(line: &str) -> Totals {
        let line = line.trim();
        if let Some(rest) = line.strip_prefix("test result: ") {
            return Totals {
                passed: number_before(rest, " passed;").unwrap_or(0),
                failed: number_before(rest, " failed;").unwrap_or(0),
                skipped: number_before(rest, " ignored;").unwrap_or(0),
            };
        }
        if let Some((caught, planted)) =
            line.strip_prefix("caught ").and_then(|rest| rest.split_once(" of "))
            && let (Ok(caught), Ok(planted)) = (caught.parse::<u64>(), planted.parse::<u64>())
        {
            return Totals { passed: caught, failed: planted.saturating_sub(caught), skipped: 0 };
        }
        match line.split_once(" passed, ") {
            Some((passed, rest)) => match (passed.parse(), number_before(rest, " failed")) {
                (Ok(passed), Some(failed)) => Totals { passed, failed, skipped: 0 },
                _ => Totals::default(),
            },
            None => Totals::default(),
        }
    }

    /// `self`, with at least one failure when the tool that printed it ended badly.
    pub fn honest(mut self, tool_succeeded: bool) -> Totals {
        if !tool_succeeded && self.failed == 0 {
            self.failed = 1;
        }
        self
    }
}

impl AddAssign for Totals {
    fn add_assign(&mut self, other: Totals) {
        self.passed += other.passed;
        self.failed += other.failed;
        self.skipped += other.skipped;
    }
}

impl fmt::Display for Totals {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} passed, {} failed, {} skipped", self.passed, self.failed, self.skipped)
    }
}

/// The digits that end right before `word`.
fn number_before(text: &str, word: &str) -> Option<u64> {
    let head = &text[..text.find(word)?];
    let start = head.rfind(|c: char| !c.is_ascii_digit()).map_or(0, |at| at + 1);
    head[start..].parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_of_the_harness_gives_its_three_counts() {
        let line = "test result: FAILED. 12 passed; 3 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.02s";
        assert_eq!(Totals::of_line(line), Totals { passed: 12, failed: 3, skipped: 1 });
    }

    #[test]
    fn the_simulators_two_last_lines_are_understood() {
        assert_eq!(
            Totals::of_line("19 passed, 1 failed"),
            Totals { passed: 19, failed: 1, skipped: 0 }
        );
        assert_eq!(Totals::of_line("caught 6 of 7"), Totals { passed: 6, failed: 1, skipped: 0 });
    }

    #[test]
    fn prose_counts_nothing() {
        for line in ["all passed, none failed", "caught some of them", "test result: ", ""] {
            assert_eq!(Totals::of_line(line), Totals::default(), "{line:?}");
        }
    }

    #[test]
    fn a_crash_without_a_count_is_one_failure() {
        let crashed = Totals { passed: 5, failed: 0, skipped: 0 }.honest(false);
        assert_eq!(crashed.to_string(), "5 passed, 1 failed, 0 skipped");
    }
}
