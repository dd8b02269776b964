//! Restoring: a file that the archive has and the pool has not gets its size, and all of it offline.
//!
//! An extent stays in its file MiB, so a large file has many, and they come in steps. None of them may show:
//! a reader of a file that has its size and only some of its extents would get zeros for data. So the
//! extents are made behind the size of an empty file, which is marked as one that is being truncated; the
//! record of the last step gives it size, version and times, and takes the mark away. Until then it is an
//! empty file that was never written, and who changes it otherwise removes what is there already
//! (`finish_truncation`), also after a crash. A restore that finds its extents gone gives up.
//!
//! What always holds while the mark is there and the extent of block 0 too: the offline blocks are the
//! first ones of the file, without a gap. A removal begins at the front, and takes the mark when it ends.

use super::BLOCK;
use super::map;
use super::truncate::REMOVE_STEP_BYTES;
use crate::attr::{FileKind, Time};
use crate::error::FsError;
use crate::limits::{EXTENT_BLOCKS_MAX, FILE_BYTES_MAX, REMOVE_STEP_ITEMS, RESTORE_BYTES_MAX};
use crate::log::Ticket;
use crate::shard::Shard;
use crate::txn::{Class, Need, Stop, View};
use cairn_base::door::Doors;
use cairn_format::InodeNo;
use cairn_format::item::{
    EXTENT_OFFLINE, ExtentHead, INODE_RETENTION, INODE_TRUNCATING, InodeItem,
};
use cairn_format::key::Key;
use std::rc::Rc;
use zerocopy::IntoBytes;

/// Blocks of one step: so many extents.
const STEP_BLOCKS: u64 = REMOVE_STEP_ITEMS as u64 * EXTENT_BLOCKS_MAX;

/// What is given back to an inode. `None` leaves one alone.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Restored {
    /// Of a regular file that never had one. Not zero.
    pub data_version: Option<u64>,
    /// Bytes, of the same.
    pub size: Option<u64>,
    /// All blocks of the size are on the archive tier; else they are a hole.
    pub offline: bool,
    pub mtime: Option<Time>,
    pub ctime: Option<Time>,
    pub crtime: Option<Time>,
}

impl Restored {
    pub(crate) fn is_nothing(&self) -> bool {
        *self == Restored::default()
    }

    fn is_of_data(&self) -> bool {
        self.data_version.is_some() || self.size.is_some()
    }

    /// What makes no sense for any inode.
    pub(crate) fn check(&self) -> Result<(), FsError> {
        let size = self.size.unwrap_or(0);
        if self.data_version == Some(0)
            || size > 0 && self.data_version.is_none()
            || size == 0 && self.offline
        {
            return Err(FsError::Invalid);
        }
        let size_max = if self.offline { RESTORE_BYTES_MAX } else { FILE_BYTES_MAX };
        if size > size_max { Err(FsError::TooBig) } else { Ok(()) }
    }

    fn blocks(&self) -> u64 {
        if self.offline { self.size.unwrap_or(0).div_ceil(BLOCK) } else { 0 }
    }
}

enum Step {
    Done,
    /// So many blocks are there.
    Made(u64),
    /// Something was buffered, or is left of a truncation.
    Rest,
}

impl<D: Doors> Shard<D> {
    pub(crate) async fn restore(
        self: &Rc<Self>,
        ino: InodeNo,
        set: &Restored,
    ) -> Result<(), FsError> {
        let mut made = 0;
        let newest = loop {
            match self.restore_next(ino, set, made).await {
                Ok((Step::Done, ticket)) => break ticket,
                Ok((Step::Made(blocks), _)) => {
                    made = blocks;
                    self.handle.yield_now().await;
                }
                Ok((Step::Rest, _)) => self.write_back_file(ino).await?,
                Err(error) => {
                    if made > 0 && error != FsError::Busy {
                        // What cannot be removed now goes with the next change: the error says more.
                        let _ = self.finish_truncation(ino).await;
                    }
                    return Err(error);
                }
            }
        };
        self.settle(newest).await
    }

    async fn restore_next(
        self: &Rc<Self>,
        ino: InodeNo,
        set: &Restored,
        made: u64,
    ) -> Result<(Step, Ticket), FsError> {
        let need = Need::new(Class::Growing, &[ino.tablet()], REMOVE_STEP_BYTES);
        self.transact(need, |view| restore_step(view, ino, set, made)).await
    }
}

fn restore_step(
    view: &mut View<'_>,
    ino: InodeNo,
    set: &Restored,
    made: u64,
) -> Result<Step, Stop> {
    let mut item = view.inode_to_change(ino)?;
    if item.nlink.get() == 0 {
        return Err(FsError::Stale.into());
    }
    if item.flags & INODE_RETENTION != 0 {
        return Err(FsError::Permission.into());
    }
    if set.is_of_data() && item.file_kind() != FileKind::Regular {
        return Err(FsError::Invalid.into());
    }
    if item.file_kind() == FileKind::Regular {
        let is_dirty = view.tablet(ino.tablet()).overlays.is_dirty(ino);
        if made == 0 && (is_dirty || item.flags & INODE_TRUNCATING != 0) {
            return Ok(Step::Rest);
        }
        if set.is_of_data() {
            if made > 0 && (is_dirty || !is_as_left(view, ino, &item, made)?) {
                return Err(FsError::Busy.into());
            }
            check_new(view, ino, &item, set, made)?;
        }
    }
    let blocks = set.blocks();
    let upto = blocks.min(made + STEP_BLOCKS);
    put_offline(view, ino, (made, upto), set.size.unwrap_or(0));
    item.offline_blocks = (item.offline_blocks.get() + (upto - made)).into();
    if upto < blocks {
        item.flags |= INODE_TRUNCATING;
        view.change_inode(ino, &mut item);
        return Ok(Step::Made(upto));
    }
    if made > 0 {
        item.flags &= !INODE_TRUNCATING;
    }
    item.size = set.size.map_or(item.size, Into::into);
    item.data_version = set.data_version.map_or(item.data_version, Into::into);
    item.mtime = set.mtime.map_or(item.mtime, |time| time.0.into());
    item.ctime = set.ctime.map_or(item.ctime, |time| time.0.into());
    item.crtime = set.crtime.map_or(item.crtime, |time| time.0.into());
    view.change_inode(ino, &mut item);
    Ok(Step::Done)
}

/// Is what the steps before have made still there, all of it?
fn is_as_left(view: &View<'_>, ino: InodeNo, item: &InodeItem, made: u64) -> Result<bool, Stop> {
    let is_marked = item.flags & INODE_TRUNCATING != 0;
    Ok(is_marked
        && item.offline_blocks.get() == made
        && view.get(ino.tablet(), &Key::extent(ino, 0))?.is_some())
}

/// Data is restored to a file that never had any, and under a version that no later change can have.
fn check_new(
    view: &View<'_>,
    ino: InodeNo,
    item: &InodeItem,
    set: &Restored,
    made: u64,
) -> Result<(), Stop> {
    let is_new = item.data_version.get() == 0
        && item.size.get() == 0
        && item.online_blocks.get() == 0
        && item.offline_blocks.get() == made;
    if !is_new || made == 0 && !map::extents(view, ino, 0..1)?.is_empty() {
        return Err(FsError::HasData.into());
    }
    // The versions of later changes come from the clock. One above it would be followed by versions that a
    // crash may take back and give to other bytes.
    if set.data_version.is_some_and(|version| version > view.next_data_version(0)) {
        return Err(FsError::VersionAhead.into());
    }
    Ok(())
}

/// Offline extents without a run, from an aligned MiB on; none of them is there yet.
fn put_offline(view: &mut View<'_>, ino: InodeNo, (from, to): (u64, u64), size: u64) {
    let mut first = from;
    while first < to {
        let end = to.min(first + EXTENT_BLOCKS_MAX);
        let length = (end * BLOCK).min(size) - first * BLOCK;
        let head = ExtentHead {
            start: 0.into(),
            length: length.into(),
            flags: EXTENT_OFFLINE,
            version: 0,
        };
        view.put(ino.tablet(), Key::extent(ino, first), head.as_bytes());
        first = end;
    }
}
