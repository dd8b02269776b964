//! Sound pools pass, also those that a power cut left behind; what is no pool is told apart.

use crate::disk::{check, now};
use crate::pool::{GENERATION, Pool};
use crate::world::{NAME_KEY, World, name_hash};
use cairn_base::{BlockNo, DeviceId};
use cairn_check::{CheckError, Report};
use cairn_format::item::{FileKind, PartChange, Site};
use cairn_format::superblock::{SUPERBLOCK_A, SUPERBLOCK_B, Superblock, SuperblockError};
use cairn_format::{Epoch, InodeNo, Key, NodeId, OpId, ShardId, TabletId};

/// Directories over three tablets, every kind of file, and something of each in fs trees, log trees
/// and logs.
pub fn sound(data_device: DeviceId) -> Pool {
    let root = InodeNo::ROOT;
    let mut world = World::new(data_device);
    let dir = world.create(root, "a", FileKind::Directory, 2);
    for n in 0..120 {
        world.create(dir, &format!("file-{n:03}"), FileKind::Regular, 2);
    }
    let big = world.create(root, "big", FileKind::Regular, 1);
    world.extent(big, 0, 70);
    world.extent(big, 250, 6);
    world.extent(big, 256, 3);
    world.unwritten(big, 260, 2);
    world.xattr(big, "user.long", &[5; 9000]);
    world.xattr(big, "user.short", b"value");
    world.symlink(root, "link", "a/file-000", 1);
    world.create(root, "pipe", FileKind::Fifo, 1);
    let fs = world.clone();

    for n in 0..40 {
        world.unlink(dir, &format!("file-{n:03}"));
        world.create(dir, &format!("more-{n:03}"), FileKind::Regular, 2);
    }
    let late = world.create(root, "late", FileKind::Regular, 1);
    world.inline(late, 0, b"a few bytes");
    let log_tree = world.clone();

    let small = world.create(dir, "small", FileKind::Regular, 2);
    world.inline(small, 0, &[7; 4096]);
    world.inline(small, 1, &[8; 100]);
    world.link(root, "hard", small);
    world.deleted(1, "gone");
    world.deleted_with(1, "noted", b"scoutfs.hide.tape");
    world.unlink(dir, "more-000");
    let deep = world.create(dir, "deep", FileKind::Directory, 3);
    world.create(deep, "deepest", FileKind::Regular, 3);
    Pool::of([fs, log_tree, world])
}

pub fn small(pool: &Pool) -> InodeNo {
    let dir = pool.states[2].child(InodeNo::ROOT, "a");
    pool.states[2].child(dir, "small")
}

fn report(pool: &Pool) -> Report {
    check(&pool.lay().disk).expect("it is a pool")
}

fn assert_clean(report: &Report) {
    assert_eq!(report.findings, []);
    assert!(report.is_clean());
}

#[test]
fn a_sound_pool_has_no_findings_and_everything_in_it_was_seen() {
    let pool = sound(DeviceId(0));
    let report = report(&pool);
    assert_clean(&report);
    let counts = report.counts;
    assert_eq!((counts.tablets, counts.log_batches), (4, 8));
    // The root, a, deep, deepest, 120 files, big, link, pipe, 40 more, late, small.
    assert_eq!(counts.inodes, 4 + 120 + 3 + 40 + 2);
    // 120 - 40 + 39 files, small, deep, deepest; a, big, link, pipe, late, hard.
    assert_eq!(counts.dirents, 119 + 3 + 6);
    assert_eq!(counts.extents, 4 + 1 + 2);
    assert_eq!(counts.data_blocks_read, 79);
    assert!(counts.nodes > 50, "trees of several levels: {counts:?}");
    assert!(counts.filters >= 2, "{counts:?}");
}

#[test]
fn a_sound_pool_on_two_devices_has_no_findings() {
    assert_clean(&report(&sound(DeviceId(1))));
}

#[test]
fn without_data_no_data_is_read() {
    let pool = sound(DeviceId(0)).lay();
    let options = cairn_check::CheckOptions::default();
    let mut phases = Vec::new();
    let report = now(cairn_check::check(&pool.disk, options, |at| phases.push(at.phase)));
    let report = report.expect("it is a pool");
    assert_clean(&report);
    assert_eq!(report.counts.data_blocks_read, 0);
    phases.dedup();
    assert_eq!(phases, ["logs", "tablets"]);
}

#[test]
fn a_tail_that_nobody_was_told_of_is_no_finding() {
    let pool = sound(DeviceId(0)).lay();
    // The last batch of shard 0: empty, and at the end of what was acknowledged.
    let (last, _) = pool.batches[0][3];
    pool.disk.flip(last, 200, 1);
    assert_clean(&check(&pool.disk).expect("it is a pool"));
}

#[test]
fn a_root_block_whose_write_was_interrupted_is_no_finding() {
    // The record of generation 8 is in the log of shard 1; its slot is that of generation 6.
    let pool = sound(DeviceId(0)).lay();
    let slot = cairn_format::superblock::root_block(
        TabletId(1),
        cairn_format::RootGeneration(GENERATION + 1),
    );
    pool.disk.flip(slot, 100, 0xff);
    assert_clean(&check(&pool.disk).expect("it is a pool"));
}

#[test]
fn a_superblock_whose_update_was_interrupted_is_no_finding() {
    // Sectors of generation 6 over those of generation 4: the header arrived, the log table did not.
    let pool = sound(DeviceId(0)).lay();
    let slot = BlockNo::new(DeviceId(0), SUPERBLOCK_A);
    pool.disk.flip(slot, std::mem::offset_of!(Superblock, generation), 4 ^ 6);
    pool.disk.flip(slot, std::mem::offset_of!(Superblock, epoch), 2 ^ 4);
    assert_clean(&check(&pool.disk).expect("it is a pool"));
}

#[test]
fn a_newest_superblock_that_rots_is_not_taken_for_an_interrupted_update() {
    let pool = sound(DeviceId(0)).lay();
    let slot = BlockNo::new(DeviceId(0), SUPERBLOCK_B);
    for byte in [8, 50, 70, 130, 3300, 60000] {
        pool.disk.flip(slot, byte, 0x10);
        let report = check(&pool.disk).expect("the older one is there");
        let found = report.findings.iter().any(|f| f.object.contains("superblock 0:32"));
        assert!(found, "byte {byte}: {report:?}");
        pool.disk.flip(slot, byte, 0x10);
    }
}

/// A rename of "small" out of a directory of tablet 2 into one of tablet 3, committed by the target.
fn pending_rename(pool: &mut Pool, applied_elsewhere: bool) {
    let root = InodeNo::ROOT;
    let child = small(pool);
    let world = &mut pool.states[2];
    let dir = world.child(root, "a");
    let deep = world.child(dir, "deep");
    let from = Site { dir, position: world.position(dir, "small") };
    let op = OpId { node: NodeId(0), shard: ShardId(1), epoch: Epoch(3), counter: 9 };
    let before = world.clone();
    let to = Site { dir: deep, position: world.link(deep, "moved", child) };
    world.unlink(dir, "small");
    let changes = [
        PartChange::DropEntry {
            site: from,
            name: (*b"small").into(),
            kind: FileKind::Regular,
            time: 1,
        },
        PartChange::MoveLink { child, from, to, time: 1 },
    ];
    let mut value = Vec::new();
    changes.iter().for_each(|change| change.encode(&mut value));
    world.tablet(3).insert(Key::pending(op), value);
    if applied_elsewhere {
        world.tablet(2).insert(Key::done(op), Vec::new());
    } else {
        world.items[2] = before.items[2].clone();
    }
}

#[test]
fn an_operation_over_tablets_that_is_not_applied_everywhere_is_no_finding() {
    for applied_elsewhere in [false, true] {
        let mut pool = sound(DeviceId(0));
        pending_rename(&mut pool, applied_elsewhere);
        let report = report(&pool);
        assert_clean(&report);
        assert_eq!(report.counts.pending, 1);
    }
}

#[test]
fn a_committed_operation_that_was_lost_elsewhere_is_found() {
    let mut pool = sound(DeviceId(0));
    pending_rename(&mut pool, false);
    let op = pool.states[2].items[3]
        .keys()
        .find(|key| matches!(key.parse(), Some(cairn_format::key::ParsedKey::Pending(_))));
    let op = *op.expect("it is there");
    pool.states[2].items[3].remove(&op);
    let report = report(&pool);
    assert!(report.findings.iter().any(|finding| finding.kind == "link"), "{report:?}");
}

#[test]
fn what_is_no_pool_is_told_apart_from_a_damaged_one() {
    let not_a_pool = crate::disk::MemDisk::new(&[4096]);
    assert_eq!(check(&not_a_pool).err(), Some(CheckError::Superblock(SuperblockError::NotAPool)));
    let pool = sound(DeviceId(0)).lay();
    for slot in [SUPERBLOCK_A, SUPERBLOCK_B] {
        pool.disk.flip(BlockNo::new(DeviceId(0), slot), 5000, 1);
    }
    let error = check(&pool.disk).err();
    assert!(matches!(error, Some(CheckError::Superblock(SuperblockError::Damage(_)))), "{error:?}");
    let tiny = crate::disk::MemDisk::new(&[8]);
    assert!(check(&tiny).is_err());
}

#[test]
fn devices_in_the_wrong_order_and_missing_ones_are_told() {
    let pool = sound(DeviceId(1)).lay();
    pool.disk.swap_devices();
    assert_eq!(check(&pool.disk).err(), Some(CheckError::WrongDevice { device: 0, claims: 1 }));
    let mut alone = sound(DeviceId(0));
    alone.tweak_superblock = |superblock| {
        superblock.devices[1] = superblock.devices[0];
        superblock.device_count = 2;
    };
    let error = check(&alone.lay().disk).err();
    assert_eq!(error, Some(CheckError::DeviceMissing { listed: 2, given: 1 }));
}

#[test]
fn a_device_of_another_pool_is_no_damage_of_this_one() {
    let pool = sound(DeviceId(1)).lay();
    let mut others = sound(DeviceId(1));
    others.tweak_superblock = |superblock| superblock.fsid[0] ^= 1;
    pool.disk.take_last_of(&others.lay().disk);
    let stranger = Some(CheckError::OtherPool { device: 1 });
    assert_eq!(check(&pool.disk).err(), stranger);
    assert_eq!(now(cairn_check::print::pool_superblock(&pool.disk)).err(), stranger);
    let alone = sound(DeviceId(0)).lay();
    alone.disk.take_last_of(&pool.disk);
    let error = check(&alone.disk).err();
    assert_eq!(error, Some(CheckError::DeviceTooMany { listed: 1, given: 2 }));
}

#[test]
fn a_device_twice_in_its_pool_is_the_wrong_one() {
    let pool = sound(DeviceId(1)).lay();
    let first = sound(DeviceId(1)).lay();
    first.disk.swap_devices();
    pool.disk.take_last_of(&first.disk);
    assert_eq!(check(&pool.disk).err(), Some(CheckError::WrongDevice { device: 1, claims: 0 }));
}

#[test]
fn printing_a_pool_that_was_cut_short_tells_so() {
    let pool = sound(DeviceId(0)).lay();
    pool.disk.truncate(DeviceId(0), 3000);
    let found = now(cairn_check::print::pool_superblock(&pool.disk)).expect("a superblock").1;
    assert!(found.iter().any(|finding| finding.object == "device 0"), "{found:?}");
    let found = now(cairn_check::print::pool_roots(&pool.disk, |_| {})).expect("roots");
    assert!(found.iter().any(|finding| finding.object == "device 0"), "{found:?}");
}

#[test]
fn printing_shows_what_a_pool_holds() {
    let pool = sound(DeviceId(0)).lay();
    let (superblock, findings) =
        now(cairn_check::print::pool_superblock(&pool.disk)).expect("a pool");
    assert_eq!(findings, []);
    let line = cairn_check::print::text(&cairn_check::print::superblock(&superblock));
    assert!(line.contains("epoch=3") && line.contains("devices.0.blocks=4096"), "{line}");
    let secret: String = NAME_KEY.iter().map(|byte| format!("{byte:02x}")).collect();
    assert!(!line.contains(&secret), "keys are secret");
    let mut roots = Vec::new();
    now(cairn_check::print::pool_roots(&pool.disk, |root| roots.push(root))).expect("a pool");
    assert_eq!(roots[1]["generation"], GENERATION + 1);
    let mut batches = 0;
    now(cairn_check::print::pool_logs(&pool.disk, |line| {
        batches += usize::from(line.get("batch").is_some());
    }))
    .expect("a pool");
    assert_eq!(batches, 8);
    let mut seen = Vec::new();
    let from = Key::of_kind(InodeNo::ROOT, cairn_format::key::KIND_READDIR);
    now(cairn_check::print::tablet_items(&pool.disk, TabletId(1), from, |key, line| {
        let inside = key < from.prefix_end();
        if inside {
            seen.push(line["name"].as_str().unwrap_or_default().to_string());
        }
        inside
    }))
    .expect("a pool");
    assert_eq!(seen, ["a", "big", "link", "pipe", "late", "hard"]);
    assert_ne!(name_hash("a"), 0);
}
