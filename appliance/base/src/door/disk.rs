//! The disk, as the engine sees it: the devices of one pool, addressed in 4 KiB blocks.
//!
//! A write says what it needs. `Cached` may be lost, in any subset of its sectors, until a `flush`
//! that began after it completed has ended. `Durable` survives power loss when it completes, but
//! says nothing about earlier `Cached` writes. Nothing is retried behind this door: an error here
//! is final for that command, and a failed flush means that nothing since the last good one can be
//! trusted, whoever wrote it: what shares a device with others has no way to tell what of it was lost. So
//! once a flush of a device has failed, later ones fail for everybody until it is opened again.

use crate::dma_buf::{Arena, DmaBuf, DmaSlice};
use crate::units::{BlockNo, DeviceId, Run};
use std::future::Future;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Durability {
    /// May sit in a volatile cache until the next flush of its device.
    Cached,
    /// On stable media when the write completes (FUA, or a flush behind it).
    Durable,
}

/// What a device said instead of doing it. The numbers are errno values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MediaError {
    Read(i32),
    Write(i32),
    Flush(i32),
    Discard(i32),
    /// Outside the device, or the device is shorter than its table entry says.
    OutOfRange,
    /// The device went away.
    Gone,
}

impl std::fmt::Display for MediaError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            MediaError::Read(errno) => write!(f, "a read failed with errno {errno}"),
            MediaError::Write(errno) => write!(f, "a write failed with errno {errno}"),
            MediaError::Flush(errno) => write!(f, "a flush failed with errno {errno}"),
            MediaError::Discard(errno) => write!(f, "a discard failed with errno {errno}"),
            MediaError::OutOfRange => f.write_str("the device ends before it"),
            MediaError::Gone => f.write_str("the device is gone"),
        }
    }
}

pub trait Disk: 'static {
    /// Devices are numbered 0..count, as in the superblock's device table.
    fn device_count(&self) -> usize;

    fn device_blocks(&self, device: DeviceId) -> u64;

    /// Looks how long the device is now, since some grow while they are open. From then on
    /// `device_blocks` says so.
    fn measure(&self, device: DeviceId) -> u64 {
        self.device_blocks(device)
    }

    /// Whether it can be made longer from here, as a file can.
    fn can_lengthen(&self, _device: DeviceId) -> bool {
        false
    }

    /// Makes it longer; durable with the next flush.
    fn lengthen(&self, _device: DeviceId, _blocks: u64) -> Result<(), MediaError> {
        Err(MediaError::OutOfRange)
    }

    /// Whether a durable write costs no flush of its own, so that several may be in flight.
    fn has_fua(&self, device: DeviceId) -> bool;

    /// Where buffers for this disk come from.
    fn arena(&self) -> &Arena;

    /// Blocks that were read through this handle.
    fn blocks_read(&self) -> u64;

    /// Fills the whole of `buf` (a multiple of a block).
    fn read(
        &self,
        at: BlockNo,
        buf: DmaBuf,
    ) -> impl Future<Output = (DmaBuf, Result<(), MediaError>)>;

    /// Writes the slices back to back; each is a multiple of a block. The slices are kept until the
    /// device has let go of them, also when the future is dropped.
    fn write(
        &self,
        at: BlockNo,
        bufs: Vec<DmaSlice>,
        want: Durability,
    ) -> impl Future<Output = Result<(), MediaError>>;

    fn flush(&self, device: DeviceId) -> impl Future<Output = Result<(), MediaError>>;

    /// The content of `run` is no longer wanted; what it reads as afterwards is undefined.
    fn discard(&self, run: Run) -> impl Future<Output = Result<(), MediaError>>;
}
