//! A pool in files, through the disk door.

#![expect(clippy::unwrap_used, reason = "the helpers of tests may panic like the tests themselves")]

use cairn_base::door::{Disk, Durability, MediaError};
use cairn_base::prng::Prng;
use cairn_base::ring::Ring;
use cairn_base::{Arena, BLOCK_BYTES, BlockNo, DeviceId, DmaBuf, DmaSlice, Run};
use cairn_nvme::{Devices, FileDisk, Mode, OpenError, create_file};
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::pin::pin;
use std::task::{Context, Poll, Waker};
use tempfile::TempDir;

const BLOCKS: u64 = 64;
const META: DeviceId = DeviceId(0);
const DATA: DeviceId = DeviceId(1);

struct Pool {
    _dir: TempDir,
    paths: Vec<PathBuf>,
}

fn pool() -> Pool {
    let dir = TempDir::new().unwrap();
    let paths: Vec<PathBuf> = ["meta", "data"].map(|name| dir.path().join(name)).into();
    for path in &paths {
        create_file(path, BLOCKS * BLOCK_BYTES as u64).unwrap();
    }
    Pool { _dir: dir, paths }
}

fn disk(paths: &[PathBuf], mode: Mode) -> (Ring, FileDisk) {
    let ring = Ring::new(16).unwrap();
    let disk = FileDisk::open(ring.clone(), Arena::heap(), paths, mode).unwrap();
    (ring, disk)
}

/// Polls all the way, as a busy shard does.
fn block_on<T>(ring: &Ring, future: impl Future<Output = T>) -> T {
    let mut future = pin!(future);
    loop {
        if let Poll::Ready(output) = future.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
            return output;
        }
        ring.poll();
    }
}

fn patterned(seed: u64, blocks: usize) -> DmaBuf {
    let mut buf = Arena::heap().alloc(blocks * BLOCK_BYTES);
    Prng::new(seed).fill(&mut buf);
    buf
}

#[test]
fn what_is_written_and_flushed_is_read_after_the_pool_is_opened_again() {
    let pool = pool();
    let (ring, disk_one) = disk(&pool.paths, Mode::ReadWrite);
    assert_eq!((disk_one.device_count(), disk_one.device_blocks(DATA)), (2, BLOCKS));
    block_on(&ring, async {
        let whole = DmaSlice::whole(patterned(1, 4));
        let halves = vec![whole.slice(8192..16384), whole.slice(0..8192)];
        disk_one.write(BlockNo::new(DATA, 7), halves, Durability::Cached).await.unwrap();
        disk_one.flush(DATA).await.unwrap();
        let log = vec![DmaSlice::whole(patterned(2, 1))];
        disk_one.write(BlockNo::new(META, BLOCKS - 1), log, Durability::Durable).await.unwrap();
    });
    drop(disk_one);

    let (ring, disk_two) = disk(&pool.paths, Mode::ReadOnly);
    block_on(&ring, async {
        let want = patterned(1, 4);
        let (back, result) = disk_two.read(BlockNo::new(DATA, 7), patterned(9, 4)).await;
        result.unwrap();
        assert!(back[..8192] == want[8192..] && back[8192..] == want[..8192]);
        let (back, result) = disk_two.read(BlockNo::new(META, BLOCKS - 1), patterned(9, 1)).await;
        result.unwrap();
        assert!(back[..] == patterned(2, 1)[..]);
        let log = vec![DmaSlice::whole(back)];
        let refused = disk_two.write(BlockNo::new(META, 0), log, Durability::Cached).await;
        assert_eq!(refused, Err(MediaError::Write(libc::EBADF)));
    });
}

#[test]
fn commands_beyond_a_device_are_refused_and_the_file_does_not_grow() {
    let pool = pool();
    let (ring, disk) = disk(&pool.paths, Mode::ReadWrite);
    let edge = BlockNo::new(DATA, BLOCKS - 1);
    let nowhere = BlockNo::new(DeviceId(2), 0);
    let outside = Err(MediaError::OutOfRange);
    block_on(&ring, async {
        for at in [edge, nowhere] {
            let bufs = vec![DmaSlice::whole(patterned(1, 2))];
            assert_eq!(disk.write(at, bufs, Durability::Durable).await, outside);
            assert_eq!(disk.read(at, patterned(1, 2)).await.1, outside);
            assert_eq!(disk.discard(Run::new(at, 2)).await, outside);
        }
        assert_eq!(disk.flush(nowhere.device()).await, outside);
    });
    assert_eq!(std::fs::metadata(&pool.paths[1]).unwrap().len(), BLOCKS * BLOCK_BYTES as u64);
}

#[test]
fn a_file_cut_short_behind_our_back_is_out_of_range_not_zeroes() {
    let pool = pool();
    let (ring, disk) = disk(&pool.paths, Mode::ReadWrite);
    let cut = std::fs::File::options().write(true).open(&pool.paths[1]).unwrap();
    cut.set_len(8 * BLOCK_BYTES as u64).unwrap();
    let (_, result) = block_on(&ring, disk.read(BlockNo::new(DATA, 7), patterned(1, 2)));
    assert_eq!(result, Err(MediaError::OutOfRange));
}

#[test]
fn discarded_blocks_give_their_space_back() {
    let pool = pool();
    let (ring, disk) = disk(&pool.paths, Mode::ReadWrite);
    let allocated = || std::fs::metadata(&pool.paths[1]).unwrap().blocks() * 512;
    block_on(&ring, async {
        let bufs = vec![DmaSlice::whole(patterned(1, 32))];
        disk.write(BlockNo::new(DATA, 0), bufs, Durability::Durable).await.unwrap();
        assert!(allocated() >= 32 * BLOCK_BYTES as u64);
        disk.discard(Run::new(BlockNo::new(DATA, 0), 32)).await.unwrap();
    });
    assert!(allocated() < 32 * BLOCK_BYTES as u64);
}

#[test]
fn a_second_daemon_is_refused_and_readers_share() {
    let pool = pool();
    let in_use = Some(OpenError::InUse { path: pool.paths[0].clone() });
    let served = Devices::open(&pool.paths, Mode::ReadWrite).unwrap();
    assert_eq!(Devices::open(&pool.paths, Mode::ReadWrite).err(), in_use);
    assert_eq!(Devices::open(&pool.paths, Mode::ReadOnly).err(), in_use);

    // A shard's disk alone keeps the lock.
    let ring = Ring::new(4).unwrap();
    let disk = FileDisk::new(ring, Arena::heap(), &served).unwrap();
    drop(served);
    assert_eq!(Devices::open(&pool.paths, Mode::ReadWrite).err(), in_use);
    drop(disk);

    let reader = Devices::open(&pool.paths, Mode::ReadOnly).unwrap();
    let second = Devices::open(&pool.paths, Mode::ReadOnly).unwrap();
    assert_eq!(Devices::open(&pool.paths, Mode::ReadWrite).err(), in_use);
    drop((reader, second));
    Devices::open(&pool.paths, Mode::ReadWrite).unwrap();
}

#[test]
fn the_same_device_twice_in_one_pool_is_refused() {
    let pool = pool();
    let twice = [&pool.paths[0], &pool.paths[0]];
    let refused = Devices::open(&twice, Mode::ReadWrite).err();
    assert_eq!(refused, Some(OpenError::InUse { path: pool.paths[0].clone() }));
}

#[test]
fn what_cannot_be_opened_is_named_with_its_reason() {
    let pool = pool();
    let missing = pool._dir.path().join("missing");
    let refused = Devices::open(&[&missing], Mode::ReadOnly).err().unwrap();
    assert_eq!(refused, OpenError::Open { path: missing.clone(), errno: libc::ENOENT });
    assert!(refused.to_string().contains("missing"));
    let directory = Devices::open(&[pool._dir.path()], Mode::ReadOnly).err();
    assert_eq!(directory, Some(OpenError::NotADevice { path: pool._dir.path().into() }));
    // Neither is opened: some devices do something when they are.
    let no_device = Devices::open(&["/dev/null"], Mode::ReadOnly).err();
    assert_eq!(no_device, Some(OpenError::NotADevice { path: "/dev/null".into() }));
    let existing = create_file(&pool.paths[0], 4096).err();
    assert_eq!(
        existing,
        Some(OpenError::Create { path: pool.paths[0].clone(), errno: libc::EEXIST })
    );
}
