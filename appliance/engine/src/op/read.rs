//! READ: bytes of a file, verified. What it does is `data/read.rs`.

use crate::attr::Attr;
use crate::cred::Cred;
use crate::error::FsError;
use crate::shard::Shard;
use cairn_base::DmaSlice;
use cairn_base::door::Doors;
use cairn_format::InodeNo;
use std::rc::Rc;

#[derive(Clone, Debug)]
pub struct Read {
    pub cred: Cred,
    pub ino: InodeNo,
    pub offset: u64,
    pub len: u32,
}

/// The bytes are those of `parts`, one behind the other.
#[derive(Debug)]
pub struct Data {
    pub parts: Vec<DmaSlice>,
    pub eof: bool,
    pub attr: Attr,
}

impl Data {
    /// A copy of the bytes in one piece.
    pub fn to_vec(&self) -> Vec<u8> {
        self.parts.iter().flat_map(|part| part.iter().copied()).collect()
    }
}

impl Read {
    pub fn home(&self) -> InodeNo {
        self.ino
    }

    pub(crate) async fn run<D: Doors>(self, shard: &Rc<Shard<D>>) -> Result<Data, FsError> {
        shard.read_data(&self.cred, self.ino, self.offset, self.len).await
    }
}
