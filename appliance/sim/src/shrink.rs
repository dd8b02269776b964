//! Makes a failing scenario smaller while it still fails.
//!
//! A seed draws everything from one stream, so a smaller scenario is another run, not a part of the
//! first: shrinking tries simpler ones of the same seed and of derived seeds, and keeps the first
//! that fails. It goes on until nothing simpler does.

use crate::media::SECTOR_BYTES;
use crate::scenario::{Log, Scenario};
use crate::verdict::{Verdict, judge};

/// How many derived seeds are tried for each simplification.
const VARIANTS: u64 = 6;

/// The smallest failing scenario found, with what it shows. `None` when the given one passes.
pub fn shrink(scenario: &Scenario, mut told: impl FnMut(&Scenario)) -> Option<(Scenario, String)> {
    let Verdict::Failed(mut what) = judge(scenario, &Log::default()) else { return None };
    let mut smallest = scenario.clone();
    'again: loop {
        for simpler in simpler(&smallest) {
            for variant in 0..VARIANTS {
                let mut simpler = simpler.clone();
                simpler.seed = smallest.seed.wrapping_add(variant << 32);
                if let Verdict::Failed(found) = judge(&simpler, &Log::default()) {
                    what = found;
                    smallest = simpler;
                    told(&smallest);
                    continue 'again;
                }
            }
        }
        return Some((smallest, what));
    }
}

fn simpler(scenario: &Scenario) -> Vec<Scenario> {
    let mut all = Vec::new();
    let mut with = |change: &dyn Fn(&mut Scenario)| {
        let mut simpler = scenario.clone();
        change(&mut simpler);
        if simpler != *scenario {
            all.push(simpler);
        }
    };
    with(&|s| s.rounds = 1);
    with(&|s| s.requests = (s.requests / 4).max(1));
    with(&|s| s.requests = (s.requests / 2).max(1));
    with(&|s| s.requests -= s.requests / 4);
    with(&|s| s.requests = (s.requests - 1).max(1));
    with(&|s| s.rot = 0);
    with(&|s| s.over_nfs = false);
    with(&|s| s.churn = false);
    with(&|s| s.fault = None);
    with(&|s| s.blow = None);
    with(&|s| s.blow.iter_mut().for_each(|blow| blow.times = 1));
    with(&|s| s.slow = None);
    with(&|s| s.clock_jumps = false);
    with(&|s| s.agents = false);
    with(&|s| s.sector_bytes = SECTOR_BYTES);
    with(&|s| s.clients = 1);
    with(&|s| s.shards_max = 1);
    with(&|s| s.rounds = (s.rounds - 1).max(1));
    with(&|s| s.clients = (s.clients - 1).max(1));
    with(&|s| s.shards_max = (s.shards_max - 1).max(1));
    with(&|s| s.world.device_blocks.truncate(1));
    with(&|s| s.world.fua = true);
    with(&|s| s.world.tablets = 2);
    all
}
