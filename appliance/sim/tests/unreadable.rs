//! Blocks that a device does not give back, in each place that an open reads.
//!
//! What is kept twice is read from the other copy; where something may be lost that was acknowledged, the open says
//! which block it was. Nothing opens with less than was promised.

use cairn_base::{BlockNo, DeviceId, Nanos};
use cairn_engine::attr::FileKind;
use cairn_format::superblock::{ROOTS_START, SUPERBLOCK_A, SUPERBLOCK_B};
use cairn_sim::fault::Lasting;
use cairn_sim::model::act::{Act, NodeId, Payload, Place, Sync};
use cairn_sim::model::reading::Answer;
use cairn_sim::model::tree::Inodes;
use cairn_sim::world::{BootError, World, WorldConfig};

const TABLETS: u16 = 4;
const LOG_BLOCKS: u64 = 256;

struct Pool {
    world: World,
    inodes: Inodes,
}

impl Pool {
    /// A pool with one file that was synced, after a power cut.
    fn cut() -> Pool {
        let config = WorldConfig {
            tablets: TABLETS,
            device_blocks: vec![20 << 10],
            fua: true,
            memtable_bytes: 256 << 10,
            log_blocks: LOG_BLOCKS,
        };
        let mut world = World::new(5, config);
        world.format().expect("formatted");
        world.boot(1).expect("booted");
        let inodes = [(NodeId::ROOT, cairn_format::InodeNo::ROOT)].into();
        let mut pool = Pool { world, inodes };
        let at = Place { dir: NodeId::ROOT, name: b"file"[..].into() };
        match pool.ask(&Act::Make { at, kind: FileKind::Regular, mode: 0o600 }) {
            Answer::Node { ino, .. } => drop(pool.inodes.insert(NodeId(1), ino)),
            other => panic!("{other:?}"),
        }
        let data = Payload { tag: 1, offset: 0, len: 50_000 };
        let wrote = pool.ask(&Act::Write { node: NodeId(1), data, sync: Sync::File });
        assert_eq!(wrote, Answer::Done);
        // The log carries its last mark by then.
        pool.world.machine().idle(Nanos::from_secs(2)).expect("idle");
        pool.world.crash();
        pool
    }

    fn ask(&mut self, act: &Act) -> Answer {
        self.world.perform(0, act, &self.inodes).expect("answered")
    }

    fn boot_without(&mut self, blocks: &[BlockNo]) -> Result<(), BootError> {
        for block in blocks {
            self.world.media.borrow_mut().faults.fail_reads_of(*block, Lasting::Forever);
        }
        self.world.boot(1)
    }

    fn is_whole(&mut self) -> bool {
        let read = Act::Read { node: NodeId(1), offset: 0, len: 50_000 };
        let right = Payload { tag: 1, offset: 0, len: 50_000 }.bytes();
        self.ask(&read) == Answer::Bytes { bytes: right, eof: true }
    }
}

fn block(index: u64) -> BlockNo {
    BlockNo::new(DeviceId(0), index)
}

#[test]
fn one_copy_of_the_superblock_is_enough_and_without_any_the_device_is_named() {
    for slot in [SUPERBLOCK_A, SUPERBLOCK_B] {
        let mut pool = Pool::cut();
        pool.boot_without(&[block(slot)]).expect("the other copy is there");
        assert!(pool.is_whole());
    }
    let refused = Pool::cut().boot_without(&[block(SUPERBLOCK_A), block(SUPERBLOCK_B)]);
    assert!(
        matches!(&refused, Err(BootError::Refused(what)) if what.contains("device 0")),
        "{refused:?}"
    );
}

#[test]
fn a_root_block_that_cannot_be_read_is_the_other_one_or_is_missed() {
    let (mut opened, mut missed) = (0, 0);
    for index in 0..2 * u64::from(TABLETS) {
        let mut pool = Pool::cut();
        match pool.boot_without(&[block(ROOTS_START + index)]) {
            Ok(()) => {
                assert!(pool.is_whole(), "without root block {index}");
                opened += 1;
            }
            Err(BootError::Refused(what)) => {
                assert!(what.contains("root"), "{what}");
                missed += 1;
            }
            Err(other) => panic!("{other:?}"),
        }
    }
    // Of each tablet one is the newest, and cannot be done without; the older one can.
    assert_eq!((opened, missed), (TABLETS.into(), TABLETS.into()));
}

#[test]
fn a_block_of_the_log_that_cannot_be_read_is_missed_only_where_records_are_or_may_be() {
    let areas = {
        let pool = Pool::cut();
        let media = pool.world.media.borrow();
        let first = 2 * u64::from(TABLETS) + ROOTS_START;
        let used = media.written().into_iter().filter(|at| at.index() >= first);
        used.map(|at| at.index()).collect::<Vec<_>>()
    };
    let (mut opened, mut refused) = (0, 0);
    for index in areas {
        let mut pool = Pool::cut();
        match pool.boot_without(&[block(index)]) {
            Ok(()) => {
                // What was read at open was not needed; else it is the file's data, or a node.
                opened += 1;
                let read = Act::Read { node: NodeId(1), offset: 0, len: 50_000 };
                match pool.ask(&read) {
                    Answer::Bytes { bytes, .. } => {
                        assert_eq!(bytes, Payload { tag: 1, offset: 0, len: 50_000 }.bytes());
                    }
                    Answer::Refused(error) => assert!(error.is_trouble(), "{error}"),
                    other => panic!("{other:?}"),
                }
            }
            Err(BootError::Refused(what)) => {
                assert!(what.contains(&index.to_string()) || what.contains("log"), "{what}");
                refused += 1;
            }
            Err(other) => panic!("{other:?}"),
        }
    }
    assert!(opened > 0 && refused > 0, "{opened} opened, {refused} refused");
}

#[test]
fn a_block_that_the_log_never_came_to_is_not_missed() {
    let mut pool = Pool::cut();
    // The shard has two areas, of which one counts.
    let far = [200, LOG_BLOCKS + 200].map(|n| block(2 * u64::from(TABLETS) + ROOTS_START + n));
    pool.boot_without(&far).expect("it opens");
    assert!(pool.is_whole());
}

#[test]
fn a_device_that_gives_nothing_back_is_not_asked_for_each_of_its_blocks() {
    let mut pool = Pool::cut();
    let first = 2 * u64::from(TABLETS) + ROOTS_START;
    let logs: Vec<BlockNo> = (first..first + 2 * LOG_BLOCKS).map(block).collect();
    let reads = |pool: &Pool| pool.world.media.borrow().traffic(DeviceId(0)).reads;
    let before = reads(&pool);
    let refused = pool.boot_without(&logs);
    assert!(matches!(refused, Err(BootError::Refused(_))), "{refused:?}");
    assert!(reads(&pool) - before < LOG_BLOCKS / 2, "{} reads", reads(&pool) - before);
}
