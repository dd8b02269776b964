//! One look at the daemon, and what happened between two of them.

use crate::exit::Error;
use cairn_control::Client;
use cairn_control::proto::{Counter, DfEntry, MemoryPart, StatusReply};
use serde::Serialize;
use std::collections::BTreeMap;
use std::fmt::Display;
use std::time::Duration;
use tokio::time::Instant;

/// Everything the daemon says of itself, at about one moment.
pub struct Sample {
    at: Instant,
    status: StatusReply,
    counters: BTreeMap<String, Counter>,
    space: Vec<DfEntry>,
}

impl Sample {
    pub async fn take(client: &mut Client, object: impl Display) -> Result<Sample, Error> {
        let failed = |error| Error::client(&object, error);
        let status = client.status().await.map_err(failed)?;
        let space = client.df().await.map_err(failed)?.entries;
        let counters = client.counters("").await.map_err(failed)?;
        let at = Instant::now();
        let counters = counters.into_iter().map(|counter| (counter.name.clone(), counter));
        Ok(Sample { at, status, counters: counters.collect(), space })
    }

    fn value(&self, name: &str) -> u64 {
        self.counters.get(name).map_or(0, |counter| counter.value)
    }

    fn of_shard(&self, name: &str, shard: usize) -> u64 {
        let values = self.counters.get(name).and_then(|counter| counter.shards.get(shard));
        values.copied().unwrap_or(0)
    }
}

/// Rates are per second, between two samples; the rest is as the second one has it.
#[derive(Debug, Default, Serialize)]
pub struct View {
    pub health: String,
    pub version: String,
    pub uptime_s: u64,
    /// Between the samples.
    pub interval_ms: u64,
    pub connections: u64,
    pub calls_per_s: u64,
    pub operations_per_s: u64,
    pub received_bytes_per_s: u64,
    pub sent_bytes_per_s: u64,
    pub log_bytes_per_s: u64,
    pub bytes_total: u64,
    pub bytes_free: u64,
    pub inodes: u64,
    /// What the kernel counts as the daemon's, and its budget if it has one.
    pub resident_bytes: u64,
    pub memory_budget_bytes: Option<u64>,
    pub memory: Vec<MemoryView>,
    pub shards: Vec<ShardView>,
    /// Those that were called, most first.
    pub procedures: Vec<ProcedureView>,
}

/// What memory is used for.
#[derive(Debug, Default, Serialize)]
pub struct MemoryView {
    pub part: String,
    pub bytes: u64,
    pub bytes_max: u64,
}

#[derive(Debug, Default, Serialize)]
pub struct ShardView {
    pub shard: u32,
    pub stopped: bool,
    /// Of its time between the samples, what its loop did something in.
    pub busy_percent: u64,
    pub operations_per_s: u64,
    pub connections: u64,
    pub log_percent: u64,
    pub memtable_percent: u64,
    pub dirty_bytes: u64,
    pub inodes: u64,
}

#[derive(Debug, Default, Serialize, PartialEq, Eq)]
pub struct ProcedureView {
    pub name: String,
    pub calls_per_s: u64,
    /// From arrival to answer, of the calls between the samples.
    pub mean_us: u64,
}

impl View {
    pub fn between(old: &Sample, new: &Sample) -> View {
        let took = new.at.saturating_duration_since(old.at);
        let delta = |name: &str| new.value(name).saturating_sub(old.value(name));
        let rate = |name: &str| per_second(delta(name), took);
        let mut calls = 0;
        let mut procedures = Vec::new();
        for name in new.counters.keys() {
            let Some(short) = name.strip_prefix("nfs_").and_then(|n| n.strip_suffix("_calls"))
            else {
                continue;
            };
            let count = delta(name);
            if count > 0 {
                calls += count;
                procedures.push(ProcedureView {
                    name: short.into(),
                    calls_per_s: per_second(count, took),
                    mean_us: delta(&format!("nfs_{short}_ns")) / count / 1000,
                });
            }
        }
        procedures.sort_by(|a, b| b.calls_per_s.cmp(&a.calls_per_s).then(a.name.cmp(&b.name)));
        let space = |of: fn(&DfEntry) -> u64| {
            let for_files = new.space.iter().filter(|entry| entry.role != "meta");
            for_files.map(|entry| of(entry).saturating_mul(entry.block_bytes)).sum()
        };
        let memory = new.status.memory.clone().unwrap_or_default();
        let part = |part: MemoryPart| MemoryView {
            part: part.name,
            bytes: part.bytes,
            bytes_max: part.bytes_max,
        };
        View {
            resident_bytes: memory.resident_bytes,
            memory_budget_bytes: memory.budget_bytes,
            memory: memory.parts.into_iter().map(part).collect(),
            health: new.status.health.clone(),
            version: new.status.version.clone(),
            uptime_s: new.status.uptime_ns / 1_000_000_000,
            interval_ms: u64::try_from(took.as_millis()).unwrap_or(u64::MAX),
            connections: new.value("connections"),
            calls_per_s: per_second(calls, took),
            operations_per_s: rate("operations"),
            received_bytes_per_s: rate("received_bytes"),
            sent_bytes_per_s: rate("sent_bytes"),
            log_bytes_per_s: rate("log_bytes"),
            bytes_total: space(|entry| entry.blocks_total),
            bytes_free: space(|entry| entry.blocks_free),
            inodes: new.value("inodes"),
            shards: (0..new.status.shards.len()).map(|at| shard(old, new, at, took)).collect(),
            procedures,
        }
    }
}

fn shard(old: &Sample, new: &Sample, at: usize, took: Duration) -> ShardView {
    let delta = |name: &str| new.of_shard(name, at).saturating_sub(old.of_shard(name, at));
    let now = |name: &str| new.of_shard(name, at);
    let status = &new.status.shards[at];
    ShardView {
        shard: status.shard,
        stopped: status.stopped,
        busy_percent: percent(delta("busy_ns"), u64::try_from(took.as_nanos()).unwrap_or(u64::MAX)),
        operations_per_s: per_second(delta("operations"), took),
        connections: now("connections"),
        log_percent: percent(now("log_used_blocks"), now("log_blocks")),
        memtable_percent: percent(now("memtable_bytes"), now("memtable_bytes_max")),
        dirty_bytes: now("dirty_bytes"),
        inodes: now("inodes"),
    }
}

fn per_second(count: u64, took: Duration) -> u64 {
    let rate = u128::from(count) * 1_000_000_000 / took.as_nanos().max(1);
    u64::try_from(rate).unwrap_or(u64::MAX)
}

/// At most 100: two samples of a busy loop are not taken at the very same places.
fn percent(part: u64, whole: u64) -> u64 {
    let percent = u128::from(part) * 100 / u128::from(whole.max(1));
    u64::try_from(percent).unwrap_or(100).min(100)
}

#[cfg(test)]
mod tests {
    use super::*;
    use cairn_control::proto::ShardStatus;

    fn sample(at: Instant, values: &[(&str, u64)]) -> Sample {
        let counter = |(name, value): &(&str, u64)| {
            let shards = vec![*value];
            (name.to_string(), Counter { value: *value, shards, ..Counter::default() })
        };
        let status = StatusReply { shards: vec![ShardStatus::default()], ..StatusReply::default() };
        let space = DfEntry { block_bytes: 4096, blocks_total: 10, ..DfEntry::default() };
        Sample { at, status, counters: values.iter().map(counter).collect(), space: vec![space] }
    }

    #[tokio::test]
    async fn rates_are_what_happened_between_two_samples() {
        let began = Instant::now();
        let old = [("nfs_read_calls", 10), ("nfs_read_ns", 1_000_000), ("busy_ns", 0)];
        let new = [
            ("nfs_read_calls", 30),
            ("nfs_read_ns", 1_400_000),
            ("nfs_write_calls", 0),
            ("busy_ns", 500_000_000),
            ("log_used_blocks", 1),
            ("log_blocks", 4),
        ];
        let old = sample(began, &old);
        let new = sample(began + Duration::from_secs(2), &new);
        let view = View::between(&old, &new);
        let read = ProcedureView { name: "read".into(), calls_per_s: 10, mean_us: 20 };
        assert_eq!(view.procedures, [read], "what was not called is not shown");
        assert_eq!((view.calls_per_s, view.interval_ms, view.bytes_total), (10, 2000, 40960));
        assert_eq!((view.shards[0].busy_percent, view.shards[0].log_percent), (25, 25));
    }
}
