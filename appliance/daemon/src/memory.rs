//! One budget of memory, divided over everything that grows with load.
//!
//! What a process of this kind needs whatever it serves comes off first: its code, its control thread,
//! its stacks and rings, and what its allocator keeps. The rest is divided by fixed shares (`SHARES`), evenly over the shards. A share
//! that an operator sets himself (`--memtable`, `--data-cache`) is taken at his word, and the others
//! divide what it leaves. Where that is less than each part needs to work, the daemon does not start, and
//! says what would do. docs/memory.md says it to operators.
//!
//! Without a budget each part has its default, and nothing is divided.
//!
//! Some parts cost more than what they count: a memtable counts items, and its allocator rounds; a
//! connection's budget may be held twice, and a WRITE is in memory twice until it is buffered. So a
//! share is divided by that before it becomes the limit of what is counted.

use crate::config::{Config, NetLimits};
use crate::error::Failure;
use cairn_base::dma_buf::{Backing, HugePages};
use cairn_base::{Arena, BLOCK_BYTES};
use cairn_control::request::{MemoryLimits, MemoryParts};
use cairn_engine::{ANSWER_BYTES, ShardConfig, WAITER_BYTES, cached_runs_bytes};
use nix::errno::Errno;

/// Code, the control thread, allocators.
const PROCESS_BYTES: usize = 32 << 20;
/// Of one shard whatever it does: its stack, rings, log batches, tables of buffers.
const SHARD_BYTES: usize = 8 << 20;
/// Of a budget, what the allocator may keep of memory that was freed: items of memtables are small and
/// live for different times, so its pages are seldom wholly free.
const ALLOCATOR_PART: usize = 12;
/// The least that is divided for one shard.
const DIVIDED_BYTES_MIN: usize = 64 << 20;

/// In 1/1000 of what is divided.
const SHARES: MemoryParts<usize> = MemoryParts {
    memtables: 170,
    node_cache: 220,
    data_cache: 130,
    filters: 30,
    dirty: 170,
    network: 150,
    connections: 30,
    answers: 20,
    waiters: 20,
    buffers: 60,
};

/// Memory of a memtable beside what it counts, in quarters: tree slots that are free, rounding.
pub const MEMTABLE_QUARTERS: usize = 6;
/// A block's entry in the table of the cache, its places in the lists of the arena.
const DATA_CACHE_ENTRY_BYTES: usize = 128;
/// An open connection that is idle: its staging buffer, its future, its place in tables.
pub const CONNECTION_BYTES: usize = 32 << 10;
/// Of the network's share: what may be held, of which there can be twice as much, each twice; and one for
/// records that are arriving.
const NETWORK_PARTS: usize = 5;

/// Buffers of one shard without a budget, beside the runs its data cache keeps: its node cache, its dirty
/// data, and what is under way. Untouched parts cost nothing.
const ARENA_BYTES_DEFAULT: usize = 768 << 20;
/// What all connections of one shard may hold in calls and answers without a budget; they come to twice
/// as much at most.
const HELD_BYTES_DEFAULT: usize = 128 << 20;
const OPEN_BYTES_DEFAULT: usize = 64 << 20;

/// What each shard may use, and all of them.
#[derive(Clone, Copy, Debug)]
pub struct Division {
    pub shard: ShardConfig,
    /// Of the connections of one shard: calls and answers, and records that are arriving.
    pub held_bytes: usize,
    pub open_bytes: usize,
    /// Over all shards; `None`: as many as are configured.
    pub connections_max: Option<u32>,
    /// What is told to operators.
    pub limits: MemoryLimits,
}

impl Division {
    pub fn of(config: &Config, shards: usize) -> Result<Division, Failure> {
        if let Some(all) = machine_bytes() {
            refuse_more(config, shards, all)?;
        }
        match config.memory_bytes {
            Some(bytes) => divided(bytes, shards, config.memtable_bytes, config.data_cache_bytes),
            None => Ok(defaults(config, shards)),
        }
    }

    /// The buffers of all shards.
    pub fn arena(&self, shards: usize) -> (Arena, Backing) {
        match self.limits.budget {
            None => {
                let each = ARENA_BYTES_DEFAULT + cached_runs_bytes(self.shard.data_cache_bytes);
                Arena::within(each * shards, HugePages::Try)
            }
            Some(_) => {
                let parts = self.limits.parts;
                let runs = cached_runs_bytes(self.shard.data_cache_bytes) * shards;
                let all = parts.node_cache + parts.filters + parts.dirty + runs as u64;
                let bytes = all + parts.network + parts.connections / 2 + parts.buffers;
                Arena::within(usize::try_from(bytes).unwrap_or(usize::MAX / 4), HugePages::Never)
            }
        }
    }

    /// Never more connections than there is memory for.
    pub fn connections(&self, limits: NetLimits) -> NetLimits {
        let Some(most) = self.connections_max else { return limits };
        NetLimits {
            connections_max: limits.connections_max.min(most),
            connections_per_client_max: limits.connections_per_client_max.min(most),
            ..limits
        }
    }
}

fn defaults(config: &Config, shards: usize) -> Division {
    let mut shard = ShardConfig::default();
    shard.memtable_bytes = config.memtable_bytes.unwrap_or(shard.memtable_bytes);
    shard.data_cache_bytes = match config.data_cache_bytes {
        Some(bytes) => bytes,
        None => machine_bytes().map_or(shard.data_cache_bytes, |all| all / 4 / shards),
    };
    let parts = MemoryParts {
        memtables: shard.memtable_bytes * MEMTABLE_QUARTERS / 4,
        node_cache: shard.cache_bytes,
        data_cache: with_entries(shard.data_cache_bytes),
        filters: shard.filter_bytes,
        dirty: shard.dirty_bytes,
        network: NETWORK_PARTS * HELD_BYTES_DEFAULT,
        connections: config.limits.connections_max as usize * CONNECTION_BYTES / shards,
        answers: shard.answers * ANSWER_BYTES,
        waiters: shard.waiters * WAITER_BYTES,
        buffers: ARENA_BYTES_DEFAULT / 8,
    };
    let limits = MemoryLimits {
        budget: None,
        process: fixed(shards) as u64,
        parts: parts.map(|bytes| (bytes * shards) as u64),
    };
    let (held_bytes, open_bytes) = (HELD_BYTES_DEFAULT, OPEN_BYTES_DEFAULT);
    Division { shard, held_bytes, open_bytes, connections_max: None, limits }
}

/// A slip of the unit (`--memory 40T`) would otherwise show as a daemon that the kernel kills.
fn refuse_more(config: &Config, shards: usize, machine: usize) -> Result<(), Failure> {
    let of_each = |bytes: Option<usize>| bytes.map(|bytes| bytes.saturating_mul(shards));
    let said = [
        ("memory", config.memory_bytes),
        ("memtable", of_each(config.memtable_bytes)),
        ("data_cache", of_each(config.data_cache_bytes)),
    ];
    for (what, bytes) in said {
        if let Some(bytes) = bytes.filter(|bytes| *bytes > machine) {
            let text =
                format!("{what}: {bytes} bytes are more than this machine's memory of {machine}");
            return Err(Failure::new(Errno::EINVAL, text));
        }
    }
    Ok(())
}

fn fixed(shards: usize) -> usize {
    PROCESS_BYTES + shards * SHARD_BYTES
}

fn with_entries(data_cache_bytes: usize) -> usize {
    data_cache_bytes + data_cache_bytes / BLOCK_BYTES * DATA_CACHE_ENTRY_BYTES
}

fn divided(
    budget: usize,
    shards: usize,
    memtable: Option<usize>,
    data_cache: Option<usize>,
) -> Result<Division, Failure> {
    // What was said, as it costs, and the shares of what was not.
    let memtables = memtable.map(|bytes| bytes.saturating_mul(MEMTABLE_QUARTERS) / 4);
    let data_caches = data_cache.map(with_entries);
    let said = memtables.unwrap_or(0).saturating_add(data_caches.unwrap_or(0));
    let mut shares = SHARES;
    shares.memtables *= usize::from(memtable.is_none());
    shares.data_cache *= usize::from(data_cache.is_none());
    // Kept free for the allocator, beside what the process needs.
    let kept = budget / ALLOCATOR_PART;
    let rest_min = DIVIDED_BYTES_MIN / 1000 * shares.sum();
    let least = said.saturating_add(rest_min).saturating_mul(shards).saturating_add(fixed(shards));
    if budget - kept < least {
        let whole = least.saturating_mul(ALLOCATOR_PART) / (ALLOCATOR_PART - 1);
        let least_mib = whole.div_ceil(1 << 20);
        let with = match (memtable.is_some(), data_cache.is_some()) {
            (false, false) => "",
            (true, false) => " with this --memtable",
            (false, true) => " with this --data-cache",
            (true, true) => " with this --memtable and this --data-cache",
        };
        let text = format!(
            "memory: {budget} bytes are too few for {shards} shard{}{with}: at least {least_mib}M",
            if shards == 1 { "" } else { "s" }
        );
        return Err(Failure::new(Errno::EINVAL, text));
    }
    let rest = (budget - kept - fixed(shards)) / shards - said;
    let all = shares.sum();
    let mut parts = shares.map(|share| rest / all * share);
    parts.memtables = memtables.unwrap_or(parts.memtables);
    parts.data_cache = data_caches.unwrap_or(parts.data_cache);
    let blocks = parts.data_cache / (BLOCK_BYTES + DATA_CACHE_ENTRY_BYTES);
    let shard = ShardConfig {
        memtable_bytes: memtable.unwrap_or(parts.memtables / MEMTABLE_QUARTERS * 4),
        cache_bytes: parts.node_cache,
        data_cache_bytes: data_cache.unwrap_or(blocks * BLOCK_BYTES),
        filter_bytes: parts.filters,
        dirty_bytes: parts.dirty,
        answers: parts.answers / ANSWER_BYTES,
        waiters: parts.waiters / WAITER_BYTES,
        ..ShardConfig::default()
    };
    let connections = parts.connections * shards / CONNECTION_BYTES;
    Ok(Division {
        shard,
        held_bytes: parts.network / NETWORK_PARTS,
        open_bytes: parts.network / NETWORK_PARTS,
        connections_max: Some(u32::try_from(connections).unwrap_or(u32::MAX)),
        limits: MemoryLimits {
            budget: Some(budget as u64),
            process: (kept + fixed(shards)) as u64,
            parts: parts.map(|bytes| (bytes * shards) as u64),
        },
    })
}

/// The memory of this machine.
fn machine_bytes() -> Option<usize> {
    kib_of(&std::fs::read_to_string("/proc/meminfo").ok()?, "MemTotal:")
}

/// The memory of this process that the kernel counts as its own.
pub fn resident_bytes() -> Option<usize> {
    kib_of(&std::fs::read_to_string("/proc/self/status").ok()?, "VmRSS:")
}

fn kib_of(text: &str, key: &str) -> Option<usize> {
    let line = text.lines().find_map(|line| line.strip_prefix(key))?;
    let kib: usize = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib << 10)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_parts_of_a_budget_come_to_no_more_than_it() {
        assert_eq!(SHARES.sum(), 1000);
        for (mib, shards) in [(128, 1), (256, 1), (256, 2), (4096, 3), (1 << 20, 64)] {
            let budget = mib << 20;
            let division = divided(budget, shards, None, None).unwrap();
            let sum = division.limits.parts.sum() + division.limits.process;
            assert!(sum <= budget as u64, "{mib} MiB, {shards} shards: {sum}");
            assert!(sum + budget as u64 / 100 > budget as u64, "little is left over");
        }
    }

    #[test]
    fn too_little_is_refused_with_what_would_do() {
        for shards in [1, 2, 7] {
            let refused = divided(1 << 20, shards, None, None).unwrap_err().text;
            let least = refused.rsplit_once(' ').unwrap().1.strip_suffix('M').unwrap();
            let least: usize = least.parse().unwrap();
            assert!(divided(least << 20, shards, None, None).is_ok(), "{refused}");
            assert!(divided((least - 1) << 20, shards, None, None).is_err(), "{refused}");
        }
    }

    #[test]
    fn what_is_said_is_taken_at_its_word_or_refused() {
        let division = divided(256 << 20, 1, Some(8 << 20), Some(0)).unwrap();
        assert_eq!((division.shard.memtable_bytes, division.shard.data_cache_bytes), (8 << 20, 0));
        let plain = divided(256 << 20, 1, None, None).unwrap();
        assert!(division.shard.cache_bytes > plain.shard.cache_bytes, "others get what is left");
        assert!(division.limits.parts.sum() + division.limits.process <= 256 << 20);
        let refused = divided(256 << 20, 1, Some(8 << 20), Some(200 << 20)).unwrap_err().text;
        assert!(refused.contains("with this --memtable and this --data-cache"), "{refused}");
        assert!(divided(256 << 20, 1, Some(usize::MAX), None).is_err());
    }

    #[test]
    fn more_than_the_machine_has_is_refused() {
        let mut config = Config::from_toml("memory = '8G'\n[pool]\ndir = 'd'").unwrap();
        assert!(refuse_more(&config, 4, 8 << 30).is_ok());
        let refused = refuse_more(&config, 4, 4 << 30).unwrap_err().text;
        assert!(refused.starts_with("memory: 8589934592 bytes are more"), "{refused}");
        config.memory_bytes = None;
        config.memtable_bytes = Some(usize::MAX);
        let refused = refuse_more(&config, 4, 8 << 30).unwrap_err().text;
        assert!(refused.starts_with("memtable: "), "{refused}");
        config.memtable_bytes = None;
        config.data_cache_bytes = Some(3 << 30);
        assert!(refuse_more(&config, 4, 8 << 30).is_err(), "it is of each shard");
        assert!(refuse_more(&config, 2, 8 << 30).is_ok());
    }

    #[test]
    fn a_small_budget_admits_fewer_connections() {
        let division = divided(128 << 20, 1, None, None).unwrap();
        let most = division.connections(NetLimits::DEFAULT);
        assert!(most.connections_max < NetLimits::DEFAULT.connections_max);
        assert!(most.connections_max >= 48, "{}", most.connections_max);
    }
}
