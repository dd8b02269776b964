//! What one change of an operation does to the tablet it is for.
//!
//! Operations over names are decided in their own files and end in a list of `PartChange`s. When all
//! tablets are here they are applied in the record that decided them; when some are elsewhere, by
//! the participants, in theirs (`txn/across.rs`), perhaps after a restart. Either way this is the
//! only place where links, counts and times of a name change.

use crate::data::{self, Progress};
use crate::item::NewEntry;
use crate::limits::REMOVE_STEP_ITEMS;
use crate::sabotage::{Sabotage, planted, planted_every};
use crate::txn::{Stop, View};
use cairn_format::InodeNo;
use cairn_format::item::{FileKind, InodeItem, PartChange, Site};

impl View<'_> {
    pub fn apply_change(&mut self, change: &PartChange) -> Result<(), Stop> {
        match change {
            PartChange::AddEntry { site, name, child, kind, time } => {
                let mut dir = self.inode(site.dir)?;
                self.put_entry(&NewEntry { site: *site, name, child: *child, kind: *kind });
                dir.size = (dir.size.get() + name.len() as u64).into();
                dir.special = dir.special.get().max(site.position.0 + 1).into();
                if *kind == FileKind::Directory {
                    dir.nlink = (dir.nlink.get() + 1).into();
                }
                self.touch_directory(site.dir, &mut dir, *time);
            }
            PartChange::DropEntry { site, name, kind, time } => {
                let mut dir = self.inode(site.dir)?;
                self.drop_entry(*site, name);
                dir.size = (dir.size.get() - name.len() as u64).into();
                if *kind == FileKind::Directory {
                    dir.nlink = (dir.nlink.get() - 1).into();
                }
                self.touch_directory(site.dir, &mut dir, *time);
            }
            PartChange::RenameEntry { site, from, to, child, kind, time } => {
                let mut dir = self.inode(site.dir)?;
                self.drop_entry(*site, from);
                self.put_entry(&NewEntry { site: *site, name: to, child: *child, kind: *kind });
                dir.size = (dir.size.get() - from.len() as u64 + to.len() as u64).into();
                self.touch_directory(site.dir, &mut dir, *time);
            }
            PartChange::AddLink { child, site, time } => {
                let mut item = self.inode(*child)?;
                self.put_back_reference(*child, *site);
                if !planted_every(Sabotage::MissingNlinkEdit, 2) {
                    item.nlink = (item.nlink.get() + 1).into();
                }
                item.ctime = (*time).into();
                self.change_inode(*child, &mut item);
            }
            PartChange::DropLink { child, site, name, time } => {
                self.drop_link(*child, *site, name, *time)?;
            }
            PartChange::MoveLink { child, from, to, time } => {
                let mut item = self.inode(*child)?;
                if from != to && !planted(Sabotage::BackReferenceLeft) {
                    self.drop_back_reference(*child, *from);
                    self.put_back_reference(*child, *to);
                }
                item.ctime = (*time).into();
                self.change_inode(*child, &mut item);
            }
            PartChange::NewDirectory { ino, site, mode, uid, gid, times } => {
                let item = directory_item(*mode, *uid, *gid, *times);
                self.add_inode(*ino, item);
                self.put_back_reference(*ino, *site);
            }
            PartChange::AddRun { tablet, purpose, run } => {
                self.receive_run(*tablet, *purpose, *run);
            }
        }
        Ok(())
    }

    fn touch_directory(&mut self, dir: InodeNo, item: &mut InodeItem, time: i64) {
        item.mtime = time.into();
        item.ctime = time.into();
        self.change_inode(dir, item);
    }

    fn drop_link(
        &mut self,
        child: InodeNo,
        site: Site,
        name: &[u8],
        time: i64,
    ) -> Result<(), Stop> {
        let mut item = self.inode(child)?;
        self.drop_back_reference(child, site);
        let is_directory = item.file_kind() == FileKind::Directory;
        let left = if is_directory { 0 } else { item.nlink.get() - 1 };
        item.nlink = left.into();
        item.ctime = time.into();
        self.change_inode(child, &mut item);
        if left > 0 {
            return Ok(());
        }
        if !planted(Sabotage::OrphanForgotten) {
            self.add_orphan(child, site.dir, name);
        }
        // A small file is gone with its name; what is large goes in steps (`remove.rs`).
        let mut left = REMOVE_STEP_ITEMS;
        let more = data::remove_data_step(self, child, &mut item, Progress::default(), &mut left)?;
        self.change_inode(child, &mut item);
        self.forgotten.push(child);
        if more.is_none() {
            self.finish_orphan(child, &item, left)?;
        }
        Ok(())
    }
}

/// A directory as it comes into being.
pub fn directory_item(mode: u16, uid: u32, gid: u32, times: [i64; 3]) -> InodeItem {
    InodeItem {
        mode: mode.into(),
        kind: FileKind::Directory as u8,
        flags: 0,
        nlink: 2.into(),
        uid: uid.into(),
        gid: gid.into(),
        size: 0.into(),
        atime: times[0].into(),
        mtime: times[1].into(),
        ctime: times[2].into(),
        crtime: times[2].into(),
        meta_seq: 0.into(),
        data_seq: 0.into(),
        data_version: 0.into(),
        online_blocks: 0.into(),
        offline_blocks: 0.into(),
        special: crate::limits::POSITION_FIRST.into(),
    }
}
