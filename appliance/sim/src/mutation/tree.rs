//! Trees: nodes that are not what their place, tablet, level and range promise, counts and filters that
//! are not those of the items, and items that are wrong in a leaf where no record hides them.

use super::Mutation;
use super::Which::Mixed;
use super::layout::{NodeItem, TabletLayout, TreeName, node_bytes};
use super::patient::{Found, Lacks, Patient};
use cairn_base::hash::xxh3;
use cairn_base::{BlockNo, Run};
use cairn_format::Key;
use cairn_format::filter::FilterRef;
use cairn_format::item::{FileKind, InodeItem};
use cairn_format::key::ParsedKey;
use cairn_format::node::{NODE_BLOCKS, Node, NodeHeader, NodeRef};
use cairn_format::tablet_root::TreeRef;
use zerocopy::FromBytes;

/// The leaf with the first items of an fs tree that has levels.
fn leaf(p: &Patient<'_>) -> Result<Found, Lacks> {
    let tablet = p.tree_of_level(TreeName::Fs, 1)?;
    p.node(tablet.id, TreeName::Fs, 0, &Key::MIN)
}

fn words(found: &Found) -> String {
    format!("block {}", found.block())
}

/// A tablet whose oldest log tree has lookup entries, and so a filter.
fn filtered<'a>(p: &Patient<'a>) -> Result<(&'a TabletLayout, FilterRef), Lacks> {
    let of = |t: &TabletLayout| t.root.log_trees().first().map(|entry| entry.filter);
    let has = |t: &TabletLayout| of(t).is_some_and(|filter| !filter.is_none());
    let tablet = p.tablet_where(has).ok_or("no log tree has a filter")?;
    let filter = of(tablet).ok_or("no log tree has a filter")?;
    Ok((tablet, filter))
}

fn patch_header(
    p: &mut Patient<'_>,
    change: impl FnOnce(&mut NodeHeader),
) -> Result<String, Lacks> {
    let found = leaf(p)?;
    p.overwrite(&found, |bytes| {
        if let Ok((header, _)) = NodeHeader::mut_from_prefix(bytes) {
            change(header);
        }
    })?;
    Ok(words(&found))
}

fn patch_tree(p: &mut Patient<'_>, change: impl FnOnce(&mut TreeRef)) -> Result<String, Lacks> {
    let id = p.tree_of_level(TreeName::Fs, 1)?.id;
    change(p.tree_ref(id, TreeName::Fs)?);
    Ok(format!("tablet {id} fs tree"))
}

/// An inode whose newest state is in the fs tree, with the leaf that has it.
fn inode_in_leaf(p: &Patient<'_>) -> Result<(Found, Key), Lacks> {
    for tablet in &p.layout().tablets {
        if tablet.root.fs.is_empty() {
            continue;
        }
        let is_plain = |key: &&Key| {
            let parsed = key.parse();
            let is_file = tablet.items[*key].get(2) == Some(&(FileKind::Regular as u8));
            let is_inode = matches!(parsed, Some(ParsedKey::Inode(_)));
            is_inode && is_file && !tablet.memtable.contains_key(*key)
        };
        for key in tablet.items.keys().filter(is_plain) {
            let in_log_tree = (0..tablet.root.log_trees().len()).any(|index| {
                p.node(tablet.id, TreeName::Log(index), 0, key)
                    .is_ok_and(|found| Node::trusted(&p.node_bytes(&found)).search(key).is_ok())
            });
            let found = p.node(tablet.id, TreeName::Fs, 0, key)?;
            if !in_log_tree && Node::trusted(&p.node_bytes(&found)).search(key).is_ok() {
                return Ok((found, *key));
            }
        }
    }
    Err("no inode is in an fs tree alone")
}

/// Exchanges the last two entries of a node, each whole: all lengths stay right.
fn exchange_last_two(bytes: &mut [u8]) {
    const HEADER: usize = size_of::<NodeHeader>();
    let count = {
        let (header, _) = NodeHeader::ref_from_prefix(bytes).expect("a node");
        usize::from(header.item_count.get())
    };
    let slot = |bytes: &[u8], index: usize| {
        let at = HEADER + 2 * index;
        usize::from(u16::from_le_bytes([bytes[at], bytes[at + 1]]))
    };
    let (low, mid, high) = (slot(bytes, count - 1), slot(bytes, count - 2), slot(bytes, count - 3));
    let (last, before) = (bytes[low..mid].to_vec(), bytes[mid..high].to_vec());
    bytes[low..high].copy_from_slice(&[before.as_slice(), last.as_slice()].concat());
    let moved = (low + before.len()) as u16;
    let at = HEADER + 2 * (count - 2);
    bytes[at..at + 2].copy_from_slice(&moved.to_le_bytes());
}

pub const ALL: &[Mutation] = &[
    Mutation {
        name: "node-of-another-tablet",
        breaks: "a tree has another tablet's node",
        pool: Mixed,
        finding: ["node", "node tablet"],
        apply: |p| patch_header(p, |header| header.tablet = (header.tablet.get() ^ 1).into()),
    },
    Mutation {
        name: "node-of-wrong-level",
        breaks: "a leaf says it is an interior node",
        pool: Mixed,
        finding: ["node", ""],
        apply: |p| patch_header(p, |header| header.level = 1),
    },
    Mutation {
        name: "node-of-another-place",
        breaks: "a node was written for another place",
        pool: Mixed,
        finding: ["node", "it claims to be"],
        apply: |p| patch_header(p, |header| header.block -= NODE_BLOCKS),
    },
    Mutation {
        name: "node-older-than-its-reference",
        breaks: "a node is of an older generation than its parent names",
        pool: Mixed,
        finding: ["node", "generation"],
        apply: |p| patch_header(p, |header| header.generation -= 1),
    },
    Mutation {
        name: "node-of-the-future",
        breaks: "a node is newer than its tablet's root",
        pool: Mixed,
        finding: ["node", "node generation"],
        apply: |p| {
            let found = leaf(p)?;
            let mut bytes = p.node_bytes(&found);
            let future = 1 << 40;
            let (header, _) = NodeHeader::mut_from_prefix(&mut bytes).map_err(|_| "no node")?;
            header.generation = future.into();
            let reference = NodeRef::new(found.block(), future, xxh3(&bytes));
            p.replace(&found, reference, &bytes)?;
            Ok(words(&found))
        },
    },
    Mutation {
        name: "node-a-block-further",
        breaks: "a node lies a block behind the place that was allocated for it",
        pool: Mixed,
        finding: ["space", "belongs to nobody"],
        apply: |p| {
            let tablet = p.tree_of_level(TreeName::Log(0), 0)?;
            let level = tablet.root.log_trees[0].tree.level;
            let found = p.node(tablet.id, TreeName::Log(0), level, &Key::MIN)?;
            let mut bytes = p.node_bytes(&found);
            let at = found.block().after(1);
            let (header, _) = NodeHeader::mut_from_prefix(&mut bytes).map_err(|_| "no node")?;
            header.block = at.raw().into();
            let reference = NodeRef::new(at, found.at().generation.get(), xxh3(&bytes));
            p.replace(&found, reference, &bytes)?;
            Ok(format!("blocks {:?}", Run::new(found.block(), 1)))
        },
    },
    Mutation {
        name: "keys-out-of-order",
        breaks: "two items of a leaf are in the wrong order",
        pool: Mixed,
        finding: ["node", "out of order"],
        apply: |p| {
            let found = leaf(p)?;
            p.overwrite(&found, exchange_last_two)?;
            Ok(words(&found))
        },
    },
    Mutation {
        name: "key-outside-its-parents-range",
        breaks: "a leaf has an item that is searched for in the leaf before",
        pool: Mixed,
        finding: ["node", "out of order"],
        apply: |p| {
            let tablet = p.tree_of_level(TreeName::Fs, 1)?;
            let parent = p.node(tablet.id, TreeName::Fs, 1, &Key::MIN)?;
            let child = Node::trusted(&p.node_bytes(&parent)).child(1);
            let first = Node::trusted(&node_bytes(&p.copy, &child)).key(0);
            p.rebuild(&parent, |items| items[1].key = first.successor())?;
            Ok(format!("block {}", child.block_no()))
        },
    },
    Mutation {
        name: "item-lost-from-a-leaf",
        breaks: "an fs tree has one item less than its root says",
        pool: Mixed,
        finding: ["tree", "items, its root says"],
        apply: |p| {
            let (found, key) = inode_in_leaf(p)?;
            p.rebuild(&found, |items| items.retain(|item| item.key != key))?;
            Ok("fs tree".into())
        },
    },
    Mutation {
        name: "field-changed-in-a-leaf",
        breaks: "an inode in a leaf has a link more than names",
        pool: Mixed,
        finding: ["link", "back references"],
        apply: |p| {
            let (found, key) = inode_in_leaf(p)?;
            let patch = |item: &mut NodeItem| {
                if let Ok(inode) = InodeItem::mut_from_bytes(&mut item.value) {
                    inode.nlink += 1;
                }
            };
            p.rebuild(&found, |items| items.iter_mut().filter(|i| i.key == key).for_each(patch))?;
            match key.parse() {
                Some(ParsedKey::Inode(ino)) => Ok(super::inode::words(ino)),
                _ => Err("an inode has an inode's key"),
            }
        },
    },
    Mutation {
        name: "deletion-mark-in-the-fs-tree",
        breaks: "an fs tree holds a mark that something is deleted",
        pool: Mixed,
        finding: ["tree", "a deletion mark in the fs tree"],
        apply: |p| {
            let (found, key) = inode_in_leaf(p)?;
            p.rebuild(&found, |items| {
                for item in items.iter_mut().filter(|item| item.key == key) {
                    item.value.clear();
                    item.delete = true;
                }
            })?;
            Ok("tablet".into())
        },
    },
    Mutation {
        name: "item-count-of-a-tree",
        breaks: "a root counts an item too many",
        pool: Mixed,
        finding: ["tree", "items, its root says"],
        apply: |p| patch_tree(p, |tree| tree.items += 1),
    },
    Mutation {
        name: "node-count-of-a-tree",
        breaks: "a root counts a node too few",
        pool: Mixed,
        finding: ["tree", "nodes, its root says"],
        apply: |p| patch_tree(p, |tree| tree.nodes -= 1),
    },
    Mutation {
        name: "level-of-a-tree",
        breaks: "a root says its tree is higher than it is",
        pool: Mixed,
        finding: ["node", "node level"],
        apply: |p| patch_tree(p, |tree| tree.level += 1),
    },
    Mutation {
        name: "hash-of-a-tree",
        breaks: "a root refers to a node of another content",
        pool: Mixed,
        finding: ["node", "hash"],
        apply: |p| patch_tree(p, |tree| tree.root.hash += 1),
    },
    Mutation {
        name: "subtree-dropped",
        breaks: "a parent forgot a child: its node and its items are lost",
        pool: Mixed,
        finding: ["space", "belongs to nobody"],
        apply: |p| {
            let tablet = p.tree_of_level(TreeName::Fs, 1)?;
            let parent = p.node(tablet.id, TreeName::Fs, 1, &Key::MIN)?;
            let child = Node::trusted(&p.node_bytes(&parent)).child(1);
            p.rebuild(&parent, |items| drop(items.remove(1)))?;
            Ok(format!("blocks {:?}", Run::new(child.block_no(), NODE_BLOCKS)))
        },
    },
    Mutation {
        name: "child-twice",
        breaks: "two places of a parent refer to one child",
        pool: Mixed,
        finding: ["node", "out of order"],
        apply: |p| {
            let tablet = p.tree_of_level(TreeName::Fs, 1)?;
            let parent = p.node(tablet.id, TreeName::Fs, 1, &Key::MIN)?;
            let child = Node::trusted(&p.node_bytes(&parent)).child(0);
            p.rebuild(&parent, |items| items[1].value = items[0].value.clone())?;
            Ok(format!("block {}", child.block_no()))
        },
    },
    Mutation {
        name: "log-tree-node-count",
        breaks: "a log tree has fewer nodes than its entry says",
        pool: Mixed,
        finding: ["tree", "nodes, its root says"],
        apply: |p| {
            let id = p.tree_of_level(TreeName::Log(0), 0)?.id;
            p.tree_ref(id, TreeName::Log(0))?.nodes += 1;
            Ok(format!("tablet {id} log tree 0"))
        },
    },
    Mutation {
        name: "log-tree-without-filter",
        breaks: "a log tree has names and no filter over them",
        pool: Mixed,
        finding: ["tree", "lookup entries and no filter"],
        apply: |p| {
            let id = filtered(p)?.0.id;
            p.root(id).log_trees[0].filter = FilterRef::NONE;
            Ok(format!("tablet {id} log tree 0"))
        },
    },
    Mutation {
        name: "filter-denies-a-name",
        breaks: "a filter says that a name is not there, and it is",
        pool: Mixed,
        finding: ["filter", "denies it"],
        apply: |p| {
            let (tablet, filter) = filtered(p)?;
            let (id, at) = (tablet.id, filter.block_no());
            let mut bytes = p.copy.bytes(Run::new(at, u64::from(filter.blocks.get())));
            bytes[64..].fill(0);
            p.copy.put(at, &bytes);
            p.root(id).log_trees[0].filter.hash = xxh3(&bytes).into();
            Ok(format!("tablet {id} "))
        },
    },
    Mutation {
        name: "filter-counts-wrong",
        breaks: "a filter says it has a name more than its tree",
        pool: Mixed,
        finding: ["filter", "keys, the tree has"],
        apply: |p| {
            let (tablet, filter) = filtered(p)?;
            let (id, at, keys) = (tablet.id, filter.block_no(), filter.keys.get() + 1);
            let mut bytes = p.copy.bytes(Run::new(at, u64::from(filter.blocks.get())));
            bytes[16..24].copy_from_slice(&u64::from(keys).to_le_bytes());
            p.copy.put(at, &bytes);
            let reference = &mut p.root(id).log_trees[0].filter;
            (reference.hash, reference.keys) = (xxh3(&bytes).into(), keys.into());
            Ok(format!("tablet {id} log tree 0"))
        },
    },
    Mutation {
        name: "filter-of-another-tree",
        breaks: "a log tree has another's filter",
        pool: Mixed,
        finding: ["space", "is owned twice"],
        apply: |p| {
            let (tablet, _) = filtered(p)?;
            let filters = p.layout().tablets.iter().filter(|other| other.id != tablet.id);
            let mut filters = filters.flat_map(|other| other.root.log_trees());
            let other = filters.find(|entry| !entry.filter.is_none());
            let other = other.ok_or("one tablet alone has filters")?.filter;
            let id = tablet.id;
            p.root(id).log_trees[0].filter = other;
            Ok(format!("a filter of tablet {id}"))
        },
    },
    Mutation {
        name: "log-trees-exchanged",
        breaks: "an older log tree hides what a younger one changed",
        pool: Mixed,
        finding: ["index", "the inode says"],
        apply: |p| {
            let two = |t: &TabletLayout| t.root.log_trees().len() > 1;
            let id = p.tablet_where(two).ok_or("no tablet has two log trees")?.id;
            let root = p.root(id);
            let last = usize::from(root.log_tree_count) - 1;
            root.log_trees.swap(0, last);
            Ok(format!("tablet {id} "))
        },
    },
    Mutation {
        name: "spare-of-a-log-tree",
        breaks: "a log tree keeps blocks that are another's",
        pool: Mixed,
        finding: ["space", "is owned twice"],
        apply: |p| {
            let id = p.tree_of_level(TreeName::Log(0), 0)?.id;
            let entry = &mut p.root(id).log_trees[0];
            let node: BlockNo = entry.tree.root.block_no();
            entry.spare_start = node.raw().into();
            entry.spare_blocks = NODE_BLOCKS.into();
            Ok(format!("the spare of a log tree of tablet {id}"))
        },
    },
    Mutation {
        name: "fold-of-nothing",
        breaks: "a fold is under way and there is no log tree",
        pool: Mixed,
        finding: ["tree", "a fold under way and no log tree"],
        apply: |p| {
            let none = |t: &TabletLayout| t.root.log_trees().is_empty();
            let id = match p.tablet_where(none) {
                Some(tablet) => tablet.id,
                None => {
                    let id = p.layout().tablets[0].id;
                    p.root(id).set_log_trees(&[]);
                    id
                }
            };
            p.root(id).set_fold_cursor(Some(&Key::of_range(0x20)));
            Ok(format!("tablet {id}"))
        },
    },
    Mutation {
        name: "fold-too-far",
        breaks: "a fold says it took over what it did not: the end of it would lose that",
        pool: Mixed,
        finding: ["tree", "was folded"],
        apply: |p| {
            let id = p.tree_of_level(TreeName::Log(0), 0)?.id;
            p.root(id).set_fold_cursor(Some(&Key::of_range(0x31)));
            Ok(format!("tablet {id}"))
        },
    },
];
