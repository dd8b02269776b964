//! Buffering a write: its pages go into the file's overlay in one synchronous stretch.
//!
//! The payload's buffer is laid out as the file's blocks are, so a block that the write covers
//! becomes a page as it is. What stands around the payload in its first and last block is filled in
//! from what the file has there: a buffered page, inline bytes, or a device block that was read
//! before. Waiting for that read, others may change the file; the stretch then finds that the map or
//! the file's data_seq is not what was read from, and asks again. (A link moves data_seq, and freed
//! blocks are reused only after a later one, so equal means unchanged.)
//!
//! Gathering also takes what placing the pages will need: a promise of data blocks, which the overlay
//! keeps, and room in the shard's budget of dirty bytes. That the map can grow is only looked at, not
//! kept: a pool that is full refuses here, rather than when the buffered data is to be placed.
//!
//! All data of a file that is partly offline has to be staged before a byte of it changes: its
//! data_version would no longer name what the archive has.
//!
//! When a write takes the set-id bits off, that is logged with the stretch itself: it does not wait
//! for the data.

use super::buffered::PageData;
use super::map;
use super::overlay::Overlay;
use super::read::OldBlock;
use super::{BLOCK, blocks_of};
use crate::access;
use crate::attr::{Before, Change, FileKind, Rights};
use crate::cred::Cred;
use crate::error::FsError;
use crate::limits::FILE_BYTES_MAX;
use crate::op::Stability;
use crate::shard::Shard;
use crate::space::Promise;
use crate::txn::{Class, Need, Stop, View};
use cairn_base::door::{Disk, Doors};
use cairn_base::{BLOCK_BYTES, DmaBuf};
use cairn_format::item::{INODE_RETENTION, INODE_TRUNCATING, InodeItem};
use cairn_format::{InodeNo, TabletId};
use std::ops::Range;
use std::rc::Rc;
use std::sync::Arc;

/// Bytes of map items that linking one page adds to a record, roughly: what a write looks for room
/// for.
const LINK_BYTES: usize = 64;

/// Who writes where.
#[derive(Clone, Debug)]
pub(crate) struct Incoming {
    pub cred: Cred,
    pub ino: InodeNo,
    pub offset: u64,
    pub len: usize,
}

impl Incoming {
    fn blocks(&self) -> Range<u64> {
        blocks_of(self.offset, self.len as u64)
    }

    fn end(&self) -> u64 {
        self.offset + self.len as u64
    }

    /// The blocks it covers in part, at most two.
    fn partial(&self) -> impl Iterator<Item = u64> + use<> {
        let (blocks, end) = (self.blocks(), self.end());
        let first = (!self.offset.is_multiple_of(BLOCK)).then_some(blocks.start);
        let last = (!end.is_multiple_of(BLOCK)).then_some(blocks.end - 1);
        first.into_iter().chain(last.filter(|last| Some(*last) != first))
    }
}

/// What one try of the stretch came to.
enum Tried {
    Done(Change),
    /// The device has the rest of this block.
    Fetch(u64),
    /// An earlier truncation has left extents behind the size.
    FinishTruncation,
    /// The inode changes at once: come back with a permit.
    NeedsRecord,
}

/// What the stretch uses up, whole or not at all.
struct Load {
    data: Option<DmaBuf>,
    promise: Option<Promise>,
}

/// What a partly covered block holds without the write.
enum Base {
    Zeros,
    Bytes(Rc<[u8]>),
    Page(PageData),
    /// Place in the list of what was read before.
    Old(usize),
    Unread,
}

impl<D: Doors> Shard<D> {
    pub(crate) async fn write_data(
        self: &Rc<Self>,
        ask: &Incoming,
        mut data: DmaBuf,
        stability: Stability,
    ) -> Result<Change, FsError> {
        let start = (ask.offset % BLOCK) as usize;
        let in_range = ask.offset.checked_add(ask.len as u64).is_some_and(|e| e <= FILE_BYTES_MAX);
        if !in_range {
            return Err(FsError::TooBig);
        }
        let blocks = ask.blocks();
        let count = (blocks.end - blocks.start) as usize;
        if data.len() < start + ask.len {
            return Err(FsError::Invalid);
        }
        data.truncate(count * BLOCK_BYTES);
        let promise = self.room_for_pages(ask.ino.tablet(), count).await?;
        let change = self.buffer(ask, Load { data: Some(data), promise }).await?;
        if stability == Stability::Unstable {
            if self.core.dirty.is_much() {
                self.core.dirty.more().wake_all();
            }
            return Ok(change);
        }
        self.place(ask.ino, blocks).await?;
        Ok(change)
    }

    /// Waits until so many more pages may be buffered, and can be placed some day.
    async fn room_for_pages(
        self: &Rc<Self>,
        tablet: TabletId,
        count: usize,
    ) -> Result<Option<Promise>, FsError> {
        if count == 0 {
            return Ok(None);
        }
        self.core.dirty.room().await;
        if self.has_stopped() {
            return Err(FsError::Stopped);
        }
        let need = Need::new(Class::Growing, &[tablet], Need::SMALL + count * LINK_BYTES);
        drop(self.permit(&need).await?);
        match self.promise_data(tablet, count as u64).await {
            Err(error) if error == self.no_space() && self.core.dirty.bytes() > 0 => {
                // Placing what is buffered frees what it replaces.
                self.write_back_all().await?;
                self.promise_data(tablet, count as u64).await.map(Some)
            }
            promised => promised.map(Some),
        }
    }

    async fn buffer(self: &Rc<Self>, ask: &Incoming, mut load: Load) -> Result<Change, FsError> {
        let mut known: Vec<OldBlock> = Vec::new();
        let mut logs = false;
        loop {
            let stretch = |view: &mut View<'_>| self.try_write(view, ask, &known, &mut load, logs);
            let tried = if logs {
                let need = Need::new(Class::Growing, &[ask.ino.tablet()], Need::SMALL);
                self.transact(need, stretch).await?.0
            } else {
                self.read_with(stretch).await?
            };
            match tried {
                Tried::Done(change) => return Ok(change),
                Tried::Fetch(block) => {
                    known.retain(|old| old.block != block);
                    known.extend(self.read_old_block(ask.ino, block).await?);
                }
                Tried::FinishTruncation => self.finish_truncation(ask.ino).await?,
                Tried::NeedsRecord => logs = true,
            }
        }
    }

    fn try_write(
        &self,
        view: &mut View<'_>,
        ask: &Incoming,
        known: &[OldBlock],
        load: &mut Load,
        logs: bool,
    ) -> Result<Tried, Stop> {
        let ino = ask.ino;
        let mut item = view.inode_to_change(ino)?;
        require_writable(&ask.cred, &item)?;
        if item.flags & INODE_TRUNCATING != 0 {
            return Ok(Tried::FinishTruncation);
        }
        let before = Before::of(&view.attr(ino, &item));
        if ask.len == 0 {
            return Ok(Tried::Done(Change { before, after: view.attr(ino, &item) }));
        }
        let mode = access::mode_after_write(&ask.cred, &item);
        if mode != item.mode.get() && !logs {
            return Ok(Tried::NeedsRecord);
        }
        let overlays = &view.tablet(ino.tablet()).overlays;
        let size = overlays.size(ino, item.size.get());
        let mut bases = Vec::new();
        for block in ask.partial() {
            match base_of(view, ino, &item, block, size, known)? {
                Base::Unread => return Ok(Tried::Fetch(block)),
                base => bases.push((block, base)),
            }
        }
        // Nothing below can end the stretch.
        if mode != item.mode.get() {
            item.mode = mode.into();
            item.ctime = view.now.into();
            view.change_inode(ino, &mut item);
        }
        let mut data = load.data.take().expect("the stretch ends here once");
        for (block, base) in &bases {
            fill_around(&mut data, ask, *block, base, known);
        }
        let data = Arc::new(data);
        let version = view.next_data_version(overlays.newest_version(ino, item.data_version.get()));
        let make = || Overlay::new(ino, self.disk.arena(), &self.core.dirty);
        let overlay = overlays.get_or_make(ino, make);
        overlay.change(|state, _| {
            for (place, block) in ask.blocks().enumerate() {
                state.put(block, PageData::new(&data, place * BLOCK_BYTES));
            }
            state.grow(size, ask.end());
            state.mtime = Some(view.now);
            state.ctime = state.ctime.max(view.now);
            state.data_version = version;
            if let Some(promise) = load.promise.take() {
                state.add_promise(promise);
            }
        });
        if self.core.dirty.oldest().is_none() {
            // The background has nothing to wait for yet.
            self.core.dirty.more().wake_all();
        }
        overlay.enqueue(self.handle.now());
        Ok(Tried::Done(Change { before, after: view.attr(ino, &item) }))
    }
}

/// May `cred` write now? The owner always: see `read.rs`.
fn require_writable(cred: &Cred, item: &InodeItem) -> Result<(), FsError> {
    match item.file_kind() {
        FileKind::Regular => {}
        FileKind::Directory => return Err(FsError::IsDirectory),
        _ => return Err(FsError::Invalid),
    }
    if item.nlink.get() == 0 {
        return Err(FsError::Stale);
    }
    if !access::is_owner(cred, item) {
        access::require(cred, item, Rights::WRITE)?;
    }
    if item.flags & INODE_RETENTION != 0 {
        return Err(FsError::Permission);
    }
    // What is left behind the size of a truncation, or of a restore that a crash ended, goes first.
    if item.offline_blocks.get() > 0 && item.flags & INODE_TRUNCATING == 0 {
        return Err(FsError::Offline);
    }
    Ok(())
}

fn base_of(
    view: &View<'_>,
    ino: InodeNo,
    item: &InodeItem,
    block: u64,
    size: u64,
    known: &[OldBlock],
) -> Result<Base, Stop> {
    if let Some(overlay) = view.tablet(ino.tablet()).overlays.get(ino)
        && let Some(page) = overlay.read(|state| state.page(block).cloned())
    {
        return Ok(Base::Page(page));
    }
    if block * BLOCK >= size {
        return Ok(Base::Zeros);
    }
    let Some(extent) = map::extents(view, ino, block..block + 1)?.pop() else {
        return Ok(Base::Zeros);
    };
    if let Some(bytes) = extent.inline {
        return Ok(Base::Bytes(bytes));
    }
    if extent.head.is(cairn_format::item::EXTENT_UNWRITTEN) {
        return Ok(Base::Zeros);
    }
    let read = known.iter().position(|old| {
        old.block == block && old.extent == extent && old.data_seq == item.data_seq.get()
    });
    Ok(read.map_or(Base::Unread, Base::Old))
}

/// Fills in what the payload leaves open in one of its blocks.
fn fill_around(data: &mut DmaBuf, ask: &Incoming, block: u64, base: &Base, known: &[OldBlock]) {
    let old: &[u8] = match base {
        Base::Zeros | Base::Unread => &[],
        Base::Bytes(bytes) => bytes,
        Base::Page(page) => page,
        Base::Old(place) => &known[*place].content,
    };
    let file_start = block * BLOCK;
    let from = ask.offset.saturating_sub(file_start).min(BLOCK) as usize;
    let to = (ask.end() - file_start).min(BLOCK) as usize;
    let place = (block - ask.blocks().start) as usize * BLOCK_BYTES;
    let page = &mut data[place..place + BLOCK_BYTES];
    for gap in [0..from, to..BLOCK_BYTES] {
        let held = gap.start.min(old.len())..gap.end.min(old.len());
        let (copied, rest) = page[gap].split_at_mut(held.len());
        copied.copy_from_slice(&old[held]);
        rest.fill(0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use cairn_base::Arena;

    fn ask(offset: u64, len: usize) -> Incoming {
        Incoming { cred: Cred::root(), ino: InodeNo::ROOT, offset, len }
    }

    fn payload(ask: &Incoming) -> DmaBuf {
        let start = (ask.offset % BLOCK) as usize;
        let mut data = Arena::heap().alloc(start + ask.len);
        data.fill(0xee);
        data[start..start + ask.len].fill(1);
        data
    }

    #[test]
    fn only_the_ends_are_partial() {
        let partial = |offset, len| ask(offset, len).partial().collect::<Vec<_>>();
        assert_eq!(partial(0, 8192), []);
        assert_eq!(partial(1, 10), [0]);
        assert_eq!(partial(4096, 100), [1]);
        assert_eq!(partial(100, 4096), [0, 1]);
        assert_eq!(partial(100, 4096 * 2 - 100), [0]);
    }

    #[test]
    fn what_surrounds_a_payload_is_the_files_not_the_senders() {
        let ask = ask(100, 4096);
        let mut data = payload(&ask);
        let inline: Rc<[u8]> = vec![7; 150].into();
        fill_around(&mut data, &ask, 0, &Base::Bytes(Rc::clone(&inline)), &[]);
        fill_around(&mut data, &ask, 1, &Base::Bytes(inline), &[]);
        let expect = [vec![7; 100], vec![1; 4096], vec![7; 50], vec![0; 4096 - 150]].concat();
        assert!(data[..] == expect[..]);
    }

    #[test]
    fn behind_the_end_of_the_file_there_is_nothing() {
        let ask = ask(8200, 10);
        let mut data = payload(&ask);
        fill_around(&mut data, &ask, 2, &Base::Zeros, &[]);
        let expect = [vec![0; 8], vec![1; 10], vec![0; 4096 - 18]].concat();
        assert!(data[..] == expect[..]);
    }
}
