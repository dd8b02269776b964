//! An archive from end to end (`cairn_accept::tape`), with the daemon killed in the middle.

use cairn_accept::{binary, skip, tape};
use std::time::Duration;

#[test]
fn files_go_to_the_tapes_and_come_back_through_fifty_kills() {
    if binary().is_none() {
        skip("tape", "the cairn binary");
        return;
    }
    let limit = Duration::from_secs(600);
    let options = tape::Options { files: 400, kills: 50, shards: 2, seed: 7, limit };
    let summary = tape::run(&options).unwrap_or_else(|error| panic!("{error:#}"));
    assert!(summary.removed > 0 && summary.offline > 0, "{summary}");
}
