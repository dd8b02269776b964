//! Writing a node: items in, in ascending order, until no more fits; then the header and the hash.

use super::{
    CHILD_BYTES, DELETE_MARK, ENTRY_HEAD_BYTES, HEADER_BYTES, LEVEL_MAX, NODE_BYTES, NodeHeader,
    NodeRef, SLOT_BYTES, common_len,
};
use crate::filter::FilterRef;
use crate::ids::{TABLETS_MAX, TabletId};
use crate::item::VALUE_BYTES_MAX;
use crate::key::Key;
use crate::version::NODE_MAGIC;
use cairn_base::BlockNo;
use cairn_base::hash::xxh3;
use zerocopy::IntoBytes;
use zerocopy::little_endian::{U16, U32};

/// Fills one node from items in ascending order.
pub struct NodeBuilder<'a> {
    buf: &'a mut [u8; NODE_BYTES],
    tablet: TabletId,
    level: u8,
    count: usize,
    /// Where the entries begin; they grow downwards.
    heap_start: usize,
    first: Key,
    last: Key,
    filter: FilterRef,
}

impl<'a> NodeBuilder<'a> {
    /// `buf` is `NODE_BYTES` long and cleared here.
    pub fn new(buf: &'a mut [u8], tablet: TabletId, level: u8) -> NodeBuilder<'a> {
        assert!(level <= LEVEL_MAX, "no tree is that high");
        assert!(usize::from(tablet.0) < TABLETS_MAX, "no such tablet");
        let buf: &mut [u8; NODE_BYTES] = buf.try_into().expect("a node is NODE_BYTES long");
        buf.fill(0);
        NodeBuilder {
            buf,
            tablet,
            level,
            count: 0,
            heap_start: NODE_BYTES,
            first: Key::MIN,
            last: Key::MIN,
            filter: FilterRef::NONE,
        }
    }

    /// Adds an item; false, and nothing done, when the node has no room for it.
    pub fn try_push(&mut self, key: &Key, value: &[u8], delete: bool) -> bool {
        assert!(self.count == 0 || self.last < *key, "items come in ascending order");
        assert!(value.len() <= VALUE_BYTES_MAX, "no value is that large");
        assert!(!delete || (value.is_empty() && self.level == 0), "a deletion mark has no value");
        if self.level > 0 {
            assert!(value.len() == CHILD_BYTES, "an interior node holds references");
        } else {
            assert!(*key != Key::MIN, "an item has a key");
        }
        let bytes = key.as_bytes();
        let shared = if self.count == 0 { 0 } else { common_len(bytes, self.first.as_bytes()) };
        let suffix = &bytes[shared..];
        let entry_bytes = ENTRY_HEAD_BYTES + suffix.len() + value.len();
        let slot = HEADER_BYTES + self.count * SLOT_BYTES;
        if slot + SLOT_BYTES + entry_bytes > self.heap_start {
            return false;
        }
        let at = self.heap_start - entry_bytes;
        let mark = if delete { DELETE_MARK } else { 0 };
        let value_len = (value.len() as u16 | mark).to_le_bytes();
        let entry = &mut self.buf[at..self.heap_start];
        entry[..ENTRY_HEAD_BYTES].copy_from_slice(&[
            shared as u8,
            suffix.len() as u8,
            value_len[0],
            value_len[1],
        ]);
        let (suffix_part, value_part) = entry[ENTRY_HEAD_BYTES..].split_at_mut(suffix.len());
        suffix_part.copy_from_slice(suffix);
        value_part.copy_from_slice(value);
        self.buf[slot..slot + SLOT_BYTES].copy_from_slice(&(at as u16).to_le_bytes());
        if self.count == 0 {
            self.first = *key;
        }
        self.last = *key;
        self.heap_start = at;
        self.count += 1;
        true
    }

    /// Items so far.
    pub fn len(&self) -> usize {
        self.count
    }

    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Bytes of the node that are in use so far, header included.
    pub fn bytes_used(&self) -> usize {
        HEADER_BYTES + self.count * SLOT_BYTES + (NODE_BYTES - self.heap_start)
    }

    /// Names the filter over the lookup entries below this level-1 node.
    pub fn set_filter(&mut self, filter: FilterRef) {
        assert!(self.level == 1, "filters hang on bottom interior nodes");
        self.filter = filter;
    }

    /// Writes the header. The buffer is then what belongs at `block`, and the reference is what
    /// its parent keeps.
    pub fn finish(self, block: BlockNo, generation: u64) -> NodeRef {
        assert!(self.count > 0, "there is no empty node");
        let header = NodeHeader {
            magic: NODE_MAGIC.into(),
            block: block.raw().into(),
            generation: generation.into(),
            tablet: self.tablet.0.into(),
            level: self.level,
            flags: 0,
            item_count: (self.count as u16).into(),
            reserved: U16::ZERO,
            heap_used: ((NODE_BYTES - self.heap_start) as u32).into(),
            reserved_tail: U32::ZERO,
            filter: self.filter,
        };
        self.buf[..HEADER_BYTES].copy_from_slice(header.as_bytes());
        NodeRef::new(block, generation, xxh3(self.buf))
    }
}
