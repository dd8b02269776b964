//! The memory of the daemon by what it is for, put together from what its shards and their loops say.
//!
//! Two numbers belong to the process and not to one shard: the pages of the arena, which all shards
//! share, and what the kernel counts (RSS). What the arena's buffers in use have beyond the parts that live in it is
//! `buffers`: I/O under way. Its buffers that wait for their next use are `idle`, and may take whatever the
//! parts in the arena leave of their limits. What the kernel counts beyond all parts is `process`, so the
//! parts always come to the RSS, and a part that was forgotten shows there.

use crate::proto;
use crate::request::{Local, Memory, MemoryParts};
use cairn_engine::WAITER_BYTES;
use cairn_engine::status::ShardStatus;

const NODE_BYTES: u64 = 16 << 10;

pub(crate) fn report(shards: &[(ShardStatus, Local)]) -> proto::MemoryReply {
    let mut used = MemoryParts::<u64>::default();
    let one = shards.first().map(|(_, local)| local.memory).unwrap_or_default();
    for (status, local) in shards {
        let Memory { network_bytes, connections_bytes, answer_bytes, memtable_quarters, .. } =
            local.memory;
        used.memtables += status.memtable_bytes * memtable_quarters / 4;
        used.node_cache += status.cache_nodes * NODE_BYTES;
        used.data_cache += status.data_cache_bytes;
        used.filters += status.filter_bytes;
        used.dirty += status.dirty_bytes;
        used.network += network_bytes;
        used.connections += connections_bytes;
        used.answers += status.answers * answer_bytes;
        used.waiters += status.waiters * WAITER_BYTES as u64;
    }
    let in_arena = used.node_cache + used.filters + used.dirty + used.network;
    used.buffers = one.arena_bytes.saturating_sub(one.idle_bytes).saturating_sub(in_arena);
    let process = one.resident_bytes.saturating_sub(used.sum() + one.idle_bytes);
    let limits = one.limits;
    let most = &limits.parts;
    let arena_max = most.node_cache + most.filters + most.dirty + most.network + most.buffers;
    let idle_max = arena_max.saturating_sub(in_arena + used.buffers);
    let parts = used.named().into_iter().zip(limits.parts.named());
    let part =
        |name: &str, bytes, bytes_max| proto::MemoryPart { name: name.into(), bytes, bytes_max };
    let mut parts: Vec<_> =
        parts.map(|((name, bytes), (_, bytes_max))| part(name, bytes, bytes_max)).collect();
    parts.push(part("idle", one.idle_bytes, idle_max));
    parts.push(part("process", process, limits.process));
    proto::MemoryReply {
        budget_bytes: limits.budget,
        parts_bytes_max: limits.parts.sum() + limits.process,
        resident_bytes: one.resident_bytes,
        parts,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_parts_come_to_what_the_kernel_counts() {
        let status = ShardStatus { cache_nodes: 2, dirty_bytes: 500, ..ShardStatus::default() };
        let memory = Memory {
            resident_bytes: 100_000,
            arena_bytes: 40_000,
            idle_bytes: 1_000,
            network_bytes: 700,
            ..Memory::default()
        };
        let shards = [(status, Local { memory, ..Local::default() })];
        let report = report(&shards);
        let of = |name: &str| report.parts.iter().find(|part| part.name == name).unwrap().bytes;
        assert_eq!((of("node_cache"), of("dirty"), of("network")), (2 * NODE_BYTES, 500, 700));
        assert_eq!(of("buffers"), 40_000 - 1_000 - 2 * NODE_BYTES - 1200);
        assert_eq!(report.parts.iter().map(|part| part.bytes).sum::<u64>(), 100_000);
    }
}
