//! The change indexes: walks over them, who follows them, and what is trimmed of them.

mod change;
mod consumer;
mod merge;
mod stream;
mod trim;

pub use change::{Place, SeqIndex};
pub use consumer::{Begin, Consumer, ConsumerName, Tend};
pub use stream::{Change, Gone, What, Xattr};
pub use trim::DeletionsStatus;
pub(crate) use trim::Trims;
