//! Room for an operation's worst case, taken before it applies: memory for its edits, nodes for
//! when they are frozen and folded, a place in the log.
//!
//! The reserve of a tablet's node space is one fold step's nodes, and some more for operations that free
//! space; everything else meets ENOSPC in front of it. Those that free space use up their part of it, then
//! wait until what they did is folded, and go on. That is why deleting always works, and why folding can
//! always go on. Beside it the pool keeps some zones for nobody who grows (`space/acquire.rs`): a fold may
//! split more leaves than the bound says, since each item of a log tree may meet a full one.
//!
//! What a tablet keeps for its memtables and log trees is a bound, several times what they come to.
//! So nobody is refused for it: whoever would fit without it waits until they are folded.

use crate::error::FsError;
use crate::failpoint::{Point, fails};
use crate::limits::{FOLD_STEP_NODES, FREEING_NODES, NODE_FILL_MIN, NODE_UNIT};
use crate::log::{Admission, LogClass};
use crate::shard::Shard;
use crate::space::Promise;
use crate::tablet::{Paying, Tablet};
use crate::tree::fold_nodes_min;
use cairn_base::door::Doors;
use cairn_format::TabletId;
use cairn_format::key::Purpose;
use smallvec::SmallVec;
use std::rc::Rc;

/// How often one who may use the reserve waits for a folding.
const FREEING_TURNS: usize = 16;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// May grow the pool's use; stops in front of the reserve.
    Growing,
    /// Frees space; may use the reserve.
    Freeing,
    /// Places data that was taken when there was room for it; may use the reserve, too.
    Placing,
    /// Moves zones and roots: part of what makes room, so it asks for none.
    Room,
}

/// The bound on an operation's edits: bytes of items in each tablet it may change.
#[derive(Clone, Debug)]
pub struct Need {
    pub class: Class,
    pub tablets: SmallVec<[TabletId; 4]>,
    pub bytes: usize,
}

impl Need {
    /// Edits of one name and one or two inodes, with their indexes and space items.
    pub const SMALL: usize = 4 << 10;

    pub fn new(class: Class, tablets: &[TabletId], bytes: usize) -> Need {
        let mut tablets = SmallVec::from_slice(tablets);
        tablets.sort_unstable();
        tablets.dedup();
        Need { class, tablets, bytes }
    }
}

/// Held until the operation has applied.
pub struct Permit<D: Doors> {
    pub class: Class,
    _promises: SmallVec<[Promise; 4]>,
    _admission: Admission<D>,
}

/// Node blocks that a tablet will need to write out and fold what its memtables hold.
pub fn owed_blocks(tablet: &Tablet) -> u64 {
    let active = tablet.active.borrow().node_bytes();
    let frozen = tablet.frozen.borrow().as_ref().map_or(0, |table| table.node_bytes());
    let root = tablet.root.borrow();
    let log_nodes: u64 = root.log_trees.iter().map(|tree| tree.entry.tree.nodes.get()).sum();
    nodes_blocks(active) + nodes_blocks(frozen) + 2 * log_nodes * NODE_UNIT
}

/// Node blocks that a tablet keeps from who wants to grow.
pub fn node_blocks_kept(tablet: &Tablet) -> u64 {
    owed_blocks(tablet) + (FOLD_STEP_NODES + FREEING_NODES) * NODE_UNIT
}

/// Node blocks that it keeps from who may use the reserve: what a whole step of a fold takes; and when all that was
/// owed is folded and there is no more, what folds need to go on, leaf by leaf.
fn node_blocks_of_folds(tablet: &Tablet, is_all_folded: bool) -> u64 {
    let level = tablet.root.borrow().fs.level;
    let nodes = if is_all_folded { 2 * fold_nodes_min(level) } else { FOLD_STEP_NODES };
    owed_blocks(tablet) + nodes.min(FOLD_STEP_NODES) * NODE_UNIT
}

/// Blocks for so many bytes of items: as a log tree with its filter, and again in the fs tree.
pub fn nodes_blocks(bytes: usize) -> u64 {
    if bytes == 0 {
        return 0;
    }
    let nodes = bytes.div_ceil(NODE_FILL_MIN) as u64;
    (3 * nodes + 6) * NODE_UNIT
}

impl<D: Doors> Shard<D> {
    pub async fn permit(self: &Rc<Self>, need: &Need) -> Result<Permit<D>, FsError> {
        let mut promises = SmallVec::new();
        if need.class != Class::Room {
            // Who frees space is never refused.
            if need.class == Class::Growing && fails(Point::Permit) {
                return Err(FsError::NoSpace);
            }
            self.memory_for(need.bytes).await?;
            for tablet in &need.tablets {
                promises.push(self.promise_nodes(*tablet, need).await?);
            }
        }
        let class = if need.class == Class::Room { LogClass::Root } else { LogClass::Operation };
        let admission = self.log.admit(2 * need.bytes + 2048, class).await?;
        Ok(Permit { class: need.class, _promises: promises, _admission: admission })
    }

    async fn promise_nodes(self: &Rc<Self>, id: TabletId, need: &Need) -> Result<Promise, FsError> {
        let tablet = self.core.tablet(id);
        if let Some(damage) = self.stuck(&tablet) {
            return Err(damage);
        }
        let blocks = need.bytes.div_ceil(NODE_FILL_MIN) as u64 * 3 * NODE_UNIT;
        let has_reserve = need.class != Class::Growing;
        let mut paid = 0;
        loop {
            let keep = if has_reserve {
                node_blocks_of_folds(&tablet, paid > 0)
            } else {
                node_blocks_kept(&tablet)
            };
            if let Some(promise) = tablet.space.promise(Purpose::Node, blocks, keep) {
                return Ok(promise);
            }
            let given_up = self.core.counters.merges_given_up.get();
            if Box::pin(self.take_zone(id, Purpose::Node, need.class)).await? {
                continue;
            }
            if self.core.counters.merges_given_up.get() > given_up {
                // What they were promised is free again.
                continue;
            }
            // What others do meanwhile may take what one folding has made free.
            let turns = if has_reserve { FREEING_TURNS } else { 1 };
            if paid < turns && self.pay(&tablet, blocks, has_reserve).await? {
                paid += 1;
                continue;
            }
            if !Box::pin(self.fold_for_zones()).await? {
                return Err(self.no_space());
            }
        }
    }

    /// Waits until what the tablet keeps node space for is folded. False when that would not make
    /// room for `blocks`; who may use the reserve tries it all the same.
    async fn pay(&self, tablet: &Tablet, blocks: u64, has_reserve: bool) -> Result<bool, FsError> {
        let least = (FOLD_STEP_NODES + FREEING_NODES) * NODE_UNIT + blocks;
        let is_in_vain = !has_reserve && tablet.space.unpromised(Purpose::Node) < least;
        if owed_blocks(tablet) == 0 || is_in_vain {
            return Ok(false);
        }
        self.fold_all(tablet).await.map(|()| true)
    }

    /// Waits until what the tablet has in memory and in log trees is in the fs tree. Not for the pacing task,
    /// which does it.
    pub(crate) async fn fold_all(&self, tablet: &Tablet) -> Result<(), FsError> {
        tablet.paying.set(Paying::Memtable);
        self.pace.wake_all();
        self.pace
            .until(|| {
                if self.log.has_failed() || self.is_stopping() {
                    return Some(Err(FsError::Stopped));
                }
                (tablet.paying.get() == Paying::Nobody).then_some(Ok(()))
            })
            .await
    }
}
