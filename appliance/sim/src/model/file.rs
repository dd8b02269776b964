//! One file's bytes, and exactly what a crash may leave of them.
//!
//! The model keeps the content as clients see it, by blocks of 4 KiB, and beside each block the
//! *older* contents that may come back. The rules, which are the whole promise about data:
//!
//! - An unstable write makes the content before it an older one, for each block it touches, and the
//!   size before it an older size. After a crash each such block holds any one of its contents, each
//!   block by itself, and the size is any one of the sizes.
//! - A stable write does so too until it is acknowledged; from then on its own bytes are in every
//!   content, and no size ends before it does.
//! - COMMIT forgets the older contents of its range, and sizes that end before the last block it
//!   found written there. Over the whole file it leaves the present alone.
//! - A truncation that was acknowledged leaves one size, and cuts older contents at it: what was
//!   cut away never comes back, also not when the file grows again.
//! - Bytes behind a size that came back read as zero, or are not there.
//!
//! A block that was never written reads as zero and is not kept.

use crate::media::Block;
use cairn_base::BLOCK_BYTES;
use std::collections::{BTreeMap, BTreeSet};

const BLOCK: u64 = BLOCK_BYTES as u64;

/// `None` is a block of zeros.
type Content = Option<Block>;

#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct File {
    size: u64,
    blocks: BTreeMap<u64, Block>,
    older: BTreeMap<u64, Vec<Content>>,
    older_sizes: BTreeSet<u64>,
}

/// A file as the engine showed it: its size, and some of its blocks, zeros included.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SeenFile {
    pub size: u64,
    pub blocks: BTreeMap<u64, Block>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Allow {
    /// The content as clients saw it and nothing else.
    Present,
    /// What a crash may leave.
    AfterCrash,
}

impl File {
    pub fn size(&self) -> u64 {
        self.size
    }

    pub fn write_unstable(&mut self, offset: u64, bytes: &[u8]) {
        for (index, _) in pieces(offset, bytes.len()) {
            let before = self.blocks.get(&index).cloned();
            push_new(self.older.entry(index).or_default(), before);
        }
        self.put(offset, bytes);
    }

    /// A write that was acknowledged as stable.
    pub fn write_stable(&mut self, offset: u64, bytes: &[u8]) {
        let end = offset + bytes.len() as u64;
        for (index, piece) in pieces(offset, bytes.len()) {
            if let Some(older) = self.older.get_mut(&index) {
                let at = offset.max(index * BLOCK) % BLOCK;
                for content in older.iter_mut() {
                    *content = overlay(content.as_ref(), at as usize, &bytes[piece.clone()]);
                }
            }
        }
        self.put(offset, bytes);
        self.raise_sizes(end);
        self.forget_equal();
    }

    fn put(&mut self, offset: u64, bytes: &[u8]) {
        for (index, piece) in pieces(offset, bytes.len()) {
            let at = offset.max(index * BLOCK) % BLOCK;
            let content = overlay(self.blocks.get(&index), at as usize, &bytes[piece]);
            set(&mut self.blocks, index, content);
        }
        let end = offset + bytes.len() as u64;
        if end > self.size && !bytes.is_empty() {
            self.older_sizes.insert(self.size);
            self.size = end;
        }
    }

    /// `len` 0 is to the end.
    pub fn commit(&mut self, offset: u64, len: u64) {
        let end = if len == 0 { u64::MAX } else { offset.saturating_add(len) };
        let whole = |index: u64| index * BLOCK >= offset && (index + 1) * BLOCK <= end;
        let size = self.size;
        // A block that is only partly covered may keep older bytes elsewhere: they stay allowed.
        let covered = |index: u64| whole(index) || (end >= size && index * BLOCK >= offset);
        let last = self.older.keys().rev().find(|&&index| covered(index)).copied();
        self.older.retain(|&index, _| !covered(index));
        // Holes of the range were not written, and a size that ends in one is no loss.
        match last {
            _ if offset == 0 && end >= size => self.raise_sizes(size),
            Some(last) => self.raise_sizes((last * BLOCK + 1).min(size)),
            None => {}
        }
    }

    pub fn truncate(&mut self, size: u64) {
        self.older_sizes.clear();
        self.size = size;
        let behind = size.div_ceil(BLOCK);
        self.blocks.split_off(&behind);
        self.older.split_off(&behind);
        let (last, keep) = (size / BLOCK, (size % BLOCK) as usize);
        let present = self.blocks.get(&last).cloned();
        set(&mut self.blocks, last, cut(present.as_ref(), keep));
        for content in self.older.get_mut(&last).into_iter().flatten() {
            *content = cut(content.as_ref(), keep);
        }
        if keep == 0 {
            self.blocks.remove(&last);
            self.older.remove(&last);
        }
        self.forget_equal();
    }

    pub fn read(&self, offset: u64, len: u64) -> Vec<u8> {
        let end = offset.saturating_add(len).min(self.size);
        let mut out = vec![0; end.saturating_sub(offset) as usize];
        for (index, piece) in pieces(offset, out.len()) {
            if let Some(block) = self.blocks.get(&index) {
                let at = (offset.max(index * BLOCK) % BLOCK) as usize;
                out[piece.clone()].copy_from_slice(&block[at..at + piece.len()]);
            }
        }
        out
    }

    /// The blocks in which anything but zeros is possible.
    pub fn interesting(&self) -> impl Iterator<Item = u64> {
        self.blocks.keys().chain(self.older.keys()).copied()
    }

    /// Whether a crash could change anything: there is data that was not committed.
    pub fn is_settled(&self) -> bool {
        self.older.is_empty() && self.older_sizes.is_empty()
    }

    /// Says what is wrong with `seen`, if anything.
    pub fn judge(&self, seen: &SeenFile, allow: Allow) -> Result<(), String> {
        let sizes_ok = allow == Allow::AfterCrash && self.older_sizes.contains(&seen.size);
        if seen.size != self.size && !sizes_ok {
            return Err(format!(
                "size {} where {} is right (older sizes {:?})",
                seen.size, self.size, self.older_sizes
            ));
        }
        for (&index, block) in &seen.blocks {
            let keep = seen.size.saturating_sub(index * BLOCK).min(BLOCK) as usize;
            let fits = |content: Option<&Block>| same(cut(content, keep).as_ref(), block);
            let older = self.older.get(&index).map_or(&[][..], Vec::as_slice);
            let older_fits =
                allow == Allow::AfterCrash && older.iter().any(|content| fits(content.as_ref()));
            if !fits(self.blocks.get(&index)) && !older_fits {
                return Err(format!(
                    "block {index} holds {} where {} is right ({} older contents)",
                    sketch(Some(block)),
                    sketch(self.blocks.get(&index)),
                    older.len()
                ));
            }
        }
        Ok(())
    }

    /// What was seen is what there is from now on.
    pub fn settle_as(&mut self, seen: &SeenFile) {
        self.older.clear();
        self.older_sizes.clear();
        self.size = seen.size;
        self.blocks.clear();
        for (&index, block) in &seen.blocks {
            set(&mut self.blocks, index, Some(block.clone()));
        }
    }

    fn raise_sizes(&mut self, at_least: u64) {
        let raised = self.older_sizes.iter().map(|&size| size.max(at_least));
        self.older_sizes = raised.filter(|&size| size != self.size).collect();
    }

    /// Older contents that became the present one are not worth keeping.
    fn forget_equal(&mut self) {
        let blocks = &self.blocks;
        self.older.retain(|index, contents| {
            let present = blocks.get(index).cloned();
            let mut kept = Vec::new();
            for content in contents.drain(..).filter(|content| *content != present) {
                push_new(&mut kept, content);
            }
            *contents = kept;
            !contents.is_empty()
        });
    }
}

/// The blocks that a range touches, each with its part of the range.
fn pieces(offset: u64, len: usize) -> impl Iterator<Item = (u64, std::ops::Range<usize>)> {
    let end = offset + len as u64;
    let blocks = if len == 0 { 0..0 } else { offset / BLOCK..end.div_ceil(BLOCK) };
    blocks.map(move |index| {
        let from = offset.max(index * BLOCK) - offset;
        let to = end.min((index + 1) * BLOCK) - offset;
        (index, from as usize..to as usize)
    })
}

fn overlay(content: Option<&Block>, at: usize, bytes: &[u8]) -> Content {
    let mut block = content.map_or_else(|| vec![0; BLOCK_BYTES], |b| b.to_vec());
    block[at..at + bytes.len()].copy_from_slice(bytes);
    some(block.into())
}

/// The first `keep` bytes, then zeros.
fn cut(content: Option<&Block>, keep: usize) -> Content {
    let content = content?;
    if content[keep..].iter().all(|&byte| byte == 0) {
        return some(content.clone());
    }
    let mut block = content.to_vec();
    block[keep..].fill(0);
    some(block.into())
}

fn some(block: Block) -> Content {
    block.iter().any(|&byte| byte != 0).then_some(block)
}

fn set(blocks: &mut BTreeMap<u64, Block>, index: u64, content: Content) {
    match content.and_then(some) {
        Some(block) => _ = blocks.insert(index, block),
        None => _ = blocks.remove(&index),
    }
}

fn same(content: Option<&Block>, seen: &Block) -> bool {
    match content {
        Some(block) => block == seen,
        None => seen.iter().all(|&byte| byte == 0),
    }
}

fn push_new(contents: &mut Vec<Content>, content: Content) {
    if !contents.contains(&content) {
        contents.push(content);
    }
}

/// Enough of a block to recognise it in a report.
fn sketch(content: Option<&Block>) -> String {
    let Some(block) = content else { return "zeros".into() };
    let from = block.iter().position(|&byte| byte != 0).unwrap_or(0);
    let to = block.len() - block.iter().rev().position(|&byte| byte != 0).unwrap_or(0);
    format!("{:02x?}.. at {from}..{to}", &block[from..(from + 6).min(block.len())])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(size: u64, tags: &[u8]) -> SeenFile {
        let mut blocks = BTreeMap::new();
        for (index, &tag) in tags.iter().enumerate() {
            let keep = size.saturating_sub(index as u64 * BLOCK).min(BLOCK) as usize;
            let mut block = vec![tag; BLOCK_BYTES];
            block[keep..].fill(0);
            blocks.insert(index as u64, block.into());
        }
        SeenFile { size, blocks }
    }

    fn ok(file: &File, seen: &SeenFile) -> bool {
        file.judge(seen, Allow::AfterCrash).is_ok()
    }

    #[test]
    fn unstable_data_may_be_old_or_new_block_by_block() {
        let mut file = File::default();
        file.write_stable(0, &[1; 8192]);
        file.write_unstable(0, &[2; 8192]);
        for tags in [[1, 1], [1, 2], [2, 1], [2, 2]] {
            assert!(ok(&file, &seen(8192, &tags)));
        }
        assert!(!ok(&file, &seen(8192, &[3, 1])));
        assert!(!ok(&file, &seen(4096, &[1])));
        assert!(file.judge(&seen(8192, &[1, 2]), Allow::Present).is_err());
    }

    #[test]
    fn commit_makes_the_present_the_only_answer() {
        let mut file = File::default();
        file.write_unstable(0, &[1; 10_000]);
        assert!(ok(&file, &seen(0, &[])));
        file.commit(0, 0);
        assert!(!ok(&file, &seen(0, &[])));
        assert!(ok(&file, &seen(10_000, &[1, 1, 1])));
        assert!(!ok(&file, &seen(10_000, &[1, 0, 1])));
        assert!(file.is_settled());
    }

    #[test]
    fn a_commit_of_a_range_leaves_the_rest_open() {
        let mut file = File::default();
        file.write_unstable(0, &[1; 12_288]);
        file.commit(4096, 4096);
        assert!(ok(&file, &seen(12_288, &[0, 1, 1])));
        assert!(!ok(&file, &seen(4096, &[1])), "a committed byte is inside the file");
        assert!(!ok(&file, &seen(12_288, &[1, 0, 1])));
    }

    #[test]
    fn a_commit_of_a_hole_promises_no_size() {
        let mut file = File::default();
        file.write_unstable(100_000, &[1; 100]);
        file.commit(4096, 4096);
        assert!(ok(&file, &seen(0, &[])));
    }

    #[test]
    fn a_stable_write_into_unstable_data_pins_its_own_bytes_only() {
        let mut file = File::default();
        file.write_unstable(0, &[1; 4096]);
        file.write_stable(100, &[2; 100]);
        let with = |tag: u8| {
            let mut block = vec![tag; BLOCK_BYTES];
            block[100..200].fill(2);
            SeenFile { size: 4096, blocks: [(0, block.into())].into() }
        };
        assert!(ok(&file, &with(1)) && ok(&file, &with(0)));
        assert!(!ok(&file, &seen(4096, &[1])));
        let mut short = with(0);
        short.size = 199;
        assert!(!ok(&file, &short), "the stable write ends at 200");
        short.size = 200;
        assert!(ok(&file, &short));
    }

    #[test]
    fn what_a_truncation_cut_away_never_returns() {
        let mut file = File::default();
        file.write_stable(0, &[1; 8192]);
        file.write_unstable(0, &[2; 8192]);
        file.truncate(1000);
        assert!(ok(&file, &seen(1000, &[1])) && ok(&file, &seen(1000, &[2])));
        assert!(!ok(&file, &seen(8192, &[1, 1])));
        file.truncate(8192);
        let mut block = vec![2; BLOCK_BYTES];
        block[1000..].fill(0);
        let grown =
            SeenFile { size: 8192, blocks: [(0, block.into()), (1, vec![0; 4096].into())].into() };
        assert!(ok(&file, &grown));
        assert!(!ok(&file, &seen(8192, &[2, 0])));
        assert!(!ok(&file, &seen(8192, &[2, 2])));
    }

    #[test]
    fn reads_cross_holes_and_stop_at_the_end() {
        let mut file = File::default();
        file.write_unstable(5_000_000_000, &[7; 3]);
        assert_eq!(file.read(4_999_999_999, 100), [0, 7, 7, 7]);
        assert!(file.read(5_000_000_003, 1).is_empty());
        assert_eq!(file.interesting().collect::<BTreeSet<_>>().len(), 1);
    }
}
