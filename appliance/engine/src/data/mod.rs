//! File data: what is buffered, where the rest lies, and how one becomes the other.
//!
//! A write lands in its file's overlay (`overlay.rs`, `buffered.rs`, `write.rs`) and is placed later: on the device,
//! or inside the log as inline extents (`write_back.rs`), which move to the device when their
//! memtable freezes (`spill.rs`). `map.rs` is the extent map, `replace.rs` maps new content over
//! old, `read.rs` puts overlay, cache and map
//! together and verifies every block that comes from a device, `readahead.rs` reads what is likely to be
//! asked for next, `truncate.rs` takes data away. `release.rs` leaves it to the archive, and `stage.rs` takes
//! it back.

mod arriving;
mod buffered;
mod cache;
mod cached_runs;
mod join;
mod map;
mod overlay;
mod place;
mod punch;
mod read;
mod readahead;
mod release;
mod replace;
mod restore;
mod spill;
mod stage;
mod truncate;
mod write;
mod write_back;

pub(crate) use arriving::Arriving;
pub(crate) use cache::DataCache;
pub use cache::runs_bytes as cached_runs_bytes;
pub(crate) use join::join;
pub(crate) use map::{MappedExtent, checksum_of, checksums, extents, mapped};
pub(crate) use overlay::{Dirty, Overlays};
pub(crate) use readahead::Streams;
pub(crate) use release::regular_file;
pub use restore::Restored;
pub(crate) use stage::Arrival;
pub(crate) use truncate::{
    Progress, REMOVE_ITEM_BYTES, REMOVE_STEP_BYTES, remove_data_step, truncate_in,
};
pub(crate) use write::Incoming;

use cairn_base::BLOCK_BYTES;

/// Bytes of a block, as file offsets count.
const BLOCK: u64 = BLOCK_BYTES as u64;

/// The file blocks that a byte range touches.
pub(crate) fn blocks_of(offset: u64, len: u64) -> std::ops::Range<u64> {
    if len == 0 {
        return 0..0;
    }
    offset / BLOCK..offset.saturating_add(len).div_ceil(BLOCK)
}

#[cfg(test)]
mod tests;
