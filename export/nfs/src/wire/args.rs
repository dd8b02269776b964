//! The arguments of every procedure (RFC 1813, section 3.3), decoded into borrows of their record.

use crate::wire::attr::{Device, FileType, NfsTime, SetAttributes};
use crate::wire::{HANDLE_BYTES_MAX, NAME_BYTES_MAX, SYMLINK_BYTES_MAX, Verifier};
use cairn_net::xdr::{Decoder, XdrError};

pub trait Args<'a>: Sized {
    fn decode(from: &mut Decoder<'a>) -> Result<Self, XdrError>;
}

/// nfs_fh3: opaque here, at most 64 bytes. Also all the arguments that GETATTR, READLINK, FSSTAT,
/// FSINFO and PATHCONF have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Handle<'a>(pub &'a [u8]);

impl<'a> Args<'a> for Handle<'a> {
    fn decode(from: &mut Decoder<'a>) -> Result<Self, XdrError> {
        from.opaque(HANDLE_BYTES_MAX).map(Handle)
    }
}

/// diropargs3: a name in a directory. Also the arguments of LOOKUP, REMOVE and RMDIR.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DirOp<'a> {
    pub dir: Handle<'a>,
    pub name: &'a [u8],
}

impl<'a> Args<'a> for DirOp<'a> {
    fn decode(from: &mut Decoder<'a>) -> Result<Self, XdrError> {
        Ok(DirOp { dir: Handle::decode(from)?, name: from.opaque(NAME_BYTES_MAX)? })
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SetattrArgs<'a> {
    pub object: Handle<'a>,
    pub attributes: SetAttributes,
    /// Set only if the object's ctime is this.
    pub guard: Option<NfsTime>,
}

impl<'a> Args<'a> for SetattrArgs<'a> {
    fn decode(from: &mut Decoder<'a>) -> Result<Self, XdrError> {
        Ok(SetattrArgs {
            object: Handle::decode(from)?,
            attributes: SetAttributes::decode(from)?,
            guard: from.option(NfsTime::decode)?,
        })
    }
}

/// The bits of ACCESS (RFC 1813, section 3.3.4).
pub mod access {
    pub const READ: u32 = 0x01;
    pub const LOOKUP: u32 = 0x02;
    pub const MODIFY: u32 = 0x04;
    pub const EXTEND: u32 = 0x08;
    pub const DELETE: u32 = 0x10;
    pub const EXECUTE: u32 = 0x20;
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AccessArgs<'a> {
    pub object: Handle<'a>,
    pub access: u32,
}

impl<'a> Args<'a> for AccessArgs<'a> {
    fn decode(from: &mut Decoder<'a>) -> Result<Self, XdrError> {
        Ok(AccessArgs { object: Handle::decode(from)?, access: from.u32()? })
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReadArgs<'a> {
    pub file: Handle<'a>,
    pub offset: u64,
    pub count: u32,
}

impl<'a> Args<'a> for ReadArgs<'a> {
    fn decode(from: &mut Decoder<'a>) -> Result<Self, XdrError> {
        Ok(ReadArgs { file: Handle::decode(from)?, offset: from.u64()?, count: from.u32()? })
    }
}

/// stable_how: how safe a WRITE must be before its answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Stable {
    Unstable = 0,
    DataSync = 1,
    FileSync = 2,
}

impl Stable {
    pub const fn number(self) -> u32 {
        self as u32
    }

    fn decode(from: &mut Decoder<'_>) -> Result<Self, XdrError> {
        match from.u32()? {
            0 => Ok(Stable::Unstable),
            1 => Ok(Stable::DataSync),
            2 => Ok(Stable::FileSync),
            found => Err(XdrError::NotAnOption { found }),
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WriteArgs<'a> {
    pub file: Handle<'a>,
    pub offset: u64,
    pub stable: Stable,
    /// As many bytes as `count` said; a client may send more than it wants written.
    pub data: &'a [u8],
}

impl<'a> Args<'a> for WriteArgs<'a> {
    fn decode(from: &mut Decoder<'a>) -> Result<Self, XdrError> {
        let file = Handle::decode(from)?;
        let offset = from.u64()?;
        let count = from.u32()?;
        let stable = Stable::decode(from)?;
        // Its record bounds it, and that is bounded before it is received.
        let data = from.opaque(usize::MAX)?;
        let data = usize::try_from(count).ok().and_then(|count| data.get(..count));
        Ok(WriteArgs { file, offset, stable, data: data.ok_or(XdrError::Short)? })
    }
}

/// createhow3.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CreateHow {
    Unchecked(SetAttributes),
    Guarded(SetAttributes),
    /// Creating again with the same verifier succeeds.
    Exclusive(Verifier),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CreateArgs<'a> {
    pub place: DirOp<'a>,
    pub how: CreateHow,
}

impl<'a> Args<'a> for CreateArgs<'a> {
    fn decode(from: &mut Decoder<'a>) -> Result<Self, XdrError> {
        let place = DirOp::decode(from)?;
        let how = match from.u32()? {
            0 => CreateHow::Unchecked(SetAttributes::decode(from)?),
            1 => CreateHow::Guarded(SetAttributes::decode(from)?),
            2 => CreateHow::Exclusive(from.fixed()?),
            found => return Err(XdrError::NotAnOption { found }),
        };
        Ok(CreateArgs { place, how })
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MkdirArgs<'a> {
    pub place: DirOp<'a>,
    pub attributes: SetAttributes,
}

impl<'a> Args<'a> for MkdirArgs<'a> {
    fn decode(from: &mut Decoder<'a>) -> Result<Self, XdrError> {
        Ok(MkdirArgs { place: DirOp::decode(from)?, attributes: SetAttributes::decode(from)? })
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SymlinkArgs<'a> {
    pub place: DirOp<'a>,
    pub attributes: SetAttributes,
    pub target: &'a [u8],
}

impl<'a> Args<'a> for SymlinkArgs<'a> {
    fn decode(from: &mut Decoder<'a>) -> Result<Self, XdrError> {
        Ok(SymlinkArgs {
            place: DirOp::decode(from)?,
            attributes: SetAttributes::decode(from)?,
            target: from.opaque(SYMLINK_BYTES_MAX)?,
        })
    }
}

/// mknoddata3.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MknodData {
    Character(SetAttributes, Device),
    Block(SetAttributes, Device),
    Socket(SetAttributes),
    Fifo(SetAttributes),
    /// A type that MKNOD does not make, known or not: BADTYPE.
    Other(u32),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MknodArgs<'a> {
    pub place: DirOp<'a>,
    pub what: MknodData,
}

impl<'a> Args<'a> for MknodArgs<'a> {
    fn decode(from: &mut Decoder<'a>) -> Result<Self, XdrError> {
        const CHARACTER: u32 = FileType::Character.number();
        const BLOCK: u32 = FileType::Block.number();
        const SOCKET: u32 = FileType::Socket.number();
        const FIFO: u32 = FileType::Fifo.number();
        let place = DirOp::decode(from)?;
        let what = match from.u32()? {
            CHARACTER => MknodData::Character(SetAttributes::decode(from)?, Device::decode(from)?),
            BLOCK => MknodData::Block(SetAttributes::decode(from)?, Device::decode(from)?),
            SOCKET => MknodData::Socket(SetAttributes::decode(from)?),
            FIFO => MknodData::Fifo(SetAttributes::decode(from)?),
            other => MknodData::Other(other),
        };
        Ok(MknodArgs { place, what })
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RenameArgs<'a> {
    pub from: DirOp<'a>,
    pub to: DirOp<'a>,
}

impl<'a> Args<'a> for RenameArgs<'a> {
    fn decode(from: &mut Decoder<'a>) -> Result<Self, XdrError> {
        Ok(RenameArgs { from: DirOp::decode(from)?, to: DirOp::decode(from)? })
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LinkArgs<'a> {
    pub file: Handle<'a>,
    pub link: DirOp<'a>,
}

impl<'a> Args<'a> for LinkArgs<'a> {
    fn decode(from: &mut Decoder<'a>) -> Result<Self, XdrError> {
        Ok(LinkArgs { file: Handle::decode(from)?, link: DirOp::decode(from)? })
    }
}

/// Where a listing goes on: after the entry with this cookie; 0 begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReaddirArgs<'a> {
    pub dir: Handle<'a>,
    pub cookie: u64,
    pub verifier: Verifier,
    /// Bytes that READDIR3resok may take.
    pub count: u32,
}

impl<'a> Args<'a> for ReaddirArgs<'a> {
    fn decode(from: &mut Decoder<'a>) -> Result<Self, XdrError> {
        Ok(ReaddirArgs {
            dir: Handle::decode(from)?,
            cookie: from.u64()?,
            verifier: from.fixed()?,
            count: from.u32()?,
        })
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReaddirplusArgs<'a> {
    pub dir: Handle<'a>,
    pub cookie: u64,
    pub verifier: Verifier,
    /// Bytes that the entries may take without attributes and handles.
    pub dircount: u32,
    /// Bytes that READDIRPLUS3resok may take.
    pub maxcount: u32,
}

impl<'a> Args<'a> for ReaddirplusArgs<'a> {
    fn decode(from: &mut Decoder<'a>) -> Result<Self, XdrError> {
        Ok(ReaddirplusArgs {
            dir: Handle::decode(from)?,
            cookie: from.u64()?,
            verifier: from.fixed()?,
            dircount: from.u32()?,
            maxcount: from.u32()?,
        })
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CommitArgs<'a> {
    pub file: Handle<'a>,
    pub offset: u64,
    /// 0 is: to the end.
    pub count: u32,
}

impl<'a> Args<'a> for CommitArgs<'a> {
    fn decode(from: &mut Decoder<'a>) -> Result<Self, XdrError> {
        Ok(CommitArgs { file: Handle::decode(from)?, offset: from.u64()?, count: from.u32()? })
    }
}
