//! Inodes whose fields contradict their other items, and the items that only an inode has: the target of
//! a symlink and extended attributes.

use super::Mutation;
use super::Which::Mixed;
use super::patient::{Lacks, Patient};
use cairn_format::item::{FileKind, INODE_TRUNCATING, InodeItem, XattrHead};
use cairn_format::key::ParsedKey;
use cairn_format::{InodeNo, Key};
use zerocopy::{FromBytes, IntoBytes};

/// The inode as findings name it.
pub fn words(ino: InodeNo) -> String {
    format!("ino:{ino} ")
}

fn patch(
    patient: &mut Patient<'_>,
    path: &str,
    change: impl FnOnce(&mut InodeItem),
) -> Result<String, Lacks> {
    let ino = patient.ino(path)?;
    patient.patch_inode(ino, change)?;
    Ok(words(ino))
}

/// The key of a part of the large attribute.
fn part(patient: &Patient<'_>, number: u16) -> Result<(InodeNo, Key), Lacks> {
    let ino = patient.ino("/a/inline")?;
    let found = patient.find(|key, _| match key {
        ParsedKey::Xattr { inode, part: 1, name_hash } if inode == ino => Some(name_hash),
        _ => None,
    });
    let (_, name_hash) = found.ok_or("no attribute has parts")?;
    Ok((ino, Key::xattr(ino, name_hash, number)))
}

pub const ALL: &[Mutation] = &[
    Mutation {
        name: "nlink-of-a-file",
        breaks: "a file has one link more than names",
        pool: Mixed,
        finding: ["link", "has 4 links and 3 back references"],
        apply: |p| patch(p, "/b/hard", |item| item.nlink += 1),
    },
    Mutation {
        name: "nlink-of-a-directory",
        breaks: "a directory has a link less than subdirectories make",
        pool: Mixed,
        finding: ["directory", "its subdirectories make it 3"],
        apply: |p| patch(p, "/a", |item| item.nlink -= 1),
    },
    Mutation {
        name: "nlink-zero",
        breaks: "a file with a name has no link",
        pool: Mixed,
        finding: ["orphan", "has no link and is no orphan"],
        apply: |p| patch(p, "/d/pipe", |item| item.nlink = 0.into()),
    },
    Mutation {
        name: "size-below-extents",
        breaks: "a file ends before its data",
        pool: Mixed,
        finding: ["extent", "its size is 4096"],
        apply: |p| patch(p, "/b/big", |item| item.size = 4096.into()),
    },
    Mutation {
        name: "size-of-a-directory",
        breaks: "a directory's size is not the sum of its names",
        pool: Mixed,
        finding: ["directory", "its names have"],
        apply: |p| patch(p, "/a", |item| item.size += 1),
    },
    Mutation {
        name: "next-entry-position",
        breaks: "a directory would give an entry position twice",
        pool: Mixed,
        finding: ["directory", "its next entry position 3 is in use"],
        apply: |p| patch(p, "/a", |item| item.special = 3.into()),
    },
    Mutation {
        name: "size-of-a-symlink",
        breaks: "a symlink's size is not its target's length",
        pool: Mixed,
        finding: ["symlink", "its target has 14 bytes"],
        apply: |p| patch(p, "/c/link", |item| item.size += 1),
    },
    Mutation {
        name: "symlink-target-missing",
        breaks: "a symlink leads nowhere",
        pool: Mixed,
        finding: ["symlink", "has no target"],
        apply: |p| {
            let ino = p.ino("/c/link")?;
            p.delete(ino.tablet(), Key::symlink(ino))?;
            Ok(words(ino))
        },
    },
    Mutation {
        name: "symlink-target-of-a-file",
        breaks: "a regular file has a target",
        pool: Mixed,
        finding: ["symlink", "has a target and is no symlink"],
        apply: |p| {
            let ino = p.ino("/a/many")?;
            p.put_of(ino, Key::symlink(ino), b"there");
            Ok(words(ino))
        },
    },
    Mutation {
        name: "symlink-target-empty",
        breaks: "a symlink's target has no bytes",
        pool: Mixed,
        finding: ["item", "symlink"],
        apply: |p| {
            let ino = p.ino("/c/link")?;
            p.put_of(ino, Key::symlink(ino), b"");
            Ok(words(ino))
        },
    },
    Mutation {
        name: "online-blocks",
        breaks: "a file says one block more than its extents have",
        pool: Mixed,
        finding: ["inode", "online blocks, its extents have"],
        apply: |p| patch(p, "/b/big", |item| item.online_blocks += 1),
    },
    Mutation {
        name: "offline-blocks",
        breaks: "a file says it has blocks on the archive tier",
        pool: Mixed,
        finding: ["inode", "says 1 offline blocks"],
        apply: |p| patch(p, "/b/big", |item| item.offline_blocks += 1),
    },
    Mutation {
        name: "online-blocks-of-a-directory",
        breaks: "a directory says it has data",
        pool: Mixed,
        finding: ["inode", "blocks and is no regular file"],
        apply: |p| patch(p, "/c", |item| item.online_blocks = 7.into()),
    },
    Mutation {
        name: "data-seq-of-a-directory",
        breaks: "a directory says when its data changed",
        pool: Mixed,
        finding: ["inode", "data_seq"],
        apply: |p| patch(p, "/c", |item| item.data_seq = item.meta_seq),
    },
    Mutation {
        name: "kind-of-an-inode",
        breaks: "an inode is another kind of file than its name says",
        pool: Mixed,
        finding: ["name", "says Fifo"],
        apply: |p| {
            patch(p, "/d/pipe", |item| item.kind = FileKind::Socket as u8).map(|_| "pipe".into())
        },
    },
    Mutation {
        name: "kind-unknown",
        breaks: "an inode is of a kind that does not exist",
        pool: Mixed,
        finding: ["item", "file kind"],
        apply: |p| patch(p, "/d/pipe", |item| item.kind = 9),
    },
    Mutation {
        name: "mode-bits",
        breaks: "permission bits that do not exist",
        pool: Mixed,
        finding: ["item", "inode mode"],
        apply: |p| patch(p, "/d/pipe", |item| item.mode = 0o70000.into()),
    },
    Mutation {
        name: "flags-unknown",
        breaks: "a flag that does not exist",
        pool: Mixed,
        finding: ["item", "inode flags"],
        apply: |p| patch(p, "/d/pipe", |item| item.flags = 0x40),
    },
    Mutation {
        name: "truncating-directory",
        breaks: "a directory is being truncated",
        pool: Mixed,
        finding: ["inode", "is being truncated and is no regular file"],
        apply: |p| patch(p, "/c", |item| item.flags |= INODE_TRUNCATING),
    },
    Mutation {
        name: "device-number-of-a-file",
        breaks: "a regular file has a device number",
        pool: Mixed,
        finding: ["inode", "no use for it"],
        apply: |p| patch(p, "/a/many", |item| item.special = 1.into()),
    },
    Mutation {
        name: "inode-missing",
        breaks: "a name, its back reference and its index entry are there, the inode is not",
        pool: Mixed,
        finding: ["inode", "has items, but no inode"],
        apply: |p| {
            let ino = p.ino("/d/pipe")?;
            p.delete(ino.tablet(), Key::inode(ino))?;
            p.totals(ino.tablet()).inodes -= 1;
            Ok(words(ino))
        },
    },
    Mutation {
        name: "root-directory-missing",
        breaks: "there is no root directory",
        pool: Mixed,
        finding: ["inode", "the root does not exist"],
        apply: |p| {
            let root = InodeNo::ROOT;
            p.delete(root.tablet(), Key::inode(root))?;
            p.totals(root.tablet()).inodes -= 1;
            Ok(words(root))
        },
    },
    Mutation {
        name: "inode-of-another-tablet",
        breaks: "a tablet has an inode that is not its own",
        pool: Mixed,
        finding: ["item", "belongs to another tablet"],
        apply: |p| {
            let ino = p.ino("/d/pipe")?;
            let item = p.inode(ino)?;
            let other = p.tablet_where(|t| t.id != ino.tablet()).ok_or("there is one tablet")?;
            p.put(other.id, Key::inode(ino), item.as_bytes());
            Ok(format!("tablet {} ", other.id))
        },
    },
    Mutation {
        name: "inode-above-high-water",
        breaks: "an inode number will be given out again",
        pool: Mixed,
        finding: ["inode", "high-water mark"],
        apply: |p| {
            let ino = p.ino("/c/link")?;
            p.totals(ino.tablet()).inode_high_water = ino.counter().into();
            Ok(words(ino))
        },
    },
    Mutation {
        name: "item-of-unknown-kind",
        breaks: "an inode has an item of a kind that does not exist",
        pool: Mixed,
        finding: ["item", "its key is of no known kind"],
        apply: |p| {
            let ino = p.ino("/a/many")?;
            p.put_of(ino, Key::of_kind(ino, 0x6f), b"");
            Ok(format!("tablet {} ", ino.tablet()))
        },
    },
    Mutation {
        name: "xattr-part-missing",
        breaks: "a part of an attribute's value is missing",
        pool: Mixed,
        finding: ["xattr", "follows no part before it"],
        apply: |p| {
            let (ino, key) = part(p, 1)?;
            p.delete(ino.tablet(), key)?;
            Ok(words(ino))
        },
    },
    Mutation {
        name: "xattr-end-missing",
        breaks: "an attribute's value ends early",
        pool: Mixed,
        finding: ["xattr", "bytes of a value are missing"],
        apply: |p| {
            let (ino, key) = part(p, 2)?;
            p.delete(ino.tablet(), key)?;
            Ok(words(ino))
        },
    },
    Mutation {
        name: "xattr-part-surplus",
        breaks: "an attribute has a part behind its value",
        pool: Mixed,
        finding: ["xattr", "part 3 follows no part before it"],
        apply: |p| {
            let (ino, key) = part(p, 3)?;
            p.put_of(ino, key, b"more");
            Ok(words(ino))
        },
    },
    Mutation {
        name: "xattr-head-missing",
        breaks: "an attribute has parts and no name",
        pool: Mixed,
        finding: ["xattr", "part 1 follows no part before it"],
        apply: |p| {
            let (ino, key) = part(p, 0)?;
            p.delete(ino.tablet(), key)?;
            Ok(words(ino))
        },
    },
    Mutation {
        name: "xattr-length",
        breaks: "an attribute says it has one byte more than it has",
        pool: Mixed,
        finding: ["xattr", "1 bytes of a value are missing"],
        apply: |p| {
            let (ino, key) = part(p, 0)?;
            let mut value = p.get(ino.tablet(), &key).ok_or("the attribute has no head")?;
            let (head, _) = XattrHead::mut_from_prefix(&mut value).map_err(|_| "a short head")?;
            head.value_len += 1;
            p.put_of(ino, key, &value);
            Ok(words(ino))
        },
    },
    Mutation {
        name: "xattr-under-another-name",
        breaks: "an attribute is filed under another name's hash",
        pool: Mixed,
        finding: ["xattr", "its key is not the hash of its name"],
        apply: |p| {
            let ino = p.ino("/a/inline")?;
            let key = Key::xattr(ino, p.name_hash("user.small"), 0);
            let value = p.delete(ino.tablet(), key)?;
            p.put_of(ino, Key::xattr(ino, p.name_hash("user.smell"), 0), &value);
            Ok(words(ino))
        },
    },
];
