//! Punching: offline blocks become holes. For files that were restored as if all of them were offline, and
//! had holes; and for data that nobody will want again.
//!
//! It goes step by step as a release does, each step one record that looks again at the version and at what
//! is mapped. Where a block of a sum goes (`release.rs`), the sum goes too: without that block it can never
//! come out, and what it would hold back is wanted. What was staged of the MiB and waited for it is dropped
//! and offline again; the rest of it comes back without being compared.
//!
//! Never here: a block that has data. Punching is refused where it meets one.

use super::map::{self, MappedExtent};
use super::release::{file_of_version, is_plain_offline, next_extent, offline_part, read_fixity};
use super::replace::store_difference;
use super::truncate::REMOVE_STEP_BYTES;
use crate::error::FsError;
use crate::limits::{EXTENT_BLOCKS_MAX, REMOVE_STEP_ITEMS};
use crate::shard::Shard;
use crate::txn::{Class, Need, Stop, View};
use cairn_base::door::Doors;
use cairn_format::InodeNo;
use cairn_format::item::{EXTENT_OFFLINE, INODE_RETENTION, INODE_TRUNCATING, InodeItem};
use cairn_format::key::{Key, Purpose};
use std::ops::Range;
use std::rc::Rc;

/// A step takes no more MiBs when it has changed so many extents; one MiB has half as many at most.
const STEP_EXTENTS_MAX: usize = REMOVE_STEP_ITEMS / 2;
const STEP_MIBS_MAX: u64 = 16;

enum Step {
    /// Punched so many blocks, up to this one.
    Up { to: u64, punched: u64 },
    /// Something was buffered, or is left of a truncation.
    Rest,
}

impl<D: Doors> Shard<D> {
    /// Makes holes of the offline blocks of a range. Gives how many that were.
    pub(crate) async fn punch_offline(
        self: &Rc<Self>,
        ino: InodeNo,
        blocks: Range<u64>,
        version: u64,
    ) -> Result<u64, FsError> {
        let (mut at, mut all) = (blocks.start, 0);
        while at < blocks.end {
            let need = Need::new(Class::Freeing, &[ino.tablet()], 2 * REMOVE_STEP_BYTES);
            let (step, _) =
                self.transact(need, |view| punch_step(view, ino, at..blocks.end, version)).await?;
            match step {
                Step::Up { to, punched } => {
                    at = to;
                    all += punched;
                    self.handle.yield_now().await;
                }
                Step::Rest => self.write_back_file(ino).await?,
            }
        }
        // As of a release: what was punched before is promised, too.
        self.settle(self.log.newest_ticket()).await?;
        // It is done, whoever is told: whom this does not find is found when waiters are listed.
        let _ = self.wake_waiters(ino, blocks).await;
        Ok(all)
    }
}

fn punch_step(
    view: &mut View<'_>,
    ino: InodeNo,
    blocks: Range<u64>,
    version: u64,
) -> Result<Step, Stop> {
    let mut item = file_of_version(view, ino, version)?;
    if item.flags & INODE_RETENTION != 0 {
        return Err(FsError::Permission.into());
    }
    let is_dirty = view.tablet(ino.tablet()).overlays.is_dirty(ino);
    if is_dirty || item.flags & INODE_TRUNCATING != 0 {
        return Ok(Step::Rest);
    }
    let last_mib = blocks.start / EXTENT_BLOCKS_MAX + STEP_MIBS_MAX;
    let end = blocks.end.min(last_mib * EXTENT_BLOCKS_MAX);
    let found = map::extents(view, ino, blocks.start..end)?;
    if found.is_empty() {
        let next = next_extent(view, ino, blocks.clone())?;
        return Ok(Step::Up { to: next.unwrap_or(blocks.end), punched: 0 });
    }
    let mib_of = |extent: &MappedExtent| extent.first_block / EXTENT_BLOCKS_MAX;
    let (mut to, mut punched, mut changed) = (end, 0, 0);
    for in_mib in found.chunk_by(|a, b| mib_of(a) == mib_of(b)) {
        if changed > 0 && changed + in_mib.len() > STEP_EXTENTS_MAX {
            to = mib_of(&in_mib[0]) * EXTENT_BLOCKS_MAX;
            break;
        }
        if in_mib.iter().any(|extent| !extent.head.is(EXTENT_OFFLINE)) {
            return Err(FsError::NotOffline.into());
        }
        let mib = mib_of(&in_mib[0]);
        let (some, extents) = punch_in_mib(view, ino, &mut item, mib, &(blocks.start..end))?;
        punched += some;
        changed += extents;
    }
    if punched > 0 {
        view.change_inode(ino, &mut item);
    }
    Ok(Step::Up { to, punched })
}

/// Punches what `range` has of one MiB. Gives the blocks, and how many extents may have changed.
fn punch_in_mib(
    view: &mut View<'_>,
    ino: InodeNo,
    item: &mut InodeItem,
    mib: u64,
    range: &Range<u64>,
) -> Result<(u64, usize), Stop> {
    let first = mib * EXTENT_BLOCKS_MAX;
    let old = map::extents(view, ino, first..first + EXTENT_BLOCKS_MAX)?;
    let fixity = read_fixity(view, ino, mib)?;
    let inside = |extent: &MappedExtent| {
        extent.first_block.max(range.start)..extent.end_block().min(range.end)
    };
    let has_sum = |block: u64| fixity.is_some_and(|sum| sum.has(block - first));
    let sum_goes = old.iter().any(|extent| inside(extent).any(has_sum));
    let mut now: Vec<MappedExtent> = Vec::with_capacity(old.len() + 2);
    let mut punched = 0;
    for extent in &old {
        let gone = inside(extent);
        let kept = match gone.is_empty() {
            true => [extent.first_block..extent.end_block(), 0..0],
            false => [extent.first_block..gone.start, gone.end..extent.end_block()],
        };
        for part in kept.into_iter().filter(|part| !part.is_empty()) {
            let waits = extent.head.is(EXTENT_OFFLINE) && !is_plain_offline(extent);
            if sum_goes && waits {
                if let Some(run) = extent.run(&part) {
                    view.free_run(ino.tablet(), Purpose::Data, run);
                }
                map::set_checksums(view, ino, part.clone(), |_| None)?;
                now.push(offline_part(extent, &part));
            } else {
                now.extend(extent.part(part));
            }
        }
        if !gone.is_empty() {
            punched += gone.end - gone.start;
            map::set_checksums(view, ino, gone.clone(), |_| None)?;
            map::release(view, ino, item, extent, gone);
        }
    }
    store_difference(view, ino, &old, &now);
    if sum_goes {
        view.delete(ino.tablet(), Key::fixity(ino, mib));
    }
    Ok((punched, old.len()))
}
