//! What the slots of one connection share: a directory of their own, the files in it, the count of
//! what they may still do, and the tally of what they have done.
//!
//! A lane has its directory to itself, as each process of a parallel job has. Lanes move from thread to
//! thread between phases and belong to one thread within a phase, hence cells and no locks.

use crate::nfs::{Handle, Limits, Verifier};
use crate::pattern::{Pattern, Piece};
use crate::rpc::Program;
use crate::wire::{Answer, Wire};
use crate::xdr::Encoder;
use anyhow::{Result, ensure};
use hdrhistogram::Histogram;
use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::Instant;

/// Longer waits are counted as this one.
const LATENCY_NS_MAX: u64 = 60_000_000_000;

pub struct Lane {
    pub number: u64,
    pub directory: Handle,
    pub limits: Limits,
    /// The letter that the name of each numbered file begins with; 0 where there is none.
    pub letters: RefCell<Vec<u8>>,
    /// The large file, once it is written.
    pub large: Cell<Option<Large>>,
    /// A small file that is in every server's memory, once it is written.
    pub hot: Cell<Option<Handle>>,
    /// What `verify` writes and reads back.
    pub scratch: Cell<Option<Handle>>,
    /// What is to be removed at the end.
    pub leftovers: RefCell<Vec<Vec<u8>>>,
    pub random: RefCell<fastrand::Rng>,
    turn: Cell<u64>,
    turns: Cell<u64>,
    deadline: Cell<Option<Instant>>,
    running: Cell<usize>,
    verifier: Cell<Option<Verifier>>,
    tally: RefCell<Tally>,
}

#[derive(Clone, Copy)]
pub struct Large {
    pub handle: Handle,
    pub bytes: u64,
}

/// What was done, and how long each operation took.
#[derive(Clone)]
pub struct Tally {
    pub operations: u64,
    pub bytes: u64,
    pub latency_ns: Histogram<u64>,
}

impl Default for Tally {
    fn default() -> Tally {
        let latency_ns =
            Histogram::new_with_bounds(1, LATENCY_NS_MAX, 3).expect("the bounds are in order");
        Tally { operations: 0, bytes: 0, latency_ns }
    }
}

impl Tally {
    pub fn add(&mut self, other: &Tally) {
        self.operations += other.operations;
        self.bytes += other.bytes;
        self.latency_ns.add(&other.latency_ns).expect("both have the same bounds");
    }
}

/// When the slots of a lane stop.
#[derive(Clone, Copy)]
pub struct Bound {
    pub turns: u64,
    pub deadline: Option<Instant>,
}

impl Lane {
    pub fn new(number: u64, directory: Handle, limits: Limits) -> Lane {
        Lane {
            number,
            directory,
            limits,
            letters: RefCell::default(),
            large: Cell::new(None),
            hot: Cell::new(None),
            scratch: Cell::new(None),
            leftovers: RefCell::default(),
            random: RefCell::new(fastrand::Rng::with_seed(number)),
            turn: Cell::new(0),
            turns: Cell::new(0),
            deadline: Cell::new(None),
            running: Cell::new(0),
            verifier: Cell::new(None),
            tally: RefCell::default(),
        }
    }

    pub fn begin(&self, bound: Bound, slots: usize) {
        self.turn.set(0);
        self.turns.set(bound.turns);
        self.deadline.set(bound.deadline);
        self.running.set(slots);
        self.verifier.set(None);
    }

    /// Within a phase the server must not have lost what it had only in memory.
    pub fn check_verifier(&self, verifier: Verifier) -> Result<()> {
        let before = self.verifier.replace(Some(verifier));
        ensure!(
            before.is_none_or(|before| before == verifier),
            "the write verifier changed: the server has restarted or lost unstable data"
        );
        Ok(())
    }

    pub fn take_tally(&self) -> Tally {
        self.tally.take()
    }

    /// How many turns were taken, at most the bound.
    pub fn turns_taken(&self) -> u64 {
        self.turn.get()
    }
}

/// One of the calls a connection keeps under way.
pub struct Slot {
    pub lane: Rc<Lane>,
    wire: Rc<Wire>,
    index: usize,
}

impl Slot {
    pub fn new(lane: Rc<Lane>, wire: Rc<Wire>, index: usize) -> Slot {
        Slot { lane, wire, index }
    }

    pub fn call(
        &self,
        procedure: (Program, u32),
        payload: Option<Piece>,
        arguments: impl FnOnce(&mut Encoder<'_>),
    ) -> Answer<'_> {
        self.wire.call(self.index, procedure, payload, arguments)
    }

    pub fn pattern(&self) -> &Pattern {
        self.wire.pattern()
    }

    /// The next turn of the lane, or nothing when the bound is reached.
    pub fn turn(&self) -> Option<u64> {
        let turn = self.lane.turn.get();
        let is_late = self.lane.deadline.get().is_some_and(|end| self.wire.now() >= end);
        if turn >= self.lane.turns.get() || is_late {
            return None;
        }
        self.lane.turn.set(turn + 1);
        Some(turn)
    }

    /// Whether all other slots of the lane have left, which only the last can say.
    pub fn leave(&self) -> bool {
        let running = self.lane.running.get() - 1;
        self.lane.running.set(running);
        running == 0
    }

    pub fn start(&self) -> Instant {
        self.wire.now()
    }

    /// Counts one wait that began at `start` and brought `operations`.
    pub fn done(&self, start: Instant, operations: u64, bytes: u64) {
        let waited = self.wire.now().saturating_duration_since(start).as_nanos();
        let waited = u64::try_from(waited).unwrap_or(LATENCY_NS_MAX);
        let mut tally = self.lane.tally.borrow_mut();
        tally.operations += operations;
        tally.bytes += bytes;
        tally.latency_ns.saturating_record(waited.max(1));
    }

    /// The lane's large file, which an earlier phase must have written.
    pub fn large(&self) -> Result<Large> {
        let large = self.lane.large.get();
        ensure!(large.is_some_and(|file| file.bytes > 0), "no large file was written before");
        Ok(large.expect("just seen"))
    }
}
