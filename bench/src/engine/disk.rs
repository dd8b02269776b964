//! The disk door with a meter: what the engine asks of the device, counted where it asks.

use cairn_base::door::{Disk, Durability, MediaError};
use cairn_base::{Arena, BLOCK_BYTES, BlockNo, DeviceId, DmaBuf, DmaSlice, Run};
use cairn_nvme::FileDisk;
use std::cell::Cell;
use std::rc::Rc;

pub struct MeteredDisk {
    disk: Rc<FileDisk>,
    written: Cell<u64>,
}

/// What went through the door since it was made.
#[derive(Clone, Copy, Debug, Default)]
pub struct Moved {
    pub blocks_read: u64,
    pub bytes_written: u64,
}

impl Moved {
    pub fn since(self, before: Moved) -> Moved {
        Moved {
            blocks_read: self.blocks_read - before.blocks_read,
            bytes_written: self.bytes_written - before.bytes_written,
        }
    }
}

impl MeteredDisk {
    pub fn new(disk: Rc<FileDisk>) -> MeteredDisk {
        MeteredDisk { disk, written: Cell::new(0) }
    }

    pub fn moved(&self) -> Moved {
        Moved { blocks_read: self.disk.blocks_read(), bytes_written: self.written.get() }
    }
}

impl Disk for MeteredDisk {
    fn device_count(&self) -> usize {
        self.disk.device_count()
    }

    fn device_blocks(&self, device: DeviceId) -> u64 {
        self.disk.device_blocks(device)
    }

    fn has_fua(&self, device: DeviceId) -> bool {
        self.disk.has_fua(device)
    }

    fn arena(&self) -> &Arena {
        self.disk.arena()
    }

    fn blocks_read(&self) -> u64 {
        self.disk.blocks_read()
    }

    async fn read(&self, at: BlockNo, buf: DmaBuf) -> (DmaBuf, Result<(), MediaError>) {
        self.disk.read(at, buf).await
    }

    async fn write(
        &self,
        at: BlockNo,
        bufs: Vec<DmaSlice>,
        want: Durability,
    ) -> Result<(), MediaError> {
        let bytes: usize = bufs.iter().map(|slice| slice.len()).sum();
        debug_assert!(bytes.is_multiple_of(BLOCK_BYTES), "a disk moves whole blocks");
        self.written.set(self.written.get() + bytes as u64);
        self.disk.write(at, bufs, want).await
    }

    async fn flush(&self, device: DeviceId) -> Result<(), MediaError> {
        self.disk.flush(device).await
    }

    async fn discard(&self, run: Run) -> Result<(), MediaError> {
        self.disk.discard(run).await
    }
}
