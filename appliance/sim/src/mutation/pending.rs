//! Operations over tablets that the power cut short: what there is to finish, and what was finished.

use super::Mutation;
use super::Which::Mixed;
use super::name::{grow, nobody, put_entry};
use super::patient::{Lacks, Patient};
use cairn_format::item::{FileKind, PartChange, Site};
use cairn_format::{EntryPosition, Epoch, InodeNo, Key, NodeId, OpId, ShardId, TabletId};

fn words(op: OpId) -> String {
    format!("operation {}.{}.{}.{}", op.node, op.shard, op.epoch, op.counter)
}

fn future(p: &Patient<'_>) -> OpId {
    let epoch = Epoch(p.superblock().epoch.get() + 5);
    OpId { node: NodeId(0), shard: ShardId(0), epoch, counter: 7 }
}

fn put_pending(p: &mut Patient<'_>, tablet: TabletId, op: OpId, changes: &[PartChange]) {
    let mut value = Vec::new();
    changes.iter().for_each(|change| change.encode(&mut value));
    p.put(tablet, Key::pending(op), &value);
    p.totals(tablet).pending += 1;
}

/// A link whose name is there, in one tablet, and whose inode, in another, does not know of it yet: so it
/// looks between the two halves of the operation.
fn half_a_link(p: &mut Patient<'_>) -> Result<(InodeNo, PartChange), Lacks> {
    let (dir, child) = (p.ino("/d")?, p.ino("/b/hard")?);
    let position = grow(p, dir, "half", 0)?;
    put_entry(p, dir, ("half", position), (child, FileKind::Regular));
    let site = Site { dir, position: EntryPosition(position) };
    p.delete(child.tablet(), Key::back_reference(child, dir, site.position))?;
    Ok((child, PartChange::AddLink { child, site, time: 0 }))
}

pub const ALL: &[Mutation] = &[
    Mutation {
        name: "pending-operation-forgotten",
        breaks: "half of a link was made, and nobody will finish it",
        pool: Mixed,
        finding: ["link", "has no back reference to it"],
        apply: |p| half_a_link(p).map(|_| "entry \"half\"".into()),
    },
    Mutation {
        name: "part-said-to-be-done",
        breaks: "a tablet says it did its part of an operation, and did not",
        pool: Mixed,
        finding: ["link", "has no back reference to it"],
        apply: |p| {
            let (child, change) = half_a_link(p)?;
            let op = OpId { epoch: Epoch(1), ..future(p) };
            let home = p.ino("/d")?.tablet();
            put_pending(p, home, op, &[change]);
            p.put_of(child, Key::done(op), &[]);
            p.totals(child.tablet()).done += 1;
            Ok("entry \"half\"".into())
        },
    },
    Mutation {
        name: "pending-operation-of-nobody",
        breaks: "an operation adds a link to an inode that does not exist",
        pool: Mixed,
        finding: ["pending", "cannot be finished"],
        apply: |p| {
            let op = OpId { epoch: Epoch(1), ..future(p) };
            let child = nobody(p.ino("/d")?);
            let site = Site { dir: InodeNo::ROOT, position: EntryPosition(9999) };
            put_pending(p, TabletId(1), op, &[PartChange::AddLink { child, site, time: 0 }]);
            Ok(words(op))
        },
    },
    Mutation {
        name: "pending-operation-of-the-future",
        breaks: "an operation of an epoch that has not begun",
        pool: Mixed,
        finding: ["pending", "an epoch that has not begun"],
        apply: |p| {
            let (op, child) = (future(p), p.ino("/d/pipe")?);
            let site = Site { dir: InodeNo::ROOT, position: EntryPosition(9999) };
            put_pending(p, TabletId(1), op, &[PartChange::AddLink { child, site, time: 0 }]);
            Ok(words(op))
        },
    },
    Mutation {
        name: "pending-operation-garbled",
        breaks: "what an operation has still to change cannot be read",
        pool: Mixed,
        finding: ["item", "pending change"],
        apply: |p| {
            let op = OpId { epoch: Epoch(1), ..future(p) };
            p.put(TabletId(1), Key::pending(op), b"\x2a");
            p.totals(TabletId(1)).pending += 1;
            Ok("tablet 1 ".into())
        },
    },
    Mutation {
        name: "done-operation-of-the-future",
        breaks: "a part was done of an operation of an epoch that has not begun",
        pool: Mixed,
        finding: ["pending", "an epoch that has not begun"],
        apply: |p| {
            let op = future(p);
            p.put(TabletId(2), Key::done(op), &[]);
            p.totals(TabletId(2)).done += 1;
            Ok(words(op))
        },
    },
];
