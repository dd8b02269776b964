//! Buffered writes: what clients were told is written and the trees do not know yet.
//!
//! A file with buffered writes has an overlay of whole-block pages. Reading, GETATTR and the archive
//! verbs look at the overlay first, so nobody sees the difference. A page shares the buffer that the
//! write came in; nothing is copied to get it to the device.
//!
//! A page has three marks. `version` counts its contents: write-back removes a page only when it has
//! placed the content that is still there. `born` names the page itself: what was in flight when a
//! truncation dropped or cut a page must not be linked behind it. `since` is the version of the
//! oldest write that is in no record yet: a COMMIT waits for pages whose `since` is below the
//! versions it found, not for writes that came later.
//!
//! *Size.* While pages are dirty the overlay knows the file's size; after a crash the size must be
//! one the file once had. So it also keeps the sizes it passed on the way, the least one of each
//! block, and a record that links part of the pages carries the least of them that covers what it
//! links.
//!
//! *Data version.* The version shown while pages are dirty is above the item's, and goes into the
//! item only with the last dirty page: a version somebody saw never stands for other bytes after a
//! crash.
//!
//! *Space.* The promise covers a block for every page, beyond those whose present content is in
//! flight: they have their block reserved already.
//!
//! Not here: when and where pages are placed (`write_back.rs`), what a truncation does to the trees
//! (`truncate.rs`).

use super::BLOCK;
use crate::attr::{Attr, Time};
use crate::error::FsError;
use crate::limits::DIRTY_BYTES_MAX;
use crate::space::Promise;
use cairn_base::hash::Map;
use cairn_base::{Arena, BLOCK_BYTES, DmaBuf, DmaSlice, Nanos};
use cairn_format::InodeNo;
use cairn_reactor::{Semaphore, WaitList};
use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::ops::{Deref, Range};
use std::rc::Rc;

/// One block inside a shared buffer.
#[derive(Clone)]
pub struct PageData {
    buf: Rc<DmaBuf>,
    at: usize,
}

impl PageData {
    pub fn new(buf: &Rc<DmaBuf>, at: usize) -> PageData {
        assert!(at + BLOCK_BYTES <= buf.len(), "a page lies in its buffer");
        PageData { buf: Rc::clone(buf), at }
    }

    /// Does `other` follow in the same buffer?
    fn continues_in(&self, other: &PageData) -> bool {
        Rc::ptr_eq(&self.buf, &other.buf) && self.at + BLOCK_BYTES == other.at
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
    versions: u64,
    /// Counts while pages are dirty.
    pub size: u64,
    /// Sizes the file had meanwhile, by the block they end in.
    sizes: BTreeMap<u64, u64>,
    /// `None` when somebody has set the time since the last write.
    pub mtime: Option<i64>,
    pub ctime: i64,
    pub data_version: u64,
    pub promise: Option<Promise>,
    failed: Option<FsError>,
    losses: u64,
}

impl Buffered {
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
        let covered = |page: &&Page| page.flight == Some(page.version);
        let needed = self.pages.len() - self.pages.values().filter(covered).count();
        if let Some(promise) = &mut self.promise {
            promise.shrink(needed as u64);
        }
    }

    /// Pages of `range` that hold a write older than `stop`.
    pub fn count(&self, range: &Range<u64>, stop: u64) -> usize {
        self.pages.range(range.clone()).filter(|(_, page)| page.since < stop).count()
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
        self.pages.split_off(&size.div_ceil(BLOCK));
        let keep = (size % BLOCK) as usize;
        if keep > 0
            && let Some(page) = self.pages.get_mut(&(size / BLOCK))
        {
            let mut buf = arena.alloc_zeroed(BLOCK_BYTES);
            buf[..keep].copy_from_slice(&page.data[..keep]);
            self.versions += 1;
            page.data = PageData::new(&Rc::new(buf), 0);
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
        self.losses += 1;
    }

    pub fn clear(&mut self) {
        self.pages.clear();
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

/// The buffered writes of one file.
pub struct Overlay {
    ino: InodeNo,
    /// One write-back to the device at a time.
    pub turn: Semaphore,
    arena: Arena,
    dirty: Dirty,
    counted: Cell<usize>,
    queued: Cell<Option<Nanos>>,
    state: RefCell<Buffered>,
}

impl Overlay {
    pub fn new(ino: InodeNo, arena: &Arena, dirty: &Dirty) -> Overlay {
        Overlay {
            ino,
            turn: Semaphore::new(1),
            arena: arena.clone(),
            dirty: dirty.clone(),
            counted: Cell::new(0),
            queued: Cell::new(None),
            state: RefCell::new(Buffered { ctime: i64::MIN, ..Buffered::default() }),
        }
    }

    pub fn read<R>(&self, body: impl FnOnce(&Buffered) -> R) -> R {
        body(&self.state.borrow())
    }

    /// Changes what is buffered and keeps the shard's sums in step.
    pub fn change<R>(&self, body: impl FnOnce(&mut Buffered, &Arena) -> R) -> R {
        let result = body(&mut self.state.borrow_mut(), &self.arena);
        let bytes = self.state.borrow().pages.len() * BLOCK_BYTES;
        self.dirty.recount(self.counted.replace(bytes), bytes);
        if bytes == 0 {
            self.dirty.requeue(self.ino, &self.queued, None);
        }
        result
    }

    /// Write-back comes to this file in its turn; a file that waits already keeps its place.
    pub fn enqueue(&self, now: Nanos) {
        if self.queued.get().is_none() && self.counted.get() > 0 {
            self.dirty.requeue(self.ino, &self.queued, Some(now));
        }
    }

    /// Write-back was here: what is dirty now waits from now on.
    pub fn requeue(&self, now: Nanos) {
        let place = (self.counted.get() > 0).then_some(now);
        self.dirty.requeue(self.ino, &self.queued, place);
    }

    /// How often buffered data was lost, and why the last time.
    pub fn losses(&self) -> (u64, Option<FsError>) {
        let state = self.state.borrow();
        (state.losses, state.failed)
    }

    /// What the next COMMIT has to answer.
    pub fn take_failure(&self) -> Option<FsError> {
        self.state.borrow_mut().failed.take()
    }

    fn is_idle(&self) -> bool {
        let state = self.state.borrow();
        state.is_clean() && state.failed.is_none()
    }
}

/// The overlays of one tablet's files.
#[derive(Default)]
pub struct Overlays {
    files: RefCell<Map<InodeNo, Rc<Overlay>>>,
    /// No data version up to this one is given again: it was shown for data that was lost.
    shown: Cell<u64>,
}

impl Overlays {
    pub fn get(&self, ino: InodeNo) -> Option<Rc<Overlay>> {
        self.files.borrow().get(&ino).cloned()
    }

    pub fn get_or_make(&self, ino: InodeNo, make: impl FnOnce() -> Overlay) -> Rc<Overlay> {
        Rc::clone(self.files.borrow_mut().entry(ino).or_insert_with(|| Rc::new(make())))
    }

    /// Raises a file's attributes to what is buffered.
    pub fn show(&self, ino: InodeNo, attr: &mut Attr) {
        let files = self.files.borrow();
        let Some(overlay) = files.get(&ino) else { return };
        let state = overlay.state.borrow();
        if state.is_clean() {
            return;
        }
        attr.size = attr.size.max(state.size);
        attr.mtime = state.mtime.map_or(attr.mtime, Time);
        attr.ctime = attr.ctime.max(Time(state.ctime));
        attr.data_version = attr.data_version.max(state.data_version);
    }

    /// The size, where buffered writes have changed it.
    pub fn size(&self, ino: InodeNo, logged: u64) -> u64 {
        let files = self.files.borrow();
        files.get(&ino).map_or(logged, |overlay| logged.max(overlay.state.borrow().size))
    }

    /// The newest data version that anybody may have seen of a file whose item says `logged`.
    pub fn newest_version(&self, ino: InodeNo, logged: u64) -> u64 {
        let files = self.files.borrow();
        let buffered = files.get(&ino).map_or(0, |o| o.state.borrow().data_version);
        logged.max(buffered).max(self.shown.get())
    }

    /// The file is gone, and what was buffered of it.
    pub fn forget(&self, ino: InodeNo) {
        let gone = self.files.borrow_mut().remove(&ino);
        if let Some(overlay) = gone {
            overlay.change(|state, _| state.clear());
        }
    }

    /// Somebody has set the file's mtime: an older write must not set it back.
    pub fn forget_mtime(&self, ino: InodeNo) {
        if let Some(overlay) = self.get(ino) {
            overlay.change(|state, _| state.mtime = None);
        }
    }

    /// Buffered data could not be placed.
    pub fn lose(&self, overlay: &Overlay, error: FsError) {
        let version = overlay.state.borrow().data_version;
        self.shown.set(self.shown.get().max(version));
        overlay.change(|state, _| state.lose(error));
    }

    /// Drops an overlay that has nothing to say.
    pub fn drop_idle(&self, overlay: &Rc<Overlay>) {
        let mut files = self.files.borrow_mut();
        let here = files.get(&overlay.ino).is_some_and(|held| Rc::ptr_eq(held, overlay));
        if here && overlay.is_idle() {
            let gone = files.remove(&overlay.ino);
            drop(files);
            drop(gone);
        }
    }
}

/// The buffered bytes of one shard, and which file has waited longest.
#[derive(Clone, Default)]
pub struct Dirty {
    state: Rc<DirtyState>,
}

#[derive(Default)]
struct DirtyState {
    bytes: Cell<usize>,
    queue: RefCell<BTreeSet<(Nanos, InodeNo)>>,
    less: WaitList,
}

impl Dirty {
    pub fn bytes(&self) -> usize {
        self.state.bytes.get()
    }

    /// The file that has been dirty longest, and since when.
    pub fn oldest(&self) -> Option<(Nanos, InodeNo)> {
        self.state.queue.borrow().first().copied()
    }

    /// All files with buffered data, the oldest first.
    pub fn files(&self) -> Vec<InodeNo> {
        self.state.queue.borrow().iter().map(|(_, ino)| *ino).collect()
    }

    /// Waits while too much is buffered.
    pub async fn room(&self) {
        let room = || (self.state.bytes.get() <= DIRTY_BYTES_MAX).then_some(());
        self.state.less.until(room).await;
    }

    fn recount(&self, before: usize, after: usize) {
        self.state.bytes.set(self.state.bytes.get() + after - before);
        if after < before {
            self.state.less.wake_all();
        }
    }

    fn requeue(&self, ino: InodeNo, queued: &Cell<Option<Nanos>>, place: Option<Nanos>) {
        let mut queue = self.state.queue.borrow_mut();
        if let Some(old) = queued.replace(place) {
            queue.remove(&(old, ino));
        }
        if let Some(place) = place {
            queue.insert((place, ino));
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
        PageData::new(&Rc::new(buf), 0)
    }

    fn written(blocks: Range<u64>) -> Buffered {
        let mut state = Buffered::default();
        for block in blocks {
            state.put(block, page(1));
            state.grow(state.size, (block + 1) * BLOCK);
        }
        state
    }

    fn all<'a>(flights: &'a [Flight]) -> Vec<&'a Flight> {
        flights.iter().collect()
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
        assert_eq!(state.count(&ALL, stop), 0, "what was asked for is placed");
        assert_eq!(state.count(&ALL, state.versions_end()), 1);
    }

    #[test]
    fn a_page_written_again_before_its_flight_still_holds_the_older_write() {
        let mut state = written(0..1);
        let stop = state.versions_end();
        state.put(0, page(2));
        assert_eq!(state.count(&ALL, stop), 1);
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
        let buf = Rc::new(Arena::heap().alloc(3 * BLOCK_BYTES));
        let data: Vec<PageData> = (0..3).map(|n| PageData::new(&buf, n * BLOCK_BYTES)).collect();
        let lens = |slices: Vec<DmaSlice>| slices.iter().map(|s| s.len()).collect::<Vec<_>>();
        assert_eq!(lens(PageData::slices(&data)), [3 * BLOCK_BYTES]);
        let mixed = [data[0].clone(), data[2].clone(), page(1)];
        assert_eq!(lens(PageData::slices(&mixed)), [BLOCK_BYTES; 3]);
        assert!(PageData::slices(&[]).is_empty());
    }

    #[test]
    fn a_shard_counts_its_dirty_bytes_and_knows_the_oldest_file() {
        let (dirty, overlays) = (Dirty::default(), Overlays::default());
        let inos: Vec<InodeNo> =
            (2..4).map(|raw| InodeNo::from_raw(raw).expect("not zero")).collect();
        for (turn, &ino) in inos.iter().enumerate() {
            let make = || Overlay::new(ino, &Arena::heap(), &dirty);
            let overlay = overlays.get_or_make(ino, make);
            overlay.change(|state, _| state.put(0, page(1)));
            overlay.enqueue(Nanos(turn as u64));
            overlay.enqueue(Nanos(9));
        }
        assert_eq!((dirty.bytes(), dirty.oldest()), (2 * BLOCK_BYTES, Some((Nanos(0), inos[0]))));
        overlays.forget(inos[0]);
        assert_eq!((dirty.bytes(), dirty.oldest()), (BLOCK_BYTES, Some((Nanos(1), inos[1]))));
        let overlay = overlays.get(inos[1]).expect("still dirty");
        overlays.lose(&overlay, FsError::NoSpace);
        overlays.drop_idle(&overlay);
        assert!(overlays.get(inos[1]).is_some(), "its failure was not reported yet");
        assert_eq!(overlay.take_failure(), Some(FsError::NoSpace));
        overlays.drop_idle(&overlay);
        assert!(overlays.get(inos[1]).is_none() && dirty.oldest().is_none());
    }
}
