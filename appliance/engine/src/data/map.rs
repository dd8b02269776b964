//! The extent map of a file, through a view: which device run holds which file blocks.
//!
//! An extent never crosses an aligned file MiB, so the one that covers a block is the last that begins
//! at or before it in its MiB. Its length is in bytes; what
//! lies behind it in its last block reads as zero, whatever the device holds there. So no content is
//! ever rewritten to make a file shorter, and growing a file never shows old bytes, as long as
//! nothing that can be non-zero is mapped behind the size.
//!
//! Checksums are kept 64 blocks an item, so that trimming an extent touches no other item.
//!
//! Bounds are the caller's: a record that maps `n` blocks changes at most about two extents, one
//! freed run and one checksum for each (`replace.rs`).

use crate::limits::EXTENT_BLOCKS_MAX;
use crate::txn::{Stop, View};
use cairn_base::{BLOCK_BYTES, BlockNo, Run};
use cairn_format::InodeNo;
use cairn_format::item::{
    CHECKSUMS_PER_ITEM, Checksums, EXTENT_INLINE, EXTENT_OFFLINE, EXTENT_UNWRITTEN, ExtentHead,
    InodeItem,
};
use cairn_format::key::{Key, ParsedKey, Purpose};
use std::collections::BTreeMap;
use std::ops::{ControlFlow, Range};
use std::rc::Rc;
use zerocopy::IntoBytes;

const BLOCK: u64 = BLOCK_BYTES as u64;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MappedExtent {
    pub first_block: u64,
    pub blocks: u64,
    pub head: ExtentHead,
    /// The bytes of an inline extent.
    pub inline: Option<Rc<[u8]>>,
}

impl MappedExtent {
    pub fn end_block(&self) -> u64 {
        self.first_block + self.blocks
    }

    /// Where its bytes end in the file.
    pub fn end(&self) -> u64 {
        self.first_block * BLOCK + self.head.length.get()
    }

    /// The device blocks of a part of its file blocks, if it has any.
    pub fn run(&self, part: &Range<u64>) -> Option<Run> {
        let start = self.head.start.get();
        (start != 0).then(|| {
            let start = BlockNo::from_raw(start).after(part.start - self.first_block);
            Run::new(start, part.end - part.start)
        })
    }

    /// A part of it, if there is any; one block is all of it or nothing.
    pub fn part(&self, part: Range<u64>) -> Option<MappedExtent> {
        if part.is_empty() {
            return None;
        }
        let skipped = (part.start - self.first_block) * BLOCK;
        let length = (self.head.length.get() - skipped).min((part.end - part.start) * BLOCK);
        let start = self.run(&part).map_or(0, |run| run.start.raw());
        Some(MappedExtent {
            first_block: part.start,
            blocks: part.end - part.start,
            head: ExtentHead { start: start.into(), length: length.into(), ..self.head },
            inline: self.inline.clone(),
        })
    }

    /// Are both one extent, in the file and on the device?
    pub fn goes_on_in(&self, next: &MappedExtent) -> bool {
        let (flags, start) = (self.head.flags, next.head.start.get());
        let run = self.run(&(self.first_block..self.end_block()));
        // Offline without a run goes on in the same.
        let is_next = match run {
            Some(run) => flags & !EXTENT_OFFLINE == 0 && run.end().raw() == start,
            None => flags == EXTENT_OFFLINE && start == 0,
        };
        is_next
            && flags == next.head.flags
            && !next.first_block.is_multiple_of(EXTENT_BLOCKS_MAX)
            && self.end() == next.first_block * BLOCK
    }

    /// Takes in the one it goes on in.
    pub fn append(&mut self, next: &MappedExtent) {
        self.head.length = (self.head.length.get() + next.head.length.get()).into();
        self.blocks += next.blocks;
    }
}

/// The extents that overlap `blocks`, in order.
pub fn extents(
    view: &View<'_>,
    ino: InodeNo,
    blocks: Range<u64>,
) -> Result<Vec<MappedExtent>, Stop> {
    let mut found = Vec::new();
    if blocks.is_empty() {
        return Ok(found);
    }
    let tablet = ino.tablet();
    let (start, end) = (Key::extent(ino, blocks.start), Key::extent(ino, blocks.end));
    let mib = Key::extent(ino, blocks.start - blocks.start % EXTENT_BLOCKS_MAX);
    let mut damage = None;
    view.scan(tablet, start, end, |key, value| match mapped(&key, value) {
        Ok(extent) => {
            found.push(extent);
            ControlFlow::Continue(())
        }
        Err(bad) => {
            damage = Some(bad);
            ControlFlow::Break(())
        }
    })?;
    let is_at_start = found.first().is_some_and(|extent| extent.first_block == blocks.start);
    if damage.is_none()
        && !is_at_start
        && let Some((key, value)) = view.last(tablet, mib, start)?
    {
        match mapped(&key, &value) {
            Ok(before) if before.end_block() > blocks.start => found.insert(0, before),
            Ok(_) => {}
            Err(bad) => damage = Some(bad),
        }
    }
    match damage {
        Some(damage) => Err(view.damaged(tablet, damage)),
        None => Ok(found),
    }
}

pub fn mapped(key: &Key, value: &[u8]) -> Result<MappedExtent, cairn_format::Damage> {
    let Some(ParsedKey::Extent { file_block, .. }) = key.parse() else {
        return Err(cairn_format::Damage::Value("extent key"));
    };
    let (head, tail) = ExtentHead::parse(value)?;
    head.end_block(file_block)?;
    if file_block % EXTENT_BLOCKS_MAX + head.blocks() > EXTENT_BLOCKS_MAX {
        return Err(cairn_format::Damage::Bounds("extent length"));
    }
    Ok(MappedExtent {
        first_block: file_block,
        blocks: head.blocks(),
        head,
        inline: head.is(EXTENT_INLINE).then(|| tail.into()),
    })
}

/// The checksum items that cover `blocks`, by their group.
pub fn checksums(
    view: &View<'_>,
    ino: InodeNo,
    blocks: Range<u64>,
) -> Result<BTreeMap<u64, Checksums>, Stop> {
    let mut found = BTreeMap::new();
    if blocks.is_empty() {
        return Ok(found);
    }
    let from = Key::checksums(ino, blocks.start / CHECKSUMS_PER_ITEM);
    let end = Key::checksums(ino, blocks.end.div_ceil(CHECKSUMS_PER_ITEM));
    let mut damage = None;
    view.scan(ino.tablet(), from, end, |key, value| {
        match (key.parse(), Checksums::parse(value)) {
            (Some(ParsedKey::Checksums { group, .. }), Ok(sums)) => {
                found.insert(group, sums);
                return ControlFlow::Continue(());
            }
            (_, Err(bad)) => damage = Some(bad),
            (_, Ok(_)) => damage = Some(cairn_format::Damage::Value("checksums key")),
        }
        ControlFlow::Break(())
    })?;
    match damage {
        Some(damage) => Err(view.damaged(ino.tablet(), damage)),
        None => Ok(found),
    }
}

/// The checksum of one block among `checksums`.
pub fn checksum_of(sums: &BTreeMap<u64, Checksums>, block: u64) -> Option<u32> {
    let group = sums.get(&(block / CHECKSUMS_PER_ITEM))?;
    group.get((block % CHECKSUMS_PER_ITEM) as usize)
}

fn put_inline(view: &mut View<'_>, ino: InodeNo, block: u64, bytes: &[u8]) {
    let head = ExtentHead {
        start: 0.into(),
        length: (bytes.len() as u64).into(),
        flags: EXTENT_INLINE,
        version: 0,
    };
    let mut value = head.as_bytes().to_vec();
    value.extend_from_slice(bytes);
    view.put(ino.tablet(), Key::extent(ino, block), &value);
}

/// Ends an extent at the file byte `end`, which lies inside it.
pub fn cut(
    view: &mut View<'_>,
    ino: InodeNo,
    item: &mut InodeItem,
    old: &MappedExtent,
    end: u64,
) -> Result<(), Stop> {
    let length = end - old.first_block * BLOCK;
    let kept_end = old.first_block + length.div_ceil(BLOCK);
    match &old.inline {
        Some(bytes) => put_inline(view, ino, old.first_block, &bytes[..length as usize]),
        None => {
            let head = ExtentHead { length: length.into(), ..old.head };
            view.put(ino.tablet(), Key::extent(ino, old.first_block), head.as_bytes());
        }
    }
    let gone = kept_end..old.end_block();
    set_checksums(view, ino, gone.clone(), |_| None)?;
    release(view, ino, item, old, gone);
    Ok(())
}

/// Frees the device blocks of a part of an extent and takes it out of the inode's counts.
pub fn release(
    view: &mut View<'_>,
    ino: InodeNo,
    item: &mut InodeItem,
    old: &MappedExtent,
    gone: Range<u64>,
) {
    let count = gone.end - gone.start;
    if count == 0 {
        return;
    }
    if let Some(run) = old.run(&gone) {
        view.free_run(ino.tablet(), Purpose::Data, run);
    }
    if old.head.is(EXTENT_OFFLINE) {
        item.offline_blocks = item.offline_blocks.get().saturating_sub(count).into();
    } else if !old.head.is(EXTENT_UNWRITTEN) {
        item.online_blocks = item.online_blocks.get().saturating_sub(count).into();
    }
}

/// Sets or clears the checksums of `blocks`.
pub fn set_checksums(
    view: &mut View<'_>,
    ino: InodeNo,
    blocks: Range<u64>,
    crc: impl Fn(u64) -> Option<u32>,
) -> Result<(), Stop> {
    if blocks.is_empty() {
        return Ok(());
    }
    let groups = blocks.start / CHECKSUMS_PER_ITEM..blocks.end.div_ceil(CHECKSUMS_PER_ITEM);
    let held = checksums(view, ino, blocks.clone())?;
    for group in groups {
        let old = held.get(&group);
        let mut sums = old.copied().unwrap_or(Checksums::NONE);
        let first = group * CHECKSUMS_PER_ITEM;
        for block in blocks.start.max(first)..blocks.end.min(first + CHECKSUMS_PER_ITEM) {
            sums.set((block - first) as usize, crc(block));
        }
        store_checksums(view, ino, group, &sums, old.is_some());
    }
    Ok(())
}

/// `is_there`: the group has an item.
pub fn store_checksums(
    view: &mut View<'_>,
    ino: InodeNo,
    group: u64,
    sums: &Checksums,
    is_there: bool,
) {
    let key = Key::checksums(ino, group);
    if sums.mask != 0 {
        let mut bytes = [0; Checksums::ENCODED_BYTES_MAX];
        let len = sums.encode(&mut bytes);
        view.put(ino.tablet(), key, &bytes[..len]);
    } else if is_there {
        view.delete(ino.tablet(), key);
    }
}
