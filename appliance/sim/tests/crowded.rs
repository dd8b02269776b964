//! What only shows with a crowd or after a while: more operations at once than a shard has slots to its
//! peer, and shards that do nothing while others work.

use cairn_base::Nanos;
use cairn_engine::attr::SetAttr;
use cairn_engine::name::Name;
use cairn_engine::op::{Create, CreateHow, Mkdir, Rename};
use cairn_engine::{Cred, FsError, Shard};
use cairn_format::{InodeNo, Seq};
use cairn_sim::world::{World, WorldConfig};
use std::cell::Cell;
use std::rc::Rc;

const SHARDS: usize = 2;

fn world(seed: u64) -> World {
    let config = WorldConfig {
        tablets: 4,
        device_blocks: vec![1 << 16],
        fua: true,
        memtable_bytes: 1 << 20,
        log_blocks: 1024,
    };
    let mut world = World::new(seed, config);
    world.format().expect("formatted");
    world.boot(SHARDS).expect("booted");
    world
}

fn name(text: &str) -> Name {
    Name::parse(text.as_bytes()).expect("a name")
}

async fn mkdir(shard: &Rc<Shard<World>>, dir: InodeNo, text: &str) -> InodeNo {
    let (cred, set) = (Cred::root(), SetAttr::default());
    let made = shard.call(Mkdir { cred, dir, name: name(text), set }).await;
    made.expect("there is room").ino
}

#[test]
fn more_moves_of_directories_than_there_are_slots_all_come_to_an_end() {
    const MOVES: usize = 200;
    for core in 0..SHARDS {
        let mut world = world(3);
        let shard = world.shards()[core].clone();
        let ended = Rc::new(Cell::new(0));
        let count = ended.clone();
        let all = async move {
            let (from, to) = (
                mkdir(&shard, InodeNo::ROOT, "from").await,
                mkdir(&shard, InodeNo::ROOT, "to").await,
            );
            for number in 0..MOVES {
                mkdir(&shard, from, &format!("{number}")).await;
            }
            let gate = shard.reactor().gate("moves");
            for number in 0..MOVES {
                let (shard, count) = (shard.clone(), count.clone());
                let moved = async move {
                    let (cred, what) = (Cred::root(), name(&format!("{number}")));
                    let rename = Rename {
                        cred,
                        from_dir: from,
                        from_name: what.clone(),
                        to_dir: to,
                        to_name: what,
                    };
                    match shard.call(rename).await {
                        // What is refused may be asked again.
                        Ok(_) | Err(FsError::Busy) => count.set(count.get() + 1),
                        Err(error) => panic!("move {number}: {error}"),
                    }
                };
                assert!(gate.spawn(moved).is_ok());
            }
            gate.close().await;
        };
        world.machine().run(core, all).expect("the machine runs");
        assert_eq!(ended.get(), MOVES, "from shard {core}");
    }
}

#[test]
fn a_shard_without_work_does_not_hold_the_change_stream_back() {
    for core in 0..SHARDS {
        let mut world = world(5);
        let shard = world.shards()[core].clone();
        let mut newest = InodeNo::ROOT;
        for number in 0..20 {
            let shard = shard.clone();
            let step = async move {
                let cred = Cred::root();
                let how = CreateHow::Unchecked(SetAttr::default());
                let file = name(&format!("{number}"));
                let create = Create { cred, dir: InodeNo::ROOT, name: file, how };
                let made = shard.call(create).await.expect("there is room");
                shard.reactor().sleep(Nanos::from_secs(20)).await;
                made.ino
            };
            newest = world.machine().run(core, step).expect("the machine runs");
        }
        let end = (Seq(u64::MAX), u64::MAX);
        let all = async move { shard.changes((Seq(0), 0), end, 1000).await };
        let changes = world.machine().run(core, all).expect("the machine runs").expect("readable");
        assert!(changes.iter().any(|change| change.ino == newest), "asked on shard {core}");
    }
}
