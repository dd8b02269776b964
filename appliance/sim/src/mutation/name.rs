//! Names: directory entries by hash and by position, back references, and what has no name.

use super::Mutation;
use super::Which::Mixed;
use super::inode::words;
use super::patient::{Lacks, Patient};
use cairn_format::item::{FileKind, LookupItem, OrphanHead, ReaddirHead};
use cairn_format::{EntryPosition, InodeNo, Key};
use zerocopy::{FromBytes, IntoBytes};

/// An inode number that is in no use, in the same tablet.
pub fn nobody(like: InodeNo) -> InodeNo {
    InodeNo::new(like.tablet(), 1 << 40).expect("a counter that fits")
}

fn patch_lookup(
    p: &mut Patient<'_>,
    dir: InodeNo,
    name: &str,
    change: impl FnOnce(&mut LookupItem),
) -> Result<(), Lacks> {
    let mut item = p.lookup(dir, name)?;
    change(&mut item);
    p.put_of(dir, Key::lookup(dir, p.name_hash(name)), item.as_bytes());
    Ok(())
}

fn patch_readdir(
    p: &mut Patient<'_>,
    dir: InodeNo,
    name: &str,
    change: impl FnOnce(&mut ReaddirHead),
) -> Result<(), Lacks> {
    let key = Key::readdir(dir, p.position(dir, name)?);
    let mut value = p.get(dir.tablet(), &key).ok_or("there is no such entry")?;
    let (head, _) = ReaddirHead::mut_from_prefix(&mut value).map_err(|_| "a short entry")?;
    change(head);
    p.put_of(dir, key, &value);
    Ok(())
}

/// An entry at a position, by hash and by position, and its back reference; sizes and links are the
/// caller's.
pub fn put_entry(
    p: &mut Patient<'_>,
    dir: InodeNo,
    (name, position): (&str, u64),
    (child, kind): (InodeNo, FileKind),
) {
    let kind = kind as u8;
    let lookup = LookupItem { child: child.raw().into(), position: position.into(), kind };
    let head = ReaddirHead { child: child.raw().into(), kind };
    p.put_of(dir, Key::lookup(dir, p.name_hash(name)), lookup.as_bytes());
    let value = [head.as_bytes(), name.as_bytes()].concat();
    p.put_of(dir, Key::readdir(dir, EntryPosition(position)), &value);
    p.put_of(child, Key::back_reference(child, dir, EntryPosition(position)), &[]);
}

/// Takes an entry out, with its back reference; sizes and links are the caller's.
fn take_entry(p: &mut Patient<'_>, dir: InodeNo, name: &str) -> Result<InodeNo, Lacks> {
    let (item, hash) = (p.lookup(dir, name)?, p.name_hash(name));
    let position = EntryPosition(item.position.get());
    let child = InodeNo::from_raw(item.child.get()).ok_or("an entry names an inode")?;
    p.delete(dir.tablet(), Key::lookup(dir, hash))?;
    p.delete(dir.tablet(), Key::readdir(dir, position))?;
    p.delete(child.tablet(), Key::back_reference(child, dir, position))?;
    Ok(child)
}

/// The directory learns of an entry that is added.
pub fn grow(p: &mut Patient<'_>, dir: InodeNo, name: &str, links: u32) -> Result<u64, Lacks> {
    let position = p.inode(dir)?.special.get();
    p.patch_inode(dir, |item| {
        item.size += name.len() as u64;
        item.special += 1;
        item.nlink += links;
    })?;
    Ok(position)
}

pub const ALL: &[Mutation] = &[
    Mutation {
        name: "dangling-entry",
        breaks: "a name leads to an inode that does not exist",
        pool: Mixed,
        finding: ["name", "which does not exist"],
        apply: |p| {
            let dir = p.ino("/d")?;
            let child = nobody(dir).raw();
            patch_lookup(p, dir, "pipe", |item| item.child = child.into())?;
            patch_readdir(p, dir, "pipe", |head| head.child = child.into())?;
            Ok("entry \"pipe\"".into())
        },
    },
    Mutation {
        name: "entry-not-listed",
        breaks: "a name can be looked up and is not in the listing",
        pool: Mixed,
        finding: ["name", "there is no entry at its position"],
        apply: |p| {
            let dir = p.ino("/d")?;
            let key = Key::readdir(dir, p.position(dir, "pipe")?);
            p.delete(dir.tablet(), key)?;
            Ok(words(dir))
        },
    },
    Mutation {
        name: "entry-not-found",
        breaks: "a name is in the listing and cannot be looked up",
        pool: Mixed,
        finding: ["name", "cannot be looked up"],
        apply: |p| {
            let dir = p.ino("/d")?;
            p.delete(dir.tablet(), Key::lookup(dir, p.name_hash("pipe")))?;
            Ok("entry \"pipe\"".into())
        },
    },
    Mutation {
        name: "lookup-leads-elsewhere",
        breaks: "a lookup finds another inode than the listing names",
        pool: Mixed,
        finding: ["name", "its lookup entry names another inode"],
        apply: |p| {
            let (dir, other) = (p.ino("/d")?, p.ino("/d/null")?);
            patch_lookup(p, dir, "pipe", |item| item.child = other.raw().into())?;
            Ok("entry \"pipe\"".into())
        },
    },
    Mutation {
        name: "listing-leads-elsewhere",
        breaks: "the listing names another inode than a lookup finds",
        pool: Mixed,
        finding: ["name", "its lookup entry names another inode"],
        apply: |p| {
            let (dir, other) = (p.ino("/d")?, p.ino("/d/null")?);
            patch_readdir(p, dir, "pipe", |head| head.child = other.raw().into())?;
            Ok("entry \"pipe\"".into())
        },
    },
    Mutation {
        name: "lookup-under-another-hash",
        breaks: "a lookup entry is filed under another name's hash",
        pool: Mixed,
        finding: ["name", "another name's hash"],
        apply: |p| {
            let dir = p.ino("/d")?;
            let value = p.delete(dir.tablet(), Key::lookup(dir, p.name_hash("pipe")))?;
            p.put_of(dir, Key::lookup(dir, p.name_hash("pope")), &value);
            Ok("entry \"pipe\"".into())
        },
    },
    Mutation {
        name: "name-rewritten",
        breaks: "an entry's name is not the one it was filed under",
        pool: Mixed,
        finding: ["name", "another name's hash"],
        apply: |p| {
            let dir = p.ino("/d")?;
            let key = Key::readdir(dir, p.position(dir, "pipe")?);
            let mut value = p.get(dir.tablet(), &key).ok_or("there is no such entry")?;
            *value.last_mut().ok_or("an empty entry")? = b's';
            p.put_of(dir, key, &value);
            Ok("entry \"pips\"".into())
        },
    },
    Mutation {
        name: "entry-of-wrong-kind",
        breaks: "both halves of an entry say a fifo is a socket",
        pool: Mixed,
        finding: ["name", "says Socket"],
        apply: |p| {
            let (dir, kind) = (p.ino("/d")?, FileKind::Socket as u8);
            patch_lookup(p, dir, "pipe", |item| item.kind = kind)?;
            patch_readdir(p, dir, "pipe", |head| head.kind = kind)?;
            Ok("entry \"pipe\"".into())
        },
    },
    Mutation {
        name: "name-twice",
        breaks: "a directory lists one name twice",
        pool: Mixed,
        finding: ["name", "cannot be looked up"],
        apply: |p| {
            let (dir, child) = (p.ino("/d")?, p.ino("/d/pipe")?);
            let position = grow(p, dir, "pipe", 0)?;
            put_entry(p, dir, ("pipe", position), (child, FileKind::Fifo));
            p.patch_inode(child, |item| item.nlink += 1)?;
            Ok("entry \"pipe\"".into())
        },
    },
    Mutation {
        name: "position-twice",
        breaks: "two lookup entries have one position",
        pool: Mixed,
        finding: ["name", "two lookup entries have one position"],
        apply: |p| {
            let dir = p.ino("/d")?;
            let position = p.lookup(dir, "null")?.position;
            patch_lookup(p, dir, "pipe", |item| item.position = position)?;
            Ok(words(dir))
        },
    },
    Mutation {
        name: "position-reserved",
        breaks: "an entry has the position that stands for the directory itself",
        pool: Mixed,
        finding: ["name", "position"],
        apply: |p| {
            let (dir, child) = (p.ino("/d")?, take_entry_of(p, "/d", "pipe")?);
            put_entry(p, dir, ("pipe", 1), (child, FileKind::Fifo));
            Ok("entry \"pipe\"".into())
        },
    },
    Mutation {
        name: "back-reference-missing",
        breaks: "an inode does not know one of its names, in another tablet",
        pool: Mixed,
        finding: ["link", "has no back reference to it"],
        apply: |p| {
            let (dir, child) = (p.ino("/d")?, p.ino("/b/hard")?);
            let key = Key::back_reference(child, dir, p.position(dir, "hard three")?);
            p.delete(child.tablet(), key)?;
            Ok("entry \"hard three\"".into())
        },
    },
    Mutation {
        name: "back-reference-surplus",
        breaks: "an inode refers back to an entry that is not there",
        pool: Mixed,
        finding: ["link", "where there is no such entry"],
        apply: |p| {
            let (dir, child) = (p.ino("/d")?, p.ino("/b/hard")?);
            p.put_of(child, Key::back_reference(child, dir, EntryPosition(99_999)), &[]);
            Ok(words(child))
        },
    },
    Mutation {
        name: "back-reference-elsewhere",
        breaks: "a back reference names another directory",
        pool: Mixed,
        finding: ["link", "where there is no such entry"],
        apply: |p| {
            let (dir, other, child) = (p.ino("/d")?, p.ino("/c")?, p.ino("/d/pipe")?);
            let position = p.position(dir, "pipe")?;
            p.delete(child.tablet(), Key::back_reference(child, dir, position))?;
            p.put_of(child, Key::back_reference(child, other, EntryPosition(99_999)), &[]);
            Ok(words(child))
        },
    },
    Mutation {
        name: "back-reference-with-a-value",
        breaks: "a back reference carries bytes",
        pool: Mixed,
        finding: ["item", "back reference"],
        apply: |p| {
            let (dir, child) = (p.ino("/d")?, p.ino("/d/pipe")?);
            let key = Key::back_reference(child, dir, p.position(dir, "pipe")?);
            p.put_of(child, key, b"x");
            Ok(words(child))
        },
    },
    Mutation {
        name: "directory-with-two-parents",
        breaks: "a directory has two names",
        pool: Mixed,
        finding: ["link", "a directory with 2 parents"],
        apply: |p| {
            let (dir, child) = (p.ino("/d")?, p.ino("/a/inner")?);
            let position = grow(p, dir, "again", 1)?;
            put_entry(p, dir, ("again", position), (child, FileKind::Directory));
            Ok(words(child))
        },
    },
    Mutation {
        name: "ring-of-directories",
        breaks: "a directory is inside itself, and hangs on nothing",
        pool: Mixed,
        finding: ["link", "is inside itself"],
        apply: |p| {
            let (dir, deep) = (p.ino("/a")?, p.ino("/a/inner/deep")?);
            let inner = take_entry_of(p, "/a", "inner")?;
            p.patch_inode(dir, |item| {
                item.size -= 5;
                item.nlink -= 1;
            })?;
            let position = grow(p, deep, "inner", 1)?;
            put_entry(p, deep, ("inner", position), (inner, FileKind::Directory));
            Ok("ino:".into())
        },
    },
    Mutation {
        name: "names-in-a-file",
        breaks: "a regular file has entries",
        pool: Mixed,
        finding: ["directory", "has entries and is no directory"],
        apply: |p| {
            let (file, child) = (p.ino("/a/many")?, p.ino("/d/pipe")?);
            put_entry(p, file, ("inside", 3), (child, FileKind::Fifo));
            p.patch_inode(child, |item| item.nlink += 1)?;
            Ok(words(file))
        },
    },
    Mutation {
        name: "no-name-and-no-orphan",
        breaks: "a file lost its last name and is kept for ever",
        pool: Mixed,
        finding: ["orphan", "has no link and is no orphan"],
        apply: |p| {
            let dir = p.ino("/d")?;
            let child = take_entry_of(p, "/d", "pipe")?;
            p.patch_inode(dir, |item| item.size -= 4)?;
            p.patch_inode(child, |item| item.nlink = 0.into())?;
            Ok(format!("ino:{child}"))
        },
    },
    Mutation {
        name: "orphan-with-a-name",
        breaks: "a file with a name is to be removed",
        pool: Mixed,
        finding: ["orphan", "is an orphan with 1 links"],
        apply: |p| {
            let (dir, child) = (p.ino("/d")?, p.ino("/d/pipe")?);
            let head = OrphanHead { last_parent: dir.raw().into() };
            p.put_of(child, Key::orphan(child), head.as_bytes());
            p.totals(child.tablet()).orphans += 1;
            Ok(words(child))
        },
    },
    Mutation {
        name: "orphan-of-nobody",
        breaks: "an orphan entry names an inode that does not exist",
        pool: Mixed,
        finding: ["orphan", "does not exist"],
        apply: |p| {
            let ghost = nobody(p.ino("/d")?);
            let head = OrphanHead { last_parent: 1.into() };
            p.put_of(ghost, Key::orphan(ghost), head.as_bytes());
            p.totals(ghost.tablet()).orphans += 1;
            Ok(format!("ino:{ghost}"))
        },
    },
];

fn take_entry_of(p: &mut Patient<'_>, dir: &str, name: &str) -> Result<InodeNo, Lacks> {
    let dir = p.ino(dir)?;
    take_entry(p, dir, name)
}
