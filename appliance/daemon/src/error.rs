//! Why the daemon, or an offline command, could not do its work: one line for the operator, and the
//! errno that scripts and the exit text carry.

use cairn_check::CheckError;
use cairn_engine::format_pool::{FormatError, FormatFailed};
use cairn_engine::open::OpenError;
use cairn_format::superblock::SuperblockError;
use nix::errno::Errno;
use std::fmt;
use std::io;
use std::path::Path;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    pub text: String,
    pub errno: Errno,
}

impl Failure {
    pub fn new(errno: Errno, text: impl Into<String>) -> Failure {
        Failure { text: text.into(), errno }
    }

    /// `what` says what could not be done; the system's reason follows.
    pub fn io(what: impl fmt::Display, error: &io::Error) -> Failure {
        let errno = errno_of(error);
        let reason = match error.raw_os_error() {
            Some(_) => errno.desc().to_lowercase(),
            None => error.to_string(),
        };
        Failure { text: format!("{what}: {reason}"), errno }
    }

    pub fn file(what: &str, path: &Path, error: &io::Error) -> Failure {
        Failure::io(format_args!("{what} {}", path.display()), error)
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl std::error::Error for Failure {}

/// The errno of an I/O error, also of one that the standard library made itself.
pub fn errno_of(error: &io::Error) -> Errno {
    if let Some(raw) = error.raw_os_error() {
        return Errno::from_raw(raw);
    }
    match error.kind() {
        io::ErrorKind::NotFound => Errno::ENOENT,
        io::ErrorKind::PermissionDenied => Errno::EACCES,
        io::ErrorKind::AlreadyExists => Errno::EEXIST,
        io::ErrorKind::AddrInUse => Errno::EADDRINUSE,
        io::ErrorKind::InvalidInput | io::ErrorKind::InvalidData => Errno::EINVAL,
        io::ErrorKind::UnexpectedEof => Errno::ENODATA,
        _ => Errno::EIO,
    }
}

/// Why a pool could not be checked.
pub fn check_failure(error: CheckError) -> Failure {
    let errno = match error {
        CheckError::Superblock(SuperblockError::NotAPool)
        | CheckError::WrongDevice { .. }
        | CheckError::DeviceMissing { .. } => Errno::EINVAL,
        CheckError::Superblock(SuperblockError::Damage(_)) => Errno::EUCLEAN,
        CheckError::Superblock(
            SuperblockError::Version { .. } | SuperblockError::IncompatFeatures { .. },
        ) => Errno::ENOTSUP,
    };
    Failure::new(errno, error.to_string())
}

/// Why a pool could not be opened.
pub fn open_failure(error: &OpenError) -> Failure {
    let errno = match error {
        OpenError::Superblock { error: SuperblockError::NotAPool, .. }
        | OpenError::WrongDevice { .. }
        | OpenError::OtherPool { .. }
        | OpenError::DeviceMissing { .. }
        | OpenError::TooManyShards { .. } => Errno::EINVAL,
        OpenError::Superblock {
            error: SuperblockError::Version { .. } | SuperblockError::IncompatFeatures { .. },
            ..
        } => Errno::ENOTSUP,
        OpenError::Superblock { error: SuperblockError::Damage(_), .. }
        | OpenError::LogDamaged { .. }
        | OpenError::RecordDamaged { .. }
        | OpenError::RootDamaged { .. }
        | OpenError::RootLost { .. } => Errno::EUCLEAN,
        OpenError::Truncated { .. } => Errno::ENXIO,
        OpenError::Media { .. } => Errno::EIO,
        OpenError::Fs(error) => Errno::from_raw(error.errno()),
    };
    Failure::new(errno, error.to_string())
}

/// Why a pool could not be made.
pub fn format_failure(error: &FormatFailed) -> Failure {
    match error {
        FormatFailed::Refused(refused) => {
            let errno = match refused {
                FormatError::TooSmall { .. } => Errno::ENOSPC,
                FormatError::Tablets { .. }
                | FormatError::Log { .. }
                | FormatError::Devices { .. } => Errno::EINVAL,
            };
            Failure::new(errno, refused.to_string())
        }
        FormatFailed::Disk(error) => open_failure(error),
    }
}
