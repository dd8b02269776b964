//! Merging of log trees under a small memtable: what it answers, what it leaves on the device, and what
//! it does when there is no space for it.
//!
//! Names come, go and come again until the fs tree is large beside a log tree, so that log trees merge
//! long before they fold. Every name that ever was is asked for, and the pool is verified as it lies
//! there. That lost deletion marks would show is tested too, with the bug planted.

mod cut;

use cairn_base::prng::Prng;
use cairn_engine::attr::SetAttr;
use cairn_engine::counters::CounterValues;
use cairn_engine::name::Name;
use cairn_engine::op::{Create, CreateHow, Lookup, Stability, Unlink, Write};
use cairn_engine::sabotage::{Sabotage, plant};
use cairn_engine::{Cred, FsError, Shard};
use cairn_format::InodeNo;
use cairn_sim::machine::Halt;
use cairn_sim::media::{Cut, CutEffect};
use cairn_sim::world::{World, WorldConfig};
use cut::cut_and_verify;
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;

/// Names there are to choose from.
const NAMES: u64 = 6000;

type TestShard = Rc<Shard<World>>;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Leads(InodeNo),
    Gone,
    /// The power went before it was said what became of it.
    Doubtful,
}

/// Each name that was ever used.
type Names = Rc<RefCell<BTreeMap<u64, State>>>;

struct Pool {
    world: World,
    names: Names,
    prng: Rc<RefCell<Prng>>,
    /// Of the boots that are over.
    counted: CounterValues,
}

fn name(nth: u64) -> Name {
    Name::parse(format!("a name of some length, number {nth}").as_bytes()).expect("a name")
}

async fn create(shard: &TestShard, nth: u64) -> Result<InodeNo, FsError> {
    let how = CreateHow::Guarded(SetAttr::default());
    let create = Create { cred: Cred::root(), dir: InodeNo::ROOT, name: name(nth), how };
    Ok(shard.call(create).await?.ino)
}

async fn unlink(shard: &TestShard, nth: u64) -> Result<(), FsError> {
    let unlink = Unlink { cred: Cred::root(), dir: InodeNo::ROOT, name: name(nth) };
    shard.call(unlink).await.map(drop)
}

/// Makes or removes names drawn at random, `makes` of a hundred drawn ones.
async fn churn(
    shard: TestShard,
    names: Names,
    prng: Rc<RefCell<Prng>>,
    (turns, makes): (u64, u64),
) -> Result<(), String> {
    for _ in 0..turns {
        let nth = prng.borrow_mut().below(NAMES);
        let before = names.borrow().get(&nth).copied().unwrap_or(State::Gone);
        let is_make = prng.borrow_mut().percent(makes);
        let wants_other = match before {
            State::Leads(_) => !is_make,
            State::Gone => is_make,
            State::Doubtful => false,
        };
        if !wants_other {
            continue;
        }
        names.borrow_mut().insert(nth, State::Doubtful);
        let done = match is_make {
            true => create(&shard, nth).await.map(State::Leads),
            false => unlink(&shard, nth).await.map(|()| State::Gone),
        };
        let now = done.map_err(|error| format!("name {nth}, make {is_make}: {error}"))?;
        names.borrow_mut().insert(nth, now);
    }
    Ok(())
}

impl Pool {
    fn new(seed: u64, blocks: u64) -> Pool {
        let config = WorldConfig {
            tablets: 2,
            device_blocks: vec![blocks],
            fua: true,
            memtable_bytes: 64 << 10,
            log_blocks: 1024,
        };
        let mut world = World::new(seed, config);
        world.format().expect("formatted");
        world.boot(1).expect("booted");
        let prng = Rc::new(RefCell::new(Prng::new(seed)));
        Pool { world, names: Names::default(), prng, counted: CounterValues::default() }
    }

    fn churn(&mut self, turns: u64, makes: u64) -> Result<(), String> {
        match self.churn_until_cut(turns, makes) {
            Ok(done) => done,
            Err(halt) => Err(format!("{halt:?}")),
        }
    }

    fn churn_until_cut(&mut self, turns: u64, makes: u64) -> Result<Result<(), String>, Halt> {
        let shard = self.world.shards()[0].clone();
        let (names, prng) = (self.names.clone(), self.prng.clone());
        self.world.machine().run(0, churn(shard, names, prng, (turns, makes)))
    }

    fn counters(&self) -> CounterValues {
        let mut sum = self.counted;
        self.world.shards().iter().for_each(|shard| sum.add(&shard.core.counters.values()));
        sum
    }

    /// The first name that does not lead where it should.
    fn compare(&mut self) -> Result<(), String> {
        let shard = self.world.shards()[0].clone();
        let names = self.names.clone();
        let all = async move {
            let names = names.borrow().clone();
            for (nth, right) in names {
                let lookup = Lookup { cred: Cred::root(), dir: InodeNo::ROOT, name: name(nth) };
                let found = match shard.call(lookup).await {
                    Ok(found) => State::Leads(found.child),
                    Err(FsError::NotFound) => State::Gone,
                    Err(error) => return Err(format!("name {nth}: {error}")),
                };
                if found != right && right != State::Doubtful {
                    return Err(format!("name {nth} leads to {found:?} and not to {right:?}"));
                }
            }
            Ok(())
        };
        self.world.machine().run(0, all).expect("the machine runs")
    }

    /// Cuts the power here and verifies what lies on the device.
    fn verify(&mut self) -> Result<(), String> {
        self.counted = self.counters();
        cut_and_verify(&mut self.world)
    }

    fn verify_and_boot(&mut self) -> Result<(), String> {
        self.verify()?;
        self.world.boot(1).map_err(|error| format!("{error:?}"))
    }
}

/// A pool with a large fs tree, then as many changes again, compared and verified.
fn grown_and_changed() -> Result<CounterValues, String> {
    let mut pool = Pool::new(5, 32 << 10);
    pool.churn(NAMES, 100)?;
    for _ in 0..3 {
        pool.churn(NAMES / 2, 40)?;
        pool.compare()?;
    }
    let counted = pool.counters();
    pool.verify_and_boot()?;
    pool.compare()?;
    Ok(counted)
}

#[test]
fn a_merge_keeps_the_youngest_answers_and_the_marks_of_deletions() {
    let counted = grown_and_changed().expect("nothing is wrong");
    assert!(counted.merges_finished > 10, "{counted:?}");
    assert!(counted.merge_steps > counted.merges_finished, "some take several steps: {counted:?}");
    assert!(counted.folds_finished > 2, "{counted:?}");
    // Of what is merged and folded most lies behind it; nothing is merged over and over.
    let written = counted.merge_blocks_written + counted.fold_blocks_written;
    assert!(written < 16 * counted.log_tree_blocks_written, "{counted:?}");
    plant(Some(Sabotage::MergeDropsDeletion));
    let with_bug = grown_and_changed();
    plant(None);
    assert!(with_bug.is_err(), "a merge that drops marks is not seen: {with_bug:?}");
}

#[test]
fn the_power_may_go_at_any_moment_of_a_merge() {
    let mut pool = Pool::new(7, 32 << 10);
    pool.churn(NAMES, 100).expect("there is room");
    let (mut cuts, mut unfinished) = (0, 0);
    while cuts < 40 {
        let before = pool.counters();
        let after = 1 + pool.prng.borrow_mut().below(600);
        let command = pool.world.media.borrow().commands() + after;
        let effect = if cuts % 2 == 0 { CutEffect::Before } else { CutEffect::After };
        pool.world.media.borrow_mut().set_cut(Some(Cut { command, effect }));
        assert_eq!(pool.churn_until_cut(1 << 20, 50), Err(Halt::PowerOff), "the cut comes first");
        cuts += 1;
        let since = pool.counters().since(&before);
        unfinished += u64::from(since.merge_steps > 0);
        pool.verify_and_boot().unwrap_or_else(|what| panic!("cut {cuts}: {what}"));
        pool.compare().unwrap_or_else(|what| panic!("cut {cuts}: {what}"));
    }
    assert!(unfinished > 10, "merges are under way when the power goes: {unfinished}");
    assert!(pool.counters().merges_finished > 10, "{:?}", pool.counters());
}

#[test]
fn in_a_nearly_full_pool_nothing_is_refused_because_of_a_merge() {
    let mut pool = Pool::new(9, 12 << 10);
    pool.churn(NAMES, 100).expect("there is room");
    let before = pool.counters();
    let shard = pool.world.shards()[0].clone();
    let full = async move {
        let ino = create(&shard, NAMES).await.expect("there is room for a name");
        let mut written = 0;
        loop {
            let len = 512 << 10;
            let data = shard.arena().alloc_zeroed(len);
            let (cred, stability) = (Cred::root(), Stability::FileSync);
            let write = Write { cred, ino, offset: written, data, len, stability };
            match shard.call(write).await {
                Ok(_) => written += len as u64,
                Err(error) => return (written, error),
            }
        }
    };
    let (written, refused) = pool.world.machine().run(0, full).expect("the machine runs");
    assert_eq!(refused, FsError::NoSpace);
    assert!(written > 1 << 20, "most of it is for data: {written}");
    // Removing always goes on, and what it frees is enough for names that come back.
    pool.churn(NAMES / 4, 0).expect("removing always works");
    pool.churn(NAMES, 50).expect("there is room again");
    pool.compare().expect("every name leads where it should");
    let since = pool.counters().since(&before);
    assert!(since.log_trees_written > 20, "the log went on: {since:?}");
    pool.verify_and_boot().expect("no block is lost");
    pool.compare().expect("every name leads where it should");
}
