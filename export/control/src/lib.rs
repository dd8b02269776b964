//! The control interface: gRPC on a Unix socket, for the command line and for operators' programs.
//!
//! `proto/control.proto` is the interface; this crate has its service and its client. The service
//! runs on a thread of its own with a tokio runtime and reaches shards only through `bridge.rs`, a
//! bounded queue that each shard's loop polls; `answer.rs` is what a shard does with a request. So
//! nothing of tokio runs on a shard, and nothing of the file system on the control thread.

#![forbid(unsafe_code)]

pub mod client;
#[doc(hidden)]
pub mod foreign;
pub mod request;

mod answer;
mod archive;
mod bridge;
mod changes;
mod check;
mod consumers;
mod counters;
mod devices;
mod fiemap;
mod memory;
mod metrics;
mod paths;
mod scrub;
mod server;
mod service;
mod socket;
mod status;
mod triggers;
mod waiters;
mod xattrs;

pub use answer::answer;
pub use bridge::{Answer, Bridge, CallError, Caller, bridge};
pub use check::{CheckFailed, CheckJob, CheckNews, Checked, StartCheck};
pub use client::{Check, Client, ClientError, Stream, Walk};
pub use metrics::metrics_text;
pub use server::{ServeWith, ShowExports, serve};
pub use socket::{ControlSocket, PATH_BYTES_MAX};

/// The messages of `proto/control.proto`.
pub mod proto {
    #![allow(missing_docs, clippy::all, reason = "generated from the .proto, which is documented")]
    tonic::include_proto!("cairn.control.v1");
}
