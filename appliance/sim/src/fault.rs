//! Faults that a scenario plants in the devices, beyond losing power.
//!
//! Torn writes and lost subsets need no planting: `media.rs` deals them out at every power cut. Here
//! are the errors a device reports (and one it does not: a flush that lies, which is a planted bug
//! and never part of an honest run).

use cairn_base::{BlockNo, DeviceId, Run};
use std::collections::BTreeMap;

const EIO: i32 = 5;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lasting {
    Once,
    Forever,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FlushOutcome {
    Works,
    Fails(i32),
    /// Reports success and stores nothing.
    Lies,
}

#[derive(Clone, Debug, Default)]
pub struct Faults {
    bad_reads: BTreeMap<BlockNo, Lasting>,
    /// Counts down over completed writes; the one that finds it at 0 fails.
    write_fails_in: Option<u64>,
    flush_fails: BTreeMap<DeviceId, FlushFault>,
    flushes_lie: bool,
    injected_count: u64,
}

#[derive(Clone, Copy, Debug)]
struct FlushFault {
    after: u64,
    lasting: Lasting,
}

impl Faults {
    /// Reads of `block` fail.
    pub fn fail_reads_of(&mut self, block: BlockNo, lasting: Lasting) {
        self.bad_reads.insert(block, lasting);
    }

    /// One write fails, after `after` more that do not.
    pub fn fail_write(&mut self, after: u64) {
        self.write_fails_in = Some(after);
    }

    /// Flushes of `device` fail, after `after` more that do not.
    pub fn fail_flush(&mut self, device: DeviceId, after: u64, lasting: Lasting) {
        self.flush_fails.insert(device, FlushFault { after, lasting });
    }

    /// From now on no flush stores anything, and every one claims it did.
    pub fn let_flushes_lie(&mut self) {
        self.flushes_lie = true;
    }

    /// How many commands were failed: a scenario without any tested nothing.
    pub fn injected_count(&self) -> u64 {
        self.injected_count
    }

    pub(crate) fn read_error(&mut self, run: Run) -> Option<i32> {
        let (&block, &lasting) = self.bad_reads.range(run.start..run.end()).next()?;
        if lasting == Lasting::Once {
            self.bad_reads.remove(&block);
        }
        self.injected_count += 1;
        Some(EIO)
    }

    pub(crate) fn write_error(&mut self) -> Option<i32> {
        match self.write_fails_in? {
            0 => self.write_fails_in = None,
            left => {
                self.write_fails_in = Some(left - 1);
                return None;
            }
        }
        self.injected_count += 1;
        Some(EIO)
    }

    pub(crate) fn flush(&mut self, device: DeviceId) -> FlushOutcome {
        if self.flushes_lie {
            return FlushOutcome::Lies;
        }
        let Some(fault) = self.flush_fails.get_mut(&device) else { return FlushOutcome::Works };
        if fault.after > 0 {
            fault.after -= 1;
            return FlushOutcome::Works;
        }
        if fault.lasting == Lasting::Once {
            self.flush_fails.remove(&device);
        }
        self.injected_count += 1;
        FlushOutcome::Fails(EIO)
    }
}
