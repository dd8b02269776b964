//! Superblocks, roots, logs and trees whose checksums are right and whose content is not.

use crate::clean::sound;
use crate::disk::check;
use crate::pool::{DEVICE_BLOCKS, GENERATION, Pool, Wrong};
use cairn_base::DeviceId;
use cairn_format::record::BatchHeader;
use cairn_format::superblock::ROLE_META;
use cairn_format::tablet_root::{RootBody, Totals, TreeRef};

type TweakTotals = fn(usize, &mut Totals);
type TweakRoot = fn(&mut RootBody, bool);
type TweakHeader = fn(u16, usize, &mut BatchHeader);

fn found(what: &str, kind: &str, object: &str, detail: &str, mutate: impl FnOnce(&mut Pool)) {
    found_on(DeviceId(0), what, [kind, object, detail], mutate);
}

fn found_on(
    data_device: DeviceId,
    what: &str,
    [kind, object, detail]: [&str; 3],
    mutate: impl FnOnce(&mut Pool),
) {
    let mut pool = sound(data_device);
    mutate(&mut pool);
    let report = check(&pool.lay().disk).expect("it is a pool");
    let hit = report.findings.iter().any(|finding| {
        finding.kind == kind && finding.object.contains(object) && finding.detail.contains(detail)
    });
    assert!(hit, "{what}: got {:#?}", report.findings);
}

#[test]
fn totals_are_counted() {
    let cases: [(&str, TweakTotals); 8] = [
        ("inodes", |_, totals| totals.inodes += 1),
        ("orphans", |_, totals| totals.orphans += 1),
        ("pending", |_, totals| totals.pending += 1),
        ("done", |_, totals| totals.done += 1),
        ("deletions", |_, totals| totals.deletions += 1),
        ("free node", |_, totals| totals.free_node += 1),
        ("free data", |_, totals| totals.free_data += 1),
        ("unassigned", |_, totals| totals.free_unassigned += 1),
    ];
    for (name, tweak) in cases {
        found(name, "totals", "tablet 0", name, |pool| pool.tweak_totals = tweak);
    }
}

#[test]
fn a_root_names_what_is_there() {
    let roots: [(&str, &str, &str, &str, TweakRoot); 12] = [
        ("items", "tree", "tablet 2 fs tree", "items", |body, _| body.fs.items += 1),
        ("nodes", "tree", "tablet 2 fs tree", "nodes", |body, _| body.fs.nodes += 1),
        ("level", "node", "tablet 2 fs tree", "level", |body, _| body.fs.level += 1),
        ("place", "node", "tablet 2 fs tree", "hash", |body, _| body.fs.root.block -= 4),
        ("hash", "node", "tablet 2 fs tree", "hash", |body, _| body.fs.root.hash += 1),
        ("generation", "node", "tablet 2 fs tree", "generation", |body, _| {
            body.fs.root.generation += 1;
        }),
        ("fs tree is gone", "space", "blocks", "nobody", |body, _| body.fs = TreeRef::EMPTY),
        ("log tree is gone", "space", "blocks", "nobody", |body, _| body.set_log_trees(&[])),
        ("spare", "space", "spare", "twice", |body, _| body.log_trees[0].spare_blocks += 4),
        ("filter keys", "filter", "log tree 0", "header", |body, _| {
            body.log_trees[0].filter.keys += 1;
        }),
        ("newest meta_seq", "totals", "tablet 2", "meta_seq", |body, _| {
            body.newest_meta_seq = 1.into();
        }),
        ("newest data_seq", "totals", "tablet 2", "data_seq", |body, _| {
            body.newest_data_seq = 1.into();
        }),
    ];
    for (what, kind, object, detail, tweak) in roots {
        found(what, kind, object, detail, |pool| pool.tweak_root = tweak);
    }
}

#[test]
fn a_root_is_of_this_epoch_and_of_a_log_that_exists() {
    found("epoch", "root", "tablet 2 root", "epoch", |pool| {
        pool.tweak_root = |body, _| body.epoch = 9.into();
    });
    found("shard", "root", "tablet 2 root", "does not exist", |pool| {
        pool.tweak_root = |body, _| body.replay.shard = 5.into();
    });
    found("shard of another log", "log", "shard 0", "another log", |pool| {
        pool.tweak_root = |body, _| body.replay.shard = 1.into();
    });
    found("position", "root", "tablet 2 root", "the log ends", |pool| {
        pool.tweak_root = |body, _| body.replay.position = 5000.into();
    });
    found("changes left out", "index", "/a", "", |pool| {
        pool.tweak_root = |body, _| body.replay.position += 1;
    });
    found("totals of a root record", "root", "tablet 1", "other totals", |pool| {
        pool.tweak_tablet = 1;
        pool.tweak_root = |body, in_record| {
            if in_record {
                body.totals.inodes += 1;
            }
        };
    });
}

#[test]
fn a_root_that_a_trim_relied_on_must_be_there() {
    found("lost root write", "root", "tablet 2", "was lost", |pool| {
        pool.trim_generation = GENERATION + 1;
    });
    // The root of tablet 1 is in the log with that generation.
    let mut pool = sound(DeviceId(0));
    pool.trim_generation = GENERATION + 1;
    let report = check(&pool.lay().disk).expect("it is a pool");
    assert!(!report.findings.iter().any(|finding| finding.object.starts_with("tablet 1 ")));
}

#[test]
fn nodes_are_of_their_tablet_their_generation_and_their_range() {
    let cases = [
        (Wrong::Tablet, "node", "tablet 2 fs tree", "tablet"),
        (Wrong::Separator, "node", "tablet 2 fs tree", "out of order"),
        (Wrong::Generation, "node", "tablet 2 fs tree", "generation"),
        (Wrong::DeletionMark, "tree", "tablet 2", "deletion mark"),
        (Wrong::Filter, "filter", "tablet 2", "denies"),
        (Wrong::Filter, "filter", "tablet 2 log tree 0", "keys"),
    ];
    for (wrong, kind, object, detail) in cases {
        found(detail, kind, object, detail, |pool| pool.wrong = wrong);
    }
}

#[test]
fn batches_follow_each_other_and_their_marks_make_sense() {
    let cases: [(&str, &str, TweakHeader); 9] = [
        ("position", "is gone", |_, index, header| {
            if index == 2 {
                header.position += 64;
            }
        }),
        ("epoch", "is gone", |_, index, header| {
            if index == 2 {
                header.epoch = 2.into();
            }
        }),
        ("shard", "is gone", |_, index, header| {
            if index == 2 {
                header.shard = 7.into();
            }
        }),
        ("node", "is gone", |_, index, header| {
            if index == 2 {
                header.node = 7.into();
            }
        }),
        ("pool", "is gone", |_, index, header| {
            if index == 2 {
                header.log_tag = 7.into();
            }
        }),
        ("records", "unsound", |_, index, header| {
            if index == 2 {
                header.records += 1;
            }
        }),
        ("acked", "marks", |_, index, header| {
            if index == 3 {
                header.acked = header.position.get().saturating_add(1).into();
            }
        }),
        ("seq", "marks", |_, index, header| {
            if index == 3 {
                header.seq = 1.into();
            }
        }),
        ("ceiling", "marks", |_, index, header| {
            if index == 3 {
                header.ceiling = 899.into();
            }
        }),
    ];
    for (what, detail, tweak) in cases {
        found(what, "log", "shard 0, block", detail, |pool| pool.tweak_header = tweak);
    }
}

#[test]
fn a_tail_that_passes_a_needed_batch_is_found() {
    found("tail", "totals", "tablet 2", "", |pool| {
        pool.tweak_header = |_, index, header| {
            if index > 1 {
                header.tail = header.position;
            }
        };
    });
}

#[test]
fn what_is_put_as_new_must_be_new() {
    found("put as new", "log", "tablet 2", "new", |pool| pool.all_edits_are_new = true);
}

#[test]
fn superblocks_describe_the_devices() {
    found("longer than the device", "device", "device 0", "blocks", |pool| {
        pool.tweak_superblock = |superblock| {
            superblock.devices[0].blocks = (DEVICE_BLOCKS + 8).into();
        };
    });
    found("shorter than what is used", "space", "blocks", "outside", |pool| {
        pool.tweak_superblock = |superblock| superblock.devices[0].blocks = 2400.into();
    });
    found("one tablet fewer", "space", "blocks", "nobody", |pool| {
        pool.tweak_superblock = |superblock| superblock.tablets = 3.into();
    });
    found("one tablet more", "root", "tablet 4", "no root", |pool| {
        pool.tweak_superblock = |superblock| superblock.tablets = 5.into();
    });
    found("another name key", "name", "\"big\"", "hash", |pool| {
        pool.tweak_superblock = |superblock| superblock.name_key = [9; 16];
    });
    found("another log area", "space", "the log", "twice", |pool| {
        pool.tweak_superblock = |superblock| superblock.logs[1].start += 2000;
    });
    found("a log area is gone", "space", "blocks", "nobody", |pool| {
        pool.tweak_superblock = |superblock| {
            superblock.logs[3] = cairn_format::superblock::LogArea::EMPTY;
        };
    });
    found("a log area in use is gone", "root", "tablet 1", "does not exist", |pool| {
        pool.tweak_superblock = |superblock| {
            superblock.logs[2].shard = 9.into();
        };
    });
    let pool = sound(DeviceId(0)).lay();
    pool.disk.truncate(DeviceId(0), DEVICE_BLOCKS - 100);
    let report = check(&pool.disk).expect("it is a pool");
    assert_eq!(report.findings[0].kind, "device", "{report:?}");
}

#[test]
fn a_role_keeps_data_and_metadata_apart() {
    found_on(DeviceId(1), "data on a device for metadata", ["space", "big", "role"], |pool| {
        pool.tweak_superblock = |superblock| superblock.devices[1].role = ROLE_META;
    });
}
