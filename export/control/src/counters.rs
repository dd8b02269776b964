//! The registry of everything that a daemon counts: name, unit, kind, help, and where it is read.
//!
//! One row a counter, sorted by name, and nothing is shown that has no row: so `cairn counters`, its
//! help and docs/counters.md cannot drift apart. The page is written by this crate's tests
//! (`CAIRN_BLESS=1 cargo test -p cairn-control counters`), which also fail when it is stale or when
//! the engine counts something that has no row here.

use crate::memory;
use crate::proto::Counter;
use crate::request::{Local, Procedure};
use cairn_engine::status::ShardStatus;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// Counts from the daemon's start.
    Counter,
    /// Is so now.
    Gauge,
    /// The largest since the daemon's start.
    Maximum,
}

impl Kind {
    fn word(self) -> &'static str {
        match self {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
            Kind::Maximum => "maximum",
        }
    }

    fn total(self, shards: &[u64]) -> u64 {
        match self {
            Kind::Counter | Kind::Gauge => shards.iter().fold(0, |sum, n| sum.saturating_add(*n)),
            Kind::Maximum => shards.iter().copied().max().unwrap_or(0),
        }
    }
}

struct Row {
    name: &'static str,
    unit: &'static str,
    kind: Kind,
    help: &'static str,
    of: fn(&ShardStatus, &Local) -> u64,
}

/// `counted` are the engine's counters, `now` its gauges, `local` what the shard's loop knows.
macro_rules! rows {
    ($($from:ident $name:ident $unit:literal $help:literal;)*) => {
        const ROWS: &[Row] = &[$(rows!(@row $from $name $unit $help)),*];
    };
    (@row counted $name:ident $unit:literal $help:literal) => {
        rows!(@make $name $unit Counter $help, |status, _| status.counters.$name)
    };
    (@row now $name:ident $unit:literal $help:literal) => {
        rows!(@make $name $unit Gauge $help, |status, _| status.$name)
    };
    (@row local_count $name:ident $unit:literal $help:literal) => {
        rows!(@make $name $unit Counter $help, |_, local| local.$name)
    };
    (@row local_now $name:ident $unit:literal $help:literal) => {
        rows!(@make $name $unit Gauge $help, |_, local| local.$name)
    };
    (@row local_most $name:ident $unit:literal $help:literal) => {
        rows!(@make $name $unit Maximum $help, |_, local| local.$name)
    };
    (@make $name:ident $unit:literal $kind:ident $help:literal, $of:expr) => {
        Row { name: stringify!($name), unit: $unit, kind: Kind::$kind, help: $help, of: $of }
    };
}

rows! {
    counted across_commits "operations" "Operations over tablets of several shards that committed, at their coordinator.";
    counted busy "calls" "Requests that met a full queue and were answered `busy`.";
    local_count busy_ns "nanoseconds" "Time of the shard's loop that did something; sleep and idle polling are the rest.";
    now cache_nodes "nodes" "Metadata nodes of 16 KiB in the cache.";
    local_now connections "connections" "NFS connections that are open.";
    local_count connections_accepted "connections" "NFS connections accepted.";
    local_count connections_refused "connections" "NFS connections closed at once, since the shard had too many.";
    now data_cache_bytes "bytes" "File data in the cache.";
    now data_cache_bytes_max "bytes" "The budget of that cache.";
    counted data_cache_hits "blocks" "Data blocks found in that cache.";
    counted data_blocks_read "blocks" "Data blocks of 4 KiB read from a device.";
    counted data_blocks_written "blocks" "Data blocks of 4 KiB written to a device.";
    counted deletions_trimmed "deletions" "Deletions that the deletion index has forgotten.";
    counted deletions_trimmed_unseen "deletions" "Those of them that a named consumer of the change stream had not passed: there were too many.";
    counted recalls "recalls" "Recalls of offline data queued: clients that wait, each with the range it first asked for.";
    counted recalls_refused "requests" "Requests for offline data that queued no recall: too many wait, or too many of that client.";
    counted waiters_told "clients" "Clients that were told an errno of `cairn data-wait-err`.";
    counted waiters_expired "clients" "Clients that had waited for offline data and did not ask again for two minutes.";
    counted device_errors "errors" "Calls, write-backs and removals that met damage or an error of a device: the log names them.";
    now dirty_bytes "bytes" "Buffered file data that is not on a device yet.";
    counted filter_skips "lookups" "Lookups that a filter answered without a read.";
    counted fold_blocks_written "blocks" "Blocks of 4 KiB of the fs tree that folds wrote.";
    counted fold_steps "steps" "Steps of folding log trees into the fs tree.";
    counted folds_finished "folds" "Log trees folded to their end.";
    counted folds_resumed "folds" "Folds found half done at the start and taken up again.";
    now free_data_blocks "blocks" "Blocks of 4 KiB free for data, in zones of the shard's tablets.";
    now free_node_blocks "blocks" "Blocks of 4 KiB free for metadata, in zones of the shard's tablets.";
    now free_unassigned_blocks "blocks" "Blocks of 4 KiB in no zone.";
    now inodes "inodes" "Inodes of the shard's tablets.";
    now locked_inodes "inodes" "Inodes that operations over several shards hold.";
    counted log_batches "batches" "Batches written to the write log.";
    now log_blocks "blocks" "Blocks of 4 KiB of the write log.";
    counted log_bytes "bytes" "Bytes of the batches written to the write log.";
    counted log_records "records" "Records in those batches; one an operation that changed something.";
    now log_trees "trees" "Log trees that wait to be merged or folded.";
    counted log_tree_blocks_written "blocks" "Blocks of 4 KiB that memtables were written to as log trees, filters included.";
    counted log_trees_written "trees" "Log trees written.";
    now log_used_blocks "blocks" "Blocks of the write log that hold what is not in trees yet.";
    now memtable_bytes "bytes" "Changes in memtables.";
    now memtable_bytes_max "bytes" "The budget of all memtables.";
    counted merge_blocks_written "blocks" "Blocks of 4 KiB that merges of log trees wrote, filters included.";
    counted merge_steps "steps" "Steps of merging neighbouring log trees into one.";
    counted merges_finished "merges" "Merges that replaced the log trees they were made of.";
    counted merges_given_up "merges" "Merges given up: others needed the space, or their blocks lay in too many pieces.";
    counted node_hits "nodes" "Metadata nodes found in the cache.";
    counted node_reads "nodes" "Metadata nodes read from a device.";
    counted open_blocks_read_in_logs "blocks" "Blocks that opening the pool read inside the log areas.";
    counted open_blocks_read_outside_logs "blocks" "Blocks that opening the pool read elsewhere.";
    counted operations "operations" "Operations answered by the engine, those of the control interface included.";
    now orphans "inodes" "Inodes without a name that are not removed yet.";
    now pending "operations" "Operations over several shards that are committed and not finished everywhere.";
    local_count received_bytes "bytes" "Bytes received on NFS connections.";
    counted relogs "copies" "Memtables copied to the head of the log, to free its tail.";
    counted replayed_answers "calls" "Repeated calls that were told what had become of the first.";
    counted scrub_blocks "blocks" "Data blocks of 4 KiB that scrubs have read.";
    counted scrub_findings "findings" "Damaged blocks, and runs of them, that scrubs have found.";
    counted scrub_nodes "nodes" "Metadata nodes and filters that scrubs have read.";
    counted scrub_steps "steps" "Steps of scrubs.";
    local_count sent_bytes "bytes" "Bytes sent on NFS connections.";
    local_most stall_worst_ns "nanoseconds" "The longest that one task held its core.";
    local_count stalls "stalls" "Times a task held its core for more than 10 ms.";
    now tablets "tablets" "Tablets of the shard.";
    now tablets_in_use "tablets" "Those of them that have inodes.";
    local_now tasks "tasks" "Tasks that exist on the shard.";
    counted trims "trims" "Times the log's tail moved up.";
    counted write_backs "writes" "Write-backs of buffered file data that finished.";
    counted write_backs_lost "writes" "Write-backs that failed: the data is lost, and its clients are told.";
    counted zones_returned "zones" "Zones that tablets gave back.";
    counted zones_taken "zones" "Zones that tablets took.";
}

/// Counters whose names begin with `prefix`, by name; of each shard its status and the rest.
pub(crate) fn counters(shards: &[(ShardStatus, Local)], prefix: &str) -> Vec<Counter> {
    let plain = ROWS.iter().map(|row| {
        let values = shards.iter().map(|(status, local)| (row.of)(status, local)).collect();
        counter(row.name.into(), row.unit, row.kind, row.help.into(), values)
    });
    let procedures = shards.first().map_or(0, |(_, local)| local.procedures.len());
    let procedures = (0..procedures).flat_map(|at| {
        let of = |field: fn(&Procedure) -> u64| {
            shards.iter().map(|(_, local)| local.procedures.get(at).map_or(0, field)).collect()
        };
        let name = shards[0].1.procedures[at].name;
        let upper = name.to_uppercase();
        let calls = format!("NFS calls of {upper} answered.");
        let time = format!("Time from arrival to answer of all {upper} calls together.");
        let kind = Kind::Counter;
        [
            counter(format!("nfs_{name}_calls"), "calls", kind, calls, of(|p| p.calls)),
            counter(format!("nfs_{name}_ns"), "nanoseconds", kind, time, of(|p| p.nanos)),
        ]
    });
    let memory = memory(shards);
    let mut counters: Vec<Counter> = plain
        .chain(procedures)
        .chain(memory)
        .filter(|counter| counter.name.starts_with(prefix))
        .collect();
    counters.sort_by(|a, b| a.name.cmp(&b.name));
    counters
}

/// Of the process: what shards share is not told apart by shard.
fn memory(shards: &[(ShardStatus, Local)]) -> Vec<Counter> {
    let report = memory::report(shards);
    let gauge = |name: &str, value, help: &str| {
        let name = format!("memory_{name}");
        let whole = counter(name, "bytes", Kind::Gauge, help.into(), vec![value]);
        Counter { shards: Vec::new(), ..whole }
    };
    let mut all = vec![
        gauge("budget_bytes", report.budget_bytes.unwrap_or(0), MEMORY_BUDGET),
        gauge("resident_bytes", report.resident_bytes, MEMORY_RESIDENT),
    ];
    for part in &report.parts {
        let name = &part.name;
        all.push(gauge(&format!("part_{name}_bytes"), part.bytes, MEMORY_PART));
        all.push(gauge(&format!("part_{name}_bytes_max"), part.bytes_max, MEMORY_PART_MAX));
    }
    all
}

const MEMORY_BUDGET: &str = "What --memory says; 0 where it says nothing.";
const MEMORY_RESIDENT: &str = "Memory of the process as the kernel counts it (RSS).";
const MEMORY_PART: &str = "Memory used for this part, over all shards (docs/memory.md).";
const MEMORY_PART_MAX: &str = "The limit of this part.";

fn counter(name: String, unit: &str, kind: Kind, help: String, shards: Vec<u64>) -> Counter {
    let value = kind.total(&shards);
    Counter { name, value, unit: unit.into(), kind: kind.word().into(), help, shards }
}

#[cfg(test)]
mod tests {
    use super::*;
    use cairn_engine::counters::CounterValues;
    use std::collections::BTreeSet;
    use std::path::Path;

    const PAGE: &str = "docs/counters.md";

    fn page() -> String {
        let mut page = String::from(
            "# Counters\n\n\
             What `cairn counters` shows, by name. Generated from `export/control/src/counters.rs` by\n\
             `CAIRN_BLESS=1 cargo test -p cairn-control counters`. Change it there.\n\n\
             A counter counts from the daemon's start, a gauge is so now, a maximum is the largest since\n\
             the start. `value` is the sum over all shards, or of maxima the largest; `shards` has each\n\
             shard's own.\n\n\
             ## For Prometheus\n\n\
             The same as OpenMetrics 1.0 text: `log_bytes` is the family `cairn_log_bytes`, a counter's sample ends\n\
             in `_total`, and what each shard counts has its number as the label `shard`, so `sum without (shard)`\n\
             is what `cairn counters` calls the value. It is answered to `GET /metrics` on the control socket, and\n\
             with `--metrics ADDR:PORT` (`[control] metrics` in the file) on an address, for up to 16 readers of\n\
             10 seconds at a time. Whoever reaches that address may read it: no password is asked for, and no file's\n\
             name is in it.\n\n\
             ```\n\
             cairn counters --prometheus\n\
             curl -s --unix-socket /run/cairn/control.sock http://cairn/metrics\n\
             cairn up --metrics 127.0.0.1:9464\n\
             curl -s http://127.0.0.1:9464/metrics\n\
             ```\n\n\
             ```yaml\n\
             scrape_configs:\n  - job_name: cairn\n    static_configs:\n      - targets: [\"127.0.0.1:9464\"]\n\
             ```\n\n\
             ## All of them\n\n\
             | name | unit | kind | meaning |\n|---|---|---|---|\n",
        );
        let mut line = |name: &str, unit: &str, kind: &str, help: &str| {
            page.push_str(&format!("| `{name}` | {unit} | {kind} | {help} |\n"));
        };
        let mut rows: Vec<&Row> = ROWS.iter().collect();
        rows.sort_by_key(|row| row.name);
        for row in rows {
            line(row.name, row.unit, row.kind.word(), row.help);
        }
        let called = "NFS calls of one procedure answered: `nfs_getattr_calls`.";
        line("memory_budget_bytes", "bytes", "gauge", MEMORY_BUDGET);
        line("memory_part_PART_bytes", "bytes", "gauge", MEMORY_PART);
        line("memory_part_PART_bytes_max", "bytes", "gauge", MEMORY_PART_MAX);
        line("memory_resident_bytes", "bytes", "gauge", MEMORY_RESIDENT);
        line("nfs_PROCEDURE_calls", "calls", "counter", called);
        let took = "Time from arrival to answer of all its calls together.";
        line("nfs_PROCEDURE_ns", "nanoseconds", "counter", took);
        page
    }

    #[test]
    fn the_page_of_counters_is_what_the_registry_says() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").join(PAGE);
        if std::env::var_os("CAIRN_BLESS").is_some() {
            std::fs::write(&path, page()).unwrap();
        }
        let found = std::fs::read_to_string(&path).unwrap_or_default();
        let advice = "stale: CAIRN_BLESS=1 cargo test -p cairn-control counters";
        assert!(found == page(), "{PAGE} is {advice}");
    }

    #[test]
    fn everything_the_engine_counts_has_one_row() {
        let names: BTreeSet<&str> = ROWS.iter().map(|row| row.name).collect();
        assert_eq!(names.len(), ROWS.len(), "a name stands twice");
        for name in CounterValues::NAMES {
            assert!(names.contains(name), "{name} has no row");
        }
        assert!(ROWS.iter().all(|row| row.help.ends_with('.') && !row.unit.is_empty()));
    }

    #[test]
    fn sums_are_sums_and_maxima_are_the_largest() {
        let shard = |operations, worst, calls| {
            let mut status = ShardStatus::default();
            status.counters.operations = operations;
            let procedures = vec![Procedure { name: "read", calls, nanos: 10 * calls }];
            (status, Local { stall_worst_ns: worst, procedures, ..Local::default() })
        };
        let shards = [shard(3, 7, 1), shard(4, 5, 2)];
        let value = |name: &str| {
            let found = counters(&shards, name);
            let one = found.iter().find(|counter| counter.name == name).unwrap();
            (one.value, one.shards.clone())
        };
        assert_eq!(value("operations"), (7, vec![3, 4]));
        assert_eq!(value("stall_worst_ns"), (7, vec![7, 5]));
        assert_eq!(value("nfs_read_ns"), (30, vec![10, 20]));
        let logs = counters(&shards, "log_");
        assert!(logs.iter().all(|counter| counter.name.starts_with("log_")) && logs.len() == 8);
        assert!(counters(&shards, "no such").is_empty());
    }
}
