//! What archive agents do to a file's data: release it when the archive has it, stage it back, and say that
//! there was none. How is in `data/release.rs`, `data/stage.rs` and `data/punch.rs`.
//!
//! None is a change of the file: times, size, data_seq and data_version stay, meta_seq moves.

use crate::data::Arrival;
use crate::error::FsError;
use crate::shard::Shard;
use cairn_base::door::Doors;
use cairn_base::{BLOCK_BYTES, DmaBuf};
use cairn_format::InodeNo;
use std::rc::Rc;

/// Frees the blocks of a range and marks them offline.
#[derive(Clone, Debug)]
pub struct Release {
    pub ino: InodeNo,
    /// A multiple of 4,096, as `len` is; the range may go on behind the file's end.
    pub offset: u64,
    pub len: u64,
    /// `VersionMismatch` unless the file's data has it.
    pub data_version: u64,
}

/// Gives a range its bytes back; what is online of it stays as it is.
#[derive(Debug)]
pub struct Stage {
    pub ino: InodeNo,
    /// A multiple of 4,096. The range ends at one, too, or at the file's end.
    pub offset: u64,
    /// From its first byte on.
    pub data: DmaBuf,
    /// 1 MiB at most.
    pub len: usize,
    pub data_version: u64,
}

/// Makes holes of the offline blocks of a range.
#[derive(Clone, Debug)]
pub struct PunchOffline {
    pub ino: InodeNo,
    /// A multiple of 4,096, as `len` is; the range may go on behind the file's end.
    pub offset: u64,
    pub len: u64,
    /// `VersionMismatch` unless the file's data has it.
    pub data_version: u64,
}

/// The blocks of a range of whole ones.
fn whole_blocks(offset: u64, len: u64) -> Result<std::ops::Range<u64>, FsError> {
    const BLOCK: u64 = BLOCK_BYTES as u64;
    let end = offset.checked_add(len).ok_or(FsError::Invalid)?;
    if !offset.is_multiple_of(BLOCK) || !len.is_multiple_of(BLOCK) {
        return Err(FsError::Invalid);
    }
    Ok(offset / BLOCK..end / BLOCK)
}

impl Release {
    pub fn home(&self) -> InodeNo {
        self.ino
    }

    /// Blocks that were released.
    pub(crate) async fn run<D: Doors>(self, shard: &Rc<Shard<D>>) -> Result<u64, FsError> {
        let Release { ino, offset, len, data_version } = self;
        if len == 0 {
            return Ok(0);
        }
        shard.release_data(ino, whole_blocks(offset, len)?, data_version).await
    }
}

impl PunchOffline {
    pub fn home(&self) -> InodeNo {
        self.ino
    }

    /// Blocks that were offline and are a hole.
    pub(crate) async fn run<D: Doors>(self, shard: &Rc<Shard<D>>) -> Result<u64, FsError> {
        let PunchOffline { ino, offset, len, data_version } = self;
        if len == 0 {
            return Ok(0);
        }
        shard.punch_offline(ino, whole_blocks(offset, len)?, data_version).await
    }
}

impl Stage {
    pub fn home(&self) -> InodeNo {
        self.ino
    }

    /// Blocks that took their bytes.
    pub(crate) async fn run<D: Doors>(self, shard: &Rc<Shard<D>>) -> Result<u64, FsError> {
        let Stage { ino, offset, data, len, data_version } = self;
        if len == 0 {
            return Ok(0);
        }
        let ask = Arrival { ino, offset, len, version: data_version };
        shard.stage_data(&ask, data).await
    }
}
