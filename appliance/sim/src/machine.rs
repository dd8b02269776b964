//! One boot of a simulated machine: N real reactors on one thread, the devices, and time.
//!
//! A step gives the cores a turn in an order drawn from the seed, now and then leaving one out as a
//! busy hypervisor would, and completes the device commands that are due. When nothing can run,
//! time jumps to the next completion or timer. So every interleaving of cores, devices and timers
//! that a seed draws is replayed by that seed, and a minute of idling costs nothing.
//!
//! The machine knows no engine. What a core does around its reactor (taking in mail) is a hook that
//! whoever boots it sets.

use crate::clock::Clock;
use crate::digest::{Digest, Event};
use crate::disk::Disk;
use crate::fault::SLOWNESS;
use cairn_base::Nanos;
use cairn_base::prng::Prng;
use cairn_reactor::{Config, Gate, Handle, Reactor};
use std::cell::RefCell;
use std::future::Future;
use std::rc::Rc;

/// Why a machine does not go on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Halt {
    PowerOff,
    /// Something waits, and nothing that could end the wait is under way.
    Stuck(&'static str),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stepped {
    /// Something ran, or time moved on to when something will.
    On,
    /// Nothing can run, and no command or timer is under way.
    Nowhere,
}

/// Simulated time that one awaited thing may take: a device that is not told to be slow is never slower
/// than this.
const PATIENCE: Nanos = Nanos::from_secs(60);

struct Core {
    /// Takes in mail; returns how much there was.
    mail: Option<Box<dyn Fn() -> usize>>,
    gate: Gate,
    reactor: Reactor,
}

pub struct Machine {
    cores: Vec<Core>,
    disk: Disk,
    clock: Clock,
    digest: Digest,
    prng: Prng,
}

impl Machine {
    pub fn new(seed: u64, cores: usize, disk: &Disk, clock: &Clock, digest: &Digest) -> Machine {
        let mut prng = Prng::new(seed ^ 0x6d61_6368);
        let polls_per_turn = [1, 3, 16, 256][prng.below(4) as usize];
        let core = |_| {
            let reactor = Reactor::new(Config { polls_per_turn, stall: None });
            Core { mail: None, gate: reactor.handle().gate("sim"), reactor }
        };
        let cores = (0..cores).map(core).collect();
        let (disk, clock, digest) = (disk.clone(), clock.clone(), digest.clone());
        Machine { cores, disk, clock, digest, prng }
    }

    pub fn cores_len(&self) -> usize {
        self.cores.len()
    }

    pub fn handle(&self, core: usize) -> Handle {
        self.cores[core].reactor.handle()
    }

    pub fn set_mail(&mut self, core: usize, mail: impl Fn() -> usize + 'static) {
        self.cores[core].mail = Some(Box::new(mail));
    }

    /// Starts a task on a core.
    pub fn spawn(&self, core: usize, future: impl Future<Output = ()> + 'static) {
        self.cores[core].gate.spawn(future).expect("the machine's own gate is never closed");
    }

    /// Runs the machine until `future`, a task of `core`, has its answer.
    pub fn run<T: 'static>(
        &mut self,
        core: usize,
        future: impl Future<Output = T> + 'static,
    ) -> Result<T, Halt> {
        let answer = Rc::new(RefCell::new(None));
        let slot = answer.clone();
        self.spawn(core, async move {
            let output = future.await;
            slot.replace(Some(output));
        });
        self.run_until(|| answer.borrow_mut().take())
    }

    /// Runs the machine until `done` gives something.
    pub fn run_until<T>(&mut self, mut done: impl FnMut() -> Option<T>) -> Result<T, Halt> {
        let deadline = self.clock.now() + self.patience();
        loop {
            if let Some(output) = done() {
                return Ok(output);
            }
            if self.clock.now() > deadline {
                return Err(Halt::Stuck("no answer in a minute"));
            }
            if self.step()? == Stepped::Nowhere {
                return Err(Halt::Stuck("nothing is under way"));
            }
        }
    }

    /// Simulated time that one awaited thing may take on these devices.
    pub fn patience(&self) -> Nanos {
        let is_slow = self.disk.media().borrow().faults.is_slow();
        if is_slow { Nanos(PATIENCE.0 * SLOWNESS) } else { PATIENCE }
    }

    /// Lets `duration` pass with everything going on.
    pub fn idle(&mut self, duration: Nanos) -> Result<(), Halt> {
        let deadline = self.clock.now() + duration;
        for core in 0..self.cores.len() {
            // A timer of our own, so that there is always something to wait for.
            let sleep = self.handle(core).sleep_until(deadline);
            self.spawn(core, sleep);
        }
        let clock = self.clock.clone();
        self.run_until(|| (clock.now() >= deadline).then_some(()))
    }

    pub fn step(&mut self) -> Result<Stepped, Halt> {
        self.clock.advance_by(Nanos(500 + self.prng.below(3000)));
        let mut busy = self.complete_due();
        let mut next_timer: Option<Nanos> = None;
        let first = self.prng.below(self.cores.len() as u64) as usize;
        for nth in 0..self.cores.len() {
            if self.cores.len() > 1 && self.prng.percent(20) {
                busy = true;
                continue;
            }
            let index = (first + nth) % self.cores.len();
            let core = &self.cores[index];
            let letters = core.mail.as_ref().map_or(0, |mail| mail());
            let turn = core.reactor.turn(self.clock.now());
            if !self.disk.media().borrow().is_on() {
                return Err(Halt::PowerOff);
            }
            busy |= letters > 0 || turn.ran > 0 || turn.ready;
            next_timer = earliest(next_timer, turn.next_timer);
            if turn.ran > 0 {
                self.digest.fold(Event::Turn, &[index as u64, turn.ran as u64]);
            }
        }
        if !self.disk.media().borrow().is_on() {
            return Err(Halt::PowerOff);
        }
        if !busy {
            let due = self.disk.media().borrow().next_due();
            match earliest(next_timer, due) {
                Some(next) => self.clock.advance_to(next),
                None => return Ok(Stepped::Nowhere),
            }
        }
        Ok(Stepped::On)
    }

    fn complete_due(&mut self) -> bool {
        let mut any = false;
        while self.disk.media().borrow().next_due().is_some_and(|due| due <= self.clock.now()) {
            any |= self.disk.complete_next();
        }
        any
    }
}

fn earliest(a: Option<Nanos>, b: Option<Nanos>) -> Option<Nanos> {
    match (a, b) {
        (Some(a), Some(b)) => Some(a.min(b)),
        (a, b) => a.or(b),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::media::{Cut, CutEffect, Media};
    use cairn_base::door::{Disk as _, Durability};
    use cairn_base::{BLOCK_BYTES, BlockNo, DeviceId};
    use cairn_reactor::mesh;

    const META: DeviceId = DeviceId(0);

    fn machine(seed: u64, cores: usize) -> (Machine, Rc<RefCell<Media>>, Digest) {
        let (clock, digest) = (Clock::default(), Digest::new(seed));
        let media = Media::new(seed, clock.clone(), digest.clone(), &[256], true);
        let media = Rc::new(RefCell::new(media));
        let disk = Disk::new(&media);
        (Machine::new(seed, cores, &disk, &clock, &digest), media, digest)
    }

    async fn copy(disk: Disk, from: u64, to: u64) {
        let buf = disk.arena().alloc(BLOCK_BYTES);
        let (buf, read) = disk.read(BlockNo::new(META, from), buf).await;
        read.expect("no fault is planted");
        let at = BlockNo::new(META, to);
        disk.write(at, vec![buf.into()], Durability::Cached).await.expect("written");
        disk.flush(META).await.expect("flushed");
    }

    /// Three cores copy blocks and pass a number round by mail.
    fn run(seed: u64) -> (u64, u64) {
        let (mut machine, media, digest) = machine(seed, 3);
        let sum = Rc::new(RefCell::new(0));
        for (core, port) in mesh::<u64>(3, 8).into_iter().enumerate() {
            let disk = machine.disk.clone();
            let (port, sum) = (Rc::new(port), sum.clone());
            let receiver = port.clone();
            machine.set_mail(core, move || {
                let mut letters = 0;
                while let Some((_, number)) = receiver.recv() {
                    *sum.borrow_mut() += number;
                    letters += 1;
                }
                letters
            });
            machine.spawn(core, async move {
                for n in 0..5 {
                    copy(disk.clone(), n, 10 * core as u64 + n).await;
                    port.send((core + 1) % 3, n).expect("there is room");
                }
            });
        }
        let done = || (*sum.borrow() == 30).then_some(());
        machine.run_until(done).expect("it ends");
        let writes = media.borrow().traffic(META).writes;
        (digest.value(), writes)
    }

    #[test]
    fn the_same_seed_takes_the_same_path_and_another_seed_another() {
        assert_eq!(run(5), run(5));
        assert_ne!(run(5).0, run(6).0);
        assert_eq!(run(5).1, 15);
    }

    #[test]
    fn a_cut_ends_the_machine_and_what_was_flushed_is_there_after_it() {
        for seed in 0..20 {
            let (mut machine, media, _) = machine(seed, 1);
            let disk = machine.disk.clone();
            media.borrow_mut().set_cut(Some(Cut { command: 3, effect: CutEffect::Before }));
            let halted = machine.run(0, async move {
                let mut buf = disk.arena().alloc(BLOCK_BYTES);
                buf.fill(9);
                let at = BlockNo::new(META, 1);
                disk.write(at, vec![buf.into()], Durability::Cached).await.expect("written");
                disk.flush(META).await.expect("flushed");
                copy(disk, 1, 2).await;
            });
            assert_eq!(halted, Err(Halt::PowerOff));
            drop(machine);
            let media = media.borrow();
            assert_eq!(media.peek_stored(BlockNo::new(META, 1)).expect("stored")[0], 9);
            assert!(media.peek_stored(BlockNo::new(META, 2)).is_none());
        }
    }

    #[test]
    fn a_wait_that_nothing_can_end_is_reported() {
        let (mut machine, _, _) = machine(1, 2);
        let halted = machine.run(0, std::future::pending::<()>());
        assert_eq!(halted, Err(Halt::Stuck("nothing is under way")));
    }

    #[test]
    fn idling_a_minute_takes_simulated_time_only() {
        let (mut machine, _, _) = machine(1, 2);
        let before = machine.clock.now();
        machine.idle(Nanos::from_secs(60)).expect("it idles");
        assert!(machine.clock.now() >= before + Nanos::from_secs(60));
    }
}
