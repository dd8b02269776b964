//! A pool with damage that no device reported: what a run may meet of it, and what it must not.
//!
//! The blow falls while clients are at work (`fault.rs`), and nobody knows of it until somebody reads
//! what it hit. From then on: an answer is right, or it is an error that names a block which was hit.
//! No shard stops for it, every request is answered, and what was not hit goes on. Once damage was
//! met, no new requests come from the workload: each of those under way may have been carried out or
//! not, and data that was buffered may be lost, as after a crash, which is how the rest is judged
//! (`History::settle_crash`). Then new directories, which lie in all tablets, are made and files
//! written in them; and after a restart everything is compared once more.
//!
//! What was hit may also be the pool's own: a log, a root, a superblock. Then the pool may be refused
//! at the next start, and never opens with something older or less than what was promised.

use crate::machine::Stepped;
use crate::media::Media;
use crate::model::act::{Act, NodeId, Payload, Place, RequestId, Sync};
use crate::model::reading::Answer;
use crate::model::seen::Seen;
use crate::run::{Run, Stop};
use cairn_base::door::MediaError;
use cairn_base::{BLOCK_BYTES, BlockNo, DeviceId, Nanos, Run as BlockRun};
use cairn_engine::attr::FileKind;
use cairn_engine::error::FsError;
use cairn_format::node::NODE_BLOCKS;
use cairn_format::superblock::{
    ROOTS_START, SUPERBLOCK_A, SUPERBLOCK_B, SUPERBLOCK_BYTES, Superblock,
};

/// Directories that are made in a pool with damage, and the most answers with damage to that.
const PROBES: u32 = 12;
const PROBES_HIT_MAX: usize = 4;

impl Run<'_> {
    pub(crate) fn plant_blow(&mut self) {
        let Some(planned) = self.scenario.blow else { return };
        let mut media = self.world.media.borrow_mut();
        let spared = if planned.trees_only { vital(&media) } else { Vec::new() };
        media.faults.strike(planned.after, planned.times, planned.blow, spared);
    }

    /// An error that names damage must name what was hit.
    pub(crate) fn explain_damage(&self, error: FsError) -> Result<(), String> {
        if matches!(error, FsError::Media { .. }) && self.faults_fired() > 0 {
            return Ok(());
        }
        let block = match error {
            FsError::Corrupt { block, .. } => block,
            FsError::Media { block, error: MediaError::Read(_) } => block,
            error => return Err(format!("{error}, which no damage explains")),
        };
        let media = self.world.media.borrow();
        let hit = media.faults.hit();
        if error == crate::nfs::IO_ERROR && !hit.is_empty() {
            return Ok(());
        }
        // A node, a filter, or data that is read together.
        let is_hit = hit.range(block..block.after(NODE_BLOCKS)).next().is_some()
            || matches!(error, FsError::Media { .. })
                && hit.range(block..block.after(READ_BLOCKS_MAX)).next().is_some();
        match is_hit {
            true => Ok(()),
            false => Err(format!("{error}, and nothing was hit there ({hit:?})")),
        }
    }

    pub(crate) fn explain_all_damage(&self, seen: &Seen) -> Result<(), String> {
        for (ino, errors) in &seen.damaged {
            for error in errors {
                let explained = self.explain_damage(*error);
                explained.map_err(|what| format!("inode {ino} cannot be read: {what}"))?;
            }
        }
        Ok(())
    }

    /// A pool may be refused for damage of its own blocks, or because a device is gone for good.
    pub(crate) fn explain_refusal(&self, what: &str) -> Result<(), String> {
        self.log.say(|| format!("the pool is refused: {what}"));
        let media = self.world.media.borrow();
        if let Some(device) = media.faults.gone_for_good() {
            return match what.contains(&format!("device {}", device.0)) {
                true => Ok(()),
                false => Err(format!("device {} is gone, and the pool says: {what}", device.0)),
            };
        }
        let vital = vital(&media);
        let is_hit =
            |run: &BlockRun| media.faults.hit().range(run.start..run.end()).next().is_some();
        match vital.iter().any(is_hit) {
            true => Ok(()),
            false => Err(format!("the pool is refused: {what}")),
        }
    }

    /// Somebody met damage.
    pub(crate) fn after_damage(&mut self) -> Result<(), Stop> {
        self.log.say(|| "damage was met".into());
        self.report.damage_met = 1;
        self.drain()?;
        let seen = self.read_back()?;
        let judged = self.history.clone().settle_crash(&seen);
        judged.map_err(|what| Stop::Wrong(format!("beside damage: {what}")))?;
        self.probe()?;
        self.let_marks_come()
    }

    /// Long enough for the logs to carry their last mark: what is missing of what was acknowledged shows.
    pub(crate) fn let_marks_come(&mut self) -> Result<(), Stop> {
        Ok(self.world.machine().idle(Nanos::from_secs(2))?)
    }

    /// Everybody is answered; a request that met damage stays one that may have been carried out.
    fn drain(&mut self) -> Result<usize, Stop> {
        let mut hit = 0;
        self.last_answer = self.world.clock.now();
        while self.idle.len() < self.scenario.clients {
            while let Some((id, client, answer)) = self.pop_answer() {
                self.idle.push(client);
                self.last_answer = self.world.clock.now();
                match answer {
                    Answer::Refused(error) if error.is_trouble() => {
                        hit += 1;
                        let explained = self.explain_damage(error);
                        explained.map_err(|what| Stop::Wrong(format!("{id:?}: {what}")))?;
                    }
                    // Buffered data may be lost, and that is told by the write verifier.
                    answer if self.proves_nothing(id, &answer) => {}
                    answer => self.history.answer(id, &answer).map_err(Stop::Wrong)?,
                }
            }
            let stepped = self.world.machine().step()?;
            let late = self.world.clock.now() > self.last_answer + self.world.patience();
            if self.idle.len() < self.scenario.clients && (stepped == Stepped::Nowhere || late) {
                return Err(Stop::Wrong("a request is never answered beside damage".into()));
            }
        }
        Ok(hit)
    }

    /// Directories all over the pool, with a file in each.
    fn probe(&mut self) -> Result<(), Stop> {
        let mut hit = 0;
        for nth in 0..PROBES {
            let dir = RequestId(self.next_id).node();
            let at = |dir, name: &str| Place { dir, name: name.as_bytes().into() };
            let make = |at, kind| Act::Make { at, kind, mode: 0o700 };
            let name = format!("probe {nth}");
            hit += self.ask_alone(make(at(NodeId::ROOT, &name), FileKind::Directory))?;
            if self.history.inode(dir).is_some() {
                let file = RequestId(self.next_id).node();
                hit += self.ask_alone(make(at(dir, "file"), FileKind::Regular))?;
                if self.history.inode(file).is_some() {
                    let data = Payload { tag: self.next_id, offset: 0, len: 3000 << (nth % 6) };
                    hit += self.ask_alone(Act::Write { node: file, data, sync: Sync::File })?;
                }
            }
            if hit > PROBES_HIT_MAX {
                break;
            }
        }
        Ok(())
    }

    /// How many answers were damage: none or one.
    fn ask_alone(&mut self, act: Act) -> Result<usize, Stop> {
        let client = self.idle.pop().expect("everybody was answered");
        self.send(client, act);
        self.drain()
    }
}

/// Blocks of one read of data at most.
const READ_BLOCKS_MAX: u64 = 256;

/// Where superblocks, roots and logs lie: what a pool cannot be opened without.
pub(crate) fn vital(media: &Media) -> Vec<BlockRun> {
    let mut all = Vec::new();
    let blocks = (SUPERBLOCK_BYTES / BLOCK_BYTES) as u64;
    for index in 0..media.device_count() {
        for slot in [SUPERBLOCK_A, SUPERBLOCK_B] {
            all.push(BlockRun::new(BlockNo::new(DeviceId(index as u8), slot), blocks));
        }
    }
    let copies = [SUPERBLOCK_A, SUPERBLOCK_B].map(|slot| copy(media, slot, blocks));
    for bytes in &copies {
        // Of both, since a log that one of them does not have yet is no less one.
        let Ok(superblock) = Superblock::parse(bytes) else { continue };
        let roots = BlockNo::new(DeviceId(0), ROOTS_START);
        all.push(BlockRun::new(roots, 2 * u64::from(superblock.tablets.get())));
        all.extend(superblock.log_table().iter().map(|area| area.run()));
    }
    all
}

fn copy(media: &Media, slot: u64, blocks: u64) -> Vec<u8> {
    let block = |nth| media.peek(BlockNo::new(DeviceId(0), slot + nth));
    let bytes = |nth| block(nth).map_or_else(|| vec![0; BLOCK_BYTES], |block| block.to_vec());
    (0..blocks).flat_map(bytes).collect()
}
