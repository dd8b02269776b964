//! A pool on the table: what a mutation changes, and how the change is written so that nothing but its
//! meaning is wrong.
//!
//! Items, totals and roots are changed the way the engine does it: by one more record at the end of the
//! log that has the tablet's records, in a sealed batch whose marks fit those before it. A node is
//! changed in its place, with the references of all nodes above it, up to a new root in that record. So
//! no checksum is wrong, no reference is stale, and what the verifier has to find is the contradiction.

use crate::mutation::good_pool::GoodPool;
use crate::mutation::layout::{
    Layout, NodeItem, TabletLayout, TreeName, batch_blocks, node_bytes, node_items,
};
use crate::mutation::pool_copy::PoolCopy;
use cairn_base::BlockNo;
use cairn_base::hash::{siphash128, xxh3};
use cairn_format::item::{Checksums, ExtentHead, InodeItem, LookupItem};
use cairn_format::key::{Key, ParsedKey};
use cairn_format::node::{NODE_BYTES, Node, NodeBuilder, NodeRef};
use cairn_format::record::{BATCH_HEADER_BYTES, EditKind, RecordWriter, batch_bytes, seal_batch};
use cairn_format::superblock::Superblock;
use cairn_format::tablet_root::{RootBody, Totals, TreeRef};
use cairn_format::{EntryPosition, InodeNo, TabletId};
use std::collections::BTreeMap;
use zerocopy::{FromBytes, IntoBytes};

/// Why a mutation cannot be applied: the pool lacks what it breaks.
pub type Lacks = &'static str;

pub struct Patient<'a> {
    pub copy: PoolCopy,
    pub pool: &'a GoodPool,
    /// What one more record says, by tablet.
    edits: BTreeMap<TabletId, BTreeMap<Key, Option<Vec<u8>>>>,
    totals: BTreeMap<TabletId, Totals>,
    roots: BTreeMap<TabletId, RootBody>,
    /// Puts are marked as new.
    pub says_new: bool,
}

/// A node with the way to it.
pub struct Found {
    tablet: TabletId,
    tree: TreeName,
    /// From the root on: reference, level, and the place in it that leads on.
    path: Vec<(NodeRef, u8, usize)>,
}

impl Found {
    pub fn at(&self) -> NodeRef {
        self.path.last().expect("a way has an end").0
    }

    pub fn block(&self) -> BlockNo {
        self.at().block_no()
    }
}

impl<'a> Patient<'a> {
    pub fn new(pool: &'a GoodPool) -> Patient<'a> {
        Patient {
            copy: pool.copy.clone(),
            pool,
            edits: BTreeMap::new(),
            totals: BTreeMap::new(),
            roots: BTreeMap::new(),
            says_new: false,
        }
    }

    pub fn layout(&self) -> &'a Layout {
        &self.pool.layout
    }

    pub fn superblock(&self) -> &'a Superblock {
        &self.pool.layout.superblock
    }

    pub fn ino(&self, path: &str) -> Result<InodeNo, Lacks> {
        self.pool.names.get(path).copied().ok_or("the pool has no file of that path")
    }

    pub fn name_hash(&self, name: &str) -> u128 {
        siphash128(&self.superblock().name_key, name.as_bytes())
    }

    // Items.

    pub fn get(&self, tablet: TabletId, key: &Key) -> Option<Vec<u8>> {
        let edited = self.edits.get(&tablet).and_then(|edits| edits.get(key));
        match edited {
            Some(value) => value.clone(),
            None => self.layout().tablet(tablet).items.get(key).cloned(),
        }
    }

    pub fn put(&mut self, tablet: TabletId, key: Key, value: &[u8]) {
        self.edits.entry(tablet).or_default().insert(key, Some(value.to_vec()));
    }

    /// An item of an inode is its tablet's.
    pub fn put_of(&mut self, ino: InodeNo, key: Key, value: &[u8]) {
        self.put(ino.tablet(), key, value);
    }

    pub fn delete(&mut self, tablet: TabletId, key: Key) -> Result<Vec<u8>, Lacks> {
        let old = self.get(tablet, &key).ok_or("the pool has no such item")?;
        self.edits.entry(tablet).or_default().insert(key, None);
        Ok(old)
    }

    pub fn inode(&self, ino: InodeNo) -> Result<InodeItem, Lacks> {
        let value = self.get(ino.tablet(), &Key::inode(ino)).ok_or("there is no such inode")?;
        InodeItem::parse(&value).map_err(|_| "the inode is not sound")
    }

    /// Changes the inode's own item and nothing else.
    pub fn patch_inode(
        &mut self,
        ino: InodeNo,
        change: impl FnOnce(&mut InodeItem),
    ) -> Result<(), Lacks> {
        let mut item = self.inode(ino)?;
        change(&mut item);
        self.put_of(ino, Key::inode(ino), item.as_bytes());
        Ok(())
    }

    pub fn lookup(&self, dir: InodeNo, name: &str) -> Result<LookupItem, Lacks> {
        let key = Key::lookup(dir, self.name_hash(name));
        let value = self.get(dir.tablet(), &key).ok_or("there is no such name")?;
        LookupItem::parse(&value).map_err(|_| "the entry is not sound")
    }

    pub fn position(&self, dir: InodeNo, name: &str) -> Result<EntryPosition, Lacks> {
        Ok(EntryPosition(self.lookup(dir, name)?.position.get()))
    }

    /// The first item, in any tablet, whose key is wanted.
    pub fn find<T>(&self, wanted: impl Fn(ParsedKey, &[u8]) -> Option<T>) -> Option<(TabletId, T)> {
        let tablets = self.layout().tablets.iter();
        let items = tablets.flat_map(|t| t.items.iter().map(|(key, value)| (t.id, key, value)));
        let mut hits =
            items.filter_map(|(id, key, value)| Some((id, wanted(key.parse()?, value)?)));
        hits.next()
    }

    /// Extents of a file that are on a device, in file order.
    pub fn extents(&self, ino: InodeNo) -> Vec<(u64, ExtentHead)> {
        let items = &self.layout().tablet(ino.tablet()).items;
        let of_file = items.iter().filter_map(|(key, value)| match key.parse()? {
            ParsedKey::Extent { inode, file_block } if inode == ino => {
                let (head, _) = ExtentHead::parse(value).ok()?;
                (head.start.get() != 0).then_some((file_block, head))
            }
            _ => None,
        });
        of_file.collect()
    }

    pub fn put_extent(&mut self, ino: InodeNo, first: u64, head: &ExtentHead) {
        self.put_of(ino, Key::extent(ino, first), head.as_bytes());
    }

    /// Changes the checksums of one group of blocks; an empty group has none.
    pub fn patch_checksums(
        &mut self,
        ino: InodeNo,
        group: u64,
        change: impl FnOnce(&mut Checksums),
    ) -> Result<(), Lacks> {
        let key = Key::checksums(ino, group);
        let mut sums = match self.get(ino.tablet(), &key) {
            Some(value) => Checksums::parse(&value).map_err(|_| "checksums are not sound")?,
            None => Checksums::NONE,
        };
        change(&mut sums);
        if sums.mask == 0 {
            return self.delete(ino.tablet(), key).map(drop);
        }
        let mut bytes = [0; Checksums::ENCODED_BYTES_MAX];
        let len = sums.encode(&mut bytes);
        self.put_of(ino, key, &bytes[..len]);
        Ok(())
    }

    /// The tablet's totals as the record will have them.
    pub fn totals(&mut self, tablet: TabletId) -> &mut Totals {
        let before = self.pool.layout.tablet(tablet).totals;
        self.totals.entry(tablet).or_insert(before)
    }

    /// The next root of the tablet, which the record will have.
    pub fn root(&mut self, tablet: TabletId) -> &mut RootBody {
        let before = &self.pool.layout.tablet(tablet).root;
        self.roots.entry(tablet).or_insert_with(|| {
            let mut body = *before;
            body.generation = (before.generation.get() + 1).into();
            body
        })
    }

    // Trees.

    /// The first tablet that has what is wanted.
    pub fn tablet_where(&self, wanted: impl Fn(&TabletLayout) -> bool) -> Option<&'a TabletLayout> {
        self.pool.layout.tablets.iter().find(|tablet| wanted(tablet))
    }

    /// A tablet whose tree of that name is at least so high.
    pub fn tree_of_level(&self, tree: TreeName, level: u8) -> Result<&'a TabletLayout, Lacks> {
        let is_high = |tablet: &TabletLayout| tablet.tree(tree).is_some_and(|t| t.level >= level);
        self.tablet_where(is_high).ok_or("no tablet has such a tree")
    }

    /// The node of `level` whose range `key` falls into.
    pub fn node(
        &self,
        tablet: TabletId,
        tree: TreeName,
        level: u8,
        key: &Key,
    ) -> Result<Found, Lacks> {
        let of = self.layout().tablet(tablet).tree(tree).ok_or("there is no such tree")?;
        let mut path = vec![(of.root, of.level, 0)];
        loop {
            let (at, here, index) = path.last_mut().ok_or("a way has an end")?;
            if *here <= level {
                return Ok(Found { tablet, tree, path });
            }
            let bytes = node_bytes(&self.copy, at);
            let node = Node::trusted(&bytes);
            *index = node.child_for(key);
            let next = (node.child(*index), *here - 1, 0);
            path.push(next);
        }
    }

    pub fn node_bytes(&self, found: &Found) -> Vec<u8> {
        node_bytes(&self.copy, &found.at())
    }

    /// Builds the node anew from changed items.
    pub fn rebuild(
        &mut self,
        found: &Found,
        change: impl FnOnce(&mut Vec<NodeItem>),
    ) -> Result<(), Lacks> {
        let mut bytes = self.node_bytes(found);
        let mut items = node_items(&bytes);
        change(&mut items);
        let level = found.path.last().ok_or("a way has an end")?.1;
        let generation = found.at().generation.get();
        let filter = Node::trusted(&bytes).filter();
        let mut builder = NodeBuilder::new(&mut bytes, found.tablet, level);
        for item in &items {
            if !builder.try_push(&item.key, &item.value, item.delete) {
                return Err("the node has no room for that");
            }
        }
        if let Some(filter) = filter {
            builder.set_filter(filter);
        }
        let reference = builder.finish(found.block(), generation);
        self.replace(found, reference, &bytes)
    }

    /// Puts other bytes in a node's place, as what its parent refers to.
    pub fn overwrite(
        &mut self,
        found: &Found,
        change: impl FnOnce(&mut [u8]),
    ) -> Result<(), Lacks> {
        let mut bytes = self.node_bytes(found);
        change(&mut bytes);
        let reference = NodeRef::new(found.block(), found.at().generation.get(), xxh3(&bytes));
        self.replace(found, reference, &bytes)
    }

    /// Writes a node where `reference` says, and the references to it up to the root.
    pub fn replace(
        &mut self,
        found: &Found,
        reference: NodeRef,
        bytes: &[u8],
    ) -> Result<(), Lacks> {
        assert!(bytes.len() == NODE_BYTES, "a node has its size");
        let mut below = reference;
        self.copy.put(reference.block_no(), bytes);
        for (at, level, index) in found.path.iter().rev().skip(1) {
            let mut parent = node_bytes(&self.copy, at);
            let filter = Node::trusted(&parent).filter();
            let mut items = node_items(&parent);
            items[*index].value = below.as_bytes().to_vec();
            let mut builder = NodeBuilder::new(&mut parent, found.tablet, *level);
            for item in &items {
                assert!(builder.try_push(&item.key, &item.value, false), "as much as before");
            }
            if let Some(filter) = filter {
                builder.set_filter(filter);
            }
            below = builder.finish(at.block_no(), at.generation.get());
            self.copy.put(at.block_no(), &parent);
        }
        self.tree_ref(found.tablet, found.tree)?.root = below;
        Ok(())
    }

    /// The reference to a tree in the root that the record will have.
    pub fn tree_ref(&mut self, tablet: TabletId, tree: TreeName) -> Result<&mut TreeRef, Lacks> {
        let root = self.root(tablet);
        match tree {
            TreeName::Fs => Ok(&mut root.fs),
            TreeName::Log(index) if index < root.log_trees().len() => {
                Ok(&mut root.log_trees[index].tree)
            }
            TreeName::Log(_) => Err("there is no such log tree"),
        }
    }

    // The end.

    /// Writes the record with everything that was changed, one batch for each log that it concerns.
    pub fn close(&mut self) -> Result<(), Lacks> {
        let mut tablets: Vec<TabletId> = self.edits.keys().copied().collect();
        tablets.extend(self.totals.keys().chain(self.roots.keys()));
        tablets.sort_unstable();
        tablets.dedup();
        let layout = self.layout();
        for (index, log) in layout.logs.iter().enumerate() {
            let of_log = tablets.iter().filter(|id| layout.tablet(**id).log == index);
            let of_log: Vec<TabletId> = of_log.copied().collect();
            if of_log.is_empty() {
                continue;
            }
            let mut bytes = vec![0; BATCH_HEADER_BYTES];
            let mut record = RecordWriter::begin(&mut bytes);
            for id in of_log {
                self.write_section(id, &mut record);
            }
            record.finish();
            let payload = bytes.len() - BATCH_HEADER_BYTES;
            bytes.resize(batch_bytes(payload), 0);
            let end = log.end();
            if end % log.area.blocks.get() + batch_blocks(payload) > log.area.blocks.get() {
                return Err("the log's ring has no room before its end");
            }
            let mut header = *log.last();
            header.records = 1.into();
            header.position = end.into();
            header.acked = end.into();
            header.payload_bytes = (payload as u32).into();
            seal_batch(&mut bytes, header);
            self.copy.put(log.place(end), &bytes);
        }
        Ok(())
    }

    fn write_section(&self, id: TabletId, record: &mut RecordWriter<'_>) {
        let before = &self.layout().tablet(id).totals;
        let totals = self.totals.get(&id).unwrap_or(before);
        let root = self.roots.get(&id).map(|body| RootBody { totals: *totals, ..*body });
        record.section(id, totals, root.as_ref());
        for (key, value) in self.edits.get(&id).into_iter().flatten() {
            match value {
                Some(value) if self.says_new => record.edit(EditKind::PutNew, key, value),
                Some(value) => record.edit(EditKind::Put, key, value),
                None => record.edit(EditKind::Delete, key, &[]),
            }
        }
    }

    /// Changes one copy of the superblock and seals it again.
    pub fn patch_superblock(&mut self, at: BlockNo, change: impl FnOnce(&mut Superblock)) {
        use cairn_base::Run;
        use cairn_format::superblock::SUPERBLOCK_BLOCKS;
        let bytes = self.copy.bytes(Run::new(at, SUPERBLOCK_BLOCKS));
        let mut superblock = Superblock::read_from_bytes(&bytes).expect("its size");
        change(&mut superblock);
        superblock.seal();
        self.copy.put(at, superblock.as_bytes());
    }
}
