//! What stands on a device before `format` writes to it.
//!
//! The list is of what an operator may lose by a wrong device name: file systems, partition tables,
//! volume managers, and pools of ours. All of them put a magic number at a fixed place in the first
//! mebibyte, but for a few that stand at the end. What is of no kind on the list is refused as well
//! where the ends of the device, or samples from between, hold anything but zeroes: better that the owner of a disk
//! with leftovers has to insist than that somebody loses the only copy of something.

use cairn_base::BLOCK_BYTES;
use cairn_format::superblock::{SUPERBLOCK_A, SUPERBLOCK_B, Superblock, SuperblockError};
use std::fmt;

/// How much of a device `find` needs to see; less when the device is smaller.
pub const FRONT_BYTES: usize = 1 << 20;

/// How much of a device's end `find_behind` needs to see; less when the device is smaller.
pub const BACK_BYTES: usize = 128 << 10;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signature {
    /// A pool, in whatever state and version.
    /// With the pool's id, where it can be read.
    Pool(Option<[u8; 16]>),
    Foreign(&'static str),
}

impl fmt::Display for Signature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Signature::Pool(None) => f.write_str("a device of a pool"),
            Signature::Pool(Some(fsid)) => {
                f.write_str("a device of the pool ")?;
                fsid.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
            }
            Signature::Foreign(what) => f.write_str(what),
        }
    }
}

/// (what it is, where its magic stands, the magic).
const FOREIGN: &[(&str, usize, &[u8])] = &[
    ("a GPT partition table", 512, b"EFI PART"),
    ("a GPT partition table", 4096, b"EFI PART"),
    ("an ext2, ext3 or ext4 file system", 0x438, b"\x53\xef"),
    ("an XFS file system", 0, b"XFSB"),
    ("a btrfs file system", 0x1_0040, b"_BHRfS_M"),
    ("an f2fs file system", 0x400, b"\x10\x20\xf5\xf2"),
    ("an NTFS file system", 3, b"NTFS    "),
    ("an exFAT file system", 3, b"EXFAT   "),
    ("a FAT file system", 54, b"FAT"),
    ("a FAT file system", 82, b"FAT32   "),
    ("a squashfs file system", 0, b"hsqs"),
    ("an EROFS file system", 1024, b"\xe2\xe1\xf5\xe0"),
    ("an ISO 9660 file system", 0x8001, b"CD001"),
    ("a GFS2 file system", 0x1_0000, b"\x01\x16\x19\x70"),
    ("a scoutfs file system", 0x1_0004, b"\x8b\x42\x3c\x10"),
    ("an LVM physical volume", 0, b"LABELONE"),
    ("an LVM physical volume", 512, b"LABELONE"),
    ("an LVM physical volume", 1024, b"LABELONE"),
    ("an LVM physical volume", 1536, b"LABELONE"),
    ("a LUKS container", 0, b"LUKS\xba\xbe"),
    ("a member of an md array", 0, b"\xfc\x4e\x2b\xa9"),
    ("a member of an md array", 4096, b"\xfc\x4e\x2b\xa9"),
    ("a bcache device", 0x1018, b"\xc6\x85\x73\xf6\x4e\x1a\x45\xca"),
    ("swap space", 4086, b"SWAPSPACE2"),
    // Last: a boot sector may stand in front of several of those above.
    ("a DOS partition table or boot sector", 510, b"\x55\xaa"),
];

/// ZFS keeps a ring of 128 KiB of uberblocks here, each at a multiple of 1 KiB.
const ZFS_RING: std::ops::Range<usize> = 128 << 10..256 << 10;
const ZFS_MAGIC: [u8; 8] = 0x00ba_b10c_u64.to_le_bytes();

/// How many blocks between the ends are looked at; what takes up a part of the device as large as the distance
/// between them is met.
const SAMPLES: u64 = 1024;

/// Blocks to look at on a device of so many bytes, by where they begin: evenly spread.
pub fn samples(length: u64) -> impl Iterator<Item = u64> {
    let blocks = length / BLOCK_BYTES as u64;
    let step = (blocks / SAMPLES).max(1);
    (0..blocks)
        .step_by(usize::try_from(step).unwrap_or(usize::MAX))
        .map(|at| at * BLOCK_BYTES as u64)
}

/// The first byte that is not zero.
pub fn find_data(bytes: &[u8]) -> Option<usize> {
    bytes.iter().position(|byte| *byte != 0)
}

/// The first thing that `front`, the beginning of a device, looks like.
pub fn find(front: &[u8]) -> Option<Signature> {
    for slot in [SUPERBLOCK_A, SUPERBLOCK_B] {
        let copy = front.get(slot as usize * BLOCK_BYTES..).unwrap_or_default();
        match Superblock::parse(copy) {
            Err(SuperblockError::NotAPool) => {}
            Ok(found) => return Some(Signature::Pool(Some(found.fsid))),
            Err(
                SuperblockError::Damage(_)
                | SuperblockError::Version { .. }
                | SuperblockError::IncompatFeatures { .. },
            ) => return Some(Signature::Pool(None)),
        }
    }
    let stands = |at: usize, magic: &[u8]| front.get(at..at + magic.len()) == Some(magic);
    for (name, at, magic) in FOREIGN {
        if stands(*at, magic) {
            return Some(Signature::Foreign(name));
        }
    }
    let zfs = ZFS_RING.step_by(1024).any(|at| stands(at, &ZFS_MAGIC));
    zfs.then_some(Signature::Foreign("a member of a ZFS pool"))
}

/// The same of `back`, the end of a device of `length` bytes.
pub fn find_behind(back: &[u8], length: u64) -> Option<Signature> {
    let stands = |at: Option<u64>, magic: &[u8]| {
        let first = length - back.len() as u64;
        let from = at.and_then(|at| at.checked_sub(first)).and_then(|at| usize::try_from(at).ok());
        from.and_then(|from| back.get(from..)).is_some_and(|rest| rest.starts_with(magic))
    };
    // The backup header is in the last sector, of whichever size.
    if [512, 4096].iter().any(|sector| stands(length.checked_sub(*sector), b"EFI PART")) {
        return Some(Signature::Foreign("the backup of a GPT partition table"));
    }
    // md(4), version 1.0: 8 KiB before the end or a little more; 0.90: in the last whole 64 KiB.
    let newer = length.checked_sub(8192).map(|at| at / 4096 * 4096);
    let older = (length / 65_536 * 65_536).checked_sub(65_536);
    if stands(newer, b"\xfc\x4e\x2b\xa9") || stands(older, b"\xfc\x4e\x2b\xa9") {
        return Some(Signature::Foreign("a member of an md array"));
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_known_magic_is_found_at_its_place_and_nowhere_else() {
        for (name, at, magic) in FOREIGN {
            let mut front = vec![0; FRONT_BYTES];
            front[*at..at + magic.len()].copy_from_slice(magic);
            assert_eq!(find(&front), Some(Signature::Foreign(name)));
            let mut shifted = vec![0; FRONT_BYTES];
            shifted[300_001..300_001 + magic.len()].copy_from_slice(magic);
            assert_eq!(find(&shifted), None, "{name}");
        }
    }

    #[test]
    fn an_empty_or_tiny_device_has_no_signature() {
        assert_eq!(find(&vec![0; FRONT_BYTES]), None);
        assert_eq!(find(&[]), None);
        assert_eq!(find(&[7; 100]), None);
    }

    #[test]
    fn a_zfs_uberblock_is_found_in_its_ring() {
        let mut front = vec![0; FRONT_BYTES];
        front[ZFS_RING.start + 5 * 1024..][..8].copy_from_slice(&ZFS_MAGIC);
        assert_eq!(find(&front), Some(Signature::Foreign("a member of a ZFS pool")));
    }
}
