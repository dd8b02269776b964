//! Where a pool lives: the file of an embedded pool, or the devices an operator named.
//!
//! Whoever works on a pool, on line or off, first claims it here: `cairn_nvme::Devices` locks each
//! file against other processes, and a block device is also opened exclusively (O_EXCL), so that
//! nothing mounted is touched. What loop devices show of one file is one thing under several names, and claimed as
//! that (`shown.rs`). The kernel drops all of it with the process, however it ends.
//!
//! An embedded pool is made under another name and renamed when it is whole: what fails half way takes
//! away what it made, and a first `up` that is killed leaves a file that the next one replaces. One that
//! replaces a pool, because it was forced to, leaves the old one alone until the new one is whole.

use crate::block_device::BlockDevice;
use crate::error::Failure;
use crate::patience::patiently;
use crate::shown::{self, Shown, shown_by};
use crate::signature::{self, BACK_BYTES, FRONT_BYTES, find_data};
use cairn_base::BLOCK_BYTES;
use cairn_format::superblock::ROOTS_START;
use cairn_nvme::{Devices, Mode, OpenError};
use nix::errno::Errno;
use nix::fcntl::OFlag;
use std::fs::{File, OpenOptions};
use std::io::{self, Seek, SeekFrom};
use std::os::unix::fs::{FileExt, FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// The one file of an embedded pool, in its folder.
const POOL_FILE: &str = "pool";
const POOL_FILE_UNFINISHED: &str = "pool.unfinished";

/// Size of an embedded pool when nothing is said, and room permits.
const SIZE_DEFAULT: u64 = 64 << 30;

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// An embedded pool: `DIR/pool`.
    Dir(PathBuf),
    /// Devices, or files in their place. Without `data`, `meta` holds both.
    Devices { meta: PathBuf, data: Option<PathBuf> },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeviceRole {
    Mixed,
    Meta,
    Data,
}

/// A device or file of a pool, by its place in the superblock's table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DevicePath {
    pub path: PathBuf,
    pub role: DeviceRole,
}

impl Place {
    /// The devices in the order of the superblock's table: metadata first.
    pub fn devices(&self) -> Vec<DevicePath> {
        let device = |path: &Path, role| DevicePath { path: path.to_owned(), role };
        match self {
            Place::Dir(dir) => vec![device(&dir.join(POOL_FILE), DeviceRole::Mixed)],
            Place::Devices { meta, data: None } => vec![device(meta, DeviceRole::Mixed)],
            Place::Devices { meta, data: Some(data) } => {
                vec![device(meta, DeviceRole::Meta), device(data, DeviceRole::Data)]
            }
        }
    }
}

impl std::fmt::Display for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Place::Dir(dir) => write!(f, "{}", dir.display()),
            Place::Devices { meta, data: None } => write!(f, "{}", meta.display()),
            Place::Devices { meta, data: Some(data) } => {
                write!(f, "{} {}", meta.display(), data.display())
            }
        }
    }
}

/// The devices of a pool that nobody else works on while this lives.
pub struct Claim {
    paths: Vec<DevicePath>,
    devices: Devices,
    /// Held for their O_EXCL, or for their locks, alone.
    _exclusive: Vec<File>,
}

impl Claim {
    /// `EBUSY` when the pool is in use.
    pub fn take(paths: Vec<DevicePath>, mode: Mode) -> Result<Claim, Failure> {
        let shown: Vec<_> = paths.iter().map(|device| shown_by(&device.path)).collect();
        refuse_twice(&paths, &shown)?;
        let mut exclusive = match mode {
            Mode::ReadWrite => {
                paths.iter().try_for_each(|device| refuse_unfit(&device.path))?;
                let exclusive = open_exclusively(&paths)?;
                for (device, shown) in paths.iter().zip(&shown) {
                    shown::refuse_shown_elsewhere(&device.path, shown)?;
                }
                exclusive
            }
            Mode::ReadOnly => Vec::new(),
        };
        let files: Vec<&Path> = paths.iter().map(|device| device.path.as_path()).collect();
        let devices = Devices::open(&files, mode).map_err(device_failure)?;
        for (device, shown) in paths.iter().zip(&shown) {
            for stretch in shown {
                exclusive.extend(stretch.lock(&device.path, mode)?);
            }
        }
        Ok(Claim { paths, devices, _exclusive: exclusive })
    }

    /// In the order of the superblock's table.
    pub fn paths(&self) -> &[DevicePath] {
        &self.paths
    }

    pub fn devices(&self) -> &Devices {
        &self.devices
    }

    /// Refuses what `format` would destroy.
    pub fn refuse_signatures(&self) -> Result<(), Failure> {
        for DevicePath { path, .. } in &self.paths {
            let partitions = BlockDevice::at(path).map(|d| d.partitions()).unwrap_or_default();
            let what = match (&partitions[..], find_content(path)?) {
                ([], None) => continue,
                ([], Some(found)) => found,
                (some, None) => format!("partitions ({})", some.join(", ")),
                (some, Some(found)) => format!("{found}, with partitions ({})", some.join(", ")),
            };
            let text = format!(
                "{} holds {what}: name another device, or --force destroys it",
                path.display()
            );
            return Err(Failure::new(Errno::EEXIST, text));
        }
        Ok(())
    }

    /// Zeroes what others could still recognise, superblocks of earlier pools included.
    pub fn wipe_signatures(&self) -> Result<(), Failure> {
        for DevicePath { path, .. } in &self.paths {
            let wipe = || {
                let file = OpenOptions::new().read(true).write(true).open(path)?;
                let length = length_of(&file)?;
                let (at, back) = read_back(&file)?;
                if signature::find_behind(&back, length).is_some() {
                    file.write_all_at(&vec![0; back.len()], at)?;
                }
                let front = length.min(ROOTS_START * BLOCK_BYTES as u64);
                file.write_all_at(&vec![0; front as usize], 0)?;
                file.sync_data()
            };
            wipe().map_err(|e| Failure::file("cannot write", path, &e))?;
        }
        Ok(())
    }
}

/// An embedded pool that is being made.
pub struct Unfinished {
    dir: PathBuf,
    /// Before the claim, so that the file goes while it is still ours alone.
    scrap: Scrap,
    claim: Claim,
    /// The pool that it replaces.
    replaced: Option<Claim>,
}

/// What was made on the way to a pool, and goes away again unless the pool becomes whole.
struct Scrap {
    file: Option<PathBuf>,
    /// The innermost first.
    dirs: Vec<PathBuf>,
}

impl Scrap {
    /// Makes `dir`, and what is missing above it.
    fn make_dir(dir: &Path) -> Result<Scrap, Failure> {
        let missing = |dir: &&Path| !dir.as_os_str().is_empty() && !dir.exists();
        let dirs = dir.ancestors().take_while(missing).map(Path::to_owned).collect();
        let scrap = Scrap { file: None, dirs };
        std::fs::create_dir_all(dir).map_err(|e| Failure::file("cannot make", dir, &e))?;
        Ok(scrap)
    }

    fn keep(&mut self) {
        self.file = None;
        self.dirs.clear();
    }
}

impl Drop for Scrap {
    fn drop(&mut self) {
        // What cannot be removed is in nobody's way: the next attempt replaces the file.
        let _ = self.file.as_ref().map(std::fs::remove_file);
        for dir in &self.dirs {
            let _ = std::fs::remove_dir(dir);
        }
    }
}

impl Unfinished {
    /// Makes `dir` and in it the pool's file, sparse, of `size` bytes or the default. `replaced` is the
    /// pool that is there already: `EEXIST` when there is one without it, `EBUSY` when somebody is
    /// making one.
    pub fn create(
        dir: &Path,
        size: Option<u64>,
        replaced: Option<Claim>,
    ) -> Result<Unfinished, Failure> {
        let mut scrap = Scrap::make_dir(dir)?;
        let path = dir.join(POOL_FILE_UNFINISHED);
        let device = || vec![DevicePath { path: path.clone(), role: DeviceRole::Mixed }];
        if path.exists() {
            // Whoever was killed a moment ago may hold it still.
            match patiently(|| Claim::take(device(), Mode::ReadWrite)) {
                Ok(_leftover) => remove(&path)?,
                // Nobody was killed: it has become a pool, or was taken away, meanwhile.
                Err(failure) if failure.errno == Errno::ENOENT => {}
                Err(failure) => return Err(failure),
            }
        }
        let size = match size {
            Some(size) => size,
            None => default_size(dir)?,
        };
        let size = size / BLOCK_BYTES as u64 * BLOCK_BYTES as u64;
        if i64::try_from(size).is_err() {
            return Err(Failure::new(Errno::EFBIG, format!("no file can have {size} bytes")));
        }
        let created = cairn_nvme::create_file(&path, size).map_err(device_failure);
        // Somebody else's is not ours to remove.
        if created.as_ref().err().is_none_or(|failure| failure.errno != Errno::EEXIST) {
            scrap.file = Some(path.clone());
        }
        created?;
        let claim = Claim::take(device(), Mode::ReadWrite).inspect_err(|_| scrap.file = None)?;
        if replaced.is_none() && embedded_exists(dir)? {
            let text = format!("{} exists", dir.join(POOL_FILE).display());
            return Err(Failure::new(Errno::EEXIST, text));
        }
        Ok(Unfinished { dir: dir.to_owned(), scrap, claim, replaced })
    }

    pub fn claim(&self) -> &Claim {
        &self.claim
    }

    /// Its device as it will be called.
    pub fn paths(&self) -> Vec<DevicePath> {
        Place::Dir(self.dir.clone()).devices()
    }

    /// Gives the formatted file its name, for good.
    pub fn finish(mut self) -> Result<Claim, Failure> {
        let (from, to) = (self.dir.join(POOL_FILE_UNFINISHED), self.dir.join(POOL_FILE));
        let rename = || {
            File::open(&from)?.sync_all()?;
            std::fs::rename(&from, &to)?;
            File::open(&self.dir)?.sync_all()
        };
        rename().map_err(|e| Failure::file("cannot make", &to, &e))?;
        self.scrap.keep();
        drop(self.replaced);
        let mut claim = self.claim;
        for device in &mut claim.paths {
            device.path.clone_from(&to);
        }
        Ok(claim)
    }
}

/// A link to nowhere counts: its disk may not be mounted just now, and a new pool in its place would
/// look like an archive that has lost everything.
pub fn embedded_exists(dir: &Path) -> Result<bool, Failure> {
    let path = dir.join(POOL_FILE);
    match std::fs::symlink_metadata(&path) {
        Ok(_) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(Failure::file("cannot look at", &path, &error)),
    }
}

/// Claims an embedded pool that is to be replaced: never one that is in use, and others only when
/// `forced`.
pub fn claim_replaced(dir: &Path, forced: bool) -> Result<Claim, Failure> {
    let claim = Claim::take(Place::Dir(dir.to_owned()).devices(), Mode::ReadWrite)?;
    if forced {
        return Ok(claim);
    }
    let path = dir.join(POOL_FILE);
    let text = format!("{} is there already; --force destroys it", path.display());
    Err(Failure::new(Errno::EEXIST, text))
}

fn remove(path: &Path) -> Result<(), Failure> {
    std::fs::remove_file(path).map_err(|e| Failure::file("cannot remove", path, &e))
}

/// One device in two places would be two owners of its blocks.
fn refuse_twice(paths: &[DevicePath], shown: &[Vec<Shown>]) -> Result<(), Failure> {
    let [first, second] = paths else { return Ok(()) };
    let devices = (BlockDevice::at(&first.path), BlockDevice::at(&second.path));
    let is_shown_twice =
        shown[0].iter().any(|one| shown[1].iter().any(|other| one.overlaps(other)));
    let (what, twice) = match devices {
        (Some(a), Some(b)) => ("share blocks", a.overlaps(&b) || is_shown_twice),
        (None, None) => ("are the same file", is_shown_twice),
        _ => ("share blocks", is_shown_twice),
    };
    if !twice {
        return Ok(());
    }
    let (first, second) = (first.path.display(), second.path.display());
    let text = format!("{first} and {second} {what}: name two devices, or one alone with --meta");
    Err(Failure::new(Errno::EINVAL, text))
}

/// No pool can be on such a device, whatever is forced.
fn refuse_unfit(path: &Path) -> Result<(), Failure> {
    let Some(device) = BlockDevice::at(path) else { return Ok(()) };
    let path = path.display();
    if device.is_read_only() {
        let text = format!("{path} is read-only: `blockdev --setrw {path}` may change that");
        return Err(Failure::new(Errno::EROFS, text));
    }
    if let Some(bytes) = device.unfit_block_bytes() {
        let text = format!(
            "{path} has logical blocks of {bytes} bytes: a pool needs 512 to 4096, a power of two"
        );
        return Err(Failure::new(Errno::EINVAL, text));
    }
    Ok(())
}

fn open_exclusively(paths: &[DevicePath]) -> Result<Vec<File>, Failure> {
    let mut exclusive = Vec::new();
    for DevicePath { path, .. } in paths {
        let failed = |e| Failure::file("cannot open", path, &e);
        if !std::fs::metadata(path).map_err(failed)?.file_type().is_block_device() {
            continue;
        }
        let mut options = OpenOptions::new();
        options.read(true).custom_flags(OFlag::O_EXCL.bits());
        match options.open(path) {
            Ok(file) => exclusive.push(file),
            Err(error) if error.raw_os_error() == Some(Errno::EBUSY as i32) => {
                let held = BlockDevice::at(path).map(|device| device.held_by()).unwrap_or_default();
                let text = format!("{} is in use: {held}", path.display());
                return Err(Failure::new(Errno::EBUSY, text));
            }
            Err(error) => return Err(failed(error)),
        }
    }
    Ok(exclusive)
}

/// What `format` would destroy, as far as can be seen.
fn find_content(path: &Path) -> Result<Option<String>, Failure> {
    let look = || {
        let file = File::open(path)?;
        let length = length_of(&file)?;
        let mut front = vec![0; length.min(FRONT_BYTES as u64) as usize];
        file.read_exact_at(&mut front, 0)?;
        let (back_at, back) = read_back(&file)?;
        let known = signature::find(&front).or_else(|| signature::find_behind(&back, length));
        if let Some(known) = known {
            return Ok(Some(known.to_string()));
        }
        let ends = [(0, &front), (back_at, &back)];
        let mut data = ends.iter().find_map(|(at, end)| Some(at + find_data(end)? as u64));
        let mut block = vec![0; BLOCK_BYTES];
        let mut samples = signature::samples(length);
        while data.is_none()
            && let Some(at) = samples.next()
        {
            file.read_exact_at(&mut block, at)?;
            data = find_data(&block).map(|byte| at + byte as u64);
        }
        Ok(data.map(|at| format!("data of a kind that cairn does not know, at byte {at}")))
    };
    look().map_err(|e| Failure::file("cannot read", path, &e))
}

/// The last bytes, and where they begin.
fn read_back(file: &File) -> io::Result<(u64, Vec<u8>)> {
    let length = length_of(file)?;
    let at = length.saturating_sub(BACK_BYTES as u64);
    let mut back = vec![0; (length - at) as usize];
    file.read_exact_at(&mut back, at)?;
    Ok((at, back))
}

pub fn device_failure(error: OpenError) -> Failure {
    let errno = match error {
        OpenError::Open { errno, .. }
        | OpenError::Create { errno, .. }
        | OpenError::Lock { errno, .. } => Errno::from_raw(errno),
        OpenError::InUse { .. } => Errno::EBUSY,
        OpenError::NotADevice { .. } => Errno::ENOTBLK,
        OpenError::TooMany { .. } => Errno::EINVAL,
    };
    match error {
        OpenError::Open { path, .. } => Failure::file("cannot open", &path, &errno.into()),
        OpenError::Create { path, .. } => Failure::file("cannot make", &path, &errno.into()),
        OpenError::Lock { path, .. } => Failure::file("cannot lock", &path, &errno.into()),
        other => Failure::new(errno, other.to_string()),
    }
}

/// Also of a block device, whose metadata says 0.
fn length_of(mut file: &File) -> io::Result<u64> {
    file.seek(SeekFrom::End(0))
}

/// 64 GiB, or half of what is free where that is less.
fn default_size(dir: &Path) -> Result<u64, Failure> {
    let room = nix::sys::statvfs::statvfs(dir)
        .map_err(|errno| Failure::file("cannot see the room in", dir, &errno.into()))?;
    let free = room.blocks_available().saturating_mul(room.fragment_size());
    // A pool that is replaced makes room.
    let old = std::fs::metadata(dir.join(POOL_FILE)).map_or(0, |pool| pool.blocks() * 512);
    Ok(SIZE_DEFAULT.min(free.saturating_add(old) / 2))
}

#[cfg(test)]
mod tests {
    use super::*;
    use tempfile::tempdir;

    fn take(place: &Place) -> Result<Claim, Failure> {
        Claim::take(place.devices(), Mode::ReadWrite)
    }

    fn errno<T>(result: Result<T, Failure>) -> Option<Errno> {
        result.err().map(|failure| failure.errno)
    }

    #[test]
    fn a_claimed_pool_is_busy_until_the_claim_goes() {
        let dir = tempdir().unwrap();
        let place = Place::Dir(dir.path().to_owned());
        let claim = Unfinished::create(dir.path(), Some(1 << 20), None).unwrap().finish().unwrap();
        assert_eq!(claim.paths(), place.devices());
        assert_eq!(errno(take(&place)), Some(Errno::EBUSY));
        drop(claim);
        take(&place).unwrap();
    }

    #[test]
    fn a_pool_half_made_is_begun_again_and_never_mistaken_for_one() {
        let dir = tempdir().unwrap();
        let create = || Unfinished::create(dir.path(), Some(2 << 20), None);
        let killed = dir.path().join(POOL_FILE_UNFINISHED);
        std::fs::write(&killed, "half").unwrap();
        assert!(!embedded_exists(dir.path()).unwrap());
        let second = create().unwrap();
        assert_eq!(errno(create()), Some(Errno::EBUSY));
        assert!(killed.exists(), "it is not the third's to remove");
        second.finish().unwrap();
        assert!(embedded_exists(dir.path()).unwrap());
        assert_eq!(errno(create()), Some(Errno::EEXIST));
        assert!(!killed.exists());
    }

    #[test]
    fn a_leftover_whose_maker_is_just_going_is_waited_for() {
        let dir = tempdir().unwrap();
        let going = Unfinished::create(dir.path(), Some(1 << 20), None).unwrap();
        let (begin, begun) = std::sync::mpsc::channel();
        let path = dir.path().to_owned();
        let next = std::thread::spawn(move || {
            begin.send(()).unwrap();
            errno(Unfinished::create(&path, Some(1 << 20), None))
        });
        begun.recv().unwrap();
        // Few: a yield on a busy machine takes milliseconds, and the other waits for three seconds.
        (0..20).for_each(|_| std::thread::yield_now());
        drop(going);
        assert_eq!(next.join().unwrap(), None);
    }

    #[test]
    fn what_does_not_become_a_pool_leaves_nothing_behind() {
        let dir = tempdir().unwrap();
        let below = dir.path().join("a/b");
        drop(Unfinished::create(&below, Some(1 << 20), None).unwrap());
        assert_eq!(errno(Unfinished::create(&below, Some(u64::MAX), None)), Some(Errno::EFBIG));
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
        std::fs::create_dir_all(&below).unwrap();
        drop(Unfinished::create(&below, Some(1 << 20), None).unwrap());
        assert!(below.exists(), "it was there before");
    }

    #[test]
    fn a_pool_that_is_replaced_stays_until_the_new_one_is_whole() {
        let dir = tempdir().unwrap();
        let path = dir.path().join(POOL_FILE);
        std::fs::write(&path, vec![7; 1 << 20]).unwrap();
        assert_eq!(errno(claim_replaced(dir.path(), false)), Some(Errno::EEXIST));
        let replaced = || Some(claim_replaced(dir.path(), true).unwrap());
        drop(Unfinished::create(dir.path(), Some(2 << 20), replaced()).unwrap());
        assert_eq!(std::fs::read(&path).unwrap(), vec![7; 1 << 20]);
        let next = Unfinished::create(dir.path(), Some(2 << 20), replaced()).unwrap();
        next.finish().unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().len(), 2 << 20);
    }

    #[test]
    fn a_link_to_a_pool_that_is_not_there_now_is_not_replaced() {
        let dir = tempdir().unwrap();
        let link = dir.path().join(POOL_FILE);
        std::os::unix::fs::symlink("/nowhere/pool", &link).unwrap();
        assert!(embedded_exists(dir.path()).unwrap());
        let refused = Unfinished::create(dir.path(), Some(1 << 20), None);
        assert_eq!(errno(refused), Some(Errno::EEXIST));
        assert!(link.is_symlink());
    }

    #[test]
    fn what_looks_like_a_file_system_is_refused_until_it_is_wiped() {
        let dir = tempdir().unwrap();
        let path = dir.path().join("disk");
        let mut image = vec![0; 1 << 20];
        image[0x438..0x43a].copy_from_slice(b"\x53\xef");
        std::fs::write(&path, image).unwrap();
        let claim = take(&Place::Devices { meta: path, data: None }).unwrap();
        let refused = claim.refuse_signatures().unwrap_err();
        assert!(refused.text.contains("ext4"), "{refused}");
        claim.wipe_signatures().unwrap();
        claim.refuse_signatures().unwrap();
    }

    #[test]
    fn what_stands_at_the_end_only_is_refused_and_wiped_too() {
        let dir = tempdir().unwrap();
        let path = dir.path().join("disk");
        let mut image = vec![0; 4 << 20];
        let last_sector = image.len() - 512;
        image[last_sector..last_sector + 8].copy_from_slice(b"EFI PART");
        std::fs::write(&path, image).unwrap();
        let claim = take(&Place::Devices { meta: path, data: None }).unwrap();
        let refused = claim.refuse_signatures().unwrap_err();
        assert!(refused.text.contains("GPT") && refused.text.contains("disk"), "{refused}");
        claim.wipe_signatures().unwrap();
        claim.refuse_signatures().unwrap();
    }

    #[test]
    fn one_file_under_two_names_is_refused() {
        let dir = tempdir().unwrap();
        let (file, link) = (dir.path().join("file"), dir.path().join("link"));
        std::fs::write(&file, vec![0; 4096]).unwrap();
        std::os::unix::fs::symlink(&file, &link).unwrap();
        let refused = take(&Place::Devices { meta: file, data: Some(link) });
        let text = refused.as_ref().err().map(|failure| failure.text.clone()).unwrap_or_default();
        assert!(text.contains("the same file"), "{text}");
        assert_eq!(errno(refused), Some(Errno::EINVAL));
    }

    #[test]
    fn a_folder_or_a_missing_file_is_no_device() {
        let dir = tempdir().unwrap();
        let missing = dir.path().join("nothing");
        let claim = |meta: &Path| take(&Place::Devices { meta: meta.to_owned(), data: None });
        assert_eq!(errno(claim(dir.path())), Some(Errno::EISDIR));
        assert_eq!(errno(claim(&missing)), Some(Errno::ENOENT));
    }
}
