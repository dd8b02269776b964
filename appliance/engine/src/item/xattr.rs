//! Extended attributes through a view: a value in parts, found by the hash of its name.

use crate::error::FsError;
use crate::limits::XATTR_SCAN_ITEMS;
use crate::txn::{Stop, View};
use cairn_format::InodeNo;
use cairn_format::item::{
    DELETION_XATTRS_BYTES_MAX, DELETION_XATTRS_CUT, HiddenXattr, XATTR_PART_BYTES, XattrHead,
};
use cairn_format::key::{KIND_XATTR, Key, ParsedKey};
use cairn_format::xattr_name::{BadXattrName, XattrNamespace};
use std::ops::ControlFlow;
use zerocopy::IntoBytes;

/// A place in the list of an inode's xattrs: behind the name with this hash. The list is in the order of
/// hashes, so it stays a place when that name goes.
pub type XattrPlace = u128;

/// What a deletion keeps of an inode's hidden xattrs.
#[derive(Debug, Default)]
pub struct KeptXattrs {
    /// As `DeletionHead` has them.
    pub bytes: Vec<u8>,
    /// `DELETION_XATTRS_CUT` if there were more.
    pub flags: u8,
    /// All items that are left, the ones of what is kept among them.
    items: Vec<Key>,
}

impl KeptXattrs {
    /// Items that the last step deletes.
    pub fn items(&self) -> usize {
        self.items.len()
    }
}

impl View<'_> {
    pub fn xattr(&self, ino: InodeNo, name: &[u8]) -> Result<Option<Vec<u8>>, Stop> {
        let tablet = ino.tablet();
        let hash = self.core.pool.name_hash(name);
        let Some(value) = self.get(tablet, &Key::xattr(ino, hash, 0))? else { return Ok(None) };
        let (head, _, first) =
            XattrHead::parse(&value).map_err(|damage| self.damaged(tablet, damage))?;
        let mut bytes = first.to_vec();
        let mut part = 1;
        while bytes.len() < head.value_len.get() as usize {
            let missing = cairn_format::Damage::Missing("xattr part");
            let more = self.get(tablet, &Key::xattr(ino, hash, part))?;
            bytes.extend_from_slice(&more.ok_or_else(|| self.damaged(tablet, missing))?);
            part += 1;
        }
        Ok(Some(bytes))
    }

    /// Stores a value, in as many parts as it takes; an old one is gone with the same record.
    pub fn put_xattr(&mut self, ino: InodeNo, name: &[u8], value: &[u8]) -> Result<(), Stop> {
        self.drop_xattr(ino, name)?;
        let tablet = ino.tablet();
        let hash = self.core.pool.name_hash(name);
        let head = XattrHead {
            value_len: (value.len() as u32).into(),
            name_len: name.len() as u8,
            reserved: 0,
        };
        let room = XATTR_PART_BYTES - name.len();
        let (first, rest) = value.split_at(value.len().min(room));
        let mut part0 = head.as_bytes().to_vec();
        part0.extend_from_slice(name);
        part0.extend_from_slice(first);
        self.put(tablet, Key::xattr(ino, hash, 0), &part0);
        for (index, bytes) in rest.chunks(XATTR_PART_BYTES).enumerate() {
            self.put(tablet, Key::xattr(ino, hash, index as u16 + 1), bytes);
        }
        Ok(())
    }

    /// Removes one; `NoXattr` is for the caller to say. True when there was one.
    pub fn drop_xattr(&mut self, ino: InodeNo, name: &[u8]) -> Result<bool, Stop> {
        let hash = self.core.pool.name_hash(name);
        let from = Key::xattr(ino, hash, 0);
        let end = Key::xattr(ino, hash, u16::MAX).successor();
        let parts = self.xattr_parts(ino, from, end)?;
        let any = !parts.is_empty();
        for key in parts {
            self.delete(ino.tablet(), key);
        }
        Ok(any)
    }

    fn xattr_parts(&self, ino: InodeNo, from: Key, end: Key) -> Result<Vec<Key>, Stop> {
        let mut parts = Vec::new();
        self.scan(ino.tablet(), from, end, |key, _| {
            parts.push(key);
            ControlFlow::Continue(())
        })?;
        Ok(parts)
    }

    /// A page of names behind a place, of those that are wanted, and where to go on if there may be more.
    /// A page ends also after `XATTR_SCAN_ITEMS` items, so it may be empty before the end.
    pub fn xattr_names(
        &self,
        ino: InodeNo,
        after: Option<XattrPlace>,
        count_max: usize,
        wants: impl Fn(XattrNamespace) -> bool,
    ) -> Result<(Vec<Vec<u8>>, Option<XattrPlace>), Stop> {
        let prefix = Key::of_kind(ino, KIND_XATTR);
        let from = after.map_or(prefix, |place| Key::xattr(ino, place, u16::MAX).successor());
        let (mut names, mut broken) = (Vec::new(), None);
        let (mut last, mut items, mut more) = (None, 0, false);
        self.scan(ino.tablet(), from, prefix.prefix_end(), |key, value| {
            let Some(ParsedKey::Xattr { name_hash, part, .. }) = key.parse() else {
                unreachable!("the range holds only this kind of key")
            };
            more = items == XATTR_SCAN_ITEMS || (part == 0 && names.len() == count_max);
            if more {
                return ControlFlow::Break(());
            }
            (last, items) = (Some(name_hash), items + 1);
            if part > 0 {
                return ControlFlow::Continue(());
            }
            match XattrHead::parse(value) {
                Ok((_, name, _)) if XattrNamespace::parse(name).is_ok_and(&wants) => {
                    names.push(name.to_vec());
                }
                Ok(_) => {}
                Err(damage) => broken = Some(damage),
            }
            if broken.is_some() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        })?;
        match broken {
            Some(damage) => Err(self.damaged(ino.tablet(), damage)),
            None => Ok((names, last.filter(|_| more))),
        }
    }

    /// One step of removing the xattrs of an inode that is being deleted, all but what its deletion keeps:
    /// the hidden ones that fit, in the order of their keys, and the first of those that do not, which
    /// says that there were more until the deletion says it. That is a choice which any number of steps,
    /// begun anew after a crash, comes to in the same way. Gives what is left once that is all, and
    /// nothing while there is more to remove; `items_max` bounds what this removes, up to the last part
    /// of a name.
    pub fn remove_xattrs_step(
        &mut self,
        ino: InodeNo,
        items_max: usize,
    ) -> Result<XattrStep, Stop> {
        let tablet = ino.tablet();
        let prefix = Key::of_kind(ino, KIND_XATTR);
        let mut kept = KeptXattrs::default();
        let (mut goes, mut going, mut more, mut broken) = (Vec::new(), false, false, None);
        self.scan(tablet, prefix, prefix.prefix_end(), |key, value| {
            if matches!(key.parse(), Some(ParsedKey::Xattr { part: 0, .. })) {
                more = goes.len() >= items_max;
                if more {
                    return ControlFlow::Break(());
                }
                match XattrHead::parse(value) {
                    Ok((head, name, first)) => {
                        let is_whole = first.len() == head.value_len.get() as usize;
                        going = !kept.keeps(name, first, is_whole);
                    }
                    Err(damage) => {
                        broken = Some(damage);
                        return ControlFlow::Break(());
                    }
                }
            }
            if going {
                goes.push(key)
            } else {
                kept.items.push(key)
            }
            ControlFlow::Continue(())
        })?;
        if let Some(damage) = broken {
            return Err(self.damaged(tablet, damage));
        }
        let removed = goes.len();
        for key in goes {
            self.delete(tablet, key);
        }
        Ok(XattrStep { removed, left: (!more).then_some(kept) })
    }

    /// Removes what the steps have left, in the record that writes the deletion.
    pub fn remove_kept_xattrs(&mut self, ino: InodeNo, kept: &KeptXattrs) {
        for key in &kept.items {
            self.delete(ino.tablet(), *key);
        }
    }
}

/// What a step of removal has done.
pub struct XattrStep {
    /// Items.
    pub removed: usize,
    /// What is left is what the deletion keeps.
    pub left: Option<KeptXattrs>,
}

impl KeptXattrs {
    /// Takes up one that is to stay until the end; false when it can go at once.
    fn keeps(&mut self, name: &[u8], first: &[u8], is_whole: bool) -> bool {
        if !XattrNamespace::parse(name).is_ok_and(XattrNamespace::is_hidden) {
            return false;
        }
        let xattr = HiddenXattr { name, value: first };
        if is_whole && self.bytes.len() + xattr.encoded_bytes() <= DELETION_XATTRS_BYTES_MAX {
            xattr.encode(&mut self.bytes);
            return true;
        }
        let is_first = self.flags & DELETION_XATTRS_CUT == 0;
        self.flags |= DELETION_XATTRS_CUT;
        is_first
    }
}

/// Refuses names and values that no xattr may have.
pub fn check_xattr(name: &[u8], value: &[u8]) -> Result<XattrNamespace, FsError> {
    let namespace = XattrNamespace::parse(name).map_err(|bad| match bad {
        BadXattrName::TooLong => FsError::XattrNameTooLong,
        BadXattrName::Malformed => FsError::Invalid,
        BadXattrName::Namespace => FsError::XattrNamespace,
        BadXattrName::Tags => FsError::XattrTags,
    })?;
    if value.len() > crate::limits::XATTR_VALUE_BYTES_MAX {
        return Err(FsError::XattrTooBig);
    }
    Ok(namespace)
}
