//! The daemon: wiring, and deliberately dull.
//!
//! `run.rs` is the whole of it: claim the pool (`place.rs`), start one pinned thread per shard
//! (`wire_up.rs`, `shard_loop.rs`), serve control calls on the calling thread, and end in order when
//! told (`shutdown.rs`). What is exported to whom comes from the configuration, at the start and whenever
//! SIGHUP says so (`config/`, `reload.rs`). A check on line has a thread of its own (`online_check.rs`). What is decided about files, durability or protocols is decided in the
//! crates it connects; here are only the machine's cores, clocks, signals and paths.

#![forbid(unsafe_code)]

mod block_device;
mod config;
mod descriptors;
mod doors;
mod error;
mod format;
mod frontend;
mod frontend_mail;
mod memory;
mod observed;
mod offline;
mod online_check;
mod patience;
mod pin;
mod place;
mod populate;
mod ready;
mod reload;
mod rpcbind;
mod run;
mod shard_loop;
mod shown;
mod shutdown;
mod signature;
mod snapshot_disk;
mod supervisor;
mod tally;
mod told;
mod warmer;
mod wire_up;

pub use cairn_nvme::Mode;
pub use cairn_reactor::IdlePolicy;
pub use config::{
    Config, FirstUse, NFS_DEFAULT, NO_SIZE, NetLimits, SERVE_SOCKET_DEFAULT, assert_listenable,
    parse_size, refuse_small_memtable,
};
pub use doors::{SystemClock, SystemEntropy};
pub use error::{Failure, check_failure_on, errno_of};
pub use format::{FormatRequest, Formatted, format};
pub use offline::Offline;
pub use online_check::summary;
pub use patience::patiently;
pub use place::{Claim, DevicePath, DeviceRole, Place};
pub use populate::populate;
pub use ready::Ready;
pub use run::run;
