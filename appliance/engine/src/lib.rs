//! The file system: what one core owns and what each operation means.
//!
//! A `Shard` is everything one core owns: its tablets, its write log, its cache. An operation
//! (`op/`) gathers what it must read, applies all its checks and changes in one synchronous stretch
//! (`txn/view.rs`), and settles: waits until the write log (`log/write_log.rs`) has it on stable
//! media. Changes go to a tablet's memtable; `log/freeze.rs` writes frozen memtables as log trees and
//! `log/fold.rs` folds them into the fs tree. `open.rs` goes the other way after a crash.
//!
//! Nothing here knows that NVMe, sockets or NFS exist, and nothing here is shared between threads:
//! another shard's state is reached by mail (`peer.rs`).

#![forbid(unsafe_code)]

pub mod access;
pub mod attr;
pub mod counters;
pub mod cred;
pub mod error;
pub mod failpoint;
pub mod format_pool;
mod held;
pub mod limits;
pub mod name;
mod once;
pub mod op;
pub mod open;
pub mod pool;
pub mod resize;
pub mod sabotage;
pub mod scrub;
pub mod shard;
pub mod snapshot;
pub mod status;
pub mod trigger;
pub mod trouble;
mod waiters;

mod block;
mod data;
pub mod index;
mod item;
mod lock;
mod log;
mod peer;
mod space;
mod tablet;
mod tree;
mod txn;

pub use cred::Cred;
pub use data::cached_runs_bytes;
pub use error::FsError;
pub use held::Held;
pub use index::{
    Begin, Change, Consumer, ConsumerName, DeletionsStatus, Gone, SeqIndex, Tend, What, Xattr,
};
pub use item::XattrPlace;
pub use name::Name;
pub use once::{ANSWER_BYTES, CallKey};
pub use peer::{Mail, ports};
pub use resize::{DeviceSpace, Grow, Resized};
pub use shard::{Shard, ShardConfig};
pub use snapshot::{Cut, SnapshotId};
pub use waiters::{WAITER_BYTES, WaitOp, Waiter, WaiterKey, WaitersFrom, WaitersPage};
