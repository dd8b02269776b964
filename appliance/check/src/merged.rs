//! A tablet's items as a reader would see them: the youngest of memtable, log trees and fs tree wins
//! each key, and a deletion hides what is older.

use crate::replay::{Memtable, TabletState};
use crate::report::{Object, TreeName};
use crate::tree::{Ground, Walk};
use cairn_base::door::Disk;
use cairn_format::filter::FilterRef;
use cairn_format::{Key, Seq};
use std::collections::btree_map;
use std::iter::Peekable;

pub(crate) struct Merged<'a, K> {
    ground: &'a Ground<'a, K>,
    memtable: Peekable<btree_map::Range<'a, Key, crate::replay::Change>>,
    /// Youngest first; the fs tree last.
    trees: Vec<Walk<'a, K>>,
    /// The seq that each of them claims to have nothing newer than.
    newest: Vec<Seq>,
    /// What lies before it in the oldest log tree is in the fs tree already.
    folded_to: Option<Key>,
    thorough: bool,
}

/// What the two trees of a fold have at one key; a deletion mark is a `None` inside.
#[derive(Default)]
struct Folding {
    oldest: Option<Option<Box<[u8]>>>,
    fs: Option<Box<[u8]>>,
}

impl Folding {
    fn take<K: Disk>(&mut self, tree: &Walk<'_, K>, value: &[u8], delete: bool) {
        let value = || (!delete).then(|| value.into());
        match tree.name() {
            TreeName::Log(0) => self.oldest = Some(value()),
            TreeName::Fs => self.fs = value(),
            TreeName::Log(_) => {}
        }
    }

    fn is_done(&self) -> bool {
        self.oldest.as_ref().is_none_or(|oldest| *oldest == self.fs)
    }
}

/// One item, and where it came from.
pub(crate) struct Item {
    pub key: Key,
    pub value: Box<[u8]>,
    pub from_log: bool,
}

impl<'a, K: Disk> Merged<'a, K> {
    /// All items, with every node verified.
    pub async fn begin(ground: &'a Ground<'a, K>, state: &'a TabletState) -> Merged<'a, K> {
        let mut trees = Vec::new();
        if let Some(root) = &state.root {
            for (index, entry) in root.log_trees().iter().enumerate().rev() {
                let name = TreeName::Log(index);
                trees.push(Walk::begin(ground, name, entry.tree, entry.filter).await);
            }
            trees.push(Walk::begin(ground, TreeName::Fs, root.fs, FilterRef::NONE).await);
        }
        let mut merged = Merged::over(ground, &state.memtable, Key::MIN, trees, true);
        if let Some(root) = &state.root {
            merged.folded_to = root.fold_cursor();
            let log_trees = root.log_trees().iter().rev().map(|entry| entry.frozen_seq);
            let claims = log_trees.chain([root.folded_seq]).map(|seq| Seq(seq.get()));
            merged.newest = claims.collect();
            if !merged.newest.is_sorted_by(|younger, older| younger >= older) {
                let object = Object::Tablet(state.id);
                ground.findings.note("root", object, "says that an older tree has newer entries");
            }
            if merged.folded_to.is_some() && root.log_trees().is_empty() {
                let object = Object::Tablet(state.id);
                ground.findings.note("tree", object, "has a fold under way and no log tree");
            }
        }
        merged
    }

    /// Items from `key` on; nothing is verified twice or reported.
    pub async fn seek(
        ground: &'a Ground<'a, K>,
        state: &'a TabletState,
        key: &Key,
    ) -> Merged<'a, K> {
        let mut trees = Vec::new();
        if let Some(root) = &state.root {
            for (index, entry) in root.log_trees().iter().enumerate().rev() {
                trees.push(Walk::seek(ground, TreeName::Log(index), entry.tree, key).await);
            }
            trees.push(Walk::seek(ground, TreeName::Fs, root.fs, key).await);
        }
        Merged::over(ground, &state.memtable, *key, trees, false)
    }

    fn over(
        ground: &'a Ground<'a, K>,
        memtable: &'a Memtable,
        from: Key,
        trees: Vec<Walk<'a, K>>,
        thorough: bool,
    ) -> Merged<'a, K> {
        let memtable = memtable.range(from..).peekable();
        Merged { ground, memtable, trees, newest: Vec::new(), folded_to: None, thorough }
    }

    pub fn is_whole(&self) -> bool {
        self.trees.iter().all(Walk::is_whole)
    }

    /// The next item that is not deleted.
    pub async fn next(&mut self) -> Option<Item> {
        loop {
            let in_memory = self.memtable.peek().map(|(key, _)| **key);
            let in_trees = self.trees.iter().filter_map(|tree| tree.peek().map(|(key, _, _)| key));
            let key = in_memory.into_iter().chain(in_trees).min()?;
            let change = self.memtable.next_if(|(of, _)| **of == key).map(|(_, change)| change);
            let mut found: Option<Option<Box<[u8]>>> = change.map(|change| change.value.clone());
            let mut below: Option<bool> = None;
            let is_folded = self.folded_to.is_some_and(|cursor| key < cursor);
            let mut folding = Folding::default();
            let seq = key.index_seq();
            for (nth, tree) in self.trees.iter_mut().enumerate() {
                let Some((at, value, delete)) = tree.peek() else { continue };
                if at != key {
                    continue;
                }
                if let (Some(seq), Some(newest)) = (seq, self.newest.get(nth))
                    && seq > *newest
                    && !delete
                {
                    let object = Object::Item(self.ground.tablet, key);
                    let detail =
                        format!("the root says {} has nothing above {newest}", tree.name());
                    self.ground.findings.note("index", object, detail);
                }
                below = below.or(Some(!delete));
                if is_folded {
                    folding.take(tree, value, delete);
                }
                if found.is_none() {
                    found = Some((!delete).then(|| value.into()));
                }
                tree.step().await;
            }
            if self.thorough && below == Some(true) && change.is_some_and(|change| change.fresh) {
                let object = Object::Item(self.ground.tablet, key);
                let detail = "the log says that it is new, but a tree holds it already";
                self.ground.findings.note("log", object, detail);
            }
            if !folding.is_done() && self.is_whole() {
                let object = Object::Item(self.ground.tablet, key);
                let detail = "was folded, and the fs tree has it otherwise";
                self.ground.findings.note("tree", object, detail);
            }
            if let Some(Some(value)) = found {
                return Some(Item { key, value, from_log: change.is_some() });
            }
        }
    }

    /// At the end: the trees' own counts.
    pub fn finish(&self) {
        self.trees.iter().for_each(Walk::finish);
    }
}
