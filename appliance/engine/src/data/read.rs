//! Reading: one synchronous stretch says where every block of the range is, then the device is read,
//! and every block that comes from it is verified.
//!
//! The stretch takes hold of what it found: buffered pages and inline bytes by reference, device
//! blocks by a read guard that is older than the stretch and lives until the reads have ended. So a
//! write or a truncation meanwhile changes nothing for this reader, and a block freed meanwhile is
//! not reused under it.
//!
//! The answer is one buffer that begins at a block, so that a frontend sends it as it is. When one
//! device run holds the whole range, which is what sequential files look like, the device writes
//! straight into it; else each run is read into a buffer of its own and copied, as is what the cache
//! has (`cache.rs`).
//!
//! Bad data is never returned: a block whose CRC-32C is wrong or missing fails the read and says
//! which device block it was. Times of access are not kept.

use super::buffered::PageData;
use super::join::join;
use super::map::{self, MappedExtent};
use super::{BLOCK, blocks_of};
use crate::access;
use crate::attr::{FileKind, Rights};
use crate::cred::Cred;
use crate::error::FsError;
use crate::limits::IO_BYTES_MAX;
use crate::op::Data;
use crate::shard::Shard;
use crate::txn::{Stop, View};
use cairn_base::door::{Disk, Doors};
use cairn_base::hash::crc32c;
use cairn_base::{BLOCK_BYTES, BlockNo, DmaBuf};
use cairn_format::item::{EXTENT_OFFLINE, EXTENT_UNWRITTEN, InodeItem};
use cairn_format::{Damage, InodeNo};
use std::ops::Range;
use std::rc::Rc;

/// Device reads of one READ that are in flight at once.
const READS_MAX: usize = 16;
/// The blocks of one device read that stay in the cache when there are no more than this.
const KEEP_READ_BLOCKS_MAX: usize = 64;

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

/// One block as the device had it, and what says whether it still has it there.
pub(super) struct OldBlock {
    pub block: u64,
    pub extent: MappedExtent,
    pub data_seq: u64,
    pub content: DmaBuf,
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
        &self,
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
                let sources = locate(view, ino, blocks_of(offset, len))?;
                Ok((attr, len, sources))
            })
            .await?;
        let buf = self.fetch(&sources).await?;
        drop(guard);
        Ok(Data {
            buf,
            start: (offset % BLOCK) as usize,
            len: len as usize,
            eof: offset.saturating_add(len) >= attr.size,
            attr,
        })
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
            let sources = locate(view, ino, block..block + 1)?;
            Ok((extent, item.data_seq.get(), sources))
        });
        let (extent, data_seq, sources) = found.await?;
        let (Some(extent), Some(Source::Device(_))) = (extent, sources.first()) else {
            return Ok(None);
        };
        let content = self.fetch(&sources).await?;
        Ok(Some(OldBlock { block, extent, data_seq, content }))
    }

    async fn fetch(&self, sources: &[Source]) -> Result<DmaBuf, FsError> {
        let arena = self.disk.arena();
        if sources.iter().any(|source| matches!(source, Source::Offline)) {
            return Err(FsError::Offline);
        }
        let is_cached = |source: &Source| match source {
            Source::Device(DeviceBlock { at, crc: Some(crc), .. }) => {
                self.core.data_cache.has(*at, *crc)
            }
            _ => false,
        };
        let pieces = pieces_of(sources, is_cached);
        if let [piece] = &pieces[..]
            && piece.blocks == sources.len()
        {
            let mut buf = self.read_piece(piece).await?;
            self.verify(&mut buf, sources)?;
            return Ok(buf);
        }
        let mut whole = arena.alloc(sources.len() * BLOCK_BYTES);
        for (out, source) in whole.chunks_exact_mut(BLOCK_BYTES).zip(sources) {
            match source {
                Source::Page(page) => out.copy_from_slice(page),
                Source::Inline(bytes) => {
                    out[..bytes.len()].copy_from_slice(bytes);
                    out[bytes.len()..].fill(0);
                }
                Source::Device(block) => self.copy_cached(block, out),
                Source::Zeros | Source::Offline => out.fill(0),
            }
        }
        let reads = join(READS_MAX, pieces.iter().map(|piece| self.read_piece(piece))).await;
        for (piece, read) in pieces.iter().zip(reads) {
            let mut buf = read?;
            self.verify(&mut buf, &sources[piece.place..piece.place + piece.blocks])?;
            let from = piece.place * BLOCK_BYTES;
            whole[from..from + buf.len()].copy_from_slice(&buf);
        }
        Ok(whole)
    }

    /// Checks what the device returned and keeps it, unless it is part of a stream, which would push
    /// everything else out.
    fn verify(&self, buf: &mut [u8], sources: &[Source]) -> Result<(), FsError> {
        let keep = sources.len() <= KEEP_READ_BLOCKS_MAX;
        verify(buf, sources, |at, crc, bytes| {
            if keep {
                self.core.data_cache.keep(at, crc, bytes);
            }
        })
    }

    /// Fills `out` from the cache; what is not there is read over it afterwards.
    fn copy_cached(&self, block: &DeviceBlock, out: &mut [u8]) {
        if let Some(crc) = block.crc
            && self.core.data_cache.copy(block.at, crc, out)
        {
            out[block.keep..].fill(0);
            self.core.counters.data_cache_hits.add(1);
        }
    }

    async fn read_piece(&self, piece: &Piece) -> Result<DmaBuf, FsError> {
        let buf = self.disk.arena().alloc(piece.blocks * BLOCK_BYTES);
        let (buf, read) = self.disk.read(piece.at, buf).await;
        read.map_err(|error| FsError::Media { block: piece.at, error })?;
        self.core.counters.data_blocks_read.add(piece.blocks as u64);
        Ok(buf)
    }
}

/// Where each of `blocks` is.
fn locate(view: &View<'_>, ino: InodeNo, blocks: Range<u64>) -> Result<Vec<Source>, Stop> {
    let mut sources = vec![Source::Zeros; (blocks.end - blocks.start) as usize];
    let extents = map::extents(view, ino, blocks.clone())?;
    let on_device = extents.iter().any(|extent| extent.inline.is_none());
    let sums =
        if on_device { map::checksums(view, ino, blocks.clone())? } else { Default::default() };
    for extent in &extents {
        let part = extent.first_block.max(blocks.start)..extent.end_block().min(blocks.end);
        for block in part {
            sources[(block - blocks.start) as usize] = match &extent.inline {
                _ if extent.head.is(EXTENT_OFFLINE) => Source::Offline,
                Some(bytes) => Source::Inline(Rc::clone(bytes)),
                None if extent.head.is(EXTENT_UNWRITTEN) => Source::Zeros,
                None => match extent.run(&(block..block + 1)) {
                    Some(run) => Source::Device(DeviceBlock {
                        at: run.start,
                        crc: map::checksum_of(&sums, block),
                        keep: (extent.end() - block * BLOCK).min(BLOCK) as usize,
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

fn pieces_of(sources: &[Source], is_cached: impl Fn(&Source) -> bool) -> Vec<Piece> {
    let mut pieces: Vec<Piece> = Vec::new();
    for (place, source) in sources.iter().enumerate() {
        let Source::Device(block) = source else { continue };
        if is_cached(source) {
            continue;
        }
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

/// Checks what the device returned for `sources`, gives each sound block to `keep`, and zeros what
/// lies behind an extent's length.
fn verify(
    buf: &mut [u8],
    sources: &[Source],
    mut keep_block: impl FnMut(BlockNo, u32, &[u8]),
) -> Result<(), FsError> {
    for (bytes, source) in buf.chunks_exact_mut(BLOCK_BYTES).zip(sources) {
        let Source::Device(DeviceBlock { at, crc, keep }) = *source else { continue };
        let damaged = |damage| FsError::Corrupt { block: at, damage };
        let crc = crc.ok_or(damaged(Damage::ChecksumMissing))?;
        if crc32c(bytes) != crc {
            return Err(damaged(Damage::DataChecksum));
        }
        keep_block(at, crc, bytes);
        bytes[keep..].fill(0);
    }
    Ok(())
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
        let pieces: Vec<_> = pieces_of(&sources, |_| false)
            .iter()
            .map(|p| (p.at.index(), p.place, p.blocks))
            .collect();
        assert_eq!(pieces, [(7, 0, 2), (9, 3, 1), (20, 4, 1)]);
    }

    #[test]
    fn a_block_is_returned_only_when_its_checksum_is_right() {
        let mut bytes = vec![7; BLOCK_BYTES];
        let good = device(3, &bytes, 100);
        let mut kept = 0;
        let keep = |_, _, block: &[u8]| kept = block.iter().filter(|b| **b == 7).count();
        verify(&mut bytes, std::slice::from_ref(&good), keep).expect("nothing is wrong yet");
        assert_eq!(kept, BLOCK_BYTES, "the block is kept as the device has it");
        assert!(bytes[..100].iter().all(|&b| b == 7) && bytes[100..].iter().all(|&b| b == 0));
        let at = BlockNo::new(DeviceId(0), 3);
        let refused = verify(&mut bytes, &[good], |_, _, _| panic!("bad data is not kept"));
        assert_eq!(refused, Err(FsError::Corrupt { block: at, damage: Damage::DataChecksum }));
        let none = Source::Device(DeviceBlock { at, crc: None, keep: 1 });
        let refused = verify(&mut bytes, &[none], |_, _, _| panic!("unchecked data is not kept"));
        assert_eq!(refused, Err(FsError::Corrupt { block: at, damage: Damage::ChecksumMissing }));
    }
}
