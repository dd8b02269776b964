//! Filters over lookup entries: "is this name perhaps in that tree?" for one cache line.
//!
//! A blocked Bloom filter: a key's hash picks one line of 64 bytes and seven bits in it, so a
//! question costs one cache miss however large the filter is. With ten bits a key about one
//! question in seventy is answered "perhaps" in vain; spreading the seven bits over the whole
//! filter would halve that and cost seven misses. All blocks are filled with lines, so a small
//! filter is better than that.
//!
//! Every log tree has one filter; the fs tree has one per bottom interior node. Filters are found,
//! like nodes, through a reference that carries their hash. The only keys they hold are lookup
//! entries, by `lookup_hash`: names in cairn enter keys as a keyed 128-bit hash already, so no one
//! outside can aim at a line.

use crate::damage::Damage;
use crate::ids::InodeNo;
use crate::version::FILTER_MAGIC;
use cairn_base::hash::xxh3;
use cairn_base::{BLOCK_BYTES, BlockNo, Run};
use zerocopy::little_endian::{U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

const LINE_BYTES: usize = 64;
const LINE_BITS: u64 = LINE_BYTES as u64 * 8;
const BITS_PER_KEY: u64 = 10;
const PROBES: u32 = 7;
/// Bits that name one of the 512 of a line.
const PROBE_BITS: u32 = 9;

/// Where a filter is and what it hashes to; all zero where there is none.
#[derive(
    FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned, Clone, Copy, Debug, PartialEq, Eq,
)]
#[repr(C)]
pub struct FilterRef {
    pub start: U64,
    pub hash: U64,
    pub blocks: U32,
    pub keys: U32,
}

const _: () = assert!(size_of::<FilterRef>() == 24);

impl FilterRef {
    pub const NONE: FilterRef =
        FilterRef { start: U64::ZERO, hash: U64::ZERO, blocks: U32::ZERO, keys: U32::ZERO };

    pub fn is_none(&self) -> bool {
        *self == FilterRef::NONE
    }

    pub fn block_no(&self) -> BlockNo {
        BlockNo::from_raw(self.start.get())
    }

    pub fn bytes(&self) -> usize {
        self.blocks.get() as usize * BLOCK_BYTES
    }

    /// A reference is none, or it names blocks of a device.
    pub(crate) fn check(&self) -> Result<(), Damage> {
        let run = Run::parse(self.block_no(), u64::from(self.blocks.get()));
        if run.is_none() && !self.is_none() {
            return Err(Damage::Value("filter reference"));
        }
        Ok(())
    }
}

#[derive(
    FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned, Clone, Copy, Debug, PartialEq, Eq,
)]
#[repr(C)]
pub struct FilterHeader {
    pub magic: U64,
    /// The first block, as its reference says it.
    pub start: U64,
    pub keys: U64,
    /// Lines behind this header: all that fit the blocks.
    pub lines: U64,
    pub reserved: [u8; 32],
}

const _: () = assert!(size_of::<FilterHeader>() == LINE_BYTES);

/// Blocks of a filter over `keys` keys, header included.
pub const fn filter_blocks(keys: u64) -> u64 {
    let lines = keys.saturating_mul(BITS_PER_KEY).div_ceil(LINE_BITS);
    let blocks = ((lines + 1) * LINE_BYTES as u64).div_ceil(BLOCK_BYTES as u64);
    if blocks == 0 { 1 } else { blocks }
}

/// The one hash by which a lookup entry is filed. The name's hash is uniform; the product keeps one
/// name in many directories apart, the rest carries every bit into every other.
pub fn lookup_hash(dir: InodeNo, name_hash: u128) -> u64 {
    let name = (name_hash as u64) ^ ((name_hash >> 64) as u64).rotate_left(32);
    let mut z = name ^ dir.raw().wrapping_mul(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// The high bits pick the line.
fn line_of(hash: u64, lines: u64) -> usize {
    ((u128::from(hash) * u128::from(lines)) >> 64) as usize
}

/// Seven bit numbers within the line, out of a product that the low bits of the hash decide: those
/// of one line share the high ones.
fn probes(hash: u64) -> impl Iterator<Item = usize> {
    let spread = hash.wrapping_mul(0xd6e8_feb8_6659_fd93);
    (0..PROBES).map(move |n| (spread >> (n * PROBE_BITS)) as usize % LINE_BITS as usize)
}

/// Fills a filter in the caller's buffer.
pub struct FilterBuilder<'a> {
    buf: &'a mut [u8],
    keys: u32,
    keys_max: u64,
}

impl<'a> FilterBuilder<'a> {
    /// `buf` is exactly the blocks that `filter_blocks(keys)` says; it is cleared here.
    pub fn new(buf: &'a mut [u8], keys: u64) -> FilterBuilder<'a> {
        assert!(keys <= u64::from(u32::MAX), "a filter counts its keys in 32 bits");
        assert!(
            buf.len() as u64 == filter_blocks(keys) * BLOCK_BYTES as u64,
            "a filter's buffer is as long as its blocks"
        );
        buf.fill(0);
        FilterBuilder { buf, keys: 0, keys_max: keys }
    }

    /// Goes on with a buffer that holds `keys` of its `keys_max` keys.
    pub fn resume(buf: &'a mut [u8], keys_max: u64, keys: u32) -> FilterBuilder<'a> {
        FilterBuilder { buf, keys, keys_max }
    }

    pub fn add(&mut self, hash: u64) {
        assert!(u64::from(self.keys) < self.keys_max, "more keys than the filter was made for");
        self.keys += 1;
        let lines = &mut self.buf[LINE_BYTES..];
        let line = line_of(hash, (lines.len() / LINE_BYTES) as u64);
        let line = &mut lines[line * LINE_BYTES..][..LINE_BYTES];
        for bit in probes(hash) {
            line[bit / 8] |= 1 << (bit % 8);
        }
    }

    /// Writes the header; the buffer is then what belongs at `start`.
    pub fn finish(self, start: BlockNo) -> FilterRef {
        let header = FilterHeader {
            magic: FILTER_MAGIC.into(),
            start: start.raw().into(),
            keys: u64::from(self.keys).into(),
            lines: ((self.buf.len() / LINE_BYTES) as u64 - 1).into(),
            reserved: [0; 32],
        };
        self.buf[..LINE_BYTES].copy_from_slice(header.as_bytes());
        let blocks =
            u32::try_from(self.buf.len() / BLOCK_BYTES).expect("2^32 keys fit 2^21 blocks");
        FilterRef {
            start: start.raw().into(),
            hash: xxh3(self.buf).into(),
            blocks: blocks.into(),
            keys: self.keys.into(),
        }
    }
}

/// A filter that can be asked.
#[derive(Clone, Copy)]
pub struct Filter<'a> {
    lines: &'a [u8],
}

impl<'a> Filter<'a> {
    /// `bytes` are the blocks that `want` names, no more and no fewer.
    pub fn parse(bytes: &'a [u8], want: &FilterRef) -> Result<Filter<'a>, Damage> {
        if want.blocks.get() == 0 || bytes.len() != want.bytes() {
            return Err(Damage::Bounds("filter length"));
        }
        let (header, lines) =
            FilterHeader::ref_from_prefix(bytes).map_err(|_| Damage::Bounds("filter length"))?;
        if header.magic.get() != FILTER_MAGIC {
            return Err(Damage::Magic { found: header.magic.get() });
        }
        if header.start != want.start {
            return Err(Damage::Misdirected { claims: header.start.get() });
        }
        if xxh3(bytes) != want.hash.get() {
            return Err(Damage::Hash);
        }
        if header.keys.get() != u64::from(want.keys.get()) || header.reserved != [0; 32] {
            return Err(Damage::Value("filter header"));
        }
        if header.lines.get() != (lines.len() / LINE_BYTES) as u64 {
            return Err(Damage::Bounds("filter lines"));
        }
        Ok(Filter { lines })
    }

    /// For bytes that `parse` has passed and that nobody could change since. Panics on an empty
    /// buffer, answers nonsense on other bytes.
    pub fn trusted(bytes: &'a [u8]) -> Filter<'a> {
        Filter { lines: &bytes[LINE_BYTES..] }
    }

    /// False means: certainly not there.
    pub fn may_contain(&self, hash: u64) -> bool {
        let line = line_of(hash, (self.lines.len() / LINE_BYTES) as u64);
        let line = &self.lines[line * LINE_BYTES..][..LINE_BYTES];
        probes(hash).all(|bit| line[bit / 8] >> (bit % 8) & 1 == 1)
    }
}

impl std::fmt::Debug for Filter<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Filter of {} lines", self.lines.len() / LINE_BYTES)
    }
}
