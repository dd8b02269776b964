//! Data that the archive has: released, offline, staged back. A reader gets the right bytes or is told to
//! wait, whatever a crash leaves.

mod one_file;

use cairn_base::Nanos;
use cairn_base::prng::Prng;
use cairn_engine::attr::Attr;
use cairn_engine::op::{Commit, Stability};
use cairn_engine::{Cred, FsError, Shard};
use cairn_format::InodeNo;
use cairn_sim::check::whole;
use cairn_sim::machine::Halt;
use cairn_sim::media::{Cut, CutEffect};
use cairn_sim::world::World;
use one_file::{BLOCK, File, MIB, content, create, small_world, world};
use std::cell::RefCell;
use std::future::Future;
use std::rc::Rc;

const ALL: u64 = 1 << 40;

/// Runs one file's story on shard 0, and the verifier over what it left.
fn story<F: Future<Output = ()> + 'static>(seed: u64, tell: impl FnOnce(Rc<Shard<World>>) -> F) {
    let mut world = world(seed);
    let shard = world.shards()[0].clone();
    world.machine().run(0, tell(shard)).expect("the machine runs");
    world.crash();
    whole::check(&world.media.borrow()).expect("nothing is found");
}

#[test]
fn released_data_is_offline_and_comes_back_mib_by_mib() {
    for seed in 0..4 {
        story(seed, |shard| async move {
            let bytes = content(seed, 2 * MIB + 5 * BLOCK + 100);
            let file = File::new(&shard, &bytes).await.unwrap();
            let before = file.attr().await;
            let version = before.data_version;
            assert_eq!((before.online_blocks, before.offline_blocks), (518, 0));

            assert_eq!(file.release(0, ALL, version).await, Ok(518));
            let after = file.attr().await;
            assert_eq!((after.online_blocks, after.offline_blocks), (0, 518));
            let same = |a: &Attr| (a.size, a.mtime, a.ctime, a.data_seq, a.data_version, a.mode);
            assert_eq!(same(&after), same(&before));
            assert!(after.meta_seq > before.meta_seq);
            assert_eq!(file.release(0, ALL, version).await, Ok(0));

            for at in [0, BLOCK, MIB, 2 * MIB + 5 * BLOCK] {
                assert_eq!(file.read(at, 10).await, Err(FsError::Offline), "at {at}");
            }
            let refused = file.write(0, b"new", Stability::FileSync).await;
            assert_eq!(refused, Err(FsError::Offline));
            assert_eq!(file.truncate(MIB).await, Err(FsError::Offline));

            // Half a MiB is not shown: only all of it can be compared with what was released.
            let half = (MIB / 2) as usize;
            assert_eq!(file.stage(0, &bytes[..half], version).await, Ok(128));
            assert_eq!(file.read(0, 10).await, Err(FsError::Offline));
            assert_eq!(file.attr().await.offline_blocks, 518);
            assert_eq!(file.stage(0, &bytes[..half], version).await, Ok(0));
            assert_eq!(file.stage(MIB / 2, &bytes[half..2 * half], version).await, Ok(128));
            assert_eq!(file.read(0, MIB).await.as_deref(), Ok(&bytes[..2 * half]));
            assert_eq!(file.read(MIB, 10).await, Err(FsError::Offline));

            assert_eq!(file.stage(MIB, &bytes[2 * half..4 * half], version).await, Ok(256));
            assert_eq!(file.stage(2 * MIB, &bytes[4 * half..], version).await, Ok(6));
            let staged = file.attr().await;
            assert_eq!((staged.online_blocks, staged.offline_blocks), (518, 0));
            assert_eq!(same(&staged), same(&before));
            for (nth, piece) in bytes.chunks(MIB as usize).enumerate() {
                assert_eq!(file.read(nth as u64 * MIB, MIB).await.as_deref(), Ok(piece));
            }
            file.write(0, b"new", Stability::FileSync).await.unwrap();
        });
    }
}

/// All of a MiB staged, or released.
async fn act(file: &File, is_staged: bool, bytes: &[u8]) -> Result<u64, FsError> {
    match (is_staged, file.version().await) {
        (true, version) => file.stage(0, bytes, version).await,
        (false, version) => file.release(0, ALL, version).await,
    }
}

/// Whoever finds done what another has done and was not told of yet may promise it only when it is
/// durable.
#[test]
fn what_two_agents_do_at_once_is_durable_when_either_is_told() {
    for seed in 0..8 {
        for is_staged in [false, true] {
            let mut world = world(seed);
            let shard = world.shards()[0].clone();
            let bytes = content(seed, MIB);
            let (told, made) = (bytes.clone(), Rc::new(RefCell::new(None)));
            let file = made.clone();
            let prepare = async move {
                let some = File::new(&shard, &told).await.unwrap();
                if is_staged {
                    some.release(0, ALL, some.version().await).await.unwrap();
                }
                file.replace(Some(some));
            };
            world.machine().run(0, prepare).unwrap();
            let file = made.take().unwrap();
            let (first, told) = (file.clone(), bytes.clone());
            world.machine().spawn(0, async move {
                let _killed = act(&first, is_staged, &told).await;
            });
            let second = file.clone();
            let both = async move {
                let is_done = |attr: Attr| (attr.offline_blocks == 0) == is_staged;
                while !is_done(second.attr().await) {
                    second.shard.reactor().sleep(Nanos(500)).await;
                }
                assert_eq!(act(&second, is_staged, &bytes).await, Ok(0), "another has done it");
            };
            world.machine().run(0, both).unwrap();
            world.crash();
            world.boot(1).unwrap();
            let shard = world.shards()[0].clone();
            let after = File { shard, ino: file.ino };
            let look = async move {
                let expected = if is_staged { 0 } else { 256 };
                assert_eq!(after.attr().await.offline_blocks, expected, "seed {seed}");
            };
            world.machine().run(0, look).unwrap();
        }
    }
}

#[test]
fn other_bytes_than_those_released_are_refused_and_nobody_sees_them() {
    story(1, |shard| async move {
        let bytes = content(1, MIB);
        let file = File::new(&shard, &bytes).await.unwrap();
        let version = file.version().await;
        file.release(0, ALL, version).await.unwrap();
        let half = (MIB / 2) as usize;
        let mut wrong = bytes.clone();
        wrong[700_000] ^= 1;
        file.stage(0, &wrong[..half], version).await.unwrap();
        let refused = file.stage(MIB / 2, &wrong[half..], version).await;
        assert_eq!(refused, Err(FsError::FixityMismatch));
        assert_eq!(file.read(0, 10).await, Err(FsError::Offline));
        assert_eq!(file.attr().await.offline_blocks, 256);
        // All of the MiB is wanted again, as nobody knows which half was wrong.
        file.stage(MIB / 2, &bytes[half..], version).await.unwrap();
        assert_eq!(file.read(MIB / 2, 10).await, Err(FsError::Offline));
        file.stage(0, &bytes[..half], version).await.unwrap();
        assert_eq!(file.read(0, MIB).await, Ok(bytes));
    });
}

#[test]
fn what_makes_no_sense_is_refused_and_changes_nothing() {
    story(2, |shard| async move {
        let bytes = content(2, 3 * BLOCK + 10);
        let file = File::new(&shard, &bytes).await.unwrap();
        let version = file.version().await;
        assert_eq!(file.release(0, ALL, version + 1).await, Err(FsError::VersionMismatch));
        assert_eq!(file.release(0, ALL, 0).await, Err(FsError::VersionMismatch));
        for (offset, len) in [(1, BLOCK), (0, 10), (u64::MAX - 4095, 2 * BLOCK)] {
            assert_eq!(file.release(offset, len, version).await, Err(FsError::Invalid));
        }
        assert_eq!(file.release(5, 0, 77).await, Ok(0));
        let root = File { ino: InodeNo::ROOT, ..file.clone() };
        assert_eq!(root.release(0, ALL, 0).await, Err(FsError::IsDirectory));
        assert_eq!(file.attr().await.online_blocks, 4);

        file.release(0, ALL, version).await.unwrap();
        assert_eq!(file.stage(0, &bytes, version - 1).await, Err(FsError::VersionMismatch));
        for (offset, len) in [(1, 10), (0, 10), (0, 4 * BLOCK), (3 * BLOCK, 11), (8 * BLOCK, 10)] {
            let some = vec![1; len as usize];
            let refused = file.stage(offset, &some, version).await;
            assert_eq!(refused, Err(FsError::Invalid), "{offset} {len}");
        }
        let far = file.stage(u64::MAX - 4095, &[1; 4096], version).await;
        assert_eq!(far, Err(FsError::Invalid));
        assert_eq!(file.read(0, 1).await, Err(FsError::Offline));
        assert_eq!(file.stage(0, &bytes, version).await, Ok(4));
        assert_eq!(file.read(0, MIB).await, Ok(bytes));
    });
}

#[test]
fn a_write_since_the_copy_keeps_a_file_from_being_released() {
    story(3, |shard| async move {
        let file = File::new(&shard, &content(3, 20 * BLOCK)).await.unwrap();
        let version = file.version().await;
        file.write(BLOCK, b"since", Stability::Unstable).await.unwrap();
        assert_eq!(file.release(0, ALL, version).await, Err(FsError::VersionMismatch));
        // What is buffered belongs to the version that is shown.
        let version = file.version().await;
        assert_eq!(file.release(0, ALL, version).await, Ok(20));
    });
}

#[test]
fn a_stage_leaves_what_is_online_and_what_is_buffered_as_it_is() {
    story(0, |shard| async move {
        let bytes = content(4, MIB);
        let file = File::new(&shard, &bytes).await.unwrap();
        let version = file.version().await;
        let half = (MIB / 2) as usize;
        assert_eq!(file.release(MIB / 2, ALL, version).await, Ok(128));
        let mut other = bytes.clone();
        other[..half].fill(7);
        assert_eq!(file.stage(0, &other, version).await, Ok(128));
        assert_eq!(file.read(0, MIB).await.as_deref(), Ok(&bytes[..]));
        // Buffered, and behind what the trees have of the file.
        let ino = create(&shard, "buffered").await.unwrap();
        let file = File { ino, ..file };
        file.write(0, &bytes[..9 * 4096 + 5], Stability::Unstable).await.unwrap();
        let version = file.version().await;
        assert_eq!(file.stage(0, &other[..9 * 4096 + 5], version).await, Ok(0));
        assert_eq!(file.read(0, MIB).await.as_deref(), Ok(&bytes[..9 * 4096 + 5]));
        assert_eq!(file.version().await, version);
    });
}

#[test]
fn bytes_where_nothing_was_are_not_those_that_were_released() {
    story(1, |shard| async move {
        let file = File::new(&shard, &[]).await.unwrap();
        let bytes = content(5, BLOCK);
        file.write(4 * BLOCK, &bytes, Stability::FileSync).await.unwrap();
        let version = file.version().await;
        assert_eq!(file.release(0, ALL, version).await, Ok(1));
        let mut all = vec![0; 5 * BLOCK as usize];
        all[4 * BLOCK as usize..].copy_from_slice(&bytes);
        all[5000] = 1;
        assert_eq!(file.stage(0, &all, version).await, Err(FsError::FixityMismatch));
        assert_eq!(file.read(0, 4 * BLOCK).await, Ok(vec![0; 4 * BLOCK as usize]));
        assert_eq!(file.read(4 * BLOCK, 1).await, Err(FsError::Offline));
        all[5000] = 0;
        assert_eq!(file.stage(0, &all, version).await, Ok(1));
        assert_eq!(file.read(0, MIB).await, Ok(all));
    });
}

#[test]
fn a_file_that_is_not_there_is_neither_released_nor_staged() {
    story(2, |shard| async move {
        let file = File::new(&shard, &content(6, BLOCK)).await.unwrap();
        let version = file.version().await;
        let nobody = InodeNo::from_raw(file.ino.raw() + (1 << 30)).expect("not zero");
        let unknown = File { ino: nobody, ..file.clone() };
        assert_eq!(unknown.release(0, ALL, version).await, Err(FsError::Stale));
        assert_eq!(unknown.stage(0, &[0; 4096], version).await, Err(FsError::Stale));
        file.unlink("file").await.unwrap();
        assert_eq!(file.release(0, ALL, version).await, Err(FsError::Stale));
        assert_eq!(file.stage(0, &[0; 4096], version).await, Err(FsError::Stale));
    });
}

#[test]
fn a_truncation_takes_the_sum_of_what_it_cuts_and_no_other() {
    story(3, |shard| async move {
        let bytes = content(7, MIB);
        let file = File::new(&shard, &bytes).await.unwrap();
        let (half, quarter) = ((MIB / 2) as usize, (MIB / 4) as usize);
        let version = file.version().await;
        file.release(MIB / 2, ALL, version).await.unwrap();
        file.truncate(MIB / 4 + 100).await.unwrap();
        file.write(MIB / 4, &bytes[quarter..], Stability::FileSync).await.unwrap();
        let version = file.version().await;
        assert_eq!(file.release(0, ALL, version).await, Ok(256));
        // The same size again changes nothing: the sum is still there.
        file.truncate(MIB).await.unwrap();
        let mut wrong = bytes.clone();
        wrong[quarter] ^= 1;
        assert_eq!(file.stage(0, &wrong[..half], version).await, Ok(128));
        file.truncate(MIB).await.unwrap();
        let refused = file.stage(MIB / 2, &bytes[half..], version).await;
        assert_eq!(refused, Err(FsError::FixityMismatch));
        assert_eq!(file.stage(0, &bytes, version).await, Ok(256));
        assert_eq!(file.read(0, MIB).await, Ok(bytes));
    });
}

/// A pool without room: nothing comes back that has no place, and nothing else is lost by it.
#[test]
fn a_full_pool_stages_nothing_and_loses_nothing() {
    for seed in 0..4 {
        let mut world = small_world(seed);
        let shard = world.shards()[0].clone();
        let full = async move {
            let bytes = content(8, MIB);
            let file = File::new(&shard, &bytes).await.unwrap();
            let version = file.version().await;
            file.release(0, ALL, version).await.unwrap();
            let spare = File { ino: create(&shard, "spare").await.unwrap(), ..file.clone() };
            for nth in 0..4 {
                spare.write(nth * MIB, &content(9, MIB), Stability::FileSync).await.unwrap();
            }
            let fill = File { ino: create(&shard, "fill").await.unwrap(), ..file.clone() };
            let mut at = 0;
            for len in [MIB, 16 * BLOCK, BLOCK] {
                let some = content(10, len);
                while fill.write(at, &some, Stability::FileSync).await.is_ok() {
                    at += len;
                }
            }
            let refused = file.stage(0, &bytes, version).await;
            assert_eq!(refused, Err(FsError::NoSpace), "seed {seed}");
            assert_eq!(file.read(0, 1).await, Err(FsError::Offline));
            // Releasing makes room, however full it is. What is buffered has its room promised.
            let spare_version = spare.version().await;
            assert_eq!(spare.release(0, ALL, spare_version).await, Ok(1024));
            let some = content(11, 16 * BLOCK);
            let mut buffered = 0;
            let waits = File { ino: create(&shard, "waits").await.unwrap(), ..file.clone() };
            while waits.write(buffered, &some, Stability::Unstable).await.is_ok() {
                buffered += 16 * BLOCK;
            }
            assert!(buffered > MIB, "seed {seed}: {buffered}");
            let staged = file.stage(0, &bytes, version).await;
            assert_eq!(staged, Err(FsError::NoSpace), "seed {seed}");
            let commit = Commit { cred: Cred::root(), ino: waits.ino, offset: 0, len: 0 };
            waits.shard.call(commit).await.expect("it was acknowledged");
            waits.unlink("fill").await.unwrap();
            let again = async || file.stage(0, &bytes, version).await;
            assert_eq!(again().await, Ok(256), "seed {seed}");
            assert_eq!(file.read(0, MIB).await, Ok(bytes));
        };
        world.machine().run(0, full).expect("the machine runs");
        world.crash();
        whole::check(&world.media.borrow()).unwrap_or_else(|what| panic!("seed {seed}: {what}"));
    }
}

/// A file while it changes, and what it becomes.
struct Told {
    bytes: Vec<u8>,
    version: u64,
    next: Option<Vec<u8>>,
}

/// Writes and cuts a file, and asks for it back where it is offline.
async fn owner(file: File, told: Rc<RefCell<Told>>, mut prng: Prng) {
    for turn in 0.. {
        let (mut next, version) = (told.borrow().bytes.clone(), told.borrow().version);
        let size = next.len() as u64;
        let cuts = prng.percent(30);
        let (bits, whole) = (6 + prng.below(12), prng.below(2));
        let offset = prng.below(3 * MIB / 2 / BLOCK) * BLOCK + whole * prng.below(BLOCK);
        let some = content(turn, 1 + prng.below(1 << bits));
        if cuts {
            next.resize(offset as usize, 0);
        } else {
            let end = offset as usize + some.len();
            next.resize(next.len().max(end), 0);
            next[offset as usize..end].copy_from_slice(&some);
        }
        told.borrow_mut().next = Some(next);
        let done = match cuts {
            true => file.truncate(offset).await,
            false => file.write(offset, &some, Stability::FileSync).await,
        };
        let version_now = file.version().await;
        match done {
            Ok(()) => {
                let mut told = told.borrow_mut();
                told.bytes = told.next.take().expect("it was told");
                told.version = version_now;
            }
            Err(FsError::Offline) => {
                told.borrow_mut().next = None;
                let bytes = told.borrow().bytes.clone();
                for at in (0..size).step_by(MIB as usize) {
                    let piece = &bytes[at as usize..size.min(at + MIB) as usize];
                    file.stage(at, piece, version).await.expect("these are its bytes");
                }
            }
            Err(error) => panic!("{error}"),
        }
    }
}

/// Releases and stages a file that its owner changes meanwhile.
async fn clerk(file: File, told: Rc<RefCell<Told>>, mut prng: Prng) {
    loop {
        let (bytes, version) = (told.borrow().bytes.clone(), told.borrow().version);
        let size = bytes.len() as u64;
        let bits = prng.below(9);
        let offset = prng.below(size.div_ceil(BLOCK) + 1) * BLOCK;
        let end = size.min(offset + (1 + prng.below(1 << bits)) * BLOCK);
        let done = if prng.percent(50) || offset >= end {
            file.release(offset, (1 + prng.below(1 << bits)) * BLOCK, version).await
        } else {
            file.stage(offset, &bytes[offset as usize..end as usize], version).await
        };
        match done {
            Ok(_) | Err(FsError::VersionMismatch) => {}
            Err(error) => panic!("{offset} to {end} of {size}: {error}"),
        }
        // What is refused waits for nothing, and others want their turn.
        file.shard.reactor().sleep(Nanos(prng.below(200_000))).await;
    }
}

#[test]
fn a_file_that_changes_meanwhile_is_never_another() {
    for seed in 0..30 {
        let mut prng = Prng::new(seed ^ 0x6f77_6e65);
        let mut world = world(seed);
        let shard = world.shards()[0].clone();
        let made = world.machine().run(0, async move { create(&shard, "file").await });
        let ino = made.expect("the machine runs").expect("there is room");
        let told = Told { bytes: Vec::new(), version: 0, next: None };
        let told = Rc::new(RefCell::new(told));
        for _ in 0..5 {
            let command = world.media.borrow().commands() + 1 + prng.below(600);
            let effect = if prng.percent(50) { CutEffect::Before } else { CutEffect::After };
            world.media.borrow_mut().set_cut(Some(Cut { command, effect }));
            let file = File { shard: world.shards()[0].clone(), ino };
            for _ in 0..2 {
                let prng = Prng::new(prng.next_u64());
                world.machine().spawn(0, clerk(file.clone(), told.clone(), prng));
            }
            let owner = owner(file, told.clone(), Prng::new(prng.next_u64()));
            let halted = world.machine().run(0, owner);
            assert!(matches!(halted, Err(Halt::PowerOff)), "seed {seed}: {halted:?}");
            world.crash();
            whole::check(&world.media.borrow())
                .unwrap_or_else(|what| panic!("seed {seed}: {what}"));
            world.media.borrow_mut().power_on();
            world.media.borrow_mut().set_cut(None);
            world.boot(1 + prng.below(2) as usize).expect("booted");
            let file = File { shard: world.shards()[0].clone(), ino };
            let told = told.clone();
            let look = async move {
                let attr = file.attr().await;
                {
                    let mut told = told.borrow_mut();
                    let next = told.next.take();
                    if attr.data_version != told.version {
                        told.bytes = next.expect("nobody else has changed it");
                        told.version = attr.data_version;
                    }
                }
                let (bytes, version) = (told.borrow().bytes.clone(), told.borrow().version);
                compare(&file, &Model { bytes: bytes.clone(), version }).await;
                for (nth, piece) in bytes.chunks(MIB as usize).enumerate() {
                    let staged = file.stage(nth as u64 * MIB, piece, version).await;
                    staged.unwrap_or_else(|error| panic!("seed {seed}: MiB {nth}: {error}"));
                }
                assert_eq!(compare(&file, &Model { bytes, version }).await, 0, "seed {seed}");
            };
            world.machine().run(0, look).expect("the machine runs");
        }
    }
}

/// What is where, block by block: the bytes as they ought to be.
struct Model {
    bytes: Vec<u8>,
    version: u64,
}

async fn compare(file: &File, model: &Model) -> u64 {
    let attr = file.attr().await;
    assert_eq!(attr.size, model.bytes.len() as u64);
    let mut offline = 0;
    for (nth, piece) in model.bytes.chunks(BLOCK as usize).enumerate() {
        match file.read(nth as u64 * BLOCK, BLOCK).await {
            Ok(read) => assert!(read == piece, "block {nth} is not what it was"),
            Err(FsError::Offline) => offline += 1,
            Err(error) => panic!("block {nth}: {error}"),
        }
    }
    assert_eq!(attr.offline_blocks, offline);
    offline
}

async fn agent(file: File, model: Rc<Model>, mut prng: Prng) {
    let blocks = (model.bytes.len() as u64).div_ceil(BLOCK);
    loop {
        let first = prng.below(blocks);
        let bits = prng.below(9);
        let count = 1 + prng.below(1 << bits);
        let offset = first * BLOCK;
        if prng.percent(50) {
            // Of the staged data in it, too.
            file.release(offset, count * BLOCK, model.version).await.expect("it is its version");
            continue;
        }
        let end = (offset + count.min(256) * BLOCK).min(model.bytes.len() as u64);
        let mut bytes = model.bytes[offset as usize..end as usize].to_vec();
        if prng.percent(20) {
            let at = prng.below(bytes.len() as u64) as usize;
            // A zero, which a hole would take for its own.
            bytes[at] = if bytes[at] == 0 { 0 } else { bytes[at] ^ 2 };
        }
        match file.stage(offset, &bytes, model.version).await {
            Ok(_) | Err(FsError::FixityMismatch) => {}
            Err(error) => panic!("stage of {offset} to {end}: {error}"),
        }
    }
}

/// A file with small and large extents, holes, and an end that was cut.
async fn mixed(shard: &Rc<Shard<World>>, seed: u64) -> Result<(File, Model), FsError> {
    let mut prng = Prng::new(seed ^ 0x6d69_7865);
    let file = File { shard: shard.clone(), ino: create(shard, "file").await? };
    let mut bytes: Vec<u8> = Vec::new();
    for nth in 0..12 {
        let offset = prng.below(600) * BLOCK + prng.below(2) * prng.below(BLOCK);
        let bits = 6 + prng.below(14);
        let some = content(seed * 100 + nth, 1 + prng.below(1 << bits));
        let stability = if prng.percent(50) { Stability::FileSync } else { Stability::Unstable };
        file.write(offset, &some, stability).await?;
        let end = offset as usize + some.len();
        bytes.resize(bytes.len().max(end), 0);
        bytes[offset as usize..end].copy_from_slice(&some);
    }
    let size = bytes.len() as u64 - prng.below(5000).min(bytes.len() as u64 / 2);
    bytes.truncate(size as usize);
    file.truncate(size).await?;
    let version = file.version().await;
    Ok((file, Model { bytes, version }))
}

#[test]
fn whatever_a_power_cut_leaves_is_right_or_offline() {
    for seed in 0..40 {
        let mut prng = Prng::new(seed);
        let mut world = world(seed);
        let shard = world.shards()[0].clone();
        let made = world.machine().run(0, async move { mixed(&shard, seed).await });
        let (file, model) = made.expect("the machine runs").expect("there is room");
        let (ino, model) = (file.ino, Rc::new(model));
        drop(file);
        let mut met_offline = 0;
        for _ in 0..6 {
            let bits = prng.below(9);
            let command = world.media.borrow().commands() + 1 + prng.below(1 << bits);
            let effect = if prng.percent(50) { CutEffect::Before } else { CutEffect::After };
            world.media.borrow_mut().set_cut(Some(Cut { command, effect }));
            let file = File { shard: world.shards()[0].clone(), ino };
            let agents = [file.clone(), file];
            let [one, other] =
                agents.map(|file| agent(file, model.clone(), Prng::new(prng.next_u64())));
            world.machine().spawn(0, one);
            let halted = world.machine().run(0, other);
            assert!(matches!(halted, Err(Halt::PowerOff)), "seed {seed}: {halted:?}");
            world.crash();
            whole::check(&world.media.borrow())
                .unwrap_or_else(|what| panic!("seed {seed}: {what}"));
            world.media.borrow_mut().power_on();
            world.media.borrow_mut().set_cut(None);
            world.boot(1 + prng.below(2) as usize).expect("booted");
            let file = File { shard: world.shards()[0].clone(), ino };
            let model = model.clone();
            met_offline +=
                world.machine().run(0, async move { compare(&file, &model).await }).unwrap();
        }
        assert!(met_offline > 0, "seed {seed}: nothing was ever offline");
        // All of it comes back, and goes with the file.
        let file = File { shard: world.shards()[0].clone(), ino };
        let back = async move {
            for (nth, piece) in model.bytes.chunks(MIB as usize).enumerate() {
                let stage = async || file.stage(nth as u64 * MIB, piece, model.version).await;
                // Wrong bytes that wait there for the rest are found by it, and go.
                if stage().await == Err(FsError::FixityMismatch) {
                    stage().await.expect("these are the right bytes");
                }
            }
            assert_eq!(compare(&file, &model).await, 0);
            file.release(0, ALL, model.version).await.unwrap();
            file.unlink("file").await.unwrap();
        };
        world.machine().run(0, back).expect("the machine runs");
        world.machine().idle(Nanos::from_secs(2)).expect("nothing stops it");
        world.crash();
        whole::check(&world.media.borrow()).unwrap_or_else(|what| panic!("seed {seed}: {what}"));
    }
}
