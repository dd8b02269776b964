//! The real doors: the machine's clocks, its random source, and files or block devices as disks.
//! The simulator has the other set.

use cairn_base::Nanos;
use cairn_base::door::{Clock, Doors, Entropy};
use cairn_nvme::FileDisk;
use std::time::{Instant, SystemTime};

pub struct RealDoors;

impl Doors for RealDoors {
    type Disk = FileDisk;
    type Clock = SystemClock;
    type Entropy = SystemEntropy;
}

/// CLOCK_MONOTONIC from the clock's making, and CLOCK_REALTIME.
#[derive(Clone, Copy)]
pub struct SystemClock {
    zero: Instant,
}

impl SystemClock {
    pub fn new() -> SystemClock {
        SystemClock { zero: instant() }
    }
}

impl Default for SystemClock {
    fn default() -> SystemClock {
        SystemClock::new()
    }
}

impl Clock for SystemClock {
    fn monotonic(&self) -> Nanos {
        let since = instant().duration_since(self.zero).as_nanos();
        Nanos(u64::try_from(since).unwrap_or(u64::MAX))
    }

    fn wall(&self) -> i64 {
        let nanos =
            |duration: std::time::Duration| i64::try_from(duration.as_nanos()).unwrap_or(i64::MAX);
        match system_time().duration_since(SystemTime::UNIX_EPOCH) {
            Ok(since) => nanos(since),
            Err(before) => -nanos(before.duration()),
        }
    }
}

#[expect(clippy::disallowed_methods, reason = "this is the Clock door")]
fn instant() -> Instant {
    Instant::now()
}

#[expect(clippy::disallowed_methods, reason = "this is the Clock door")]
fn system_time() -> SystemTime {
    SystemTime::now()
}

/// getrandom(2).
#[derive(Clone, Copy)]
pub struct SystemEntropy;

impl Entropy for SystemEntropy {
    /// Panics when the kernel has no random bytes: a key made of anything else is no key.
    fn fill(&self, bytes: &mut [u8]) {
        getrandom::fill(bytes).expect("the kernel gives random bytes once it has booted");
    }
}
