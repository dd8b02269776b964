//! A file that the archive has and the pool lost comes back: offline, with its size, times and version. A
//! reader waits for its bytes or gets them, and never gets zeros instead, whatever a crash leaves.

#![allow(clippy::unwrap_used, reason = "a helper of a test fails like the test")]

use cairn_base::Nanos;
use cairn_base::prng::Prng;
use cairn_engine::attr::{Attr, SetAttr, Time};
use cairn_engine::name::Name;
use cairn_engine::op::{
    Create, CreateHow, ExtentPage, Extents, FileExtent, Getattr, PunchOffline, Read, Release,
    Restore, Restored, Setattr, Stability, Stage, Unlink, Write,
};
use cairn_engine::{Cred, FsError, Shard};
use cairn_format::InodeNo;
use cairn_sim::check::whole;
use cairn_sim::machine::Halt;
use cairn_sim::media::{Cut, CutEffect};
use cairn_sim::world::{World, WorldConfig};
use std::future::Future;
use std::rc::Rc;

const BLOCK: u64 = 4096;
const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;

fn world(seed: u64) -> World {
    let config = WorldConfig {
        tablets: 3,
        device_blocks: vec![1 << 16],
        fua: seed.is_multiple_of(2),
        memtable_bytes: [256 << 10, 1 << 20][(seed / 2 % 2) as usize],
        log_blocks: 1024,
    };
    let mut world = World::new(seed, config);
    world.format().expect("formatted");
    world.boot(1 + (seed % 2) as usize).expect("booted");
    world
}

fn content(seed: u64, len: u64) -> Vec<u8> {
    let mut prng = Prng::new(seed ^ 0x7265_7374);
    (0..len).map(|_| prng.next_u64() as u8 | 1).collect()
}

#[derive(Clone)]
struct File {
    shard: Rc<Shard<World>>,
    ino: InodeNo,
}

impl File {
    async fn new(shard: &Rc<Shard<World>>, name: &str) -> File {
        let (cred, dir) = (Cred::root(), InodeNo::ROOT);
        let name = Name::parse(name.as_bytes()).expect("a name");
        let how = CreateHow::Unchecked(SetAttr::default());
        let made = shard.call(Create { cred, dir, name, how }).await.expect("there is room");
        File { shard: shard.clone(), ino: made.ino }
    }

    async fn restore(&self, set: Restored) -> Result<(), FsError> {
        self.shard.call(Restore { ino: self.ino, set }).await
    }

    async fn attr(&self) -> Attr {
        self.shard.call(Getattr { ino: self.ino }).await.expect("it is there")
    }

    async fn write(&self, offset: u64, bytes: &[u8], stability: Stability) -> Result<(), FsError> {
        let start = (offset % BLOCK) as usize;
        let mut data = self.shard.arena().alloc(start + bytes.len());
        data[start..start + bytes.len()].copy_from_slice(bytes);
        let (cred, ino, len) = (Cred::root(), self.ino, bytes.len());
        self.shard.call(Write { cred, ino, offset, data, len, stability }).await.map(drop)
    }

    async fn truncate(&self, size: u64) -> Result<(), FsError> {
        let set = SetAttr { size: Some(size), ..SetAttr::default() };
        let setattr = Setattr { cred: Cred::root(), ino: self.ino, set, guard: None };
        self.shard.call(setattr).await.map(drop)
    }

    async fn stage(&self, offset: u64, bytes: &[u8], data_version: u64) -> Result<u64, FsError> {
        let mut data = self.shard.arena().alloc(bytes.len());
        data[..bytes.len()].copy_from_slice(bytes);
        let (ino, len) = (self.ino, bytes.len());
        self.shard.call(Stage { ino, offset, data, len, data_version }).await
    }

    async fn release(&self, data_version: u64) -> Result<u64, FsError> {
        self.shard.call(Release { ino: self.ino, offset: 0, len: GIB, data_version }).await
    }

    async fn read(&self, offset: u64, len: u64) -> Result<Vec<u8>, FsError> {
        let len = len as u32;
        let read = Read { cred: Cred::root(), ino: self.ino, offset, len };
        self.shard.call(read).await.map(|data| data.to_vec())
    }

    async fn unlink(&self, name: &str) {
        let (cred, dir) = (Cred::root(), InodeNo::ROOT);
        let name = Name::parse(name.as_bytes()).expect("a name");
        self.shard.call(Unlink { cred, dir, name }).await.expect("it is there");
    }
}

fn offline(size: u64, version: u64) -> Restored {
    Restored {
        data_version: Some(version),
        size: Some(size),
        offline: true,
        mtime: None,
        ctime: Some(Time::new(1_000_000_000, 123_456_789)),
        crtime: Some(Time::new(-5, 1)),
    }
}

fn story<F: Future<Output = ()> + 'static>(seed: u64, tell: impl FnOnce(Rc<Shard<World>>) -> F) {
    let mut world = world(seed);
    let shard = world.shards()[0].clone();
    world.machine().run(0, tell(shard)).expect("the machine runs");
    world.crash();
    whole::check(&world.media.borrow()).unwrap_or_else(|what| panic!("seed {seed}: {what}"));
}

#[test]
fn a_restored_file_waits_for_its_bytes_and_shows_each_block_as_it_comes() {
    for seed in 0..4 {
        story(seed, |shard| async move {
            let bytes = content(seed, 2 * MIB + 5 * BLOCK + 100);
            let file = File::new(&shard, "file").await;
            let before = file.attr().await;
            file.restore(offline(bytes.len() as u64, 7)).await.unwrap();
            let after = file.attr().await;
            assert_eq!((after.size, after.data_version), (bytes.len() as u64, 7));
            assert_eq!((after.online_blocks, after.offline_blocks), (0, 518));
            assert_eq!(after.ctime, Time::new(1_000_000_000, 123_456_789));
            assert_eq!(after.crtime, Time::new(-5, 1));
            assert_eq!((after.mtime, after.data_seq), (before.mtime, before.data_seq));
            assert!(after.meta_seq > before.meta_seq);
            for at in [0, MIB, 2 * MIB + 5 * BLOCK] {
                assert_eq!(file.read(at, 10).await, Err(FsError::Offline), "at {at}");
            }
            let refused = file.write(0, b"new", Stability::FileSync).await;
            assert_eq!(refused, Err(FsError::Offline));
            assert_eq!(file.truncate(MIB).await, Err(FsError::Offline));

            // Nothing is known of its bytes, so none waits for others.
            let block = BLOCK as usize;
            assert_eq!(
                file.stage(BLOCK, &bytes[block..2 * block], 8).await,
                Err(FsError::VersionMismatch)
            );
            assert_eq!(file.stage(BLOCK, &bytes[block..2 * block], 7).await, Ok(1));
            assert_eq!(file.read(BLOCK, BLOCK).await.as_deref(), Ok(&bytes[block..2 * block]));
            assert_eq!(file.read(0, BLOCK).await, Err(FsError::Offline));
            assert_eq!(file.read(2 * BLOCK, BLOCK).await, Err(FsError::Offline));
            for (nth, piece) in bytes.chunks(MIB as usize).enumerate() {
                file.stage(nth as u64 * MIB, piece, 7).await.unwrap();
                assert_eq!(file.read(nth as u64 * MIB, MIB).await.as_deref(), Ok(piece));
            }
            let staged = file.attr().await;
            assert_eq!((staged.online_blocks, staged.offline_blocks), (518, 0));
            assert_eq!((staged.data_version, staged.ctime), (7, after.ctime));

            // From here on it is a file like any other: what is released of it is known.
            file.release(7).await.unwrap();
            let mut wrong = bytes.clone();
            wrong[5] ^= 1;
            let refused = file.stage(0, &wrong[..MIB as usize], 7).await;
            assert_eq!(refused, Err(FsError::FixityMismatch));
            for (nth, piece) in bytes.chunks(MIB as usize).enumerate() {
                file.stage(nth as u64 * MIB, piece, 7).await.unwrap();
            }
            file.write(0, b"new", Stability::FileSync).await.unwrap();
            assert!(file.attr().await.data_version > 1_000_000);
        });
    }
}

#[test]
fn what_makes_no_sense_is_refused_and_changes_nothing() {
    story(1, |shard| async move {
        let file = File::new(&shard, "file").await;
        let before = file.attr().await;
        let none = Restored::default();
        let good = offline(MIB, 7);
        for (set, error) in [
            (Restored { data_version: Some(0), ..none }, FsError::Invalid),
            (Restored { size: Some(1), ..none }, FsError::Invalid),
            (Restored { size: Some(0), ..good }, FsError::Invalid),
            (Restored { size: None, ..good }, FsError::Invalid),
            (Restored { data_version: None, ..good }, FsError::Invalid),
            (Restored { data_version: Some(u64::MAX), ..good }, FsError::VersionAhead),
            (
                Restored { data_version: Some(1 << 62), offline: false, ..good },
                FsError::VersionAhead,
            ),
            (offline((16 << 40) + 1, 7), FsError::TooBig),
            (offline(u64::MAX, 7), FsError::TooBig),
            (Restored { offline: false, ..offline(u64::MAX, 7) }, FsError::TooBig),
        ] {
            assert_eq!(file.restore(set).await, Err(error), "{set:?}");
        }
        file.restore(none).await.unwrap();
        assert_eq!(file.attr().await, before);

        let nobody = InodeNo::from_raw(file.ino.raw() + (1 << 30)).expect("not zero");
        let unknown = File { ino: nobody, ..file.clone() };
        assert_eq!(unknown.restore(good).await, Err(FsError::Stale));
        let root = File { ino: InodeNo::ROOT, ..file.clone() };
        assert_eq!(root.restore(good).await, Err(FsError::Invalid));
        let times = Restored { ctime: good.ctime, crtime: good.crtime, ..none };
        root.restore(times).await.unwrap();
        assert_eq!(root.attr().await.crtime, Time::new(-5, 1));

        // Buffered data is data, and a file that was cut to nothing had some.
        file.write(0, b"data", Stability::Unstable).await.unwrap();
        assert_eq!(file.restore(good).await, Err(FsError::HasData));
        assert_eq!(file.read(0, 10).await.as_deref(), Ok(&b"data"[..]));
        file.truncate(0).await.unwrap();
        assert_eq!(file.restore(good).await, Err(FsError::HasData));
        file.restore(times).await.unwrap();
        assert_eq!(file.attr().await.ctime, Time::new(1_000_000_000, 123_456_789));

        // Twice is once too often.
        let again = File::new(&shard, "again").await;
        again.restore(good).await.unwrap();
        assert_eq!(again.restore(good).await, Err(FsError::HasData));
        again.unlink("again").await;
        assert_eq!(again.restore(times).await, Err(FsError::Stale));
    });
}

#[test]
fn a_size_that_is_not_offline_is_a_hole() {
    story(2, |shard| async move {
        let file = File::new(&shard, "file").await;
        let huge = 578_437_695_752_307_201;
        file.restore(Restored { offline: false, ..offline(huge, 3) }).await.unwrap();
        let attr = file.attr().await;
        assert_eq!((attr.size, attr.online_blocks, attr.offline_blocks), (huge, 0, 0));
        assert_eq!(file.read(huge - 10, 10).await, Ok(vec![0; 10]));
        let empty = File::new(&shard, "empty").await;
        let set = Restored { data_version: Some(9), ..Restored::default() };
        empty.restore(set).await.unwrap();
        assert_eq!(empty.attr().await.data_version, 9);
    });
}

/// So large that it takes three steps.
const LARGE: u64 = GIB + 512 * MIB + 77;
const LARGE_BLOCKS: u64 = LARGE.div_ceil(BLOCK);

/// Is it there as a whole? Else it is an empty file that can be anything.
async fn look(file: &File) -> bool {
    let attr = file.attr().await;
    if attr.size == 0 {
        assert_eq!((attr.data_version, attr.online_blocks), (0, 0));
        return false;
    }
    assert_eq!((attr.size, attr.data_version, attr.offline_blocks), (LARGE, 7, LARGE_BLOCKS));
    for at in (0..LARGE).step_by(MIB as usize) {
        assert_eq!(file.read(at, 1).await, Err(FsError::Offline), "at {at}");
    }
    assert_eq!(file.read(LARGE - 1, 1).await, Err(FsError::Offline));
    true
}

/// What somebody does with what a crash left of a restore.
async fn go_on(file: &File, what: u64) {
    match what {
        0 => {
            file.restore(offline(LARGE, 7)).await.unwrap();
            assert!(look(file).await);
        }
        1 => {
            file.write(LARGE, b"new", Stability::FileSync).await.unwrap();
            assert_eq!(file.read(MIB, 10).await, Ok(vec![0; 10]));
            assert_eq!(file.attr().await.offline_blocks, 0);
        }
        2 => {
            file.truncate(GIB).await.unwrap();
            assert_eq!(file.read(MIB, 10).await, Ok(vec![0; 10]));
        }
        _ => file.unlink("file").await,
    }
}

#[test]
fn a_large_restore_is_whole_or_nothing_wherever_the_power_goes() {
    let (mut whole_files, mut empty, mut partial) = (0, 0, 0);
    for seed in 0..4 {
        for nth in 0.. {
            let (command, effect) =
                (1 + nth / 2, [CutEffect::Before, CutEffect::After][(nth % 2) as usize]);
            let mut world = world(seed);
            let shard = world.shards()[0].clone();
            let file = world.machine().run(0, async move { File::new(&shard, "file").await });
            let ino = file.expect("the machine runs").ino;
            let command = world.media.borrow().commands() + command;
            world.media.borrow_mut().set_cut(Some(Cut { command, effect }));
            let file = File { shard: world.shards()[0].clone(), ino };
            let done = world.machine().run(0, async move {
                file.restore(offline(LARGE, 7)).await.expect("there is room");
            });
            let is_over = match done {
                Ok(()) => true,
                Err(Halt::PowerOff) => false,
                Err(halt) => panic!("seed {seed}: {halt:?}"),
            };
            world.crash();
            whole::check(&world.media.borrow())
                .unwrap_or_else(|what| panic!("seed {seed}, command {command}: {what}"));
            world.media.borrow_mut().power_on();
            world.media.borrow_mut().set_cut(None);
            world.boot(1 + seed as usize % 2).expect("booted");
            let file = File { shard: world.shards()[0].clone(), ino };
            let after = world.machine().run(0, async move {
                let was_left = file.attr().await.offline_blocks;
                let is_whole = look(&file).await;
                if !is_whole {
                    go_on(&file, nth / 2 % 4).await;
                }
                (is_whole, was_left)
            });
            let (is_whole, was_left) = after.expect("the machine runs");
            assert!(is_whole || !is_over, "seed {seed}: it was acknowledged");
            whole_files += u64::from(is_whole);
            empty += u64::from(!is_whole && was_left == 0);
            partial += u64::from(!is_whole && was_left > 0);
            world.machine().idle(Nanos::from_secs(2)).expect("nothing stops it");
            world.crash();
            whole::check(&world.media.borrow())
                .unwrap_or_else(|what| panic!("seed {seed}, command {command}: {what}"));
            if is_over {
                break;
            }
        }
    }
    assert!(whole_files > 0 && empty > 0, "{whole_files} whole, {empty} empty");
    assert!(partial > 0, "no crash came between two steps");
}

#[test]
fn who_writes_or_restores_meanwhile_leaves_a_whole_file_of_one_of_them() {
    for seed in 0..60 {
        let mut world = world(seed);
        let shard = world.shards()[0].clone();
        let file = world.machine().run(0, async move { File::new(&shard, "file").await });
        let file = file.expect("the machine runs");
        for _ in 0..2 {
            let file = file.clone();
            let other = async move {
                match file.restore(offline(LARGE, 7)).await {
                    Ok(()) | Err(FsError::Busy | FsError::HasData) => {}
                    Err(error) => panic!("{error}"),
                }
            };
            world.machine().spawn(0, other);
        }
        let last = file.clone();
        let run = async move {
            let mut prng = Prng::new(seed);
            for _ in 0..prng.below(40) {
                last.shard.reactor().sleep(Nanos(prng.below(3000))).await;
            }
            if seed % 2 == 0 {
                // It may come in time, or be told to wait for what is offline by then.
                let _ = last.write(5 * MIB, b"new", Stability::FileSync).await;
            } else {
                let _ = last.restore(offline(LARGE, 7)).await;
            }
        };
        world.machine().run(0, run).expect("the machine runs");
        world.machine().idle(Nanos::from_secs(2)).expect("nothing stops it");
        let whole = async move {
            let attr = file.attr().await;
            if attr.data_version == 7 {
                assert!(look(&file).await, "seed {seed}");
            } else if attr.size > 0 {
                assert_eq!((attr.size, attr.offline_blocks), (5 * MIB + 3, 0), "seed {seed}");
            }
        };
        world.machine().run(0, whole).expect("the machine runs");
        world.crash();
        whole::check(&world.media.borrow()).unwrap_or_else(|what| panic!("seed {seed}: {what}"));
    }
}

impl File {
    /// All extents, asked for so many items at a time.
    async fn extents(&self, count_max: usize) -> Vec<FileExtent> {
        let (mut all, mut from): (Vec<FileExtent>, u64) = (Vec::new(), 0);
        loop {
            let blocks = from..1 << 52;
            let ask = Extents { ino: self.ino, blocks, count_max };
            let page = self.shard.call(ask).await.expect("a file has extents");
            for extent in &page.extents {
                if !all.last_mut().is_some_and(|last| last.append(extent)) {
                    all.push(*extent);
                }
            }
            assert_eq!(page.next.is_none(), page.is_end);
            match page.next {
                Some(next) => from = next,
                None => return all,
            }
        }
    }
}

#[test]
fn extents_are_what_is_mapped_however_they_are_asked_for() {
    for seed in 0..4 {
        story(seed, |shard| async move {
            let file = File::new(&shard, "file").await;
            assert_eq!(file.extents(1).await, []);
            file.restore(offline(5 * MIB + 1, 7)).await.unwrap();
            let all = file.extents(1).await;
            assert_eq!((all.len(), all[0].blocks, all[0].offline), (1, 5 * 256 + 1, true));
            assert_eq!(all[0].start, None);
            let bytes = content(seed, MIB);
            file.stage(MIB, &bytes, 7).await.unwrap();
            file.stage(3 * MIB, &bytes[..BLOCK as usize], 7).await.unwrap();
            for count_max in [1, 2, 100] {
                let all = file.extents(count_max).await;
                let is_offline = |extent: &FileExtent| (extent.first_block, extent.offline);
                let states: Vec<_> = all.iter().map(is_offline).collect();
                let online: u64 = all.iter().filter(|e| !e.offline).map(|e| e.blocks).sum();
                assert_eq!(online, 257);
                for at in 0..5 * 256 + 1 {
                    let here = states.iter().rev().find(|(first, _)| *first <= at).unwrap();
                    let reads = file.read(at * BLOCK, 1).await == Err(FsError::Offline);
                    assert_eq!(here.1, reads, "block {at}");
                }
            }

            // Buffered data has its place when it is listed, and a range cuts what it shows.
            let other = File::new(&shard, "other").await;
            other.write(10 * BLOCK, &content(1, 64 * BLOCK), Stability::Unstable).await.unwrap();
            let ask = |blocks| Extents { ino: other.ino, blocks, count_max: 1000 };
            let all = other.shard.call(ask(0..1 << 52)).await.unwrap();
            let blocks: u64 = all.extents.iter().map(|extent| extent.blocks).sum();
            assert_eq!((all.extents[0].first_block, blocks, all.is_end), (10, 64, true));
            assert!(all.extents.iter().all(|extent| extent.start.is_some() != extent.inline));
            let some = other.shard.call(ask(20..30)).await.unwrap();
            let blocks: u64 = some.extents.iter().map(|extent| extent.blocks).sum();
            assert_eq!((some.extents[0].first_block, blocks, some.is_end), (20, 10, false));
            let none = other.shard.call(ask(500..600)).await.unwrap();
            assert_eq!(none, ExtentPage { is_end: true, ..ExtentPage::default() });
            let root = Extents { ino: InodeNo::ROOT, ..ask(0..1) };
            assert_eq!(other.shard.call(root).await, Err(FsError::IsDirectory));
            other.unlink("other").await;
            assert_eq!(other.shard.call(ask(0..1)).await, Err(FsError::Stale));
        });
    }
}

impl File {
    async fn punch(&self, offset: u64, len: u64, data_version: u64) -> Result<u64, FsError> {
        self.shard.call(PunchOffline { ino: self.ino, offset, len, data_version }).await
    }
}

#[test]
fn what_is_punched_is_a_hole_and_the_rest_can_be_staged() {
    for seed in 0..4 {
        story(seed, |shard| async move {
            let file = File::new(&shard, "file").await;
            let bytes = content(seed, 3 * MIB + 100);
            file.restore(offline(bytes.len() as u64, 7)).await.unwrap();
            let before = file.attr().await;
            let refused = [(1, BLOCK, 7), (0, 1, 7), (u64::MAX - 4095, 2 * BLOCK, 7)];
            for (offset, len, version) in refused {
                assert_eq!(file.punch(offset, len, version).await, Err(FsError::Invalid));
            }
            assert_eq!(file.punch(0, BLOCK, 8).await, Err(FsError::VersionMismatch));
            assert_eq!(file.punch(0, 0, 8).await, Ok(0));
            let root = File { ino: InodeNo::ROOT, ..file.clone() };
            assert_eq!(root.punch(0, BLOCK, 0).await, Err(FsError::IsDirectory));

            // Across a MiB, one in the middle, and the end.
            assert_eq!(file.punch(MIB - BLOCK, 3 * BLOCK, 7).await, Ok(3));
            assert_eq!(file.punch(10 * BLOCK, BLOCK, 7).await, Ok(1));
            assert_eq!(file.punch(3 * MIB, GIB, 7).await, Ok(1));
            assert_eq!(file.punch(3 * MIB, GIB, 7).await, Ok(0));
            let after = file.attr().await;
            assert_eq!(after.offline_blocks, before.offline_blocks - 5);
            let same = |a: &Attr| (a.size, a.mtime, a.ctime, a.data_seq, a.data_version);
            assert_eq!(same(&after), same(&before));
            assert!(after.meta_seq > before.meta_seq);
            let zeros = vec![0; BLOCK as usize];
            for at in [MIB - BLOCK, MIB, MIB + BLOCK, 10 * BLOCK] {
                assert_eq!(file.read(at, BLOCK).await.as_deref(), Ok(&zeros[..]));
            }
            for at in [0, 9 * BLOCK, 11 * BLOCK, MIB + 2 * BLOCK, 2 * MIB] {
                assert_eq!(file.read(at, 1).await, Err(FsError::Offline), "at {at}");
            }
            file.stage(2 * MIB, &bytes[2 * MIB as usize..3 * MIB as usize], 7).await.unwrap();
            assert_eq!(file.punch(2 * MIB, BLOCK, 7).await, Err(FsError::NotOffline));
            assert_eq!(file.punch(0, GIB, 7).await, Err(FsError::NotOffline));
            assert_eq!(file.read(2 * MIB, 1).await.as_deref(), Ok(&bytes[2 * MIB as usize..][..1]));

            // Released: the sum of the MiB goes with a block of it, and what waited for it is offline again.
            file.release(7).await.unwrap();
            let third = &bytes[2 * MIB as usize..3 * MIB as usize];
            let half = (MIB / 2) as usize;
            file.stage(2 * MIB, &third[..half], 7).await.unwrap();
            assert_eq!(file.read(2 * MIB, 1).await, Err(FsError::Offline));
            assert_eq!(file.punch(3 * MIB - BLOCK, BLOCK, 7).await, Ok(1));
            assert_eq!(file.read(2 * MIB, 1).await, Err(FsError::Offline));
            let all = file.extents(100).await;
            assert!(all.iter().all(|extent| extent.start.is_none()), "{all:?}");
            let rest = &third[..(MIB - BLOCK) as usize];
            assert_eq!(file.stage(2 * MIB, rest, 7).await, Ok(255));
            assert_eq!(file.read(2 * MIB, MIB - BLOCK).await.as_deref(), Ok(rest));
            // All of it goes, and with it what waits.
            file.release(7).await.unwrap();
            file.stage(2 * MIB, &third[..half], 7).await.unwrap();
            assert_eq!(file.punch(2 * MIB, MIB, 7).await, Ok(255));
            assert_eq!(file.read(2 * MIB, MIB).await, Ok(vec![0; MIB as usize]));
            file.punch(0, GIB, 7).await.unwrap();
            assert_eq!(file.attr().await.offline_blocks, 0);
            file.write(0, b"new", Stability::FileSync).await.unwrap();
        });
    }
}

const PUNCHED: [(u64, u64); 4] = [(3, 20), (200, 100), (256 + 128, 1), (0, 4096)];

/// A file in all states of offline, which is punched piece by piece, and at last as a whole.
async fn punch_all(file: &File) {
    for (first, count) in PUNCHED {
        file.punch(first * BLOCK, count * BLOCK, 7).await.expect("all of it is offline");
    }
}

async fn offline_in_all_ways(file: &File, bytes: &[u8]) {
    file.restore(offline(bytes.len() as u64, 7)).await.unwrap();
    for (nth, piece) in bytes.chunks(MIB as usize).enumerate().take(2) {
        file.stage(nth as u64 * MIB, piece, 7).await.unwrap();
    }
    file.release(7).await.unwrap();
    // Every second block waits.
    for block in (0..512).step_by(2) {
        let at = (block * BLOCK) as usize;
        file.stage(block * BLOCK, &bytes[at..at + BLOCK as usize], 7).await.unwrap();
    }
}

#[test]
fn a_punch_that_a_crash_ends_leaves_holes_and_what_can_be_staged() {
    let (mut cuts, mut met_both) = (0, 0);
    for seed in 0..2 {
        for nth in 0.. {
            let effect = [CutEffect::Before, CutEffect::After][(nth % 2) as usize];
            let bytes = Rc::new(content(seed, 3 * MIB + 100));
            let mut world = world(seed);
            let (shard, made) = (world.shards()[0].clone(), bytes.clone());
            let ready = async move {
                let file = File::new(&shard, "file").await;
                offline_in_all_ways(&file, &made).await;
                file
            };
            let file = world.machine().run(0, ready).expect("the machine runs");
            let ino = file.ino;
            let command = world.media.borrow().commands() + 1 + nth / 2;
            world.media.borrow_mut().set_cut(Some(Cut { command, effect }));
            let done = world.machine().run(0, async move { punch_all(&file).await });
            let is_over = match done {
                Ok(()) => true,
                Err(Halt::PowerOff) => false,
                Err(halt) => panic!("seed {seed}: {halt:?}"),
            };
            world.crash();
            whole::check(&world.media.borrow())
                .unwrap_or_else(|what| panic!("seed {seed}, command {command}: {what}"));
            world.media.borrow_mut().power_on();
            world.media.borrow_mut().set_cut(None);
            world.boot(1 + seed as usize % 2).expect("booted");
            let file = File { shard: world.shards()[0].clone(), ino };
            let after = async move {
                let (mut holes, mut offline) = (0, 0);
                for (nth, piece) in bytes.chunks(BLOCK as usize).enumerate() {
                    let at = nth as u64 * BLOCK;
                    match file.read(at, BLOCK).await {
                        Ok(read) => {
                            assert!(read.iter().all(|byte| *byte == 0), "block {nth}");
                            holes += 1;
                        }
                        Err(FsError::Offline) => {
                            offline += 1;
                            let staged = file.stage(at, piece, 7).await;
                            assert!(staged == Ok(1) || staged == Ok(0), "block {nth}: {staged:?}");
                        }
                        Err(error) => panic!("block {nth}: {error}"),
                    }
                }
                assert_eq!(file.attr().await.offline_blocks, 0, "all of the rest came back");
                for (nth, piece) in bytes.chunks(BLOCK as usize).enumerate() {
                    let read = file.read(nth as u64 * BLOCK, BLOCK).await.expect("it is online");
                    assert!(read == piece || read.iter().all(|byte| *byte == 0), "block {nth}");
                }
                (holes, offline)
            };
            let (holes, offline) = world.machine().run(0, after).expect("the machine runs");
            met_both += u64::from(holes > 0 && offline > 0);
            assert!(!is_over || offline == 0, "seed {seed}: it was acknowledged");
            world.crash();
            whole::check(&world.media.borrow())
                .unwrap_or_else(|what| panic!("seed {seed}, command {command}: {what}"));
            if is_over {
                break;
            }
            cuts += 1;
        }
    }
    assert!(cuts > 8 && met_both > 0, "{cuts} cuts, {met_both} in the middle");
}
