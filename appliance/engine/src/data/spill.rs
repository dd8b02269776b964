//! Moving inline data to the device before it would be written into a tree.
//!
//! Inline extents are a way to make small writes durable with one log write. In the trees they would
//! be carried along by every fold, so when a memtable is about to freeze, those of files that are
//! not small themselves move to device runs: many blocks, one flush, and records whose stretch looks
//! again whether each item is still the one that was copied. What changed meanwhile stays as it is.
//!
//! This is a saving and never a need. Where there is no space for it, or the log is short of room,
//! the rest stays inline and is as correct there. It runs while memory is short, so its records ask
//! for none: they make the memtable smaller.

use super::buffered::PageData;
use super::place::{Placed, addresses, extents_of, runs_of};
use super::replace::{NewExtent, replace};
use crate::error::FsError;
use crate::limits::INLINE_FILE_BYTES_MAX;
use crate::log::Entry;
use crate::shard::Shard;
use crate::space::Reservation;
use crate::tablet::Tablet;
use crate::txn::{Class, Need, Stop, View};
use cairn_base::BLOCK_BYTES;
use cairn_base::door::{Disk, Doors};
use cairn_format::InodeNo;
use cairn_format::item::{EXTENT_INLINE, ExtentHead};
use cairn_format::key::{KIND_EXTENT, Key, ParsedKey, Purpose, RANGE_INODE};
use std::collections::BTreeSet;
use std::rc::Rc;
use std::sync::Arc;

/// Blocks between two flushes: 8 MiB.
const ROUND_BLOCKS: usize = 2048;
/// Blocks that one record moves, and bytes of its edits for each: an item that goes, one that comes,
/// a checksum, the free-run items of a run.
const LINK_BLOCKS_MAX: usize = 128;
const LINK_BYTES: usize = 256;
/// The log keeps what it has left for the roots when more than this part of it is in use.
const LOG_USED_MAX: (u64, u64) = (3, 4);

/// An inline extent of the memtable.
#[derive(Clone)]
struct Item {
    ino: InodeNo,
    block: u64,
    value: Rc<[u8]>,
}

impl Item {
    fn of(key: &Key, entry: &Entry) -> Option<Item> {
        let bytes = key.as_bytes();
        if bytes.first() != Some(&RANGE_INODE) || bytes.get(9) != Some(&KIND_EXTENT) {
            return None;
        }
        let Entry::Put { value, .. } = entry else { return None };
        let (head, _) = ExtentHead::parse(value).ok()?;
        match key.parse() {
            Some(ParsedKey::Extent { inode, file_block }) if head.is(EXTENT_INLINE) => {
                Some(Item { ino: inode, block: file_block, value: Rc::clone(value) })
            }
            _ => None,
        }
    }

    fn bytes(&self) -> &[u8] {
        &self.value[size_of::<ExtentHead>()..]
    }

    fn is_unchanged(&self, view: &View<'_>) -> Result<bool, Stop> {
        let now = view.get(self.ino.tablet(), &Key::extent(self.ino, self.block))?;
        Ok(now.is_some_and(|now| Rc::ptr_eq(&now, &self.value) || now == self.value))
    }
}

impl<D: Doors> Shard<D> {
    /// Moves what is inline in the active memtable, of files that are not small, to the device.
    pub(crate) async fn spill_inline(self: &Rc<Self>, tablet: &Rc<Tablet>) -> Result<(), FsError> {
        let mut items: Vec<Item> = {
            let active = tablet.active.borrow();
            active.iter().filter_map(|(key, entry)| Item::of(key, entry)).collect()
        };
        if items.is_empty() {
            return Ok(());
        }
        let inos: BTreeSet<InodeNo> = items.iter().map(|item| item.ino).collect();
        let large = self.read_with(|view| large_files(view, &inos)).await?;
        items.retain(|item| large.contains(&item.ino));
        for round in items.chunks(ROUND_BLOCKS) {
            let held = self.reserve_for_spill(tablet, round.len() as u64).await?;
            let blocks = held.blocks() as usize;
            if blocks == 0 || self.log_is_short() {
                return Ok(());
            }
            self.spill_round(tablet, &round[..blocks], held).await?;
        }
        Ok(())
    }

    fn log_is_short(&self) -> bool {
        self.log.used_blocks() * LOG_USED_MAX.1 > self.log.area_blocks() * LOG_USED_MAX.0
    }

    /// What can be had of `want` blocks without waiting for anybody and without a new zone: the
    /// writes that are inline now had a promise of data blocks.
    async fn reserve_for_spill(
        self: &Rc<Self>,
        tablet: &Rc<Tablet>,
        want: u64,
    ) -> Result<Reservation, FsError> {
        self.mature(tablet);
        let want = want.min(tablet.space.unpromised(Purpose::Data));
        let mut held = tablet.space.reserve_data(want);
        while held.blocks() < want && tablet.space.unloaded_from(Purpose::Data).is_some() {
            self.more_space(tablet, Purpose::Data).await?;
            let left = want - held.blocks();
            held.absorb(
                tablet.space.reserve_data(left.min(tablet.space.unpromised(Purpose::Data))),
            );
        }
        Ok(held)
    }

    async fn spill_round(
        self: &Rc<Self>,
        tablet: &Rc<Tablet>,
        items: &[Item],
        held: Reservation,
    ) -> Result<(), FsError> {
        let mut buf = self.disk.arena().alloc_zeroed(items.len() * BLOCK_BYTES);
        for (page, item) in buf.chunks_exact_mut(BLOCK_BYTES).zip(items) {
            page[..item.bytes().len()].copy_from_slice(item.bytes());
        }
        let buf = Arc::new(buf);
        let pages: Vec<PageData> =
            (0..items.len()).map(|n| PageData::new(&buf, n * BLOCK_BYTES)).collect();
        let at: Vec<_> = addresses(&held).collect();
        let placed: Vec<Placed> = items
            .iter()
            .zip(at.iter().zip(&pages))
            .map(|(item, (at, page))| Placed::new(item.block, item.bytes().len() as u64, *at, page))
            .collect();
        let blocks: Vec<_> =
            placed.iter().zip(&pages).map(|(p, page)| (p.at, page, p.crc)).collect();
        self.write_blocks(&blocks).await?;
        self.flush_under(at.iter().copied()).await?;
        let all: Vec<(&Item, &Placed)> = items.iter().zip(&placed).collect();
        for chunk in all.chunks(LINK_BLOCKS_MAX) {
            if self.log_is_short() {
                break;
            }
            let need = Need::new(Class::Room, &[tablet.id], LINK_BYTES * chunk.len() + (2 << 10));
            self.transact(need, |view| link(view, chunk)).await?;
        }
        Ok(())
    }
}

/// Those of `inos` whose data does not stay inline.
fn large_files(view: &mut View<'_>, inos: &BTreeSet<InodeNo>) -> Result<BTreeSet<InodeNo>, Stop> {
    let mut large = BTreeSet::new();
    for ino in inos {
        let item = view.inode_if_any(*ino)?;
        if item.is_some_and(|item| item.size.get() > INLINE_FILE_BYTES_MAX) {
            large.insert(*ino);
        }
    }
    Ok(large)
}

/// Maps the device blocks in place of the items that are still what was copied. Nothing anybody can
/// see changes, so the inodes stay as they are.
fn link(view: &mut View<'_>, chunk: &[(&Item, &Placed)]) -> Result<(), Stop> {
    for file in chunk.chunk_by(|a, b| a.0.ino == b.0.ino) {
        let ino = file[0].0.ino;
        let Some(mut inode) = view.inode_if_any(ino)? else { continue };
        let mut same: Vec<&Placed> = Vec::new();
        for (item, placed) in file {
            if item.is_unchanged(view)? {
                same.push(placed);
            }
        }
        let new: Vec<NewExtent<'_>> = extents_of(same.iter().copied());
        replace(view, ino, &mut inode, &new)?;
        for run in runs_of(same.iter().copied()) {
            view.take_run(ino.tablet(), Purpose::Data, run);
        }
    }
    Ok(())
}
