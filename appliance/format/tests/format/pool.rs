//! The superblock and the tablet roots: what describes the pool as a whole.

use crate::sample::{self, FSID, HANDLE_KEY, inode, root_body, superblock};
use cairn_base::{BLOCK_BYTES, BlockNo, DeviceId};
use cairn_format::superblock::{
    DeviceEntry, LOG_IN_USE, LogArea, ROLE_DATA, SUPERBLOCK_A, SUPERBLOCK_B, Superblock,
    SuperblockError, front_blocks, log_tag, root_block,
};
use cairn_format::tablet_root::{LOG_TREES_MAX, LogTreeEntry, RootBody, TabletRootBlock, TreeRef};
use cairn_format::version::FORMAT_VERSION;
use cairn_format::{Damage, Key, RootGeneration, TabletId};
use zerocopy::IntoBytes;

/// Changes a sealed superblock and gives it the checksum that makes it credible.
fn forged(change: impl FnOnce(&mut Superblock)) -> Option<SuperblockError> {
    let mut forged = superblock();
    change(&mut forged);
    let crc = cairn_base::hash::crc32c(&forged.as_bytes()[12..]);
    forged.crc = crc.into();
    Superblock::parse(forged.as_bytes()).err()
}

fn value(field: &'static str) -> Option<SuperblockError> {
    Some(SuperblockError::Damage(Damage::Value(field)))
}

fn bounds(field: &'static str) -> Option<SuperblockError> {
    Some(SuperblockError::Damage(Damage::Bounds(field)))
}

#[test]
fn a_sealed_superblock_is_read_back() {
    let written = superblock();
    let read = Superblock::parse(written.as_bytes()).expect("just sealed");
    assert!(*read == *written);
    assert_eq!((read.device_table().len(), read.log_table().len()), (2, 3));
    assert_eq!(read.log_tag(), log_tag(&HANDLE_KEY));
    assert_ne!(read.log_tag(), log_tag(&[0x23; 16]));
    assert!(!format!("{read:?}").contains("17, 17, 17"), "the name key was printed");
}

#[test]
fn what_is_not_ours_is_told_from_what_is_broken() {
    let mut bytes = superblock().as_bytes().to_vec();
    assert_eq!(Superblock::parse(&bytes[1..]).err(), Some(SuperblockError::NotAPool));
    assert_eq!(Superblock::parse(&[0; 65536]).err(), Some(SuperblockError::NotAPool));
    bytes[100] ^= 1;
    let broken = SuperblockError::Damage(Damage::Checksum);
    assert_eq!(Superblock::parse(&bytes).err(), Some(broken));
    let newer = forged(|s| s.version = (FORMAT_VERSION + 1).into());
    assert_eq!(newer, Some(SuperblockError::Version { found: FORMAT_VERSION + 1 }));
    let features = forged(|s| s.features.incompat = 6.into());
    assert_eq!(features, Some(SuperblockError::IncompatFeatures { bits: 6 }));
    assert_eq!(forged(|s| s.features.ro_compat = 1.into()), None);
}

#[test]
fn a_superblock_describes_sound_devices() {
    assert_eq!(forged(|s| s.device_index = 2), bounds("superblock device index"));
    assert_eq!(forged(|s| s.device_count = 65), bounds("superblock device index"));
    assert_eq!(forged(|s| s.tablets = 1.into()), value("superblock tablets"));
    assert_eq!(forged(|s| s.tablets = 4097.into()), value("superblock tablets"));
    assert_eq!(forged(|s| s.tablets = 4096.into()), bounds("log area")); // roots reach into it
    assert_eq!(forged(|s| s.reserved[1] = 1), value("superblock reserved"));
    assert_eq!(forged(|s| s.reserved_tail[29567] = 1), value("superblock reserved"));
    assert_eq!(forged(|s| s.devices[1].role = 4), value("device role"));
    assert_eq!(forged(|s| s.devices[0].role = ROLE_DATA), value("device role"));
    assert_eq!(forged(|s| s.devices[0].state = 0), value("device state"));
    let growing = |blocks| move |s: &mut Superblock| s.devices[0].set_growing_blocks(blocks);
    assert_eq!(forged(growing(u64::from(u32::MAX))), bounds("device blocks"));
    assert_eq!(forged(|s| s.devices[0].blocks = 575.into()), bounds("device blocks"));
    assert_eq!(forged(|s| s.devices[1].blocks = (1 << 56).into()), bounds("device blocks"));
    assert_eq!(forged(|s| s.devices[1].zone_blocks = 0.into()), bounds("device zone blocks"));
    assert_eq!(forged(|s| s.devices[2].uuid[0] = 1), value("unused device"));
}

#[test]
fn log_areas_lie_on_metadata_devices_and_apart() {
    let at = |device, index| BlockNo::new(DeviceId(device), index).raw().into();
    assert_eq!(forged(|s| s.log_count = 1025.into()), bounds("superblock log count"));
    assert_eq!(forged(|s| s.log_count = 2.into()), value("unused log area"));
    assert_eq!(forged(|s| s.logs[1].shard = 1.into()), value("unused log area"));
    assert_eq!(forged(|s| s.logs[0].state = 3), value("log area"));
    assert_eq!(forged(|s| s.logs[0].reserved[0] = 1), value("log area"));
    assert_eq!(forged(|s| s.logs[0].start = at(2, 1000)), bounds("log area device"));
    assert_eq!(forged(|s| s.logs[0].start = at(1, 1000)), value("log area device"));
    assert_eq!(forged(|s| s.logs[0].start = at(0, 575)), bounds("log area"));
    assert_eq!(forged(|s| s.logs[0].start = at(0, 576)), None);
    assert_eq!(forged(|s| s.logs[0].blocks = 0.into()), bounds("log area"));
    assert_eq!(forged(|s| s.logs[0].blocks = u64::MAX.into()), bounds("log area"));
    assert_eq!(forged(|s| s.logs[2].start = at(0, 995_905)), bounds("log area"));
    assert_eq!(forged(|s| s.logs[2].start = at(0, 5095)), bounds("log areas overlap"));
}

#[test]
fn all_log_areas_may_be_in_use() {
    let all = |gap: u64| {
        forged(|s| {
            s.log_count = 1024.into();
            for (n, log) in s.logs.iter_mut().enumerate() {
                *log = LogArea {
                    state: LOG_IN_USE,
                    start: (1000 + (1023 - n as u64) * gap).into(),
                    blocks: 16.into(),
                    ..LogArea::EMPTY
                };
            }
        })
    };
    assert_eq!(all(16), None);
    assert_eq!(all(15), bounds("log areas overlap"));
}

#[test]
fn the_two_slots_are_apart_and_behind_them_begin_the_roots() {
    assert_eq!((Superblock::slot(4), Superblock::slot(5)), (SUPERBLOCK_A, SUPERBLOCK_B));
    assert_eq!(root_block(TabletId(0), RootGeneration(2)), BlockNo::new(DeviceId(0), 64));
    assert_eq!(root_block(TabletId(255), RootGeneration(3)), BlockNo::new(DeviceId(0), 575));
    assert_eq!((front_blocks(0, 256), front_blocks(1, 256)), (576, 48));
}

#[test]
#[should_panic(expected = "could not be read back")]
fn a_superblock_without_devices_is_not_sealed() {
    let mut superblock = superblock();
    superblock.devices[0] = DeviceEntry::EMPTY;
    superblock.seal();
}

#[test]
fn a_root_is_read_back_by_its_tablet_only() {
    let bytes = sample::root_block();
    let body = TabletRootBlock::parse(&bytes, &FSID, TabletId(7)).expect("just sealed");
    assert_eq!(*body, root_body());
    assert_eq!(body.log_trees().len(), 2);
    assert_eq!(body.fold_cursor(), Some(Key::inode(inode(6))));
    let claims = root_block(TabletId(7), RootGeneration(13)).raw();
    let refused = |bytes: &[u8], fsid, tablet| TabletRootBlock::parse(bytes, fsid, tablet).err();
    assert_eq!(refused(&bytes, &FSID, TabletId(8)), Some(Damage::Misdirected { claims }));
    assert_eq!(refused(&bytes, &[0; 16], TabletId(7)), Some(Damage::Value("root fsid")));
    assert_eq!(refused(&bytes[1..], &FSID, TabletId(7)), Some(Damage::Bounds("root block")));
    assert_eq!(refused(&[0; 4096], &FSID, TabletId(7)), Some(Damage::Magic { found: 0 }));
}

#[test]
fn a_root_that_promises_the_impossible_is_refused() {
    let refused = |change: fn(&mut RootBody)| {
        let mut body = root_body();
        change(&mut body);
        body.check().err()
    };
    assert_eq!(RootBody::empty(TabletId(0)).check(), Ok(()));
    assert_eq!(refused(|_| {}), None);
    assert_eq!(refused(|b| b.tablet = 4096.into()), Some(Damage::Bounds("root tablet")));
    assert_eq!(refused(|b| b.reserved[0] = 1), Some(Damage::Value("root reserved")));
    assert_eq!(refused(|b| b.replay.reserved[3] = 1), Some(Damage::Value("root reserved")));
    assert_eq!(refused(|b| b.log_tree_count = 13), Some(Damage::Bounds("root log tree count")));
    assert_eq!(refused(|b| b.log_tree_count = 1), Some(Damage::Value("unused log tree")));
    assert_eq!(refused(|b| b.log_tree_count = 3), Some(Damage::Value("log tree")));
    const END: u64 = u64::MAX - 1;
    let (spare, node) = (Damage::Bounds("log tree spare"), Damage::Bounds("node reference"));
    assert_eq!(refused(|b| b.log_trees[0].spare_start = END.into()), Some(spare));
    assert_eq!(refused(|b| b.fs.root.block = END.into()), Some(node));
    let filter = Damage::Value("filter reference");
    assert_eq!(refused(|b| b.log_trees[0].filter.start = END.into()), Some(filter));
    assert_eq!(refused(|b| b.fs = TreeRef::EMPTY), None);
    assert_eq!(refused(|b| b.fs.level = 16), Some(Damage::Value("tree level")));
    assert_eq!(refused(|b| b.fs.reserved[6] = 1), Some(Damage::Value("tree level")));
    assert_eq!(refused(|b| b.fs.items = 0.into()), Some(Damage::Value("tree counts")));
    assert_eq!(refused(|b| b.fs.nodes = 1.into()), Some(Damage::Value("tree counts")));
    let nameless = |b: &mut RootBody| {
        b.fs.root.block = 0.into();
        b.fs.root.hash = 0.into();
    };
    assert_eq!(refused(nameless), Some(Damage::Value("empty tree")));
    assert_eq!(
        refused(|b| b.log_trees[0].filter.blocks = 0.into()),
        Some(Damage::Value("filter reference"))
    );
    assert_eq!(refused(|b| b.fold_cursor_len = 32), Some(Damage::Bounds("root fold cursor")));
    assert_eq!(refused(|b| b.fold_cursor_len = 1), Some(Damage::Value("root fold cursor")));
    assert_eq!(refused(|b| b.set_fold_cursor(None)), None);
}

#[test]
fn a_root_holds_as_many_log_trees_as_the_limit_says() {
    let mut body = root_body();
    let entry = body.log_trees[0];
    let entries: Vec<LogTreeEntry> =
        (0..LOG_TREES_MAX as u64).map(|n| LogTreeEntry { frozen_seq: n.into(), ..entry }).collect();
    body.set_log_trees(&entries);
    let mut bytes = [0; BLOCK_BYTES];
    TabletRootBlock::seal(&body, &FSID, &mut bytes);
    let read = TabletRootBlock::parse(&bytes, &FSID, TabletId(7)).expect("just sealed");
    assert_eq!(read.log_trees(), entries);
}
