//! All scripts of two operations, cut everywhere; and the same with a bug planted, which must show.

use cairn_engine::sabotage::Sabotage;
use cairn_sim::exhaustive::{Exhaustive, Found, explore};

fn run(length: usize, recovery_length: usize, bug: Option<Sabotage>) -> Found {
    let all = Exhaustive { length, recovery_length, threads: 2, bug };
    explore(&all, || ()).expect("the scene can be set")
}

#[test]
fn every_script_of_two_operations_survives_a_cut_anywhere_and_one_operation_a_second_in_recovery() {
    let found = run(2, 1, None);
    assert!(found.failures.is_empty(), "{:#?}", found.failures);
    assert!(found.tally.scripts > 120 && found.tally.states > 3 * found.tally.scripts, "{found:?}");
    assert!(found.tally.recovery_states > 0, "{found:?}");
}

#[test]
fn what_breaks_a_promise_is_found_by_scripts_of_one_and_two_operations() {
    for (length, bug) in [
        (1, Sabotage::AckBeforeDurable),
        (1, Sabotage::ReplayOffByOne),
        (2, Sabotage::MissingNlinkEdit),
        (2, Sabotage::RecordBeforeData),
        (2, Sabotage::PendingIgnored),
    ] {
        let found = run(length, 0, Some(bug));
        assert!(!found.failures.is_empty(), "{bug:?} was not found: {found:?}");
    }
}
