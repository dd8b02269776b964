//! The bytes of every kind of block and item, as they are on disks out there. A difference means
//! that the format changed: that wants a version decision, not a new image. `CAIRN_BLESS=1` rewrites
//! the images.

use crate::sample::{self, block, inode};
use cairn_format::item::*;
use cairn_format::key::Purpose;
use cairn_format::{EntryPosition, Epoch, Key, NodeId, OpId, Seq, ShardId};
use std::path::PathBuf;
use zerocopy::IntoBytes;

fn compare(name: &str, bytes: &[u8]) {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("tests/golden")
        .join(name)
        .with_extension("bin");
    if std::env::var_os("CAIRN_BLESS").is_some_and(|value| value == "1") {
        std::fs::write(&path, bytes).expect("the golden folder is writable");
    }
    let golden = std::fs::read(&path).unwrap_or_else(|_| panic!("no golden image {name}"));
    let differs = golden.iter().zip(bytes).position(|(a, b)| a != b);
    assert!(
        golden == bytes,
        "{name}: {} bytes now, {} in the image, first difference at {differs:?}",
        bytes.len(),
        golden.len(),
    );
}

/// An item's image is what a section of the write log would hold of it: the key's length, the key,
/// the value.
fn compare_item(name: &str, key: Key, value: &[&[u8]]) {
    assert!(key.parse().is_some(), "{name}: a key that does not come apart");
    let mut bytes = vec![key.as_bytes().len() as u8];
    bytes.extend_from_slice(key.as_bytes());
    bytes.extend_from_slice(&value.concat());
    compare(&format!("item-{name}"), &bytes);
}

#[test]
fn blocks_have_the_bytes_they_always_had() {
    compare("superblock", sample::superblock().as_bytes());
    compare("tablet-root", &sample::root_block());
    compare("batch", &sample::batch());
    compare("leaf", &sample::leaf().0);
    compare("interior", &sample::interior().0);
    compare("filter", &sample::filter().0);
}

#[test]
fn items_of_inodes_have_the_bytes_they_always_had() {
    let item = InodeItem {
        mode: 0o640.into(),
        kind: FileKind::Regular as u8,
        flags: INODE_RETENTION,
        nlink: 1.into(),
        uid: 1000.into(),
        gid: 100.into(),
        size: 123_456.into(),
        atime: (-1).into(),
        mtime: 2.into(),
        ctime: 3.into(),
        crtime: 4.into(),
        meta_seq: 5.into(),
        data_seq: 6.into(),
        data_version: 7.into(),
        online_blocks: 8.into(),
        offline_blocks: 9.into(),
        special: 0.into(),
    };
    assert_eq!(InodeItem::parse(item.as_bytes()), Ok(item));
    compare_item("inode", Key::inode(inode(5)), &[item.as_bytes()]);
    compare_item("symlink", Key::symlink(inode(5)), &[b"../target"]);
    let key = Key::back_reference(inode(5), inode(1), EntryPosition(3));
    compare_item("back-reference", key, &[]);

    let head = XattrHead { value_len: 5.into(), name_len: 9, reserved: 0 };
    let value = [head.as_bytes(), b"user.testvalue"].concat();
    assert_eq!(XattrHead::parse(&value), Ok((head, &b"user.test"[..], &b"value"[..])));
    compare_item("xattr", Key::xattr(inode(5), 0xabc, 0), &[&value]);

    let item = LookupItem { child: 77.into(), position: 3.into(), kind: FileKind::Directory as u8 };
    assert_eq!(LookupItem::parse(item.as_bytes()), Ok(item));
    compare_item("lookup", Key::lookup(inode(5), 0xabc), &[item.as_bytes()]);

    let head = ReaddirHead { child: 77.into(), kind: FileKind::Directory as u8 };
    let value = [head.as_bytes(), b"name"].concat();
    assert_eq!(ReaddirHead::parse(&value), Ok((head, &b"name"[..])));
    compare_item("readdir", Key::readdir(inode(5), EntryPosition(3)), &[&value]);
}

#[test]
fn items_of_data_have_the_bytes_they_always_had() {
    let run = ExtentHead {
        start: block(5000).raw().into(),
        length: 1_048_577.into(),
        flags: EXTENT_UNWRITTEN,
        version: 0,
    };
    assert_eq!(ExtentHead::parse(run.as_bytes()), Ok((run, &[][..])));
    assert_eq!(run.blocks(), 257);
    compare_item("extent", Key::extent(inode(5), 16), &[run.as_bytes()]);

    let inline = ExtentHead { start: 0.into(), length: 5.into(), flags: EXTENT_INLINE, version: 0 };
    let value = [inline.as_bytes(), b"hello"].concat();
    assert_eq!(ExtentHead::parse(&value), Ok((inline, &b"hello"[..])));
    compare_item("extent-inline", Key::extent(inode(5), 0), &[&value]);

    let mut sums = Checksums::NONE;
    sums.set(0, Some(1));
    sums.set(63, Some(0xffff_ffff));
    let mut buf = [0; Checksums::ENCODED_BYTES_MAX];
    let len = sums.encode(&mut buf);
    assert_eq!(Checksums::parse(&buf[..len]), Ok(sums));
    compare_item("checksums", Key::checksums(inode(5), 2), &[&buf[..len]]);

    let item = FixityItem { released: [3.into(), 0.into(), 0.into(), 0.into()], crc: 9.into() };
    assert_eq!(FixityItem::parse(item.as_bytes()), Ok(item));
    compare_item("fixity", Key::fixity(inode(5), 1), &[item.as_bytes()]);
}

#[test]
fn items_of_indexes_have_the_bytes_they_always_had() {
    compare_item("meta-seq", Key::meta_seq(Seq(99), inode(5)), &[]);
    compare_item("data-seq", Key::data_seq(Seq(98), inode(5)), &[]);
    compare_item("srch", Key::srch(0xabc, inode(5)), &[]);

    let kept = HiddenXattr { name: b"cairn.hide.tape", value: b"A00001L8" };
    let mut xattrs = Vec::new();
    kept.encode(&mut xattrs);
    assert_eq!(xattrs, b"\x0f\x08\x00cairn.hide.tapeA00001L8");
    let head = DeletionHead {
        last_parent: 1.into(),
        data_version: 7.into(),
        kind: FileKind::Regular as u8,
        flags: DELETION_XATTRS_CUT,
        name_len: 4,
        reserved: 0,
        xattrs_len: 26.into(),
    };
    let value = [head.as_bytes(), b"gone", &xattrs].concat();
    let (read, name, read_xattrs) = DeletionHead::parse(&value).expect("a deletion");
    assert_eq!((read, name), (head, &b"gone"[..]));
    assert_eq!(read_xattrs.iter().collect::<Vec<_>>(), [kept]);
    compare_item("deletion", Key::deletion(Seq(100), inode(5)), &[&value]);

    let item = TotlItem { total: (-5).into(), count: 2.into() };
    assert_eq!(TotlItem::parse(item.as_bytes()), Ok(item));
    compare_item("totl", Key::totl([1, 2, 3]), &[item.as_bytes()]);

    let item = IndxItem { count: 1.into() };
    assert_eq!(IndxItem::parse(item.as_bytes()), Ok(item));
    compare_item("indx", Key::indx(3, 4, inode(5)), &[item.as_bytes()]);
}

#[test]
fn items_of_tablets_have_the_bytes_they_always_had() {
    let head = OrphanHead { last_parent: 1.into() };
    let value = [head.as_bytes(), b"gone"].concat();
    assert_eq!(OrphanHead::parse(&value), Ok((head, &b"gone"[..])));
    compare_item("orphan", Key::orphan(inode(5)), &[&value]);

    let item = FreeRunItem { blocks: 40.into() };
    assert_eq!(FreeRunItem::parse(item.as_bytes()), Ok(item));
    compare_item("free-run", Key::free_run(Purpose::Data, block(700)), &[item.as_bytes()]);

    let head = ConsumerHead {
        seq: 99.into(),
        inode: 5.into(),
        floor: 90.into(),
        created: 1_000.into(),
        acked: 2_000.into(),
    };
    let value = [head.as_bytes(), b"tape"].concat();
    assert_eq!(ConsumerHead::parse(&value), Ok((head, "tape")));
    compare_item("consumer", Key::consumer(0xabc), &[&value]);

    let item = TrimmedItem { seq: 98.into(), inode: 4.into() };
    assert_eq!(TrimmedItem::parse(item.as_bytes()), Ok(item));
    compare_item("trimmed", Key::trimmed(), &[item.as_bytes()]);

    let item = ScrubItem {
        pass: 1.into(),
        began: 2.into(),
        ended: 3.into(),
        findings: 4.into(),
        rate: 5.into(),
        state: SCRUB_PAUSED,
        reserved: [0; 7],
    };
    assert_eq!(ScrubItem::parse(item.as_bytes()), Ok(item));
    compare_item("scrub", Key::scrub(), &[item.as_bytes()]);

    let head = ScrubPlaceHead {
        pass: 1.into(),
        nodes: 2.into(),
        blocks: 3.into(),
        findings: 5.into(),
        unlisted: 4.into(),
        done: 0,
        reserved: [0; 7],
    };
    let cursor = Key::extent(inode(5), 6);
    let value = [head.as_bytes(), cursor.as_bytes()].concat();
    assert_eq!(ScrubPlaceHead::parse(&value), Ok((head, cursor)));
    compare_item("scrub-place", Key::scrub_place(), &[&value]);

    let cause = Cause::new(CAUSE_MEDIA, 5);
    let item =
        DamagedDataItem { pass: 1.into(), start: block(700).raw().into(), blocks: 2.into(), cause };
    assert_eq!(DamagedDataItem::parse(item.as_bytes()), Ok(item));
    compare_item("damaged-data", Key::damaged_data(inode(5), 6), &[item.as_bytes()]);

    let head = DamagedBlockHead {
        pass: 1.into(),
        cause: Cause::new(CAUSE_MISDIRECTED, 9),
        what: DAMAGED_NODE,
        tree: 2,
        from_len: cursor.as_bytes().len() as u8,
        reserved: [0; 5],
    };
    let value = [head.as_bytes(), cursor.as_bytes(), Key::MAX.as_bytes()].concat();
    assert_eq!(DamagedBlockHead::parse(&value), Ok((head, cursor, Key::MAX)));
    compare_item("damaged-block", Key::damaged_block(block(700)), &[&value]);

    let item = QuotaRuleItem {
        name: [1.into(), 2.into(), 3.into()],
        limit: 4.into(),
        priority: 5,
        operation: 6,
        name_source: [7, 8, 9],
        name_flags: [10, 11, 12],
    };
    assert_eq!(QuotaRuleItem::parse(item.as_bytes()), Ok(item));
    compare_item("quota", Key::quota(0xabc), &[item.as_bytes()]);

    let item = ProjectItem { inodes: 1.into(), blocks: 2.into() };
    assert_eq!(ProjectItem::parse(item.as_bytes()), Ok(item));
    compare_item("project", Key::project(42), &[item.as_bytes()]);

    let op = OpId { node: NodeId(1), shard: ShardId(2), epoch: Epoch(3), counter: 4 };
    compare_item("pending", Key::pending(op), &[b"edits"]);
    compare_item("done", Key::done(op), &[]);
}
