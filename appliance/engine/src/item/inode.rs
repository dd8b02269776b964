//! Inodes through a view: reading them, changing them, and keeping both change indexes in step.
//!
//! An inode has exactly one entry in each index it belongs to (every inode in meta_seq, regular
//! files in data_seq); the entry moves in the record that changes the inode, so the index is never
//! behind and never scanned past its answer.

use crate::attr::{Attr, Rdev, Time};
use crate::error::FsError;
use crate::sabotage::{Sabotage, planted};
use crate::txn::{Stop, View};
use cairn_format::item::{FileKind, InodeItem};
use cairn_format::key::Key;
use cairn_format::{InodeNo, Seq};
use zerocopy::IntoBytes;

impl View<'_> {
    /// The inode, or `Stale` when it does not exist.
    pub fn inode(&self, ino: InodeNo) -> Result<InodeItem, Stop> {
        self.inode_if_any(ino)?.ok_or(FsError::Stale.into())
    }

    pub fn inode_if_any(&self, ino: InodeNo) -> Result<Option<InodeItem>, Stop> {
        let tablet = ino.tablet();
        let Some(value) = self.get(tablet, &Key::inode(ino))? else { return Ok(None) };
        let item = InodeItem::parse(&value).map_err(|damage| self.damaged(tablet, damage))?;
        Ok(Some(item))
    }

    /// The inode in order to change it: waits while an operation over tablets holds it.
    pub fn inode_to_change(&self, ino: InodeNo) -> Result<InodeItem, Stop> {
        self.require_unlocked(ino)?;
        self.inode(ino)
    }

    /// The inode as a directory, or `NotDirectory`.
    pub fn directory(&self, ino: InodeNo) -> Result<InodeItem, Stop> {
        let item = self.inode(ino)?;
        if item.file_kind() == FileKind::Directory {
            Ok(item)
        } else {
            Err(FsError::NotDirectory.into())
        }
    }

    pub fn directory_to_change(&self, ino: InodeNo) -> Result<InodeItem, Stop> {
        self.require_unlocked(ino)?;
        self.directory(ino)
    }

    /// A new inode, with its index entries.
    pub fn add_inode(&mut self, ino: InodeNo, mut item: InodeItem) -> InodeItem {
        let tablet = ino.tablet();
        item.meta_seq = self.seq.0.into();
        self.put_new(tablet, Key::meta_seq(self.seq, ino), &[]);
        if item.file_kind() == FileKind::Regular {
            item.data_seq = self.seq.0.into();
            self.put_new(tablet, Key::data_seq(self.seq, ino), &[]);
        }
        self.put_new(tablet, Key::inode(ino), item.as_bytes());
        let totals = self.totals(tablet);
        totals.inodes = (totals.inodes.get() + 1).into();
        item
    }

    /// Stores a changed inode; its meta_seq moves to this record.
    pub fn change_inode(&mut self, ino: InodeNo, item: &mut InodeItem) {
        let tablet = ino.tablet();
        let old = Seq(item.meta_seq.get());
        if old != self.seq {
            if !planted(Sabotage::IndexEntryLeft) {
                self.delete(tablet, Key::meta_seq(old, ino));
            }
            self.put_new(tablet, Key::meta_seq(self.seq, ino), &[]);
            item.meta_seq = self.seq.0.into();
        }
        self.put(tablet, Key::inode(ino), item.as_bytes());
    }

    /// Moves data_seq to this record; `change_inode` must follow.
    pub fn change_data_seq(&mut self, ino: InodeNo, item: &mut InodeItem) {
        let tablet = ino.tablet();
        let old = Seq(item.data_seq.get());
        if old != self.seq {
            self.delete(tablet, Key::data_seq(old, ino));
            self.put_new(tablet, Key::data_seq(self.seq, ino), &[]);
            item.data_seq = self.seq.0.into();
        }
    }

    /// Removes an inode whose other items are gone already, with its index entries.
    pub fn remove_inode(&mut self, ino: InodeNo, item: &InodeItem) {
        let tablet = ino.tablet();
        self.delete(tablet, Key::meta_seq(Seq(item.meta_seq.get()), ino));
        if item.file_kind() == FileKind::Regular {
            self.delete(tablet, Key::data_seq(Seq(item.data_seq.get()), ino));
        }
        self.delete(tablet, Key::inode(ino));
        let totals = self.totals(tablet);
        totals.inodes = (totals.inodes.get() - 1).into();
    }

    /// Attributes as callers see them: with what is buffered.
    pub fn attr(&self, ino: InodeNo, item: &InodeItem) -> Attr {
        let mut attr = attr_of_item(ino, item);
        self.tablet(ino.tablet()).overlays.show(ino, &mut attr);
        attr
    }
}

/// Attributes as the item has them.
pub fn attr_of_item(ino: InodeNo, item: &InodeItem) -> Attr {
    let kind = item.file_kind();
    let special = item.special.get();
    let is_device = matches!(kind, FileKind::Block | FileKind::Character);
    let rdev = if is_device {
        Rdev { major: (special >> 32) as u32, minor: special as u32 }
    } else {
        Rdev::default()
    };
    Attr {
        ino,
        kind,
        mode: item.mode.get().into(),
        nlink: item.nlink.get(),
        uid: item.uid.get(),
        gid: item.gid.get(),
        size: item.size.get(),
        rdev,
        atime: Time(item.atime.get()),
        mtime: Time(item.mtime.get()),
        ctime: Time(item.ctime.get()),
        crtime: Time(item.crtime.get()),
        meta_seq: Seq(item.meta_seq.get()),
        data_seq: Seq(item.data_seq.get()),
        data_version: item.data_version.get(),
        online_blocks: item.online_blocks.get(),
        offline_blocks: item.offline_blocks.get(),
    }
}
