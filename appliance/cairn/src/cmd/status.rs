//! `cairn status`: what the daemon is doing.

use crate::Globals;
use crate::exit::{self, Error, Outcome};
use crate::live::{self, with_daemon};
use crate::output::{Output, Reader};
use crate::top::bytes;
use cairn_control::proto::{
    DeletionsStatus, DeviceStatus, MemoryPart, MemoryReply, ShardStatus, StatusReply,
};
use clap::Args;

/// Show what the daemon is doing
#[derive(Args)]
#[command(
    long_about = "Show what the daemon is doing: the pool, its tablets and trees, then each shard \
                  with its log, memtables, cache and share of useful work. Counters count from the \
                  daemon's start. --json gives all of it as one object.",
    after_help = "Examples:\n  cairn status\n  cairn status --json | jq .log_trees_written\n  \
                  cairn status --socket /run/cairn/control.sock"
)]
pub struct Status {}

impl Status {
    pub fn run(&self, globals: &Globals) -> exit::Result {
        let socket = live::socket(globals);
        let reply = with_daemon(globals, async |mut client| {
            client.status().await.map_err(|error| Error::client(socket.display(), error))
        })?;
        let mut out = Output::new(globals.json);
        if globals.json {
            let _ = out.record(&reply, |_| String::new())?;
        } else {
            let mut reader = Reader::Wants;
            for line in
                pool_lines(&reply).into_iter().chain(reply.shards.iter().flat_map(shard_lines))
            {
                if reader == Reader::Wants {
                    reader = out.line(&line)?;
                }
            }
        }
        out.finish()?;
        Ok(Outcome::Done)
    }
}

fn pool_lines(reply: &StatusReply) -> Vec<String> {
    let mut lines = vec![
        format!("health {}", reply.health),
        format!("version {}", reply.version),
        format!("fsid {}", reply.fsid),
        format!("epoch {}", reply.epoch),
        format!("uptime {}s", reply.uptime_ns / 1_000_000_000),
        format!("tablets {} in_use {}", reply.tablets, reply.tablets_in_use),
        format!("log_trees {} written {}", reply.log_trees, reply.log_trees_written),
        format!("merges finished {}", reply.merges_finished),
        format!("folds finished {} resumed {}", reply.folds_finished, reply.folds_resumed),
        format!("across_commits {}", reply.across_commits),
        format!(
            "open_blocks_read in_logs {} outside_logs {}",
            reply.open_blocks_read_in_logs, reply.open_blocks_read_outside_logs
        ),
    ];
    lines.extend(reply.scrub.as_ref().map(super::scrub::status_line));
    lines.extend(reply.deletions.as_ref().map(deletions_line));
    lines.extend(reply.devices.iter().map(device_line));
    lines.extend(reply.nfs.as_ref().map(super::exports::limits_line));
    lines.extend(reply.memory.iter().flat_map(memory_lines));
    lines
}

fn deletions_line(deletions: &DeletionsStatus) -> String {
    let held = match &deletions.held_by {
        Some(name) => format!(" HELD BACK by consumer {name:?}"),
        None => String::new(),
    };
    format!(
        "deletions kept {} fullest_tablet {}/{} forgotten {} unseen {}{held}",
        deletions.entries,
        deletions.entries_fullest,
        deletions.entries_tablet_max,
        deletions.trimmed,
        deletions.trimmed_unseen
    )
}

fn device_line(device: &DeviceStatus) -> String {
    let more = match device.bytes_more {
        0 => String::new(),
        more => format!(", {more} bytes more can be used: cairn resize-devices"),
    };
    format!("device {} {}{more}", device.role, bytes(device.bytes))
}

/// The whole, then each part as `used/limit`.
fn memory_lines(memory: &MemoryReply) -> Vec<String> {
    let budget = memory.budget_bytes.map_or("none".into(), bytes);
    let (resident, sum) = (bytes(memory.resident_bytes), bytes(memory.parts_bytes_max));
    let part = |part: &MemoryPart| {
        format!("{} {}/{}", part.name, bytes(part.bytes), bytes(part.bytes_max))
    };
    let parts: Vec<String> = memory.parts.iter().map(part).collect();
    vec![
        format!("memory resident {resident} budget {budget} parts_max {sum}"),
        format!("memory_parts {}", parts.join(" ")),
    ]
}

fn shard_lines(shard: &ShardStatus) -> Vec<String> {
    let stopped = match &shard.stopped_because {
        Some(why) => format!(" STOPPED ({why})"),
        None if shard.stopped => " STOPPED".to_owned(),
        None => String::new(),
    };
    let size = |blocks: u64| bytes(blocks * 4096);
    vec![format!(
        "shard {}{stopped} useful_work {}.{}% operations {} tablets {} in_use {} fullest {} inodes {} \
         log {}/{} memtables {}/{} dirty {} cache_nodes {} node_hits {} node_reads {} data_cache {}/{} data_hits {} data_reads {}",
        shard.shard,
        shard.useful_work_permille / 10,
        shard.useful_work_permille % 10,
        shard.operations,
        shard.tablets,
        shard.tablets_in_use,
        shard.fullest_tablet,
        shard.fullest_tablet_inodes,
        size(shard.log_blocks_used),
        size(shard.log_blocks),
        bytes(shard.memtable_bytes),
        bytes(shard.memtable_bytes_max),
        bytes(shard.dirty_bytes),
        shard.cache_nodes,
        shard.node_hits,
        shard.node_reads,
        bytes(shard.data_cache_bytes),
        bytes(shard.data_cache_bytes_max),
        shard.data_cache_hits,
        shard.data_blocks_read,
    )]
}
