//! A slice of the run under attack, for every change; `cairn-accept hostile --minutes N` is the long
//! one, with ten times as many connections.

use cairn_accept::hostile::{Options, run};
use cairn_accept::{binary, skip};
use std::time::Duration;

#[test]
fn a_good_client_does_not_notice_a_thousand_bad_ones() {
    if binary().is_none() {
        return skip("hostile", "the cairn binary");
    }
    let length = Duration::from_secs(8);
    let options = Options { length, connections: 1_000, shards: 2, seed: 1 };
    match run(&options) {
        Ok(summary) => {
            println!("{summary}");
            assert!(summary.connections_peak > 500, "most of the crowd was in: {summary}");
            assert!(summary.calls > 100, "the good client worked: {summary}");
            assert!(summary.attacks.iter().all(|(_, count)| *count > 0), "{summary}");
            assert!(summary.cut > 0, "half-open records have an end: {summary}");
        }
        Err(error) => panic!("{error:#}"),
    }
}
