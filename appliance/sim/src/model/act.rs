//! What a client can ask for, in the model's terms: nodes by the model's numbers, data by recipe.
//!
//! A node's number is that of the request that made it. So requests can be written down, replayed
//! and shrunk before any inode number exists, and two possible histories agree on what to call what.

use cairn_engine::attr::FileKind;
use std::fmt;

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeId(pub u32);

impl NodeId {
    pub const ROOT: NodeId = NodeId(0);
}

impl fmt::Debug for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "n{}", self.0)
    }
}

/// One request. Requests are numbered from 1; number 0 made the root.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RequestId(pub u32);

impl RequestId {
    /// The node this request makes, if it makes one.
    pub fn node(self) -> NodeId {
        NodeId(self.0)
    }
}

impl fmt::Debug for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "#{}", self.0)
    }
}

pub type EntryName = Box<[u8]>;

#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    pub dir: NodeId,
    pub name: EntryName,
}

impl fmt::Debug for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}/{}", self.dir, String::from_utf8_lossy(&self.name))
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sync {
    Unstable,
    Data,
    File,
}

/// Bytes that tell where they came from: a pure function of `tag` and the place in the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Payload {
    pub tag: u32,
    pub offset: u64,
    pub len: u32,
}

impl Payload {
    pub fn bytes(self) -> Vec<u8> {
        (self.offset..self.offset + u64::from(self.len))
            .map(|at| {
                let word =
                    ((u64::from(self.tag) << 40) ^ (at / 8)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
                // Never zero: a byte that was written never looks like a hole.
                (word >> (8 * (at % 8))) as u8 | 1
            })
            .collect()
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Act {
    /// `kind` is regular, directory, fifo, socket; the name must be free.
    Make {
        at: Place,
        kind: FileKind,
        mode: u32,
    },
    /// NFS's UNCHECKED: the name may be taken, by a regular file.
    Open {
        at: Place,
        mode: u32,
    },
    Symlink {
        at: Place,
        target: Vec<u8>,
    },
    Link {
        node: NodeId,
        at: Place,
    },
    Unlink {
        at: Place,
    },
    Rmdir {
        at: Place,
    },
    Rename {
        from: Place,
        to: Place,
    },
    Write {
        node: NodeId,
        data: Payload,
        sync: Sync,
    },
    Commit {
        node: NodeId,
        offset: u64,
        len: u32,
    },
    Truncate {
        node: NodeId,
        size: u64,
    },
    Chmod {
        node: NodeId,
        mode: u32,
        gid: u32,
    },
    SetXattr {
        node: NodeId,
        name: EntryName,
        value: Vec<u8>,
    },
    RemoveXattr {
        node: NodeId,
        name: EntryName,
    },
    Lookup {
        at: Place,
    },
    List {
        dir: NodeId,
    },
    Read {
        node: NodeId,
        offset: u64,
        len: u32,
    },
    Stat {
        node: NodeId,
    },
}

impl Act {
    pub fn is_read(&self) -> bool {
        matches!(self, Act::Lookup { .. } | Act::List { .. } | Act::Read { .. } | Act::Stat { .. })
    }

    /// The nodes that a client must know the inode numbers of.
    pub fn nodes(&self, nodes: &mut Vec<NodeId>) {
        match self {
            Act::Make { at, .. }
            | Act::Open { at, .. }
            | Act::Symlink { at, .. }
            | Act::Unlink { at }
            | Act::Rmdir { at }
            | Act::Lookup { at } => nodes.push(at.dir),
            Act::Link { node, at } => nodes.extend([*node, at.dir]),
            Act::Rename { from, to } => nodes.extend([from.dir, to.dir]),
            Act::List { dir } => nodes.push(*dir),
            Act::Write { node, .. }
            | Act::Commit { node, .. }
            | Act::Truncate { node, .. }
            | Act::Chmod { node, .. }
            | Act::SetXattr { node, .. }
            | Act::RemoveXattr { node, .. }
            | Act::Read { node, .. }
            | Act::Stat { node } => nodes.push(*node),
        }
    }
}
