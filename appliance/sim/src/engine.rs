//! How the simulator formats and opens a pool: the one place that knows the engine's way in.
//!
//! The daemon does the same with threads where here there are cores of a machine: one shard reads the
//! pool, each gets its seed, all recover at once and serve when all have.

use crate::disk::Disk;
use crate::machine::Machine;
use crate::world::{BootError, World};
use cairn_base::Nanos;
use cairn_engine::format_pool::{FormatOptions, format_pool};
use cairn_engine::open::read_and_divide;
use cairn_engine::{Shard, ShardConfig, ports};
use std::cell::RefCell;
use std::rc::Rc;

/// Room for the logs of this many shards.
pub const SHARDS_MAX: u16 = 3;

/// Small, so that logs are trimmed in every scenario; a cache of a few nodes, so that they are read.
const CACHE_BYTES: usize = 1 << 20;
/// Small, so that reads find some blocks here and some not.
const DATA_CACHE_BYTES: [usize; 2] = [128 << 10, 16 << 20];

pub fn format(world: &World, machine: &mut Machine, disk: &Disk) -> Result<(), BootError> {
    let config = world.config();
    let options = FormatOptions {
        tablets: config.tablets,
        shards: SHARDS_MAX,
        log_blocks: config.log_blocks,
        uid: 0,
        gid: 0,
    };
    let (disk, entropy, clock) = (disk.clone(), world.entropy.clone(), world.clock.clone());
    let formatted =
        machine.run(0, async move { format_pool(&disk, &options, &entropy, &clock).await })?;
    formatted.map_err(|error| BootError::Refused(error.to_string()))
}

pub fn open(
    world: &World,
    machine: &mut Machine,
    disk: &Disk,
) -> Result<Vec<Rc<Shard<World>>>, BootError> {
    let refused = |error: cairn_engine::open::OpenError| BootError::Refused(error.to_string());
    let reader = disk.clone();
    let cores = machine.cores_len();
    let seeds = machine.run(0, async move { read_and_divide(&reader, cores as u16).await })?;
    let seeds = seeds.map_err(refused)?;
    let mut config = ShardConfig {
        memtable_bytes: world.config().memtable_bytes,
        cache_bytes: CACHE_BYTES,
        data_cache_bytes: DATA_CACHE_BYTES[world.boots() as usize % 2],
        // One or two filters are too many already, so that dropping them is exercised.
        filter_bytes: 0,
        // The wall clock jumps by years, and the checks read the whole history.
        deletion_age: Nanos(u64::MAX),
        ..ShardConfig::default()
    };
    if let Some(trimming) = world.trimming {
        config.deletion_age = trimming.age;
        config.deletions_tablet_max = trimming.tablet_max;
        config.trim_round = trimming.round;
    }
    let recovered = Rc::new(RefCell::new(Vec::new()));
    let mut shards = Vec::new();
    for ((core, mut seed), port) in seeds.into_iter().enumerate().zip(ports(cores)) {
        let (disk, clock) = (Rc::new(disk.clone()), Rc::new(world.clock.clone()));
        let handle = machine.handle(core);
        let shard: Rc<Shard<World>> = Shard::begin(&mut seed, disk, clock, handle, port, config);
        let mail = shard.clone();
        machine.set_mail(core, move || mail.poll_mail());
        let (opening, done) = (shard.clone(), recovered.clone());
        machine.spawn(core, async move {
            let result = opening.recover(seed).await;
            done.borrow_mut().push(result);
        });
        shards.push(shard);
    }
    let done = || {
        let mut recovered = recovered.borrow_mut();
        if let Some(at) = recovered.iter().position(Result::is_err) {
            return Some(recovered.swap_remove(at));
        }
        (recovered.len() == cores).then_some(Ok(()))
    };
    machine.run_until(done)?.map_err(refused)?;
    Ok(shards)
}
