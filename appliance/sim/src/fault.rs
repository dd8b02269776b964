//! Faults that a scenario plants in the devices, beyond losing power.
//!
//! Torn writes and lost subsets need no planting: `media.rs` deals them out at every power cut. Here
//! are, first, what a device reports: failing reads, writes and flushes, a device that is gone. Then
//! what it does not report (`Blow`): a write that was acknowledged and never done, one that landed
//! elsewhere, a bit that rots, a block that cannot be read any more. One of those falls at the n-th
//! write, and `hit` says which blocks it may have hit, so that whoever meets damage can be asked
//! whether that was it. A device that takes a thousand times as long is here too; it reports nothing,
//! and nothing is wrong.
//!
//! A flush that lies is a planted bug and never part of an honest run.

use cairn_base::door::MediaError;
use cairn_base::{BlockNo, DeviceId, Run};
use std::collections::{BTreeMap, BTreeSet, VecDeque};

const EIO: i32 = 5;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lasting {
    Once,
    /// Until the block is written again, or discarded.
    UntilWritten,
    Forever,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FlushOutcome {
    Works,
    Fails(i32),
    /// Reports success and stores nothing.
    Lies,
}

/// Damage that no device reports when it happens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Blow {
    /// The write is acknowledged and not done.
    Lost,
    /// It is acknowledged and done so many blocks further on, from the device's beginning again where
    /// it ends.
    Misdirected { by: u64 },
    /// A bit of a block that holds anything is another one from now on: of one that was written lately
    /// where `pick` is even, else of any.
    Rot { pick: u64, bit: u64 },
    /// Such a block cannot be read until it is written again.
    Unreadable { pick: u64 },
}

#[derive(Clone, Debug, Default)]
pub struct Faults {
    bad_reads: BTreeMap<BlockNo, Lasting>,
    /// Counts down over completed writes; the one that finds it at 0 fails.
    write_fails_in: Option<u64>,
    flush_fails: BTreeMap<DeviceId, FlushFault>,
    flushes_lie: bool,
    injected_count: u64,
    strike: Option<Strike>,
    /// Blocks that a blow may have hit.
    hit: BTreeSet<BlockNo>,
    gone: Option<Gone>,
    slow: Option<Slow>,
}

#[derive(Clone, Copy, Debug)]
struct FlushFault {
    after: u64,
    lasting: Lasting,
}

#[derive(Clone, Debug)]
struct Strike {
    after: u64,
    /// How often it falls yet, each time so many writes after the last.
    times: u64,
    every: u64,
    blow: Blow,
    spared: Vec<Run>,
    /// What was written last.
    recent: VecDeque<BlockNo>,
}

#[derive(Clone, Copy, Debug)]
struct Gone {
    device: DeviceId,
    after: u64,
    for_good: bool,
    was_met: bool,
}

#[derive(Clone, Copy, Debug)]
struct Slow {
    device: DeviceId,
    after: u64,
    commands: u64,
}

/// What was written lately is more likely to be read again than what was written ever.
const RECENT_MAX: usize = 200;

/// How much longer a command of a slow device takes.
pub const SLOWNESS: u64 = 1000;

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

    /// Every command of `device` fails, after `after` more that do not: until the machine starts
    /// again, or `for_good`.
    pub fn lose_device(&mut self, device: DeviceId, after: u64, for_good: bool) {
        self.gone = Some(Gone { device, after, for_good, was_met: false });
    }

    /// So many commands of `device` take `SLOWNESS` times as long, after `after` more that do not.
    pub fn slow_down(&mut self, device: DeviceId, after: u64, commands: u64) {
        self.slow = Some(Slow { device, after, commands });
    }

    /// The blow falls with a write, after `after` more, and again until it has fallen `times` times;
    /// nothing in the runs that are `spared` is hit, and writes there do not count.
    pub fn strike(&mut self, after: u64, times: u64, blow: Blow, spared: Vec<Run>) {
        let recent = VecDeque::new();
        let every = 1 + after / 8;
        self.strike = (times > 0).then_some(Strike { after, times, every, blow, spared, recent });
    }

    /// From now on no flush stores anything, and every one claims it did.
    pub fn let_flushes_lie(&mut self) {
        self.flushes_lie = true;
    }

    /// The machine starts again: what lies in the medium stays, and a device that is gone for good.
    pub fn restart(&mut self) {
        let before = std::mem::take(self);
        let lasts = |(_, lasting): &(BlockNo, Lasting)| *lasting == Lasting::UntilWritten;
        self.bad_reads = before.bad_reads.into_iter().filter(lasts).collect();
        self.hit = before.hit;
        self.gone = before.gone.filter(|gone| gone.for_good && gone.was_met);
    }

    /// How many commands were failed: a scenario without any tested nothing.
    pub fn injected_count(&self) -> u64 {
        self.injected_count
    }

    /// Blocks that a blow has hit, whether or not they were written again since.
    pub fn hit(&self) -> &BTreeSet<BlockNo> {
        &self.hit
    }

    /// The device whose every command fails, also after the next start.
    pub fn gone_for_good(&self) -> Option<DeviceId> {
        self.gone.filter(|gone| gone.for_good && gone.was_met).map(|gone| gone.device)
    }

    /// Is there a blow to fall yet, or has one fallen?
    pub fn may_strike(&self) -> bool {
        self.strike.is_some() || !self.hit.is_empty()
    }

    pub(crate) fn is_slow(&self) -> bool {
        self.slow.is_some()
    }

    /// Counts a command of `device` that ends; does it end because the device is gone?
    pub(crate) fn is_gone(&mut self, device: DeviceId) -> Result<(), MediaError> {
        let Some(gone) = self.gone.as_mut().filter(|gone| gone.device == device) else {
            return Ok(());
        };
        if gone.after > 0 {
            gone.after -= 1;
            return Ok(());
        }
        gone.was_met = true;
        self.injected_count += 1;
        Err(MediaError::Gone)
    }

    /// Counts a command of `device` that begins; how many times longer than usual does it take?
    pub(crate) fn slowness(&mut self, device: DeviceId) -> u64 {
        let Some(slow) = self.slow.as_mut().filter(|slow| slow.device == device) else { return 1 };
        match (slow.after, slow.commands) {
            (0, 0) => return 1,
            (0, _) => slow.commands -= 1,
            _ => {
                slow.after -= 1;
                return 1;
            }
        }
        SLOWNESS
    }

    pub(crate) fn read_error(&mut self, run: Run) -> Option<i32> {
        let (&block, &lasting) = self.bad_reads.range(run.start..run.end()).next()?;
        match lasting {
            Lasting::Once => _ = self.bad_reads.remove(&block),
            // It counts as damage: nothing that was promised is in doubt for it.
            Lasting::UntilWritten => return Some(EIO),
            Lasting::Forever => {}
        }
        self.injected_count += 1;
        Some(EIO)
    }

    /// What was bad there before is written over.
    pub(crate) fn rewritten(&mut self, run: Run) {
        let bad = self.bad_reads.range(run.start..run.end());
        let bad = bad.filter(|(_, lasting)| **lasting == Lasting::UntilWritten);
        for block in bad.map(|(&block, _)| block).collect::<Vec<_>>() {
            self.bad_reads.remove(&block);
        }
    }

    /// The blow that falls with a write to `run`, if any does.
    pub(crate) fn blow(&mut self, run: Run) -> Option<(Blow, Vec<Run>)> {
        let strike = self.strike.as_mut()?;
        if strike.spared.iter().any(|spared| overlap(*spared, run)) {
            return None;
        }
        if strike.recent.len() >= RECENT_MAX {
            strike.recent.pop_front();
        }
        strike.recent.push_back(run.start);
        if strike.after > 0 {
            strike.after -= 1;
            return None;
        }
        let falls = (strike.blow, strike.spared.clone());
        strike.after = strike.every;
        strike.times -= 1;
        // Each time another place.
        match &mut strike.blow {
            Blow::Rot { pick, .. } | Blow::Unreadable { pick } => *pick = pick.rotate_left(9) ^ 1,
            Blow::Lost | Blow::Misdirected { .. } => {}
        }
        Some(falls)
    }

    /// Where something was written lately, but not with this very write.
    pub(crate) fn recent(&self) -> Vec<BlockNo> {
        let recent = self.strike.as_ref().map(|strike| &strike.recent);
        let mut recent: Vec<BlockNo> = recent.into_iter().flatten().copied().collect();
        recent.pop();
        recent
    }

    /// When the blow has fallen as often as it was to.
    pub(crate) fn end_strike(&mut self) {
        if self.strike.as_ref().is_some_and(|strike| strike.times == 0) {
            self.strike = None;
        }
    }

    pub(crate) fn note_hit(&mut self, run: Run) {
        self.hit.extend((0..run.blocks).map(|nth| run.start.after(nth)));
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

pub(crate) fn overlap(a: Run, b: Run) -> bool {
    a.start < b.end() && b.start < a.end()
}
