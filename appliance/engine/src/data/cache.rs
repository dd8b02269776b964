//! Blocks of file data in memory: what was read and verified, and what was just written.
//!
//! The key is the device block. An entry answers only when its checksum is the one the map has for
//! the block, and it is dropped before its device block is written again; blocks belong to tablets of
//! this shard, so nobody else writes them. What is cached is the block as the device has it: bytes
//! behind an extent's length count only where the map says so.

use cairn_base::dma_buf::HugePages;
use cairn_base::{Arena, BLOCK_BYTES, BlockNo, DmaBuf};
use std::cell::RefCell;

struct Block {
    crc: u32,
    bytes: DmaBuf,
}

type Kept = quick_cache::unsync::Cache<
    u64,
    Block,
    quick_cache::UnitWeighter,
    std::hash::BuildHasherDefault<cairn_base::hash::FixedHasher>,
>;

pub struct DataCache {
    kept: RefCell<Kept>,
    arena: Arena,
}

/// Caches below this live on the heap; larger ones in large pages of their own.
const MAPPED_FROM_BYTES: usize = 16 << 20;

impl DataCache {
    pub fn new(bytes: usize) -> DataCache {
        let blocks = (bytes / BLOCK_BYTES).max(1);
        // Room in the tables is made as blocks come in.
        let expected = blocks.min(1 << 10);
        let kept = Kept::with(
            expected,
            blocks as u64,
            quick_cache::UnitWeighter,
            Default::default(),
            Default::default(),
        );
        let arena = if bytes < MAPPED_FROM_BYTES {
            Arena::heap()
        } else {
            Arena::new(blocks * BLOCK_BYTES, HugePages::Try).0
        };
        DataCache { kept: RefCell::new(kept), arena }
    }

    pub fn bytes(&self) -> usize {
        self.kept.borrow().len() * BLOCK_BYTES
    }

    pub fn has(&self, at: BlockNo, crc: u32) -> bool {
        self.kept.borrow().peek(&at.raw()).is_some_and(|block| block.crc == crc)
    }

    /// Copies the block to `out`, if it is here.
    pub fn copy(&self, at: BlockNo, crc: u32, out: &mut [u8]) -> bool {
        let kept = self.kept.borrow();
        let Some(block) = kept.get(&at.raw()).filter(|block| block.crc == crc) else {
            return false;
        };
        out.copy_from_slice(&block.bytes);
        true
    }

    /// Keeps a block whose checksum is `crc`.
    pub fn keep(&self, at: BlockNo, crc: u32, bytes: &[u8]) {
        assert_eq!(bytes.len(), BLOCK_BYTES, "whole blocks are kept");
        let mut buf = self.arena.alloc(BLOCK_BYTES);
        buf.copy_from_slice(bytes);
        self.kept.borrow_mut().insert(at.raw(), Block { crc, bytes: buf });
    }

    /// The device block is about to be written.
    pub fn forget(&self, at: BlockNo) {
        self.kept.borrow_mut().remove(&at.raw());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use cairn_base::DeviceId;

    #[test]
    fn a_block_answers_only_to_its_checksum_and_until_it_is_forgotten() {
        let cache = DataCache::new(1 << 20);
        let at = BlockNo::new(DeviceId(0), 7);
        cache.keep(at, 11, &[5; BLOCK_BYTES]);
        let mut out = [0; BLOCK_BYTES];
        assert!(!cache.copy(at, 12, &mut out) && !cache.has(at, 12));
        assert!(cache.copy(at, 11, &mut out) && cache.has(at, 11));
        assert_eq!((out[0], cache.bytes()), (5, BLOCK_BYTES));
        cache.forget(at);
        assert!(!cache.copy(at, 11, &mut out));
    }

    #[test]
    fn it_holds_no_more_than_its_budget() {
        let cache = DataCache::new(16 * BLOCK_BYTES);
        for index in 0..1000 {
            cache.keep(BlockNo::new(DeviceId(0), index), 1, &[0; BLOCK_BYTES]);
        }
        assert!(cache.bytes() <= 16 * BLOCK_BYTES);
    }
}
