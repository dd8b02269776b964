//! Counts of what one shard did since the daemon's start. Plain cells: one core owns them, and a
//! reader asks by mail.

use std::cell::Cell;

macro_rules! counters {
    ($($(#[$doc:meta])* $name:ident),* $(,)?) => {
        /// One shard's counters.
        #[derive(Debug, Default)]
        pub struct Counters {
            $($(#[$doc])* pub $name: Count,)*
        }

        /// Their values at one moment; sums over shards are made of these.
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
        pub struct CounterValues {
            $(pub $name: u64,)*
        }

        impl Counters {
            pub fn values(&self) -> CounterValues {
                CounterValues { $($name: self.$name.get(),)* }
            }
        }

        impl CounterValues {
            pub const NAMES: &'static [&'static str] = &[$(stringify!($name)),*];

            pub fn to_array(&self) -> Vec<u64> {
                vec![$(self.$name),*]
            }

            pub fn add(&mut self, other: &CounterValues) {
                $(self.$name += other.$name;)*
            }

            /// What was counted after `before`, which is an earlier reading of the same.
            pub fn since(&self, before: &CounterValues) -> CounterValues {
                CounterValues { $($name: self.$name - before.$name,)* }
            }
        }
    };
}

counters! {
    /// Operations answered.
    operations,
    /// Log batches written.
    log_batches,
    /// Records in them.
    log_records,
    /// Bytes of them.
    log_bytes,
    /// Log trees written.
    log_trees_written,
    /// Blocks written as log trees.
    log_tree_blocks_written,
    /// Memtables copied to the log's head.
    relogs,
    /// Merge steps.
    merge_steps,
    /// Merges of log trees that replaced them.
    merges_finished,
    /// Merges that were given up: for space, or because their blocks lay in too many pieces.
    merges_given_up,
    /// Blocks written by merges.
    merge_blocks_written,
    /// Fold steps.
    fold_steps,
    /// Log trees folded to their end.
    folds_finished,
    /// Folds found half done at open and taken up again.
    folds_resumed,
    /// Blocks of the fs tree written by folds.
    fold_blocks_written,
    /// Times the log's tail moved up.
    trims,
    /// Operations over tablets of several shards that committed, counted at the coordinator.
    across_commits,
    /// Nodes read from a device.
    node_reads,
    /// Nodes found in the cache.
    node_hits,
    /// Lookups that a filter answered.
    filter_skips,
    /// Data blocks read from a device.
    data_blocks_read,
    data_cache_hits,
    /// Data blocks written.
    data_blocks_written,
    /// Write-backs finished.
    write_backs,
    /// Write-backs that failed: what was buffered is lost, and clients are told.
    write_backs_lost,
    /// Operations, write-backs and removals that met damage or an error of a device.
    device_errors,
    /// Steps of scrubs.
    scrub_steps,
    /// Nodes and filters that scrubs have read.
    scrub_nodes,
    /// Data blocks that scrubs have read.
    scrub_blocks,
    /// Damaged blocks and runs that scrubs have found.
    scrub_findings,
    /// Blocks read at open inside the log areas.
    open_blocks_read_in_logs,
    /// Blocks read at open elsewhere.
    open_blocks_read_outside_logs,
    /// Zones taken by tablets of this shard.
    zones_taken,
    /// Zones given back.
    zones_returned,
    /// Deletions that the deletion index has forgotten.
    deletions_trimmed,
    /// Those of them that a named consumer had not passed.
    deletions_trimmed_unseen,
    /// Waiters for offline data that came.
    recalls,
    /// Requests for offline data that no waiter was made for: there were too many.
    recalls_refused,
    /// Waiters that were told what an agent had set for them.
    waiters_told,
    /// Waiters that did not ask any more.
    waiters_expired,
    /// Requests that met a full queue.
    busy,
    /// Repeated calls that were told what had become of the first.
    replayed_answers,
}

#[derive(Debug, Default)]
pub struct Count(Cell<u64>);

impl Count {
    pub fn add(&self, n: u64) {
        self.0.set(self.0.get() + n);
    }

    pub fn get(&self) -> u64 {
        self.0.get()
    }
}
