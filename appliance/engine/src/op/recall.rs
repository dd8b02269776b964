//! What a frontend asks for a client whose request met offline data, and what an archive agent has such
//! clients told. Who waits, and for how long, is in `waiters.rs`.

use crate::data::blocks_of;
use crate::error::FsError;
use crate::shard::Shard;
use crate::waiters::{Asker, WaitOp};
use cairn_base::BLOCK_BYTES;
use cairn_base::door::Doors;
use cairn_format::InodeNo;
use std::net::Ipv6Addr;
use std::rc::Rc;

/// Queues a recall for a client, unless it has one: its request met `FsError::Offline`.
#[derive(Clone, Copy, Debug)]
pub struct Recall {
    pub ino: InodeNo,
    pub wanted: Wanted,
    pub client: Ipv6Addr,
    /// So many recalls of one client may be queued on a shard.
    pub recalls_max: u32,
}

/// What the request needs to be online.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wanted {
    Read {
        offset: u64,
        len: u32,
    },
    /// All of the file: the version that names what is offline changes.
    Write,
    /// All that stays of the file.
    Size(u64),
}

/// Has clients that wait for a range told an errno, each with its next request for it, once.
#[derive(Clone, Debug)]
pub struct FailWaiters {
    pub ino: InodeNo,
    /// Bytes; every block that the range touches.
    pub offset: u64,
    pub len: u64,
    pub ops: Vec<WaitOp>,
    /// 1 to 4095.
    pub errno: u16,
}

const ERRNO_MAX: u16 = 4095;

impl Recall {
    pub fn home(&self) -> InodeNo {
        self.ino
    }

    /// `Some`: the errno that the client is to be told.
    pub(crate) async fn run<D: Doors>(self, shard: &Rc<Shard<D>>) -> Result<Option<u16>, FsError> {
        let Recall { ino, wanted, client, recalls_max } = self;
        let (op, blocks) = match wanted {
            Wanted::Read { offset, len } => (WaitOp::Read, blocks_of(offset, u64::from(len))),
            Wanted::Write => {
                let item = shard.read_with(|view| view.inode(ino)).await?;
                (WaitOp::Write, blocks_of(0, item.size.get()))
            }
            Wanted::Size(size) => (WaitOp::ChangeSize, 0..size.div_ceil(BLOCK_BYTES as u64)),
        };
        let who = Asker { op, client, waiters_max: recalls_max };
        shard.wait_for(ino, blocks, &who).await
    }
}

impl FailWaiters {
    pub fn home(&self) -> InodeNo {
        self.ino
    }

    /// How many clients that are.
    pub(crate) async fn run<D: Doors>(self, shard: &Rc<Shard<D>>) -> Result<u64, FsError> {
        let FailWaiters { ino, offset, len, ops, errno } = self;
        if errno == 0 || errno > ERRNO_MAX || offset.checked_add(len).is_none() {
            return Err(FsError::Invalid);
        }
        shard.read_with(|view| crate::data::regular_file(view, ino)).await?;
        shard.fail_waiters(ino, blocks_of(offset, len), &ops, errno).await
    }
}
