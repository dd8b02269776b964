//! A world with one file in it, and one agent that asks for it straight at the engine.

#![allow(dead_code, reason = "each test uses what it needs")]

use cairn_base::prng::Prng;
use cairn_engine::attr::{Attr, SetAttr};
use cairn_engine::name::Name;
use cairn_engine::op::{
    Create, CreateHow, Getattr, Read, Release, Setattr, Stability, Stage, Unlink, Write,
};
use cairn_engine::{Cred, FsError, Shard};
use cairn_format::InodeNo;
use cairn_sim::world::{World, WorldConfig};
use std::rc::Rc;

pub const BLOCK: u64 = 4096;
pub const MIB: u64 = 1 << 20;

/// On one or two shards, by the seed.
pub fn world(seed: u64) -> World {
    world_of(seed, 1 << 16)
}

/// That is soon full.
pub fn small_world(seed: u64) -> World {
    world_of(seed, 1 << 14)
}

fn world_of(seed: u64, device_blocks: u64) -> World {
    let config = WorldConfig {
        tablets: 3,
        device_blocks: vec![device_blocks],
        fua: seed.is_multiple_of(2),
        memtable_bytes: [128 << 10, 1 << 20][(seed / 2 % 2) as usize],
        log_blocks: 1024,
    };
    let mut world = World::new(seed, config);
    world.format().expect("formatted");
    world.boot(1 + (seed % 2) as usize).expect("booted");
    world
}

pub fn content(seed: u64, len: u64) -> Vec<u8> {
    let mut prng = Prng::new(seed ^ 0x6279_7465);
    (0..len).map(|_| prng.next_u64() as u8 | 1).collect()
}

/// One agent, and one file.
#[derive(Clone)]
pub struct File {
    pub shard: Rc<Shard<World>>,
    pub ino: InodeNo,
}

pub async fn create(shard: &Rc<Shard<World>>, name: &str) -> Result<InodeNo, FsError> {
    let (cred, dir) = (Cred::root(), InodeNo::ROOT);
    let name = Name::parse(name.as_bytes()).expect("a name");
    let how = CreateHow::Unchecked(SetAttr::default());
    Ok(shard.call(Create { cred, dir, name, how }).await?.ino)
}

impl File {
    pub async fn new(shard: &Rc<Shard<World>>, bytes: &[u8]) -> Result<File, FsError> {
        let file = File { shard: shard.clone(), ino: create(shard, "file").await? };
        for (nth, piece) in bytes.chunks(MIB as usize).enumerate() {
            file.write(nth as u64 * MIB, piece, Stability::FileSync).await?;
        }
        Ok(file)
    }

    pub async fn write(
        &self,
        offset: u64,
        bytes: &[u8],
        stability: Stability,
    ) -> Result<(), FsError> {
        let start = (offset % BLOCK) as usize;
        let mut data = self.shard.arena().alloc(start + bytes.len());
        data[start..start + bytes.len()].copy_from_slice(bytes);
        let (cred, ino, len) = (Cred::root(), self.ino, bytes.len());
        self.shard.call(Write { cred, ino, offset, data, len, stability }).await.map(drop)
    }

    pub async fn truncate(&self, size: u64) -> Result<(), FsError> {
        let set = SetAttr { size: Some(size), ..SetAttr::default() };
        let setattr = Setattr { cred: Cred::root(), ino: self.ino, set, guard: None };
        self.shard.call(setattr).await.map(drop)
    }

    pub async fn attr(&self) -> Attr {
        self.shard.call(Getattr { ino: self.ino }).await.expect("it is there")
    }

    pub async fn version(&self) -> u64 {
        self.attr().await.data_version
    }

    pub async fn release(&self, offset: u64, len: u64, data_version: u64) -> Result<u64, FsError> {
        self.shard.call(Release { ino: self.ino, offset, len, data_version }).await
    }

    pub async fn stage(
        &self,
        offset: u64,
        bytes: &[u8],
        data_version: u64,
    ) -> Result<u64, FsError> {
        let mut data = self.shard.arena().alloc(bytes.len());
        data[..bytes.len()].copy_from_slice(bytes);
        let (ino, len) = (self.ino, bytes.len());
        self.shard.call(Stage { ino, offset, data, len, data_version }).await
    }

    pub async fn unlink(&self, name: &str) -> Result<(), FsError> {
        let (cred, dir) = (Cred::root(), InodeNo::ROOT);
        let name = Name::parse(name.as_bytes()).expect("a name");
        self.shard.call(Unlink { cred, dir, name }).await.map(drop)
    }

    pub async fn read(&self, offset: u64, len: u64) -> Result<Vec<u8>, FsError> {
        let len = len as u32;
        let read = Read { cred: Cred::root(), ino: self.ino, offset, len };
        self.shard.call(read).await.map(|data| data.to_vec())
    }
}
