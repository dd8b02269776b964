//! READ: bytes of a file, verified. What it does is `data/read.rs`.

use crate::attr::Attr;
use crate::cred::Cred;
use crate::error::FsError;
use crate::shard::Shard;
use cairn_base::DmaBuf;
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

/// The bytes are `buf[start..start + len]`; `start` is the offset within its block.
#[derive(Debug)]
pub struct Data {
    pub buf: DmaBuf,
    pub start: usize,
    pub len: usize,
    pub eof: bool,
    pub attr: Attr,
}

impl Read {
    pub fn home(&self) -> InodeNo {
        self.ino
    }

    pub(crate) async fn run<D: Doors>(self, shard: &Rc<Shard<D>>) -> Result<Data, FsError> {
        shard.read_data(&self.cred, self.ino, self.offset, self.len).await
    }
}
