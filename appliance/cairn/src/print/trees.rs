//! Tablet roots, and the trees below them.

use crate::exit::Error;
use crate::print::item::describe;
use crate::print::pool::PoolBytes;
use crate::print::record::{Printed, Sink};
use crate::print::damaged;
use cairn_base::BLOCK_BYTES;
use cairn_format::node::{NODE_BYTES, Node, NodeRef};
use cairn_format::superblock::root_block;
use cairn_format::tablet_root::{RootBody, TabletRootBlock, TreeRef};
use cairn_format::{RootGeneration, TabletId};

/// How far down `trees` prints.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Depth {
    Nodes,
    Items,
}

/// Both root blocks of each tablet, with the trees that the root names.
pub fn roots(pool: &PoolBytes, tablets: &[TabletId], sink: &mut Sink) -> Result<(), Error> {
    for &tablet in tablets {
        for generation in 0..2 {
            let at = root_block(tablet, RootGeneration(generation));
            let bytes = pool.read(at, BLOCK_BYTES)?;
            if bytes.iter().all(|byte| *byte == 0) {
                continue; // not written yet
            }
            match TabletRootBlock::parse(&bytes, &pool.superblock().fsid, tablet) {
                Ok(body) => {
                    sink.print(&Printed::root(at, body))?;
                    sink.print(&Printed::totals(tablet.0, &body.totals))?;
                    for (name, tree) in named_trees(body) {
                        sink.print(&Printed::tree(tablet.0, &name, &tree))?;
                    }
                }
                Err(damage) => sink.print(&damaged(at, damage))?,
            }
        }
    }
    Ok(())
}

/// What the newest root of each tablet leads to. Changes that are only in the log are not there.
pub fn trees(
    pool: &PoolBytes,
    tablets: &[TabletId],
    depth: Depth,
    sink: &mut Sink,
) -> Result<(), Error> {
    for &tablet in tablets {
        let Some(body) = newest_root(pool, tablet)? else {
            let at = root_block(tablet, RootGeneration(0));
            sink.print(&damaged(at, cairn_format::Damage::Missing("root block")))?;
            continue;
        };
        for (name, tree) in named_trees(&body) {
            if !tree.is_empty() {
                walk(pool, tablet, &name, tree.root, depth, sink)?;
            }
        }
    }
    Ok(())
}

fn newest_root(pool: &PoolBytes, tablet: TabletId) -> Result<Option<Box<RootBody>>, Error> {
    let mut newest: Option<Box<RootBody>> = None;
    for generation in 0..2 {
        let bytes = pool.read(root_block(tablet, RootGeneration(generation)), BLOCK_BYTES)?;
        if let Ok(body) = TabletRootBlock::parse(&bytes, &pool.superblock().fsid, tablet)
            && newest.as_ref().is_none_or(|best| best.generation() < body.generation())
        {
            newest = Some(Box::new(*body));
        }
    }
    Ok(newest)
}

fn named_trees(body: &RootBody) -> Vec<(String, TreeRef)> {
    let logs = body.log_trees().iter().enumerate();
    let logs = logs.map(|(age, entry)| (format!("log{age}"), entry.tree));
    std::iter::once(("fs".to_owned(), body.fs)).chain(logs).collect()
}

fn walk(
    pool: &PoolBytes,
    tablet: TabletId,
    tree: &str,
    root: NodeRef,
    depth: Depth,
    sink: &mut Sink,
) -> Result<(), Error> {
    // The next to print is last.
    let mut waiting = vec![root];
    while let Some(reference) = waiting.pop() {
        if sink.is_closed() {
            return Ok(());
        }
        let bytes = pool.read(reference.block_no(), NODE_BYTES)?;
        let node = match Node::parse(&bytes, &reference) {
            Ok(node) => node,
            Err(damage) => {
                sink.print(&damaged(reference.block_no(), damage))?;
                continue;
            }
        };
        if depth == Depth::Nodes {
            sink.print(&Printed::Node {
                tablet: tablet.0,
                tree: tree.to_owned(),
                block: reference.block_no().to_string(),
                generation: reference.generation.get(),
                level: node.level(),
                items: node.count(),
                bytes_used: node.bytes_used(),
            })?;
        }
        if !node.is_leaf() {
            waiting.extend((0..node.count()).rev().map(|index| node.child(index)));
        } else if depth == Depth::Items {
            for index in 0..node.count() {
                let key = node.key(index);
                let value = if node.is_delete(index) {
                    "deleted".to_owned()
                } else {
                    describe(&key, node.value(index))
                };
                let tree = tree.to_owned();
                sink.print(&Printed::Item { tablet: tablet.0, tree, key: format!("{key:?}"), value })?;
            }
        }
    }
    Ok(())
}
