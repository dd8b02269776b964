//! One slice of the file system: its memtables, its trees, its space, its counts.
//!
//! The youngest answer wins: active memtable, frozen memtable, log trees youngest first, fs tree.
//! Only the shard that owns the tablet holds one of these, so nothing here is locked.

use crate::block::{Absent, FilterBuf, Nodes};
use crate::data::Overlays;
use crate::log::merges::Merges;
use crate::log::{Barred, Entry, Memtable, MemtableBytes, Ticket};
use crate::sabotage::{Sabotage, planted};
use crate::space::{Reads, Space};
use crate::tree::{self, Hit};
use cairn_format::filter::lookup_hash;
use cairn_format::key::{KIND_LOOKUP, Key, ParsedKey, RANGE_INODE};
use cairn_format::tablet_root::{LogTreeEntry, Replay, RootBody, Totals, TreeRef};
use cairn_format::{Epoch, LogPosition, NodeId, Seq, ShardId, TabletId};
use cairn_reactor::Semaphore;
use std::cell::{Cell, RefCell};
use std::rc::Rc;

pub struct LogTree {
    pub entry: LogTreeEntry,
    /// Read when a lookup first asks for it.
    pub filter: RefCell<Option<Rc<FilterBuf>>>,
}

impl LogTree {
    /// Can the tree hold what hashes to `hash`?
    fn may_contain(&self, tablet: TabletId, hash: u64) -> Result<bool, Absent> {
        if self.entry.filter.is_none() {
            // No lookup entry was in the memtable, or there was no run long enough for a filter.
            return Ok(true);
        }
        match &*self.filter.borrow() {
            Some(filter) => Ok(filter.filter().may_contain(hash)),
            None => Err(Absent::Filter(tablet, self.entry.filter)),
        }
    }
}

/// The trees of a tablet, as its newest root has them.
pub struct Root {
    pub generation: u64,
    pub fs: TreeRef,
    /// No index entry of the fs tree is newer.
    pub folded_seq: Seq,
    /// Oldest first.
    pub log_trees: Vec<LogTree>,
    pub fold_cursor: Option<Key>,
    /// Records at or behind this position are in the memtables, not in the trees.
    pub replay: LogPosition,
}

pub struct Tablet {
    pub id: TabletId,
    pub active: RefCell<Memtable>,
    /// Where the oldest record of the active memtable lies in the log.
    pub active_first: Cell<Option<LogPosition>>,
    pub frozen: RefCell<Option<Rc<Memtable>>>,
    pub frozen_first: Cell<Option<LogPosition>>,
    pub root: RefCell<Root>,
    pub totals: Cell<Totals>,
    pub newest_meta_seq: Cell<Seq>,
    pub newest_data_seq: Cell<Seq>,
    /// Up to where its deletions were trimmed, if at all, once it was read (`index/trim.rs`).
    pub trimmed: Cell<Option<Option<(Seq, u64)>>>,
    /// The next inode counter to hand out.
    pub next_inode: Cell<u64>,
    pub space: Rc<Space>,
    pub overlays: Overlays,
    /// The newest root record whose copy is not in the root block yet.
    pub root_record: Cell<Option<(Ticket, Box<RootBody>)>>,
    /// The generation of the newest root block that is on its device.
    pub root_block_generation: Cell<u64>,
    /// One freeze, relog, merge or fold step at a time.
    pub remaking: Semaphore,
    pub merges: Merges,
    /// Log trees that damage is in the way of.
    pub barred: Barred,
    pub paying: Cell<Paying>,
}

/// Whether somebody waits until the tablet has folded what it owes node space for (`txn/permit.rs`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Paying {
    #[default]
    Nobody,
    /// Its memtable is to become a log tree.
    Memtable,
    /// Its log trees are to be folded, until none is left.
    LogTrees,
}

impl Tablet {
    pub fn new(body: &RootBody, reads: Rc<Reads>, memory: &MemtableBytes) -> Tablet {
        let totals = body.totals;
        let free = [totals.free_unassigned.get(), totals.free_node.get(), totals.free_data.get()];
        let log_trees = body.log_trees().iter();
        let log_trees =
            log_trees.map(|entry| LogTree { entry: *entry, filter: RefCell::default() });
        Tablet {
            id: body.tablet(),
            active: RefCell::new(Memtable::new(memory)),
            active_first: Cell::new(None),
            frozen: RefCell::default(),
            frozen_first: Cell::new(None),
            root: RefCell::new(Root {
                generation: body.generation.get(),
                fs: body.fs,
                folded_seq: Seq(body.folded_seq.get()),
                log_trees: log_trees.collect(),
                fold_cursor: body.fold_cursor(),
                // Every open begins its logs anew.
                replay: LogPosition(0),
            }),
            totals: Cell::new(totals),
            newest_meta_seq: Cell::new(Seq(body.newest_meta_seq.get())),
            newest_data_seq: Cell::new(Seq(body.newest_data_seq.get())),
            trimmed: Cell::new(None),
            next_inode: Cell::new(totals.inode_high_water.get()),
            space: Space::new(reads, free),
            overlays: Overlays::default(),
            root_record: Cell::new(None),
            root_block_generation: Cell::new(body.generation.get()),
            remaking: Semaphore::new(1),
            merges: Merges::default(),
            barred: Barred::default(),
            paying: Cell::default(),
        }
    }

    /// The current root as its record and its block hold it.
    pub fn root_body(&self, epoch: Epoch, node: NodeId, shard: ShardId) -> RootBody {
        let root = self.root.borrow();
        let mut body = RootBody::empty(self.id);
        body.generation = root.generation.into();
        body.epoch = epoch.0.into();
        body.node = node.0.into();
        body.replay = Replay {
            epoch: epoch.0.into(),
            position: root.replay.0.into(),
            node: node.0.into(),
            shard: shard.0.into(),
            reserved: [0; 4],
        };
        body.totals = self.totals.get();
        body.newest_meta_seq = self.newest_meta_seq.get().0.into();
        body.newest_data_seq = self.newest_data_seq.get().0.into();
        body.folded_seq = root.folded_seq.0.into();
        body.fs = root.fs;
        let entries: Vec<LogTreeEntry> = root.log_trees.iter().map(|tree| tree.entry).collect();
        body.set_log_trees(&entries);
        body.set_fold_cursor(root.fold_cursor.as_ref());
        body
    }

    /// Keeps a log tree's filter that was read.
    pub fn keep_filter(&self, of: &cairn_format::filter::FilterRef, filter: &Rc<FilterBuf>) {
        let root = self.root.borrow();
        for tree in root.log_trees.iter().filter(|tree| tree.entry.filter == *of) {
            *tree.filter.borrow_mut() = Some(Rc::clone(filter));
        }
    }

    /// Filters that are in memory, those being made included.
    pub fn filter_bytes(&self) -> usize {
        let root = self.root.borrow();
        let held = root.log_trees.iter().filter(|tree| tree.filter.borrow().is_some());
        held.map(|tree| tree.entry.filter.bytes()).sum::<usize>() + self.merges.filter_bytes()
    }

    /// Forgets its filters; lookups read them again.
    pub fn drop_filters(&self) {
        for tree in &self.root.borrow().log_trees {
            *tree.filter.borrow_mut() = None;
        }
    }

    /// Puts back a root record that was looked at too early, unless a newer one came meanwhile.
    pub fn keep_root_record(&self, ticket: Ticket, body: Box<RootBody>) {
        let newer = self.root_record.take();
        self.root_record.set(newer.or(Some((ticket, body))));
    }

    /// The oldest log position this tablet still needs.
    pub fn pinned_position(&self) -> Option<LogPosition> {
        self.frozen_first.get().or(self.active_first.get())
    }

    /// The newest seq of any index entry.
    pub fn newest_seq(&self) -> Seq {
        self.newest_meta_seq.get().max(self.newest_data_seq.get())
    }

    pub fn has_room_for_log_tree(&self) -> bool {
        self.root.borrow().log_trees.len() < crate::limits::LOG_TREES_STOP
    }

    /// The value of `key`, if there is one.
    pub fn get(&self, nodes: Nodes<'_>, key: &Key) -> Result<Option<Rc<[u8]>>, Absent> {
        self.get_newer(nodes, key, Seq(0))
    }

    /// The same without trees that have no index entry of `since` or newer.
    pub fn get_newer(
        &self,
        nodes: Nodes<'_>,
        key: &Key,
        since: Seq,
    ) -> Result<Option<Rc<[u8]>>, Absent> {
        if let Some(entry) = self.active.borrow().get(key) {
            return Ok(value_of(entry));
        }
        if let Some(table) = &*self.frozen.borrow()
            && let Some(entry) = table.get(key)
        {
            return Ok(value_of(entry));
        }
        let root = self.root.borrow();
        let hash = filter_hash(key);
        let turned = planted(Sabotage::OldestAnswers);
        for nth in 0..root.log_trees.len() {
            let tree = &root.log_trees[if turned { nth } else { root.log_trees.len() - 1 - nth }];
            if Seq(tree.entry.frozen_seq.get()) < since {
                continue;
            }
            if let Some(hash) = hash
                && !tree.may_contain(self.id, hash)?
            {
                continue;
            }
            match tree::get(nodes, &tree.entry.tree, key)? {
                Some(Hit::Value(value)) => return Ok(Some(value)),
                Some(Hit::Deleted) => return Ok(None),
                None => {}
            }
        }
        if root.folded_seq < since {
            return Ok(None);
        }
        Ok(match tree::get(nodes, &root.fs, key)? {
            Some(Hit::Value(value)) => Some(value),
            Some(Hit::Deleted) | None => None,
        })
    }
}

fn value_of(entry: &Entry) -> Option<Rc<[u8]>> {
    match entry {
        Entry::Put { value, .. } => Some(Rc::clone(value)),
        Entry::Delete => None,
    }
}

/// What filters hold of a key: only lookup entries are in them.
pub fn filter_hash(key: &Key) -> Option<u64> {
    let bytes = key.as_bytes();
    if bytes.first() != Some(&RANGE_INODE) || bytes.get(9) != Some(&KIND_LOOKUP) {
        return None;
    }
    match key.parse() {
        Some(ParsedKey::Lookup { dir, name_hash }) => Some(lookup_hash(dir, name_hash)),
        _ => None,
    }
}
