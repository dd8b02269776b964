//! Calls that a server answers from memory: what the protocol and the way through the server cost.

use crate::lane::Slot;
use crate::nfs::Stability;
use crate::pattern::place;
use crate::rig::{Rig, Span};
use anyhow::{Context, Result};

const HOT_BYTES: u64 = 1 << 20;
const BLOCK_BYTES: usize = 4096;
const WRITE_BYTES: usize = 32 << 10;
const NAMES: u64 = 64;

/// A 1 MiB file and 64 empty ones in each lane, and each block read once.
pub fn prepare(rig: &mut Rig) -> Result<()> {
    if rig.lanes().iter().any(|lane| lane.hot.get().is_none()) {
        rig.run_at_depth(Span::turns(1), 1, make)?;
    }
    Ok(())
}

async fn make(slot: Slot) -> Result<()> {
    let directory = slot.lane.directory;
    for number in 0..NAMES {
        slot.create(&directory, name(number).as_bytes()).await?;
    }
    let file = slot.create(&directory, b"hot").await?;
    for offset in (0..HOT_BYTES).step_by(WRITE_BYTES) {
        let piece = slot.pattern().piece(place(slot.lane.number, offset, 0), WRITE_BYTES);
        slot.write(&file, offset, piece, Stability::Unstable).await?;
    }
    slot.commit(&file).await?;
    for offset in (0..HOT_BYTES).step_by(BLOCK_BYTES) {
        slot.read(&file, (offset, BLOCK_BYTES), |_| Ok(())).await?;
    }
    slot.lane.hot.set(Some(file));
    Ok(())
}

fn name(number: u64) -> String {
    format!("known{number:03}")
}

pub async fn null(slot: Slot) -> Result<()> {
    while slot.turn().is_some() {
        let start = slot.start();
        slot.null().await?;
        slot.done(start, 1, 0);
    }
    Ok(())
}

pub async fn getattr(slot: Slot) -> Result<()> {
    let file = slot.lane.hot.get().context("the hot file is missing")?;
    while slot.turn().is_some() {
        let start = slot.start();
        slot.getattr(&file).await?;
        slot.done(start, 1, 0);
    }
    Ok(())
}

pub async fn lookup(slot: Slot) -> Result<()> {
    let directory = slot.lane.directory;
    let names: Vec<String> = (0..NAMES).map(name).collect();
    for name in names.iter().cycle() {
        if slot.turn().is_none() {
            break;
        }
        let start = slot.start();
        slot.lookup(&directory, name.as_bytes()).await?;
        slot.done(start, 1, 0);
    }
    Ok(())
}

pub async fn read(slot: Slot) -> Result<()> {
    let file = slot.lane.hot.get().context("the hot file is missing")?;
    while let Some(turn) = slot.turn() {
        let offset = turn * BLOCK_BYTES as u64 % HOT_BYTES;
        let start = slot.start();
        slot.read(&file, (offset, BLOCK_BYTES), |_| Ok(())).await?;
        slot.done(start, 1, BLOCK_BYTES as u64);
    }
    Ok(())
}
