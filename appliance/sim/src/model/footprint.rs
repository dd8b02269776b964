//! What a request touches, to tell whether two of them could matter to each other.

use crate::model::act::{Act, EntryName, NodeId};
use crate::model::tree::Tree;
use std::collections::BTreeMap;

/// A thing that requests can have in common; `bool` is whether it is changed.
pub type Footprint = BTreeMap<Thing, bool>;

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Thing {
    Entry(NodeId, EntryName),
    /// Whether a directory lives and is empty.
    Inside(NodeId),
    Node(NodeId),
    /// Who is inside whom.
    Ancestry,
}

impl Tree {
    /// In this state; the node behind a name may be another in the next.
    pub fn footprint(&self, act: &Act) -> Footprint {
        let mut all = Footprint::new();
        let mut touch = |thing, changed| *all.entry(thing).or_insert(false) |= changed;
        match act {
            Act::Make { at, .. } | Act::Symlink { at, .. } => {
                touch(Thing::Entry(at.dir, at.name.clone()), true);
                touch(Thing::Inside(at.dir), false);
            }
            Act::Open { at, .. } => {
                touch(Thing::Entry(at.dir, at.name.clone()), true);
                touch(Thing::Inside(at.dir), false);
            }
            Act::Link { node, at } => {
                touch(Thing::Entry(at.dir, at.name.clone()), true);
                touch(Thing::Inside(at.dir), false);
                touch(Thing::Node(*node), true);
            }
            Act::Unlink { at } | Act::Rmdir { at } => {
                touch(Thing::Entry(at.dir, at.name.clone()), true);
                touch(Thing::Inside(at.dir), false);
                if let Some(child) = self.child(at) {
                    touch(Thing::Node(child), true);
                    touch(Thing::Inside(child), true);
                }
            }
            Act::Rename { from, to } => {
                for at in [from, to] {
                    touch(Thing::Entry(at.dir, at.name.clone()), true);
                    touch(Thing::Inside(at.dir), false);
                    if let Some(child) = self.child(at) {
                        touch(Thing::Node(child), true);
                        touch(Thing::Inside(child), true);
                        touch(Thing::Ancestry, self.is_directory(child));
                    }
                }
            }
            Act::Write { node, .. }
            | Act::Truncate { node, .. }
            | Act::Chmod { node, .. }
            | Act::SetXattr { node, .. }
            | Act::RemoveXattr { node, .. }
            | Act::Commit { node, .. } => touch(Thing::Node(*node), true),
            Act::Lookup { at } => {
                touch(Thing::Entry(at.dir, at.name.clone()), false);
                touch(Thing::Inside(at.dir), false);
            }
            Act::List { dir } => touch(Thing::Inside(*dir), false),
            Act::Read { node, .. } | Act::Stat { node } => touch(Thing::Node(*node), false),
        }
        all
    }
}

/// Whether one changes what the other touches.
pub fn conflict(a: &Footprint, b: &Footprint) -> bool {
    a.iter().any(|(thing, &changed)| b.get(thing).is_some_and(|&other| changed || other))
}

pub fn merge(into: &mut Footprint, from: Footprint) {
    for (thing, changed) in from {
        *into.entry(thing).or_insert(false) |= changed;
    }
}
