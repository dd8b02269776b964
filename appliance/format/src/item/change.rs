//! The deletion index: what an archive agent needs to know about an inode that is gone. The other
//! change indexes have empty values.

use crate::damage::Damage;
use std::mem::size_of;
use zerocopy::little_endian::{U16, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// Most bytes of hidden xattrs that one deletion keeps, heads and names included: with the longest name of
/// a directory entry they are what a value may have behind its head.
pub const DELETION_XATTRS_BYTES_MAX: usize = super::VALUE_TAIL_BYTES_MAX - 255;

/// There were more hidden xattrs than fitted.
pub const DELETION_XATTRS_CUT: u8 = 1;

/// The name follows, then one `HiddenXattrHead` after another.
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

/// One hidden xattr that the inode had; its name and its whole value follow.
#[derive(
    FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned, Clone, Copy, Debug, PartialEq, Eq,
)]
#[repr(C)]
pub struct HiddenXattrHead {
    pub name_len: u8,
    pub value_len: U16,
}

const _: () = assert!(size_of::<HiddenXattrHead>() == 3);

impl DeletionHead {
    /// Head, name, hidden xattrs.
    pub fn parse(value: &[u8]) -> Result<(DeletionHead, &[u8], HiddenXattrs<'_>), Damage> {
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
        Ok((*head, name, HiddenXattrs::parse(xattrs)?))
    }
}

/// The hidden xattrs of a deletion, in the order of the inode's keys; each is whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HiddenXattrs<'a>(&'a [u8]);

impl<'a> HiddenXattrs<'a> {
    fn parse(bytes: &'a [u8]) -> Result<HiddenXattrs<'a>, Damage> {
        if bytes.len() > DELETION_XATTRS_BYTES_MAX {
            return Err(Damage::Bounds("deletion xattrs"));
        }
        let mut rest = bytes;
        while !rest.is_empty() {
            (_, rest) = HiddenXattr::split(rest)?;
        }
        Ok(HiddenXattrs(bytes))
    }

    pub fn iter(self) -> impl Iterator<Item = HiddenXattr<'a>> {
        let mut rest = self.0;
        std::iter::from_fn(move || {
            let (xattr, behind) = HiddenXattr::split(rest).ok()?;
            rest = behind;
            Some(xattr)
        })
    }

    /// Of all of them as they are encoded.
    pub fn bytes(self) -> usize {
        self.0.len()
    }
}

/// One of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HiddenXattr<'a> {
    pub name: &'a [u8],
    pub value: &'a [u8],
}

impl<'a> HiddenXattr<'a> {
    /// Bytes that `encode` adds.
    pub fn encoded_bytes(&self) -> usize {
        size_of::<HiddenXattrHead>() + self.name.len() + self.value.len()
    }

    /// For names of 1 to 255 bytes that fit with their value in what a deletion keeps.
    pub fn encode(&self, out: &mut Vec<u8>) {
        assert!((1..=255).contains(&self.name.len()), "a name of 1 to 255 bytes");
        assert!(self.encoded_bytes() <= DELETION_XATTRS_BYTES_MAX, "it fits");
        let head = HiddenXattrHead {
            name_len: self.name.len() as u8,
            value_len: (self.value.len() as u16).into(),
        };
        out.extend_from_slice(head.as_bytes());
        out.extend_from_slice(self.name);
        out.extend_from_slice(self.value);
    }

    /// The first one, and what follows it.
    fn split(bytes: &'a [u8]) -> Result<(HiddenXattr<'a>, &'a [u8]), Damage> {
        let bounds = Damage::Bounds("deletion xattrs");
        let (head, rest) = super::head::<HiddenXattrHead>(bytes, "deletion xattrs")?;
        if head.name_len == 0 {
            return Err(Damage::Value("deletion xattrs"));
        }
        let (name, rest) = rest.split_at_checked(usize::from(head.name_len)).ok_or(bounds)?;
        let value_len = usize::from(head.value_len.get());
        let (value, rest) = rest.split_at_checked(value_len).ok_or(bounds)?;
        Ok((HiddenXattr { name, value }, rest))
    }
}
