//! A tablet's items in key order, as the view's own edits, the memtables and the trees have them
//! together. The youngest source wins a key; its deletion marks hide what lies below.

use super::view::{Stop, View};
use crate::block::Nodes;
use crate::log::{Entry, Memtable};
use crate::tree::Cursor;
use cairn_format::TabletId;
use cairn_format::key::Key;
use std::collections::btree_map;
use std::iter::Peekable;
use std::ops::{Bound, ControlFlow};

/// A key with a copy of its value.
pub type OwnedItem = (Key, Box<[u8]>);

enum Source<'s> {
    Edits(Peekable<btree_map::Range<'s, (TabletId, Key), super::view::PendingEdit>>),
    Table(Peekable<btree_map::Range<'s, Key, Entry>>),
    Tree(Cursor),
}

impl Source<'_> {
    fn key(&mut self) -> Option<Key> {
        match self {
            Source::Edits(edits) => edits.peek().map(|((_, key), _)| *key),
            Source::Table(table) => table.peek().map(|(key, _)| **key),
            Source::Tree(cursor) => cursor.peek().map(|(key, _, _)| key),
        }
    }

    fn step(&mut self, nodes: Nodes<'_>) -> Result<(), Stop> {
        match self {
            Source::Edits(edits) => drop(edits.next()),
            Source::Table(table) => drop(table.next()),
            Source::Tree(cursor) => cursor.step(nodes)?,
        }
        Ok(())
    }

    /// The current value, unless it is a deletion mark.
    fn value(&mut self) -> Option<&[u8]> {
        match self {
            Source::Edits(edits) => edits.peek().and_then(|(_, edit)| edit.value.as_deref()),
            Source::Table(table) => match table.peek() {
                Some((_, Entry::Put { value, .. })) => Some(value),
                _ => None,
            },
            Source::Tree(cursor) => match cursor.peek() {
                Some((_, value, false)) => Some(value),
                _ => None,
            },
        }
    }
}

impl View<'_> {
    /// Shows `each` the items of `from..end` in order, until it breaks.
    pub fn scan(
        &self,
        tablet: TabletId,
        from: Key,
        end: Key,
        mut each: impl FnMut(Key, &[u8]) -> ControlFlow<()>,
    ) -> Result<(), Stop> {
        let owner = self.tablet(tablet);
        let nodes = self.nodes();
        let active = owner.active.borrow();
        let frozen = owner.frozen.borrow();
        let root = owner.root.borrow();
        let edits =
            self.edits.range((Bound::Included((tablet, from)), Bound::Excluded((tablet, end))));
        let table = |table: &'_ Memtable| -> bool { !table.is_empty() };
        let mut sources = vec![Source::Edits(edits.peekable())];
        if table(&active) {
            sources.push(Source::Table(active.range_from(from).peekable()));
        }
        if let Some(frozen) = frozen.as_deref() {
            sources.push(Source::Table(frozen.range_from(from).peekable()));
        }
        for tree in root.log_trees.iter().rev() {
            sources.push(Source::Tree(Cursor::seek(nodes, &tree.entry.tree, &from)?));
        }
        sources.push(Source::Tree(Cursor::seek(nodes, &root.fs, &from)?));
        loop {
            let keys: Vec<Option<Key>> = sources.iter_mut().map(Source::key).collect();
            let Some(least) = keys.iter().flatten().min().copied() else { return Ok(()) };
            if least >= end {
                return Ok(());
            }
            let mut shown = false;
            for (source, key) in sources.iter_mut().zip(&keys) {
                if *key != Some(least) {
                    continue;
                }
                if !shown {
                    shown = true;
                    if let Some(value) = source.value()
                        && each(least, value).is_break()
                    {
                        return Ok(());
                    }
                }
                source.step(nodes)?;
            }
        }
    }

    /// The first item of `from..end`.
    pub fn first(&self, tablet: TabletId, from: Key, end: Key) -> Result<Option<OwnedItem>, Stop> {
        let mut found = None;
        self.scan(tablet, from, end, |key, value| {
            found = Some((key, value.into()));
            ControlFlow::Break(())
        })?;
        Ok(found)
    }
}
