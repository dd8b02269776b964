//! The merges of a tablet that are under way: what each keeps from one step to the next.
//!
//! A merge that is between two steps waits here, and whoever needs its blocks drops it (`give_up`). One
//! that is in a step is with that step, so it can only be told; it goes when the step ends. Then none begins until
//! a fold has ended, or a pool without space would begin them in vain for ever.
//!
//! Not here: the steps themselves (`merge.rs`).

use crate::space::{Promise, Reservation, RunSet};
use crate::tree::{Growing, Inputs, NodePlaces};
use cairn_base::{DmaBuf, Run};
use cairn_format::filter::FilterBuilder;
use cairn_format::node::NodeRef;
use cairn_format::tablet_root::LogTreeEntry;
use std::cell::{Cell, RefCell};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MergeId(pub(super) u64);

/// One merge between two of its steps.
pub struct Merge {
    pub(super) id: MergeId,
    /// Oldest first.
    pub(super) trees: Vec<LogTreeEntry>,
    pub(super) inputs: Inputs,
    pub(super) growing: Growing,
    pub(super) filter: Option<GrowingFilter>,
    pub(super) places: NodePlaces,
    /// Nodes of the trees that were read.
    pub(super) read: RunSet,
    /// What `places` divides.
    pub(super) _reservation: Reservation,
    /// For what the new tree may take more than the old ones.
    pub(super) _promise: Promise,
}

/// A filter that is made for so many keys and holds some of them.
pub(super) struct GrowingFilter {
    pub(super) buf: DmaBuf,
    pub(super) run: Run,
    pub(super) keys: u32,
    pub(super) keys_max: u64,
}

impl GrowingFilter {
    pub(super) fn add(&mut self, hash: u64) {
        let mut builder = FilterBuilder::resume(&mut self.buf, self.keys_max, self.keys);
        builder.add(hash);
        self.keys += 1;
    }
}

/// The merges of a tablet that are under way.
#[derive(Default)]
pub struct Merges {
    /// Those of older trees first.
    waiting: RefCell<Vec<Merge>>,
    /// Whether one is in a step, and is still wanted.
    in_step: Cell<Option<bool>>,
    begun: Cell<u64>,
    /// None may begin until a fold has ended.
    refused: Cell<bool>,
    turn: Cell<usize>,
}

impl Merges {
    /// Between two steps: those of older trees first.
    pub fn ids(&self) -> impl DoubleEndedIterator<Item = MergeId> {
        let ids: Vec<MergeId> = self.waiting.borrow().iter().map(|merge| merge.id).collect();
        ids.into_iter()
    }

    pub fn len(&self) -> usize {
        self.waiting.borrow().len()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Is the log tree with this root one of those that merge?
    pub fn has(&self, root: &NodeRef) -> bool {
        let waiting = self.waiting.borrow();
        waiting.iter().flat_map(|merge| &merge.trees).any(|entry| entry.tree.root == *root)
    }

    /// Filters that are being made.
    pub fn filter_bytes(&self) -> usize {
        let waiting = self.waiting.borrow();
        waiting
            .iter()
            .filter_map(|merge| merge.filter.as_ref())
            .map(|filter| filter.buf.len())
            .sum()
    }

    pub fn is_refused(&self) -> bool {
        self.refused.get()
    }

    /// None may begin for now: the tablet folds.
    pub fn refuse(&self) {
        self.refused.set(true);
    }

    /// A fold has ended: there may be space again.
    pub fn allow(&self) {
        self.refused.set(false);
    }

    /// Steps of this tablet take turns: whose it is, of `count`.
    pub fn turn(&self, count: usize) -> usize {
        self.turn.get() % count.max(1)
    }

    pub fn next_turn(&self) {
        self.turn.set(self.turn.get().wrapping_add(1));
    }

    /// Drops them all, with the blocks they hold; what is in a step follows at its end. Gives how
    /// many there were.
    pub fn give_up(&self) -> u64 {
        let waiting = self.waiting.take();
        let mut count = waiting.len() as u64;
        drop(waiting);
        if self.in_step.get() == Some(true) {
            self.in_step.set(Some(false));
            count += 1;
        }
        if count > 0 {
            self.refused.set(true);
        }
        count
    }

    /// Was one given up that is still in a step, with its blocks?
    pub fn is_letting_go(&self) -> bool {
        self.in_step.get() == Some(false)
    }

    pub(super) fn next_id(&self) -> MergeId {
        self.begun.set(self.begun.get() + 1);
        MergeId(self.begun.get())
    }

    /// For a step.
    pub(super) fn take(&self, id: MergeId) -> Option<Merge> {
        let mut waiting = self.waiting.borrow_mut();
        let at = waiting.iter().position(|merge| merge.id == id)?;
        self.in_step.set(Some(true));
        Some(waiting.remove(at))
    }

    /// The step that took one has ended. Is the merge still wanted?
    pub(super) fn end_step(&self) -> bool {
        self.in_step.take() == Some(true)
    }

    pub(super) fn put_back(&self, merge: Merge) {
        let mut waiting = self.waiting.borrow_mut();
        let at = waiting.iter().position(|other| other.id.0 > merge.id.0);
        let at = at.unwrap_or(waiting.len());
        waiting.insert(at, merge);
    }
}
