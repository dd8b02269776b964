//! Black-box acceptance: what a user could find out about cairn without reading its source.
//!
//! Everything here drives the `cairn` program by its command line and by the wire, with an NFSv3
//! codec written by others (crate nfs3_client). No crate of ours is linked: a mistake that our own
//! encoder and decoder share would pass every test that uses both.
//!
//! The library holds what the tests (`tests/`) and the long runs (`main.rs`) have in common: the
//! daemon as a child process (`daemon.rs`), the client (`client.rs`, `tree.rs`), bytes by hand
//! (`raw.rs`), and the runs that are long enough to be a program: copy and kill (`kill_run/`), a server
//! under attack (`hostile/`), one with little memory (`memory.rs`), and the kernel's own NFS client (`kernel_nfs/`).
//!
//! What always holds: traffic stays on the loopback address, every wait ends by itself with a
//! message that says what was waited for, and no process outlives the value that started it.

mod client;
mod clock;
pub mod crowd;
mod daemon;
pub mod hostile;
pub mod kernel_nfs;
pub mod kill_run;
mod loop_device;
#[expect(unsafe_code, reason = "a file can be mapped in no other way")]
mod mapped;
pub mod memory;
mod program;
pub mod raw;
mod served;
mod skip;
mod status;
mod stream;
pub mod tape;
mod tree;

pub use client::{Answer, Client, Cred, Fault, Found, Made, now_or, set_mode, set_size};
pub use clock::{Deadline, eventually, pause};
pub use daemon::{Daemon, ServeConfig, Setup, free_port};
pub use loop_device::{LoopDevice, LoopDisk, tool};
pub use nfs3_client::nfs3_types;
pub use program::{Finished, binary, cairn, finish, has_subcommand, run_within, wait};
pub use served::{Address, Served};
pub use skip::{skip, skip_without};
pub use status::Status;
pub use tree::{ListedEntry, Tree};
