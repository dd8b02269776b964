//! From an inode up to its names and paths, through the back references.
//!
//! A path is climbed one directory at a time, each step asked of the shard that knows it, so names
//! may change on the way. Whatever was read is therefore read a second time: an entry position is
//! never used twice, so a name that stands at the same position again has stood there all the time
//! between, and the path existed as a whole at the moment the first pass ended. (Except a name that
//! was changed away and back in its directory meanwhile, which nobody could tell apart.) A path that
//! changed is climbed again, a few times; then the caller learns that it does not hold still.
//!
//! Work is bounded: a path has at most `PATH_BYTES_MAX` bytes, a page of names `NAMES_MAX`.

use crate::bridge::{CallError, Caller};
use crate::changes::kind_word;
use crate::proto::{GetReferringEntriesReply, InoPathReply, ReferringEntry};
use crate::request::{ControlReply, ControlRequest};
use crate::status::{self, unexpected};
use cairn_engine::FsError;
use cairn_engine::op::Named;
use cairn_format::InodeNo;
use cairn_format::item::Site;
use std::time::Duration;
use tokio::sync::mpsc;
use tonic::Status;

/// The longest path that is told; deeper directories exist only by handle.
const PATH_BYTES_MAX: usize = 64 << 10;
/// Back references of one page.
const NAMES_MAX: usize = 256;
/// How often a path that changes is climbed again, and after what pause.
const TRIES: u32 = 10;
const PAUSE: Duration = Duration::from_millis(2);

const ENOENT: i32 = 2;
const ENAMETOOLONG: i32 = 36;
const ESTALE: i32 = 116;

pub(crate) type Paths = mpsc::Sender<Result<InoPathReply, Status>>;
pub(crate) type Entries = mpsc::Sender<Result<GetReferringEntriesReply, Status>>;

/// Sends the first path of `ino`, or all of them.
pub(crate) async fn send_paths(shard: Caller, ino: InodeNo, all: bool, paths: Paths) {
    let climb = Climb { shard };
    if let Err(status) = climb.send_paths(ino, all, &paths).await {
        // A client that does not listen any more is told nothing.
        let _ = paths.send(Err(status)).await;
    }
}

/// Sends the entries that refer to `ino`, a page at a time.
pub(crate) async fn send_entries(shard: Caller, ino: InodeNo, entries: Entries) {
    let climb = Climb { shard };
    if let Err(status) = climb.send_entries(ino, &entries).await {
        let _ = entries.send(Err(status)).await;
    }
}

/// One step up: `child` is named so at `site`.
struct Step {
    child: InodeNo,
    site: Site,
    named: Named,
}

struct Climb {
    shard: Caller,
}

impl Climb {
    async fn send_paths(&self, ino: InodeNo, all: bool, paths: &Paths) -> Result<(), Status> {
        if ino == InodeNo::ROOT {
            return send(paths, (*b"/").into()).await;
        }
        let mut sent = false;
        for _ in 0..TRIES {
            let mut after = None;
            loop {
                let sites = self.sites(ino, after, if all { NAMES_MAX } else { 1 }).await?;
                for site in &sites {
                    // A name that went away meanwhile has no path; its successor has a later place,
                    // or another directory's, where this listing may have been already.
                    if let Some(path) = self.path(ino, *site).await? {
                        send(paths, path).await?;
                        sent = true;
                        if !all {
                            return Ok(());
                        }
                    }
                }
                after = sites.last().copied();
                if after.is_none() || !all {
                    break;
                }
            }
            if sent {
                return Ok(());
            }
            if self.sites(ino, None, 1).await?.is_empty() {
                return Err(status::missing(ENOENT, "the inode has no name any more"));
            }
            tokio::time::sleep(PAUSE).await;
        }
        Err(status::unavailable(ESTALE, "its path keeps changing: try again".into()))
    }

    async fn send_entries(&self, ino: InodeNo, entries: &Entries) -> Result<(), Status> {
        let mut after = None;
        loop {
            let sites = self.sites(ino, after, NAMES_MAX).await?;
            let mut page = Vec::with_capacity(sites.len());
            for site in &sites {
                if let Some(named) = self.name_at(*site, ino).await? {
                    page.push(ReferringEntry {
                        dir_ino: site.dir.raw(),
                        position: site.position.0,
                        d_type: kind_word(named.kind).into(),
                        name: named.name.into_vec(),
                    });
                }
            }
            if !page.is_empty() {
                let reply = GetReferringEntriesReply { entries: page };
                entries.send(Ok(reply)).await.map_err(|_| nobody())?;
            }
            match sites.last() {
                Some(last) => after = Some(*last),
                None => return Ok(()),
            }
        }
    }

    /// The path that ends in the name at `site`; nothing when the inode is not named there any more.
    async fn path(&self, ino: InodeNo, site: Site) -> Result<Option<Box<[u8]>>, Status> {
        for _ in 0..TRIES {
            if self.name_at(site, ino).await?.is_none() {
                return Ok(None);
            }
            if let Some(steps) = self.climb(ino, site).await?
                && self.still_so(&steps).await?
            {
                let mut path = Vec::new();
                for step in steps.iter().rev() {
                    path.push(b'/');
                    path.extend_from_slice(&step.named.name);
                }
                return Ok(Some(path.into()));
            }
            tokio::time::sleep(PAUSE).await;
        }
        Err(status::unavailable(ESTALE, "its path keeps changing: try again".into()))
    }

    /// From the inode to the root; nothing when something changed on the way.
    async fn climb(&self, ino: InodeNo, site: Site) -> Result<Option<Vec<Step>>, Status> {
        let (mut child, mut site) = (ino, site);
        let (mut steps, mut bytes) = (Vec::new(), 0);
        loop {
            let Some(named) = self.name_at(site, child).await? else { return Ok(None) };
            bytes += 1 + named.name.len();
            if bytes > PATH_BYTES_MAX {
                return Err(status::missing(ENAMETOOLONG, "the path is longer than 64 KiB"));
            }
            steps.push(Step { child, site, named });
            if site.dir == InodeNo::ROOT {
                return Ok(Some(steps));
            }
            child = site.dir;
            match self.parent(child).await? {
                Some(parent) => site = parent,
                None => return Ok(None),
            }
        }
    }

    async fn still_so(&self, steps: &[Step]) -> Result<bool, Status> {
        for step in steps {
            if self.name_at(step.site, step.child).await?.as_ref() != Some(&step.named) {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Where a directory is named; nothing when it is gone.
    async fn parent(&self, dir: InodeNo) -> Result<Option<Site>, Status> {
        match self.ask_sites(dir, None, 1).await {
            Ok(sites) => Ok(sites.first().copied()),
            Err(CallError::Fs(FsError::Stale)) => Ok(None),
            Err(error) => Err(status::of_call(error)),
        }
    }

    async fn sites(
        &self,
        ino: InodeNo,
        after: Option<Site>,
        count_max: usize,
    ) -> Result<Vec<Site>, Status> {
        self.ask_sites(ino, after, count_max).await.map_err(status::of_call)
    }

    async fn ask_sites(
        &self,
        ino: InodeNo,
        after: Option<Site>,
        count_max: usize,
    ) -> Result<Vec<Site>, CallError> {
        match self.shard.call(ControlRequest::Referring { ino, after, count_max }).await? {
            ControlReply::Sites(sites) => Ok(sites),
            _ => Err(CallError::Gone),
        }
    }

    async fn name_at(&self, site: Site, child: InodeNo) -> Result<Option<Named>, Status> {
        match self.shard.call(ControlRequest::NameAt { site, child }).await {
            Ok(ControlReply::Name(named)) => Ok(named),
            Ok(_) => Err(unexpected()),
            Err(error) => Err(status::of_call(error)),
        }
    }
}

async fn send(paths: &Paths, path: Box<[u8]>) -> Result<(), Status> {
    paths.send(Ok(InoPathReply { path: path.into_vec() })).await.map_err(|_| nobody())
}

fn nobody() -> Status {
    Status::cancelled("nobody listens")
}
