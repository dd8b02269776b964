//! 4 KiB at random places of the large file.

use crate::lane::{Large, Slot};
use crate::nfs::Stability;
use anyhow::Result;

const BLOCK_BYTES: u64 = 4096;
const BLOCK: usize = 4096;

pub async fn read(slot: Slot) -> Result<()> {
    let file = slot.large()?;
    while slot.turn().is_some() {
        let offset = somewhere(&slot, file);
        let start = slot.start();
        slot.read(&file.handle, (offset, BLOCK), |_| Ok(())).await?;
        slot.done(start, 1, BLOCK_BYTES);
    }
    Ok(())
}

/// Unstable writes end with a COMMIT, which is part of their time.
pub async fn write(slot: Slot, stability: Stability) -> Result<()> {
    let file = slot.large()?;
    while slot.turn().is_some() {
        let offset = somewhere(&slot, file);
        let what = slot.lane.random.borrow_mut().u64(..);
        let piece = slot.pattern().piece(what, BLOCK);
        let start = slot.start();
        let verifier = slot.write(&file.handle, offset, piece, stability).await?;
        slot.lane.check_verifier(verifier)?;
        slot.done(start, 1, BLOCK_BYTES);
    }
    if slot.leave() && stability == Stability::Unstable {
        let verifier = slot.commit(&file.handle).await?;
        slot.lane.check_verifier(verifier)?;
    }
    Ok(())
}

fn somewhere(slot: &Slot, file: Large) -> u64 {
    slot.lane.random.borrow_mut().u64(0..file.bytes / BLOCK_BYTES) * BLOCK_BYTES
}
