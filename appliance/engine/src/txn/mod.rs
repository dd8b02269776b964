//! Gather, apply, settle: how an operation becomes one record.

pub mod across;
mod permit;
mod scan;
mod view;

pub use permit::{Class, Need, Permit, node_blocks_kept, owed_blocks};
pub use view::{PendingEdit, Stop, View};
