//! Item keys: one ordered key space per tablet, compared as bytes.
//!
//! A key is a range byte and then fixed-width big-endian fields, so that byte order is the order we
//! walk in. Everything of one inode is together and starts with the inode itself, so that a stat
//! and the first extents of a small file are one leaf. Indexes, orphans and free runs have ranges
//! of their own because they are walked across inodes.
//!
//! A key never exceeds `KEY_BYTES_MAX`; names enter keys only as 128-bit keyed hashes (equal hash
//! means equal name), so no key depends on the length of a name.

use crate::ids::{EntryPosition, Epoch, InodeNo, NodeId, OpId, Seq, ShardId};
use cairn_base::BlockNo;
use std::fmt;

pub const KEY_BYTES_MAX: usize = 31;

/// Items that belong to one inode: inode, then kind, then what the kind orders by.
pub const RANGE_INODE: u8 = 0x10;
/// (meta_seq, inode)
pub const RANGE_META_SEQ: u8 = 0x20;
/// (data_seq, inode)
pub const RANGE_DATA_SEQ: u8 = 0x21;
/// (seq, inode) of deleted inodes
pub const RANGE_DELETION: u8 = 0x22;
/// srch tag: (hash of the xattr name, inode)
pub const RANGE_SRCH: u8 = 0x23;
/// totl tag: the three numbers of its name; an absolute sum over this tablet
pub const RANGE_TOTL: u8 = 0x24;
/// indx tag: (major, minor, inode)
pub const RANGE_INDX: u8 = 0x25;
/// quota rules, by their hash
pub const RANGE_QUOTA: u8 = 0x26;
/// per-project usage: project id
pub const RANGE_PROJECT: u8 = 0x27;
/// inodes without a name that still have items
pub const RANGE_ORPHAN: u8 = 0x30;
/// free runs of the tablet's zones: purpose, first block
pub const RANGE_FREE_RUN: u8 = 0x31;
/// committed operations over tablets whose participants have not all applied: operation id
pub const RANGE_PENDING: u8 = 0x32;
/// operations over tablets that were applied here: operation id
pub const RANGE_DONE: u8 = 0x33;
/// named consumers of the change stream, by hash of their name
pub const RANGE_CONSUMER: u8 = 0x34;
/// reserved: stable client records
pub const RANGE_CLIENT: u8 = 0x35;
/// the scrub that was ordered; tablet 1 only
pub const RANGE_SCRUB: u8 = 0x36;
/// how far it has come in this tablet
pub const RANGE_SCRUB_PLACE: u8 = 0x37;
/// damaged data: inode, first file block
pub const RANGE_DAMAGED_DATA: u8 = 0x38;
/// other damaged blocks: block
pub const RANGE_DAMAGED_BLOCK: u8 = 0x39;
/// up to where the tablet's deletions were trimmed
pub const RANGE_TRIMMED: u8 = 0x3a;

/// Kinds within `RANGE_INODE`.
pub const KIND_INODE: u8 = 0x01;
pub const KIND_SYMLINK: u8 = 0x02;
/// (child, directory, entry position)
pub const KIND_BACK_REFERENCE: u8 = 0x03;
/// (inode, hash of the name, part)
pub const KIND_XATTR: u8 = 0x04;
/// (directory, hash of the name)
pub const KIND_LOOKUP: u8 = 0x05;
/// (directory, entry position)
pub const KIND_READDIR: u8 = 0x06;
/// (inode, first file block)
pub const KIND_EXTENT: u8 = 0x07;
/// (inode, file block / 64)
pub const KIND_CHECKSUMS: u8 = 0x08;
/// (inode, file MiB)
pub const KIND_FIXITY: u8 = 0x09;

/// What the blocks of a zone are for. Nodes are four aligned blocks and data is single blocks: kept
/// apart, neither can splinter the other's space.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Purpose {
    /// In no zone yet; only tablet 1 has such runs.
    Unassigned = 0,
    /// Tree nodes and filters.
    Node = 1,
    /// File data.
    Data = 2,
}

impl Purpose {
    pub fn parse(raw: u8) -> Option<Purpose> {
        match raw {
            0 => Some(Purpose::Unassigned),
            1 => Some(Purpose::Node),
            2 => Some(Purpose::Data),
            _ => None,
        }
    }
}

/// One item key, held inline.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Key {
    len: u8,
    bytes: [u8; KEY_BYTES_MAX],
}

impl Key {
    /// Sorts before every item.
    pub const MIN: Key = Key { len: 0, bytes: [0; KEY_BYTES_MAX] };
    /// Sorts behind every item.
    pub const MAX: Key = Key {
        len: 1,
        bytes: {
            let mut bytes = [0; KEY_BYTES_MAX];
            bytes[0] = 0xff;
            bytes
        },
    };

    /// `None` when the bytes are longer than any key.
    pub fn from_bytes(raw: &[u8]) -> Option<Key> {
        let mut key = Key { len: u8::try_from(raw.len()).ok()?, bytes: [0; KEY_BYTES_MAX] };
        key.bytes.get_mut(..raw.len())?.copy_from_slice(raw);
        Some(key)
    }

    /// A key whose front is shared with another's; `None` when the two are longer than any key.
    pub(crate) fn from_parts(shared: &[u8], suffix: &[u8]) -> Option<Key> {
        let mut key = Key::from_bytes(shared)?;
        let end = shared.len().checked_add(suffix.len())?;
        key.bytes.get_mut(shared.len()..end)?.copy_from_slice(suffix);
        key.len = end as u8;
        Some(key)
    }

    /// Eight bytes as a number of the same order.
    #[inline]
    fn word(&self, at: usize) -> u64 {
        let bytes = self.bytes[at..].first_chunk().expect("within a key");
        u64::from_be_bytes(*bytes)
    }

    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes[..usize::from(self.len)]
    }

    /// The smallest key that is larger than this one and than everything it prefixes; `MAX` where
    /// there is none.
    pub fn prefix_end(&self) -> Key {
        let mut key = *self;
        while key.len > 0 {
            let last = usize::from(key.len) - 1;
            if key.bytes[last] != 0xff {
                key.bytes[last] += 1;
                return key;
            }
            key.bytes[last] = 0;
            key.len -= 1;
        }
        Key::MAX
    }

    /// The smallest key that is larger than this one.
    pub fn successor(&self) -> Key {
        if usize::from(self.len) < KEY_BYTES_MAX {
            let mut key = *self;
            key.len += 1; // the byte behind the end is zero
            return key;
        }
        self.prefix_end()
    }

    fn push(mut self, field: &[u8]) -> Key {
        let start = usize::from(self.len);
        self.bytes[start..start + field.len()].copy_from_slice(field);
        self.len += field.len() as u8;
        self
    }

    const fn range(range: u8) -> Key {
        let mut bytes = [0; KEY_BYTES_MAX];
        bytes[0] = range;
        Key { len: 1, bytes }
    }

    /// Prefix of a whole range.
    pub const fn of_range(range: u8) -> Key {
        Key::range(range)
    }

    /// Prefix of everything that belongs to `inode`.
    pub fn of_inode(inode: InodeNo) -> Key {
        Key::range(RANGE_INODE).push(&inode.raw().to_be_bytes())
    }

    /// Prefix of one kind of `inode`'s items.
    pub fn of_kind(inode: InodeNo, kind: u8) -> Key {
        Key::of_inode(inode).push(&[kind])
    }

    pub fn inode(inode: InodeNo) -> Key {
        Key::of_kind(inode, KIND_INODE)
    }

    pub fn symlink(inode: InodeNo) -> Key {
        Key::of_kind(inode, KIND_SYMLINK)
    }

    pub fn back_reference(child: InodeNo, dir: InodeNo, position: EntryPosition) -> Key {
        Key::of_kind(child, KIND_BACK_REFERENCE)
            .push(&dir.raw().to_be_bytes())
            .push(&position.0.to_be_bytes())
    }

    pub fn xattr(inode: InodeNo, name_hash: u128, part: u16) -> Key {
        Key::of_kind(inode, KIND_XATTR).push(&name_hash.to_be_bytes()).push(&part.to_be_bytes())
    }

    pub fn lookup(dir: InodeNo, name_hash: u128) -> Key {
        Key::of_kind(dir, KIND_LOOKUP).push(&name_hash.to_be_bytes())
    }

    pub fn readdir(dir: InodeNo, position: EntryPosition) -> Key {
        Key::of_kind(dir, KIND_READDIR).push(&position.0.to_be_bytes())
    }

    pub fn extent(inode: InodeNo, file_block: u64) -> Key {
        Key::of_kind(inode, KIND_EXTENT).push(&file_block.to_be_bytes())
    }

    pub fn checksums(inode: InodeNo, group: u64) -> Key {
        Key::of_kind(inode, KIND_CHECKSUMS).push(&group.to_be_bytes())
    }

    pub fn fixity(inode: InodeNo, mib: u64) -> Key {
        Key::of_kind(inode, KIND_FIXITY).push(&mib.to_be_bytes())
    }

    pub fn meta_seq(seq: Seq, inode: InodeNo) -> Key {
        Key::seq_inode(RANGE_META_SEQ, seq, inode)
    }

    pub fn data_seq(seq: Seq, inode: InodeNo) -> Key {
        Key::seq_inode(RANGE_DATA_SEQ, seq, inode)
    }

    pub fn deletion(seq: Seq, inode: InodeNo) -> Key {
        Key::seq_inode(RANGE_DELETION, seq, inode)
    }

    pub fn srch(name_hash: u128, inode: InodeNo) -> Key {
        Key::range(RANGE_SRCH).push(&name_hash.to_be_bytes()).push(&inode.raw().to_be_bytes())
    }

    pub fn totl(name: [u64; 3]) -> Key {
        name.iter().fold(Key::range(RANGE_TOTL), |key, n| key.push(&n.to_be_bytes()))
    }

    pub fn indx(major: u8, minor: u64, inode: InodeNo) -> Key {
        Key::range(RANGE_INDX)
            .push(&[major])
            .push(&minor.to_be_bytes())
            .push(&inode.raw().to_be_bytes())
    }

    pub fn quota(rule_hash: u128) -> Key {
        Key::range(RANGE_QUOTA).push(&rule_hash.to_be_bytes())
    }

    pub fn project(project: u64) -> Key {
        Key::range(RANGE_PROJECT).push(&project.to_be_bytes())
    }

    pub fn orphan(inode: InodeNo) -> Key {
        Key::range(RANGE_ORPHAN).push(&inode.raw().to_be_bytes())
    }

    pub fn free_run(purpose: Purpose, start: BlockNo) -> Key {
        Key::of_purpose(purpose).push(&start.raw().to_be_bytes())
    }

    /// Prefix of all free runs of one purpose.
    pub fn of_purpose(purpose: Purpose) -> Key {
        Key::range(RANGE_FREE_RUN).push(&[purpose as u8])
    }

    pub fn pending(op: OpId) -> Key {
        Key::range(RANGE_PENDING).push_op(op)
    }

    pub fn done(op: OpId) -> Key {
        Key::range(RANGE_DONE).push_op(op)
    }

    pub fn consumer(name_hash: u128) -> Key {
        Key::range(RANGE_CONSUMER).push(&name_hash.to_be_bytes())
    }

    pub fn scrub() -> Key {
        Key::range(RANGE_SCRUB)
    }

    pub fn scrub_place() -> Key {
        Key::range(RANGE_SCRUB_PLACE)
    }

    pub fn damaged_data(inode: InodeNo, file_block: u64) -> Key {
        Key::range(RANGE_DAMAGED_DATA)
            .push(&inode.raw().to_be_bytes())
            .push(&file_block.to_be_bytes())
    }

    pub fn damaged_block(block: BlockNo) -> Key {
        Key::range(RANGE_DAMAGED_BLOCK).push(&block.raw().to_be_bytes())
    }

    pub fn trimmed() -> Key {
        Key::range(RANGE_TRIMMED)
    }

    /// Prefix of a seq index from `seq` on.
    pub fn seq_inode(range: u8, seq: Seq, inode: InodeNo) -> Key {
        Key::range(range).push(&seq.0.to_be_bytes()).push(&inode.raw().to_be_bytes())
    }

    /// A place in a seq index that need not name an inode (0 sorts before all of the seq's).
    pub fn seq_position(range: u8, seq: Seq, inode: u64) -> Key {
        Key::range(range).push(&seq.0.to_be_bytes()).push(&inode.to_be_bytes())
    }

    /// The seq of a place in one of the seq indexes.
    pub fn index_seq(&self) -> Option<Seq> {
        let (range, rest) = self.as_bytes().split_first()?;
        let is_index = matches!(*range, RANGE_META_SEQ | RANGE_DATA_SEQ | RANGE_DELETION);
        rest.first_chunk().filter(|_| is_index).map(|seq| Seq(u64::from_be_bytes(*seq)))
    }

    fn push_op(self, op: OpId) -> Key {
        self.push(&op.node.0.to_be_bytes())
            .push(&op.shard.0.to_be_bytes())
            .push(&op.epoch.0.to_be_bytes())
            .push(&op.counter.to_be_bytes())
    }

    /// The key taken apart again; `None` for bytes that are no key of ours.
    pub fn parse(&self) -> Option<ParsedKey> {
        let mut fields = Fields(self.as_bytes());
        let parsed = match fields.u8()? {
            RANGE_INODE => {
                let inode = fields.inode()?;
                match fields.u8()? {
                    KIND_INODE => ParsedKey::Inode(inode),
                    KIND_SYMLINK => ParsedKey::Symlink(inode),
                    KIND_BACK_REFERENCE => ParsedKey::BackReference {
                        child: inode,
                        dir: fields.inode()?,
                        position: EntryPosition(fields.u64()?),
                    },
                    KIND_XATTR => {
                        ParsedKey::Xattr { inode, name_hash: fields.u128()?, part: fields.u16()? }
                    }
                    KIND_LOOKUP => ParsedKey::Lookup { dir: inode, name_hash: fields.u128()? },
                    KIND_READDIR => {
                        ParsedKey::Readdir { dir: inode, position: EntryPosition(fields.u64()?) }
                    }
                    KIND_EXTENT => ParsedKey::Extent { inode, file_block: fields.u64()? },
                    KIND_CHECKSUMS => ParsedKey::Checksums { inode, group: fields.u64()? },
                    KIND_FIXITY => ParsedKey::Fixity { inode, mib: fields.u64()? },
                    _ => return None,
                }
            }
            RANGE_META_SEQ => ParsedKey::MetaSeq(Seq(fields.u64()?), fields.inode()?),
            RANGE_DATA_SEQ => ParsedKey::DataSeq(Seq(fields.u64()?), fields.inode()?),
            RANGE_DELETION => ParsedKey::Deletion(Seq(fields.u64()?), fields.inode()?),
            RANGE_SRCH => ParsedKey::Srch { name_hash: fields.u128()?, inode: fields.inode()? },
            RANGE_TOTL => ParsedKey::Totl([fields.u64()?, fields.u64()?, fields.u64()?]),
            RANGE_INDX => ParsedKey::Indx {
                major: fields.u8()?,
                minor: fields.u64()?,
                inode: fields.inode()?,
            },
            RANGE_QUOTA => ParsedKey::Quota { rule_hash: fields.u128()? },
            RANGE_PROJECT => ParsedKey::Project(fields.u64()?),
            RANGE_ORPHAN => ParsedKey::Orphan(fields.inode()?),
            RANGE_FREE_RUN => {
                ParsedKey::FreeRun(Purpose::parse(fields.u8()?)?, BlockNo::from_raw(fields.u64()?))
            }
            RANGE_PENDING => ParsedKey::Pending(fields.op()?),
            RANGE_DONE => ParsedKey::Done(fields.op()?),
            RANGE_CONSUMER => ParsedKey::Consumer { name_hash: fields.u128()? },
            RANGE_SCRUB => ParsedKey::Scrub,
            RANGE_SCRUB_PLACE => ParsedKey::ScrubPlace,
            RANGE_DAMAGED_DATA => {
                ParsedKey::DamagedData { inode: fields.inode()?, file_block: fields.u64()? }
            }
            RANGE_DAMAGED_BLOCK => ParsedKey::DamagedBlock(BlockNo::from_raw(fields.u64()?)),
            RANGE_TRIMMED => ParsedKey::Trimmed,
            _ => return None,
        };
        fields.0.is_empty().then_some(parsed)
    }
}

/// A key's fields, for checking and printing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ParsedKey {
    Inode(InodeNo),
    Symlink(InodeNo),
    BackReference { child: InodeNo, dir: InodeNo, position: EntryPosition },
    Xattr { inode: InodeNo, name_hash: u128, part: u16 },
    Lookup { dir: InodeNo, name_hash: u128 },
    Readdir { dir: InodeNo, position: EntryPosition },
    Extent { inode: InodeNo, file_block: u64 },
    Checksums { inode: InodeNo, group: u64 },
    Fixity { inode: InodeNo, mib: u64 },
    MetaSeq(Seq, InodeNo),
    DataSeq(Seq, InodeNo),
    Deletion(Seq, InodeNo),
    Srch { name_hash: u128, inode: InodeNo },
    Totl([u64; 3]),
    Indx { major: u8, minor: u64, inode: InodeNo },
    Quota { rule_hash: u128 },
    Project(u64),
    Orphan(InodeNo),
    FreeRun(Purpose, BlockNo),
    Pending(OpId),
    Done(OpId),
    Consumer { name_hash: u128 },
    Scrub,
    ScrubPlace,
    DamagedData { inode: InodeNo, file_block: u64 },
    DamagedBlock(BlockNo),
    Trimmed,
}

struct Fields<'a>(&'a [u8]);

impl Fields<'_> {
    fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (head, rest) = self.0.split_first_chunk::<N>()?;
        self.0 = rest;
        Some(*head)
    }

    fn u8(&mut self) -> Option<u8> {
        self.take::<1>().map(|b| b[0])
    }

    fn u16(&mut self) -> Option<u16> {
        self.take().map(u16::from_be_bytes)
    }

    fn u64(&mut self) -> Option<u64> {
        self.take().map(u64::from_be_bytes)
    }

    fn u128(&mut self) -> Option<u128> {
        self.take().map(u128::from_be_bytes)
    }

    fn inode(&mut self) -> Option<InodeNo> {
        InodeNo::from_raw(self.u64()?)
    }

    fn op(&mut self) -> Option<OpId> {
        Some(OpId {
            node: NodeId(self.u16()?),
            shard: ShardId(self.u16()?),
            epoch: Epoch(self.u64()?),
            counter: self.u64()?,
        })
    }
}

impl PartialOrd for Key {
    fn partial_cmp(&self, other: &Key) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Key {
    #[inline]
    fn cmp(&self, other: &Key) -> std::cmp::Ordering {
        // The first two words decide nearly always. The last two overlap by one byte.
        for at in [0, 8, 16, KEY_BYTES_MAX - 8] {
            let (word, of_other) = (self.word(at), other.word(at));
            if word != of_other {
                return word.cmp(&of_other);
            }
        }
        // Bytes behind the end are zero, so equal prefixes are decided by the length.
        self.len.cmp(&other.len)
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.parse() {
            Some(parsed) => fmt::Debug::fmt(&parsed, f),
            None => write!(f, "key {:02x?}", self.as_bytes()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn byte_order_is_field_order() {
        let (a, b) = (InodeNo::ROOT, InodeNo::from_raw(0x1_0000).expect("not zero"));
        assert!(Key::extent(a, 255) < Key::extent(a, 256));
        assert!(Key::extent(a, u64::MAX) < Key::inode(b));
        assert!(Key::inode(a) < Key::lookup(a, 0));
        assert!(Key::meta_seq(Seq(1), b) < Key::meta_seq(Seq(2), a));
    }

    #[test]
    fn keys_are_ordered_as_their_bytes_are_wherever_they_differ() {
        let key = |bytes: &[u8]| Key::from_bytes(bytes).expect("short enough");
        for at in 0..KEY_BYTES_MAX {
            let mut bytes = [7; KEY_BYTES_MAX];
            for (low, high) in [(0, 1), (1, 0x80), (0x7f, 0xff)] {
                bytes[at] = low;
                let lower = key(&bytes);
                bytes[at] = high;
                assert!(lower < key(&bytes) && key(&bytes) > lower, "at byte {at}");
            }
            // A prefix comes first, also where what follows is zero.
            bytes[at] = 0;
            assert!(key(&bytes[..at]) < key(&bytes[..=at]), "{at} bytes");
            assert_eq!(key(&bytes[..at]).cmp(&key(&bytes[..at])), std::cmp::Ordering::Equal);
        }
    }

    #[test]
    fn a_prefix_ends_behind_all_it_covers() {
        let prefix = Key::of_inode(InodeNo::from_raw(u64::MAX).expect("not zero"));
        let inside = Key::lookup(InodeNo::from_raw(u64::MAX).expect("not zero"), u128::MAX);
        assert!(inside < prefix.prefix_end());
        assert!(prefix.prefix_end() <= Key::of_range(RANGE_META_SEQ));
    }

    #[test]
    fn keys_come_apart_again() {
        let op = OpId { node: NodeId(1), shard: ShardId(2), epoch: Epoch(3), counter: 4 };
        assert_eq!(Key::pending(op).parse(), Some(ParsedKey::Pending(op)));
        let xattr = Key::xattr(InodeNo::ROOT, 7, 9);
        assert_eq!(
            xattr.parse(),
            Some(ParsedKey::Xattr { inode: InodeNo::ROOT, name_hash: 7, part: 9 })
        );
        assert!(xattr.as_bytes().len() <= KEY_BYTES_MAX);
        assert_eq!(Key::of_inode(InodeNo::ROOT).parse(), None);
    }
}
