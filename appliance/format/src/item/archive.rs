//! What the archive agents keep in the file system: fixity of released data, and their cursors.

use crate::damage::Damage;
use std::mem::size_of;
use zerocopy::little_endian::{U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// One combined CRC-32C over the blocks of an aligned file MiB that were released.
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
        super::exact::<FixityItem>(value, "fixity").copied()
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
