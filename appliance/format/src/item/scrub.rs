//! What a scrub keeps in the pool: what was asked for, how far each tablet has come, and what was found.
//!
//! The order stands once, in tablet 1. The place stands in each tablet that a pass has begun, and so does
//! what was found to be damaged in that tablet's trees, roots and files: whoever finds it again in a later
//! pass writes it again with that pass, and what a finished pass did not find again goes. Superblocks
//! belong to no tablet; theirs is in tablet 0.

use crate::damage::Damage;
use crate::key::{KEY_BYTES_MAX, Key};
use cairn_base::{BlockNo, Run};
use std::mem::size_of;
use zerocopy::little_endian::U64;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

pub const SCRUB_IDLE: u8 = 0;
pub const SCRUB_RUNNING: u8 = 1;
pub const SCRUB_PAUSED: u8 = 2;

/// The pass that was ordered last.
#[derive(
    FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned, Clone, Copy, Debug, PartialEq, Eq,
)]
#[repr(C)]
pub struct ScrubItem {
    /// Names the pass: microseconds since 1970, or one more than the last.
    pub pass: U64,
    /// When it began, nanoseconds since 1970.
    pub began: U64,
    /// When the last pass that came to its end did so; zero when none has.
    pub ended: U64,
    /// What that pass had found.
    pub findings: U64,
    /// Bytes that the whole pool may read in a second; zero is no bound.
    pub rate: U64,
    pub state: u8,
    pub reserved: [u8; 7],
}

const _: () = assert!(size_of::<ScrubItem>() == 48);

impl ScrubItem {
    pub const NONE: ScrubItem = ScrubItem {
        pass: U64::ZERO,
        began: U64::ZERO,
        ended: U64::ZERO,
        findings: U64::ZERO,
        rate: U64::ZERO,
        state: SCRUB_IDLE,
        reserved: [0; 7],
    };

    pub fn parse(value: &[u8]) -> Result<ScrubItem, Damage> {
        let item = super::exact::<ScrubItem>(value, "scrub")?;
        if item.state > SCRUB_PAUSED || item.reserved != [0; 7] || item.pass.get() == 0 {
            return Err(Damage::Value("scrub"));
        }
        Ok(*item)
    }
}

/// How far a pass has come in one tablet. The key up to which all is verified follows; none when the
/// tablet is done.
#[derive(
    FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned, Clone, Copy, Debug, PartialEq, Eq,
)]
#[repr(C)]
pub struct ScrubPlaceHead {
    pub pass: U64,
    /// Nodes and filters read.
    pub nodes: U64,
    /// Data blocks read.
    pub blocks: U64,
    /// What was found, and how much of it there was no room to list.
    pub findings: U64,
    pub unlisted: U64,
    pub done: u8,
    pub reserved: [u8; 7],
}

const _: () = assert!(size_of::<ScrubPlaceHead>() == 48);

impl ScrubPlaceHead {
    pub fn parse(value: &[u8]) -> Result<(ScrubPlaceHead, Key), Damage> {
        let (head, cursor) = super::head::<ScrubPlaceHead>(value, "scrub place")?;
        let cursor = Key::from_bytes(cursor).ok_or(Damage::Bounds("scrub place cursor"))?;
        let is_known = head.done <= 1 && head.reserved == [0; 7] && head.pass.get() != 0;
        let is_told = head.done == 0 || cursor == Key::MIN;
        if !is_known || !is_told || head.unlisted.get() > head.findings.get() {
            return Err(Damage::Value("scrub place"));
        }
        Ok((*head, cursor))
    }
}

/// What is wrong with a block, as it was found: a code and a number that goes with some of them.
#[derive(
    FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned, Clone, Copy, Debug, PartialEq, Eq,
)]
#[repr(C)]
pub struct Cause {
    /// The errno, the magic, the block or the generation that was found.
    pub number: U64,
    pub code: u8,
    pub reserved: [u8; 7],
}

const _: () = assert!(size_of::<Cause>() == 16);

/// The device failed to read it.
pub const CAUSE_MEDIA: u8 = 1;
pub const CAUSE_MAGIC: u8 = 2;
pub const CAUSE_CHECKSUM: u8 = 3;
pub const CAUSE_HASH: u8 = 4;
pub const CAUSE_MISDIRECTED: u8 = 5;
pub const CAUSE_STALE: u8 = 6;
pub const CAUSE_BOUNDS: u8 = 7;
pub const CAUSE_VALUE: u8 = 8;
pub const CAUSE_ORDER: u8 = 9;
pub const CAUSE_DATA: u8 = 10;
pub const CAUSE_NO_CHECKSUM: u8 = 11;
pub const CAUSE_MISSING: u8 = 12;

impl Cause {
    pub fn new(code: u8, number: u64) -> Cause {
        Cause { number: number.into(), code, reserved: [0; 7] }
    }

    fn check(&self) -> Result<(), Damage> {
        match self.code {
            CAUSE_MEDIA..=CAUSE_MISSING if self.reserved == [0; 7] => Ok(()),
            _ => Err(Damage::Value("cause")),
        }
    }
}

impl From<Damage> for Cause {
    fn from(damage: Damage) -> Cause {
        match damage {
            Damage::Magic { found } => Cause::new(CAUSE_MAGIC, found),
            Damage::Checksum => Cause::new(CAUSE_CHECKSUM, 0),
            Damage::Hash => Cause::new(CAUSE_HASH, 0),
            Damage::Misdirected { claims } => Cause::new(CAUSE_MISDIRECTED, claims),
            Damage::Stale { found } => Cause::new(CAUSE_STALE, found),
            Damage::Bounds(_) => Cause::new(CAUSE_BOUNDS, 0),
            Damage::Value(_) => Cause::new(CAUSE_VALUE, 0),
            Damage::Order => Cause::new(CAUSE_ORDER, 0),
            Damage::DataChecksum => Cause::new(CAUSE_DATA, 0),
            Damage::ChecksumMissing => Cause::new(CAUSE_NO_CHECKSUM, 0),
            Damage::Missing(_) => Cause::new(CAUSE_MISSING, 0),
        }
    }
}

impl std::fmt::Display for Cause {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let number = self.number.get();
        let damage = match self.code {
            CAUSE_MEDIA => return write!(f, "the device fails to read it (errno {number})"),
            CAUSE_MAGIC => Damage::Magic { found: number },
            CAUSE_CHECKSUM => Damage::Checksum,
            CAUSE_HASH => Damage::Hash,
            CAUSE_MISDIRECTED => Damage::Misdirected { claims: number },
            CAUSE_STALE => Damage::Stale { found: number },
            CAUSE_BOUNDS => Damage::Bounds("a length"),
            CAUSE_VALUE => Damage::Value("a field"),
            CAUSE_ORDER => Damage::Order,
            CAUSE_DATA => Damage::DataChecksum,
            CAUSE_NO_CHECKSUM => Damage::ChecksumMissing,
            _ => Damage::Missing("item"),
        };
        write!(f, "{damage}")
    }
}

/// A run of damaged data blocks of a file; the key has the inode and the first file block.
#[derive(
    FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned, Clone, Copy, Debug, PartialEq, Eq,
)]
#[repr(C)]
pub struct DamagedDataItem {
    /// The pass that found it last.
    pub pass: U64,
    /// First block of the run.
    pub start: U64,
    pub blocks: U64,
    pub cause: Cause,
}

const _: () = assert!(size_of::<DamagedDataItem>() == 40);

impl DamagedDataItem {
    pub fn parse(value: &[u8]) -> Result<DamagedDataItem, Damage> {
        let item = super::exact::<DamagedDataItem>(value, "damaged data")?;
        item.cause.check()?;
        if Run::parse(BlockNo::from_raw(item.start.get()), item.blocks.get()).is_none() {
            return Err(Damage::Bounds("damaged data"));
        }
        if item.pass.get() == 0 {
            return Err(Damage::Value("damaged data"));
        }
        Ok(*item)
    }
}

pub const DAMAGED_SUPERBLOCK: u8 = 1;
pub const DAMAGED_ROOT: u8 = 2;
pub const DAMAGED_NODE: u8 = 3;
pub const DAMAGED_FILTER: u8 = 4;

/// A damaged block that is no file's; the key has the block. Of a node the keys follow between which
/// nothing can be read of its tree.
#[derive(
    FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned, Clone, Copy, Debug, PartialEq, Eq,
)]
#[repr(C)]
pub struct DamagedBlockHead {
    /// The pass that found it last.
    pub pass: U64,
    pub cause: Cause,
    pub what: u8,
    /// Of a node or filter: 0 is the fs tree, 1 the oldest log tree.
    pub tree: u8,
    /// Bytes of the first of the two keys.
    pub from_len: u8,
    pub reserved: [u8; 5],
}

const _: () = assert!(size_of::<DamagedBlockHead>() == 32);

impl DamagedBlockHead {
    /// With the two keys; both are the least one where it is no node.
    pub fn parse(value: &[u8]) -> Result<(DamagedBlockHead, Key, Key), Damage> {
        let (head, keys) = super::head::<DamagedBlockHead>(value, "damaged block")?;
        head.cause.check()?;
        let is_known = matches!(head.what, DAMAGED_SUPERBLOCK..=DAMAGED_FILTER);
        if !is_known || head.reserved != [0; 5] || head.pass.get() == 0 {
            return Err(Damage::Value("damaged block"));
        }
        let (from, to) =
            keys.split_at_checked(head.from_len.into()).ok_or(Damage::Bounds("damaged block"))?;
        if head.what != DAMAGED_NODE && !keys.is_empty() {
            return Err(Damage::Bounds("damaged block"));
        }
        let key = |bytes| Key::from_bytes(bytes).ok_or(Damage::Bounds("damaged block"));
        Ok((*head, key(from)?, key(to)?))
    }

    pub const ENCODED_BYTES_MAX: usize = 32 + 2 * KEY_BYTES_MAX;
}
