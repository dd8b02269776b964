//! Reading: one synchronous stretch says where every block of the range is, then the device is read,
//! and every block that comes from it is verified.
//!
//! The stretch takes hold of what it found: buffered pages and inline bytes by reference, device
//! blocks by a read guard that is older than the stretch and lives until the reads have ended. So a
//! write or a truncation meanwhile changes nothing for this reader, and a block freed meanwhile is
//! not reused under it.
//!
//! The answer is made of pages that are shared with the cache (`cache.rs`), with what is buffered, and with
//! other readers; a frontend sends them as they are. Only when they lie in many pieces are they copied
//! into one. A range that is on its way from the device for somebody else is waited for (`arriving.rs`).
//!
//! Bad data is never returned: a block whose CRC-32C is wrong or missing fails the read and says
//! which device block it was. Times of access are not kept.

use super::buffered::PageData;
use super::cache::Near;
use super::join::join;
use super::map::{self, MappedExtent};
use super::{BLOCK, blocks_of};
use crate::access;
use crate::attr::{FileKind, Rights};
use crate::cred::Cred;
use crate::error::FsError;
use crate::limits::IO_BYTES_MAX;
use crate::op::Data;
use crate::sabotage::{Sabotage, planted};
use crate::shard::Shard;
use crate::txn::{Stop, View};
use cairn_base::door::{Disk, Doors};
use cairn_base::hash::crc32c;
use cairn_base::{BLOCK_BYTES, BlockNo, DmaSlice, Run};
use cairn_format::item::{EXTENT_OFFLINE, EXTENT_UNWRITTEN, InodeItem};
use cairn_format::{Damage, InodeNo};
use std::ops::Range;
use std::rc::Rc;
use std::sync::Arc;

/// Device reads of one READ that are in flight at once.
const READS_MAX: usize = 16;
/// Pieces of memory that one answer is made of at most.
const SLICES_MAX: usize = 32;
/// How often a reader waits for what others read before it reads by itself.
const WAITS_MAX: usize = 4;

/// Where one file block's content is.
#[derive(Clone)]
enum Source {
    Zeros,
    Page(PageData),
    Inline(Rc<[u8]>),
    Device(DeviceBlock),
    Offline,
}

#[derive(Clone, Copy)]
struct DeviceBlock {
    at: BlockNo,
    crc: Option<u32>,
    /// Bytes that count; the rest reads as zero.
    keep: usize,
}

/// A run of neighbouring device blocks: the first file block's place in the range, and how many.
struct Piece {
    at: BlockNo,
    place: usize,
    blocks: usize,
}

impl Piece {
    fn run(&self) -> Run {
        Run::new(self.at, self.blocks as u64)
    }

    fn places(&self) -> Range<usize> {
        self.place..self.place + self.blocks
    }
}

/// One block as the device had it, and what says whether it still has it there.
pub(super) struct OldBlock {
    pub block: u64,
    pub extent: MappedExtent,
    pub data_seq: u64,
    pub content: PageData,
}

/// May `cred` read? The owner always: NFS has no open to have checked it at (RFC 1813, section 4.4);
/// and a client that may execute a file has to read it for that.
fn require_readable(cred: &Cred, item: &InodeItem) -> Result<(), FsError> {
    match item.file_kind() {
        FileKind::Regular => {}
        FileKind::Directory => return Err(FsError::IsDirectory),
        _ => return Err(FsError::Invalid),
    }
    if access::is_owner(cred, item) || access::granted(cred, item).has(Rights::EXECUTE) {
        return Ok(());
    }
    access::require(cred, item, Rights::READ)
}

impl<D: Doors> Shard<D> {
    pub(crate) async fn read_data(
        self: &Rc<Self>,
        cred: &Cred,
        ino: InodeNo,
        offset: u64,
        len: u32,
    ) -> Result<Data, FsError> {
        let asked = u64::from(len).min(IO_BYTES_MAX as u64);
        let guard = self.core.reads.begin();
        let (attr, len, sources) = self
            .read_with(|view| {
                let item = view.inode(ino)?;
                require_readable(cred, &item)?;
                let attr = view.attr(ino, &item);
                let len = attr.size.saturating_sub(offset).min(asked);
                let sources =
                    locate(view, ino, blocks_of(offset, len), offset.saturating_add(len))?;
                Ok((attr, len, sources))
            })
            .await?;
        self.read_ahead(ino, &blocks_of(offset, len), attr.size);
        let pages = self.fetch(sources).await?;
        drop(guard);
        let start = (offset % BLOCK) as usize;
        let parts = self.slices_of(&pages, start..start + len as usize);
        Ok(Data { parts, eof: offset.saturating_add(len) >= attr.size, attr })
    }

    /// One block of the map's, read and verified; `None` when the device does not have it.
    pub(super) async fn read_old_block(
        &self,
        ino: InodeNo,
        block: u64,
    ) -> Result<Option<OldBlock>, FsError> {
        let _guard = self.core.reads.begin();
        let found = self.read_with(|view| {
            let item = view.inode(ino)?;
            let extent = map::extents(view, ino, block..block + 1)?.pop();
            let sources = locate(view, ino, block..block + 1, (block + 1) * BLOCK)?;
            Ok((extent, item.data_seq.get(), sources))
        });
        let (extent, data_seq, sources) = found.await?;
        let (Some(extent), Some(Source::Device(_))) = (extent, sources.first()) else {
            return Ok(None);
        };
        let content = self.fetch(sources).await?.pop();
        Ok(content.map(|content| OldBlock { block, extent, data_seq, content }))
    }

    /// Brings what the device has of these blocks into the cache.
    pub(super) async fn fetch_to_cache(
        &self,
        ino: InodeNo,
        blocks: Range<u64>,
    ) -> Result<(), FsError> {
        let _guard = self.core.reads.begin();
        let sources = self.read_with(|view| {
            let Some(item) = view.inode_if_any(ino)? else { return Ok(Vec::new()) };
            let size = view.attr(ino, &item).size;
            let inside = blocks.start..blocks.end.min(blocks_of(0, size).end).max(blocks.start);
            let end = inside.end * BLOCK;
            locate(view, ino, inside, end)
        });
        let mut sources = sources.await?;
        sources.retain(|source| matches!(source, Source::Device(_)));
        self.fetch(sources).await.map(drop)
    }

    /// The content of every block of a range.
    async fn fetch(&self, mut sources: Vec<Source>) -> Result<Vec<PageData>, FsError> {
        if sources.iter().any(|source| matches!(source, Source::Offline)) {
            return Err(FsError::Offline);
        }
        let mut missing = self.find_cached(&mut sources);
        for _ in 0..WAITS_MAX {
            let arriving = &self.core.arriving;
            let Some(run) = missing.iter().map(Piece::run).find(|run| arriving.meets(run)) else {
                break;
            };
            arriving.landed(&run).await;
            missing = self.find_cached(&mut sources);
        }
        let read = |piece| self.read_piece(piece, &sources);
        let reads = join(READS_MAX, missing.iter().map(read)).await;
        for (piece, read) in missing.iter().zip(reads) {
            let pages = read?;
            for (source, page) in sources[piece.places()].iter_mut().zip(pages) {
                *source = Source::Page(page);
            }
        }
        let zeros = &self.core.zeros;
        let page = |(place, source)| match source {
            Source::Page(page) => page,
            Source::Inline(bytes) => self.page_of(&bytes),
            Source::Zeros | Source::Offline | Source::Device(_) => {
                PageData::new(zeros, place * BLOCK_BYTES % zeros.len())
            }
        };
        Ok(sources.into_iter().enumerate().map(page).collect())
    }

    /// Puts what is cached in its place; gives what is not.
    fn find_cached(&self, sources: &mut [Source]) -> Vec<Piece> {
        let mut near = Near::default();
        for source in sources.iter_mut() {
            if let Source::Device(DeviceBlock { at, crc: Some(crc), keep }) = *source
                && let Some(page) = self.core.data_cache.find(at, crc, &mut near)
            {
                self.core.counters.data_cache_hits.add(1);
                *source = Source::Page(self.cut(page, keep));
            }
        }
        pieces_of(sources)
    }

    /// Reads neighbouring blocks, checks them and caches them.
    async fn read_piece(
        &self,
        piece: &Piece,
        sources: &[Source],
    ) -> Result<Vec<PageData>, FsError> {
        let _under_way = self.core.arriving.begin(piece.run());
        let buf = self.disk.arena().alloc(piece.blocks * BLOCK_BYTES);
        let (buf, read) = self.disk.read(piece.at, buf).await;
        read.map_err(|error| FsError::Media { block: piece.at, error })?;
        self.core.counters.data_blocks_read.add(piece.blocks as u64);
        let sources = &sources[piece.places()];
        let crcs = verify(&buf, sources)?;
        let buf = Arc::new(buf);
        self.core.data_cache.keep(piece.at, &crcs, &buf, 0);
        let page = |(place, source): (usize, &Source)| {
            let page = PageData::new(&buf, place * BLOCK_BYTES);
            match source {
                Source::Device(block) => self.cut(page, block.keep),
                _ => page,
            }
        };
        Ok(sources.iter().enumerate().map(page).collect())
    }

    /// The page as a reader may see it: behind `keep` bytes it is zero.
    fn cut(&self, page: PageData, keep: usize) -> PageData {
        if keep == BLOCK_BYTES { page } else { self.page_of(&page[..keep]) }
    }

    fn page_of(&self, bytes: &[u8]) -> PageData {
        let mut buf = self.disk.arena().alloc(BLOCK_BYTES);
        buf[..bytes.len()].copy_from_slice(bytes);
        buf[bytes.len()..].fill(0);
        PageData::new(&Arc::new(buf), 0)
    }

    /// A range of bytes of `pages`, in few pieces.
    fn slices_of(&self, pages: &[PageData], range: Range<usize>) -> Vec<DmaSlice> {
        let mut slices = PageData::slices(pages);
        if slices.len() > SLICES_MAX {
            let mut whole = self.disk.arena().alloc(pages.len() * BLOCK_BYTES);
            for (out, page) in whole.chunks_exact_mut(BLOCK_BYTES).zip(pages) {
                out.copy_from_slice(page);
            }
            slices = vec![DmaSlice::whole(whole)];
        }
        let mut at = 0;
        let part = |slice: DmaSlice| {
            let from = range.start.saturating_sub(at).min(slice.len());
            let to = range.end.saturating_sub(at).min(slice.len());
            at += slice.len();
            slice.slice(from..to)
        };
        slices.into_iter().map(part).filter(|part| !part.is_empty()).collect()
    }
}

/// Where each of `blocks` is, of which bytes up to `end` are wanted.
fn locate(
    view: &View<'_>,
    ino: InodeNo,
    blocks: Range<u64>,
    end: u64,
) -> Result<Vec<Source>, Stop> {
    let mut sources = vec![Source::Zeros; (blocks.end - blocks.start) as usize];
    let extents = map::extents(view, ino, blocks.clone())?;
    let on_device = extents.iter().any(|extent| extent.inline.is_none());
    let sums =
        if on_device { map::checksums(view, ino, blocks.clone())? } else { Default::default() };
    for extent in &extents {
        let part = extent.first_block.max(blocks.start)..extent.end_block().min(blocks.end);
        for block in part {
            sources[(block - blocks.start) as usize] = match &extent.inline {
                _ if extent.head.is(EXTENT_OFFLINE) && planted(Sabotage::OfflineReadsZeros) => {
                    Source::Zeros
                }
                _ if extent.head.is(EXTENT_OFFLINE) && !is_shown_early(extent) => Source::Offline,
                Some(bytes) => Source::Inline(Rc::clone(bytes)),
                None if extent.head.is(EXTENT_UNWRITTEN) => Source::Zeros,
                None => match extent.run(&(block..block + 1)) {
                    Some(run) => Source::Device(DeviceBlock {
                        at: run.start,
                        crc: map::checksum_of(&sums, block),
                        keep: kept_bytes(extent.end(), end, block),
                    }),
                    None => Source::Zeros,
                },
            };
        }
    }
    if let Some(overlay) = view.tablet(ino.tablet()).overlays.get(ino) {
        overlay.read(|state| {
            for (block, page) in state.pages(blocks.clone()) {
                sources[(block - blocks.start) as usize] = Source::Page(page.clone());
            }
        });
    }
    Ok(sources)
}

fn is_shown_early(extent: &MappedExtent) -> bool {
    planted(Sabotage::StagedShownEarly) && extent.head.start.get() != 0
}

/// Bytes of `block` that count: all of them when no more is wanted than its extent has.
fn kept_bytes(extent_end: u64, wanted_end: u64, block: u64) -> usize {
    if planted(Sabotage::TailShows) {
        return BLOCK_BYTES;
    }
    let inside = |end: u64| end.saturating_sub(block * BLOCK).min(BLOCK);
    let (has, wanted) = (inside(extent_end), inside(wanted_end));
    if wanted <= has { BLOCK_BYTES } else { has as usize }
}

/// What is to be read from the device, neighbours together.
fn pieces_of(sources: &[Source]) -> Vec<Piece> {
    let mut pieces: Vec<Piece> = Vec::new();
    for (place, source) in sources.iter().enumerate() {
        let Source::Device(block) = source else { continue };
        match pieces.last_mut() {
            Some(last)
                if last.place + last.blocks == place
                    && last.at.after(last.blocks as u64) == block.at =>
            {
                last.blocks += 1;
            }
            _ => pieces.push(Piece { at: block.at, place, blocks: 1 }),
        }
    }
    pieces
}

/// Checks what the device returned for `sources`; gives their checksums.
fn verify(buf: &[u8], sources: &[Source]) -> Result<Vec<u32>, FsError> {
    let blocks = buf.chunks_exact(BLOCK_BYTES).zip(sources).filter_map(|(bytes, source)| {
        let Source::Device(block) = source else { return None };
        Some((bytes, block.at, block.crc))
    });
    let check = |(bytes, at, crc): (&[u8], BlockNo, Option<u32>)| {
        let damaged = |damage| FsError::Corrupt { block: at, damage };
        let crc = crc.ok_or(damaged(Damage::ChecksumMissing))?;
        if crc32c(bytes) != crc && !planted(Sabotage::ChecksumSkipped) {
            return Err(damaged(Damage::DataChecksum));
        }
        Ok(crc)
    };
    blocks.map(check).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use cairn_base::DeviceId;

    fn device(index: u64, bytes: &[u8], keep: usize) -> Source {
        let at = BlockNo::new(DeviceId(0), index);
        Source::Device(DeviceBlock { at, crc: Some(crc32c(bytes)), keep })
    }

    #[test]
    fn neighbours_on_the_device_and_in_the_file_are_one_read() {
        let block = [0; BLOCK_BYTES];
        let source = |index| device(index, &block, BLOCK_BYTES);
        let sources = [source(7), source(8), Source::Zeros, source(9), source(20)];
        let pieces: Vec<_> =
            pieces_of(&sources).iter().map(|p| (p.at.index(), p.place, p.blocks)).collect();
        assert_eq!(pieces, [(7, 0, 2), (9, 3, 1), (20, 4, 1)]);
    }

    #[test]
    fn a_block_is_returned_only_when_its_checksum_is_right() {
        let mut bytes = vec![7; BLOCK_BYTES];
        let good = device(3, &bytes, 100);
        verify(&bytes, std::slice::from_ref(&good)).expect("nothing is wrong yet");
        bytes[4000] = 8;
        let at = BlockNo::new(DeviceId(0), 3);
        let refused = verify(&bytes, &[good]);
        assert_eq!(refused, Err(FsError::Corrupt { block: at, damage: Damage::DataChecksum }));
        let none = Source::Device(DeviceBlock { at, crc: None, keep: 1 });
        let refused = verify(&bytes, &[none]);
        assert_eq!(refused, Err(FsError::Corrupt { block: at, damage: Damage::ChecksumMissing }));
    }

    #[test]
    fn a_block_counts_whole_where_no_more_is_wanted_than_it_has() {
        let file = |extent, wanted| kept_bytes(extent, wanted, 2);
        assert_eq!(file(3 * BLOCK, 3 * BLOCK), BLOCK_BYTES);
        assert_eq!(file(2 * BLOCK + 100, 2 * BLOCK + 100), BLOCK_BYTES);
        assert_eq!(file(2 * BLOCK + 100, 2 * BLOCK + 101), 100);
        assert_eq!(file(2 * BLOCK + 100, 9 * BLOCK), 100);
        assert_eq!(file(9 * BLOCK, 2 * BLOCK + 1), BLOCK_BYTES);
    }
}
