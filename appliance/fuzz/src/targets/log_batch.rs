//! The write log: batches as replay finds them, and every record, section, edit and item in them.
//!
//! The first byte of an input: 1 mends the checksum, 2 takes the bytes as they are (else they are
//! filled up with zeros to whole blocks), 4 makes the header's lengths those of the input.

use super::{Target, Verdict, filled, is_within, item, kind_of, mode_of};
use crate::specimen::{self, HANDLE_KEY, Specimen, TABLET, inode};
use cairn_base::BLOCK_BYTES;
use cairn_base::hash::crc32c;
use cairn_format::record::{
    BATCH_HEADER_BYTES, Batch, BatchHeader, EditKind, Record, RecordWriter, batch_bytes,
    seal_batch, write_trim,
};
use cairn_format::superblock::log_tag;
use cairn_format::tablet_root::Totals;
use cairn_format::version::BATCH_MAGIC;
use cairn_format::{Damage, Key, RootGeneration, TabletId};
use std::mem::offset_of;
use zerocopy::FromZeros;

const MEND: u8 = 1;
const AS_IT_IS: u8 = 2;
const LENGTHS: u8 = 4;

pub const TARGET: Target = Target {
    name: "log_batch",
    run,
    modes: 8,
    bytes_max: 16 << 10,
    heap_max: 256 << 10,
    specimens,
};

fn specimens() -> Vec<Specimen> {
    let of = |name: &str, mode: u8, payload: Vec<u8>, records: u32| {
        let batch = sealed(payload, records);
        Specimen::new(name, &[&[mode], specimen::trimmed(&batch)])
    };
    let every = MEND | LENGTHS;
    vec![
        of("two-tablets-and-a-trim", 0, two_tablets_and_a_trim(), 2),
        of("two-tablets-mended", MEND, two_tablets_and_a_trim(), 2),
        of("every-item", every, every_item(), 1),
        of("trim", MEND, trim(), 1),
        of("small", every, small(), 1),
        of("three-small", MEND, [small(), small(), small()].concat(), 3),
        of("empty", MEND, Vec::new(), 0),
        Specimen::new("whole", &[&[AS_IT_IS], &sealed(small(), 1)]),
    ]
}

fn two_tablets_and_a_trim() -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut record = RecordWriter::begin(&mut bytes);
    record.section(TABLET, &specimen::totals(), Some(&specimen::root_body()));
    record.edit(EditKind::PutNew, &Key::inode(inode(5)), &[1; 104]);
    record.edit(EditKind::Delete, &Key::orphan(inode(5)), &[]);
    record.section(TabletId(8), &Totals::ZERO, None);
    record.edit(EditKind::Put, &Key::symlink(inode(5)), b"target");
    record.finish();
    bytes.extend(trim());
    bytes
}

fn every_item() -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut record = RecordWriter::begin(&mut bytes);
    record.section(TABLET, &specimen::totals(), None);
    for (key, value) in specimen::items() {
        record.edit(EditKind::Put, &key, &value);
    }
    record.finish();
    bytes
}

fn small() -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut record = RecordWriter::begin(&mut bytes);
    record.section(TABLET, &Totals::ZERO, None);
    record.edit(EditKind::Delete, &Key::orphan(inode(5)), &[]);
    record.finish();
    bytes
}

fn trim() -> Vec<u8> {
    let mut bytes = Vec::new();
    let roots = [(TABLET, RootGeneration(13)), (TabletId(8), RootGeneration(1))];
    write_trim(&mut bytes, roots.into_iter());
    bytes
}

fn sealed(payload: Vec<u8>, records: u32) -> Vec<u8> {
    let header = BatchHeader {
        log_tag: log_tag(&HANDLE_KEY).into(),
        shard: 2.into(),
        records: records.into(),
        epoch: 3.into(),
        position: 88.into(),
        seq: 99.into(),
        acked: 80.into(),
        tail: 10.into(),
        ceiling: 1000.into(),
        payload_bytes: u32::try_from(payload.len()).expect("a small payload").into(),
        ..BatchHeader::new_zeroed()
    };
    let mut bytes = [vec![0; BATCH_HEADER_BYTES], payload].concat();
    bytes.resize(batch_bytes(bytes.len() - BATCH_HEADER_BYTES), 0);
    seal_batch(&mut bytes, header);
    bytes
}

pub fn run(input: &[u8]) -> Verdict {
    let (mode, bytes) = mode_of(input);
    let payload = bytes.len().saturating_sub(BATCH_HEADER_BYTES);
    let whole = if mode & AS_IT_IS == 0 { batch_bytes(payload) } else { 0 };
    let mut batch = filled(bytes, whole);
    if mode & LENGTHS != 0 {
        put(&mut batch, offset_of!(BatchHeader, payload_bytes), payload);
        put(&mut batch, offset_of!(BatchHeader, blocks), whole / BLOCK_BYTES);
    }
    if mode & MEND != 0 && batch.len() >= BATCH_HEADER_BYTES {
        let crc = crc32c(&batch[12..]).to_le_bytes();
        batch[8..12].copy_from_slice(&crc);
    }
    if let Some(header) = Batch::header_of(&batch) {
        assert_eq!(header.magic.get(), BATCH_MAGIC);
        assert!(header.blocks.get() > 0);
    }
    match Batch::parse(&batch, log_tag(&HANDLE_KEY)) {
        Ok(found) => sound(&found, &batch),
        Err(damage) => Verdict::Refused(kind_of(damage)),
    }
}

fn put(bytes: &mut [u8], at: usize, number: usize) {
    let number = u32::try_from(number).expect("inputs are small").to_le_bytes();
    if let Some(place) = bytes.get_mut(at..at + 4) {
        place.copy_from_slice(&number);
    }
}

fn sound(batch: &Batch<'_>, bytes: &[u8]) -> Verdict {
    let header = batch.header();
    let len = batch_bytes(header.payload_bytes.get() as usize);
    assert_eq!(len, header.blocks.get() as usize * BLOCK_BYTES);
    assert_eq!(header.crc.get(), crc32c(&bytes[12..len]), "accepted with a wrong checksum");
    let mut written = vec![0; BATCH_HEADER_BYTES];
    let mut refused = None;
    let mut records = 0;
    for record in batch.records() {
        let read = record.and_then(|record| walk(record, bytes, &mut written));
        match read {
            Ok(item) => refused = refused.or(item),
            Err(damage) => return Verdict::Refused(format!("record: {}", kind_of(damage)).into()),
        }
        records += 1;
    }
    assert_eq!(records, header.records.get(), "as many records as the header says");
    written.resize(len, 0xee);
    seal_batch(&mut written, *header);
    assert!(written == bytes[..len], "the same records make the same batch");
    match refused {
        None => Verdict::Accepted,
        Some(damage) => Verdict::Refused(format!("item: {}", kind_of(damage)).into()),
    }
}

/// Reads a record whole, writes it again, and says which of its items cannot be read.
fn walk(record: Record<'_>, bytes: &[u8], written: &mut Vec<u8>) -> Result<Option<Damage>, Damage> {
    let record = match record {
        Record::Edits(record) => record,
        Record::Trim(trim) => {
            write_trim(written, trim.roots());
            return Ok(None);
        }
    };
    let sections = record.sections().collect::<Result<Vec<_>, _>>()?;
    let mut refused = None;
    let mut again = RecordWriter::begin(written);
    for section in &sections {
        again.section(section.tablet, &section.totals, section.root);
        let mut edits = 0;
        for edit in section.edits() {
            let edit = edit.expect("a section is given out only when its edits are sound");
            assert!(is_within(edit.value, bytes));
            assert!(edit.kind != EditKind::Delete || edit.value.is_empty());
            again.edit(edit.kind, &edit.key, edit.value);
            edits += 1;
            let item = match edit.kind {
                EditKind::Delete => Ok(()),
                EditKind::Put | EditKind::PutNew => item::walk(&edit.key, edit.value),
            };
            refused = refused.or(item.err());
        }
        assert_eq!(edits, section.edit_count());
    }
    again.finish();
    Ok(refused)
}
