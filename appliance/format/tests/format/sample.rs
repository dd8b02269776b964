//! One small, fully used specimen of every kind of block. The golden images are made of these, and
//! the damage tests flip their bits.

use cairn_base::prng::Prng;
use cairn_base::{BLOCK_BYTES, BlockNo, DeviceId};
use cairn_format::filter::{FilterBuilder, FilterRef, filter_blocks, lookup_hash};
use cairn_format::key::Purpose;
use cairn_format::node::{NODE_BYTES, NodeBuilder, NodeRef};
use cairn_format::record::{
    BATCH_HEADER_BYTES, BatchHeader, EditKind, RecordWriter, batch_bytes, seal_batch, write_trim,
};
use cairn_format::superblock::{
    DEVICE_IN_SERVICE, DeviceEntry, LOG_IN_USE, LOG_RETIRING, LogArea, ROLE_DATA, ROLE_META,
    Superblock, log_tag,
};
use cairn_format::tablet_root::{LogTreeEntry, Replay, RootBody, TabletRootBlock, Totals, TreeRef};
use cairn_format::version::BATCH_MAGIC;
use cairn_format::{EntryPosition, InodeNo, Key, RootGeneration, Seq, TabletId};

pub const FSID: [u8; 16] = *b"cairn-golden-fs!";
pub const HANDLE_KEY: [u8; 16] = [0x22; 16];

pub fn inode(counter: u64) -> InodeNo {
    InodeNo::new(TabletId(7), counter).expect("a small counter")
}

pub fn block(index: u64) -> BlockNo {
    BlockNo::new(DeviceId(1), index)
}

pub fn leaf() -> (Vec<u8>, NodeRef) {
    let mut bytes = vec![0; NODE_BYTES];
    let mut node = NodeBuilder::new(&mut bytes, TabletId(7), 0);
    assert!(node.try_push(&Key::inode(inode(5)), &[0xa5; 104], false));
    assert!(node.try_push(&Key::lookup(inode(5), 1), &[1; 17], false));
    assert!(node.try_push(&Key::lookup(inode(5), 2), &[], true));
    assert!(node.try_push(&Key::readdir(inode(5), EntryPosition(9)), b"name", false));
    assert!(node.try_push(&Key::inode(inode(6)), &[0x5a; 104], false));
    assert!(node.try_push(&Key::meta_seq(Seq(99), inode(5)), &[], false));
    let at = node.finish(block(4096), 12);
    (bytes, at)
}

pub fn interior() -> (Vec<u8>, NodeRef) {
    let mut bytes = vec![0; NODE_BYTES];
    let mut node = NodeBuilder::new(&mut bytes, TabletId(7), 1);
    for (n, key) in
        [Key::MIN, Key::inode(inode(6)), Key::meta_seq(Seq(99), inode(5))].into_iter().enumerate()
    {
        let child = NodeRef::new(block(5000 + 4 * n as u64), 11, 0x0123_4567_89ab_cdef);
        assert!(node.try_push(&key, zerocopy::IntoBytes::as_bytes(&child), false));
    }
    node.set_filter(filter().1);
    let at = node.finish(block(8192), 12);
    (bytes, at)
}

pub fn filter() -> (Vec<u8>, FilterRef) {
    let mut bytes = vec![0; filter_blocks(200) as usize * BLOCK_BYTES];
    let mut filter = FilterBuilder::new(&mut bytes, 200);
    for n in 0..200 {
        filter.add(lookup_hash(inode(n), u128::from(n) << 64 | 0xfeed));
    }
    let at = filter.finish(block(9000));
    (bytes, at)
}

pub fn totals() -> Totals {
    Totals {
        inode_high_water: 1024.into(),
        inodes: 17.into(),
        orphans: 1.into(),
        pending: 2.into(),
        done: 3.into(),
        deletions: 4.into(),
        free_node: 5000.into(),
        free_data: 600_000.into(),
        free_unassigned: 7_000_000.into(),
    }
}

pub fn root_body() -> RootBody {
    let tree =
        TreeRef { root: interior().1, items: 1000.into(), nodes: 12.into(), ..TreeRef::EMPTY };
    let mut body = RootBody::empty(TabletId(7));
    body.generation = 13.into();
    body.epoch = 3.into();
    body.node = 1.into();
    body.replay = Replay {
        epoch: 3.into(),
        position: 77.into(),
        node: 1.into(),
        shard: 2.into(),
        ..Replay::ZERO
    };
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
    assert_eq!(body.generation(), RootGeneration(13));
    body
}

pub fn root_block() -> Vec<u8> {
    let mut bytes = vec![0xff; BLOCK_BYTES];
    TabletRootBlock::seal(&root_body(), &FSID, &mut bytes);
    bytes
}

pub fn superblock() -> Box<Superblock> {
    let mut superblock = Superblock::zeroed();
    superblock.fsid = FSID;
    superblock.generation = 5.into();
    superblock.epoch = 3.into();
    superblock.created = 1_700_000_000_000_000_000.into();
    superblock.seq_ceiling = 1000.into();
    superblock.tablets = 256.into();
    superblock.device_index = 1;
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

pub fn batch_header() -> BatchHeader {
    BatchHeader {
        magic: BATCH_MAGIC.into(),
        crc: 0.into(),
        blocks: 0.into(),
        log_tag: log_tag(&HANDLE_KEY).into(),
        node: 1.into(),
        shard: 2.into(),
        records: 0.into(),
        epoch: 3.into(),
        position: 88.into(),
        seq: 99.into(),
        acked: 80.into(),
        tail: 10.into(),
        ceiling: 1000.into(),
        payload_bytes: 0.into(),
        reserved: 0.into(),
    }
}

/// Header space and payload made a sealed batch.
pub fn batch_of(mut bytes: Vec<u8>, records: u32) -> Vec<u8> {
    let payload_bytes = bytes.len() - BATCH_HEADER_BYTES;
    bytes.resize(batch_bytes(payload_bytes), 0xee);
    let header = BatchHeader {
        records: records.into(),
        payload_bytes: (payload_bytes as u32).into(),
        ..batch_header()
    };
    seal_batch(&mut bytes, header);
    bytes
}

pub fn batch() -> Vec<u8> {
    let mut bytes = vec![0; BATCH_HEADER_BYTES];
    let mut record = RecordWriter::begin(&mut bytes);
    record.section(TabletId(7), &totals(), Some(&root_body()));
    record.edit(EditKind::PutNew, &Key::inode(inode(5)), &[0xa5; 104]);
    record.edit(EditKind::Delete, &Key::orphan(inode(5)), &[]);
    record.section(TabletId(8), &Totals::ZERO, None);
    record.edit(EditKind::Put, &Key::meta_seq(Seq(99), inode(5)), &[]);
    record.finish();
    write_trim(
        &mut bytes,
        [(TabletId(7), RootGeneration(13)), (TabletId(8), RootGeneration(1))].into_iter(),
    );
    batch_of(bytes, 2)
}

/// A key of random kind and content; small fields, so that keys come close to each other.
pub fn random_key(prng: &mut Prng) -> Key {
    let inode = inode(1 + prng.below(20));
    let n = prng.below(400);
    let hash = u128::from(prng.next_u64()) << 64 | u128::from(prng.next_u64());
    match prng.below(9) {
        0 => Key::inode(inode),
        1 => Key::lookup(inode, hash),
        2 => Key::readdir(inode, EntryPosition(n)),
        3 => Key::extent(inode, n),
        4 => Key::xattr(inode, hash, n as u16),
        5 => Key::meta_seq(Seq(n), inode),
        6 => Key::free_run(Purpose::Node, block(n)),
        7 => {
            // Any bytes, prefixes of each other among them.
            let mut raw = [0; 31];
            prng.fill(&mut raw);
            raw.iter_mut().for_each(|byte| *byte &= 3);
            Key::from_bytes(&raw[..1 + prng.below(31) as usize]).expect("31 bytes fit")
        }
        _ => Key::back_reference(inode, inode, EntryPosition(n)),
    }
}
