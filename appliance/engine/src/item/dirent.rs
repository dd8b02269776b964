//! Directory entries through a view. An entry is three items: by hash of the name for lookup, by
//! position for readdir, and the child's back reference (which may lie in another tablet, so it is
//! a change of its own).

use crate::error::FsError;
use crate::txn::{Stop, View};
use cairn_format::item::{FileKind, InodeItem, LookupItem, ReaddirHead, Site};
use cairn_format::key::Key;
use cairn_format::{EntryPosition, InodeNo};
use zerocopy::IntoBytes;

/// What a name stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry {
    pub child: InodeNo,
    pub kind: FileKind,
    pub position: EntryPosition,
}

/// A name on its way into a directory.
pub struct NewEntry<'n> {
    pub site: Site,
    pub name: &'n [u8],
    pub child: InodeNo,
    pub kind: FileKind,
}

impl View<'_> {
    pub fn entry(&self, dir: InodeNo, name: &[u8]) -> Result<Option<Entry>, Stop> {
        let tablet = dir.tablet();
        let key = Key::lookup(dir, self.core.pool.name_hash(name));
        let Some(value) = self.get(tablet, &key)? else { return Ok(None) };
        let item = LookupItem::parse(&value).map_err(|damage| self.damaged(tablet, damage))?;
        let child = InodeNo::from_raw(item.child.get()).expect("parse refuses inode 0");
        if self.core.locks.is_unborn(child) {
            return Err(Stop::Locked(child));
        }
        let kind = FileKind::parse(item.kind).expect("parse checked the kind");
        Ok(Some(Entry { child, kind, position: EntryPosition(item.position.get()) }))
    }

    pub fn require_entry(&self, dir: InodeNo, name: &[u8]) -> Result<Entry, Stop> {
        self.entry(dir, name)?.ok_or(FsError::NotFound.into())
    }

    /// Puts both entry items of a name.
    pub fn put_entry(&mut self, entry: &NewEntry<'_>) {
        let Site { dir, position } = entry.site;
        let tablet = dir.tablet();
        let lookup = LookupItem {
            child: entry.child.raw().into(),
            position: position.0.into(),
            kind: entry.kind as u8,
        };
        let key = Key::lookup(dir, self.core.pool.name_hash(entry.name));
        self.put(tablet, key, lookup.as_bytes());
        let head = ReaddirHead { child: entry.child.raw().into(), kind: entry.kind as u8 };
        let mut value = head.as_bytes().to_vec();
        value.extend_from_slice(entry.name);
        self.put(tablet, Key::readdir(dir, position), &value);
    }

    pub fn drop_entry(&mut self, site: Site, name: &[u8]) {
        let tablet = site.dir.tablet();
        let key = Key::lookup(site.dir, self.core.pool.name_hash(name));
        self.delete(tablet, key);
        self.delete(tablet, Key::readdir(site.dir, site.position));
    }

    pub fn put_back_reference(&mut self, child: InodeNo, site: Site) {
        self.put(child.tablet(), Key::back_reference(child, site.dir, site.position), &[]);
    }

    pub fn drop_back_reference(&mut self, child: InodeNo, site: Site) {
        self.delete(child.tablet(), Key::back_reference(child, site.dir, site.position));
    }

    /// The first place an inode is named at; a directory has one, the root none.
    pub fn first_site(&self, child: InodeNo) -> Result<Option<Site>, Stop> {
        let prefix = Key::of_kind(child, cairn_format::key::KIND_BACK_REFERENCE);
        let found = self.first(child.tablet(), prefix, prefix.prefix_end())?;
        Ok(found.and_then(|(key, _)| match key.parse() {
            Some(cairn_format::key::ParsedKey::BackReference { dir, position, .. }) => {
                Some(Site { dir, position })
            }
            _ => None,
        }))
    }

    /// The position the next new name of `dir` gets.
    pub fn next_position(dir: &InodeItem) -> EntryPosition {
        EntryPosition(dir.special.get())
    }
}
