//! What operations hold on a shard: for whoever wants to know whether all of it came back.
//!
//! A permit that is never given back is space that nobody gets any more, and a lock that stays is an
//! inode that nobody changes. Neither is on any device, so no verifier finds it.

use crate::shard::Shard;
use cairn_base::door::Doors;
use cairn_format::Seq;
use cairn_format::key::Purpose;

/// Sums over a shard at one moment. At rest, with nothing buffered and nobody waiting, all are zero.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Held {
    /// Promised or reserved by operations; not what a merge keeps between its steps.
    pub blocks: u64,
    pub log_blocks: u64,
    pub locked_inodes: u64,
    /// Operations over shards in which this one takes part.
    pub parts: u64,
    pub buffered_bytes: u64,
}

impl<D: Doors> Shard<D> {
    pub fn held(&self) -> Held {
        let still = self.core.tablets().filter(|tablet| tablet.merges.is_empty());
        let sides = [Purpose::Unassigned, Purpose::Node, Purpose::Data];
        let each = still.flat_map(|tablet| sides.map(|side| (&tablet.space, side)));
        Held {
            blocks: each.map(|(space, side)| space.total(side) - space.unpromised(side)).sum(),
            log_blocks: self.log.admitted_blocks(),
            locked_inodes: self.core.locks.held_len() as u64,
            parts: self.parts.borrow().len() as u64,
            buffered_bytes: self.core.dirty.bytes() as u64,
        }
    }

    /// No seq above this is shown here.
    pub fn ceiling(&self) -> Seq {
        self.log.ceiling()
    }
}
