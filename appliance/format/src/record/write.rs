//! Encoding: records into the caller's buffer, and the header that makes a batch of them.

use super::{
    BATCH_HEADER_BYTES, BatchHeader, EditHeader, EditKind, RECORD_EDITS, RECORD_TRIM, RecordHeader,
    SECTION_HAS_ROOT, SectionHeader, TrimEntry, batch_bytes,
};
use crate::ids::{RootGeneration, TABLETS_MAX, TabletId};
use crate::item::VALUE_BYTES_MAX;
use crate::key::Key;
use crate::seal;
use crate::tablet_root::{RootBody, Totals};
use crate::version::BATCH_MAGIC;
use cairn_base::BLOCK_BYTES;
use std::mem::offset_of;
use zerocopy::IntoBytes;
use zerocopy::little_endian::{U16, U32};

/// Appends one edits record to a buffer. Without `finish` the bytes appended are not a record.
#[must_use = "a record ends with finish()"]
pub struct RecordWriter<'a> {
    out: &'a mut Vec<u8>,
    start: usize,
    sections: u16,
    /// Where the open section begins.
    section_start: usize,
    edit_count: u32,
}

impl<'a> RecordWriter<'a> {
    pub fn begin(out: &'a mut Vec<u8>) -> RecordWriter<'a> {
        let start = out.len();
        // Filled in by `finish`; until then no reader takes it for a record.
        out.extend_from_slice(&[0; size_of::<RecordHeader>()]);
        RecordWriter { out, start, sections: 0, section_start: 0, edit_count: 0 }
    }

    /// Begins the part of one tablet: its totals after this record, and its new root if it gets one.
    pub fn section(&mut self, tablet: TabletId, totals: &Totals, root: Option<&RootBody>) {
        assert!(usize::from(tablet.0) < TABLETS_MAX, "no such tablet");
        self.close_section();
        self.section_start = self.out.len();
        self.sections = self.sections.checked_add(1).expect("fewer tablets than that");
        let header = SectionHeader {
            tablet: tablet.0.into(),
            flags: if root.is_some() { SECTION_HAS_ROOT } else { 0 },
            reserved: 0,
            edit_count: U32::ZERO,
        };
        self.out.extend_from_slice(header.as_bytes());
        self.out.extend_from_slice(totals.as_bytes());
        if let Some(root) = root {
            assert!(root.tablet() == tablet, "a root belongs to its section's tablet");
            if let Err(damage) = root.check() {
                panic!("a root that could not be read back: {damage}");
            }
            self.out.extend_from_slice(root.as_bytes());
        }
    }

    /// Adds an edit to the open section. A deletion has no value.
    pub fn edit(&mut self, kind: EditKind, key: &Key, value: &[u8]) {
        assert!(self.sections > 0, "an edit belongs to a section");
        assert!(*key != Key::MIN, "an item has a key");
        assert!(value.len() <= VALUE_BYTES_MAX, "no value is that large");
        assert!(kind != EditKind::Delete || value.is_empty(), "a deletion has no value");
        let header = EditHeader {
            kind: kind as u8,
            key_len: key.as_bytes().len() as u8,
            value_len: (value.len() as u16).into(),
        };
        self.out.extend_from_slice(header.as_bytes());
        self.out.extend_from_slice(key.as_bytes());
        self.out.extend_from_slice(value);
        self.edit_count += 1;
    }

    /// Completes the record and gives its bytes.
    pub fn finish(mut self) -> usize {
        self.close_section();
        end_record(self.out, self.start, RECORD_EDITS, self.sections)
    }

    fn close_section(&mut self) {
        if self.sections > 0 {
            let at = self.section_start + offset_of!(SectionHeader, edit_count);
            self.out[at..at + 4].copy_from_slice(&self.edit_count.to_le_bytes());
        }
        self.edit_count = 0;
    }
}

/// Appends a trim record and gives its bytes.
pub fn write_trim(
    out: &mut Vec<u8>,
    roots: impl Iterator<Item = (TabletId, RootGeneration)>,
) -> usize {
    let start = out.len();
    out.extend_from_slice(&[0; size_of::<RecordHeader>()]);
    let count_at = out.len();
    out.extend_from_slice(&[0; 4]);
    let mut count = 0u32;
    for (tablet, generation) in roots {
        assert!(usize::from(tablet.0) < TABLETS_MAX, "no such tablet");
        let entry = TrimEntry {
            tablet: tablet.0.into(),
            reserved: U16::ZERO,
            reserved_tail: U32::ZERO,
            generation: generation.0.into(),
        };
        out.extend_from_slice(entry.as_bytes());
        count += 1;
    }
    out[count_at..count_at + 4].copy_from_slice(&count.to_le_bytes());
    end_record(out, start, RECORD_TRIM, 0)
}

fn end_record(out: &mut [u8], start: usize, kind: u8, sections: u16) -> usize {
    let bytes = out.len() - start;
    let header = RecordHeader {
        bytes: u32::try_from(bytes).expect("a record is far below 4 GiB").into(),
        kind,
        reserved: 0,
        sections: sections.into(),
    };
    out[start..start + size_of::<RecordHeader>()].copy_from_slice(header.as_bytes());
    bytes
}

/// Makes a batch of `bytes`: room for the header, `header.payload_bytes` of records, and padding to
/// whole blocks, which is cleared here. Fills in magic, block count and checksum.
pub fn seal_batch(bytes: &mut [u8], header: BatchHeader) {
    let payload_bytes = header.payload_bytes.get() as usize;
    assert!(bytes.len() == batch_bytes(payload_bytes), "a batch is as long as its payload needs");
    assert!(header.reserved.get() == 0, "reserved bytes are zero");
    let blocks = u32::try_from(bytes.len() / BLOCK_BYTES).expect("a batch is far below 16 TiB");
    let header = BatchHeader { magic: BATCH_MAGIC.into(), blocks: blocks.into(), ..header };
    bytes[..BATCH_HEADER_BYTES].copy_from_slice(header.as_bytes());
    bytes[BATCH_HEADER_BYTES + payload_bytes..].fill(0);
    seal::seal(bytes);
}
