//! MOUNT version 3 on the wire (RFC 1813, appendix I): how a client turns a path into its first
//! handle.

use crate::wire::{Args, Encode, Handle};
use cairn_net::xdr::{Decoder, Encoder, XdrError};

pub const PROGRAM: u32 = 100_005;
pub const VERSION: u32 = 3;

/// MNTPATHLEN.
const PATH_BYTES_MAX: usize = 1024;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MountProcedure {
    Null,
    Mnt,
    Dump,
    Umnt,
    UmntAll,
    Export,
}

impl MountProcedure {
    /// In the order of their numbers, from 0.
    pub const ALL: [MountProcedure; 6] = [
        MountProcedure::Null,
        MountProcedure::Mnt,
        MountProcedure::Dump,
        MountProcedure::Umnt,
        MountProcedure::UmntAll,
        MountProcedure::Export,
    ];

    pub fn parse(number: u32) -> Option<Self> {
        Self::ALL.get(usize::try_from(number).ok()?).copied()
    }
}

/// mountstat3, without success.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum MountError {
    Perm = 1,
    NoEnt = 2,
    Io = 5,
    Acces = 13,
    NotDir = 20,
    Inval = 22,
    NameTooLong = 63,
    NotSupp = 10004,
    ServerFault = 10006,
}

impl MountError {
    pub const fn number(self) -> u32 {
        self as u32
    }
}

/// dirpath: the argument of MNT and UMNT.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DirPath<'a>(pub &'a [u8]);

impl<'a> Args<'a> for DirPath<'a> {
    fn decode(from: &mut Decoder<'a>) -> Result<Self, XdrError> {
        from.opaque(PATH_BYTES_MAX).map(DirPath)
    }
}

#[derive(Clone, Copy, Debug)]
pub struct Mounted<'a> {
    pub handle: Handle<'a>,
    /// The auth flavors this export takes, best first.
    pub flavors: &'a [u32],
}

pub type MntRes<'a> = Result<Mounted<'a>, MountError>;

impl Encode for MntRes<'_> {
    fn encode(self, to: &mut Encoder) {
        const MNT3_OK: u32 = 0;
        match self {
            Ok(Mounted { handle, flavors }) => {
                to.u32(MNT3_OK);
                handle.encode(to);
                to.counted(flavors, |to, flavor| to.u32(*flavor));
            }
            Err(error) => to.u32(error.number()),
        }
    }
}

/// One line of DUMP: who says that it has mounted what.
#[derive(Clone, Copy, Debug)]
pub struct MountedBy<'a> {
    pub host: &'a [u8],
    pub dir: DirPath<'a>,
}

pub fn encode_dump<'a>(to: &mut Encoder, mounts: impl IntoIterator<Item = MountedBy<'a>>) {
    for mount in mounts {
        to.bool(true);
        to.opaque(mount.host);
        to.opaque(mount.dir.0);
    }
    to.bool(false);
}

/// One line of EXPORT; no groups is: everybody.
#[derive(Clone, Copy, Debug)]
pub struct ExportLine<'a> {
    pub dir: DirPath<'a>,
    pub groups: &'a [&'a [u8]],
}

pub fn encode_exports<'a>(to: &mut Encoder, exports: impl IntoIterator<Item = ExportLine<'a>>) {
    for export in exports {
        to.bool(true);
        to.opaque(export.dir.0);
        for group in export.groups {
            to.bool(true);
            to.opaque(group);
        }
        to.bool(false);
    }
    to.bool(false);
}
