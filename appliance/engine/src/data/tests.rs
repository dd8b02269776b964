//! Files through a whole shard, over a disk in memory that forgets what was not flushed.
//!
//! The simulator does this with everything; here it is only data, so that a mistake in it is found
//! beside its cause.

mod cached;
mod fragmented;
mod replaced;

use super::{BLOCK, Incoming, map, truncate_in};
use crate::attr::FileKind;
use crate::cred::Cred;
use crate::error::FsError;
use crate::format_pool::{FormatOptions, format_pool};
use crate::op::{Commit, Stability};
use crate::open::read_and_divide;
use crate::peer::ports;
use crate::shard::{Shard, ShardConfig};
use crate::txn::{Class, Need};
use cairn_base::door::{Clock, Disk, Doors, Durability, Entropy, MediaError};
use cairn_base::prng::Prng;
use cairn_base::{Arena, BLOCK_BYTES, BlockNo, DeviceId, DmaBuf, DmaSlice, Nanos, Run};
use cairn_format::InodeNo;
use cairn_format::item::{FreeRunItem, InodeItem};
use cairn_format::key::{Key, ParsedKey, RANGE_FREE_RUN};
use cairn_reactor::{Config, Handle, Reactor};
use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::ops::{ControlFlow, Range};
use std::rc::Rc;

const POOL_BLOCKS: u64 = 32 << 8;

struct Mem {
    arena: Arena,
    stable: RefCell<BTreeMap<u64, Vec<u8>>>,
    cached: RefCell<Vec<(u64, Vec<u8>)>>,
    writes_fail: Cell<bool>,
    read_us: Cell<u64>,
    blocks_read: Cell<u64>,
    /// What shards that use it may cache of file data.
    data_cache: Cell<usize>,
    /// Of the shard that uses it now; before there is one, nothing takes time.
    handle: RefCell<Option<Handle>>,
}

#[derive(Clone)]
struct MemDisk(Rc<Mem>);

impl MemDisk {
    fn new() -> MemDisk {
        MemDisk(Rc::new(Mem {
            arena: Arena::heap(),
            stable: RefCell::default(),
            cached: RefCell::default(),
            writes_fail: Cell::new(false),
            read_us: Cell::new(1),
            blocks_read: Cell::new(0),
            data_cache: Cell::new(0),
            handle: RefCell::default(),
        }))
    }

    async fn wait(&self, us: u64) {
        let handle = self.0.handle.borrow().clone();
        if let Some(handle) = handle {
            handle.sleep(Nanos(us * 1000)).await;
        }
    }

    fn lose_power(&self, random: &mut Prng) {
        for (block, bytes) in self.0.cached.take() {
            if random.percent(50) {
                self.0.stable.borrow_mut().insert(block, bytes);
            }
        }
    }
}

impl Disk for MemDisk {
    fn device_count(&self) -> usize {
        1
    }

    fn device_blocks(&self, _: DeviceId) -> u64 {
        POOL_BLOCKS
    }

    fn has_fua(&self, _: DeviceId) -> bool {
        true
    }

    fn arena(&self) -> &Arena {
        &self.0.arena
    }

    fn blocks_read(&self) -> u64 {
        self.0.blocks_read.get()
    }

    async fn read(&self, at: BlockNo, mut buf: DmaBuf) -> (DmaBuf, Result<(), MediaError>) {
        let blocks = (buf.len() / BLOCK_BYTES) as u64;
        self.0.blocks_read.set(self.0.blocks_read.get() + blocks);
        self.wait(self.0.read_us.get()).await;
        let cached = self.0.cached.borrow();
        let stable = self.0.stable.borrow();
        for (n, out) in buf.chunks_exact_mut(BLOCK_BYTES).enumerate() {
            let block = at.after(n as u64).raw();
            let newest = cached.iter().rev().find(|(b, _)| *b == block).map(|(_, bytes)| bytes);
            match newest.or(stable.get(&block)) {
                Some(bytes) => out.copy_from_slice(bytes),
                None => out.fill(0xdd),
            }
        }
        (buf, Ok(()))
    }

    async fn write(
        &self,
        at: BlockNo,
        bufs: Vec<DmaSlice>,
        want: Durability,
    ) -> Result<(), MediaError> {
        self.wait(1).await;
        if self.0.writes_fail.get() && want == Durability::Cached {
            return Err(MediaError::Write(5));
        }
        let bytes: Vec<u8> = bufs.iter().flat_map(|slice| slice.iter().copied()).collect();
        for (n, block) in bytes.chunks_exact(BLOCK_BYTES).enumerate() {
            let place = at.after(n as u64).raw();
            match want {
                Durability::Cached => self.0.cached.borrow_mut().push((place, block.to_vec())),
                Durability::Durable => {
                    self.0.cached.borrow_mut().retain(|(b, _)| *b != place);
                    self.0.stable.borrow_mut().insert(place, block.to_vec());
                }
            }
        }
        Ok(())
    }

    async fn flush(&self, _: DeviceId) -> Result<(), MediaError> {
        self.wait(1).await;
        self.0.stable.borrow_mut().extend(self.0.cached.take());
        Ok(())
    }

    async fn discard(&self, _: Run) -> Result<(), MediaError> {
        Ok(())
    }
}

#[derive(Clone)]
struct Ticking(Rc<Cell<i64>>);

impl Clock for Ticking {
    fn monotonic(&self) -> Nanos {
        Nanos(self.0.get() as u64)
    }

    fn wall(&self) -> i64 {
        self.0.set(self.0.get() + 7_000);
        1_767_225_600_000_000_000 + self.0.get()
    }
}

struct Fixed;

impl Entropy for Fixed {
    fn fill(&self, bytes: &mut [u8]) {
        bytes.fill(9);
    }
}

struct World;

impl Doors for World {
    type Disk = MemDisk;
    type Clock = Ticking;
    type Entropy = Fixed;
}

type TestShard = Rc<Shard<World>>;

/// Runs `body` on a shard that opens the pool of `disk`.
fn on_shard<T, F: Future<Output = T>>(
    disk: &MemDisk,
    clock: &Ticking,
    body: impl FnOnce(TestShard) -> F,
) -> T {
    let reactor = Reactor::new(Config::default());
    let handle = reactor.handle();
    let mail: Rc<RefCell<Option<TestShard>>> = Rc::default();
    let polled = Rc::clone(&mail);
    *disk.0.handle.borrow_mut() = Some(handle.clone());
    let main = async move {
        let seeds = read_and_divide(disk, 1).await;
        let mut seed = seeds.expect("the pool is readable").remove(0);
        let port = ports(1).remove(0);
        let config = ShardConfig {
            memtable_bytes: 1 << 20,
            cache_bytes: 1 << 20,
            data_cache_bytes: disk.0.data_cache.get(),
            ..ShardConfig::default()
        };
        let doors = (Rc::new(disk.clone()), Rc::new(clock.clone()));
        let shard = Shard::begin(&mut seed, doors.0, doors.1, handle, port, config);
        *mail.borrow_mut() = Some(Rc::clone(&shard));
        shard.recover(seed).await.expect("the pool opens");
        body(shard).await
    };
    let mut now = Nanos(clock.0.get() as u64);
    reactor.run_until(main, |turn| {
        let answered = polled.borrow().as_ref().map_or(0, |shard| shard.poll_mail());
        if !turn.ready && answered == 0 {
            now =
                turn.next_timer.expect("nothing is ready and no timer is set: a deadlock").max(now);
            clock.0.set(clock.0.get().max(now.0 as i64));
        }
        now
    })
}

fn formatted() -> (MemDisk, Ticking) {
    let (disk, clock) = (MemDisk::new(), Ticking(Rc::new(Cell::new(1))));
    let options = FormatOptions { tablets: 2, shards: 1, log_blocks: 1024, uid: 0, gid: 0 };
    let reactor = Reactor::new(Config::default());
    let made = reactor.run_until(format_pool(&disk, &options, &Fixed, &clock), |_| Nanos(1));
    made.expect("the pool is made");
    (disk, clock)
}

async fn make_file(shard: &TestShard, mode: u16) -> InodeNo {
    let tablet = InodeNo::ROOT.tablet();
    let need = Need::new(Class::Growing, &[tablet], Need::SMALL);
    let made = shard.transact(need, |view| {
        let root = view.inode(InodeNo::ROOT)?;
        let ino = view.new_inode_no(tablet)?;
        let item = InodeItem {
            kind: FileKind::Regular as u8,
            nlink: 1.into(),
            mode: mode.into(),
            size: 0.into(),
            uid: 7.into(),
            special: 0.into(),
            ..root
        };
        view.add_inode(ino, item);
        Ok(ino)
    });
    let (ino, ticket) = made.await.expect("there is room for an inode");
    shard.settle(ticket).await.expect("the log works");
    ino
}

async fn write(
    shard: &TestShard,
    cred: Cred,
    ino: InodeNo,
    (offset, bytes): (u64, &[u8]),
    stability: Stability,
) -> Result<(), FsError> {
    let start = (offset % BLOCK) as usize;
    let mut data = shard.arena().alloc(start + bytes.len());
    data.fill(0xee);
    data[start..start + bytes.len()].copy_from_slice(bytes);
    let ask = Incoming { cred, ino, offset, len: bytes.len() };
    shard.write_data(&ask, data, stability).await.map(drop)
}

async fn truncate(shard: &TestShard, ino: InodeNo, size: u64) {
    if begin_truncation(shard, ino, size).await {
        shard.finish_truncation(ino).await.expect("the rest goes as well");
    }
}

/// True when there is more to remove.
async fn begin_truncation(shard: &TestShard, ino: InodeNo, size: u64) -> bool {
    let need = Need::new(Class::Freeing, &[ino.tablet()], 80 << 10);
    let done = shard.transact(need, |view| {
        let mut item = view.inode_to_change(ino)?;
        let more = truncate_in(view, ino, &mut item, size)?;
        view.change_inode(ino, &mut item);
        Ok(more)
    });
    let (more, ticket) = done.await.expect("a truncation needs no space");
    shard.settle(ticket).await.expect("the log works");
    more
}

async fn read_all(shard: &TestShard, ino: InodeNo) -> Vec<u8> {
    let mut bytes = Vec::new();
    loop {
        let offset = bytes.len() as u64;
        let data = shard.read_data(&Cred::root(), ino, offset, 300_001).await;
        let data = data.expect("everything is readable");
        bytes.extend(data.to_vec());
        assert_eq!(data.eof, bytes.len() as u64 >= data.attr.size);
        if data.eof {
            assert_eq!(bytes.len() as u64, data.attr.size);
            return bytes;
        }
    }
}

async fn commit(shard: &TestShard, ino: InodeNo) -> Result<(), FsError> {
    Commit { cred: Cred::root(), ino, offset: 0, len: 0 }.run(shard).await.map(drop)
}

/// What must hold of a file's map, whatever happened: its counts are right, nothing is mapped behind
/// its end, every mapped block has a checksum and no other, and no mapped block is free.
async fn check_map(shard: &TestShard, ino: InodeNo) {
    let found = shard.read_with(|view| {
        let item = view.inode(ino)?;
        let all = map::extents(view, ino, 0..1 << 20)?;
        let sums = map::checksums(view, ino, 0..1 << 20)?;
        let mut free = Vec::new();
        let prefix = Key::of_range(RANGE_FREE_RUN);
        view.scan(ino.tablet(), prefix, prefix.prefix_end(), |key, value| {
            if let (Some(ParsedKey::FreeRun(_, start)), Ok(run)) =
                (key.parse(), FreeRunItem::parse(value))
            {
                free.push(Run::new(start, run.blocks.get()));
            }
            ControlFlow::Continue(())
        })?;
        Ok((item, all, sums, free))
    });
    let (item, all, sums, free) = found.await.expect("the map is readable");
    let mut covered = BTreeSet::new();
    let mut with_sum = BTreeSet::new();
    let mut device = BTreeSet::new();
    for extent in &all {
        assert!(extent.end() <= item.size.get(), "{extent:?} reaches behind {}", item.size);
        for block in extent.first_block..extent.end_block() {
            assert!(covered.insert(block), "block {block} is mapped twice");
            if let Some(run) = extent.run(&(block..block + 1)) {
                with_sum.insert(block);
                assert!(device.insert(run.start), "{:?} is used twice", run.start);
                assert!(!free.iter().any(|free| free.contains(run.start)), "{run:?} is free");
            }
        }
    }
    assert_eq!(item.online_blocks.get(), covered.len() as u64);
    let summed: BTreeSet<u64> = sums
        .iter()
        .flat_map(|(group, sums)| {
            (0..64).filter(|slot| sums.get(*slot).is_some()).map(move |s| group * 64 + s as u64)
        })
        .collect();
    assert_eq!(summed, with_sum);
}

fn put(model: &mut Vec<u8>, offset: u64, bytes: &[u8]) {
    let end = offset as usize + bytes.len();
    if model.len() < end {
        model.resize(end, 0);
    }
    model[offset as usize..end].copy_from_slice(bytes);
}

#[test]
fn a_file_reads_as_it_was_written_whatever_happens_to_it_meanwhile() {
    for seed in 0..6 {
        let (disk, clock) = formatted();
        let mut random = Prng::new(seed);
        let mut model: Vec<u8> = Vec::new();
        let mut file = None;
        for round in 0..4 {
            disk.0.data_cache.set([0, 16 << 20][(seed as usize + round) % 2]);
            let random_of_round = &mut random;
            let model = &mut model;
            file = on_shard(&disk, &clock, |shard| async move {
                let random = random_of_round;
                let ino = match file {
                    Some(ino) => ino,
                    None => make_file(&shard, 0o644).await,
                };
                assert!(read_all(&shard, ino).await == *model, "seed {seed}: after opening");
                for step in 0..60 {
                    let offset = random.below(1_200_000);
                    let most = if random.percent(70) { 20_000 } else { 400_000 };
                    let mut bytes = vec![0; 1 + random.below(most) as usize];
                    random.fill(&mut bytes);
                    match random.below(100) {
                        0..55 => {
                            let stability = if random.percent(70) {
                                Stability::Unstable
                            } else {
                                Stability::FileSync
                            };
                            let piece = (offset, &bytes[..]);
                            write(&shard, Cred::root(), ino, piece, stability)
                                .await
                                .expect("there is room");
                            put(model, offset, &bytes);
                        }
                        55..75 => {
                            let size = random.below(1_500_000);
                            truncate(&shard, ino, size).await;
                            model.resize(size as usize, 0);
                        }
                        75..85 => commit(&shard, ino).await.expect("the disk works"),
                        85..92 => shard.freeze(ino.tablet()).await.expect("the disk works"),
                        _ => {
                            let placing = Rc::clone(&shard);
                            let task = async move {
                                placing.write_back_all().await.expect("there is room")
                            };
                            shard.gate.spawn(task).expect("the shard serves");
                            shard.disk.wait(random.below(8)).await;
                            if random.percent(50) {
                                truncate(&shard, ino, offset).await;
                                model.resize(offset as usize, 0);
                            } else {
                                let piece = (offset, &bytes[..]);
                                write(&shard, Cred::root(), ino, piece, Stability::Unstable)
                                    .await
                                    .expect("there is room");
                                put(model, offset, &bytes);
                            }
                        }
                    }
                    let seen = read_all(&shard, ino).await;
                    assert!(seen == *model, "seed {seed}, round {round}, step {step}");
                    check_map(&shard, ino).await;
                }
                commit(&shard, ino).await.expect("the disk works");
                check_map(&shard, ino).await;
                if round % 2 == 0 {
                    shard.stop().await.expect("the disk works");
                }
                Some(ino)
            });
            disk.lose_power(&mut random);
        }
    }
}

/// What a crash may leave of a file: any content a block had, any size the file had.
#[derive(Default)]
struct Past {
    blocks: BTreeMap<usize, Vec<Vec<u8>>>,
    sizes: BTreeSet<usize>,
}

fn block_of(bytes: &[u8], block: usize) -> Vec<u8> {
    let from = (block * BLOCK_BYTES).min(bytes.len());
    let mut out = bytes[from..bytes.len().min(from + BLOCK_BYTES)].to_vec();
    out.resize(BLOCK_BYTES, 0);
    out
}

impl Past {
    fn note(&mut self, now: &[u8]) {
        self.sizes.insert(now.len());
        for block in 0..400 {
            let content = block_of(now, block);
            let known = self.blocks.entry(block).or_default();
            if !known.contains(&content) {
                known.push(content);
            }
        }
    }

    fn allows(&self, seen: &[u8]) -> Result<(), String> {
        if !self.sizes.contains(&seen.len()) {
            return Err(format!("size {} of {:?}", seen.len(), self.sizes));
        }
        for block in 0..seen.len().div_ceil(BLOCK_BYTES) {
            let content = block_of(seen, block);
            let keep = (seen.len() - block * BLOCK_BYTES).min(BLOCK_BYTES);
            let fits = |old: &Vec<u8>| old[..keep] == content[..keep];
            if !self.blocks[&block].iter().any(fits) {
                return Err(format!("block {block} holds what nobody wrote"));
            }
        }
        Ok(())
    }
}

#[test]
fn a_crash_leaves_blocks_and_a_size_that_were_and_no_version_twice() {
    for seed in 100..112 {
        let (disk, clock) = formatted();
        let mut random = Prng::new(seed);
        let mut past = Past::default();
        past.note(&[]);
        let mut versions: BTreeMap<u64, Vec<u8>> = BTreeMap::new();
        let mut file = None;
        for round in 0..5 {
            let (random, past, versions) = (&mut random, &mut past, &mut versions);
            let about = format!("seed {seed}, round {round}");
            let random_after = &mut Prng::new(seed * 100 + round);
            file = on_shard(&disk, &clock, |shard| async move {
                let ino = match file {
                    Some(ino) => ino,
                    None => make_file(&shard, 0o644).await,
                };
                let mut model = read_all(&shard, ino).await;
                past.allows(&model).unwrap_or_else(|wrong| panic!("{about}: {wrong}"));
                check_map(&shard, ino).await;
                *past = Past::default();
                past.note(&model);
                for _ in 0..10 + random.below(20) {
                    let offset = random.below(300_000);
                    let mut bytes = vec![0; 1 + random.below(50_000) as usize];
                    random.fill(&mut bytes);
                    match random.below(100) {
                        0..60 => {
                            let piece = (offset, &bytes[..]);
                            put(&mut model, offset, &bytes);
                            past.note(&model);
                            write(&shard, Cred::root(), ino, piece, Stability::Unstable)
                                .await
                                .expect("there is room");
                        }
                        60..70 => {
                            truncate(&shard, ino, offset).await;
                            model.resize(offset as usize, 0);
                            // Older contents behind the cut do not come back.
                            past.sizes = BTreeSet::from([model.len()]);
                            for (block, known) in &mut past.blocks {
                                let keep = model.len().saturating_sub(block * BLOCK_BYTES);
                                for content in known {
                                    content[keep.min(BLOCK_BYTES)..].fill(0);
                                }
                            }
                            past.note(&model);
                        }
                        70..75 => {
                            commit(&shard, ino).await.expect("the disk works");
                            *past = Past::default();
                            past.note(&model);
                        }
                        75..82 => shard.freeze(ino.tablet()).await.expect("the disk works"),
                        _ => {
                            let placing = Rc::clone(&shard);
                            let first = random.below(40);
                            let blocks = first..first + random.below(40);
                            let task = async move {
                                placing.write_back(ino, blocks).await.expect("there is room");
                            };
                            shard.gate.spawn(task).expect("the shard serves");
                            shard.disk.wait(random.below(12)).await;
                        }
                    }
                    let data = shard.read_data(&Cred::root(), ino, 0, 1).await;
                    let version = data.expect("readable").attr.data_version;
                    let first = versions.entry(version).or_insert_with(|| model.clone());
                    assert!(*first == model, "{about}: version {version} names two contents");
                }
                let placing = Rc::clone(&shard);
                let task = async move {
                    placing.write_back(ino, 0..400).await.expect("there is room");
                };
                shard.gate.spawn(task).expect("the shard serves");
                shard.disk.wait(random.below(12)).await;
                Some(ino)
            });
            disk.lose_power(random_after);
        }
    }
}

#[test]
fn a_lost_write_back_is_told_once_and_leaves_the_file_as_it_was() {
    let (disk, clock) = formatted();
    on_shard(&disk, &clock, |shard| async move {
        let ino = make_file(&shard, 0o644).await;
        let old = vec![1; 100_000];
        write(&shard, Cred::root(), ino, (0, &old), Stability::FileSync).await.expect("room");
        let verifier = shard.write_verifier();
        let new = vec![2; 200_000];
        write(&shard, Cred::root(), ino, (0, &new), Stability::Unstable).await.expect("room");
        shard.disk.0.writes_fail.set(true);
        assert!(shard.write_back_all().await.is_err());
        shard.disk.0.writes_fail.set(false);
        assert_ne!(shard.write_verifier(), verifier);
        assert_eq!(shard.core.counters.write_backs_lost.get(), 1);
        assert!(read_all(&shard, ino).await == old);
        assert!(matches!(commit(&shard, ino).await, Err(FsError::Media { .. })));
        assert_eq!(commit(&shard, ino).await, Ok(()));
        assert_eq!(shard.core.dirty.bytes(), 0);
        write(&shard, Cred::root(), ino, (0, &new), Stability::FileSync).await.expect("room");
        assert!(read_all(&shard, ino).await == new);
        check_map(&shard, ino).await;
    });
}

#[test]
fn inline_data_moves_to_the_device_at_a_freeze_unless_the_file_is_small() {
    let (disk, clock) = formatted();
    on_shard(&disk, &clock, |shard| async move {
        let (small, large) = (make_file(&shard, 0o644).await, make_file(&shard, 0o644).await);
        for (ino, bytes) in [(small, vec![1; 2048]), (large, vec![2; 30_000])] {
            write(&shard, Cred::root(), ino, (0, &bytes), Stability::FileSync).await.expect("room");
        }
        let shape = async |ino| {
            let found = shard.read_with(|view| map::extents(view, ino, 0..100)).await;
            let extents = found.expect("the map is readable");
            extents.iter().map(|e| (e.inline.is_some(), e.blocks)).collect::<Vec<_>>()
        };
        assert_eq!(shape(large).await, [(true, 1); 8]);
        shard.freeze(large.tablet()).await.expect("the disk works");
        assert_eq!(shape(small).await, [(true, 1)]);
        assert_eq!(shape(large).await, [(false, 8)]);
        for (ino, bytes) in [(small, vec![1; 2048]), (large, vec![2; 30_000])] {
            assert!(read_all(&shard, ino).await == bytes);
            check_map(&shard, ino).await;
        }
    });
}

#[test]
fn two_writers_of_one_block_both_get_their_bytes_in() {
    let (disk, clock) = formatted();
    on_shard(&disk, &clock, |shard| async move {
        let ino = make_file(&shard, 0o644).await;
        let mut model = vec![1; 100_000];
        write(&shard, Cred::root(), ino, (0, &model), Stability::FileSync).await.expect("room");
        // So slow that a block read for one writer is placed by another meanwhile.
        shard.disk.0.read_us.set(30);
        for turn in 0..20 {
            let writers = (0..8).map(|n| {
                let (shard, stability) =
                    (Rc::clone(&shard), [Stability::Unstable, Stability::FileSync]);
                async move {
                    shard.disk.wait(n).await;
                    let piece = (4096 * turn + 100 * n, &[(turn * 8 + n) as u8; 50][..]);
                    write(&shard, Cred::root(), ino, piece, stability[n as usize % 2]).await
                }
            });
            for wrote in super::join::join(8, writers).await {
                wrote.expect("room");
            }
            for n in 0..8 {
                put(&mut model, 4096 * turn + 100 * n, &[(turn * 8 + n) as u8; 50]);
            }
        }
        assert!(read_all(&shard, ino).await == model);
        commit(&shard, ino).await.expect("the disk works");
        assert!(read_all(&shard, ino).await == model);
        check_map(&shard, ino).await;
    });
}

#[test]
fn a_write_needs_the_right_and_takes_the_set_id_bits_off() {
    let (disk, clock) = formatted();
    on_shard(&disk, &clock, |shard| async move {
        let ino = make_file(&shard, 0o4756).await;
        let piece = (0, &b"bytes"[..]);
        let stranger = Cred::user(8, 8, &[]);
        let group = Cred::user(8, 0, &[]);
        let refused = write(&shard, group, ino, piece, Stability::Unstable).await;
        assert_eq!(refused, Err(FsError::Access));
        write(&shard, Cred::root(), ino, piece, Stability::Unstable).await.expect("root may");
        let mode = async || {
            let data = shard.read_data(&Cred::root(), ino, 0, 10).await;
            data.expect("readable").attr.mode
        };
        assert_eq!(mode().await, 0o4756);
        write(&shard, stranger, ino, piece, Stability::Unstable).await.expect("others may");
        assert_eq!(mode().await, 0o756);
        let end = write(&shard, Cred::root(), ino, (i64::MAX as u64, b"x"), Stability::Unstable);
        assert_eq!(end.await, Err(FsError::TooBig));
    });
}

#[test]
fn a_damaged_block_is_never_returned() {
    let (disk, clock) = formatted();
    on_shard(&disk, &clock, |shard| async move {
        let ino = make_file(&shard, 0o644).await;
        let bytes = vec![3; 100_000];
        write(&shard, Cred::root(), ino, (0, &bytes), Stability::FileSync).await.expect("room");
        let found = shard.read_with(|view| map::extents(view, ino, 5..6)).await;
        let at = found.expect("mapped")[0].run(&(5..6)).expect("on the device").start;
        if let Some(block) = shard.disk.0.stable.borrow_mut().get_mut(&at.raw()) {
            block[17] ^= 1;
        }
        let read = shard.read_data(&Cred::root(), ino, 0, 100_000).await;
        assert!(matches!(read, Err(FsError::Corrupt { block, .. }) if block == at));
        let beside = shard.read_data(&Cred::root(), ino, 24_576, 1000).await;
        assert!(beside.is_ok(), "the blocks beside it are good");
    });
}

#[test]
fn a_block_that_is_replaced_while_it_is_read_for_a_write_is_read_again() {
    let (disk, clock) = formatted();
    on_shard(&disk, &clock, |shard| async move {
        let ino = make_file(&shard, 0o644).await;
        let (old, new) = (vec![1; 102_400], vec![2; 102_400]);
        write(&shard, Cred::root(), ino, (0, &old), Stability::FileSync).await.expect("room");
        shard.disk.0.read_us.set(30);
        let (first, second) = (Rc::clone(&shard), Rc::clone(&shard));
        let small = async move {
            write(&first, Cred::root(), ino, (10_000, &[3; 50]), Stability::Unstable).await
        };
        let large = async move {
            second.disk.wait(3).await;
            write(&second, Cred::root(), ino, (0, &new), Stability::FileSync).await
        };
        let both: [std::pin::Pin<Box<dyn Future<Output = _>>>; 2] =
            [Box::pin(small), Box::pin(large)];
        for wrote in super::join::join(2, both).await {
            wrote.expect("room");
        }
        let mut model = vec![2; 102_400];
        put(&mut model, 10_000, &[3; 50]);
        assert!(read_all(&shard, ino).await == model);
    });
}

#[test]
fn a_truncation_during_a_write_back_cuts_what_was_on_its_way() {
    for delay in 0..16 {
        let (disk, clock) = formatted();
        on_shard(&disk, &clock, |shard| async move {
            let ino = make_file(&shard, 0o644).await;
            let bytes = vec![1; 100_000];
            write(&shard, Cred::root(), ino, (0, &bytes), Stability::Unstable).await.expect("room");
            let placing = Rc::clone(&shard);
            let placed = shard
                .gate
                .spawn_with(async move { placing.write_back(ino, 0..100).await.map(drop) });
            shard.disk.wait(delay).await;
            truncate(&shard, ino, 50_000).await;
            placed.expect("the shard serves").await.expect("room");
            check_map(&shard, ino).await;
            truncate(&shard, ino, 100_000).await;
            let mut model = vec![1; 50_000];
            model.resize(100_000, 0);
            assert!(read_all(&shard, ino).await == model, "after {delay} us");
            commit(&shard, ino).await.expect("the disk works");
            assert!(read_all(&shard, ino).await == model, "after {delay} us");
            check_map(&shard, ino).await;
            assert_eq!(shard.core.dirty.bytes(), 0);
        });
    }
}

#[test]
fn a_full_pool_refuses_writes_keeps_what_it_took_and_recovers_by_truncation() {
    let (disk, clock) = formatted();
    on_shard(&disk, &clock, |shard| async move {
        let ino = make_file(&shard, 0o644).await;
        let bytes = vec![5; 500_000];
        let mut model = Vec::new();
        let refused = loop {
            let piece = (model.len() as u64, &bytes[..]);
            match write(&shard, Cred::root(), ino, piece, Stability::Unstable).await {
                Ok(()) => model.extend_from_slice(&bytes),
                Err(error) => break error,
            }
            assert!(model.len() < POOL_BLOCKS as usize * BLOCK_BYTES, "the pool is not that large");
        };
        assert_eq!(refused, FsError::NoSpace);
        assert!(model.len() > 8 << 20, "most of the pool is for data: {}", model.len());
        commit(&shard, ino).await.expect("what was taken has its place");
        assert!(read_all(&shard, ino).await == model);
        check_map(&shard, ino).await;
        truncate(&shard, ino, 100_000).await;
        let piece = (100_000, &bytes[..]);
        write(&shard, Cred::root(), ino, piece, Stability::FileSync).await.expect("room again");
        model.truncate(100_000);
        model.extend_from_slice(&bytes);
        assert!(read_all(&shard, ino).await == model);
        check_map(&shard, ino).await;
    });
}

#[test]
fn overwriting_goes_on_in_a_full_pool_however_much_waits_to_be_folded() {
    let (disk, clock) = formatted();
    on_shard(&disk, &clock, |shard| async move {
        let ino = make_file(&shard, 0o644).await;
        let bytes = vec![5; 500_000];
        let mut size = 0;
        while write(&shard, Cred::root(), ino, (size, &bytes), Stability::FileSync).await.is_ok() {
            size += bytes.len() as u64;
        }
        // Room for what is under way, and no zone of it wholly free.
        size -= 200_000;
        truncate(&shard, ino, size).await;
        for turn in 0..4000 {
            // The same few blocks, so that the file's map stays as large as it is.
            let piece = (turn % 32 * 100 * 4096, &bytes[..4096]);
            let wrote = write(&shard, Cred::root(), ino, piece, Stability::FileSync).await;
            wrote.unwrap_or_else(|error| panic!("turn {turn}: {error:?}"));
        }
        check_map(&shard, ino).await;
    });
}
