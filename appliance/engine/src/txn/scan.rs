//! A tablet's items in key order, as the view's own edits, the memtables and the trees have them
//! together. The youngest source wins a key; its deletion marks hide what lies below.
//!
//! Most ranges are short and most sources have nothing in them. So each source's current key is read
//! once and kept beside it, and a source that is behind the range leaves at once. Most changes are to
//! inodes that were made a moment ago: what is older than an inode has none of its items, so it is not
//! asked. That an inode is no older than a memtable is what the memtable knows of its inode item
//! (`fresh`): the number was new when the item came in, and all its other items came with it or later.

use super::view::{PendingEdit, Stop, View};
use crate::block::Nodes;
use crate::log::{Entry, Memtable};
use crate::tree::Cursor;
use cairn_format::key::{Key, RANGE_INODE};
use cairn_format::{InodeNo, Seq, TabletId};
use smallvec::SmallVec;
use std::cmp::Ordering;
use std::collections::btree_map::Range;
use std::ops::{Bound, ControlFlow};

/// A key with a copy of its value.
pub type OwnedItem = (Key, Box<[u8]>);

#[derive(Clone, Copy, PartialEq, Eq)]
enum Way {
    Up,
    Down,
}

enum Source<'s> {
    Edits(Range<'s, (TabletId, Key), PendingEdit>, Option<&'s PendingEdit>),
    Table(Range<'s, Key, Entry>, Option<&'s Entry>),
    Tree(Cursor),
}

/// A source and the key it is at.
struct Head<'s> {
    key: Key,
    source: Source<'s>,
}

/// Youngest first; a source that has nothing more in the range is not among them.
type Heads<'s> = SmallVec<[Head<'s>; 4]>;

impl<'s> Source<'s> {
    /// At its first key in the range, if there is one.
    fn begin(mut self, way: Way, range: &(Key, Key)) -> Option<Head<'s>> {
        let key = match &self {
            Source::Tree(cursor) => cursor.key(),
            _ => self.next_in_memory(way),
        };
        let key = key.filter(|key| *key >= range.0 && *key < range.1)?;
        Some(Head { key, source: self })
    }

    fn next_in_memory(&mut self, way: Way) -> Option<Key> {
        match self {
            Source::Edits(edits, at) => {
                let next = if way == Way::Up { edits.next() } else { edits.next_back() };
                *at = next.map(|(_, edit)| edit);
                next.map(|((_, key), _)| *key)
            }
            Source::Table(table, at) => {
                let next = if way == Way::Up { table.next() } else { table.next_back() };
                *at = next.map(|(_, entry)| entry);
                next.map(|(key, _)| *key)
            }
            Source::Tree(cursor) => cursor.key(),
        }
    }

    fn step(&mut self, nodes: Nodes<'_>, way: Way) -> Result<Option<Key>, Stop> {
        if let Source::Tree(cursor) = self {
            match way {
                Way::Up => cursor.step(nodes)?,
                Way::Down => cursor.step_back(nodes)?,
            }
        }
        Ok(self.next_in_memory(way))
    }

    /// The current value, unless it is a deletion mark.
    fn value(&self) -> Option<&[u8]> {
        match self {
            Source::Edits(_, at) => at.and_then(|edit| edit.value.as_deref()),
            Source::Table(_, Some(Entry::Put { value, .. })) => Some(value),
            Source::Table(..) => None,
            Source::Tree(cursor) => cursor.value(),
        }
    }
}

/// The inode that all items of the range belong to.
fn only_inode((from, end): &(Key, Key)) -> Option<InodeNo> {
    let (range, rest) = from.as_bytes().split_first()?;
    let inode = InodeNo::from_raw(u64::from_be_bytes(*rest.first_chunk()?))?;
    let is_only = *range == RANGE_INODE && *end <= Key::of_inode(inode).prefix_end();
    is_only.then_some(inode)
}

/// Entries of the range are no older, where it lies in a seq index.
fn oldest_seq((from, end): &(Key, Key)) -> Option<Seq> {
    let (from_range, end_range) = (from.as_bytes().first(), end.as_bytes().first());
    from.index_seq().filter(|_| from_range == end_range)
}

/// Whether nothing older than the table has items of this inode.
fn is_made_in(table: &Memtable, inode: Option<InodeNo>) -> bool {
    let item = inode.and_then(|inode| table.get(&Key::inode(inode)));
    matches!(item, Some(Entry::Put { fresh: true, .. }))
}

impl View<'_> {
    /// Shows `each` the items of `from..end` in order, until it breaks.
    pub fn scan(
        &self,
        tablet: TabletId,
        from: Key,
        end: Key,
        each: impl FnMut(Key, &[u8]) -> ControlFlow<()>,
    ) -> Result<(), Stop> {
        self.walk(Way::Up, tablet, (from, end), each)
    }

    /// The first item of `from..end`.
    pub fn first(&self, tablet: TabletId, from: Key, end: Key) -> Result<Option<OwnedItem>, Stop> {
        self.outermost(Way::Up, tablet, (from, end))
    }

    /// The last item of `from..end`.
    pub fn last(&self, tablet: TabletId, from: Key, end: Key) -> Result<Option<OwnedItem>, Stop> {
        self.outermost(Way::Down, tablet, (from, end))
    }

    fn outermost(
        &self,
        way: Way,
        tablet: TabletId,
        range: (Key, Key),
    ) -> Result<Option<OwnedItem>, Stop> {
        let mut found = None;
        self.walk(way, tablet, range, |key, value| {
            found = Some((key, value.into()));
            ControlFlow::Break(())
        })?;
        Ok(found)
    }

    fn walk(
        &self,
        way: Way,
        tablet: TabletId,
        range: (Key, Key),
        mut each: impl FnMut(Key, &[u8]) -> ControlFlow<()>,
    ) -> Result<(), Stop> {
        let (from, end) = range;
        if from >= end {
            return Ok(());
        }
        let owner = self.tablet(tablet);
        let nodes = self.nodes();
        let active = owner.active.borrow();
        let frozen = owner.frozen.borrow();
        let root = owner.root.borrow();
        let mut heads = Heads::new();
        if !self.edits.is_empty() {
            let bounds = (Bound::Included((tablet, from)), Bound::Excluded((tablet, end)));
            heads.extend(Source::Edits(self.edits.range(bounds), None).begin(way, &range));
        }
        heads.extend(Source::Table(active.range(from, end), None).begin(way, &range));
        let inode = only_inode(&range);
        let mut is_made = is_made_in(&active, inode);
        if let Some(frozen) = frozen.as_deref().filter(|_| !is_made) {
            heads.extend(Source::Table(frozen.range(from, end), None).begin(way, &range));
            is_made = is_made_in(frozen, inode);
        }
        let log_trees = root.log_trees.iter().rev().map(|tree| &tree.entry);
        let log_trees = log_trees.map(|entry| (&entry.tree, Seq(entry.frozen_seq.get())));
        let oldest = oldest_seq(&range);
        for (tree, newest) in log_trees.chain([(&root.fs, root.folded_seq)]) {
            if is_made || oldest > Some(newest) {
                // Nor has any older tree what is asked for.
                break;
            }
            let cursor = match way {
                Way::Up => Cursor::seek(nodes, tree, &from, &end)?,
                Way::Down => Cursor::seek_back(nodes, tree, &from, &end)?,
            };
            heads.extend(Source::Tree(cursor).begin(way, &range));
        }
        let foremost = if way == Way::Up { Ordering::Less } else { Ordering::Greater };
        loop {
            let mut keys = heads.iter().map(|head| head.key);
            let Some(first) = keys.next() else { return Ok(()) };
            let next = keys.fold(first, |a, b| if b.cmp(&a) == foremost { b } else { a });
            let youngest = heads.iter().find(|head| head.key == next);
            if let Some(value) = youngest.and_then(|head| head.source.value())
                && each(next, value).is_break()
            {
                return Ok(());
            }
            let mut at = 0;
            while let Some(head) = heads.get_mut(at) {
                if head.key == next {
                    match head.source.step(nodes, way)?.filter(|key| *key >= from && *key < end) {
                        Some(key) => head.key = key,
                        None => {
                            heads.remove(at);
                            continue;
                        }
                    }
                }
                at += 1;
            }
        }
    }
}
