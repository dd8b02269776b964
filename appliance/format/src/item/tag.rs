//! Tagged xattrs in their indexes. A srch entry has an empty value.

use crate::damage::Damage;
use std::mem::size_of;
use zerocopy::little_endian::{I64, U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// An absolute sum over one tablet; the pool's total is the sum over tablets.
#[derive(
    FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned, Clone, Copy, Debug, PartialEq, Eq,
)]
#[repr(C)]
pub struct TotlItem {
    pub total: I64,
    pub count: U64,
}

const _: () = assert!(size_of::<TotlItem>() == 16);

impl TotlItem {
    pub fn parse(value: &[u8]) -> Result<TotlItem, Damage> {
        super::exact::<TotlItem>(value, "totl").copied()
    }
}

/// How many xattrs of the inode put it at this place.
#[derive(
    FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned, Clone, Copy, Debug, PartialEq, Eq,
)]
#[repr(C)]
pub struct IndxItem {
    pub count: U32,
}

const _: () = assert!(size_of::<IndxItem>() == 4);

impl IndxItem {
    pub fn parse(value: &[u8]) -> Result<IndxItem, Damage> {
        super::exact::<IndxItem>(value, "indx").copied()
    }
}
