//! What an open would begin with: each tablet's newest root, and the changes in the logs that are
//! not in its trees yet.
//!
//! A root may be in one of its two blocks or only in the log, in a record; the newest generation
//! counts. A trim of the log was allowed because root blocks of certain generations were on the
//! device, so a root that is older than what a trim names was lost. Which changes count is the
//! root's to say: those of the log it names, from its replay position on, and all those of later
//! epochs.

use crate::log::Log;
use crate::media;
use crate::report::{Findings, Object};
use cairn_base::door::Disk;
use cairn_base::{BLOCK_BYTES, BlockNo, DeviceId, Run};
use cairn_format::record::{EditKind, Record, Section};
use cairn_format::superblock::{ROOTS_START, Superblock};
use cairn_format::tablet_root::{Replay, RootBody, TabletRootBlock, Totals};
use cairn_format::{Damage, Key, TabletId};
use std::collections::BTreeMap;

/// A change that the logs hold: a value, or none for a deletion.
#[derive(Clone, Debug)]
pub(crate) struct Change {
    pub value: Option<Box<[u8]>>,
    /// The first change of this key said that no tree holds it.
    pub fresh: bool,
}

pub(crate) type Memtable = BTreeMap<Key, Change>;

pub(crate) struct TabletState {
    pub id: TabletId,
    /// None when no root could be found.
    pub root: Option<Box<RootBody>>,
    pub totals: Totals,
    pub memtable: Memtable,
}

/// What stands in one of a tablet's two root blocks.
enum Slot {
    Empty,
    Root(Box<RootBody>),
    Damaged(Damage),
}

pub(crate) async fn replay<K: Disk>(
    disk: &K,
    superblock: &Superblock,
    logs: &[Log],
    findings: &Findings,
) -> Vec<TabletState> {
    let tablets = superblock.tablets.get();
    let slots = read_slots(disk, superblock, findings).await;
    let mut states: Vec<TabletState> = Vec::with_capacity(usize::from(tablets));
    let in_logs = roots_in_logs(superblock, logs);
    for (id, pair) in (0..tablets).map(TabletId).zip(slots.chunks_exact(2)) {
        let records = in_logs.get(&id).map_or(&[][..], Vec::as_slice);
        states.push(choose_root(superblock, id, pair, records, findings));
    }
    for log in logs {
        check_trims(superblock, log, &states, findings);
        apply(superblock, log, &mut states, findings);
    }
    check_replays(logs, &states, findings);
    states
}

fn slot_block(tablet: TabletId, slot: u64) -> BlockNo {
    BlockNo::new(DeviceId(0), ROOTS_START + 2 * u64::from(tablet.0) + slot)
}

async fn read_slots<K: Disk>(disk: &K, superblock: &Superblock, findings: &Findings) -> Vec<Slot> {
    let count = 2 * u64::from(superblock.tablets.get());
    let all = Run::new(BlockNo::new(DeviceId(0), ROOTS_START), count);
    // Where one block among them is bad, each is read by itself below.
    let bytes = media::read_all(disk, all).await.ok();
    let mut slots = Vec::with_capacity(count as usize);
    for index in 0..count {
        let (tablet, slot) = (TabletId((index / 2) as u16), index % 2);
        let at = index as usize * BLOCK_BYTES;
        let parse = |block: &[u8]| match TabletRootBlock::parse(block, &superblock.fsid, tablet) {
            Ok(body) if body.generation.get() & 1 != slot => {
                Slot::Damaged(Damage::Stale { found: body.generation.get() })
            }
            Ok(body) => Slot::Root(Box::new(*body)),
            Err(_) if block.iter().all(|byte| *byte == 0) => Slot::Empty,
            Err(damage) => Slot::Damaged(damage),
        };
        if let Some(block) = bytes.as_ref().and_then(|bytes| bytes.get(at..at + BLOCK_BYTES)) {
            slots.push(parse(block));
            continue;
        }
        let block = slot_block(tablet, slot);
        slots.push(match media::read(disk, Run::new(block, 1)).await {
            Ok(bytes) => parse(&bytes),
            Err(error) => {
                findings.note("root", Object::Root(tablet, block), error);
                Slot::Empty
            }
        });
    }
    slots
}

fn sections<'a>(
    superblock: &Superblock,
    log: &'a Log,
) -> impl Iterator<Item = (u64, Section<'a>)> + 'a {
    let log_tag = superblock.log_tag();
    log.chain.iter().flat_map(move |link| {
        let records = link.records(log_tag).filter_map(|record| match record {
            Record::Edits(record) => Some(record),
            Record::Trim(_) => None,
        });
        let sections = records.flat_map(|record| record.sections().map_while(Result::ok));
        sections.map(move |section| (link.position, section))
    })
}

/// The roots that are in records, by tablet.
fn roots_in_logs(superblock: &Superblock, logs: &[Log]) -> BTreeMap<TabletId, Vec<RootBody>> {
    let mut roots: BTreeMap<TabletId, Vec<RootBody>> = BTreeMap::new();
    for log in logs {
        for (_, section) in sections(superblock, log) {
            if let Some(root) = section.root {
                roots.entry(section.tablet).or_default().push(*root);
            }
        }
    }
    roots
}

fn choose_root(
    superblock: &Superblock,
    id: TabletId,
    pair: &[Slot],
    records: &[RootBody],
    findings: &Findings,
) -> TabletState {
    let mut newest: Option<Box<RootBody>> = None;
    let mut consider = |body: &RootBody| {
        if newest.as_ref().is_none_or(|newest| body.generation.get() > newest.generation.get()) {
            newest = Some(Box::new(*body));
        }
    };
    for (slot, found) in (0..).zip(pair) {
        match found {
            Slot::Empty => {}
            Slot::Root(body) => consider(body),
            Slot::Damaged(damage) => {
                // A root block is written while its record is still in the log: power may have
                // interrupted that. An open since has put a newer record in the place of that one,
                // of a later epoch than the block that is left.
                let left = pair.iter().find_map(|slot| match slot {
                    Slot::Root(body) => Some(body.epoch.get()),
                    Slot::Empty | Slot::Damaged(_) => None,
                });
                let interrupted = records
                    .iter()
                    .any(|body| body.generation.get() & 1 == slot || Some(body.epoch.get()) > left);
                if !interrupted {
                    let block = slot_block(id, slot);
                    findings.note("root", Object::Root(id, block), damage);
                }
            }
        }
    }
    records.iter().for_each(consider);
    check_copies(id, pair, records, findings);
    if newest.is_none() {
        findings.note("root", Object::Tablet(id), "has no root");
    }
    if let Some(body) = &newest
        && body.epoch.get() > superblock.epoch.get()
    {
        let block = slot_block(id, body.generation.get() & 1);
        let detail = format!("is of epoch {}, the pool's is {}", body.epoch, superblock.epoch);
        findings.note("root", Object::Root(id, block), detail);
    }
    let totals = newest.as_ref().map_or(Totals::ZERO, |body| body.totals);
    TabletState { id, root: newest, totals, memtable: Memtable::new() }
}

/// A root block is a copy of the record of its generation.
fn check_copies(id: TabletId, pair: &[Slot], records: &[RootBody], findings: &Findings) {
    for (slot, found) in (0..).zip(pair) {
        let Slot::Root(body) = found else { continue };
        let record = records.iter().find(|record| record.generation == body.generation);
        if record.is_some_and(|record| *record != **body) {
            let object = Object::Root(id, slot_block(id, slot));
            let detail = format!("differs from its record of generation {}", body.generation);
            findings.note("root", object, detail);
        }
    }
}

/// A root block that was on its device when the log was trimmed must be there still.
fn check_trims(superblock: &Superblock, log: &Log, states: &[TabletState], findings: &Findings) {
    for (id, generation) in log.trims(superblock.log_tag()) {
        let Some(state) = states.get(usize::from(id.0)) else {
            let detail = format!("a trim names tablet {id}, which does not exist");
            findings.note("log", log.object(None), detail);
            continue;
        };
        let found = state.root.as_ref().map_or(0, |body| body.generation.get());
        if found < generation.0 {
            let block = slot_block(id, generation.0 & 1);
            let detail = format!(
                "its generation {generation} was lost: the log was trimmed behind it, and the \
                 newest found is {found}"
            );
            findings.note("root", Object::Root(id, block), detail);
        }
    }
}

fn replay_of(state: &TabletState) -> Replay {
    state.root.as_ref().map_or(Replay::ZERO, |body| body.replay)
}

/// From which position on a log's records count for a tablet.
fn applies_from(log: &Log, replay: &Replay) -> Option<u64> {
    let epoch = replay.epoch.get();
    let is_named = replay.node.get() == log.node && replay.shard.get() == log.shard;
    match log.epoch.cmp(&epoch) {
        std::cmp::Ordering::Less => None,
        std::cmp::Ordering::Equal => is_named.then(|| replay.position.get()),
        std::cmp::Ordering::Greater => Some(0),
    }
}

fn apply(superblock: &Superblock, log: &Log, states: &mut [TabletState], findings: &Findings) {
    let mut strays = BTreeMap::new();
    for (position, section) in sections(superblock, log) {
        let Some(state) = states.get_mut(usize::from(section.tablet.0)) else {
            strays.insert(section.tablet, "does not exist");
            continue;
        };
        if let Some(root) = section.root
            && root.totals != section.totals
        {
            findings.note("root", Object::Tablet(section.tablet), "its record has other totals");
        }
        let replay = replay_of(state);
        let Some(from) = applies_from(log, &replay) else {
            if replay.epoch.get() == log.epoch {
                strays.insert(section.tablet, "is replayed from another log of that epoch");
            }
            continue;
        };
        state.totals = section.totals;
        if position < from {
            continue;
        }
        for edit in section.edits().map_while(Result::ok) {
            let value = match edit.kind {
                EditKind::Put | EditKind::PutNew => Some(edit.value.into()),
                EditKind::Delete => None,
            };
            let is_new = edit.kind == EditKind::PutNew;
            let change = state.memtable.entry(edit.key);
            change.or_insert(Change { value: None, fresh: is_new }).value = value;
        }
    }
    for (tablet, what) in strays {
        let detail = format!("has records of tablet {tablet}, which {what}");
        findings.note("log", log.object(None), detail);
    }
}

/// A root's replay position lies in a log that exists, and not behind its end.
fn check_replays(logs: &[Log], states: &[TabletState], findings: &Findings) {
    let Some(newest) = logs.iter().map(|log| log.epoch).max() else { return };
    for state in states {
        let Some(body) = &state.root else { continue };
        let replay = body.replay;
        let named = logs.iter().find(|log| {
            (log.epoch, log.node, log.shard)
                == (replay.epoch.get(), replay.node.get(), replay.shard.get())
        });
        let block = slot_block(state.id, body.generation.get() & 1);
        let object = || Object::Root(state.id, block);
        match named {
            Some(log) if replay.position.get() > log.end => {
                let detail = format!(
                    "is replayed from position {}, the log ends at {}",
                    replay.position, log.end
                );
                findings.note("root", object(), detail);
            }
            Some(_) => {}
            None if replay.epoch.get() == newest => {
                findings.note("root", object(), "is replayed from a log that does not exist");
            }
            None => {}
        }
    }
}
