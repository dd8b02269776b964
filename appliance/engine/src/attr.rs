//! An inode's attributes as operations take and give them. Plain data; the bytes on the disk are
//! `cairn_format::item::InodeItem`.

pub use cairn_format::item::FileKind;
use cairn_format::{InodeNo, Seq};

/// Signed nanoseconds since 1970.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Time(pub i64);

impl Time {
    pub fn new(secs: i64, nanos: u32) -> Time {
        Time(secs.saturating_mul(1_000_000_000).saturating_add(i64::from(nanos)))
    }

    pub fn secs(self) -> i64 {
        self.0.div_euclid(1_000_000_000)
    }

    pub fn nanos(self) -> u32 {
        self.0.rem_euclid(1_000_000_000) as u32
    }
}

/// Device numbers of a block or character special file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rdev {
    pub major: u32,
    pub minor: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Attr {
    pub ino: InodeNo,
    pub kind: FileKind,
    /// Permission bits, 12 of them.
    pub mode: u32,
    pub nlink: u32,
    pub uid: u32,
    pub gid: u32,
    /// Bytes; counts buffered writes.
    pub size: u64,
    pub rdev: Rdev,
    pub atime: Time,
    pub mtime: Time,
    pub ctime: Time,
    pub crtime: Time,
    pub meta_seq: Seq,
    pub data_seq: Seq,
    pub data_version: u64,
    /// Blocks of 4 KiB.
    pub online_blocks: u64,
    pub offline_blocks: u64,
}

/// What weak cache consistency compares: a file before a change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Before {
    pub size: u64,
    pub mtime: Time,
    pub ctime: Time,
}

impl Before {
    pub fn of(attr: &Attr) -> Before {
        Before { size: attr.size, mtime: attr.mtime, ctime: attr.ctime }
    }
}

/// An object around a change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Change {
    pub before: Before,
    pub after: Attr,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SetTime {
    Now,
    To(Time),
}

/// The attributes to change; `None` leaves one alone.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SetAttr {
    pub mode: Option<u32>,
    pub uid: Option<u32>,
    pub gid: Option<u32>,
    pub size: Option<u64>,
    pub atime: Option<SetTime>,
    pub mtime: Option<SetTime>,
}

/// Access rights asked for and granted, as bits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rights(pub u8);

impl Rights {
    pub const READ: Rights = Rights(4);
    pub const WRITE: Rights = Rights(2);
    pub const EXECUTE: Rights = Rights(1);

    pub const fn has(self, other: Rights) -> bool {
        self.0 & other.0 == other.0
    }

    pub const fn and(self, other: Rights) -> Rights {
        Rights(self.0 | other.0)
    }
}
