//! Write logs: batches that are gone, rotten or somebody else's, marks that make no sense, and records
//! that do not fit the tablets.

use super::Mutation;
use super::Which::Mixed;
use super::layout::{LogLayout, batch_bytes};
use super::patient::{Lacks, Patient};
use cairn_base::BLOCK_BYTES;
use cairn_format::record::{BATCH_HEADER_BYTES, BatchHeader, RecordWriter, seal_batch, write_trim};
use cairn_format::tablet_root::Totals;
use cairn_format::{RootGeneration, TabletId};
use zerocopy::FromBytes;

/// A log with some batches, and one in its middle.
fn middle<'a>(p: &Patient<'a>) -> Result<(&'a LogLayout, &'a BatchHeader), Lacks> {
    let log = p.layout().logs.iter().find(|log| log.batches.len() > 10);
    let log = log.ok_or("no log has ten batches")?;
    let mut behind = log.batches[log.batches.len() / 2..].iter();
    let batch = behind.find(|header| header.records.get() > 0);
    Ok((log, batch.ok_or("the log ends in empty batches")?))
}

/// Seals the middle batch again with another header.
fn patch(p: &mut Patient<'_>, change: impl FnOnce(&mut BatchHeader)) -> Result<String, Lacks> {
    let (log, header) = middle(p)?;
    let mut bytes = batch_bytes(&p.copy, log, header);
    let mut header = *header;
    let at = log.place(header.position.get());
    change(&mut header);
    seal_batch(&mut bytes, header);
    p.copy.put(at, &bytes);
    Ok(words(log, &format!(", block {at}")))
}

fn words(log: &LogLayout, place: &str) -> String {
    format!("log of node 0 shard {}{place}", log.area.shard)
}

/// One more batch behind the last, with one record.
fn append(
    p: &mut Patient<'_>,
    record: impl FnOnce(&mut Vec<u8>),
    change: impl FnOnce(&mut BatchHeader),
) -> Result<String, Lacks> {
    let (log, _) = middle(p)?;
    let mut bytes = vec![0; BATCH_HEADER_BYTES];
    record(&mut bytes);
    let payload = bytes.len() - BATCH_HEADER_BYTES;
    bytes.resize(cairn_format::record::batch_bytes(payload), 0);
    let mut header = *log.last();
    header.records = 1.into();
    (header.position, header.acked) = (log.end().into(), log.end().into());
    header.payload_bytes = (payload as u32).into();
    change(&mut header);
    seal_batch(&mut bytes, header);
    p.copy.put(log.place(log.end()), &bytes);
    Ok(words(log, ""))
}

/// A record that says the totals of a tablet and nothing else.
fn totals_record(out: &mut Vec<u8>, tablet: TabletId, totals: &Totals) {
    let mut record = RecordWriter::begin(out);
    record.section(tablet, totals, None);
    record.finish();
}

const GONE: [&str; 2] = ["log", "was acknowledged and is gone"];

pub const ALL: &[Mutation] = &[
    Mutation {
        name: "hole-in-the-log",
        breaks: "a batch in the middle of a log was never written",
        pool: Mixed,
        finding: GONE,
        apply: |p| {
            let (log, header) = middle(p)?;
            let at = log.place(header.position.get());
            p.copy.put(at, &vec![0; header.blocks.get() as usize * BLOCK_BYTES]);
            Ok(words(log, &format!(", block {at}")))
        },
    },
    Mutation {
        name: "rot-in-mid-log",
        breaks: "a bit of a batch flipped, with valid batches behind it",
        pool: Mixed,
        finding: GONE,
        apply: |p| {
            let (log, header) = middle(p)?;
            let at = log.place(header.position.get());
            p.copy.flip(at, BATCH_HEADER_BYTES + 9, 4);
            Ok(words(log, &format!(", block {at}")))
        },
    },
    Mutation {
        name: "batch-of-another-epoch",
        breaks: "a batch of the epoch before stands in the middle of a log",
        pool: Mixed,
        finding: GONE,
        apply: |p| patch(p, |header| header.epoch -= 1),
    },
    Mutation {
        name: "batch-of-another-shard",
        breaks: "a batch of another log stands in the middle of this one",
        pool: Mixed,
        finding: GONE,
        apply: |p| patch(p, |header| header.shard += 1),
    },
    Mutation {
        name: "batch-of-another-pool",
        breaks: "a batch carries another pool's tag",
        pool: Mixed,
        finding: GONE,
        apply: |p| patch(p, |header| header.log_tag += 1),
    },
    Mutation {
        name: "batch-of-an-older-round",
        breaks: "an older batch stands where a newer one was acknowledged",
        pool: Mixed,
        finding: GONE,
        apply: |p| {
            let ring = middle(p)?.0.area.blocks.get();
            patch(p, |header| {
                // As if the ring had been overtaken once more than it was.
                header.position = header.position.get().wrapping_sub(ring).into();
                (header.tail, header.acked) = (0.into(), 0.into());
            })
        },
    },
    Mutation {
        name: "batch-with-marks-of-the-future",
        breaks: "a batch says that itself was acknowledged before it was sent",
        pool: Mixed,
        finding: ["log", "marks that contradict its place"],
        apply: |p| patch(p, |header| header.acked = (header.position.get() + 1).into()),
    },
    Mutation {
        name: "batch-seq-set-back",
        breaks: "a batch has an older seq than the one before it",
        pool: Mixed,
        finding: ["log", "marks that contradict its place"],
        apply: |p| patch(p, |header| header.seq = 1.into()),
    },
    Mutation {
        name: "batch-seq-above-its-ceiling",
        breaks: "a batch has a seq above what it allows itself",
        pool: Mixed,
        finding: ["log", "marks that contradict its place"],
        apply: |p| patch(p, |header| header.ceiling = (header.seq.get() - 1).into()),
    },
    Mutation {
        name: "batch-with-a-record-too-few",
        breaks: "a batch promises more records than it has",
        pool: Mixed,
        finding: ["log", "a record is unsound"],
        apply: |p| patch(p, |header| header.records += 1),
    },
    Mutation {
        name: "record-cut-short",
        breaks: "a record says it is longer than its batch",
        pool: Mixed,
        finding: ["log", "a record is unsound"],
        apply: |p| {
            let (log, header) = middle(p)?;
            let mut bytes = batch_bytes(&p.copy, log, header);
            let at = BATCH_HEADER_BYTES;
            let (len, _) = zerocopy::little_endian::U32::mut_from_prefix(&mut bytes[at..])
                .map_err(|_| "a batch without a record")?;
            *len += 40_000;
            seal_batch(&mut bytes, *header);
            let at = log.place(header.position.get());
            p.copy.put(at, &bytes);
            Ok(words(log, &format!(", block {at}")))
        },
    },
    Mutation {
        name: "record-of-no-tablet",
        breaks: "a record changes a tablet that does not exist",
        pool: Mixed,
        finding: ["log", "which does not exist"],
        apply: |p| append(p, |out| totals_record(out, TabletId(77), &Totals::ZERO), |_| {}),
    },
    Mutation {
        name: "record-in-another-log",
        breaks: "a record changes a tablet that is replayed from another log",
        pool: Mixed,
        finding: ["log", "replayed from another log"],
        apply: |p| {
            let (log, _) = middle(p)?;
            let is_other = |root: &cairn_format::tablet_root::RootBody| {
                root.replay.epoch == log.area.epoch && root.replay.shard != log.area.shard
            };
            let other = p.tablet_where(|t| is_other(&t.root)).ok_or("there is one log")?;
            append(p, |out| totals_record(out, other.id, &other.totals), |_| {})
        },
    },
    Mutation {
        name: "stale-root",
        breaks: "an older root stands where the log was trimmed behind a newer one",
        pool: Mixed,
        finding: ["root", "was lost"],
        apply: |p| {
            let roots = [(
                TabletId(2),
                RootGeneration(p.layout().tablet(TabletId(2)).root.generation().0 + 1),
            )];
            append(p, |out| _ = write_trim(out, roots.into_iter()), |_| {})?;
            Ok("tablet 2 root".into())
        },
    },
    Mutation {
        name: "trim-of-no-tablet",
        breaks: "a trim names a tablet that does not exist",
        pool: Mixed,
        finding: ["log", "a trim names tablet 77"],
        apply: |p| {
            let roots = [(TabletId(77), RootGeneration(1))];
            append(p, |out| _ = write_trim(out, roots.into_iter()), |_| {})
        },
    },
    Mutation {
        name: "put-as-new-of-what-exists",
        breaks: "a record says that an item is new, and a tree has it",
        pool: Mixed,
        finding: ["log", "but a tree holds it already"],
        apply: |p| {
            // In the oldest records of nobody's memtable: only trees have it.
            let found = p.layout().tablets.iter().find_map(|tablet| {
                let plain = |key: &&cairn_format::Key| !tablet.memtable.contains_key(*key);
                let key = tablet.items.keys().find(plain)?;
                Some((tablet.id, *key))
            });
            let (tablet, key) = found.ok_or("everything is in the logs")?;
            let value = p.get(tablet, &key).ok_or("it is there")?;
            p.put(tablet, key, &value);
            p.says_new = true;
            Ok(format!("tablet {tablet} "))
        },
    },
];
