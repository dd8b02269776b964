//! One shard's view of the pool's devices: the disk door over the shard's ring.
//!
//! A durable write is RWF_DSYNC, which the kernel turns into a FUA write where the device has it and
//! into a flush behind the write where not: either way no flush is for us to send, and several may be
//! in flight. A flush is fdatasync. Discard makes a hole in a file, so that a pool in a sparse file
//! shrinks; on a block device it does nothing yet. The engine has no use for it yet.
//!
//! What always holds: a command outside its device is refused before it reaches the kernel, so a
//! damaged address cannot make a file grow; an error of the kernel is passed on once and nothing is
//! retried, a failed flush least of all, since the kernel may have forgotten what it failed to write. It
//! tells one caller of that, and shards share a description of the file: so whoever hears of a failed
//! flush tells all shards, and no later flush of that device counts.

use crate::file::{Devices, Kind, Mode, OpenError, blocks_of};
use cairn_base::door::{Disk, Durability, MediaError};
use cairn_base::ring::{Fd, Ring};
use cairn_base::{Arena, BLOCK_BYTES, BlockNo, DeviceId, DmaBuf, DmaSlice, Run};
use std::cell::Cell;
use std::fs::File;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicI32, Ordering};

pub struct FileDisk {
    ring: Ring,
    arena: Arena,
    devices: Vec<Device>,
    blocks_read: Cell<u64>,
}

struct Device {
    fd: Fd,
    kind: Kind,
    /// Beside the ring's descriptor: for what needs no ring.
    file: File,
    blocks: Cell<u64>,
    /// What a flush of any shard failed with, or 0.
    flush_errno: Arc<AtomicI32>,
}

impl Device {
    fn flush_failure(&self) -> Result<(), MediaError> {
        match self.flush_errno.load(Ordering::SeqCst) {
            0 => Ok(()),
            errno => Err(MediaError::Flush(errno)),
        }
    }
}

impl FileDisk {
    /// Over devices that all shards share; `ring` is this shard's.
    pub fn new(ring: Ring, arena: Arena, devices: &Devices) -> Result<FileDisk, OpenError> {
        let device = |opened: &crate::file::Opened| {
            let (fd, file) = (Fd::new(opened.duplicate()?), opened.duplicate()?);
            let blocks = Cell::new(blocks_of(&file).map_err(|error| opened.failed(&error))?);
            let (kind, flush_errno) = (opened.kind, Arc::clone(&opened.flush_errno));
            Ok(Device { fd, kind, file, blocks, flush_errno })
        };
        let devices = devices.iter().map(device).collect::<Result<_, _>>()?;
        Ok(FileDisk { ring, arena, devices, blocks_read: Cell::new(0) })
    }

    /// For a program with one shard.
    pub fn open(
        ring: Ring,
        arena: Arena,
        paths: &[impl AsRef<Path>],
        mode: Mode,
    ) -> Result<FileDisk, OpenError> {
        FileDisk::new(ring, arena, &Devices::open(paths, mode)?)
    }

    fn device(&self, device: DeviceId) -> Result<&Device, MediaError> {
        self.devices.get(usize::from(device.0)).ok_or(MediaError::OutOfRange)
    }

    /// The device, when all of `bytes` from `at` lies on it.
    fn within(&self, at: BlockNo, bytes: usize) -> Result<&Device, MediaError> {
        assert!(bytes.is_multiple_of(BLOCK_BYTES), "a disk moves whole blocks");
        let device = self.device(at.device())?;
        let end = at.index() + (bytes / BLOCK_BYTES) as u64;
        if end > device.blocks.get() { Err(MediaError::OutOfRange) } else { Ok(device) }
    }
}

impl Disk for FileDisk {
    fn device_count(&self) -> usize {
        self.devices.len()
    }

    /// Panics when there is no such device.
    fn device_blocks(&self, device: DeviceId) -> u64 {
        self.devices[usize::from(device.0)].blocks.get()
    }

    /// What cannot be measured is as long as it was.
    fn measure(&self, device: DeviceId) -> u64 {
        let device = &self.devices[usize::from(device.0)];
        if let Ok(blocks) = blocks_of(&device.file) {
            device.blocks.set(blocks);
        }
        device.blocks.get()
    }

    fn can_lengthen(&self, device: DeviceId) -> bool {
        self.device(device).is_ok_and(|device| device.kind == Kind::Regular)
    }

    fn lengthen(&self, id: DeviceId, blocks: u64) -> Result<(), MediaError> {
        let device = self.device(id)?;
        if device.kind == Kind::Block || blocks < self.measure(id) {
            return Err(MediaError::OutOfRange);
        }
        let bytes = blocks.checked_mul(BLOCK_BYTES as u64).ok_or(MediaError::OutOfRange)?;
        device.file.set_len(bytes).map_err(|error| media_error(&error, MediaError::Write))?;
        self.measure(id);
        Ok(())
    }

    fn has_fua(&self, _device: DeviceId) -> bool {
        true
    }

    fn arena(&self) -> &Arena {
        &self.arena
    }

    fn blocks_read(&self) -> u64 {
        self.blocks_read.get()
    }

    async fn read(&self, at: BlockNo, buf: DmaBuf) -> (DmaBuf, Result<(), MediaError>) {
        let device = match self.within(at, buf.len()) {
            Ok(device) => device,
            Err(error) => return (buf, Err(error)),
        };
        self.blocks_read.set(self.blocks_read.get() + (buf.len() / BLOCK_BYTES) as u64);
        let (buf, result) = self.ring.read_at(&device.fd, buf, at.byte_offset()).await;
        (buf, result.map_err(|error| media_error(&error, MediaError::Read)))
    }

    async fn write(
        &self,
        at: BlockNo,
        bufs: Vec<DmaSlice>,
        want: Durability,
    ) -> Result<(), MediaError> {
        let bytes = bufs.iter().map(|slice| slice.len()).sum();
        let device = self.within(at, bytes)?;
        let result = self.ring.write_at(&device.fd, bufs, at.byte_offset(), want).await;
        result.map_err(|error| media_error(&error, MediaError::Write))
    }

    async fn flush(&self, device: DeviceId) -> Result<(), MediaError> {
        let device = self.device(device)?;
        let result = self.ring.sync_data(&device.fd, &device.flush_errno).await;
        // Another one may have been told what ours was not.
        device.flush_failure()?;
        result.map_err(|error| media_error(&error, MediaError::Flush))
    }

    async fn discard(&self, run: Run) -> Result<(), MediaError> {
        let device = self.device(run.start.device())?;
        let end = run.start.index().checked_add(run.blocks);
        if end.is_none_or(|end| end > device.blocks.get()) {
            return Err(MediaError::OutOfRange);
        }
        if device.kind == Kind::Block || run.blocks == 0 {
            return Ok(());
        }
        let result = self.ring.punch_hole(&device.fd, run.start.byte_offset(), run.bytes()).await;
        match result {
            // A file system without holes: what is not wanted may as well stay.
            Err(error) if error.raw_os_error() == Some(libc::EOPNOTSUPP) => Ok(()),
            result => result.map_err(|error| media_error(&error, MediaError::Discard)),
        }
    }
}

/// `named` says which command failed.
fn media_error(error: &io::Error, named: fn(i32) -> MediaError) -> MediaError {
    match error.raw_os_error() {
        Some(libc::ENODEV | libc::ENXIO) => MediaError::Gone,
        Some(errno) => named(errno),
        // The file ended early: somebody has cut it since it was opened.
        None if error.kind() == io::ErrorKind::UnexpectedEof => MediaError::OutOfRange,
        None => named(libc::EIO),
    }
}
