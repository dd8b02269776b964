//! The superblocks: which copy counts, and whether the others are what they should be.
//!
//! Device 0 decides. Another that has good copies, and none of this pool or of its own place in it, is the
//! wrong device, not a damaged one: there is nothing to check. On every device the newest copy must be of the newest generation, or of the one
//! before when power failed between two devices, and the copy in the other slot must be readable: it
//! is what an interrupted update falls back to.
//!
//! One unreadable copy is no finding: one that an interrupted update left, some sectors of the new
//! generation and some of the one that stood there before. It is known by contradicting itself: what
//! never changes is right, but header and log table are of different epochs. A copy that only fails
//! its checksum is damage, above all when it is the newest: falling back from it would lose an epoch.

use crate::CheckError;
use crate::media;
use crate::report::{Findings, Object};
use cairn_base::door::Disk;
use cairn_base::{BlockNo, DeviceId, DmaBuf, Run};
use cairn_format::superblock::{
    SUPERBLOCK_A, SUPERBLOCK_B, SUPERBLOCK_BLOCKS, Superblock, SuperblockError,
};
use zerocopy::{FromBytes, IntoBytes};

/// What a device writes as one.
const SECTOR_BYTES: usize = 512;

struct Copy {
    at: BlockNo,
    found: Result<Box<Superblock>, SuperblockError>,
    /// The bytes of a copy that cannot be used.
    bytes: Option<DmaBuf>,
    reason: String,
}

pub(crate) async fn load<K: Disk>(
    disk: &K,
    findings: &Findings,
) -> Result<Box<Superblock>, CheckError> {
    let mut copies = Vec::new();
    for device in media::devices(disk) {
        for slot in [SUPERBLOCK_A, SUPERBLOCK_B] {
            copies.push(read_copy(disk, BlockNo::new(device, slot)).await);
        }
    }
    let chosen = choose(&copies)?;
    let listed = usize::from(chosen.device_count);
    if listed > disk.device_count() {
        return Err(CheckError::DeviceMissing { listed, given: disk.device_count() });
    }
    if listed < disk.device_count() {
        return Err(CheckError::DeviceTooMany { listed, given: disk.device_count() });
    }
    for device in media::devices(disk) {
        let own = || copies.iter().filter(|copy| copy.at.device() == device);
        refuse_stranger(own(), device, &chosen)?;
        check_device(disk, device, &chosen, findings);
        check_copies(own(), &chosen, findings);
    }
    Ok(chosen)
}

async fn read_copy<K: Disk>(disk: &K, at: BlockNo) -> Copy {
    let bytes = match media::read(disk, Run::new(at, SUPERBLOCK_BLOCKS)).await {
        Ok(bytes) => bytes,
        Err(error) => {
            let found = Err(SuperblockError::NotAPool);
            return Copy { at, found, bytes: None, reason: error.to_string() };
        }
    };
    let found = match Superblock::parse(&bytes) {
        Ok(found) => Ok(Box::new(found.clone())),
        Err(error) => Err(error),
    };
    match found {
        Ok(found) => Copy { at, found: Ok(found), bytes: None, reason: String::new() },
        Err(error) => Copy { at, found: Err(error), reason: error.to_string(), bytes: Some(bytes) },
    }
}

/// The newest of device 0, else the newest of all. What no copy can tell decides the error.
fn choose(copies: &[Copy]) -> Result<Box<Superblock>, CheckError> {
    let newest = |first_only: bool| {
        let eligible = copies.iter().filter(|copy| !first_only || copy.at.device().0 == 0);
        let valid = eligible.filter_map(|copy| copy.found.as_ref().ok().map(|found| (copy, found)));
        valid.max_by_key(|(_, found)| found.generation.get())
    };
    if let Some((copy, found)) = newest(true).or_else(|| newest(false)) {
        let device = copy.at.device().0;
        if found.device_index != device {
            return Err(CheckError::WrongDevice { device, claims: found.device_index });
        }
        return Ok(found.clone());
    }
    let errors = || copies.iter().filter_map(|copy| copy.found.as_ref().err());
    let rank = |error: &&SuperblockError| match error {
        SuperblockError::Version { .. } | SuperblockError::IncompatFeatures { .. } => 2,
        SuperblockError::Damage(_) => 1,
        SuperblockError::NotAPool => 0,
    };
    let told = errors().max_by_key(rank).copied().unwrap_or(SuperblockError::NotAPool);
    Err(CheckError::Superblock(told))
}

/// A device whose good copies are all somebody else's.
fn refuse_stranger<'c>(
    copies: impl Iterator<Item = &'c Copy>,
    device: DeviceId,
    chosen: &Superblock,
) -> Result<(), CheckError> {
    let mut wrong = None;
    for found in copies.filter_map(|copy| copy.found.as_ref().ok()) {
        let claims = found.device_index;
        let error = match found.fsid == chosen.fsid {
            true if claims == device.0 => return Ok(()),
            true => CheckError::WrongDevice { device: device.0, claims },
            false => CheckError::OtherPool { device: device.0 },
        };
        wrong = Some(error);
    }
    wrong.map_or(Ok(()), Err)
}

fn check_device<K: Disk>(disk: &K, device: DeviceId, chosen: &Superblock, findings: &Findings) {
    let listed = chosen.devices[usize::from(device.0)].blocks.get();
    let there = disk.device_blocks(device);
    if there < listed {
        let detail = format!("has {there} blocks, the superblock lists {listed}");
        findings.note("device", Object::Device(device.0), detail);
    }
}

fn check_copies<'c>(
    copies: impl Iterator<Item = &'c Copy>,
    chosen: &Superblock,
    findings: &Findings,
) {
    let generation = chosen.generation.get();
    let mut newest = None;
    let mut device = DeviceId(0);
    for copy in copies {
        device = copy.at.device();
        let object = || Object::Superblock(copy.at);
        let found = match &copy.found {
            Ok(found) => found,
            Err(error) => {
                // Format writes one slot.
                let never_written = *error == SuperblockError::NotAPool && generation < 2;
                let interrupted =
                    copy.bytes.as_ref().is_some_and(|bytes| is_interrupted(bytes, chosen));
                if !never_written && !interrupted {
                    findings.note("superblock", object(), &copy.reason);
                }
                continue;
            }
        };
        newest = newest.max(Some(found.generation.get()));
        if found.fsid != chosen.fsid {
            findings.note("superblock", object(), "belongs to another pool");
        } else if found.device_index != device.0 {
            let detail = format!("was written for device {}", found.device_index);
            findings.note("superblock", object(), detail);
        } else if Superblock::slot(found.generation.get()) != copy.at.index() {
            findings.note("superblock", object(), "lies in the other generation's slot");
        } else if found.generation == chosen.generation && !same_pool(found, chosen) {
            findings.note("superblock", object(), "differs from its copy on another device");
        } else if !same_for_ever(found, chosen) {
            findings.note("superblock", object(), "differs from the newest in what never changes");
        } else if found.generation.get() > generation + 1 {
            // Device 0 is written last: power may have failed before.
            findings.note("superblock", object(), "is newer than what device 0 has");
        }
    }
    if newest.is_none_or(|newest| newest + 1 < generation) {
        let detail = format!("has no superblock of generation {generation} or one before");
        findings.note("superblock", Object::Device(device.0), detail);
    }
}

/// Keys and layout are as format made them. Devices grow, and their table says so.
fn same_for_ever(a: &Superblock, b: &Superblock) -> bool {
    let mut devices = a.device_table().iter().zip(b.device_table());
    a.created == b.created
        && a.tablets == b.tablets
        && a.name_key == b.name_key
        && a.handle_key == b.handle_key
        && a.device_count == b.device_count
        && devices.all(|(a, b)| (a.uuid, a.role, a.zone_blocks) == (b.uuid, b.role, b.zone_blocks))
}

/// Is this what an update leaves that power interrupted?
fn is_interrupted(bytes: &[u8], chosen: &Superblock) -> bool {
    let Ok((copy, _)) = Superblock::ref_from_prefix(bytes) else { return false };
    if chosen.generation.get() < 2 {
        // Nothing stood there before: what did not arrive is zeros.
        let sectors = chosen.as_bytes().chunks_exact(SECTOR_BYTES);
        let is_zero = |sector: &[u8]| sector.iter().all(|byte| *byte == 0);
        return sectors
            .zip(bytes.chunks_exact(SECTOR_BYTES))
            .any(|(wanted, found)| !is_zero(wanted) && is_zero(found));
    }
    let never_changes = copy.magic == chosen.magic
        && copy.version == chosen.version
        && copy.features == chosen.features
        && copy.fsid == chosen.fsid
        && copy.created == chosen.created
        && copy.tablets == chosen.tablets
        && copy.device_count == chosen.device_count
        && copy.name_key == chosen.name_key
        && copy.handle_key == chosen.handle_key
        && copy.devices == chosen.devices
        && copy.reserved == chosen.reserved
        && copy.reserved_tail == chosen.reserved_tail;
    let (generation, epoch) = (copy.generation.get(), copy.epoch.get());
    // One generation an epoch: every open makes one of each.
    let in_step =
        generation.wrapping_sub(chosen.generation.get()) == epoch.wrapping_sub(chosen.epoch.get());
    let is_near = generation.abs_diff(chosen.generation.get()) <= 2;
    let newest_log = copy.logs.iter().map(|log| log.epoch.get()).max().unwrap_or(0);
    let logs_near = newest_log.abs_diff(chosen.epoch.get()) <= 2;
    never_changes && in_step && is_near && logs_near && newest_log != epoch
}

/// Copies of one generation differ in the device and hence in the checksum.
fn same_pool(a: &Superblock, b: &Superblock) -> bool {
    let mut a = Box::new(a.clone());
    a.device_index = b.device_index;
    a.crc = b.crc;
    *a == *b
}
