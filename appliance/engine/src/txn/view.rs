//! The synchronous stretch of an operation: everything it checks and everything it changes.
//!
//! A `View` answers reads as if its own edits were applied already, and collects those edits. No
//! task runs in between, so nothing has to be re-checked; an error leaves nothing behind, because
//! nothing was changed. When a block that must be read is not in memory, or an inode is held by an
//! operation over tablets, the view says so (`Stop`), the shard waits for it and runs the whole
//! stretch again (`Shard::transact`).
//!
//! One key gets one edit, whatever an operation does to it on the way.

use crate::block::{Absent, Nodes, Pins};
use crate::error::FsError;
use crate::sabotage::{Sabotage, planted};
use crate::shard::Core;
use crate::space::SpaceChange;
use crate::tablet::Tablet;
use cairn_base::{BlockNo, Run};
use cairn_format::key::{Key, Purpose};
use cairn_format::record::EditKind;
use cairn_format::tablet_root::Totals;
use cairn_format::{Damage, InodeNo, OpId, Seq, TabletId};
use std::collections::BTreeMap;
use std::rc::Rc;

/// Why a stretch ended without a result.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stop {
    Fs(FsError),
    /// Fetch this node and start over.
    Absent(Absent),
    /// Wait until this inode is free and start over.
    Locked(InodeNo),
}

impl From<FsError> for Stop {
    fn from(error: FsError) -> Stop {
        Stop::Fs(error)
    }
}

impl From<Absent> for Stop {
    fn from(absent: Absent) -> Stop {
        Stop::Absent(absent)
    }
}

#[derive(Clone, Debug)]
pub struct PendingEdit {
    pub kind: EditKind,
    pub value: Option<Rc<[u8]>>,
}

pub struct View<'a> {
    pub core: &'a Core,
    pins: &'a Pins,
    /// Of the batch this stretch's record goes into.
    pub seq: Seq,
    /// Nanoseconds since 1970.
    pub now: i64,
    /// The operation over tablets this stretch is part of: its own locks do not stop it.
    pub owner: Option<OpId>,
    pub(crate) edits: BTreeMap<(TabletId, Key), PendingEdit>,
    pub(crate) totals: BTreeMap<TabletId, Totals>,
    pub(crate) next_inodes: BTreeMap<TabletId, u64>,
    pub(crate) space: Vec<(TabletId, Purpose, SpaceChange)>,
    /// Inodes whose buffered writes go with this record.
    pub(crate) forgotten: Vec<InodeNo>,
}

impl<'a> View<'a> {
    pub fn new(core: &'a Core, pins: &'a Pins, seq: Seq, now: i64) -> View<'a> {
        View {
            core,
            pins,
            seq,
            now,
            owner: None,
            edits: BTreeMap::new(),
            totals: BTreeMap::new(),
            next_inodes: BTreeMap::new(),
            space: Vec::new(),
            forgotten: Vec::new(),
        }
    }

    pub fn is_unchanged(&self) -> bool {
        self.edits.is_empty() && self.totals.is_empty() && self.space.is_empty()
    }

    pub fn tablet(&self, id: TabletId) -> Rc<Tablet> {
        self.core.tablet(id)
    }

    pub(crate) fn nodes(&self) -> Nodes<'_> {
        Nodes { cache: &self.core.cache, pins: self.pins }
    }

    pub fn get(&self, tablet: TabletId, key: &Key) -> Result<Option<Rc<[u8]>>, Stop> {
        self.get_newer(tablet, key, Seq(0))
    }

    /// The same where trees without an index entry of `since` or newer need not be asked.
    pub fn get_newer(
        &self,
        tablet: TabletId,
        key: &Key,
        since: Seq,
    ) -> Result<Option<Rc<[u8]>>, Stop> {
        if let Some(edit) = self.edits.get(&(tablet, *key)) {
            return Ok(edit.value.clone());
        }
        Ok(self.tablet(tablet).get_newer(self.nodes(), key, since)?)
    }

    fn value(&self, bytes: &[u8]) -> Rc<[u8]> {
        if bytes.is_empty() { Rc::clone(&self.core.empty_value) } else { bytes.into() }
    }

    pub fn put(&mut self, tablet: TabletId, key: Key, value: &[u8]) {
        let value = self.value(value);
        let edit = self.edits.entry((tablet, key));
        let edit = edit.or_insert(PendingEdit { kind: EditKind::Put, value: None });
        if edit.kind == EditKind::Delete {
            edit.kind = EditKind::Put;
        }
        edit.value = Some(value);
    }

    /// Puts a key that no tree can hold: its seq, position or inode number is new.
    pub fn put_new(&mut self, tablet: TabletId, key: Key, value: &[u8]) {
        let value = self.value(value);
        let edit = self.edits.entry((tablet, key));
        let edit = edit.or_insert(PendingEdit { kind: EditKind::PutNew, value: None });
        if edit.kind == EditKind::Delete {
            edit.kind = EditKind::Put;
        }
        edit.value = Some(value);
    }

    pub fn delete(&mut self, tablet: TabletId, key: Key) {
        let fresh = self.edits.get(&(tablet, key)).is_some_and(|e| e.kind == EditKind::PutNew);
        if fresh {
            self.edits.remove(&(tablet, key));
        } else {
            self.edits.insert((tablet, key), PendingEdit { kind: EditKind::Delete, value: None });
        }
    }

    /// The tablet's totals, to change.
    pub fn totals(&mut self, tablet: TabletId) -> &mut Totals {
        let core = self.core;
        self.totals.entry(tablet).or_insert_with(|| core.tablet(tablet).totals.get())
    }

    /// A number nobody ever saw.
    pub fn new_inode_no(&mut self, tablet: TabletId) -> Result<InodeNo, Stop> {
        let core = self.core;
        let next = self.next_inodes.entry(tablet);
        let next = next.or_insert_with(|| core.tablet(tablet).next_inode.get());
        let counter = *next;
        *next += 1;
        let high_water = *next;
        let totals = self.totals(tablet);
        if totals.inode_high_water.get() < high_water && !planted(Sabotage::InodeNumbersReturn) {
            totals.inode_high_water = (high_water + crate::limits::INODES_AHEAD).into();
        }
        InodeNo::new(tablet, counter).ok_or(FsError::NoSpace.into())
    }

    /// Links blocks that the operation has reserved.
    pub fn take_run(&mut self, tablet: TabletId, purpose: Purpose, run: Run) {
        self.space.push((tablet, purpose, SpaceChange::Take(run)));
    }

    pub fn free_run(&mut self, tablet: TabletId, purpose: Purpose, run: Run) {
        self.space.push((tablet, purpose, SpaceChange::Free(run)));
    }

    /// Takes over a run that was free in another tablet.
    pub fn receive_run(&mut self, tablet: TabletId, purpose: Purpose, run: Run) {
        self.space.push((tablet, purpose, SpaceChange::Receive(run)));
    }

    /// Holds the stretch up while an operation over tablets has `ino`.
    pub fn require_unlocked(&self, ino: InodeNo) -> Result<(), Stop> {
        if self.core.locks.is_held(ino, self.owner) { Err(Stop::Locked(ino)) } else { Ok(()) }
    }

    /// The next data version of something whose last one was `old`. The seq is a clock that no
    /// restart sets back, so a version that was seen and lost never returns with other bytes.
    pub fn next_data_version(&self, old: u64) -> u64 {
        (old + 1).max(self.seq.0)
    }

    /// Damage inside an item: the root block of its tree stands for the place.
    pub fn damaged(&self, tablet: TabletId, damage: Damage) -> Stop {
        let block = self.tablet(tablet).root.borrow().fs.root.block_no();
        Stop::Fs(FsError::Corrupt { block, damage })
    }

    pub fn damaged_at(&self, block: BlockNo, damage: Damage) -> Stop {
        Stop::Fs(FsError::Corrupt { block, damage })
    }
}
