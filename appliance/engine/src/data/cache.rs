//! Blocks of file data in memory: what was read and verified, and what was just written.
//!
//! The key is the device block. A block is found only by the checksum that the map has for it, and it is
//! forgotten when its device block becomes free, and again before that is written; blocks belong to tablets
//! of this shard, so nobody else writes them. What is cached is the block as the device has it: bytes behind an extent's length
//! count only where the map says so.
//!
//! Long runs stay in the buffers they came in (`cached_runs.rs`), and have most of the budget. Blocks
//! that came in small pieces are copied into buffers of their own, so that none of them holds a large
//! one. Both are given out as shared pages, without a copy.

use super::buffered::PageData;
use super::cached_runs::{CachedRun, CachedRuns};
use cairn_base::dma_buf::HugePages;
use cairn_base::{Arena, BLOCK_BYTES, BlockNo, DmaBuf};
use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;

struct Block {
    crc: u32,
    bytes: Arc<DmaBuf>,
}

type Blocks = quick_cache::unsync::Cache<
    u64,
    Block,
    quick_cache::UnitWeighter,
    std::hash::BuildHasherDefault<cairn_base::hash::FixedHasher>,
>;

pub struct DataCache {
    runs: CachedRuns,
    blocks: RefCell<Blocks>,
    arena: Arena,
}

/// The part of the budget that is for runs.
const RUNS_PART: (usize, usize) = (3, 4);

/// Fewer neighbouring blocks than this are kept one by one.
const RUN_BLOCKS_MIN: usize = 16;

/// Blocks below this live on the heap; more of them in large pages of their own.
const MAPPED_FROM_BYTES: usize = 16 << 20;

/// The run that had the last block; the next block is often in it too.
#[derive(Default)]
pub struct Near(Option<Rc<CachedRun>>);

/// Bytes of a cache that are in the shared buffers, not in its own.
pub const fn runs_bytes(budget: usize) -> usize {
    budget / RUNS_PART.1 * RUNS_PART.0
}

impl DataCache {
    pub fn new(bytes: usize) -> DataCache {
        let own_bytes = bytes - runs_bytes(bytes);
        let most = (own_bytes / BLOCK_BYTES).max(1);
        // Room in the tables is made as blocks come in.
        let expected = most.min(1 << 10);
        let blocks = Blocks::with(
            expected,
            most as u64,
            quick_cache::UnitWeighter,
            Default::default(),
            Default::default(),
        );
        let arena = if own_bytes < MAPPED_FROM_BYTES {
            Arena::heap()
        } else {
            Arena::new(own_bytes, HugePages::Try).0
        };
        DataCache { runs: CachedRuns::new(runs_bytes(bytes)), blocks: RefCell::new(blocks), arena }
    }

    pub fn bytes(&self) -> usize {
        self.runs.bytes() + self.blocks.borrow().len() * BLOCK_BYTES
    }

    /// The block whose checksum is `crc`, if it is here.
    pub fn find(&self, at: BlockNo, crc: u32, near: &mut Near) -> Option<PageData> {
        let block = at.raw();
        if let Some(page) = near.0.as_ref().and_then(|run| run.find(block, crc)) {
            return Some(page);
        }
        if let Some(run) = self.runs.covering(block)
            && let Some(page) = run.find(block, crc)
        {
            near.0 = Some(run);
            return Some(page);
        }
        let blocks = self.blocks.borrow();
        let kept = blocks.get(&block).filter(|kept| kept.crc == crc)?;
        Some(PageData::new(&kept.bytes, 0))
    }

    /// Keeps neighbouring blocks, which lie in `buf` from byte `at` on. As few as are kept one by one
    /// are copied.
    pub fn keep(&self, first: BlockNo, crcs: &[u32], buf: &Arc<DmaBuf>, at: usize) {
        let bytes = crcs.len() * BLOCK_BYTES;
        let shows_most = bytes >= buf.held_bytes() / 2;
        if crcs.len() >= RUN_BLOCKS_MIN && shows_most {
            if self.runs.has_room_for(buf) {
                self.runs.keep(first, crcs, buf, at);
            }
            return;
        }
        let pages = buf[at..at + bytes].chunks_exact(BLOCK_BYTES);
        for (place, (page, crc)) in pages.zip(crcs).enumerate() {
            let mut own = self.arena.alloc(BLOCK_BYTES);
            own.copy_from_slice(page);
            let block = Block { crc: *crc, bytes: Arc::new(own) };
            self.blocks.borrow_mut().insert(first.after(place as u64).raw(), block);
        }
    }

    /// Device blocks from `first` on are about to be written, or have become free.
    pub fn forget(&self, first: BlockNo, blocks: u64) {
        let range = first.raw()..first.raw() + blocks;
        self.runs.forget(range.clone());
        let mut kept = self.blocks.borrow_mut();
        if !kept.is_empty() {
            for block in range {
                kept.remove(&block);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use cairn_base::DeviceId;

    fn at(index: u64) -> BlockNo {
        BlockNo::new(DeviceId(0), index)
    }

    fn full_of(tag: u8, blocks: usize) -> Arc<DmaBuf> {
        let mut buf = Arena::heap().alloc(blocks * BLOCK_BYTES);
        buf.fill(tag);
        Arc::new(buf)
    }

    fn find(cache: &DataCache, index: u64, crc: u32) -> Option<u8> {
        cache.find(at(index), crc, &mut Near::default()).map(|page| page[0])
    }

    #[test]
    fn a_block_answers_only_to_its_checksum_and_until_it_is_forgotten() {
        for blocks in [1, RUN_BLOCKS_MIN] {
            let cache = DataCache::new(1 << 20);
            cache.keep(at(7), &vec![11; blocks], &full_of(5, blocks), 0);
            assert_eq!((find(&cache, 7, 11), find(&cache, 7, 12)), (Some(5), None));
            assert_eq!(cache.bytes(), blocks * BLOCK_BYTES);
            cache.forget(at(7), 1);
            assert_eq!(find(&cache, 7, 11), None);
            assert_eq!(find(&cache, 8, 11).is_some(), blocks > 1);
        }
    }

    #[test]
    fn a_small_piece_does_not_hold_the_buffer_it_came_in() {
        let cache = DataCache::new(64 << 20);
        let buf = full_of(3, 256);
        cache.keep(at(0), &[1; 20], &buf, 0);
        assert_eq!((find(&cache, 19, 1), Arc::strong_count(&buf)), (Some(3), 1));
        cache.keep(at(0), &[1; 256], &buf, 0);
        assert_eq!((find(&cache, 255, 1), Arc::strong_count(&buf)), (Some(3), 2));
    }

    #[test]
    fn it_holds_no_more_than_its_budget() {
        let cache = DataCache::new(256 * BLOCK_BYTES);
        for index in 0..1000 {
            cache.keep(at(index), &[1], &full_of(1, 1), 0);
            cache.keep(at(10_000 + 16 * index), &[1; 16], &full_of(1, 16), 0);
        }
        assert!(cache.bytes() <= 256 * BLOCK_BYTES);
    }

    #[test]
    fn without_a_budget_next_to_nothing_is_kept() {
        let cache = DataCache::new(0);
        cache.keep(at(0), &[1; 256], &full_of(1, 256), 0);
        cache.keep(at(300), &[1; 8], &full_of(1, 8), 0);
        assert!(cache.bytes() <= BLOCK_BYTES);
    }
}
