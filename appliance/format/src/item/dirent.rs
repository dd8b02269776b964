//! Directory entries, twice: by hash of the name for lookup, by entry position for readdir.

use super::FileKind;
use crate::damage::Damage;
use std::mem::size_of;
use zerocopy::little_endian::U64;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

#[derive(
    FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned, Clone, Copy, Debug, PartialEq, Eq,
)]
#[repr(C)]
pub struct LookupItem {
    pub child: U64,
    pub position: U64,
    pub kind: u8,
}

const _: () = assert!(size_of::<LookupItem>() == 17);

impl LookupItem {
    pub fn parse(value: &[u8]) -> Result<LookupItem, Damage> {
        let item = super::exact::<LookupItem>(value, "lookup entry")?;
        FileKind::parse(item.kind)?;
        if item.child.get() == 0 {
            return Err(Damage::Value("lookup entry child"));
        }
        Ok(*item)
    }
}

/// The name follows, 1 to 255 bytes.
#[derive(
    FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned, Clone, Copy, Debug, PartialEq, Eq,
)]
#[repr(C)]
pub struct ReaddirHead {
    pub child: U64,
    pub kind: u8,
}

const _: () = assert!(size_of::<ReaddirHead>() == 9);

impl ReaddirHead {
    pub fn parse(value: &[u8]) -> Result<(ReaddirHead, &[u8]), Damage> {
        let (head, name) = super::head::<ReaddirHead>(value, "readdir entry")?;
        FileKind::parse(head.kind)?;
        if head.child.get() == 0 {
            return Err(Damage::Value("readdir entry child"));
        }
        if name.is_empty() || name.len() > 255 {
            return Err(Damage::Value("readdir entry name"));
        }
        Ok((*head, name))
    }
}
