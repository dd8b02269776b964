//! The pool as it was at one moment, to be read while the shards go on.
//!
//! What is ever written twice in one place was copied then and comes from memory: the front of each
//! device, and of each log area the batches that count. The rest of a log area reads as zeros, as in a
//! log that never came that far. Everything else comes from the devices, where no block that was
//! readable then has been used again (`engine/src/snapshot.rs`). Nothing can be written here.

use cairn_base::door::{Disk, Durability, MediaError};
use cairn_base::{Arena, BLOCK_BYTES, BlockNo, DeviceId, DmaBuf, DmaSlice, Run};
use cairn_engine::Cut;
use cairn_nvme::FileDisk;
use nix::errno::Errno;
use std::collections::BTreeMap;
use std::rc::Rc;

/// Blocks of one read while copying.
const COPY_BLOCKS: u64 = 256;

pub struct SnapshotDisk {
    disk: Rc<FileDisk>,
    /// Bytes by where they were, and how many blocks.
    copies: BTreeMap<BlockNo, (u64, Vec<u8>)>,
    logs: Vec<Run>,
}

impl SnapshotDisk {
    /// Copies what the shards say, whose logs stand still meanwhile.
    pub async fn copy(
        disk: &Rc<FileDisk>,
        cuts: &[Cut],
    ) -> Result<SnapshotDisk, (BlockNo, MediaError)> {
        let logs = cuts.iter().map(|cut| cut.log).collect();
        let mut copy = SnapshotDisk { disk: Rc::clone(disk), copies: BTreeMap::new(), logs };
        let fronts = cuts.first().map_or(&[][..], |cut| &cut.fronts);
        for run in cuts.iter().flat_map(|cut| &cut.log_used).chain(fronts) {
            let mut bytes = Vec::with_capacity(run.bytes() as usize);
            let mut from = 0;
            while from < run.blocks {
                let (at, blocks) = (run.start.after(from), COPY_BLOCKS.min(run.blocks - from));
                let buf = disk.arena().alloc(blocks as usize * BLOCK_BYTES);
                let (buf, read) = disk.read(at, buf).await;
                read.map_err(|error| (at, error))?;
                bytes.extend_from_slice(&buf);
                from += blocks;
            }
            copy.copies.insert(run.start, (run.blocks, bytes));
        }
        Ok(copy)
    }

    fn copied(&self, block: BlockNo) -> Option<&[u8]> {
        let (start, (blocks, bytes)) = self.copies.range(..=block).next_back()?;
        let run = Run::new(*start, *blocks);
        let from = run.contains(block).then(|| block.index() - start.index())? as usize;
        bytes.get(from * BLOCK_BYTES..(from + 1) * BLOCK_BYTES)
    }

    /// Is a block of `run` not to be read from its device?
    fn is_kept_here(&self, run: Run) -> bool {
        let copies = self.copies.iter().map(|(start, (blocks, _))| Run::new(*start, *blocks));
        copies.chain(self.logs.iter().copied()).any(|kept| kept.overlaps(run))
    }

    async fn read_block(&self, at: BlockNo, out: &mut [u8]) -> Result<(), MediaError> {
        if let Some(copied) = self.copied(at) {
            out.copy_from_slice(copied);
        } else if self.logs.iter().any(|log| log.contains(at)) {
            out.fill(0);
        } else {
            let (buf, read) = self.disk.read(at, self.arena().alloc(BLOCK_BYTES)).await;
            read?;
            out.copy_from_slice(&buf);
        }
        Ok(())
    }
}

impl Disk for SnapshotDisk {
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

    async fn read(&self, at: BlockNo, mut buf: DmaBuf) -> (DmaBuf, Result<(), MediaError>) {
        let run = Run::new(at, (buf.len() / BLOCK_BYTES) as u64);
        if !self.is_kept_here(run) {
            return self.disk.read(at, buf).await;
        }
        for (n, out) in (0..).zip(buf.chunks_exact_mut(BLOCK_BYTES)) {
            if let Err(error) = self.read_block(at.after(n), out).await {
                return (buf, Err(error));
            }
        }
        (buf, Ok(()))
    }

    async fn write(&self, _: BlockNo, _: Vec<DmaSlice>, _: Durability) -> Result<(), MediaError> {
        Err(MediaError::Write(Errno::EROFS as i32))
    }

    async fn flush(&self, _: DeviceId) -> Result<(), MediaError> {
        Err(MediaError::Flush(Errno::EROFS as i32))
    }

    async fn discard(&self, _: Run) -> Result<(), MediaError> {
        Err(MediaError::Discard(Errno::EROFS as i32))
    }
}
