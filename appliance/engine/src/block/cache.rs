//! Tree nodes in memory, verified once when they came in.
//!
//! Lookups are synchronous: `apply` may not wait. A node that is not here is an `Absent` answer;
//! the operation fetches it (`fetch.rs`), pins it for its own next try, and starts over. Pinning
//! makes that bounded however small the cache is.
//!
//! A block number is reused after its run was freed, so an entry counts only when its hash is the
//! one the parent asks for; nothing needs to be told when blocks are freed.

use cairn_base::{DmaBuf, DmaSlice};
use cairn_format::filter::{Filter, FilterRef};
use cairn_format::ids::TabletId;
use cairn_format::node::{NODE_BYTES, Node, NodeRef};
use std::cell::RefCell;
use std::rc::Rc;

/// A verified node.
pub struct NodeBuf(DmaBuf);

impl NodeBuf {
    /// `buf` has passed `Node::parse`, or was built here.
    pub fn verified(buf: DmaBuf) -> NodeBuf {
        NodeBuf(buf)
    }

    pub fn node(&self) -> Node<'_> {
        Node::trusted(&self.0)
    }
}

/// A verified filter.
pub struct FilterBuf(DmaSlice);

impl FilterBuf {
    /// `buf` has passed `Filter::parse`, or was built here.
    pub fn verified(buf: DmaSlice) -> FilterBuf {
        FilterBuf(buf)
    }

    pub fn filter(&self) -> Filter<'_> {
        Filter::trusted(&self.0)
    }
}

/// What must be read before the caller can go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Absent {
    Node(NodeRef),
    /// A log tree's filter; it stays with the tablet once it was read.
    Filter(TabletId, FilterRef),
}

type Slot = (u64, Rc<NodeBuf>);

#[derive(Clone)]
struct OneNode;

impl quick_cache::Weighter<u64, Slot> for OneNode {
    fn weight(&self, _: &u64, _: &Slot) -> u64 {
        1
    }
}

type Kept = quick_cache::unsync::Cache<
    u64,
    Slot,
    OneNode,
    std::hash::BuildHasherDefault<cairn_base::hash::FixedHasher>,
>;

pub struct Cache {
    kept: RefCell<Kept>,
}

impl Cache {
    pub fn new(bytes: usize) -> Cache {
        let nodes = (bytes / NODE_BYTES).max(16);
        let kept = Kept::with(
            nodes,
            nodes as u64,
            OneNode,
            std::hash::BuildHasherDefault::default(),
            Default::default(),
        );
        Cache { kept: RefCell::new(kept) }
    }

    pub fn get(&self, want: &NodeRef) -> Option<Rc<NodeBuf>> {
        let kept = self.kept.borrow();
        let (hash, node) = kept.get(&want.block.get())?;
        (*hash == want.hash.get()).then(|| Rc::clone(node))
    }

    pub fn insert(&self, of: &NodeRef, node: Rc<NodeBuf>) {
        self.kept.borrow_mut().insert(of.block.get(), (of.hash.get(), node));
    }

    pub fn nodes_len(&self) -> usize {
        self.kept.borrow().len()
    }
}

/// Nodes one operation has fetched and keeps until it is done.
#[derive(Default)]
pub struct Pins(Vec<(NodeRef, Rc<NodeBuf>)>);

impl Pins {
    pub fn pin(&mut self, of: NodeRef, node: Rc<NodeBuf>) {
        self.0.push((of, node));
    }

    pub fn len(&self) -> usize {
        self.0.len()
    }
}

/// Where synchronous code finds nodes: its own pins, then the cache.
#[derive(Clone, Copy)]
pub struct Nodes<'a> {
    pub cache: &'a Cache,
    pub pins: &'a Pins,
}

impl Nodes<'_> {
    pub fn get(&self, want: &NodeRef) -> Result<Rc<NodeBuf>, Absent> {
        if let Some(node) = self.cache.get(want) {
            return Ok(node);
        }
        let pinned = self.pins.0.iter().find(|(of, _)| of == want);
        pinned.map(|(_, node)| Rc::clone(node)).ok_or(Absent::Node(*want))
    }
}
