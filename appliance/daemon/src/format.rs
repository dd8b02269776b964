//! Making a pool, by command or at the first use of an embedded one.
//!
//! Whatever is on a device is only written to after it was claimed and, unless the operator insists,
//! found to be nothing we know. The engine then makes everything durable before the superblock, so
//! that an interrupted format is no pool.

use crate::doors::SystemEntropy;
use crate::error::{Failure, format_failure, open_failure_on};
use crate::offline::Offline;
use crate::pin::Cores;
use crate::place::{Claim, DevicePath, Place, Unfinished, claim_replaced, embedded_exists};
use cairn_base::door::Disk;
use cairn_base::{BLOCK_BYTES, DeviceId};
use cairn_engine::format_pool::{FormatOptions, format_pool};
use cairn_engine::open::read_superblock;
use cairn_nvme::Mode;
use std::path::Path;

/// A pool has room for the logs of at least so many shards, so that a small machine's pool can move
/// to a larger one.
const SHARDS_MIN: u16 = 4;

/// Of one log area, however small the device.
const LOG_BLOCKS_MIN: u64 = (4 << 20) / BLOCK_BYTES as u64;

#[derive(Clone, Debug)]
pub struct FormatRequest {
    pub place: Place,
    /// Of an embedded pool; `None`: as `place.rs` chooses.
    pub size: Option<u64>,
    /// `None`: by size.
    pub tablets: Option<u16>,
    pub force: bool,
}

/// What became of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Formatted {
    pub fsid: [u8; 16],
    pub tablets: u16,
}

pub fn format(request: &FormatRequest) -> Result<Formatted, Failure> {
    match &request.place {
        Place::Dir(dir) => {
            let replaced = match embedded_exists(dir)? {
                true => Some(claim_replaced(dir, request.force)?),
                false => None,
            };
            let unfinished = Unfinished::create(dir, request.size, replaced)?;
            let (_claim, formatted) = finish(unfinished, request.tablets, SHARDS_MIN)?;
            Ok(formatted)
        }
        place @ Place::Devices { .. } => {
            let claim = Claim::take(place.devices(), Mode::ReadWrite)?;
            if !request.force {
                claim.refuse_signatures()?;
            }
            claim.wipe_signatures()?;
            make(&claim, claim.paths(), request.tablets, SHARDS_MIN)
        }
    }
}

/// `DIR/pool`, which is not there yet.
pub fn make_embedded(dir: &Path, size: Option<u64>, shards: u16) -> Result<Claim, Failure> {
    finish(Unfinished::create(dir, size, None)?, None, shards).map(|(claim, _)| claim)
}

fn finish(
    unfinished: Unfinished,
    tablets: Option<u16>,
    shards: u16,
) -> Result<(Claim, Formatted), Failure> {
    let formatted = make(unfinished.claim(), &unfinished.paths(), tablets, shards)?;
    Ok((unfinished.finish()?, formatted))
}

/// `paths` are for messages: the devices as the operator knows them.
fn make(
    claim: &Claim,
    paths: &[DevicePath],
    tablets: Option<u16>,
    shards: u16,
) -> Result<Formatted, Failure> {
    let offline = Offline::new(claim.devices())?;
    let disk = offline.disk();
    let blocks: u64 =
        (0..disk.device_count()).map(|index| disk.device_blocks(DeviceId(index as u8))).sum();
    let cores = Cores::allowed().map_or(SHARDS_MIN, |cores| cores.shards_default());
    let shards = shards.max(cores).max(SHARDS_MIN);
    let mut options = FormatOptions::for_size(blocks * BLOCK_BYTES as u64, shards);
    // The logs are for a pool of this size, but must leave room beside them on their device.
    let room = disk.device_blocks(DeviceId(0)) / (4 * u64::from(shards));
    options.log_blocks = options.log_blocks.min(room).max(LOG_BLOCKS_MIN);
    if let Some(tablets) = tablets {
        options.tablets = tablets;
    }
    offline
        .run(format_pool(&**disk, &options, &SystemEntropy, offline.clock()))
        .map_err(|error| format_failure(&error, paths))?;
    let superblock =
        offline.run(read_superblock(&**disk)).map_err(|error| open_failure_on(&error, paths))?;
    Ok(Formatted { fsid: superblock.fsid, tablets: superblock.tablets.get() })
}
