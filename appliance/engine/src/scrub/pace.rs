//! How fast a pass goes: no faster than its rate, and not beside clients who want the device.
//!
//! The rate is a bound and no promise. Where clients did something during a step, the next one waits as
//! long as that step took, so a pass takes half of one of many places in the device's queue at most.
//! Nothing waits for a pass, so no sleep here is ever too long; an order that changes ends it.

use crate::shard::Shard;
use cairn_base::Nanos;
use cairn_base::door::Doors;
use cairn_reactor::race;

/// The longest that one step makes way for clients.
const WAY_MAX: Nanos = Nanos::from_millis(100);
/// What was not used of the rate is lost after so long.
const SAVED_UP_MAX: Nanos = Nanos::from_millis(100);
const SECOND_NS: u128 = 1_000_000_000;

pub struct Pacer {
    /// Bytes a second; 0 is no bound.
    rate: u64,
    /// When all that was read would have been read at that rate.
    due: Nanos,
    stepped_at: Option<Nanos>,
    operations: u64,
}

impl Pacer {
    pub fn new(rate: u64) -> Pacer {
        Pacer { rate, due: Nanos(0), stepped_at: None, operations: 0 }
    }

    /// When the next step may begin, after one that ended now and read so much.
    fn next(&mut self, now: Nanos, bytes: u64, operations: u64) -> Nanos {
        self.due = self.due.max(now.saturating_sub(SAVED_UP_MAX));
        if self.rate > 0 {
            let ns = u128::from(bytes) * SECOND_NS / u128::from(self.rate);
            self.due = self.due + Nanos(u64::try_from(ns).unwrap_or(u64::MAX / 2));
        }
        let took = self.stepped_at.map_or(Nanos(0), |at| now.saturating_sub(at));
        let is_busy = std::mem::replace(&mut self.operations, operations) != operations;
        let way = if is_busy { now + took.min(WAY_MAX) } else { now };
        let next = self.due.max(way);
        self.stepped_at = Some(next);
        next
    }
}

impl<D: Doors> Shard<D> {
    pub(super) fn next_step_at(&self, pacer: &mut Pacer, bytes: u64) -> Nanos {
        pacer.next(self.handle.now(), bytes, self.core.counters.operations.get())
    }

    pub(super) async fn give_way(&self, next: Nanos, number: u64) {
        if next <= self.handle.now() {
            return self.handle.yield_now().await;
        }
        let unwanted = self.scrub.changed.until(|| (!self.is_wanted(number)).then_some(()));
        race(self.handle.sleep_until(next), unwanted).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    fn millis(count: u64) -> Nanos {
        Nanos::from_millis(count)
    }

    #[test]
    fn a_rate_is_kept_over_steps_of_any_size() {
        let mut pacer = Pacer::new(10 * MIB);
        let mut now = millis(1000);
        for _ in 0..20 {
            now = pacer.next(now, MIB, 0).max(now);
        }
        assert!(now >= millis(1000 + 2000 - 100), "{now:?}: two seconds for 20 MiB");
        assert!(now <= millis(3000), "{now:?}");
    }

    #[test]
    fn without_a_rate_only_clients_are_made_way_for() {
        let mut pacer = Pacer::new(0);
        assert_eq!(pacer.next(millis(10), MIB, 5), millis(10));
        assert_eq!(pacer.next(millis(30), MIB, 5), millis(30), "nobody did anything");
        assert_eq!(pacer.next(millis(40), MIB, 6), millis(50), "as long as the step took");
        assert_eq!(pacer.next(millis(9000), MIB, 7), millis(9100), "and not for ever");
    }
}
