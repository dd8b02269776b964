//! Who waits for offline data, on the simulator's clock: until when, and what is done meanwhile.

mod one_file;

use cairn_base::Nanos;
use cairn_base::prng::Prng;
use cairn_engine::op::{FailWaiters, Recall, Wanted};
use cairn_engine::{FsError, WaitOp, Waiter, WaitersFrom};
use cairn_sim::world::World;
use one_file::{BLOCK, File, MIB, content, world};
use std::net::Ipv6Addr;

const CLIENT: Ipv6Addr = Ipv6Addr::LOCALHOST;

async fn ask(file: &File, wanted: Wanted) -> Option<u16> {
    let recall = Recall { ino: file.ino, wanted, client: CLIENT, recalls_max: 100 };
    file.shard.call(recall).await.expect("it is asked")
}

async fn ask_to_read(file: &File, block: u64) -> Option<u16> {
    ask(file, Wanted::Read { offset: block * BLOCK, len: BLOCK as u32 }).await
}

/// The blocks that are waited for, of the file's own shard.
async fn waiting(file: &File) -> Vec<u64> {
    let page = file.shard.waiting(WaitersFrom::Arrival(0)).await.expect("listed");
    assert!(page.is_last);
    page.waiters.iter().map(|waiter: &Waiter| waiter.block).collect()
}

/// A world with a file that was released. On one shard, so that the file's waiters are the only ones.
fn released(bytes: &[u8]) -> (World, File) {
    let mut world = world(2);
    let shard = world.shards()[0].clone();
    let told = bytes.to_vec();
    let (send, receive) = std::sync::mpsc::channel();
    let made = async move {
        let file = File::new(&shard, &told).await.expect("there is room");
        let version = file.version().await;
        file.release(0, 1 << 40, version).await.expect("released");
        send.send(file).expect("it is awaited");
    };
    world.machine().run(0, made).expect("the machine runs");
    (world, receive.recv().expect("it was made"))
}

fn story<F: Future<Output = ()> + 'static>(bytes: u64, tell: impl FnOnce(File, Vec<u8>) -> F) {
    let bytes = content(2, bytes);
    let (mut world, file) = released(&bytes);
    world.machine().run(0, tell(file, bytes)).expect("the machine runs");
}

#[test]
fn a_client_that_asks_no_more_is_forgotten_and_one_that_does_is_not() {
    let (mut world, file) = released(&content(2, MIB));
    let pass = |world: &mut World, seconds: u64| {
        for _ in 0..seconds / 10 {
            world.machine().idle(Nanos::from_secs(10)).expect("the machine runs");
        }
    };
    let told = file.clone();
    let both = async move {
        assert_eq!((ask_to_read(&told, 1).await, ask_to_read(&told, 2).await), (None, None))
    };
    world.machine().run(0, both).expect("the machine runs");
    for _ in 0..5 {
        pass(&mut world, 50);
        let told = file.clone();
        let again = async move { assert_eq!(ask_to_read(&told, 2).await, None) };
        world.machine().run(0, again).expect("the machine runs");
    }
    let told = file.clone();
    let look = async move {
        assert_eq!(waiting(&told).await, [2]);
        let page = told.shard.waiting(WaitersFrom::Arrival(0)).await.expect("listed");
        let age = page.waiters[0].age;
        assert!(age >= Nanos::from_secs(249), "since it asked first: {age:?}");
    };
    world.machine().run(0, look).expect("the machine runs");
    pass(&mut world, 140);
    let look = async move { assert!(waiting(&file).await.is_empty()) };
    world.machine().run(0, look).expect("the machine runs");
}

#[test]
fn whatever_takes_offline_data_away_takes_its_waiters() {
    story(3 * MIB, |file, bytes| async move {
        let version = file.version().await;
        for block in [0, 255, 256, 600] {
            ask_to_read(&file, block).await;
        }
        ask(&file, Wanted::Write).await;
        let page = file.shard.waiting(WaitersFrom::Arrival(0)).await.expect("listed");
        let write = page.waiters.iter().find(|waiter| waiter.op == WaitOp::Write);
        assert_eq!(write.map(|write| (write.block, write.blocks)), Some((0, 768)));
        // Half of a MiB is not shown yet, so who waits for it waits on.
        let half = MIB as usize / 2;
        file.stage(0, &bytes[..half], version).await.expect("staged");
        assert_eq!(waiting(&file).await.len(), 5);
        file.stage(MIB / 2, &bytes[half..2 * half], version).await.expect("staged");
        assert_eq!(waiting(&file).await, [256, 600]);
        // Nothing behind the new end is waited for; what stays has to be there first.
        file.stage(MIB, &bytes[2 * half..4 * half], version).await.expect("staged");
        file.truncate(2 * MIB).await.expect("what stays is online");
        assert!(waiting(&file).await.is_empty());
        // Online: nobody is to wait, whatever came first.
        assert_eq!(ask_to_read(&file, 3).await, None);
        assert!(waiting(&file).await.is_empty());
        let version = file.version().await;
        file.release(0, MIB, version).await.expect("released");
        ask_to_read(&file, 3).await;
        file.unlink("file").await.expect("removed");
        assert!(waiting(&file).await.is_empty());
    });
}

#[test]
fn errors_go_to_those_that_were_meant_once_each() {
    story(MIB, |file, _| async move {
        let fail = |offset, len, ops: &[WaitOp], errno| {
            let ops = ops.to_vec();
            file.shard.call(FailWaiters { ino: file.ino, offset, len, ops, errno })
        };
        for block in [1, 2, 3] {
            ask_to_read(&file, block).await;
        }
        assert_eq!(fail(2 * BLOCK, 1, &[WaitOp::Write], 5).await, Ok(0));
        assert_eq!(fail(2 * BLOCK, BLOCK + 1, &WaitOp::ALL, 5).await, Ok(2));
        assert_eq!(fail(0, 1 << 50, &WaitOp::ALL, 6).await, Ok(1), "those of before keep theirs");
        let told = [ask_to_read(&file, 1).await, ask_to_read(&file, 2).await];
        assert_eq!(told, [Some(6), Some(5)]);
        assert_eq!(ask_to_read(&file, 1).await, None);
        for (offset, len, errno) in [(0, 1, 0), (0, 1, 4096), (u64::MAX, 2, 5)] {
            assert_eq!(fail(offset, len, &WaitOp::ALL, errno).await, Err(FsError::Invalid));
        }
    });
}

#[test]
fn no_interleaving_of_stages_and_requests_leaves_a_waiter_that_nobody_needs() {
    for seed in 0..20 {
        story(2 * MIB, move |file, bytes| async move {
            let mut prng = Prng::new(seed);
            let version = file.version().await;
            for _ in 0..30 {
                match prng.below(3) {
                    0 => {
                        let at = prng.below(2) * MIB;
                        let piece = &bytes[at as usize..(at + MIB) as usize];
                        file.stage(at, piece, version).await.expect("these are its bytes");
                    }
                    1 => drop(file.release(prng.below(512) * BLOCK, BLOCK, version).await),
                    _ => drop(ask_to_read(&file, prng.below(512)).await),
                }
                for block in waiting(&file).await {
                    let read = file.read(block * BLOCK, BLOCK).await;
                    assert_eq!(read.map(drop), Err(FsError::Offline), "block {block}");
                }
            }
        });
    }
}
