//! Releasing: the archive has a file's data, so its blocks are freed and marked offline.
//!
//! Who releases names the data version that was copied out; a file that has another one by then is left
//! as it is. Holes stay holes. What is buffered is placed first, since it belongs to the version that was
//! shown.
//!
//! It goes step by step, each one record that looks again at the version and at what is mapped: a crash
//! leaves a part released, and releasing again does the rest. Of the bytes that go, each aligned MiB of the
//! file keeps one sum (`FixityItem`), made of the checksums of its blocks, so nothing is read for it: but for
//! a block that its extent does not fill, whose checksum is still that of the whole block.
//!
//! What always holds: the blocks of a sum are offline. A block's bytes enter when it goes offline, the sum goes
//! with the record that brings all of them back, and a truncation takes it with what it cuts (`truncate.rs`).
//! A file that is offline in part has nothing buffered: writes are refused from the first step on.

use super::BLOCK;
use super::map::{self, MappedExtent};
use super::read::OldBlock;
use super::replace::store_difference;
use super::truncate::REMOVE_STEP_BYTES;
use crate::attr::FileKind;
use crate::error::FsError;
use crate::limits::{EXTENT_BLOCKS_MAX, REMOVE_STEP_ITEMS};
use crate::sabotage::{Sabotage, planted};
use crate::shard::Shard;
use crate::trigger::{Trigger, fires};
use crate::txn::{Class, Need, Stop, View};
use cairn_base::BLOCK_BYTES;
use cairn_base::door::Doors;
use cairn_base::hash::crc32c;
use cairn_format::item::{
    EXTENT_OFFLINE, EXTENT_UNWRITTEN, ExtentHead, FixityItem, INODE_TRUNCATING, InodeItem,
};
use cairn_format::key::Key;
use cairn_format::{Damage, InodeNo};
use std::ops::Range;
use std::rc::Rc;
use zerocopy::IntoBytes;

/// Extents that one step releases: each may cost a deletion, a new extent and three free-run items.
const STEP_EXTENTS_MAX: usize = REMOVE_STEP_ITEMS / 2;
/// MiBs of one step, each with a sum and four items of checksums.
const STEP_MIBS_MAX: u64 = 16;

const ZEROS: [u8; BLOCK_BYTES] = [0; BLOCK_BYTES];

/// What one try of a step came to.
enum Step {
    /// Released so many blocks, up to this one.
    Up {
        to: u64,
        released: u64,
    },
    /// The device has the bytes of this block, which was cut.
    Fetch(u64),
    FinishTruncation,
    /// Something was buffered meanwhile.
    Place,
}

impl<D: Doors> Shard<D> {
    /// Frees the blocks of a part of a file, if its data has this version. Gives how many that were.
    pub(crate) async fn release_data(
        self: &Rc<Self>,
        ino: InodeNo,
        blocks: Range<u64>,
        version: u64,
    ) -> Result<u64, FsError> {
        self.write_back_file(ino).await?;
        let mut known: Vec<OldBlock> = Vec::new();
        let (mut at, mut released) = (blocks.start, 0);
        while at < blocks.end {
            let need = Need::new(Class::Freeing, &[ino.tablet()], REMOVE_STEP_BYTES);
            let (step, _) = self
                .transact(need, |view| release_step(view, ino, at..blocks.end, version, &known))
                .await?;
            match step {
                Step::Up { to, released: some } => {
                    at = to;
                    released += some;
                    if some > 0 && fires(Trigger::DieInRelease, Some(ino)) {
                        self.settle(self.log.newest_ticket()).await?;
                        std::process::abort();
                    }
                    known.clear();
                    self.handle.yield_now().await;
                }
                Step::Fetch(block) => {
                    known.retain(|old| old.block != block);
                    known.extend(self.read_old_block(ino, block).await?);
                }
                Step::FinishTruncation => self.finish_truncation(ino).await?,
                Step::Place => self.write_back_file(ino).await?,
            }
        }
        // What somebody else had released and was not told of is promised now, too.
        self.settle(self.log.newest_ticket()).await?;
        Ok(released)
    }
}

/// The inode of a regular file that has a name.
pub(crate) fn regular_file(view: &View<'_>, ino: InodeNo) -> Result<InodeItem, Stop> {
    let item = view.inode(ino)?;
    require_regular(&item)?;
    Ok(item)
}

fn require_regular(item: &InodeItem) -> Result<(), FsError> {
    match item.file_kind() {
        FileKind::Regular if item.nlink.get() == 0 => Err(FsError::Stale),
        FileKind::Regular => Ok(()),
        FileKind::Directory => Err(FsError::IsDirectory),
        _ => Err(FsError::Invalid),
    }
}

/// The inode of a regular file whose data has this version, as it is shown.
pub(super) fn file_of_version(
    view: &View<'_>,
    ino: InodeNo,
    version: u64,
) -> Result<InodeItem, Stop> {
    let item = view.inode_to_change(ino)?;
    require_regular(&item)?;
    let is_version = view.attr(ino, &item).data_version == version;
    if !is_version && !planted(Sabotage::ReleaseOfAnyVersion) {
        return Err(FsError::VersionMismatch.into());
    }
    Ok(item)
}

fn release_step(
    view: &mut View<'_>,
    ino: InodeNo,
    blocks: Range<u64>,
    version: u64,
    known: &[OldBlock],
) -> Result<Step, Stop> {
    let mut item = file_of_version(view, ino, version)?;
    if item.flags & INODE_TRUNCATING != 0 {
        return Ok(Step::FinishTruncation);
    }
    if view.tablet(ino.tablet()).overlays.is_dirty(ino) {
        return Ok(Step::Place);
    }
    let last_mib = blocks.start / EXTENT_BLOCKS_MAX + STEP_MIBS_MAX;
    let mut end = blocks.end.min(last_mib * EXTENT_BLOCKS_MAX);
    let mut old = map::extents(view, ino, blocks.start..end)?;
    if old.is_empty() {
        // Holes cost nothing: go on where there is something.
        let next = next_extent(view, ino, blocks.clone())?;
        return Ok(Step::Up { to: next.unwrap_or(blocks.end), released: 0 });
    }
    if old.len() > STEP_EXTENTS_MAX {
        old.truncate(STEP_EXTENTS_MAX);
        end = old.last().map_or(end, |last| last.end_block().min(end));
    }
    let range = blocks.start..end;
    let mut released = 0;
    for in_mib in old.chunk_by(|a, b| mib_of(a.first_block) == mib_of(b.first_block)) {
        match release_in_mib(view, ino, &mut item, in_mib, &range, known)? {
            Ok(some) => released += some,
            Err(block) if released == 0 => return Ok(Step::Fetch(block)),
            Err(_) => {
                // The MiBs before it are this step.
                end = in_mib[0].first_block;
                break;
            }
        }
    }
    if released > 0 {
        view.change_inode(ino, &mut item);
    }
    Ok(Step::Up { to: end, released })
}

fn mib_of(block: u64) -> u64 {
    block / EXTENT_BLOCKS_MAX
}

/// Where the first extent at or behind a place begins.
pub(super) fn next_extent(
    view: &View<'_>,
    ino: InodeNo,
    blocks: Range<u64>,
) -> Result<Option<u64>, Stop> {
    let mut next = None;
    let (from, end) = (Key::extent(ino, blocks.start), Key::extent(ino, blocks.end));
    view.scan(ino.tablet(), from, end, |key, _| {
        if let Some(cairn_format::key::ParsedKey::Extent { file_block, .. }) = key.parse() {
            next = Some(file_block);
        }
        std::ops::ControlFlow::Break(())
    })?;
    Ok(next)
}

/// Is there nothing of it here?
pub(super) fn is_plain_offline(extent: &MappedExtent) -> bool {
    extent.head.is(EXTENT_OFFLINE) && extent.head.start.get() == 0
}

/// Releases what `range` has of these extents of one MiB. The inner error is a block whose bytes have to be
/// known first; nothing has changed then.
fn release_in_mib(
    view: &mut View<'_>,
    ino: InodeNo,
    item: &mut InodeItem,
    old: &[MappedExtent],
    range: &Range<u64>,
    known: &[OldBlock],
) -> Result<Result<u64, u64>, Stop> {
    let mib = mib_of(old[0].first_block);
    let (first, last) = (&old[0], &old[old.len() - 1]);
    let sums = map::checksums(view, ino, first.first_block..last.end_block())?;
    let mut fixity = read_fixity(view, ino, mib)?.unwrap_or(FixityItem::EMPTY);
    let before = fixity;
    let mut now: Vec<MappedExtent> = Vec::with_capacity(old.len() + 2);
    let mut gone: Vec<(&MappedExtent, Range<u64>)> = Vec::new();
    for extent in old {
        let part = extent.first_block.max(range.start)..extent.end_block().min(range.end);
        if part.is_empty() || is_plain_offline(extent) {
            push(&mut now, extent.clone());
            continue;
        }
        // What was staged and waits for the rest is in the sum already.
        if !extent.head.is(EXTENT_OFFLINE) {
            for block in part.clone() {
                let crc = match known.iter().find(|old| old.block == block) {
                    Some(old) if old.extent == *extent && old.data_seq == item.data_seq.get() => {
                        Some(crc32c(&old.content))
                    }
                    _ => crc_of(extent, block, map::checksum_of(&sums, block)),
                };
                let Some(crc) = crc else { return Ok(Err(block)) };
                if fixity.has(block % EXTENT_BLOCKS_MAX) {
                    // A second time in the sum it could never come back.
                    let damage = Damage::Value("fixity of an online block");
                    return Err(view.damaged(ino.tablet(), damage));
                }
                fixity.add(block % EXTENT_BLOCKS_MAX, crc);
            }
        }
        if let Some(front) = extent.part(extent.first_block..part.start) {
            push(&mut now, front);
        }
        push(&mut now, offline_part(extent, &part));
        if let Some(behind) = extent.part(part.end..extent.end_block()) {
            push(&mut now, behind);
        }
        gone.push((extent, part));
    }
    let mut released = 0;
    for (extent, part) in gone {
        map::set_checksums(view, ino, part.clone(), |_| None)?;
        let count = part.end - part.start;
        map::release(view, ino, item, extent, part);
        item.offline_blocks = (item.offline_blocks.get() + count).into();
        released += count;
    }
    store_difference(view, ino, old, &now);
    if fixity != before {
        view.put(ino.tablet(), Key::fixity(ino, mib), fixity.as_bytes());
    }
    Ok(Ok(released))
}

fn push(to: &mut Vec<MappedExtent>, extent: MappedExtent) {
    match to.last_mut() {
        Some(last) if last.goes_on_in(&extent) => last.append(&extent),
        _ => to.push(extent),
    }
}

/// The part of an extent without a run.
pub(super) fn offline_part(extent: &MappedExtent, part: &Range<u64>) -> MappedExtent {
    let skipped = (part.start - extent.first_block) * BLOCK;
    let length = (extent.head.length.get() - skipped).min((part.end - part.start) * BLOCK);
    let head =
        ExtentHead { start: 0.into(), length: length.into(), flags: EXTENT_OFFLINE, version: 0 };
    MappedExtent { first_block: part.start, blocks: part.end - part.start, head, inline: None }
}

/// The checksum of a block as readers see it; `None` when that has to be read.
fn crc_of(extent: &MappedExtent, block: u64, stored: Option<u32>) -> Option<u32> {
    if let Some(bytes) = &extent.inline {
        let mut page = ZEROS;
        page[..bytes.len()].copy_from_slice(bytes);
        return Some(crc32c(&page));
    }
    if extent.head.is(EXTENT_UNWRITTEN) {
        return Some(crc32c(&ZEROS));
    }
    // Behind its length an extent reads as zero, whatever its last block holds.
    let is_whole = extent.end() >= (block + 1) * BLOCK;
    stored.filter(|_| is_whole)
}

/// What is known of the bytes that were released in an aligned MiB of the file.
pub(super) fn read_fixity(
    view: &View<'_>,
    ino: InodeNo,
    mib: u64,
) -> Result<Option<FixityItem>, Stop> {
    let Some(value) = view.get(ino.tablet(), &Key::fixity(ino, mib))? else { return Ok(None) };
    match FixityItem::parse(&value) {
        Ok(item) => Ok(Some(item)),
        Err(damage) => Err(view.damaged(ino.tablet(), damage)),
    }
}
