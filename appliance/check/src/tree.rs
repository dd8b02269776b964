//! Walking one tree of a tablet in key order, and verifying every node on the way.
//!
//! A node must be what its parent's reference names (place, generation, hash), belong to the tablet,
//! stand one level below its parent, and keep within the keys that the parent gives it. A node that
//! is none of that is a finding and is passed over: its items are missing from then on, which the
//! walk remembers (`is_whole`), so that what is missing because of it is not reported a second time.
//!
//! While it walks, it counts what the tree's reference says it holds, asks the filters for every
//! lookup entry they must know, and notes which blocks the tree occupies.

use crate::media::{self, Unreadable};
use crate::report::{Findings, Object, TreeName};
use crate::space::{Owner, Space};
use cairn_base::door::Disk;
use cairn_base::{DmaBuf, Run};
use cairn_format::filter::{Filter, FilterRef, lookup_hash};
use cairn_format::key::ParsedKey;
use cairn_format::node::{NODE_BLOCKS, Node, NodeRef};
use cairn_format::tablet_root::TreeRef;
use cairn_format::{Damage, Key, TabletId};
use std::cell::Cell;

/// Filters and nodes are allocated in units of so many blocks.
pub(crate) const NODE_UNIT: u64 = NODE_BLOCKS;

/// What every walk of a tablet shares.
pub(crate) struct Ground<'a, K> {
    pub disk: &'a K,
    pub tablet: TabletId,
    pub name_key: [u8; 16],
    /// Of the tablet's root: no node is newer.
    pub generation: u64,
    pub findings: &'a Findings,
    pub space: &'a Space,
    pub nodes: &'a Cell<u64>,
    pub filters: &'a Cell<u64>,
}

struct Frame {
    node: DmaBuf,
    index: usize,
    /// The first key behind the node's range.
    end: Option<Key>,
    /// A filter over the lookup entries below this node, and the lookup entries seen.
    filter: Option<HeldFilter>,
}

struct HeldFilter {
    of: FilterRef,
    from: Key,
    /// `None` when it could not be read.
    bytes: Option<DmaBuf>,
    lookups: u64,
}

pub(crate) struct Walk<'a, K> {
    ground: &'a Ground<'a, K>,
    name: TreeName,
    tree: TreeRef,
    /// Verifies and counts everything; a walk that only looks something up does not.
    thorough: bool,
    /// From the root to the leaf; the leaf's frame is at the current item.
    stack: Vec<Frame>,
    /// A log tree's filter over all its lookup entries.
    filter: Option<HeldFilter>,
    items: u64,
    nodes: u64,
    lookups: u64,
    is_whole: bool,
}

impl<'a, K: Disk> Walk<'a, K> {
    /// Begins a thorough walk at the tree's first item.
    pub async fn begin(
        ground: &'a Ground<'a, K>,
        name: TreeName,
        tree: TreeRef,
        filter: FilterRef,
    ) -> Walk<'a, K> {
        let mut walk = Walk::new(ground, name, tree, true);
        if !filter.is_none() {
            walk.filter = Some(walk.held_filter(filter, Key::MIN).await);
        }
        walk.descend_from_root(&Key::MIN).await;
        walk
    }

    /// Looks for items from `key` on, without counting or reporting anything.
    pub async fn seek(
        ground: &'a Ground<'a, K>,
        name: TreeName,
        tree: TreeRef,
        key: &Key,
    ) -> Walk<'a, K> {
        let mut walk = Walk::new(ground, name, tree, false);
        walk.descend_from_root(key).await;
        walk
    }

    fn new(ground: &'a Ground<'a, K>, name: TreeName, tree: TreeRef, thorough: bool) -> Self {
        Walk {
            ground,
            name,
            tree,
            thorough,
            stack: Vec::new(),
            filter: None,
            items: 0,
            nodes: 0,
            lookups: 0,
            is_whole: true,
        }
    }

    pub fn is_whole(&self) -> bool {
        self.is_whole
    }

    pub fn name(&self) -> TreeName {
        self.name
    }

    /// The current item: key, value, and whether it is a deletion mark.
    pub fn peek(&self) -> Option<(Key, &[u8], bool)> {
        let leaf = self.stack.last()?;
        let node = Node::trusted(&leaf.node);
        Some((node.key(leaf.index), node.value(leaf.index), node.is_delete(leaf.index)))
    }

    pub async fn step(&mut self) {
        if let Some(leaf) = self.stack.last_mut() {
            leaf.index += 1;
        }
        self.settle(&Key::MIN).await;
        self.visit();
    }

    async fn descend_from_root(&mut self, key: &Key) {
        if self.tree.is_empty() {
            return;
        }
        let (root, level) = (self.tree.root, self.tree.level);
        if let Some(frame) = self.frame(root, level, Key::MIN, None, key).await {
            self.stack.push(frame);
        }
        self.settle(key).await;
        self.visit();
    }

    /// Goes down to a leaf, or up and on where a node is used up, until a leaf's item is current.
    async fn settle(&mut self, key: &Key) {
        while let Some(top) = self.stack.last() {
            let node = Node::trusted(&top.node);
            if top.index >= node.count() {
                if let Some(frame) = self.stack.pop() {
                    self.leave(frame);
                }
                if let Some(parent) = self.stack.last_mut() {
                    parent.index += 1;
                }
                continue;
            }
            if node.is_leaf() {
                return;
            }
            let (child, level, from) =
                (node.child(top.index), node.level() - 1, node.key(top.index));
            let end = match top.index + 1 < node.count() {
                true => Some(node.key(top.index + 1)),
                false => top.end,
            };
            match self.frame(child, level, from, end, key).await {
                Some(frame) => self.stack.push(frame),
                None => {
                    if let Some(top) = self.stack.last_mut() {
                        top.index += 1;
                    }
                }
            }
        }
    }

    /// Reads and verifies one node. `None` when it has to be passed over.
    async fn frame(
        &mut self,
        at: NodeRef,
        level: u8,
        from: Key,
        end: Option<Key>,
        key: &Key,
    ) -> Option<Frame> {
        let run = Run::new(at.block_no(), NODE_BLOCKS);
        if self.thorough {
            self.nodes += 1;
            self.ground.nodes.set(self.ground.nodes.get() + 1);
            self.ground.space.claim(run, Owner::Node(self.ground.tablet), self.ground.findings);
        }
        let read = media::read(self.ground.disk, run).await;
        let checked = read.and_then(|node| {
            let parsed = Node::parse(&node, &at)?;
            self.check_place(&at, &parsed, level, from, end)?;
            Ok(node)
        });
        let node = match checked {
            Ok(node) => node,
            Err(error) => {
                self.is_whole = false;
                self.note_lost(&at, error, from, end);
                return None;
            }
        };
        let parsed = Node::trusted(&node);
        // A seek lands in the child whose range the key falls into.
        let index = match (parsed.is_leaf(), *key == Key::MIN) {
            (_, true) => 0,
            (true, false) => parsed.lower_bound(key),
            (false, false) => parsed.child_for(key),
        };
        let filter = match parsed.filter().filter(|_| self.thorough) {
            Some(filter) => Some(self.held_filter(filter, from).await),
            None => None,
        };
        Some(Frame { node, index, end, filter })
    }

    fn check_place(
        &self,
        at: &NodeRef,
        node: &Node<'_>,
        level: u8,
        from: Key,
        end: Option<Key>,
    ) -> Result<(), Unreadable> {
        if node.tablet() != self.ground.tablet {
            return Err(Damage::Value("node tablet").into());
        }
        if node.level() != level {
            return Err(Damage::Value("node level").into());
        }
        if at.generation.get() > self.ground.generation {
            return Err(Damage::Value("node generation").into());
        }
        if node.key(0) < from || end.is_some_and(|end| node.key(node.count() - 1) >= end) {
            return Err(Damage::Order.into());
        }
        Ok(())
    }

    fn note_lost(&self, at: &NodeRef, error: Unreadable, from: Key, end: Option<Key>) {
        if !self.thorough {
            return;
        }
        let (tablet, tree) = (self.ground.tablet, self.name);
        let object = Object::Node { tablet, tree, block: at.block_no(), from };
        let detail = match end {
            Some(end) => format!("{error}; lost is everything before {end:?}"),
            None => format!("{error}; lost is everything behind"),
        };
        self.ground.findings.note("node", object, detail);
    }

    /// Counts and judges the item that has become current.
    fn visit(&mut self) {
        let Some((key, _, delete)) = self.peek().filter(|_| self.thorough) else { return };
        self.items += 1;
        if delete && self.name == TreeName::Fs {
            let object = Object::Item(self.ground.tablet, key);
            self.ground.findings.note("tree", object, "a deletion mark in the fs tree");
        }
        let Some(ParsedKey::Lookup { dir, name_hash }) = key.parse() else { return };
        self.lookups += 1;
        let hash = lookup_hash(dir, name_hash);
        let own = self.filter.iter_mut();
        for filter in own.chain(self.stack.iter_mut().filter_map(|frame| frame.filter.as_mut())) {
            filter.lookups += 1;
            let denied = filter
                .bytes
                .as_ref()
                .is_some_and(|bytes| !Filter::trusted(bytes).may_contain(hash));
            if denied {
                let object = Object::Item(self.ground.tablet, key);
                let detail = format!("filter {} of {} denies it", filter.of.block_no(), self.name);
                self.ground.findings.note("filter", object, detail);
            }
        }
    }

    async fn held_filter(&self, of: FilterRef, from: Key) -> HeldFilter {
        let ground = self.ground;
        ground.filters.set(ground.filters.get() + 1);
        let blocks = u64::from(of.blocks.get());
        let owned = Run::new(of.block_no(), blocks.next_multiple_of(NODE_UNIT));
        ground.space.claim(owned, Owner::Filter(ground.tablet), ground.findings);
        let read = media::read(ground.disk, Run::new(of.block_no(), blocks)).await;
        let checked = read.and_then(|bytes| {
            Filter::parse(&bytes, &of)?;
            Ok(bytes)
        });
        let bytes = match checked {
            Ok(bytes) => Some(bytes),
            Err(error) => {
                ground.findings.note("filter", self.filter_object(&of, from), error);
                None
            }
        };
        HeldFilter { of, from, bytes, lookups: 0 }
    }

    fn filter_object(&self, of: &FilterRef, from: Key) -> Object {
        let tablet = self.ground.tablet;
        Object::Node { tablet, tree: self.name, block: of.block_no(), from }
    }

    fn leave(&self, frame: Frame) {
        if let Some(filter) = frame.filter {
            self.check_filter_keys(&filter);
        }
    }

    fn check_filter_keys(&self, filter: &HeldFilter) {
        let keys = u64::from(filter.of.keys.get());
        if self.is_whole && keys != filter.lookups {
            let object = self.filter_object(&filter.of, filter.from);
            let detail = format!("says {keys} keys, the tree has {}", filter.lookups);
            self.ground.findings.note("filter", object, detail);
        }
    }

    /// At the tree's end: are its counts what its reference says?
    pub fn finish(&self) {
        if let Some(filter) = &self.filter {
            self.check_filter_keys(filter);
        }
        if !self.is_whole {
            return;
        }
        let note = |detail: String| {
            let object = Object::Tree(self.ground.tablet, self.name);
            self.ground.findings.note("tree", object, detail);
        };
        let (items, nodes) = (self.tree.items.get(), self.tree.nodes.get());
        if self.items != items {
            note(format!("has {} items, its root says {items}", self.items));
        }
        if self.nodes != nodes {
            note(format!("has {} nodes, its root says {nodes}", self.nodes));
        }
        if matches!(self.name, TreeName::Log(_)) && self.filter.is_none() && self.lookups > 0 {
            note(format!("has {} lookup entries and no filter", self.lookups));
        }
    }
}
