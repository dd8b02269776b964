//! What the kernel knows of a block device: its partitions, who holds it, and whether a pool could be
//! on it at all.
//!
//! Nothing here protects anything: that is the exclusive opening in `place.rs`, which the kernel
//! refuses for what is mounted, swapped to, or part of another device, for a disk as for each of its
//! partitions. This is for saying why, and what to do about it. So what cannot be read is left out,
//! and a holder that is not found (in another mount namespace) is said to be unknown.

use nix::sys::stat::{SFlag, major, minor, stat};
use std::ffi::OsStr;
use std::fs;
use std::ops::Range;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// Devices with larger ones cannot write a block of ours.
const LOGICAL_BLOCK_MAX: u64 = 4096;

/// What sysfs counts sizes and starts in, whatever the device's blocks are.
const SECTOR_BYTES: u64 = 512;

pub struct BlockDevice {
    rdev: u64,
    /// Its folder in sysfs. That of a partition lies in its disk's.
    sys: PathBuf,
}

impl BlockDevice {
    /// Nothing when `path` is no block device, or nothing at all.
    pub fn at(path: &Path) -> Option<BlockDevice> {
        let rdev = rdev(path)?;
        let sys = format!("/sys/dev/block/{}:{}", major(rdev), minor(rdev));
        Some(BlockDevice { rdev, sys: fs::canonicalize(sys).ok()? })
    }

    /// Names of its partitions, as the kernel lists them.
    pub fn partitions(&self) -> Vec<String> {
        let entries = fs::read_dir(&self.sys).into_iter().flatten().flatten();
        let partitions = entries.filter(|entry| entry.path().join("partition").exists());
        let mut names: Vec<String> = partitions.map(|entry| text(&entry.file_name())).collect();
        names.sort();
        names
    }

    pub fn is_read_only(&self) -> bool {
        number(&self.sys.join("ro")) == Some(1)
    }

    /// A block size that no pool can be on.
    pub fn unfit_block_bytes(&self) -> Option<u64> {
        let sizes = [self.sys.join("queue"), self.sys.join("../queue")];
        let size = sizes.iter().find_map(|queue| number(&queue.join("logical_block_size")));
        size.filter(|bytes| *bytes > LOGICAL_BLOCK_MAX || !bytes.is_power_of_two())
    }

    /// Do both have the same blocks, at least in part?
    pub fn overlaps(&self, other: &BlockDevice) -> bool {
        self.sys.starts_with(&other.sys) || other.sys.starts_with(&self.sys)
    }

    /// Why the kernel does not give it to us, and the way out.
    pub fn held_by(&self) -> String {
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
        let swaps = fs::read_to_string("/proc/swaps").unwrap_or_default();
        let family = self.family();
        let name_of = |found: u64| {
            let member = family.iter().find(|member| member.rdev == found)?;
            Some(if found == self.rdev { String::new() } else { format!("{} is ", member.name()) })
        };
        for (device, source, place) in mounts.lines().filter_map(mount) {
            let name = name_of(device).or_else(|| name_of(rdev(Path::new(source))?));
            if let Some(name) = name {
                return format!("{name}mounted at {place}; unmount it first");
            }
        }
        for path in swaps.lines().skip(1).filter_map(|line| line.split_whitespace().next()) {
            if let Some(name) = rdev(Path::new(path)).and_then(name_of) {
                return format!("{name}swap space in use; swapoff it first");
            }
        }
        for member in &family {
            if let Some(holder) = member.holder() {
                return format!("{} is part of {holder}; take it out of that first", member.name());
            }
        }
        "another program has it, or it is mounted where this one cannot see; end that first".into()
    }

    /// It, its partitions, and the disk it is a partition of.
    fn family(&self) -> Vec<BlockDevice> {
        let member = |sys: PathBuf| Some(BlockDevice { rdev: listed_rdev(&sys)?, sys });
        let mut family = vec![BlockDevice { rdev: self.rdev, sys: self.sys.clone() }];
        family.extend(self.partitions().iter().filter_map(|name| member(self.sys.join(name))));
        if self.sys.join("partition").exists() {
            family.extend(self.sys.parent().and_then(|disk| member(disk.to_owned())));
        }
        family
    }

    /// The loop devices its blocks lie on, it being one or a part of one or made of some, and which bytes
    /// of their files those may be.
    pub fn loops_below(&self) -> Vec<(LoopDevice, Range<u64>)> {
        let mut found = Vec::new();
        let disk = if self.sys.join("partition").exists() {
            self.sys.parent().map(Path::to_owned)
        } else {
            Some(self.sys.clone())
        };
        if let Some(whole) = disk.as_deref().and_then(LoopDevice::at) {
            // A whole disk has no start.
            let stretch = |sys: &Path| {
                let start = number(&sys.join("start"))?.checked_mul(SECTOR_BYTES)?;
                let length = number(&sys.join("size"))?.checked_mul(SECTOR_BYTES)?;
                let start = whole.bytes.start.checked_add(start)?;
                Some(start..start.checked_add(length)?.min(whole.bytes.end))
            };
            let bytes = stretch(&self.sys).unwrap_or_else(|| whole.bytes.clone());
            found.push((whole, bytes));
        }
        for slave in fs::read_dir(self.sys.join("slaves")).into_iter().flatten().flatten() {
            let sys = fs::canonicalize(slave.path()).ok();
            let below = sys.and_then(|sys| Some(BlockDevice { rdev: listed_rdev(&sys)?, sys }));
            found.extend(below.map(|below| below.loops_below()).unwrap_or_default());
        }
        found
    }

    /// Is it this loop device, a partition of it, or made of it?
    pub fn rests_on(&self, device: &LoopDevice) -> bool {
        self.loops_below().iter().any(|(below, _)| below.sys == device.sys)
    }

    fn name(&self) -> String {
        self.sys.file_name().map(text).unwrap_or_default()
    }

    /// A device made of this one: device mapper, md, bcache.
    fn holder(&self) -> Option<String> {
        let holder = fs::read_dir(self.sys.join("holders")).ok()?.flatten().next()?;
        let dm_name = fs::read_to_string(holder.path().join("dm/name")).ok();
        Some(match dm_name {
            Some(name) => format!("the device mapper's {}", name.trim()),
            None => text(&holder.file_name()),
        })
    }
}

/// A loop device that shows something.
#[derive(Clone, Debug)]
pub struct LoopDevice {
    /// `/dev/loopN`
    pub device: String,
    /// By the name it had when the device was set up, which the kernel follows through renames.
    pub backing_file: PathBuf,
    /// Of the file.
    pub bytes: Range<u64>,
    sys: PathBuf,
}

impl LoopDevice {
    /// Nothing when the folder is not that of a loop device which is set up.
    fn at(sys: &Path) -> Option<LoopDevice> {
        let backing = fs::read(sys.join("loop/backing_file")).ok()?;
        let backing = backing.strip_suffix(b"\n").unwrap_or(&backing);
        let start = number(&sys.join("loop/offset"))?;
        let end = match number(&sys.join("loop/sizelimit"))? {
            0 => u64::MAX, // all of the file, also when it grows
            length => start.checked_add(length)?,
        };
        Some(LoopDevice {
            device: format!("/dev/{}", sys.file_name().map(text)?),
            backing_file: OsStr::from_bytes(backing).into(),
            bytes: start..end,
            sys: sys.to_owned(),
        })
    }
}

/// All loop devices that are set up.
pub fn loops() -> Vec<LoopDevice> {
    let entries = fs::read_dir("/sys/block").into_iter().flatten().flatten();
    let found = entries.filter_map(|entry| LoopDevice::at(&fs::canonicalize(entry.path()).ok()?));
    found.collect()
}

fn text(name: &OsStr) -> String {
    name.to_string_lossy().into_owned()
}

/// Of a block device.
fn rdev(path: &Path) -> Option<u64> {
    let found = stat(path).ok()?;
    let kind = SFlag::from_bits_truncate(found.st_mode) & SFlag::S_IFMT;
    (kind == SFlag::S_IFBLK).then_some(found.st_rdev)
}

fn number(path: &Path) -> Option<u64> {
    fs::read_to_string(path).ok()?.trim().parse().ok()
}

fn listed_rdev(sys: &Path) -> Option<u64> {
    device_number(fs::read_to_string(sys.join("dev")).ok()?.trim())
}

fn device_number(text: &str) -> Option<u64> {
    let (major, minor) = text.split_once(':')?;
    Some(nix::sys::stat::makedev(major.parse().ok()?, minor.parse().ok()?))
}

/// Device, source and place of one line of mountinfo (proc_pid_mountinfo(5)).
fn mount(line: &str) -> Option<(u64, &str, String)> {
    let (before, behind) = line.split_once(" - ")?;
    let mut fields = before.split(' ');
    let device = device_number(fields.nth(2)?)?;
    let place = fields.nth(1)?.replace("\\040", " ");
    Some((device, behind.split(' ').nth(1)?, place))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mount_is_read_with_its_device_source_and_place() {
        let line = "36 35 8:17 /sub /mnt/my\\040disk rw,noatime master:1 - ext4 /dev/sdb1 rw";
        let device = nix::sys::stat::makedev(8, 17);
        assert_eq!(mount(line), Some((device, "/dev/sdb1", "/mnt/my disk".to_string())));
        assert_eq!(mount("36 35 broken"), None);
    }

    #[test]
    fn a_partition_and_its_disk_overlap_and_two_disks_do_not() {
        let device = |sys: &str| BlockDevice { rdev: 1, sys: sys.into() };
        let disk = device("/sys/devices/virtual/block/loop1");
        assert!(disk.overlaps(&device("/sys/devices/virtual/block/loop1/loop1p2")));
        assert!(device("/sys/devices/virtual/block/loop1/loop1p2").overlaps(&disk));
        assert!(!disk.overlaps(&device("/sys/devices/virtual/block/loop11")));
    }

    #[test]
    fn only_blocks_that_ours_are_made_of_fit() {
        let dir = tempfile::tempdir().unwrap();
        let queue = dir.path().join("queue");
        fs::create_dir(&queue).unwrap();
        let device = BlockDevice { rdev: 1, sys: dir.path().to_owned() };
        for (size, unfit) in
            [("512", None), ("4096", None), ("16384", Some(16384)), ("520", Some(520))]
        {
            fs::write(queue.join("logical_block_size"), format!("{size}\n")).unwrap();
            assert_eq!(device.unfit_block_bytes(), unfit);
        }
    }

    #[test]
    fn a_file_is_no_block_device() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("file");
        fs::write(&file, "x").unwrap();
        assert!(BlockDevice::at(&file).is_none());
        assert!(BlockDevice::at(&dir.path().join("nothing")).is_none());
    }
}
