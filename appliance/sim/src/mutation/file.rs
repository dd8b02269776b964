//! A file's data: extents against each other, against the size and against who else owns the blocks, and
//! checksums against extents.

use super::Mutation;
use super::Which::{Mixed, Split};
use super::patient::{Lacks, Patient};
use cairn_base::{BlockNo, DeviceId, Run};
use cairn_format::item::{
    CHECKSUMS_PER_ITEM, Checksums, EXTENT_SHARED, EXTENT_UNWRITTEN, ExtentHead, FixityItem,
    FreeRunItem,
};
use cairn_format::key::Purpose;
use cairn_format::{InodeNo, Key};
use zerocopy::IntoBytes;

/// Blocks of an aligned file MiB.
const MIB_BLOCKS: u64 = 256;

fn words(ino: InodeNo, file_block: u64) -> impl Fn(&str) -> String {
    move |path| format!("ino:{ino} {path}, file block {file_block}")
}

/// The file's extent of that number that is on a device.
fn extent(p: &Patient<'_>, path: &str, nth: usize) -> Result<(InodeNo, u64, ExtentHead), Lacks> {
    let ino = p.ino(path)?;
    let (first, head) = *p.extents(ino).get(nth).ok_or("the file has no such extent")?;
    Ok((ino, first, head))
}

fn run_of(head: &ExtentHead) -> Run {
    Run::new(BlockNo::from_raw(head.start.get()), head.blocks())
}

/// Moves an extent within its file; its checksums stay.
fn move_extent(p: &mut Patient<'_>, path: &str, nth: usize, to: u64) -> Result<String, Lacks> {
    let (ino, first, head) = extent(p, path, nth)?;
    p.delete(ino.tablet(), Key::extent(ino, first))?;
    p.put_extent(ino, to, &head);
    Ok(words(ino, to)(path))
}

fn patch(
    p: &mut Patient<'_>,
    path: &str,
    nth: usize,
    change: impl FnOnce(&mut ExtentHead),
) -> Result<(InodeNo, u64, ExtentHead), Lacks> {
    let (ino, first, mut head) = extent(p, path, nth)?;
    change(&mut head);
    p.put_extent(ino, first, &head);
    Ok((ino, first, head))
}

/// Takes the checksum of a file's block, or puts one there.
fn set_checksum(
    p: &mut Patient<'_>,
    ino: InodeNo,
    block: u64,
    crc: Option<u32>,
) -> Result<(), Lacks> {
    let slot = (block % CHECKSUMS_PER_ITEM) as usize;
    p.patch_checksums(ino, block / CHECKSUMS_PER_ITEM, |sums: &mut Checksums| sums.set(slot, crc))
}

pub const ALL: &[Mutation] = &[
    Mutation {
        name: "extents-overlap",
        breaks: "two extents of a file cover one block of it",
        pool: Mixed,
        finding: ["extent", "overlaps the extent before it"],
        apply: |p| {
            let (_, first, head) = extent(p, "/a/many", 0)?;
            move_extent(p, "/a/many", 1, first + head.blocks() - 1)
        },
    },
    Mutation {
        name: "extent-crosses-a-mib",
        breaks: "an extent lies in two aligned MiB of its file",
        pool: Mixed,
        finding: ["extent", "crosses an aligned MiB"],
        apply: |p| move_extent(p, "/a/many", 1, MIB_BLOCKS - 1),
    },
    Mutation {
        name: "extent-behind-the-size",
        breaks: "an extent lies behind its file's end",
        pool: Mixed,
        finding: ["extent", "data up to byte"],
        apply: |p| move_extent(p, "/a/many", 1, 100 * MIB_BLOCKS).map(|_| "/a/many".into()),
    },
    Mutation {
        name: "extent-behind-the-largest-file",
        breaks: "an extent lies where no file reaches",
        pool: Mixed,
        finding: ["extent", "ends behind the largest file"],
        apply: |p| move_extent(p, "/a/many", 1, (1 << 52) - 1),
    },
    Mutation {
        name: "orphaned-extent",
        breaks: "blocks that a file had are nobody's: neither mapped nor free",
        pool: Mixed,
        finding: ["space", "belongs to nobody"],
        apply: |p| {
            let (ino, first, head) = extent(p, "/a/many", 1)?;
            p.delete(ino.tablet(), Key::extent(ino, first))?;
            for block in first..first + head.blocks() {
                set_checksum(p, ino, block, None)?;
            }
            p.patch_inode(ino, |item| item.online_blocks -= head.blocks())?;
            Ok(format!("blocks {:?}", run_of(&head)))
        },
    },
    Mutation {
        name: "doubly-owned-extent",
        breaks: "two files have the same block",
        pool: Mixed,
        finding: ["space", "is owned twice"],
        apply: |p| {
            let (other, first, head) = extent(p, "/b/big", 0)?;
            let sums = p.get(other.tablet(), &Key::checksums(other, first / CHECKSUMS_PER_ITEM));
            let sums = Checksums::parse(&sums.ok_or("the file has no checksums")?)
                .map_err(|_| "checksums are not sound")?;
            let crc = sums.get((first % CHECKSUMS_PER_ITEM) as usize);
            // In a hole of the file, with its own checksum and its own count: only the owner is wrong.
            let (ino, hole) = (p.ino("/a/many")?, 6);
            p.put_extent(ino, hole, &ExtentHead { length: 4096.into(), ..head });
            set_checksum(p, ino, hole, crc)?;
            p.patch_inode(ino, |item| item.online_blocks += 1)?;
            Ok(format!("data of ino:{ino} "))
        },
    },
    Mutation {
        name: "owned-and-free",
        breaks: "blocks of a file are in the free runs",
        pool: Mixed,
        finding: ["space", "is owned twice"],
        apply: |p| {
            let (ino, _, head) = extent(p, "/b/big", 0)?;
            let (tablet, run) = (ino.tablet(), run_of(&head));
            let item = FreeRunItem { blocks: run.blocks.into() };
            p.put(tablet, Key::free_run(Purpose::Data, run.start), item.as_bytes());
            p.totals(tablet).free_data += run.blocks;
            Ok(format!("free data space of tablet {tablet}"))
        },
    },
    Mutation {
        name: "extent-outside-its-device",
        breaks: "an extent lies behind the end of its device",
        pool: Mixed,
        finding: ["space", "lies outside the pool's devices"],
        apply: |p| {
            let start = BlockNo::new(DeviceId(0), 1 << 30).raw();
            let (ino, ..) = patch(p, "/a/many", 1, |head| head.start = start.into())?;
            Ok(format!("data of ino:{ino} "))
        },
    },
    Mutation {
        name: "extent-on-no-device",
        breaks: "an extent lies on a device that the pool does not have",
        pool: Mixed,
        finding: ["space", "lies outside the pool's devices"],
        apply: |p| {
            let start = BlockNo::new(DeviceId(7), 4096).raw();
            let (ino, ..) = patch(p, "/a/many", 1, |head| head.start = start.into())?;
            Ok(format!("data of ino:{ino} "))
        },
    },
    Mutation {
        name: "data-among-metadata",
        breaks: "a file's data lies on the device for metadata",
        pool: Split,
        finding: ["space", "another role"],
        apply: |p| {
            let (_, _, head) = extent(p, "/b/big", 0)?;
            let start = BlockNo::new(DeviceId(0), run_of(&head).start.index()).raw();
            let (ino, ..) = patch(p, "/b/big", 0, |head| head.start = start.into())?;
            Ok(format!("data of ino:{ino} "))
        },
    },
    Mutation {
        name: "blocks-exchanged",
        breaks: "two extents of a file have each other's blocks",
        pool: Mixed,
        finding: ["data", "does not match its checksum"],
        apply: |p| {
            let ((_, _, one), (ino, first, other)) =
                (extent(p, "/a/many", 0)?, extent(p, "/a/many", 1)?);
            patch(p, "/a/many", 0, |head| head.start = other.start)?;
            patch(p, "/a/many", 1, |head| head.start = one.start)?;
            Ok(words(ino, first)("/a/many"))
        },
    },
    Mutation {
        name: "extent-unwritten",
        breaks: "data that was written reads as zeros",
        pool: Mixed,
        finding: ["checksum", "a checksum without mapped data"],
        apply: |p| {
            let (ino, first, head) = patch(p, "/a/many", 1, |head| head.flags |= EXTENT_UNWRITTEN)?;
            p.patch_inode(ino, |item| item.online_blocks -= head.blocks())?;
            Ok(words(ino, first)("/a/many"))
        },
    },
    Mutation {
        name: "extent-shortened",
        breaks: "the last block of an extent is lost to its file",
        pool: Mixed,
        finding: ["inode", "online blocks, its extents have"],
        apply: |p| {
            let (ino, ..) =
                patch(p, "/b/big", 0, |head| head.length = (head.length.get() - 4096).into())?;
            Ok(super::inode::words(ino))
        },
    },
    Mutation {
        name: "extent-empty",
        breaks: "an extent of no bytes",
        pool: Mixed,
        finding: ["item", "extent length"],
        apply: |p| {
            let (ino, ..) = patch(p, "/a/many", 1, |head| head.length = 0.into())?;
            Ok(super::inode::words(ino))
        },
    },
    Mutation {
        name: "extent-flag-unknown",
        breaks: "an extent says its blocks have other owners, which none can have yet",
        pool: Mixed,
        finding: ["item", "extent flags"],
        apply: |p| {
            let (ino, ..) = patch(p, "/a/many", 1, |head| head.flags |= EXTENT_SHARED)?;
            Ok(super::inode::words(ino))
        },
    },
    Mutation {
        name: "extent-of-a-fifo",
        breaks: "a fifo has data",
        pool: Mixed,
        finding: ["extent", "has extents and is no regular file"],
        apply: |p| {
            let (other, first, head) = extent(p, "/a/many", 1)?;
            p.delete(other.tablet(), Key::extent(other, first))?;
            let ino = p.ino("/d/pipe")?;
            p.put_extent(ino, first, &head);
            Ok(super::inode::words(ino))
        },
    },
    Mutation {
        name: "inline-data-cut",
        breaks: "inline data is shorter than its extent says",
        pool: Mixed,
        finding: ["item", "extent length"],
        apply: |p| {
            let ino = p.ino("/a/inline")?;
            let mut value = p.get(ino.tablet(), &Key::extent(ino, 0)).ok_or("it is not inline")?;
            value.pop();
            p.put_of(ino, Key::extent(ino, 0), &value);
            Ok(super::inode::words(ino))
        },
    },
    Mutation {
        name: "checksum-missing",
        breaks: "a block of a file cannot be proven",
        pool: Mixed,
        finding: ["checksum", "mapped data without a checksum"],
        apply: |p| {
            let (ino, first, _) = extent(p, "/a/many", 1)?;
            set_checksum(p, ino, first + 1, None)?;
            Ok(words(ino, first + 1)("/a/many"))
        },
    },
    Mutation {
        name: "checksums-missing",
        breaks: "a whole group of checksums is gone",
        pool: Mixed,
        finding: ["checksum", "mapped data without a checksum"],
        apply: |p| {
            let ino = p.ino("/b/big")?;
            p.delete(ino.tablet(), Key::checksums(ino, 1))?;
            Ok(words(ino, CHECKSUMS_PER_ITEM)("/b/big"))
        },
    },
    Mutation {
        name: "checksum-surplus",
        breaks: "a hole has a checksum",
        pool: Mixed,
        finding: ["checksum", "a checksum without mapped data"],
        apply: |p| {
            let ino = p.ino("/a/many")?;
            set_checksum(p, ino, 6, Some(0x1234_5678))?;
            Ok(words(ino, 6)("/a/many"))
        },
    },
    Mutation {
        name: "checksum-wrong",
        breaks: "a block does not match its checksum",
        pool: Split,
        finding: ["data", "does not match its checksum"],
        apply: |p| {
            let (ino, first, _) = extent(p, "/b/big", 0)?;
            set_checksum(p, ino, first + 3, Some(0x1234_5678))?;
            Ok(words(ino, first + 3)("/b/big"))
        },
    },
    Mutation {
        name: "fixity-of-online-data",
        breaks: "a sum of released data has a block that is online, and never comes out",
        pool: Mixed,
        finding: ["fixity", "a sum over 1 blocks of its MiB that are not offline"],
        apply: |p| {
            let ino = p.ino("/b/big")?;
            let mut fixity = FixityItem::EMPTY;
            fixity.add(9, 0x1234_5678);
            p.put_of(ino, Key::fixity(ino, 0), fixity.as_bytes());
            Ok(words(ino, 9)("/b/big"))
        },
    },
    Mutation {
        name: "fixity-of-a-fifo",
        breaks: "a fifo has a sum of released data",
        pool: Mixed,
        finding: ["fixity", "has sums of released data and is no regular file"],
        apply: |p| {
            let ino = p.ino("/d/pipe")?;
            let mut fixity = FixityItem::EMPTY;
            fixity.add(0, 1);
            p.put_of(ino, Key::fixity(ino, 0), fixity.as_bytes());
            Ok(super::inode::words(ino))
        },
    },
    Mutation {
        name: "staged-data-unsummed",
        breaks: "staged data waits for a comparison that nobody can make",
        pool: Mixed,
        finding: ["fixity", "staged data waits for a sum that is not there"],
        apply: |p| {
            let ino = p.ino("/b/archived")?;
            p.delete(ino.tablet(), Key::fixity(ino, 1))?;
            Ok(words(ino, MIB_BLOCKS)("/b/archived"))
        },
    },
    Mutation {
        name: "staged-data-without-checksum",
        breaks: "a block that was staged cannot be compared",
        pool: Mixed,
        finding: ["checksum", "mapped data without a checksum"],
        apply: |p| {
            let ino = p.ino("/b/archived")?;
            set_checksum(p, ino, MIB_BLOCKS + 5, None)?;
            Ok(words(ino, MIB_BLOCKS + 5)("/b/archived"))
        },
    },
    Mutation {
        name: "fixity-malformed",
        breaks: "a fixity item of the wrong length",
        pool: Mixed,
        finding: ["item", "fixity"],
        apply: |p| {
            let ino = p.ino("/b/big")?;
            p.put_of(ino, Key::fixity(ino, 0), b"123");
            Ok(super::inode::words(ino))
        },
    },
];
