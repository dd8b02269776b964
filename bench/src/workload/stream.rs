//! One large file in each lane, written and read in sequence by all slots of the lane together, as a
//! client does that writes behind and reads ahead.

use super::{Scale, share};
use crate::lane::{Large, Slot};
use crate::nfs::Stability;
use crate::pattern::place;
use crate::rig::{Measure, Rig, Span};
use anyhow::{Context, Result};

const NAME: &[u8] = b"large";

/// The large files, if they are not there at the wanted size.
pub fn prepare(rig: &mut Rig, scale: &Scale) -> Result<()> {
    let wanted = share(rig, scale.bytes)?;
    let transfer = rig.transfer(scale.transfer);
    // A file that time cut short is good enough from a quarter on.
    let is_there = rig
        .lanes()
        .iter()
        .all(|lane| lane.large.get().is_some_and(|file| file.bytes >= (wanted / 4).max(transfer)));
    if !is_there {
        write(rig, scale, Span::turns(u64::MAX))?;
    }
    Ok(())
}

/// Writes the large files anew. Only WRITEs and COMMITs are measured.
pub fn write(rig: &mut Rig, scale: &Scale, span: Span) -> Result<Measure> {
    let transfer = rig.transfer(scale.transfer);
    let turns = (share(rig, scale.bytes)? / transfer).max(1);
    rig.run_at_depth(Span::turns(1), 1, renew)?;
    let measure = rig.run(Span { turns, ..span }, move |slot| append(slot, transfer))?;
    for lane in rig.lanes() {
        let handle = lane.large.get().context("the large file was not made")?.handle;
        lane.large.set(Some(Large { handle, bytes: lane.turns_taken() * transfer }));
    }
    Ok(measure)
}

async fn renew(slot: Slot) -> Result<()> {
    let directory = slot.lane.directory;
    if slot.lane.large.take().is_some() {
        slot.remove(&directory, NAME).await?;
    }
    let handle = slot.create(&directory, NAME).await?;
    slot.lane.large.set(Some(Large { handle, bytes: 0 }));
    Ok(())
}

async fn append(slot: Slot, transfer: u64) -> Result<()> {
    let file = slot.lane.large.get().context("the large file was not made")?.handle;
    let length = usize::try_from(transfer)?;
    while let Some(turn) = slot.turn() {
        let offset = turn * transfer;
        let piece = slot.pattern().piece(place(slot.lane.number, offset, 0), length);
        let start = slot.start();
        let verifier = slot.write(&file, offset, piece, Stability::Unstable).await?;
        slot.lane.check_verifier(verifier)?;
        slot.done(start, 1, transfer);
    }
    if slot.leave() {
        let verifier = slot.commit(&file).await?;
        slot.lane.check_verifier(verifier)?;
    }
    Ok(())
}

pub async fn read(slot: Slot, transfer: u64) -> Result<()> {
    let file = slot.large()?;
    let length = usize::try_from(transfer)?;
    while let Some(turn) = slot.turn() {
        let offset = turn * transfer % file.bytes;
        let start = slot.start();
        slot.read(&file.handle, (offset, length), |_| Ok(())).await?;
        slot.done(start, 1, transfer);
    }
    Ok(())
}
