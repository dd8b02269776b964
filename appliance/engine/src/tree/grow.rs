//! A tree packed from items that come in portions, with long pauses between them.
//!
//! `pack.rs` packs all that there is at once. Here each level keeps the items that do not fill a node
//! yet, and packs them again with the next portion; so a node is written once, full, and what waits is
//! never more than a portion and the rest of the one before. Only the end writes thin nodes: the last
//! of each level.

use super::pack::{Built, Item, NodePlaces};
use cairn_base::Arena;
use cairn_format::TabletId;
use cairn_format::node::{NODE_BYTES, NodeBuilder, NodeRef};
use cairn_format::tablet_root::TreeRef;
use std::collections::VecDeque;
use zerocopy::{FromBytes, IntoBytes};

/// What a portion is packed with.
pub struct Packing<'a> {
    pub arena: &'a Arena,
    pub tablet: TabletId,
    pub generation: u64,
    pub places: &'a mut NodePlaces,
    pub built: Vec<Built>,
}

#[derive(Default)]
struct Level {
    waiting: VecDeque<Item>,
    nodes: u64,
}

/// There is no place for one more node.
#[derive(Debug, PartialEq, Eq)]
pub struct OutOfPlaces;

#[derive(Default)]
pub struct Growing {
    /// Leaves first. A level's nodes are items of the next one.
    levels: Vec<Level>,
    items: u64,
}

impl Growing {
    /// Takes an item behind all that came before.
    pub fn push(&mut self, item: Item) {
        self.items += 1;
        self.level(0).waiting.push_back(item);
    }

    fn level(&mut self, level: usize) -> &mut Level {
        if level == self.levels.len() {
            self.levels.push(Level::default());
        }
        &mut self.levels[level]
    }

    /// Packs what fills nodes.
    pub fn pack(&mut self, packing: &mut Packing<'_>) -> Result<(), OutOfPlaces> {
        for level in 0..self.levels.len() {
            while self.pack_node(level, packing, false)? {}
        }
        Ok(())
    }

    /// Packs the rest. The root is the first level that is one node.
    pub fn finish(mut self, packing: &mut Packing<'_>) -> Result<TreeRef, OutOfPlaces> {
        let mut level = 0;
        loop {
            while self.pack_node(level, packing, true)? {}
            if self.levels.get(level).is_none_or(|done| done.nodes == 0) {
                return Ok(TreeRef::EMPTY);
            }
            if self.levels[level].nodes == 1 {
                break;
            }
            level += 1;
        }
        let root = self.levels[level + 1].waiting.pop_front();
        let root = root.and_then(|item| NodeRef::read_from_bytes(&item.value).ok());
        let root = root.expect("a level's nodes are items of the next one");
        let nodes: u64 = self.levels.iter().map(|level| level.nodes).sum();
        let (items, nodes) = (self.items.into(), nodes.into());
        Ok(TreeRef { root, items, nodes, level: level as u8, reserved: [0; 7] })
    }

    /// One node of what waits at a level, if that fills one or is the rest.
    fn pack_node(
        &mut self,
        level: usize,
        packing: &mut Packing<'_>,
        is_rest: bool,
    ) -> Result<bool, OutOfPlaces> {
        let Some(here) = self.levels.get_mut(level) else { return Ok(false) };
        let Some(first_key) = here.waiting.front().map(|item| item.key) else { return Ok(false) };
        let mut buf = packing.arena.alloc(NODE_BYTES);
        let mut builder = NodeBuilder::new(&mut buf, packing.tablet, level as u8);
        let mut fits = |item: &&Item| builder.try_push(&item.key, &item.value, item.delete);
        let taken = here.waiting.iter().take_while(|item| fits(item)).count();
        assert!(taken > 0, "any one item fits an empty node");
        if taken == here.waiting.len() && !is_rest {
            return Ok(false);
        }
        if packing.places.nodes_left() == 0 {
            return Err(OutOfPlaces);
        }
        let block = packing.places.next();
        let node = builder.finish(block, packing.generation);
        here.waiting.drain(..taken);
        here.nodes += 1;
        packing.built.push(Built { block, buf });
        let value = node.as_bytes().into();
        let above = Item { key: first_key, value, delete: false };
        self.level(level + 1).waiting.push_back(above);
        Ok(true)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tree::pack_tree;
    use cairn_base::{BlockNo, DeviceId, Run};
    use cairn_format::InodeNo;
    use cairn_format::key::Key;
    use cairn_format::node::Node;

    fn places(blocks: u64) -> NodePlaces {
        NodePlaces::new([Run::new(BlockNo::new(DeviceId(0), 64), blocks)])
    }

    fn items(count: u64) -> impl Iterator<Item = Item> {
        (0..count).map(|n| Item {
            key: Key::extent(InodeNo::ROOT, n * n),
            value: vec![7; (n % 97) as usize].into(),
            delete: n % 97 == 0,
        })
    }

    #[test]
    fn portions_of_any_length_give_the_tree_that_packing_all_at_once_gives() {
        let arena = Arena::heap();
        let count = 200_000;
        let (mut all, mut built) = (places(4 << 10), Vec::new());
        let whole = pack_tree(&arena, TabletId(1), 3, &mut items(count), &mut all, &mut built);
        for portion in [1000, 7777, 50_000] {
            let mut places = places(4 << 10);
            let built = Vec::new();
            let (tablet, generation, places) = (TabletId(1), 3, &mut places);
            let mut packing = Packing { arena: &arena, tablet, generation, places, built };
            let mut growing = Growing::default();
            for (n, item) in items(count).enumerate() {
                growing.push(item);
                if n % portion == portion - 1 {
                    growing.pack(&mut packing).expect("there are places");
                    let waiting: usize = growing.levels.iter().map(|l| l.waiting.len()).sum();
                    assert!(waiting < 2000, "no more than a node of each level waits: {waiting}");
                }
            }
            let tree = growing.finish(&mut packing).expect("there are places");
            assert_eq!(
                (tree.items, tree.nodes, tree.level),
                (whole.items, whole.nodes, whole.level)
            );
            assert_eq!(tree.level, 2);
            let root = packing.built.last().expect("a root");
            assert_eq!(root.block, tree.root.block_no());
            assert!(Node::parse(&root.buf, &tree.root).is_ok());
        }
    }

    #[test]
    fn a_tree_without_places_is_given_up_and_one_leaf_is_a_root() {
        let arena = Arena::heap();
        for (count, blocks) in [(40_000, 400), (10, 4), (0, 4)] {
            let mut places = places(blocks);
            let (tablet, places, built) = (TabletId(1), &mut places, Vec::new());
            let mut packing = Packing { arena: &arena, tablet, generation: 1, places, built };
            let mut growing = Growing::default();
            items(count).for_each(|item| growing.push(item));
            let packed = growing.pack(&mut packing);
            let tree = packed.and_then(|()| growing.finish(&mut packing));
            match count {
                0 => assert_eq!(tree, Ok(TreeRef::EMPTY)),
                10 => assert_eq!(tree.map(|tree| (tree.nodes.get(), tree.level)), Ok((1, 0))),
                _ => assert_eq!(tree, Err(OutOfPlaces)),
            }
        }
    }
}
