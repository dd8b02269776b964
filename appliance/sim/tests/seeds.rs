//! A few seeds in every test run; `cairn-sim --seeds` runs more.

use cairn_sim::scenario::{Log, Scenario};
use cairn_sim::verdict::{Verdict, judge};

#[test]
fn seeds_pass_and_take_the_same_path_twice() {
    for seed in 0..4 {
        let scenario = Scenario::from_seed(seed);
        let first = judge(&scenario, &Log::default());
        assert!(!first.is_failure(), "seed {seed}: {first:?}");
        assert_eq!(first, judge(&scenario, &Log::default()), "seed {seed}");
    }
}

#[test]
fn different_seeds_take_different_paths() {
    let digest = |seed| match judge(&Scenario::from_seed(seed), &Log::default()) {
        Verdict::Passed(report) => report.digest,
        Verdict::Failed(what) => panic!("seed {seed}: {what}"),
    };
    assert_ne!(digest(1), digest(2));
}
