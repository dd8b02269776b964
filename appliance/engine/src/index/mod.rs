//! Walks of the change indexes.

mod change;

pub use change::SeqIndex;
