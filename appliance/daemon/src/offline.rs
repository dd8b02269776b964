//! The engine without a daemon: one ring, one reactor, and the calling thread until an answer is
//! there. For what reads or makes a whole pool before, or instead of, serving it.

use crate::doors::SystemClock;
use crate::error::Failure;
use crate::place::device_failure;
use cairn_base::Arena;
use cairn_base::door::Clock;
use cairn_base::ring::Ring;
use cairn_nvme::{Devices, FileDisk};
use cairn_reactor::{Config, Handle, Reactor};
use std::future::Future;
use std::rc::Rc;

/// Commands under way at once: these jobs are sequential.
const RING_ENTRIES: u32 = 64;

pub struct Offline {
    ring: Ring,
    reactor: Reactor,
    clock: SystemClock,
    disk: Rc<FileDisk>,
}

impl Offline {
    pub fn new(devices: &Devices) -> Result<Offline, Failure> {
        Offline::with_arena(devices, Arena::heap())
    }

    /// With buffers from somewhere else than the heap.
    pub fn with_arena(devices: &Devices, arena: Arena) -> Result<Offline, Failure> {
        let ring = Ring::new(RING_ENTRIES).map_err(|error| ring_failure(&error))?;
        let disk = FileDisk::new(ring.clone(), arena, devices).map_err(device_failure)?;
        let reactor = Reactor::new(Config::default());
        Ok(Offline { ring, reactor, clock: SystemClock::new(), disk: Rc::new(disk) })
    }

    pub fn disk(&self) -> &Rc<FileDisk> {
        &self.disk
    }

    pub fn handle(&self) -> Handle {
        self.reactor.handle()
    }

    pub fn clock(&self) -> &SystemClock {
        &self.clock
    }

    pub fn run<T>(&self, work: impl Future<Output = T>) -> T {
        self.reactor.run_until(work, |turn| {
            if turn.ready {
                self.ring.poll();
            } else {
                let now = self.clock.monotonic();
                self.ring.wait(turn.next_timer.map(|due| due.saturating_sub(now)));
            }
            self.clock.monotonic()
        })
    }
}

pub fn ring_failure(error: &std::io::Error) -> Failure {
    Failure::io("cannot set up an io_uring (Linux 5.11 or newer, and allowed to)", error)
}
