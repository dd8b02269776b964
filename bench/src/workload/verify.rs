//! Writes that a server could get wrong, read back and compared with what was written.
//!
//! A file is cut into pieces of odd and even lengths, so neighbours share blocks and are under way at
//! the same time. They are written in scrambled order, some stable, some not; every third is written a
//! second time, by the slot that wrote it, once the first write is answered. After a COMMIT all of it
//! is read in yet another order. What a piece must hold follows from its place and the count of its
//! writes (`pattern.rs`), so nothing needs to be remembered. One operation is one piece, written or
//! read.

use super::{Scale, share};
use crate::lane::Slot;
use crate::nfs::Stability;
use crate::pattern::{Piece, place};
use crate::rig::{Measure, Rig, Span};
use anyhow::{Context, Result, ensure};

const CUT_BYTES_MAX: u64 = 96 << 10;
const FILE_BYTES_MAX: u64 = 64 << 20;
const NAME: &[u8] = b"verify";

pub fn run(rig: &mut Rig, scale: &Scale) -> Result<Measure> {
    let bytes = share(rig, scale.bytes)?.min(FILE_BYTES_MAX);
    let longest = CUT_BYTES_MAX.min(rig.transfer(scale.transfer));
    let cuts = move |slot: &Slot| cuts(slot.lane.number, bytes, longest);
    rig.run_at_depth(Span::turns(1), 1, make)?;
    let pieces = u64::MAX; // each lane ends with its own list
    let mut measure = rig.run(Span::turns(pieces), move |slot| {
        let cuts = cuts(&slot);
        write(slot, cuts)
    })?;
    let compared = rig.run(Span::turns(pieces), move |slot| {
        let cuts = cuts(&slot);
        compare(slot, cuts)
    })?;
    measure.add(&compared);
    Ok(measure)
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Cut {
    offset: u64,
    length: usize,
    is_rewritten: bool,
}

impl Cut {
    fn piece(self, slot: &Slot, generation: u64) -> Piece {
        slot.pattern().piece(place(slot.lane.number, self.offset, generation), self.length)
    }

    fn last_generation(self) -> u64 {
        FIRST_GENERATION + u64::from(self.is_rewritten)
    }
}

/// Apart from those of other workloads.
const FIRST_GENERATION: u64 = 8;

/// The lane's file in pieces, scrambled. The same question has the same answer.
fn cuts(lane: u64, bytes: u64, longest: u64) -> Vec<Cut> {
    let mut random = fastrand::Rng::with_seed(lane);
    let mut cuts = Vec::new();
    let mut offset = 0;
    while offset < bytes {
        let wanted = match random.u8(0..3) {
            0 => 4096 * random.u64(1..=4),
            1 => random.u64(1..=512),
            _ => random.u64(1..=longest),
        };
        let length = wanted.min(longest).min(bytes - offset);
        let is_rewritten = cuts.len() % 3 == 0;
        cuts.push(Cut {
            offset,
            length: usize::try_from(length).expect("pieces are short"),
            is_rewritten,
        });
        offset += length;
    }
    random.shuffle(&mut cuts);
    cuts
}

async fn make(slot: Slot) -> Result<()> {
    let directory = slot.lane.directory;
    if slot.lane.scratch.take().is_some() {
        slot.remove(&directory, NAME).await?;
    }
    slot.lane.scratch.set(Some(slot.create(&directory, NAME).await?));
    Ok(())
}

async fn write(slot: Slot, cuts: Vec<Cut>) -> Result<()> {
    let file = slot.lane.scratch.get().context("the file to verify is missing")?;
    while let Some(cut) = next(&slot, &cuts)? {
        let stability = match cut.length % 4 {
            0 => Stability::FileSync,
            _ => Stability::Unstable,
        };
        for generation in FIRST_GENERATION..=cut.last_generation() {
            let start = slot.start();
            let piece = cut.piece(&slot, generation);
            let verifier = slot.write(&file, cut.offset, piece, stability).await?;
            slot.lane.check_verifier(verifier)?;
            slot.done(start, 1, cut.length as u64);
        }
    }
    if slot.leave() {
        let verifier = slot.commit(&file).await?;
        slot.lane.check_verifier(verifier)?;
        let written: u64 = cuts.iter().map(|cut| cut.length as u64).sum();
        let size = slot.getattr(&file).await?;
        ensure!(size == written, "the file has {size} bytes, {written} were written");
    }
    Ok(())
}

async fn compare(slot: Slot, cuts: Vec<Cut>) -> Result<()> {
    let file = slot.lane.scratch.get().context("the file to verify is missing")?;
    while let Some(cut) = next(&slot, &cuts)? {
        let start = slot.start();
        let piece = cut.piece(&slot, cut.last_generation());
        let wanted = slot.pattern().bytes(piece);
        let look = |found: &[u8]| {
            let wrong = found.iter().zip(wanted).position(|(found, wanted)| found != wanted);
            ensure!(
                wrong.is_none(),
                "wrong data: lane {}, byte {} of the file, in the piece of {} bytes at {}",
                slot.lane.number,
                cut.offset + wrong.unwrap_or(0) as u64,
                cut.length,
                cut.offset
            );
            Ok(())
        };
        slot.read(&file, (cut.offset, cut.length), look).await?;
        slot.done(start, 1, cut.length as u64);
    }
    Ok(())
}

fn next(slot: &Slot, cuts: &[Cut]) -> Result<Option<Cut>> {
    let Some(turn) = slot.turn() else {
        return Ok(None);
    };
    Ok(cuts.get(usize::try_from(turn)?).copied())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pieces_cover_the_file_once_and_not_in_order() {
        let mut found = cuts(3, 1 << 20, 96 << 10);
        assert_eq!(found, cuts(3, 1 << 20, 96 << 10));
        assert!(!found.is_sorted_by_key(|cut| cut.offset));
        found.sort_by_key(|cut| cut.offset);
        let mut end = 0;
        for cut in found {
            assert_eq!(cut.offset, end);
            end += cut.length as u64;
        }
        assert_eq!(end, 1 << 20);
    }
}
