//! Tree nodes and filters: what every reader of a tree relies on once `parse` has said yes.
//!
//! An input is a mode, the reference a parent would have (24 bytes), the length of the front (2 bytes),
//! and then front and back of the node, between which zeros are put up to its 16 KiB: entries grow
//! from the end. The first byte: 1 makes a reference that fits what is there, 2 takes the bytes as
//! they are, 4 is a filter, which is filled up to the blocks that its reference says.

use super::{Target, Verdict, filled, is_within, item, kind_of, mode_of};
use crate::specimen::{self, Specimen, block, inode};
use cairn_base::hash::xxh3;
use cairn_base::{BLOCK_BYTES, BlockNo};
use cairn_format::filter::{Filter, FilterHeader, FilterRef, lookup_hash};
use cairn_format::item::VALUE_BYTES_MAX;
use cairn_format::key::KEY_BYTES_MAX;
use cairn_format::node::{NODE_BYTES, Node, NodeBuilder, NodeHeader, NodeRef};
use cairn_format::{EntryPosition, Key, Seq};
use std::mem::size_of;
use zerocopy::{FromBytes, IntoBytes};

const MEND: u8 = 1;
const AS_IT_IS: u8 = 2;
const FILTER: u8 = 4;

/// A filter of more is only more of the same.
const FILTER_BLOCKS_MAX: usize = 4;

/// Keys looked for in one node.
const SEARCHES: usize = 48;

pub const TARGET: Target = Target {
    name: "node",
    run,
    modes: 8,
    bytes_max: NODE_BYTES + 64,
    heap_max: 256 << 10,
    specimens,
};

fn specimens() -> Vec<Specimen> {
    let of = |name: &str, mode: u8, (bytes, at): (Vec<u8>, NodeRef)| {
        let (front, back) = halves(&bytes);
        let len = (front.len() as u16).to_le_bytes();
        Specimen::new(name, &[&[mode], at.as_bytes(), &len, front, back])
    };
    let (filter, at) = specimen::filter();
    let some = |count: usize| specimen::node(0, &specimen::items()[..count]);
    vec![
        of("leaf", 0, some(5)),
        of("leaf-mended", MEND, some(5)),
        of("leaf-of-all-kinds", MEND, some(specimen::items().len())),
        of("leaf-of-one", MEND, some(1)),
        of("leaf-of-neighbours", MEND, specimen::node(0, &neighbours())),
        of("interior", MEND, specimen::interior()),
        of("interior-high", MEND, specimen::node(2, &children())),
        Specimen::new("filter", &[&[FILTER], at.as_bytes(), specimen::trimmed(&filter)]),
        Specimen::new(
            "filter-mended",
            &[&[FILTER | MEND], at.as_bytes(), specimen::trimmed(&filter)],
        ),
    ]
}

/// Keys that have more and more in common with the first, and prefixes of each other.
fn neighbours() -> Vec<(Key, Vec<u8>)> {
    let mut keys: Vec<Key> =
        (0..6).map(|n| Key::readdir(inode(5), EntryPosition(1 << n))).collect();
    keys.extend([Key::of_inode(inode(5)), Key::inode(inode(5)), Key::meta_seq(Seq(1), inode(5))]);
    keys.sort();
    keys.into_iter().map(|key| (key, b"v".to_vec())).collect()
}

fn children() -> Vec<(Key, Vec<u8>)> {
    let child = |n| NodeRef::new(block(5000 + 4 * n), 11, n).as_bytes().to_vec();
    (1..5).map(|n| (Key::inode(inode(n)), child(n))).collect()
}

/// What stands before and behind the largest part of a node, which is empty.
fn halves(node: &[u8]) -> (&[u8], &[u8]) {
    let (header, _) = NodeHeader::ref_from_prefix(node).expect("a node has a header");
    let front = size_of::<NodeHeader>() + 2 * usize::from(header.item_count.get());
    (&node[..front], &node[node.len() - header.heap_used.get() as usize..])
}

pub fn run(input: &[u8]) -> Verdict {
    let (mode, rest) = mode_of(input);
    if mode & FILTER != 0 {
        return filter(mode, rest);
    }
    let Ok((want, rest)) = NodeRef::read_from_prefix(rest) else {
        return Verdict::Refused("no reference".into());
    };
    let Some((len, rest)) = rest.split_first_chunk::<2>() else {
        return Verdict::Refused("no length".into());
    };
    let (front, back) = rest.split_at(usize::from(u16::from_le_bytes(*len)).min(rest.len()));
    let zeros = if mode & AS_IT_IS == 0 { NODE_BYTES.saturating_sub(rest.len()) } else { 0 };
    let bytes = [front, &vec![0; zeros], back].concat();
    let want = if mode & MEND == 0 { want } else { fitting(&bytes) };
    match Node::parse(&bytes, &want) {
        Ok(node) => {
            assert_eq!(xxh3(&bytes), want.hash.get(), "accepted with a wrong hash");
            assert_eq!(node.header().block, want.block);
            assert_eq!(node.header().generation, want.generation);
            sound(&node, &bytes)
        }
        Err(damage) => Verdict::Refused(kind_of(damage)),
    }
}

fn fitting(bytes: &[u8]) -> NodeRef {
    match NodeHeader::ref_from_prefix(bytes) {
        Ok((header, _)) => NodeRef::new(
            BlockNo::from_raw(header.block.get()),
            header.generation.get(),
            xxh3(bytes),
        ),
        Err(_) => NodeRef::NONE,
    }
}

/// All that readers of a node rely on.
fn sound(node: &Node<'_>, bytes: &[u8]) -> Verdict {
    let count = node.count();
    assert!(count > 0, "there is no empty node");
    assert!(node.bytes_used() <= NODE_BYTES);
    let keys: Vec<Key> = (0..count).map(|index| node.key(index)).collect();
    assert!(keys.windows(2).all(|pair| pair[0] < pair[1]), "keys ascend");
    assert!(keys.iter().all(|key| key.as_bytes().len() <= KEY_BYTES_MAX));
    searches(node, &keys);

    let mut refused = None;
    for (index, key) in keys.iter().enumerate() {
        let value = node.value(index);
        assert!(value.len() <= VALUE_BYTES_MAX && is_within(value, bytes));
        if node.is_leaf() {
            if !node.is_delete(index)
                && let Err(damage) = item::walk(key, value)
            {
                refused = refused.or(Some(damage));
            }
        } else {
            assert!(!node.is_delete(index));
            assert_eq!(node.child(index).as_bytes(), value);
        }
    }
    written_again(node, &keys);
    match refused {
        None => Verdict::Accepted,
        Some(damage) => Verdict::Refused(format!("item: {}", kind_of(damage)).into()),
    }
}

/// Binary search over shortened keys says what a search from the front would.
fn searches(node: &Node<'_>, keys: &[Key]) {
    let step = keys.len().div_ceil(SEARCHES).max(1);
    for (index, key) in keys.iter().enumerate().step_by(step) {
        assert_eq!(node.search(key), Ok(index));
        assert_eq!(node.child_for(key), index);
        for probe in [key.successor(), key.prefix_end()] {
            let below = keys.partition_point(|key| *key < probe);
            assert_eq!(node.lower_bound(&probe), below, "{probe:?} among {keys:?}");
            assert_eq!(node.search(&probe).is_ok(), keys.get(below) == Some(&probe));
        }
    }
    assert_eq!(node.lower_bound(&Key::MIN), 0);
    assert_eq!(node.lower_bound(&Key::MAX), keys.partition_point(|key| *key < Key::MAX));
}

/// A node of the same items holds the same.
fn written_again(node: &Node<'_>, keys: &[Key]) {
    let mut buf = vec![0; NODE_BYTES];
    let mut builder = NodeBuilder::new(&mut buf, node.tablet(), node.level());
    for (index, key) in keys.iter().enumerate() {
        let fits = builder.try_push(key, node.value(index), node.is_delete(index));
        assert!(fits, "what a node held fits a node");
    }
    if let Some(filter) = node.filter() {
        builder.set_filter(filter);
    }
    let header = node.header();
    let at = builder.finish(BlockNo::from_raw(header.block.get()), header.generation.get());
    let again = Node::parse(&buf, &at).expect("what was written can be read");
    assert_eq!(again.header(), header);
    for (index, key) in keys.iter().enumerate() {
        assert_eq!(again.key(index), *key);
        assert_eq!(again.value(index), node.value(index));
        assert_eq!(again.is_delete(index), node.is_delete(index));
    }
}

fn filter(mode: u8, rest: &[u8]) -> Verdict {
    let Ok((mut want, rest)) = FilterRef::read_from_prefix(rest) else {
        return Verdict::Refused("no reference".into());
    };
    let whole = if mode & AS_IT_IS != 0 {
        0
    } else if mode & MEND != 0 {
        rest.len().next_multiple_of(BLOCK_BYTES).max(BLOCK_BYTES)
    } else {
        want.bytes().min(FILTER_BLOCKS_MAX * BLOCK_BYTES)
    };
    let bytes = filled(rest, whole);
    if mode & MEND != 0 {
        let Ok((header, _)) = FilterHeader::ref_from_prefix(&bytes) else {
            return Verdict::Refused("no header".into());
        };
        want.start = header.start;
        want.hash = xxh3(&bytes).into();
        want.blocks = u32::try_from(bytes.len() / BLOCK_BYTES).expect("a few").into();
    }
    match Filter::parse(&bytes, &want) {
        Ok(filter) => {
            assert_eq!(xxh3(&bytes), want.hash.get(), "accepted with a wrong hash");
            for hash in [0, 1, u64::MAX, lookup_hash(inode(1), 1), 1 << 63] {
                let _perhaps = filter.may_contain(hash);
            }
            Verdict::Accepted
        }
        Err(damage) => Verdict::Refused(kind_of(damage)),
    }
}
