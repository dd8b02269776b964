//! The superblock: which devices form the pool, where the write logs lie, and the pool's keys.
//!
//! Every device carries two copies, in slots `SUPERBLOCK_A` and `SUPERBLOCK_B`; a generation goes
//! to the slot of its lowest bit, so that the last good one is never overwritten. The copies of one
//! generation differ in `device_index` (and hence in the checksum) only. Reading takes the newest
//! valid copy; which of several devices' copies wins is `engine/src/open.rs`'s to say.
//!
//! It is written rarely: at format, when an owner opens the pool (a new epoch and its log areas)
//! and when devices change. Everything that changes with the load is in the write log and in the
//! tablet roots (`tablet_root.rs`), whose blocks follow on device 0 from `ROOTS_START`.
//!
//! A device that grows changes its entry and nothing else: of the first eight devices that is within
//! the sector that the header is in, so such an update cannot be torn.
//!
//! What always holds in a parsed superblock: it describes the device it is on, device 0 may hold
//! metadata, each log area lies on a listed device that may hold metadata, behind the fixed front
//! of that device, and apart from all other areas; what is not in use is zero.

use crate::damage::Damage;
use crate::ids::{RootGeneration, TABLETS_MAX, TabletId};
use crate::seal;
use crate::version::{FORMAT_VERSION, Features, SUPERBLOCK_MAGIC};
use cairn_base::hash::siphash64;
use cairn_base::{BLOCK_BYTES, BlockNo, DeviceId, Run};
use std::fmt;
use zerocopy::little_endian::{I64, U16, U32, U64};
use zerocopy::{FromBytes, FromZeros, Immutable, IntoBytes, KnownLayout, Unaligned};

pub const SUPERBLOCK_BYTES: usize = 65536;
pub const SUPERBLOCK_BLOCKS: u64 = (SUPERBLOCK_BYTES / BLOCK_BYTES) as u64;
/// Even generations, as a block of each device. The first 64 KiB stay free for partition tables
/// and boot sectors of others.
pub const SUPERBLOCK_A: u64 = 16;
/// Odd generations.
pub const SUPERBLOCK_B: u64 = SUPERBLOCK_A + SUPERBLOCK_BLOCKS;
/// The root blocks on device 0: two a tablet.
pub const ROOTS_START: u64 = 64;
pub const DEVICES_MAX: usize = 64;
pub const LOG_AREAS_MAX: usize = 1024;
pub const TABLETS_MIN: usize = 2;

/// What a device may hold.
pub const ROLE_MIXED: u8 = 1;
pub const ROLE_META: u8 = 2;
pub const ROLE_DATA: u8 = 3;

/// The device is in use.
pub const DEVICE_IN_SERVICE: u8 = 1;

/// Most blocks that a device grows by in one step.
pub const GROWING_MAX: u64 = (1 << 40) - 1;

pub const LOG_UNUSED: u8 = 0;
pub const LOG_IN_USE: u8 = 1;
/// Replayed at open, then given back.
pub const LOG_RETIRING: u8 = 2;

/// One device of the pool, by its place in the table.
#[derive(
    FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned, Clone, Copy, Debug, PartialEq, Eq,
)]
#[repr(C)]
pub struct DeviceEntry {
    pub uuid: [u8; 16],
    pub blocks: U64,
    /// Blocks of one zone of this device.
    pub zone_blocks: U64,
    pub generation: U64,
    pub role: u8,
    pub state: u8,
    pub mirror_group: u8,
    /// How many blocks at the device's end are being taken up, as 40 bits: until this is zero again
    /// they may be an unassigned run of tablet 1 or nobody's, and are used by nobody.
    pub growing: [u8; 5],
}

const _: () = assert!(size_of::<DeviceEntry>() == 48);

impl DeviceEntry {
    pub const EMPTY: DeviceEntry = DeviceEntry {
        uuid: [0; 16],
        blocks: U64::ZERO,
        zone_blocks: U64::ZERO,
        generation: U64::ZERO,
        role: 0,
        state: 0,
        mirror_group: 0,
        growing: [0; 5],
    };

    pub fn holds_meta(&self) -> bool {
        matches!(self.role, ROLE_MIXED | ROLE_META)
    }

    pub fn holds_data(&self) -> bool {
        matches!(self.role, ROLE_MIXED | ROLE_DATA)
    }

    pub fn growing_blocks(&self) -> u64 {
        let [a, b, c, d, e] = self.growing;
        u64::from_le_bytes([a, b, c, d, e, 0, 0, 0])
    }

    /// At most `GROWING_MAX`.
    pub fn set_growing_blocks(&mut self, blocks: u64) {
        assert!(blocks <= GROWING_MAX, "a device grows in steps that 40 bits can count");
        self.growing.copy_from_slice(&blocks.to_le_bytes()[..5]);
    }

    /// The part of the device that may be in use.
    pub fn usable_blocks(&self) -> u64 {
        self.blocks.get().saturating_sub(self.growing_blocks())
    }
}

/// The ring of one shard's write log.
#[derive(
    FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned, Clone, Copy, Debug, PartialEq, Eq,
)]
#[repr(C)]
pub struct LogArea {
    pub node: U16,
    pub shard: U16,
    pub state: u8,
    pub reserved: [u8; 3],
    /// The epoch whose batches count.
    pub epoch: U64,
    /// First block, pool-wide.
    pub start: U64,
    pub blocks: U64,
}

const _: () = assert!(size_of::<LogArea>() == 32);

impl LogArea {
    pub const EMPTY: LogArea = LogArea {
        node: U16::ZERO,
        shard: U16::ZERO,
        state: LOG_UNUSED,
        reserved: [0; 3],
        epoch: U64::ZERO,
        start: U64::ZERO,
        blocks: U64::ZERO,
    };

    pub fn run(&self) -> Run {
        Run::new(BlockNo::from_raw(self.start.get()), self.blocks.get())
    }
}

#[derive(FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned, Clone, PartialEq, Eq)]
#[repr(C)]
pub struct Superblock {
    pub magic: U64,
    /// CRC-32C of everything behind it.
    pub crc: U32,
    pub version: U32,
    pub features: Features,
    pub fsid: [u8; 16],
    pub generation: U64,
    /// The newest epoch that owns the pool.
    pub epoch: U64,
    /// Nanoseconds since 1970.
    pub created: I64,
    /// No seq above this was shown before the newest epoch's logs began.
    pub seq_ceiling: U64,
    pub tablets: U16,
    /// The device this copy is on.
    pub device_index: u8,
    pub device_count: u8,
    pub log_count: U16,
    pub reserved: [u8; 2],
    /// Key of the name hashes.
    pub name_key: [u8; 16],
    /// Key of the file handles' MAC.
    pub handle_key: [u8; 16],
    pub devices: [DeviceEntry; DEVICES_MAX],
    pub logs: [LogArea; LOG_AREAS_MAX],
    pub reserved_tail: [u8; SUPERBLOCK_BYTES - 128 - DEVICES_MAX * 48 - LOG_AREAS_MAX * 32],
}

const _: () = assert!(size_of::<Superblock>() == SUPERBLOCK_BYTES);
const _: () = assert!(std::mem::offset_of!(Superblock, devices) == 128);

/// What format writes as the pool's first epoch: the only one whose logs begin empty.
pub const EPOCH_OF_FORMAT: u64 = 1;

/// Why a copy cannot be used; the first two say "look at another copy", the others are final.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SuperblockError {
    /// Nothing of ours was ever here.
    NotAPool,
    Damage(Damage),
    /// Written by a release with another format.
    Version {
        found: u32,
    },
    /// It uses features that this release does not know.
    IncompatFeatures {
        bits: u64,
    },
}

impl fmt::Display for SuperblockError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            SuperblockError::NotAPool => write!(f, "not a device of a pool"),
            SuperblockError::Damage(damage) => write!(f, "damaged superblock: {damage}"),
            SuperblockError::Version { found } => {
                write!(f, "format version {found}, this release knows {FORMAT_VERSION}")
            }
            SuperblockError::IncompatFeatures { bits } => {
                write!(f, "unknown incompatible features {bits:#x}")
            }
        }
    }
}

impl std::error::Error for SuperblockError {}

impl Superblock {
    /// An empty one to fill in; it becomes valid with devices, tablets and `seal`.
    pub fn zeroed() -> Box<Superblock> {
        Superblock::new_box_zeroed().expect("64 KiB of memory")
    }

    /// Everything about a copy that does not need the device: the checksum, the version and the
    /// tables. `bytes` may be longer than a superblock.
    pub fn parse(bytes: &[u8]) -> Result<&Superblock, SuperblockError> {
        let bytes = bytes.get(..SUPERBLOCK_BYTES).ok_or(SuperblockError::NotAPool)?;
        match seal::check(bytes, SUPERBLOCK_MAGIC) {
            Ok(()) => {}
            Err(Damage::Magic { .. }) => return Err(SuperblockError::NotAPool),
            Err(damage) => return Err(SuperblockError::Damage(damage)),
        }
        let superblock = Superblock::ref_from_bytes(bytes)
            .map_err(|_| SuperblockError::Damage(Damage::Bounds("superblock")))?;
        if superblock.version.get() != FORMAT_VERSION {
            return Err(SuperblockError::Version { found: superblock.version.get() });
        }
        let bits = superblock.features.unknown_incompat();
        if bits != 0 {
            return Err(SuperblockError::IncompatFeatures { bits });
        }
        superblock.check().map_err(SuperblockError::Damage)?;
        Ok(superblock)
    }

    /// Fills in magic, version and checksum. A superblock that `parse` would refuse is a mistake of
    /// the caller's.
    pub fn seal(&mut self) {
        self.magic = SUPERBLOCK_MAGIC.into();
        self.version = FORMAT_VERSION.into();
        if let Err(damage) = self.check() {
            panic!("a superblock that could not be read back: {damage}");
        }
        seal::seal(self.as_mut_bytes());
    }

    /// Where a generation's copy lies on each device.
    pub const fn slot(generation: u64) -> u64 {
        if generation & 1 == 0 { SUPERBLOCK_A } else { SUPERBLOCK_B }
    }

    /// The devices that are listed.
    pub fn device_table(&self) -> &[DeviceEntry] {
        &self.devices[..usize::from(self.device_count).min(DEVICES_MAX)]
    }

    /// The log areas that are listed; some may be unused.
    pub fn log_table(&self) -> &[LogArea] {
        &self.logs[..usize::from(self.log_count.get()).min(LOG_AREAS_MAX)]
    }

    /// What every batch of the write logs carries.
    pub fn log_tag(&self) -> u64 {
        log_tag(&self.handle_key)
    }

    fn check(&self) -> Result<(), Damage> {
        if !(TABLETS_MIN..=TABLETS_MAX).contains(&usize::from(self.tablets.get())) {
            return Err(Damage::Value("superblock tablets"));
        }
        if self.reserved != [0; 2] || self.reserved_tail.iter().any(|byte| *byte != 0) {
            return Err(Damage::Value("superblock reserved"));
        }
        self.check_devices()?;
        self.check_logs()
    }

    fn check_devices(&self) -> Result<(), Damage> {
        let count = usize::from(self.device_count);
        if count > DEVICES_MAX || self.device_index >= self.device_count {
            return Err(Damage::Bounds("superblock device index"));
        }
        let (listed, rest) = self.devices.split_at(count);
        for (index, device) in listed.iter().enumerate() {
            if !matches!(device.role, ROLE_MIXED | ROLE_META | ROLE_DATA) {
                return Err(Damage::Value("device role"));
            }
            if device.state != DEVICE_IN_SERVICE {
                return Err(Damage::Value("device state"));
            }
            let front = front_blocks(index, self.tablets.get());
            if device.usable_blocks() < front || device.blocks.get() >> 56 != 0 {
                return Err(Damage::Bounds("device blocks"));
            }
            if device.zone_blocks.get() == 0 || device.zone_blocks.get() > device.usable_blocks() {
                return Err(Damage::Bounds("device zone blocks"));
            }
        }
        if !self.devices[0].holds_meta() {
            return Err(Damage::Value("device role"));
        }
        if rest.iter().any(|device| *device != DeviceEntry::EMPTY) {
            return Err(Damage::Value("unused device"));
        }
        Ok(())
    }

    fn check_logs(&self) -> Result<(), Damage> {
        let count = usize::from(self.log_count.get());
        if count > LOG_AREAS_MAX {
            return Err(Damage::Bounds("superblock log count"));
        }
        // Areas by their place, each with the block behind its end: neighbours may touch, not meet.
        let mut places = [(0, 0); LOG_AREAS_MAX];
        let mut used = 0;
        for (index, log) in self.logs.iter().enumerate() {
            if log.state == LOG_UNUSED || index >= count {
                if *log != LogArea::EMPTY {
                    return Err(Damage::Value("unused log area"));
                }
                continue;
            }
            places[used] = self.check_log(log)?;
            used += 1;
        }
        let places = &mut places[..used];
        places.sort_unstable();
        if places.windows(2).any(|pair| pair[1].0 < pair[0].1) {
            return Err(Damage::Bounds("log areas overlap"));
        }
        Ok(())
    }

    /// First block and the block behind the last, as raw numbers of the same device.
    fn check_log(&self, log: &LogArea) -> Result<(u64, u64), Damage> {
        if !matches!(log.state, LOG_IN_USE | LOG_RETIRING) || log.reserved != [0; 3] {
            return Err(Damage::Value("log area"));
        }
        let start = BlockNo::from_raw(log.start.get());
        let index = usize::from(start.device().0);
        let device = self.device_table().get(index).ok_or(Damage::Bounds("log area device"))?;
        if !device.holds_meta() {
            return Err(Damage::Value("log area device"));
        }
        let end = start.index().checked_add(log.blocks.get());
        let inside = end.is_some_and(|end| end <= device.blocks.get());
        let behind_front = start.index() >= front_blocks(index, self.tablets.get());
        if log.blocks.get() == 0 || !inside || !behind_front {
            return Err(Damage::Bounds("log area"));
        }
        Ok((log.start.get(), log.start.get() + log.blocks.get()))
    }
}

/// Keys stay out of what is printed.
impl fmt::Debug for Superblock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Superblock")
            .field("fsid", &self.fsid)
            .field("generation", &self.generation.get())
            .field("epoch", &self.epoch.get())
            .field("tablets", &self.tablets.get())
            .field("device_index", &self.device_index)
            .field("devices", &self.device_table())
            .field("logs", &self.log_table())
            .finish_non_exhaustive()
    }
}

/// What marks a batch of this pool's write logs. Clients' bytes stand in the logs too, and everything
/// else in a batch's header can be known or guessed from outside: no client ever sees this, so nobody
/// can write a file whose blocks would pass for batches when a pool is opened.
pub fn log_tag(handle_key: &[u8; 16]) -> u64 {
    siphash64(handle_key, b"write log batch")
}

/// Blocks at the front of a device that are never allocated: room for others, both superblocks,
/// and the root blocks on device 0.
pub const fn front_blocks(device: usize, tablets: u16) -> u64 {
    if device == 0 { ROOTS_START + 2 * tablets as u64 } else { SUPERBLOCK_B + SUPERBLOCK_BLOCKS }
}

/// Where the copy of a tablet's root lies: the slot of its generation's lowest bit.
pub fn root_block(tablet: TabletId, generation: RootGeneration) -> BlockNo {
    let slot = generation.0 & 1;
    BlockNo::new(DeviceId(0), ROOTS_START + 2 * u64::from(tablet.0) + slot)
}
