//! The write logs: which batches count, and whether one is missing that must not be.
//!
//! The whole area is scanned, since only the batches themselves say where the log's tail is. What is
//! valid and newest decides: the highest tail is where the chain begins, and it goes on as long as
//! each batch is followed by a valid one. Where that ends, the highest `acked` mark of any valid
//! batch tells the log's end from a loss: below the mark everything had been acknowledged.
//!
//! Only areas in use hold anything: those that are being retired are the next epoch's to write to.
//! After a loss the chain goes on with the next batch there is. An open would stop; a check wants to
//! see the rest as well.

use crate::media;
use crate::report::{Findings, Object};
use cairn_base::door::Disk;
use cairn_base::{BLOCK_BYTES, BlockNo, Run};
use cairn_format::record::{Batch, BatchHeader, Record};
use cairn_format::superblock::{EPOCH_OF_FORMAT, LogArea, Superblock};
use cairn_format::{RootGeneration, TabletId};
use std::collections::BTreeMap;
use std::ops::Bound;

/// Blocks of one read while scanning.
const SCAN_BLOCKS: u64 = 256;

/// What must be known of a batch to place it.
#[derive(Clone, Copy, Debug)]
struct Seen {
    blocks: u64,
    acked: u64,
    tail: u64,
    ceiling: u64,
    seq: u64,
}

/// One batch of the chain.
pub(crate) struct Link {
    pub position: u64,
    bytes: Vec<u8>,
}

impl Link {
    pub fn records<'a>(&'a self, log_tag: u64) -> impl Iterator<Item = Record<'a>> + 'a {
        let batch = Batch::parse(&self.bytes, log_tag).ok();
        batch.into_iter().flat_map(|batch| batch.records()).map_while(Result::ok)
    }

    pub fn batch(&self, log_tag: u64) -> Option<Batch<'_>> {
        Batch::parse(&self.bytes, log_tag).ok()
    }
}

/// A write log as it would be replayed.
pub(crate) struct Log {
    pub node: u16,
    pub shard: u16,
    pub epoch: u64,
    pub chain: Vec<Link>,
    /// Behind the last batch of the chain.
    pub end: u64,
    pub ceiling: u64,
}

impl Log {
    pub fn object(&self, place: Option<BlockNo>) -> Object {
        Object::Log { node: self.node, shard: self.shard, place }
    }

    /// The newest root generations that a trim of this log relied on.
    pub fn trims(&self, log_tag: u64) -> BTreeMap<TabletId, RootGeneration> {
        let mut newest = BTreeMap::new();
        for link in &self.chain {
            for record in link.records(log_tag) {
                if let Record::Trim(trim) = record {
                    newest.extend(trim.roots());
                }
            }
        }
        newest
    }
}

pub(crate) async fn load<K: Disk>(
    disk: &K,
    superblock: &Superblock,
    area: &LogArea,
    findings: &Findings,
) -> Log {
    let scan = Scan { disk, area, log_tag: superblock.log_tag(), findings };
    let seen = scan.batches().await;
    let mut log = Log {
        node: area.node.get(),
        shard: area.shard.get(),
        epoch: area.epoch.get(),
        chain: Vec::new(),
        end: 0,
        ceiling: seen.values().map(|seen| seen.ceiling).max().unwrap_or(0),
    };
    let acked = seen.values().map(|seen| seen.acked).max();
    // Every epoch but that of format begins with a batch that is durable before the log counts.
    let acked = acked.unwrap_or(u64::from(area.epoch.get() > EPOCH_OF_FORMAT));
    let mut position = seen.values().map(|seen| seen.tail).max().unwrap_or(0);
    let mut seq = 0;
    loop {
        let Some(at) = seen.get(&position) else {
            if position >= acked {
                break;
            }
            let detail = format!("the batch at position {position} was acknowledged and is gone");
            findings.note("log", log.object(Some(scan.place(position))), detail);
            let behind = seen.range((Bound::Excluded(position), Bound::Excluded(acked))).next();
            let Some((next, _)) = behind else { break };
            position = *next;
            continue;
        };
        let place = scan.place(position);
        if at.acked > position || at.tail > position || at.seq < seq || at.seq > at.ceiling {
            findings.note("log", log.object(Some(place)), "has marks that contradict its place");
        }
        seq = at.seq;
        match media::read_all(disk, Run::new(place, at.blocks)).await {
            Ok(bytes) => log.chain.push(Link { position, bytes }),
            Err(error) => findings.note("log", log.object(Some(place)), error),
        }
        position = position.saturating_add(at.blocks);
    }
    log.end = position;
    check_records(&log, &scan);
    log
}

/// Records are checked once, here; later walks only take what is sound.
fn check_records<K: Disk>(log: &Log, scan: &Scan<'_, K>) {
    for link in &log.chain {
        let Some(batch) = link.batch(scan.log_tag) else { continue };
        for record in batch.records() {
            let damage = match record {
                Ok(Record::Edits(record)) => record.sections().find_map(Result::err),
                Ok(Record::Trim(_)) => None,
                Err(damage) => Some(damage),
            };
            if let Some(damage) = damage {
                let object = log.object(Some(scan.place(link.position)));
                scan.findings.note("log", object, format!("a record is unsound: {damage}"));
            }
        }
    }
}

struct Scan<'a, K> {
    disk: &'a K,
    area: &'a LogArea,
    log_tag: u64,
    findings: &'a Findings,
}

impl<K: Disk> Scan<'_, K> {
    fn place(&self, position: u64) -> BlockNo {
        self.area.run().start.after(position % self.area.blocks.get())
    }

    /// The valid batches of the area's epoch, by position.
    async fn batches(&self) -> BTreeMap<u64, Seen> {
        let blocks = self.area.blocks.get();
        let mut seen = BTreeMap::new();
        let mut chunk = (0, Vec::new());
        let mut slot = 0;
        while slot < blocks {
            if slot >= chunk.0 + (chunk.1.len() / BLOCK_BYTES) as u64 || chunk.1.is_empty() {
                chunk = (slot, self.chunk(slot, SCAN_BLOCKS.min(blocks - slot)).await);
            }
            let from = (slot - chunk.0) as usize * BLOCK_BYTES;
            slot += match self.batch_at(slot, &chunk.1[from..]).await {
                Some((position, batch)) => {
                    seen.insert(position, batch);
                    batch.blocks
                }
                None => 1,
            };
        }
        seen
    }

    /// Part of the area; what cannot be read is zeros, which are no batch.
    async fn chunk(&self, slot: u64, blocks: u64) -> Vec<u8> {
        let start = self.area.run().start.after(slot);
        if let Ok(bytes) = media::read_all(self.disk, Run::new(start, blocks)).await {
            return bytes;
        }
        let mut bytes = Vec::new();
        for block in (0..blocks).map(|n| start.after(n)) {
            match media::read(self.disk, Run::new(block, 1)).await {
                Ok(read) => bytes.extend_from_slice(&read),
                Err(error) => {
                    let (node, shard) = (self.area.node.get(), self.area.shard.get());
                    let object = Object::Log { node, shard, place: Some(block) };
                    self.findings.note("log", object, error);
                    bytes.resize(bytes.len() + BLOCK_BYTES, 0);
                }
            }
        }
        bytes
    }

    async fn batch_at(&self, slot: u64, bytes: &[u8]) -> Option<(u64, Seen)> {
        let header = Batch::header_of(bytes)?;
        let blocks = u64::from(header.blocks.get());
        if !self.belongs(header, slot) || blocks > self.area.blocks.get() - slot {
            return None;
        }
        let longer;
        let bytes = if bytes.len() as u64 >= blocks * BLOCK_BYTES as u64 {
            bytes
        } else {
            let run = Run::new(self.area.run().start.after(slot), blocks);
            longer = media::read_all(self.disk, run).await.ok()?;
            &longer
        };
        let batch = Batch::parse(bytes, self.log_tag).ok()?;
        let header = batch.header();
        let seen = Seen {
            blocks,
            acked: header.acked.get(),
            tail: header.tail.get(),
            ceiling: header.ceiling.get(),
            seq: header.seq.get(),
        };
        Some((header.position.get(), seen))
    }

    fn belongs(&self, header: &BatchHeader, slot: u64) -> bool {
        header.log_tag.get() == self.log_tag
            && header.node == self.area.node
            && header.shard == self.area.shard
            && header.epoch == self.area.epoch
            && header.position.get() % self.area.blocks.get() == slot
    }
}
