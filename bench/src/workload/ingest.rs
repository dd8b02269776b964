//! Many small files and a few large ones, each durable before the next of its slot begins: what a copy
//! into the archive looks like.
//!
//! A small file is one FILE_SYNC WRITE, as the Linux client sends what fits one transfer; a large one
//! is UNSTABLE WRITEs and a COMMIT. One operation is one file.

use super::{Scale, share};
use crate::lane::Slot;
use crate::nfs::Stability;
use crate::pattern::place;
use crate::rig::{Measure, Rig, Span};
use anyhow::Result;
use std::time::Duration;

const SMALL_BYTES_MAX: usize = 32 << 10;
const LARGE_BYTES: u64 = 8 << 20;
/// One file in so many is large.
const LARGE_EVERY: u64 = 128;

pub fn run(rig: &mut Rig, scale: &Scale) -> Result<Measure> {
    let each = share(rig, scale.files)?;
    let transfer = rig.transfer(scale.transfer);
    let round = fastrand::u32(..);
    let span = Span::turns(each).at_most(scale.time.max(Duration::from_millis(1)));
    rig.run(span, move |slot| files(slot, transfer, round))
}

async fn files(slot: Slot, transfer: u64, round: u32) -> Result<()> {
    while let Some(turn) = slot.turn() {
        let start = slot.start();
        let name = format!("i{round:08x}-{turn:08}");
        let file = slot.create(&slot.lane.directory, name.as_bytes()).await?;
        let number = slot.lane.number << 32 | turn;
        let mut bytes = 0;
        if turn % LARGE_EVERY == LARGE_EVERY - 1 {
            while bytes < LARGE_BYTES {
                let length = usize::try_from(transfer.min(LARGE_BYTES - bytes))?;
                let piece = slot.pattern().piece(place(number, bytes, 2), length);
                slot.write(&file, bytes, piece, Stability::Unstable).await?;
                bytes += length as u64;
            }
            slot.commit(&file).await?;
        } else {
            let length = slot.lane.random.borrow_mut().usize(1..=SMALL_BYTES_MAX);
            let length = length.min(usize::try_from(transfer)?);
            let piece = slot.pattern().piece(place(number, 0, 2), length);
            slot.write(&file, 0, piece, Stability::FileSync).await?;
            bytes = length as u64;
        }
        slot.done(start, 1, bytes);
    }
    Ok(())
}
