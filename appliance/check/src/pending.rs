//! Operations over tablets that were committed when the pool was left, and that the next open will
//! finish.
//!
//! The coordinator's part is applied, and its `pending` item says what the others still have to
//! change. A participant that has a `done` item has done so. The rest is applied here, to the
//! memtables of the check, so that the pool is judged as the state that the operation ends in; what
//! an open derives at that moment (seqs, times) stays as it was.

use crate::merged::Merged;
use crate::replay::{Change, TabletState};
use crate::report::Object;
use crate::tree::Ground;
use cairn_base::door::Disk;
use cairn_format::item::{
    FileKind, FreeRunItem, InodeItem, LookupItem, OrphanHead, PartChange, ReaddirHead, Site,
};
use cairn_format::key::{ParsedKey, RANGE_DONE, RANGE_PENDING};
use cairn_format::{InodeNo, Key, OpId, Seq, TabletId};
use std::collections::{BTreeMap, BTreeSet};
use zerocopy::IntoBytes;
use zerocopy::little_endian::U64;

/// What there is to finish, of all tablets.
#[derive(Default)]
pub(crate) struct Unfinished {
    pending: BTreeMap<OpId, Vec<PartChange>>,
    done: BTreeSet<(TabletId, OpId)>,
}

impl Unfinished {
    /// Takes up one tablet's `pending` and `done` items. Damage in them is reported by the walk.
    pub async fn gather<K: Disk>(&mut self, ground: &Ground<'_, K>, state: &TabletState) {
        let from = Key::of_range(RANGE_PENDING);
        let end = Key::of_range(RANGE_DONE).prefix_end();
        let mut items = Merged::seek(ground, state, &from).await;
        let mut pending = Vec::new();
        while let Some(item) = items.next().await.filter(|item| item.key < end) {
            match item.key.parse() {
                Some(ParsedKey::Pending(op)) => {
                    let changes = PartChange::parse_all(&item.value).unwrap_or_default();
                    pending.push((op, changes));
                }
                Some(ParsedKey::Done(op)) => {
                    self.done.insert((state.id, op));
                }
                _ => {}
            }
        }
        // More than the totals say were given up by an open that could not read them: the oldest.
        pending.sort_by_key(|(op, _)| (op.epoch, op.counter));
        let count = usize::try_from(state.totals.pending.get()).unwrap_or(usize::MAX);
        let void = pending.len().saturating_sub(count);
        self.pending.extend(pending.into_iter().skip(void));
    }

    /// Applies to one tablet what it has not applied itself.
    pub async fn finish<K: Disk>(
        &self,
        ground: &Ground<'_, K>,
        state: &mut TabletState,
        epoch: u64,
    ) {
        let id = state.id;
        for (_, op) in self.done.iter().filter(|(of, op)| *of == id && op.epoch.0 > epoch) {
            let object = Object::Operation(*op);
            ground.findings.note("pending", object, "was done in an epoch that has not begun");
        }
        for (op, changes) in &self.pending {
            if self.done.contains(&(state.id, *op)) {
                continue;
            }
            let mut here = changes.iter().filter(|change| change.tablet() == id).peekable();
            if here.peek().is_some() && op.epoch.0 > epoch {
                let object = Object::Operation(*op);
                ground.findings.note("pending", object, "is of an epoch that has not begun");
            }
            for change in here {
                let mut part = Part { ground, state: &mut *state };
                if part.apply(change).await.is_none() {
                    let detail = format!("cannot be finished in tablet {id}: {change:?}");
                    ground.findings.note("pending", Object::Operation(*op), detail);
                }
            }
        }
    }
}

struct Part<'a, K> {
    ground: &'a Ground<'a, K>,
    state: &'a mut TabletState,
}

impl<K: Disk> Part<'_, K> {
    async fn inode(&self, ino: InodeNo) -> Option<InodeItem> {
        let key = Key::inode(ino);
        let mut items = Merged::seek(self.ground, self.state, &key).await;
        let item = items.next().await.filter(|item| item.key == key)?;
        InodeItem::parse(&item.value).ok()
    }

    fn put(&mut self, key: Key, value: &[u8]) {
        let change = Change { value: Some(value.into()), fresh: false };
        self.state.memtable.insert(key, change);
    }

    fn delete(&mut self, key: Key) {
        self.state.memtable.insert(key, Change { value: None, fresh: false });
    }

    fn name_hash(&self, name: &[u8]) -> u128 {
        cairn_base::hash::siphash128(&self.ground.name_key, name)
    }

    fn put_entry(&mut self, site: Site, name: &[u8], child: InodeNo, kind: FileKind) {
        let lookup = LookupItem {
            child: child.raw().into(),
            position: site.position.0.into(),
            kind: kind as u8,
        };
        let key = Key::lookup(site.dir, self.name_hash(name));
        self.put(key, lookup.as_bytes());
        let head = ReaddirHead { child: child.raw().into(), kind: kind as u8 };
        let value = [head.as_bytes(), name].concat();
        self.put(Key::readdir(site.dir, site.position), &value);
    }

    fn drop_entry(&mut self, site: Site, name: &[u8]) {
        let key = Key::lookup(site.dir, self.name_hash(name));
        self.delete(key);
        self.delete(Key::readdir(site.dir, site.position));
    }

    /// Changes a directory by the bytes and the subdirectories it gains.
    async fn change_directory(
        &mut self,
        site: Site,
        name_bytes: i64,
        subdirectories: i32,
    ) -> Option<()> {
        let mut dir = self.inode(site.dir).await?;
        dir.size = dir.size.get().checked_add_signed(name_bytes)?.into();
        dir.nlink = dir.nlink.get().checked_add_signed(subdirectories)?.into();
        dir.special = dir.special.get().max(site.position.0.checked_add(1)?).into();
        self.put(Key::inode(site.dir), dir.as_bytes());
        Some(())
    }

    async fn change_links(&mut self, ino: InodeNo, by: i32) -> Option<InodeItem> {
        let mut item = self.inode(ino).await?;
        let is_removed = by < 0 && item.file_kind() == FileKind::Directory;
        let nlink = if is_removed { 0 } else { item.nlink.get().checked_add_signed(by)? };
        item.nlink = nlink.into();
        self.put(Key::inode(ino), item.as_bytes());
        Some(item)
    }

    async fn apply(&mut self, change: &PartChange) -> Option<()> {
        match change {
            PartChange::AddEntry { site, name, child, kind, .. } => {
                let subdirectories = i32::from(*kind == FileKind::Directory);
                self.change_directory(*site, name.len() as i64, subdirectories).await?;
                self.put_entry(*site, name, *child, *kind);
            }
            PartChange::DropEntry { site, name, kind, .. } => {
                let subdirectories = i32::from(*kind == FileKind::Directory);
                self.change_directory(*site, -(name.len() as i64), -subdirectories).await?;
                self.drop_entry(*site, name);
            }
            PartChange::RenameEntry { site, from, to, child, kind, .. } => {
                let grows = to.len() as i64 - from.len() as i64;
                self.change_directory(*site, grows, 0).await?;
                self.drop_entry(*site, from);
                self.put_entry(*site, to, *child, *kind);
            }
            PartChange::AddLink { child, site, .. } => {
                self.change_links(*child, 1).await?;
                self.put(Key::back_reference(*child, site.dir, site.position), &[]);
            }
            PartChange::DropLink { child, site, name, .. } => {
                let item = self.change_links(*child, -1).await?;
                self.delete(Key::back_reference(*child, site.dir, site.position));
                if item.nlink.get() == 0 {
                    let head = OrphanHead { last_parent: site.dir.raw().into() };
                    let value = [head.as_bytes(), name].concat();
                    self.put(Key::orphan(*child), &value);
                    self.state.totals.orphans += 1;
                }
            }
            PartChange::MoveLink { child, from, to, .. } => {
                self.change_links(*child, 0).await?;
                self.delete(Key::back_reference(*child, from.dir, from.position));
                self.put(Key::back_reference(*child, to.dir, to.position), &[]);
            }
            PartChange::NewDirectory { ino, site, mode, .. } => {
                self.put(Key::inode(*ino), new_directory(*mode).as_bytes());
                self.put(Key::back_reference(*ino, site.dir, site.position), &[]);
                self.put(Key::meta_seq(Seq(0), *ino), &[]);
                self.state.totals.inodes += 1;
            }
            PartChange::AddRun { purpose, run, .. } => {
                let item = FreeRunItem { blocks: run.blocks.into() };
                self.put(Key::free_run(*purpose, run.start), item.as_bytes());
                let totals = &mut self.state.totals;
                let total = match purpose {
                    cairn_format::key::Purpose::Unassigned => &mut totals.free_unassigned,
                    cairn_format::key::Purpose::Node => &mut totals.free_node,
                    cairn_format::key::Purpose::Data => &mut totals.free_data,
                };
                *total = total.get().saturating_add(run.blocks).into();
            }
        }
        Some(())
    }
}

/// An empty directory as the operation will make it, before its times and seqs.
fn new_directory(mode: u16) -> InodeItem {
    InodeItem {
        mode: mode.into(),
        kind: FileKind::Directory as u8,
        flags: 0,
        nlink: 2.into(),
        uid: 0.into(),
        gid: 0.into(),
        size: U64::ZERO,
        atime: 0.into(),
        mtime: 0.into(),
        ctime: 0.into(),
        crtime: 0.into(),
        meta_seq: U64::ZERO,
        data_seq: U64::ZERO,
        data_version: U64::ZERO,
        online_blocks: U64::ZERO,
        offline_blocks: U64::ZERO,
        special: U64::ZERO,
    }
}
