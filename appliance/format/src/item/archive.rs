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

/// A consumer's place in the change stream; its name follows.
#[derive(
    FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned, Clone, Copy, Debug, PartialEq, Eq,
)]
#[repr(C)]
pub struct ConsumerHead {
    pub seq: U64,
    pub inode: U64,
}

const _: () = assert!(size_of::<ConsumerHead>() == 16);

impl ConsumerHead {
    pub fn parse(value: &[u8]) -> Result<(ConsumerHead, &[u8]), Damage> {
        let (head, name) = super::head::<ConsumerHead>(value, "consumer")?;
        if name.is_empty() || name.len() > 255 {
            return Err(Damage::Bounds("consumer name"));
        }
        Ok((*head, name))
    }
}
