//! The network side of cairn, below any protocol that has a meaning of its own.
//!
//! From the wire upwards: `stream.rs` and `listener.rs` carry TCP over the shard's ring, `record.rs`
//! finds the ends of messages, `inbox.rs` and `outbox.rs` move them between buffers and the link,
//! `rpc.rs` reads the heads of calls and writes the heads of answers, `xdr.rs` is the codec, and
//! `server.rs` puts them together for one connection, within what all may hold (`budget.rs`). What a program does with a call is elsewhere
//! (`export/nfs`).
//!
//! Everything here works on any `base::door::Link`: a socket, or the simulator's wire.

mod budget;
mod inbox;
pub mod listener;
mod outbox;
pub mod record;
pub mod rpc;
pub mod server;
pub mod stream;
pub mod xdr;

pub use budget::Budget;
pub use inbox::InboxError;
