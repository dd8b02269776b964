//! Why the daemon, or an offline command, could not do its work: one line for the operator, and the
//! errno that scripts and the exit text carry.

use crate::place::DevicePath;
use cairn_base::BLOCK_BYTES;
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

/// The same, with the name of the device that it is about.
pub fn open_failure_on(error: &OpenError, paths: &[DevicePath]) -> Failure {
    let device = match error {
        OpenError::Superblock { device, .. }
        | OpenError::WrongDevice { device, .. }
        | OpenError::OtherPool { device }
        | OpenError::Truncated { device, .. } => *device,
        OpenError::Media { block, .. } => block.device(),
        _ => return open_failure(error),
    };
    let mut failure = open_failure(error);
    if let Some(named) = paths.get(usize::from(device.0)) {
        failure.text = format!("{}: {}", named.path.display(), failure.text);
    }
    failure
}

/// Why a pool could not be made.
pub fn format_failure(error: &FormatFailed, paths: &[DevicePath]) -> Failure {
    match error {
        FormatFailed::Refused(FormatError::TooSmall { device, blocks, needed }) => {
            let path = paths.get(usize::from(device.0)).map(|device| device.path.display());
            let path = path.map(|path| path.to_string()).unwrap_or_default();
            let bytes = |blocks: u64| blocks * BLOCK_BYTES as u64;
            let text = format!(
                "{path} is too small: it has {} bytes, at least {} are needed there",
                bytes(*blocks),
                bytes(*needed)
            );
            Failure::new(Errno::ENOSPC, text)
        }
        FormatFailed::Refused(refused) => {
            let errno = match refused {
                FormatError::TooSmall { .. } => Errno::ENOSPC,
                FormatError::Tablets { .. }
                | FormatError::Log { .. }
                | FormatError::Devices { .. } => Errno::EINVAL,
            };
            Failure::new(errno, refused.to_string())
        }
        FormatFailed::Disk(error) => open_failure_on(error, paths),
    }
}
