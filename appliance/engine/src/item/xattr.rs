//! Extended attributes through a view: a value in parts, found by the hash of its name.

use crate::error::FsError;
use crate::txn::{Stop, View};
use cairn_format::InodeNo;
use cairn_format::item::{DELETION_XATTRS_CUT, XATTR_PART_BYTES, XattrHead};
use cairn_format::key::{KIND_XATTR, Key, ParsedKey};
use std::ops::ControlFlow;
use zerocopy::IntoBytes;

/// Names that only archive agents see, and that the deletion index keeps.
const HIDDEN: [&[u8]; 2] = [b"scoutfs.", b"cairn."];
const HIDE_TAG: &[u8] = b"hide.";

/// Bytes of hidden xattrs that a deletion keeps, beside the name.
const DELETION_XATTR_BYTES: usize = 4096 - 255;

/// Hidden xattrs as the deletion index keeps them: name length, value length, name, value.
pub struct HiddenXattrs {
    pub bytes: Vec<u8>,
    pub cut: u8,
}

/// One part's item, for removal.
pub struct XattrPart(pub Key);

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
        for XattrPart(key) in parts {
            self.delete(ino.tablet(), key);
        }
        Ok(any)
    }

    fn xattr_parts(&self, ino: InodeNo, from: Key, end: Key) -> Result<Vec<XattrPart>, Stop> {
        let mut parts = Vec::new();
        self.scan(ino.tablet(), from, end, |key, _| {
            parts.push(XattrPart(key));
            ControlFlow::Continue(())
        })?;
        Ok(parts)
    }

    /// Every name with its value's first part.
    fn each_xattr(
        &self,
        ino: InodeNo,
        mut each: impl FnMut(&[u8], &[u8], u32) -> ControlFlow<()>,
    ) -> Result<(), Stop> {
        let tablet = ino.tablet();
        let prefix = Key::of_kind(ino, KIND_XATTR);
        let mut broken = None;
        self.scan(tablet, prefix, prefix.prefix_end(), |key, value| {
            if !matches!(key.parse(), Some(ParsedKey::Xattr { part: 0, .. })) {
                return ControlFlow::Continue(());
            }
            match XattrHead::parse(value) {
                Ok((head, name, first)) => each(name, first, head.value_len.get()),
                Err(damage) => {
                    broken = Some(damage);
                    ControlFlow::Break(())
                }
            }
        })?;
        broken.map_or(Ok(()), |damage| Err(self.damaged(tablet, damage)))
    }

    pub fn xattr_names(&self, ino: InodeNo) -> Result<Vec<Vec<u8>>, Stop> {
        let mut names = Vec::new();
        self.each_xattr(ino, |name, _, _| {
            names.push(name.to_vec());
            ControlFlow::Continue(())
        })?;
        Ok(names)
    }

    pub fn hidden_xattrs(&self, ino: InodeNo) -> Result<HiddenXattrs, Stop> {
        let mut kept = HiddenXattrs { bytes: Vec::new(), cut: 0 };
        self.each_xattr(ino, |name, first, value_len| {
            if is_hidden(name) {
                let whole = first.len() == value_len as usize;
                let bytes = 3 + name.len() + first.len();
                if !whole || kept.bytes.len() + bytes > DELETION_XATTR_BYTES {
                    kept.cut = DELETION_XATTRS_CUT;
                } else {
                    kept.bytes.push(name.len() as u8);
                    kept.bytes.extend_from_slice(&(first.len() as u16).to_le_bytes());
                    kept.bytes.extend_from_slice(name);
                    kept.bytes.extend_from_slice(first);
                }
            }
            ControlFlow::Continue(())
        })?;
        Ok(kept)
    }

    pub fn remove_xattrs(&mut self, ino: InodeNo) -> Result<(), Stop> {
        let prefix = Key::of_kind(ino, KIND_XATTR);
        for XattrPart(key) in self.xattr_parts(ino, prefix, prefix.prefix_end())? {
            self.delete(ino.tablet(), key);
        }
        Ok(())
    }
}

/// A tagged name with the `hide.` tag among its tags.
pub fn is_hidden(name: &[u8]) -> bool {
    let tags = HIDDEN.iter().find_map(|prefix| name.strip_prefix(*prefix));
    let Some(mut rest) = tags else { return false };
    const TAGS: [&[u8]; 4] = [HIDE_TAG, b"srch.", b"totl.", b"indx."];
    while let Some(tag) = TAGS.iter().find(|tag| rest.starts_with(tag)) {
        if *tag == HIDE_TAG {
            return true;
        }
        rest = &rest[tag.len()..];
    }
    false
}

/// Refuses names and values no xattr may have.
pub fn check_xattr(name: &[u8], value: &[u8]) -> Result<(), FsError> {
    if name.is_empty() || name.contains(&0) {
        return Err(FsError::Invalid);
    }
    if name.len() > 255 {
        return Err(FsError::NameTooLong);
    }
    if value.len() > crate::limits::XATTR_VALUE_BYTES_MAX {
        return Err(FsError::XattrTooBig);
    }
    Ok(())
}
