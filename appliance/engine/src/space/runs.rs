//! A set of disjoint runs, kept merged, in address order and by length.

use cairn_base::{BlockNo, Run};
use std::collections::{BTreeMap, BTreeSet};

#[derive(Clone, Default)]
pub struct RunSet {
    runs: BTreeMap<BlockNo, u64>,
    by_blocks: BTreeSet<(u64, BlockNo)>,
    blocks: u64,
}

impl RunSet {
    pub fn blocks(&self) -> u64 {
        self.blocks
    }

    /// How many runs there are.
    pub fn len(&self) -> usize {
        self.runs.len()
    }

    pub fn is_empty(&self) -> bool {
        self.runs.is_empty()
    }

    pub fn iter(&self) -> impl DoubleEndedIterator<Item = Run> {
        self.runs.iter().map(|(start, blocks)| Run::new(*start, *blocks))
    }

    /// The shortest run of at least `blocks`.
    pub fn shortest_of(&self, blocks: u64) -> Option<Run> {
        let from = (blocks, BlockNo::from_raw(0));
        self.by_blocks.range(from..).next().map(|(blocks, start)| Run::new(*start, *blocks))
    }

    pub fn longest(&self) -> Option<Run> {
        self.by_blocks.last().map(|(blocks, start)| Run::new(*start, *blocks))
    }

    pub fn longest_first(&self) -> impl Iterator<Item = Run> {
        self.by_blocks.iter().rev().map(|(blocks, start)| Run::new(*start, *blocks))
    }

    /// The first run that begins at or behind `block`.
    pub fn first_from(&self, block: BlockNo) -> Option<Run> {
        self.runs.range(block..).next().map(|(start, blocks)| Run::new(*start, *blocks))
    }

    fn add(&mut self, run: Run) {
        self.runs.insert(run.start, run.blocks);
        self.by_blocks.insert((run.blocks, run.start));
    }

    fn drop_run(&mut self, run: Run) {
        self.runs.remove(&run.start);
        self.by_blocks.remove(&(run.blocks, run.start));
    }

    /// The run that contains `block`.
    pub fn covering(&self, block: BlockNo) -> Option<Run> {
        let (start, blocks) = self.runs.range(..=block).next_back()?;
        let run = Run::new(*start, *blocks);
        run.contains(block).then_some(run)
    }

    pub fn contains(&self, run: Run) -> bool {
        self.covering(run.start).is_some_and(|held| run.end() <= held.end())
    }

    pub fn overlaps(&self, run: Run) -> bool {
        let before = self.runs.range(..run.end()).next_back();
        before.is_some_and(|(start, blocks)| Run::new(*start, *blocks).overlaps(run))
    }

    /// The parts of `run` that are in the set.
    pub fn within(&self, run: Run) -> Vec<Run> {
        let before = self.covering(run.start).map(|held| held.start);
        let from = before.unwrap_or(run.start);
        let held = self.runs.range(from..run.end());
        held.map(|(start, blocks)| {
            let held = Run::new(*start, *blocks);
            let first = held.start.max(run.start);
            let end = held.end().min(run.end());
            Run::new(first, end.index() - first.index())
        })
        .collect()
    }

    /// Adds a run that must not overlap any in the set; merges it with its neighbours. Gives the
    /// merged run and the neighbours it swallowed.
    pub fn insert(&mut self, run: Run) -> (Run, [Option<Run>; 2]) {
        assert!(!self.overlaps(run), "{run:?} is in the set already");
        let mut merged = run;
        let mut swallowed = [None, None];
        if let Some((start, blocks)) = self.runs.range(..run.start).next_back() {
            let before = Run::new(*start, *blocks);
            if before.start.device() == run.start.device() && before.end() == run.start {
                merged = Run::new(before.start, before.blocks + run.blocks);
                swallowed[0] = Some(before);
            }
        }
        let end = run.end();
        if let Some(blocks) = self.runs.get(&end)
            && end.device() == run.start.device()
        {
            swallowed[1] = Some(Run::new(end, *blocks));
            merged.blocks += blocks;
        }
        for run in swallowed.iter().flatten() {
            self.drop_run(*run);
        }
        self.add(merged);
        self.blocks += run.blocks;
        (merged, swallowed)
    }

    /// Takes out a run that must be wholly inside the set. Gives the run it was part of.
    pub fn remove(&mut self, run: Run) -> Run {
        let held = self.covering(run.start).expect("the run is in the set");
        assert!(run.end() <= held.end(), "the run is wholly in the set");
        self.drop_run(held);
        for piece in Self::without(held, run) {
            self.add(piece);
        }
        self.blocks -= run.blocks;
        held
    }

    /// What remains of `held` without `run`, which lies inside it.
    pub fn without(held: Run, run: Run) -> impl Iterator<Item = Run> {
        let before = Run::new(held.start, run.start.index() - held.start.index());
        let after = Run::new(run.end(), held.end().index() - run.end().index());
        [before, after].into_iter().filter(|piece| piece.blocks > 0)
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
    fn neighbours_merge_and_split_again() {
        let mut set = RunSet::default();
        set.insert(run(0, 4));
        set.insert(run(8, 4));
        let (merged, swallowed) = set.insert(run(4, 4));
        assert_eq!((merged, swallowed), (run(0, 12), [Some(run(0, 4)), Some(run(8, 4))]));
        assert_eq!(set.remove(run(5, 2)), run(0, 12));
        assert_eq!(set.iter().collect::<Vec<_>>(), [run(0, 5), run(7, 5)]);
        assert_eq!(set.blocks(), 10);
        assert_eq!((set.shortest_of(2), set.longest()), (Some(run(0, 5)), Some(run(7, 5))));
        assert_eq!((set.shortest_of(6), set.first_from(run(1, 1).start)), (None, Some(run(7, 5))));
    }

    #[test]
    fn runs_of_two_devices_never_merge() {
        let mut set = RunSet::default();
        set.insert(run(0, 4));
        set.insert(Run::new(BlockNo::new(DeviceId(1), 0), 4));
        assert_eq!(set.iter().count(), 2);
    }
}
