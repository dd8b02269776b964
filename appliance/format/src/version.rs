//! Which format this is: one version, one magic per kind of block, and the feature masks.
//!
//! The version rises when an old reader would misread a block. A feature bit is for everything
//! smaller: unknown `compat` bits may be ignored, unknown `ro_compat` bits allow reading only,
//! unknown `incompat` bits forbid opening. The magic, the checksum, the version and the masks keep
//! their places at the front of the superblock in every version, so that any reader can tell which
//! of these it has met.

use zerocopy::little_endian::U64;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

pub const FORMAT_VERSION: u32 = 3;

pub const SUPERBLOCK_MAGIC: u64 = 0x5ba8_8d62_565f_fe4a;
pub const ROOT_MAGIC: u64 = 0x9f01_3902_a3fb_d877;
pub const BATCH_MAGIC: u64 = 0xc653_58f2_04dd_6afe;
pub const NODE_MAGIC: u64 = 0xf1ad_1b92_c0da_8b40;
pub const FILTER_MAGIC: u64 = 0x8632_eee2_08c4_b736;

pub const COMPAT_KNOWN: u64 = 0;
pub const RO_COMPAT_KNOWN: u64 = 0;
pub const INCOMPAT_KNOWN: u64 = 0;

/// What a pool uses beyond the plain format.
#[derive(
    FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned, Clone, Copy, Debug, PartialEq, Eq,
)]
#[repr(C)]
pub struct Features {
    pub compat: U64,
    pub ro_compat: U64,
    pub incompat: U64,
}

const _: () = assert!(size_of::<Features>() == 24);

impl Features {
    /// Bits that forbid opening here.
    pub fn unknown_incompat(&self) -> u64 {
        self.incompat.get() & !INCOMPAT_KNOWN
    }

    /// Bits that forbid writing here.
    pub fn unknown_ro_compat(&self) -> u64 {
        self.ro_compat.get() & !RO_COMPAT_KNOWN
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_two_kinds_of_block_share_a_magic() {
        let mut magics = [SUPERBLOCK_MAGIC, ROOT_MAGIC, BATCH_MAGIC, NODE_MAGIC, FILTER_MAGIC];
        magics.sort_unstable();
        assert!(magics.windows(2).all(|pair| pair[0] != pair[1]));
    }

    #[test]
    fn bits_we_do_not_know_are_told_apart() {
        let features = Features { compat: 1.into(), ro_compat: 2.into(), incompat: 4.into() };
        assert_eq!((features.unknown_ro_compat(), features.unknown_incompat()), (2, 4));
    }
}
