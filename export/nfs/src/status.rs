//! Which NFS status an error becomes. One place, and no wildcard: a new variant of `FsError` does
//! not compile before it has a status.
//!
//! JUKEBOX tells the client to ask again later, with a new call. It is the answer for data on the
//! archive tier, whose recall has been queued by then, and for queues that are full. A shard that has
//! stopped is different: it comes back with a restart only, so its answer is IO at once instead of a
//! client that hangs.
//!
//! Where the file system below a pool file is full the device is not broken: NOSPC says what helps.

use crate::handle::HandleError;
use crate::mount_wire::MountError;
use crate::wire::{Failure, NfsStat};
use cairn_engine::FsError;

pub fn nfs_stat(error: FsError) -> NfsStat {
    match error {
        FsError::NotFound => NfsStat::NoEnt,
        FsError::Stale => NfsStat::Stale,
        FsError::Exists => NfsStat::Exist,
        FsError::NotDirectory => NfsStat::NotDir,
        FsError::IsDirectory => NfsStat::IsDir,
        FsError::NotEmpty => NfsStat::NotEmpty,
        FsError::Access => NfsStat::Acces,
        FsError::Permission => NfsStat::Perm,
        FsError::NameTooLong => NfsStat::NameTooLong,
        FsError::Invalid => NfsStat::Inval,
        FsError::TooBig => NfsStat::FBig,
        FsError::NoSpace => NfsStat::NoSpc,
        FsError::TooManyLinks => NfsStat::MLink,
        // NFSv3 has no extended attributes, so no operation of ours can end like this.
        FsError::NoXattr
        | FsError::XattrTooBig
        | FsError::XattrNameTooLong
        | FsError::XattrNamespace
        | FsError::XattrTags
        | FsError::XattrIndex => NfsStat::ServerFault,
        // Nor does it know the change stream.
        FsError::Trimmed { .. } | FsError::TooManyConsumers => NfsStat::ServerFault,
        // Nor does it release and stage.
        FsError::VersionMismatch
        | FsError::FixityMismatch
        | FsError::HasData
        | FsError::VersionAhead
        | FsError::NotOffline => NfsStat::ServerFault,
        FsError::ReadOnly => NfsStat::RoFs,
        FsError::GuardMismatch => NfsStat::NotSync,
        FsError::BadPosition => NfsStat::BadCookie,
        FsError::Offline | FsError::Busy => NfsStat::Jukebox,
        error if error.is_full_below() => NfsStat::NoSpc,
        FsError::Media { .. } | FsError::Corrupt { .. } | FsError::Stopped => NfsStat::Io,
    }
}

/// The same for MNT, which can say less.
pub fn mount_error(error: FsError) -> MountError {
    match error {
        FsError::NotFound | FsError::Stale => MountError::NoEnt,
        FsError::NotDirectory => MountError::NotDir,
        FsError::Access => MountError::Acces,
        FsError::Permission => MountError::Perm,
        FsError::NameTooLong => MountError::NameTooLong,
        FsError::Invalid => MountError::Inval,
        FsError::Media { .. } | FsError::Corrupt { .. } | FsError::Stopped => MountError::Io,
        // MNT has no "ask again later": SERVERFAULT is what clients retry.
        FsError::Busy | FsError::Offline => MountError::ServerFault,
        FsError::Exists
        | FsError::IsDirectory
        | FsError::NotEmpty
        | FsError::TooBig
        | FsError::NoSpace
        | FsError::TooManyLinks
        | FsError::NoXattr
        | FsError::VersionMismatch
        | FsError::FixityMismatch
        | FsError::HasData
        | FsError::VersionAhead
        | FsError::NotOffline
        | FsError::XattrTooBig
        | FsError::XattrNameTooLong
        | FsError::XattrNamespace
        | FsError::XattrTags
        | FsError::XattrIndex
        | FsError::ReadOnly
        | FsError::GuardMismatch
        | FsError::BadPosition
        | FsError::Trimmed { .. }
        | FsError::TooManyConsumers => MountError::ServerFault,
    }
}

/// What an archive agent wants a client to be told whose data it cannot bring back; an errno that has no
/// status among those of READ, WRITE and SETATTR is IO.
pub fn recall_stat(errno: u16) -> NfsStat {
    match errno {
        1 => NfsStat::Perm,
        6 => NfsStat::NxIo,
        11 => NfsStat::Jukebox,
        13 => NfsStat::Acces,
        22 => NfsStat::Inval,
        27 => NfsStat::FBig,
        28 => NfsStat::NoSpc,
        30 => NfsStat::RoFs,
        116 => NfsStat::Stale,
        122 => NfsStat::DQuot,
        _ => NfsStat::Io,
    }
}

pub fn handle_stat(error: HandleError) -> NfsStat {
    match error {
        HandleError::Malformed => NfsStat::BadHandle,
        HandleError::Foreign => NfsStat::Stale,
    }
}

/// A failure that has nothing to say about the objects.
impl<F: Default> From<NfsStat> for Failure<F> {
    fn from(stat: NfsStat) -> Self {
        Failure { stat, body: F::default() }
    }
}

impl<F: Default> From<FsError> for Failure<F> {
    fn from(error: FsError) -> Self {
        nfs_stat(error).into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use cairn_base::BlockNo;
    use cairn_base::door::MediaError;

    /// The numbers that a client sees, from RFC 1813, section 2.6.
    #[test]
    fn errors_have_the_numbers_of_the_rfc() {
        for (error, number) in [
            (FsError::Permission, 1),
            (FsError::NotFound, 2),
            (FsError::Stopped, 5),
            (FsError::Access, 13),
            (FsError::Exists, 17),
            (FsError::NotDirectory, 20),
            (FsError::IsDirectory, 21),
            (FsError::Invalid, 22),
            (FsError::TooBig, 27),
            (FsError::NoSpace, 28),
            (FsError::ReadOnly, 30),
            (FsError::TooManyLinks, 31),
            (FsError::NameTooLong, 63),
            (FsError::NotEmpty, 66),
            (FsError::Stale, 70),
            (FsError::GuardMismatch, 10002),
            (FsError::BadPosition, 10003),
            (FsError::Offline, 10008),
            (FsError::Busy, 10008),
        ] {
            assert_eq!(nfs_stat(error).number(), number, "{error}");
        }
        let failed =
            |error| nfs_stat(FsError::Media { block: BlockNo::from_raw(7), error }).number();
        assert_eq!([28, 122, 27].map(|errno| failed(MediaError::Write(errno))), [28; 3]);
        assert_eq!([MediaError::Write(5), MediaError::Read(28)].map(failed), [5; 2]);
        assert_eq!(handle_stat(HandleError::Malformed).number(), 10001);
        assert_eq!(handle_stat(HandleError::Foreign).number(), 70);
    }
}
