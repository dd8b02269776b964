//! What is written into a batch comes out of it, and nothing else does.

use crate::sample::{HANDLE_KEY, batch, batch_of, inode, random_key, root_body, totals};
use cairn_base::BLOCK_BYTES;
use cairn_base::prng::Prng;
use cairn_format::record::{
    BATCH_HEADER_BYTES, Batch, EditKind, Record, RecordWriter, batch_bytes, write_trim,
};
use cairn_format::superblock::log_tag;
use cairn_format::tablet_root::{RootBody, Totals};
use cairn_format::{Damage, Key, RootGeneration, TabletId};

#[derive(Debug, PartialEq)]
enum Model {
    Edits(Vec<SectionModel>),
    Trim(Vec<(TabletId, RootGeneration)>),
}

#[derive(Debug, PartialEq)]
struct SectionModel {
    tablet: TabletId,
    totals: Totals,
    root: Option<RootBody>,
    edits: Vec<(EditKind, Key, Vec<u8>)>,
}

fn random_section(prng: &mut Prng) -> SectionModel {
    let tablet = TabletId(prng.below(4096) as u16);
    let edit = |prng: &mut Prng| {
        let kind = [EditKind::Put, EditKind::PutNew, EditKind::Delete][prng.below(3) as usize];
        let bytes = if kind == EditKind::Delete { 0 } else { prng.below(300) };
        (kind, random_key(prng), vec![0xab; bytes as usize])
    };
    SectionModel {
        tablet,
        totals: Totals { inodes: prng.next_u64().into(), ..totals() },
        root: prng.percent(30).then(|| RootBody { tablet: tablet.0.into(), ..root_body() }),
        edits: (0..prng.below(20)).map(|_| edit(prng)).collect(),
    }
}

fn random_record(prng: &mut Prng) -> Model {
    if prng.percent(20) {
        let root = |n| (TabletId(n as u16), RootGeneration(prng.next_u64()));
        return Model::Trim((0..5).map(root).collect());
    }
    Model::Edits((0..prng.below(5)).map(|_| random_section(prng)).collect())
}

fn write(record: &Model, out: &mut Vec<u8>) -> usize {
    match record {
        Model::Trim(roots) => write_trim(out, roots.iter().copied()),
        Model::Edits(sections) => {
            let mut writer = RecordWriter::begin(out);
            for section in sections {
                writer.section(section.tablet, &section.totals, section.root.as_ref());
                for (kind, key, value) in &section.edits {
                    writer.edit(*kind, key, value);
                }
            }
            writer.finish()
        }
    }
}

fn read(record: Record<'_>) -> Result<Model, Damage> {
    let edits = match record {
        Record::Trim(trim) => return Ok(Model::Trim(trim.roots().collect())),
        Record::Edits(edits) => edits,
    };
    let section = |section: Result<cairn_format::record::Section<'_>, Damage>| {
        let section = section?;
        let edits = section
            .edits()
            .map(|edit| edit.map(|edit| (edit.kind, edit.key, edit.value.to_vec())))
            .collect::<Result<_, _>>()?;
        Ok(SectionModel {
            tablet: section.tablet,
            totals: section.totals,
            root: section.root.copied(),
            edits,
        })
    };
    edits.sections().map(section).collect::<Result<_, _>>().map(Model::Edits)
}

fn read_all(batch: &Batch<'_>) -> Result<Vec<Model>, Damage> {
    batch.records().map(|record| read(record?)).collect()
}

#[test]
fn records_come_out_as_they_went_in() {
    let mut prng = Prng::new(3);
    for _ in 0..100 {
        let records: Vec<Model> = (0..prng.below(12)).map(|_| random_record(&mut prng)).collect();
        let mut bytes = vec![0; BATCH_HEADER_BYTES];
        for record in &records {
            let before = bytes.len();
            let written = write(record, &mut bytes);
            assert_eq!(written, bytes.len() - before);
        }
        let mut bytes = batch_of(bytes, records.len() as u32);
        bytes.extend_from_slice(&[0xdd; BLOCK_BYTES]); // the log goes on behind the batch
        let batch = Batch::parse(&bytes, log_tag(&HANDLE_KEY)).expect("a batch just sealed");
        assert_eq!(batch.header().blocks.get() as usize, bytes.len() / BLOCK_BYTES - 1);
        assert_eq!(Batch::header_of(&bytes), Some(batch.header()));
        assert_eq!(read_all(&batch), Ok(records));
    }
}

#[test]
fn an_empty_batch_is_one_block() {
    let bytes = batch_of(vec![0; BATCH_HEADER_BYTES], 0);
    assert_eq!(bytes.len(), BLOCK_BYTES);
    let batch = Batch::parse(&bytes, log_tag(&HANDLE_KEY)).expect("a batch just sealed");
    assert_eq!(batch.records().count(), 0);
}

#[test]
fn a_batch_of_another_pool_or_cut_short_is_refused() {
    let bytes = batch();
    assert_eq!(Batch::parse(&bytes, 1).err(), Some(Damage::Value("batch tag")));
    let cut = &bytes[..bytes.len() - 1];
    assert_eq!(Batch::parse(cut, log_tag(&HANDLE_KEY)).err(), Some(Damage::Bounds("batch blocks")));
    let other = vec![0; 4096];
    assert_eq!(Batch::parse(&other, 1).err(), Some(Damage::Magic { found: 0 }));
    assert_eq!(Batch::header_of(&other), None);
}

/// Changes the sample's payload and seals it again.
fn forged(change: impl FnOnce(&mut Vec<u8>)) -> Option<Damage> {
    let header = *Batch::header_of(&batch()).expect("a batch");
    let mut bytes = batch();
    bytes.truncate(BATCH_HEADER_BYTES + header.payload_bytes.get() as usize);
    change(&mut bytes);
    let bytes = batch_of(bytes, header.records.get());
    let batch = Batch::parse(&bytes, log_tag(&HANDLE_KEY)).expect("sealed again");
    read_all(&batch).err()
}

#[test]
fn a_right_checksum_does_not_excuse_wrong_insides() {
    assert_eq!(forged(|_| {}), None);
    let value = |field| Some(Damage::Value(field));
    let bounds = |field| Some(Damage::Bounds(field));
    let record = BATCH_HEADER_BYTES;
    assert_eq!(forged(|b| b[record + 4] = 9), value("record kind"));
    assert_eq!(forged(|b| b[record + 5] = 1), value("record reserved"));
    assert_eq!(forged(|b| b[record + 3] = 1), bounds("record bytes"));
    assert_eq!(forged(|b| b[record..record + 4].fill(0)), bounds("record bytes"));
    assert_eq!(forged(|b| b.truncate(record)), bounds("record header"));
    assert_eq!(forged(|b| b.push(0)), bounds("batch record count"));
    assert_eq!(forged(|b| b[record + 6] = 1), bounds("record section count"));
    assert_eq!(forged(|b| b[record + 6] = 3), bounds("section header"));
    let section = record + 8;
    assert_eq!(forged(|b| b[section + 1] = 0x10), bounds("record tablet"));
    assert_eq!(forged(|b| b[section] = 8), value("section root tablet"));
    assert_eq!(forged(|b| b[section + 2] = 3), value("section flags"));
    assert_eq!(forged(|b| b[section + 5] = 1), value("edit kind")); // too many edits
    let root = section + 8 + size_of::<Totals>();
    let edit = root + size_of::<RootBody>();
    assert_eq!(forged(|b| b[edit] = 0), value("edit kind"));
    assert_eq!(forged(|b| b[edit + 1] = 0), bounds("edit key"));
    assert_eq!(forged(|b| b[edit + 1] = 32), bounds("edit key"));
    assert_eq!(forged(|b| b[edit] = EditKind::Delete as u8), bounds("edit value"));
    assert_eq!(forged(|b| b[edit + 3] = 0xff), bounds("edit value"));

    assert_eq!(forged(|b| b[root + 22] = 1), value("root reserved"));
    assert_eq!(forged(|b| *b.last_mut().expect("bytes") = 1), None); // a generation
    let trim = |b: &Vec<u8>| b.len() - 2 * 16 - 4;
    assert_eq!(
        forged(|b| {
            let at = trim(b);
            b[at] = 3
        }),
        bounds("trim count")
    );
    assert_eq!(
        forged(|b| {
            let at = trim(b);
            b[at + 6] = 1
        }),
        value("trim reserved")
    );
}

#[test]
fn a_batch_fills_whole_blocks() {
    assert_eq!(batch_bytes(0), BLOCK_BYTES);
    assert_eq!(batch_bytes(BLOCK_BYTES - BATCH_HEADER_BYTES), BLOCK_BYTES);
    assert_eq!(batch_bytes(BLOCK_BYTES - BATCH_HEADER_BYTES + 1), 2 * BLOCK_BYTES);
}

#[test]
#[should_panic(expected = "belongs to a section")]
fn an_edit_outside_a_section_is_the_writers_end() {
    let mut out = Vec::new();
    RecordWriter::begin(&mut out).edit(EditKind::Put, &Key::inode(inode(1)), &[]);
}
