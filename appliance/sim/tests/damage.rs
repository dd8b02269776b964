//! A tablet whose trees are damaged, beside others that are not, for much longer than a log lasts.
//!
//! Every node of one tablet that is on the device rots, under a pool that is served. Whoever asks for
//! what lies in them hears so. The tablet goes on taking names as long as nothing of the old has to be
//! read for it, the other tablets notice nothing, the log is trimmed, and the pool opens again.

use cairn_base::{BLOCK_BYTES, Nanos};
use cairn_engine::attr::SetAttr;
use cairn_engine::name::Name;
use cairn_engine::op::{Create, CreateHow, Lookup, Mkdir};
use cairn_engine::{Cred, FsError, Shard};
use cairn_format::node::Node;
use cairn_format::version::NODE_MAGIC;
use cairn_format::{InodeNo, TabletId};
use cairn_sim::world::{World, WorldConfig};
use std::rc::Rc;

/// Names in each directory before the damage.
const NAMES: u64 = 1500;

fn world(seed: u64, shards: usize) -> World {
    let config = WorldConfig {
        tablets: 8,
        device_blocks: vec![64 << 10],
        fua: true,
        memtable_bytes: 64 << 10,
        log_blocks: 1024,
    };
    let mut world = World::new(seed, config);
    world.format().expect("formatted");
    world.boot(shards).expect("booted");
    world
}

fn name(nth: u64) -> Name {
    Name::parse(format!("a name of some length, number {nth}").as_bytes()).expect("a name")
}

async fn create(shard: &Rc<Shard<World>>, dir: InodeNo, nth: u64) -> Result<InodeNo, FsError> {
    let how = CreateHow::Guarded(SetAttr::default());
    Ok(shard.call(Create { cred: Cred::root(), dir, name: name(nth), how }).await?.ino)
}

async fn lookup(shard: &Rc<Shard<World>>, dir: InodeNo, nth: u64) -> Result<InodeNo, FsError> {
    Ok(shard.call(Lookup { cred: Cred::root(), dir, name: name(nth) }).await?.child)
}

/// What became of so many requests.
#[derive(Debug, Default)]
struct Answers {
    fine: u64,
    damage: u64,
}

impl Answers {
    fn count<T>(&mut self, answer: Result<T, FsError>) -> Result<(), String> {
        match answer {
            Ok(_) => self.fine += 1,
            Err(FsError::Corrupt { .. }) => self.damage += 1,
            Err(error) => return Err(error.to_string()),
        }
        Ok(())
    }
}

fn directory(world: &mut World, nth: u64) -> InodeNo {
    let shard = world.shards()[0].clone();
    let made = world.machine().run(0, async move {
        let set = SetAttr::default();
        let mkdir = Mkdir { cred: Cred::root(), dir: InodeNo::ROOT, name: name(nth), set };
        shard.call(mkdir).await
    });
    made.expect("it runs").expect("made").ino
}

fn fill(world: &mut World, dir: InodeNo, from: u64, count: u64) -> Answers {
    let shard = world.shards()[0].clone();
    let mut all = Answers::default();
    for first in (from..from + count).step_by(100) {
        let shard = shard.clone();
        let made = world.machine().run(0, async move {
            let mut answers = Answers::default();
            for nth in first..(first + 100).min(from + count) {
                let made = create(&shard, dir, nth).await;
                answers.count(made)?;
            }
            Ok::<_, String>(answers)
        });
        let made = made.expect("everybody is answered");
        let made = made.unwrap_or_else(|what| {
            let failures = world.shards().iter().filter_map(|shard| shard.failure());
            panic!("made, or refused for damage: {what} {:?}", failures.collect::<Vec<_>>())
        });
        (all.fine, all.damage) = (all.fine + made.fine, all.damage + made.damage);
    }
    all
}

fn look(world: &mut World, dir: InodeNo, from: u64, count: u64) -> Answers {
    let shard = world.shards()[0].clone();
    let looked = world.machine().run(0, async move {
        let mut answers = Answers::default();
        for nth in from..from + count {
            answers.count(lookup(&shard, dir, nth).await)?;
        }
        Ok::<_, String>(answers)
    });
    looked.expect("everybody is answered").expect("found, or refused for damage")
}

/// Turns a bit of every node of the tablet, of some level and higher; how many there were.
fn rot(world: &mut World, tablet: TabletId, level: u8) -> usize {
    let mut media = world.media.borrow_mut();
    let mut hit = 0;
    for block in media.written() {
        let read = |nth| media.peek(block.after(nth)).map_or(vec![0; BLOCK_BYTES], |b| b.to_vec());
        let bytes: Vec<u8> = (0..4).flat_map(read).collect();
        if bytes[..8] != NODE_MAGIC.to_le_bytes() {
            continue;
        }
        let node = Node::trusted(&bytes);
        if node.tablet() == tablet && node.level() >= level {
            media.rot(block, 8 * 3000 + 1);
            hit += 1;
        }
    }
    hit
}

/// `again`: also what the tablet wrote since, turn by turn.
fn a_damaged_tablet_leaves_the_others_alone(shards: usize, level: u8, again: bool) -> Answers {
    let mut world = world(7, shards);
    let dirs: Vec<InodeNo> = (0..6).map(|nth| directory(&mut world, nth)).collect();
    let hit = dirs[1];
    let others: Vec<InodeNo> =
        dirs.iter().copied().filter(|dir| dir.tablet() != hit.tablet()).collect();
    assert!(hit.tablet() != InodeNo::ROOT.tablet() && others.len() >= 3);
    for &dir in &dirs {
        assert_eq!(fill(&mut world, dir, 0, NAMES).fine, NAMES);
    }
    world.machine().idle(Nanos::from_secs(2)).expect("it idles");
    assert!(rot(&mut world, hit.tablet(), level) > 0);
    let trims = |world: &World| -> u64 {
        world.shards().iter().map(|shard| shard.core.counters.trims.get()).sum()
    };
    let before = trims(&world);
    let mut there = Answers::default();
    for turn in 1..=8 {
        let there_now = fill(&mut world, hit, turn * NAMES, NAMES / 2);
        (there.fine, there.damage) = (there.fine + there_now.fine, there.damage + there_now.damage);
        if again {
            rot(&mut world, hit.tablet(), level);
        }
        for &dir in &others {
            let made = fill(&mut world, dir, turn * NAMES, NAMES);
            assert_eq!((made.fine, made.damage), (NAMES, 0), "turn {turn}: {made:?}");
        }
    }
    assert!(trims(&world) > before + 4, "the log goes on");
    let old = look(&mut world, hit, 0, NAMES);
    assert!(old.damage > 0, "nobody met the damage: {old:?} and {there:?}");
    for boot in 1..=3 {
        world.crash();
        world.media.borrow_mut().faults.restart();
        world.boot(boot.min(3)).expect("it opens");
        for &dir in &others {
            let found = look(&mut world, dir, 0, NAMES);
            assert_eq!((found.fine, found.damage), (NAMES, 0));
            let from = (8 + boot as u64) * NAMES;
            assert_eq!(fill(&mut world, dir, from, NAMES / 4).fine, NAMES / 4);
        }
        fill(&mut world, hit, (8 + boot as u64) * NAMES, NAMES / 4);
    }
    there
}

#[test]
fn damaged_leaves_and_all_above_them_stop_no_other_tablet() {
    for shards in [1, 2] {
        a_damaged_tablet_leaves_the_others_alone(shards, 0, false);
    }
}

#[test]
fn damaged_interior_nodes_stop_no_other_tablet() {
    a_damaged_tablet_leaves_the_others_alone(1, 1, false);
}

/// Until it has so many log trees that cannot be read that nothing can be added.
#[test]
fn a_tablet_that_is_damaged_again_and_again_is_refused_in_the_end_and_stops_no_other() {
    let there = a_damaged_tablet_leaves_the_others_alone(1, 0, true);
    assert!(there.damage > 0, "{there:?}");
}
