//! Blocks in memory: the cache of verified nodes and how absent ones are fetched.

mod cache;
mod fetch;

pub use cache::{Absent, Cache, FilterBuf, NodeBuf, Nodes, Pins};
pub use fetch::{fetch_filter, fetch_node};
