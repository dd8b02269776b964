//! The node of a B-tree: 16 KiB of sorted items, or of references to children.
//!
//! A node is written once and never changed: building one (`NodeBuilder`) and reading one (`Node`)
//! share no state. Behind the header stands an array of 16-bit offsets in key order, and from the
//! end of the node downwards the entries, without gaps:
//!
//! ```text
//! [shared u8][suffix length u8][value length u16, top bit: deletion mark][suffix][value]
//! ```
//!
//! `shared` counts the bytes that the key has in common with the node's *first* key, not with its
//! neighbour: any key is rebuilt from two places, so binary search works, and most of an inode
//! number is still stored once a node. It is always the most there is in common. That makes it
//! order as well: along the node it only falls, and of the key looked up only the bytes behind its
//! own common front are compared, with entries whose `shared` is exactly that.
//!
//! An interior node's keys are the smallest that its children may hold (the first may be
//! `Key::MIN`), its values are references. A reference (`NodeRef`) carries place, generation and
//! hash of the child, so one read tells a lost, torn or misdirected write; `parse` checks all of
//! that and every offset, and what it passed may be read without further checks (`trusted`).
//! There is no empty node: a tree without items has no root.

mod build;
mod check;

pub use build::NodeBuilder;

use crate::damage::Damage;
use crate::filter::FilterRef;
use crate::ids::TabletId;
use crate::item::VALUE_BYTES_MAX;
use crate::key::{KEY_BYTES_MAX, Key};
use crate::version::NODE_MAGIC;
use cairn_base::hash::xxh3;
use cairn_base::{BLOCK_BYTES, BlockNo, Run};
use std::cmp::Ordering;
use zerocopy::little_endian::{U16, U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

pub const NODE_BYTES: usize = 16384;
pub const NODE_BLOCKS: u64 = (NODE_BYTES / BLOCK_BYTES) as u64;
/// Above what any tree reaches: a full node has far more than three children.
pub const LEVEL_MAX: u8 = 15;

const HEADER_BYTES: usize = size_of::<NodeHeader>();
const SLOT_BYTES: usize = 2;
const ENTRY_HEAD_BYTES: usize = 4;
const CHILD_BYTES: usize = size_of::<NodeRef>();
const DELETE_MARK: u16 = 0x8000;

// Three items of the largest size fit, so that a split always has something on both sides.
const _: () = assert!(
    HEADER_BYTES + 3 * (SLOT_BYTES + ENTRY_HEAD_BYTES + KEY_BYTES_MAX + VALUE_BYTES_MAX)
        <= NODE_BYTES
);
const _: () = assert!(VALUE_BYTES_MAX < DELETE_MARK as usize);

/// A parent's reference to a child: where it is, how old it is and what it hashes to.
#[derive(
    FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned, Clone, Copy, Debug, PartialEq, Eq,
)]
#[repr(C)]
pub struct NodeRef {
    pub block: U64,
    /// Root generation in which it was written.
    pub generation: U64,
    /// XXH3-64 of the whole node.
    pub hash: U64,
}

const _: () = assert!(size_of::<NodeRef>() == 24);

impl NodeRef {
    pub const NONE: NodeRef = NodeRef { block: U64::ZERO, generation: U64::ZERO, hash: U64::ZERO };

    pub fn new(block: BlockNo, generation: u64, hash: u64) -> NodeRef {
        NodeRef { block: block.raw().into(), generation: generation.into(), hash: hash.into() }
    }

    pub fn block_no(&self) -> BlockNo {
        BlockNo::from_raw(self.block.get())
    }

    /// Names no node: block 0 of device 0 never holds one.
    pub fn is_none(&self) -> bool {
        self.block.get() == 0 && self.hash.get() == 0
    }

    /// A node that a reference names is on a device as a whole.
    pub(crate) fn check(&self) -> Result<(), Damage> {
        match Run::parse(self.block_no(), NODE_BLOCKS) {
            Some(_) => Ok(()),
            None => Err(Damage::Bounds("node reference")),
        }
    }
}

#[derive(
    FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned, Clone, Copy, Debug, PartialEq, Eq,
)]
#[repr(C)]
pub struct NodeHeader {
    pub magic: U64,
    /// The place this node was written for.
    pub block: U64,
    pub generation: U64,
    pub tablet: U16,
    /// 0 in a leaf.
    pub level: u8,
    pub flags: u8,
    pub item_count: U16,
    pub reserved: U16,
    /// Bytes of the entries at the end of the node.
    pub heap_used: U32,
    pub reserved_tail: U32,
    /// Over the lookup entries below a level-1 node of an fs tree; none elsewhere.
    pub filter: FilterRef,
}

const _: () = assert!(size_of::<NodeHeader>() == 64);

/// A node that can be read.
#[derive(Clone, Copy)]
pub struct Node<'a> {
    bytes: &'a [u8; NODE_BYTES],
}

/// One entry as it stands in the node.
#[derive(Clone, Copy)]
struct Entry<'a> {
    shared: usize,
    suffix: &'a [u8],
    value: &'a [u8],
    delete: bool,
}

impl<'a> Entry<'a> {
    /// The first entry carries its key whole; seen like the others, it shares all of it.
    fn relative_to(self, first: &[u8]) -> Entry<'a> {
        Entry { shared: first.len(), suffix: &[], ..self }
    }
}

impl<'a> Node<'a> {
    /// Checks that `bytes` are the node that `want` names, whole and in order. What can be said
    /// about the node's identity is checked before its hash, so that the damage tells what happened.
    pub fn parse(bytes: &'a [u8], want: &NodeRef) -> Result<Node<'a>, Damage> {
        let bytes: &[u8; NODE_BYTES] =
            bytes.try_into().map_err(|_| Damage::Bounds("node length"))?;
        let (header, _) =
            NodeHeader::ref_from_prefix(bytes).map_err(|_| Damage::Bounds("node length"))?;
        if header.magic.get() != NODE_MAGIC {
            return Err(Damage::Magic { found: header.magic.get() });
        }
        if header.block != want.block {
            return Err(Damage::Misdirected { claims: header.block.get() });
        }
        if header.generation.get() < want.generation.get() {
            return Err(Damage::Stale { found: header.generation.get() });
        }
        if xxh3(bytes) != want.hash.get() {
            return Err(Damage::Hash);
        }
        if header.generation != want.generation {
            return Err(Damage::Value("node generation"));
        }
        check::header(header)?;
        check::entries(bytes, header)?;
        Ok(Node { bytes })
    }

    /// For bytes that `parse` has passed and that nobody could change since: no checks are made.
    /// On other bytes any method may panic or answer nonsense.
    pub fn trusted(bytes: &'a [u8]) -> Node<'a> {
        Node { bytes: bytes.try_into().expect("a node is NODE_BYTES long") }
    }

    pub fn header(&self) -> &'a NodeHeader {
        let (header, _) = NodeHeader::ref_from_prefix(self.bytes).expect("a node has a header");
        header
    }

    pub fn tablet(&self) -> TabletId {
        TabletId(self.header().tablet.get())
    }

    pub fn level(&self) -> u8 {
        self.header().level
    }

    pub fn is_leaf(&self) -> bool {
        self.level() == 0
    }

    pub fn count(&self) -> usize {
        usize::from(self.header().item_count.get())
    }

    /// Bytes of the node that are in use.
    pub fn bytes_used(&self) -> usize {
        HEADER_BYTES + self.count() * SLOT_BYTES + self.header().heap_used.get() as usize
    }

    /// The filter over the lookup entries below.
    pub fn filter(&self) -> Option<FilterRef> {
        let filter = self.header().filter;
        (!filter.is_none()).then_some(filter)
    }

    pub fn key(&self, index: usize) -> Key {
        let (_, first) = self.key_part(0);
        if index == 0 {
            return Key::from_bytes(first).expect("parse checked the key");
        }
        let (shared, suffix) = self.key_part(index);
        Key::from_parts(&first[..shared], suffix).expect("parse checked the key")
    }

    pub fn value(&self, index: usize) -> &'a [u8] {
        self.entry(index).value
    }

    /// The value, unless the item is a deletion mark.
    pub fn value_if_any(&self, index: usize) -> Option<&'a [u8]> {
        let entry = self.entry(index);
        (!entry.delete).then_some(entry.value)
    }

    /// The item says that its key is deleted in older trees.
    pub fn is_delete(&self, index: usize) -> bool {
        self.entry(index).delete
    }

    /// The index of `key`, or where it would stand.
    pub fn search(&self, key: &Key) -> Result<usize, usize> {
        let target = key.as_bytes();
        let (_, first) = self.key_part(0);
        let common = common_len(target, first);
        if target[common..] < first[common..] {
            return Err(0);
        }
        let (mut low, mut high) = (0, self.count());
        while low < high {
            let middle = low + (high - low) / 2;
            // The first entry carries its key whole; seen like the others, it shares all of it.
            let (shared, suffix) = match middle {
                0 => (first.len(), &[][..]),
                _ => self.key_part(middle),
            };
            // An entry that shares more with the first key than the target does stands before it,
            // one that shares less behind it.
            let order = common.cmp(&shared).then_with(|| suffix.cmp(&target[common..]));
            match order {
                Ordering::Less => low = middle + 1,
                Ordering::Equal => return Ok(middle),
                Ordering::Greater => high = middle,
            }
        }
        Err(low)
    }

    /// The first index whose key is not below `key`; `count()` when there is none.
    pub fn lower_bound(&self, key: &Key) -> usize {
        match self.search(key) {
            Ok(index) | Err(index) => index,
        }
    }

    /// The reference at `index` of an interior node.
    pub fn child(&self, index: usize) -> NodeRef {
        NodeRef::read_from_bytes(self.value(index)).expect("parse checked the reference")
    }

    /// The child whose range `key` falls into: the last that begins at or below it, else the first.
    pub fn child_for(&self, key: &Key) -> usize {
        match self.search(key) {
            Ok(index) => index,
            Err(index) => index.saturating_sub(1),
        }
    }

    fn entry(&self, index: usize) -> Entry<'a> {
        let (entry, _) =
            read_entry(&self.bytes[self.place(index)..]).expect("parse checked the entry");
        entry
    }

    /// What of an entry's key is in the entry: how much the first key gives, and the rest.
    fn key_part(&self, index: usize) -> (usize, &'a [u8]) {
        let head = self.place(index);
        let suffix = head + ENTRY_HEAD_BYTES;
        let suffix = &self.bytes[suffix..suffix + usize::from(self.bytes[head + 1])];
        (usize::from(self.bytes[head]), suffix)
    }

    fn place(&self, index: usize) -> usize {
        assert!(index < self.count(), "an item behind the node's last");
        let slot = HEADER_BYTES + index * SLOT_BYTES;
        usize::from(u16::from_le_bytes([self.bytes[slot], self.bytes[slot + 1]]))
    }
}

impl std::fmt::Debug for Node<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let header = self.header();
        f.debug_struct("Node")
            .field("block", &BlockNo::from_raw(header.block.get()))
            .field("generation", &header.generation.get())
            .field("level", &header.level)
            .field("count", &header.item_count.get())
            .finish()
    }
}

/// The entry at the front of `bytes`, and what lies behind it.
fn read_entry(bytes: &[u8]) -> Option<(Entry<'_>, &[u8])> {
    let (head, rest) = bytes.split_first_chunk::<ENTRY_HEAD_BYTES>()?;
    let [shared, suffix_len, value_low, value_high] = *head;
    let value_len = u16::from_le_bytes([value_low, value_high]);
    let (suffix, rest) = rest.split_at_checked(usize::from(suffix_len))?;
    let (value, rest) = rest.split_at_checked(usize::from(value_len & !DELETE_MARK))?;
    let delete = value_len & DELETE_MARK != 0;
    Some((Entry { shared: usize::from(shared), suffix, value, delete }, rest))
}

fn common_len(a: &[u8], b: &[u8]) -> usize {
    let (words_a, _) = a.as_chunks::<8>();
    let (words_b, _) = b.as_chunks::<8>();
    for (index, (a, b)) in words_a.iter().zip(words_b).enumerate() {
        let difference = u64::from_le_bytes(*a) ^ u64::from_le_bytes(*b);
        if difference != 0 {
            return index * 8 + difference.trailing_zeros() as usize / 8;
        }
    }
    let words = words_a.len().min(words_b.len()) * 8;
    let (rest_a, rest_b) = (&a[words..], &b[words..]);
    words + rest_a.iter().zip(rest_b).take_while(|(a, b)| a == b).count()
}
