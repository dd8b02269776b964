//! Free runs of the tablet's zones. The key is the first block.

use crate::damage::Damage;
use cairn_base::{BlockNo, Run};
use std::mem::size_of;
use zerocopy::little_endian::U64;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

#[derive(
    FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned, Clone, Copy, Debug, PartialEq, Eq,
)]
#[repr(C)]
pub struct FreeRunItem {
    pub blocks: U64,
}

const _: () = assert!(size_of::<FreeRunItem>() == 8);

impl FreeRunItem {
    pub fn parse(value: &[u8]) -> Result<FreeRunItem, Damage> {
        let item = super::exact::<FreeRunItem>(value, "free run")?;
        if item.blocks.get() == 0 {
            return Err(Damage::Value("free run"));
        }
        Ok(*item)
    }

    /// The run of an item that stands under `start`.
    pub fn run(&self, start: BlockNo) -> Result<Run, Damage> {
        Run::parse(start, self.blocks.get()).ok_or(Damage::Bounds("free run"))
    }
}
