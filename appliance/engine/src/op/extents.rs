//! Where a file's data is, extent after extent, a page at a time.
//!
//! What is buffered is placed first. Neighbours that are one in the file and on the device are one here,
//! though the map ends each at a MiB.

use crate::data::{MappedExtent, mapped, regular_file};
use crate::error::FsError;
use crate::limits::{EXTENT_BLOCKS_MAX, LISTING_ENTRIES_MAX};
use crate::shard::Shard;
use cairn_base::door::Doors;
use cairn_base::{BLOCK_BYTES, BlockNo};
use cairn_format::InodeNo;
use cairn_format::item::{EXTENT_INLINE, EXTENT_OFFLINE, EXTENT_UNWRITTEN, INODE_TRUNCATING};
use cairn_format::key::{KIND_EXTENT, Key};
use std::ops::{ControlFlow, Range};
use std::rc::Rc;

/// The extents of some blocks of a file, in order.
#[derive(Clone, Debug)]
pub struct Extents {
    pub ino: InodeNo,
    pub blocks: Range<u64>,
    /// Items of the map that one page looks at.
    pub count_max: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FileExtent {
    /// In blocks of 4 KiB, as all of it.
    pub first_block: u64,
    pub blocks: u64,
    /// Where it is on a device; offline blocks that have a place were staged and wait for the rest of
    /// their MiB.
    pub start: Option<BlockNo>,
    pub offline: bool,
    pub unwritten: bool,
    /// The bytes are in the metadata.
    pub inline: bool,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ExtentPage {
    pub extents: Vec<FileExtent>,
    /// Where the next page begins.
    pub next: Option<u64>,
    /// Behind these blocks the file has no other.
    pub is_end: bool,
}

impl FileExtent {
    fn of(extent: &MappedExtent) -> FileExtent {
        let start = extent.head.start.get();
        FileExtent {
            first_block: extent.first_block,
            blocks: extent.blocks,
            start: (start != 0).then(|| BlockNo::from_raw(start)),
            offline: extent.head.is(EXTENT_OFFLINE),
            unwritten: extent.head.is(EXTENT_UNWRITTEN),
            inline: extent.head.is(EXTENT_INLINE),
        }
    }

    /// Takes in the next one, if both are one.
    pub fn append(&mut self, next: &FileExtent) -> bool {
        let flags = |extent: &FileExtent| (extent.offline, extent.unwritten, extent.inline);
        let follows = self.first_block + self.blocks == next.first_block;
        let is_one = follows
            && flags(self) == flags(next)
            && self.start.map(|start| start.after(self.blocks)) == next.start;
        if is_one {
            self.blocks += next.blocks;
        }
        is_one
    }
}

impl Extents {
    pub fn home(&self) -> InodeNo {
        self.ino
    }

    pub(crate) async fn run<D: Doors>(self, shard: &Rc<Shard<D>>) -> Result<ExtentPage, FsError> {
        let Extents { ino, blocks, count_max } = self;
        let count_max = count_max.clamp(1, LISTING_ENTRIES_MAX);
        shard.read_with(|view| regular_file(view, ino)).await?;
        shard.place(ino, 0..u64::MAX).await?;
        shard
            .read_with(|view| {
                let item = regular_file(view, ino)?;
                let (mut to, mut is_cut) = (blocks.end, false);
                if item.flags & INODE_TRUNCATING != 0 {
                    // What is behind is going.
                    let end = item.size.get().div_ceil(BLOCK_BYTES as u64);
                    (to, is_cut) = (to.min(end), end <= to);
                }
                let from = blocks.start;
                let mut page = ExtentPage { is_end: true, ..ExtentPage::default() };
                if from >= to {
                    page.is_end = false;
                    return Ok(page);
                }
                let (mut seen, mut damage) = (0, None);
                let first = Key::extent(ino, from - from % EXTENT_BLOCKS_MAX);
                let end = Key::of_kind(ino, KIND_EXTENT).prefix_end();
                view.scan(ino.tablet(), first, end, |key, value| {
                    let extent = match mapped(&key, value) {
                        Ok(extent) => extent,
                        Err(bad) => {
                            damage = Some(bad);
                            return ControlFlow::Break(());
                        }
                    };
                    if extent.first_block >= to {
                        page.is_end = is_cut;
                        return ControlFlow::Break(());
                    }
                    if seen == count_max {
                        page.next = Some(extent.first_block);
                        page.is_end = false;
                        return ControlFlow::Break(());
                    }
                    let part = extent.first_block.max(from)..extent.end_block().min(to);
                    page.is_end = extent.end_block() <= to;
                    if let Some(part) = extent.part(part) {
                        seen += 1;
                        let extent = FileExtent::of(&part);
                        let is_one =
                            page.extents.last_mut().is_some_and(|last| last.append(&extent));
                        if !is_one {
                            page.extents.push(extent);
                        }
                    }
                    ControlFlow::Continue(())
                })?;
                match damage {
                    Some(damage) => Err(view.damaged(ino.tablet(), damage)),
                    None => Ok(page),
                }
            })
            .await
    }
}
