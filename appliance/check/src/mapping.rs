//! One file's blocks: extents, the checksums that go with them, and the sums of what was released.
//!
//! Each comes in file order, extents first and sums last. An extent stays inside an aligned file MiB, inside the
//! file's size, and begins where the one before has ended or later. Every block that is mapped and
//! written has a checksum and no other block has one; so has a block that was staged and waits offline for the
//! rest of its MiB. A sum is over offline blocks only, and over all that wait: one over others would never come
//! out, what waits without one would wait for ever. What is removed in steps loses its extents first: of an inode without a name, and
//! behind the size of one that is being truncated, checksums and sums may be left over.

use crate::report::{Findings, Object};
use crate::space::{Owner, Space};
use cairn_base::{BLOCK_BYTES, BlockNo, Run};
use cairn_format::InodeNo;
use cairn_format::item::{
    CHECKSUMS_PER_ITEM, Checksums, EXTENT_INLINE, EXTENT_OFFLINE, EXTENT_UNWRITTEN, ExtentHead,
    FixityItem, INODE_TRUNCATING, InodeItem,
};
use std::collections::VecDeque;
use std::ops::Range;

/// Blocks of an aligned file MiB.
const MIB_BLOCKS: u64 = (1 << 20) / BLOCK_BYTES as u64;

/// Blocks on a device that can be compared with their checksums.
pub(crate) struct DataRead {
    pub inode: InodeNo,
    pub file_block: u64,
    pub start: BlockNo,
    pub crcs: Vec<u32>,
}

/// A mapped and written part of the file whose checksums, one for each block, have not come yet.
struct Mapped {
    first: u64,
    blocks: u64,
    start: BlockNo,
}

/// Offline blocks: none of them has a run, or all do.
struct Offline {
    blocks: Range<u64>,
    staged: bool,
}

pub(crate) struct Mapping {
    inode: InodeNo,
    /// Behind the last extent.
    next_block: u64,
    pub online: u64,
    pub offline: u64,
    pub extents: u64,
    /// Behind the last byte that is not a hole; what is allocated and unwritten does not count.
    end_bytes: u64,
    waiting: VecDeque<Mapped>,
    /// Offline blocks whose sums have not come yet, neighbours together.
    unsummed: VecDeque<Offline>,
    /// From this block on the file's data is being removed.
    removed_from: Option<u64>,
    pub reads: Vec<DataRead>,
}

impl Mapping {
    pub fn of(inode: InodeNo) -> Mapping {
        Mapping {
            inode,
            next_block: 0,
            online: 0,
            offline: 0,
            extents: 0,
            end_bytes: 0,
            waiting: VecDeque::new(),
            unsummed: VecDeque::new(),
            removed_from: None,
            reads: Vec::new(),
        }
    }

    /// The inode, whose item comes first.
    pub fn begin(&mut self, item: &InodeItem) {
        self.removed_from = match item.nlink.get() {
            0 => Some(0),
            _ if item.flags & INODE_TRUNCATING != 0 => {
                Some(item.size.get().div_ceil(BLOCK_BYTES as u64))
            }
            _ => None,
        };
    }

    pub fn extent(&mut self, first: u64, head: &ExtentHead, space: &Space, findings: &Findings) {
        let object = || Object::FileBlock { inode: self.inode, file_block: first };
        self.extents += 1;
        let blocks = head.blocks();
        let Ok(end) = head.end_block(first) else {
            findings.note("extent", object(), "ends behind the largest file");
            return;
        };
        let overlaps = first < self.next_block;
        if overlaps {
            findings.note("extent", object(), "overlaps the extent before it");
        }
        if first / MIB_BLOCKS != (end - 1) / MIB_BLOCKS {
            findings.note("extent", object(), "crosses an aligned MiB of the file");
        }
        self.next_block = self.next_block.max(end);
        let unwritten = head.is(EXTENT_UNWRITTEN);
        if !unwritten {
            self.end_bytes = self.end_bytes.max(first * BLOCK_BYTES as u64 + head.length.get());
        }
        match (head.is(EXTENT_OFFLINE), unwritten) {
            (true, _) => self.offline += blocks,
            (false, false) => self.online += blocks,
            (false, true) => {}
        }
        if head.is(EXTENT_OFFLINE) && !overlaps {
            self.offline_extent(first..end, head.start.get() != 0);
        }
        if head.is(EXTENT_INLINE) || head.start.get() == 0 {
            return;
        }
        let start = BlockNo::from_raw(head.start.get());
        let run = Run::new(start, blocks);
        let inside = space.claim(run, Owner::Data(self.inode), findings);
        if inside && !unwritten && !overlaps {
            self.waiting.push_back(Mapped { first, blocks, start });
        }
    }

    /// The checksums of one group of blocks. With `read`, what they belong to is to be read.
    pub fn checksums(&mut self, group: u64, sums: &Checksums, read: bool, findings: &Findings) {
        let Some(from) = group.checked_mul(CHECKSUMS_PER_ITEM).filter(|from| *from <= 1 << 52)
        else {
            let object = Object::FileBlock { inode: self.inode, file_block: group };
            findings.note("checksum", object, "a group behind the largest file");
            return;
        };
        let to = from + CHECKSUMS_PER_ITEM;
        self.missing_before(from, findings);
        let (mut mapped, mut missing) = (0u64, 0u64);
        while let Some(front) = self.waiting.front_mut().filter(|front| front.first < to) {
            let blocks = front.blocks.min(to - front.first);
            let mut crcs = Vec::new();
            let flush = |crcs: &mut Vec<u32>, reads: &mut Vec<DataRead>, upto: u64| {
                let crcs = std::mem::take(crcs);
                if crcs.is_empty() || !read {
                    return;
                }
                let back = crcs.len() as u64;
                reads.push(DataRead {
                    inode: self.inode,
                    file_block: front.first + upto - back,
                    start: front.start.after(upto - back),
                    crcs,
                });
            };
            for n in 0..blocks {
                let slot = (front.first + n - from) as usize;
                mapped |= 1 << slot;
                match sums.get(slot) {
                    Some(crc) => crcs.push(crc),
                    None => {
                        missing |= 1 << slot;
                        flush(&mut crcs, &mut self.reads, n);
                    }
                }
            }
            flush(&mut crcs, &mut self.reads, blocks);
            front.first += blocks;
            front.start = front.start.after(blocks);
            front.blocks -= blocks;
            if front.blocks == 0 {
                self.waiting.pop_front();
            }
        }
        let note = |mask: u64, what: &str| {
            if mask != 0 {
                let file_block = from + u64::from(mask.trailing_zeros());
                let object = Object::FileBlock { inode: self.inode, file_block };
                let detail = format!("{what} ({} blocks of its group)", mask.count_ones());
                findings.note("checksum", object, detail);
            }
        };
        note(missing, "mapped data without a checksum");
        let kept = match self.removed_from {
            Some(block) if block <= from => 0,
            Some(block) if block < to => (1 << (block - from)) - 1,
            _ => u64::MAX,
        };
        note(sums.mask & !mapped & kept, "a checksum without mapped data");
    }

    fn offline_extent(&mut self, blocks: Range<u64>, staged: bool) {
        match self.unsummed.back_mut() {
            Some(last) if last.blocks.end == blocks.start && last.staged == staged => {
                last.blocks.end = blocks.end;
            }
            _ => self.unsummed.push_back(Offline { blocks, staged }),
        }
    }

    /// The sum of what was released in an aligned MiB of the file.
    pub fn fixity(&mut self, mib: u64, fixity: &FixityItem, findings: &Findings) {
        let Some(from) = mib.checked_mul(MIB_BLOCKS).filter(|from| *from <= 1 << 52) else {
            let object = Object::FileBlock { inode: self.inode, file_block: mib };
            findings.note("fixity", object, "a MiB behind the largest file");
            return;
        };
        self.unsummed_before(from, findings);
        let to = from + MIB_BLOCKS;
        let mut offline = [false; MIB_BLOCKS as usize];
        while let Some(front) = self.unsummed.front_mut().filter(|front| front.blocks.start < to) {
            let part = front.blocks.start..front.blocks.end.min(to);
            let lonely = |block: &u64| front.staged && !fixity.has(block - from);
            let alone = part.clone().filter(lonely).collect::<Vec<_>>();
            offline[(part.start - from) as usize..(part.end - from) as usize].fill(true);
            front.blocks.start = part.end;
            if front.blocks.is_empty() {
                self.unsummed.pop_front();
            }
            self.note_alone(&alone, findings);
        }
        let kept = |block: &u64| self.removed_from.is_none_or(|removed| from + block < removed);
        let is_online = |block: &u64| !offline[*block as usize];
        let online: Vec<u64> = fixity.blocks().filter(is_online).filter(kept).collect();
        if let Some(first) = online.first() {
            let object = Object::FileBlock { inode: self.inode, file_block: from + first };
            let detail =
                format!("a sum over {} blocks of its MiB that are not offline", online.len());
            findings.note("fixity", object, detail);
        }
    }

    fn unsummed_before(&mut self, block: u64, findings: &Findings) {
        while let Some(front) = self.unsummed.front_mut().filter(|front| front.blocks.start < block)
        {
            let part = front.blocks.start..front.blocks.end.min(block);
            let staged = front.staged;
            front.blocks.start = part.end;
            if front.blocks.is_empty() {
                self.unsummed.pop_front();
            }
            if staged {
                let alone = [part.start];
                self.note_alone(&alone, findings);
            }
        }
    }

    /// Blocks that were staged and are in no sum.
    fn note_alone(&self, blocks: &[u64], findings: &Findings) {
        let first = blocks
            .first()
            .filter(|first| self.removed_from.is_none_or(|removed| **first < removed));
        if let Some(first) = first {
            let object = Object::FileBlock { inode: self.inode, file_block: *first };
            findings.note("fixity", object, "staged data waits for a sum that is not there");
        }
    }

    fn missing_before(&mut self, block: u64, findings: &Findings) {
        while let Some(front) = self.waiting.front_mut().filter(|front| front.first < block) {
            let blocks = front.blocks.min(block - front.first);
            let object = Object::FileBlock { inode: self.inode, file_block: front.first };
            let detail = format!("mapped data without a checksum ({blocks} blocks)");
            findings.note("checksum", object, detail);
            front.first += blocks;
            front.start = front.start.after(blocks);
            front.blocks -= blocks;
            if front.blocks == 0 {
                self.waiting.pop_front();
            }
        }
    }

    /// All items of the file have come.
    pub fn finish(&mut self, item: &InodeItem, findings: &Findings) {
        self.missing_before(u64::MAX, findings);
        self.unsummed_before(u64::MAX, findings);
        let note = |kind, detail: String| findings.note(kind, Object::Inode(self.inode), detail);
        let size = item.size.get();
        let room = size.next_multiple_of(BLOCK_BYTES as u64);
        if self.end_bytes > room && item.flags & INODE_TRUNCATING == 0 {
            note("extent", format!("data up to byte {}, its size is {size}", self.end_bytes));
        }
        for (name, says, found) in [
            ("online", item.online_blocks.get(), self.online),
            ("offline", item.offline_blocks.get(), self.offline),
        ] {
            if says != found {
                note("inode", format!("says {says} {name} blocks, its extents have {found}"));
            }
        }
    }
}
