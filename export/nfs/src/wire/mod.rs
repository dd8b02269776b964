//! NFS version 3 on the wire (RFC 1813): every argument and result as a type, and nothing about what
//! they do.
//!
//! Arguments are decoded into borrows of the record they came in: handles, names and file data are
//! slices of it. Bounds are enforced here, once. A name may be longer than any file system takes (up
//! to `NAME_BYTES_MAX`), so that the server can answer NAMETOOLONG where a refused decode could only
//! say "garbage". Bytes behind the last argument are ignored, as servers in the field do.
//!
//! Results are encoded behind `net::rpc::success`: a status, and then what RFC 1813 attaches to
//! success or to failure. `Outcome` pairs the two, so a failure cannot forget its attributes.
//! READDIR's lists are written entry by entry against the client's size limits (`dir.rs`); READ hands
//! its payload over uncopied.
//!
//! There are no encoders of arguments and no decoders of results: the tests use an independent
//! implementation of the protocol as the other side.

mod args;
mod attr;
mod dir;
mod result;
mod stat;

pub use args::*;
pub use attr::*;
pub use dir::*;
pub use result::*;
pub use stat::NfsStat;

pub const PROGRAM: u32 = 100_003;
pub const VERSION: u32 = 3;

/// RFC 1813, section 2.4.
pub const HANDLE_BYTES_MAX: usize = 64;
/// Longer names are garbage; shorter ones may still be too long for the file system.
pub const NAME_BYTES_MAX: usize = 1024;
/// The longest target of a symbolic link we look at.
pub const SYMLINK_BYTES_MAX: usize = 4096;

pub type Verifier = [u8; 8];

/// RFC 1813, section 3.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Procedure {
    Null,
    Getattr,
    Setattr,
    Lookup,
    Access,
    Readlink,
    Read,
    Write,
    Create,
    Mkdir,
    Symlink,
    Mknod,
    Remove,
    Rmdir,
    Rename,
    Link,
    Readdir,
    Readdirplus,
    Fsstat,
    Fsinfo,
    Pathconf,
    Commit,
}

impl Procedure {
    /// In the order of their numbers, from 0.
    pub const ALL: [Procedure; 22] = [
        Procedure::Null,
        Procedure::Getattr,
        Procedure::Setattr,
        Procedure::Lookup,
        Procedure::Access,
        Procedure::Readlink,
        Procedure::Read,
        Procedure::Write,
        Procedure::Create,
        Procedure::Mkdir,
        Procedure::Symlink,
        Procedure::Mknod,
        Procedure::Remove,
        Procedure::Rmdir,
        Procedure::Rename,
        Procedure::Link,
        Procedure::Readdir,
        Procedure::Readdirplus,
        Procedure::Fsstat,
        Procedure::Fsinfo,
        Procedure::Pathconf,
        Procedure::Commit,
    ];

    pub fn parse(number: u32) -> Option<Self> {
        Self::ALL.get(usize::try_from(number).ok()?).copied()
    }
}
