//! Quota rules and what projects use.

use crate::damage::Damage;
use std::mem::size_of;
use zerocopy::little_endian::U64;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// One rule: limits an operation by the total of a name.
#[derive(
    FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned, Clone, Copy, Debug, PartialEq, Eq,
)]
#[repr(C)]
pub struct QuotaRuleItem {
    pub name: [U64; 3],
    pub limit: U64,
    pub priority: u8,
    pub operation: u8,
    pub name_source: [u8; 3],
    pub name_flags: [u8; 3],
}

const _: () = assert!(size_of::<QuotaRuleItem>() == 40);

impl QuotaRuleItem {
    pub fn parse(value: &[u8]) -> Result<QuotaRuleItem, Damage> {
        super::exact::<QuotaRuleItem>(value, "quota rule").copied()
    }
}

/// What one project uses in this tablet.
#[derive(
    FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned, Clone, Copy, Debug, PartialEq, Eq,
)]
#[repr(C)]
pub struct ProjectItem {
    pub inodes: U64,
    pub blocks: U64,
}

const _: () = assert!(size_of::<ProjectItem>() == 16);

impl ProjectItem {
    pub fn parse(value: &[u8]) -> Result<ProjectItem, Damage> {
        super::exact::<ProjectItem>(value, "project").copied()
    }
}
