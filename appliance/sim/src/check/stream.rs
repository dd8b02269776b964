//! An agent that reads the change stream while clients are at work misses nothing, and is told of
//! nothing that a crash takes back.
//!
//! It goes on from the last change it was told of, as agents do. So nothing may come up later at or
//! below its cursor; and what it was told of an inode stays true until something newer is said.

use super::Unfit;
use crate::machine::Halt;
use crate::world::World;
use cairn_base::prng::Prng;
use cairn_engine::error::FsError;
use cairn_engine::{Change, Shard};
use cairn_format::{InodeNo, Seq};
use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

type Place = (Seq, u64);

const START: Place = (Seq(0), 0);
const END: Place = (Seq(u64::MAX), u64::MAX);
/// Small, so that the cursor stands in the middle of batches.
const PAGE: usize = 7;
const READS_PERCENT: u64 = 3;

pub struct Agent {
    told: Rc<RefCell<Told>>,
    prng: Prng,
}

#[derive(Default)]
struct Told {
    changes: BTreeSet<Place>,
    /// The newest of each inode.
    newest: BTreeMap<InodeNo, Seq>,
    is_reading: bool,
}

impl Told {
    fn next(&self) -> Place {
        self.changes.last().map_or(START, |&(seq, ino)| (seq, ino + 1))
    }

    fn take(&mut self, page: &[Change]) {
        for change in page {
            self.changes.insert((change.seq, change.ino.raw()));
            self.newest.insert(change.ino, change.seq);
        }
    }

    /// Compares with the whole stream as it is now.
    fn judge(&self, now: &[Change]) -> Result<(), String> {
        let cursor = self.next();
        for change in now {
            let place = (change.seq, change.ino.raw());
            if place < cursor && !self.changes.contains(&place) {
                return Err(format!("an agent at {cursor:?} was never told of {place:?}"));
            }
        }
        let mut newest: BTreeMap<InodeNo, Seq> = BTreeMap::new();
        for change in now {
            let seq = newest.entry(change.ino).or_insert(change.seq);
            *seq = change.seq.max(*seq);
        }
        for (ino, told) in &self.newest {
            if newest.get(ino).is_none_or(|seq| seq < told) {
                let is = newest.get(ino);
                return Err(format!(
                    "inode {ino} was told to change at {told:?}, and is at {is:?}"
                ));
            }
        }
        Ok(())
    }
}

impl Agent {
    pub fn new(seed: u64) -> Agent {
        Agent { told: Rc::default(), prng: Prng::new(seed ^ 0x6167_656e) }
    }

    /// Now and then it asks for a page.
    pub fn turn(&mut self, world: &mut World) {
        if !self.prng.percent(READS_PERCENT) || self.told.borrow().is_reading {
            return;
        }
        let core = self.prng.below(world.shards().len() as u64) as usize;
        let (shard, told) = (world.shards()[core].clone(), self.told.clone());
        told.borrow_mut().is_reading = true;
        world.machine().spawn(core, async move {
            let from = told.borrow().next();
            let page = shard.changes(from, END, PAGE).await;
            let mut told = told.borrow_mut();
            told.is_reading = false;
            // Beside a fault it may be refused, and tries again.
            told.take(&page.unwrap_or_default());
        });
    }

    /// After a start, with nobody else asking.
    pub fn check(&mut self, world: &mut World) -> Result<Result<(), Unfit>, Halt> {
        self.told.borrow_mut().is_reading = false;
        let shard = world.shards()[0].clone();
        let read = world.machine().run(0, async move { whole(&shard).await })?;
        Ok(match read {
            Ok(now) => self.told.borrow().judge(&now).map_err(Unfit::from),
            Err(error) => Err(Unfit::of(error, "the change stream")),
        })
    }
}

/// The stream from its beginning.
pub async fn whole(shard: &Rc<Shard<World>>) -> Result<Vec<Change>, FsError> {
    const PAGE: usize = 50;
    let (mut all, mut from) = (Vec::new(), START);
    loop {
        let page = shard.changes(from, END, PAGE).await?;
        let Some(last) = page.last() else { return Ok(all) };
        from = (last.seq, last.ino.raw() + 1);
        all.extend(page);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::sample::ino;
    use cairn_engine::What;
    use cairn_engine::attr::FileKind;

    fn change(seq: u64, raw: u64) -> Change {
        let (seq, ino) = (Seq(seq), ino(raw));
        Change { seq, ino, kind: FileKind::Regular, data_version: 0, what: What::Metadata }
    }

    fn told() -> Told {
        let mut told = Told::default();
        told.take(&[change(10, 1), change(20, 2)]);
        told
    }

    #[test]
    fn later_changes_and_those_that_replace_others_pass() {
        assert_eq!(told().judge(&[change(10, 1), change(20, 2), change(30, 3)]), Ok(()));
        assert_eq!(told().judge(&[change(20, 2), change(30, 1)]), Ok(()));
    }

    #[test]
    fn a_change_below_the_cursor_or_one_taken_back_is_found() {
        assert!(told().judge(&[change(10, 1), change(15, 3), change(20, 2)]).is_err());
        assert!(told().judge(&[change(10, 1), change(20, 1), change(20, 2)]).is_err());
        assert!(told().judge(&[change(10, 1)]).is_err());
        assert!(told().judge(&[change(5, 1), change(20, 2)]).is_err());
    }
}
