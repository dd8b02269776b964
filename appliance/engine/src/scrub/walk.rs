//! One step over the trees of a tablet: all nodes that may hold keys from a cursor on, of every tree, up to
//! a bound.
//!
//! The trees are gone down level by level, and no level takes more than `NODES_MAX` nodes: where there are
//! more, the step ends at the first key of the first that is left out. The tree with the most nodes is the
//! first, so that the others, which stop at the same key, have little to read that is read again by the
//! next step. Interior nodes are read once for each step that begins below them.
//!
//! What was read stays for the data of the same keys (`data.rs`), and never enters the cache: a pass must
//! not push out what clients need.

use super::found::{Damaged, What, cause_of};
use crate::block::{NodeBuf, Pins, fetch_filter, fetch_node};
use crate::data::join;
use crate::error::FsError;
use crate::shard::Shard;
use cairn_base::door::Doors;
use cairn_format::TabletId;
use cairn_format::filter::FilterRef;
use cairn_format::key::Key;
use cairn_format::node::{NODE_BYTES, NodeRef};
use cairn_format::tablet_root::TreeRef;
use std::rc::Rc;

/// Nodes of one level of one tree in one step: 512 KiB.
const NODES_MAX: usize = 32;
/// Of them read at once.
const READS_MAX: usize = 8;
/// How often a step is done again because what it found bad was replaced meanwhile.
const TRIES: usize = 8;

/// What a step has seen.
pub(super) struct Walked {
    pub pins: Pins,
    pub found: Vec<Damaged>,
    /// Where the nodes of this step begin and end.
    pub from: Key,
    pub end: Key,
    pub nodes: u64,
    pub bytes: u64,
}

/// A node to read, and the keys that its parent gives it.
struct Visit {
    at: NodeRef,
    from: Key,
    to: Key,
}

/// The trees of a tablet at one moment.
struct Trees {
    generation: u64,
    /// With their numbers as `What::Node` has them.
    trees: Vec<(u8, TreeRef)>,
    filters: Vec<(u8, FilterRef)>,
}

impl Walked {
    fn at(from: Key) -> Walked {
        let (pins, found) = (Pins::default(), Vec::new());
        Walked { pins, found, from, end: Key::MAX, nodes: 0, bytes: 0 }
    }

    /// The parts of the step's keys that no damaged node hides, in order.
    pub fn readable(&self) -> Vec<(Key, Key)> {
        let mut lost: Vec<(Key, Key)> = Vec::new();
        for damaged in &self.found {
            if let What::Node { from, to, .. } = damaged.what {
                lost.push((from, to));
            }
        }
        lost.sort_unstable();
        let (mut parts, mut at) = (Vec::new(), self.from);
        for (from, to) in lost {
            if from > at {
                parts.push((at, from.min(self.end)));
            }
            at = at.max(to);
        }
        parts.push((at, self.end));
        parts.retain(|(from, end)| from < end);
        parts
    }
}

impl<D: Doors> Shard<D> {
    fn trees(&self, id: TabletId) -> Trees {
        let tablet = self.core.tablet(id);
        let root = tablet.root.borrow();
        let log_trees = || (1..).zip(&root.log_trees);
        let mut trees: Vec<(u8, TreeRef)> =
            log_trees().map(|(number, tree)| (number, tree.entry.tree)).collect();
        trees.push((0, root.fs));
        trees.retain(|(_, tree)| !tree.is_empty());
        trees.sort_by_key(|(_, tree)| std::cmp::Reverse(tree.nodes.get()));
        let filters = log_trees().map(|(number, tree)| (number, tree.entry.filter));
        let filters = filters.filter(|(_, filter)| !filter.is_none()).collect();
        Trees { generation: root.generation, trees, filters }
    }

    /// Verifies nodes from `from` on. What is damaged is still referred to when this returns.
    pub(super) async fn walk_step(&self, id: TabletId, from: Key) -> Walked {
        let (mut nodes, mut bytes) = (0, 0);
        for tries in 1.. {
            let _guard = self.core.reads.begin();
            let trees = self.trees(id);
            let mut walked = Walked::at(from);
            if from == Key::MIN {
                for (number, filter) in &trees.filters {
                    self.verify_filter(id, *number, filter, &mut walked).await;
                }
            }
            for (number, tree) in &trees.trees {
                self.walk_tree(id, *number, tree, &mut walked).await;
            }
            nodes += walked.nodes;
            bytes += walked.bytes;
            let is_current = self.core.tablet(id).root.borrow().generation == trees.generation;
            if walked.found.is_empty() || is_current || tries == TRIES {
                self.core.counters.scrub_nodes.add(nodes);
                return Walked { nodes, bytes, ..walked };
            }
        }
        unreachable!("the last try returns")
    }

    async fn walk_tree(&self, id: TabletId, number: u8, tree: &TreeRef, walked: &mut Walked) {
        let mut level = vec![Visit { at: tree.root, from: Key::MIN, to: Key::MAX }];
        for height in (0..=tree.level).rev() {
            let reads =
                join(READS_MAX, level.iter().map(|visit| self.verify_node(&visit.at))).await;
            walked.nodes += level.len() as u64;
            walked.bytes += (level.len() * NODE_BYTES) as u64;
            let mut below = Vec::new();
            for (visit, read) in level.iter().zip(reads) {
                let node = match read {
                    Ok(node) => node,
                    Err(error) => {
                        let what = What::Node { tree: number, from: visit.from, to: visit.to };
                        let block = visit.at.block_no();
                        let cause = cause_of(error);
                        let damaged =
                            cause.map(|cause| Damaged { tablet: id, block, what, cause, pass: 0 });
                        walked.found.extend(damaged);
                        continue;
                    }
                };
                if let Some(filter) = node.node().filter() {
                    self.verify_filter(id, number, &filter, walked).await;
                }
                if height > 0 {
                    children(&node, visit, walked, &mut below);
                }
                walked.pins.pin(visit.at, node);
            }
            if let Some(first) = below.get(NODES_MAX) {
                walked.end = walked.end.min(first.from);
                below.truncate(NODES_MAX);
            }
            level = below;
        }
    }

    /// Twice, before it is believed that it is bad.
    async fn verify_node(&self, at: &NodeRef) -> Result<Rc<NodeBuf>, FsError> {
        match fetch_node(&*self.disk, at).await {
            Err(error) if error.is_trouble() => fetch_node(&*self.disk, at).await,
            read => read,
        }
    }

    async fn verify_filter(
        &self,
        id: TabletId,
        number: u8,
        filter: &FilterRef,
        walked: &mut Walked,
    ) {
        walked.nodes += 1;
        walked.bytes += filter.bytes() as u64;
        let mut read = fetch_filter(&*self.disk, filter).await;
        if read.is_err() {
            read = fetch_filter(&*self.disk, filter).await;
        }
        if let Some(cause) = read.err().and_then(cause_of) {
            let what = What::Filter { tree: number };
            let block = filter.block_no();
            walked.found.push(Damaged { tablet: id, block, what, cause, pass: 0 });
        }
    }
}

/// The children of a node that may hold keys of the step.
fn children(held: &NodeBuf, visit: &Visit, walked: &Walked, below: &mut Vec<Visit>) {
    let node = held.node();
    for index in node.child_for(&walked.from)..node.count() {
        let from = if index == 0 { visit.from } else { node.key(index) };
        if from >= walked.end {
            break;
        }
        let is_last = index + 1 == node.count();
        let to = if is_last { visit.to } else { node.key(index + 1) };
        below.push(Visit { at: node.child(index), from, to });
        if below.len() > NODES_MAX {
            break;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use cairn_base::{BlockNo, DeviceId};
    use cairn_format::{Damage, InodeNo};

    fn key(block: u64) -> Key {
        Key::extent(InodeNo::ROOT, block)
    }

    #[test]
    fn what_damaged_nodes_hide_is_left_out() {
        let node = |from, to| Damaged {
            tablet: TabletId(0),
            block: BlockNo::new(DeviceId(0), 1),
            what: What::Node { tree: 0, from: key(from), to: key(to) },
            cause: Damage::Hash.into(),
            pass: 1,
        };
        let readable = |found| {
            let mut walked = Walked::at(key(10));
            (walked.end, walked.found) = (key(100), found);
            walked.readable()
        };
        assert_eq!(readable(vec![]), [(key(10), key(100))]);
        let two = vec![node(50, 60), node(5, 20), node(55, 70)];
        assert_eq!(readable(two), [(key(20), key(50)), (key(70), key(100))]);
        assert_eq!(readable(vec![node(0, 200)]), []);
        assert_eq!(readable(vec![node(90, 200)]), [(key(10), key(90))]);
    }
}
