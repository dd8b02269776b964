//! Item values: what stands behind each kind of key. A value is a fixed head and at most 4 KiB.

mod archive;
mod change;
mod dirent;
mod extent;
mod inode;
mod orphan;
mod pending;
mod policy;
mod scrub;
mod space;
mod tag;
mod xattr;

pub use archive::{CONSUMER_NAME_BYTES_MAX, ConsumerHead, FIXITY_BLOCKS, FixityItem, TrimmedItem};
pub use change::{
    DELETION_XATTRS_BYTES_MAX, DELETION_XATTRS_CUT, DeletionHead, HiddenXattr, HiddenXattrHead,
    HiddenXattrs,
};
pub use dirent::{LookupItem, ReaddirHead};
pub use extent::{
    CHECKSUMS_PER_ITEM, Checksums, EXTENT_INLINE, EXTENT_OFFLINE, EXTENT_SHARED, EXTENT_UNWRITTEN,
    ExtentHead, FILE_BLOCKS_MAX,
};
pub use inode::{FileKind, INODE_RETENTION, INODE_SPREAD, INODE_TRUNCATING, InodeItem};
pub use orphan::OrphanHead;
pub use pending::{PartChange, Site};
pub use policy::{ProjectItem, QuotaRuleItem};
pub use scrub::{
    CAUSE_BOUNDS, CAUSE_CHECKSUM, CAUSE_DATA, CAUSE_HASH, CAUSE_MAGIC, CAUSE_MEDIA,
    CAUSE_MISDIRECTED, CAUSE_MISSING, CAUSE_NO_CHECKSUM, CAUSE_ORDER, CAUSE_STALE, CAUSE_VALUE,
    Cause, DAMAGED_FILTER, DAMAGED_NODE, DAMAGED_ROOT, DAMAGED_SUPERBLOCK, DamagedBlockHead,
    DamagedDataItem, SCRUB_IDLE, SCRUB_PAUSED, SCRUB_RUNNING, ScrubItem, ScrubPlaceHead,
};
pub use space::FreeRunItem;
pub use tag::{IndxItem, TotlItem};
pub use xattr::{XATTR_PART_BYTES, XattrHead};

use crate::damage::Damage;
use zerocopy::{FromBytes, Immutable, KnownLayout, Unaligned};

/// Most bytes behind an item's fixed head.
pub const VALUE_TAIL_BYTES_MAX: usize = 4096;
/// Most bytes of a value altogether: a tail and the largest fixed head that has one.
pub const VALUE_BYTES_MAX: usize = VALUE_TAIL_BYTES_MAX + 64;

/// Takes a fixed-size item out of its value; anything but the exact size is damage.
fn exact<'a, T>(value: &'a [u8], what: &'static str) -> Result<&'a T, Damage>
where
    T: FromBytes + KnownLayout + Immutable + Unaligned,
{
    T::ref_from_bytes(value).map_err(|_| Damage::Bounds(what))
}

/// Takes a fixed head off the front of a value; the tail follows.
fn head<'a, T>(value: &'a [u8], what: &'static str) -> Result<(&'a T, &'a [u8]), Damage>
where
    T: FromBytes + KnownLayout + Immutable + Unaligned,
{
    T::ref_from_prefix(value).map_err(|_| Damage::Bounds(what))
}
