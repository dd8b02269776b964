//! An inode without a name whose items are still being removed, with where it was last seen: the
//! deletion index wants that at the end.

use crate::damage::Damage;
use std::mem::size_of;
use zerocopy::little_endian::U64;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// The name follows; empty for an inode that never had one.
#[derive(
    FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned, Clone, Copy, Debug, PartialEq, Eq,
)]
#[repr(C)]
pub struct OrphanHead {
    pub last_parent: U64,
}

const _: () = assert!(size_of::<OrphanHead>() == 8);

impl OrphanHead {
    pub fn parse(value: &[u8]) -> Result<(OrphanHead, &[u8]), Damage> {
        let (head, name) = super::head::<OrphanHead>(value, "orphan")?;
        if name.len() > 255 {
            return Err(Damage::Bounds("orphan name"));
        }
        Ok((*head, name))
    }
}
