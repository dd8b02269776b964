//! Opening and locking what a pool lives on: regular files and block devices.
//!
//! Both are opened for direct I/O, so that the only cache is ours and a buffer travels to the device
//! without being copied. Some file systems refuse that; then the page cache is in between, which
//! costs speed but no promise, since durable writes say RWF_DSYNC either way. The refusal is
//! reported (`without_direct_io`), not fatal.
//!
//! Who may write is settled here. Each device is locked (flock) for as long as any descriptor from
//! this opening lives: a daemon exclusively, an offline tool that only reads with others of its kind.
//! A second daemon, or a tool on a pool that is being served, is refused at once. The lock is the
//! first fence, for one machine; the epoch in each tablet root is the one that always holds.
//!
//! A pool is opened once per process and then shared: a second opening would be refused like any
//! stranger's. Every shard gets duplicates of the descriptors, which share the lock.

use cairn_base::BLOCK_BYTES;
use std::fmt;
use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, Seek, SeekFrom};
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicI32;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    ReadWrite,
    /// For offline tools: nothing is written, and others may read too.
    ReadOnly,
}

/// Why a device could not be had. The numbers are errno values.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OpenError {
    Open {
        path: PathBuf,
        errno: i32,
    },
    Create {
        path: PathBuf,
        errno: i32,
    },
    /// Another process has it: a daemon that serves it, or a tool that reads it.
    InUse {
        path: PathBuf,
    },
    Lock {
        path: PathBuf,
        errno: i32,
    },
    /// Neither a regular file nor a block device.
    NotADevice {
        path: PathBuf,
    },
    /// A pool numbers its devices in one byte.
    TooMany {
        count: usize,
    },
}

/// The opened and locked devices of one pool, for all shards of this process.
pub struct Devices {
    devices: Vec<Opened>,
}

pub(crate) struct Opened {
    pub(crate) path: PathBuf,
    pub(crate) file: File,
    pub(crate) kind: Kind,
    direct: bool,
    /// Of the first flush that failed, for all shards.
    pub(crate) flush_errno: Arc<AtomicI32>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Regular,
    Block,
}

impl Devices {
    /// In the order of `paths`, which becomes the order of device numbers.
    pub fn open(paths: &[impl AsRef<Path>], mode: Mode) -> Result<Devices, OpenError> {
        if paths.len() > usize::from(u8::MAX) + 1 {
            return Err(OpenError::TooMany { count: paths.len() });
        }
        let devices = paths.iter().map(|path| Opened::open(path.as_ref(), mode));
        Ok(Devices { devices: devices.collect::<Result<_, _>>()? })
    }

    /// Those whose file system refuses direct I/O, so that the operator can be told.
    pub fn without_direct_io(&self) -> impl Iterator<Item = &Path> {
        self.devices.iter().filter(|device| !device.direct).map(|device| device.path.as_path())
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Opened> {
        self.devices.iter()
    }
}

impl Opened {
    fn open(path: &Path, mode: Mode) -> Result<Opened, OpenError> {
        let failed = |error| open_error(path, &error);
        // Before it is opened: a pipe would be waited for, and some devices do something when opened.
        let found = std::fs::metadata(path).map_err(failed)?.file_type();
        if !(found.is_file() || found.is_block_device() || found.is_dir()) {
            return Err(OpenError::NotADevice { path: path.into() });
        }
        let (file, direct) = open_direct(path, mode).map_err(failed)?;
        let file_type = file.metadata().map_err(failed)?.file_type();
        let kind = match (file_type.is_file(), file_type.is_block_device()) {
            (true, _) => Kind::Regular,
            (_, true) => Kind::Block,
            _ => return Err(OpenError::NotADevice { path: path.into() }),
        };
        lock(&file, path, mode)?;
        Ok(Opened { path: path.into(), file, kind, direct, flush_errno: Arc::default() })
    }

    pub(crate) fn failed(&self, error: &io::Error) -> OpenError {
        open_error(&self.path, error)
    }

    pub(crate) fn duplicate(&self) -> Result<File, OpenError> {
        self.file.try_clone().map_err(|error| open_error(&self.path, &error))
    }
}

/// As long as it is now: the end of a block device is its size; its metadata says 0.
pub(crate) fn blocks_of(mut file: &File) -> io::Result<u64> {
    Ok(file.seek(SeekFrom::End(0))? / BLOCK_BYTES as u64)
}

fn open_error(path: &Path, error: &io::Error) -> OpenError {
    OpenError::Open { path: path.into(), errno: errno(error) }
}

fn open_direct(path: &Path, mode: Mode) -> io::Result<(File, bool)> {
    let mut options = OpenOptions::new();
    options.read(true).write(mode == Mode::ReadWrite);
    match options.clone().custom_flags(libc::O_DIRECT).open(path) {
        // What a file system without direct I/O answers (open(2)).
        Err(error) if error.raw_os_error() == Some(libc::EINVAL) => {
            options.open(path).map(|file| (file, false))
        }
        opened => opened.map(|file| (file, true)),
    }
}

fn lock(file: &File, path: &Path, mode: Mode) -> Result<(), OpenError> {
    let locked = match mode {
        Mode::ReadWrite => file.try_lock(),
        Mode::ReadOnly => file.try_lock_shared(),
    };
    match locked {
        Ok(()) => Ok(()),
        Err(TryLockError::WouldBlock) => Err(OpenError::InUse { path: path.into() }),
        Err(TryLockError::Error(error)) => {
            Err(OpenError::Lock { path: path.into(), errno: errno(&error) })
        }
    }
}

/// Makes a sparse file of `bytes` to keep a pool in. An existing file is refused, not reused: it
/// may hold somebody's pool.
pub fn create_file(path: &Path, bytes: u64) -> Result<(), OpenError> {
    let failed = |error: io::Error| OpenError::Create { path: path.into(), errno: errno(&error) };
    // A pool holds everybody's data, whatever the modes inside it say.
    let mut options = OpenOptions::new();
    options.create_new(true).write(true).mode(0o600);
    let file = options.open(path).map_err(failed)?;
    file.set_len(bytes).map_err(failed)?;
    file.sync_all().map_err(failed)?;
    // The name is durable only with its directory.
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    let directory = File::open(parent.unwrap_or(Path::new("."))).map_err(failed)?;
    directory.sync_all().map_err(failed)
}

fn errno(error: &io::Error) -> i32 {
    error.raw_os_error().unwrap_or(libc::EIO)
}

impl fmt::Display for OpenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (what, path, errno) = match self {
            OpenError::Open { path, errno } => ("cannot open", path, *errno),
            OpenError::Create { path, errno } => ("cannot create", path, *errno),
            OpenError::Lock { path, errno } => ("cannot lock", path, *errno),
            OpenError::InUse { path } => {
                return write!(f, "{} is in use by another process", path.display());
            }
            OpenError::NotADevice { path } => {
                return write!(f, "{} is no file and no block device", path.display());
            }
            OpenError::TooMany { count } => return write!(f, "{count} devices are too many"),
        };
        write!(f, "{what} {}: {}", path.display(), io::Error::from_raw_os_error(errno))
    }
}

impl std::error::Error for OpenError {}
