//! Attributes as NFS version 3 sees them (RFC 1813, section 2.6): whole, to be set, and as the pairs
//! by which a client notices that somebody else changed a file.

use crate::wire::result::Encode;
use cairn_net::xdr::{Decoder, Encoder, UNIT_BYTES, XdrError};

/// ftype3.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum FileType {
    Regular = 1,
    Directory = 2,
    Block = 3,
    Character = 4,
    Symlink = 5,
    Socket = 6,
    Fifo = 7,
}

impl FileType {
    pub const fn number(self) -> u32 {
        self as u32
    }
}

/// nfstime3: since 1970, and never before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NfsTime {
    pub seconds: u32,
    pub nanos: u32,
}

impl NfsTime {
    /// The nearest time the protocol can say: it knows 1970 to 2106.
    pub fn nearest(seconds: i64, nanos: u32) -> Self {
        match u32::try_from(seconds) {
            Ok(seconds) => NfsTime { seconds, nanos },
            Err(_) if seconds < 0 => NfsTime { seconds: 0, nanos: 0 },
            Err(_) => NfsTime { seconds: u32::MAX, nanos: 999_999_999 },
        }
    }

    pub(super) fn decode(from: &mut Decoder<'_>) -> Result<Self, XdrError> {
        Ok(NfsTime { seconds: from.u32()?, nanos: from.u32()? })
    }

    fn encode(self, to: &mut Encoder) {
        to.u32(self.seconds);
        to.u32(self.nanos);
    }
}

/// specdata3: the major and minor number of a device node.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Device {
    pub major: u32,
    pub minor: u32,
}

impl Device {
    pub(super) fn decode(from: &mut Decoder<'_>) -> Result<Self, XdrError> {
        Ok(Device { major: from.u32()?, minor: from.u32()? })
    }
}

/// fattr3.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Attributes {
    pub file_type: FileType,
    /// Permission bits only, without the type.
    pub mode: u32,
    pub nlink: u32,
    pub uid: u32,
    pub gid: u32,
    pub size: u64,
    /// Bytes of storage.
    pub used: u64,
    pub device: Device,
    pub fsid: u64,
    pub fileid: u64,
    pub atime: NfsTime,
    pub mtime: NfsTime,
    pub ctime: NfsTime,
}

impl Attributes {
    /// Five words, then four numbers of eight bytes around a pair, then three times.
    pub const BYTES: usize = 5 * UNIT_BYTES + 5 * 8 + 3 * 8;
}

const _: () = assert!(Attributes::BYTES == 84);

impl Encode for Attributes {
    fn encode(self, to: &mut Encoder) {
        // Written as one: these are in nearly every answer, and in every entry of a listing.
        let high = |long: u64| (long >> 32) as u32;
        let low = |long: u64| long as u32;
        let words: [u32; Attributes::BYTES / UNIT_BYTES] = [
            self.file_type.number(),
            self.mode,
            self.nlink,
            self.uid,
            self.gid,
            high(self.size),
            low(self.size),
            high(self.used),
            low(self.used),
            self.device.major,
            self.device.minor,
            high(self.fsid),
            low(self.fsid),
            high(self.fileid),
            low(self.fileid),
            self.atime.seconds,
            self.atime.nanos,
            self.mtime.seconds,
            self.mtime.nanos,
            self.ctime.seconds,
            self.ctime.nanos,
        ];
        to.fixed(words.map(u32::to_be_bytes).as_flattened());
    }
}

/// post_op_attr: attributes where there are some to give.
pub type PostOpAttributes = Option<Attributes>;

impl Encode for PostOpAttributes {
    fn encode(self, to: &mut Encoder) {
        to.option(self, |to, attributes| attributes.encode(to));
    }
}

/// wcc_attr: what a file was like before the operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Before {
    pub size: u64,
    pub mtime: NfsTime,
    pub ctime: NfsTime,
}

/// wcc_data: before and after. A client keeps its cache if `before` is what it knew, so `before` may
/// only be given when nothing could come between the two.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Change {
    pub before: Option<Before>,
    pub after: PostOpAttributes,
}

impl Encode for Change {
    fn encode(self, to: &mut Encoder) {
        to.option(self.before, |to, before| {
            to.u64(before.size);
            before.mtime.encode(to);
            before.ctime.encode(to);
        });
        self.after.encode(to);
    }
}

/// time_how and its time: set_atime and set_mtime.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SetTime {
    #[default]
    Keep,
    ServerTime,
    To(NfsTime),
}

impl SetTime {
    fn decode(from: &mut Decoder<'_>) -> Result<Self, XdrError> {
        match from.u32()? {
            0 => Ok(SetTime::Keep),
            1 => Ok(SetTime::ServerTime),
            2 => NfsTime::decode(from).map(SetTime::To),
            found => Err(XdrError::NotAnOption { found }),
        }
    }
}

/// sattr3: what to set; the rest stays, or becomes what a new file has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SetAttributes {
    pub mode: Option<u32>,
    pub uid: Option<u32>,
    pub gid: Option<u32>,
    pub size: Option<u64>,
    pub atime: SetTime,
    pub mtime: SetTime,
}

impl SetAttributes {
    pub(super) fn decode(from: &mut Decoder<'_>) -> Result<Self, XdrError> {
        Ok(SetAttributes {
            mode: from.option(|from| from.u32())?,
            uid: from.option(|from| from.u32())?,
            gid: from.option(|from| from.u32())?,
            size: from.option(|from| from.u64())?,
            atime: SetTime::decode(from)?,
            mtime: SetTime::decode(from)?,
        })
    }
}
