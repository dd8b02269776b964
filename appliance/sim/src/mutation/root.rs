//! Tablet roots: totals that are not what one gets by counting, and roots that are not the tablet's newest
//! or do not fit the logs.

use super::Mutation;
use super::Which::Mixed;
use super::layout::{LogLayout, TabletLayout};
use super::patient::{Lacks, Patient};
use cairn_base::BLOCK_BYTES;
use cairn_format::superblock::root_block;
use cairn_format::tablet_root::{Replay, RootBody, TabletRootBlock, Totals, TreeRef};
use cairn_format::{RootGeneration, TabletId};

/// In most mutations it does not matter which.
const SOME: TabletId = TabletId(2);

fn patch_totals(p: &mut Patient<'_>, change: impl FnOnce(&mut Totals)) -> Result<String, Lacks> {
    change(p.totals(SOME));
    Ok(format!("tablet {SOME}"))
}

fn patch_root(p: &mut Patient<'_>, change: impl FnOnce(&mut RootBody)) -> Result<String, Lacks> {
    change(p.root(SOME));
    Ok(format!("tablet {SOME} root"))
}

/// Writes a root block as it would be written for that generation.
fn write_block(p: &mut Patient<'_>, body: &RootBody, slot: RootGeneration) {
    let mut block = vec![0; BLOCK_BYTES];
    TabletRootBlock::seal(body, &p.superblock().fsid, &mut block);
    p.copy.put(root_block(body.tablet(), slot), &block);
}

/// Replay from the log's end on.
fn replay_of(log: &LogLayout) -> Replay {
    Replay {
        epoch: log.area.epoch,
        position: log.end().into(),
        node: log.area.node,
        shard: log.area.shard,
        reserved: [0; 4],
    }
}

pub const ALL: &[Mutation] = &[
    Mutation {
        name: "total-of-inodes",
        breaks: "a tablet counts an inode too many",
        pool: Mixed,
        finding: ["totals", "inodes, there are"],
        apply: |p| patch_totals(p, |totals| totals.inodes += 1),
    },
    Mutation {
        name: "total-of-orphans",
        breaks: "a tablet counts an orphan that is not there",
        pool: Mixed,
        finding: ["totals", "orphans, there are"],
        apply: |p| patch_totals(p, |totals| totals.orphans += 1),
    },
    Mutation {
        name: "total-of-pending-operations",
        breaks: "a tablet counts an operation to finish that is not there",
        pool: Mixed,
        finding: ["totals", "pending operations, there are"],
        apply: |p| patch_totals(p, |totals| totals.pending += 1),
    },
    Mutation {
        name: "total-of-done-operations",
        breaks: "a tablet counts a finished operation that is not there",
        pool: Mixed,
        finding: ["totals", "done operations, there are"],
        apply: |p| patch_totals(p, |totals| totals.done += 1),
    },
    Mutation {
        name: "total-of-deletions",
        breaks: "a tablet counts a deletion that is not there",
        pool: Mixed,
        finding: ["totals", "deletions, there are"],
        apply: |p| patch_totals(p, |totals| totals.deletions += 1),
    },
    Mutation {
        name: "total-of-node-space",
        breaks: "a tablet's free node space is not the sum of its runs",
        pool: Mixed,
        finding: ["totals", "free node blocks, there are"],
        apply: |p| patch_totals(p, |totals| totals.free_node += 4),
    },
    Mutation {
        name: "total-of-data-space",
        breaks: "a tablet's free data space is not the sum of its runs",
        pool: Mixed,
        finding: ["totals", "free data blocks, there are"],
        apply: |p| patch_totals(p, |totals| totals.free_data += 1),
    },
    Mutation {
        name: "total-of-unassigned-space",
        breaks: "the unassigned space is not the sum of its runs",
        pool: Mixed,
        finding: ["totals", "unassigned blocks, there are"],
        apply: |p| {
            p.totals(TabletId(1)).free_unassigned -= 1;
            Ok("tablet 1".into())
        },
    },
    Mutation {
        name: "newest-seq-of-a-root",
        breaks: "a root says its trees have nothing as new as they have",
        pool: Mixed,
        finding: ["totals", "its trees have meta_seq"],
        apply: |p| {
            let has_tree = |t: &TabletLayout| !t.root.fs.is_empty();
            let id = p.tablet_where(has_tree).ok_or("no tablet has a tree")?.id;
            p.root(id).newest_meta_seq = 1.into();
            Ok(format!("tablet {id}"))
        },
    },
    Mutation {
        name: "newest-seq-of-an-fs-tree",
        breaks: "a root says its fs tree has nothing as new as it has: who asks what changed would pass it over",
        pool: Mixed,
        finding: ["index", "the root says fs tree has nothing above"],
        apply: |p| {
            let has_tree = |t: &TabletLayout| !t.root.fs.is_empty();
            let id = p.tablet_where(has_tree).ok_or("no tablet has a tree")?.id;
            p.root(id).folded_seq = 1.into();
            Ok(format!("tablet {id}"))
        },
    },
    Mutation {
        name: "newest-seq-of-a-log-tree",
        breaks: "a root says a log tree has nothing as new as it has",
        pool: Mixed,
        finding: ["index", "has nothing above"],
        apply: |p| {
            let has_tree = |t: &TabletLayout| !t.root.log_trees().is_empty();
            let id = p.tablet_where(has_tree).ok_or("no tablet has a log tree")?.id;
            let root = p.root(id);
            root.folded_seq = 0.into();
            root.log_trees[0].frozen_seq = 1.into();
            Ok(format!("tablet {id}"))
        },
    },
    Mutation {
        name: "newest-seq-of-an-older-tree",
        breaks: "a root says its fs tree has newer entries than its log tree",
        pool: Mixed,
        finding: ["root", "says that an older tree has newer entries"],
        apply: |p| {
            let has_tree = |t: &TabletLayout| !t.root.log_trees().is_empty();
            let id = p.tablet_where(has_tree).ok_or("no tablet has a log tree")?.id;
            let root = p.root(id);
            root.folded_seq = (root.log_trees[0].frozen_seq.get() + 1).into();
            Ok(format!("tablet {id}"))
        },
    },
    Mutation {
        name: "newest-seq-of-the-future",
        breaks: "a root says its trees have a seq that was never given out",
        pool: Mixed,
        finding: ["root", "above every ceiling"],
        apply: |p| {
            p.root(SOME).newest_meta_seq = (u64::MAX >> 1).into();
            Ok(format!("tablet {SOME}"))
        },
    },
    Mutation {
        name: "fs-tree-forgotten",
        breaks: "a root has lost its fs tree",
        pool: Mixed,
        finding: ["space", "belongs to nobody"],
        apply: |p| {
            let has_tree = |t: &TabletLayout| t.id != TabletId(1) && !t.root.fs.is_empty();
            let tablet = p.tablet_where(has_tree).ok_or("no tablet has a tree")?;
            p.root(tablet.id).fs = TreeRef::EMPTY;
            Ok("blocks".into())
        },
    },
    Mutation {
        name: "log-tree-forgotten",
        breaks: "a root has lost its youngest log tree",
        pool: Mixed,
        // Its blocks may be nobody's then, or in a free run of older trees that it had changed.
        finding: ["totals", "inodes, there are"],
        apply: |p| {
            let has_tree = |t: &TabletLayout| !t.root.log_trees().is_empty();
            let tablet = p.tablet_where(has_tree).ok_or("no tablet has a log tree")?;
            let entries = tablet.root.log_trees();
            p.root(tablet.id).set_log_trees(&entries[..entries.len() - 1]);
            Ok(format!("tablet {}", tablet.id))
        },
    },
    Mutation {
        name: "root-of-a-future-epoch",
        breaks: "a root is of an epoch that has not begun",
        pool: Mixed,
        finding: ["root", "is of epoch"],
        apply: |p| patch_root(p, |root| root.epoch += 9),
    },
    Mutation {
        name: "replay-behind-the-log",
        breaks: "a root is replayed from behind the log's end",
        pool: Mixed,
        finding: ["root", "the log ends at"],
        apply: |p| {
            let log = p.layout().logs.first().ok_or("there is no log")?;
            patch_root(p, |root| {
                root.replay = replay_of(log);
                root.replay.position += 100_000;
            })
        },
    },
    Mutation {
        name: "replay-from-no-log",
        breaks: "a root is replayed from a log that there is not",
        pool: Mixed,
        finding: ["root", "a log that does not exist"],
        apply: |p| {
            let log = p.layout().logs.first().ok_or("there is no log")?;
            patch_root(p, |root| {
                root.replay = replay_of(log);
                root.replay.shard = 9.into();
            })
        },
    },
    Mutation {
        name: "replay-skips-records",
        breaks: "a root leaves out the records that are in no tree yet",
        pool: Mixed,
        finding: ["totals", "there are"],
        apply: |p| {
            let some = |t: &TabletLayout| t.memtable.len() > 20;
            let tablet = p.tablet_where(some).ok_or("no tablet has records in the log")?;
            let log = &p.layout().logs[tablet.log];
            p.root(tablet.id).replay = replay_of(log);
            Ok(format!("tablet {}", tablet.id))
        },
    },
    Mutation {
        name: "root-block-unlike-its-record",
        breaks: "a root block says something else than the record it is a copy of",
        pool: Mixed,
        finding: ["root", "differs from its record"],
        apply: |p| {
            let roots = p.layout().logs.iter().flat_map(|log| &log.roots);
            let newest = |(id, generation): &&(TabletId, RootGeneration)| {
                p.layout().tablet(*id).root.generation() == *generation
            };
            let (id, generation) = *roots.into_iter().find(newest).ok_or("no root is in a log")?;
            let mut body = p.layout().tablet(id).root;
            body.newest_data_seq += 1;
            write_block(p, &body, generation);
            Ok(format!("tablet {id} root"))
        },
    },
];
