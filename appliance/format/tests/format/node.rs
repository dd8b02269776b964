//! Nodes against the obvious: a sorted list.

use crate::sample::{block, inode, leaf, random_key};
use cairn_base::prng::Prng;
use cairn_format::filter::FilterRef;
use cairn_format::item::VALUE_BYTES_MAX;
use cairn_format::node::{NODE_BYTES, Node, NodeBuilder, NodeRef};
use cairn_format::{Damage, InodeNo, Key, TabletId};
use std::collections::BTreeMap;
use zerocopy::IntoBytes;

struct Item {
    key: Key,
    value: Vec<u8>,
    delete: bool,
}

fn random_items(prng: &mut Prng) -> Vec<Item> {
    let value_bytes_max = [1, 40, 300, VALUE_BYTES_MAX as u64 + 1][prng.below(4) as usize];
    let mut items = BTreeMap::new();
    for _ in 0..1 + prng.below(600) {
        let delete = prng.percent(10);
        let bytes = if delete { 0 } else { prng.below(value_bytes_max) };
        let mut value = vec![0; bytes as usize];
        prng.fill(&mut value);
        items.insert(random_key(prng), (value, delete));
    }
    items.into_iter().map(|(key, (value, delete))| Item { key, value, delete }).collect()
}

#[test]
fn a_node_answers_like_the_sorted_list_it_was_made_of() {
    let mut prng = Prng::new(1);
    let mut bytes = vec![0; NODE_BYTES];
    for _ in 0..300 {
        let mut items = random_items(&mut prng);
        let mut builder = NodeBuilder::new(&mut bytes, TabletId(7), 0);
        let fits = items
            .iter()
            .take_while(|item| builder.try_push(&item.key, &item.value, item.delete))
            .count();
        assert_eq!(builder.len(), fits);
        let (used, left_out) = (builder.bytes_used(), items.split_off(fits));
        if let Some(next) = left_out.first() {
            let at_most = next.key.as_bytes().len() + next.value.len() + 6;
            assert!(used + at_most > NODE_BYTES, "refused an item that fits");
        }
        let at = builder.finish(block(100), 9);
        let node = Node::parse(&bytes, &at).expect("a node just built");
        assert_eq!((node.count(), node.bytes_used()), (fits, used));
        check_node(&node, &items);
        let absent = (0..200).map(|_| random_key(&mut prng));
        for key in absent.chain(left_out.iter().map(|item| item.key)).chain([Key::MAX, Key::MIN]) {
            check_lookup(&node, &items, &key);
        }
    }
}

fn check_node(node: &Node<'_>, items: &[Item]) {
    for (index, item) in items.iter().enumerate() {
        assert_eq!(node.key(index), item.key);
        assert_eq!(node.value(index), item.value);
        assert_eq!(node.is_delete(index), item.delete);
        check_lookup(node, items, &item.key);
        check_lookup(node, items, &item.key.successor());
    }
}

fn check_lookup(node: &Node<'_>, items: &[Item], key: &Key) {
    let expected = items.binary_search_by(|item| item.key.cmp(key));
    assert_eq!(node.search(key), expected, "{key:?}");
    let below = items.partition_point(|item| item.key < *key);
    assert_eq!(node.lower_bound(key), below, "{key:?}");
    let child = items.partition_point(|item| item.key <= *key).saturating_sub(1);
    assert_eq!(node.child_for(key), child, "{key:?}");
}

#[test]
fn an_interior_node_leads_every_key_to_its_child() {
    let mut bytes = vec![0; NODE_BYTES];
    let mut builder = NodeBuilder::new(&mut bytes, TabletId(7), 1);
    let child = |n: u64| NodeRef::new(block(1000 + 4 * n), n, n * 31);
    let mut count = 0;
    loop {
        let key = if count == 0 { Key::MIN } else { Key::extent(inode(count), 5) };
        if !builder.try_push(&key, child(count).as_bytes(), false) {
            break;
        }
        count += 1;
    }
    assert!(count > 250, "only {count} children in a node");
    let filter = FilterRef {
        start: block(5).raw().into(),
        hash: 6.into(),
        blocks: 7.into(),
        keys: 8.into(),
    };
    builder.set_filter(filter);
    let at = builder.finish(block(100), 9);
    let node = Node::parse(&bytes, &at).expect("a node just built");
    assert_eq!((node.level(), node.tablet(), node.filter()), (1, TabletId(7), Some(filter)));
    assert_eq!(node.child_for(&Key::inode(InodeNo::ROOT)), 0);
    for n in 1..count {
        assert_eq!(node.child_for(&Key::extent(inode(n), 4)), n as usize - 1);
        assert_eq!(node.child_for(&Key::extent(inode(n), 5)), n as usize);
        assert_eq!(node.child(n as usize), child(n));
        assert_eq!(node.child(n as usize).block_no(), block(1000 + 4 * n));
    }
    assert_eq!(node.child_for(&Key::MAX), count as usize - 1);
}

#[test]
fn three_of_the_largest_items_fit() {
    let mut bytes = vec![0; NODE_BYTES];
    let mut builder = NodeBuilder::new(&mut bytes, TabletId(0), 0);
    for n in 1..=3u8 {
        let key = Key::from_bytes(&[n; 31]).expect("31 bytes");
        assert!(builder.try_push(&key, &[n; VALUE_BYTES_MAX], false));
    }
    let at = builder.finish(block(1), 1);
    assert_eq!(Node::parse(&bytes, &at).expect("just built").value(2), [3; VALUE_BYTES_MAX]);
}

#[test]
fn the_inode_number_is_stored_once_a_node() {
    let mut bytes = vec![0; NODE_BYTES];
    let mut builder = NodeBuilder::new(&mut bytes, TabletId(0), 0);
    for n in 0..100 {
        assert!(builder.try_push(&Key::checksums(inode(5), n), &[], false));
    }
    // Slot, entry head and the one byte that differs, and the header with the first key.
    assert!(builder.bytes_used() <= 64 + 24 + 100 * (2 + 4 + 1));
}

#[test]
#[should_panic(expected = "ascending")]
fn items_out_of_order_are_the_builders_end() {
    let mut bytes = vec![0; NODE_BYTES];
    let mut builder = NodeBuilder::new(&mut bytes, TabletId(0), 0);
    builder.try_push(&Key::inode(inode(2)), &[], false);
    builder.try_push(&Key::inode(inode(2)), &[], false);
}

#[test]
fn a_node_that_is_not_the_one_wanted_says_what_it_is() {
    let (mut bytes, at) = leaf();
    let elsewhere = NodeRef { block: 1.into(), ..at };
    let claims = at.block.get();
    assert_eq!(Node::parse(&bytes, &elsewhere).err(), Some(Damage::Misdirected { claims }));
    let newer = NodeRef { generation: 13.into(), ..at };
    assert_eq!(Node::parse(&bytes, &newer).err(), Some(Damage::Stale { found: 12 }));
    let other = NodeRef { hash: 1.into(), ..at };
    assert_eq!(Node::parse(&bytes, &other).err(), Some(Damage::Hash));
    assert_eq!(Node::parse(&bytes[1..], &at).err(), Some(Damage::Bounds("node length")));
    bytes.fill(0);
    assert_eq!(Node::parse(&bytes, &at).err(), Some(Damage::Magic { found: 0 }));
}

/// Changes a leaf and gives it the hash that makes it credible.
fn forged(change: impl FnOnce(&mut [u8])) -> Option<Damage> {
    let (mut bytes, at) = leaf();
    change(&mut bytes);
    let at = NodeRef { hash: cairn_base::hash::xxh3(&bytes).into(), ..at };
    Node::parse(&bytes, &at).err()
}

#[test]
fn a_right_hash_does_not_excuse_wrong_insides() {
    assert_eq!(forged(|_| {}), None);
    let value = |field| Some(Damage::Value(field));
    let bounds = |field| Some(Damage::Bounds(field));
    assert_eq!(forged(|node| node[27] = 1), value("node reserved")); // flags
    assert_eq!(forged(|node| node[26] = 16), value("node level"));
    assert_eq!(forged(|node| node[25] = 0x10), value("node tablet"));
    assert_eq!(forged(|node| node[40] = 1), value("filter reference"));
    assert_eq!(forged(|node| node[56] = 1), value("node filter")); // on a leaf
    assert_eq!(forged(|node| node[28] = 0), bounds("node item count"));
    assert_eq!(forged(|node| node[29] = 0xff), bounds("node item count"));
    assert_eq!(forged(|node| node[32] ^= 1), bounds("node heap"));
    assert_eq!(forged(|node| node[64] ^= 1), bounds("node entry")); // first slot
    assert_eq!(forged(|node| node[26] = 1), bounds("node child")); // a leaf's values
    let first = NODE_BYTES - 4 - 10 - 104;
    assert_eq!(forged(|node| node[first] = 1), value("node shared bytes"));
    let second = first - 4 - 17 - 17;
    assert_eq!(forged(|node| node[second] = 11), bounds("node key"));
    assert_eq!(forged(|node| node[second] = 8), Some(Damage::Order));
    assert_eq!(forged(|node| node[second + 4] = 0), Some(Damage::Order));
    assert_eq!(forged(|node| node[second + 4] = 1), value("node shared bytes"));
    let third = second - 4 - 17;
    assert_eq!(forged(|node| node[third + 4 + 16] = 1), Some(Damage::Order)); // equal keys
    assert_eq!(forged(|node| node[second + 3] |= 0x80), value("node deletion mark"));
}
