//! Items that contradict each other: every field that another item repeats is changed once, and the
//! finding has the right kind and names the object.

use crate::clean::{small, sound};
use crate::disk::check;
use crate::pool::Pool;
use crate::world::{NAME_KEY, World, name_hash, node_zone};
use cairn_base::hash::siphash128;
use cairn_base::{BlockNo, DeviceId};
use cairn_format::item::{
    Checksums, EXTENT_OFFLINE, FileKind, INODE_TRUNCATING, LookupItem, OrphanHead, ReaddirHead,
};
use cairn_format::key::Purpose;
use cairn_format::{EntryPosition, InodeNo, Key, Seq};
use zerocopy::{FromBytes, IntoBytes};

const ROOT: InodeNo = InodeNo::ROOT;

/// The mutation is found as `kind`, on an object whose words contain `object`.
fn found(what: &str, kind: &str, object: &str, mutate: impl FnOnce(&mut Pool)) {
    let mut pool = sound(DeviceId(0));
    mutate(&mut pool);
    let report = check(&pool.lay().disk).expect("it is a pool");
    let hit = report.findings.iter().any(|f| f.kind == kind && f.object.contains(object));
    assert!(hit, "{what}: wanted {kind} on {object:?}, got {:#?}", report.findings);
}

/// Each of the three states that has the inode.
fn patch(pool: &mut Pool, ino: InodeNo, change: fn(&mut cairn_format::item::InodeItem)) {
    pool.each(|world| {
        if world.of(ino).contains_key(&Key::inode(ino)) {
            world.patch(ino, change);
        }
    });
}

fn named(pool: &Pool, name: &str) -> InodeNo {
    pool.states[2].child(ROOT, name)
}

fn edit_lookup(world: &mut World, dir: InodeNo, name: &str, change: impl Fn(&mut LookupItem)) {
    let value = world.of(dir).get_mut(&Key::lookup(dir, name_hash(name))).expect("an entry");
    change(LookupItem::mut_from_bytes(value).expect("its size"));
}

fn edit_readdir(world: &mut World, dir: InodeNo, name: &str, change: impl Fn(&mut ReaddirHead)) {
    let position = world.position(dir, name);
    let value = world.of(dir).get_mut(&Key::readdir(dir, position)).expect("an entry");
    change(ReaddirHead::mut_from_prefix(value).expect("its size").0);
}

#[test]
fn inode_fields_that_can_be_counted_are() {
    found("link count of a file", "link", "/big", |pool| {
        let ino = named(pool, "big");
        patch(pool, ino, |item| item.nlink = 2.into());
    });
    found("link count of a file with names in two tablets", "link", "/hard", |pool| {
        let ino = small(pool);
        patch(pool, ino, |item| item.nlink = 1.into());
    });
    found("no link and no orphan", "orphan", "/pipe", |pool| {
        let ino = named(pool, "pipe");
        patch(pool, ino, |item| item.nlink = 0.into());
    });
    found("link count of a directory", "directory", "/a", |pool| {
        let ino = named(pool, "a");
        patch(pool, ino, |item| item.nlink = 7.into());
    });
    found("size of a directory", "directory", "ino:1 /", |pool| {
        patch(pool, ROOT, |item| item.size += 1);
    });
    found("next entry position", "directory", "/a", |pool| {
        let ino = named(pool, "a");
        patch(pool, ino, |item| item.special = 4.into());
    });
    found("size of a symlink", "symlink", "/link", |pool| {
        let ino = named(pool, "link");
        patch(pool, ino, |item| item.size = 3.into());
    });
    found("online blocks", "inode", "/big", |pool| {
        let ino = named(pool, "big");
        patch(pool, ino, |item| item.online_blocks += 1);
    });
    found("offline blocks", "inode", "/big", |pool| {
        let ino = named(pool, "big");
        patch(pool, ino, |item| item.offline_blocks += 1);
    });
    found("size of a file", "extent", "/big", |pool| {
        let ino = named(pool, "big");
        patch(pool, ino, |item| item.size = 4096.into());
    });
    found("kind of file, by its name", "name", "\"pipe\"", |pool| {
        let ino = named(pool, "pipe");
        patch(pool, ino, |item| item.kind = FileKind::Socket as u8);
    });
    found("kind that does not exist", "item", "/pipe", |pool| {
        let ino = named(pool, "pipe");
        patch(pool, ino, |item| item.kind = 9);
    });
    found("mode beyond its bits", "item", "/pipe", |pool| {
        let ino = named(pool, "pipe");
        patch(pool, ino, |item| item.mode = 0o70000.into());
    });
    found("special of a file", "inode", "/big", |pool| {
        let ino = named(pool, "big");
        patch(pool, ino, |item| item.special = 1.into());
    });
    found("above the high-water mark", "inode", "/big", |pool| {
        pool.tweak_totals = |_, totals| totals.inode_high_water = 1.into();
    });
    found("an inode that is gone", "name", "\"pipe\"", |pool| {
        let ino = named(pool, "pipe");
        pool.each(|world| drop(world.of(ino).remove(&Key::inode(ino))));
    });
}

#[test]
fn a_file_that_is_being_truncated_may_have_blocks_behind_its_size() {
    let mut pool = sound(DeviceId(0));
    let ino = named(&pool, "big");
    patch(&mut pool, ino, |item| {
        item.size = 4096.into();
        item.flags = INODE_TRUNCATING;
    });
    let report = check(&pool.lay().disk).expect("it is a pool");
    assert_eq!(report.findings, []);
}

/// A checksum where no data is mapped, in a group that has no other.
fn left_over(world: &mut World, ino: InodeNo) {
    let mut sums = Checksums::NONE;
    sums.set(7, Some(0x1234_5678));
    world.put_sums(ino, 9, &sums);
}

#[test]
fn what_is_removed_in_steps_may_have_checksums_left_over_and_nothing_else_may() {
    found("in front of the size", "checksum", "/big, file block 583", |pool| {
        let ino = named(pool, "big");
        patch(pool, ino, |item| {
            item.size = (584 * 4096).into();
            item.flags = INODE_TRUNCATING;
        });
        pool.each(|world| left_over(world, ino));
    });
    let mut truncated = sound(DeviceId(0));
    let ino = named(&truncated, "big");
    patch(&mut truncated, ino, |item| {
        item.size = (582 * 4096 + 1).into();
        item.flags = INODE_TRUNCATING;
    });
    truncated.each(|world| left_over(world, ino));
    let mut removed = sound(DeviceId(0));
    let dir = removed.states[0].child(ROOT, "a");
    let ino = removed.states[0].child(dir, "file-000");
    removed.states[2..].iter_mut().for_each(|world| left_over(world, ino));
    for pool in [truncated, removed] {
        let report = check(&pool.lay().disk).expect("it is a pool");
        assert_eq!(report.findings, []);
    }
}

#[test]
fn both_kinds_of_entry_and_the_back_reference_agree() {
    found("no lookup entry", "name", "\"big\"", |pool| {
        pool.each(|world| drop(world.of(ROOT).remove(&Key::lookup(ROOT, name_hash("big")))));
    });
    found("no readdir entry", "name", "ino:1 /", |pool| {
        let position = pool.states[2].position(ROOT, "big");
        pool.each(|world| drop(world.of(ROOT).remove(&Key::readdir(ROOT, position))));
    });
    found("a back reference and no entry", "link", "ino:", |pool| {
        let position = pool.states[2].position(ROOT, "big");
        pool.each(|world| drop(world.of(ROOT).remove(&Key::readdir(ROOT, position))));
    });
    found("no back reference", "link", "\"big\"", |pool| {
        let (ino, position) = (named(pool, "big"), pool.states[2].position(ROOT, "big"));
        pool.each(|world| drop(world.of(ino).remove(&Key::back_reference(ino, ROOT, position))));
    });
    found("no back reference in another tablet", "link", "\"hard\"", |pool| {
        let (ino, position) = (small(pool), pool.states[2].position(ROOT, "hard"));
        let world = &mut pool.states[2];
        world.of(ino).remove(&Key::back_reference(ino, ROOT, position));
    });
    found("lookup names another child", "name", "\"big\"", |pool| {
        pool.each(|world| edit_lookup(world, ROOT, "big", |item| item.child += 4096));
    });
    found("lookup has another position", "name", "\"big\"", |pool| {
        pool.each(|world| edit_lookup(world, ROOT, "big", |item| item.position += 50));
    });
    found("lookup has another kind", "name", "\"big\"", |pool| {
        let kind = FileKind::Fifo as u8;
        pool.each(|world| edit_lookup(world, ROOT, "big", |item| item.kind = kind));
    });
    found("readdir names another child", "name", "\"big\"", |pool| {
        pool.each(|world| edit_readdir(world, ROOT, "big", |head| head.child += 4096));
    });
    found("both name a child that does not exist", "name", "\"big\"", |pool| {
        pool.each(|world| {
            edit_lookup(world, ROOT, "big", |item| item.child = (99 << 12 | 1).into());
            let position = world.position(ROOT, "big");
            let value = world.of(ROOT).get_mut(&Key::readdir(ROOT, position)).expect("it is there");
            let (head, _) = ReaddirHead::mut_from_prefix(value).expect("its size");
            head.child = (99 << 12 | 1).into();
        });
    });
    found("readdir has another kind", "name", "\"big\"", |pool| {
        let kind = FileKind::Directory as u8;
        pool.each(|world| edit_readdir(world, ROOT, "big", |head| head.kind = kind));
    });
    found("readdir has another name", "name", "\"bug\"", |pool| {
        let position = pool.states[2].position(ROOT, "big");
        pool.each(|world| {
            let value = world.of(ROOT).get_mut(&Key::readdir(ROOT, position)).expect("an entry");
            *value.iter_mut().rev().nth(1).expect("three letters") = b'u';
        });
    });
    found("two lookup entries, one position", "name", "ino:1 /", |pool| {
        pool.each(|world| {
            let value = world.of(ROOT)[&Key::lookup(ROOT, name_hash("big"))].clone();
            world.of(ROOT).insert(Key::lookup(ROOT, name_hash("bag")), value);
        });
    });
    found("entries of a file", "directory", "/pipe", |pool| {
        let ino = named(pool, "pipe");
        pool.each(|world| {
            world.link(ino, "inside", ino);
        });
    });
    found("a directory with two parents", "link", "/a", |pool| {
        let ino = named(pool, "a");
        pool.each(|world| {
            world.link(ROOT, "twice", ino);
        });
    });
}

#[test]
fn directories_that_only_hold_each_other_are_found() {
    found("a ring", "link", "ino:", |pool| {
        let world = &mut pool.states[2];
        let upper = world.create(ROOT, "upper", FileKind::Directory, 2);
        let lower = world.create(upper, "lower", FileKind::Directory, 2);
        // As two renames that did not see each other would leave it.
        let position = world.position(ROOT, "upper");
        world.of(ROOT).remove(&Key::lookup(ROOT, name_hash("upper")));
        world.of(ROOT).remove(&Key::readdir(ROOT, position));
        world.of(upper).remove(&Key::back_reference(upper, ROOT, position));
        world.patch(ROOT, |item| {
            item.size -= 5;
            item.nlink -= 1;
        });
        world.link(lower, "upper", upper);
    });
}

#[test]
fn orphans_have_no_names_and_what_has_no_name_is_an_orphan() {
    // file-000 lost its name in the second state.
    let orphan = |pool: &Pool| {
        let dir = pool.states[0].child(ROOT, "a");
        pool.states[0].child(dir, "file-000")
    };
    found("no orphan item", "orphan", "ino:", |pool| {
        let ino = orphan(pool);
        pool.each(|world| drop(world.of(ino).remove(&Key::orphan(ino))));
    });
    found("an orphan with a link", "orphan", "ino:", |pool| {
        let ino = orphan(pool);
        patch(pool, ino, |item| item.nlink = 1.into());
    });
    found("an orphan with a name", "orphan", "/big", |pool| {
        let ino = named(pool, "big");
        pool.each(|world| {
            let head = OrphanHead { last_parent: 1.into() };
            world.of(ino).insert(Key::orphan(ino), head.as_bytes().to_vec());
        });
    });
    found("an orphan that does not exist", "orphan", "ino:", |pool| {
        pool.each(|world| {
            let ino = InodeNo::from_raw(77 << 12 | 1).expect("not zero");
            let head = OrphanHead { last_parent: 1.into() };
            world.of(ino).insert(Key::orphan(ino), head.as_bytes().to_vec());
        });
    });
}

#[test]
fn the_change_indexes_hold_each_inode_once() {
    let key_of =
        |pool: &Pool, ino| Key::meta_seq(Seq(pool.states[2].inode(ino).meta_seq.get()), ino);
    found("not in meta_seq", "index", "/big", |pool| {
        let ino = named(pool, "big");
        let key = key_of(pool, ino);
        pool.each(|world| drop(world.of(ino).remove(&key)));
    });
    found("twice in meta_seq", "index", "/big", |pool| {
        let ino = named(pool, "big");
        pool.each(|world| drop(world.of(ino).insert(Key::meta_seq(Seq(3), ino), Vec::new())));
    });
    found("meta_seq of nobody", "index", "ino:", |pool| {
        let ino = InodeNo::from_raw(77 << 12 | 1).expect("not zero");
        pool.each(|world| drop(world.of(ino).insert(Key::meta_seq(Seq(3), ino), Vec::new())));
    });
    found("not in data_seq", "index", "/big", |pool| {
        let ino = named(pool, "big");
        let key = Key::data_seq(Seq(pool.states[2].inode(ino).data_seq.get()), ino);
        pool.each(|world| drop(world.of(ino).remove(&key)));
    });
    found("data_seq of a fifo", "index", "/pipe", |pool| {
        let ino = named(pool, "pipe");
        pool.each(|world| drop(world.of(ino).insert(Key::data_seq(Seq(3), ino), Vec::new())));
    });
    found("an index entry with a value", "item", "/big", |pool| {
        let ino = named(pool, "big");
        let key = key_of(pool, ino);
        pool.each(|world| drop(world.of(ino).insert(key, vec![1])));
    });
    found("a seq above every ceiling", "index", "/big", |pool| {
        pool.tweak_header = |_, _, header| {
            header.ceiling = 60.into();
            header.seq = 60.into();
        };
    });
    found("a deletion keeps what was not hidden", "index", "tablet 1", |pool| {
        pool.each(|world| world.deleted_with(1, "kept", b"user.hide.tape"));
    });
    found("a deletion keeps an xattr without a name", "item", "tablet 1", |pool| {
        pool.each(|world| world.deleted_with(1, "kept", b""));
    });
    found("deleted and there", "index", "/big", |pool| {
        let ino = named(pool, "big");
        pool.each(|world| {
            let value = vec![0; 22];
            world.of(ino).insert(Key::deletion(Seq(4), ino), value);
        });
    });
}

#[test]
fn extents_keep_apart_and_have_their_checksums() {
    found("extents overlap", "extent", "/big", |pool| {
        let ino = named(pool, "big");
        pool.each(|world| world.patch_extent(ino, 250, |head| head.length += 4096));
        pool.each(|world| {
            let value = world.of(ino)[&Key::extent(ino, 250)].clone();
            world.of(ino).insert(Key::extent(ino, 251), value);
        });
    });
    found("an extent crosses a MiB", "extent", "/big", |pool| {
        let ino = named(pool, "big");
        pool.each(|world| world.patch_extent(ino, 250, |head| head.length += 8192));
    });
    found("flags nobody knows", "item", "/big", |pool| {
        let ino = named(pool, "big");
        pool.each(|world| world.patch_extent(ino, 250, |head| head.flags = 0x40));
    });
    found("online says offline", "inode", "/big", |pool| {
        let ino = named(pool, "big");
        pool.each(|world| world.patch_extent(ino, 250, |head| head.flags = EXTENT_OFFLINE));
    });
    found("an extent elsewhere", "data", "/big", |pool| {
        let ino = named(pool, "big");
        pool.each(|world| world.patch_extent(ino, 250, |head| head.start += 2));
    });
    found("an extent in node space", "space", "/big", |pool| {
        let ino = named(pool, "big");
        let node = node_zone(1).raw();
        pool.each(|world| world.patch_extent(ino, 250, |head| head.start = node.into()));
    });
    found("an extent outside the device", "space", "/big", |pool| {
        let ino = named(pool, "big");
        let start = BlockNo::new(DeviceId(0), 4095).raw();
        pool.each(|world| world.patch_extent(ino, 250, |head| head.start = start.into()));
    });
    found("two files, one run", "space", "/big", |pool| {
        let ino = named(pool, "big");
        pool.each(|world| {
            let value = world.of(ino)[&Key::extent(ino, 256)].clone();
            world.of(ino).insert(Key::extent(ino, 512), value);
        });
    });
    found("extents of a fifo", "extent", "/pipe", |pool| {
        let ino = named(pool, "pipe");
        pool.each(|world| world.inline(ino, 0, b"bytes"));
    });
    found("a checksum is gone", "checksum", "/big, file block 65", |pool| {
        let ino = named(pool, "big");
        pool.each(|world| {
            let mut sums = world.sums(ino, 1);
            sums.set(1, None);
            world.put_sums(ino, 1, &sums);
        });
    });
    found("a whole item of checksums is gone", "checksum", "/big, file block 250", |pool| {
        let ino = named(pool, "big");
        pool.each(|world| drop(world.of(ino).remove(&Key::checksums(ino, 3))));
    });
    found("a checksum of nothing", "checksum", "/big, file block 72", |pool| {
        let ino = named(pool, "big");
        pool.each(|world| {
            let mut sums = world.sums(ino, 1);
            sums.set(8, Some(1));
            world.put_sums(ino, 1, &sums);
        });
    });
    found("a checksum of unwritten blocks", "checksum", "/big, file block 260", |pool| {
        let ino = named(pool, "big");
        pool.each(|world| {
            let mut sums = world.sums(ino, 4);
            sums.set(4, Some(1));
            world.put_sums(ino, 4, &sums);
        });
    });
    found("another checksum", "data", "/big, file block 66", |pool| {
        let ino = named(pool, "big");
        pool.each(|world| {
            let mut sums = world.sums(ino, 1);
            let old = sums.get(2).expect("it has one");
            sums.set(2, Some(old ^ 1));
            world.put_sums(ino, 1, &sums);
        });
    });
}

#[test]
fn xattrs_are_whole_and_under_their_names() {
    let key = |pool: &Pool, part| {
        let ino = named(pool, "big");
        (ino, Key::xattr(ino, name_hash("user.long"), part))
    };
    for part in [0, 1, 2, 3] {
        found("a part is gone", "xattr", "/big", |pool| {
            let (ino, key) = key(pool, part);
            pool.each(|world| drop(world.of(ino).remove(&key)));
        });
    }
    found("a part too many", "xattr", "/big", |pool| {
        let (ino, key) = key(pool, 4);
        pool.each(|world| drop(world.of(ino).insert(key, vec![1])));
    });
    found("under another name", "xattr", "/big", |pool| {
        let ino = named(pool, "big");
        pool.each(|world| {
            let key = Key::xattr(ino, name_hash("user.short"), 0);
            let value = world.of(ino).remove(&key).expect("it is there");
            world.of(ino).insert(Key::xattr(ino, siphash128(&NAME_KEY, b"else"), 0), value);
        });
    });
}

#[test]
fn items_belong_to_something_and_to_their_tablet() {
    found("a symlink without target", "symlink", "/link", |pool| {
        let ino = named(pool, "link");
        pool.each(|world| drop(world.of(ino).remove(&Key::symlink(ino))));
    });
    found("a target of no symlink", "symlink", "/pipe", |pool| {
        let ino = named(pool, "pipe");
        pool.each(|world| drop(world.of(ino).insert(Key::symlink(ino), b"there".to_vec())));
    });
    found("items of no inode", "inode", "ino:", |pool| {
        let ino = InodeNo::from_raw(77 << 12 | 1).expect("not zero");
        pool.each(|world| world.xattr(ino, "user.lost", b"value"));
    });
    found("an inode of another tablet", "item", "tablet 2", |pool| {
        let ino = named(pool, "pipe");
        pool.each(|world| {
            let value = world.of(ino)[&Key::inode(ino)].clone();
            world.tablet(2).insert(Key::inode(ino), value);
        });
    });
    found("a key nobody knows", "item", "tablet 1", |pool| {
        let key = Key::from_bytes(&[0x77, 1, 2, 3]).expect("short");
        pool.each(|world| drop(world.tablet(1).insert(key, Vec::new())));
    });
    found("no root directory", "inode", "ino:1", |pool| {
        pool.each(|world| drop(world.of(ROOT).remove(&Key::inode(ROOT))));
    });
    found("a back reference with a value", "item", "/big", |pool| {
        let ino = named(pool, "big");
        let position = pool.states[2].position(ROOT, "big");
        let key = Key::back_reference(ino, ROOT, position);
        pool.each(|world| drop(world.of(ino).insert(key, vec![0])));
    });
    found("an entry at a position that is another's", "name", "ino:1 /", |pool| {
        let value = pool.states[2].of(ROOT)[&Key::lookup(ROOT, name_hash("big"))].clone();
        let key = Key::readdir(ROOT, EntryPosition(2));
        pool.each(|world| drop(world.of(ROOT).insert(key, [&value[..8], b"\x01stray"].concat())));
    });
}

fn resize(items: &mut crate::world::Items, purpose: Purpose, by: i64) {
    let prefix = Key::of_purpose(purpose);
    let (_, run) = items.range_mut(prefix..).next().expect("there is one");
    let blocks = u64::from_le_bytes(run.as_slice().try_into().expect("a free run"));
    *run = blocks.wrapping_add_signed(by).to_le_bytes().to_vec();
}

#[test]
fn free_space_is_counted_and_owned_once() {
    found("a free run is gone", "space", "blocks", |pool| {
        pool.tweak_free = |tablet, items| {
            if tablet == 2 {
                items.retain(|key, _| {
                    !key.as_bytes().starts_with(Key::of_purpose(Purpose::Data).as_bytes())
                });
            }
        };
    });
    found("a free run is too long", "space", "blocks", |pool| {
        pool.tweak_free = |tablet, items| {
            if tablet == 2 {
                resize(items, Purpose::Node, 4);
            }
        };
    });
    found("a free run is too short", "space", "blocks", |pool| {
        pool.tweak_free = |tablet, items| {
            if tablet == 2 {
                resize(items, Purpose::Data, -1);
            }
        };
    });
    found("node space in parts of a node", "space", "tablet 2", |pool| {
        pool.tweak_free = |tablet, items| {
            if tablet == 2 {
                resize(items, Purpose::Node, -1);
            }
        };
    });
    found("unassigned space elsewhere", "space", "tablet 2", |pool| {
        pool.tweak_free = |tablet, items| {
            if tablet == 2 {
                let start = BlockNo::new(DeviceId(0), 4000);
                items
                    .insert(Key::free_run(Purpose::Unassigned, start), 1u64.to_le_bytes().to_vec());
            }
        };
    });
    found("a run of no blocks", "item", "tablet 2", |pool| {
        pool.tweak_free = |tablet, items| {
            if tablet == 2 {
                let start = BlockNo::new(DeviceId(0), 4000);
                items.insert(Key::free_run(Purpose::Data, start), 0u64.to_le_bytes().to_vec());
            }
        };
    });
}
