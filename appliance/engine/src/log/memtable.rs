//! A tablet's in-memory sorted changes that the write log protects.
//!
//! An entry answers for its key: a value, or "deleted". `fresh` marks a key that no tree below can
//! hold (a new seq, a new position): deleting such an entry leaves no mark behind, so that an inode
//! that changes a thousand times does not leave a thousand marks in the change index.

use cairn_format::key::Key;
use cairn_format::record::EditKind;
use std::cell::Cell;
use std::collections::BTreeMap;
use std::collections::btree_map::{Entry as Slot, Range};
use std::ops::Bound;
use std::rc::Rc;

#[derive(Clone, Debug)]
pub enum Entry {
    Put { value: Rc<[u8]>, fresh: bool },
    Delete,
}

impl Entry {
    fn bytes(&self) -> usize {
        match self {
            Entry::Put { value, .. } => value.len(),
            Entry::Delete => 0,
        }
    }
}

/// What a key and its map slot cost beside the value, roughly: for the budget, not for accounting.
const ENTRY_BYTES: usize = 96;

/// The memory of all memtables of a shard.
pub type MemtableBytes = Rc<Cell<usize>>;

pub struct Memtable {
    map: BTreeMap<Key, Entry>,
    bytes: usize,
    /// Of the shard; this table's bytes are among them.
    all: MemtableBytes,
    /// Item bytes as nodes will hold them.
    node_bytes: usize,
}

impl Drop for Memtable {
    fn drop(&mut self) {
        self.all.set(self.all.get() - self.bytes);
    }
}

impl Memtable {
    pub fn new(all: &MemtableBytes) -> Memtable {
        Memtable { map: BTreeMap::new(), bytes: 0, all: Rc::clone(all), node_bytes: 0 }
    }

    /// An empty table in the place of this one.
    pub fn replace(&mut self) -> Memtable {
        let empty = Memtable::new(&self.all);
        std::mem::replace(self, empty)
    }

    pub fn is_empty(&self) -> bool {
        self.map.is_empty()
    }

    pub fn len(&self) -> usize {
        self.map.len()
    }

    /// Memory held.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Bytes the items take in nodes, at most.
    pub fn node_bytes(&self) -> usize {
        self.node_bytes
    }

    pub fn get(&self, key: &Key) -> Option<&Entry> {
        self.map.get(key)
    }

    pub fn apply(&mut self, kind: EditKind, key: Key, value: Option<Rc<[u8]>>) {
        let before = self.bytes;
        match (kind, value) {
            (EditKind::Delete, _) => self.delete(key),
            (EditKind::Put, value) => self.put(key, value.unwrap_or_default(), false),
            (EditKind::PutNew, value) => self.put(key, value.unwrap_or_default(), true),
        }
        self.all.set(self.all.get() + self.bytes - before);
    }

    fn put(&mut self, key: Key, value: Rc<[u8]>, new: bool) {
        let cost = item_bytes(&key, value.len());
        self.bytes += ENTRY_BYTES + value.len();
        self.node_bytes += cost;
        match self.map.entry(key) {
            Slot::Vacant(slot) => {
                slot.insert(Entry::Put { value, fresh: new });
            }
            Slot::Occupied(mut slot) => {
                let old = slot.get();
                self.bytes -= ENTRY_BYTES + old.bytes();
                self.node_bytes -= item_bytes(&key, old.bytes());
                // A mark or a plain value here may hide one below; a fresh one cannot.
                let fresh = matches!(old, Entry::Put { fresh: true, .. });
                slot.insert(Entry::Put { value, fresh });
            }
        }
    }

    fn delete(&mut self, key: Key) {
        match self.map.entry(key) {
            Slot::Vacant(slot) => {
                slot.insert(Entry::Delete);
                self.bytes += ENTRY_BYTES;
                self.node_bytes += item_bytes(&key, 0);
            }
            Slot::Occupied(mut slot) => {
                let old = slot.get();
                self.bytes -= ENTRY_BYTES + old.bytes();
                self.node_bytes -= item_bytes(&key, old.bytes());
                if matches!(old, Entry::Put { fresh: true, .. }) {
                    slot.remove();
                } else {
                    slot.insert(Entry::Delete);
                    self.bytes += ENTRY_BYTES;
                    self.node_bytes += item_bytes(&key, 0);
                }
            }
        }
    }

    pub fn iter(&self) -> impl Iterator<Item = (&Key, &Entry)> {
        self.map.iter()
    }

    pub fn range(&self, from: Key, end: Key) -> Range<'_, Key, Entry> {
        self.map.range((Bound::Included(from), Bound::Excluded(end)))
    }
}

/// Slot, entry head, key and value of one item in a node.
pub fn item_bytes(key: &Key, value_len: usize) -> usize {
    6 + key.as_bytes().len() + value_len
}

#[cfg(test)]
mod tests {
    use super::*;
    use cairn_format::{InodeNo, Seq};

    #[test]
    fn a_fresh_key_leaves_no_mark_when_deleted() {
        let key = Key::meta_seq(Seq(1), InodeNo::ROOT);
        let all = MemtableBytes::default();
        let mut table = Memtable::new(&all);
        table.apply(EditKind::PutNew, key, None);
        table.apply(EditKind::Delete, key, None);
        assert!(table.is_empty());
        assert_eq!((table.bytes(), table.node_bytes(), all.get()), (0, 0, 0));
        table.apply(EditKind::Put, key, None);
        assert_eq!(all.get(), table.bytes());
        let full = table.replace();
        assert_eq!((table.bytes(), full.bytes()), (0, all.get()));
        drop(full);
        assert_eq!(all.get(), 0);
    }

    #[test]
    fn a_key_that_may_lie_below_keeps_its_mark() {
        let key = Key::inode(InodeNo::ROOT);
        let mut table = Memtable::new(&MemtableBytes::default());
        table.apply(EditKind::Delete, key, None);
        table.apply(EditKind::PutNew, key, Some(Rc::from(&b"x"[..])));
        table.apply(EditKind::Delete, key, None);
        assert!(matches!(table.get(&key), Some(Entry::Delete)));
    }
}
