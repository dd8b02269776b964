//! Proof that the simulator sees: each planted bug must be found.
//!
//! The engine has hooks that break one promise each (`cairn_engine::sabotage`). With one of them
//! planted, seeds run until one fails; the first is named in the table. A bug that survives
//! `SEEDS_MAX` seeds shows a hole in the workload, the faults or the checks.

use crate::scenario::{Log, Scenario};
use crate::verdict::{Verdict, judge};
use cairn_engine::sabotage::{Sabotage, plant};

pub const SEEDS_MAX: u64 = 200;

/// Every planted bug, or the one of that name.
pub fn named(only: &str) -> Vec<(&'static str, Sabotage)> {
    let all = Sabotage::ALL.iter().copied();
    all.filter(|(bug, _)| only.is_empty() || *bug == only).collect()
}

/// The first seed that fails with it, and what it showed.
/// A seed counts only when it passes without the bug: what fails anyway proves nothing.
pub fn find(bug: Sabotage) -> Option<(u64, String)> {
    let run = |bug, seed| {
        plant(bug);
        let verdict = judge(&Scenario::from_seed(seed), &Log::default());
        plant(None);
        verdict
    };
    (0..SEEDS_MAX).find_map(|seed| match run(Some(bug), seed) {
        Verdict::Failed(what) if !run(None, seed).is_failure() => Some((seed, what)),
        _ => None,
    })
}
