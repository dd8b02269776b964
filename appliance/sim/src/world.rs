//! A whole appliance from a seed: devices that last, and the machine that is booted on them.
//!
//! The world is what survives a power cut: media, clock, entropy, digest. A boot makes a machine
//! with as many cores as asked for, opens the pool on them, and drives it until the power goes. The
//! doors of the real engine here are the simulated ones, which is all that tells it from a daemon.

use crate::client::Client;
use crate::clock::Clock;
use crate::digest::{Digest, Event};
use crate::disk::Disk;
use crate::entropy::Entropy;
use crate::machine::{Halt, Machine};
use crate::media::{Image, Media, Temper};
use crate::model::act::Act;
use crate::model::reading::Answer;
use crate::model::tree::Inodes;
use crate::nfs::{NfsClient, Service, Verifiers};
use cairn_base::{Nanos, door};
use cairn_engine::Shard;
use cairn_engine::error::FsError;
use cairn_nfs::{NfsConfig, NfsServer};
use std::cell::RefCell;
use std::rc::Rc;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WorldConfig {
    pub tablets: u16,
    /// Blocks of each device: one is mixed, two are meta and data.
    pub device_blocks: Vec<u64>,
    /// Whether the devices can make one write durable by itself.
    pub fua: bool,
    pub memtable_bytes: usize,
    /// Of one of a shard's two log areas.
    pub log_blocks: u64,
}

/// When deletions are forgotten.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Trimming {
    pub age: Nanos,
    pub tablet_max: u64,
    pub round: Nanos,
}

/// Why a boot came to nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BootError {
    Halted(Halt),
    /// The engine refused the pool.
    Refused(String),
}

pub struct World {
    pub clock: Clock,
    pub digest: Digest,
    pub entropy: Entropy,
    pub media: Rc<RefCell<Media>>,
    /// Of the deletion index, from the next boot on. Without it no deletion is forgotten for its age.
    pub trimming: Option<Trimming>,
    seed: u64,
    config: WorldConfig,
    boots: u64,
    booted: Option<Booted>,
}

/// What one boot made. Servers and shards go before the machine whose handles they hold.
struct Booted {
    nfs: Vec<Option<Rc<NfsClient>>>,
    servers: Vec<Service>,
    unstable: Verifiers,
    shards: Vec<Rc<Shard<World>>>,
    machine: Machine,
}

impl door::Doors for World {
    type Disk = Disk;
    type Clock = Clock;
    type Entropy = Entropy;
}

impl World {
    /// Blank devices, the power on, nothing booted.
    pub fn new(seed: u64, config: WorldConfig) -> World {
        let (clock, digest) = (Clock::default(), Digest::new(seed));
        let media =
            Media::new(seed, clock.clone(), digest.clone(), &config.device_blocks, config.fua);
        World::with(seed, config, (clock, digest), media)
    }

    /// A world that goes on from `image`, on which the power went; the power is on, nothing is booted.
    pub fn resume(
        seed: u64,
        config: WorldConfig,
        clock: &Clock,
        image: &Image,
        temper: Temper,
    ) -> World {
        let (clock, digest) = (clock.fork(), Digest::new(seed));
        let media = Media::after_cut(seed, clock.clone(), digest.clone(), image, temper);
        World::with(seed, config, (clock, digest), media)
    }

    fn with(
        seed: u64,
        config: WorldConfig,
        (clock, digest): (Clock, Digest),
        media: Media,
    ) -> World {
        World {
            clock,
            digest,
            entropy: Entropy::new(seed),
            media: Rc::new(RefCell::new(media)),
            trimming: None,
            seed,
            config,
            boots: 0,
            booted: None,
        }
    }

    pub fn config(&self) -> &WorldConfig {
        &self.config
    }

    /// How often a machine was started in it.
    pub fn boots(&self) -> u64 {
        self.boots
    }

    pub fn shards(&self) -> &[Rc<Shard<World>>] {
        self.booted.as_ref().map_or(&[], |booted| &booted.shards)
    }

    /// The running machine. Only a booted world has one.
    pub fn machine(&mut self) -> &mut Machine {
        &mut self.booted.as_mut().expect("the world is booted").machine
    }

    /// Simulated time that one awaited thing may take in the running machine.
    pub fn patience(&self) -> Nanos {
        self.booted.as_ref().map_or(Nanos(0), |booted| booted.machine.patience())
    }

    pub fn is_booted(&self) -> bool {
        self.booted.is_some()
    }

    /// A machine without an engine: for formatting, and for tools that work off line.
    pub fn bare_machine(&mut self, cores: usize) -> (Machine, Disk) {
        self.boots += 1;
        let seed = self.seed.wrapping_mul(0x1_0001).wrapping_add(self.boots);
        self.digest.fold(Event::Boot, &[self.boots, cores as u64]);
        let disk = Disk::new(&self.media);
        (Machine::new(seed, cores, &disk, &self.clock, &self.digest), disk)
    }

    /// Opens the pool with `shards` cores, recovering whatever the last boot left.
    pub fn boot(&mut self, shards: usize) -> Result<(), BootError> {
        assert!(self.booted.is_none(), "one boot at a time");
        if !self.media.borrow().is_on() {
            self.media.borrow_mut().power_on();
        }
        let (mut machine, disk) = self.bare_machine(shards);
        let shards = crate::engine::open(self, &mut machine, &disk)?;
        let serve = |shard: &Rc<Shard<World>>| {
            let server = NfsServer::new(shard.clone(), NfsConfig::loopback(2049));
            Service { shard: shard.clone(), server }
        };
        let servers = shards.iter().map(serve).collect();
        let (nfs, unstable) = (Vec::new(), Verifiers::default());
        self.booted = Some(Booted { nfs, servers, unstable, shards, machine });
        Ok(())
    }

    /// Makes an empty pool on the blank devices.
    pub fn format(&mut self) -> Result<(), BootError> {
        let (mut machine, disk) = self.bare_machine(1);
        crate::engine::format(self, &mut machine, &disk)
    }

    /// Somebody who asks the engine of a core.
    pub fn client(&self, core: usize) -> Client {
        Client { shard: self.shards()[core].clone(), nfs: None }
    }

    /// The client of that number, who asks over NFS, always of the same core.
    pub fn nfs_client(&mut self, number: usize) -> Client {
        let seed = self.seed.wrapping_add(self.boots << 32) ^ number as u64;
        let booted = self.booted.as_mut().expect("the world is booted");
        let core = number % booted.shards.len();
        if booted.nfs.len() <= number {
            booted.nfs.resize(number + 1, None);
        }
        let (service, unstable) = (&booted.servers[core], &booted.unstable);
        let made = || Rc::new(NfsClient::new(service, number, seed, unstable));
        let nfs = Some(booted.nfs[number].get_or_insert_with(made).clone());
        Client { shard: booted.shards[core].clone(), nfs }
    }

    /// Carries out one request on a core, with nothing else going on but what the engine does.
    pub fn perform(&mut self, core: usize, act: &Act, inodes: &Inodes) -> Result<Answer, Halt> {
        let client = self.client(core);
        let (act, inodes) = (act.clone(), inodes.clone());
        self.machine().run(core, async move { client.perform(&act, &inodes).await })
    }

    /// The power goes now, if it has not gone yet, and with it everything in memory.
    pub fn crash(&mut self) {
        self.media.borrow_mut().power_off();
        self.booted = None;
    }
}

impl From<Halt> for BootError {
    fn from(halt: Halt) -> BootError {
        BootError::Halted(halt)
    }
}

impl From<FsError> for BootError {
    fn from(error: FsError) -> BootError {
        BootError::Refused(error.to_string())
    }
}
