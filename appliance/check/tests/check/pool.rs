//! Lays a world out as a pool: trees, filters, roots, logs and superblocks, every hash and count
//! right, except where a test asks for a wrong one.
//!
//! The world comes in three states, as time would leave it: what the fs trees hold, what the log
//! trees add to that, and what is only in the logs.

use crate::disk::MemDisk;
use crate::world::{Items, NAME_KEY, TABLETS, World, ZONE_BLOCKS, node_zone};
use cairn_base::{BLOCK_BYTES, BlockNo, DeviceId, Run};
use cairn_format::filter::{FilterBuilder, FilterRef, filter_blocks, lookup_hash};
use cairn_format::key::{ParsedKey, Purpose};
use cairn_format::node::{NODE_BLOCKS, NODE_BYTES, NodeBuilder, NodeRef};
use cairn_format::record::{
    BATCH_HEADER_BYTES, BatchHeader, EditKind, RecordWriter, batch_bytes, seal_batch, write_trim,
};
use cairn_format::superblock::{
    DEVICE_IN_SERVICE, DeviceEntry, LOG_IN_USE, LOG_RETIRING, LogArea, ROLE_DATA, ROLE_META,
    ROLE_MIXED, SUPERBLOCK_B, SUPERBLOCK_BLOCKS, Superblock, front_blocks, log_tag, root_block,
};
use cairn_format::tablet_root::{LogTreeEntry, Replay, RootBody, TabletRootBlock, Totals, TreeRef};
use cairn_format::{Key, RootGeneration, TabletId};
use std::collections::BTreeMap;
use zerocopy::IntoBytes;

pub const FSID: [u8; 16] = *b"hand-made pool 1";
const HANDLE_KEY: [u8; 16] = [0x33; 16];
pub const EPOCH: u64 = 3;
pub const GENERATION: u64 = 7;
pub const LOG_BLOCKS: u64 = 64;
pub const LOG_TAIL: u64 = 81;
pub const SHARDS: u16 = 2;

/// What a node is to get wrong.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Wrong {
    Nothing,
    /// Nodes of tablet 2's fs tree say that they belong to tablet 3.
    Tablet,
    /// A separator in tablet 2's fs tree is above its child's first key.
    Separator,
    /// Leaves of tablet 2's fs tree are of a generation that has not been.
    Generation,
    /// Tablet 2's fs tree has a deletion mark.
    DeletionMark,
    /// The log trees' filters miss their last key.
    Filter,
}

pub struct Pool {
    pub states: [World; 3],
    pub wrong: Wrong,
    pub tweak_totals: fn(usize, &mut Totals),
    /// Of one tablet's root; the flag says whether the body goes into a record.
    pub tweak_root: fn(&mut RootBody, bool),
    pub tweak_tablet: u16,
    /// Shard, index of the batch, header.
    pub tweak_header: fn(u16, usize, &mut BatchHeader),
    pub tweak_superblock: fn(&mut Superblock),
    /// Added to the free runs of one tablet.
    pub tweak_free: fn(usize, &mut Items),
    pub trim_generation: u64,
    pub all_edits_are_new: bool,
}

/// A pool on its disk, with where things are.
pub struct Laid {
    pub disk: MemDisk,
    pub nodes: Vec<BlockNo>,
    pub filters: Vec<BlockNo>,
    pub roots: Vec<BlockNo>,
    pub data: Vec<BlockNo>,
    /// Of each shard: the batches of its chain, with their lengths.
    pub batches: Vec<Vec<(BlockNo, u64)>>,
}

struct Tree {
    reference: TreeRef,
    filter: FilterRef,
    blocks: Vec<(BlockNo, Vec<u8>)>,
}

impl Pool {
    pub fn of(states: [World; 3]) -> Pool {
        Pool {
            states,
            wrong: Wrong::Nothing,
            tweak_totals: |_, _| {},
            tweak_root: |_, _| {},
            tweak_tablet: 2,
            tweak_header: |_, _, _| {},
            tweak_superblock: |_| {},
            tweak_free: |_, _| {},
            trim_generation: GENERATION,
            all_edits_are_new: false,
        }
    }

    /// Changes all three states alike.
    pub fn each(&mut self, change: impl Fn(&mut World)) {
        self.states.iter_mut().for_each(change);
    }

    fn devices(&self) -> usize {
        usize::from(self.states[2].data_device.0) + 1
    }

    fn log_area(index: u64) -> BlockNo {
        let front = front_blocks(0, TABLETS as u16);
        BlockNo::new(DeviceId(0), front.next_multiple_of(4) + 8 + index * LOG_BLOCKS)
    }

    fn superblock(&self) -> Box<Superblock> {
        let mut superblock = Superblock::zeroed();
        superblock.fsid = FSID;
        superblock.handle_key = HANDLE_KEY;
        superblock.generation = 5.into();
        superblock.epoch = EPOCH.into();
        superblock.seq_ceiling = 50.into();
        superblock.tablets = (TABLETS as u16).into();
        superblock.name_key = NAME_KEY;
        superblock.device_count = self.devices() as u8;
        for index in 0..self.devices() {
            let role = match (self.devices(), index) {
                (1, _) => ROLE_MIXED,
                (_, 0) => ROLE_META,
                _ => ROLE_DATA,
            };
            superblock.devices[index] = DeviceEntry {
                blocks: DEVICE_BLOCKS.into(),
                zone_blocks: 256.into(),
                role,
                state: DEVICE_IN_SERVICE,
                ..DeviceEntry::EMPTY
            };
        }
        for index in 0..2 * SHARDS {
            let in_use = index % 2 == 0;
            superblock.logs[usize::from(index)] = LogArea {
                shard: (index / 2).into(),
                state: if in_use { LOG_IN_USE } else { LOG_RETIRING },
                epoch: (if in_use { EPOCH } else { EPOCH - 1 }).into(),
                start: Pool::log_area(index.into()).raw().into(),
                blocks: LOG_BLOCKS.into(),
                ..LogArea::EMPTY
            };
        }
        superblock.log_count = (2 * SHARDS).into();
        superblock
    }

    /// Blocks that are in no zone and in nothing fixed.
    fn unassigned(&self) -> Vec<Run> {
        let mut runs = Vec::new();
        for device in 0..self.devices() as u8 {
            let at = |index| BlockNo::new(DeviceId(device), index);
            let mut owned = vec![(0, front_blocks(usize::from(device), TABLETS as u16))];
            if device == 0 {
                let logs = Pool::log_area(0).index();
                owned.push((logs, logs + 2 * u64::from(SHARDS) * LOG_BLOCKS));
            }
            for tablet in 0..TABLETS {
                let zone = node_zone(tablet).index();
                if device == 0 {
                    owned.push((zone, zone + ZONE_BLOCKS));
                }
                if DeviceId(device) == self.states[2].data_device {
                    owned.push((zone + ZONE_BLOCKS, zone + 2 * ZONE_BLOCKS));
                }
            }
            owned.sort_unstable();
            let mut from = 0;
            for (start, end) in owned {
                if from < start {
                    runs.push(Run::new(at(from), start - from));
                }
                from = end;
            }
            runs.push(Run::new(at(from), DEVICE_BLOCKS - from));
        }
        runs
    }

    fn free_items(&self, tablet: usize, nodes_used: u64) -> Items {
        let mut holder = World::new(self.states[2].data_device);
        holder.items[tablet].clear();
        let zone = node_zone(tablet);
        let nodes_free = ZONE_BLOCKS - nodes_used;
        holder.put_free(tablet, Purpose::Node, zone.after(nodes_used), nodes_free);
        let used = self.states[2].data_used[tablet];
        let data = BlockNo::new(self.states[2].data_device, zone.index() + ZONE_BLOCKS + used);
        holder.put_free(tablet, Purpose::Data, data, ZONE_BLOCKS - used);
        if tablet == 1 {
            for run in self.unassigned() {
                holder.put_free(tablet, Purpose::Unassigned, run.start, run.blocks);
            }
        }
        let mut items = std::mem::take(&mut holder.items[tablet]);
        (self.tweak_free)(tablet, &mut items);
        items
    }

    fn pack(&self, tablet: usize, items: &Diff, is_log: bool, next: &mut BlockNo) -> Tree {
        let wrong = if tablet == 2 && !is_log { self.wrong } else { Wrong::Nothing };
        let id = TabletId(if wrong == Wrong::Tablet { 3 } else { tablet as u16 });
        let generation = GENERATION + u64::from(wrong == Wrong::Generation);
        let mut blocks = Vec::new();
        let mut filter = FilterRef::NONE;
        let hashes: Vec<u64> = items
            .keys()
            .filter_map(|key| match key.parse() {
                Some(ParsedKey::Lookup { dir, name_hash }) => Some(lookup_hash(dir, name_hash)),
                _ => None,
            })
            .collect();
        if is_log && !hashes.is_empty() {
            let keys = hashes.len() as u64;
            let mut bytes = vec![0; filter_blocks(keys) as usize * BLOCK_BYTES];
            let mut builder = FilterBuilder::new(&mut bytes, keys);
            let kept = hashes.len() - usize::from(self.wrong == Wrong::Filter);
            hashes.iter().take(kept).for_each(|hash| builder.add(*hash));
            filter = builder.finish(*next);
            blocks.push((*next, bytes));
            *next = next.after(filter_blocks(keys).next_multiple_of(NODE_BLOCKS));
        }
        let mut level = 0;
        let mut entries: Vec<(Key, Vec<u8>, bool)> = items
            .iter()
            .map(|(key, value)| (*key, value.clone().unwrap_or_default(), value.is_none()))
            .collect();
        if wrong == Wrong::DeletionMark {
            entries.push((Key::free_run(Purpose::Data, BlockNo::from_raw(!0)), Vec::new(), true));
        }
        let count = entries.len() as u64;
        let mut nodes = 0;
        loop {
            let mut above = Vec::new();
            let mut left = entries.into_iter().peekable();
            while let Some((first, _, _)) = left.peek().cloned() {
                let mut bytes = vec![0; NODE_BYTES];
                let mut builder = NodeBuilder::new(&mut bytes, id, level);
                // Small nodes, so that a small world has trees of several levels.
                while left
                    .next_if(|(key, value, delete)| {
                        (builder.is_empty() || builder.bytes_used() + value.len() < 1200)
                            && builder.try_push(key, value, *delete)
                    })
                    .is_some()
                {}
                let reference = builder.finish(*next, generation);
                blocks.push((*next, bytes));
                *next = next.after(NODE_BLOCKS);
                nodes += 1;
                let separator = match wrong {
                    Wrong::Separator if level == 0 && !above.is_empty() => first.successor(),
                    _ => first,
                };
                above.push((separator, reference.as_bytes().to_vec(), false));
            }
            if above.len() == 1 {
                let root = above[0].1.as_slice();
                let root = <NodeRef as zerocopy::FromBytes>::read_from_bytes(root);
                let reference = TreeRef {
                    root: root.expect("a reference"),
                    items: count.into(),
                    nodes: u64::from(nodes as u32).into(),
                    level,
                    reserved: [0; 7],
                };
                return Tree { reference, filter, blocks };
            }
            entries = above;
            level += 1;
        }
    }

    pub fn lay(&self) -> Laid {
        let disk = MemDisk::new(&vec![DEVICE_BLOCKS; self.devices()]);
        let mut laid = Laid {
            disk,
            nodes: Vec::new(),
            filters: Vec::new(),
            roots: Vec::new(),
            data: Vec::new(),
            batches: Vec::new(),
        };
        self.write_superblocks(&laid.disk);
        let mut totals = Vec::new();
        let mut bodies = Vec::new();
        for tablet in 0..TABLETS {
            let (body, of_tablet) = self.write_tablet(tablet, &mut laid);
            bodies.push(body);
            totals.push(of_tablet);
        }
        for shard in 0..SHARDS {
            let batches = self.write_log(shard, &totals, &bodies, &laid.disk);
            laid.batches.push(batches);
        }
        for (block, bytes) in &self.states[2].data {
            laid.disk.put(*block, bytes);
            laid.data.push(*block);
        }
        laid
    }

    fn write_superblocks(&self, disk: &MemDisk) {
        for device in 0..self.devices() as u8 {
            for generation in [4u64, 5] {
                let mut superblock = self.superblock();
                superblock.generation = generation.into();
                superblock.epoch = (EPOCH + generation - 5).into();
                superblock.device_index = device;
                if generation == 4 {
                    // The epoch before used the other areas.
                    for area in &mut superblock.logs[..2 * usize::from(SHARDS)] {
                        let was_in_use = area.state == LOG_IN_USE;
                        area.state = if was_in_use { LOG_RETIRING } else { LOG_IN_USE };
                        area.epoch = (if was_in_use { EPOCH - 2 } else { EPOCH - 1 }).into();
                    }
                }
                (self.tweak_superblock)(&mut superblock);
                superblock.seal();
                let at = BlockNo::new(DeviceId(device), Superblock::slot(generation));
                disk.put(at, superblock.as_bytes());
            }
        }
        assert!(SUPERBLOCK_B + SUPERBLOCK_BLOCKS < front_blocks(0, TABLETS as u16));
    }

    fn write_tablet(&self, tablet: usize, laid: &mut Laid) -> (RootBody, Totals) {
        let log_items = diff(&self.states[0].items[tablet], &self.states[1].items[tablet]);
        let mut next = node_zone(tablet);
        let log_tree = match log_items.is_empty() {
            true => None,
            false => Some(self.pack(tablet, &log_items, true, &mut next)),
        };
        let spare = next;
        if log_tree.is_some() {
            next = next.after(NODE_BLOCKS);
        }
        let fs_items = |used| {
            let mut items = self.states[0].items[tablet].clone();
            items.extend(self.free_items(tablet, used));
            items.into_iter().map(|(key, value)| (key, Some(value))).collect::<Diff>()
        };
        // Free runs are items themselves; how many nodes there are does not depend on their values.
        let mut end = next;
        self.pack(tablet, &fs_items(ZONE_BLOCKS - 4), false, &mut end);
        let used = end.index() - node_zone(tablet).index();
        let fs = self.pack(tablet, &fs_items(used), false, &mut next);
        assert!(next == end && used < ZONE_BLOCKS, "the layout is settled");

        let mut totals = self.states[2].totals(tablet);
        for (key, value) in self.free_items(tablet, used) {
            let blocks = u64::from_le_bytes(value.try_into().expect("a free run"));
            match key.parse() {
                Some(ParsedKey::FreeRun(Purpose::Node, _)) => totals.free_node += blocks,
                Some(ParsedKey::FreeRun(Purpose::Data, _)) => totals.free_data += blocks,
                _ => totals.free_unassigned += blocks,
            }
        }
        (self.tweak_totals)(tablet, &mut totals);
        let mut body = RootBody::empty(TabletId(tablet as u16));
        body.generation = GENERATION.into();
        // Tablet 3 was not written to for an epoch.
        body.epoch = (if tablet == 3 { EPOCH - 1 } else { EPOCH }).into();
        body.replay = Replay {
            epoch: body.epoch,
            position: (if tablet == 3 { 500 } else { LOG_TAIL }).into(),
            node: 0.into(),
            shard: (tablet as u16 % SHARDS).into(),
            reserved: [0; 4],
        };
        body.totals = totals;
        body.newest_meta_seq = self.states[1].seq.into();
        body.newest_data_seq = self.states[1].seq.into();
        body.folded_seq = self.states[1].seq.into();
        body.fs = fs.reference;
        if let Some(tree) = &log_tree {
            body.set_log_trees(&[LogTreeEntry {
                tree: tree.reference,
                filter: tree.filter,
                spare_start: spare.raw().into(),
                spare_blocks: NODE_BLOCKS.into(),
                frozen_seq: self.states[1].seq.into(),
            }]);
        }
        for (at, bytes) in fs.blocks.iter().chain(log_tree.iter().flat_map(|tree| &tree.blocks)) {
            laid.disk.put(*at, bytes);
            match bytes.len() == NODE_BYTES {
                true => laid.nodes.push(*at),
                false => laid.filters.push(*at),
            }
        }
        for generation in [GENERATION - 1, GENERATION] {
            let mut body = body;
            body.generation = generation.into();
            if self.tweak_tablet == tablet as u16 {
                (self.tweak_root)(&mut body, false);
            }
            let at = root_block(TabletId(tablet as u16), RootGeneration(generation));
            let mut block = vec![0; BLOCK_BYTES];
            TabletRootBlock::seal(&body, &FSID, &mut block);
            laid.disk.put(at, &block);
            laid.roots.push(at);
        }
        (body, totals)
    }

    /// An old batch, the changes in two, a new root of tablet 1 with a trim, and an empty batch that
    /// carries the last mark.
    fn write_log(
        &self,
        shard: u16,
        totals: &[Totals],
        bodies: &[RootBody],
        disk: &MemDisk,
    ) -> Vec<(BlockNo, u64)> {
        let tablets = || (usize::from(shard)..TABLETS).step_by(usize::from(SHARDS));
        let changes: Vec<Diff> = tablets()
            .map(|tablet| diff(&self.states[1].items[tablet], &self.states[2].items[tablet]))
            .collect();
        let kind = |value: &Option<Vec<u8>>| match value {
            None => EditKind::Delete,
            Some(_) if self.all_edits_are_new => EditKind::PutNew,
            Some(_) => EditKind::Put,
        };
        let part = |odd: bool| {
            let mut bytes = vec![0; BATCH_HEADER_BYTES];
            let mut record = RecordWriter::begin(&mut bytes);
            for (tablet, changes) in tablets().zip(&changes) {
                record.section(TabletId(tablet as u16), &totals[tablet], None);
                for (_, (key, value)) in
                    changes.iter().enumerate().filter(|(index, _)| (index % 2 == 1) == odd)
                {
                    record.edit(kind(value), key, value.as_deref().unwrap_or(&[]));
                }
            }
            record.finish();
            (bytes, 1)
        };
        let roots = || {
            let mut bytes = vec![0; BATCH_HEADER_BYTES];
            let mut records = 1;
            if shard == 1 {
                let mut body = bodies[1];
                body.generation = (GENERATION + 1).into();
                if self.tweak_tablet == 1 {
                    (self.tweak_root)(&mut body, true);
                }
                let mut record = RecordWriter::begin(&mut bytes);
                record.section(TabletId(1), &totals[1], Some(&body));
                record.finish();
                records += 1;
            }
            let named = tablets().filter(|tablet| *tablet != 3);
            let trims = named.map(|t| (TabletId(t as u16), RootGeneration(self.trim_generation)));
            write_trim(&mut bytes, trims);
            (bytes, records)
        };
        let empty = || (vec![0; BATCH_HEADER_BYTES], 0);
        let area = Pool::log_area(2 * u64::from(shard));
        let mut position = LOG_TAIL - 1;
        let mut written = Vec::new();
        for (index, (mut bytes, records)) in
            [empty(), part(false), roots(), part(true), empty()].into_iter().enumerate()
        {
            let payload_bytes = (bytes.len() - BATCH_HEADER_BYTES) as u32;
            bytes.resize(batch_bytes(payload_bytes as usize), 0);
            let blocks = (bytes.len() / BLOCK_BYTES) as u64;
            let mut header = BatchHeader {
                magic: 0.into(),
                crc: 0.into(),
                blocks: 0.into(),
                log_tag: log_tag(&HANDLE_KEY).into(),
                node: 0.into(),
                shard: shard.into(),
                records: u32::from(records as u16).into(),
                epoch: EPOCH.into(),
                position: position.into(),
                seq: (900 + index as u64).into(),
                acked: position.into(),
                tail: (if index == 0 { 0 } else { LOG_TAIL }).into(),
                ceiling: 1000.into(),
                payload_bytes: payload_bytes.into(),
                reserved: 0.into(),
            };
            (self.tweak_header)(shard, index, &mut header);
            seal_batch(&mut bytes, header);
            let slot = position % LOG_BLOCKS;
            assert!(slot + blocks <= LOG_BLOCKS, "batches do not wrap");
            disk.put(area.after(slot), &bytes);
            if index > 0 {
                written.push((area.after(slot), blocks));
            }
            position += blocks;
        }
        written
    }
}

pub const DEVICE_BLOCKS: u64 = 4096;

/// Key to new value, or to nothing where it was deleted.
type Diff = BTreeMap<Key, Option<Vec<u8>>>;

fn diff(before: &Items, after: &Items) -> Diff {
    let mut diff = Diff::new();
    for (key, value) in after {
        if before.get(key) != Some(value) {
            diff.insert(*key, Some(value.clone()));
        }
    }
    for key in before.keys().filter(|key| !after.contains_key(key)) {
        diff.insert(*key, None);
    }
    diff
}
