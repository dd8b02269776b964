//! Sound bytes of every kind, made by the product's own writers: what the corpus begins with.
//!
//! Small, since mutation finds its way faster through a hundred bytes than through a block: nodes,
//! roots and superblocks leave out the zeros that they mostly are, and targets put them back.

use cairn_base::{BLOCK_BYTES, BlockNo, DeviceId, Run};
use cairn_format::filter::{FilterBuilder, FilterRef, filter_blocks, lookup_hash};
use cairn_format::item::{
    CAUSE_DATA, CAUSE_HASH, Cause, Checksums, ConsumerHead, DAMAGED_NODE, DamagedBlockHead,
    DamagedDataItem, DeletionHead, EXTENT_INLINE, EXTENT_OFFLINE, ExtentHead, FileKind, FixityItem,
    FreeRunItem, HiddenXattr, IndxItem, InodeItem, LookupItem, OrphanHead, PartChange, ProjectItem,
    QuotaRuleItem, ReaddirHead, ScrubItem, ScrubPlaceHead, Site, TotlItem, TrimmedItem, XattrHead,
};
use cairn_format::key::Purpose;
use cairn_format::node::{NODE_BYTES, NodeBuilder, NodeRef};
use cairn_format::superblock::{
    DEVICE_IN_SERVICE, DeviceEntry, LOG_IN_USE, LOG_RETIRING, LogArea, ROLE_DATA, ROLE_META,
    Superblock,
};
use cairn_format::tablet_root::{LogTreeEntry, Replay, RootBody, TabletRootBlock, Totals, TreeRef};
use cairn_format::{EntryPosition, Epoch, InodeNo, Key, NodeId, OpId, Seq, ShardId, TabletId};
use zerocopy::IntoBytes;

pub const FSID: [u8; 16] = *b"cairn-fuzz-pool!";
pub const HANDLE_KEY: [u8; 16] = [0x22; 16];
pub const TABLET: TabletId = TabletId(7);

/// One input, with the name of its file.
#[derive(Clone, Debug)]
pub struct Specimen {
    pub name: String,
    pub bytes: Vec<u8>,
}

impl Specimen {
    pub fn new(name: &str, parts: &[&[u8]]) -> Specimen {
        Specimen { name: name.to_owned(), bytes: parts.concat() }
    }
}

/// Without the zeros at the end.
pub fn trimmed(bytes: &[u8]) -> &[u8] {
    let end = bytes.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
    &bytes[..end]
}

pub fn inode(counter: u64) -> InodeNo {
    InodeNo::new(TABLET, counter).expect("a small counter")
}

pub fn block(index: u64) -> BlockNo {
    BlockNo::new(DeviceId(1), index)
}

pub fn superblock() -> Box<Superblock> {
    let mut superblock = Superblock::zeroed();
    superblock.fsid = FSID;
    superblock.generation = 5.into();
    superblock.epoch = 3.into();
    superblock.created = 1_700_000_000_000_000_000.into();
    superblock.seq_ceiling = 1000.into();
    superblock.tablets = 256.into();
    superblock.device_count = 2;
    superblock.log_count = 3.into();
    superblock.name_key = [0x11; 16];
    superblock.handle_key = HANDLE_KEY;
    superblock.devices[0] = DeviceEntry {
        uuid: [1; 16],
        blocks: 1_000_000.into(),
        zone_blocks: 256.into(),
        generation: 5.into(),
        role: ROLE_META,
        state: DEVICE_IN_SERVICE,
        mirror_group: 1,
        ..DeviceEntry::EMPTY
    };
    superblock.devices[1] = DeviceEntry { uuid: [2; 16], role: ROLE_DATA, ..superblock.devices[0] };
    superblock.devices[1].set_growing_blocks(1000);
    superblock.logs[0] = LogArea {
        state: LOG_IN_USE,
        epoch: 3.into(),
        start: BlockNo::new(DeviceId(0), 1000).raw().into(),
        blocks: 4096.into(),
        ..LogArea::EMPTY
    };
    superblock.logs[2] = LogArea {
        node: 1.into(),
        shard: 1.into(),
        state: LOG_RETIRING,
        start: BlockNo::new(DeviceId(0), 5096).raw().into(),
        ..superblock.logs[0]
    };
    superblock.seal();
    superblock
}

pub fn totals() -> Totals {
    Totals { inode_high_water: 1024.into(), inodes: 17.into(), orphans: 1.into(), ..Totals::ZERO }
}

pub fn root_body() -> RootBody {
    let root = NodeRef::new(block(8192), 12, 0x0123_4567_89ab_cdef);
    let tree = TreeRef { root, items: 1000.into(), nodes: 12.into(), ..TreeRef::EMPTY };
    let mut body = RootBody::empty(TABLET);
    body.generation = 13.into();
    body.epoch = 3.into();
    body.replay = Replay { epoch: 3.into(), position: 77.into(), ..Replay::ZERO };
    body.totals = totals();
    body.newest_meta_seq = 99.into();
    body.newest_data_seq = 98.into();
    body.folded_seq = 80.into();
    body.fs = TreeRef { level: 1, ..tree };
    body.set_log_trees(&[
        LogTreeEntry {
            tree: TreeRef { level: 2, ..tree },
            filter: filter().1,
            spare_start: block(9100).raw().into(),
            spare_blocks: 8.into(),
            frozen_seq: 90.into(),
        },
        LogTreeEntry { tree, frozen_seq: 95.into(), ..LogTreeEntry::EMPTY },
    ]);
    body.set_fold_cursor(Some(&Key::inode(inode(6))));
    body
}

pub fn root_block() -> Vec<u8> {
    let mut bytes = vec![0; BLOCK_BYTES];
    TabletRootBlock::seal(&root_body(), &FSID, &mut bytes);
    bytes
}

pub fn empty_root_block() -> Vec<u8> {
    let mut bytes = vec![0; BLOCK_BYTES];
    TabletRootBlock::seal(&RootBody::empty(TABLET), &FSID, &mut bytes);
    bytes
}

pub fn filter() -> (Vec<u8>, FilterRef) {
    let mut bytes = vec![0; filter_blocks(20) as usize * BLOCK_BYTES];
    let mut filter = FilterBuilder::new(&mut bytes, 20);
    for n in 0..20 {
        filter.add(lookup_hash(inode(n), u128::from(n) << 64 | 0xfeed));
    }
    let at = filter.finish(block(9000));
    (bytes, at)
}

/// A node of these items, in their order.
pub fn node(level: u8, items: &[(Key, Vec<u8>)]) -> (Vec<u8>, NodeRef) {
    let mut bytes = vec![0; NODE_BYTES];
    let mut node = NodeBuilder::new(&mut bytes, TABLET, level);
    for (key, value) in items {
        assert!(node.try_push(key, value, false), "a specimen fits");
    }
    let at = node.finish(block(4096), 12);
    (bytes, at)
}

pub fn interior() -> (Vec<u8>, NodeRef) {
    let mut bytes = vec![0; NODE_BYTES];
    let mut node = NodeBuilder::new(&mut bytes, TABLET, 1);
    let keys = [Key::MIN, Key::inode(inode(6)), Key::meta_seq(Seq(99), inode(5))];
    for (n, key) in (0..).zip(keys) {
        let child = NodeRef::new(block(5000 + 4 * n), 11, 0x0123_4567_89ab_cdef);
        assert!(node.try_push(&key, child.as_bytes(), false));
    }
    node.set_filter(filter().1);
    let at = node.finish(block(8192), 12);
    (bytes, at)
}

/// One item of every kind, in key order.
pub fn items() -> Vec<(Key, Vec<u8>)> {
    let (file, dir) = (inode(5), inode(4));
    let op = OpId { node: NodeId(0), shard: ShardId(1), epoch: Epoch(3), counter: 4 };
    let mut items = vec![
        (Key::inode(file), inode_item().as_bytes().to_vec()),
        (Key::symlink(file), b"../target".to_vec()),
        (Key::back_reference(file, dir, EntryPosition(9)), vec![]),
        (Key::xattr(file, 7, 0), xattr()),
        (Key::xattr(file, 7, 1), b"the rest".to_vec()),
        (Key::lookup(dir, 1 << 70 | 3), lookup().as_bytes().to_vec()),
        (Key::readdir(dir, EntryPosition(9)), readdir()),
        (Key::extent(file, 0), extent(0, EXTENT_INLINE, b"inline")),
        (Key::extent(file, 1), extent(7000, 0, &[])),
        (Key::extent(file, 9), extent(0, EXTENT_OFFLINE, &[])),
        (Key::checksums(file, 0), checksums()),
        (
            Key::fixity(file, 0),
            FixityItem { released: [1.into(); 4], crc: 9.into() }.as_bytes().to_vec(),
        ),
        (Key::meta_seq(Seq(99), file), vec![]),
        (Key::data_seq(Seq(98), file), vec![]),
        (Key::deletion(Seq(97), inode(3)), deletion()),
        (Key::srch(5, file), vec![]),
        (
            Key::totl([1, 2, 3]),
            TotlItem { total: (-5).into(), count: 2.into() }.as_bytes().to_vec(),
        ),
        (Key::indx(1, 2, file), IndxItem { count: 1.into() }.as_bytes().to_vec()),
        (Key::quota(77), quota().as_bytes().to_vec()),
        (Key::project(8), ProjectItem { inodes: 1.into(), blocks: 2.into() }.as_bytes().to_vec()),
        (
            Key::orphan(inode(2)),
            [OrphanHead { last_parent: 1.into() }.as_bytes(), b"gone"].concat(),
        ),
        (
            Key::free_run(Purpose::Data, block(600)),
            FreeRunItem { blocks: 8.into() }.as_bytes().to_vec(),
        ),
        (Key::pending(op), pending()),
        (Key::done(op), vec![]),
        (Key::consumer(6), [consumer().as_bytes(), b"tape"].concat()),
        (Key::scrub(), ScrubItem { pass: 9.into(), ..ScrubItem::NONE }.as_bytes().to_vec()),
        (Key::scrub_place(), scrub_place(file)),
        (Key::damaged_data(file, 3), damaged_data().as_bytes().to_vec()),
        (Key::damaged_block(block(40)), damaged_node(file)),
        (Key::trimmed(), trimmed_to().as_bytes().to_vec()),
    ];
    items.sort_by_key(|(key, _)| *key);
    items
}

/// The last item of all, so its last byte is not zero: zeros at an input's end are cut.
fn trimmed_to() -> TrimmedItem {
    TrimmedItem { seq: 8.into(), inode: (1 << 60 | 2).into() }
}

fn consumer() -> ConsumerHead {
    ConsumerHead {
        seq: 9.into(),
        inode: 1.into(),
        floor: 8.into(),
        created: 100.into(),
        acked: 200.into(),
    }
}

fn scrub_place(file: InodeNo) -> Vec<u8> {
    let head = ScrubPlaceHead {
        pass: 9.into(),
        nodes: 5.into(),
        blocks: 6.into(),
        findings: 2.into(),
        unlisted: 1.into(),
        done: 0,
        reserved: [0; 7],
    };
    [head.as_bytes(), Key::inode(file).as_bytes()].concat()
}

fn damaged_data() -> DamagedDataItem {
    let cause = Cause::new(CAUSE_DATA, 0);
    DamagedDataItem { pass: 9.into(), start: block(600).raw().into(), blocks: 2.into(), cause }
}

fn damaged_node(file: InodeNo) -> Vec<u8> {
    let (from, to) = (Key::inode(file), Key::extent(file, 9));
    let head = DamagedBlockHead {
        pass: 9.into(),
        cause: Cause::new(CAUSE_HASH, 0),
        what: DAMAGED_NODE,
        tree: 1,
        from_len: from.as_bytes().len() as u8,
        reserved: [0; 5],
    };
    [head.as_bytes(), from.as_bytes(), to.as_bytes()].concat()
}

fn inode_item() -> InodeItem {
    InodeItem {
        mode: 0o644.into(),
        kind: FileKind::Regular as u8,
        flags: 0,
        nlink: 1.into(),
        uid: 1000.into(),
        gid: 100.into(),
        size: 5000.into(),
        atime: 1.into(),
        mtime: 2.into(),
        ctime: 3.into(),
        crtime: 4.into(),
        meta_seq: 99.into(),
        data_seq: 98.into(),
        data_version: 7.into(),
        online_blocks: 2.into(),
        offline_blocks: 1.into(),
        special: 0.into(),
    }
}

fn xattr() -> Vec<u8> {
    let head = XattrHead { value_len: 20.into(), name_len: 9, reserved: 0 };
    [head.as_bytes(), b"user.notefirst bytes"].concat()
}

fn lookup() -> LookupItem {
    LookupItem { child: inode(5).raw().into(), position: 9.into(), kind: 1 }
}

fn readdir() -> Vec<u8> {
    [ReaddirHead { child: inode(5).raw().into(), kind: 1 }.as_bytes(), b"name"].concat()
}

fn extent(start: u64, flags: u8, inline: &[u8]) -> Vec<u8> {
    let start = if start == 0 { 0 } else { block(start).raw() };
    let length = if inline.is_empty() { 8192 } else { inline.len() as u64 };
    let head = ExtentHead { start: start.into(), length: length.into(), flags, version: 0 };
    [head.as_bytes(), inline].concat()
}

fn checksums() -> Vec<u8> {
    let mut sums = Checksums::NONE;
    sums.set(1, Some(11));
    sums.set(2, Some(12));
    let mut out = [0; Checksums::ENCODED_BYTES_MAX];
    let len = sums.encode(&mut out);
    out[..len].to_vec()
}

fn deletion() -> Vec<u8> {
    let mut xattrs = Vec::new();
    HiddenXattr { name: b"cairn.hide.tape", value: b"A00001" }.encode(&mut xattrs);
    HiddenXattr { name: b"scoutfs.hide.empty", value: b"" }.encode(&mut xattrs);
    let head = DeletionHead {
        last_parent: inode(4).raw().into(),
        data_version: 7.into(),
        kind: 1,
        flags: 0,
        name_len: 3,
        reserved: 0,
        xattrs_len: (xattrs.len() as u16).into(),
    };
    [head.as_bytes(), b"old", &xattrs].concat()
}

fn quota() -> QuotaRuleItem {
    QuotaRuleItem {
        name: [1.into(), 2.into(), 3.into()],
        limit: 100.into(),
        priority: 1,
        operation: 2,
        name_source: [1; 3],
        name_flags: [0; 3],
    }
}

/// Every change that one tablet can ask of another.
pub fn pending() -> Vec<u8> {
    let (child, kind, time) = (inode(5), FileKind::Directory, -5);
    let site = Site { dir: inode(4), position: EntryPosition(9) };
    let name = || Box::from(&b"name"[..]);
    let changes = [
        PartChange::AddEntry { site, name: name(), child, kind, time },
        PartChange::DropEntry { site, name: name(), kind, time },
        PartChange::RenameEntry { site, from: name(), to: name(), child, kind, time },
        PartChange::AddLink { child, site, time },
        PartChange::DropLink { child, site, name: name(), time },
        PartChange::MoveLink { child, from: site, to: site, time },
        PartChange::NewDirectory {
            ino: child,
            site,
            mode: 0o755,
            uid: 1,
            gid: 2,
            times: [1, 2, 3],
        },
        PartChange::AddRun { tablet: TABLET, purpose: Purpose::Node, run: Run::new(block(600), 8) },
    ];
    let mut bytes = Vec::new();
    changes.iter().for_each(|change| change.encode(&mut bytes));
    bytes
}
