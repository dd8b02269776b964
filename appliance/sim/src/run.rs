//! A scenario under way: clients, cuts, boots and comparisons, round after round.
//!
//! A client has one request under way at a time. Which client asks next, and when, is drawn between
//! the machine's steps, so requests meet in every state of each other's progress. When the oracle
//! holds too many possible histories, clients pause, the tree is read, and one is left.

use crate::archive::Agents;
use crate::check;
use crate::damage::vital;
use crate::digest::Event;
use crate::machine::{Halt, Stepped};
use crate::media::{Cut, CutEffect};
use crate::model::act::{Act, RequestId};
use crate::model::history::History;
use crate::model::reading::Answer;
use crate::model::seen::Seen;
use crate::model::tree::Inodes;
use crate::scenario::{Fault, Log, Report, Scenario, Slow};
use crate::workload::Workload;
use crate::world::{BootError, World};
use cairn_base::prng::Prng;
use cairn_base::{BLOCK_BYTES, DeviceId, Nanos, Run as BlockRun};
use cairn_engine::Grow;
use cairn_engine::error::FsError;
use cairn_format::Seq;
use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::Rc;

/// With more possible histories than this the clients pause and the present is looked at.
const WORLDS_MAX: usize = 24;
/// A boot that is cut is tried again, undisturbed after this many cuts.
const BOOT_CUTS_MAX: usize = 3;

/// After how many crashes of a hundred the verifier reads everything.
const LOOKS_PERCENT: u64 = 10;

type Answers = Rc<RefCell<VecDeque<(RequestId, usize, Answer)>>>;

pub(crate) struct Run<'a> {
    pub(crate) scenario: &'a Scenario,
    pub(crate) log: &'a Log,
    pub(crate) world: World,
    pub(crate) history: History,
    workload: Workload,
    pub(crate) prng: Prng,
    answers: Answers,
    /// Clients that wait for no answer.
    pub(crate) idle: Vec<usize>,
    pub(crate) last_answer: Nanos,
    pub(crate) next_id: u32,
    pub(crate) report: Report,
    versions: check::versions::Versions,
    deletions: check::deletions::Deletions,
    agent: check::stream::Agent,
    seqs: check::seqs::Seqs,
    agents: Agents,
    /// For the wall clock, which is set while clients are at work.
    jumps: Prng,
    /// For which crashes the verifier is asked.
    looks: Prng,
    /// The pool is beyond what is promised to survive, and has been looked at.
    pub(crate) over: bool,
}

impl<'a> Run<'a> {
    pub(crate) fn new(scenario: &'a Scenario, log: &'a Log) -> Run<'a> {
        let world = World::new(scenario.seed, scenario.world.clone());
        world.media.borrow_mut().set_sector_bytes(scenario.sector_bytes);
        Run::resume(scenario, log, world, History::default(), 1)
    }

    /// Goes on in `world`, where requests below `next_id` were asked.
    pub(crate) fn resume(
        scenario: &'a Scenario,
        log: &'a Log,
        world: World,
        history: History,
        next_id: u32,
    ) -> Run<'a> {
        Run {
            scenario,
            log,
            world,
            history,
            workload: Workload::new(scenario.seed, scenario.churn),
            prng: Prng::new(scenario.seed ^ 0x7275_6e21),
            answers: Answers::default(),
            idle: Vec::new(),
            last_answer: Nanos(0),
            next_id,
            report: Report::default(),
            versions: check::versions::Versions::default(),
            deletions: check::deletions::Deletions::default(),
            agent: check::stream::Agent::new(scenario.seed),
            seqs: check::seqs::Seqs::default(),
            agents: Agents::new(scenario.seed, scenario.agents),
            jumps: Prng::new(scenario.seed ^ 0x6a6d_7021),
            looks: Prng::new(scenario.seed ^ 0x6c6f_6f6b),
            over: false,
        }
    }

    pub(crate) fn all_rounds(&mut self) -> Result<Report, String> {
        self.world.format().map_err(|error| format!("format: {error:?}"))?;
        self.boot(false)?;
        for round in 0..self.scenario.rounds {
            match round {
                0 => self.plant_slowness(),
                1 => {
                    self.plant_fault();
                    self.plant_blow();
                }
                _ => {}
            }
            self.round().map_err(|what| format!("round {round}: {what}"))?;
            self.report.blows = u64::from(!self.world.media.borrow().faults.hit().is_empty());
            if self.over {
                break;
            }
        }
        if self.scenario.rot > 0 && !self.over {
            self.rot().map_err(|what| format!("with rot: {what}"))?;
        }
        self.report.digest = self.world.digest.value();
        if self.scenario.rot == 0 && !self.over {
            self.last_look().map_err(|stop| format!("at rest: {}", stop.into_text()))?;
        }
        self.crash();
        self.report.commands = self.world.media.borrow().commands();
        self.report.checked_reads = self.history.checked_reads();
        Ok(self.report)
    }

    fn round(&mut self) -> Result<(), String> {
        // Long rounds are there to come to their end, now and then.
        let cuts = if self.scenario.requests < 800 { 85 } else { 40 };
        // What a device silently did to the log's last batch shows only once another one followed.
        let is_struck =
            self.scenario.blow.is_some() && self.world.media.borrow().faults.may_strike();
        if self.prng.percent(cuts) && !is_struck {
            // A request takes about three commands.
            let bits = (3 * self.scenario.requests).ilog2() + 1;
            let cut = self.draw_cut(u64::from(bits));
            self.log.say(|| format!("the power will go: {cut:?}"));
            self.world.media.borrow_mut().set_cut(Some(cut));
        }
        match self.traffic() {
            Ok(()) => self.log.say(|| "the power goes with all requests answered".into()),
            Err(Stop::PowerOff) => self.log.say(|| "the power goes".into()),
            Err(Stop::Damage) => self.after_damage().map_err(Stop::into_text)?,
            Err(Stop::Wrong(what)) => return Err(what),
        }
        if is_struck {
            self.let_marks_come().map_err(Stop::into_text)?;
        }
        self.crash_and_compare()
    }

    /// Ends the boot here, however far it came, and looks at what the next one finds.
    pub(crate) fn crash_and_compare(&mut self) -> Result<(), String> {
        self.crash();
        self.look_at_media()?;
        self.report.cuts += 1;
        self.report.faults += self.faults_fired();
        self.world.media.borrow_mut().faults.restart();
        self.answers.borrow_mut().clear();
        if self.prng.percent(30) {
            let days = self.prng.below(5) as i64 - 2;
            self.world.clock.jump_wall(days * 86_400_000_000_000);
        }
        self.boot(true)?;
        if self.over {
            return Ok(());
        }
        let seen = self.read_back().map_err(Stop::into_text)?;
        self.log.say(|| "the tree is read back and compared".into());
        check::names::check(&seen)?;
        check::extents::check(&seen)?;
        let ceilings = self.world.shards().iter().map(|shard| shard.ceiling());
        self.seqs.check(&seen, ceilings.max().unwrap_or(Seq(0)))?;
        self.history.settle_crash(&seen).map_err(|what| format!("after the crash: {what}"))?;
        if !seen.damaged.is_empty() {
            self.report.damage_met = 1;
            self.over = true;
            return Ok(());
        }
        self.versions.check(&seen)?;
        self.deletions.note(&seen);
        let agent = self.agent.check(&mut self.world);
        let indexes = check::indexes::check(&mut self.world, &seen);
        for checked in [agent, indexes] {
            let fit = self.fit(checked).map_err(Stop::into_text)?;
            if !fit {
                self.report.damage_met = 1;
                self.over = true;
                return Ok(());
            }
        }
        self.checks().map_err(Stop::into_text)
    }

    /// False when the check met what a blow has hit.
    fn fit(&self, checked: Result<Result<(), check::Unfit>, Halt>) -> Result<bool, Stop> {
        match checked? {
            Ok(()) => Ok(true),
            Err(check::Unfit::Wrong(what)) => Err(Stop::Wrong(what)),
            Err(check::Unfit::Damage(error)) => {
                self.explain_damage(error).map_err(Stop::Wrong)?;
                Ok(false)
            }
        }
    }

    /// Now and then: what the verifier finds on the devices, where nothing was hit.
    fn look_at_media(&mut self) -> Result<(), String> {
        let media = self.world.media.borrow();
        if self.looks.percent(LOOKS_PERCENT) && !media.faults.may_strike() {
            check::whole::check(&media)?;
        }
        Ok(())
    }

    /// What takes requests of its own, with nobody else asking.
    fn last_look(&mut self) -> Result<(), Stop> {
        check::reserve::check(&mut self.world)?.map_err(Stop::Wrong)?;
        let seen = self.read_back()?;
        if !seen.damaged.is_empty() {
            return Ok(());
        }
        let deletions = self.deletions.check(&mut self.world, &seen);
        self.fit(deletions).map(drop)
    }

    fn crash(&mut self) {
        for shard in self.world.shards() {
            self.report.counters.add(&shard.core.counters.values());
        }
        self.world.crash();
    }

    pub(crate) fn plant_fault(&mut self) {
        let mut media = self.world.media.borrow_mut();
        match self.scenario.fault {
            None => {}
            Some(Fault::FlushFails { device, after, lasting }) => {
                media.faults.fail_flush(DeviceId(device), after, lasting);
            }
            Some(Fault::WriteFails { after }) => media.faults.fail_write(after),
            Some(Fault::DeviceGone { device, after, for_good }) => {
                media.faults.lose_device(DeviceId(device), after, for_good);
            }
        }
    }

    fn plant_slowness(&mut self) {
        if let Some(Slow { device, after, commands }) = self.scenario.slow {
            self.world.media.borrow_mut().faults.slow_down(DeviceId(device), after, commands);
        }
    }

    pub(crate) fn faults_fired(&self) -> u64 {
        self.world.media.borrow().faults.injected_count()
    }

    /// Blocks rot while nothing runs. Beyond what is promised to survive: the engine may refuse to
    /// open, or to read, but what it shows is right.
    fn rot(&mut self) -> Result<(), String> {
        // Long enough for the logs to carry their last mark: rot in what was acknowledged shows.
        let idled = self.world.machine().idle(Nanos::from_secs(2));
        idled.map_err(|halt| format!("{halt:?}"))?;
        self.crash();
        let written = self.world.media.borrow().written();
        let vital = vital(&self.world.media.borrow());
        let mut may_hit_vital = true;
        for _ in 0..self.scenario.rot {
            let block = written[self.prng.below(written.len() as u64) as usize];
            let bit = self.prng.below(8 * BLOCK_BYTES as u64) as usize;
            // Of a log's last batch and the mark behind it one is enough, and both look like its end.
            let is_vital = vital.iter().any(|run| run.contains(block));
            if is_vital && !std::mem::take(&mut may_hit_vital) {
                continue;
            }
            self.log.say(|| format!("bit {bit} of block {block} rots"));
            let mut media = self.world.media.borrow_mut();
            media.rot(block, bit);
            media.faults.note_hit(BlockRun::new(block, 1));
        }
        match self.world.boot(1) {
            Ok(()) => {}
            Err(BootError::Refused(what)) => {
                self.log.say(|| format!("the pool is refused: {what}"));
                return Ok(());
            }
            Err(BootError::Halted(halt)) => return Err(format!("{halt:?}")),
        }
        let seen = self.read_back().map_err(Stop::into_text)?;
        self.history.settle_crash(&seen)
    }

    /// Clients at work, until the round's requests are answered.
    fn traffic(&mut self) -> Result<(), Stop> {
        self.idle = (0..self.scenario.clients).collect();
        let mut left = self.scenario.requests;
        self.last_answer = self.world.clock.now();
        if self.scenario.grow {
            self.grow_device();
        }
        loop {
            self.take_answers()?;
            if self.faults_fired() > 0 {
                return self.after_fault();
            }
            self.agents.check(&self.world).map_err(Stop::Wrong)?;
            let crowd = self.history.worlds_len() > WORLDS_MAX;
            let is_idle = self.history.is_idle() && self.agents.are_idle();
            if is_idle && (crowd || left == 0) {
                let seen = self.read_back()?;
                if self.faults_fired() > 0 {
                    continue;
                }
                if !seen.damaged.is_empty() {
                    return Err(Stop::Damage);
                }
                let settled = self.history.settle_idle(&seen);
                settled.map_err(|what| Stop::Wrong(format!("with all answered: {what}")))?;
                if left == 0 {
                    return self.checks();
                }
                if self.history.worlds_len() > WORLDS_MAX {
                    self.commit_one();
                }
            }
            while !crowd && left > 0 && !self.idle.is_empty() && self.prng.percent(40) {
                left -= 1;
                self.ask();
            }
            if self.prng.percent(1) && self.prng.percent(20) {
                // Long enough for everything that waits for idleness or age.
                self.world.machine().idle(Nanos::from_secs(5))?;
            }
            if self.scenario.clock_jumps && self.jumps.percent(1) && self.jumps.percent(20) {
                self.set_the_clock();
            }
            self.agent.turn(&mut self.world);
            if !crowd
                && left > 0
                && let Some(what) = self.agents.turn(&mut self.world, &mut self.history)
            {
                self.log.say(|| what);
            }
            let stepped = self.world.machine().step()?;
            self.demand_progress(stepped)?;
        }
    }

    /// Histories that show the same now differ in what a crash may leave: a COMMIT brings them together, file
    /// by file.
    fn commit_one(&mut self) {
        let node = self.history.uncommitted().expect("committed, what shows the same is the same");
        let client = self.idle.pop().expect("nobody waits");
        self.send(client, Act::Commit { node, offset: 0, len: 0 });
    }

    /// As an operator does, or a time server: by years, or by a moment, either way.
    fn set_the_clock(&mut self) {
        const DAY_NS: i64 = 86_400_000_000_000;
        let most = [1_000_000, 120_000_000_000, 3 * DAY_NS, 10 * 365 * DAY_NS];
        let most = most[self.jumps.below(most.len() as u64) as usize];
        let by = self.jumps.below(2 * most as u64) as i64 - most;
        self.log.say(|| format!("the wall clock is set by {} ms", by / 1_000_000));
        self.world.clock.jump_wall(by);
    }

    /// A device grows under the pool, and the pool takes it up whenever it comes to that.
    fn grow_device(&mut self) {
        let count = self.scenario.world.device_blocks.len() as u64;
        let device = DeviceId(self.prng.below(count) as u8);
        let more = 1 + self.prng.below(5000);
        self.log.say(|| format!("device {} grows by {more} blocks", device.0));
        self.world.media.borrow_mut().grow(device, more);
        let shard = self.world.shards()[0].clone();
        self.world.machine().spawn(0, async move {
            // Whether it came to an end is not part of the history: power or a fault may stop it.
            let _ = shard.resize_devices(&[Grow { device, blocks: None }]).await;
        });
    }

    /// Goes on until nobody waits.
    pub(crate) fn all_answered(&mut self) -> Result<(), Stop> {
        self.last_answer = self.world.clock.now();
        while !self.history.is_idle() {
            let stepped = self.world.machine().step()?;
            self.take_answers()?;
            self.demand_progress(stepped)?;
        }
        Ok(())
    }

    pub(crate) fn demand_progress(&self, stepped: Stepped) -> Result<(), Stop> {
        let late = self.world.clock.now() > self.last_answer + self.world.patience();
        if !self.history.is_idle() && (stepped == Stepped::Nowhere || late) {
            return Err(Stop::Wrong("a request is never answered".into()));
        }
        Ok(())
    }

    /// A device failed a command. From now on changes may be refused and buffered data may be lost
    /// before any crash, so nobody asks any more; what is still answered is promised all the same.
    fn after_fault(&mut self) -> Result<(), Stop> {
        let end = self.world.clock.now() + Nanos::from_secs(5);
        while self.world.clock.now() < end && self.idle.len() < self.scenario.clients {
            while let Some((id, client, answer)) = self.pop_answer() {
                self.idle.push(client);
                match answer {
                    Answer::Refused(FsError::Stopped | FsError::Media { .. }) => {}
                    // What was lost is told by the write verifier, not by each COMMIT.
                    answer if self.proves_nothing(id, &answer) => {}
                    answer => self.history.answer(id, &answer).map_err(Stop::Wrong)?,
                }
            }
            if self.world.machine().step()? == Stepped::Nowhere {
                break;
            }
        }
        Ok(())
    }

    /// Buffered data may be lost: see `History`.
    pub(crate) fn proves_nothing(&self, id: RequestId, answer: &Answer) -> bool {
        self.history.proves_nothing_after_a_loss(id, answer, self.scenario.over_nfs)
    }

    fn ask(&mut self) {
        let client = self.idle.swap_remove(self.prng.below(self.idle.len() as u64) as usize);
        let act = self.workload.next(RequestId(self.next_id), &self.history);
        self.send(client, act);
    }

    pub(crate) fn send(&mut self, client: usize, act: Act) {
        let id = RequestId(self.next_id);
        self.next_id += 1;
        self.log.say(|| format!("{id:?} client {client}: {act:?}"));
        if self.history.is_idle() {
            // Timers may have let any time pass while nobody asked.
            self.last_answer = self.world.clock.now();
        }
        self.world.digest.fold_bytes(Event::Request, format!("{act:?}").as_bytes());
        self.history.ask(id, &act);
        self.report.requests += 1;
        let inodes = self.inodes_of(&act);
        let core = client % self.world.shards().len();
        let client_task = match self.scenario.over_nfs {
            true => self.world.nfs_client(client),
            false => self.world.client(core),
        };
        let answers = self.answers.clone();
        self.world.machine().spawn(core, async move {
            let answer = client_task.perform(&act, &inodes).await;
            answers.borrow_mut().push_back((id, client, answer));
        });
    }

    pub(crate) fn take_answers(&mut self) -> Result<(), Stop> {
        while self.faults_fired() == 0 {
            let Some((id, client, answer)) = self.pop_answer() else { break };
            if let Answer::Refused(error) = answer
                && error.is_trouble()
            {
                self.explain_damage(error)
                    .map_err(|what| Stop::Wrong(format!("{id:?}: {what}")))?;
                self.idle.push(client);
                return Err(Stop::Damage);
            }
            if answer == Answer::Refused(FsError::Stopped) {
                return Err(Stop::Wrong(format!("{id:?} met a shard that stopped by itself")));
            }
            self.history.answer(id, &answer).map_err(Stop::Wrong)?;
            self.idle.push(client);
            self.last_answer = self.world.clock.now();
        }
        Ok(())
    }

    pub(crate) fn pop_answer(&self) -> Option<(RequestId, usize, Answer)> {
        let (id, client, answer) = self.answers.borrow_mut().pop_front()?;
        self.log.say(|| format!("{id:?} answered: {}", brief(&answer)));
        self.fold_answer(id, &answer);
        Some((id, client, answer))
    }

    fn fold_answer(&self, id: RequestId, answer: &Answer) {
        let digest = &self.world.digest;
        digest.fold(Event::Reply, &[u64::from(id.0)]);
        match answer {
            Answer::Bytes { bytes, .. } => digest.fold_bytes(Event::Reply, bytes),
            other => digest.fold_bytes(Event::Reply, format!("{other:?}").as_bytes()),
        }
    }

    fn inodes_of(&self, act: &Act) -> Inodes {
        let mut nodes = Vec::new();
        act.nodes(&mut nodes);
        let known = |node| self.history.inode(node).expect("requests name nodes that are known");
        nodes.into_iter().map(|node| (node, known(node))).collect()
    }

    /// Boots, through cuts in the middle of it when `disturbed`.
    pub(crate) fn boot(&mut self, disturbed: bool) -> Result<(), String> {
        for attempt in 0.. {
            let shards = 1 + self.prng.below(self.scenario.shards_max as u64) as usize;
            if !self.world.media.borrow().is_on() {
                self.world.media.borrow_mut().power_on();
            }
            if disturbed && attempt < BOOT_CUTS_MAX && self.prng.percent(40) {
                let cut = self.draw_cut(5);
                self.world.media.borrow_mut().set_cut(Some(cut));
            }
            self.log.say(|| format!("boot with {shards} shards"));
            match self.world.boot(shards) {
                Ok(()) => break,
                Err(BootError::Halted(Halt::PowerOff)) => {
                    self.report.cuts_in_recovery += 1;
                    self.world.crash();
                }
                Err(BootError::Refused(what)) => {
                    self.explain_refusal(&what)?;
                    self.report.refused = 1;
                    self.over = true;
                    break;
                }
                Err(error) => return Err(format!("boot with {shards} shards: {error:?}")),
            }
        }
        self.world.media.borrow_mut().set_cut(None);
        Ok(())
    }

    /// Commands from now until the cut: from the very next on, `1 << bits_max` at most, small
    /// numbers as likely as large ones.
    fn draw_cut(&mut self, bits_max: u64) -> Cut {
        let bits = self.prng.below(bits_max + 1);
        let after = 1 + self.prng.below(1 << bits);
        let command = self.world.media.borrow().commands() + after;
        let effect = match self.prng.percent(50) {
            true => CutEffect::Before,
            false => CutEffect::After,
        };
        Cut { command, effect }
    }

    pub(crate) fn read_back(&mut self) -> Result<Seen, Stop> {
        let probes = self.history.interesting_blocks();
        let core = self.prng.below(self.world.shards().len() as u64) as usize;
        let client = self.world.client(core);
        let tapes = self.agents.tapes.clone();
        let read_back = async move { client.read_back(&probes, &tapes).await };
        let seen = self.world.machine().run(core, read_back)?.map_err(Stop::Wrong)?;
        self.agents.tapes.settle();
        self.history.all_online();
        self.explain_all_damage(&seen).map_err(Stop::Wrong)?;
        seen.fold_into(&self.world.digest);
        Ok(seen)
    }

    pub(crate) fn checks(&mut self) -> Result<(), Stop> {
        check::all(&mut self.world, self.history.present())?.map_err(Stop::Wrong)
    }
}

/// Why traffic ended early.
pub(crate) enum Stop {
    PowerOff,
    /// Somebody met what a blow has hit.
    Damage,
    Wrong(String),
}

impl Stop {
    pub(crate) fn into_text(self) -> String {
        match self {
            Stop::PowerOff => "the power went without a cut being planted".into(),
            Stop::Damage => "damage was met again".into(),
            Stop::Wrong(what) => what,
        }
    }
}

impl From<Halt> for Stop {
    fn from(halt: Halt) -> Stop {
        match halt {
            Halt::PowerOff => Stop::PowerOff,
            Halt::Stuck(why) => Stop::Wrong(format!("no progress: {why}")),
        }
    }
}

/// An answer without its payload.
fn brief(answer: &Answer) -> String {
    match answer {
        Answer::Bytes { bytes, eof } => format!("{} bytes, eof {eof}", bytes.len()),
        Answer::Listing(names) => format!("{} names", names.len()),
        other => format!("{other:?}"),
    }
}
