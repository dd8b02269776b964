//! The procedures of NFS version 3 (RFC 1813, section 3.3), one a file. Each has its arguments
//! decoded, asks the engine, and encodes what came of it; what an operation means is the engine's
//! (`cairn_engine::op`). NULL is in `server.rs`.

mod access;
mod commit;
mod create;
mod fsinfo;
mod fsstat;
mod getattr;
mod link;
mod list;
mod lookup;
mod mkdir;
mod mknod;
mod pathconf;
mod read;
mod readdir;
mod readdirplus;
mod readlink;
mod remove;
mod rename;
mod rmdir;
mod setattr;
mod symlink;
mod write;

pub use access::access;
pub use commit::commit;
pub use create::create;
pub use fsinfo::fsinfo;
pub use fsstat::fsstat;
pub use getattr::getattr;
pub use link::link;
pub use lookup::lookup;
pub use mkdir::mkdir;
pub use mknod::mknod;
pub use pathconf::pathconf;
pub use read::read;
pub use readdir::readdir;
pub use readdirplus::readdirplus;
pub use readlink::readlink;
pub use remove::remove;
pub use rename::rename;
pub use rmdir::rmdir;
pub use setattr::setattr;
pub use symlink::symlink;
pub use write::{Writing, write};
