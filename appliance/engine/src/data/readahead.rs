//! Reading before it is asked for: files that are read in sequence.
//!
//! A client that reads a file from front to back has some READs on their way, which may overtake each
//! other, so "in sequence" means near the farthest place it came to. After the second such read the
//! blocks behind it are fetched into the cache, in pieces, by a task of their own; the window doubles
//! while that goes on. A READ that comes to a block that is on its way waits for it (`arriving.rs`).
//!
//! What is fetched in vain costs a device read and room in the cache, never an answer: errors are left to
//! whoever asks for the block, and nothing is fetched where there is no cache to speak of.

use super::BLOCK;
use super::blocks_of;
use crate::shard::Shard;
use cairn_base::door::Doors;
use cairn_format::InodeNo;
use std::cell::{Cell, RefCell};
use std::ops::Range;
use std::rc::Rc;

/// Files whose reads are followed.
const FILES_MAX: usize = 1024;
/// A window begins with so many reads and ends at so many blocks.
const WINDOW_READS: u64 = 4;
const WINDOW_BLOCKS_MAX: u64 = (8 << 20) / BLOCK;
/// Reads that may overtake each other.
const REORDERED_READS: u64 = 16;
/// Blocks that are fetched by one read of the map.
const PIECE_BLOCKS: u64 = (1 << 20) / BLOCK;
/// Of the cache, what may be on its way into it.
const CACHE_PART: usize = 8;

/// How one file is read.
#[derive(Clone, Copy)]
struct Stream {
    /// The block behind the farthest one that was asked for.
    next: u64,
    in_sequence: u32,
    window: u64,
    /// The block behind the last one that was fetched ahead.
    ahead: u64,
}

impl Stream {
    fn beginning_at(blocks: &Range<u64>) -> Stream {
        Stream { next: blocks.end, in_sequence: 0, window: 0, ahead: blocks.end }
    }

    /// Takes in a read of `blocks` of a file that ends in front of block `end`. Gives what to fetch.
    fn note(&mut self, blocks: &Range<u64>, end: u64) -> Option<Range<u64>> {
        let len = blocks.end - blocks.start;
        let reach = REORDERED_READS * len;
        if blocks.start + reach < self.next || blocks.start > self.next + reach {
            *self = Stream::beginning_at(blocks);
            return None;
        }
        self.next = self.next.max(blocks.end);
        self.in_sequence += 1;
        if self.in_sequence < 2 {
            return None;
        }
        self.window = (self.window * 2).max(WINDOW_READS * len).min(WINDOW_BLOCKS_MAX);
        let target = (self.next + self.window).min(end);
        let from = self.ahead.max(self.next);
        // Large pieces, but for the last one.
        let worth = target >= from + (self.window / 2).max(1) || (target == end && from < end);
        if !worth {
            return None;
        }
        self.ahead = target;
        Some(from..target)
    }
}

type Files = quick_cache::unsync::Cache<
    u64,
    Stream,
    quick_cache::UnitWeighter,
    std::hash::BuildHasherDefault<cairn_base::hash::FixedHasher>,
>;

/// The files that are being read, and how much is on its way for them.
pub struct Streams {
    files: RefCell<Files>,
    under_way: Cell<usize>,
    under_way_max: usize,
}

impl Streams {
    pub fn new(cache_bytes: usize) -> Streams {
        let most = FILES_MAX as u64;
        let unit = quick_cache::UnitWeighter;
        let files = Files::with(16, most, unit, Default::default(), Default::default());
        Streams {
            files: RefCell::new(files),
            under_way: Cell::new(0),
            under_way_max: cache_bytes / CACHE_PART,
        }
    }

    /// A read of `blocks` of a file of `size` bytes. Gives the blocks that are worth fetching.
    fn note(&self, ino: InodeNo, blocks: &Range<u64>, size: u64) -> Option<Range<u64>> {
        let room = self.under_way_max.saturating_sub(self.under_way.get()) as u64;
        if blocks.is_empty() || room < PIECE_BLOCKS * BLOCK {
            return None;
        }
        let mut files = self.files.borrow_mut();
        if let Some(mut stream) = files.get_mut(&ino.raw()) {
            return stream.note(blocks, blocks_of(0, size).end);
        }
        files.insert(ino.raw(), Stream::beginning_at(blocks));
        None
    }
}

impl<D: Doors> Shard<D> {
    /// Goes ahead of who has just read `blocks`, where that is worth it.
    pub(super) fn read_ahead(self: &Rc<Self>, ino: InodeNo, blocks: &Range<u64>, size: u64) {
        let Some(wanted) = self.core.streams.note(ino, blocks, size) else { return };
        let bytes = ((wanted.end - wanted.start) * BLOCK) as usize;
        let under_way = &self.core.streams.under_way;
        under_way.set(under_way.get() + bytes);
        let shard = Rc::clone(self);
        let fetched = self.gate.spawn(async move {
            let mut at = wanted.start;
            while at < wanted.end && !shard.is_stopping() {
                let end = (at / PIECE_BLOCKS + 1) * PIECE_BLOCKS;
                // Whoever asks for what could not be read is told.
                if shard.fetch_to_cache(ino, at..end.min(wanted.end)).await.is_err() {
                    break;
                }
                at = end;
            }
            let under_way = &shard.core.streams.under_way;
            under_way.set(under_way.get() - bytes);
        });
        if fetched.is_err() {
            // The shard stops: nobody reads any more.
            under_way.set(under_way.get() - bytes);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = PIECE_BLOCKS;

    /// What reads of one MiB at these MiBs have fetched, of a file of 64 MiB.
    fn fetched(reads: impl IntoIterator<Item = u64>) -> Vec<Range<u64>> {
        let mut reads = reads.into_iter().map(|at| at * MIB..(at + 1) * MIB);
        let mut stream = Stream::beginning_at(&reads.next().expect("one read"));
        reads.filter_map(|blocks| stream.note(&blocks, 64 * MIB)).collect()
    }

    #[test]
    fn a_file_read_in_sequence_is_fetched_once_and_ahead() {
        let fetched = fetched(0..60);
        assert_eq!(fetched.first().map(|first| first.start), Some(3 * MIB));
        for (one, next) in fetched.iter().zip(&fetched[1..]) {
            assert_eq!(one.end, next.start);
        }
        assert_eq!(fetched.last().map(|last| last.end), Some(64 * MIB));
    }

    #[test]
    fn reads_that_overtake_each_other_are_a_sequence_too() {
        let shuffled = (0..60).map(|at| (at / 8) * 8 + (at * 5) % 8);
        let fetched = fetched(shuffled.filter(|at| *at < 60));
        let blocks: u64 = fetched.iter().map(|range| range.end - range.start).sum();
        assert!(fetched.len() > 5 && blocks > 40 * MIB, "{fetched:?}");
        assert!(fetched.iter().zip(&fetched[1..]).all(|(one, next)| one.end <= next.start));
    }

    #[test]
    fn scattered_reads_fetch_nothing() {
        assert!(fetched((0..40).map(|n| (n * 23) % 64)).is_empty());
    }

    #[test]
    fn nothing_is_fetched_behind_the_end_or_without_a_cache() {
        let streams = Streams::new(256 << 20);
        let size = 5 * BLOCK + 1;
        for block in 0..2 {
            assert!(streams.note(InodeNo::ROOT, &(block..block + 1), size).is_none());
        }
        assert_eq!(streams.note(InodeNo::ROOT, &(2..3), size), Some(3..6));
        assert_eq!(streams.note(InodeNo::ROOT, &(3..4), size), None);
        let none = Streams::new(0);
        let mut noted = (0..9).filter_map(|n| none.note(InodeNo::ROOT, &(n..n + 1), 1 << 30));
        assert_eq!(noted.next(), None);
    }
}
