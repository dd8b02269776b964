//! Operations over tablets that the power cut short: what there is to finish, and what was finished.

use super::Mutation;
use super::Which::{Interrupted, Mixed};
use super::name::nobody;
use super::patient::{Lacks, Patient};
use cairn_format::item::{PartChange, Site};
use cairn_format::key::ParsedKey;
use cairn_format::{EntryPosition, Epoch, InodeNo, Key, NodeId, OpId, ShardId, TabletId};

/// An operation to finish: its coordinator's tablet, and what the others have to change.
fn pending(p: &Patient<'_>) -> Result<(TabletId, OpId, Vec<PartChange>), Lacks> {
    let found = p.find(|key, value| match key {
        ParsedKey::Pending(op) => Some((op, PartChange::parse_all(value).ok()?)),
        _ => None,
    });
    let (tablet, (op, changes)) = found.ok_or("no operation is to be finished")?;
    Ok((tablet, op, changes))
}

/// A participant that has not done its part.
fn participant(p: &Patient<'_>) -> Result<(OpId, TabletId), Lacks> {
    let (_, op, changes) = pending(p)?;
    let is_open = |tablet: &TabletId| p.get(*tablet, &Key::done(op)).is_none();
    let tablet = changes.iter().map(PartChange::tablet).find(is_open);
    Ok((op, tablet.ok_or("every part is done")?))
}

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

pub const ALL: &[Mutation] = &[
    Mutation {
        name: "pending-operation-forgotten",
        breaks: "an operation is in some of its tablets, and nobody will finish it",
        pool: Interrupted,
        finding: ["link", ""],
        apply: |p| {
            let (tablet, op, _) = pending(p)?;
            p.delete(tablet, Key::pending(op))?;
            p.totals(tablet).pending -= 1;
            Ok("ino:".into())
        },
    },
    Mutation {
        name: "part-said-to-be-done",
        breaks: "a tablet says it did its part of an operation, and did not",
        pool: Interrupted,
        finding: ["link", ""],
        apply: |p| {
            let (op, tablet) = participant(p)?;
            p.put(tablet, Key::done(op), &[]);
            p.totals(tablet).done += 1;
            Ok("ino:".into())
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
