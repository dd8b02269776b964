//! Fills a pool with empty files straight at the engine, without a protocol in between: for
//! measuring how costs depend on the population. Not for users; the pool is an ordinary one.

use crate::doors::RealDoors;
use crate::error::{Failure, open_failure};
use crate::offline::Offline;
use crate::place::Claim;
use cairn_engine::attr::SetAttr;
use cairn_engine::op::{Create, CreateHow, Mkdir};
use cairn_engine::open::read_and_divide;
use cairn_engine::{Cred, FsError, Name, Shard, ShardConfig, ports};
use cairn_format::InodeNo;
use nix::errno::Errno;
use std::rc::Rc;

/// Directories below the root: placed round robin, so that they cover all tablets.
const DIRECTORIES: u64 = 512;
/// Files made at once.
const WRITERS: u64 = 64;

/// Makes `files` empty files in the pool of `claim`, which has none of these names yet.
pub fn populate(claim: &Claim, files: u64) -> Result<(), Failure> {
    let offline = Offline::new(claim.devices())?;
    let disk = Rc::clone(offline.disk());
    let done: Result<(), Failure> = offline.run(async {
        let seeds = read_and_divide(&*disk, 1).await.map_err(|error| open_failure(&error))?;
        let mut seed = seeds.into_iter().next().expect("one shard was asked for");
        let port = ports(1).pop().expect("one shard has one port");
        let clock = Rc::new(*offline.clock());
        let config = ShardConfig::default();
        let handle = offline.handle();
        let shard: Rc<Shard<RealDoors>> =
            Shard::begin(&mut seed, Rc::clone(&disk), clock, handle.clone(), port, config);
        shard.recover(seed).await.map_err(|error| open_failure(&error))?;
        let writers = handle.gate("populate");
        let mut running = Vec::new();
        for writer in 0..WRITERS {
            let task = fill(Rc::clone(&shard), writer, files);
            let join = writers.spawn_with(task);
            running.push(join.map_err(|_| fs_failure(FsError::Stopped))?);
        }
        for writer in running {
            writer.await.map_err(fs_failure)?;
        }
        shard.stop().await.map_err(fs_failure)
    });
    done
}

fn fs_failure(error: FsError) -> Failure {
    Failure::new(Errno::from_raw(error.errno()), error.to_string())
}

async fn fill(shard: Rc<Shard<RealDoors>>, writer: u64, files: u64) -> Result<(), FsError> {
    let mine = (0..DIRECTORIES).filter(|dir| dir % WRITERS == writer);
    for number in mine {
        let (cred, set) = (Cred::root(), SetAttr::default());
        let name = Name::parse(format!("d{number}").as_bytes())?;
        let dir = shard.call(Mkdir { cred, dir: InodeNo::ROOT, name, set }).await?.ino;
        for file in (0..files).filter(|file| file % DIRECTORIES == number) {
            let name = Name::parse(format!("f{file}").as_bytes())?;
            let how = CreateHow::Guarded(SetAttr::default());
            shard.call(Create { cred: Cred::root(), dir, name, how }).await?;
        }
    }
    Ok(())
}
