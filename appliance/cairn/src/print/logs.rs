//! The write logs: every valid batch of each area, in the order of their places in the ring.

use crate::exit::Error;
use crate::print::damaged;
use crate::print::item::describe;
use crate::print::pool::PoolBytes;
use crate::print::record::{Printed, Sink};
use cairn_base::{BLOCK_BYTES, BlockNo};
use cairn_format::TabletId;
use cairn_format::record::{Batch, EditKind, EditsRecord, Record};

/// Batches, and with `edits` what is in them; of one tablet only, where one is named.
pub fn logs(
    pool: &PoolBytes,
    only: Option<TabletId>,
    sink: &mut Sink,
) -> Result<(), Error> {
    let fsid_head = pool.superblock().fsid_head();
    for area in pool.superblock().log_table() {
        let mut slot = 0;
        while slot < area.blocks.get() && !sink.is_closed() {
            let at = area.run().start.after(slot);
            slot += 1;
            let first = pool.read(at, BLOCK_BYTES)?;
            let Some(header) = Batch::header_of(&first) else { continue };
            let blocks = u64::from(header.blocks.get());
            if blocks > area.blocks.get() - (slot - 1) {
                continue; // an older batch whose end was overwritten, or no batch at all
            }
            let bytes = pool.read(at, blocks as usize * BLOCK_BYTES)?;
            // What does not parse is an older batch, written over in part.
            let Ok(batch) = Batch::parse(&bytes, fsid_head) else { continue };
            slot += blocks - 1;
            print_batch(at, &batch, only, sink)?;
        }
    }
    Ok(())
}

fn print_batch(
    at: BlockNo,
    batch: &Batch<'_>,
    only: Option<TabletId>,
    sink: &mut Sink,
) -> Result<(), Error> {
    sink.print(&Printed::batch(at, batch.header()))?;
    for record in batch.records() {
        match record {
            Ok(Record::Edits(record)) => print_edits(at, &record, only, sink)?,
            Ok(Record::Trim(trim)) => {
                sink.print(&Printed::TrimRecord { tablets: trim.roots().count() })?;
            }
            Err(damage) => sink.print(&damaged(at, damage))?,
        }
    }
    Ok(())
}

fn print_edits(
    at: BlockNo,
    record: &EditsRecord<'_>,
    only: Option<TabletId>,
    sink: &mut Sink,
) -> Result<(), Error> {
    for section in record.sections() {
        let section = match section {
            Ok(section) => section,
            Err(damage) => return sink.print(&damaged(at, damage)),
        };
        if only.is_some_and(|only| only != section.tablet) {
            continue;
        }
        if let Some(root) = section.root {
            let generation = root.generation.get();
            sink.print(&Printed::RootRecord { tablet: section.tablet.0, generation })?;
        }
        for edit in section.edits() {
            let edit = match edit {
                Ok(edit) => edit,
                Err(damage) => return sink.print(&damaged(at, damage)),
            };
            let (kind, value) = match edit.kind {
                EditKind::Put => ("put", describe(&edit.key, edit.value)),
                EditKind::Delete => ("delete", String::new()),
                _ => ("other", describe(&edit.key, edit.value)),
            };
            let key = format!("{:?}", edit.key);
            sink.print(&Printed::Edit { tablet: section.tablet.0, edit: kind, key, value })?;
        }
    }
    Ok(())
}
