//! What else a peer can do wrong: noise, damaged calls, records in dust, records without end, answers
//! asked for and not taken, connections that come and go.
//!
//! The damaged calls are damaged after a good one: with a true handle and a true credential they get
//! as far as the procedures. They all work on a directory of the attackers' own, so nothing they do
//! may show in the good client's.

use super::Run;
use crate::client::{Client, Cred, set_mode};
use crate::nfs3_types::nfs3::*;
use crate::raw::{self, LAST, Wire};
use crate::served::Address;
use anyhow::{Context, Result};
use std::io::{ErrorKind, Write};
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::Ordering;

pub const THREADS: u64 = 3;
/// Of one thread; the oldest gives way to the next.
const DEAF_MAX: usize = 10;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Attack {
    Garbage,
    Mutated,
    Dust,
    EmptyFragments,
    GiantMark,
    GiantListing,
    NeverReads,
    Churn,
}

impl Attack {
    pub const ALL: [Attack; 8] = [
        Attack::Garbage,
        Attack::Mutated,
        Attack::Dust,
        Attack::EmptyFragments,
        Attack::GiantMark,
        Attack::GiantListing,
        Attack::NeverReads,
        Attack::Churn,
    ];

    pub fn name(self) -> &'static str {
        match self {
            Attack::Garbage => "garbage",
            Attack::Mutated => "mutated",
            Attack::Dust => "dust",
            Attack::EmptyFragments => "empty_fragments",
            Attack::GiantMark => "giant_mark",
            Attack::GiantListing => "giant_listing",
            Attack::NeverReads => "never_reads",
            Attack::Churn => "churn",
        }
    }
}

/// The attackers' own directory and file, as words of a call.
pub struct Target {
    dir: Vec<u32>,
    file: Vec<u32>,
}

const NAMES: usize = 500;
const FILE_BYTES: usize = 4 << 20;

impl Target {
    pub fn make(server: &Address) -> Result<Target> {
        let mut client = Client::connect(server, &Cred::ROOT).context("mount")?;
        let root = client.root().clone();
        let mode = || sattr3 { mode: set_mode(0o777), ..sattr3::default() };
        let dir = client.mkdir(&root, b"attack", mode()).context("mkdir")?.handle;
        for nth in 0..NAMES {
            let name = format!("{nth:0200}");
            client.create(&dir, name.as_bytes(), createhow3::GUARDED(mode())).context("create")?;
        }
        let how = createhow3::GUARDED(mode());
        let file = client.create(&dir, b"file", how).context("create")?.handle;
        for at in (0..FILE_BYTES).step_by(1 << 20) {
            let bytes = vec![7; 1 << 20];
            client.write(&file, at as u64, &bytes, stable_how::FILE_SYNC).context("write")?;
        }
        Ok(Target { dir: raw::opaque(&dir.data), file: raw::opaque(&file.data) })
    }

    /// A call that is good.
    fn call(&self, dice: &mut fastrand::Rng) -> Vec<u32> {
        let name = raw::opaque(format!("mine-{}", dice.u32(0..50)).as_bytes());
        let at = [self.dir.clone(), name].concat();
        let (procedure, arguments) = match dice.u32(0..10) {
            0 => (1, self.file.clone()),
            1 => (3, at),
            2 => (4, [self.dir.clone(), vec![63]].concat()),
            3 => (6, [self.file.clone(), vec![0, dice.u32(0..1 << 22), 4096]].concat()),
            4 => {
                let data = raw::opaque(&[9; 512]);
                (7, [self.file.clone(), vec![0, 0, 512, dice.u32(0..3)], data].concat())
            }
            5 => (8, [at, vec![0; 7]].concat()),
            6 => (12, at),
            7 => (17, [self.dir.clone(), vec![0, 0, 0, 0, 4096, 32_768]].concat()),
            8 => (18, self.dir.clone()),
            _ => (21, [self.file.clone(), vec![0, 0, 0]].concat()),
        };
        raw::call_as_root(dice.u32(..), procedure, &arguments)
    }
}

pub fn attack(run: &Run, target: &Target, nth: u64) {
    let mut dice = fastrand::Rng::with_seed(run.seed.wrapping_mul(31).wrapping_add(nth));
    let mut deaf: Vec<Wire> = Vec::new();
    while !run.is_over() {
        let kind = dice.usize(0..Attack::ALL.len());
        let from = Ipv4Addr::new(127, 0, 0, dice.u8(100..200));
        let from = Some(SocketAddr::from((from, 0)));
        let Ok(mut wire) = Wire::connect_from(run.server.nfs, from) else { continue };
        // The server may close at any moment, which is an answer.
        let keep = perform(Attack::ALL[kind], &mut wire, target, &mut dice).unwrap_or(false);
        run.attacks[kind].fetch_add(1, Ordering::Relaxed);
        if keep {
            if deaf.len() == DEAF_MAX {
                deaf.remove(0);
            }
            deaf.push(wire);
        }
    }
}

/// Whether the connection is to be kept open.
fn perform(
    attack: Attack,
    wire: &mut Wire,
    target: &Target,
    dice: &mut fastrand::Rng,
) -> std::io::Result<bool> {
    match attack {
        Attack::Garbage => {
            let mut noise = vec![0; dice.usize(1..20_000)];
            dice.fill(&mut noise);
            if dice.bool() && noise.len() >= 4 {
                let mark = LAST | (noise.len() - 4) as u32;
                noise[..4].copy_from_slice(&mark.to_be_bytes());
            }
            wire.send_bytes(&noise)?;
        }
        Attack::Mutated => {
            for _ in 0..50 {
                let mut bytes = raw::bytes_of(&target.call(dice));
                for _ in 0..dice.usize(1..4) {
                    let at = dice.usize(0..bytes.len());
                    bytes[at] =
                        if dice.bool() { dice.u8(..) } else { bytes[at] ^ (1 << dice.u8(0..8)) };
                }
                if dice.u32(0..4) == 0 {
                    bytes.truncate(dice.usize(1..=bytes.len()));
                }
                let mark = LAST | bytes.len() as u32;
                wire.send_bytes(&[&mark.to_be_bytes()[..], &bytes].concat())?;
            }
            wire.end()?;
            wire.wait_until_closed()?;
        }
        Attack::Dust => {
            let bytes = raw::bytes_of(&target.call(dice));
            for (nth, byte) in bytes.iter().enumerate() {
                let last = if nth + 1 == bytes.len() { LAST } else { 0 };
                for part in
                    [&(last | 1).to_be_bytes()[..2], &(last | 1).to_be_bytes()[2..], &[*byte]]
                {
                    wire.send_bytes(part)?;
                }
            }
            wire.reply()?;
        }
        Attack::EmptyFragments => wire.send_bytes(&vec![0; 4 * 20_000])?,
        Attack::GiantMark => {
            let mark = if dice.bool() { u32::MAX } else { dice.u32(1 << 20..LAST) };
            wire.send_bytes(&mark.to_be_bytes())?;
            wire.send_bytes(&vec![1; 100_000])?;
            wire.wait_until_closed()?;
        }
        Attack::GiantListing => {
            for procedure in [16, 17] {
                let mut arguments = [target.dir.clone(), vec![0, 0, 0, 0, u32::MAX]].concat();
                arguments.extend((procedure == 17).then_some(u32::MAX));
                for xid in 0..8 {
                    wire.send(&raw::call_as_root(xid, procedure, &arguments))?;
                }
                for _ in 0..8 {
                    wire.reply()?;
                }
            }
        }
        Attack::NeverReads => {
            let megabyte = [target.file.clone(), vec![0, 0, 1 << 20]].concat();
            let listing = [target.dir.clone(), vec![0, 0, 0, 0, 1 << 20, 1 << 20]].concat();
            let call = match dice.bool() {
                true => raw::call_as_root(1, 6, &megabyte),
                false => raw::call_as_root(1, 17, &listing),
            };
            let mark = LAST | (call.len() * 4) as u32;
            let calls = [raw::bytes_of(&[mark]), raw::bytes_of(&call)].concat().repeat(500);
            let mut socket = wire.socket();
            socket.set_nonblocking(true)?;
            let sent = socket.write_all(&calls);
            let is_full = |error: &std::io::Error| error.kind() == ErrorKind::WouldBlock;
            return Ok(sent.is_ok() || sent.is_err_and(|error| is_full(&error)));
        }
        // Nothing is said, and nothing waited for.
        Attack::Churn => {}
    }
    Ok(false)
}
