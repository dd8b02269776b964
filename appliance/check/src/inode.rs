//! Everything that belongs to one inode, as its items pass in key order, and what must agree among
//! them: names by hash with names by position, names with counts, parts with lengths, extents with
//! block counts.
//!
//! What two inodes must agree about is `namespace.rs`'s; what an inode and an index, `items.rs`'s.

use crate::mapping::Mapping;
use crate::namespace::Namespace;
use crate::report::{Findings, Object};
use crate::space::Space;
use cairn_base::hash::{Map, siphash128};
use cairn_format::item::{
    Checksums, ExtentHead, FileKind, FixityItem, INODE_TRUNCATING, InodeItem, LookupItem,
    ReaddirHead, XATTR_PART_BYTES, XattrHead,
};
use cairn_format::key::ParsedKey;
use cairn_format::{Damage, EntryPosition, InodeNo, Key};
use std::cell::Cell;

/// Positions before it stand for the directory itself and its parent in a listing, so a listing that goes on
/// behind them passes over an entry there.
const POSITION_FIRST: u64 = 3;

/// What an inode's items are judged against.
pub(crate) struct Judge<'a> {
    pub name_key: [u8; 16],
    /// Whether data is to be read.
    pub data: bool,
    pub findings: &'a Findings,
    /// Takes the findings of what cannot be judged any more.
    pub dropped: &'a Findings,
    /// Nothing of the tablet was lost so far. Behind a loss items are missing, and older versions of
    /// them come to light, so that contradictions prove nothing.
    pub whole: Cell<bool>,
    pub space: &'a Space,
}

impl<'a> Judge<'a> {
    pub fn name_hash(&self, name: &[u8]) -> u128 {
        siphash128(&self.name_key, name)
    }

    /// Where contradictions between items are noted.
    pub fn findings(&self) -> &'a Findings {
        if self.whole.get() { self.findings } else { self.dropped }
    }
}

/// An entry as the lookup item has it.
struct ByHash {
    name_hash: u128,
    child: u64,
    kind: u8,
}

struct XattrRun {
    name_hash: u128,
    next_part: u16,
    left: u64,
}

pub(crate) struct Current {
    pub ino: InodeNo,
    pub item: Option<InodeItem>,
    symlink: Option<u64>,
    xattr: Option<XattrRun>,
    lookups: Map<u64, ByHash>,
    names: u64,
    name_bytes: u64,
    subdirectories: u64,
    position_max: Option<u64>,
    /// Sums of released data.
    fixities: u64,
    pub mapping: Mapping,
}

impl Current {
    pub fn of(ino: InodeNo) -> Current {
        Current {
            ino,
            item: None,
            symlink: None,
            xattr: None,
            lookups: Map::default(),
            names: 0,
            name_bytes: 0,
            subdirectories: 0,
            position_max: None,
            fixities: 0,
            mapping: Mapping::of(ino),
        }
    }

    pub fn take(
        &mut self,
        key: ParsedKey,
        value: &[u8],
        judge: &Judge<'_>,
        namespace: &mut Namespace,
    ) -> Result<(), Damage> {
        if !matches!(key, ParsedKey::Xattr { .. }) {
            self.end_xattr(judge);
        }
        match key {
            ParsedKey::Inode(_) => {
                let item = InodeItem::parse(value)?;
                self.mapping.begin(&item);
                self.item = Some(item);
            }
            ParsedKey::Symlink(_) => {
                if value.is_empty() || value.contains(&0) {
                    return Err(Damage::Value("symlink"));
                }
                self.symlink = Some(value.len() as u64);
            }
            ParsedKey::BackReference { child, dir, position } => {
                if !value.is_empty() {
                    return Err(Damage::Bounds("back reference"));
                }
                namespace.back(child, dir, position);
            }
            ParsedKey::Xattr { name_hash, part, .. } => {
                self.xattr_part(name_hash, part, value, judge)?;
            }
            ParsedKey::Lookup { name_hash, .. } => {
                let item = LookupItem::parse(value)?;
                let by_hash = ByHash { name_hash, child: item.child.get(), kind: item.kind };
                if self.lookups.insert(item.position.get(), by_hash).is_some() {
                    self.note(judge, "name", "two lookup entries have one position");
                }
            }
            ParsedKey::Readdir { position, .. } => {
                self.readdir(position, value, judge, namespace)?;
            }
            ParsedKey::Extent { file_block, .. } => {
                let (head, _) = ExtentHead::parse(value)?;
                self.mapping.extent(file_block, &head, judge.space, judge.findings());
            }
            ParsedKey::Checksums { group, .. } => {
                let sums = Checksums::parse(value)?;
                self.mapping.checksums(group, &sums, judge.data, judge.findings());
            }
            ParsedKey::Fixity { mib, .. } => {
                let fixity = FixityItem::parse(value)?;
                self.mapping.fixity(mib, &fixity, judge.findings());
                self.fixities += 1;
            }
            _ => return Err(Damage::Value("key")),
        }
        Ok(())
    }

    fn note(&self, judge: &Judge<'_>, kind: &'static str, detail: impl std::fmt::Display) {
        judge.findings().note(kind, Object::Inode(self.ino), detail);
    }

    fn xattr_part(
        &mut self,
        name_hash: u128,
        part: u16,
        value: &[u8],
        judge: &Judge<'_>,
    ) -> Result<(), Damage> {
        if part == 0 {
            self.end_xattr(judge);
            let (head, name, first) = XattrHead::parse(value)?;
            if siphash128(&judge.name_key, name) != name_hash {
                self.note(judge, "xattr", "its key is not the hash of its name");
            }
            let left = u64::from(head.value_len.get()) - first.len() as u64;
            self.xattr = Some(XattrRun { name_hash, next_part: 1, left });
            return Ok(());
        }
        let run = self.xattr.as_mut().filter(|run| {
            run.name_hash == name_hash && run.next_part == part && run.left >= value.len() as u64
        });
        let Some(run) = run else {
            self.note(judge, "xattr", format!("part {part} follows no part before it"));
            return Ok(());
        };
        if value.is_empty() || value.len() > XATTR_PART_BYTES {
            return Err(Damage::Bounds("xattr part"));
        }
        run.left -= value.len() as u64;
        run.next_part += 1;
        Ok(())
    }

    fn end_xattr(&mut self, judge: &Judge<'_>) {
        if let Some(run) = self.xattr.take()
            && run.left > 0
        {
            self.note(judge, "xattr", format!("{} bytes of a value are missing", run.left));
        }
    }

    fn readdir(
        &mut self,
        position: EntryPosition,
        value: &[u8],
        judge: &Judge<'_>,
        namespace: &mut Namespace,
    ) -> Result<(), Damage> {
        let (head, name) = ReaddirHead::parse(value)?;
        let kind = FileKind::parse(head.kind)?;
        let child = InodeNo::from_raw(head.child.get()).ok_or(Damage::Value("readdir child"))?;
        self.names += 1;
        self.name_bytes += name.len() as u64;
        self.subdirectories += u64::from(kind == FileKind::Directory);
        self.position_max = self.position_max.max(Some(position.0));
        namespace.name(self.ino, position, child, kind, name);
        let entry = || Object::Entry { dir: self.ino, name: name.into() };
        if position.0 < POSITION_FIRST {
            let detail = format!("has position {position}, which stands for `.` or `..`");
            judge.findings().note("name", entry(), detail);
        }
        match self.lookups.remove(&position.0) {
            None => judge.findings().note("name", entry(), "cannot be looked up"),
            Some(by_hash) => {
                if by_hash.name_hash != siphash128(&judge.name_key, name) {
                    judge.findings().note(
                        "name",
                        entry(),
                        "its lookup entry has another name's hash",
                    );
                }
                if (by_hash.child, by_hash.kind) != (head.child.get(), head.kind) {
                    judge.findings().note("name", entry(), "its lookup entry names another inode");
                }
            }
        }
        Ok(())
    }

    /// All items have come.
    pub fn finish(&mut self, judge: &Judge<'_>) {
        self.end_xattr(judge);
        for (position, lookup) in &self.lookups {
            let key = Key::lookup(self.ino, lookup.name_hash);
            let object = Object::Item(self.ino.tablet(), key);
            let detail = format!("there is no entry at its position {position}");
            judge.findings().note("name", object, detail);
        }
        let Some(item) = self.item else {
            self.note(judge, "inode", "has items, but no inode");
            return;
        };
        let kind = item.file_kind();
        if kind == FileKind::Directory {
            self.finish_directory(&item, judge);
        } else if self.names > 0 {
            self.note(judge, "directory", "has entries and is no directory");
        }
        if kind == FileKind::Regular {
            self.mapping.finish(&item, judge.findings());
        } else {
            self.finish_without_data(&item, judge);
        }
        match (kind, self.symlink) {
            (FileKind::Symlink, Some(len)) if len == item.size.get() => {}
            (FileKind::Symlink, Some(len)) => {
                let detail = format!("its target has {len} bytes, its size is {}", item.size);
                self.note(judge, "symlink", detail);
            }
            (FileKind::Symlink, None) if item.nlink.get() > 0 => {
                self.note(judge, "symlink", "has no target");
            }
            (FileKind::Symlink, None) | (_, None) => {}
            (_, Some(_)) => self.note(judge, "symlink", "has a target and is no symlink"),
        }
        let plain = matches!(
            kind,
            FileKind::Regular | FileKind::Symlink | FileKind::Fifo | FileKind::Socket
        );
        if plain && item.special.get() != 0 {
            self.note(judge, "inode", "has a device number or entry position and no use for it");
        }
    }

    /// What only a regular file has, this must not have.
    fn finish_without_data(&self, item: &InodeItem, judge: &Judge<'_>) {
        if self.mapping.extents > 0 {
            self.note(judge, "extent", "has extents and is no regular file");
        }
        if self.fixities > 0 {
            self.note(judge, "fixity", "has sums of released data and is no regular file");
        }
        let (online, offline) = (item.online_blocks, item.offline_blocks);
        if online.get() > 0 || offline.get() > 0 {
            let detail =
                format!("says {online} online, {offline} offline blocks and is no regular file");
            self.note(judge, "inode", detail);
        }
        if item.data_seq.get() > 0 {
            let detail = format!("has data_seq {} and is no regular file", item.data_seq);
            self.note(judge, "inode", detail);
        }
        if item.flags & INODE_TRUNCATING != 0 {
            self.note(judge, "inode", "is being truncated and is no regular file");
        }
    }

    fn finish_directory(&self, item: &InodeItem, judge: &Judge<'_>) {
        let nlink = u64::from(item.nlink.get());
        let expected = 2 + self.subdirectories;
        if nlink == 0 {
            if self.names > 0 {
                let detail = format!("was removed and still has {} entries", self.names);
                self.note(judge, "directory", detail);
            }
        } else if nlink != expected {
            let detail = format!("has {nlink} links, its subdirectories make it {expected}");
            self.note(judge, "directory", detail);
        }
        if item.size.get() != self.name_bytes {
            let detail =
                format!("its size is {}, its names have {} bytes", item.size, self.name_bytes);
            self.note(judge, "directory", detail);
        }
        if self.position_max.is_some_and(|max| max >= item.special.get()) {
            let detail = format!("its next entry position {} is in use", item.special);
            self.note(judge, "directory", detail);
        }
    }
}
