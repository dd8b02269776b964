//! Where the tablets of a shard are in a pass and what was found in them: in memory, and as items.
//!
//! The items are what counts after a restart. Each record has the place beside findings, so that none is of
//! a pass that the tablet does not know, and the cursor moves with the last of what was found before it.
//! When the tablet is done, what earlier passes had found there and this one has not goes.
//!
//! A pool without space, or a damaged node where these items lie, keeps nobody from scrubbing: what cannot
//! be written or read stays in memory, and the report says so. How much is listed of a tablet is bounded;
//! the rest is counted.

use super::found::{Damaged, What};
use crate::data::extents;
use crate::error::FsError;
use crate::shard::Shard;
use crate::tablet::Tablet;
use crate::tree;
use crate::txn::{Class, Need, Stop, View};
use cairn_base::BlockNo;
use cairn_base::door::Doors;
use cairn_format::TabletId;
use cairn_format::item::ScrubPlaceHead;
use cairn_format::key::{Key, RANGE_DAMAGED_BLOCK, RANGE_DAMAGED_DATA};
use cairn_format::tablet_root::TreeRef;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::ControlFlow;
use std::rc::Rc;
use zerocopy::IntoBytes;

/// Listed of one tablet.
pub const LISTED_MAX: usize = 1024;
/// Items of one record.
const RECORD_ITEMS_MAX: usize = 128;
/// Of such a record: an item with its key and what else goes with it.
const ITEM_BYTES: usize = 256;

/// Where a pass is in one tablet.
#[derive(Clone, Debug)]
pub(crate) struct Place {
    pub pass: u64,
    pub nodes: u64,
    pub blocks: u64,
    pub unlisted: u64,
    pub cursor: Key,
    pub is_done: bool,
    /// The cursor as it is written down.
    saved: Key,
    /// What this pass has found.
    found: BTreeMap<Key, Damaged>,
    unsaved: BTreeSet<Key>,
}

impl Place {
    fn begin(pass: u64) -> Place {
        Place {
            pass,
            nodes: 0,
            blocks: 0,
            unlisted: 0,
            cursor: Key::MIN,
            is_done: false,
            saved: Key::MIN,
            found: BTreeMap::new(),
            unsaved: BTreeSet::new(),
        }
    }

    pub fn findings(&self) -> u64 {
        self.found.len() as u64 + self.unlisted
    }

    fn note(&mut self, damaged: Damaged) -> bool {
        let key = damaged.key();
        let damaged = Damaged { pass: self.pass, ..damaged };
        if self.found.get(&key) == Some(&damaged) {
            return false;
        }
        if self.found.len() >= LISTED_MAX && !self.found.contains_key(&key) {
            self.unlisted += 1;
            return true;
        }
        self.unsaved.insert(key);
        self.found.insert(key, damaged).is_none()
    }

    /// As its item holds it; the cursor stays where it was until all that was found before the new one is
    /// written.
    fn value(&self, is_all_written: bool) -> Vec<u8> {
        let is_done = is_all_written && self.is_done;
        let head = ScrubPlaceHead {
            pass: self.pass.into(),
            nodes: self.nodes.into(),
            blocks: self.blocks.into(),
            findings: self.findings().into(),
            unlisted: self.unlisted.into(),
            done: is_done.into(),
            reserved: [0; 7],
        };
        let cursor = match is_all_written {
            true if is_done => Key::MIN,
            true => self.cursor,
            false => self.saved,
        };
        [head.as_bytes(), cursor.as_bytes()].concat()
    }
}

impl<D: Doors> Shard<D> {
    pub(super) fn place_in_scrub(&self, id: TabletId) -> Place {
        self.scrub.places.borrow().get(&id).cloned().unwrap_or_else(|| Place::begin(0))
    }

    pub(super) fn cursor_in_scrub(&self, id: TabletId) -> Key {
        self.scrub.places.borrow().get(&id).map_or(Key::MIN, |place| place.cursor)
    }

    pub(super) fn is_scrubbed(&self, id: TabletId) -> bool {
        self.scrub.places.borrow().get(&id).is_some_and(|place| place.is_done)
    }

    pub(super) fn change_place(&self, id: TabletId, change: impl FnOnce(&mut Place)) {
        change(self.scrub.places.borrow_mut().entry(id).or_insert_with(|| Place::begin(0)));
    }

    pub(super) fn note_found(&self, id: TabletId, found: &[Damaged]) {
        for damaged in found {
            let mut is_new = false;
            self.change_place(id, |place| is_new = place.note(*damaged));
            self.core.counters.scrub_findings.add(u64::from(is_new));
        }
    }

    /// Knows where the tablet is in this pass; false when the shard stops.
    pub(super) async fn load_place(self: &Rc<Self>, id: TabletId, pass: u64) -> bool {
        if self.scrub.places.borrow().get(&id).is_some_and(|place| place.pass == pass) {
            return true;
        }
        let place = match self.read_place(id, pass).await {
            Err(FsError::Stopped) => return false,
            Ok(Some(place)) => place,
            // It has not begun here, or what says so is damaged: it begins.
            Ok(None) | Err(_) => Place::begin(pass),
        };
        self.scrub.places.borrow_mut().insert(id, place);
        !self.is_stopping() && !self.log.has_failed()
    }

    async fn read_place(&self, id: TabletId, pass: u64) -> Result<Option<Place>, FsError> {
        let value = self.read_with(|view| view.get(id, &Key::scrub_place())).await?;
        let parsed = value.and_then(|value| ScrubPlaceHead::parse(&value).ok());
        let Some((head, cursor)) = parsed.filter(|(head, _)| head.pass.get() == pass) else {
            return Ok(None);
        };
        let found = self.listed(id, Key::MIN, usize::MAX).await?;
        let found = found.into_iter().filter(|damaged| damaged.pass == pass);
        Ok(Some(Place {
            pass,
            nodes: head.nodes.get(),
            blocks: head.blocks.get(),
            unlisted: head.unlisted.get(),
            cursor,
            is_done: head.done == 1,
            saved: cursor,
            found: found.map(|damaged| (damaged.key(), damaged)).collect(),
            unsaved: BTreeSet::new(),
        }))
    }

    /// Writes down where the tablet is. What cannot be written stays for the next time.
    pub(super) async fn save(self: &Rc<Self>, id: TabletId) {
        let saved = self.try_save(id).await;
        self.scrub.unsaved.set(saved.is_err());
    }

    async fn try_save(self: &Rc<Self>, id: TabletId) -> Result<(), FsError> {
        loop {
            let place = self.place_in_scrub(id);
            let keys: Vec<Key> = place.unsaved.iter().take(RECORD_ITEMS_MAX).copied().collect();
            let is_last = keys.len() == place.unsaved.len();
            let items: Vec<(Key, Vec<u8>)> =
                keys.iter().filter_map(|key| Some((*key, place.found.get(key)?.value()))).collect();
            let value = place.value(is_last);
            let need = Need::new(Class::Growing, &[id], ITEM_BYTES * (items.len() + 2));
            let written = self.transact(need, |view| {
                for (key, value) in &items {
                    view.put(id, *key, value);
                }
                view.put(id, Key::scrub_place(), &value);
                Ok(())
            });
            written.await?;
            self.change_place(id, |now| {
                keys.iter().for_each(|key| _ = now.unsaved.remove(key));
                if is_last {
                    now.saved = place.cursor;
                }
            });
            if is_last {
                return Ok(());
            }
        }
    }

    /// The tablet is done: what earlier passes had found and this one has not is no more.
    pub(super) async fn finish_tablet(self: &Rc<Self>, id: TabletId) {
        let pass = self.place_in_scrub(id).pass;
        self.save(id).await;
        let Ok(listed) = self.listed(id, Key::MIN, usize::MAX).await else { return };
        let old: Vec<Key> =
            listed.iter().filter(|damaged| damaged.pass != pass).map(Damaged::key).collect();
        for keys in old.chunks(RECORD_ITEMS_MAX) {
            let need = Need::new(Class::Freeing, &[id], ITEM_BYTES * keys.len());
            let gone = self.transact(need, |view| {
                keys.iter().for_each(|key| view.delete(id, *key));
                Ok(())
            });
            if gone.await.is_err() {
                self.scrub.unsaved.set(true);
            }
        }
    }

    /// What the items of a tablet say, from a key on.
    async fn listed(&self, id: TabletId, from: Key, max: usize) -> Result<Vec<Damaged>, FsError> {
        let begin = Key::of_range(RANGE_DAMAGED_DATA).max(from);
        let end = Key::of_range(RANGE_DAMAGED_BLOCK).prefix_end();
        self.read_with(|view| {
            let mut listed = Vec::new();
            view.scan(id, begin, end, |key, value| {
                listed.extend(Damaged::parse(id, &key, value));
                if listed.len() >= max { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
            })?;
            Ok(listed)
        })
        .await
    }

    /// What is known to be damaged in this shard's tablets, in order of tablet and key, behind a place.
    pub(crate) async fn damage_here(
        &self,
        after: Option<(TabletId, Key)>,
        max: usize,
    ) -> Result<Vec<Damaged>, FsError> {
        let tablets: Vec<Rc<Tablet>> = self.core.tablets().cloned().collect();
        let mut all = Vec::new();
        for tablet in tablets {
            let from = match after {
                Some((id, _)) if tablet.id < id => continue,
                Some((id, key)) if tablet.id == id => key.successor(),
                _ => Key::MIN,
            };
            for damaged in self.known(tablet.id, from).await {
                if self.is_still_so(&damaged).await {
                    all.push(damaged);
                }
                if all.len() >= max {
                    return Ok(all);
                }
            }
        }
        Ok(all)
    }

    /// The items, and what is not written yet.
    async fn known(&self, id: TabletId, from: Key) -> Vec<Damaged> {
        // A damaged node may hide the items; what this daemon has found is in memory as well.
        let listed = self.listed(id, from, usize::MAX).await.unwrap_or_default();
        let mut all: BTreeMap<Key, Damaged> =
            listed.into_iter().map(|damaged| (damaged.key(), damaged)).collect();
        if let Some(place) = self.scrub.places.borrow().get(&id) {
            all.extend(place.found.range(from..).map(|(key, damaged)| (*key, *damaged)));
        }
        all.into_values().collect()
    }

    /// Does the pool still refer to it? A file that was removed or written anew has lost its damage.
    async fn is_still_so(&self, damaged: &Damaged) -> bool {
        let id = damaged.tablet;
        let asked = match damaged.what {
            What::Data { ino, file_block, blocks } => {
                let part = file_block..file_block + blocks;
                let block = damaged.block;
                let hit = |view: &mut View<'_>| {
                    let extents = extents(view, ino, part.clone())?;
                    Ok(extents.iter().any(|extent| {
                        let start = extent.first_block.max(part.start);
                        let end = extent.end_block().min(part.end);
                        let run = extent.run(&(start..end));
                        run.is_some_and(|run| run.start == block.after(start - part.start))
                    }))
                };
                // Without a block the item itself is meant, which can only be looked for by a pass.
                if block.raw() == 0 { Ok(true) } else { self.read_with(hit).await }
            }
            What::Node { from, .. } => {
                let lies_there = |view: &mut View<'_>| names_node(view, id, &from, damaged.block);
                self.read_with(lies_there).await
            }
            What::Filter { .. } => {
                let tablet = self.core.tablet(id);
                let root = tablet.root.borrow();
                let filters = root.log_trees.iter().map(|tree| tree.entry.filter.block_no());
                Ok(filters.into_iter().any(|block| block == damaged.block))
            }
            What::Root | What::Superblock => Ok(true),
        };
        // What cannot be asked because of damage is not repaired.
        asked.unwrap_or(true)
    }
}

/// Is the block a node of one of the tablet's trees, on the way to a key?
fn names_node(view: &View<'_>, id: TabletId, key: &Key, block: BlockNo) -> Result<bool, Stop> {
    let tablet = view.tablet(id);
    let root = tablet.root.borrow();
    let trees: Vec<TreeRef> =
        root.log_trees.iter().map(|tree| tree.entry.tree).chain([root.fs]).collect();
    for tree in trees.iter().filter(|tree| !tree.is_empty()) {
        if tree::leads_to(view.nodes(), tree, key, block)? {
            return Ok(true);
        }
    }
    Ok(false)
}
