//! Walking a tree in key order: `Cursor` synchronously over cached nodes, for operations; `Stream`
//! waiting for its own reads, for folds and merges.

use crate::block::{Absent, NodeBuf, Nodes, fetch_node};
use crate::error::FsError;
use cairn_base::BlockNo;
use cairn_base::door::Disk;
use cairn_format::key::Key;
use cairn_format::node::NodeRef;
use cairn_format::tablet_root::TreeRef;
use smallvec::SmallVec;
use std::rc::Rc;

/// The path to the current item: node and index, root first. Empty when at the end.
type Path = SmallVec<[(Rc<NodeBuf>, usize); 4]>;

/// Steps to the next child on the way up; gives the reference to descend into, if any is left that may
/// hold keys below `end`.
fn climb(path: &mut Path, end: &Key) -> Option<NodeRef> {
    while let Some((held, index)) = path.last_mut() {
        *index += 1;
        let node = held.node();
        if *index < node.count() {
            if node.is_leaf() {
                return None;
            }
            if node.key(*index) < *end {
                return Some(node.child(*index));
            }
            path.clear();
            return None;
        }
        path.pop();
    }
    None
}

fn current(path: &Path) -> Option<(Key, &[u8], bool)> {
    let (held, index) = path.last()?;
    let node = held.node();
    Some((node.key(*index), node.value(*index), node.is_delete(*index)))
}

fn at_item(path: &Path) -> bool {
    path.last().is_none_or(|(held, index)| {
        let node = held.node();
        node.is_leaf() && *index < node.count()
    })
}

/// It enters no node that has nothing of its range: a neighbour may be damaged, and need not be read.
pub struct Cursor {
    path: Path,
    from: Key,
    end: Key,
}

impl Cursor {
    /// At the first item of `from..end`, or at the end.
    pub fn seek(nodes: Nodes<'_>, tree: &TreeRef, from: &Key, end: &Key) -> Result<Cursor, Absent> {
        let mut cursor = Cursor { path: Path::new(), from: *from, end: *end };
        if tree.is_empty() {
            return Ok(cursor);
        }
        let mut at = tree.root;
        loop {
            let held = nodes.get(&at)?;
            let node = held.node();
            if node.is_leaf() {
                let index = node.lower_bound(from);
                cursor.path.push((held, index));
                break;
            }
            let index = node.child_for(from);
            at = node.child(index);
            cursor.path.push((held, index));
        }
        if !at_item(&cursor.path) {
            // Behind the leaf's last item: one step up and on.
            if let Some((_, index)) = cursor.path.last_mut() {
                *index = index.saturating_sub(1);
            }
            cursor.step(nodes)?;
        }
        Ok(cursor)
    }

    /// At the last item of `from..end`, if there is one; from there it goes by `step_back`.
    pub fn seek_back(
        nodes: Nodes<'_>,
        tree: &TreeRef,
        from: &Key,
        end: &Key,
    ) -> Result<Cursor, Absent> {
        let mut cursor = Cursor { path: Path::new(), from: *from, end: *end };
        if tree.is_empty() {
            return Ok(cursor);
        }
        let mut at = tree.root;
        loop {
            let held = nodes.get(&at)?;
            let node = held.node();
            let below = node.lower_bound(end);
            if node.is_leaf() {
                // `step_back` comes to the item before this place.
                cursor.path.push((held, below));
                break;
            }
            let index = below.saturating_sub(1);
            at = node.child(index);
            cursor.path.push((held, index));
        }
        cursor.step_back(nodes)?;
        Ok(cursor)
    }

    pub fn step_back(&mut self, nodes: Nodes<'_>) -> Result<(), Absent> {
        while let Some((held, index)) = self.path.last_mut() {
            let Some(before) = index.checked_sub(1) else {
                self.path.pop();
                continue;
            };
            let node = held.node();
            if !node.is_leaf() && node.key(*index) <= self.from {
                self.path.clear();
                break;
            }
            *index = before;
            if node.is_leaf() {
                return Ok(());
            }
            let mut at = node.child(before);
            loop {
                let held = nodes.get(&at)?;
                let node = held.node();
                let count = node.count();
                if node.is_leaf() {
                    self.path.push((held, count));
                    break;
                }
                at = node.child(count - 1);
                self.path.push((held, count - 1));
            }
        }
        Ok(())
    }

    /// The key it is at.
    pub fn key(&self) -> Option<Key> {
        let (held, index) = self.path.last()?;
        Some(held.node().key(*index))
    }

    /// The value there; `None` for a deletion mark, and at the end.
    pub fn value(&self) -> Option<&[u8]> {
        let (held, index) = self.path.last()?;
        held.node().value_if_any(*index)
    }

    pub fn step(&mut self, nodes: Nodes<'_>) -> Result<(), Absent> {
        let mut down = climb(&mut self.path, &self.end);
        while let Some(at) = down {
            let held = nodes.get(&at)?;
            down = {
                let node = held.node();
                (!node.is_leaf()).then(|| node.child(0))
            };
            self.path.push((held, 0));
        }
        Ok(())
    }
}

/// A cursor that reads what it needs, without the cache: its walks are long and touch each node once.
/// It may rest as long as its tree is named.
pub struct Stream {
    path: Path,
    /// Nodes it has come to since somebody asked.
    visited: Vec<BlockNo>,
}

impl Stream {
    pub async fn seek<K: Disk>(disk: &K, tree: &TreeRef, from: &Key) -> Result<Stream, FsError> {
        let mut stream = Stream { path: Path::new(), visited: Vec::new() };
        if tree.is_empty() {
            return Ok(stream);
        }
        let mut at = tree.root;
        loop {
            let held = stream.read(disk, &at).await?;
            let node = held.node();
            if node.is_leaf() {
                let index = node.lower_bound(from);
                stream.path.push((held, index));
                break;
            }
            let index = node.child_for(from);
            at = node.child(index);
            stream.path.push((held, index));
        }
        if !at_item(&stream.path) {
            if let Some((_, index)) = stream.path.last_mut() {
                *index = index.saturating_sub(1);
            }
            stream.step(disk).await?;
        }
        Ok(stream)
    }

    pub fn peek(&self) -> Option<(Key, &[u8], bool)> {
        current(&self.path)
    }

    pub async fn step<K: Disk>(&mut self, disk: &K) -> Result<(), FsError> {
        let mut down = climb(&mut self.path, &Key::MAX);
        while let Some(at) = down {
            let held = self.read(disk, &at).await?;
            down = {
                let node = held.node();
                (!node.is_leaf()).then(|| node.child(0))
            };
            self.path.push((held, 0));
        }
        Ok(())
    }

    /// Where the nodes lie that it has read since the last call.
    pub fn take_visited(&mut self) -> Vec<BlockNo> {
        std::mem::take(&mut self.visited)
    }

    async fn read<K: Disk>(&mut self, disk: &K, at: &NodeRef) -> Result<Rc<NodeBuf>, FsError> {
        self.visited.push(at.block_no());
        fetch_node(disk, at).await
    }
}
