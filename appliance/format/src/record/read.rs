//! Decoding: every length is checked against the bytes it is in before it is followed.

use super::{
    BATCH_HEADER_BYTES, BatchHeader, EditHeader, EditKind, RECORD_EDITS, RECORD_TRIM, RecordHeader,
    SECTION_HAS_ROOT, SectionHeader, TrimEntry, batch_bytes,
};
use crate::damage::Damage;
use crate::ids::{RootGeneration, TABLETS_MAX, TabletId};
use crate::item::VALUE_BYTES_MAX;
use crate::key::Key;
use crate::seal;
use crate::tablet_root::{RootBody, Totals};
use crate::version::BATCH_MAGIC;
use cairn_base::BLOCK_BYTES;
use zerocopy::little_endian::U32;
use zerocopy::{FromBytes, Immutable, KnownLayout, Unaligned};

/// A batch whose checksum is right.
#[derive(Clone, Copy, Debug)]
pub struct Batch<'a> {
    header: &'a BatchHeader,
    payload: &'a [u8],
}

impl<'a> Batch<'a> {
    /// The header of what may be a batch: only its magic and its block count were looked at. For
    /// deciding how much to read.
    pub fn header_of(bytes: &'a [u8]) -> Option<&'a BatchHeader> {
        seal::check_magic(bytes, BATCH_MAGIC).ok()?;
        let (header, _) = BatchHeader::ref_from_prefix(bytes).ok()?;
        (header.blocks.get() > 0).then_some(header)
    }

    /// `bytes` begin with the batch and may go on behind it. Node, shard, epoch and position are
    /// for the caller to compare: what they should be depends on where he reads.
    pub fn parse(bytes: &'a [u8], log_tag: u64) -> Result<Batch<'a>, Damage> {
        seal::check_magic(bytes, BATCH_MAGIC)?;
        let (header, _) =
            BatchHeader::ref_from_prefix(bytes).map_err(|_| Damage::Bounds("batch header"))?;
        let payload_bytes = header.payload_bytes.get() as usize;
        let blocks = header.blocks.get() as usize;
        if blocks.checked_mul(BLOCK_BYTES) != Some(batch_bytes(payload_bytes)) {
            return Err(Damage::Bounds("batch payload"));
        }
        let bytes =
            bytes.get(..batch_bytes(payload_bytes)).ok_or(Damage::Bounds("batch blocks"))?;
        seal::check(bytes, BATCH_MAGIC)?;
        if header.log_tag.get() != log_tag {
            return Err(Damage::Value("batch tag"));
        }
        if header.reserved.get() != 0 {
            return Err(Damage::Value("batch reserved"));
        }
        let (payload, padding) = bytes
            .get(BATCH_HEADER_BYTES..)
            .and_then(|rest| rest.split_at_checked(payload_bytes))
            .ok_or(Damage::Bounds("batch payload"))?;
        if padding.iter().any(|byte| *byte != 0) {
            return Err(Damage::Value("batch padding"));
        }
        Ok(Batch { header, payload })
    }

    pub fn header(&self) -> &'a BatchHeader {
        self.header
    }

    /// The records in their order. After an error there is nothing more.
    pub fn records(&self) -> Records<'a> {
        Records { left: self.header.records.get(), rest: self.payload }
    }
}

/// Ends after the first error; `left` is what the header still promises.
#[derive(Clone, Debug)]
pub struct Records<'a> {
    left: u32,
    rest: &'a [u8],
}

impl<'a> Iterator for Records<'a> {
    type Item = Result<Record<'a>, Damage>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.left == 0 && self.rest.is_empty() {
            return None;
        }
        let record = self.record();
        if record.is_err() {
            (self.left, self.rest) = (0, &[]);
        }
        Some(record)
    }
}

impl<'a> Records<'a> {
    fn record(&mut self) -> Result<Record<'a>, Damage> {
        self.left = self.left.checked_sub(1).ok_or(Damage::Bounds("batch record count"))?;
        let bytes = RecordHeader::ref_from_prefix(self.rest)
            .map_err(|_| Damage::Bounds("record header"))?
            .0
            .bytes
            .get() as usize;
        let (mut record, rest) =
            self.rest.split_at_checked(bytes).ok_or(Damage::Bounds("record bytes"))?;
        let header: &RecordHeader = take(&mut record, "record bytes")?;
        if header.reserved != 0 {
            return Err(Damage::Value("record reserved"));
        }
        self.rest = rest;
        match header.kind {
            RECORD_EDITS => {
                Ok(Record::Edits(EditsRecord { sections: header.sections.get(), body: record }))
            }
            RECORD_TRIM if header.sections.get() == 0 => {
                TrimRecord::parse(record).map(Record::Trim)
            }
            _ => Err(Damage::Value("record kind")),
        }
    }
}

#[derive(Clone, Copy, Debug)]
pub enum Record<'a> {
    Edits(EditsRecord<'a>),
    Trim(TrimRecord<'a>),
}

/// One operation's changes, a section for each tablet.
#[derive(Clone, Copy, Debug)]
pub struct EditsRecord<'a> {
    sections: u16,
    body: &'a [u8],
}

impl<'a> EditsRecord<'a> {
    /// The sections in their order. A section is given out only when all its edits are sound; to
    /// apply a record whole or not at all, walk them once before.
    pub fn sections(&self) -> Sections<'a> {
        Sections { left: self.sections, rest: self.body }
    }
}

#[derive(Clone, Debug)]
pub struct Sections<'a> {
    left: u16,
    rest: &'a [u8],
}

impl<'a> Iterator for Sections<'a> {
    type Item = Result<Section<'a>, Damage>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.left == 0 && self.rest.is_empty() {
            return None;
        }
        let section = self.section();
        if section.is_err() {
            (self.left, self.rest) = (0, &[]);
        }
        Some(section)
    }
}

impl<'a> Sections<'a> {
    fn section(&mut self) -> Result<Section<'a>, Damage> {
        self.left = self.left.checked_sub(1).ok_or(Damage::Bounds("record section count"))?;
        let header: &SectionHeader = take(&mut self.rest, "section header")?;
        let tablet = tablet_of(header.tablet.get())?;
        if header.reserved != 0 || header.flags & !SECTION_HAS_ROOT != 0 {
            return Err(Damage::Value("section flags"));
        }
        let totals: &Totals = take(&mut self.rest, "section totals")?;
        let root = if header.flags & SECTION_HAS_ROOT != 0 {
            let root: &RootBody = take(&mut self.rest, "section root")?;
            root.check()?;
            if root.tablet() != tablet {
                return Err(Damage::Value("section root tablet"));
            }
            Some(root)
        } else {
            None
        };
        let edits = Edits { left: header.edit_count.get(), rest: self.rest };
        let mut walked = edits.clone();
        for edit in &mut walked {
            edit?;
        }
        self.rest = walked.rest;
        Ok(Section { tablet, totals: *totals, root, edits })
    }
}

/// What one record does to one tablet.
#[derive(Clone, Debug)]
pub struct Section<'a> {
    pub tablet: TabletId,
    /// The tablet's totals after the record.
    pub totals: Totals,
    /// The tablet's root from this record on.
    pub root: Option<&'a RootBody>,
    edits: Edits<'a>,
}

impl<'a> Section<'a> {
    /// The edits in their order; those of one key apply one after the other.
    pub fn edits(&self) -> Edits<'a> {
        self.edits.clone()
    }

    pub fn edit_count(&self) -> u32 {
        self.edits.left
    }
}

/// `left` edits from the front of `rest`; what follows them is the next section's.
#[derive(Clone, Debug)]
pub struct Edits<'a> {
    left: u32,
    rest: &'a [u8],
}

impl<'a> Iterator for Edits<'a> {
    type Item = Result<Edit<'a>, Damage>;

    fn next(&mut self) -> Option<Self::Item> {
        self.left = self.left.checked_sub(1)?;
        let edit = self.edit();
        if edit.is_err() {
            self.left = 0;
        }
        Some(edit)
    }
}

impl<'a> Edits<'a> {
    fn edit(&mut self) -> Result<Edit<'a>, Damage> {
        let header: &EditHeader = take(&mut self.rest, "edit header")?;
        let kind = EditKind::parse(header.kind)?;
        let key = take_bytes(&mut self.rest, usize::from(header.key_len), "edit key")?;
        let key = Key::from_bytes(key)
            .filter(|key| *key != Key::MIN)
            .ok_or(Damage::Bounds("edit key"))?;
        let value_len = usize::from(header.value_len.get());
        if value_len > VALUE_BYTES_MAX || (kind == EditKind::Delete && value_len > 0) {
            return Err(Damage::Bounds("edit value"));
        }
        let value = take_bytes(&mut self.rest, value_len, "edit value")?;
        Ok(Edit { kind, key, value })
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Edit<'a> {
    pub kind: EditKind,
    pub key: Key,
    pub value: &'a [u8],
}

/// The root generations that were durable when the log was trimmed.
#[derive(Clone, Copy, Debug)]
pub struct TrimRecord<'a> {
    entries: &'a [TrimEntry],
}

/// The pairs of a trim record.
pub type Trims<'a> =
    std::iter::Map<std::slice::Iter<'a, TrimEntry>, fn(&TrimEntry) -> (TabletId, RootGeneration)>;

impl<'a> TrimRecord<'a> {
    fn parse(mut body: &'a [u8]) -> Result<TrimRecord<'a>, Damage> {
        let count: &U32 = take(&mut body, "trim count")?;
        let entries = <[TrimEntry]>::ref_from_bytes(body).map_err(|_| Damage::Bounds("trim"))?;
        if entries.len() != count.get() as usize {
            return Err(Damage::Bounds("trim count"));
        }
        for entry in entries {
            tablet_of(entry.tablet.get())?;
            if entry.reserved.get() != 0 || entry.reserved_tail.get() != 0 {
                return Err(Damage::Value("trim reserved"));
            }
        }
        Ok(TrimRecord { entries })
    }

    pub fn roots(&self) -> Trims<'a> {
        self.entries
            .iter()
            .map(|entry| (TabletId(entry.tablet.get()), RootGeneration(entry.generation.get())))
    }
}

fn tablet_of(raw: u16) -> Result<TabletId, Damage> {
    if usize::from(raw) >= TABLETS_MAX {
        return Err(Damage::Bounds("record tablet"));
    }
    Ok(TabletId(raw))
}

/// Takes a fixed-size struct off the front of `rest`.
fn take<'a, T>(rest: &mut &'a [u8], what: &'static str) -> Result<&'a T, Damage>
where
    T: FromBytes + KnownLayout + Immutable + Unaligned,
{
    let (taken, behind) = T::ref_from_prefix(rest).map_err(|_| Damage::Bounds(what))?;
    *rest = behind;
    Ok(taken)
}

fn take_bytes<'a>(rest: &mut &'a [u8], len: usize, what: &'static str) -> Result<&'a [u8], Damage> {
    let (taken, behind) = rest.split_at_checked(len).ok_or(Damage::Bounds(what))?;
    *rest = behind;
    Ok(taken)
}
