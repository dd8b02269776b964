//! Operations over tablets and shards, with the power cut at every device command.
//!
//! Directories below the root are spread over the tablets, so with two tablets and two shards the
//! scenes below meet both. Each script ends in one of the states that its unanswered requests allow.

use cairn_engine::attr::FileKind;
use cairn_sim::model::act::{Act, NodeId, Payload, Place, Sync};
use cairn_sim::scenario::{DEVICE_BLOCKS, Log, Scenario};
use cairn_sim::script::Script;
use cairn_sim::world::WorldConfig;

const ROOT: u32 = 0;

fn scenario(seed: u64, shards: usize, fua: bool) -> Scenario {
    let world = WorldConfig {
        tablets: 3,
        device_blocks: vec![DEVICE_BLOCKS],
        fua,
        memtable_bytes: 256 << 10,
        log_blocks: 1024,
    };
    Scenario { world, shards_max: shards, ..Scenario::from_seed(seed) }
}

fn at(dir: u32, name: &str) -> Place {
    Place { dir: NodeId(dir), name: name.as_bytes().into() }
}

fn mkdir(dir: u32, name: &str) -> Act {
    Act::Make { at: at(dir, name), kind: FileKind::Directory, mode: 0o755 }
}

fn create(dir: u32, name: &str) -> Act {
    Act::Make { at: at(dir, name), kind: FileKind::Regular, mode: 0o644 }
}

fn rename(from: Place, to: Place) -> Act {
    Act::Rename { from, to }
}

fn write(node: u32, sync: Sync, len: u32) -> Act {
    Act::Write { node: NodeId(node), data: Payload { tag: 99, offset: 0, len }, sync }
}

/// On one, two and three shards.
fn cut_everywhere(script: &Script) {
    for shards in 1..=3 {
        for fua in [true, false] {
            let scenario = scenario(10 * shards as u64, shards, fua);
            match script.cut_everywhere(&scenario) {
                Ok(cuts) => assert!(cuts > 0, "the script changes something"),
                Err(what) => panic!("{shards} shards, fua {fua}: {what}"),
            }
        }
    }
}

#[test]
fn a_file_moves_over_another_from_tablet_to_tablet() {
    cut_everywhere(&Script {
        setup: vec![
            mkdir(ROOT, "a"),
            mkdir(ROOT, "b"),
            mkdir(ROOT, "c"),
            create(1, "x"),
            create(2, "y"),
            // Two names each, in three directories: the rename meets four inodes.
            Act::Link { node: NodeId(4), at: at(3, "x2") },
            Act::Link { node: NodeId(5), at: at(3, "y2") },
        ],
        at_once: vec![rename(at(1, "x"), at(2, "y"))],
    });
}

#[test]
fn a_file_in_a_third_tablet_is_renamed_from_one_directory_over_a_file_in_another() {
    cut_everywhere(&Script {
        setup: vec![
            mkdir(ROOT, "a"),
            mkdir(ROOT, "b"),
            mkdir(ROOT, "c"),
            create(3, "x"),
            Act::Link { node: NodeId(4), at: at(1, "x") },
            create(3, "y"),
            Act::Link { node: NodeId(6), at: at(2, "y") },
            Act::Unlink { at: at(3, "y") },
        ],
        at_once: vec![rename(at(1, "x"), at(2, "y"))],
    });
}

#[test]
fn a_create_races_the_removal_of_its_directory() {
    cut_everywhere(&Script {
        setup: vec![mkdir(ROOT, "a"), mkdir(1, "b")],
        at_once: vec![create(2, "x"), Act::Rmdir { at: at(1, "b") }],
    });
}

#[test]
fn two_directories_are_moved_into_each_other() {
    cut_everywhere(&Script {
        setup: vec![mkdir(ROOT, "a"), mkdir(ROOT, "b"), mkdir(1, "c"), mkdir(2, "d")],
        at_once: vec![rename(at(ROOT, "a"), at(4, "a")), rename(at(ROOT, "b"), at(3, "b"))],
    });
}

#[test]
fn a_directory_is_made_in_another_tablet() {
    cut_everywhere(&Script {
        setup: vec![mkdir(ROOT, "a")],
        at_once: vec![mkdir(ROOT, "b"), mkdir(1, "c")],
    });
}

#[test]
fn a_hard_link_joins_two_tablets_and_its_last_name_goes() {
    cut_everywhere(&Script {
        setup: vec![mkdir(ROOT, "a"), mkdir(ROOT, "b"), create(1, "x")],
        at_once: vec![Act::Link { node: NodeId(3), at: at(2, "y") }],
    });
    cut_everywhere(&Script {
        setup: vec![
            mkdir(ROOT, "a"),
            mkdir(ROOT, "b"),
            create(1, "x"),
            write(3, Sync::File, 50_000),
            Act::Link { node: NodeId(3), at: at(2, "y") },
            Act::Unlink { at: at(1, "x") },
        ],
        at_once: vec![Act::Unlink { at: at(2, "y") }],
    });
}

#[test]
fn stable_data_is_there_after_every_cut_and_other_data_is_old_or_new() {
    for (sync, len) in [(Sync::File, 100), (Sync::File, 40_000), (Sync::Unstable, 40_000)] {
        cut_everywhere(&Script {
            setup: vec![create(ROOT, "x"), write(1, sync, len)],
            at_once: vec![
                Act::Commit { node: NodeId(1), offset: 0, len: 0 },
                write(1, Sync::File, 5000),
                Act::Truncate { node: NodeId(1), size: 3000 },
            ],
        });
    }
}

#[test]
fn a_script_without_a_cut_ends_uncut() {
    let script = Script { setup: vec![], at_once: vec![create(ROOT, "x")] };
    assert_eq!(script.run(&scenario(1, 2, true), None, &Log::default()), Ok(false));
}
