//! The copy-and-kill run at a size for every change: 300 files, one run for each number of shards.
//! The full one is `cairn-accept kill-run`.

use cairn_accept::kill_run::{Options, run};
use cairn_accept::{binary, skip};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// The runs share a machine of few cores; side by side they would only wait for each other.
static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

fn run_with(shards: u32) {
    if binary().is_none() {
        return skip("kill_run", "the cairn binary");
    }
    let _turn = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    let options = Options {
        files: 300,
        shards,
        memtable: "256K".to_owned(),
        source: None,
        kills: 6,
        large_bytes: 8 << 20,
        connections: 3,
        seed: u64::from(shards),
        limit: Duration::from_secs(300),
    };
    match run(&options) {
        Ok(summary) => println!("{summary}"),
        Err(error) => panic!("{error:#}"),
    }
}

#[test]
fn nothing_acknowledged_is_lost_on_one_shard() {
    run_with(1);
}

#[test]
fn nothing_acknowledged_is_lost_on_two_shards() {
    run_with(2);
}

#[test]
fn nothing_acknowledged_is_lost_on_three_shards() {
    run_with(3);
}
