//! The bytes on the disk, and nothing else: no I/O, no policy, no unsafe.
//!
//! Every structure is `repr(C)` over explicit little-endian fields with its size asserted beside
//! it; one `parse` per block kind checks everything that later code relies on. Keys are the one
//! exception: they are big-endian, because their bytes are compared as they stand. `docs/format.md`
//! is generated from these files.

#![forbid(unsafe_code)]

pub mod damage;
pub mod filter;
pub mod ids;
pub mod item;
pub mod key;
pub mod node;
pub mod record;
mod seal;
pub mod superblock;
pub mod tablet_root;
pub mod version;
pub mod xattr_name;

pub use damage::Damage;
pub use ids::{
    EntryPosition, Epoch, InodeNo, LogPosition, NodeId, OpId, RootGeneration, Seq, ShardId,
    TabletId,
};
pub use key::Key;
