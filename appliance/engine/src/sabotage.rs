//! Planted bugs, so that the simulator and the tests can show that they would be seen.
//!
//! One bug at a time, per thread, by name. The spots that ask are the ones a promise hangs on; in
//! a daemon the answer is "none" unless `CAIRN_SABOTAGE` was set, which it says loudly at start.

use std::cell::Cell;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sabotage {
    /// The device is not flushed before the record that links data, nor by a durable log write.
    SkippedFlush,
    /// Every eighth record is applied but not logged.
    DroppedRecord,
    /// Operations are answered when their batch is submitted.
    AckBeforeDurable,
    /// Freed runs are reused at once.
    RunReusedEarly,
    /// Replay leaves out the last batch.
    ReplayOffByOne,
    /// A new link does not raise the link count.
    MissingNlinkEdit,
    /// The record that links data is logged before the data is written.
    RecordBeforeData,
    /// A participant of an operation over tablets forgets to apply after a crash.
    PendingIgnored,
    /// A truncation leaves the extents behind the new size.
    TruncateKeepsExtents,
    /// The fold drops the last item of a step.
    FoldDropsItem,
    /// A merge leaves deletion marks out, as if nothing older were left to hide.
    MergeDropsDeletion,
    /// An open numbers its epoch without writing that to the pool first.
    EpochNotClaimed,
    /// A device grows in the superblock without the mark that says the new blocks are nobody's yet.
    /// Not in `ALL`: `appliance/sim/tests/resize.rs` plants it, since only a verifier sees space that is lost.
    GrownWithoutMark,
}

impl Sabotage {
    pub const ALL: &'static [(&'static str, Sabotage)] = &[
        ("skip-flush", Sabotage::SkippedFlush),
        ("drop-record", Sabotage::DroppedRecord),
        ("ack-before-durable", Sabotage::AckBeforeDurable),
        ("replay-off-by-one", Sabotage::ReplayOffByOne),
        ("missing-nlink-edit", Sabotage::MissingNlinkEdit),
        ("record-before-data", Sabotage::RecordBeforeData),
        ("pending-ignored", Sabotage::PendingIgnored),
        ("truncate-keeps-extents", Sabotage::TruncateKeepsExtents),
        ("fold-drops-item", Sabotage::FoldDropsItem),
        ("merge-drops-deletion", Sabotage::MergeDropsDeletion),
        ("reuse-run-early", Sabotage::RunReusedEarly),
        ("epoch-not-claimed", Sabotage::EpochNotClaimed),
    ];

    pub fn by_name(name: &str) -> Option<Sabotage> {
        Self::ALL.iter().find(|(known, _)| *known == name).map(|(_, bug)| *bug)
    }
}

thread_local! {
    static PLANTED: Cell<Option<Sabotage>> = const { Cell::new(None) };
    static TURN: Cell<u64> = const { Cell::new(0) };
}

/// Plants one bug on this thread, or none.
pub fn plant(bug: Option<Sabotage>) {
    PLANTED.set(bug);
    TURN.set(0);
}

pub(crate) fn planted(bug: Sabotage) -> bool {
    PLANTED.get() == Some(bug)
}

/// True for every `n`-th question while `bug` is planted.
pub(crate) fn planted_every(bug: Sabotage, n: u64) -> bool {
    if !planted(bug) {
        return false;
    }
    TURN.set(TURN.get() + 1);
    TURN.get().is_multiple_of(n)
}
