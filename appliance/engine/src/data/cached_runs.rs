//! Runs of device blocks in memory, each in the buffer that it was read or written with.
//!
//! What streams through is kept without a copy: a run shares its buffer, and a read of it is answered
//! with slices of that. A run goes as a whole when the budget needs its room; until then single blocks
//! of it can be forgotten. Runs never overlap: a new one takes the place of those it meets.
//!
//! What is kept keeps its buffer, so while the budget is not reached the next buffers take memory that was
//! not used before, which is slow. So the cache grows only as fast as such memory is made ready.
//!
//! A run costs what its buffer keeps in memory, however much of that it shows. Two runs in one buffer
//! pay for it twice: the budget is never exceeded by what is kept.

use super::buffered::PageData;
use cairn_base::{BLOCK_BYTES, BlockNo, DmaBuf};
use quick_cache::{Lifecycle, Weighter};
use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;

/// Neighbouring blocks in one buffer.
pub struct CachedRun {
    first: u64,
    buf: Arc<DmaBuf>,
    /// Where the first block begins in it.
    at: usize,
    /// One checksum a block; none for what is forgotten.
    crcs: RefCell<Vec<Option<u32>>>,
}

impl CachedRun {
    pub fn find(&self, block: u64, crc: u32) -> Option<PageData> {
        let place = usize::try_from(block.checked_sub(self.first)?).ok()?;
        let is_it = self.crcs.borrow().get(place).is_some_and(|kept| *kept == Some(crc));
        is_it.then(|| PageData::new(&self.buf, self.at + place * BLOCK_BYTES))
    }

    fn end(&self) -> u64 {
        self.first + self.crcs.borrow().len() as u64
    }

    /// False when nothing is left of it.
    fn forget(&self, blocks: std::ops::Range<u64>) -> bool {
        let mut crcs = self.crcs.borrow_mut();
        for (crc, block) in crcs.iter_mut().zip(self.first..) {
            if blocks.contains(&block) {
                *crc = None;
            }
        }
        crcs.iter().any(Option::is_some)
    }
}

#[derive(Clone)]
struct HeldBlocks;

impl Weighter<u64, Rc<CachedRun>> for HeldBlocks {
    fn weight(&self, _: &u64, run: &Rc<CachedRun>) -> u64 {
        (run.buf.held_bytes() / BLOCK_BYTES) as u64
    }
}

/// Says which runs had to go.
#[derive(Clone)]
struct Evicted;

impl Lifecycle<u64, Rc<CachedRun>> for Evicted {
    type RequestState = Vec<u64>;

    fn begin_request(&self) -> Vec<u64> {
        Vec::new()
    }

    fn on_evict(&self, evicted: &mut Vec<u64>, first: u64, _: Rc<CachedRun>) {
        evicted.push(first);
    }
}

type Kept = quick_cache::unsync::Cache<
    u64,
    Rc<CachedRun>,
    HeldBlocks,
    std::hash::BuildHasherDefault<cairn_base::hash::FixedHasher>,
    Evicted,
>;

pub struct CachedRuns {
    kept: RefCell<Kept>,
    /// The first block of each run that is kept, and the one behind its last.
    index: RefCell<BTreeMap<u64, u64>>,
    budget: usize,
    /// Bytes that it may keep for now.
    grown: Cell<usize>,
}

/// It grows to this whatever it costs, and by that much at a time.
const GROWN_FIRST: usize = 64 << 20;
const GROWTH: usize = 16 << 20;

impl CachedRuns {
    pub fn new(budget: usize) -> CachedRuns {
        // Most runs are as long as one READ or WRITE; room in the tables is made as they come in.
        let expected = (budget >> 20).clamp(1, 1 << 10);
        let grown = budget.min(GROWN_FIRST);
        let blocks = (grown / BLOCK_BYTES) as u64;
        let kept = Kept::with(expected, blocks, HeldBlocks, Default::default(), Evicted);
        let (kept, index, grown) = (RefCell::new(kept), RefCell::default(), Cell::new(grown));
        CachedRuns { kept, index, budget, grown }
    }

    pub fn bytes(&self) -> usize {
        self.kept.borrow().weight() as usize * BLOCK_BYTES
    }

    /// Would a run in `buf` be kept at all?
    pub fn has_room_for(&self, buf: &DmaBuf) -> bool {
        buf.held_bytes() <= self.budget / 4
    }

    /// May keep more if it is full, unless that would cost.
    fn grow_for(&self, buf: &DmaBuf) {
        let grown = self.grown.get();
        if grown < self.budget && self.bytes() + buf.held_bytes() > grown && !buf.next_is_cold() {
            let grown = self.budget.min(grown + GROWTH);
            self.grown.set(grown);
            self.kept.borrow_mut().set_capacity((grown / BLOCK_BYTES) as u64);
        }
    }

    /// The run that has `block`.
    pub fn covering(&self, block: u64) -> Option<Rc<CachedRun>> {
        let first = {
            let index = self.index.borrow();
            let (first, end) = index.range(..=block).next_back()?;
            (*end > block).then_some(*first)?
        };
        self.kept.borrow().get(&first).cloned()
    }

    /// Keeps blocks from `first` on, which lie in `buf` from byte `at` on.
    pub fn keep(&self, first: BlockNo, crcs: &[u32], buf: &Arc<DmaBuf>, at: usize) {
        let first = first.raw();
        assert!(at + crcs.len() * BLOCK_BYTES <= buf.len(), "a run lies in its buffer");
        let run = CachedRun {
            first,
            buf: Arc::clone(buf),
            at,
            crcs: RefCell::new(crcs.iter().copied().map(Some).collect()),
        };
        for met in self.overlapping(first..run.end()) {
            self.drop_run(met.first);
        }
        self.grow_for(buf);
        self.index.borrow_mut().insert(first, run.end());
        let evicted = self.kept.borrow_mut().insert_with_lifecycle(first, Rc::new(run));
        let mut index = self.index.borrow_mut();
        for gone in evicted {
            index.remove(&gone);
        }
    }

    pub fn forget(&self, blocks: std::ops::Range<u64>) {
        for run in self.overlapping(blocks.clone()) {
            if !run.forget(blocks.clone()) {
                self.drop_run(run.first);
            }
        }
    }

    fn overlapping(&self, blocks: std::ops::Range<u64>) -> Vec<Rc<CachedRun>> {
        let index = self.index.borrow();
        if index.is_empty() {
            return Vec::new();
        }
        let before = index.range(..blocks.start).next_back();
        let met = before.into_iter().chain(index.range(blocks.clone()));
        let kept = self.kept.borrow();
        met.filter(|(_, end)| **end > blocks.start)
            .filter_map(|(first, _)| kept.peek(first).cloned())
            .collect()
    }

    fn drop_run(&self, first: u64) {
        self.index.borrow_mut().remove(&first);
        self.kept.borrow_mut().remove(&first);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use cairn_base::dma_buf::HugePages;
    use cairn_base::{Arena, DeviceId};

    const MIB: usize = 1 << 20;

    fn at(index: u64) -> BlockNo {
        BlockNo::new(DeviceId(0), index)
    }

    /// Blocks from `index` on, each full of its number's low byte, which is its checksum too.
    fn keep(runs: &CachedRuns, index: u64, blocks: usize) {
        let mut buf = Arena::heap().alloc(blocks * BLOCK_BYTES);
        for (block, bytes) in buf.chunks_exact_mut(BLOCK_BYTES).enumerate() {
            bytes.fill(index as u8 + block as u8);
        }
        let crcs: Vec<u32> = (0..blocks).map(|n| (index as u8 + n as u8).into()).collect();
        runs.keep(at(index), &crcs, &Arc::new(buf), 0);
    }

    fn has(runs: &CachedRuns, index: u64) -> bool {
        let block = at(index).raw();
        let page = runs.covering(block).and_then(|run| run.find(block, (index as u8).into()));
        page.is_some_and(|page| page.iter().all(|byte| *byte == index as u8))
    }

    #[test]
    fn a_block_is_found_in_its_run_by_its_checksum() {
        let runs = CachedRuns::new(8 * MIB);
        keep(&runs, 20, 16);
        assert!((20..36).all(|index| has(&runs, index)));
        assert!(!has(&runs, 19) && !has(&runs, 36));
        let run = runs.covering(at(20).raw()).expect("it is kept");
        assert!(run.find(at(20).raw(), 21).is_none(), "another content");
    }

    #[test]
    fn what_is_forgotten_is_gone_and_the_rest_of_its_run_is_not() {
        let runs = CachedRuns::new(8 * MIB);
        keep(&runs, 20, 16);
        keep(&runs, 36, 16);
        runs.forget(at(30).raw()..at(40).raw());
        let left: Vec<u64> = (0..80).filter(|index| has(&runs, *index)).collect();
        assert_eq!(left, (20..30).chain(40..52).collect::<Vec<_>>());
        runs.forget(at(0).raw()..at(30).raw());
        assert_eq!(runs.bytes(), 16 * BLOCK_BYTES, "an empty run is dropped");
    }

    #[test]
    fn a_new_run_takes_the_place_of_those_it_meets() {
        let runs = CachedRuns::new(8 * MIB);
        keep(&runs, 20, 16);
        keep(&runs, 36, 16);
        keep(&runs, 30, 8);
        let left: Vec<u64> = (0..80).filter(|index| has(&runs, *index)).collect();
        assert_eq!(left, (30..38).collect::<Vec<_>>());
    }

    #[test]
    fn it_keeps_no_more_than_its_budget_and_its_index_follows() {
        let runs = CachedRuns::new(4 * MIB);
        for round in 0..200 {
            keep(&runs, round * 64, 64);
            assert!(runs.bytes() <= 4 * MIB);
            assert_eq!(runs.index.borrow().len(), runs.kept.borrow().len());
        }
        assert!(runs.bytes() >= 3 * MIB);
        let huge = Arena::heap().alloc(2 * MIB);
        assert!(!runs.has_room_for(&huge));
    }

    #[test]
    fn it_grows_no_faster_than_memory_is_made_ready() {
        let (arena, _) = Arena::new(512 << 20, HugePages::Never);
        assert!(arena.warm(1 << 20, |_| 1 << 20), "from now on memory is cold until it is warmed");
        let runs = CachedRuns::new(256 << 20);
        let stream = |from: u64, count: u64| {
            for n in from..from + count {
                let buf = Arc::new(arena.alloc(1 << 20));
                runs.keep(BlockNo::new(DeviceId(0), n << 8), &[7; 256], &buf, 0);
            }
        };
        stream(0, 200);
        assert!(runs.bytes() > GROWN_FIRST / 2 && runs.bytes() <= GROWN_FIRST, "{}", runs.bytes());
        let before = arena.usage().carved_bytes;
        stream(200, 200);
        assert!(arena.usage().carved_bytes <= before, "what went makes room for what comes");
        while arena.warm(4 << 20, |_| 24 << 20) {}
        stream(400, 200);
        assert!(runs.bytes() > GROWN_FIRST, "{}", runs.bytes());
        assert!(runs.bytes() <= GROWN_FIRST + 2 * GROWTH, "{}", runs.bytes());
    }
}
