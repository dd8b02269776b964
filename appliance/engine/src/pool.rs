//! The facts of one pool that every shard needs. While it is open only the devices' sizes change, by
//! `resize.rs`.

use crate::limits::{ZONES_KEPT_BLOCKS_MAX, ZONES_KEPT_PART};
use cairn_base::hash;
use cairn_base::{BlockNo, DeviceId, Run};
use cairn_format::key::Purpose;
use cairn_format::superblock::Superblock;
use cairn_format::{Epoch, NodeId, ShardId, TabletId};
use std::cell::Cell;

#[derive(Clone, Debug)]
pub struct Device {
    /// Blocks that may be in use: of a device that grows, those it had before (`resize.rs`).
    pub blocks: Cell<u64>,
    pub zone_blocks: u64,
    pub holds_nodes: bool,
    pub holds_data: bool,
}

/// Copied to every shard at open.
#[derive(Clone, Debug)]
pub struct Pool {
    pub fsid: [u8; 16],
    pub name_key: [u8; 16],
    pub handle_key: [u8; 16],
    pub node: NodeId,
    pub epoch: Epoch,
    pub tablets: u16,
    pub shards: u16,
    pub devices: Vec<Device>,
}

impl Pool {
    pub fn of(superblock: &Superblock, shards: u16) -> Pool {
        let devices = superblock.device_table().iter().map(|entry| Device {
            blocks: Cell::new(entry.usable_blocks()),
            zone_blocks: entry.zone_blocks.get(),
            holds_nodes: entry.holds_meta(),
            holds_data: entry.holds_data(),
        });
        Pool {
            fsid: superblock.fsid,
            name_key: superblock.name_key,
            handle_key: superblock.handle_key,
            node: NodeId(0),
            epoch: Epoch(superblock.epoch.get()),
            tablets: superblock.tablets.get(),
            shards,
            devices: devices.collect(),
        }
    }

    /// Who owns a tablet. Fixed for one open: tablets change shard only between two.
    pub fn owner(&self, tablet: TabletId) -> ShardId {
        ShardId(tablet.0 % self.shards)
    }

    pub fn owns(&self, shard: ShardId) -> impl Iterator<Item = TabletId> + use<> {
        (shard.0..self.tablets).step_by(usize::from(self.shards)).map(TabletId)
    }

    pub fn name_hash(&self, name: &[u8]) -> u128 {
        hash::siphash128(&self.name_key, name)
    }

    pub fn zone_blocks(&self, block: BlockNo) -> u64 {
        self.devices[usize::from(block.device().0)].zone_blocks
    }

    /// May a zone for `purpose` come from this device?
    pub fn serves(&self, device: DeviceId, purpose: Purpose) -> bool {
        let device = &self.devices[usize::from(device.0)];
        match purpose {
            Purpose::Node => device.holds_nodes,
            Purpose::Data => device.holds_data,
            Purpose::Unassigned => true,
        }
    }

    pub fn log_tag(&self) -> u64 {
        cairn_format::superblock::log_tag(&self.handle_key)
    }

    pub fn blocks(&self) -> u64 {
        self.devices.iter().map(|device| device.blocks.get()).sum()
    }

    /// Blocks in zones of nobody that are kept for folds and for who frees space.
    pub fn zone_blocks_kept(&self) -> u64 {
        let for_nodes = || self.devices.iter().filter(|device| device.holds_nodes);
        let blocks: u64 = for_nodes().map(|device| device.blocks.get()).sum();
        let zone = for_nodes().map(|device| device.zone_blocks).max().unwrap_or(0);
        (blocks / ZONES_KEPT_PART).min(ZONES_KEPT_BLOCKS_MAX).max(zone)
    }

    /// The part of a run that may be used: none of what a growing device is about to have.
    pub fn usable(&self, run: Run) -> Run {
        let end = self.devices[usize::from(run.start.device().0)].blocks.get();
        Run::new(run.start, run.blocks.min(end.saturating_sub(run.start.index())))
    }
}
