//! Who has buffered writes: what clients were told is written and the trees do not know yet.
//!
//! A file with buffered writes has an overlay. Reading, GETATTR and the archive verbs look at it
//! first, so nobody sees the difference. It is dropped when it has nothing to say: when nothing is
//! dirty and no loss waits to be told to a COMMIT.
//!
//! A shard counts its dirty bytes, makes writers wait above a budget, and keeps its dirty files in
//! the order in which they became so.
//!
//! Not here: what a file's overlay holds (`buffered.rs`), when and where it is placed
//! (`write_back.rs`).

use super::buffered::Buffered;
use crate::attr::{Attr, Time};
use crate::error::FsError;
use crate::limits::{DIRTY_BYTES_DEFAULT, DIRTY_START_PART};
use cairn_base::hash::Map;
use cairn_base::{Arena, Nanos};
use cairn_format::InodeNo;
use cairn_reactor::{Semaphore, WaitList};
use std::cell::{Cell, RefCell};
use std::collections::BTreeSet;
use std::rc::Rc;

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
            state: RefCell::default(),
        }
    }

    pub fn read<R>(&self, body: impl FnOnce(&Buffered) -> R) -> R {
        body(&self.state.borrow())
    }

    /// Changes what is buffered and keeps the shard's sums in step.
    pub fn change<R>(&self, body: impl FnOnce(&mut Buffered, &Arena) -> R) -> R {
        let result = body(&mut self.state.borrow_mut(), &self.arena);
        let bytes = self.state.borrow().bytes();
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
        self.state.borrow().losses()
    }

    /// What the next COMMIT has to answer.
    pub fn take_failure(&self) -> Option<FsError> {
        self.state.borrow_mut().take_failure()
    }

    fn is_idle(&self) -> bool {
        let state = self.state.borrow();
        state.is_clean() && !state.has_failure()
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

    /// Does the file have buffered writes?
    pub fn is_dirty(&self, ino: InodeNo) -> bool {
        let files = self.files.borrow();
        files.get(&ino).is_some_and(|overlay| !overlay.state.borrow().is_clean())
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
#[derive(Clone)]
pub struct Dirty {
    state: Rc<DirtyState>,
}

struct DirtyState {
    bytes: Cell<usize>,
    bytes_max: usize,
    queue: RefCell<BTreeSet<(Nanos, InodeNo)>>,
    /// Files that the background writes back now.
    writing: RefCell<BTreeSet<InodeNo>>,
    less: WaitList,
    /// Something was buffered, a file was written back, or the shard stops: for the background.
    more: WaitList,
}

impl Default for Dirty {
    fn default() -> Dirty {
        Dirty::new(DIRTY_BYTES_DEFAULT)
    }
}

impl Dirty {
    pub fn new(bytes_max: usize) -> Dirty {
        let state = DirtyState {
            bytes: Cell::default(),
            bytes_max,
            queue: RefCell::default(),
            writing: RefCell::default(),
            less: WaitList::new(),
            more: WaitList::new(),
        };
        Dirty { state: Rc::new(state) }
    }

    /// What write-back in the background waits at.
    pub fn more(&self) -> &WaitList {
        &self.state.more
    }

    /// So much that write-back begins by itself.
    pub fn is_much(&self) -> bool {
        self.state.bytes.get() > self.state.bytes_max / DIRTY_START_PART
    }

    pub fn bytes(&self) -> usize {
        self.state.bytes.get()
    }

    /// The file that has been dirty longest, of those that the background does not write back now, and
    /// since when.
    pub fn oldest(&self) -> Option<(Nanos, InodeNo)> {
        let writing = self.state.writing.borrow();
        self.state.queue.borrow().iter().find(|(_, ino)| !writing.contains(ino)).copied()
    }

    /// How many files the background writes back now.
    pub fn writing(&self) -> usize {
        self.state.writing.borrow().len()
    }

    /// The background writes this file back while the value lives.
    pub fn begin(&self, ino: InodeNo) -> Writing {
        let is_new = self.state.writing.borrow_mut().insert(ino);
        assert!(is_new, "a file is written back by one at a time");
        Writing { dirty: self.clone(), ino }
    }

    /// All files with buffered data, the oldest first.
    pub fn files(&self) -> Vec<InodeNo> {
        self.state.queue.borrow().iter().map(|(_, ino)| *ino).collect()
    }

    /// Waits while too much is buffered.
    pub async fn room(&self) {
        let room = || (self.state.bytes.get() <= self.state.bytes_max).then_some(());
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

/// A file that the background writes back now.
pub struct Writing {
    dirty: Dirty,
    ino: InodeNo,
}

impl Drop for Writing {
    fn drop(&mut self) {
        self.dirty.state.writing.borrow_mut().remove(&self.ino);
        self.dirty.state.more.wake_all();
    }
}

#[cfg(test)]
mod tests {
    use super::super::buffered::PageData;
    use super::*;
    use cairn_base::BLOCK_BYTES;
    use std::sync::Arc;

    fn page() -> PageData {
        PageData::new(&Arc::new(Arena::heap().alloc(BLOCK_BYTES)), 0)
    }

    #[test]
    fn a_shard_counts_its_dirty_bytes_and_knows_the_oldest_file() {
        let (dirty, overlays) = (Dirty::default(), Overlays::default());
        let inos: Vec<InodeNo> =
            (2..4).map(|raw| InodeNo::from_raw(raw).expect("not zero")).collect();
        for (turn, &ino) in inos.iter().enumerate() {
            let make = || Overlay::new(ino, &Arena::heap(), &dirty);
            let overlay = overlays.get_or_make(ino, make);
            overlay.change(|state, _| state.put(0, page()));
            overlay.enqueue(Nanos(turn as u64));
            overlay.enqueue(Nanos(9));
        }
        assert_eq!((dirty.bytes(), dirty.oldest()), (2 * BLOCK_BYTES, Some((Nanos(0), inos[0]))));
        let writing = dirty.begin(inos[0]);
        assert_eq!((dirty.writing(), dirty.oldest()), (1, Some((Nanos(1), inos[1]))));
        drop(writing);
        assert_eq!((dirty.writing(), dirty.oldest()), (0, Some((Nanos(0), inos[0]))));
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
