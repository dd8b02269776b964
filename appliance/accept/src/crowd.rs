//! Very many clients that wait for offline data, and what they cost a daemon in memory.
//!
//! Connections from a few addresses ask for every block of a file that was released, each call answered
//! "ask again later". The daemon's resident memory is compared before and after, all waiters are listed, and
//! then an error is set for them. It has failed when they cost more than the bound, when one is missing, or when the
//! daemon does not answer while they wait.

use crate::client::{Client, Cred};
use crate::clock::Stopwatch;
use crate::daemon::{Daemon, Setup};
use crate::memory::resident_bytes;
use crate::nfs3_types::nfs3::*;
use anyhow::{Context, Result, ensure};
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

/// Clients: addresses of this machine.
const ADDRESSES: u64 = 4;
const BLOCK_BYTES: u64 = 4096;
const WRITE_BYTES: u64 = 1 << 20;
/// Enough that 2 % of it hold the largest crowd: buffers are not prepared ahead of use with a budget, which
/// would hide the cost.
const MEMORY: &str = "--memory=12G";

#[derive(Clone, Debug)]
pub struct Options {
    pub waiters: u64,
    pub connections: u64,
    pub bound_bytes: u64,
}

#[derive(Debug)]
pub struct Summary {
    pub waiters: u64,
    pub connections: u64,
    pub cost_bytes: u64,
    pub bound_bytes: u64,
    pub asked_in: Duration,
    pub listed: u64,
    pub listed_in: Duration,
    pub failed: u64,
    /// The longest answer to another call while all wait.
    pub getattr: Duration,
}

impl Summary {
    pub fn is_good(&self) -> bool {
        let all = [self.listed, self.failed].iter().all(|count| *count == self.waiters);
        all && self.cost_bytes <= self.bound_bytes
    }
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} waiters over {} connections cost {} MiB, {} bytes each, bound {} MiB; asked in {:.1?}; {} listed in \
             {:.1?}; {} set to fail; the slowest of 1000 GETATTR meanwhile took {:.1?}",
            self.waiters,
            self.connections,
            self.cost_bytes >> 20,
            self.cost_bytes / self.waiters.max(1),
            self.bound_bytes >> 20,
            self.asked_in,
            self.listed,
            self.listed_in,
            self.failed,
            self.getattr,
        )
    }
}

pub fn run(options: &Options) -> Result<Summary> {
    let dir = tempfile::Builder::new().prefix("cairn-crowd-").tempdir()?;
    let mut setup = Setup::new(&dir.path().join("pool"))?;
    setup.size = "16G";
    setup.shards = 1;
    setup.arguments = vec![MEMORY.to_owned()];
    let mut daemon = Daemon::start(setup)?;
    let summary = crowd(&mut daemon, options);
    let summary = summary.map_err(|error| error.context(daemon.how_it_ended()))?;
    daemon.stop_and_check()?;
    Ok(summary)
}

fn crowd(daemon: &mut Daemon, options: &Options) -> Result<Summary> {
    let blocks = options.waiters.div_ceil(ADDRESSES);
    let mut client = Client::connect(&daemon.address(), &Cred::ROOT).context("mount")?;
    let file = released(daemon, &mut client, blocks)?;
    // Connected before the measurement: it is the waiters that are weighed.
    let per_address = options.connections.div_ceil(ADDRESSES);
    let mut clients = Vec::new();
    for nth in 0..ADDRESSES {
        for part in 0..per_address {
            let mut address = daemon.address();
            let ip = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 10 + nth as u8));
            address.local = Some(SocketAddr::new(ip, 0));
            let client = Client::connect(&address, &Cred::ROOT).context("mount")?;
            let share = |part: u64| blocks * part / per_address;
            clients.push((client, share(part)..share(part + 1)));
        }
    }
    let before = resident_bytes(daemon.pid())?;
    let began = Stopwatch::start();
    let connections = clients.len() as u64;
    std::thread::scope(|scope| -> Result<()> {
        let asking: Vec<_> = clients
            .iter_mut()
            .map(|(client, blocks)| {
                let (file, blocks) = (&file, blocks.clone());
                scope.spawn(move || {
                    blocks.into_iter().try_for_each(|block| ask(client, file, block))
                })
            })
            .collect();
        asking.into_iter().try_for_each(|one| one.join().expect("a client does not panic"))
    })?;
    let asked_in = began.elapsed();
    let cost_bytes = resident_bytes(daemon.pid())?.saturating_sub(before);
    let mut getattr = Duration::ZERO;
    for _ in 0..1000 {
        let began = Stopwatch::start();
        client.getattr(&file).context("GETATTR")?;
        getattr = getattr.max(began.elapsed());
    }
    let began = Stopwatch::start();
    let listed =
        daemon.command(&["data-waiting"])?.succeeded("data-waiting")?.lines().count() as u64;
    let listed_in = began.elapsed();
    let failed = daemon.command(&["data-wait-err", "/file", "--error", "EIO"])?;
    let failed = failed.succeeded("data-wait-err")?;
    let failed = failed.trim().strip_prefix("waiters ").and_then(|count| count.parse().ok());
    Ok(Summary {
        waiters: blocks * ADDRESSES,
        connections,
        cost_bytes,
        bound_bytes: options.bound_bytes,
        asked_in,
        listed,
        listed_in,
        failed: failed.context("data-wait-err says how many")?,
        getattr,
    })
}

/// A file of so many blocks, offline.
fn released(daemon: &Daemon, client: &mut Client, blocks: u64) -> Result<nfs_fh3> {
    let root = client.root().clone();
    let how = createhow3::GUARDED(sattr3::default());
    let file = client.create(&root, b"file", how).context("CREATE")?.handle;
    let (data, bytes) = (vec![7; WRITE_BYTES as usize], blocks * BLOCK_BYTES);
    for at in (0..bytes).step_by(WRITE_BYTES as usize) {
        let piece = &data[..WRITE_BYTES.min(bytes - at) as usize];
        client.write(&file, at, piece, stable_how::UNSTABLE).context("WRITE")?;
    }
    client.commit(&file, 0, 0).context("COMMIT")?;
    let version = daemon.command(&["stat", "/file", "-s", "data_version"])?.succeeded("stat")?;
    daemon.command(&["release", "/file", "-V", version.trim()])?.succeeded("release")?;
    Ok(file)
}

fn ask(client: &mut Client, file: &nfs_fh3, block: u64) -> Result<()> {
    let read = client.read_once(file, block * BLOCK_BYTES, BLOCK_BYTES as u32);
    let status = read.err().and_then(|fault| fault.status());
    ensure!(status == Some(nfsstat3::NFS3ERR_JUKEBOX), "block {block}: {status:?}");
    Ok(())
}
