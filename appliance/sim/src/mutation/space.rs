//! Free runs: each block of each device has one owner, and totals count what is free.

use super::Mutation;
use super::Which::{Mixed, Split};
use super::patient::{Lacks, Patient};
use cairn_base::{BlockNo, DeviceId, Run};
use cairn_format::item::FreeRunItem;
use cairn_format::key::{ParsedKey, Purpose};
use cairn_format::{InodeNo, Key, TabletId};
use zerocopy::IntoBytes;

/// The first free run of so many blocks, for that purpose.
fn free(p: &Patient<'_>, purpose: Purpose, blocks: u64) -> Result<(TabletId, Run), Lacks> {
    let found = p.find(|key, value| match key {
        ParsedKey::FreeRun(of, start) if of == purpose => {
            let run = Run::new(start, FreeRunItem::parse(value).ok()?.blocks.get());
            (run.blocks >= blocks).then_some(run)
        }
        _ => None,
    });
    found.ok_or("there is no such free run")
}

/// Adds a run, and counts it.
fn put(p: &mut Patient<'_>, tablet: TabletId, purpose: Purpose, run: Run) -> String {
    count(p, tablet, purpose, run.blocks as i64);
    let item = FreeRunItem { blocks: run.blocks.into() };
    p.put(tablet, Key::free_run(purpose, run.start), item.as_bytes());
    match purpose {
        Purpose::Unassigned => format!("unassigned space in tablet {tablet}"),
        Purpose::Node => format!("free node space of tablet {tablet}"),
        Purpose::Data => format!("free data space of tablet {tablet}"),
    }
}

fn take(p: &mut Patient<'_>, tablet: TabletId, purpose: Purpose, run: Run) -> Result<(), Lacks> {
    count(p, tablet, purpose, -(run.blocks as i64));
    p.delete(tablet, Key::free_run(purpose, run.start)).map(drop)
}

fn count(p: &mut Patient<'_>, tablet: TabletId, purpose: Purpose, blocks: i64) {
    let totals = p.totals(tablet);
    let total = match purpose {
        Purpose::Unassigned => &mut totals.free_unassigned,
        Purpose::Node => &mut totals.free_node,
        Purpose::Data => &mut totals.free_data,
    };
    *total = total.get().wrapping_add_signed(blocks).into();
}

const UNIT: u64 = cairn_format::node::NODE_BLOCKS;

pub const ALL: &[Mutation] = &[
    Mutation {
        name: "free-run-missing",
        breaks: "free space that nobody knows of any more",
        pool: Mixed,
        finding: ["space", "belongs to nobody"],
        apply: |p| {
            let (tablet, run) = free(p, Purpose::Data, 1)?;
            take(p, tablet, Purpose::Data, run)?;
            Ok(format!("blocks {run:?}"))
        },
    },
    Mutation {
        name: "free-run-too-short",
        breaks: "the last block of a free run leaks",
        pool: Mixed,
        finding: ["space", "belongs to nobody"],
        apply: |p| {
            let (tablet, run) = free(p, Purpose::Data, 2)?;
            let shorter = Run::new(run.start, run.blocks - 1);
            take(p, tablet, Purpose::Data, run)?;
            put(p, tablet, Purpose::Data, shorter);
            Ok(format!("blocks {:?}", Run::new(shorter.end(), 1)))
        },
    },
    Mutation {
        name: "free-run-too-long",
        breaks: "a free run reaches into what follows it",
        pool: Mixed,
        finding: ["space", "is owned twice"],
        apply: |p| {
            let (tablet, run) = free(p, Purpose::Data, 1)?;
            take(p, tablet, Purpose::Data, run)?;
            Ok(put(p, tablet, Purpose::Data, Run::new(run.start, run.blocks + 1)))
        },
    },
    Mutation {
        name: "free-runs-overlap",
        breaks: "two free runs of a tablet have blocks in common",
        pool: Mixed,
        finding: ["space", "is owned twice"],
        apply: |p| {
            let (tablet, run) = free(p, Purpose::Data, 2)?;
            Ok(put(p, tablet, Purpose::Data, Run::new(run.start.after(1), 1)))
        },
    },
    Mutation {
        name: "free-run-of-two-tablets",
        breaks: "a tablet has free space in another's zone",
        pool: Mixed,
        finding: ["space", "is owned twice"],
        apply: |p| {
            let (tablet, run) = free(p, Purpose::Data, 1)?;
            let other = p.tablet_where(|t| t.id != tablet).ok_or("there is one tablet")?.id;
            Ok(put(p, other, Purpose::Data, run))
        },
    },
    Mutation {
        name: "free-for-two-purposes",
        breaks: "space is free for nodes and for data",
        pool: Mixed,
        finding: ["space", "is owned twice"],
        apply: |p| {
            let (tablet, run) = free(p, Purpose::Node, UNIT)?;
            Ok(put(p, tablet, Purpose::Data, run))
        },
    },
    Mutation {
        name: "free-run-beyond-the-device",
        breaks: "a free run ends behind its device",
        pool: Mixed,
        finding: ["space", "lies outside the pool's devices"],
        apply: |p| {
            let device = p.superblock().device_table().first().ok_or("there is no device")?;
            let last = BlockNo::new(DeviceId(0), device.blocks.get() - 1);
            Ok(put(p, TabletId(2), Purpose::Data, Run::new(last, 2)))
        },
    },
    Mutation {
        name: "free-run-empty",
        breaks: "a free run of no blocks",
        pool: Mixed,
        finding: ["item", "free run"],
        apply: |p| {
            let (tablet, run) = free(p, Purpose::Data, 2)?;
            let key = Key::free_run(Purpose::Data, run.start.after(1));
            p.put(tablet, key, FreeRunItem { blocks: 0.into() }.as_bytes());
            Ok(format!("tablet {tablet} "))
        },
    },
    Mutation {
        name: "superblock-is-free",
        breaks: "the front of the device is in the free runs",
        pool: Mixed,
        finding: ["space", "is owned twice"],
        apply: |p| {
            let front = BlockNo::new(DeviceId(0), 16);
            Ok(put(p, TabletId(2), Purpose::Data, Run::new(front, 1)))
        },
    },
    Mutation {
        name: "log-is-free",
        breaks: "a write log is in the free runs",
        pool: Mixed,
        finding: ["space", "is owned twice"],
        apply: |p| {
            let log = p.layout().logs.first().ok_or("there is no log")?.area.run();
            put(p, TabletId(2), Purpose::Data, Run::new(log.start.after(5), 1));
            Ok("the log of node 0 shard".into())
        },
    },
    Mutation {
        name: "node-is-free",
        breaks: "a tree's root node is in the free runs",
        pool: Mixed,
        finding: ["space", "is owned twice"],
        apply: |p| {
            let tablet = p.tablet_where(|t| !t.root.fs.is_empty()).ok_or("there is no tree")?;
            let run = Run::new(tablet.root.fs.root.block_no(), UNIT);
            put(p, tablet.id, Purpose::Node, run);
            Ok(format!("a node of tablet {}", tablet.id))
        },
    },
    Mutation {
        name: "unassigned-in-another-tablet",
        breaks: "a tablet keeps what is in no zone, which only tablet 1 may",
        pool: Mixed,
        finding: ["space", "only tablet 1 has unassigned space"],
        apply: |p| {
            let (tablet, run) = free(p, Purpose::Unassigned, 1)?;
            assert!(tablet == InodeNo::ROOT.tablet(), "the pool is sound");
            take(p, tablet, Purpose::Unassigned, run)?;
            put(p, TabletId(2), Purpose::Unassigned, run);
            Ok("tablet 2 ".into())
        },
    },
    Mutation {
        name: "node-space-in-parts",
        breaks: "free node space begins in the middle of a node",
        pool: Mixed,
        finding: ["space", "in parts of a node"],
        apply: |p| {
            let (tablet, run) = free(p, Purpose::Node, 2 * UNIT)?;
            take(p, tablet, Purpose::Node, run)?;
            put(p, tablet, Purpose::Node, Run::new(run.start.after(1), run.blocks - 1));
            Ok(format!("tablet {tablet} "))
        },
    },
    Mutation {
        name: "data-space-among-metadata",
        breaks: "space for data on the device for metadata",
        pool: Split,
        finding: ["space", "another role"],
        apply: |p| {
            let (tablet, run) = free(p, Purpose::Node, UNIT)?;
            take(p, tablet, Purpose::Node, run)?;
            Ok(put(p, tablet, Purpose::Data, run))
        },
    },
    Mutation {
        name: "node-space-among-data",
        breaks: "space for nodes on the device for data",
        pool: Split,
        finding: ["space", "another role"],
        apply: |p| {
            let (tablet, run) = free(p, Purpose::Data, 1)?;
            take(p, tablet, Purpose::Data, run)?;
            Ok(put(p, tablet, Purpose::Node, run))
        },
    },
];
