//! Mapping new content over old.
//!
//! What the new content overlaps is trimmed, split or dropped, its blocks are freed by the same record,
//! its checksums are replaced, and the inode's counts follow. New runs go on in the extent in front of
//! them where both sides meet.
//!
//! The part of the map that is concerned is read once for each MiB of the file, changed in memory, and
//! what came out different is put back: a record of many small pieces costs one look into the trees,
//! not one for each piece.

use super::BLOCK;
use super::map::{self, MappedExtent};
use crate::limits::EXTENT_BLOCKS_MAX;
use crate::txn::{Stop, View};
use cairn_base::BlockNo;
use cairn_format::InodeNo;
use cairn_format::item::{CHECKSUMS_PER_ITEM, Checksums, EXTENT_INLINE, ExtentHead, InodeItem};
use cairn_format::key::Key;
use std::collections::{BTreeMap, VecDeque};
use std::ops::Range;
use zerocopy::IntoBytes;

/// New content for file blocks of one MiB, from `first_block` on.
#[derive(Clone, Debug)]
pub struct NewExtent<'a> {
    pub first_block: u64,
    /// Bytes; behind them the last block is zero.
    pub length: u64,
    pub content: Content<'a>,
}

#[derive(Clone, Debug)]
pub enum Content<'a> {
    /// Device blocks, each with its CRC-32C.
    Run { start: BlockNo, crc: Vec<u32> },
    /// The bytes of one block.
    Inline(&'a [u8]),
}

impl NewExtent<'_> {
    fn blocks(&self) -> Range<u64> {
        self.first_block..self.first_block + self.length.div_ceil(BLOCK)
    }

    fn mib(&self) -> u64 {
        self.first_block / EXTENT_BLOCKS_MAX
    }

    fn checksum(&self, block: u64) -> Option<u32> {
        match &self.content {
            Content::Run { crc, .. } => Some(crc[(block - self.first_block) as usize]),
            Content::Inline(_) => None,
        }
    }

    fn mapped(&self) -> MappedExtent {
        let blocks = self.blocks();
        let (start, flags, inline) = match &self.content {
            Content::Run { start, crc } => {
                assert!(crc.len() as u64 == blocks.end - blocks.start, "a checksum a block");
                (start.raw(), 0, None)
            }
            Content::Inline(bytes) => (0, EXTENT_INLINE, Some((*bytes).into())),
        };
        let length = self.length.into();
        let head = ExtentHead { start: start.into(), length, flags, version: 0 };
        MappedExtent { first_block: blocks.start, blocks: blocks.end - blocks.start, head, inline }
    }
}

/// Maps new content, in file order, in place of whatever the file has there. The runs are taken and the
/// inode is stored by the caller.
pub fn replace(
    view: &mut View<'_>,
    ino: InodeNo,
    item: &mut InodeItem,
    new: &[NewExtent<'_>],
) -> Result<(), Stop> {
    for new in new.chunk_by(|a, b| a.mib() == b.mib()) {
        replace_extents(view, ino, item, new)?;
        replace_checksums(view, ino, new)?;
    }
    Ok(())
}

/// From the first block to behind the last one.
fn span(new: &[NewExtent<'_>]) -> Range<u64> {
    let (first, last) = (new.first().expect("some"), new.last().expect("some"));
    let span = first.first_block..last.blocks().end;
    assert!(last.mib() == (span.end - 1) / EXTENT_BLOCKS_MAX, "an extent is in one MiB");
    span
}

fn replace_extents(
    view: &mut View<'_>,
    ino: InodeNo,
    item: &mut InodeItem,
    new: &[NewExtent<'_>],
) -> Result<(), Stop> {
    let span = span(new);
    // The new content may go on where the block in front ends.
    let from = span.start - u64::from(!span.start.is_multiple_of(EXTENT_BLOCKS_MAX));
    let old = map::extents(view, ino, from..span.end)?;
    let mut left = VecDeque::from(old.clone());
    let mut now: Vec<MappedExtent> = Vec::with_capacity(old.len() + new.len());
    for extent in new {
        let blocks = extent.blocks();
        let is_behind = now.last().is_none_or(|last| last.first_block < blocks.start);
        assert!(!blocks.is_empty() && is_behind, "new content comes in file order");
        while let Some(before) = left.pop_front() {
            if before.first_block >= blocks.end {
                left.push_front(before);
                break;
            }
            let gone = before.first_block.max(blocks.start)..before.end_block().min(blocks.end);
            if gone.is_empty() {
                now.push(before);
                continue;
            }
            map::release(view, ino, item, &before, gone.clone());
            now.extend(before.part(before.first_block..gone.start));
            if let Some(behind) = before.part(gone.end..before.end_block()) {
                left.push_front(behind);
                break;
            }
        }
        let extent = extent.mapped();
        item.online_blocks = (item.online_blocks.get() + extent.blocks).into();
        match now.last_mut() {
            Some(last) if last.goes_on_in(&extent) => last.append(&extent),
            _ => now.push(extent),
        }
    }
    now.extend(left);
    store_difference(view, ino, &old, &now);
    Ok(())
}

/// Both come in file order.
pub(super) fn store_difference(
    view: &mut View<'_>,
    ino: InodeNo,
    old: &[MappedExtent],
    now: &[MappedExtent],
) {
    let mut old = old.iter().peekable();
    for extent in now {
        while let Some(gone) = old.next_if(|old| old.first_block < extent.first_block) {
            view.delete(ino.tablet(), Key::extent(ino, gone.first_block));
        }
        let same_place = old.next_if(|old| old.first_block == extent.first_block);
        if same_place != Some(extent) {
            store(view, ino, extent);
        }
    }
    for gone in old {
        view.delete(ino.tablet(), Key::extent(ino, gone.first_block));
    }
}

fn store(view: &mut View<'_>, ino: InodeNo, extent: &MappedExtent) {
    let key = Key::extent(ino, extent.first_block);
    match &extent.inline {
        None => view.put(ino.tablet(), key, extent.head.as_bytes()),
        Some(bytes) => {
            view.put(ino.tablet(), key, &[extent.head.as_bytes(), bytes].concat());
        }
    }
}

fn replace_checksums(view: &mut View<'_>, ino: InodeNo, new: &[NewExtent<'_>]) -> Result<(), Stop> {
    let old = map::checksums(view, ino, span(new))?;
    let mut now: BTreeMap<u64, Checksums> = BTreeMap::new();
    for extent in new {
        for block in extent.blocks() {
            let group = block / CHECKSUMS_PER_ITEM;
            let held = || old.get(&group).copied().unwrap_or(Checksums::NONE);
            let sums = now.entry(group).or_insert_with(held);
            sums.set((block % CHECKSUMS_PER_ITEM) as usize, extent.checksum(block));
        }
    }
    for (group, sums) in &now {
        map::store_checksums(view, ino, *group, sums, old.contains_key(group));
    }
    Ok(())
}
