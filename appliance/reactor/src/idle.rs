//! When a shard that has nothing to do spins, and when it sleeps.
//!
//! Polling answers in a fraction of a microsecond; a sleeping shard needs tens to wake. But a shard
//! that spins for nothing burns a core, and one that spins on a core somebody else needs makes both
//! slower than sleep would. So `Adaptive` spins for about as long as a sleep and its wake-up cost
//! together, which is never worse than twice the best choice, and then sleeps. When the kernel has
//! taken the core away since the last look (an involuntary context switch), the core is not ours
//! alone: it sleeps at once for a while. `Busy` never sleeps, for machines given to this alone.
//!
//! A plain state machine: the owner of the loop passes what happened and does what it says.

use cairn_base::Nanos;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IdlePolicy {
    Adaptive,
    Busy,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Go round again.
    Spin,
    /// Sleep until a completion, a wake-up or the next timer.
    Sleep,
}

/// How long spinning stays off once the core turned out to be shared.
const SHARED_CORE_PENALTY: Nanos = Nanos::from_millis(100);

pub struct Idle {
    policy: IdlePolicy,
    spin_for: Nanos,
    idle_since: Option<Nanos>,
    switches_seen: Option<u64>,
    no_spin_until: Nanos,
}

impl Idle {
    /// `spin_for` is what one sleep and wake-up cost on this machine, as measured at start.
    pub fn new(policy: IdlePolicy, spin_for: Nanos) -> Idle {
        Idle { policy, spin_for, idle_since: None, switches_seen: None, no_spin_until: Nanos(0) }
    }

    /// Called once per turn of the loop. `involuntary_switches` is the thread's running count
    /// (`RUSAGE_THREAD`'s `ru_nivcsw`), as fresh as the caller cares to read it.
    pub fn step(&mut self, now: Nanos, did_work: bool, involuntary_switches: u64) -> Action {
        if self.policy == IdlePolicy::Busy {
            return Action::Spin;
        }
        let seen = self.switches_seen.replace(involuntary_switches);
        if seen.is_some_and(|seen| seen < involuntary_switches) {
            self.no_spin_until = now + SHARED_CORE_PENALTY;
        }
        if did_work {
            self.idle_since = None;
            return Action::Spin;
        }
        let idle_since = *self.idle_since.get_or_insert(now);
        if now < self.no_spin_until || now.saturating_sub(idle_since) >= self.spin_for {
            return Action::Sleep;
        }
        Action::Spin
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_idle_shard_spins_for_its_interval_then_sleeps_until_there_is_work() {
        let mut idle = Idle::new(IdlePolicy::Adaptive, Nanos(50));
        assert_eq!(idle.step(Nanos(1000), true, 0), Action::Spin);
        assert_eq!(idle.step(Nanos(1010), false, 0), Action::Spin);
        assert_eq!(idle.step(Nanos(1059), false, 0), Action::Spin);
        assert_eq!(idle.step(Nanos(1060), false, 0), Action::Sleep);
        assert_eq!(idle.step(Nanos(9000), false, 0), Action::Sleep);
        assert_eq!(idle.step(Nanos(9010), true, 0), Action::Spin);
        assert_eq!(idle.step(Nanos(9020), false, 0), Action::Spin);
    }

    #[test]
    fn a_core_that_was_taken_away_is_not_spun_on_for_a_while() {
        let mut idle = Idle::new(IdlePolicy::Adaptive, Nanos(50));
        assert_eq!(idle.step(Nanos(0), true, 7), Action::Spin, "the first count is no news");
        assert_eq!(idle.step(Nanos(10), false, 8), Action::Sleep);
        assert_eq!(idle.step(Nanos(20), true, 8), Action::Spin, "work is done all the same");
        assert_eq!(idle.step(Nanos(30), false, 8), Action::Sleep);
        let later = Nanos(10) + SHARED_CORE_PENALTY;
        assert_eq!(idle.step(later, true, 8), Action::Spin);
        assert_eq!(idle.step(later + Nanos(1), false, 8), Action::Spin);
    }

    #[test]
    fn busy_never_sleeps() {
        let mut idle = Idle::new(IdlePolicy::Busy, Nanos(50));
        for now in 0..1000 {
            assert_eq!(idle.step(Nanos(now), false, now), Action::Spin);
        }
    }
}
