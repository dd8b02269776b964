//! What a start after a kill reads depends on the log, not on how many files there are.
//!
//! Counted in blocks, not in time. The files are made straight at the engine by a hidden
//! subcommand, over all tablets: through NFS a hundred thousand would take too long here. The full
//! measurement takes 10^5 and 10^6 (CAIRN_ACCEPT_FILES=100000,1000000).

use anyhow::{Context, Result};
use cairn_accept::{Daemon, Setup, cairn, has_subcommand, run_within, skip};
use std::time::Duration;

const POPULATE: &str = "debug-populate";
const POPULATE_LIMIT: Duration = Duration::from_secs(1_800);

#[derive(Clone, Copy, Debug)]
struct Cost {
    outside_logs: u64,
    in_logs: u64,
    log_blocks: u64,
}

fn cost_of_a_start(files: u64) -> Result<Cost> {
    let dir = tempfile::tempdir()?;
    let mut setup = Setup::new(&dir.path().join("pool"))?;
    setup.size = "16G";
    // A pool of the same shape for every number of files.
    let mut daemon = Daemon::start(setup.clone())?;
    daemon.stop()?;
    let mut populate = cairn(&[POPULATE, "--files", &files.to_string()])?;
    populate.arg("--dir").arg(&setup.dir);
    run_within(populate, POPULATE_LIMIT)?.succeeded(POPULATE)?;

    let mut daemon = Daemon::start(setup)?;
    daemon.kill()?;
    daemon.restart()?;
    let status = daemon.status()?;
    let cost = Cost {
        outside_logs: status.counter("open_blocks_read_outside_logs")?,
        in_logs: status.counter("open_blocks_read_in_logs")?,
        log_blocks: status.sum_of_shards("log_blocks")?,
    };
    daemon.kill()?;
    Ok(cost)
}

fn sizes() -> Result<(u64, u64)> {
    let text = std::env::var("CAIRN_ACCEPT_FILES").unwrap_or_else(|_| "10000,100000".to_owned());
    let (few, many) = text.split_once(',').context("CAIRN_ACCEPT_FILES is FEW,MANY")?;
    Ok((few.parse()?, many.parse()?))
}

#[test]
fn a_start_reads_as_much_with_many_files_as_with_few() {
    if !has_subcommand(POPULATE) {
        return skip("start_cost", "cairn debug-populate");
    }
    let (few, many) = sizes().unwrap_or_else(|error| panic!("{error:#}"));
    let cost =
        |files| cost_of_a_start(files).unwrap_or_else(|error| panic!("{files} files: {error:#}"));
    let (small, large) = (cost(few), cost(many));
    println!("{few} files: {small:?}\n{many} files: {large:?}");
    for (files, cost) in [(few, small), (many, large)] {
        assert!(
            cost.in_logs <= cost.log_blocks,
            "{files} files: {} blocks read in log areas of {}",
            cost.in_logs,
            cost.log_blocks
        );
        assert!(cost.outside_logs > 0, "{files} files: no block read is no measurement");
    }
    let apart = small.outside_logs.abs_diff(large.outside_logs);
    assert!(
        apart * 10 <= small.outside_logs,
        "blocks read outside the logs: {} with {few} files, {} with {many}",
        small.outside_logs,
        large.outside_logs
    );
}
