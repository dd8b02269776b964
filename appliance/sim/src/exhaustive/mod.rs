//! Every short script, with the power cut at every device command.
//!
//! A random run samples; this leaves nothing out, within its bounds: scripts of one, two, up to N
//! operations (`scripts.rs`), each cut before and after every write and flush of its last one, and on
//! request before and after every write and flush of the recovery as well (`states.rs`). Scripts are dealt
//! to threads; each thread has worlds of its own, so the outcome does not depend on their number.
//!
//! All of it is done twice: on a device that can make one write durable by itself, and on one that has to
//! be flushed, where more of what was written is still on its way at any moment.

mod scripts;
mod states;

pub use scripts::{Script, scripts};
pub use states::{Base, Tally};

use crate::verdict::caught;
use cairn_engine::sabotage::{Sabotage, plant};

/// Whether the device can make one write durable by itself.
const DEVICES: [bool; 2] = [true, false];

#[derive(Clone, Copy, Debug)]
pub struct Exhaustive {
    /// Operations of the longest scripts.
    pub length: usize,
    /// Scripts up to this long have their recovery cut as well.
    pub recovery_length: usize,
    pub threads: usize,
    /// Planted in every thread.
    pub bug: Option<Sabotage>,
}

#[derive(Clone, Debug, Default)]
pub struct Found {
    pub tally: Tally,
    /// A script, and what was wrong; in the order of the scripts.
    pub failures: Vec<(usize, String)>,
}

/// `told` hears of every script that is done.
pub fn explore(all: &Exhaustive, told: impl Fn() + Sync) -> Result<Found, String> {
    let told = &told;
    let found = std::thread::scope(|scope| {
        let threads =
            (0..all.threads).map(|part| scope.spawn(move || explore_part(all, part, told)));
        let threads: Vec<_> = threads.collect();
        let ended = threads.into_iter().map(|thread| {
            thread.join().unwrap_or_else(|_| Err("a thread ended with a panic".into()))
        });
        ended.collect::<Result<Vec<Found>, String>>()
    })?;
    let mut whole = Found::default();
    for part in found {
        whole.tally.add(&part.tally);
        whole.failures.extend(part.failures);
    }
    whole.failures.sort_unstable();
    Ok(whole)
}

fn explore_part(all: &Exhaustive, part: usize, told: &(impl Fn() + Sync)) -> Result<Found, String> {
    let bases = DEVICES.map(|fua| caught(|| Base::new(fua)));
    let bases = bases.into_iter().collect::<Result<Vec<Base>, String>>()?;
    let mut found = Found::default();
    let every = bases.iter().flat_map(|base| every(base, all.length));
    for (number, (base, script)) in every.enumerate().filter(|(n, _)| n % all.threads == part) {
        plant(all.bug);
        let in_recovery = script.len() <= all.recovery_length;
        let explored = caught(|| base.explore(&script, in_recovery));
        plant(None);
        match explored {
            Ok(tally) => found.tally.add(&tally),
            Err(what) => {
                found.tally.scripts += 1;
                found.failures.push((number, format!("{base} {script:?}: {what}")));
            }
        }
        told();
    }
    Ok(found)
}

/// All scripts up to a length, the short ones first.
fn every(base: &Base, length: usize) -> impl Iterator<Item = (&Base, Script)> {
    let lengths = (1..=length).flat_map(|n| scripts(base.tree(), base.dirs, base.next_id(), n));
    lengths.map(move |script| (base, script))
}

/// How many scripts there are, each counted once for each kind of device.
pub fn count(all: &Exhaustive) -> Result<usize, String> {
    let base = caught(|| Base::new(DEVICES[0]))?;
    Ok(DEVICES.len() * every(&base, all.length).count())
}
