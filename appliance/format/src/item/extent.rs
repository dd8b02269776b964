//! Extents map file blocks to device runs; checksums go with them, 64 blocks an item.
//!
//! An extent's length is in bytes: what lies behind it in its last block reads as zero, so that a
//! truncation rewrites no data. An inline extent carries its bytes behind the head, at most one
//! block, and has no device run and no checksum item (the node's hash covers it).

use crate::damage::Damage;
use cairn_base::{BlockNo, Run};
use std::mem::size_of;
use zerocopy::little_endian::{U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// The run is allocated and reads as zeros.
pub const EXTENT_UNWRITTEN: u8 = 1;
/// The bytes are on the archive tier.
pub const EXTENT_OFFLINE: u8 = 2;
/// The bytes follow the head.
pub const EXTENT_INLINE: u8 = 4;
/// Reserved: the run has other owners.
pub const EXTENT_SHARED: u8 = 8;

/// No file has more: its bytes would not fit 64 bits.
pub const FILE_BLOCKS_MAX: u64 = u64::MAX / 4096;

#[derive(
    FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned, Clone, Copy, Debug, PartialEq, Eq,
)]
#[repr(C)]
pub struct ExtentHead {
    /// First block of the run; zero when offline without a run, or inline.
    pub start: U64,
    /// Bytes from the extent's first file block.
    pub length: U64,
    pub flags: u8,
    /// Version of this value's layout: 0.
    pub version: u8,
}

const _: () = assert!(size_of::<ExtentHead>() == 18);

impl ExtentHead {
    pub fn parse(value: &[u8]) -> Result<(ExtentHead, &[u8]), Damage> {
        let (head, tail) = super::head::<ExtentHead>(value, "extent")?;
        if head.version != 0 {
            return Err(Damage::Value("extent version"));
        }
        let known = EXTENT_UNWRITTEN | EXTENT_OFFLINE | EXTENT_INLINE;
        if head.flags & !known != 0 {
            return Err(Damage::Value("extent flags"));
        }
        let inline = head.flags & EXTENT_INLINE != 0;
        let inline_bytes = if inline { head.length.get() } else { 0 };
        if head.length.get() == 0 || tail.len() as u64 != inline_bytes || tail.len() > 4096 {
            return Err(Damage::Bounds("extent length"));
        }
        if inline && (head.start.get() != 0 || head.flags & EXTENT_UNWRITTEN != 0) {
            return Err(Damage::Value("inline extent"));
        }
        if head.flags & (EXTENT_INLINE | EXTENT_OFFLINE) == 0 && head.start.get() == 0 {
            return Err(Damage::Value("extent start"));
        }
        if head.start.get() != 0
            && Run::parse(BlockNo::from_raw(head.start.get()), head.blocks()).is_none()
        {
            return Err(Damage::Bounds("extent run"));
        }
        Ok((*head, tail))
    }

    /// The file block behind the extent's last, for one that begins at `file_block`. Its bytes can be
    /// counted in 64 bits.
    pub fn end_block(&self, file_block: u64) -> Result<u64, Damage> {
        match file_block.checked_add(self.blocks()) {
            Some(end) if end <= FILE_BLOCKS_MAX => Ok(end),
            _ => Err(Damage::Bounds("extent end")),
        }
    }

    /// Blocks the extent covers.
    pub fn blocks(&self) -> u64 {
        self.length.get().div_ceil(4096)
    }

    pub fn is(&self, flag: u8) -> bool {
        self.flags & flag != 0
    }
}

pub const CHECKSUMS_PER_ITEM: u64 = 64;

/// The CRC-32C of up to 64 blocks; which ones have one is a mask in front of them on the disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Checksums {
    pub mask: u64,
    pub crc: [u32; CHECKSUMS_PER_ITEM as usize],
}

impl Checksums {
    pub const NONE: Checksums = Checksums { mask: 0, crc: [0; 64] };
    pub const ENCODED_BYTES_MAX: usize = 8 + 4 * 64;

    /// Mask (u64), then one u32 for each bit set, lowest first; all little-endian.
    pub fn parse(value: &[u8]) -> Result<Checksums, Damage> {
        let (mask, rest) = U64::read_from_prefix(value).map_err(|_| Damage::Bounds("checksums"))?;
        let mask = mask.get();
        if mask == 0 {
            return Err(Damage::Value("checksums mask"));
        }
        if rest.len() != 4 * mask.count_ones() as usize {
            return Err(Damage::Bounds("checksums"));
        }
        let mut sums = Checksums { mask, crc: [0; 64] };
        let present = (0..64).filter(|slot| mask >> slot & 1 == 1);
        for (slot, bytes) in present.zip(rest.chunks_exact(4)) {
            let word = U32::ref_from_bytes(bytes).map_err(|_| Damage::Bounds("checksums"))?;
            sums.crc[slot] = word.get();
        }
        Ok(sums)
    }

    /// Writes the encoded form and gives its length.
    pub fn encode(&self, out: &mut [u8; Self::ENCODED_BYTES_MAX]) -> usize {
        out[..8].copy_from_slice(&self.mask.to_le_bytes());
        let mut at = 8;
        for slot in (0..64).filter(|slot| self.mask >> slot & 1 == 1) {
            out[at..at + 4].copy_from_slice(&self.crc[slot].to_le_bytes());
            at += 4;
        }
        at
    }

    pub fn get(&self, slot: usize) -> Option<u32> {
        (self.mask >> slot & 1 == 1).then(|| self.crc[slot])
    }

    pub fn set(&mut self, slot: usize, crc: Option<u32>) {
        self.mask = self.mask & !(1 << slot) | u64::from(crc.is_some()) << slot;
        self.crc[slot] = crc.unwrap_or(0);
    }
}
