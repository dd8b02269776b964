//! Extended attributes. Part 0 has this head, the name and the first bytes of the value; the other
//! parts are bare bytes.

use crate::damage::Damage;
use std::mem::size_of;
use zerocopy::little_endian::U32;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// Value bytes of one part behind the first.
pub const XATTR_PART_BYTES: usize = 4096;

#[derive(
    FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned, Clone, Copy, Debug, PartialEq, Eq,
)]
#[repr(C)]
pub struct XattrHead {
    pub value_len: U32,
    pub name_len: u8,
    pub reserved: u8,
}

const _: () = assert!(size_of::<XattrHead>() == 6);

impl XattrHead {
    /// Head, name, first bytes of the value.
    pub fn parse(value: &[u8]) -> Result<(XattrHead, &[u8], &[u8]), Damage> {
        let (head, rest) = super::head::<XattrHead>(value, "xattr")?;
        if head.reserved != 0 || head.name_len == 0 {
            return Err(Damage::Value("xattr head"));
        }
        let (name, first) = rest
            .split_at_checked(usize::from(head.name_len))
            .ok_or(Damage::Bounds("xattr name"))?;
        if first.len() as u64 > u64::from(head.value_len.get()) {
            return Err(Damage::Bounds("xattr value"));
        }
        Ok((*head, name, first))
    }
}
