//! Inodes without a name: found again after a crash, removed in steps, and noted in the deletion
//! index with where they were last seen.

use crate::data::REMOVE_ITEM_BYTES;
use crate::limits::XATTR_REMOVE_ITEMS;
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

    /// The last steps of a deletion, behind those that remove data: its xattrs, and in one record with the
    /// last of them the inode, its orphan item, and its note for archive agents. `budget` is what this
    /// record has left, in items of `REMOVE_STEP_BYTES`. False while there is more to do.
    pub fn finish_orphan(
        &mut self,
        ino: InodeNo,
        item: &InodeItem,
        budget: usize,
    ) -> Result<bool, Stop> {
        let tablet = ino.tablet();
        let Some(value) = self.get(tablet, &Key::orphan(ino))? else { return Ok(true) };
        let (orphan, name) =
            OrphanHead::parse(&value).map_err(|damage| self.damaged(tablet, damage))?;
        let step = self.remove_xattrs_step(ino, budget.min(XATTR_REMOVE_ITEMS))?;
        let Some(xattrs) = step.left else { return Ok(false) };
        let note_items = xattrs.bytes.len().div_ceil(REMOVE_ITEM_BYTES);
        if step.removed + xattrs.items() + note_items > budget {
            return Ok(false);
        }
        let head = DeletionHead {
            last_parent: orphan.last_parent,
            data_version: item.data_version,
            kind: item.kind,
            flags: xattrs.flags,
            name_len: name.len() as u8,
            reserved: 0,
            xattrs_len: (xattrs.bytes.len() as u16).into(),
        };
        let mut note = head.as_bytes().to_vec();
        note.extend_from_slice(name);
        note.extend_from_slice(&xattrs.bytes);
        self.remove_kept_xattrs(ino, &xattrs);
        self.remove_inode(ino, item);
        self.delete(tablet, Key::orphan(ino));
        self.delete(tablet, Key::symlink(ino));
        let totals = self.totals(tablet);
        totals.orphans = (totals.orphans.get() - 1).into();
        if !planted(Sabotage::DeletionForgotten) {
            totals.deletions = (totals.deletions.get() + 1).into();
            self.put_new(tablet, Key::deletion(self.seq, ino), &note);
        }
        Ok(true)
    }
}
