//! One key in one tree, synchronously, and the way there.

use crate::block::{Absent, Nodes};
use cairn_base::BlockNo;
use cairn_format::key::Key;
use cairn_format::tablet_root::TreeRef;
use std::rc::Rc;

/// What a tree says about a key it holds.
pub enum Hit {
    Value(Rc<[u8]>),
    /// A log tree's mark: the key is gone, whatever lies below.
    Deleted,
}

pub fn get(nodes: Nodes<'_>, tree: &TreeRef, key: &Key) -> Result<Option<Hit>, Absent> {
    if tree.is_empty() {
        return Ok(None);
    }
    let mut at = tree.root;
    loop {
        let held = nodes.get(&at)?;
        let node = held.node();
        if !node.is_leaf() {
            at = node.child(node.child_for(key));
            continue;
        }
        return Ok(node.search(key).ok().map(|index| {
            if node.is_delete(index) { Hit::Deleted } else { Hit::Value(node.value(index).into()) }
        }));
    }
}

/// Does the way to `key` lead over the node at `block`? That node itself is not read.
pub fn leads_to(
    nodes: Nodes<'_>,
    tree: &TreeRef,
    key: &Key,
    block: BlockNo,
) -> Result<bool, Absent> {
    let mut at = tree.root;
    loop {
        if at.block_no() == block {
            return Ok(true);
        }
        let held = nodes.get(&at)?;
        let node = held.node();
        if node.is_leaf() {
            return Ok(false);
        }
        at = node.child(node.child_for(key));
    }
}
