//! The checksum of blocks that describe themselves: superblock, root block, batch.
//!
//! All three begin with their magic (8 bytes) and a CRC-32C (4 bytes) over everything behind it.
//! The magic is compared, so the two together cover every bit of the block. Nodes and filters have
//! none: the hash in their parent's reference says more.

use crate::damage::Damage;
use cairn_base::hash::crc32c;

const MAGIC_BYTES: usize = 8;
const COVERED_FROM: usize = MAGIC_BYTES + 4;

/// The checksum that belongs into `block`; a block is never shorter than its magic and checksum.
pub fn checksum(block: &[u8]) -> u32 {
    crc32c(&block[COVERED_FROM..])
}

/// Puts the checksum in its place.
pub fn seal(block: &mut [u8]) {
    let crc = checksum(block).to_le_bytes();
    block[MAGIC_BYTES..COVERED_FROM].copy_from_slice(&crc);
}

/// Checks the magic, then the checksum.
pub fn check(block: &[u8], magic: u64) -> Result<(), Damage> {
    check_magic(block, magic)?;
    let (stored, covered) =
        block[MAGIC_BYTES..].split_first_chunk::<4>().ok_or(Damage::Bounds("block length"))?;
    if u32::from_le_bytes(*stored) != crc32c(covered) {
        return Err(Damage::Checksum);
    }
    Ok(())
}

pub fn check_magic(block: &[u8], magic: u64) -> Result<(), Damage> {
    let found = block.first_chunk::<MAGIC_BYTES>().ok_or(Damage::Bounds("block length"))?;
    match u64::from_le_bytes(*found) {
        found if found == magic => Ok(()),
        found => Err(Damage::Magic { found }),
    }
}
