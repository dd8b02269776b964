//! What a scrub has found to be damaged, and how it stands in an item.

use cairn_base::BlockNo;
use cairn_format::item::{
    CAUSE_MEDIA, Cause, DAMAGED_FILTER, DAMAGED_NODE, DAMAGED_ROOT, DAMAGED_SUPERBLOCK,
    DamagedBlockHead, DamagedDataItem,
};
use cairn_format::key::{Key, ParsedKey};
use cairn_format::{Damage, InodeNo, TabletId};
use zerocopy::IntoBytes;

use crate::error::FsError;
use cairn_base::door::MediaError;

const EIO: i32 = 5;
const ENODEV: i32 = 19;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum What {
    /// Blocks of a file.
    Data { ino: InodeNo, file_block: u64, blocks: u64 },
    /// Nothing of this tree can be read from one key to the other. 0 is the fs tree, 1 the oldest log tree.
    Node { tree: u8, from: Key, to: Key },
    /// Lookups in this log tree that it would have answered fail.
    Filter { tree: u8 },
    /// One of the two copies of the tablet's root.
    Root,
    /// One of the two copies of a device's superblock.
    Superblock,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Damaged {
    pub tablet: TabletId,
    /// The block, or the first of the run.
    pub block: BlockNo,
    pub what: What,
    pub cause: Cause,
    /// The pass that has found it last.
    pub pass: u64,
}

/// What an error of reading says is wrong; nothing where it says nothing about a block.
pub(super) fn cause_of(error: FsError) -> Option<Cause> {
    match error {
        FsError::Corrupt { damage, .. } => Some(damage.into()),
        FsError::Media { error, .. } => Some(media_cause(error)),
        _ => None,
    }
}

pub(super) fn media_cause(error: MediaError) -> Cause {
    let errno = match error {
        MediaError::Read(errno)
        | MediaError::Write(errno)
        | MediaError::Flush(errno)
        | MediaError::Discard(errno) => errno,
        MediaError::OutOfRange => EIO,
        MediaError::Gone => ENODEV,
    };
    Cause::new(CAUSE_MEDIA, u64::from(errno.unsigned_abs()))
}

impl Damaged {
    pub fn key(&self) -> Key {
        match self.what {
            What::Data { ino, file_block, .. } => Key::damaged_data(ino, file_block),
            _ => Key::damaged_block(self.block),
        }
    }

    pub(super) fn value(&self) -> Vec<u8> {
        let (what, tree, from, to) = match self.what {
            What::Data { blocks, .. } => {
                let item = DamagedDataItem {
                    pass: self.pass.into(),
                    start: self.block.raw().into(),
                    blocks: blocks.into(),
                    cause: self.cause,
                };
                return item.as_bytes().to_vec();
            }
            What::Node { tree, from, to } => (DAMAGED_NODE, tree, from, to),
            What::Filter { tree } => (DAMAGED_FILTER, tree, Key::MIN, Key::MIN),
            What::Root => (DAMAGED_ROOT, 0, Key::MIN, Key::MIN),
            What::Superblock => (DAMAGED_SUPERBLOCK, 0, Key::MIN, Key::MIN),
        };
        let head = DamagedBlockHead {
            pass: self.pass.into(),
            cause: self.cause,
            what,
            tree,
            from_len: from.as_bytes().len() as u8,
            reserved: [0; 5],
        };
        [head.as_bytes(), from.as_bytes(), to.as_bytes()].concat()
    }

    pub(super) fn parse(tablet: TabletId, key: &Key, value: &[u8]) -> Result<Damaged, Damage> {
        match key.parse() {
            Some(ParsedKey::DamagedData { inode, file_block }) => {
                let item = DamagedDataItem::parse(value)?;
                let what = What::Data { ino: inode, file_block, blocks: item.blocks.get() };
                let block = BlockNo::from_raw(item.start.get());
                Ok(Damaged { tablet, block, what, cause: item.cause, pass: item.pass.get() })
            }
            Some(ParsedKey::DamagedBlock(block)) => {
                let (head, from, to) = DamagedBlockHead::parse(value)?;
                let what = match head.what {
                    DAMAGED_SUPERBLOCK => What::Superblock,
                    DAMAGED_ROOT => What::Root,
                    DAMAGED_FILTER => What::Filter { tree: head.tree },
                    _ => What::Node { tree: head.tree, from, to },
                };
                Ok(Damaged { tablet, block, what, cause: head.cause, pass: head.pass.get() })
            }
            _ => Err(Damage::Value("damage key")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use cairn_base::DeviceId;

    #[test]
    fn what_was_found_comes_back_from_its_item() {
        let whats = [
            What::Data { ino: InodeNo::ROOT, file_block: 7, blocks: 3 },
            What::Node { tree: 2, from: Key::extent(InodeNo::ROOT, 1), to: Key::MAX },
            What::Node { tree: 0, from: Key::MIN, to: Key::MAX },
            What::Filter { tree: 1 },
            What::Root,
            What::Superblock,
        ];
        for what in whats {
            let block = BlockNo::new(DeviceId(1), 99);
            let cause = Cause::from(Damage::Misdirected { claims: 5 });
            let damaged = Damaged { tablet: TabletId(1), block, what, cause, pass: 17 };
            let again = Damaged::parse(TabletId(1), &damaged.key(), &damaged.value());
            assert_eq!(again, Ok(damaged));
        }
    }
}
