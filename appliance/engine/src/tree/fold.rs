//! One step of folding a log tree into the fs tree: copy-on-write of the leaves it touches and of
//! the path above them.
//!
//! A step is bounded in nodes, not in keys: it stops after `leaves_touched` old leaves or
//! `leaves_written` new ones, wherever it then is in the log tree, also in the middle of a leaf's
//! range, and in any case before the places its permit reserved could become too few. It frees nothing
//! itself: the old nodes are listed for the record that installs the new root.
//!
//! Neighbouring leaves that a step rewrites are packed together, and a leaf that comes out thin takes in the
//! next one where both fit one node: so what deletions thin out closes up again. An untouched thin leaf
//! stays until something in it changes.

use super::pack::{Built, Item, NodePlaces, even_fill, pack_level, parents};
use super::{Stream, pack_tree};
use crate::block::fetch_node;
use crate::error::FsError;
use crate::limits::NODE_FILL_MIN;
use crate::log::item_bytes;
use crate::sabotage::{Sabotage, planted};
use cairn_base::door::Disk;
use cairn_base::{Arena, Run};
use cairn_format::TabletId;
use cairn_format::key::Key;
use cairn_format::node::{NODE_BLOCKS, NODE_BYTES, NodeRef};
use cairn_format::tablet_root::TreeRef;
use std::pin::Pin;

#[derive(Clone, Copy)]
pub struct FoldBounds {
    pub leaves_touched: usize,
    pub leaves_written: usize,
}

/// What a step made.
pub struct FoldStep {
    pub fs: TreeRef,
    pub built: Vec<Built>,
    /// Nodes of the old tree that the new one does not contain.
    pub dropped: Vec<Run>,
    /// The first key that is not folded yet; `None` when the log tree is at its end.
    pub next: Option<Key>,
}

pub struct Fold<'a, K> {
    pub disk: &'a K,
    pub arena: &'a Arena,
    pub tablet: TabletId,
    pub generation: u64,
    pub log: Stream,
    pub places: &'a mut NodePlaces,
    pub bounds: FoldBounds,
    pub built: Vec<Built>,
    pub dropped: Vec<Run>,
    pub items_delta: i64,
    /// Of the fs tree.
    pub level: u8,
    pub touched: usize,
    /// Leaves that the log does not touch and a thin one took in.
    pub joined: usize,
    /// Something came in between the items that wait.
    pub came_between: bool,
    /// Bytes of items that wait to be packed into leaves.
    pub pending_bytes: usize,
    /// Bytes of items taken from the log so far.
    pub log_bytes: usize,
}

type Rewritten = Vec<(Key, NodeRef)>;

/// Nodes above the leaves that a step may have to write at its end: one in each level is open and may
/// split, and the tree may grow.
fn path_nodes(level: u8) -> u64 {
    2 * u64::from(level) + 2
}

/// Nodes with which any step gets on, if only by one leaf.
pub fn fold_nodes_min(level: u8) -> u64 {
    path_nodes(level) + 8
}

impl<'a, K: Disk> Fold<'a, K> {
    pub async fn step(mut self, fs: &TreeRef) -> Result<FoldStep, FsError> {
        if fs.is_empty() {
            return self.first_step().await;
        }
        let mut level = fs.level;
        let mut nodes = self.rewrite(fs.root, level, None).await?;
        while nodes.len() > 1 {
            level += 1;
            nodes = self.pack(level, parents(nodes).collect(), false);
        }
        let root = match nodes.pop() {
            Some((_, root)) => root,
            None => return Ok(self.done(TreeRef::EMPTY)),
        };
        let (root, level) = self.without_lone_children(root, level).await?;
        let items = fs.items.get().wrapping_add_signed(self.items_delta);
        let nodes = fs.nodes.get() + self.built.len() as u64 - self.dropped.len() as u64;
        let fs =
            TreeRef { root, items: items.into(), nodes: nodes.into(), level, reserved: [0; 7] };
        Ok(self.done(fs))
    }

    fn done(self, fs: TreeRef) -> FoldStep {
        let next = self.log.peek().map(|(key, _, _)| key);
        FoldStep { fs, built: self.built, dropped: self.dropped, next }
    }

    /// Into an empty fs tree: nothing to merge with.
    async fn first_step(mut self) -> Result<FoldStep, FsError> {
        let mut items = Vec::new();
        self.take_log(None, &mut items, &mut std::iter::empty()).await?;
        let fs = pack_tree(
            self.arena,
            self.tablet,
            self.generation,
            &mut items.into_iter(),
            self.places,
            &mut self.built,
        );
        Ok(self.done(fs))
    }

    /// Packs the nodes of one level. `evenly`: something came in between what was there.
    fn pack(&mut self, level: u8, items: Vec<Item>, evenly: bool) -> Rewritten {
        let fill = match evenly {
            true => even_fill(self.arena, self.tablet, level, &items),
            false => NODE_BYTES,
        };
        pack_level(
            self.arena,
            self.tablet,
            self.generation,
            level,
            fill,
            &mut items.into_iter(),
            self.places,
            &mut self.built,
        )
    }

    /// Packs the leaves that wait.
    fn pack_leaves(&mut self, items: Vec<Item>) -> Rewritten {
        self.pending_bytes = 0;
        let evenly = std::mem::take(&mut self.came_between);
        self.pack(0, items, evenly)
    }

    fn exhausted(&self) -> bool {
        self.touched >= self.bounds.leaves_touched
            || self.log_bytes >= self.room()
            || self.log.peek().is_none()
            || self.touched > 0 && self.places.nodes_left() < self.nodes_for_one_more()
    }

    /// Nodes that are written at most when one more leaf is touched and the step ends there: for what waits,
    /// the leaf, what it takes in, and what it takes from the log; and for the path above, which may split.
    fn nodes_for_one_more(&self) -> u64 {
        let log_bytes = self.room().saturating_sub(self.log_bytes);
        let bytes = self.pending_bytes + 2 * NODE_BYTES + log_bytes;
        bytes.div_ceil(NODE_FILL_MIN) as u64 + path_nodes(self.level)
    }

    /// May a thin leaf take in one that the log does not touch?
    fn may_join(&self) -> bool {
        self.pending_bytes > 0
            && self.pending_bytes < NODE_BYTES / 2
            && self.joined < self.bounds.leaves_touched
            && self.places.nodes_left() >= self.nodes_for_one_more()
    }

    /// Bytes of log items that fit the bound on new leaves.
    fn room(&self) -> usize {
        self.bounds.leaves_written * NODE_FILL_MIN
    }

    fn drop_node(&mut self, node: &NodeRef) {
        self.dropped.push(Run::new(node.block_no(), NODE_BLOCKS));
    }

    /// Rewrites the part of a subtree that the log touches; `end` is the first key behind it.
    fn rewrite(
        &mut self,
        at: NodeRef,
        level: u8,
        end: Option<Key>,
    ) -> Pin<Box<dyn Future<Output = Result<Rewritten, FsError>> + '_>> {
        Box::pin(async move {
            if level == 0 {
                let mut items = Vec::new();
                self.merge_leaf(at, end, &mut items).await?;
                return Ok(self.pack_leaves(items));
            }
            let held = fetch_node(self.disk, &at).await?;
            let node = held.node();
            let mut children: Rewritten = Vec::with_capacity(node.count() + 8);
            let mut merged: Vec<Item> = Vec::new();
            for index in 0..node.count() {
                let child = node.child(index);
                let child_end =
                    if index + 1 < node.count() { Some(node.key(index + 1)) } else { end };
                let touched = !self.exhausted()
                    && self
                        .log
                        .peek()
                        .is_some_and(|(key, _, _)| child_end.is_none_or(|end| key < end));
                if !touched {
                    if level == 1 && self.may_join() && self.take_in(child, &mut merged).await? {
                        continue;
                    }
                    let packed = self.pack_leaves(std::mem::take(&mut merged));
                    children.extend(packed);
                    children.push((node.key(index), child));
                } else if level == 1 {
                    self.merge_leaf(child, child_end, &mut merged).await?;
                } else {
                    children.extend(self.rewrite(child, level - 1, child_end).await?);
                }
            }
            let last = node.count().checked_sub(1).map(|index| node.child(index));
            let evenly = children.last().map(|(_, child)| *child) == last;
            let packed = self.pack_leaves(merged);
            children.extend(packed);
            self.drop_node(&at);
            Ok(self.pack(level, parents(children).collect(), evenly))
        })
    }

    /// Appends a leaf that the log does not touch, if it fits one node with what waits. A leaf that cannot
    /// be read stays where it is: it is none of the log's business.
    async fn take_in(&mut self, at: NodeRef, out: &mut Vec<Item>) -> Result<bool, FsError> {
        let Ok(held) = fetch_node(self.disk, &at).await else { return Ok(false) };
        let node = held.node();
        let items = || (0..node.count()).map(|index| (node.key(index), node.value(index)));
        let bytes: usize = items().map(|(key, value)| item_bytes(&key, value.len())).sum();
        if self.pending_bytes + bytes > NODE_FILL_MIN {
            return Ok(false);
        }
        self.joined += 1;
        self.pending_bytes += bytes;
        self.drop_node(&at);
        out.extend(items().map(|(key, value)| Item { key, value: value.into(), delete: false }));
        Ok(true)
    }

    /// Appends one leaf's items with the log's merged in.
    async fn merge_leaf(
        &mut self,
        at: NodeRef,
        end: Option<Key>,
        out: &mut Vec<Item>,
    ) -> Result<(), FsError> {
        let held = fetch_node(self.disk, &at).await?;
        self.touched += 1;
        self.drop_node(&at);
        let node = held.node();
        let mut old = (0..node.count()).map(|index| Item {
            key: node.key(index),
            value: node.value(index).into(),
            delete: false,
        });
        self.take_log(end, out, &mut old).await?;
        self.pending_bytes = out.iter().map(|item| item_bytes(&item.key, item.value.len())).sum();
        Ok(())
    }

    /// Merges the log's items below `end` with `old` until the bound on output is met; then the rest
    /// of `old` goes out as it is.
    async fn take_log(
        &mut self,
        end: Option<Key>,
        out: &mut Vec<Item>,
        old: &mut dyn Iterator<Item = Item>,
    ) -> Result<(), FsError> {
        let mut old = old.peekable();
        while let Some((key, value, delete)) = self.log.peek() {
            if end.is_some_and(|end| key >= end) || self.log_bytes >= self.room() {
                break;
            }
            while let Some(item) = old.next_if(|item| item.key < key) {
                out.push(item);
            }
            let replaced = old.next_if(|item| item.key == key).is_some();
            let item = Item { key, value: value.into(), delete: false };
            self.log_bytes += item_bytes(&key, item.value.len());
            self.items_delta += i64::from(!delete) - i64::from(replaced);
            if !delete {
                out.push(item);
            }
            self.log.step(self.disk).await?;
        }
        // What comes behind all there was leaves full leaves: more of it will come behind.
        self.came_between |= old.peek().is_some();
        out.extend(old);
        if planted(Sabotage::FoldDropsItem) && out.len() > 8 {
            out.pop();
        }
        Ok(())
    }

    /// A root with one child adds a level for nothing.
    async fn without_lone_children(
        &mut self,
        mut root: NodeRef,
        mut level: u8,
    ) -> Result<(NodeRef, u8), FsError> {
        while level > 0 {
            let here = self.built.iter().position(|built| built.block == root.block_no());
            let Some(here) = here else { break };
            let node = cairn_format::node::Node::trusted(&self.built[here].buf);
            if node.count() > 1 {
                break;
            }
            root = node.child(0);
            level -= 1;
            // The place stays reserved and is given back: it was never named.
            self.built.remove(here);
        }
        Ok((root, level))
    }
}
