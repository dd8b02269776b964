//! The write log's bytes: batches of records, records of sections, sections of edits.
//!
//! A *batch* is one log write: whole blocks, a header, records back to back, zeros to the end, and
//! one checksum over all of it. It names its place (`position`) and three facts about the log at the
//! moment it was sent: below `acked` every batch had been acknowledged, so a bad one there is damage
//! and not the log's end; below `tail` nothing is needed any more; and no seq above `ceiling` was
//! ever shown.
//!
//! A *record* is one operation. It is applied whole or not at all, so it never spans batches. An
//! edits record has one *section* for each tablet it changes: that tablet's absolute totals
//! afterwards, perhaps its new root, and the items put and deleted. A trim record lists the root
//! generation of every tablet, so that a root block that missed its write is recognised as old.
//!
//! Encoding appends to the caller's `Vec` and cannot fail; decoding walks borrowed bytes and trusts
//! nothing, although the checksum has been right: replay must survive a mistake of the writer's.
//! Where batches lie and which of them count is `engine/src/log/`'s to decide.

mod read;
mod write;

pub use read::{Batch, Edit, EditsRecord, Record, Records, Section, Sections, TrimRecord};
pub use read::{Edits, Trims};
pub use write::{RecordWriter, seal_batch, write_trim};

use crate::damage::Damage;
use cairn_base::BLOCK_BYTES;
use zerocopy::little_endian::{U16, U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

pub const BATCH_HEADER_BYTES: usize = size_of::<BatchHeader>();

#[derive(
    FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned, Clone, Copy, Debug, PartialEq, Eq,
)]
#[repr(C)]
pub struct BatchHeader {
    pub magic: U64,
    /// CRC-32C of everything behind it, to the end of the last block.
    pub crc: U32,
    /// Blocks of the batch, this header's included.
    pub blocks: U32,
    /// Tells a batch of this pool from anything a client can write (`superblock::log_tag`).
    pub log_tag: U64,
    pub node: U16,
    pub shard: U16,
    pub records: U32,
    pub epoch: U64,
    /// Of the batch's first block.
    pub position: U64,
    pub seq: U64,
    /// Every batch below this position was acknowledged when this one was sent.
    pub acked: U64,
    /// Replay need not look below this position.
    pub tail: U64,
    /// No seq above this is shown before a batch that raises it is durable.
    pub ceiling: U64,
    /// Bytes of the records.
    pub payload_bytes: U32,
    pub reserved: U32,
}

const _: () = assert!(size_of::<BatchHeader>() == 88);

/// Bytes of a batch with so much payload: whole blocks.
pub const fn batch_bytes(payload_bytes: usize) -> usize {
    (BATCH_HEADER_BYTES + payload_bytes).next_multiple_of(BLOCK_BYTES)
}

const RECORD_EDITS: u8 = 1;
const RECORD_TRIM: u8 = 2;

#[derive(FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned, Clone, Copy, Debug)]
#[repr(C)]
pub struct RecordHeader {
    /// Of the record, this header included.
    pub bytes: U32,
    /// 1 edits, 2 trim.
    pub kind: u8,
    pub reserved: u8,
    pub sections: U16,
}

const _: () = assert!(size_of::<RecordHeader>() == 8);

/// A `RootBody` stands behind the totals.
const SECTION_HAS_ROOT: u8 = 1;

/// `Totals`, perhaps a `RootBody`, then the edits follow.
#[derive(FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned, Clone, Copy, Debug)]
#[repr(C)]
pub struct SectionHeader {
    pub tablet: U16,
    pub flags: u8,
    pub reserved: u8,
    pub edit_count: U32,
}

const _: () = assert!(size_of::<SectionHeader>() == 8);

/// Key and value follow.
#[derive(FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned, Clone, Copy, Debug)]
#[repr(C)]
pub struct EditHeader {
    pub kind: u8,
    pub key_len: u8,
    pub value_len: U16,
}

const _: () = assert!(size_of::<EditHeader>() == 4);

/// One tablet's root generation at a trim; a count (u32) stands before the first.
#[derive(FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned, Clone, Copy, Debug)]
#[repr(C)]
pub struct TrimEntry {
    pub tablet: U16,
    pub reserved: U16,
    pub reserved_tail: U32,
    pub generation: U64,
}

const _: () = assert!(size_of::<TrimEntry>() == 16);

/// What an edit does to its key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum EditKind {
    Put = 1,
    /// A put of a key that did not exist before: no older tree need be asked.
    PutNew = 2,
    Delete = 3,
}

impl EditKind {
    fn parse(raw: u8) -> Result<EditKind, Damage> {
        Ok(match raw {
            1 => EditKind::Put,
            2 => EditKind::PutNew,
            3 => EditKind::Delete,
            _ => return Err(Damage::Value("edit kind")),
        })
    }
}
