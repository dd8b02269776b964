//! The view as lines of text, for a pipe or a log.

use super::sample::View;
use super::{bytes, memory};

pub fn lines(view: &View) -> Vec<String> {
    let mut lines = vec![
        format!("health {} version {} uptime {}s", view.health, view.version, view.uptime_s),
        format!(
            "calls/s {} operations/s {} received/s {} sent/s {} log/s {} connections {}",
            view.calls_per_s,
            view.operations_per_s,
            bytes(view.received_bytes_per_s),
            bytes(view.sent_bytes_per_s),
            bytes(view.log_bytes_per_s),
            view.connections,
        ),
        format!(
            "space {} free {} inodes {}",
            bytes(view.bytes_total),
            bytes(view.bytes_free),
            view.inodes
        ),
        memory(view),
    ];
    lines.extend(view.shards.iter().map(|shard| {
        format!(
            "shard {}{} busy {}% operations/s {} connections {} log {}% memtables {}% dirty {} inodes {}",
            shard.shard,
            if shard.stopped { " STOPPED" } else { "" },
            shard.busy_percent,
            shard.operations_per_s,
            shard.connections,
            shard.log_percent,
            shard.memtable_percent,
            bytes(shard.dirty_bytes),
            shard.inodes,
        )
    }));
    lines.extend(view.procedures.iter().map(|procedure| {
        let (name, rate, mean) = (&procedure.name, procedure.calls_per_s, procedure.mean_us);
        format!("nfs {name} calls/s {rate} mean_us {mean}")
    }));
    lines
}
