//! The data of the keys that a step over the trees has verified, about a MiB at a time.
//!
//! Which blocks a file has is asked of the tablet as it is now, memtables included, so what was overwritten
//! since is not read. The nodes come from the step (`walk.rs`); one that is new since is read beside the
//! cache, and if it is bad the step is done again, which names it. A block is read past the data cache. One
//! that does not match is read alone a second time, and then the tablet is asked once more whether that
//! block is still the file's.

use super::found::{Damaged, What, media_cause};
use super::walk::Walked;
use crate::block::{Absent, Pins, fetch_node};
use crate::data::{MappedExtent, checksum_of, checksums, extents, join, mapped};
use crate::error::FsError;
use crate::shard::Shard;
use crate::txn::{Stop, View};
use cairn_base::door::{Disk, Doors};
use cairn_base::hash::crc32c;
use cairn_base::{BLOCK_BYTES, BlockNo, Run};
use cairn_format::item::{Cause, EXTENT_OFFLINE, EXTENT_UNWRITTEN};
use cairn_format::key::{Key, ParsedKey};
use cairn_format::node::NodeRef;
use cairn_format::{Damage, InodeNo, TabletId};
use std::ops::ControlFlow;
use std::rc::Rc;

/// No extent that begins when so many blocks are gathered is taken too: 1 MiB.
const BLOCKS_MAX: u64 = 256;
/// Items that are looked at without a pause.
const ITEMS_MAX: usize = 2048;
const READS_MAX: usize = 4;

/// A run of a file's blocks and what they must be.
struct Mapped {
    ino: InodeNo,
    file_block: u64,
    run: Run,
    crcs: Vec<Option<u32>>,
}

#[derive(Default)]
struct Gathered {
    runs: Vec<Mapped>,
    /// Extents that cannot be understood.
    bad: Vec<(InodeNo, u64, Damage)>,
    /// Where it goes on; nothing at the end of the part.
    next: Option<Key>,
}

/// What a step over data has seen.
pub(super) struct DataRead {
    pub found: Vec<Damaged>,
    /// Up to here all is verified.
    pub next: Key,
    pub blocks: u64,
}

struct BadBlock {
    ino: InodeNo,
    file_block: u64,
    at: BlockNo,
    crc: Option<u32>,
    cause: Cause,
}

impl<D: Doors> Shard<D> {
    /// The next data of what was walked, from the tablet's cursor on; nothing when that has to be walked
    /// again.
    pub(super) async fn data_step(&self, id: TabletId, walked: &mut Walked) -> Option<DataRead> {
        let cursor = self.cursor_in_scrub(id);
        let Some((from, end)) = walked.readable().into_iter().find(|(_, end)| *end > cursor) else {
            return Some(DataRead { found: Vec::new(), next: walked.end, blocks: 0 });
        };
        let from = from.max(cursor);
        let _guard = self.core.reads.begin();
        let mut refused = Vec::new();
        let gather = |view: &View<'_>, refused: &[NodeRef]| gather(view, id, (from, end), refused);
        let gathered = self.read_beside(&mut walked.pins, &mut refused, gather).await;
        let gathered = gathered.ok()?;
        let reads = join(READS_MAX, gathered.runs.iter().map(|run| self.verify_run(run))).await;
        let blocks: u64 = gathered.runs.iter().map(|mapped| mapped.run.blocks).sum();
        self.core.counters.scrub_blocks.add(blocks);
        let mut bad = Vec::new();
        for block in reads.into_iter().flatten() {
            if self.is_still_mapped(&block, &mut walked.pins).await {
                bad.push(block);
            }
        }
        let mut found = joined(id, bad);
        for (ino, file_block, damage) in gathered.bad {
            let what = What::Data { ino, file_block, blocks: 1 };
            // There is no block to name: the item itself is damaged.
            let block = BlockNo::from_raw(0);
            found.push(Damaged { tablet: id, block, what, cause: damage.into(), pass: 0 });
        }
        // Behind the last part nothing can be read, or nothing is left.
        let is_last = walked.readable().last().is_some_and(|(_, last)| *last == end);
        let behind = if is_last { walked.end } else { end };
        Some(DataRead { found, next: gathered.next.unwrap_or(behind), blocks })
    }

    /// Runs a stretch that only reads, with nodes of one's own; what is missing is read for these and
    /// not for the cache. `refused` are nodes that cannot be read.
    pub(super) async fn read_beside<R>(
        &self,
        pins: &mut Pins,
        refused: &mut Vec<NodeRef>,
        mut body: impl FnMut(&View<'_>, &[NodeRef]) -> Result<R, Stop>,
    ) -> Result<R, FsError> {
        let _guard = self.core.reads.begin();
        loop {
            let stop = {
                let seq = self.log.seq(self.wall_us());
                let view = View::new(&self.core, pins, seq, 0);
                match body(&view, refused) {
                    Ok(result) => return Ok(result),
                    Err(stop) => stop,
                }
            };
            match stop {
                Stop::Absent(Absent::Node(at)) if !refused.contains(&at) => {
                    match fetch_node(&*self.disk, &at).await {
                        Ok(node) => pins.pin(at, node),
                        Err(_) => refused.push(at),
                    }
                }
                Stop::Absent(Absent::Node(at)) => {
                    return Err(FsError::Corrupt { block: at.block_no(), damage: Damage::Hash });
                }
                Stop::Absent(Absent::Filter(..)) | Stop::Locked(_) => {
                    unreachable!("a scan asks no filter, and reading no lock")
                }
                Stop::Fs(error) => return Err(error),
            }
        }
    }

    /// The blocks of a run that are not what they must be, each of them read twice.
    async fn verify_run(&self, mapped: &Mapped) -> Vec<BadBlock> {
        let buf = self.disk.arena().alloc(mapped.crcs.len() * BLOCK_BYTES);
        let (buf, read) = self.disk.read(mapped.run.start, buf).await;
        let mut bad = Vec::new();
        for (index, (bytes, crc)) in buf.chunks_exact(BLOCK_BYTES).zip(&mapped.crcs).enumerate() {
            if read.is_ok() && *crc == Some(crc32c(bytes)) {
                continue;
            }
            let at = mapped.run.start.after(index as u64);
            let Err(cause) = self.verify_block(at, *crc).await else { continue };
            let (ino, file_block) = (mapped.ino, mapped.file_block + index as u64);
            bad.push(BadBlock { ino, file_block, at, crc: *crc, cause });
        }
        bad
    }

    async fn verify_block(&self, at: BlockNo, crc: Option<u32>) -> Result<(), Cause> {
        let crc = crc.ok_or(Damage::ChecksumMissing)?;
        let (buf, read) = self.disk.read(at, self.disk.arena().alloc(BLOCK_BYTES)).await;
        read.map_err(media_cause)?;
        if crc32c(&buf) == crc { Ok(()) } else { Err(Damage::DataChecksum.into()) }
    }

    async fn is_still_mapped(&self, bad: &BadBlock, pins: &mut Pins) -> bool {
        let BadBlock { ino, file_block, at, crc, .. } = *bad;
        let mut refused = Vec::new();
        let asked = self.read_beside(pins, &mut refused, |view, _| {
            let block = file_block..file_block + 1;
            let extent = extents(view, ino, block.clone())?.pop();
            let sums = checksums(view, ino, block.clone())?;
            let run = extent.filter(is_verified).and_then(|extent| extent.run(&block));
            Ok(run.map(|run| (run.start, checksum_of(&sums, file_block))))
        });
        asked.await.is_ok_and(|now| now == Some((at, crc)))
    }
}

/// Its blocks are read by whoever reads the file.
fn is_verified(extent: &MappedExtent) -> bool {
    !extent.head.is(EXTENT_OFFLINE) && !extent.head.is(EXTENT_UNWRITTEN) && extent.inline.is_none()
}

/// The mapped blocks of a part of the keys, up to the bounds.
fn gather(
    view: &View<'_>,
    id: TabletId,
    (from, end): (Key, Key),
    refused: &[NodeRef],
) -> Result<Gathered, Stop> {
    let mut gathered = Gathered::default();
    let mut found: Vec<(InodeNo, Rc<MappedExtent>)> = Vec::new();
    let (mut blocks, mut items) = (0, 0);
    view.scan(id, from, end, |key, value| {
        items += 1;
        if let Some(ParsedKey::Extent { inode, file_block }) = key.parse() {
            match mapped(&key, value) {
                Ok(extent) if is_verified(&extent) => {
                    blocks += extent.blocks;
                    found.push((inode, Rc::new(extent)));
                }
                Ok(_) => {}
                Err(damage) => gathered.bad.push((inode, file_block, damage)),
            }
        }
        if blocks >= BLOCKS_MAX || items >= ITEMS_MAX {
            gathered.next = Some(key.successor());
            return ControlFlow::Break(());
        }
        ControlFlow::Continue(())
    })?;
    for (ino, extent) in found {
        let part = extent.first_block..extent.end_block();
        let Some(run) = extent.run(&part) else { continue };
        let sums = match checksums(view, ino, part.clone()) {
            // Named where it lies; who reads the file gets as far as here.
            Err(Stop::Absent(Absent::Node(at))) if refused.contains(&at) => continue,
            Err(Stop::Fs(error)) if error.is_trouble() => continue,
            sums => sums?,
        };
        let crcs = part.map(|block| checksum_of(&sums, block)).collect();
        gathered.runs.push(Mapped { ino, file_block: extent.first_block, run, crcs });
    }
    Ok(gathered)
}

/// Neighbours that have the same are one finding.
fn joined(id: TabletId, bad: Vec<BadBlock>) -> Vec<Damaged> {
    let mut all: Vec<Damaged> = Vec::new();
    for BadBlock { ino, file_block, at, cause, .. } in bad {
        if let Some(last) = all.last_mut()
            && let What::Data { ino: of, file_block: first, blocks } = &mut last.what
            && (*of, *first + *blocks, last.cause) == (ino, file_block, cause)
            && last.block.after(*blocks) == at
        {
            *blocks += 1;
            continue;
        }
        let what = What::Data { ino, file_block, blocks: 1 };
        all.push(Damaged { tablet: id, block: at, what, cause, pass: 0 });
    }
    all
}
