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
use nix::errno::Errno;
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
            refuse_link(&request.place)?;
            let replaced = match embedded_exists(dir)? {
                true => Some(claim_replaced(dir, request.force)?),
                false => None,
            };
            let unfinished = create(dir, request.size, replaced)?;
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

/// The link would be replaced and what it leads to left as it is: not what anybody means by it.
fn refuse_link(place: &Place) -> Result<(), Failure> {
    for DevicePath { path, .. } in place.devices() {
        if let Ok(target) = std::fs::read_link(&path) {
            let (path, target) = (path.display(), target.display());
            let text = format!(
                "{path} is a link to {target}: format that with --meta, or remove the link for a new pool here"
            );
            return Err(Failure::new(Errno::EEXIST, text));
        }
    }
    Ok(())
}

/// `DIR/pool`, which is not there yet.
pub fn make_embedded(dir: &Path, size: Option<u64>, shards: u16) -> Result<Claim, Failure> {
    let made = finish(create(dir, size, None)?, None, shards).map(|(claim, _)| claim);
    made.map_err(|failure| match failure.errno {
        Errno::ENOSPC if shards > SHARDS_MIN => failure.with_way_out(&format!(
            "the logs of {shards} shards are part of that; name a larger --size, or fewer --shards"
        )),
        _ => failure,
    })
}

fn create(dir: &Path, size: Option<u64>, replaced: Option<Claim>) -> Result<Unfinished, Failure> {
    Unfinished::create(dir, size, replaced).map_err(|failure| match (failure.errno, size) {
        (Errno::EFBIG, Some(size)) => failure.with_way_out(&format!(
            "{size} bytes are more than a file there may have; name a smaller --size"
        )),
        _ => failure,
    })
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
