//! Clients that ask over NFS: the frontend, its connections and its record stream are then part of the
//! simulated daemon, and only sockets are left out.

mod caller;
mod pipe;
mod requests;

pub use caller::{Caller, Sending, Service, packed, stat};
pub use requests::{IO_ERROR, NfsClient, Verifiers};
