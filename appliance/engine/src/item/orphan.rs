//! Inodes without a name: found again after a crash, removed in steps, and noted in the deletion
//! index with where they were last seen.

use crate::sabotage::{Sabotage, planted};
use crate::txn::{Stop, View};
use cairn_format::InodeNo;
use cairn_format::item::{DeletionHead, InodeItem, OrphanHead};
use cairn_format::key::Key;
use zerocopy::IntoBytes;

impl View<'_> {
    pub fn add_orphan(&mut self, ino: InodeNo, last_parent: InodeNo, name: &[u8]) {
        let tablet = ino.tablet();
        let mut value = OrphanHead { last_parent: last_parent.raw().into() }.as_bytes().to_vec();
        value.extend_from_slice(name);
        // Inode numbers never return, so no tree holds this key.
        self.put_new(tablet, Key::orphan(ino), &value);
        let totals = self.totals(tablet);
        totals.orphans = (totals.orphans.get() + 1).into();
    }

    /// The last step of a deletion: the inode, its orphan item, and its note for archive agents.
    pub fn finish_orphan(&mut self, ino: InodeNo, item: &InodeItem) -> Result<(), Stop> {
        let tablet = ino.tablet();
        let Some(value) = self.get(tablet, &Key::orphan(ino))? else { return Ok(()) };
        let (orphan, name) =
            OrphanHead::parse(&value).map_err(|damage| self.damaged(tablet, damage))?;
        let xattrs = self.hidden_xattrs(ino)?;
        let head = DeletionHead {
            last_parent: orphan.last_parent,
            data_version: item.data_version,
            kind: item.kind,
            flags: xattrs.cut,
            name_len: name.len() as u8,
            reserved: 0,
            xattrs_len: (xattrs.bytes.len() as u16).into(),
        };
        let mut note = head.as_bytes().to_vec();
        note.extend_from_slice(name);
        note.extend_from_slice(&xattrs.bytes);
        self.remove_xattrs(ino)?;
        self.remove_inode(ino, item);
        self.delete(tablet, Key::orphan(ino));
        self.delete(tablet, Key::symlink(ino));
        let totals = self.totals(tablet);
        totals.orphans = (totals.orphans.get() - 1).into();
        if !planted(Sabotage::DeletionForgotten) {
            totals.deletions = (totals.deletions.get() + 1).into();
            self.put_new(tablet, Key::deletion(self.seq, ino), &note);
        }
        Ok(())
    }
}
