//! What the logs of the last epoch hold, read back after a crash or a clean stop alike.
//!
//! Every log area of the pool is read, whoever wrote it, once and whole. A batch counts when its
//! header names this log and epoch, stands where its position says, and its checksum holds. The
//! batches from the highest tail on must follow each other; where the chain ends below a position
//! that any batch says was acknowledged, something that was promised is gone, and the pool is not
//! opened. Behind that, a missing batch is the tail: nobody was told of it.
//!
//! Replay reads no tree: records hold whole items, so each tablet gets the list of its edits, in
//! order, and the newest root among its root blocks and root records.

use crate::open::OpenError;
use crate::sabotage::{Sabotage, planted};
use cairn_base::door::{Disk, MediaError};
use cairn_base::{BLOCK_BYTES, BlockNo, DmaBuf, Run};
use cairn_format::key::Key;
use cairn_format::record::{Batch, EditKind, Record};
use cairn_format::superblock::{EPOCH_OF_FORMAT, LogArea};
use cairn_format::tablet_root::{RootBody, Totals};
use cairn_format::{Damage, Epoch, LogPosition, Seq, ShardId, TabletId};
use std::collections::BTreeMap;

/// An edit on its way to the shard that owns its tablet.
#[derive(Clone, Debug)]
pub struct RecoveredEdit {
    pub kind: EditKind,
    pub key: Key,
    pub value: Box<[u8]>,
}

/// One tablet as the last epoch left it. Plain data: it crosses to its shard's thread.
#[derive(Debug)]
pub struct RecoveredTablet {
    pub body: Box<RootBody>,
    /// The generation of the newest root block: the body's, unless a log has a newer root.
    pub block_generation: u64,
    /// What its trees do not hold yet, oldest first.
    pub edits: Vec<RecoveredEdit>,
    pub totals: Totals,
    pub newest_seq: Seq,
}

/// One log's valid batches, back to back from its tail.
pub struct LogImage {
    pub shard: ShardId,
    epoch: Epoch,
    pub ceiling: Seq,
    bytes: Vec<u8>,
    /// Offsets of the chain's batches.
    chain: Vec<usize>,
    log_tag: u64,
}

/// Bytes of one device read.
const READ_BYTES: usize = 1 << 20;
/// Blocks of one run that are tried by themselves and fail: each may take a device its whole time limit.
const UNREADABLE_MAX: usize = 64;

pub async fn read_log<K: Disk>(
    disk: &K,
    area: &LogArea,
    log_tag: u64,
) -> Result<LogImage, OpenError> {
    let (bytes, unreadable) = read_what_can_be(disk, area.run()).await;
    let mut found: BTreeMap<u64, usize> = BTreeMap::new();
    let (mut acked, mut tail, mut ceiling) = (0, 0, 0);
    for slot in 0..area.blocks.get() {
        let at = slot as usize * BLOCK_BYTES;
        let here = &bytes[at..];
        let Some(header) = Batch::header_of(here) else { continue };
        let ours = header.node == area.node
            && header.shard == area.shard
            && header.epoch == area.epoch
            && header.position.get() % area.blocks.get() == slot;
        if !ours || Batch::parse(here, log_tag).is_err() {
            continue;
        }
        found.insert(header.position.get(), at);
        acked = acked.max(header.acked.get());
        tail = tail.max(header.tail.get());
        ceiling = ceiling.max(header.ceiling.get());
    }
    // Every epoch but that of format begins with a mark, durable before the log counts.
    if found.is_empty() && area.epoch.get() > EPOCH_OF_FORMAT {
        acked = 1;
    }
    let mut chain = Vec::new();
    let mut next = tail;
    while let Some(at) = found.get(&next) {
        chain.push(*at);
        let header = Batch::header_of(&bytes[*at..]).expect("it was found by its header");
        next += u64::from(header.blocks.get());
    }
    // What could not be read may be the next batch, and nobody can tell whether it was acknowledged.
    // Elsewhere it is a place that the log does not use.
    let slot = next % area.blocks.get();
    let header = Batch::header_of(&bytes[slot as usize * BLOCK_BYTES..]);
    let begun = header.filter(|header| header.position.get() == next);
    let behind = Run::new(
        area.run().start.after(slot),
        begun.map_or(1, |header| u64::from(header.blocks.get()).max(1)),
    );
    if let Some(&(block, error)) = unreadable.iter().find(|(block, _)| behind.contains(*block)) {
        return Err(OpenError::Media { block, error });
    }
    let shard = ShardId(area.shard.get());
    if next < acked {
        return Err(OpenError::LogDamaged {
            shard,
            position: LogPosition(next),
            acknowledged: LogPosition(acked),
        });
    }
    if planted(Sabotage::ReplayOffByOne) {
        chain.pop();
    }
    let epoch = Epoch(area.epoch.get());
    Ok(LogImage { shard, epoch, ceiling: Seq(ceiling), bytes, chain, log_tag })
}

/// Reads a run, with zeros in place of the blocks that the device does not give back; those, in order,
/// with what it said.
pub(crate) async fn read_what_can_be<K: Disk>(
    disk: &K,
    run: Run,
) -> (Vec<u8>, Vec<(BlockNo, MediaError)>) {
    let mut bytes = Vec::with_capacity(run.bytes() as usize);
    let mut unreadable = Vec::new();
    let mut at = run.start;
    while at < run.end() {
        let blocks = (run.end().index() - at.index()).min((READ_BYTES / BLOCK_BYTES) as u64);
        let buf = disk.arena().alloc(blocks as usize * BLOCK_BYTES);
        let (buf, read) = disk.read(at, buf).await;
        if read.is_ok() {
            bytes.extend_from_slice(&buf);
            at = at.after(blocks);
            continue;
        }
        for block in (0..blocks).map(|n| at.after(n)) {
            // A device that gives back next to nothing is not asked for every block by itself.
            let read = match unreadable.get(UNREADABLE_MAX - 1) {
                Some((_, error)) => Err(*error),
                None => read_block(disk, block).await,
            };
            match read {
                Ok(buf) => bytes.extend_from_slice(&buf),
                Err(error) => {
                    unreadable.push((block, error));
                    bytes.resize(bytes.len() + BLOCK_BYTES, 0);
                }
            }
        }
        at = at.after(blocks);
    }
    (bytes, unreadable)
}

async fn read_block<K: Disk>(disk: &K, block: BlockNo) -> Result<DmaBuf, MediaError> {
    let (buf, read) = disk.read(block, disk.arena().alloc(BLOCK_BYTES)).await;
    read.map(|()| buf)
}

impl LogImage {
    fn damaged(&self, damage: Damage) -> OpenError {
        OpenError::RecordDamaged { shard: self.shard, damage }
    }

    fn batches(&self) -> impl Iterator<Item = Result<Batch<'_>, OpenError>> {
        self.chain.iter().map(|at| {
            Batch::parse(&self.bytes[*at..], self.log_tag).map_err(|damage| self.damaged(damage))
        })
    }

    /// Takes up newer roots, and checks that no root the log was trimmed by has been lost.
    pub fn replay_roots(
        &self,
        tablets: &mut BTreeMap<TabletId, RecoveredTablet>,
    ) -> Result<(), OpenError> {
        let mut trimmed = Vec::new();
        for batch in self.batches() {
            let batch = batch?;
            for record in batch.records() {
                match record.map_err(|damage| self.damaged(damage))? {
                    Record::Trim(trim) => {
                        trimmed = trim.roots().collect::<Vec<_>>();
                    }
                    Record::Edits(edits) => {
                        for section in edits.sections() {
                            let section = section.map_err(|damage| self.damaged(damage))?;
                            let Some(root) = section.root else { continue };
                            let tablet = self.tablet(tablets, section.tablet)?;
                            if root.generation.get() > tablet.body.generation.get() {
                                *tablet.body = *root;
                            }
                        }
                    }
                }
            }
        }
        for (id, generation) in trimmed {
            let tablet = self.tablet(tablets, id)?;
            let found = tablet.body.generation();
            if found < generation {
                return Err(OpenError::RootLost { tablet: id, found, trimmed: generation });
            }
        }
        Ok(())
    }

    fn tablet<'t>(
        &self,
        tablets: &'t mut BTreeMap<TabletId, RecoveredTablet>,
        id: TabletId,
    ) -> Result<&'t mut RecoveredTablet, OpenError> {
        tablets.get_mut(&id).ok_or(self.damaged(Damage::Value("section tablet")))
    }

    /// Gives each tablet the edits that its newest root's trees do not hold.
    pub fn replay_edits(
        &self,
        tablets: &mut BTreeMap<TabletId, RecoveredTablet>,
    ) -> Result<(), OpenError> {
        for batch in self.batches() {
            let batch = batch?;
            let position = batch.header().position.get();
            let seq = Seq(batch.header().seq.get());
            for record in batch.records() {
                let Record::Edits(edits) = record.map_err(|damage| self.damaged(damage))? else {
                    continue;
                };
                for section in edits.sections() {
                    let section = section.map_err(|damage| self.damaged(damage))?;
                    let tablet = self.tablet(tablets, section.tablet)?;
                    // Absolute sums: the last record's hold, whatever the trees hold already.
                    tablet.totals = section.totals;
                    tablet.newest_seq = seq;
                    let replay = &tablet.body.replay;
                    if replay.epoch.get() == self.epoch.0 && position < replay.position.get() {
                        continue;
                    }
                    for edit in section.edits() {
                        let edit = edit.map_err(|damage| self.damaged(damage))?;
                        let value = edit.value.into();
                        tablet.edits.push(RecoveredEdit { kind: edit.kind, key: edit.key, value });
                    }
                }
            }
        }
        Ok(())
    }
}
