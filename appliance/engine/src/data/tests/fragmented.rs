//! Looking things up in the map of a file in many pieces, which several trees and a memtable hold
//! together.

use super::super::join::join;
use super::*;
use cairn_format::item::INODE_TRUNCATING;
use std::pin::Pin;

/// A file in many pieces, its map partly in memory and partly in trees, with deletions between.
async fn make_fragmented(shard: &TestShard) -> InodeNo {
    let ino = make_file(shard, 0o644).await;
    let tablet = ino.tablet();
    let mut random = Prng::new(11);
    for turn in 0..600 {
        let at = random.below(300) * 4096;
        let bytes = vec![turn as u8; 4096 * (1 + random.below(4) as usize)];
        write(shard, Cred::root(), ino, (at, &bytes), Stability::FileSync).await.expect("room");
        match turn {
            150 | 300 | 450 | 550 => {
                shard.freeze(tablet).await.expect("the disk works");
                truncate(shard, ino, 200 * 4096).await;
                truncate(shard, ino, 320 * 4096).await;
            }
            500 => while !shard.fold_step(tablet).await.expect("the disk works") {},
            _ => {}
        }
    }
    ino
}

#[test]
fn the_last_item_of_a_range_is_the_one_a_scan_ends_with() {
    let (disk, clock) = formatted();
    on_shard(&disk, &clock, |shard| async move {
        let ino = make_fragmented(&shard).await;
        let tablet = ino.tablet();
        let trees = shard.core.tablet(tablet).root.borrow().log_trees.len();
        assert!(trees >= 2, "the map is in several trees: {trees}");
        let mut found_some = 0;
        for from in 0..320 {
            for end in [from, from + 1, from + 2, from + 9, from + 100] {
                let (from, end) = (Key::extent(ino, from), Key::extent(ino, end));
                let both = shard.read_with(|view| {
                    let mut last = None;
                    view.scan(tablet, from, end, |key, value| {
                        last = Some((key, Box::from(value)));
                        ControlFlow::Continue(())
                    })?;
                    Ok((last, view.last(tablet, from, end)?))
                });
                let (scanned, last) = both.await.expect("readable");
                assert_eq!(scanned, last);
                found_some += usize::from(last.is_some());
            }
        }
        assert!(found_some > 500, "{found_some}");
    });
}

#[test]
fn the_extents_of_any_range_are_those_of_the_whole_map_that_overlap_it() {
    let (disk, clock) = formatted();
    on_shard(&disk, &clock, |shard| async move {
        let ino = make_fragmented(&shard).await;
        let of =
            |range: Range<u64>| shard.read_with(move |view| map::extents(view, ino, range.clone()));
        let all = of(0..1 << 20).await.expect("readable");
        assert!(all.iter().any(|extent| extent.blocks > 1) && all.len() > 20, "{}", all.len());
        for start in 0..330 {
            for blocks in [1, 2, 5, 70] {
                let range = start..start + blocks;
                let overlaps = |extent: &&map::MappedExtent| {
                    extent.first_block < range.end && extent.end_block() > start
                };
                let wanted: Vec<_> = all.iter().filter(overlaps).cloned().collect();
                assert_eq!(of(range.clone()).await.expect("readable"), wanted);
            }
        }
    });
}

#[test]
fn a_truncation_between_the_steps_of_another_leaves_nothing_behind_either_size() {
    let (disk, clock) = formatted();
    on_shard(&disk, &clock, |shard| async move {
        for turns in 0..6 {
            truncate_twice(&shard, turns).await;
        }
    });
}

/// The second truncation comes between the steps of the first, after so many turns.
async fn truncate_twice(shard: &TestShard, turns: usize) {
    let ino = make_file(shard, 0o644).await;
    for block in (0..8000).step_by(2) {
        let page = (block * 4096, &[block as u8; 4096][..]);
        write(shard, Cred::root(), ino, page, Stability::Unstable).await.expect("room");
    }
    commit(shard, ino).await.expect("the disk works");
    let of = |range: Range<u64>| {
        let extents =
            shard.read_with(move |view| Ok(map::extents(view, ino, range.clone())?.len()));
        async move { extents.await.expect("readable") }
    };
    assert_eq!(of(0..8000).await, 4000);
    // Three steps are behind the first size, and five more behind the second.
    assert!(begin_truncation(shard, ino, 5000 * 4096).await);
    let first = async { shard.finish_truncation(ino).await.expect("the rest goes as well") };
    let second = async {
        for _ in 0..turns {
            shard.handle.yield_now().await;
        }
        truncate(shard, ino, 4096).await;
    };
    let both: [Pin<Box<dyn Future<Output = ()>>>; 2] = [Box::pin(first), Box::pin(second)];
    join(2, both).await;
    assert_eq!((of(0..1).await, of(1..8000).await), (1, 0), "after {turns} turns");
    let item = shard.read_with(|view| view.inode(ino)).await.expect("it is there");
    assert_eq!((item.size.get(), item.flags & INODE_TRUNCATING), (4096, 0));
    check_map(shard, ino).await;
}
