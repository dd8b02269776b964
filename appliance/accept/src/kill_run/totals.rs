//! What a run saw of the engine's inside: the daemon's counters, added up over its restarts.
//!
//! Counters begin at zero with each start, so they are read before each kill and summed; what
//! happens between the reading and the kill is not seen, which only makes the demands harder to
//! meet. Gauges keep their largest value.

use crate::status::Status;
use anyhow::Result;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    pub log_trees_written: u64,
    pub merges_finished: u64,
    pub folds_finished: u64,
    pub folds_resumed: u64,
    pub across_commits: u64,
    pub tablets_in_use: u64,
    pub log_trees: u64,
}

impl Totals {
    pub fn add(&mut self, status: &Status) -> Result<()> {
        self.log_trees_written += status.counter("log_trees_written")?;
        self.merges_finished += status.counter("merges_finished")?;
        self.folds_finished += status.counter("folds_finished")?;
        self.folds_resumed += status.counter("folds_resumed")?;
        self.across_commits += status.counter("across_commits")?;
        self.tablets_in_use = self.tablets_in_use.max(status.counter("tablets_in_use")?);
        self.log_trees = self.log_trees.max(status.counter("log_trees")?);
        Ok(())
    }

    /// What a run must have seen and has not.
    pub fn missing(&self, shards: u32) -> Vec<String> {
        let demands = [
            ("log trees written", self.log_trees_written, 10),
            ("merges finished", self.merges_finished, 3),
            ("folds finished", self.folds_finished, 3),
            ("folds resumed after a kill", self.folds_resumed, 1),
            ("tablets with inodes", self.tablets_in_use, 16),
            ("commits across shards", self.across_commits, u64::from(shards > 1)),
        ];
        demands
            .iter()
            .filter(|(_, seen, least)| seen < least)
            .map(|(what, seen, least)| format!("{what}: {seen}, want at least {least}"))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_add_up_and_gauges_do_not() {
        let line = "{\"tablets_in_use\":9,\"log_trees\":2,\"log_trees_written\":4,\
                    \"merges_finished\":1,\"folds_finished\":1,\"folds_resumed\":0,\"across_commits\":5}";
        let status = Status::parse(line).expect("valid");
        let mut totals = Totals::default();
        totals.add(&status).expect("complete");
        totals.add(&status).expect("complete");
        assert_eq!((totals.log_trees_written, totals.tablets_in_use), (8, 9));
    }

    #[test]
    fn one_shard_need_not_commit_across() {
        let totals = Totals {
            log_trees_written: 10,
            merges_finished: 3,
            folds_finished: 3,
            folds_resumed: 1,
            across_commits: 0,
            tablets_in_use: 16,
            log_trees: 0,
        };
        assert_eq!(totals.missing(1), [""; 0]);
        assert_eq!(totals.missing(2).len(), 1);
        assert_eq!(Totals { folds_resumed: 0, ..totals }.missing(1).len(), 1);
    }
}
