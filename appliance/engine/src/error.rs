//! What an operation may answer instead of its result. Small and `Copy`: who can act on it decides
//! the form. Frontends map it in their `status.rs`, without a wildcard.

use cairn_base::BlockNo;
use cairn_base::door::MediaError;
use cairn_format::{Damage, Seq};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FsError {
    /// ENOENT: no such name.
    NotFound,
    /// ESTALE: the inode itself is gone.
    Stale,
    /// EEXIST
    Exists,
    /// ENOTDIR
    NotDirectory,
    /// EISDIR
    IsDirectory,
    /// ENOTEMPTY
    NotEmpty,
    /// EACCES: mode bits forbid it.
    Access,
    /// EPERM: only the owner or root may.
    Permission,
    /// ENAMETOOLONG
    NameTooLong,
    /// EINVAL: the arguments make no sense for this object.
    Invalid,
    /// EFBIG
    TooBig,
    /// ENOSPC
    NoSpace,
    /// EMLINK
    TooManyLinks,
    /// ENODATA: no such extended attribute.
    NoXattr,
    /// E2BIG: the extended attribute's value exceeds 64 KiB.
    XattrTooBig,
    /// ERANGE: the extended attribute's name is longer than 255 bytes.
    XattrNameTooLong,
    /// EOPNOTSUPP: no extended attribute has such a prefix.
    XattrNamespace,
    /// EINVAL: the tags of the extended attribute's name make no sense.
    XattrTags,
    /// EOPNOTSUPP: tags whose indexes are not kept yet.
    XattrIndex,
    /// EROFS
    ReadOnly,
    /// The guard of a SETATTR does not match the inode's ctime.
    GuardMismatch,
    /// A readdir position that this directory never gave out.
    BadPosition,
    /// The data is on the archive tier: stage it, then ask again.
    Offline,
    /// ESTALE: the file's data has another version than was asked for.
    VersionMismatch,
    /// EBADMSG: staged bytes are not those that were released.
    FixityMismatch,
    /// EINVAL: data is restored only to a file that never had any.
    HasData,
    /// EINVAL: the data version to restore is above the pool's clock.
    VersionAhead,
    /// EINVAL: a part of the range has data, or a place for it.
    NotOffline,
    /// A queue is full or an inode is locked for long: ask again.
    Busy,
    /// A device refused.
    Media { block: BlockNo, error: MediaError },
    /// Bytes came back wrong.
    Corrupt { block: BlockNo, damage: Damage },
    /// ESTALE: deletions up to and with this seq are forgotten, and the reader has not heard of all of them.
    Trimmed { to: Seq },
    /// ENOSPC: there are as many consumers of the change stream as there may be.
    TooManyConsumers,
    /// A flush failed here before: this shard takes no more changes.
    Stopped,
}

impl FsError {
    /// The errno that a POSIX caller expects.
    pub fn errno(self) -> i32 {
        match self {
            FsError::NotFound => 2,
            FsError::Stale | FsError::VersionMismatch | FsError::Trimmed { .. } => 116,
            FsError::FixityMismatch => 74,
            FsError::Exists => 17,
            FsError::NotDirectory => 20,
            FsError::IsDirectory => 21,
            FsError::NotEmpty => 39,
            FsError::Access => 13,
            FsError::Permission => 1,
            FsError::NameTooLong => 36,
            FsError::Invalid
            | FsError::BadPosition
            | FsError::HasData
            | FsError::VersionAhead
            | FsError::NotOffline => 22,
            FsError::TooBig => 27,
            FsError::NoSpace | FsError::TooManyConsumers => 28,
            FsError::TooManyLinks => 31,
            FsError::NoXattr => 61,
            FsError::XattrTooBig => 7,
            FsError::XattrNameTooLong => 34,
            FsError::XattrNamespace | FsError::XattrIndex => 95,
            FsError::XattrTags => 22,
            FsError::ReadOnly => 30,
            FsError::GuardMismatch => 125,
            FsError::Offline | FsError::Busy => 11,
            error if error.is_full_below() => 28,
            FsError::Media { .. } | FsError::Corrupt { .. } | FsError::Stopped => 5,
        }
    }

    /// Something is wrong below the file system, which its operator wants to know.
    pub fn is_trouble(self) -> bool {
        matches!(self, FsError::Media { .. } | FsError::Corrupt { .. })
    }

    /// There is room in the pool and none for it: the file system below a sparse pool file is full, or the
    /// file may not grow (ENOSPC, EDQUOT, EFBIG).
    pub fn is_full_below(self) -> bool {
        matches!(self, FsError::Media { error: MediaError::Write(28 | 122 | 27), .. })
    }
}

impl std::fmt::Display for FsError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let text = match *self {
            FsError::NotFound => "no such file or directory",
            FsError::Stale => "there is no such inode, or no longer",
            FsError::Exists => "the name is taken",
            FsError::NotDirectory => "not a directory",
            FsError::IsDirectory => "is a directory",
            FsError::NotEmpty => "the directory is not empty",
            FsError::Access => "permission denied",
            FsError::Permission => "operation not permitted",
            FsError::NameTooLong => "the name is longer than 255 bytes",
            FsError::Invalid => "invalid argument",
            FsError::TooBig => "the file would be too large",
            FsError::NoSpace => "no space left in the pool",
            FsError::TooManyLinks => "too many links",
            FsError::NoXattr => "no such extended attribute",
            FsError::XattrTooBig => "the value of an extended attribute has at most 65535 bytes",
            FsError::XattrNameTooLong => "the name of an extended attribute has at most 255 bytes",
            FsError::XattrNamespace => {
                "the name of an extended attribute begins with user., trusted., security., scoutfs. or cairn."
            }
            FsError::XattrTags => {
                "behind scoutfs. or cairn. come tags, each once and with a dot behind it: hide, srch, \
                 and totl or indx"
            }
            FsError::XattrIndex => {
                "the tags srch, totl and indx want indexes that this version does not keep; hide alone works"
            }
            FsError::ReadOnly => "read-only",
            FsError::GuardMismatch => "the file changed in between",
            FsError::BadPosition => "no such directory position",
            FsError::VersionMismatch => {
                "the file's data has changed since: another data version; copy it out again"
            }
            FsError::FixityMismatch => {
                "these are not the bytes that were released: dropped, the data stays offline; stage the MiB again"
            }
            FsError::HasData => {
                "the file has a data version or data: size and version are restored to a new, empty file"
            }
            FsError::VersionAhead => {
                "the data version is above the clock of this pool, in microseconds since 1970: use a lower one"
            }
            FsError::NotOffline => {
                "a part of the range is not offline: only what is offline can be punched"
            }
            FsError::Offline => "the data is offline",
            FsError::Busy => "busy, try again",
            FsError::Media { block, error } => {
                return write!(f, "the device failed at block {block}: {error}");
            }
            FsError::Corrupt { block, damage } => {
                return write!(f, "damage at block {block}: {damage}");
            }
            FsError::Trimmed { to } => {
                return write!(
                    f,
                    "deletions up to seq {to} are forgotten: what is known from before it may be gone"
                );
            }
            FsError::TooManyConsumers => {
                return write!(
                    f,
                    "there are {} consumers, as many as there may be: remove one first",
                    crate::limits::CONSUMERS_MAX
                );
            }
            FsError::Stopped => "this shard stopped after a failed write",
        };
        f.write_str(text)
    }
}

impl std::error::Error for FsError {}
