//! WRITE: bytes into a file's overlay, and on to stable media where that was asked. What it does is
//! `data/write.rs`.

use crate::attr::Change;
use crate::cred::Cred;
use crate::data::Incoming;
use crate::error::FsError;
use crate::shard::Shard;
use cairn_base::DmaBuf;
use cairn_base::door::Doors;
use cairn_format::InodeNo;
use std::rc::Rc;

/// What of a write is on stable media when it is answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stability {
    /// Nothing: a COMMIT follows, or the write verifier changes.
    Unstable,
    /// The data and what is needed to read it back.
    DataSync,
    /// All of it.
    FileSync,
}

/// The payload's first byte lies at `data[offset % 4096]`.
#[derive(Debug)]
pub struct Write {
    pub cred: Cred,
    pub ino: InodeNo,
    pub offset: u64,
    pub data: DmaBuf,
    pub len: usize,
    pub stability: Stability,
}

#[derive(Clone, Copy, Debug)]
pub struct Written {
    pub change: Change,
    /// At least what was asked.
    pub stability: Stability,
    /// Of the shard that holds the file: it changes when buffered data is lost there.
    pub verifier: u64,
}

impl Write {
    pub fn home(&self) -> InodeNo {
        self.ino
    }

    pub(crate) async fn run<D: Doors>(self, shard: &Rc<Shard<D>>) -> Result<Written, FsError> {
        let Write { cred, ino, offset, data, len, stability } = self;
        let ask = Incoming { cred, ino, offset, len };
        let change = shard.write_data(&ask, data, stability).await?;
        // The record that links data carries the attributes too.
        let stability = match stability {
            Stability::Unstable => Stability::Unstable,
            Stability::DataSync | Stability::FileSync => Stability::FileSync,
        };
        Ok(Written { change, stability, verifier: shard.write_verifier() })
    }
}
