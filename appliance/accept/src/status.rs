//! What `cairn status --json` says. Counters begin at zero with each start of the daemon.

use anyhow::{Context, Result};
use serde_json::Value;

pub struct Status(Value);

impl Status {
    pub fn parse(stdout: &str) -> Result<Status> {
        let line = stdout.lines().next().context("status --json printed nothing")?;
        let value: Value = serde_json::from_str(line)
            .with_context(|| format!("status --json printed what is not JSON: {line}"))?;
        anyhow::ensure!(value.is_object(), "status --json printed no object: {line}");
        Ok(Status(value))
    }

    /// A counter at the top level. One that is missing is an error: it was promised.
    pub fn counter(&self, key: &str) -> Result<u64> {
        self.0[key].as_u64().with_context(|| format!("status --json has no number {key:?}"))
    }

    /// The sum of a counter over all shards.
    pub fn sum_of_shards(&self, key: &str) -> Result<u64> {
        let shards = self.0["shards"].as_array().context("status --json has no shards")?;
        let counters = shards.iter().map(|shard| {
            shard[key].as_u64().with_context(|| format!("a shard has no number {key:?}"))
        });
        counters.sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_counter_is_read_and_a_missing_one_is_an_error() {
        let status = Status::parse("{\"log_trees\":3,\"state\":\"serving\"}\n").expect("valid");
        assert_eq!(status.counter("log_trees").expect("is there"), 3);
        assert!(status.counter("folds_finished").is_err());
        assert!(status.counter("state").is_err());
        let shards = "{\"shards\":[{\"log_blocks\":3},{\"log_blocks\":4}]}";
        let status = Status::parse(shards).expect("valid");
        assert_eq!(status.sum_of_shards("log_blocks").expect("is there"), 7);
        assert!(status.sum_of_shards("operations").is_err());
        assert!(Status::parse("").is_err());
        assert!(Status::parse("serving\n").is_err());
    }
}
