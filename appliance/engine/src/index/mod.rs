//! Walks of the change indexes.

mod change;
mod stream;

pub use change::SeqIndex;
pub use stream::{Change, Gone, What, Xattr};
