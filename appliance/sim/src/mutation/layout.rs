//! Where everything lies in a sound pool: read once, so that a mutation can name what it changes.
//!
//! This believes what it reads; whether the pool is sound, the verifier has said before. It is a reader
//! of its own all the same: a mutation that were placed with the verifier's eyes could hide where those
//! are blind.

use crate::mutation::pool_copy::PoolCopy;
use cairn_base::{BLOCK_BYTES, BlockNo, DeviceId, Run};
use cairn_format::key::Key;
use cairn_format::node::{NODE_BLOCKS, Node, NodeRef};
use cairn_format::record::{Batch, BatchHeader, EditKind, Record};
use cairn_format::superblock::{
    LOG_IN_USE, LogArea, SUPERBLOCK_A, SUPERBLOCK_B, SUPERBLOCK_BLOCKS, Superblock, root_block,
};
use cairn_format::tablet_root::{RootBody, TabletRootBlock, Totals, TreeRef};
use cairn_format::{RootGeneration, TabletId};
use std::collections::BTreeMap;

/// A tree of a tablet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TreeName {
    Fs,
    /// By its place, the oldest being 0.
    Log(usize),
}

/// An item as a node holds it.
#[derive(Clone, Debug)]
pub struct NodeItem {
    pub key: Key,
    pub value: Vec<u8>,
    pub delete: bool,
}

pub struct LogLayout {
    pub area: LogArea,
    /// The batches that count, in their order.
    pub batches: Vec<BatchHeader>,
    /// Root generations that are in its records, and those that its trims rely on.
    pub roots: Vec<(TabletId, RootGeneration)>,
    pub trims: BTreeMap<TabletId, RootGeneration>,
}

impl LogLayout {
    pub fn last(&self) -> &BatchHeader {
        self.batches.last().expect("a pool that was served has a batch in each log")
    }

    /// Behind the last batch.
    pub fn end(&self) -> u64 {
        self.last().position.get() + u64::from(self.last().blocks.get())
    }

    pub fn place(&self, position: u64) -> BlockNo {
        self.area.run().start.after(position % self.area.blocks.get())
    }
}

pub struct TabletLayout {
    pub id: TabletId,
    pub root: RootBody,
    pub totals: Totals,
    /// Items that are in the logs and not in a tree yet, a deletion being `None`.
    pub memtable: BTreeMap<Key, Option<Vec<u8>>>,
    /// What a reader sees.
    pub items: BTreeMap<Key, Vec<u8>>,
    /// The log, by its place in the list, that has its records.
    pub log: usize,
}

impl TabletLayout {
    pub fn tree(&self, name: TreeName) -> Option<&TreeRef> {
        let tree = match name {
            TreeName::Fs => &self.root.fs,
            TreeName::Log(index) => &self.root.log_trees().get(index)?.tree,
        };
        (!tree.is_empty()).then_some(tree)
    }
}

pub struct Layout {
    pub superblock: Box<Superblock>,
    pub logs: Vec<LogLayout>,
    pub tablets: Vec<TabletLayout>,
}

impl Layout {
    pub fn of(copy: &PoolCopy) -> Option<Layout> {
        let superblock = newest_superblock(copy)?;
        let in_use = superblock.log_table().iter().filter(|area| area.state == LOG_IN_USE);
        let mut logs: Vec<LogLayout> =
            in_use.filter_map(|area| read_log(copy, *area, superblock.log_tag())).collect();
        logs.sort_by_key(|log| log.area.epoch.get());
        let mut tablets = Vec::new();
        for id in (0..superblock.tablets.get()).map(TabletId) {
            tablets.push(read_tablet(copy, &superblock, &logs, id)?);
        }
        Some(Layout { superblock, logs, tablets })
    }

    pub fn tablet(&self, id: TabletId) -> &TabletLayout {
        &self.tablets[usize::from(id.0)]
    }
}

fn newest_superblock(copy: &PoolCopy) -> Option<Box<Superblock>> {
    let slots = [SUPERBLOCK_A, SUPERBLOCK_B].map(|slot| BlockNo::new(DeviceId(0), slot));
    let copies = slots.map(|at| copy.bytes(Run::new(at, SUPERBLOCK_BLOCKS)));
    let sound = copies.iter().filter_map(|bytes| Superblock::parse(bytes).ok());
    sound.max_by_key(|found| found.generation.get()).map(|found| Box::new(found.clone()))
}

/// The bytes of one batch.
pub fn batch_bytes(copy: &PoolCopy, log: &LogLayout, header: &BatchHeader) -> Vec<u8> {
    let run = Run::new(log.place(header.position.get()), u64::from(header.blocks.get()));
    copy.bytes(run)
}

fn read_log(copy: &PoolCopy, area: LogArea, log_tag: u64) -> Option<LogLayout> {
    let mut seen: BTreeMap<u64, BatchHeader> = BTreeMap::new();
    let blocks = area.blocks.get();
    for slot in 0..blocks {
        let at = area.run().start.after(slot);
        let first = copy.block(at);
        let Some(header) = Batch::header_of(&first).copied() else { continue };
        let belongs = (header.epoch, header.node, header.shard)
            == (area.epoch, area.node, area.shard)
            && header.position.get() % blocks == slot;
        let bytes = copy.bytes(Run::new(at, u64::from(header.blocks.get()).min(blocks - slot)));
        if belongs && Batch::parse(&bytes, log_tag).is_ok() {
            seen.insert(header.position.get(), header);
        }
    }
    let mut position = seen.values().map(|header| header.tail.get()).max()?;
    let mut log =
        LogLayout { area, batches: Vec::new(), roots: Vec::new(), trims: BTreeMap::new() };
    while let Some(header) = seen.get(&position) {
        log.batches.push(*header);
        position += u64::from(header.blocks.get());
    }
    let mut roots = Vec::new();
    let mut trims = BTreeMap::new();
    each_record(copy, &log, log_tag, |_, record| match record {
        Record::Trim(trim) => trims.extend(trim.roots()),
        Record::Edits(record) => {
            let sections = record.sections().map_while(Result::ok);
            let bodies = sections.filter_map(|section| section.root);
            roots.extend(bodies.map(|body| (body.tablet(), body.generation())));
        }
    });
    (log.roots, log.trims) = (roots, trims);
    (!log.batches.is_empty()).then_some(log)
}

/// Every record of the log that counts, with the position of its batch.
fn each_record(
    copy: &PoolCopy,
    log: &LogLayout,
    log_tag: u64,
    mut each: impl FnMut(u64, Record<'_>),
) {
    for header in &log.batches {
        let bytes = batch_bytes(copy, log, header);
        let batch = Batch::parse(&bytes, log_tag).expect("it was parsed before");
        batch
            .records()
            .map_while(Result::ok)
            .for_each(|record| each(header.position.get(), record));
    }
}

fn read_tablet(
    copy: &PoolCopy,
    superblock: &Superblock,
    logs: &[LogLayout],
    id: TabletId,
) -> Option<TabletLayout> {
    let mut newest: Option<RootBody> = None;
    let mut consider = |body: &RootBody| {
        if newest.is_none_or(|newest| newest.generation.get() < body.generation.get()) {
            newest = Some(*body);
        }
    };
    for slot in 0..2 {
        let block = copy.block(root_block(id, RootGeneration(slot)));
        if let Ok(body) = TabletRootBlock::parse(&block, &superblock.fsid, id) {
            consider(body);
        }
    }
    for log in logs {
        each_section(copy, log, superblock.log_tag(), id, |_, _, root| {
            root.iter().for_each(&mut consider);
        });
    }
    let root = newest?;
    let mut tablet = TabletLayout {
        id,
        root,
        totals: root.totals,
        memtable: BTreeMap::new(),
        items: BTreeMap::new(),
        log: 0,
    };
    for (index, log) in logs.iter().enumerate() {
        let (node, shard) = (log.area.node, log.area.shard);
        let is_named = (root.replay.node, root.replay.shard) == (node, shard);
        let from = match log.area.epoch.get().cmp(&root.replay.epoch.get()) {
            std::cmp::Ordering::Equal if is_named => root.replay.position.get(),
            std::cmp::Ordering::Greater => 0,
            _ => continue,
        };
        if is_named && log.area.epoch == root.replay.epoch {
            tablet.log = index;
        }
        let (totals, memtable, place) = (&mut tablet.totals, &mut tablet.memtable, &mut tablet.log);
        each_section(copy, log, superblock.log_tag(), id, |position, section, _| {
            *totals = section.0;
            *place = index;
            if position >= from {
                memtable.extend(section.1);
            }
        });
    }
    let fs = tree_items(copy, &tablet.root.fs);
    let in_log_trees = tablet.root.log_trees().iter().map(|entry| tree_items(copy, &entry.tree));
    let all: Vec<Vec<NodeItem>> = [fs].into_iter().chain(in_log_trees).collect();
    for item in all.into_iter().flatten() {
        match item.delete {
            true => drop(tablet.items.remove(&item.key)),
            false => drop(tablet.items.insert(item.key, item.value)),
        }
    }
    for (key, value) in &tablet.memtable {
        match value {
            Some(value) => drop(tablet.items.insert(*key, value.clone())),
            None => drop(tablet.items.remove(key)),
        }
    }
    Some(tablet)
}

type Section = (Totals, Vec<(Key, Option<Vec<u8>>)>);

/// What the log's records say of one tablet.
fn each_section(
    copy: &PoolCopy,
    log: &LogLayout,
    log_tag: u64,
    id: TabletId,
    mut each: impl FnMut(u64, Section, Option<RootBody>),
) {
    each_record(copy, log, log_tag, |position, record| {
        let Record::Edits(record) = record else { return };
        for section in record.sections().map_while(Result::ok).filter(|s| s.tablet == id) {
            let edits = section.edits().map_while(Result::ok).map(|edit| {
                let is_put = edit.kind != EditKind::Delete;
                (edit.key, is_put.then(|| edit.value.to_vec()))
            });
            each(position, (section.totals, edits.collect()), section.root.copied());
        }
    });
}

/// The items of a node, in order.
pub fn node_items(bytes: &[u8]) -> Vec<NodeItem> {
    let node = Node::trusted(bytes);
    let item = |index| NodeItem {
        key: node.key(index),
        value: node.value(index).to_vec(),
        delete: node.is_delete(index),
    };
    (0..node.count()).map(item).collect()
}

pub fn node_bytes(copy: &PoolCopy, at: &NodeRef) -> Vec<u8> {
    let bytes = copy.bytes(Run::new(at.block_no(), NODE_BLOCKS));
    assert!(Node::parse(&bytes, at).is_ok(), "the tree is sound");
    bytes
}

fn tree_items(copy: &PoolCopy, tree: &TreeRef) -> Vec<NodeItem> {
    let mut items = Vec::new();
    if !tree.is_empty() {
        gather(copy, &tree.root, &mut items);
    }
    items
}

fn gather(copy: &PoolCopy, at: &NodeRef, items: &mut Vec<NodeItem>) {
    let bytes = node_bytes(copy, at);
    let node = Node::trusted(&bytes);
    if node.is_leaf() {
        items.extend(node_items(&bytes));
        return;
    }
    (0..node.count()).for_each(|index| gather(copy, &node.child(index), items));
}

/// Blocks of a batch with so much payload.
pub fn batch_blocks(payload_bytes: usize) -> u64 {
    (cairn_format::record::batch_bytes(payload_bytes) / BLOCK_BYTES) as u64
}
