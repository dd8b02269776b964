//! What the archive agents keep in the file system: fixity of released data, and their cursors.

use crate::damage::Damage;
use cairn_base::BLOCK_BYTES;
use cairn_base::hash::crc32c_shifted;
use std::mem::size_of;
use zerocopy::little_endian::{U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// Blocks of one item: an aligned file MiB.
pub const FIXITY_BLOCKS: u64 = 256;

/// One sum over the blocks of an aligned file MiB that were released: the XOR of each block's CRC-32C,
/// shifted by the bytes behind it in the MiB. So blocks may come in any order, and all of them make the
/// CRC-32C of the MiB.
#[derive(
    FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned, Clone, Copy, Debug, PartialEq, Eq,
)]
#[repr(C)]
pub struct FixityItem {
    /// One bit a block of the MiB, four words of 64: which blocks the CRC is over.
    pub released: [U64; 4],
    pub crc: U32,
}

const _: () = assert!(size_of::<FixityItem>() == 36);

impl FixityItem {
    pub fn parse(value: &[u8]) -> Result<FixityItem, Damage> {
        let item = super::exact::<FixityItem>(value, "fixity").copied()?;
        match item.is_empty() {
            true => Err(Damage::Value("fixity of nothing")),
            false => Ok(item),
        }
    }

    pub const EMPTY: FixityItem = FixityItem { released: [U64::ZERO; 4], crc: U32::ZERO };

    pub fn is_empty(&self) -> bool {
        self.released == [U64::ZERO; 4]
    }

    /// Is the sum over this block of the MiB, too?
    pub fn has(&self, block: u64) -> bool {
        let word = self.released[(block / 64) as usize];
        word.get() >> (block % 64) & 1 == 1
    }

    pub fn blocks(&self) -> impl Iterator<Item = u64> {
        let item = *self;
        (0..FIXITY_BLOCKS).filter(move |block| item.has(*block))
    }

    /// Takes in a block of the MiB, with the CRC-32C of its 4,096 bytes.
    pub fn add(&mut self, block: u64, crc: u32) {
        let word = &mut self.released[(block / 64) as usize];
        *word = (word.get() | 1 << (block % 64)).into();
        let behind = (FIXITY_BLOCKS - 1 - block) * BLOCK_BYTES as u64;
        self.crc = (self.crc.get() ^ crc32c_shifted(crc, behind)).into();
    }
}

/// A consumer's place in the change stream; its name follows, UTF-8.
///
/// It has seen all changes up to and with (seq, inode). Deletions up to `floor` concern inodes that were
/// gone when it began, so it does not need them.
#[derive(
    FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned, Clone, Copy, Debug, PartialEq, Eq,
)]
#[repr(C)]
pub struct ConsumerHead {
    pub seq: U64,
    /// Raw: all ones are behind every inode of the seq.
    pub inode: U64,
    /// What was stable when it began.
    pub floor: U64,
    /// When it was added, nanoseconds since 1970.
    pub created: U64,
    /// When it last moved on, nanoseconds since 1970; zero when it never has.
    pub acked: U64,
}

const _: () = assert!(size_of::<ConsumerHead>() == 40);

/// Most bytes of a consumer's name.
pub const CONSUMER_NAME_BYTES_MAX: usize = 255;

impl ConsumerHead {
    pub fn parse(value: &[u8]) -> Result<(ConsumerHead, &str), Damage> {
        let (head, name) = super::head::<ConsumerHead>(value, "consumer")?;
        if name.is_empty() || name.len() > CONSUMER_NAME_BYTES_MAX {
            return Err(Damage::Bounds("consumer name"));
        }
        let name = std::str::from_utf8(name).map_err(|_| Damage::Value("consumer name"))?;
        Ok((*head, name))
    }
}

/// The last entry of the tablet's deletion index that was trimmed: what it held up to and with this
/// place is not there any more.
#[derive(
    FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned, Clone, Copy, Debug, PartialEq, Eq,
)]
#[repr(C)]
pub struct TrimmedItem {
    pub seq: U64,
    pub inode: U64,
}

const _: () = assert!(size_of::<TrimmedItem>() == 16);

impl TrimmedItem {
    pub fn parse(value: &[u8]) -> Result<TrimmedItem, Damage> {
        let item = super::exact::<TrimmedItem>(value, "trimmed")?;
        if item.seq.get() == 0 || item.inode.get() == 0 {
            return Err(Damage::Value("trimmed"));
        }
        Ok(*item)
    }
}
