//! Exports as an operator writes them and clients meet them: who may mount what, as whom, and how that
//! changes while clients are connected.
//!
//! Every daemon here is a `cairn serve` with a configuration file. It starts with the whole pool
//! exported to this machine, so that a test can make its directories; then the test's own exports are
//! put in force by SIGHUP, which is thereby tested everywhere.

mod connections;
mod recall;
mod reload;
mod rules;

use cairn_accept::nfs3_types::nfs3::*;
use cairn_accept::{Client, Cred, Daemon, ServeConfig, Setup, binary, eventually, set_mode, skip};
use serde_json::Value;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;
use tempfile::TempDir;

pub const LIMIT: Duration = Duration::from_secs(60);

/// The whole pool for this machine's first address only, as which the tests administrate.
pub const ROOT: &str = "[[export]]\npath = '/'\nclients = ['127.0.0.1', '::1']\nsquash = 'none'\n";

/// A daemon with directories `/a`, `/b` and `/a/sub`, open to everybody.
pub struct World {
    pub daemon: Daemon,
    _dir: TempDir,
}

pub fn export(path: &str, keys: &str) -> String {
    format!("{ROOT}[[export]]\npath = '{path}'\n{keys}\n")
}

/// An address of this machine that the root is not exported to.
pub fn other(last: u8) -> SocketAddr {
    SocketAddr::new(IpAddr::V4(Ipv4Addr::new(127, 0, 0, last)), 0)
}

impl World {
    /// `None`: there is no program to test, which has been told.
    pub fn start(test: &str, exports: &str) -> Option<World> {
        World::start_with(test, |setup| {
            setup.serve = Some(ServeConfig { exports: exports.to_owned(), ..Default::default() });
        })
    }

    pub fn start_with(test: &str, change: impl FnOnce(&mut Setup)) -> Option<World> {
        if binary().is_none() {
            skip(test, "the cairn binary");
            return None;
        }
        let dir = tempfile::Builder::new().prefix("cairn-exports-").tempdir().expect("a folder");
        let mut setup = Setup::new(&dir.path().join("pool")).expect("a free port");
        setup.size = "256M";
        setup.shards = 2;
        change(&mut setup);
        let wanted = setup.serve.replace(ServeConfig {
            exports: ROOT.to_owned(),
            ..setup.serve.clone().unwrap_or_default()
        });
        let daemon = Daemon::start(setup).expect("the daemon starts");
        let mut world = World { daemon, _dir: dir };
        let mut root = world.client("/");
        let top = root.root().clone();
        for name in [&b"a"[..], b"b"] {
            let made = root.mkdir(&top, name, open()).expect("mkdir");
            if name == b"a" {
                root.mkdir(&made.handle, b"sub", open()).expect("mkdir");
            }
        }
        world.reload(wanted.unwrap_or_default());
        Some(world)
    }

    pub fn client(&self, export: &str) -> Client {
        self.client_as(export, &Cred::ROOT)
    }

    pub fn client_as(&self, export: &str, cred: &Cred) -> Client {
        let to = self.daemon.address().export(export);
        Client::connect(&to, cred).unwrap_or_else(|fault| panic!("mount {export}: {fault}"))
    }

    /// What `cairn exports --json` shows.
    pub fn shown(&self) -> Value {
        let shown = self.daemon.command(&["exports", "--json"]).expect("it runs");
        let text = shown.succeeded("cairn exports --json").expect("it is answered");
        serde_json::from_str(&text).expect("one object")
    }

    /// Puts another configuration in force.
    pub fn reload(&mut self, config: ServeConfig) {
        let before = self.shown()["reloads"].as_u64().expect("a number");
        self.daemon.reload(config).expect("a signal is sent");
        let done =
            eventually(LIMIT, || (self.shown()["reloads"].as_u64() > Some(before)).then_some(()));
        assert!(done.is_some(), "not reloaded: {}{}", self.shown(), self.daemon.last_words());
    }

    pub fn use_exports(&mut self, exports: &str) {
        self.reload(ServeConfig { exports: exports.to_owned(), ..Default::default() });
    }

    /// Tries another configuration that must be refused; why it was.
    pub fn refused(&mut self, config: ServeConfig, expected: &str) -> String {
        self.daemon.reload(config).expect("a signal is sent");
        let told = eventually(LIMIT, || {
            let shown = self.shown();
            let text = shown["refused"].as_str()?;
            text.contains(expected).then(|| text.to_owned())
        });
        told.unwrap_or_else(|| {
            panic!("want {expected:?}, shown is {}{}", self.shown(), self.daemon.last_words())
        })
    }
}

pub fn open() -> sattr3 {
    sattr3 { mode: set_mode(0o777), ..sattr3::default() }
}

pub fn guarded() -> createhow3 {
    createhow3::GUARDED(sattr3 { mode: set_mode(0o666), ..sattr3::default() })
}

#[track_caller]
pub fn refused_with<T: std::fmt::Debug>(answer: cairn_accept::Answer<T>, status: nfsstat3) {
    match answer {
        Ok(done) => panic!("want {status}, it was done: {done:?}"),
        Err(fault) => assert_eq!(fault.status(), Some(status), "{fault}"),
    }
}
