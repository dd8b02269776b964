//! Why the daemon, or an offline command, could not do its work: one line for the operator, and the
//! errno that scripts and the exit text carry.

use crate::place::DevicePath;
use cairn_base::door::MediaError;
use cairn_base::{BLOCK_BYTES, BlockNo};
use cairn_check::CheckError;
use cairn_control::PATH_BYTES_MAX;
use cairn_engine::format_pool::{FormatError, FormatFailed};
use cairn_engine::open::OpenError;
use cairn_format::superblock::SuperblockError;
use cairn_net::listener::BindError;
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
            None if error.kind() == io::ErrorKind::UnexpectedEof => {
                "it ends before the size that it says it has".into()
            }
            None => error.to_string(),
        };
        Failure { text: format!("{what}: {reason}"), errno }
    }

    /// Says as well what would help.
    pub fn with_way_out(self, way_out: &str) -> Failure {
        Failure { text: format!("{}: {way_out}", self.text), errno: self.errno }
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

/// Why a port could not be had.
pub fn listen_failure(error: &BindError) -> Failure {
    let reason = io::Error::from_raw_os_error(error.errno);
    let failure = Failure::io(format_args!("cannot listen on {}", error.addr), &reason);
    match failure.errno {
        Errno::EADDRINUSE => failure.with_way_out(
            "stop the server that has it, or name another address with --nfs (nfs.listen)",
        ),
        Errno::EADDRNOTAVAIL => failure.with_way_out(
            "this machine has no such address; name one that it has with --nfs (nfs.listen)",
        ),
        _ => failure,
    }
}

/// Why the control socket could not be had.
pub fn socket_failure(path: &Path, error: &io::Error) -> Failure {
    let failure = Failure::file("cannot listen on", path, error);
    let with = "with --socket (control.socket)";
    let way_out = match failure.errno {
        Errno::EADDRINUSE => format!("a daemon listens there; stop it, or name another {with}"),
        Errno::EEXIST => format!("it is no socket; remove it, or name another place {with}"),
        Errno::EILSEQ => {
            format!("it is not UTF-8, and no client could name it; name one that is {with}")
        }
        Errno::ENAMETOOLONG => format!(
            "it has {} bytes, a socket's path at most {PATH_BYTES_MAX}; take a shorter --dir, or name a \
             shorter one {with}",
            path.as_os_str().len()
        ),
        _ => return failure,
    };
    failure.with_way_out(&way_out)
}

/// Why a pool could not be checked.
pub fn check_failure(error: CheckError) -> Failure {
    let errno = match error {
        CheckError::Superblock(SuperblockError::NotAPool)
        | CheckError::WrongDevice { .. }
        | CheckError::OtherPool { .. }
        | CheckError::DeviceMissing { .. }
        | CheckError::DeviceTooMany { .. } => Errno::EINVAL,
        CheckError::Superblock(SuperblockError::Damage(_)) => Errno::EUCLEAN,
        CheckError::Superblock(
            SuperblockError::Version { .. } | SuperblockError::IncompatFeatures { .. },
        ) => Errno::ENOTSUP,
    };
    Failure::new(errno, error.to_string())
}

/// The same, with the names of the devices.
pub fn check_failure_on(error: CheckError, paths: &[DevicePath]) -> Failure {
    let failure = check_failure(error);
    let text = match error {
        CheckError::WrongDevice { device, claims } => {
            named(paths, device).map(|path| misplaced(path, claims))
        }
        CheckError::OtherPool { device } => {
            named(paths, device).map(|path| format!("{}: {}", path.display(), failure.text))
        }
        CheckError::DeviceMissing { listed, given }
        | CheckError::DeviceTooMany { listed, given } => miscounted(paths, listed, given),
        CheckError::Superblock(_) => None,
    };
    Failure { text: text.unwrap_or(failure.text), errno: failure.errno }
}

fn named(paths: &[DevicePath], device: u8) -> Option<&Path> {
    paths.get(usize::from(device)).map(|device| device.path.as_path())
}

/// A device of this pool in another one's place: what it is, and where it goes.
fn misplaced(path: &Path, is: u8) -> String {
    let (what, key) = if is == 0 { ("metadata", "meta") } else { ("data", "data") };
    let path = path.display();
    format!("{path} is the {what} device of its pool: give it as --{key} (`{key}` in [pool])")
}

/// Too few devices, or too many: a pool has one, or one for metadata and one for data.
fn miscounted(paths: &[DevicePath], listed: usize, given: usize) -> Option<String> {
    match (paths, listed, given) {
        ([first], 2, 1) => Some(format!(
            "{} is one of the 2 devices of its pool: give the other one too, with --data (`data` in \
             [pool])",
            first.path.display()
        )),
        ([first, second], 1, 2) => {
            let (first, second) = (first.path.display(), second.path.display());
            Some(format!(
                "{first} is a pool alone, and {second} no part of it: give no data device"
            ))
        }
        _ => None,
    }
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
        OpenError::NoRoomForLogs { .. } => Errno::ENOSPC,
        OpenError::Media { block, error } => return media_failure(*block, *error),
        OpenError::Fs(error) => Errno::from_raw(error.errno()),
    };
    Failure::new(errno, error.to_string())
}

/// What a device said. A file in its place says so, too, when its file system is full.
fn media_failure(block: BlockNo, error: MediaError) -> Failure {
    let (what, errno) = match error {
        MediaError::Read(errno) => ("read", Errno::from_raw(errno)),
        MediaError::Write(errno) => ("write", Errno::from_raw(errno)),
        MediaError::Flush(errno) => ("flush", Errno::from_raw(errno)),
        MediaError::Discard(errno) => ("discard", Errno::from_raw(errno)),
        MediaError::OutOfRange => ("reach", Errno::ENXIO),
        MediaError::Gone => ("reach", Errno::ENODEV),
    };
    let text = format!("cannot {what} block {block}: {}", errno.desc().to_lowercase());
    Failure::new(errno, text)
}

/// The same, with the name of the device that it is about.
pub fn open_failure_on(error: &OpenError, paths: &[DevicePath]) -> Failure {
    let told = match error {
        OpenError::WrongDevice { device, is } => {
            named(paths, device.0).map(|path| misplaced(path, is.0))
        }
        OpenError::DeviceMissing { listed, given } => miscounted(paths, *listed, *given),
        OpenError::NoRoomForLogs { most, .. } => Some(format!(
            "{error}: serve with --shards {most} (shards.count), and make the pool longer for more \
             (cairn resize-devices)"
        )),
        OpenError::TooManyShards { most, .. } => {
            Some(format!("{error}: serve with --shards {most} or fewer (shards.count)"))
        }
        _ => None,
    };
    if let Some(text) = told {
        return Failure::new(open_failure(error).errno, text);
    }
    let device = match error {
        OpenError::Superblock { device, .. }
        | OpenError::WrongDevice { device, .. }
        | OpenError::OtherPool { device }
        | OpenError::Truncated { device, .. } => *device,
        OpenError::Media { block, .. } => block.device(),
        _ => return open_failure(error),
    };
    let mut failure = open_failure(error);
    if let Some(path) = named(paths, device.0) {
        failure.text = format!("{}: {}", path.display(), failure.text);
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::place::DeviceRole;
    use cairn_base::DeviceId;

    #[test]
    fn a_full_disk_under_a_pool_file_is_told_as_one() {
        let block = BlockNo::new(DeviceId(0), 9);
        let full = open_failure(&OpenError::Media { block, error: MediaError::Write(28) });
        assert_eq!(full.errno, Errno::ENOSPC);
        assert_eq!(full.text, "cannot write block 0:9: no space left on device");
    }

    #[test]
    fn a_pool_without_room_for_the_logs_says_how_many_shards_it_has_room_for() {
        let error = OpenError::NoRoomForLogs { asked: 8, most: 4, area_blocks: 1024 };
        let failure = open_failure_on(&error, &[]);
        assert_eq!(failure.errno, Errno::ENOSPC);
        let text = "8 shards need two logs of 4194304 bytes each, and the pool has room for those of 4: \
                    serve with --shards 4 (shards.count), and";
        assert!(failure.text.starts_with(text), "{failure}");
    }

    #[test]
    fn devices_that_do_not_fit_are_named_with_their_places() {
        let device = |path: &str| DevicePath { path: path.into(), role: DeviceRole::Mixed };
        let (one, both) = ([device("a")], [device("b"), device("a")]);
        let swapped = "b is the data device of its pool: give it as --data (`data` in [pool])";
        let open = OpenError::WrongDevice { device: DeviceId(0), is: DeviceId(1) };
        assert_eq!(open_failure_on(&open, &both).text, swapped);
        let check = CheckError::WrongDevice { device: 0, claims: 1 };
        assert_eq!(check_failure_on(check, &both).text, swapped);
        let check = CheckError::OtherPool { device: 1 };
        assert_eq!(check_failure_on(check, &both).text, "a: device 1 belongs to another pool");
        let missing = CheckError::DeviceMissing { listed: 2, given: 1 };
        assert!(check_failure_on(missing, &one).text.starts_with("a is one of the 2 devices"));
        let many = CheckError::DeviceTooMany { listed: 1, given: 2 };
        assert!(check_failure_on(many, &both).text.starts_with("b is a pool alone, and a no part"));
        let many = OpenError::DeviceMissing { listed: 1, given: 2 };
        assert!(open_failure_on(&many, &both).text.starts_with("b is a pool alone"));
    }

    #[test]
    fn a_port_that_is_taken_is_told_like_every_other_error() {
        let error = BindError { addr: "127.0.0.1:9".parse().unwrap(), errno: 98 };
        let failure = listen_failure(&error);
        let text =
            "cannot listen on 127.0.0.1:9: address already in use: stop the server that has it";
        assert!(failure.text.starts_with(text) && failure.text.contains("--nfs"), "{failure}");
        assert_eq!(failure.errno, Errno::EADDRINUSE);
    }
}
