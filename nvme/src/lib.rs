//! The disk door's real side: the devices of a pool, from opening them to a completed command.
//!
//! A pool lives on files or block devices. The daemon opens them once (`file.rs`), which locks each
//! against a second daemon, and gives every shard a `FileDisk` (`disk.rs`) over the shard's own ring
//! (`base/src/ring.rs`). From there a command is a future: the buffer goes in by value, the ring keeps
//! it until the kernel has answered, and dropping the future abandons the wait, not the buffer.
//!
//! The driver for NVMe controllers in user space comes later and will be a second backend behind
//! the same door. Nothing here knows what a file system is.

#![forbid(unsafe_code)]

mod disk;
mod file;

pub use disk::FileDisk;
pub use file::{Devices, Mode, OpenError, create_file};
