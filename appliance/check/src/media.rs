//! Reading blocks for a check, and nothing else: a block that cannot be read is a finding, not the
//! end.

use cairn_base::door::{Disk, MediaError};
use cairn_base::{BLOCK_BYTES, DeviceId, DmaBuf, Run};
use cairn_format::Damage;
use std::fmt;

/// Largest single read.
const READ_BLOCKS: u64 = 256;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unreadable {
    Media(MediaError),
    Damage(Damage),
}

impl fmt::Display for Unreadable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Unreadable::Media(MediaError::Read(errno)) => write!(f, "read failed (errno {errno})"),
            Unreadable::Media(MediaError::OutOfRange) => write!(f, "lies outside its device"),
            Unreadable::Media(error) => write!(f, "{error:?}"),
            Unreadable::Damage(damage) => write!(f, "{damage}"),
        }
    }
}

impl From<Damage> for Unreadable {
    fn from(damage: Damage) -> Unreadable {
        Unreadable::Damage(damage)
    }
}

pub(crate) async fn read<K: Disk>(disk: &K, run: Run) -> Result<DmaBuf, Unreadable> {
    if !is_inside(disk, run) {
        return Err(Unreadable::Media(MediaError::OutOfRange));
    }
    let bytes = run.blocks as usize * BLOCK_BYTES;
    let (buf, result) = disk.read(run.start, disk.arena().alloc(bytes)).await;
    result.map_err(Unreadable::Media)?;
    Ok(buf)
}

/// Reads a run of any length into plain memory.
pub(crate) async fn read_all<K: Disk>(disk: &K, run: Run) -> Result<Vec<u8>, Unreadable> {
    let mut bytes = Vec::with_capacity(run.bytes() as usize);
    let mut from = 0;
    while from < run.blocks {
        let blocks = READ_BLOCKS.min(run.blocks - from);
        bytes.extend_from_slice(&read(disk, Run::new(run.start.after(from), blocks)).await?);
        from += blocks;
    }
    Ok(bytes)
}

pub(crate) fn is_inside<K: Disk>(disk: &K, run: Run) -> bool {
    let device = run.start.device();
    usize::from(device.0) < disk.device_count()
        && run
            .start
            .index()
            .checked_add(run.blocks)
            .is_some_and(|end| end <= disk.device_blocks(device))
}

/// All devices of the disk.
pub(crate) fn devices<K: Disk>(disk: &K) -> impl Iterator<Item = DeviceId> + use<K> {
    (0..disk.device_count().min(usize::from(u8::MAX))).map(|index| DeviceId(index as u8))
}
