//! Quantities and places with a type of their own, so that adding two places does not compile.
//!
//! The unit of every device is the 4 KiB block. A `BlockNo` is pool-wide: the device is its top byte.

use std::fmt;

/// Bytes of one block: the unit of allocation, of checksums and of device addresses.
pub const BLOCK_BYTES: usize = 4096;

const DEVICE_SHIFT: u32 = 56;
const INDEX_MASK: u64 = (1 << DEVICE_SHIFT) - 1;

/// A device of the pool, by its place in the superblock's device table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DeviceId(pub u8);

/// The pool-wide address of one 4 KiB block.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BlockNo(u64);

impl BlockNo {
    /// Panics when `index` does not fit 56 bits (no device is that large).
    pub const fn new(device: DeviceId, index: u64) -> Self {
        assert!(index <= INDEX_MASK);
        BlockNo(((device.0 as u64) << DEVICE_SHIFT) | index)
    }

    /// Every 64-bit value is an address; whether it lies inside its device is the disk's to say.
    pub const fn from_raw(raw: u64) -> Self {
        BlockNo(raw)
    }

    pub const fn raw(self) -> u64 {
        self.0
    }

    pub const fn device(self) -> DeviceId {
        DeviceId((self.0 >> DEVICE_SHIFT) as u8)
    }

    /// The block's place on its device, in blocks.
    pub const fn index(self) -> u64 {
        self.0 & INDEX_MASK
    }

    /// The place on the device in bytes.
    pub const fn byte_offset(self) -> u64 {
        self.index() * BLOCK_BYTES as u64
    }

    /// The block `blocks` further on the same device.
    pub const fn after(self, blocks: u64) -> Self {
        BlockNo::new(self.device(), self.index() + blocks)
    }
}

impl fmt::Debug for BlockNo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.device().0, self.index())
    }
}

impl fmt::Display for BlockNo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

/// Contiguous blocks of one device.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Run {
    pub start: BlockNo,
    pub blocks: u64,
}

impl Run {
    pub const fn new(start: BlockNo, blocks: u64) -> Self {
        Run { start, blocks }
    }

    /// The run, if it has blocks and its end can be counted in bytes: for numbers from outside.
    pub const fn parse(start: BlockNo, blocks: u64) -> Option<Run> {
        match start.index().checked_add(blocks) {
            Some(end) if blocks > 0 && end <= u64::MAX / BLOCK_BYTES as u64 => {
                Some(Run { start, blocks })
            }
            _ => None,
        }
    }

    /// The first block behind the run.
    pub const fn end(self) -> BlockNo {
        self.start.after(self.blocks)
    }

    pub const fn bytes(self) -> u64 {
        self.blocks * BLOCK_BYTES as u64
    }

    pub fn contains(self, block: BlockNo) -> bool {
        self.start <= block && block < self.end()
    }

    pub fn overlaps(self, other: Run) -> bool {
        self.start < other.end() && other.start < self.end()
    }
}

impl fmt::Debug for Run {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}+{}", self.start, self.blocks)
    }
}

/// Nanoseconds: of the monotonic clock, or between two of its readings.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Nanos(pub u64);

impl Nanos {
    pub const fn from_millis(ms: u64) -> Self {
        Nanos(ms * 1_000_000)
    }

    pub const fn from_secs(s: u64) -> Self {
        Nanos(s * 1_000_000_000)
    }

    pub const fn saturating_sub(self, other: Nanos) -> Nanos {
        Nanos(self.0.saturating_sub(other.0))
    }
}

impl std::ops::Add for Nanos {
    type Output = Nanos;

    fn add(self, other: Nanos) -> Nanos {
        Nanos(self.0.saturating_add(other.0))
    }
}

/// Blocks that hold `bytes`, the last one perhaps in part.
pub const fn blocks_for(bytes: u64) -> u64 {
    bytes.div_ceil(BLOCK_BYTES as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_from_outside_has_blocks_and_an_end_that_bytes_can_count() {
        let last = BlockNo::new(DeviceId(3), (1 << 52) - 5);
        assert_eq!(Run::parse(last, 4), Some(Run::new(last, 4)));
        assert_eq!(Run::parse(last, 4).map(|run| run.end().device()), Some(DeviceId(3)));
        assert!(Run::parse(last, 4).is_some_and(|run| run.end().byte_offset() < u64::MAX));
        for blocks in [0, 5, 1 << 52, u64::MAX] {
            assert_eq!(Run::parse(last, blocks), None, "{blocks}");
        }
    }
}
