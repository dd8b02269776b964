//! Packing sorted items into nodes, level by level, each node filled before the next begins.

use crate::error::FsError;
use crate::limits::NODE_UNIT;
use cairn_base::door::{Disk, Durability};
use cairn_base::{Arena, BlockNo, DmaBuf, DmaSlice, Run};
use cairn_format::TabletId;
use cairn_format::key::Key;
use cairn_format::node::{NODE_BYTES, NodeBuilder, NodeRef};
use cairn_format::tablet_root::TreeRef;
use std::collections::VecDeque;
use std::rc::Rc;

pub struct Item {
    pub key: Key,
    pub value: Rc<[u8]>,
    pub delete: bool,
}

/// Where new nodes go: whole node units of reserved runs, in order.
pub struct NodePlaces {
    left: VecDeque<Run>,
    used: Vec<Run>,
}

impl NodePlaces {
    /// Every run is a multiple of `NODE_UNIT` blocks.
    pub fn new(runs: impl IntoIterator<Item = Run>) -> NodePlaces {
        let left: VecDeque<Run> = runs.into_iter().collect();
        assert!(left.iter().all(|run| run.blocks % NODE_UNIT == 0), "runs are whole node units");
        NodePlaces { left, used: Vec::new() }
    }

    pub fn next(&mut self) -> BlockNo {
        self.take(NODE_UNIT).expect("the permit covers the bound on nodes").start
    }

    /// `blocks` contiguous blocks, rounded up to node units, from the run at the front or a later
    /// one.
    pub fn take(&mut self, blocks: u64) -> Option<Run> {
        let blocks = blocks.next_multiple_of(NODE_UNIT);
        let at = self.left.iter().position(|run| run.blocks >= blocks)?;
        let from = &mut self.left[at];
        let taken = Run::new(from.start, blocks);
        *from = Run::new(from.start.after(blocks), from.blocks - blocks);
        if from.blocks == 0 {
            self.left.remove(at);
        }
        match self.used.last_mut() {
            Some(last) if last.end() == taken.start => last.blocks += blocks,
            _ => self.used.push(taken),
        }
        Some(taken)
    }

    /// Nodes that there is still room for.
    pub fn nodes_left(&self) -> u64 {
        self.left.iter().map(|run| run.blocks / NODE_UNIT).sum()
    }

    pub fn used(&self) -> &[Run] {
        &self.used
    }
}

/// A packed node that waits to be written.
pub struct Built {
    pub block: BlockNo,
    pub buf: DmaBuf,
}

/// The bytes at which each node of these items is to end, so that all are about equally full. As they are
/// packed otherwise, what no longer fits a full node makes a thin one, and the full one is split again by
/// the next item.
pub fn even_fill(arena: &Arena, tablet: TabletId, level: u8, items: &[Item]) -> usize {
    let mut buf = arena.alloc(NODE_BYTES);
    let (mut nodes, mut bytes, mut last) = (0, 0, 0);
    let mut items = items.iter().peekable();
    while items.peek().is_some() {
        let mut builder = NodeBuilder::new(&mut buf, tablet, level);
        while items.next_if(|item| builder.try_push(&item.key, &item.value, item.delete)).is_some()
        {
        }
        assert!(!builder.is_empty(), "any one item fits an empty node");
        last = builder.bytes_used();
        bytes += last;
        nodes += 1;
    }
    if nodes < 2 || last > NODE_BYTES / 2 { NODE_BYTES } else { bytes.div_ceil(nodes) }
}

/// Packs one level, each node up to `fill` bytes. Gives (first key, reference) of each node, for the level
/// above.
#[expect(clippy::too_many_arguments, reason = "a node is named by all of them")]
pub fn pack_level(
    arena: &Arena,
    tablet: TabletId,
    generation: u64,
    level: u8,
    fill: usize,
    items: &mut dyn Iterator<Item = Item>,
    places: &mut NodePlaces,
    built: &mut Vec<Built>,
) -> Vec<(Key, NodeRef)> {
    let mut items = items.peekable();
    let mut nodes = Vec::new();
    while let Some(first) = items.peek() {
        let first_key = first.key;
        let mut buf = arena.alloc(NODE_BYTES);
        let mut builder = NodeBuilder::new(&mut buf, tablet, level);
        while builder.bytes_used() < fill
            && let Some(item) =
                items.next_if(|item| builder.try_push(&item.key, &item.value, item.delete))
        {
            drop(item);
        }
        assert!(!builder.is_empty(), "any one item fits an empty node");
        let block = places.next();
        nodes.push((first_key, builder.finish(block, generation)));
        built.push(Built { block, buf });
    }
    nodes
}

/// The items that name `nodes` in the level above.
pub fn parents(nodes: Vec<(Key, NodeRef)>) -> impl Iterator<Item = Item> {
    nodes.into_iter().map(|(key, node)| Item {
        key,
        value: zerocopy::IntoBytes::as_bytes(&node).into(),
        delete: false,
    })
}

/// Packs a whole tree. An empty iterator gives the empty tree.
pub fn pack_tree(
    arena: &Arena,
    tablet: TabletId,
    generation: u64,
    items: &mut dyn Iterator<Item = Item>,
    places: &mut NodePlaces,
    built: &mut Vec<Built>,
) -> TreeRef {
    let before = built.len();
    let mut count = 0u64;
    let mut counted = items.inspect(|_| count += 1);
    let mut nodes =
        pack_level(arena, tablet, generation, 0, NODE_BYTES, &mut counted, places, built);
    let mut level = 0;
    while nodes.len() > 1 {
        level += 1;
        let mut above = parents(nodes);
        nodes = pack_level(arena, tablet, generation, level, NODE_BYTES, &mut above, places, built);
    }
    let Some((_, root)) = nodes.pop() else { return TreeRef::EMPTY };
    let nodes = (built.len() - before) as u64;
    TreeRef { root, items: count.into(), nodes: nodes.into(), level, reserved: [0; 7] }
}

/// Bytes of one write when nodes go out.
const WRITE_BYTES: usize = 1 << 20;

/// Writes packed nodes, contiguous ones together, without waiting for durability: the caller
/// flushes before anything names them.
pub async fn write_nodes<K: Disk>(disk: &K, built: Vec<Built>) -> Result<(), FsError> {
    let mut pending: Vec<DmaSlice> = Vec::new();
    let mut start = None;
    let mut end = BlockNo::from_raw(0);
    for Built { block, buf } in built {
        let full = pending.len() * NODE_BYTES >= WRITE_BYTES;
        if (full || block != end)
            && let Some(at) = start.take()
        {
            write_at(disk, at, std::mem::take(&mut pending)).await?;
        }
        start.get_or_insert(block);
        end = block.after(buf.len() as u64 / cairn_base::BLOCK_BYTES as u64);
        pending.push(DmaSlice::whole(buf));
    }
    match start {
        Some(at) => write_at(disk, at, pending).await,
        None => Ok(()),
    }
}

async fn write_at<K: Disk>(disk: &K, at: BlockNo, bufs: Vec<DmaSlice>) -> Result<(), FsError> {
    let wrote = disk.write(at, bufs, Durability::Cached).await;
    wrote.map_err(|error| FsError::Media { block: at, error })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn items(count: u64) -> Vec<Item> {
        let key =
            |n| Key::inode(cairn_format::InodeNo::from_raw((n + 1) * 4096 + 1).expect("no zero"));
        (0..count).map(|n| Item { key: key(n), value: [7; 100].into(), delete: false }).collect()
    }

    fn pack(items: Vec<Item>, fill: usize) -> Vec<usize> {
        let arena = Arena::heap();
        let mut places = NodePlaces::new([Run::new(BlockNo::from_raw(0), 40 * NODE_UNIT)]);
        let mut built = Vec::new();
        let mut items = items.into_iter();
        let tablet = TabletId(1);
        pack_level(&arena, tablet, 1, 0, fill, &mut items, &mut places, &mut built);
        built.iter().map(|node| cairn_format::node::Node::trusted(&node.buf).count()).collect()
    }

    #[test]
    fn what_does_not_fit_one_node_any_more_is_split_evenly() {
        let whole = pack(items(1000), NODE_BYTES)[0] as u64;
        for (count, nodes) in [(whole, 1), (whole + 1, 2), (2 * whole + 3, 3)] {
            let fill = even_fill(&Arena::heap(), TabletId(1), 0, &items(count));
            let counts = pack(items(count), fill);
            assert_eq!(counts.len(), nodes, "{count} items");
            let (least, most) = (counts.iter().min(), counts.iter().max());
            assert!(most.unwrap() - least.unwrap() <= 4, "{counts:?}");
        }
    }
}
