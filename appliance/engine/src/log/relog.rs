//! A memtable copied to the head of the log, instead of written out as a tree.
//!
//! Twice that is the better way. A small memtable that holds back the log's tail is not worth a
//! tree. And what recovery found in the old logs goes into the new epoch's log as it is: that reads
//! no tree and takes no space, so a pool opens in the same time whatever it holds, and a full one
//! opens as well.
//!
//! The copies come first and the root that replays from them comes with the last: a crash in
//! between leaves the old root, which replays the old records and then the same values again.

use crate::error::FsError;
use crate::limits::RECORD_BYTES_MAX;
use crate::log::{Entry, LogClass, item_bytes};
use crate::shard::Shard;
use crate::tablet::Tablet;
use cairn_base::BLOCK_BYTES;
use cairn_base::door::Doors;
use cairn_format::TabletId;
use cairn_format::record::{EditKind, RecordWriter};
use std::rc::Rc;

/// Bytes of edits in one record, at most: with a root and one largest item it stays a record.
const CHUNK_BYTES: usize = RECORD_BYTES_MAX / 2;

impl<D: Doors> Shard<D> {
    /// Copies a small memtable that holds the tail back.
    pub(crate) async fn relog(self: &Rc<Self>, id: TabletId) -> Result<(), FsError> {
        let tablet = self.core.tablet(id);
        let _turn = tablet.remaking.acquire(1).await;
        if tablet.active.borrow().is_empty() {
            return Ok(());
        }
        self.copy_to_head(&tablet).await?;
        self.core.counters.relogs.add(1);
        Ok(())
    }

    /// Takes over what recovery found: into the new log where it fits, else as a log tree. Small
    /// memtables go first, so that only the largest of a pool that lost shards become trees.
    pub(crate) async fn carry_over(self: &Rc<Self>) -> Result<(), FsError> {
        let mut tablets: Vec<Rc<Tablet>> = self.core.tablets().cloned().collect();
        self.log_root_generations(&tablets).await?;
        tablets.sort_by_key(|tablet| tablet.active.borrow().node_bytes());
        for tablet in tablets {
            let root_is_on_its_block =
                tablet.root_block_generation.get() == tablet.root.borrow().generation;
            if tablet.active.borrow().is_empty() && root_is_on_its_block {
                continue;
            }
            if self.log.has_room_to_carry(log_blocks(&tablet)) {
                self.copy_to_head(&tablet).await?;
                continue;
            }
            while !tablet.has_room_for_log_tree() && !self.has_last_room(&tablet) {
                self.fold_step(tablet.id).await?;
            }
            self.freeze(tablet.id).await?;
        }
        Ok(())
    }

    async fn copy_to_head(&self, tablet: &Rc<Tablet>) -> Result<(), FsError> {
        let mut room = Vec::new();
        let mut left = tablet.active.borrow().node_bytes() + ROOT_BYTES;
        while left > 0 {
            let bytes = left.min(CHUNK_BYTES);
            room.push(self.log.admit(bytes + ROOT_BYTES, LogClass::Root).await?);
            left -= bytes;
        }
        self.log.seq(self.wall_us());
        let head = self.log.next_position();
        let active = tablet.active.borrow();
        let mut entries = active.iter().peekable();
        let mut last = false;
        while !last {
            // Opens a batch, if the last record has filled one.
            self.log.seq(self.wall_us());
            let ticket = self.log.forming_ticket();
            let mut chunk = Vec::new();
            let mut bytes = 0;
            while let Some((key, entry)) = entries.next_if(|_| bytes < CHUNK_BYTES) {
                let (kind, value) = edit_of(entry);
                bytes += item_bytes(key, value.len());
                chunk.push((kind, key, value));
            }
            last = entries.peek().is_none();
            let root = last.then(|| {
                tablet.root.borrow_mut().replay = head;
                self.next_root(tablet)
            });
            self.log.append(|out| {
                let mut record = RecordWriter::begin(out);
                record.section(tablet.id, &tablet.totals.get(), root.as_deref());
                for (kind, key, value) in chunk {
                    record.edit(kind, key, value);
                }
                record.finish();
            });
            if let Some(root) = root {
                tablet.root_record.set(Some((ticket, root)));
            }
        }
        if !active.is_empty() {
            tablet.active_first.set(Some(head));
        }
        Ok(())
    }
}

/// A root in a record, with the record's head.
const ROOT_BYTES: usize = 4 << 10;

/// Blocks of the log that copying a tablet's memtable takes at most.
fn log_blocks(tablet: &Tablet) -> u64 {
    let bytes = tablet.active.borrow().node_bytes() + ROOT_BYTES;
    // A record beside others may end its batch early.
    (bytes + bytes / 4).div_ceil(BLOCK_BYTES) as u64 + 1
}

fn edit_of(entry: &Entry) -> (EditKind, &[u8]) {
    match entry {
        Entry::Put { value, fresh: true } => (EditKind::PutNew, value),
        Entry::Put { value, fresh: false } => (EditKind::Put, value),
        Entry::Delete => (EditKind::Delete, &[]),
    }
}
