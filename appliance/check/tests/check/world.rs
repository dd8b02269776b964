//! A small file system as items, changed by verbs that keep all its promises. Mutations reach in
//! and break one.

use cairn_base::hash::{crc32c, siphash128};
use cairn_base::{BLOCK_BYTES, BlockNo, DeviceId};
use cairn_format::item::{
    Checksums, DeletionHead, EXTENT_INLINE, EXTENT_UNWRITTEN, ExtentHead, FileKind, FreeRunItem,
    InodeItem, LookupItem, OrphanHead, ReaddirHead, XATTR_PART_BYTES, XattrHead,
};
use cairn_format::key::{ParsedKey, Purpose};
use cairn_format::tablet_root::Totals;
use cairn_format::{EntryPosition, InodeNo, Key, Seq, TabletId};
use std::collections::BTreeMap;
use zerocopy::IntoBytes;
use zerocopy::{FromBytes, FromZeros};

pub const TABLETS: usize = 4;
pub const NAME_KEY: [u8; 16] = *b"key of the names";
/// Tablet t has node space from here, and data space behind it.
pub const ZONE_BLOCKS: u64 = 256;

pub fn node_zone(tablet: usize) -> BlockNo {
    BlockNo::new(DeviceId(0), 512 + tablet as u64 * 2 * ZONE_BLOCKS)
}

pub type Items = BTreeMap<Key, Vec<u8>>;

#[derive(Clone)]
pub struct World {
    /// By tablet, without free runs: those follow from the layout.
    pub items: Vec<Items>,
    pub next_counter: [u64; TABLETS],
    next_position: BTreeMap<InodeNo, u64>,
    pub data_used: [u64; TABLETS],
    /// Data blocks to write.
    pub data: Vec<(BlockNo, Vec<u8>)>,
    pub data_device: DeviceId,
    pub seq: u64,
}

pub fn inode_item(kind: FileKind, nlink: u32, seq: u64) -> InodeItem {
    let mut item = InodeItem::new_zeroed();
    item.mode = 0o755.into();
    item.kind = kind as u8;
    item.nlink = nlink.into();
    item.meta_seq = seq.into();
    if kind == FileKind::Regular {
        item.data_seq = seq.into();
    }
    if kind == FileKind::Directory {
        item.special = 3.into();
    }
    item
}

pub fn name_hash(name: &str) -> u128 {
    siphash128(&NAME_KEY, name.as_bytes())
}

impl World {
    pub fn new(data_device: DeviceId) -> World {
        let mut world = World {
            items: vec![Items::new(); TABLETS],
            next_counter: [1; TABLETS],
            next_position: BTreeMap::new(),
            data_used: [0; TABLETS],
            data: Vec::new(),
            data_device,
            seq: 100,
        };
        world.add_inode(InodeNo::ROOT, inode_item(FileKind::Directory, 2, 100));
        world
    }

    pub fn of(&mut self, ino: InodeNo) -> &mut Items {
        &mut self.items[usize::from(ino.tablet().0)]
    }

    pub fn tablet(&mut self, tablet: usize) -> &mut Items {
        &mut self.items[tablet]
    }

    pub fn inode(&self, ino: InodeNo) -> InodeItem {
        let value = &self.items[usize::from(ino.tablet().0)][&Key::inode(ino)];
        InodeItem::parse(value).expect("a sound inode")
    }

    /// Changes the inode's own item and nothing else.
    pub fn patch(&mut self, ino: InodeNo, change: impl FnOnce(&mut InodeItem)) {
        let mut item = self.inode(ino);
        change(&mut item);
        self.of(ino).insert(Key::inode(ino), item.as_bytes().to_vec());
    }

    fn add_inode(&mut self, ino: InodeNo, item: InodeItem) {
        let seq = Seq(item.meta_seq.get());
        let items = self.of(ino);
        items.insert(Key::inode(ino), item.as_bytes().to_vec());
        items.insert(Key::meta_seq(seq, ino), Vec::new());
        if item.file_kind() == FileKind::Regular {
            items.insert(Key::data_seq(Seq(item.data_seq.get()), ino), Vec::new());
        }
    }

    /// Changes an inode and moves it to the front of meta_seq.
    fn change(&mut self, ino: InodeNo, change: impl FnOnce(&mut InodeItem)) {
        self.seq += 1;
        let seq = self.seq;
        let old = Seq(self.inode(ino).meta_seq.get());
        self.patch(ino, |item| {
            change(item);
            item.meta_seq = seq.into();
        });
        let items = self.of(ino);
        items.remove(&Key::meta_seq(old, ino));
        items.insert(Key::meta_seq(Seq(seq), ino), Vec::new());
    }

    pub fn new_ino(&mut self, tablet: usize) -> InodeNo {
        let counter = self.next_counter[tablet];
        self.next_counter[tablet] += 1;
        InodeNo::new(TabletId(tablet as u16), counter).expect("a small counter")
    }

    pub fn create(&mut self, dir: InodeNo, name: &str, kind: FileKind, tablet: usize) -> InodeNo {
        let ino = self.new_ino(tablet);
        self.seq += 1;
        let nlink = if kind == FileKind::Directory { 2 } else { 0 };
        let item = inode_item(kind, nlink, self.seq);
        self.add_inode(ino, item);
        self.link(dir, name, ino);
        ino
    }

    pub fn link(&mut self, dir: InodeNo, name: &str, child: InodeNo) -> EntryPosition {
        let kind = self.inode(child).file_kind();
        let next = self.next_position.entry(dir).or_insert(3);
        let position = EntryPosition(*next);
        *next += 1;
        let lookup =
            LookupItem { child: child.raw().into(), position: position.0.into(), kind: kind as u8 };
        let head = ReaddirHead { child: child.raw().into(), kind: kind as u8 };
        let items = self.of(dir);
        items.insert(Key::lookup(dir, name_hash(name)), lookup.as_bytes().to_vec());
        let value = [head.as_bytes(), name.as_bytes()].concat();
        items.insert(Key::readdir(dir, position), value);
        self.of(child).insert(Key::back_reference(child, dir, position), Vec::new());
        self.change(dir, |item| {
            item.size = (item.size.get() + name.len() as u64).into();
            item.special = (position.0 + 1).into();
            if kind == FileKind::Directory {
                item.nlink = (item.nlink.get() + 1).into();
            }
        });
        if kind != FileKind::Directory {
            self.change(child, |item| item.nlink = (item.nlink.get() + 1).into());
        }
        position
    }

    /// Where `name` is in `dir`.
    pub fn position(&self, dir: InodeNo, name: &str) -> EntryPosition {
        let items = &self.items[usize::from(dir.tablet().0)];
        let value = &items[&Key::lookup(dir, name_hash(name))];
        EntryPosition(LookupItem::parse(value).expect("a sound entry").position.get())
    }

    pub fn child(&self, dir: InodeNo, name: &str) -> InodeNo {
        let items = &self.items[usize::from(dir.tablet().0)];
        let value = &items[&Key::lookup(dir, name_hash(name))];
        let child = LookupItem::parse(value).expect("a sound entry").child.get();
        InodeNo::from_raw(child).expect("not zero")
    }

    pub fn unlink(&mut self, dir: InodeNo, name: &str) -> InodeNo {
        let (child, position) = (self.child(dir, name), self.position(dir, name));
        let items = self.of(dir);
        items.remove(&Key::lookup(dir, name_hash(name)));
        items.remove(&Key::readdir(dir, position));
        self.of(child).remove(&Key::back_reference(child, dir, position));
        self.change(dir, |item| item.size = (item.size.get() - name.len() as u64).into());
        self.change(child, |item| item.nlink = (item.nlink.get() - 1).into());
        if self.inode(child).nlink.get() == 0 {
            let head = OrphanHead { last_parent: dir.raw().into() };
            let value = [head.as_bytes(), name.as_bytes()].concat();
            self.of(child).insert(Key::orphan(child), value);
        }
        child
    }

    pub fn symlink(&mut self, dir: InodeNo, name: &str, target: &str, tablet: usize) -> InodeNo {
        let ino = self.create(dir, name, FileKind::Symlink, tablet);
        self.of(ino).insert(Key::symlink(ino), target.as_bytes().to_vec());
        self.change(ino, |item| item.size = (target.len() as u64).into());
        ino
    }

    pub fn xattr(&mut self, ino: InodeNo, name: &str, value: &[u8]) {
        let first = value.len().min(100);
        let head = XattrHead {
            value_len: (value.len() as u32).into(),
            name_len: name.len() as u8,
            reserved: 0,
        };
        let part = [head.as_bytes(), name.as_bytes(), &value[..first]].concat();
        self.of(ino).insert(Key::xattr(ino, name_hash(name), 0), part);
        for (part, bytes) in (1..).zip(value[first..].chunks(XATTR_PART_BYTES)) {
            self.of(ino).insert(Key::xattr(ino, name_hash(name), part), bytes.to_vec());
        }
    }

    pub fn inline(&mut self, ino: InodeNo, block: u64, bytes: &[u8]) {
        let head = ExtentHead {
            start: 0.into(),
            length: (bytes.len() as u64).into(),
            flags: EXTENT_INLINE,
            version: 0,
        };
        let value = [head.as_bytes(), bytes].concat();
        self.of(ino).insert(Key::extent(ino, block), value);
        let end = block * BLOCK_BYTES as u64 + bytes.len() as u64;
        self.change(ino, |item| {
            item.size = item.size.get().max(end).into();
            item.online_blocks = (item.online_blocks.get() + 1).into();
        });
    }

    pub fn new_data(&mut self, tablet: usize, blocks: u64) -> BlockNo {
        let index = 512 + tablet as u64 * 2 * ZONE_BLOCKS + ZONE_BLOCKS + self.data_used[tablet];
        self.data_used[tablet] += blocks;
        assert!(self.data_used[tablet] < ZONE_BLOCKS, "the zone is large enough");
        BlockNo::new(self.data_device, index)
    }

    /// A device extent of so many blocks, the last one short, with data and checksums.
    pub fn extent(&mut self, ino: InodeNo, first: u64, blocks: u64) {
        let tablet = usize::from(ino.tablet().0);
        let start = self.new_data(tablet, blocks);
        let length = blocks * BLOCK_BYTES as u64 - 96;
        let head =
            ExtentHead { start: start.raw().into(), length: length.into(), flags: 0, version: 0 };
        self.of(ino).insert(Key::extent(ino, first), head.as_bytes().to_vec());
        for n in 0..blocks {
            let block = first + n;
            let bytes = vec![(block * 7 + ino.raw()) as u8; BLOCK_BYTES];
            let (group, slot) = (block / 64, (block % 64) as usize);
            let key = Key::checksums(ino, group);
            let mut sums = match self.of(ino).get(&key) {
                Some(value) => Checksums::parse(value).expect("sound checksums"),
                None => Checksums::NONE,
            };
            sums.set(slot, Some(crc32c(&bytes)));
            self.put_sums(ino, group, &sums);
            self.data.push((start.after(n), bytes));
        }
        let end = first * BLOCK_BYTES as u64 + length;
        self.change(ino, |item| {
            item.size = item.size.get().max(end).into();
            item.online_blocks = (item.online_blocks.get() + blocks).into();
        });
    }

    pub fn unwritten(&mut self, ino: InodeNo, first: u64, blocks: u64) {
        let start = self.new_data(usize::from(ino.tablet().0), blocks);
        let head = ExtentHead {
            start: start.raw().into(),
            length: (blocks * BLOCK_BYTES as u64).into(),
            flags: EXTENT_UNWRITTEN,
            version: 0,
        };
        self.of(ino).insert(Key::extent(ino, first), head.as_bytes().to_vec());
    }

    pub fn sums(&mut self, ino: InodeNo, group: u64) -> Checksums {
        Checksums::parse(&self.of(ino)[&Key::checksums(ino, group)]).expect("sound checksums")
    }

    pub fn put_sums(&mut self, ino: InodeNo, group: u64, sums: &Checksums) {
        let mut bytes = [0; Checksums::ENCODED_BYTES_MAX];
        let len = sums.encode(&mut bytes);
        self.of(ino).insert(Key::checksums(ino, group), bytes[..len].to_vec());
    }

    pub fn patch_extent(&mut self, ino: InodeNo, at: u64, change: impl FnOnce(&mut ExtentHead)) {
        let value = self.of(ino).get_mut(&Key::extent(ino, at)).expect("there is an extent");
        let (head, _) = ExtentHead::mut_from_prefix(value).expect("long enough");
        change(head);
    }

    pub fn deleted(&mut self, tablet: usize, name: &str) {
        self.deletion(tablet, name, &[]);
    }

    /// With one xattr of that name, which has the value `v`.
    pub fn deleted_with(&mut self, tablet: usize, name: &str, xattr: &[u8]) {
        let xattrs = [&[xattr.len() as u8, 1, 0][..], xattr, b"v"].concat();
        self.deletion(tablet, name, &xattrs);
    }

    fn deletion(&mut self, tablet: usize, name: &str, xattrs: &[u8]) {
        let ino = self.new_ino(tablet);
        self.seq += 1;
        let mut head = DeletionHead::new_zeroed();
        head.last_parent = 1.into();
        head.kind = FileKind::Regular as u8;
        head.name_len = name.len() as u8;
        head.xattrs_len = (xattrs.len() as u16).into();
        let value = [head.as_bytes(), name.as_bytes(), xattrs].concat();
        let key = Key::deletion(Seq(self.seq), ino);
        self.of(ino).insert(key, value);
    }

    /// What the tablet's totals have to be. Free space is the layout's to add.
    pub fn totals(&self, tablet: usize) -> Totals {
        let mut totals = Totals::ZERO;
        totals.inode_high_water = (self.next_counter[tablet] + 1024).into();
        for key in self.items[tablet].keys() {
            match key.parse() {
                Some(ParsedKey::Inode(_)) => totals.inodes += 1,
                Some(ParsedKey::Orphan(_)) => totals.orphans += 1,
                Some(ParsedKey::Deletion(..)) => totals.deletions += 1,
                Some(ParsedKey::Pending(_)) => totals.pending += 1,
                Some(ParsedKey::Done(_)) => totals.done += 1,
                _ => {}
            }
        }
        totals
    }

    pub fn put_free(&mut self, tablet: usize, purpose: Purpose, start: BlockNo, blocks: u64) {
        let item = FreeRunItem { blocks: blocks.into() };
        self.items[tablet].insert(Key::free_run(purpose, start), item.as_bytes().to_vec());
    }
}
