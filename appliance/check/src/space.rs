//! Who owns each block: every block of every device has exactly one owner.
//!
//! Whoever meets a reference to blocks while walking claims them. At the end the claims, sorted by
//! place, must cover each device without a gap and without an overlap. A gap is space that nobody can
//! use any more, an overlap is two things that will overwrite each other.

use crate::report::{Findings, Object};
use crate::tree::NODE_UNIT;
use cairn_base::{BlockNo, DeviceId, Run};
use cairn_format::key::Purpose;
use cairn_format::superblock::{LOG_UNUSED, Superblock, front_blocks};
use cairn_format::{InodeNo, TabletId};
use std::cell::RefCell;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Owner {
    /// Superblocks, root blocks and what lies before them.
    Front,
    Log {
        node: u16,
        shard: u16,
    },
    Free(TabletId, Purpose),
    Data(InodeNo),
    Node(TabletId),
    Filter(TabletId),
    /// Allocated together with a log tree and not used by it.
    Spare(TabletId),
}

impl Owner {
    fn tablet(self) -> Option<TabletId> {
        match self {
            Owner::Front | Owner::Log { .. } => None,
            Owner::Data(ino) => Some(ino.tablet()),
            Owner::Free(tablet, _)
            | Owner::Node(tablet)
            | Owner::Filter(tablet)
            | Owner::Spare(tablet) => Some(tablet),
        }
    }

    pub fn render(self, inode: &dyn Fn(InodeNo) -> String) -> String {
        match self {
            Owner::Front => "the device's front".to_string(),
            Owner::Log { node, shard } => format!("the log of node {node} shard {shard}"),
            Owner::Free(tablet, Purpose::Unassigned) => {
                format!("unassigned space in tablet {tablet}")
            }
            Owner::Free(tablet, Purpose::Node) => format!("free node space of tablet {tablet}"),
            Owner::Free(tablet, Purpose::Data) => format!("free data space of tablet {tablet}"),
            Owner::Data(ino) => format!("data of {}", inode(ino)),
            Owner::Node(tablet) => format!("a node of tablet {tablet}"),
            Owner::Filter(tablet) => format!("a filter of tablet {tablet}"),
            Owner::Spare(tablet) => format!("the spare of a log tree of tablet {tablet}"),
        }
    }
}

struct Device {
    blocks: u64,
    /// Behind these the device is growing: what follows is unassigned or nobody's, as a whole.
    usable: u64,
    holds_meta: bool,
    holds_data: bool,
}

#[derive(Clone, Copy)]
struct Claim {
    start: BlockNo,
    blocks: u64,
    owner: Owner,
}

impl Claim {
    fn end(&self) -> BlockNo {
        self.start.after(self.blocks)
    }
}

pub(crate) struct Space {
    devices: Vec<Device>,
    claims: RefCell<Vec<Claim>>,
}

impl Space {
    /// With the claims that the superblock makes.
    pub fn of(superblock: &Superblock, findings: &Findings) -> Space {
        let devices = superblock.device_table().iter().map(|entry| Device {
            blocks: entry.blocks.get(),
            usable: entry.usable_blocks(),
            holds_meta: entry.holds_meta(),
            holds_data: entry.holds_data(),
        });
        let space = Space { devices: devices.collect(), claims: RefCell::default() };
        for index in 0..space.devices.len() {
            let front = front_blocks(index, superblock.tablets.get());
            let start = BlockNo::new(DeviceId(index as u8), 0);
            space.claim(Run::new(start, front), Owner::Front, findings);
        }
        for area in superblock.log_table().iter().filter(|area| area.state != LOG_UNUSED) {
            let owner = Owner::Log { node: area.node.get(), shard: area.shard.get() };
            space.claim(area.run(), owner, findings);
        }
        space
    }

    /// False when there are no such blocks; then nothing is claimed.
    pub fn claim(&self, run: Run, owner: Owner, findings: &Findings) -> bool {
        let device = self.devices.get(usize::from(run.start.device().0));
        let fits = |device: &Device| {
            let end = run.start.index().checked_add(run.blocks);
            run.blocks > 0 && end.is_some_and(|end| end <= device.blocks)
        };
        let Some(device) = device.filter(|device| fits(device)) else {
            let object = Object::Owned { run, owners: [Some(owner), None] };
            findings.note("space", object, "lies outside the pool's devices");
            return false;
        };
        let allowed = match owner {
            Owner::Front | Owner::Free(_, Purpose::Unassigned) => true,
            Owner::Data(_) | Owner::Free(_, Purpose::Data) => device.holds_data,
            Owner::Log { .. }
            | Owner::Node(_)
            | Owner::Filter(_)
            | Owner::Spare(_)
            | Owner::Free(_, Purpose::Node) => device.holds_meta,
        };
        if !allowed {
            let object = Object::Owned { run, owners: [Some(owner), None] };
            findings.note("space", object, "lies on a device with another role");
        }
        let unassigned = Owner::Free(InodeNo::ROOT.tablet(), Purpose::Unassigned);
        if run.end().index() > device.usable && owner != unassigned {
            let object = Object::Owned { run, owners: [Some(owner), None] };
            findings.note("space", object, "lies in what its device is only about to grow by");
        }
        let mut claims = self.claims.borrow_mut();
        match claims.last_mut() {
            Some(last) if last.owner == owner && last.end() == run.start => {
                last.blocks += run.blocks;
            }
            _ => claims.push(Claim { start: run.start, blocks: run.blocks, owner }),
        }
        true
    }

    /// All claims are made. Where a tablet is torn, what nobody claims may be its, and its own claims
    /// may be old ones.
    pub fn finish(self, torn: &[TabletId], findings: &Findings) {
        let gaps = torn.is_empty();
        let is_torn = |owner: Owner| owner.tablet().is_some_and(|tablet| torn.contains(&tablet));
        let mut claims = self.claims.into_inner();
        claims.sort_unstable_by_key(|claim| (claim.start, claim.blocks));
        let mut claims = claims.into_iter().peekable();
        for (index, device) in self.devices.iter().enumerate() {
            let device_id = DeviceId(index as u8);
            let end = BlockNo::new(device_id, device.blocks);
            let mut reached = BlockNo::new(device_id, 0);
            let mut last = Owner::Front;
            let leak = |from: BlockNo, to: BlockNo, last: Owner| {
                // What is handed out begins at a whole node unit behind the front.
                let is_rounding = last == Owner::Front
                    && to.index() - from.index() < NODE_UNIT
                    && to.index().is_multiple_of(NODE_UNIT);
                let is_growing = device.usable < device.blocks
                    && (from.index(), to.index()) == (device.usable, device.blocks);
                if gaps && from < to && !is_rounding && !is_growing {
                    let run = Run::new(from, to.index() - from.index());
                    findings.note("space", Object::Run(run), "belongs to nobody");
                }
            };
            while let Some(claim) = claims.next_if(|claim| claim.start.device() == device_id) {
                leak(reached, claim.start.max(reached), last);
                if claim.start < reached && !is_torn(last) && !is_torn(claim.owner) {
                    let to = reached.min(claim.end());
                    let run = Run::new(claim.start, to.index() - claim.start.index());
                    let object = Object::Owned { run, owners: [Some(last), Some(claim.owner)] };
                    findings.note("space", object, "is owned twice");
                }
                if claim.end() > reached {
                    reached = claim.end();
                    last = claim.owner;
                }
            }
            leak(reached, end.max(reached), last);
        }
    }
}
