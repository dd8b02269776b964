//! Staging: bytes come back from the archive.
//!
//! Whoever stages names the data version that was released. Only offline blocks take bytes: what is online
//! is newer or the same, and stays. The bytes are written, their device is flushed, and one record maps
//! them, as with any data.
//!
//! Where a MiB of the file has a sum of what was released in it (`release.rs`), its staged blocks are mapped
//! as offline with a run: nobody reads them yet. The record that maps the last of them compares the sum. If
//! it agrees all go online with that record; if not, all that was staged of the MiB is freed again, and
//! whoever staged last is told. So a reader never sees a byte that was not released, and a crash leaves a
//! part staged, which the next stage goes on from.
//!
//! Staging grows the pool's use, data and metadata both, and draws on no reserve: there is nobody here who
//! has been told that these bytes are safe.

use super::BLOCK;
use super::blocks_of;
use super::buffered::PageData;
use super::map::{self, MappedExtent};
use super::place::{Placed, addresses};
use super::release::{file_of_version, is_plain_offline, offline_part, read_fixity};
use super::replace::store_difference;
use crate::error::FsError;
use crate::limits::{EXTENT_BLOCKS_MAX, IO_BYTES_MAX};
use crate::sabotage::{Sabotage, planted};
use crate::shard::Shard;
use crate::trigger::{Trigger, die_if};
use crate::txn::{Class, Need, Stop, View};
use cairn_base::door::Doors;
use cairn_base::{BLOCK_BYTES, DmaBuf};
use cairn_format::InodeNo;
use cairn_format::item::{EXTENT_OFFLINE, ExtentHead, FixityItem, INODE_TRUNCATING, InodeItem};
use cairn_format::key::{Key, Purpose};
use std::collections::BTreeMap;
use std::ops::Range;
use std::rc::Rc;
use std::sync::Arc;

/// Bytes of one stage's record: up to 256 blocks in two MiBs, whose extents may all change, with the free
/// runs of those that are dropped again.
const STAGE_RECORD_BYTES: usize = 2 * EXTENT_BLOCKS_MAX as usize * 272 + (8 << 10);

const _: () = assert!(2 * STAGE_RECORD_BYTES + 2048 <= crate::limits::RECORD_BYTES_MAX);
const _: () = assert!(IO_BYTES_MAX as u64 <= EXTENT_BLOCKS_MAX * BLOCK);

/// Bytes that come back, from a block's beginning on.
pub(crate) struct Arrival {
    pub ino: InodeNo,
    pub offset: u64,
    pub len: usize,
    pub version: u64,
}

impl Arrival {
    fn blocks(&self) -> Range<u64> {
        blocks_of(self.offset, self.len as u64)
    }
}

/// What one record did.
#[derive(Default)]
struct Mapped {
    staged: u64,
    is_refused: bool,
}

impl<D: Doors> Shard<D> {
    /// Stages up to `IO_BYTES_MAX` bytes. Gives how many blocks took them.
    pub(crate) async fn stage_data(
        self: &Rc<Self>,
        ask: &Arrival,
        mut data: DmaBuf,
    ) -> Result<u64, FsError> {
        let in_range = ask.offset.checked_add(ask.len as u64).is_some();
        if !in_range || !ask.offset.is_multiple_of(BLOCK) || ask.len > IO_BYTES_MAX {
            return Err(FsError::Invalid);
        }
        let blocks = ask.blocks();
        let bytes = (blocks.end - blocks.start) as usize * BLOCK_BYTES;
        if data.len() < bytes {
            return Err(FsError::Invalid);
        }
        data.truncate(bytes);
        // Behind the file's end its last block is zero.
        data[ask.len..].fill(0);
        // What is buffered has its place in the map, and nothing to do with what comes.
        self.write_back_file(ask.ino).await?;
        let wanted = loop {
            match self.read_with(|view| wanted(view, ask, &data)).await? {
                Some(wanted) => break wanted,
                None => self.finish_truncation(ask.ino).await?,
            }
        };
        if wanted.is_empty() {
            // What somebody else has brought is promised now, too.
            self.settle(self.log.newest_ticket()).await?;
            return Ok(0);
        }
        let tablet = self.core.tablet(ask.ino.tablet());
        let need = Need::new(Class::Growing, &[ask.ino.tablet()], STAGE_RECORD_BYTES);
        // A pool that is full refuses here, before anything is written.
        drop(self.permit(&need).await?);
        let promise = self.promise_data(ask.ino.tablet(), wanted.len() as u64).await?;
        let held = self.reserve_data(&tablet, wanted.len() as u64).await?;
        // Not earlier: what is reserved may be what others were promised.
        drop(promise);
        let data = Arc::new(data);
        let page = |block: u64| PageData::new(&data, (block - blocks.start) as usize * BLOCK_BYTES);
        let pages: Vec<(Placed, PageData)> = wanted
            .iter()
            .zip(addresses(&held))
            .map(|(&(block, len), at)| {
                let page = page(block);
                (Placed::new(block, len, at, &page), page)
            })
            .collect();
        let writes: Vec<_> = pages.iter().map(|(p, page)| (p.at, page, p.crc)).collect();
        self.write_blocks(&writes).await?;
        self.flush_under(pages.iter().map(|(placed, _)| placed.at)).await?;
        die_if(Trigger::DieInStage, Some(ask.ino));
        let placed: Vec<Placed> = pages.iter().map(|(placed, _)| *placed).collect();
        let (mapped, _) = self.transact(need, |view| map_staged(view, ask, &placed)).await?;
        drop(held);
        self.settle(self.log.newest_ticket()).await?;
        // A MiB goes online as a whole.
        let mib = |block: u64| block / EXTENT_BLOCKS_MAX;
        let online =
            mib(blocks.start) * EXTENT_BLOCKS_MAX..(mib(blocks.end - 1) + 1) * EXTENT_BLOCKS_MAX;
        // It is staged, whoever is told: whom this does not find is found when waiters are listed.
        let _ = self.wake_waiters(ask.ino, online).await;
        match mapped.is_refused {
            true => Err(FsError::FixityMismatch),
            false => Ok(mapped.staged),
        }
    }
}

/// The blocks that wait for these bytes, and how many bytes of each count. `None`: an earlier truncation has
/// to be finished first.
fn wanted(view: &View<'_>, ask: &Arrival, data: &[u8]) -> Result<Option<Vec<(u64, u64)>>, Stop> {
    let item = file_of_version(view, ask.ino, ask.version)?;
    if item.flags & INODE_TRUNCATING != 0 {
        return Ok(None);
    }
    let (end, size) = (ask.offset + ask.len as u64, item.size.get());
    if end > size || !end.is_multiple_of(BLOCK) && end != size {
        return Err(FsError::Invalid.into());
    }
    let blocks = ask.blocks();
    let mut wanted = Vec::new();
    let mut at = blocks.start;
    let is_zero = |from: u64, to: u64| {
        let bytes = |block: u64| (block - blocks.start) as usize * BLOCK_BYTES;
        data[bytes(from)..bytes(to)].iter().all(|byte| *byte == 0)
    };
    for extent in map::extents(view, ask.ino, blocks.clone())? {
        let part = extent.first_block.max(blocks.start)..extent.end_block().min(blocks.end);
        if !is_zero(at, part.start) {
            return Err(FsError::FixityMismatch.into());
        }
        at = part.end;
        if takes_bytes(&extent) {
            let len = |block: u64| (extent.end() - block * BLOCK).min(BLOCK);
            wanted.extend(part.map(|block| (block, len(block))));
        }
    }
    // Where nothing was released there were zeros.
    if is_zero(at, blocks.end) { Ok(Some(wanted)) } else { Err(FsError::FixityMismatch.into()) }
}

fn map_staged(view: &mut View<'_>, ask: &Arrival, placed: &[Placed]) -> Result<Mapped, Stop> {
    let mut item = file_of_version(view, ask.ino, ask.version)?;
    let mut all = Mapped::default();
    for in_mib in placed.chunk_by(|a, b| a.block / EXTENT_BLOCKS_MAX == b.block / EXTENT_BLOCKS_MAX)
    {
        let mib = in_mib[0].block / EXTENT_BLOCKS_MAX;
        let one = map_in_mib(view, ask.ino, &mut item, mib, in_mib)?;
        all.staged += one.staged;
        all.is_refused |= one.is_refused;
    }
    if all.staged > 0 {
        view.change_inode(ask.ino, &mut item);
    }
    Ok(all)
}

/// Maps what has come of one MiB, and decides when nothing of it is missing.
fn map_in_mib(
    view: &mut View<'_>,
    ino: InodeNo,
    item: &mut InodeItem,
    mib: u64,
    placed: &[Placed],
) -> Result<Mapped, Stop> {
    let range = mib * EXTENT_BLOCKS_MAX..(mib + 1) * EXTENT_BLOCKS_MAX;
    let old = map::extents(view, ino, range.clone())?;
    let fixity = read_fixity(view, ino, mib)?;
    let sums = map::checksums(view, ino, range.clone())?;
    let has_sum = |block: u64| fixity.is_some_and(|item| item.has(block % EXTENT_BLOCKS_MAX));
    let new: BTreeMap<u64, &Placed> = placed.iter().map(|placed| (placed.block, placed)).collect();
    // The map block by block: a MiB has few.
    let mut cells: Vec<MappedExtent> = Vec::new();
    let mut taken: Vec<&Placed> = Vec::new();
    for extent in &old {
        for block in extent.first_block..extent.end_block() {
            let cell = match new.get(&block).filter(|_| takes_bytes(extent)) {
                Some(placed) => {
                    taken.push(placed);
                    staged_block(extent, placed, has_sum(block))
                }
                None => extent.part(block..block + 1).unwrap_or_else(|| extent.clone()),
            };
            cells.push(cell);
        }
    }
    let mut mapped = Mapped { staged: taken.len() as u64, is_refused: false };
    let crc_of = |block: u64| {
        let new = taken.iter().find(|placed| placed.block == block);
        new.map(|placed| placed.crc).or_else(|| map::checksum_of(&sums, block))
    };
    let waits = |cell: &MappedExtent| cell.head.is(EXTENT_OFFLINE) && has_sum(cell.first_block);
    let is_whole = fixity.is_some()
        && cells.iter().filter(|cell| waits(cell)).all(|cell| cell.head.start.get() != 0);
    let mut dropped: Vec<MappedExtent> = Vec::new();
    if is_whole {
        let mut sum = FixityItem::EMPTY;
        for cell in cells.iter().filter(|cell| waits(cell)) {
            if let Some(crc) = crc_of(cell.first_block) {
                sum.add(cell.first_block % EXTENT_BLOCKS_MAX, crc);
            }
        }
        mapped.is_refused = Some(sum) != fixity && !planted(Sabotage::StageUnchecked);
        for cell in cells.iter_mut().filter(|cell| waits(cell)) {
            if mapped.is_refused {
                let block = cell.first_block..cell.first_block + 1;
                let without = offline_part(cell, &block);
                dropped.push(std::mem::replace(cell, without));
            } else {
                cell.head.flags = 0;
            }
        }
        if !mapped.is_refused {
            view.delete(ino.tablet(), Key::fixity(ino, mib));
        }
    }
    for placed in &taken {
        let is_dropped = dropped.iter().any(|cell| cell.first_block == placed.block);
        if !is_dropped {
            view.take_run(ino.tablet(), Purpose::Data, cairn_base::Run::new(placed.at, 1));
            let block = placed.block..placed.block + 1;
            map::set_checksums(view, ino, block, |_| Some(placed.crc))?;
        }
    }
    for cell in &dropped {
        let block = cell.first_block..cell.end_block();
        // What only this call has written was never taken.
        if !taken.iter().any(|placed| placed.block == cell.first_block) {
            if let Some(run) = cell.run(&block) {
                view.free_run(ino.tablet(), Purpose::Data, run);
            }
            map::set_checksums(view, ino, block, |_| None)?;
        }
    }
    let online = |cells: &[MappedExtent]| {
        cells
            .iter()
            .filter(|cell| !cell.head.is(EXTENT_OFFLINE))
            .map(|cell| cell.blocks)
            .sum::<u64>()
    };
    let gained = online(&cells) - online(&old);
    item.online_blocks = (item.online_blocks.get() + gained).into();
    item.offline_blocks = item.offline_blocks.get().saturating_sub(gained).into();
    let mut now: Vec<MappedExtent> = Vec::new();
    for cell in cells {
        match now.last_mut() {
            Some(last) if last.goes_on_in(&cell) => last.append(&cell),
            _ => now.push(cell),
        }
    }
    store_difference(view, ino, &old, &now);
    Ok(mapped)
}

fn takes_bytes(extent: &MappedExtent) -> bool {
    is_plain_offline(extent) || planted(Sabotage::StageOverOnline)
}

/// One block with its bytes: online, or waiting for the rest of its MiB.
fn staged_block(extent: &MappedExtent, placed: &Placed, waits: bool) -> MappedExtent {
    let length = (extent.end() - placed.block * BLOCK).min(BLOCK);
    let head = ExtentHead {
        start: placed.at.raw().into(),
        length: length.into(),
        flags: if waits { EXTENT_OFFLINE } else { 0 },
        version: 0,
    };
    MappedExtent { first_block: placed.block, blocks: 1, head, inline: None }
}
