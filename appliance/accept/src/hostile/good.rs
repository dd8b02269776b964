//! The client that must not notice: it works all the time, and every call is timed and checked.

use super::Run;
use crate::client::{Answer, Client, Cred, set_mode};
use crate::clock::Stopwatch;
use crate::nfs3_types::nfs3::*;
use crate::served::Address;
use anyhow::{Context, Result, ensure};
use std::time::Duration;

const DIR: &[u8] = b"good";
const SIZES: [usize; 5] = [1, 4096, 10_000, 100_000, 1 << 20];

pub struct Good {
    client: Client,
    dir: nfs_fh3,
    rounds: usize,
    pub calls: u64,
    pub slowest: Duration,
}

impl Good {
    pub fn connect(server: &Address) -> Result<Good> {
        let mut client = Client::connect(server, &Cred::ROOT).context("mount")?;
        let root = client.root().clone();
        let mode = sattr3 { mode: set_mode(0o700), ..sattr3::default() };
        let dir = client.mkdir(&root, DIR, mode).context("mkdir")?.handle;
        Ok(Good { client, dir, rounds: 0, calls: 0, slowest: Duration::ZERO })
    }

    pub fn until_the_end(&mut self, run: &Run) -> Result<()> {
        while !run.is_over() {
            self.round()?;
        }
        Ok(())
    }

    /// One file from its making to its end.
    pub fn round(&mut self) -> Result<()> {
        let nth = self.rounds;
        self.rounds += 1;
        let name = format!("file-{nth}");
        let size = SIZES[nth % SIZES.len()];
        let content: Vec<u8> = (0..size).map(|at| (at * 7 + nth) as u8).collect();
        let dir = self.dir.clone();
        let how = createhow3::GUARDED(sattr3::default());
        let made = self.timed("CREATE", |client| client.create(&dir, name.as_bytes(), how))?;
        let file = made.handle;
        let stable =
            if nth.is_multiple_of(2) { stable_how::FILE_SYNC } else { stable_how::UNSTABLE };
        let mut at = 0;
        while at < size {
            let rest = &content[at..];
            let written =
                self.timed("WRITE", |client| client.write(&file, at as u64, rest, stable))?;
            ensure!(written.count > 0, "WRITE wrote nothing");
            at += written.count as usize;
        }
        self.timed("COMMIT", |client| client.commit(&file, 0, 0))?;
        let mut back = Vec::new();
        while back.len() < size {
            let (at, count) = (back.len() as u64, 1 << 20);
            let read = self.timed("READ", |client| client.read(&file, at, count))?;
            ensure!(!read.data.is_empty(), "READ of {name} ends at {at} of {size}");
            back.extend_from_slice(&read.data);
        }
        ensure!(back == content, "{name} came back changed");
        let found = self.timed("LOOKUP", |client| client.lookup(&dir, name.as_bytes()))?;
        ensure!(found.attr.size == size as u64, "{name} has {} bytes", found.attr.size);
        self.timed("REMOVE", |client| client.remove(&dir, name.as_bytes()))?;
        Ok(())
    }

    fn timed<T>(&mut self, what: &str, call: impl FnOnce(&mut Client) -> Answer<T>) -> Result<T> {
        let watch = Stopwatch::start();
        let answer = call(&mut self.client);
        let took = watch.elapsed();
        self.calls += 1;
        self.slowest = self.slowest.max(took);
        answer.with_context(|| format!("{what}, call {}, after {took:?}", self.calls))
    }
}
