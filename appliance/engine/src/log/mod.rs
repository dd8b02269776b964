//! From an acknowledged change to the fs tree: write log, memtable, log tree, merge, fold.

mod area;
mod barred;
mod choice;
pub mod fold;
pub mod freeze;
mod memtable;
pub mod merge;
pub mod merges;
pub mod pace;
pub mod recover;
mod relog;
mod write_log;

pub use barred::{Barred, is_damage};
pub use memtable::{Entry, Memtable, MemtableBytes, item_bytes};
pub use write_log::{Admission, LogClass, LogConfig, Pause, Ticket, WriteLog};
