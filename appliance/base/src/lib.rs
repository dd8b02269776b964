//! What every crate of cairn may use: units, hashes, buffers and the four doors.
//!
//! Nothing here knows what a file system is. The doors (`door/`) are the only way anything that is
//! not deterministic enters the program: disk, clock, network link, entropy. The daemon and the
//! simulator are their two implementors.

pub mod door;
pub mod hash;
pub mod prng;
pub mod units;

#[expect(unsafe_code, reason = "maps and hands out memory that devices write to")]
pub mod dma_buf;
#[expect(unsafe_code, reason = "io_uring submission entries carry raw pointers")]
pub mod ring;

pub use dma_buf::{Arena, DmaBuf, DmaSlice};
pub use units::{BLOCK_BYTES, BlockNo, DeviceId, Nanos, Run};
