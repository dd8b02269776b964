//! What a tablet's log trees want next: that the oldest folds, that some of them merge, or nothing.
//!
//! A fold rewrites the leaves of the fs tree that its keys fall into, which for keys all over it is the
//! whole fs tree, however small the log tree. So the oldest waits until it is an eighth of the fs tree: an
//! item then costs a fold nine written at most. Until then log trees may not become too many for readers,
//! so neighbours merge, and an item is written again by each merge it goes through.
//!
//! Where the fs tree is so small that the fold writes no more than the merge, it folds.
//!
//! To keep merges few, a merge always takes the youngest tree and all up to some older one, and which one
//! that is decides where the row of sizes is least steep: the tree that is smallest beside all younger
//! ones together. That keeps the row steep. With at most k trees in it, an item goes through about
//! (k! n)^(1/k) merges while n memtables come, ten with k = 4 and a thousand memtables; always merging the cheapest
//! neighbours takes five times that, as it ends with one large tree behind three tiny ones.
//!
//! Trees that a fold or merge is at are left alone. Younger ones that come meanwhile may merge among
//! themselves, so that a long merge does not make readers, or the next freeze, wait for it.

use crate::limits::{FOLD_NODES_EAGER, FOLD_SHARE, LOG_TREES_FOLD, MERGE_BESIDE_MIN};
use std::ops::Range;

/// One log tree, as far as the choice goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TreeSize {
    pub nodes: u64,
    /// A fold or a merge is at it.
    pub busy: bool,
}

/// Whether the tablet may begin a merge.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MayMerge {
    Now,
    /// When others have ended.
    Later,
    /// There is no space for it, or another limit is in its way: folding has to do.
    No,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Begin {
    Fold,
    Merge(Range<usize>),
}

/// What to begin, beside what is under way. `trees` come oldest first.
pub fn choose(trees: &[TreeSize], fs_nodes: u64, may_merge: MayMerge) -> Option<Begin> {
    let oldest = trees.first()?;
    let has_share = !oldest.busy && oldest.nodes * FOLD_SHARE >= fs_nodes;
    if has_share && oldest.nodes >= FOLD_NODES_EAGER {
        return Some(Begin::Fold);
    }
    if trees.len() <= LOG_TREES_FOLD {
        return None;
    }
    let younger: u64 = trees[1..].iter().map(|tree| tree.nodes).sum();
    // A small one first takes the younger ones in: one fold for all of them.
    if has_share && oldest.nodes >= younger {
        return Some(Begin::Fold);
    }
    let merge = merge_of(trees);
    let cost = |range: &Range<usize>| trees[range.clone()].iter().map(|tree| tree.nodes).sum();
    if !oldest.busy && merge.as_ref().is_some_and(|range| oldest.nodes + fs_nodes <= cost(range)) {
        return Some(Begin::Fold);
    }
    match may_merge {
        MayMerge::Now => merge.map(Begin::Merge),
        MayMerge::Later => None,
        MayMerge::No => (!oldest.busy).then_some(Begin::Fold),
    }
}

/// The youngest trees, down to the one that is smallest beside all that are younger.
fn merge_of(trees: &[TreeSize]) -> Option<Range<usize>> {
    let first = trees.iter().rposition(|tree| tree.busy).map_or(0, |busy| busy + 1);
    let least = if first > 0 { MERGE_BESIDE_MIN } else { 2 };
    if trees.len() - first < least {
        return None;
    }
    let mut younger = u128::from(trees.last()?.nodes);
    let mut best: Option<(usize, u128, u128)> = None;
    for at in (first..trees.len() - 1).rev() {
        let nodes = u128::from(trees[at].nodes);
        if best.is_none_or(|(_, n, beside)| nodes * beside <= n * younger) {
            best = Some((at, nodes, younger));
        }
        younger += nodes;
    }
    best.map(|(from, _, _)| from..trees.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn trees(sizes: &[u64]) -> Vec<TreeSize> {
        sizes.iter().map(|nodes| TreeSize { nodes: *nodes, busy: false }).collect()
    }

    fn busy(sizes: &[u64], at: Range<usize>) -> Vec<TreeSize> {
        let mut trees = trees(sizes);
        trees[at].iter_mut().for_each(|tree| tree.busy = true);
        trees
    }

    fn now(sizes: &[u64], fs: u64) -> Option<Begin> {
        choose(&trees(sizes), fs, MayMerge::Now)
    }

    #[test]
    fn few_trees_are_left_alone_until_the_oldest_is_an_eighth_of_the_fs_tree() {
        assert_eq!(now(&[], 0), None);
        assert_eq!(now(&[9, 9, 9, 9], 1000), None);
        assert_eq!(now(&[125, 9], 1001), None);
        assert_eq!(now(&[125, 9], 1000), Some(Begin::Fold));
    }

    #[test]
    fn too_many_merge_where_their_sizes_are_least_steep() {
        assert_eq!(now(&[1, 1, 1, 1, 1], 1000), Some(Begin::Merge(0..5)));
        assert_eq!(now(&[64, 16, 4, 4, 1], 10_000), Some(Begin::Merge(2..5)));
        assert_eq!(now(&[60, 9, 3, 1, 1], 10_000), Some(Begin::Merge(3..5)));
        assert_eq!(now(&[20, 60, 3, 1, 1], 10_000), Some(Begin::Merge(0..5)));
    }

    #[test]
    fn a_small_oldest_takes_the_younger_ones_in_before_it_folds() {
        assert_eq!(now(&[1, 1, 1, 1, 1], 5), Some(Begin::Merge(0..5)));
        assert_eq!(now(&[5, 1, 1, 1, 1], 40), Some(Begin::Fold));
        assert_eq!(now(&[5, 1, 1, 1, 1], 41), Some(Begin::Merge(1..5)));
    }

    #[test]
    fn where_the_fs_tree_is_so_small_that_a_fold_costs_no_more_than_a_merge_it_folds() {
        assert_eq!(now(&[1, 1, 1, 1, 1], 0), Some(Begin::Fold));
        assert_eq!(now(&[1, 1, 1, 1, 1], 4), Some(Begin::Fold));
        assert_eq!(now(&[9, 70, 30, 20, 10], 30), Some(Begin::Fold));
    }

    #[test]
    fn what_is_under_way_is_left_alone_and_younger_trees_merge_beside_it() {
        let fs = 10_000;
        let busy_first = |sizes: &[u64], at| choose(&busy(sizes, at), fs, MayMerge::Now);
        assert_eq!(busy_first(&[900, 9, 9, 3, 1], 0..1), Some(Begin::Merge(1..5)));
        assert_eq!(busy_first(&[900, 40, 9, 3, 1], 0..3), None);
        assert_eq!(busy_first(&[900, 40, 9, 1, 1, 1], 0..3), Some(Begin::Merge(3..6)));
        assert_eq!(busy_first(&[2000, 900, 9, 3, 1, 1], 1..4), Some(Begin::Fold));
    }

    #[test]
    fn where_nothing_may_merge_the_oldest_folds_and_where_it_may_later_nothing_does() {
        let five = trees(&[1, 1, 1, 1, 1]);
        assert_eq!(choose(&five, 1000, MayMerge::No), Some(Begin::Fold));
        assert_eq!(choose(&five, 1000, MayMerge::Later), None);
        assert_eq!(choose(&busy(&[1; 5], 0..1), 1000, MayMerge::No), None);
        assert_eq!(choose(&five[1..], 1000, MayMerge::No), None);
    }

    /// Nodes written for each node that came, when every key is as likely as any other.
    fn written_per_node(memtables: u64, nodes: u64, mut fs: u64) -> f64 {
        let (mut sizes, mut written) = (Vec::new(), 0);
        for _ in 0..memtables {
            sizes.push(nodes);
            while let Some(begin) = now(&sizes, fs) {
                match begin {
                    Begin::Fold => {
                        let oldest = sizes.remove(0);
                        written += oldest + fs.min(oldest * 100);
                        fs += oldest;
                    }
                    Begin::Merge(range) => {
                        let merged: u64 = sizes[range.clone()].iter().sum();
                        sizes.splice(range, [merged]);
                        written += merged;
                    }
                }
            }
            assert!(sizes.len() <= LOG_TREES_FOLD, "{sizes:?}");
        }
        written as f64 / (memtables * nodes) as f64
    }

    #[test]
    fn a_node_is_written_a_bounded_number_of_times_however_large_the_fs_tree() {
        for (memtables, nodes, fs) in
            [(500, 1, 0), (500, 1, 1000), (2000, 1, 10_000), (500, 50, 10_000), (100, 200, 1000)]
        {
            let written = written_per_node(memtables, nodes, fs);
            assert!(written < 16.0, "{memtables} of {nodes} into {fs}: {written}");
        }
    }
}
