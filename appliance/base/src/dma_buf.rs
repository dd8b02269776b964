//! Memory that devices read and write: one arena, and the buffers it hands out.
//!
//! Payload bytes go from a socket to a disk and back without being copied, so they live where both
//! can reach them: in 4 KiB-aligned buffers, by preference inside one mapping of 2 MiB pages, which
//! keeps the kernel's page pinning cheap and can later be mapped once for a device. Buffers come in a
//! few size classes. A class owns nothing at first; the mapping is carved as buffers are asked for
//! and a freed buffer waits on the free list of its class. So the mapping takes the shape of the
//! load, and it is never cut smaller: an arena that met its peak load once serves it again.
//!
//! An allocation cannot fail. What does not fit the mapping, or is larger than the largest class,
//! comes from the heap with the same alignment and is counted, since a busy daemon that lives from
//! the heap has an arena that is too small. Pages are touched when they are first used, not at
//! start: an embedded daemon stays small.
//!
//! The first touch of a page costs more than a copy of it, since the kernel zeroes it. Another thread may
//! pay for that in advance (`Arena::warm`), a little ahead of what is carved, and whoever can do with
//! fewer buffers asks whether the next one would be cold (`DmaBuf::next_is_cold`).
//!
//! Where memory is short (`Arena::within`), an arena keeps no more pages than it was told, as far as its
//! buffers allow: above that, chunks that wait for their next use give their pages back to the kernel,
//! and get zeroed ones when they are used again. Where every page counts, pages are small ones, since a
//! large page stays whole for one chunk of it.
//!
//! What always holds, and what the unsafe code here rests on:
//! - a chunk of the mapping is in exactly one place: not carved yet, on one free list, or inside
//!   one `DmaBuf`; so a `DmaBuf` is the only way to its bytes, and may move between threads;
//! - every byte is initialised before a buffer is first handed out (the kernel maps zeroed pages,
//!   the heap is asked for zeroed memory), though `alloc` may return bytes of an earlier use;
//! - the mapping lives until the last handle and the last buffer are gone.
//!
//! A device writes only to a `DmaBuf` it was given by value, so no `&[u8]` to it exists meanwhile
//! (`ring.rs` keeps it until the kernel has answered). A device may read from a `DmaSlice` that
//! others read too: shared buffers are immutable.

use crate::units::BLOCK_BYTES;
use crossbeam_queue::ArrayQueue;
use memmap2::{Advice, MmapMut, MmapOptions, MmapRaw, UncheckedAdvice};
use std::alloc::{Layout, alloc_zeroed, dealloc, handle_alloc_error};
use std::fmt;
use std::ops::{Deref, DerefMut, Range};
use std::ptr::NonNull;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

const HUGE_PAGE_BITS: u8 = 21;
const HUGE_PAGE_BYTES: usize = 1 << HUGE_PAGE_BITS;

/// Node, small I/O, large node or cluster, log write, and one maximal NFS payload with its header.
const CLASS_BYTES: [usize; 5] = [4 << 10, 16 << 10, 64 << 10, 256 << 10, (1 << 20) + (64 << 10)];

const _: () = assert!(CLASS_BYTES[0] == BLOCK_BYTES);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HugePages {
    Try,
    Never,
}

/// What the arena's memory turned out to be, so that whoever made it can say so once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Backing {
    /// Reserved 2 MiB pages.
    HugeTlb,
    /// Ordinary memory, aligned so that the kernel may use 2 MiB pages, and asked to.
    Transparent,
    /// 4 KiB pages.
    Small,
    /// No mapping at all: every buffer comes from the heap.
    Heap,
}

/// What an arena holds, for metrics.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    pub mapped_bytes: u64,
    /// Bytes of the mapping that have been handed out at least once.
    pub carved_bytes: u64,
    /// Bytes of the mapping in chunks that have pages: used now, or waiting with their pages.
    pub resident_bytes: u64,
    /// Those of them that wait.
    pub idle_bytes: u64,
    /// Heap bytes inside live buffers.
    pub heap_bytes: u64,
    /// How often the heap had to help, ever.
    pub heap_allocs: u64,
}

/// A cheap handle to one pool of buffers, for any thread.
#[derive(Clone)]
pub struct Arena {
    pool: Arc<Pool>,
}

struct Pool {
    map: Option<Map>,
    /// Blocks of the mapping below this one have been carved.
    carved_blocks: AtomicUsize,
    /// Blocks below this one have pages; without anybody who warms, all count as such.
    warm_blocks: AtomicUsize,
    /// By class: the first block of each chunk that waits for its next use.
    free: [ArrayQueue<usize>; CLASS_BYTES.len()],
    /// By class: chunks that wait without pages.
    bare: [ArrayQueue<usize>; CLASS_BYTES.len()],
    /// Bytes of chunks that have pages, and how many there should be at most.
    resident_bytes: AtomicUsize,
    resident_bytes_max: usize,
    heap_bytes: AtomicU64,
    heap_allocs: AtomicU64,
}

struct Map {
    raw: MmapRaw,
    /// Bytes skipped at the front for alignment.
    start: usize,
    blocks: usize,
}

impl Arena {
    pub fn new(bytes: usize, huge: HugePages) -> (Arena, Backing) {
        match Map::new(bytes, huge) {
            Some((map, backing)) => (Arena::over(Some(map), usize::MAX), backing),
            None => (Arena::heap(), Backing::Heap),
        }
    }

    /// Keeps pages for no more than `resident_bytes_max`, unless its buffers need them. The mapping has
    /// twice that room, since chunks of one size do not become chunks of another.
    pub fn within(resident_bytes_max: usize, huge: HugePages) -> (Arena, Backing) {
        match Map::new(2 * resident_bytes_max, huge) {
            Some((map, backing)) => (Arena::over(Some(map), resident_bytes_max), backing),
            None => (Arena::heap(), Backing::Heap),
        }
    }

    /// Without a mapping: for the simulator, for tools and for tests. Every buffer is zeroed.
    pub fn heap() -> Arena {
        Arena::over(None, usize::MAX)
    }

    fn over(map: Option<Map>, resident_bytes_max: usize) -> Arena {
        let blocks = map.as_ref().map_or(0, |map| map.blocks);
        // As many places as the class could ever have chunks, so a list is never full.
        let list =
            |blocks: usize, bytes: usize| ArrayQueue::new((blocks / (bytes / BLOCK_BYTES)).max(1));
        let gives_back = if resident_bytes_max == usize::MAX { 0 } else { blocks };
        let pool = Pool {
            map,
            carved_blocks: AtomicUsize::new(0),
            warm_blocks: AtomicUsize::new(usize::MAX),
            free: CLASS_BYTES.map(|bytes| list(blocks, bytes)),
            bare: CLASS_BYTES.map(|bytes| list(gives_back, bytes)),
            resident_bytes: AtomicUsize::new(0),
            resident_bytes_max,
            heap_bytes: AtomicU64::new(0),
            heap_allocs: AtomicU64::new(0),
        };
        Arena { pool: Arc::new(pool) }
    }

    /// At least `bytes`, rounded up to whole blocks (at least one). The contents are whatever an
    /// earlier user left.
    pub fn alloc(&self, bytes: usize) -> DmaBuf {
        let len = bytes.max(1).next_multiple_of(BLOCK_BYTES);
        self.chunk(len).unwrap_or_else(|| self.heap_buf(len))
    }

    pub fn alloc_zeroed(&self, bytes: usize) -> DmaBuf {
        let mut buf = self.alloc(bytes);
        if let Home::Chunk { .. } = buf.home {
            buf.fill(0);
        }
        buf
    }

    pub fn usage(&self) -> Usage {
        let pool = &*self.pool;
        let carved = pool.carved_blocks.load(Ordering::Relaxed);
        Usage {
            mapped_bytes: pool.map.as_ref().map_or(0, |map| (map.blocks * BLOCK_BYTES) as u64),
            carved_bytes: (carved * BLOCK_BYTES) as u64,
            resident_bytes: pool.resident_bytes.load(Ordering::Relaxed) as u64,
            idle_bytes: pool.free.iter().zip(CLASS_BYTES).map(|(f, b)| f.len() * b).sum::<usize>()
                as u64,
            heap_bytes: pool.heap_bytes.load(Ordering::Relaxed),
            heap_allocs: pool.heap_allocs.load(Ordering::Relaxed),
        }
    }

    /// Lets the kernel make pages for the part of the mapping that comes next, as much of it at once as
    /// `bytes`, and up to `ahead` in front of what is carved. True when it did something.
    ///
    /// Called again and again, by one thread that nobody waits for.
    pub fn warm(&self, bytes: usize, ahead: impl Fn(usize) -> usize) -> bool {
        let pool = &*self.pool;
        let Some(map) = &pool.map else { return false };
        let carved = pool.carved_blocks.load(Ordering::Relaxed);
        let warm = match pool.warm_blocks.load(Ordering::Relaxed) {
            usize::MAX => 0,
            warm => warm,
        };
        let from = warm.max(carved);
        let wanted = carved.saturating_add(ahead(carved * BLOCK_BYTES) / BLOCK_BYTES);
        let most = map.blocks.min(pool.resident_bytes_max / BLOCK_BYTES);
        let to = wanted.min(from + bytes / BLOCK_BYTES).min(most);
        if to <= from {
            pool.warm_blocks.store(from, Ordering::Relaxed);
            return false;
        }
        let is_warm = map.populate(from, to - from);
        // A kernel that does not know this touches pages when they are used, like without us.
        pool.warm_blocks.store(if is_warm { to } else { usize::MAX }, Ordering::Relaxed);
        is_warm
    }

    fn chunk(&self, len: usize) -> Option<DmaBuf> {
        let map = self.pool.map.as_ref()?;
        let class = CLASS_BYTES.iter().position(|&bytes| len <= bytes)?;
        let block = match self.pool.free[class].pop() {
            Some(block) => block,
            None => {
                let block = match self.pool.bare[class].pop() {
                    Some(block) => block,
                    None => self.pool.carve(CLASS_BYTES[class] / BLOCK_BYTES, map.blocks)?,
                };
                self.pool.resident_bytes.fetch_add(CLASS_BYTES[class], Ordering::Relaxed);
                self.pool.thin_out(map);
                block
            }
        };
        let home = Home::Chunk { class, block };
        Some(DmaBuf { start: map.block_start(block), len, home, pool: self.pool.clone() })
    }

    fn heap_buf(&self, len: usize) -> DmaBuf {
        let layout = heap_layout(len);
        // SAFETY: the layout's size is at least one block, so it is not zero.
        let start = unsafe { alloc_zeroed(layout) };
        let start = NonNull::new(start).unwrap_or_else(|| handle_alloc_error(layout));
        self.pool.heap_bytes.fetch_add(len as u64, Ordering::Relaxed);
        self.pool.heap_allocs.fetch_add(1, Ordering::Relaxed);
        DmaBuf { start, len, home: Home::Heap { start, bytes: len }, pool: self.pool.clone() }
    }
}

impl Pool {
    fn carve(&self, blocks: usize, map_blocks: usize) -> Option<usize> {
        let grow = |carved: usize| Some(carved + blocks).filter(|&end| end <= map_blocks);
        // Relaxed: only the number itself is shared, a chunk's bytes are zero since the mapping.
        self.carved_blocks.fetch_update(Ordering::Relaxed, Ordering::Relaxed, grow).ok()
    }

    fn next_is_cold(&self, class: usize) -> bool {
        let end = self.carved_blocks.load(Ordering::Relaxed) + CLASS_BYTES[class] / BLOCK_BYTES;
        self.free[class].is_empty() && end > self.warm_blocks.load(Ordering::Relaxed)
    }

    fn has_too_many_pages(&self) -> bool {
        self.resident_bytes.load(Ordering::Relaxed) > self.resident_bytes_max
    }

    /// Gives pages of waiting chunks back, largest first, until there are few enough.
    fn thin_out(&self, map: &Map) {
        for class in (0..CLASS_BYTES.len()).rev() {
            while self.has_too_many_pages() {
                let Some(block) = self.free[class].pop() else { break };
                self.give_back(map, class, block);
            }
        }
    }

    /// The chunk is in no buffer and on no list.
    fn give_back(&self, map: &Map, class: usize, block: usize) {
        let list = if map.forget(block, CLASS_BYTES[class]) {
            self.resident_bytes.fetch_sub(CLASS_BYTES[class], Ordering::Relaxed);
            &self.bare[class]
        } else {
            &self.free[class]
        };
        assert!(list.push(block).is_ok(), "a list has room for every chunk of its class");
    }
}

impl Map {
    fn new(bytes: usize, huge: HugePages) -> Option<(Map, Backing)> {
        let bytes = bytes.next_multiple_of(HUGE_PAGE_BYTES);
        if bytes == 0 {
            return None;
        }
        if huge == HugePages::Never {
            let map = MmapOptions::new().len(bytes).map_anon().ok()?;
            // Refused where the kernel has no large pages: then there are none to be refused.
            let _ = map.advise(Advice::NoHugePage);
            return Some((Map::over(map, 0, bytes), Backing::Small));
        }
        let reserved = MmapOptions::new().len(bytes).huge(Some(HUGE_PAGE_BITS)).map_anon();
        if let Ok(map) = reserved {
            return Some((Map::over(map, 0, bytes), Backing::HugeTlb));
        }
        // The kernel aligns to 4 KiB only, and uses large pages where they are aligned.
        let map = MmapOptions::new().len(bytes + HUGE_PAGE_BYTES).map_anon().ok()?;
        let start = map.as_ptr().align_offset(HUGE_PAGE_BYTES);
        let backing = match map.advise_range(Advice::HugePage, start, bytes) {
            Ok(()) => Backing::Transparent,
            Err(_) => Backing::Small, // a kernel without large pages; the memory is as good
        };
        Some((Map::over(map, start, bytes), backing))
    }

    fn over(map: MmapMut, start: usize, bytes: usize) -> Map {
        Map { raw: map.into(), start, blocks: bytes / BLOCK_BYTES }
    }

    /// Lets go of the pages behind a chunk that nobody uses. False where the kernel refuses.
    fn forget(&self, block: usize, bytes: usize) -> bool {
        assert!((block + bytes / BLOCK_BYTES) <= self.blocks);
        let offset = self.start + block * BLOCK_BYTES;
        // SAFETY: the range is inside the mapping, and its chunk is in no `DmaBuf` and on no list (the
        // caller has just taken it off), so there is no reference to its bytes; private memory without
        // a file reads as zeros afterwards, which is initialised.
        let done =
            unsafe { self.raw.unchecked_advise_range(UncheckedAdvice::DontNeed, offset, bytes) };
        done.is_ok()
    }

    /// False where the kernel cannot, or has no memory left.
    fn populate(&self, block: usize, blocks: usize) -> bool {
        let offset = self.start + block * BLOCK_BYTES;
        self.raw.advise_range(Advice::PopulateWrite, offset, blocks * BLOCK_BYTES).is_ok()
    }

    fn block_start(&self, block: usize) -> NonNull<u8> {
        assert!(block < self.blocks);
        let offset = self.start + block * BLOCK_BYTES;
        // SAFETY: `start` plus `blocks` blocks is the mapping's length or less, and `block` is
        // below `blocks`, so the result is inside the mapping.
        let start = unsafe { self.raw.as_mut_ptr().add(offset) };
        NonNull::new(start).expect("a mapping does not begin at address zero")
    }
}

fn heap_layout(bytes: usize) -> Layout {
    Layout::from_size_align(bytes, BLOCK_BYTES).expect("a buffer is far smaller than isize::MAX")
}

/// An owned, 4 KiB-aligned buffer of whole blocks. Dropping it, on any thread, returns its memory.
pub struct DmaBuf {
    start: NonNull<u8>,
    len: usize,
    home: Home,
    pool: Arc<Pool>,
}

enum Home {
    Chunk { class: usize, block: usize },
    Heap { start: NonNull<u8>, bytes: usize },
}

// SAFETY: a `DmaBuf` is the only way to its bytes (module head), and the pool it returns to is
// shared between threads by design: atomics and lock-free queues.
unsafe impl Send for DmaBuf {}

// SAFETY: through `&DmaBuf` the bytes can only be read, and its drop needs the buffer itself.
unsafe impl Sync for DmaBuf {}

impl DmaBuf {
    /// Makes the visible part shorter. The rest comes back only with a new allocation.
    pub fn truncate(&mut self, bytes: usize) {
        assert!(bytes.is_multiple_of(BLOCK_BYTES), "a buffer holds whole blocks");
        assert!(bytes <= self.len, "truncation does not grow");
        self.len = bytes;
    }

    /// Makes it begin so much later, in whole blocks. What is passed over comes back only with a new
    /// allocation.
    pub fn skip(&mut self, bytes: usize) {
        assert!(bytes.is_multiple_of(BLOCK_BYTES), "a buffer holds whole blocks");
        assert!(bytes <= self.len, "what is passed over lies in the buffer");
        // SAFETY: `start` leads to at least `len` bytes of one allocation, and `bytes` is not more.
        self.start = unsafe { self.start.add(bytes) };
        self.len -= bytes;
    }

    /// Would another one like it take memory that nobody has touched yet?
    pub fn next_is_cold(&self) -> bool {
        match self.home {
            Home::Chunk { class, .. } => self.pool.next_is_cold(class),
            Home::Heap { .. } => false,
        }
    }

    /// Bytes of memory that it keeps, seen or not.
    pub fn held_bytes(&self) -> usize {
        match self.home {
            Home::Chunk { class, .. } => CLASS_BYTES[class],
            Home::Heap { bytes, .. } => bytes,
        }
    }
}

impl Deref for DmaBuf {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        // SAFETY: `start` leads to at least `len` initialised bytes that belong to this buffer
        // alone, and `&self` keeps writers out.
        unsafe { std::slice::from_raw_parts(self.start.as_ptr(), self.len) }
    }
}

impl DerefMut for DmaBuf {
    fn deref_mut(&mut self) -> &mut [u8] {
        // SAFETY: as in `deref`, and `&mut self` keeps everybody else out.
        unsafe { std::slice::from_raw_parts_mut(self.start.as_ptr(), self.len) }
    }
}

impl Drop for DmaBuf {
    fn drop(&mut self) {
        match self.home {
            Home::Chunk { class, block } => {
                if self.pool.has_too_many_pages()
                    && let Some(map) = &self.pool.map
                {
                    self.pool.give_back(map, class, block);
                    return;
                }
                let lost = self.pool.free[class].push(block).is_err();
                assert!(!lost, "a free list has room for every chunk of its class");
            }
            Home::Heap { start, bytes } => {
                self.pool.heap_bytes.fetch_sub(bytes as u64, Ordering::Relaxed);
                // SAFETY: `heap_buf` allocated it with this very layout, and this is its only
                // owner's end.
                unsafe { dealloc(start.as_ptr(), heap_layout(bytes)) };
            }
        }
    }
}

impl fmt::Debug for DmaBuf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "DmaBuf({} bytes)", self.len)
    }
}

/// A part of a shared buffer. The bytes do not change while any slice of them lives, on whatever thread:
/// a block that one core has cached is sent by another.
#[derive(Clone)]
pub struct DmaSlice {
    buf: Arc<DmaBuf>,
    start: usize,
    len: usize,
}

impl DmaSlice {
    pub fn whole(buf: DmaBuf) -> DmaSlice {
        let len = buf.len();
        DmaSlice { buf: Arc::new(buf), start: 0, len }
    }

    /// A part of a buffer that is shared already. Panics when it does not contain the range.
    pub fn of(buf: &Arc<DmaBuf>, range: Range<usize>) -> DmaSlice {
        assert!(range.start <= range.end && range.end <= buf.len(), "a slice lies in its buffer");
        DmaSlice { buf: buf.clone(), start: range.start, len: range.len() }
    }

    /// A part of this part. Panics when it does not contain the range.
    pub fn slice(&self, range: Range<usize>) -> DmaSlice {
        assert!(range.start <= range.end && range.end <= self.len, "a slice lies in its slice");
        DmaSlice { buf: self.buf.clone(), start: self.start + range.start, len: range.len() }
    }
}

impl DmaSlice {
    /// A part of it as a buffer of its own, without a copy: when nobody else has any of the buffer, the
    /// part is whole blocks of it, and most of what it keeps. Otherwise the slice comes back.
    pub fn into_blocks(self, part: Range<usize>) -> Result<DmaBuf, DmaSlice> {
        let DmaSlice { buf, start, len } = self;
        assert!(part.start <= part.end && part.end <= len, "a part lies in its slice");
        let bytes = part.end - part.start;
        let at = start + part.start;
        let fits = at.is_multiple_of(BLOCK_BYTES)
            && bytes.is_multiple_of(BLOCK_BYTES)
            && bytes >= buf.held_bytes() / 4 * 3;
        match Arc::try_unwrap(buf) {
            Ok(mut buf) if fits => {
                buf.skip(at);
                buf.truncate(bytes);
                Ok(buf)
            }
            Ok(buf) => Err(DmaSlice { buf: Arc::new(buf), start, len }),
            Err(buf) => Err(DmaSlice { buf, start, len }),
        }
    }
}

impl Deref for DmaSlice {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.buf[self.start..self.start + self.len]
    }
}

impl From<DmaBuf> for DmaSlice {
    fn from(buf: DmaBuf) -> DmaSlice {
        DmaSlice::whole(buf)
    }
}

impl fmt::Debug for DmaSlice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "DmaSlice({} bytes)", self.len)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mapped(bytes: usize) -> Arena {
        let (arena, backing) = Arena::new(bytes, HugePages::Never);
        assert_eq!(backing, Backing::Small);
        arena
    }

    #[test]
    fn buffers_are_aligned_whole_blocks_and_do_not_overlap() {
        let arena = mapped(8 << 20);
        let sizes = [1, 4096, 5000, 70_000, 300_000, 1 << 20, 4 << 20];
        // Miri looks at each byte for a long time.
        let sizes = if cfg!(miri) { &sizes[..3] } else { &sizes[..] };
        let mut bufs: Vec<DmaBuf> = sizes.iter().map(|&bytes| arena.alloc(bytes)).collect();
        for (tag, buf) in bufs.iter_mut().enumerate() {
            assert_eq!(buf.as_ptr().align_offset(BLOCK_BYTES), 0);
            assert!(buf.len().is_multiple_of(BLOCK_BYTES));
            buf.fill(tag as u8);
        }
        for (tag, buf) in bufs.iter().enumerate() {
            assert!(buf.iter().all(|&byte| byte == tag as u8));
        }
    }

    #[test]
    fn a_freed_chunk_serves_the_next_buffer_of_its_class() {
        let arena = mapped(2 << 20);
        let first = arena.alloc(4096).as_ptr();
        let carved = arena.usage().carved_bytes;
        assert_eq!(arena.alloc(100).as_ptr(), first);
        assert_eq!(arena.usage().carved_bytes, carved);
    }

    #[test]
    fn an_exhausted_mapping_and_an_oversized_buffer_take_the_heap_and_are_counted() {
        let arena = mapped(2 << 20);
        let large = arena.alloc(1 << 20);
        let second = arena.alloc(1 << 20);
        assert_eq!(arena.usage().heap_bytes, 1 << 20);
        let oversized = arena.alloc(3 << 20);
        assert_eq!(oversized.len(), 3 << 20);
        drop((large, second, oversized));
        assert_eq!(arena.usage().heap_bytes, 0);
        assert_eq!(arena.usage().heap_allocs, 2);
    }

    #[test]
    fn what_was_made_ready_in_advance_is_not_cold_and_what_comes_behind_it_is() {
        let arena = mapped(8 << 20);
        let chunk = CLASS_BYTES[4];
        let first = arena.alloc(chunk);
        assert!(!first.next_is_cold(), "nobody warms");
        let ahead = |carved: usize| carved.max(2 << 20);
        assert!(arena.warm(2 << 20, ahead));
        assert!(!arena.warm(2 << 20, ahead), "it is ahead far enough");
        assert!(!first.next_is_cold());
        let second = arena.alloc(chunk);
        assert!(first.next_is_cold());
        drop(second);
        assert!(!first.next_is_cold(), "there is one that was used before");
        let most = usize::MAX >> 1;
        while arena.warm(2 << 20, |_| most) {}
        let all: Vec<DmaBuf> = (0..6).map(|_| arena.alloc(chunk)).collect();
        assert!(all.iter().all(|buf| buf.iter().all(|byte| *byte == 0)), "warm pages are zeroed");
    }

    #[test]
    fn an_arena_with_a_bound_gives_back_the_pages_of_waiting_chunks() {
        let (arena, _) = Arena::within(4 << 20, HugePages::Never);
        let resident = |arena: &Arena| arena.usage().resident_bytes;
        let large: Vec<DmaBuf> = (0..3).map(|_| arena.alloc(1 << 20)).collect();
        drop(large);
        assert_eq!(resident(&arena), 3 * ((1 << 20) + (64 << 10)), "within the bound all stay");
        let mut small: Vec<DmaBuf> = (0..900).map(|_| arena.alloc(4 << 10)).collect();
        assert!(resident(&arena) <= 4 << 20, "what waits made room for what is used");
        small.iter_mut().for_each(|buf| buf.fill(7));
        let more: Vec<DmaBuf> = (0..300).map(|_| arena.alloc(4 << 10)).collect();
        assert_eq!(resident(&arena), 1200 * (4 << 10), "buffers that are needed are never refused");
        drop((small, more));
        assert!(resident(&arena) <= 4 << 20);
        let again: Vec<DmaBuf> = (0..1200).map(|_| arena.alloc_zeroed(4 << 10)).collect();
        assert!(again.iter().all(|buf| buf.iter().all(|&byte| byte == 0)));
        assert_eq!(arena.usage().heap_bytes, 0);
    }

    #[test]
    fn zeroed_means_zeroed_also_on_the_second_use() {
        let arena = mapped(2 << 20);
        arena.alloc(4096).fill(0xaa);
        assert!(arena.alloc_zeroed(4096).iter().all(|&byte| byte == 0));
    }

    #[test]
    fn a_truncated_buffer_returns_to_its_own_class() {
        let arena = mapped(4 << 20);
        let mut buf = arena.alloc(256 << 10);
        let start = buf.as_ptr();
        buf.truncate(4096);
        assert_eq!(buf.len(), 4096);
        drop(buf);
        assert_eq!(arena.alloc(256 << 10).as_ptr(), start);
        let mut heap = Arena::heap().alloc(1 << 20);
        heap.truncate(4096);
    }

    #[test]
    fn a_buffer_may_be_dropped_on_another_thread_after_its_arena() {
        let arena = mapped(2 << 20);
        let mut buf = arena.alloc(4096);
        drop(arena);
        let heap = Arena::heap().alloc(4096);
        let other = std::thread::spawn(move || {
            buf[0] = 1;
            drop((buf, heap));
        });
        other.join().expect("the other thread ends");
    }

    #[test]
    fn slices_name_parts_of_parts() {
        let mut buf = Arena::heap().alloc(2 * BLOCK_BYTES);
        for (place, byte) in buf.iter_mut().enumerate() {
            *byte = (place / 16) as u8;
        }
        let whole = DmaSlice::whole(buf);
        let part = whole.slice(4096..8192).slice(16..48);
        drop(whole);
        assert_eq!(&part[..], [[1; 16], [2; 16]].concat());
    }

    #[test]
    fn large_pages_or_not_the_arena_serves() {
        let (arena, backing) = Arena::new(4 << 20, HugePages::Try);
        assert_ne!(backing, Backing::Heap);
        let mut buf = arena.alloc(1 << 20);
        buf.fill(7);
        assert_eq!(arena.usage().heap_allocs, 0);
    }

    #[test]
    fn a_part_in_whole_blocks_becomes_a_buffer_when_nobody_else_has_any_of_it() {
        let arena = mapped(4 << 20);
        let make = |bytes: usize| {
            let mut buf = arena.alloc(bytes);
            buf.iter_mut().enumerate().for_each(|(at, byte)| *byte = (at / BLOCK_BYTES) as u8);
            DmaSlice::whole(buf)
        };
        let first = make(256 << 10).as_ptr();
        let taken = make(256 << 10).into_blocks(4 * BLOCK_BYTES..64 * BLOCK_BYTES);
        let taken = taken.expect("most of it");
        assert_eq!(
            (taken.len(), taken[0], taken.as_ptr()),
            (60 * BLOCK_BYTES, 4, first.wrapping_add(4 * BLOCK_BYTES))
        );
        drop(taken);
        // Its memory went back whole.
        assert_eq!(make(256 << 10).as_ptr(), first);

        let shared = make(256 << 10);
        let other = shared.clone();
        let back = shared.into_blocks(0..64 * BLOCK_BYTES).expect_err("another has it");
        assert_eq!(back.len(), 256 << 10);
        drop(other);
        let back = back.into_blocks(1..64 * BLOCK_BYTES - 4095).expect_err("not at a block");
        let back = back.into_blocks(0..100).expect_err("not whole blocks");
        let back = back.into_blocks(0..BLOCK_BYTES).expect_err("it would keep 64 times as much");
        assert_eq!(back.into_blocks(0..64 * BLOCK_BYTES).expect("all of it").len(), 256 << 10);
        // The heap's memory goes back by where it began.
        let mut heap = Arena::heap().alloc(16 << 10);
        heap.skip(BLOCK_BYTES);
        assert_eq!(heap.len(), 12 << 10);
    }
}
