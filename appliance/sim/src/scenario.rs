//! One seed, from blank devices to the last comparison.
//!
//! A scenario is a handful of rounds on one pool. In each, several clients send requests, a few at a
//! time, until the power is cut at a device command drawn from the seed, or until the round's
//! requests are spent. Then the machine boots again, with another number of shards, perhaps with the
//! wall clock moved, perhaps cut again while it recovers. The tree that it shows must be one that the
//! history allows (`model/history.rs`), and the checks of `check/` must find nothing.
//!
//! `Scenario` is plain data: what a seed says, and what shrinking makes smaller. `run` is a pure
//! function of it.

use crate::fault::{Blow, Lasting};
use crate::media::SECTOR_BYTES;
use crate::run::Run;
use crate::world::WorldConfig;
use cairn_base::BLOCK_BYTES;
use cairn_base::prng::Prng;
use cairn_engine::counters::CounterValues;
use std::cell::RefCell;
use std::collections::VecDeque;
use std::mem::ManuallyDrop;
use std::rc::Rc;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Scenario {
    pub seed: u64,
    pub world: WorldConfig,
    pub shards_max: usize,
    pub clients: usize,
    /// The clients keep rewriting a few files.
    pub churn: bool,
    pub rounds: usize,
    /// Requests of each round, unless the power goes earlier.
    pub requests: u32,
    /// Clients ask over NFS, on a network that repeats and breaks, instead of the engine itself.
    pub over_nfs: bool,
    /// In each round a device grows and the pool takes it up, while clients are at work.
    pub grow: bool,
    /// A device error, in the second round.
    pub fault: Option<Fault>,
    /// What the devices write whole.
    pub sector_bytes: usize,
    /// Damage that no device reports, in the second round.
    pub blow: Option<PlannedBlow>,
    /// A device that is slow for a while, in the first round.
    pub slow: Option<Slow>,
    /// The wall clock is set, forward and back, while clients are at work.
    pub clock_jumps: bool,
    /// Archive agents release and stage files (`archive.rs`).
    pub agents: bool,
    /// Blocks that rot, at the very end.
    pub rot: usize,
}

/// What a device reports, this many of its kind from the beginning of the round.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    FlushFails {
        device: u8,
        after: u64,
        lasting: Lasting,
    },
    WriteFails {
        after: u64,
    },
    /// Every command of it fails, until the machine starts again or for good.
    DeviceGone {
        device: u8,
        after: u64,
        for_good: bool,
    },
}

/// A blow that falls with one of the writes of a round; the logs, roots and superblocks may be spared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PlannedBlow {
    pub blow: Blow,
    pub after: u64,
    pub times: u64,
    pub trees_only: bool,
}

/// So many commands of a device take a thousand times as long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Slow {
    pub device: u8,
    pub after: u64,
    pub commands: u64,
}

/// What a run that found nothing did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Report {
    pub digest: u64,
    pub requests: u64,
    pub cuts: u64,
    pub cuts_in_recovery: u64,
    pub commands: u64,
    pub checked_reads: u64,
    pub faults: u64,
    /// Blows that fell, in how many runs damage was met, and pools that were refused for either.
    pub blows: u64,
    pub damage_met: u64,
    pub refused: u64,
    /// What the engine counted, over all boots.
    pub counters: CounterValues,
}

impl Scenario {
    /// One client, no faults and no requests of its own: for scripts.
    pub fn quiet(seed: u64, world: WorldConfig, shards_max: usize) -> Scenario {
        Scenario {
            seed,
            world,
            shards_max,
            clients: 1,
            churn: false,
            rounds: 1,
            requests: 0,
            over_nfs: false,
            grow: false,
            fault: None,
            sector_bytes: SECTOR_BYTES,
            blow: None,
            slow: None,
            clock_jumps: false,
            agents: false,
            rot: 0,
        }
    }

    pub fn from_seed(seed: u64) -> Scenario {
        let mut prng = Prng::new(seed ^ 0x7363_656e);
        let device_blocks = match prng.percent(60) {
            true => vec![DEVICE_BLOCKS],
            false => vec![DEVICE_BLOCKS, DEVICE_BLOCKS],
        };
        let world = WorldConfig {
            tablets: [2, 3, 5, 8, 16][prng.below(5) as usize],
            device_blocks,
            fua: prng.percent(60),
            memtable_bytes: [64 << 10, 128 << 10, 512 << 10][prng.below(3) as usize],
            log_blocks: [1024, 1500][prng.below(2) as usize],
        };
        let device = prng.below(world.device_blocks.len() as u64) as u8;
        let after = prng.below(60);
        let fault = match prng.below(10) {
            0 => Some(Fault::FlushFails { device, after, lasting: Lasting::Once }),
            1 => Some(Fault::FlushFails { device, after, lasting: Lasting::Forever }),
            2 => Some(Fault::WriteFails { after }),
            _ => None,
        };
        let mut scenario = Scenario {
            seed,
            world,
            shards_max: 1 + prng.below(3) as usize,
            clients: 1 + prng.below(4) as usize,
            churn: false,
            rounds: 1 + (1 << prng.below(4)) + prng.below(3) as usize,
            requests: 20 + prng.below(180) as u32,
            // Drawn apart, so that the other seeds stay what they were.
            grow: Prng::new(seed ^ 0x6772_6f77).percent(15),
            over_nfs: Prng::new(seed ^ 0x6f76_6e66).percent(35),
            fault,
            sector_bytes: SECTOR_BYTES,
            blow: None,
            slow: None,
            clock_jumps: false,
            agents: false,
            rot: if prng.percent(30) { 1 + prng.below(3) as usize } else { 0 },
        };
        if Prng::new(seed ^ 0x736d_616c).percent(20) {
            // So small that its tail has to move all the time.
            scenario.world.log_blocks = 320;
        }
        if prng.percent(8) {
            // Long enough to fill a log and fold in steps: the tail moves up, small memtables are
            // copied to the head, and a cut may fall between two steps.
            scenario.requests = 800 + prng.below(1000) as u32;
            scenario.rounds = 2;
            // With many, some rest while the tail goes on over their last root record.
            scenario.world.tablets = if Prng::new(seed ^ 0x7265_7374).percent(50) { 2 } else { 16 };
            scenario.world.log_blocks = scenario.world.log_blocks.min(1024);
        }
        if Prng::new(seed ^ 0x6d65_7267).percent(10) {
            // So many log trees that they merge, and that merges and folds are under way together.
            scenario.requests = 1200 + prng.below(800) as u32;
            scenario.rounds = 2;
            scenario.world.tablets = 2;
            scenario.world.memtable_bytes = 64 << 10;
        }
        if prng.percent(25) {
            // Freed space is soon wanted again, by somebody else.
            scenario.churn = true;
            scenario.clients = 4;
            scenario.world.tablets = 2;
        }
        scenario.draw_later_faults();
        scenario.draw_agents();
        scenario
    }

    /// Faults that came later: each from numbers of its own, so that a seed without them stays what it
    /// was.
    fn draw_later_faults(&mut self) {
        let seed = self.seed;
        let devices = self.world.device_blocks.len() as u64;
        if Prng::new(seed ^ 0x7365_6374).percent(25) {
            self.sector_bytes = BLOCK_BYTES;
        }
        let mut prng = Prng::new(seed ^ 0x676f_6e65);
        if self.fault.is_none() && prng.percent(8) {
            let (device, after) = (prng.below(devices) as u8, prng.below(300));
            self.fault = Some(Fault::DeviceGone { device, after, for_good: prng.percent(40) });
            self.rounds = self.rounds.max(2);
        }
        let mut prng = Prng::new(seed ^ 0x736c_6f77);
        if prng.percent(10) {
            let (device, after) = (prng.below(devices) as u8, prng.below(200));
            self.slow = Some(Slow { device, after, commands: 1 + prng.below(60) });
        }
        self.clock_jumps = Prng::new(seed ^ 0x6a75_6d70).percent(15);
        let mut prng = Prng::new(seed ^ 0x626c_6f77);
        // One thing at a time, where the other makes it uncertain what was promised.
        if self.fault.is_none() && prng.percent(30) {
            let pick = prng.next_u64();
            let blow = match prng.below(4) {
                0 => Blow::Lost,
                1 => Blow::Misdirected { by: 1 + pick % (1 << (1 + prng.below(15))) },
                2 => Blow::Rot { pick, bit: prng.below(8 * BLOCK_BYTES as u64) },
                _ => Blow::Unreadable { pick },
            };
            let (trees_only, times) = (prng.percent(70), 1 + prng.below(6));
            // Two in a row at a log's end, its last batch and the mark behind it, look like its end.
            let times = if trees_only { times } else { 1 };
            // Most writes are the logs'.
            let writes = u64::from(self.requests) / if trees_only { 8 } else { 2 };
            let after = prng.below(1 + writes);
            self.blow = Some(PlannedBlow { blow, after, times, trees_only });
            self.rounds = self.rounds.max(2);
        }
    }

    /// Where nothing is damaged, and clients ask the engine.
    fn draw_agents(&mut self) {
        let is_sound = self.fault.is_none() && self.blow.is_none() && self.rot == 0;
        let is_drawn = Prng::new(self.seed ^ 0x6172_6368).percent(75);
        self.agents = is_sound && !self.over_nfs && is_drawn;
    }

    /// The error says what was found. Panics of the engine pass through: see `verdict.rs`.
    pub fn run(&self, log: &Log) -> Result<Report, String> {
        // A world that failed may be in any state: its destructors are not part of the experiment,
        // and while a panic unwinds they could only end the process.
        let mut run = ManuallyDrop::new(Run::new(self, log));
        let report = run.all_rounds()?;
        drop(ManuallyDrop::into_inner(run));
        Ok(report)
    }
}

/// 256 MiB a device: the logs, and two zones for every tablet with some to spare.
pub const DEVICE_BLOCKS: u64 = 64 << 10;

/// The story of a run, kept for whoever looks at a failure.
#[derive(Clone, Default)]
pub struct Log {
    lines: Rc<RefCell<VecDeque<String>>>,
    lines_max: usize,
}

impl Log {
    pub fn last(lines_max: usize) -> Log {
        Log { lines: Rc::default(), lines_max }
    }

    pub fn take(&self) -> Vec<String> {
        self.lines.take().into()
    }

    pub(crate) fn say(&self, line: impl FnOnce() -> String) {
        if self.lines_max == 0 {
            return;
        }
        let mut lines = self.lines.borrow_mut();
        if lines.len() == self.lines_max {
            lines.pop_front();
        }
        lines.push_back(line());
    }
}
