//! What a blow does to the devices (`fault.rs` says when it falls): the damage that none of them reports.

use crate::fault::{Blow, Lasting, overlap};
use crate::media::Media;
use cairn_base::{BLOCK_BYTES, BlockNo, Run};

impl Media {
    /// What the blow does, and where the write lands, if anywhere.
    pub(crate) fn strike(&mut self, run: Run, blow: Option<(Blow, Vec<Run>)>) -> Option<BlockNo> {
        let Some((blow, spared)) = blow else { return Some(run.start) };
        match blow {
            Blow::Lost => {
                self.faults.note_hit(run);
                return None;
            }
            Blow::Misdirected { by } => {
                self.faults.note_hit(run);
                let device = run.start.device();
                let room = self.device_blocks(device) - run.blocks + 1;
                let there =
                    Run::new(BlockNo::new(device, (run.start.index() + by) % room), run.blocks);
                if spared.iter().any(|spared| overlap(*spared, there)) {
                    return None;
                }
                self.faults.note_hit(there);
                return Some(there.start);
            }
            Blow::Rot { pick, bit } => {
                if let Some(block) = self.victim(pick, &spared) {
                    self.rot(block, bit as usize % (8 * BLOCK_BYTES));
                    self.faults.note_hit(Run::new(block, 1));
                }
            }
            Blow::Unreadable { pick } => {
                if let Some(block) = self.victim(pick, &spared) {
                    self.faults.fail_reads_of(block, Lasting::UntilWritten);
                    self.faults.note_hit(Run::new(block, 1));
                }
            }
        }
        Some(run.start)
    }

    /// One of the blocks that hold anything, and are not spared.
    fn victim(&self, pick: u64, spared: &[Run]) -> Option<BlockNo> {
        let recent = self.faults.recent();
        let mut all =
            if pick.is_multiple_of(2) && !recent.is_empty() { recent } else { self.written() };
        all.retain(|block| !spared.iter().any(|spared| overlap(*spared, Run::new(*block, 1))));
        let at = (pick / 2).checked_rem(all.len() as u64)?;
        Some(all[at as usize])
    }
}
