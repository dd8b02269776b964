//! What lies on the devices of a pool that nobody serves, to be changed and verified again and again.
//!
//! Blocks are shared with whoever copies them, so a copy costs a list of places. As a disk door it
//! answers at once: a check of it needs no machine and no clock.

use crate::media::{Block, Media};
use cairn_base::door::{Disk, Durability, MediaError};
use cairn_base::{Arena, BLOCK_BYTES, BlockNo, DeviceId, DmaBuf, DmaSlice, Run};
use cairn_check::{CheckError, CheckOptions, Report, check};
use std::collections::BTreeMap;
use std::future::{Future, ready};
use std::pin::pin;
use std::task::{Context, Poll, Waker};

#[derive(Clone)]
pub struct PoolCopy {
    devices: Vec<Device>,
    arena: Arena,
    zeros: Block,
}

#[derive(Clone)]
struct Device {
    blocks: u64,
    /// What is not here is zeros.
    written: BTreeMap<u64, Block>,
}

impl PoolCopy {
    /// The devices as they are when the power is off.
    pub fn of(media: &Media) -> PoolCopy {
        assert!(!media.is_on(), "what is still on its way is not on the devices");
        let ids = (0..media.device_count()).map(|index| DeviceId(index as u8));
        let device = |id| Device { blocks: media.device_blocks(id), written: BTreeMap::new() };
        let mut devices: Vec<Device> = ids.map(device).collect();
        for at in media.written() {
            let block = media.peek(at).expect("it was listed as written");
            devices[usize::from(at.device().0)].written.insert(at.index(), block);
        }
        PoolCopy { devices, arena: Arena::heap(), zeros: vec![0; BLOCK_BYTES].into() }
    }

    pub fn block(&self, at: BlockNo) -> Block {
        let device = self.devices.get(usize::from(at.device().0));
        let found = device.and_then(|device| device.written.get(&at.index()));
        found.unwrap_or(&self.zeros).clone()
    }

    pub fn bytes(&self, run: Run) -> Vec<u8> {
        (0..run.blocks).flat_map(|n| self.block(run.start.after(n)).to_vec()).collect()
    }

    /// Writes whole blocks.
    pub fn put(&mut self, at: BlockNo, bytes: &[u8]) {
        let device = &mut self.devices[usize::from(at.device().0)];
        for (index, block) in (at.index()..).zip(bytes.chunks_exact(BLOCK_BYTES)) {
            assert!(index < device.blocks, "the device has the block");
            device.written.insert(index, block.into());
        }
    }

    /// Changes bits of one byte.
    pub fn flip(&mut self, at: BlockNo, byte: usize, mask: u8) {
        let mut bytes = self.block(at).to_vec();
        bytes[byte] ^= mask;
        self.put(at, &bytes);
    }

    /// What the verifier says, every block of data read.
    pub fn check(&self) -> Result<Report, CheckError> {
        let options = CheckOptions { data: true, ..CheckOptions::default() };
        let mut check = pin!(check(self, options, |_| ()));
        match check.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(report) => report,
            Poll::Pending => panic!("nothing in memory makes a check wait"),
        }
    }

    fn has(&self, run: Run) -> bool {
        let end = run.start.index().saturating_add(run.blocks);
        let device = self.devices.get(usize::from(run.start.device().0));
        device.is_some_and(|device| end <= device.blocks)
    }
}

impl Disk for PoolCopy {
    fn device_count(&self) -> usize {
        self.devices.len()
    }

    fn device_blocks(&self, device: DeviceId) -> u64 {
        self.devices.get(usize::from(device.0)).map_or(0, |device| device.blocks)
    }

    fn has_fua(&self, _device: DeviceId) -> bool {
        true
    }

    fn arena(&self) -> &Arena {
        &self.arena
    }

    fn blocks_read(&self) -> u64 {
        0
    }

    fn read(
        &self,
        at: BlockNo,
        mut buf: DmaBuf,
    ) -> impl Future<Output = (DmaBuf, Result<(), MediaError>)> {
        if !self.has(Run::new(at, (buf.len() / BLOCK_BYTES) as u64)) {
            return ready((buf, Err(MediaError::OutOfRange)));
        }
        for (n, part) in (0..).zip(buf.chunks_exact_mut(BLOCK_BYTES)) {
            part.copy_from_slice(&self.block(at.after(n)));
        }
        ready((buf, Ok(())))
    }

    /// A check changes nothing.
    fn write(
        &self,
        _at: BlockNo,
        _bufs: Vec<DmaSlice>,
        _want: Durability,
    ) -> impl Future<Output = Result<(), MediaError>> {
        ready(Err(MediaError::Gone))
    }

    fn flush(&self, _device: DeviceId) -> impl Future<Output = Result<(), MediaError>> {
        ready(Err(MediaError::Gone))
    }

    fn discard(&self, _run: Run) -> impl Future<Output = Result<(), MediaError>> {
        ready(Err(MediaError::Gone))
    }
}
