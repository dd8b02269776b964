//! Taking data away: a shorter file, and the file of an inode that has no name any more.
//!
//! A truncation rewrites no data. The extent that the new end cuts gets a shorter length, extents
//! and checksums behind are deleted, their blocks freed, and buffered pages behind are dropped. That
//! all is one record with the new size when there is little of it. A large file takes several: the
//! first one carries the size and a flag, the rest may follow in later records, also after a crash.
//! Between them nobody reads behind the size, and nothing makes the file longer before the rest is
//! gone (`finish_truncation`).
//!
//! What a step deletes leaves marks, which a scan passes one by one. So each step begins to look where
//! the one before ended (`Progress`): from the front again, the steps of a file of many extents would
//! take the square of their number. That is known in memory only; after a crash the first step passes
//! all marks once.
//!
//! Buffered pages go when the stretch that truncates ends. What was on its way to the device at that
//! moment is not linked any more (`buffered.rs`).
//!
//! Deleting needs no space but its records': callers take `Class::Freeing` permits with
//! `REMOVE_STEP_BYTES` in them for each step.

use super::BLOCK;
use super::map::{self, MappedExtent};
use crate::attr::FileKind;
use crate::error::FsError;
use crate::limits::{EXTENT_BLOCKS_MAX, FILE_BYTES_MAX, REMOVE_STEP_ITEMS};
use crate::sabotage::{Sabotage, planted};
use crate::shard::Shard;
use crate::txn::{Class, Need, Stop, View};
use cairn_base::door::Doors;
use cairn_format::InodeNo;
use cairn_format::item::{CHECKSUMS_PER_ITEM, EXTENT_OFFLINE, INODE_TRUNCATING, InodeItem};
use cairn_format::key::{KIND_CHECKSUMS, KIND_EXTENT, KIND_FIXITY, Key, ParsedKey};
use std::ops::ControlFlow;
use std::rc::Rc;

/// Bytes of the edits of one removed item: itself, and up to three free-run items.
pub(crate) const REMOVE_ITEM_BYTES: usize = 128;
/// Bytes of one step's edits: so many items, the inode, and what is said of it when it is gone.
pub(crate) const REMOVE_STEP_BYTES: usize = REMOVE_STEP_ITEMS * REMOVE_ITEM_BYTES + (4 << 10);

/// How far the steps of one removal have come: nothing is left in front of these places, which are in
/// units of each kind's key.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Progress {
    extents: u64,
    checksums: u64,
    fixity: u64,
}

/// Sets a file's size. True when extents behind it remain for `finish_truncation`.
///
/// It is the last thing in its stretch that can fail: buffered pages are cut when it returns. The
/// caller has checked who asks, sets the times, and stores the inode.
pub(crate) fn truncate_in(
    view: &mut View<'_>,
    ino: InodeNo,
    item: &mut InodeItem,
    size: u64,
) -> Result<bool, Stop> {
    match item.file_kind() {
        FileKind::Regular => {}
        FileKind::Directory => return Err(FsError::IsDirectory.into()),
        _ => return Err(FsError::Invalid.into()),
    }
    if size > FILE_BYTES_MAX {
        return Err(FsError::TooBig.into());
    }
    let tablet = view.tablet(ino.tablet());
    let overlays = &tablet.overlays;
    let shown = overlays.size(ino, item.size.get());
    if size != shown && item.offline_blocks.get() > 0 {
        // Behind the logged size is only what is being removed.
        require_online(view, ino, size.min(item.size.get()).div_ceil(BLOCK))?;
        // What was released of the MiB that the end is in lies behind it, and does not come back.
        let mib = size / BLOCK / EXTENT_BLOCKS_MAX;
        if view.get(ino.tablet(), &Key::fixity(ino, mib))?.is_some() {
            view.delete(ino.tablet(), Key::fixity(ino, mib));
        }
    }
    if item.flags & INODE_TRUNCATING != 0 && size > item.size.get() {
        // Rare: the caller has finished an earlier truncation in front of this stretch.
        if finish_truncation_step(view, ino, item, Progress::default())?.is_some() {
            return Err(FsError::Busy.into());
        }
    }
    let changes = size != shown || size != item.size.get();
    if changes {
        let newest = overlays.newest_version(ino, item.data_version.get());
        item.data_version = view.next_data_version(newest).into();
    }
    item.size = size.into();
    let mut more = false;
    if !planted(Sabotage::TruncateKeepsExtents) {
        cut_at_end(view, ino, item)?;
        more = drop_behind(view, ino, item, Progress::default())?.is_some();
    }
    mark_truncating(item, more);
    view.change_data_seq(ino, item);
    // Nothing below can end the stretch.
    if let Some(overlay) = overlays.get(ino) {
        overlay.change(|state, arena| {
            if !state.is_clean() {
                state.cut(size, arena);
                state.mtime = None;
                // What is still dirty is not in the record: the item's version is not its.
                state.data_version = state.data_version.max(item.data_version.get() + 1);
            }
        });
        overlays.drop_idle(&overlay);
    }
    Ok(more)
}

/// One more step of a truncation; the caller stores the inode. Gives where to go on, if there is more to
/// do and the size stays.
fn finish_truncation_step(
    view: &mut View<'_>,
    ino: InodeNo,
    item: &mut InodeItem,
    done: Progress,
) -> Result<Option<Progress>, Stop> {
    let more = drop_behind(view, ino, item, done)?;
    mark_truncating(item, more.is_some());
    Ok(more)
}

/// Removes `left` items' worth of the data of an inode that is being deleted, and takes them off; the
/// caller stores the inode. Gives where to go on, if there is more to do.
pub(crate) fn remove_data_step(
    view: &mut View<'_>,
    ino: InodeNo,
    item: &mut InodeItem,
    done: Progress,
    left: &mut usize,
) -> Result<Option<Progress>, Stop> {
    if item.file_kind() != FileKind::Regular {
        return Ok(None);
    }
    remove_from(view, ino, item, (0, done), left)
}

fn mark_truncating(item: &mut InodeItem, more: bool) {
    item.flags &= !INODE_TRUNCATING;
    if more {
        item.flags |= INODE_TRUNCATING;
    }
}

/// Ends the extent that reaches over the file's end there.
fn cut_at_end(view: &mut View<'_>, ino: InodeNo, item: &mut InodeItem) -> Result<(), Stop> {
    let end = item.size.get();
    let behind = end.div_ceil(BLOCK);
    if behind == 0 {
        return Ok(());
    }
    let last = map::extents(view, ino, behind - 1..behind)?.pop();
    if let Some(extent) = last.filter(|extent| extent.end() > end) {
        map::cut(view, ino, item, &extent, end)?;
    }
    Ok(())
}

fn drop_behind(
    view: &mut View<'_>,
    ino: InodeNo,
    item: &mut InodeItem,
    done: Progress,
) -> Result<Option<Progress>, Stop> {
    let from = item.size.get().div_ceil(BLOCK);
    remove_from(view, ino, item, (from, done), &mut { REMOVE_STEP_ITEMS })
}

/// Removes extents, checksums and fixity items from file block `from` on, where nothing in front
/// reaches over it, and `done` is gone already; at most `left` of them, which are taken off. Gives where to
/// go on when the step is full and there may be more.
fn remove_from(
    view: &mut View<'_>,
    ino: InodeNo,
    item: &mut InodeItem,
    (from, mut done): (u64, Progress),
    left: &mut usize,
) -> Result<Option<Progress>, Stop> {
    let tablet = ino.tablet();
    let mut found: Vec<(Key, MappedExtent)> = Vec::new();
    let mut damage = None;
    let end = Key::of_kind(ino, KIND_EXTENT).prefix_end();
    view.scan(tablet, Key::extent(ino, from.max(done.extents)), end, |key, value| {
        match map::mapped(&key, value) {
            Ok(extent) => found.push((key, extent)),
            Err(bad) => damage = Some(bad),
        }
        proceed(damage.is_none() && found.len() < *left)
    })?;
    if let Some(damage) = damage {
        return Err(view.damaged(tablet, damage));
    }
    *left -= found.len();
    for (key, extent) in found {
        done.extents = extent.end_block();
        view.delete(tablet, key);
        map::release(view, ino, item, &extent, extent.first_block..extent.end_block());
    }
    // A group of checksums that begins in front of `from` keeps the blocks it still has.
    let whole = from.next_multiple_of(CHECKSUMS_PER_ITEM);
    map::set_checksums(view, ino, from..whole, |_| None)?;
    let group = (whole / CHECKSUMS_PER_ITEM).max(done.checksums);
    if *left > 0
        && let Some(last) = remove_keys(view, ino, (KIND_CHECKSUMS, group), left)?
    {
        done.checksums = last + 1;
    }
    let mib = (from * BLOCK).div_ceil(1 << 20).max(done.fixity);
    if *left > 0
        && let Some(last) = remove_keys(view, ino, (KIND_FIXITY, mib), left)?
    {
        done.fixity = last + 1;
    }
    Ok((*left == 0).then_some(done))
}

/// Deletes up to `left` items of one kind, from a place on; gives the place of the last one.
fn remove_keys(
    view: &mut View<'_>,
    ino: InodeNo,
    (kind, from): (u8, u64),
    left: &mut usize,
) -> Result<Option<u64>, Stop> {
    let (tablet, at) = (ino.tablet(), Key::of_kind(ino, kind));
    let start = match kind {
        KIND_CHECKSUMS => Key::checksums(ino, from),
        _ => Key::fixity(ino, from),
    };
    let mut keys = Vec::new();
    view.scan(tablet, start, at.prefix_end(), |key, _| {
        keys.push(key);
        proceed(keys.len() < *left)
    })?;
    *left -= keys.len();
    let place = |key: &Key| match key.parse() {
        Some(ParsedKey::Checksums { group, .. }) => group,
        Some(ParsedKey::Fixity { mib, .. }) => mib,
        _ => from,
    };
    let last = keys.last().map(place);
    for key in keys {
        view.delete(tablet, key);
    }
    Ok(last)
}

fn proceed(on: bool) -> ControlFlow<()> {
    if on { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
}

/// A size change needs what stays to be online: the data_version that names the rest changes.
fn require_online(view: &View<'_>, ino: InodeNo, end_block: u64) -> Result<(), Stop> {
    let mut offline = false;
    let mut damage = None;
    view.scan(ino.tablet(), Key::extent(ino, 0), Key::extent(ino, end_block), |key, value| {
        match map::mapped(&key, value) {
            Ok(extent) => offline |= extent.head.is(EXTENT_OFFLINE),
            Err(bad) => damage = Some(bad),
        }
        proceed(!offline && damage.is_none())
    })?;
    match damage {
        Some(damage) => Err(view.damaged(ino.tablet(), damage)),
        None if offline => Err(FsError::Offline.into()),
        None => Ok(()),
    }
}

impl<D: Doors> Shard<D> {
    /// Removes what an earlier truncation has left behind the size, however long that takes.
    pub(crate) async fn finish_truncation(self: &Rc<Self>, ino: InodeNo) -> Result<(), FsError> {
        let mut done = (0, Progress::default());
        loop {
            let need = Need::new(Class::Freeing, &[ino.tablet()], REMOVE_STEP_BYTES);
            let step = self.transact(need, |view| {
                let mut item = view.inode_to_change(ino)?;
                if item.flags & INODE_TRUNCATING == 0 {
                    return Ok(None);
                }
                let size = item.size.get();
                // A size that was set meanwhile leaves something in front, and so does a restore that began
                // when somebody else had come to the end; it begins at the first block (`restore.rs`).
                let first = Key::extent(ino, size.div_ceil(BLOCK));
                let goes_on = size == done.0 && view.get(ino.tablet(), &first)?.is_none();
                let so_far = if goes_on { done.1 } else { Progress::default() };
                let more = finish_truncation_step(view, ino, &mut item, so_far)?;
                view.change_inode(ino, &mut item);
                Ok(more.map(|more| (size, more)))
            });
            let (more, _) = step.await?;
            match more {
                Some(more) => done = more,
                None => return Ok(()),
            }
            self.handle.yield_now().await;
        }
    }
}
