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
    /// The high-water mark of inode numbers stays where it was.
    InodeNumbersReturn,
    /// A participant applies its part each time that it is asked to.
    PartAppliedTwice,
    /// Participants apply before the coordinator's record is durable.
    ApplyBeforeCommit,
    /// A participant shows an inode without locking it.
    LockNotTaken,
    /// A directory may be moved below itself.
    MovedIntoItself,
    /// A change leaves the old index entry where it was.
    IndexEntryLeft,
    /// A batch says that it has been acknowledged itself.
    MarkTooHigh,
    /// A flush that failed counts as one that worked.
    FailedFlushForgiven,
    /// A batch is acknowledged though an earlier one is not durable.
    AckOutOfOrder,
    /// Of two log trees the older one answers.
    OldestAnswers,
    /// A filter leaves out the first name.
    FilterOmitsName,
    /// A log tree is said to hold what was logged while it was written.
    ReplayTooLate,
    /// A log tree is said to hold nothing as new as it does.
    TreeSaidToBeOld,
    /// The record that takes blocks leaves them in the free runs.
    TakenRunStaysFree,
    /// Data is returned whatever its checksum says.
    ChecksumSkipped,
    /// A node is believed whatever its parent's reference says.
    NodeUnverified,
    /// Bytes behind the length of an extent show.
    TailShows,
    /// The record that links data does not carry the size.
    SizeNotCarried,
    /// An open begins its seqs without regard to the ceilings of the logs.
    CeilingIgnored,
    /// What is stable is said without regard to batches that are not durable.
    StableTooHigh,
    /// A file that loses its last name is not noted as an orphan.
    OrphanForgotten,
    /// A file is removed without a note for archive agents.
    DeletionForgotten,
    /// A call that is asked again is carried out again.
    AnsweredAnew,
    /// A moved name leaves its back reference where it was.
    BackReferenceLeft,
    /// Staged bytes go online whatever their sum is.
    StageUnchecked,
    /// A stage replaces blocks that are online.
    StageOverOnline,
    /// A file is released and staged by any version.
    ReleaseOfAnyVersion,
    /// Offline data reads as zeros.
    OfflineReadsZeros,
    /// Staged blocks can be read before the rest of their MiB has come.
    StagedShownEarly,
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
        ("inode-numbers-return", Sabotage::InodeNumbersReturn),
        ("part-applied-twice", Sabotage::PartAppliedTwice),
        ("apply-before-commit", Sabotage::ApplyBeforeCommit),
        ("lock-not-taken", Sabotage::LockNotTaken),
        ("moved-into-itself", Sabotage::MovedIntoItself),
        ("index-entry-left", Sabotage::IndexEntryLeft),
        ("mark-too-high", Sabotage::MarkTooHigh),
        ("failed-flush-forgiven", Sabotage::FailedFlushForgiven),
        ("ack-out-of-order", Sabotage::AckOutOfOrder),
        ("oldest-answers", Sabotage::OldestAnswers),
        ("filter-omits-name", Sabotage::FilterOmitsName),
        ("replay-too-late", Sabotage::ReplayTooLate),
        ("tree-said-to-be-old", Sabotage::TreeSaidToBeOld),
        ("taken-run-stays-free", Sabotage::TakenRunStaysFree),
        ("checksum-skipped", Sabotage::ChecksumSkipped),
        ("node-unverified", Sabotage::NodeUnverified),
        ("tail-shows", Sabotage::TailShows),
        ("size-not-carried", Sabotage::SizeNotCarried),
        ("ceiling-ignored", Sabotage::CeilingIgnored),
        ("stable-too-high", Sabotage::StableTooHigh),
        ("orphan-forgotten", Sabotage::OrphanForgotten),
        ("deletion-forgotten", Sabotage::DeletionForgotten),
        ("answered-anew", Sabotage::AnsweredAnew),
        ("back-reference-left", Sabotage::BackReferenceLeft),
        ("stage-unchecked", Sabotage::StageUnchecked),
        ("stage-over-online", Sabotage::StageOverOnline),
        ("release-of-any-version", Sabotage::ReleaseOfAnyVersion),
        ("offline-reads-zeros", Sabotage::OfflineReadsZeros),
        ("staged-shown-early", Sabotage::StagedShownEarly),
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
