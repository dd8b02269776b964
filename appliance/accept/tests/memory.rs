//! A slice of the run with a budget of memory; `cairn-accept memory --minutes N` is the long one.

use cairn_accept::memory::{Options, run};
use cairn_accept::{Daemon, Setup, binary, finish, skip};
use std::time::Duration;

#[test]
fn a_daemon_stays_within_its_budget_of_memory() {
    if binary().is_none() {
        return skip("memory", "the cairn binary");
    }
    let options = Options { length: Duration::from_secs(20), memory_bytes: 160 << 20, shards: 1 };
    match run(&options) {
        Ok(summary) => {
            println!("{summary}");
            assert!(summary.rounds > 0, "clients worked: {summary}");
            assert!(summary.is_within(), "{summary}");
        }
        Err(error) => panic!("{error:#}"),
    }
}

#[test]
fn a_budget_that_is_too_small_is_refused_with_one_that_is_not() {
    if binary().is_none() {
        return skip("memory", "the cairn binary");
    }
    let dir = tempfile::tempdir().expect("a folder");
    let mut setup = Setup::new(&dir.path().join("pool")).expect("a setup");
    setup.shards = 2;
    setup.arguments = vec!["--memory=16M".into()];
    let refused = finish(setup.command().expect("a command")).expect("it ends");
    assert!(!refused.status.success());
    let (_, least) = refused.stderr.rsplit_once("at least ").expect("the least is named");
    let least = least.split_whitespace().next().expect("a size").to_owned();
    setup.arguments = vec![format!("--memory={least}")];
    let mut daemon = Daemon::start(setup).unwrap_or_else(|error| panic!("{least}: {error:#}"));
    assert!(daemon.stop().expect("it ends").success());
}
