//! The runs that operations hold, and which of their reservations holds each.
//!
//! A reservation lives on while records take its runs one after the other. What a record took may be
//! freed again in the meantime, grow old enough, and be handed to somebody else. So when the first
//! reservation ends it must know what is still its own: being held by anybody is not enough.

use cairn_base::{BlockNo, Run};
use std::collections::BTreeMap;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HoldId(u64);

/// Who holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Holder {
    /// Something a permit covers.
    Change,
    /// A step of a freeze, a fold or a merge.
    Step,
}

#[derive(Clone, Copy)]
struct Piece {
    blocks: u64,
    id: HoldId,
    holder: Holder,
}

#[derive(Default)]
pub struct Holds {
    pieces: BTreeMap<BlockNo, Piece>,
    begun: u64,
    /// Blocks that changes hold.
    of_changes: u64,
}

impl Holds {
    /// Holds `runs`, which nobody holds.
    pub fn begin(&mut self, runs: &[Run], holder: Holder) -> HoldId {
        self.begun += 1;
        let id = HoldId(self.begun);
        for run in runs {
            assert!(self.within(*run).is_empty(), "{run:?} is held already");
            self.add(*run, id, holder);
        }
        id
    }

    /// Blocks that changes hold; what steps hold is not among them.
    pub fn of_changes(&self) -> u64 {
        self.of_changes
    }

    /// `run`, which one reservation or several hold, is theirs no longer.
    pub fn take(&mut self, run: Run) {
        let held = self.within(run);
        let blocks: u64 = held.iter().map(|(piece, _)| piece.blocks).sum();
        assert_eq!(blocks, run.blocks, "{run:?} is held as a whole");
        for (piece, _) in held {
            self.remove(piece);
        }
    }

    /// Ends what `id` still holds of `run`; gives it.
    pub fn end(&mut self, id: HoldId, run: Run) -> Vec<Run> {
        let own = self.within(run).into_iter().filter(|(_, holder)| *holder == id);
        let own: Vec<Run> = own.map(|(piece, _)| piece).collect();
        own.iter().for_each(|piece| self.remove(*piece));
        own
    }

    /// What `from` still holds of `run` is held by `to` from now on.
    pub fn hand_over(&mut self, from: HoldId, to: HoldId, run: Run) {
        for (piece, id) in self.within(run) {
            if id == from
                && let Some(held) = self.pieces.get(&self.start_of(piece)).copied()
            {
                self.remove(piece);
                self.add(piece, to, held.holder);
            }
        }
    }

    /// The parts of `run` that are held, and by whom.
    fn within(&self, run: Run) -> Vec<(Run, HoldId)> {
        let first = self.start_of(run);
        let pieces = self.pieces.range(first..run.end());
        let parts = pieces.filter_map(|(start, piece)| {
            let from = run.start.max(*start);
            let end = run.end().min(Run::new(*start, piece.blocks).end());
            let blocks = end.index().checked_sub(from.index())?;
            (blocks > 0).then(|| (Run::new(from, blocks), piece.id))
        });
        parts.collect()
    }

    /// Where the piece begins that covers the first block of `run`; that block if there is none.
    fn start_of(&self, run: Run) -> BlockNo {
        let before = self.pieces.range(..=run.start).next_back();
        let covering =
            before.filter(|(start, piece)| Run::new(**start, piece.blocks).contains(run.start));
        covering.map_or(run.start, |(start, _)| *start)
    }

    fn add(&mut self, run: Run, id: HoldId, holder: Holder) {
        self.pieces.insert(run.start, Piece { blocks: run.blocks, id, holder });
        if holder == Holder::Change {
            self.of_changes += run.blocks;
        }
    }

    /// Takes out a run that lies in one piece.
    fn remove(&mut self, run: Run) {
        let start = self.start_of(run);
        let piece = self.pieces.remove(&start).expect("a part of a piece");
        if piece.holder == Holder::Change {
            self.of_changes -= piece.blocks;
        }
        for rest in super::RunSet::without(Run::new(start, piece.blocks), run) {
            self.add(rest, piece.id, piece.holder);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use cairn_base::DeviceId;

    fn run(start: u64, blocks: u64) -> Run {
        Run::new(BlockNo::new(DeviceId(0), start), blocks)
    }

    #[test]
    fn what_was_taken_and_is_held_again_belongs_to_the_second_holder() {
        let mut holds = Holds::default();
        let first = holds.begin(&[run(0, 8)], Holder::Change);
        holds.take(run(2, 4));
        let second = holds.begin(&[run(3, 2)], Holder::Change);
        assert_eq!(holds.of_changes(), 6);
        assert_eq!(holds.end(first, run(0, 8)), [run(0, 2), run(6, 2)]);
        assert_eq!(holds.end(second, run(0, 8)), [run(3, 2)]);
        assert_eq!(holds.of_changes(), 0);
    }

    #[test]
    fn a_record_takes_over_the_border_of_two_holds_and_a_hold_can_be_handed_over() {
        let mut holds = Holds::default();
        let first = holds.begin(&[run(0, 4), run(20, 4)], Holder::Change);
        let second = holds.begin(&[run(4, 4)], Holder::Step);
        holds.take(run(2, 4));
        assert_eq!(holds.of_changes(), 6);
        holds.hand_over(first, second, run(0, 4));
        assert_eq!(holds.end(first, run(0, 30)), [run(20, 4)]);
        assert_eq!(holds.end(second, run(0, 8)), [run(0, 2), run(6, 2)]);
    }

    #[test]
    #[should_panic(expected = "is held as a whole")]
    fn what_nobody_holds_cannot_be_taken() {
        let mut holds = Holds::default();
        holds.begin(&[run(0, 4)], Holder::Change);
        holds.take(run(2, 4));
    }
}
