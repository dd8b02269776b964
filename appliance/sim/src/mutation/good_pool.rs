//! Sound pools to break: made by the engine, with something of everything in them, and left as a power
//! cut leaves them.
//!
//! Two are needed. One device for all, on two shards, so much in it that trees have levels and log trees
//! wait to be folded. And metadata and data apart, on one shard, most of it still in the log. What only a
//! cut in the middle of something leaves (orphans, operations to be finished) is put in by the mutations.

use crate::mutation::layout::Layout;
use crate::mutation::pool_copy::PoolCopy;
use crate::scenario::DEVICE_BLOCKS;
use crate::world::{World, WorldConfig};
use cairn_base::{DmaBuf, Nanos};
use cairn_engine::attr::{FileKind, Rdev, SetAttr};
use cairn_engine::error::FsError;
use cairn_engine::op::{
    Create, CreateHow, Getattr, Link, Mkdir, Mknod, Release, Rename, SetXattr, Stability, Stage,
    Symlink, Unlink, Write, XattrSet,
};
use cairn_engine::{Cred, Name, Shard};
use cairn_format::InodeNo;
use std::collections::BTreeMap;
use std::rc::Rc;

/// Files that are made only so that there are many items.
const CROWD: u64 = 900;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Which {
    /// One device, two shards, trees of all sorts.
    Mixed,
    /// A device for metadata and one for data.
    Split,
}

pub struct GoodPool {
    pub copy: PoolCopy,
    pub layout: Layout,
    /// By path, as the script made them.
    pub names: BTreeMap<&'static str, InodeNo>,
}

type Names = BTreeMap<&'static str, InodeNo>;

pub fn make(which: Which) -> Result<GoodPool, String> {
    match which {
        Which::Mixed => make_quiet(which, config(4, 1, 64 << 10), 2, CROWD),
        Which::Split => make_quiet(which, config(3, 2, 512 << 10), 1, 40),
    }
}

fn config(tablets: u16, devices: usize, memtable_bytes: usize) -> WorldConfig {
    let device_blocks = vec![DEVICE_BLOCKS; devices];
    WorldConfig { tablets, device_blocks, fua: true, memtable_bytes, log_blocks: 1500 }
}

fn begin(seed: u64, config: WorldConfig, shards: usize) -> Result<World, String> {
    let mut world = World::new(seed, config);
    world.format().map_err(|error| format!("format: {error:?}"))?;
    world.boot(shards).map_err(|error| format!("boot: {error:?}"))?;
    Ok(world)
}

fn make_quiet(
    which: Which,
    config: WorldConfig,
    shards: usize,
    crowd: u64,
) -> Result<GoodPool, String> {
    let mut world = begin(which as u64 + 1, config, shards)?;
    let names = run(&mut world, |mut maker| async move {
        maker.everything().await?;
        maker.crowd(0..crowd).await?;
        Ok(maker.names)
    })?;
    // A second epoch: what the first left was replayed, and lies in trees or in the new log.
    idle(&mut world)?;
    world.crash();
    world.boot(shards).map_err(|error| format!("boot: {error:?}"))?;
    let late = |maker: Maker| async move { maker.late(&names, crowd).await.map(|()| names) };
    let names = run(&mut world, late)?;
    idle(&mut world)?;
    finish(world, names)
}

/// Long enough for the logs to carry their last marks.
fn idle(world: &mut World) -> Result<(), String> {
    world.machine().idle(Nanos::from_secs(2)).map_err(|halt| format!("{halt:?}"))
}

fn finish(mut world: World, names: Names) -> Result<GoodPool, String> {
    world.crash();
    let copy = PoolCopy::of(&world.media.borrow());
    let layout = Layout::of(&copy).ok_or("the pool cannot be read")?;
    Ok(GoodPool { copy, layout, names })
}

/// Runs a script on the first shard.
fn run<F>(world: &mut World, script: impl FnOnce(Maker) -> F) -> Result<Names, String>
where
    F: Future<Output = Result<Names, FsError>> + 'static,
{
    let maker = Maker { shard: world.shards()[0].clone(), names: Names::new() };
    let done = world.machine().run(0, script(maker)).map_err(|halt| format!("{halt:?}"))?;
    done.map_err(|error| error.to_string())
}

/// Asks the engine for things, and remembers their names.
struct Maker {
    shard: Rc<Shard<World>>,
    names: Names,
}

fn name(text: &str) -> Result<Name, FsError> {
    Name::parse(text.as_bytes())
}

/// The directory and the last part of a path.
fn split(path: &str) -> (&str, &str) {
    path.rsplit_once('/').unwrap_or(("", path))
}

impl Maker {
    fn dir_of(&self, path: &str) -> InodeNo {
        self.names.get(split(path).0).copied().unwrap_or(InodeNo::ROOT)
    }

    async fn directory(&mut self, path: &'static str) -> Result<(), FsError> {
        let (cred, dir, name) = (Cred::root(), self.dir_of(path), name(split(path).1)?);
        let made = self.shard.call(Mkdir { cred, dir, name, set: SetAttr::default() }).await?;
        self.names.insert(path, made.ino);
        Ok(())
    }

    async fn create(&self, dir: InodeNo, text: &str) -> Result<InodeNo, FsError> {
        let how = CreateHow::Guarded(SetAttr::default());
        let create = Create { cred: Cred::root(), dir, name: name(text)?, how };
        Ok(self.shard.call(create).await?.ino)
    }

    async fn file(&mut self, path: &'static str) -> Result<InodeNo, FsError> {
        let ino = self.create(self.dir_of(path), split(path).1).await?;
        self.names.insert(path, ino);
        Ok(ino)
    }

    async fn node(&mut self, path: &'static str, kind: FileKind) -> Result<(), FsError> {
        let (cred, dir, name) = (Cred::root(), self.dir_of(path), name(split(path).1)?);
        let (set, rdev) = (SetAttr::default(), Rdev { major: 1, minor: 3 });
        let made = self.shard.call(Mknod { cred, dir, name, set, kind, rdev }).await?;
        self.names.insert(path, made.ino);
        Ok(())
    }

    fn payload(&self, ino: InodeNo, offset: u64, len: usize) -> DmaBuf {
        let mut data = self.shard.arena().alloc((offset % 4096) as usize + len);
        let payload =
            (0..data.len()).map(|n| (n as u64 * 31 + offset / 4096 + ino.raw()) as u8 | 1);
        data.iter_mut().zip(payload).for_each(|(byte, value)| *byte = value);
        data
    }

    async fn write(&self, ino: InodeNo, offset: u64, len: usize) -> Result<(), FsError> {
        let data = self.payload(ino, offset, len);
        let (cred, stability) = (Cred::root(), Stability::FileSync);
        self.shard.call(Write { cred, ino, offset, data, len, stability }).await.map(drop)
    }

    async fn xattr(&self, ino: InodeNo, name: &str, len: usize) -> Result<(), FsError> {
        let (name, value) = (name.as_bytes().to_vec(), vec![0x5a; len]);
        let set = SetXattr { cred: Cred::root(), ino, name, value, how: XattrSet::Any };
        self.shard.call(set).await.map(drop)
    }

    async fn link(&self, ino: InodeNo, path: &str) -> Result<(), FsError> {
        let (dir, name) = (self.dir_of(path), name(split(path).1)?);
        self.shard.call(Link { cred: Cred::root(), ino, dir, name }).await.map(drop)
    }

    async fn unlink(&self, dir: InodeNo, text: &str) -> Result<(), FsError> {
        let unlink = Unlink { cred: Cred::root(), dir, name: name(text)? };
        self.shard.call(unlink).await.map(drop)
    }

    async fn rename(&self, from: &str, to: &str) -> Result<(), FsError> {
        let rename = Rename {
            cred: Cred::root(),
            from_dir: self.dir_of(from),
            from_name: name(split(from).1)?,
            to_dir: self.dir_of(to),
            to_name: name(split(to).1)?,
        };
        self.shard.call(rename).await.map(drop)
    }

    /// One of each kind, and directories in every tablet.
    async fn everything(&mut self) -> Result<(), FsError> {
        for dir in ["/a", "/b", "/c", "/d", "/a/inner", "/a/inner/deep", "/b/moves"] {
            self.directory(dir).await?;
        }
        let inline = self.file("/a/inline").await?;
        self.write(inline, 0, 100).await?;
        self.xattr(inline, "user.small", 20).await?;
        self.xattr(inline, "user.large", 10_000).await?;
        let many = self.file("/a/many").await?;
        for part in 0..6 {
            // Apart, so that each is an extent of its own with a hole behind it.
            self.write(many, part * 40_960, 20_000).await?;
        }
        self.write(many, 3 << 20, 9000).await?;
        let big = self.file("/b/big").await?;
        self.write(big, 0, 1 << 20).await?;
        self.write(big, 1 << 20, 600_000).await?;
        self.archived("/b/archived").await?;
        let hard = self.file("/b/hard").await?;
        self.write(hard, 0, 50_000).await?;
        self.link(hard, "/c/hard too").await?;
        self.link(hard, "/d/hard three").await?;
        let (cred, dir) = (Cred::root(), self.dir_of("/c/link"));
        let (set, target) = (SetAttr::default(), b"somewhere else".to_vec());
        let link = Symlink { cred, dir, name: name("link")?, set, target };
        let link = self.shard.call(link).await?.ino;
        self.names.insert("/c/link", link);
        self.node("/d/pipe", FileKind::Fifo).await?;
        self.node("/d/null", FileKind::Character).await?;
        self.rename("/b/moves", "/c/moved").await?;
        for n in 0..6 {
            let gone = format!("gone {n}");
            let dir = self.dir_of("/a/x");
            let ino = self.create(dir, &gone).await?;
            self.write(ino, 0, 9000).await?;
            self.xattr(ino, "cairn.hide.tape", 8).await?;
            self.unlink(dir, &gone).await?;
        }
        Ok(())
    }

    /// A file of three MiB: released, but for its first block; half of the second one is staged, and waits.
    async fn archived(&mut self, path: &'static str) -> Result<(), FsError> {
        const MIB: usize = 1 << 20;
        let ino = self.file(path).await?;
        for part in 0..3 {
            self.write(ino, part * MIB as u64, MIB).await?;
        }
        let data_version = self.shard.call(Getattr { ino }).await?.data_version;
        let (offset, len) = (4096, 1 << 30);
        self.shard.call(Release { ino, offset, len, data_version }).await?;
        let (offset, len) = (MIB as u64, MIB / 2);
        let data = self.payload(ino, offset, len);
        self.shard.call(Stage { ino, offset, data, len, data_version }).await.map(drop)
    }

    /// Many names in few directories.
    async fn crowd(&self, numbers: std::ops::Range<u64>) -> Result<(), FsError> {
        let dirs = ["/a/x", "/b/x", "/c/x", "/d/x"].map(|path| self.dir_of(path));
        for n in numbers {
            let ino = self.create(dirs[n as usize % 4], &format!("one of a crowd, {n}")).await?;
            if n % 5 == 0 {
                self.write(ino, 0, 5000).await?;
            }
        }
        Ok(())
    }

    /// What is still in the log when the power goes.
    async fn late(mut self, names: &Names, crowd: u64) -> Result<(), FsError> {
        self.names = names.clone();
        self.crowd(crowd..crowd + crowd / 3).await?;
        let file = self.create(self.dir_of("/a/x"), "late").await?;
        self.write(file, 0, 70_000).await?;
        self.rename("/a/late", "/c/later").await
    }
}
