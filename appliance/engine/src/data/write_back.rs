//! Placing what is buffered: pages become extents, by a record that carries everything else the
//! writes changed.
//!
//! Few pages go *inline*: their content is in the record itself, taken as it is in the stretch that
//! links it, and there is no device write to wait for. More go to the *device* in rounds: take the
//! pages' present content, reserve runs, write, flush, and link them by as many records as they need.
//! While that is under way clients go on writing, truncating and removing; the stretch that links
//! looks again at each page and leaves out what is not wanted any more.
//!
//! A record that links a file's last dirty page carries the size, times and data_version that were
//! shown. One that links some of them carries a size the file had on the way, and a data_version of
//! its own that nobody sees while the rest is dirty (`overlay.rs`).
//!
//! When placing fails, whatever the reason, the file's buffered data is dropped, its next COMMIT says
//! so, and the write verifier changes, so that clients send again what they still have. Nothing is
//! retried here.
//!
//! The background (`run_write_back`) comes to each file some seconds after its first dirty page, and
//! at once when much is dirty. Nobody waits for it unless the budget is spent.

use super::buffered::{Buffered, Flight};
use super::join;
use super::overlay::Overlay;
use super::place::{Placed, addresses, extents_of, runs_of};
use super::replace::{Content, NewExtent, replace};
use crate::error::FsError;
use crate::limits::{DIRTY_AGE_MS, INLINE_WRITE_BYTES_MAX};
use crate::log::Ticket;
use crate::sabotage::{Sabotage, planted};
use crate::shard::Shard;
use crate::tablet::Tablet;
use crate::trouble::{During, Trouble};
use crate::txn::{Class, Need, Stop, View};
use cairn_base::door::Doors;
use cairn_base::{BLOCK_BYTES, Nanos};
use cairn_format::InodeNo;
use cairn_format::item::{INODE_TRUNCATING, InodeItem};
use cairn_format::key::Purpose;
use cairn_reactor::race;
use std::ops::Range;
use std::rc::Rc;

/// Pages that one record puts inline.
const INLINE_PAGES_MAX: usize = INLINE_WRITE_BYTES_MAX / BLOCK_BYTES;
/// Blocks of one round: 16 MiB are written between two flushes.
const ROUND_BLOCKS: usize = 4096;
/// Blocks that one record links. With the bound below a record stays under half of its largest size,
/// and the log admits twice the bound.
const LINK_BLOCKS_MAX: usize = 768;
/// An old extent's rest, a new extent, a checksum, and the free-run items of what is replaced.
const LINK_BYTES: usize = 184;
/// The free-run items of a run that is taken.
const RUN_BYTES: usize = 72;
const RECORD_HEAD_BYTES: usize = 2 << 10;
/// Files that are written back at once.
const FILES_MAX: usize = 4;

const _: () = assert!(
    2 * (RECORD_HEAD_BYTES + LINK_BLOCKS_MAX * (LINK_BYTES + RUN_BYTES)) + 2048
        <= crate::limits::RECORD_BYTES_MAX
);

/// A page on its way: its content, and where that goes.
struct Flying {
    flight: Flight,
    placed: Placed,
}

impl<D: Doors> Shard<D> {
    /// Makes what is buffered of these blocks durable.
    pub(crate) async fn place(
        self: &Rc<Self>,
        ino: InodeNo,
        blocks: Range<u64>,
    ) -> Result<(), FsError> {
        let ticket = self.write_back(ino, blocks).await?;
        self.settle(ticket).await
    }

    /// Brings a file's data to rest before its size or times are set: places what is buffered and
    /// finishes an earlier truncation.
    pub(crate) async fn write_back_file(self: &Rc<Self>, ino: InodeNo) -> Result<(), FsError> {
        self.write_back(ino, 0..u64::MAX).await?;
        let cut_short = self.read_with(|view| {
            let item = view.inode_if_any(ino)?;
            Ok(item.is_some_and(|item| item.flags & INODE_TRUNCATING != 0))
        });
        if cut_short.await? { self.finish_truncation(ino).await } else { Ok(()) }
    }

    /// Places what is buffered of these blocks at this moment. The ticket covers it, and whatever
    /// others have placed before.
    pub(crate) async fn write_back(
        self: &Rc<Self>,
        ino: InodeNo,
        blocks: Range<u64>,
    ) -> Result<Ticket, FsError> {
        let tablet = self.core.tablet(ino.tablet());
        let Some(overlay) = tablet.overlays.get(ino) else {
            return Ok(self.log.newest_ticket());
        };
        let stop = overlay.read(Buffered::versions_end);
        let (losses, _) = overlay.losses();
        let job = Job { tablet: &tablet, overlay: &overlay, ino, blocks, stop };
        loop {
            let (now, failed) = overlay.losses();
            if now != losses {
                return Err(failed.unwrap_or(FsError::Stopped));
            }
            let left = job.count(INLINE_PAGES_MAX + 1);
            if left == 0 {
                break;
            }
            let placed =
                if left <= self.blocks_in_a_record(BLOCK_BYTES + LINK_BYTES, INLINE_PAGES_MAX) {
                    self.place_inline(&job, left).await
                } else {
                    let _turn = overlay.turn.acquire(1).await;
                    self.place_on_device(&job).await
                };
            if let Err(error) = placed {
                tablet.overlays.lose(&overlay, error);
                self.core.counters.write_backs_lost.add(1);
                self.note(Trouble { during: During::WriteBack, ino: Some(ino), error });
                self.change_write_verifier();
                return Err(error);
            }
        }
        overlay.requeue(self.handle.now());
        tablet.overlays.drop_idle(&overlay);
        self.core.counters.write_backs.add(1);
        Ok(self.log.newest_ticket())
    }

    /// How many blocks of so many bytes of items one record may take: no more than `most`, and not
    /// more than a good part of the memtables, which would never have room for it at once.
    fn blocks_in_a_record(&self, bytes: usize, most: usize) -> usize {
        let room = (self.config.memtable_bytes / 4).saturating_sub(RECORD_HEAD_BYTES);
        (room / bytes).min(most)
    }

    async fn place_inline(self: &Rc<Self>, job: &Job<'_>, most: usize) -> Result<(), FsError> {
        let (ino, overlay) = (job.ino, job.overlay);
        let bytes = RECORD_HEAD_BYTES + most * (BLOCK_BYTES + LINK_BYTES);
        let need = Need::new(Class::Placing, &[ino.tablet()], bytes);
        let linked = self.transact(need, |view| {
            let Some(mut item) = job.inode(view)? else { return Ok(()) };
            let flights = overlay.read(|state| state.select(&job.blocks, job.stop, most));
            if flights.is_empty() {
                return Ok(());
            }
            let new: Vec<NewExtent<'_>> = flights
                .iter()
                .map(|flight| NewExtent {
                    first_block: flight.block,
                    length: flight.len,
                    content: Content::Inline(&flight.data[..flight.len as usize]),
                })
                .collect();
            replace(view, ino, &mut item, &new)?;
            job.carry(view, &mut item, &flights.iter().collect::<Vec<_>>());
            Ok(())
        });
        linked.await?;
        Ok(())
    }

    async fn place_on_device(self: &Rc<Self>, job: &Job<'_>) -> Result<(), FsError> {
        let most = job.count(ROUND_BLOCKS);
        if most == 0 {
            return Ok(());
        }
        let held = self.reserve_data(job.tablet, most as u64).await?;
        // What was reserved leaves the promise in the same moment.
        let flights = job.overlay.change(|state, _| state.launch(&job.blocks, job.stop, most));
        let pages: Vec<Flying> = flights
            .into_iter()
            .zip(addresses(&held))
            .map(|(flight, at)| {
                let placed = Placed::new(flight.block, flight.len, at, &flight.data);
                Flying { flight, placed }
            })
            .collect();
        let early = planted(Sabotage::RecordBeforeData);
        if !early {
            self.write_pages(&pages).await?;
        }
        let chunk = self.blocks_in_a_record(LINK_BYTES + RUN_BYTES, LINK_BLOCKS_MAX).max(1);
        let mut linked = 0;
        for chunk in pages.chunks(chunk) {
            linked += self.link(job, chunk).await?;
        }
        if early {
            self.write_pages(&pages).await?;
        }
        // What a truncation kept from being linked is dirty again, or was cut: its block goes back.
        let back = held.blocks() - linked;
        drop(held);
        let promise = job.tablet.space.promise(Purpose::Data, back, 0);
        job.overlay.change(|state, _| match promise {
            Some(promise) if !state.is_clean() => state.add_promise(promise),
            _ => state.shrink_promise(),
        });
        Ok(())
    }

    async fn write_pages(&self, pages: &[Flying]) -> Result<(), FsError> {
        let blocks: Vec<_> =
            pages.iter().map(|p| (p.placed.at, &p.flight.data, p.placed.crc)).collect();
        self.write_blocks(&blocks).await?;
        self.flush_under(pages.iter().map(|page| page.placed.at)).await
    }

    /// Links pages that are on their device, those that are still wanted. Gives their number.
    async fn link(self: &Rc<Self>, job: &Job<'_>, pages: &[Flying]) -> Result<u64, FsError> {
        let (ino, overlay) = (job.ino, job.overlay);
        let runs = runs_of(pages.iter().map(|page| &page.placed)).len();
        let bytes = RECORD_HEAD_BYTES + pages.len() * LINK_BYTES + runs * RUN_BYTES;
        let need = Need::new(Class::Placing, &[ino.tablet()], bytes);
        let linked = self.transact(need, |view| {
            let Some(mut item) = job.inode(view)? else { return Ok(0) };
            let wanted: Vec<&Flying> = overlay
                .read(|state| pages.iter().filter(|p| state.is_current(&p.flight)).collect());
            if wanted.is_empty() {
                return Ok(0);
            }
            let new = extents_of(wanted.iter().map(|page| &page.placed));
            replace(view, ino, &mut item, &new)?;
            for run in runs_of(wanted.iter().map(|page| &page.placed)) {
                view.take_run(ino.tablet(), Purpose::Data, run);
            }
            let flights: Vec<&Flight> = wanted.iter().map(|page| &page.flight).collect();
            job.carry(view, &mut item, &flights);
            Ok(flights.len() as u64)
        });
        Ok(linked.await?.0)
    }

    /// Places everything that is buffered now, in all files.
    pub(crate) async fn write_back_all(self: &Rc<Self>) -> Result<(), FsError> {
        let files = self.core.dirty.files();
        let all = files.into_iter().map(|ino| self.write_back(ino, 0..u64::MAX));
        let mut first_error = Ok(());
        for placed in join::join(FILES_MAX, all).await {
            first_error = first_error.and(placed.map(drop));
        }
        first_error?;
        self.settle(self.log.newest_ticket()).await
    }

    /// The background: ends when the shard stops. Every file is on its own, so that the device has something
    /// to do while one of them flushes and links.
    pub(crate) async fn run_write_back(self: Rc<Self>) {
        let dirty = &self.core.dirty;
        loop {
            let some = || {
                let is_free = dirty.writing() < FILES_MAX;
                let oldest = is_free.then(|| dirty.oldest()).flatten();
                if self.is_stopping() { Some(None) } else { oldest.map(Some) }
            };
            let Some((since, _)) = dirty.more().until(some).await else { return };
            let is_pressed = || (dirty.is_much() || self.is_stopping()).then_some(());
            let due = since + Nanos::from_millis(DIRTY_AGE_MS);
            race(dirty.more().until(is_pressed), self.handle.sleep_until(due)).await;
            let is_due = |since| since + Nanos::from_millis(DIRTY_AGE_MS) <= self.handle.now();
            // Meanwhile a COMMIT may have placed it.
            let Some((since, ino)) = dirty.oldest() else { continue };
            if self.is_stopping() || !is_due(since) && !dirty.is_much() {
                continue;
            }
            let (shard, writing) = (Rc::clone(&self), dirty.begin(ino));
            let spawned = self.gate.spawn(async move {
                // A failure was noted with the file it belongs to.
                let _ = shard.write_back(ino, 0..u64::MAX).await;
                drop(writing);
            });
            if spawned.is_err() {
                return;
            }
        }
    }
}

/// What one write-back is about.
struct Job<'a> {
    tablet: &'a Rc<Tablet>,
    overlay: &'a Rc<Overlay>,
    ino: InodeNo,
    blocks: Range<u64>,
    /// Writes from this version on are not its business.
    stop: u64,
}

impl Job<'_> {
    /// Pages that are left, as far as `most` of them.
    fn count(&self, most: usize) -> usize {
        self.overlay.read(|state| state.count(&self.blocks, self.stop, most))
    }

    /// The inode to link to. Without one nothing buffered is wanted any more.
    fn inode(&self, view: &View<'_>) -> Result<Option<InodeItem>, Stop> {
        view.require_unlocked(self.ino)?;
        let item = view.inode_if_any(self.ino)?.filter(|item| item.nlink.get() > 0);
        if item.is_none() {
            self.overlay.change(|state, _| state.clear());
        }
        Ok(item)
    }

    /// Carries what the writes changed beside the data, stores the inode, and takes the linked
    /// contents out of the overlay. The last thing in its stretch.
    fn carry(&self, view: &mut View<'_>, item: &mut InodeItem, flights: &[&Flight]) {
        let end = flights.iter().map(|flight| flight.end()).max().unwrap_or(0);
        let newest = self.tablet.overlays.newest_version(self.ino, item.data_version.get());
        self.overlay.change(|state, _| {
            let last = state.ends_with(flights);
            let size = if last { state.size } else { state.size_covering(end) };
            let size = match planted(Sabotage::SizeNotCarried) {
                true => item.size.get(),
                false => item.size.get().max(size),
            };
            item.size = size.into();
            item.mtime = state.mtime.map_or(item.mtime, Into::into);
            item.ctime = item.ctime.get().max(state.ctime).into();
            if last {
                item.data_version = item.data_version.get().max(state.data_version).into();
            } else {
                let own = view.next_data_version(newest);
                item.data_version = own.into();
                state.data_version = own + 1;
            }
            state.land(flights, size);
        });
        view.change_data_seq(self.ino, item);
        view.change_inode(self.ino, item);
        debug_assert!(item.size.get() >= end, "nothing is mapped behind the size");
    }
}
