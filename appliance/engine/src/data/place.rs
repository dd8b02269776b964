//! From blocks in memory to device runs: reserving, writing, flushing.
//!
//! The order is the promise: blocks are written, their device is flushed, and only then does a record
//! link them. A crash before that record leaves the runs free, because it is the record that takes
//! them. What a reservation holds and no record takes goes back by itself.

use super::BLOCK;
use super::buffered::PageData;
use super::join::join;
use super::replace::{Content, NewExtent};
use crate::error::FsError;
use crate::limits::EXTENT_BLOCKS_MAX;
use crate::shard::Shard;
use crate::space::Reservation;
use crate::tablet::Tablet;
use cairn_base::door::{Disk, Doors, Durability};
use cairn_base::hash::crc32c;
use cairn_base::{BlockNo, Run};
use cairn_format::key::Purpose;
use std::rc::Rc;

/// Writes of one placement that are in flight at once, and blocks of one of them.
const WRITES_MAX: usize = 8;
const WRITE_BLOCKS_MAX: usize = 256;

/// A file block and the device block that has its content.
#[derive(Clone, Copy, Debug)]
pub struct Placed {
    pub block: u64,
    /// Bytes that count.
    pub len: u64,
    pub at: BlockNo,
    pub crc: u32,
}

impl Placed {
    pub fn new(block: u64, len: u64, at: BlockNo, data: &[u8]) -> Placed {
        Placed { block, len, at, crc: crc32c(data) }
    }
}

/// The device blocks of `held`, in order.
pub fn addresses(held: &Reservation) -> impl Iterator<Item = BlockNo> {
    held.runs().iter().flat_map(|run| (0..run.blocks).map(|n| run.start.after(n)))
}

/// Placed blocks of one file, in file order, as extents.
pub fn extents_of<'a>(placed: impl IntoIterator<Item = &'a Placed>) -> Vec<NewExtent<'static>> {
    let mut extents: Vec<NewExtent<'static>> = Vec::new();
    for one in placed {
        if let Some(last) = extents.last_mut()
            && let Content::Run { start, crc } = &mut last.content
            && last.first_block + crc.len() as u64 == one.block
            && !one.block.is_multiple_of(EXTENT_BLOCKS_MAX)
            && start.after(crc.len() as u64) == one.at
        {
            last.length = crc.len() as u64 * BLOCK + one.len;
            crc.push(one.crc);
            continue;
        }
        let content = Content::Run { start: one.at, crc: vec![one.crc] };
        extents.push(NewExtent { first_block: one.block, length: one.len, content });
    }
    extents
}

/// The device runs of placed blocks.
pub fn runs_of<'a>(placed: impl IntoIterator<Item = &'a Placed>) -> Vec<Run> {
    let mut runs: Vec<Run> = Vec::new();
    for one in placed {
        match runs.last_mut() {
            Some(last) if last.end() == one.at => last.blocks += 1,
            _ => runs.push(Run::new(one.at, 1)),
        }
    }
    runs
}

impl<D: Doors> Shard<D> {
    /// Reserves data blocks that were promised before.
    pub(super) async fn reserve_data(
        self: &Rc<Self>,
        tablet: &Rc<Tablet>,
        want: u64,
    ) -> Result<Reservation, FsError> {
        self.mature(tablet);
        let mut held = tablet.space.reserve_data(want);
        while held.blocks() < want {
            self.more_space(tablet, Purpose::Data).await?;
            self.mature(tablet);
            held.absorb(tablet.space.reserve_data(want - held.blocks()));
        }
        Ok(held)
    }

    /// Writes blocks with their checksums, neighbours together.
    pub(super) async fn write_blocks(
        &self,
        blocks: &[(BlockNo, &PageData, u32)],
    ) -> Result<(), FsError> {
        let joined = blocks.chunk_by(|a, b| a.0.after(1) == b.0);
        let pieces = joined.flat_map(|run| run.chunks(WRITE_BLOCKS_MAX));
        let writes = pieces.map(|piece| async move {
            let at = piece[0].0;
            self.core.data_cache.forget(at, piece.len() as u64);
            let slices = PageData::slices(piece.iter().map(|(_, data, _)| *data));
            let wrote = self.disk.write(at, slices, Durability::Cached).await;
            wrote.map_err(|error| FsError::Media { block: at, error })
        });
        for wrote in join(WRITES_MAX, writes).await {
            wrote?;
        }
        self.keep_written(blocks);
        self.core.counters.data_blocks_written.add(blocks.len() as u64);
        Ok(())
    }

    /// What was written is often read again soon: by who wrote it, or to be archived.
    fn keep_written(&self, blocks: &[(BlockNo, &PageData, u32)]) {
        let same_run = |a: &(BlockNo, &PageData, u32), b: &(BlockNo, &PageData, u32)| {
            a.0.after(1) == b.0 && a.1.continues_in(b.1)
        };
        for run in blocks.chunk_by(same_run) {
            let (at, page, _) = &run[0];
            let crcs: Vec<u32> = run.iter().map(|(_, _, crc)| *crc).collect();
            let (buf, from) = page.place();
            self.core.data_cache.keep(*at, &crcs, buf, from);
        }
    }

    /// Makes what was written on the devices of `blocks` stable.
    pub(super) async fn flush_under(
        &self,
        blocks: impl Iterator<Item = BlockNo>,
    ) -> Result<(), FsError> {
        let mut devices: Vec<_> = blocks.map(BlockNo::device).collect();
        devices.sort_unstable();
        devices.dedup();
        for device in devices {
            self.flush(device).await?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use cairn_base::DeviceId;

    fn placed(block: u64, index: u64, len: u64) -> Placed {
        Placed { block, len, at: BlockNo::new(DeviceId(0), index), crc: index as u32 }
    }

    #[test]
    fn an_extent_ends_where_the_device_the_file_or_the_mib_does() {
        let all = [
            placed(254, 10, BLOCK),
            placed(255, 11, BLOCK),
            placed(256, 12, BLOCK),
            placed(257, 20, BLOCK),
            placed(300, 21, 100),
        ];
        let extents = extents_of(&all);
        let shape: Vec<_> = extents.iter().map(|e| (e.first_block, e.length)).collect();
        assert_eq!(shape, [(254, 2 * BLOCK), (256, BLOCK), (257, BLOCK), (300, 100)]);
        let runs: Vec<_> = runs_of(&all).iter().map(|r| (r.start.index(), r.blocks)).collect();
        assert_eq!(runs, [(10, 3), (20, 2)]);
    }

    #[test]
    fn a_block_that_was_last_once_counts_whole_in_front_of_another() {
        let extents = extents_of(&[placed(0, 10, 100), placed(1, 11, 50)]);
        assert_eq!(extents.len(), 1);
        assert_eq!(extents[0].length, BLOCK + 50);
    }
}
