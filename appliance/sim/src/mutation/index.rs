//! The change indexes and the deletion index: each inode in them once, at the seq it says, and nothing
//! that the inodes do not say.

use super::Mutation;
use super::Which::Mixed;
use super::name::nobody;
use super::patient::{Lacks, Patient};
use cairn_format::item::{ConsumerHead, DeletionHead, IndxItem, TrimmedItem};
use cairn_format::key::ParsedKey;
use cairn_format::{InodeNo, Key, Seq, TabletId};
use zerocopy::{FromBytes, FromZeros, IntoBytes};

const CONSUMER: &str = "tape";
const CHANGED: &str = "/b/big";

fn changed(p: &Patient<'_>) -> Result<(InodeNo, Seq, Seq), Lacks> {
    let ino = p.ino(CHANGED)?;
    let item = p.inode(ino)?;
    Ok((ino, Seq(item.meta_seq.get()), Seq(item.data_seq.get())))
}

/// A note of a file that is gone.
fn deletion(p: &Patient<'_>) -> Result<(TabletId, InodeNo, Seq, Vec<u8>), Lacks> {
    let found = p.find(|key, value| match key {
        ParsedKey::Deletion(seq, ino) => Some((ino, seq, value.to_vec())),
        _ => None,
    });
    let (tablet, (ino, seq, value)) = found.ok_or("nothing was deleted")?;
    Ok((tablet, ino, seq, value))
}

/// Above everything that was ever given out.
fn future(p: &Patient<'_>) -> Seq {
    let ceilings = p.layout().logs.iter().map(|log| log.last().ceiling.get());
    Seq(ceilings.max().unwrap_or(0) + 1_000_000)
}

fn put_deletion(p: &mut Patient<'_>, tablet: TabletId, key: Key, value: &[u8]) -> String {
    p.put(tablet, key, value);
    p.totals(tablet).deletions += 1;
    format!("tablet {tablet} {key:?}")
}

fn put_trimmed(p: &mut Patient<'_>, tablet: TabletId, seq: Seq, ino: InodeNo) {
    let item = TrimmedItem { seq: seq.0.into(), inode: ino.raw().into() };
    p.put(tablet, Key::trimmed(), item.as_bytes());
}

fn put_consumer(
    p: &mut Patient<'_>,
    tablet: TabletId,
    name: &str,
    seq: Seq,
    floor: Seq,
) -> Result<String, Lacks> {
    let key = Key::consumer(p.name_hash(name));
    let head = ConsumerHead {
        seq: seq.0.into(),
        inode: 1.into(),
        floor: floor.0.into(),
        created: 1.into(),
        acked: 0.into(),
    };
    p.put(tablet, key, &[head.as_bytes(), CONSUMER.as_bytes()].concat());
    Ok(format!("tablet {tablet} {key:?}"))
}

fn words(ino: InodeNo) -> String {
    format!("ino:{ino}")
}

pub const ALL: &[Mutation] = &[
    Mutation {
        name: "meta-index-entry-missing",
        breaks: "a change is not told to those who follow changes",
        pool: Mixed,
        finding: ["index", "is not in meta_seq"],
        apply: |p| {
            let (ino, seq, _) = changed(p)?;
            p.delete(ino.tablet(), Key::meta_seq(seq, ino))?;
            Ok(words(ino))
        },
    },
    Mutation {
        name: "meta-index-entry-surplus",
        breaks: "an old change is told a second time",
        pool: Mixed,
        finding: ["index", "the inode says"],
        apply: |p| {
            let (ino, seq, _) = changed(p)?;
            p.put_of(ino, Key::meta_seq(Seq(seq.0 - 1), ino), &[]);
            Ok(words(ino))
        },
    },
    Mutation {
        name: "meta-index-entry-stale",
        breaks: "an index entry stayed where the inode was before",
        pool: Mixed,
        finding: ["index", "the inode says"],
        apply: |p| {
            let (ino, seq, _) = changed(p)?;
            p.delete(ino.tablet(), Key::meta_seq(seq, ino))?;
            p.put_of(ino, Key::meta_seq(Seq(seq.0 - 1), ino), &[]);
            Ok(words(ino))
        },
    },
    Mutation {
        name: "meta-seq-of-an-inode",
        breaks: "an inode says another seq than its index entry",
        pool: Mixed,
        finding: ["index", "is not in meta_seq"],
        apply: |p| {
            let (ino, ..) = changed(p)?;
            p.patch_inode(ino, |item| item.meta_seq -= 1)?;
            Ok(words(ino))
        },
    },
    Mutation {
        name: "meta-index-of-nobody",
        breaks: "a change of an inode that does not exist",
        pool: Mixed,
        finding: ["index", "the inode does not exist"],
        apply: |p| {
            let (ino, seq, _) = changed(p)?;
            let ghost = nobody(ino);
            p.put_of(ghost, Key::meta_seq(seq, ghost), &[]);
            Ok(words(ghost))
        },
    },
    Mutation {
        name: "meta-index-above-the-ceiling",
        breaks: "a seq that was never given out",
        pool: Mixed,
        finding: ["index", "is above every ceiling"],
        apply: |p| {
            let ((ino, seq, _), future) = (changed(p)?, future(p));
            p.delete(ino.tablet(), Key::meta_seq(seq, ino))?;
            p.put_of(ino, Key::meta_seq(future, ino), &[]);
            p.patch_inode(ino, |item| item.meta_seq = future.0.into())?;
            Ok(words(ino))
        },
    },
    Mutation {
        name: "data-index-entry-missing",
        breaks: "a change of data is not told",
        pool: Mixed,
        finding: ["index", "is not in data_seq"],
        apply: |p| {
            let (ino, _, seq) = changed(p)?;
            p.delete(ino.tablet(), Key::data_seq(seq, ino))?;
            Ok(words(ino))
        },
    },
    Mutation {
        name: "data-index-entry-surplus",
        breaks: "an old change of data is told a second time",
        pool: Mixed,
        finding: ["index", "the inode says"],
        apply: |p| {
            let (ino, _, seq) = changed(p)?;
            p.put_of(ino, Key::data_seq(Seq(seq.0 - 1), ino), &[]);
            Ok(words(ino))
        },
    },
    Mutation {
        name: "data-index-of-a-directory",
        breaks: "a directory's data changed",
        pool: Mixed,
        finding: ["index", "the inode is no regular file"],
        apply: |p| {
            let ((_, seq, _), dir) = (changed(p)?, p.ino("/c")?);
            p.put_of(dir, Key::data_seq(seq, dir), &[]);
            Ok(words(dir))
        },
    },
    Mutation {
        name: "index-entry-with-a-value",
        breaks: "an index entry carries bytes",
        pool: Mixed,
        finding: ["item", "index value"],
        apply: |p| {
            let (ino, seq, _) = changed(p)?;
            p.put_of(ino, Key::meta_seq(seq, ino), b"x");
            Ok(words(ino))
        },
    },
    Mutation {
        name: "deletion-of-an-inode-that-exists",
        breaks: "a file is told as deleted and is there",
        pool: Mixed,
        finding: ["index", "the inode exists"],
        apply: |p| {
            let (ino, seq, _) = changed(p)?;
            let (_, _, _, value) = deletion(p)?;
            Ok(put_deletion(p, ino.tablet(), Key::deletion(seq, ino), &value))
        },
    },
    Mutation {
        name: "deletion-twice",
        breaks: "a file is told as deleted at two times",
        pool: Mixed,
        finding: ["index", "was deleted before"],
        apply: |p| {
            let (tablet, ino, seq, value) = deletion(p)?;
            put_deletion(p, tablet, Key::deletion(Seq(seq.0 + 1), ino), &value);
            Ok(words(ino))
        },
    },
    Mutation {
        name: "deletion-above-the-ceiling",
        breaks: "a deletion at a seq that was never given out",
        pool: Mixed,
        finding: ["index", "is above every ceiling"],
        apply: |p| {
            let (tablet, ino, seq, value) = deletion(p)?;
            p.delete(tablet, Key::deletion(seq, ino))?;
            let key = Key::deletion(future(p), ino);
            p.put(tablet, key, &value);
            Ok(words(ino))
        },
    },
    Mutation {
        name: "deletion-in-another-tablet",
        breaks: "a tablet tells of a deletion in another",
        pool: Mixed,
        finding: ["item", "belongs to another tablet"],
        apply: |p| {
            let (tablet, ino, seq, value) = deletion(p)?;
            let other = p.tablet_where(|t| t.id != tablet).ok_or("there is one tablet")?.id;
            p.delete(tablet, Key::deletion(seq, ino))?;
            p.totals(tablet).deletions -= 1;
            Ok(put_deletion(p, other, Key::deletion(seq, ino), &value))
        },
    },
    Mutation {
        name: "deletion-above-high-water",
        breaks: "an inode number that was used will be given out again",
        pool: Mixed,
        finding: ["index", "high-water mark"],
        apply: |p| {
            let (tablet, ino, seq, value) = deletion(p)?;
            p.delete(tablet, Key::deletion(seq, ino))?;
            let ghost = nobody(ino);
            p.put(tablet, Key::deletion(seq, ghost), &value);
            Ok(words(ghost))
        },
    },
    Mutation {
        name: "deletion-of-unknown-kind",
        breaks: "what was deleted was of a kind that does not exist",
        pool: Mixed,
        finding: ["item", "file kind"],
        apply: |p| {
            let (tablet, ino, seq, mut value) = deletion(p)?;
            let (head, _) =
                DeletionHead::mut_from_prefix(&mut value).map_err(|_| "a short note")?;
            head.kind = 9;
            p.put(tablet, Key::deletion(seq, ino), &value);
            Ok(words(ino))
        },
    },
    Mutation {
        name: "deletion-cut-short",
        breaks: "the note of a deletion ends in its name",
        pool: Mixed,
        finding: ["item", "deletion"],
        apply: |p| {
            let (tablet, ino, seq, mut value) = deletion(p)?;
            value.pop();
            p.put(tablet, Key::deletion(seq, ino), &value);
            Ok(words(ino))
        },
    },
    Mutation {
        name: "deletion-xattr-cut-short",
        breaks: "what an agent had noted of a file that is gone ends in the middle",
        pool: Mixed,
        finding: ["item", "deletion xattrs"],
        apply: |p| {
            let (tablet, ino, seq, mut value) = deletion(p)?;
            value.pop();
            let (head, _) =
                DeletionHead::mut_from_prefix(&mut value).map_err(|_| "a short note")?;
            head.xattrs_len = (head.xattrs_len.get() - 1).into();
            p.put(tablet, Key::deletion(seq, ino), &value);
            Ok(words(ino))
        },
    },
    Mutation {
        name: "deletion-xattr-not-hidden",
        breaks: "the note of a deletion keeps what was never hidden",
        pool: Mixed,
        finding: ["index", "was not hidden"],
        apply: |p| {
            let (tablet, ino, seq, mut value) = deletion(p)?;
            let tag = b"cairn.hide.";
            let place = value.windows(tag.len()).position(|bytes| bytes == tag);
            let place = place.ok_or("no hidden xattr")?;
            value[place..place + tag.len()].copy_from_slice(b"user.hidden");
            p.put(tablet, Key::deletion(seq, ino), &value);
            Ok(words(ino))
        },
    },
    Mutation {
        name: "deletion-that-was-trimmed",
        breaks: "a deletion is told that no reader behind it expects",
        pool: Mixed,
        finding: ["index", "is left that was trimmed"],
        apply: |p| {
            let (tablet, ino, seq, _) = deletion(p)?;
            put_trimmed(p, tablet, seq, ino);
            Ok(format!("tablet {tablet}"))
        },
    },
    Mutation {
        name: "trimmed-above-the-ceiling",
        breaks: "readers are refused for deletions that have not happened yet",
        pool: Mixed,
        finding: ["index", "trimmed up to above every ceiling"],
        apply: |p| {
            let (tablet, ino, ..) = deletion(p)?;
            put_trimmed(p, tablet, future(p), ino);
            Ok(format!("tablet {tablet}"))
        },
    },
    Mutation {
        name: "consumer-above-the-ceiling",
        breaks: "a consumer misses what happens until its cursor is reached",
        pool: Mixed,
        finding: ["index", "is above every ceiling"],
        apply: |p| {
            let seq = future(p);
            put_consumer(p, InodeNo::ROOT.tablet(), CONSUMER, seq, Seq(0))
        },
    },
    Mutation {
        name: "consumer-floor-above-the-ceiling",
        breaks: "deletions that a consumer waits for are forgotten",
        pool: Mixed,
        finding: ["index", "is above every ceiling"],
        apply: |p| {
            let floor = future(p);
            put_consumer(p, InodeNo::ROOT.tablet(), CONSUMER, Seq(1), floor)
        },
    },
    Mutation {
        name: "consumer-in-another-tablet",
        breaks: "a consumer that nobody finds, and that holds nothing back",
        pool: Mixed,
        finding: ["item", "only tablet 1 has consumers"],
        apply: |p| put_consumer(p, TabletId(2), CONSUMER, Seq(1), Seq(0)),
    },
    Mutation {
        name: "consumer-under-another-hash",
        breaks: "a consumer that its name does not find",
        pool: Mixed,
        finding: ["item", "is not under the hash of its name"],
        apply: |p| put_consumer(p, InodeNo::ROOT.tablet(), "another", Seq(1), Seq(0)),
    },
    Mutation {
        name: "tag-of-nobody",
        breaks: "a search finds an inode that does not exist",
        pool: Mixed,
        finding: ["index", "the inode does not exist"],
        apply: |p| {
            let ghost = nobody(p.ino(CHANGED)?);
            p.put_of(ghost, Key::srch(77, ghost), &[]);
            Ok(words(ghost))
        },
    },
    Mutation {
        name: "number-tag-of-nobody",
        breaks: "a numbered tag names an inode that does not exist",
        pool: Mixed,
        finding: ["index", "the inode does not exist"],
        apply: |p| {
            let ghost = nobody(p.ino(CHANGED)?);
            p.put_of(ghost, Key::indx(1, 2, ghost), IndxItem::new_zeroed().as_bytes());
            Ok(words(ghost))
        },
    },
];
