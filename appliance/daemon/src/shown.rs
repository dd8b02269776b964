//! Which bytes a path shows, so that no two owners have the same under different names.
//!
//! A lock on a device's node keeps others from that node. But a loop device shows a file, or a stretch of one,
//! and there may be several over the same, each with a node of its own and nothing in the kernel that tells
//! of the others. So a pool is claimed where its bytes are in the end: as a stretch of a file.
//!
//! Two things follow. Whoever works on a pool locks its stretch (an OFD lock, fcntl(2)) for as long as it works, so
//! that daemons and tools meet there, whatever names they came by. And what another loop device shows is refused
//! even when nobody seems to use that one: who has it mounted asks for no lock of ours.

use crate::block_device::{BlockDevice, LoopDevice, loops};
use crate::error::Failure;
use cairn_nvme::Mode;
use nix::errno::Errno;
use nix::fcntl::{FcntlArg, fcntl};
use std::fs::{File, OpenOptions};
use std::io;
use std::ops::Range;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// A stretch of a file, in bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shown {
    /// By any one of its names.
    pub file: PathBuf,
    /// Device and inode; none when the file cannot be looked at, as it has no name any more.
    identity: Option<(u64, u64)>,
    bytes: Range<u64>,
}

impl Shown {
    fn of(file: &Path, bytes: Range<u64>) -> Shown {
        let identity = std::fs::metadata(file).ok().map(|found| (found.dev(), found.ino()));
        Shown { file: file.to_owned(), identity, bytes }
    }

    fn of_loop(device: &LoopDevice) -> Shown {
        Shown::of(&device.backing_file, device.bytes.clone())
    }

    pub fn overlaps(&self, other: &Shown) -> bool {
        let is_same = match (self.identity, other.identity) {
            (Some(one), Some(two)) => one == two,
            _ => self.file == other.file,
        };
        let (start, end) =
            (self.bytes.start.max(other.bytes.start), self.bytes.end.min(other.bytes.end));
        is_same && start < end
    }

    /// Locks the stretch until the file is closed: alone to write, with others to read. `EBUSY` when
    /// somebody has some of it.
    pub fn lock(&self, path: &Path, mode: Mode) -> Result<Option<File>, Failure> {
        let name = if self.file == path {
            path.display().to_string()
        } else {
            format!("{} shows {}, which", path.display(), self.file.display())
        };
        let failed = |error: &io::Error| {
            let errno = Errno::from_raw(error.raw_os_error().unwrap_or(nix::libc::EIO));
            Failure::new(errno, format!("{name} cannot be locked: {}", errno.desc()))
        };
        let (writes, kind) = match mode {
            Mode::ReadWrite => (true, nix::libc::F_WRLCK),
            Mode::ReadOnly => (false, nix::libc::F_RDLCK),
        };
        let file = OpenOptions::new().read(true).write(writes).open(&self.file);
        let file = match file {
            // It has no name any more, by which anybody else could find it.
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            opened => opened.map_err(|error| failed(&error))?,
        };
        let length = match self.bytes.end {
            u64::MAX => 0, // to the end, wherever that will be
            end => i64::try_from(end - self.bytes.start).unwrap_or(0),
        };
        let asked = nix::libc::flock {
            l_type: kind as i16,
            l_whence: nix::libc::SEEK_SET as i16,
            l_start: i64::try_from(self.bytes.start).unwrap_or(i64::MAX),
            l_len: length,
            l_pid: 0,
        };
        match fcntl(&file, FcntlArg::F_OFD_SETLK(&asked)) {
            Ok(_) => Ok(Some(file)),
            Err(Errno::EAGAIN | Errno::EACCES) => {
                Err(Failure::new(Errno::EBUSY, format!("{name} is in use by another process")))
            }
            Err(errno) => Err(failed(&errno.into())),
        }
    }
}

/// What `path`, a file or a block device, shows. Nothing for a disk that is no loop device: its node
/// and its sysfs family are all the names it has.
pub fn shown_by(path: &Path) -> Vec<Shown> {
    let Some(device) = BlockDevice::at(path) else { return vec![Shown::of(path, 0..u64::MAX)] };
    let stretch =
        |(device, bytes): (LoopDevice, Range<u64>)| Shown { bytes, ..Shown::of_loop(&device) };
    device.loops_below().into_iter().map(stretch).collect()
}

/// Refuses bytes that some other loop device shows as well.
pub fn refuse_shown_elsewhere(path: &Path, shown: &[Shown]) -> Result<(), Failure> {
    let own = BlockDevice::at(path);
    for other in loops() {
        let is_own = own.as_ref().is_some_and(|own| own.rests_on(&other));
        let same = shown.iter().find(|one| one.overlaps(&Shown::of_loop(&other)));
        let Some(same) = same.filter(|_| !is_own) else { continue };
        let (path, other) = (path.display(), &other.device);
        let text = match &own {
            None => {
                format!("{path} is in use: as {other}; name that, or detach it: losetup -d {other}")
            }
            Some(_) => format!(
                "{path} is in use: {other} shows {} too; name one and detach the other: losetup -d",
                same.file.display()
            ),
        };
        return Err(Failure::new(Errno::EBUSY, text));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stretch_is_locked_once_and_beside_others() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("image");
        std::fs::write(&file, vec![0; 8192]).unwrap();
        let link = dir.path().join("link");
        std::fs::hard_link(&file, &link).unwrap();
        let (whole, first, second) = (
            Shown::of(&link, 0..u64::MAX),
            Shown::of(&file, 0..4096),
            Shown::of(&file, 4096..8192),
        );
        assert!(whole.overlaps(&first) && whole.overlaps(&second) && !first.overlaps(&second));
        let held = first.lock(&file, Mode::ReadWrite).unwrap();
        second.lock(&file, Mode::ReadWrite).unwrap();
        whole.lock(&link, Mode::ReadOnly).unwrap_err();
        let refused = whole.lock(&link, Mode::ReadWrite).unwrap_err();
        assert_eq!(refused.errno, Errno::EBUSY);
        assert!(refused.text.ends_with("link is in use by another process"), "{refused}");
        drop(held);
        let reader = whole.lock(&link, Mode::ReadOnly).unwrap();
        first.lock(&file, Mode::ReadOnly).unwrap();
        first.lock(&file, Mode::ReadWrite).unwrap_err();
        drop(reader);
        whole.lock(&link, Mode::ReadWrite).unwrap();
    }

    #[test]
    fn a_file_without_a_name_is_known_by_the_one_it_had() {
        let gone = |bytes| Shown::of(Path::new("/nowhere/image (deleted)"), bytes);
        assert!(gone(0..10).overlaps(&gone(9..12)) && !gone(0..10).overlaps(&gone(10..12)));
        assert!(gone(0..10).lock(Path::new("/dev/loop0"), Mode::ReadWrite).unwrap().is_none());
    }
}
