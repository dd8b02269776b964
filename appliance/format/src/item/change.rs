//! The deletion index: what an archive agent needs to know about an inode that is gone. The other
//! change indexes have empty values.

use crate::damage::Damage;
use std::mem::size_of;
use zerocopy::little_endian::{U16, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// There were more hidden xattrs than fitted.
pub const DELETION_XATTRS_CUT: u8 = 1;

/// Name and encoded hidden xattrs follow.
#[derive(
    FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned, Clone, Copy, Debug, PartialEq, Eq,
)]
#[repr(C)]
pub struct DeletionHead {
    pub last_parent: U64,
    pub data_version: U64,
    pub kind: u8,
    pub flags: u8,
    pub name_len: u8,
    pub reserved: u8,
    pub xattrs_len: U16,
}

const _: () = assert!(size_of::<DeletionHead>() == 22);

impl DeletionHead {
    /// Head, name, hidden xattrs.
    pub fn parse(value: &[u8]) -> Result<(DeletionHead, &[u8], &[u8]), Damage> {
        let (head, rest) = super::head::<DeletionHead>(value, "deletion")?;
        if head.reserved != 0 || head.flags & !DELETION_XATTRS_CUT != 0 {
            return Err(Damage::Value("deletion head"));
        }
        let (name, xattrs) = rest
            .split_at_checked(usize::from(head.name_len))
            .ok_or(Damage::Bounds("deletion name"))?;
        if xattrs.len() != usize::from(head.xattrs_len.get()) {
            return Err(Damage::Bounds("deletion xattrs"));
        }
        Ok((*head, name, xattrs))
    }
}
