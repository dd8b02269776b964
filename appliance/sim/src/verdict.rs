//! One scenario's end, with the engine's panics as findings.
//!
//! The engine asserts what it believes, and stops the node when it was wrong. Here a panic is caught
//! and is a failure of the seed like any other, with its message and place.

use crate::scenario::{Log, Report, Scenario};
use std::cell::RefCell;
use std::panic::{AssertUnwindSafe, catch_unwind};

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    Passed(Box<Report>),
    Failed(String),
}

impl Verdict {
    pub fn is_failure(&self) -> bool {
        matches!(self, Verdict::Failed(_))
    }
}

thread_local! {
    static PANIC: RefCell<Option<String>> = const { RefCell::new(None) };
}

/// Lets panics be findings rather than noise on stderr. Once, at the start of the program.
pub fn keep_panics_quiet() {
    std::panic::set_hook(Box::new(|info| {
        PANIC.with_borrow_mut(|slot| _ = slot.get_or_insert_with(|| info.to_string()));
    }));
}

pub fn judge(scenario: &Scenario, log: &Log) -> Verdict {
    match caught(|| scenario.run(log)) {
        Ok(report) => Verdict::Passed(Box::new(report)),
        Err(what) => Verdict::Failed(what),
    }
}

/// What `body` found, a panic like anything else.
pub fn caught<T>(body: impl FnOnce() -> Result<T, String>) -> Result<T, String> {
    PANIC.set(None);
    match catch_unwind(AssertUnwindSafe(body)) {
        Ok(found) => found,
        Err(_) => Err(PANIC.take().unwrap_or_else(|| "a panic without a message".into())),
    }
}
