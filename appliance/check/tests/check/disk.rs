//! A disk in memory, and a way to run a check on it.

use cairn_base::door::{Disk, Durability, MediaError};
use cairn_base::{Arena, BLOCK_BYTES, BlockNo, DeviceId, DmaBuf, DmaSlice, Run};
use cairn_check::{CheckError, CheckOptions, Report};
use std::cell::{Cell, RefCell};
use std::collections::BTreeSet;
use std::future::Future;
use std::pin::pin;
use std::task::{Context, Poll, Waker};

pub struct MemDisk {
    devices: RefCell<Vec<Vec<u8>>>,
    unreadable: RefCell<BTreeSet<BlockNo>>,
    arena: Arena,
    blocks_read: Cell<u64>,
}

impl MemDisk {
    pub fn new(blocks: &[u64]) -> MemDisk {
        let devices = blocks.iter().map(|blocks| vec![0; *blocks as usize * BLOCK_BYTES]);
        MemDisk {
            devices: RefCell::new(devices.collect()),
            unreadable: RefCell::default(),
            arena: Arena::heap(),
            blocks_read: Cell::new(0),
        }
    }

    pub fn put(&self, at: BlockNo, bytes: &[u8]) {
        let from = at.byte_offset() as usize;
        let mut devices = self.devices.borrow_mut();
        devices[usize::from(at.device().0)][from..from + bytes.len()].copy_from_slice(bytes);
    }

    /// Changes bits of one byte.
    pub fn flip(&self, at: BlockNo, byte: usize, mask: u8) {
        let mut devices = self.devices.borrow_mut();
        devices[usize::from(at.device().0)][at.byte_offset() as usize + byte] ^= mask;
    }

    pub fn make_unreadable(&self, at: BlockNo) {
        self.unreadable.borrow_mut().insert(at);
    }

    pub fn truncate(&self, device: DeviceId, blocks: u64) {
        self.devices.borrow_mut()[usize::from(device.0)].truncate(blocks as usize * BLOCK_BYTES);
    }

    pub fn swap_devices(&self) {
        self.devices.borrow_mut().swap(0, 1);
    }

    /// The last device of `other` in the place of device 1.
    pub fn take_last_of(&self, other: &MemDisk) {
        let last = other.devices.borrow().last().cloned();
        let mut devices = self.devices.borrow_mut();
        devices.truncate(1);
        devices.extend(last);
    }
}

impl Disk for MemDisk {
    fn device_count(&self) -> usize {
        self.devices.borrow().len()
    }

    fn device_blocks(&self, device: DeviceId) -> u64 {
        (self.devices.borrow()[usize::from(device.0)].len() / BLOCK_BYTES) as u64
    }

    fn has_fua(&self, _: DeviceId) -> bool {
        true
    }

    fn arena(&self) -> &Arena {
        &self.arena
    }

    fn blocks_read(&self) -> u64 {
        self.blocks_read.get()
    }

    async fn read(&self, at: BlockNo, mut buf: DmaBuf) -> (DmaBuf, Result<(), MediaError>) {
        let run = Run::new(at, (buf.len() / BLOCK_BYTES) as u64);
        self.blocks_read.set(self.blocks_read.get() + run.blocks);
        if self.unreadable.borrow().iter().any(|block| run.contains(*block)) {
            return (buf, Err(MediaError::Read(5)));
        }
        let from = at.byte_offset() as usize;
        let devices = self.devices.borrow();
        let device = &devices[usize::from(at.device().0)];
        match device.get(from..from + buf.len()) {
            Some(bytes) => {
                buf.copy_from_slice(bytes);
                (buf, Ok(()))
            }
            None => (buf, Err(MediaError::OutOfRange)),
        }
    }

    async fn write(&self, _: BlockNo, _: Vec<DmaSlice>, _: Durability) -> Result<(), MediaError> {
        panic!("a check writes nothing");
    }

    async fn flush(&self, _: DeviceId) -> Result<(), MediaError> {
        panic!("a check flushes nothing");
    }

    async fn discard(&self, _: Run) -> Result<(), MediaError> {
        panic!("a check discards nothing");
    }
}

/// Runs a future that never has to wait.
pub fn now<T>(future: impl Future<Output = T>) -> T {
    let mut future = pin!(future);
    match future.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(value) => value,
        Poll::Pending => panic!("nothing here has to be waited for"),
    }
}

pub fn check(disk: &MemDisk) -> Result<Report, CheckError> {
    let options = CheckOptions { data: true, ..CheckOptions::default() };
    now(cairn_check::check(disk, options, |_| {}))
}
