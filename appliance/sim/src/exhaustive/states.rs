//! The states in which a power cut may leave the devices while a script's last step is under way, each
//! booted and compared.
//!
//! The step runs once. Before and after each write and flush, and when an answer has come, what the devices
//! hold is kept, with what the clients know by then. Each such moment is dealt a cut in several ways: all
//! that was not stored is lost, all of it is kept, or sectors of it are drawn. States that are alike in
//! content and in what was promised are looked at once. The steps before the last are those of a shorter
//! script, which has been through this.
//!
//! A boot writes as well. Where recovery is to be cut too, the moments of the first boot are kept in the same
//! way, and each is booted and compared again.

use super::scripts::{NAMES, Script};
use crate::check;
use crate::clock::Clock;
use crate::media::{Image, Temper};
use crate::model::act::{Act, EntryName, NodeId, Place};
use crate::model::history::History;
use crate::model::tree::Tree;
use crate::run::{Run, Stop};
use crate::scenario::{DEVICE_BLOCKS, Log, Scenario};
use crate::world::{World, WorldConfig};
use cairn_base::Nanos;

use cairn_engine::attr::FileKind;
use std::collections::BTreeSet;
use std::fmt;
use std::mem::ManuallyDrop;

/// The directories lie on two shards.
const SHARDS: usize = 2;
/// More than it takes until two directories lie on different shards.
const DIRS_MAX: u8 = 16;

const TEMPERS: [Temper; 4] = [
    Temper::LoseAll,
    Temper::KeepAll,
    Temper::ByCommand { keep_percent: 50 },
    Temper::BySector { keep_percent: 50 },
];
/// In recovery, where moments are many.
const RECOVERY_TEMPERS: [Temper; 2] = [Temper::LoseAll, Temper::KeepAll];

/// What was looked at.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    pub scripts: u64,
    /// Moments of a script at which the power may go.
    pub moments: u64,
    /// Different states that were booted and compared.
    pub states: u64,
    /// Of states that a cut in recovery leaves.
    pub recovery_states: u64,
}

impl Tally {
    pub fn add(&mut self, other: &Tally) {
        self.scripts += other.scripts;
        self.moments += other.moments;
        self.states += other.states;
        self.recovery_states += other.recovery_states;
    }
}

/// Two empty directories on two shards of a pool, at rest: where every script begins.
pub struct Base {
    scenario: Scenario,
    image: Image,
    clock: Clock,
    history: History,
    next_id: u32,
    pub dirs: [NodeId; 2],
}

/// A moment at which the power may go: what the devices hold, and what clients were told.
struct Moment {
    image: Image,
    history: History,
    clock: Clock,
    /// The next request's number, and whether one waits: with the content, what tells states apart.
    asked: (u32, bool),
}

/// States that were looked at: their content, and what clients had been told.
type Met = BTreeSet<(u64, (u32, bool))>;

impl Base {
    pub fn new(fua: bool) -> Result<Base, String> {
        let scenario = scenario(fua);
        let log = Log::default();
        let mut run = ManuallyDrop::new(Run::new(&scenario, &log));
        let dirs = run.set_scene().map_err(Stop::into_text)?;
        let image = run.world.media.borrow().image();
        let (clock, history) = (run.world.clock.fork(), run.history.clone());
        let next_id = run.next_id;
        drop(ManuallyDrop::into_inner(run));
        Ok(Base { scenario, image, clock, history, next_id, dirs })
    }

    pub fn tree(&self) -> &Tree {
        self.history.present()
    }

    pub fn next_id(&self) -> u32 {
        self.next_id
    }

    /// Cuts the power everywhere in the last step of `script`. The error says where, and what was wrong.
    pub fn explore(&self, script: &Script, in_recovery: bool) -> Result<Tally, String> {
        let moments = self.moments(script)?;
        let mut tally = Tally { scripts: 1, moments: moments.len() as u64, ..Tally::default() };
        let mut met = Met::new();
        for (number, moment) in moments.iter().enumerate() {
            for temper in TEMPERS {
                let told = |what| format!("cut at moment {number}, {temper:?}: {what}");
                self.cut(moment, temper, in_recovery, &mut met, &mut tally).map_err(told)?;
            }
        }
        Ok(tally)
    }

    fn resume<'a>(
        &'a self,
        log: &'a Log,
        (image, clock): (&Image, &Clock),
        temper: Temper,
        history: &History,
    ) -> ManuallyDrop<Run<'a>> {
        let (seed, config) = (self.scenario.seed, self.scenario.world.clone());
        let world = World::resume(seed, config, clock, image, temper);
        // As in `Scenario::run`: what failed is not taken apart.
        ManuallyDrop::new(Run::resume(&self.scenario, log, world, history.clone(), self.next_id))
    }

    fn moments(&self, script: &Script) -> Result<Vec<Moment>, String> {
        let log = Log::default();
        let here = (&self.image, &self.clock);
        let mut run = self.resume(&log, here, Temper::KeepAll, &self.history);
        run.world.boot(SHARDS).map_err(|error| format!("boot: {error:?}"))?;
        let (last, before) = script.split_last().ok_or("a script has a step")?;
        for act in before.iter().flatten() {
            run.send(0, act.clone());
            run.all_answered().map_err(Stop::into_text)?;
        }
        let moments = run.watch(last).map_err(Stop::into_text)?;
        drop(ManuallyDrop::into_inner(run));
        Ok(moments)
    }

    fn cut(
        &self,
        moment: &Moment,
        temper: Temper,
        in_recovery: bool,
        met: &mut Met,
        tally: &mut Tally,
    ) -> Result<(), String> {
        let log = Log::default();
        let here = (&moment.image, &moment.clock);
        let mut run = self.resume(&log, here, temper, &moment.history);
        let difference = run.world.media.borrow().difference(&self.image);
        if !met.insert((difference, moment.asked)) {
            drop(ManuallyDrop::into_inner(run));
            return Ok(());
        }
        tally.states += 1;
        let images = run.boot_and_compare(in_recovery)?;
        for (number, image) in images.iter().enumerate() {
            for again in RECOVERY_TEMPERS {
                let mut run = self.resume(&log, (image, &run.world.clock), again, &moment.history);
                let difference = run.world.media.borrow().difference(&self.image);
                if !met.insert((difference, moment.asked)) {
                    drop(ManuallyDrop::into_inner(run));
                    continue;
                }
                tally.recovery_states += 1;
                let told = |what| format!("cut again in recovery at {number}, {again:?}: {what}");
                run.boot_and_compare(false).map_err(told)?;
                drop(ManuallyDrop::into_inner(run));
            }
        }
        drop(ManuallyDrop::into_inner(run));
        Ok(())
    }
}

impl Run<'_> {
    fn set_scene(&mut self) -> Result<[NodeId; 2], Stop> {
        let failed = |error| Stop::Wrong(format!("{error:?}"));
        self.world.format().map_err(failed)?;
        self.world.boot(SHARDS).map_err(failed)?;
        let mut dirs: [Option<NodeId>; SHARDS] = [None; SHARDS];
        for number in 0..DIRS_MAX {
            let node = crate::model::act::RequestId(self.next_id).node();
            let at = Place { dir: NodeId::ROOT, name: EntryName::from([b'A' + number].as_slice()) };
            self.send(0, Act::Make { at, kind: FileKind::Directory, mode: 0o755 });
            self.all_answered()?;
            let ino = self.history.inode(node).ok_or(Stop::Wrong("no directory".into()))?;
            let owner = self.world.shards()[0].core.pool.owner(ino.tablet());
            dirs[usize::from(owner.0)].get_or_insert(node);
            if dirs.iter().all(Option::is_some) {
                break;
            }
        }
        let [Some(one), Some(two)] = dirs else {
            return Err(Stop::Wrong(format!("{DIRS_MAX} directories lie on one shard")));
        };
        self.rest()?;
        self.world.crash();
        self.world.boot(SHARDS).map_err(failed)?;
        let seen = self.read_back()?;
        self.history.settle_crash(&seen).map_err(Stop::Wrong)?;
        self.rest()?;
        self.world.crash();
        Ok([one, two])
    }

    /// Long enough for everything that follows an answer, and for the logs to carry their last mark.
    fn rest(&mut self) -> Result<(), Stop> {
        Ok(self.world.machine().idle(Nanos::from_secs(1))?)
    }

    /// Carries out a step; gives every moment of it.
    fn watch(&mut self, step: &[Act]) -> Result<Vec<Moment>, Stop> {
        let mut moments = Vec::new();
        self.world.media.borrow_mut().watch(true);
        for act in step {
            self.send(0, act.clone());
            self.last_answer = self.world.clock.now();
            while !self.history.is_idle() {
                let stepped = self.world.machine().step()?;
                self.keep_images(&mut moments);
                self.take_answers()?;
                if self.history.is_idle() {
                    let image = self.world.media.borrow().image();
                    moments.push(self.moment(image));
                }
                self.demand_progress(stepped)?;
            }
        }
        // What follows an answer (clearing up, marks) is part of it.
        self.rest()?;
        self.keep_images(&mut moments);
        self.world.media.borrow_mut().watch(false);
        let seen = self.read_back()?;
        self.history.settle_idle(&seen).map_err(Stop::Wrong)?;
        self.checks()?;
        Ok(moments)
    }

    fn keep_images(&self, moments: &mut Vec<Moment>) {
        let images = self.world.media.borrow_mut().take_images();
        moments.extend(images.into_iter().map(|image| self.moment(image)));
    }

    fn moment(&self, image: Image) -> Moment {
        let asked = (self.next_id, !self.history.is_idle());
        Moment { image, history: self.history.clone(), clock: self.world.clock.fork(), asked }
    }

    /// What comes up must be allowed. Gives the moments of the boot, if they are wanted.
    fn boot_and_compare(&mut self, watch: bool) -> Result<Vec<Image>, String> {
        self.world.media.borrow_mut().watch(watch);
        self.world.boot(SHARDS).map_err(|error| format!("boot: {error:?}"))?;
        let images = self.world.media.borrow_mut().take_images();
        self.world.media.borrow_mut().watch(false);
        let seen = self.read_back().map_err(Stop::into_text)?;
        self.history.settle_crash(&seen)?;
        let indexes = check::indexes::check(&mut self.world, &seen);
        let fit = indexes.map_err(|halt| Stop::from(halt).into_text())?;
        fit.map_err(check::Unfit::into_text)?;
        self.checks().map_err(Stop::into_text)?;
        Ok(images)
    }
}

impl fmt::Display for Base {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.scenario.world.fua { "durable writes:" } else { "flushes:" })
    }
}

/// Nothing is drawn from the seed but the order in which things happen.
fn scenario(fua: bool) -> Scenario {
    let world = WorldConfig {
        tablets: 2,
        device_blocks: vec![DEVICE_BLOCKS],
        fua,
        memtable_bytes: 64 << 10,
        log_blocks: 256,
    };
    Scenario::quiet(0, world, SHARDS)
}

const _: () = assert!(NAMES.len() * 2 == 4, "four names in two directories");
