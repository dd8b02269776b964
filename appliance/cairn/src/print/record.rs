//! What `print` prints: one record for each thing found, as a line of `key value` pairs or as JSON.

use crate::exit::Error;
use crate::output::{Output, Reader, key_values};
use cairn_base::BlockNo;
use cairn_format::record::BatchHeader;
use cairn_format::superblock::{
    DeviceEntry, LOG_IN_USE, LOG_RETIRING, LogArea, ROLE_DATA, ROLE_META, ROLE_MIXED, Superblock,
    SuperblockError,
};
use cairn_format::tablet_root::{LogTreeEntry, RootBody, Totals, TreeRef};
use serde::Serialize;

#[derive(Debug, Serialize)]
#[serde(tag = "what", rename_all = "snake_case")]
pub enum Printed {
    Superblock {
        block: String,
        fsid: String,
        version: u32,
        generation: u64,
        epoch: u64,
        created: i64,
        seq_ceiling: u64,
        tablets: u16,
        device_index: u8,
        compat: u64,
        ro_compat: u64,
        incompat: u64,
    },
    Device { device: usize, role: &'static str, blocks: u64, zone_blocks: u64, generation: u64 },
    LogArea { shard: u16, node: u16, state: &'static str, epoch: u64, start: String, blocks: u64 },
    Root {
        block: String,
        tablet: u16,
        generation: u64,
        epoch: u64,
        newest_meta_seq: u64,
        newest_data_seq: u64,
        replay_epoch: u64,
        replay_shard: u16,
        replay_position: u64,
        log_trees: usize,
        fold_cursor: Option<String>,
    },
    Totals {
        tablet: u16,
        inode_high_water: u64,
        inodes: u64,
        orphans: u64,
        pending: u64,
        done: u64,
        deletions: u64,
        free_node: u64,
        free_data: u64,
        free_unassigned: u64,
    },
    Tree { tablet: u16, tree: String, root: String, level: u8, items: u64, nodes: u64 },
    Node {
        tablet: u16,
        tree: String,
        block: String,
        generation: u64,
        level: u8,
        items: usize,
        bytes_used: usize,
    },
    Item { tablet: u16, tree: String, key: String, value: String },
    Batch {
        block: String,
        shard: u16,
        epoch: u64,
        position: u64,
        blocks: u32,
        records: u32,
        seq: u64,
        acked: u64,
        tail: u64,
        ceiling: u64,
    },
    RootRecord { tablet: u16, generation: u64 },
    TrimRecord { tablets: usize },
    Edit { tablet: u16, edit: &'static str, key: String, value: String },
    Damage { block: String, damage: String },
}

impl Printed {
    pub fn superblock(at: BlockNo, superblock: &Superblock) -> Printed {
        Printed::Superblock {
            block: at.to_string(),
            fsid: superblock.fsid.iter().map(|byte| format!("{byte:02x}")).collect(),
            version: superblock.version.get(),
            generation: superblock.generation.get(),
            epoch: superblock.epoch.get(),
            created: superblock.created.get(),
            seq_ceiling: superblock.seq_ceiling.get(),
            tablets: superblock.tablets.get(),
            device_index: superblock.device_index,
            compat: superblock.features.compat.get(),
            ro_compat: superblock.features.ro_compat.get(),
            incompat: superblock.features.incompat.get(),
        }
    }

    pub fn no_superblock(at: BlockNo, error: SuperblockError) -> Printed {
        Printed::Damage { block: at.to_string(), damage: error.to_string() }
    }

    pub fn device(index: usize, device: &DeviceEntry) -> Printed {
        let role = match device.role {
            ROLE_MIXED => "mixed",
            ROLE_META => "meta",
            ROLE_DATA => "data",
            _ => "unknown",
        };
        Printed::Device {
            device: index,
            role,
            blocks: device.blocks.get(),
            zone_blocks: device.zone_blocks.get(),
            generation: device.generation.get(),
        }
    }

    pub fn log_area(log: &LogArea) -> Printed {
        let state = match log.state {
            LOG_IN_USE => "in_use",
            LOG_RETIRING => "retiring",
            _ => "unused",
        };
        Printed::LogArea {
            shard: log.shard.get(),
            node: log.node.get(),
            state,
            epoch: log.epoch.get(),
            start: log.run().start.to_string(),
            blocks: log.blocks.get(),
        }
    }

    pub fn root(at: BlockNo, body: &RootBody) -> Printed {
        Printed::Root {
            block: at.to_string(),
            tablet: body.tablet().0,
            generation: body.generation.get(),
            epoch: body.epoch.get(),
            newest_meta_seq: body.newest_meta_seq.get(),
            newest_data_seq: body.newest_data_seq.get(),
            replay_epoch: body.replay.epoch.get(),
            replay_shard: body.replay.shard.get(),
            replay_position: body.replay.position.get(),
            log_trees: body.log_trees().len(),
            fold_cursor: body.fold_cursor().map(|key| format!("{key:?}")),
        }
    }

    pub fn totals(tablet: u16, totals: &Totals) -> Printed {
        Printed::Totals {
            tablet,
            inode_high_water: totals.inode_high_water.get(),
            inodes: totals.inodes.get(),
            orphans: totals.orphans.get(),
            pending: totals.pending.get(),
            done: totals.done.get(),
            deletions: totals.deletions.get(),
            free_node: totals.free_node.get(),
            free_data: totals.free_data.get(),
            free_unassigned: totals.free_unassigned.get(),
        }
    }

    pub fn tree(tablet: u16, name: &str, tree: &TreeRef) -> Printed {
        Printed::Tree {
            tablet,
            tree: name.to_owned(),
            root: tree.root.block_no().to_string(),
            level: tree.level,
            items: tree.items.get(),
            nodes: tree.nodes.get(),
        }
    }

    pub fn log_tree(tablet: u16, name: &str, entry: &LogTreeEntry) -> Printed {
        Printed::tree(tablet, name, &entry.tree)
    }

    pub fn batch(at: BlockNo, header: &BatchHeader) -> Printed {
        Printed::Batch {
            block: at.to_string(),
            shard: header.shard.get(),
            epoch: header.epoch.get(),
            position: header.position.get(),
            blocks: header.blocks.get(),
            records: header.records.get(),
            seq: header.seq.get(),
            acked: header.acked.get(),
            tail: header.tail.get(),
            ceiling: header.ceiling.get(),
        }
    }
}

/// Where records go, and how many of them said `damage`.
pub struct Sink {
    out: Output,
    damaged: u64,
    reader: Reader,
}

impl Sink {
    pub fn new(json: bool) -> Sink {
        Sink { out: Output::new(json), damaged: 0, reader: Reader::Wants }
    }

    pub fn print(&mut self, printed: &Printed) -> Result<(), Error> {
        self.damaged += u64::from(matches!(printed, Printed::Damage { .. }));
        if self.reader == Reader::Gone {
            return Ok(());
        }
        let fields = key_values(printed)?;
        let line = fields.iter().map(|(key, value)| {
            // The kind of record leads its line bare.
            if key == "what" { value.clone() } else { format!("{key} {value}") }
        });
        let line = line.collect::<Vec<_>>().join(" ");
        self.reader = self.out.record(printed, |_| line)?;
        Ok(())
    }

    /// Nobody reads on: walking further is for nothing.
    pub fn is_closed(&self) -> bool {
        self.reader == Reader::Gone
    }

    /// How many damaged places were met.
    pub fn finish(self) -> Result<u64, Error> {
        self.out.finish()?;
        Ok(self.damaged)
    }
}
