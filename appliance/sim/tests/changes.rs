//! An agent follows the change stream while the power is cut: after every cut it still knows all that
//! there is. What is in flight when it looks must be neither shown to it nor hide from it what it has
//! not been shown yet.

use cairn_base::prng::Prng;
use cairn_engine::attr::SetAttr;
use cairn_engine::name::Name;
use cairn_engine::op::{Create, CreateHow, Setattr, Stability, Unlink, Write};
use cairn_engine::{Cred, FsError, SeqIndex, Shard, What};
use cairn_format::{InodeNo, Seq};
use cairn_sim::world::{World, WorldConfig};
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;

const SEEDS: u64 = 12;
const CUTS: u64 = 12;
const FILES: u64 = 4;
const END: (Seq, u64) = (Seq(u64::MAX), u64::MAX);

/// What somebody knows who has seen every page so far: where to go on, and of each inode the seq of
/// its last change. It is not on the machine whose power goes.
#[derive(Default)]
struct Agent {
    from: (Seq, u64),
    inodes: BTreeMap<InodeNo, Seq>,
}

/// One page; how many changes it had.
async fn page(shard: &Rc<Shard<World>>, agent: &RefCell<Agent>) -> Result<usize, FsError> {
    let from = agent.borrow().from;
    let changes = shard.changes(from, END, 5).await?;
    let mut agent = agent.borrow_mut();
    for change in &changes {
        let at = (change.seq, change.ino.raw());
        assert!(at >= agent.from, "{change:?} is behind {:?}", agent.from);
        agent.from = (change.seq, change.ino.raw() + 1);
        match change.what {
            What::Deleted(_) => drop(agent.inodes.remove(&change.ino)),
            _ => drop(agent.inodes.insert(change.ino, change.seq)),
        }
    }
    Ok(changes.len())
}

fn name(core: usize, number: u64) -> Name {
    Name::parse(format!("{core}-{number}").as_bytes()).expect("a name")
}

/// Changes the same few files for ever, so that most changes hide one that may not have been told.
async fn disturb(shard: Rc<Shard<World>>, core: usize, seed: u64) {
    let mut prng = Prng::new(seed);
    loop {
        shard.reactor().yield_now().await;
        let name = name(core, prng.below(FILES));
        let (cred, dir) = (Cred::root(), InodeNo::ROOT);
        let how = CreateHow::Unchecked(SetAttr::default());
        let create = Create { cred: cred.clone(), dir, name: name.clone(), how };
        let Ok(created) = shard.call(create).await else { continue };
        let ino = created.ino;
        // Refusals are as good: only what is durable in the end counts.
        match prng.below(4) {
            0 => {
                let set = SetAttr { mode: Some(prng.below(0o1000) as u32), ..SetAttr::default() };
                let _ = shard.call(Setattr { cred, ino, set, guard: None }).await;
            }
            1 => {
                let _ = shard.call(Unlink { cred, dir, name }).await;
            }
            stability => {
                let data = vec![7; 100];
                let how = if stability == 2 { Stability::FileSync } else { Stability::Unstable };
                let _ = write(&shard, cred, ino, data, how).await;
            }
        }
    }
}

async fn write(
    shard: &Rc<Shard<World>>,
    cred: Cred,
    ino: InodeNo,
    data: Vec<u8>,
    stability: Stability,
) -> Result<(), FsError> {
    let len = data.len();
    let mut block = shard.arena().alloc(len);
    block[..len].copy_from_slice(&data);
    shard.call(Write { cred, ino, offset: 0, data: block, len, stability }).await.map(drop)
}

fn walked(world: &mut World) -> BTreeMap<InodeNo, Seq> {
    let shard = world.shards()[0].clone();
    let all = world
        .machine()
        .run(0, async move { shard.walk_seq(SeqIndex::Meta, (Seq(0), 0), END, usize::MAX).await });
    let all = all.expect("the machine runs").expect("it can be read");
    all.into_iter().map(|(seq, ino)| (ino, seq)).collect()
}

fn follow(seed: u64) {
    let config = WorldConfig {
        tablets: 3,
        device_blocks: vec![1 << 15],
        fua: seed.is_multiple_of(2),
        memtable_bytes: 256 << 10,
        log_blocks: 1024,
    };
    let mut prng = Prng::new(seed);
    let mut world = World::new(seed, config);
    world.format().expect("formatted");
    let agent = Rc::new(RefCell::new(Agent::default()));
    for cut in 0..CUTS {
        let shards = 1 + (seed + cut) % 3;
        world.boot(shards as usize).expect("booted");
        for core in 0..shards as usize {
            let shard = world.shards()[core].clone();
            let seed = seed << 32 | cut << 8 | core as u64;
            world.machine().spawn(core, disturb(shard, core, seed));
        }
        let (shard, known) = (world.shards()[0].clone(), agent.clone());
        world.machine().spawn(0, async move {
            // An error is a machine that is going down.
            while page(&shard, &known).await.is_ok() {
                shard.reactor().yield_now().await;
            }
        });
        for _ in 0..200 + prng.below(2000) {
            world.machine().step().expect("the power is on");
        }
        world.crash();
        world.boot(1 + (cut % 2) as usize).expect("booted again");
        let (shard, known) = (world.shards()[0].clone(), agent.clone());
        let caught_up = world.machine().run(0, async move {
            while page(&shard, &known).await? > 0 {}
            Ok::<(), FsError>(())
        });
        caught_up.expect("the machine runs").expect("it can be read");
        let there = walked(&mut world);
        assert_eq!(agent.borrow().inodes, there, "seed {seed}, cut {cut}: what the agent knows");
        world.crash();
    }
}

#[test]
fn an_agent_knows_after_every_power_cut_what_there_is() {
    for seed in 0..SEEDS {
        follow(seed);
    }
}
