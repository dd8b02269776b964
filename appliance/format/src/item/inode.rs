//! The inode: attributes, change numbers and block counts.
//!
//! Times are signed nanoseconds since 1970 in 64 bits (1677 to 2262): half the bytes of seconds and
//! nanoseconds apart, and no file system we archive from holds dates outside.

use crate::damage::Damage;
use std::mem::size_of;
use zerocopy::little_endian::{I64, U16, U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// The file may not change: retention holds it.
pub const INODE_RETENTION: u8 = 1;
/// New directories in this one are placed round robin over the tablets.
pub const INODE_SPREAD: u8 = 2;
/// Items behind the size may remain from a truncation in steps; the size already counts.
pub const INODE_TRUNCATING: u8 = 4;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum FileKind {
    Regular = 1,
    Directory = 2,
    Symlink = 3,
    Block = 4,
    Character = 5,
    Fifo = 6,
    Socket = 7,
}

impl FileKind {
    pub fn parse(raw: u8) -> Result<FileKind, Damage> {
        Ok(match raw {
            1 => FileKind::Regular,
            2 => FileKind::Directory,
            3 => FileKind::Symlink,
            4 => FileKind::Block,
            5 => FileKind::Character,
            6 => FileKind::Fifo,
            7 => FileKind::Socket,
            _ => return Err(Damage::Value("file kind")),
        })
    }
}

#[derive(
    FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned, Clone, Copy, Debug, PartialEq, Eq,
)]
#[repr(C)]
pub struct InodeItem {
    /// Permission bits, 12 of them.
    pub mode: U16,
    pub kind: u8,
    pub flags: u8,
    /// Names; for a directory 2 plus its subdirectories.
    pub nlink: U32,
    pub uid: U32,
    pub gid: U32,
    /// Bytes; for a directory the sum of its names' lengths.
    pub size: U64,
    pub atime: I64,
    pub mtime: I64,
    pub ctime: I64,
    pub crtime: I64,
    pub meta_seq: U64,
    pub data_seq: U64,
    pub data_version: U64,
    /// Blocks that are mapped and written, or inline.
    pub online_blocks: U64,
    /// Blocks that are on the archive tier only.
    pub offline_blocks: U64,
    /// Directory: the next entry position. Device: major << 32 | minor. Else zero.
    pub special: U64,
}

const _: () = assert!(size_of::<InodeItem>() == 104);

impl InodeItem {
    pub fn parse(value: &[u8]) -> Result<InodeItem, Damage> {
        let item = super::exact::<InodeItem>(value, "inode item")?;
        FileKind::parse(item.kind)?;
        if item.mode.get() > 0o7777 {
            return Err(Damage::Value("inode mode"));
        }
        if item.flags & !(INODE_RETENTION | INODE_SPREAD | INODE_TRUNCATING) != 0 {
            return Err(Damage::Value("inode flags"));
        }
        Ok(*item)
    }

    /// The kind, which `parse` has checked.
    pub fn file_kind(&self) -> FileKind {
        FileKind::parse(self.kind).expect("parse checked the kind")
    }
}
