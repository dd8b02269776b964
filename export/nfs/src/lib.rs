//! The NFS version 3 frontend: what a client says on the wire, and whom it says it for.
//!
//! `server.rs` takes every call that arrives on the one TCP port, whatever program it is for: NFS
//! (`proc/`, one file a procedure), MOUNT (`mount.rs`) or the port mapper (`portmap.rs`). A procedure
//! decodes its arguments (`wire/`), finds out what object its handle means, seen through which export
//! and as whom (`context.rs`, `handle.rs`, `export.rs`, `auth.rs`), asks the engine, and encodes what
//! came of it (`attr.rs`, `status.rs`).
//!
//! Nothing is kept about clients between calls here; the engine remembers what must not be done twice.

mod attr;
pub mod auth;
mod call_identity;
mod context;
mod counts;
pub mod export;
pub mod handle;
mod limits;
mod mount;
pub mod mount_wire;
mod name;
mod portmap;
pub mod portmap_wire;
mod proc;
mod server;
mod status;
pub mod wire;

pub use counts::ProcedureCounts;
pub use server::{NfsConfig, NfsServer};
