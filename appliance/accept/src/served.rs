//! A server to talk to: by default a cairn of the test's own, on a new pool.
//!
//! With CAIRN_ACCEPT_FOREIGN=NFS_PORT,MOUNT_PORT,EXPORT the tests of the file system's meaning talk
//! to another NFSv3 server on the loopback address instead. That is how a test is tried itself: a
//! rule that an established server does not follow either is probably not a rule. Each test works
//! in a directory of its own there.

use crate::client::{Client, Cred};
use crate::daemon::{Daemon, Setup};
use crate::nfs3_types::nfs3::{nfs_fh3, sattr3};
use crate::skip::skip;
use crate::{client, program};
use anyhow::{Context, Result};
use std::net::{Ipv4Addr, SocketAddr};
use tempfile::TempDir;

const FOREIGN: &str = "CAIRN_ACCEPT_FOREIGN";
/// Shards of the daemons that tests start, unless they say themselves: more than one, so that the
/// same tests also cross shards.
const SHARDS: &str = "CAIRN_ACCEPT_SHARDS";
const SHARDS_DEFAULT: u32 = 2;

/// Where NFS and MOUNT answer, and what to mount.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Address {
    pub nfs: SocketAddr,
    pub mount: SocketAddr,
    pub export: String,
    /// Where connections come from; port 0 is any.
    pub local: Option<SocketAddr>,
}

impl Address {
    /// cairn answers everything on one port and exports its root.
    pub fn of_cairn(port: u16) -> Address {
        let socket = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        Address { nfs: socket, mount: socket, export: "/".to_owned(), local: None }
    }

    /// The same server, mounting another export.
    pub fn export(&self, export: &str) -> Address {
        Address { export: export.to_owned(), ..self.clone() }
    }

    /// The same server, seen from another address of this machine.
    pub fn from(&self, local: impl Into<SocketAddr>) -> Address {
        Address { local: Some(local.into()), ..self.clone() }
    }

    fn parse(text: &str) -> Option<Address> {
        let mut parts = text.splitn(3, ',');
        let mut port = || parts.next()?.parse().ok();
        let (nfs, mount): (u16, u16) = (port()?, port()?);
        let on = |port| SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let export = parts.next()?.to_owned();
        Some(Address { nfs: on(nfs), mount: on(mount), export, local: None })
    }
}

/// A server for one test; it ends with the value.
pub struct Served {
    address: Address,
    /// Declared before `_dir`: it must end before its pool goes.
    daemon: Option<Daemon>,
    home: String,
    _dir: Option<TempDir>,
}

impl Served {
    /// A server for `test`, or nothing when there is no program to test: then it counts as skipped.
    pub fn start(test: &str) -> Option<Served> {
        Served::start_with(test, |_| ())
    }

    /// The same with changes to how the daemon is started.
    pub fn start_with(test: &str, change: impl FnOnce(&mut Setup)) -> Option<Served> {
        let home = format!("{test}-{}", std::process::id());
        if let Ok(text) = std::env::var(FOREIGN) {
            let address = Address::parse(&text)
                .unwrap_or_else(|| panic!("{FOREIGN}={text}: not NFS_PORT,MOUNT_PORT,EXPORT"));
            return Some(Served { address, daemon: None, home, _dir: None });
        }
        if program::binary().is_none() {
            skip(test, "the cairn binary");
            return None;
        }
        let started = own(change).unwrap_or_else(|error| panic!("{test}: {error:#}"));
        let (daemon, dir) = started;
        Some(Served { address: daemon.address(), daemon: Some(daemon), home, _dir: Some(dir) })
    }

    pub fn address(&self) -> &Address {
        &self.address
    }

    /// The daemon, where the test needs ours; another server's tests count as skipped.
    pub fn daemon(&mut self, test: &str) -> Option<&mut Daemon> {
        if self.daemon.is_none() {
            skip(test, "a cairn of its own");
        }
        self.daemon.as_mut()
    }

    /// Whether another server stands in for ours, which promises more than the protocol asks for.
    pub fn is_foreign(&self) -> bool {
        self.daemon.is_none()
    }

    pub fn connect(&self) -> Client {
        self.connect_as(&Cred::ROOT)
    }

    pub fn connect_as(&self, cred: &Cred) -> Client {
        match Client::connect(&self.address, cred) {
            Ok(client) => client,
            Err(fault) => panic!("cannot mount {:?}: {fault}{}", self.address, self.last_words()),
        }
    }

    /// The directory that is this test's own, open to everybody.
    pub fn home(&self, client: &mut Client) -> nfs_fh3 {
        let root = client.root().clone();
        let attributes = sattr3 { mode: client::set_mode(0o777), ..sattr3::default() };
        match client.mkdir(&root, self.home.as_bytes(), attributes) {
            Ok(made) => made.handle,
            Err(fault) if fault.is_exist() => {
                client.lookup(&root, self.home.as_bytes()).expect("the home is there").handle
            }
            Err(fault) => panic!("cannot make the test's home: {fault}{}", self.last_words()),
        }
    }

    /// What the daemon wrote last, for messages.
    pub fn last_words(&self) -> String {
        let words = self.daemon.as_ref().map(Daemon::last_words);
        words.map(|words| format!("\nthe daemon wrote:{words}")).unwrap_or_default()
    }
}

fn own(change: impl FnOnce(&mut Setup)) -> Result<(Daemon, TempDir)> {
    let dir = tempfile::Builder::new().prefix("cairn-accept-").tempdir();
    let dir = dir.context("cannot make a temporary folder")?;
    let mut setup = Setup::new(&dir.path().join("pool"))?;
    setup.shards = match std::env::var(SHARDS) {
        Ok(text) => text.parse().with_context(|| format!("{SHARDS}={text}: not a number"))?,
        Err(_) => SHARDS_DEFAULT,
    };
    change(&mut setup);
    Ok((Daemon::start(setup)?, dir))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_foreign_server_is_named_by_ports_and_export() {
        let address = Address::parse("2050,2051,/some,where").expect("well formed");
        assert_eq!((address.nfs.port(), address.mount.port()), (2050, 2051));
        assert_eq!(address.export, "/some,where");
        assert_eq!(Address::parse("2050,/export"), None);
    }
}
