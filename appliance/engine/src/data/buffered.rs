//! What one file has buffered: pages, and the facts that are not in its inode yet.
//!
//! A page is one block of a buffer that a write came in, shared and never changed; nothing is copied
//! to get it to the device. It has three marks. `version` counts its contents: write-back removes a
//! page only when it has placed the content that is still there. `born` names the page itself: what
//! was in flight when a truncation dropped or cut a page must not be linked behind it. `since` is the
//! version of the oldest write that is in no record yet: a COMMIT waits for pages whose `since` is
//! below the versions it found, not for writes that came later.
//!
//! *Size.* While pages are dirty the size is known here; after a crash it must be one the file once
//! had. So the sizes it passed on the way are kept too, the least one of each block, and a record
//! that links part of the pages carries the least of them that covers what it links.
//!
//! *Data version.* The version shown while pages are dirty is above the item's, and goes into the
//! item only with the last dirty page: a version somebody saw never stands for other bytes after a
//! crash.
//!
//! *Space.* The promise covers a block for every page, but for those whose present content is in
//! flight: they have their block reserved already.

use super::BLOCK;
use crate::error::FsError;
use crate::space::Promise;
use cairn_base::{Arena, BLOCK_BYTES, DmaBuf, DmaSlice};
use std::collections::BTreeMap;
use std::ops::{Deref, Range};
use std::sync::Arc;

/// One block inside a shared buffer.
#[derive(Clone)]
pub struct PageData {
    buf: Arc<DmaBuf>,
    at: usize,
}

impl PageData {
    pub fn new(buf: &Arc<DmaBuf>, at: usize) -> PageData {
        assert!(at + BLOCK_BYTES <= buf.len(), "a page lies in its buffer");
        PageData { buf: Arc::clone(buf), at }
    }

    /// The buffer that it is a part of, and where it begins there.
    pub fn place(&self) -> (&Arc<DmaBuf>, usize) {
        (&self.buf, self.at)
    }

    /// Does `other` follow in the same buffer?
    pub fn continues_in(&self, other: &PageData) -> bool {
        Arc::ptr_eq(&self.buf, &other.buf) && self.at + BLOCK_BYTES == other.at
    }

    /// The pages as slices, neighbours in one buffer joined.
    pub fn slices<'a>(pages: impl IntoIterator<Item = &'a PageData>) -> Vec<DmaSlice> {
        let mut slices = Vec::new();
        let mut open: Option<(&PageData, &PageData)> = None;
        let close = |open: Option<(&PageData, &PageData)>, slices: &mut Vec<DmaSlice>| {
            if let Some((first, last)) = open {
                slices.push(DmaSlice::of(&first.buf, first.at..last.at + BLOCK_BYTES));
            }
        };
        for page in pages {
            open = match open {
                Some((first, last)) if last.continues_in(page) => Some((first, page)),
                other => {
                    close(other, &mut slices);
                    Some((page, page))
                }
            };
        }
        close(open, &mut slices);
        slices
    }
}

impl Deref for PageData {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.buf[self.at..self.at + BLOCK_BYTES]
    }
}

struct Page {
    data: PageData,
    version: u64,
    born: u64,
    since: u64,
    /// The version that is on its way to the device.
    flight: Option<u64>,
}

impl Page {
    fn is_launched(&self) -> bool {
        self.flight == Some(self.version)
    }
}

/// A page's content at one moment, to be placed.
#[derive(Clone)]
pub struct Flight {
    pub block: u64,
    pub data: PageData,
    /// Bytes of it that lie inside the file.
    pub len: u64,
    version: u64,
    born: u64,
}

impl Flight {
    /// Where its bytes end in the file.
    pub fn end(&self) -> u64 {
        self.block * BLOCK + self.len
    }
}

/// What one file has buffered.
#[derive(Default)]
pub struct Buffered {
    pages: BTreeMap<u64, Page>,
    /// Pages whose present content is in flight.
    launched: usize,
    versions: u64,
    /// Counts while pages are dirty.
    pub size: u64,
    /// Sizes the file had meanwhile, by the block they end in.
    sizes: BTreeMap<u64, u64>,
    /// `None` when the size was set since the last write: the inode has the newer time.
    pub mtime: Option<i64>,
    pub ctime: i64,
    pub data_version: u64,
    pub promise: Option<Promise>,
    /// Why data was lost, until a COMMIT has said it.
    failed: Option<FsError>,
    losses: u64,
    lost_by: Option<FsError>,
}

impl Buffered {
    pub fn bytes(&self) -> usize {
        self.pages.len() * BLOCK_BYTES
    }

    pub fn is_clean(&self) -> bool {
        self.pages.is_empty()
    }

    pub fn page(&self, block: u64) -> Option<&PageData> {
        self.pages.get(&block).map(|page| &page.data)
    }

    pub fn pages(&self, range: Range<u64>) -> impl Iterator<Item = (u64, &PageData)> {
        self.pages.range(range).map(|(block, page)| (*block, &page.data))
    }

    /// The versions that exist now are below this.
    pub fn versions_end(&self) -> u64 {
        self.versions + 1
    }

    /// New content for a block.
    pub fn put(&mut self, block: u64, data: PageData) {
        self.versions += 1;
        let version = self.versions;
        match self.pages.get_mut(&block) {
            Some(page) => {
                self.launched -= usize::from(page.is_launched());
                page.data = data;
                page.version = version;
            }
            None => {
                let page = Page { data, version, born: version, since: version, flight: None };
                self.pages.insert(block, page);
            }
        }
    }

    /// A write ended at `end`; the file had `size` bytes before.
    pub fn grow(&mut self, size: u64, end: u64) {
        self.size = size.max(end);
        if end > size {
            self.sizes.entry(end / BLOCK).or_insert(end);
        }
    }

    /// Takes over space for new content and gives back what is more than needed.
    pub fn add_promise(&mut self, promise: Promise) {
        match &mut self.promise {
            Some(held) => held.absorb(promise),
            None => self.promise = Some(promise),
        }
        self.shrink_promise();
    }

    pub fn shrink_promise(&mut self) {
        let needed = self.pages.len() - self.launched;
        if let Some(promise) = &mut self.promise {
            promise.shrink(needed as u64);
        }
    }

    /// Pages of `range` that hold a write older than `stop`, as far as `most` of them.
    pub fn count(&self, range: &Range<u64>, stop: u64, most: usize) -> usize {
        let due = self.pages.range(range.clone()).filter(|(_, page)| page.since < stop);
        due.take(most).count()
    }

    /// The present content of those pages, at most `most` of them.
    pub fn select(&self, range: &Range<u64>, stop: u64, most: usize) -> Vec<Flight> {
        let due = self.pages.range(range.clone()).filter(|(_, page)| page.since < stop);
        let flight = |(block, page): (&u64, &Page)| Flight {
            block: *block,
            data: page.data.clone(),
            len: (self.size - block * BLOCK).min(BLOCK),
            version: page.version,
            born: page.born,
        };
        due.take(most).map(flight).collect()
    }

    /// The same, and their blocks are reserved from now on.
    pub fn launch(&mut self, range: &Range<u64>, stop: u64, most: usize) -> Vec<Flight> {
        let flights = self.select(range, stop, most);
        for flight in &flights {
            if let Some(page) = self.pages.get_mut(&flight.block) {
                self.launched += usize::from(!page.is_launched());
                page.flight = Some(flight.version);
            }
        }
        self.shrink_promise();
        flights
    }

    /// Does the page still exist that `flight` is a content of?
    pub fn is_current(&self, flight: &Flight) -> bool {
        self.pages.get(&flight.block).is_some_and(|page| page.born == flight.born)
    }

    /// Would nothing be dirty any more once `flights`, all of them current, are linked?
    pub fn ends_with(&self, flights: &[&Flight]) -> bool {
        let present =
            |f: &&&Flight| self.pages.get(&f.block).is_some_and(|p| p.version == f.version);
        flights.iter().filter(present).count() == self.pages.len()
    }

    /// The least size the file had that covers `end`.
    pub fn size_covering(&self, end: u64) -> u64 {
        let end = end.min(self.size);
        let passed = self.sizes.range(end / BLOCK..).map(|(_, size)| *size);
        passed.into_iter().find(|size| *size >= end).unwrap_or(self.size)
    }

    /// `flights` are linked, all of them current, by a record that carries `size`.
    pub fn land(&mut self, flights: &[&Flight], size: u64) {
        for flight in flights {
            let Some(page) = self.pages.get_mut(&flight.block) else { continue };
            self.launched -= usize::from(page.is_launched());
            if page.version == flight.version {
                self.pages.remove(&flight.block);
            } else {
                page.since = flight.version + 1;
                page.flight = None;
            }
        }
        self.sizes.retain(|_, passed| *passed > size);
        self.end_if_clean();
    }

    /// The file ends at `size` now, and may have ended nowhere else after a crash.
    pub fn cut(&mut self, size: u64, arena: &Arena) {
        self.size = size;
        self.sizes.clear();
        let dropped = self.pages.split_off(&size.div_ceil(BLOCK));
        self.launched -= dropped.values().filter(|page| page.is_launched()).count();
        let keep = (size % BLOCK) as usize;
        if keep > 0
            && let Some(page) = self.pages.get_mut(&(size / BLOCK))
        {
            let mut buf = arena.alloc_zeroed(BLOCK_BYTES);
            buf[..keep].copy_from_slice(&page.data[..keep]);
            self.launched -= usize::from(page.is_launched());
            self.versions += 1;
            page.data = PageData::new(&Arc::new(buf), 0);
            page.version = self.versions;
            page.born = self.versions;
            page.flight = None;
        }
        self.end_if_clean();
        self.shrink_promise();
    }

    /// Everything buffered is gone.
    pub fn lose(&mut self, error: FsError) {
        self.clear();
        self.failed = Some(error);
        self.lost_by = Some(error);
        self.losses += 1;
    }

    /// How often buffered data was lost, and why the last time.
    pub fn losses(&self) -> (u64, Option<FsError>) {
        (self.losses, self.lost_by)
    }

    /// Whether a COMMIT has to say that data was lost.
    pub fn has_failure(&self) -> bool {
        self.failed.is_some()
    }

    pub fn take_failure(&mut self) -> Option<FsError> {
        self.failed.take()
    }

    pub fn clear(&mut self) {
        self.pages.clear();
        self.launched = 0;
        self.sizes.clear();
        self.end_if_clean();
    }

    /// A clean file's facts are the item's.
    fn end_if_clean(&mut self) {
        if self.pages.is_empty() {
            self.mtime = None;
            self.ctime = i64::MIN;
            self.size = 0;
            self.promise = None;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: Range<u64> = 0..u64::MAX;

    fn page(tag: u8) -> PageData {
        let mut buf = Arena::heap().alloc(BLOCK_BYTES);
        buf.fill(tag);
        PageData::new(&Arc::new(buf), 0)
    }

    fn written(blocks: Range<u64>) -> Buffered {
        let mut state = Buffered::default();
        for block in blocks {
            state.put(block, page(1));
            state.grow(state.size, (block + 1) * BLOCK);
        }
        state
    }

    fn all(flights: &[Flight]) -> Vec<&Flight> {
        flights.iter().collect()
    }

    #[test]
    fn why_data_was_lost_is_known_when_a_commit_has_said_it() {
        let mut state = written(0..2);
        let (before, _) = state.losses();
        state.lose(FsError::NoSpace);
        assert_eq!(state.take_failure(), Some(FsError::NoSpace), "a COMMIT says it, once");
        assert!(!state.has_failure());
        // Another write waits for the same pages, and is told the same.
        assert_eq!(state.losses(), (before + 1, Some(FsError::NoSpace)));
    }

    #[test]
    fn a_page_written_again_in_flight_stays_dirty() {
        let mut state = written(0..2);
        let stop = state.versions_end();
        let flights = state.launch(&ALL, stop, 8);
        state.put(1, page(2));
        assert!(flights.iter().all(|flight| state.is_current(flight)));
        assert!(!state.ends_with(&all(&flights)));
        state.land(&all(&flights), 2 * BLOCK);
        assert_eq!(
            state.pages(ALL).map(|(block, data)| (block, data[0])).collect::<Vec<_>>(),
            [(1, 2)]
        );
        assert_eq!(state.count(&ALL, stop, 9), 0, "what was asked for is placed");
        assert_eq!(state.count(&ALL, state.versions_end(), 9), 1);
    }

    #[test]
    fn a_page_written_again_before_its_flight_still_holds_the_older_write() {
        let mut state = written(0..1);
        let stop = state.versions_end();
        state.put(0, page(2));
        assert_eq!(state.count(&ALL, stop, 9), 1);
    }

    #[test]
    fn what_a_truncation_cut_is_not_linked_by_an_older_flight() {
        let mut state = written(0..3);
        let flights = state.launch(&ALL, state.versions_end(), 8);
        state.cut(BLOCK + 100, &Arena::heap());
        let current: Vec<u64> =
            flights.iter().filter(|f| state.is_current(f)).map(|f| f.block).collect();
        assert_eq!(current, [0], "page 1 was cut, page 2 dropped");
        let tail = state.page(1).expect("the cut page is kept");
        assert!(tail[..100].iter().all(|&b| b == 1) && tail[100..].iter().all(|&b| b == 0));
        assert_eq!(state.size, BLOCK + 100);
    }

    #[test]
    fn a_partial_record_carries_a_size_the_file_once_had() {
        let mut state = Buffered::default();
        for (block, end) in [(0, 1_000), (0, 3_000), (1, 8_000), (2, 10_000)] {
            state.put(block, page(1));
            state.grow(state.size, end);
        }
        assert_eq!(state.size_covering(4096), 8_000);
        assert_eq!(state.size_covering(8_192), 10_000);
        assert_eq!(state.size_covering(500), 1_000);
        assert_eq!(state.size_covering(20_000), 10_000);
        let flights = state.select(&(0..1), state.versions_end(), 8);
        state.land(&all(&flights), 8_000);
        assert_eq!(state.size_covering(0), 10_000);
    }

    #[test]
    fn neighbours_in_one_buffer_are_one_slice() {
        let buf = Arc::new(Arena::heap().alloc(3 * BLOCK_BYTES));
        let data: Vec<PageData> = (0..3).map(|n| PageData::new(&buf, n * BLOCK_BYTES)).collect();
        let lens = |slices: Vec<DmaSlice>| slices.iter().map(|s| s.len()).collect::<Vec<_>>();
        assert_eq!(lens(PageData::slices(&data)), [3 * BLOCK_BYTES]);
        let mixed = [data[0].clone(), data[2].clone(), page(1)];
        assert_eq!(lens(PageData::slices(&mixed)), [BLOCK_BYTES; 3]);
        assert!(PageData::slices(&[]).is_empty());
    }
}
