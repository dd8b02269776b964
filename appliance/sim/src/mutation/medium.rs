//! What devices do by themselves: bits rot, a write is lost, a write lands in another's place.

use super::Mutation;
use super::Which::{Mixed, Split};
use super::layout::{TabletLayout, TreeName};
use super::patient::{Lacks, Patient};
use cairn_base::{BLOCK_BYTES, BlockNo, DeviceId, Run};
use cairn_format::Key;
use cairn_format::node::{NODE_BLOCKS, Node};
use cairn_format::superblock::Superblock;

/// The blocks of a leaf of an fs tree, and of the one behind it.
fn leaves(p: &Patient<'_>) -> Result<[BlockNo; 2], Lacks> {
    let tablet = p.tree_of_level(TreeName::Fs, 1)?;
    let parent = p.node(tablet.id, TreeName::Fs, 1, &Key::MIN)?;
    let bytes = p.node_bytes(&parent);
    let node = Node::trusted(&bytes);
    Ok([node.child(0).block_no(), node.child(1).block_no()])
}

fn block(at: BlockNo) -> String {
    format!("block {at}")
}

/// The place of a block of a file.
fn data(p: &Patient<'_>, path: &str, nth: u64) -> Result<(BlockNo, String), Lacks> {
    let ino = p.ino(path)?;
    let (first, head) = *p.extents(ino).first().ok_or("the file has no data on a device")?;
    let at = BlockNo::from_raw(head.start.get()).after(nth);
    Ok((at, format!("ino:{ino} {path}, file block {}", first + nth)))
}

pub const ALL: &[Mutation] = &[
    Mutation {
        name: "rot-in-a-node",
        breaks: "a bit of a leaf flipped",
        pool: Mixed,
        finding: ["node", "hash"],
        apply: |p| {
            let [leaf, _] = leaves(p)?;
            p.copy.flip(leaf.after(2), 1000, 0x10);
            Ok(block(leaf))
        },
    },
    Mutation {
        name: "rot-in-a-log-tree",
        breaks: "a bit of a log tree's node flipped",
        pool: Mixed,
        finding: ["node", "hash"],
        apply: |p| {
            let tablet = p.tree_of_level(TreeName::Log(0), 0)?;
            let at = tablet.root.log_trees[0].tree.root.block_no();
            p.copy.flip(at, 3000, 1);
            Ok(block(at))
        },
    },
    Mutation {
        name: "rot-in-a-filter",
        breaks: "a bit of a filter flipped",
        pool: Mixed,
        finding: ["filter", "hash"],
        apply: |p| {
            let has = |t: &TabletLayout| {
                t.root.log_trees().first().is_some_and(|entry| !entry.filter.is_none())
            };
            let tablet = p.tablet_where(has).ok_or("no log tree has a filter")?;
            let at = tablet.root.log_trees[0].filter.block_no();
            p.copy.flip(at, 100, 1);
            Ok(block(at))
        },
    },
    Mutation {
        name: "rot-in-data",
        breaks: "a bit of a file's data flipped",
        pool: Split,
        finding: ["data", "does not match its checksum"],
        apply: |p| {
            let (at, words) = data(p, "/b/big", 70)?;
            p.copy.flip(at, 77, 2);
            Ok(words)
        },
    },
    Mutation {
        name: "rot-in-a-superblock",
        breaks: "a bit of the newest superblock flipped",
        pool: Mixed,
        finding: ["superblock", "checksum"],
        apply: |p| {
            let slot = Superblock::slot(p.superblock().generation.get());
            let at = BlockNo::new(DeviceId(0), slot);
            p.copy.flip(at.after(9), 99, 1);
            Ok(format!("superblock {at}"))
        },
    },
    Mutation {
        name: "lost-write-of-a-node",
        breaks: "a leaf was never written",
        pool: Mixed,
        finding: ["node", "magic"],
        apply: |p| {
            let [leaf, _] = leaves(p)?;
            p.copy.put(leaf, &vec![0; NODE_BLOCKS as usize * BLOCK_BYTES]);
            Ok(block(leaf))
        },
    },
    Mutation {
        name: "torn-write-of-a-node",
        breaks: "the last block of a leaf was never written",
        pool: Mixed,
        finding: ["node", "hash"],
        apply: |p| {
            let [leaf, _] = leaves(p)?;
            p.copy.put(leaf.after(NODE_BLOCKS - 1), &[0; BLOCK_BYTES]);
            Ok(block(leaf))
        },
    },
    Mutation {
        name: "misdirected-write-of-a-node",
        breaks: "a leaf was written over another",
        pool: Mixed,
        finding: ["node", "it claims to be"],
        apply: |p| {
            let [leaf, other] = leaves(p)?;
            let bytes = p.copy.bytes(Run::new(leaf, NODE_BLOCKS));
            p.copy.put(other, &bytes);
            Ok(block(other))
        },
    },
    Mutation {
        name: "lost-write-of-data",
        breaks: "a block of a file was never written",
        pool: Split,
        finding: ["data", "does not match its checksum"],
        apply: |p| {
            let (at, words) = data(p, "/b/big", 3)?;
            p.copy.put(at, &[0; BLOCK_BYTES]);
            Ok(words)
        },
    },
    Mutation {
        name: "misdirected-write-of-data",
        breaks: "a block of one file was written over another's",
        pool: Mixed,
        finding: ["data", "does not match its checksum"],
        apply: |p| {
            let ((from, _), (at, words)) = (data(p, "/a/many", 2)?, data(p, "/b/big", 5)?);
            let bytes = p.copy.block(from);
            p.copy.put(at, &bytes);
            Ok(words)
        },
    },
];
