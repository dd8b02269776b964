//! The tree as the engine showed it, read back through its own operations.

use crate::digest::{Digest, Event};
use crate::model::act::EntryName;
use crate::model::file::SeenFile;
use cairn_engine::attr::FileKind;
use cairn_engine::error::FsError;
use cairn_format::{InodeNo, Seq};
use std::collections::BTreeMap;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SeenNode {
    pub kind: FileKind,
    pub mode: u32,
    pub gid: u32,
    pub nlink: u32,
    pub data_version: u64,
    pub meta_seq: Seq,
    pub data_seq: Seq,
    pub online_blocks: u64,
    pub xattrs: BTreeMap<EntryName, Vec<u8>>,
    pub body: SeenBody,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SeenBody {
    Directory(BTreeMap<EntryName, InodeNo>),
    File(SeenFile),
    Symlink(Vec<u8>),
    Other,
}

/// Every inode that can be reached by name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Seen {
    pub nodes: BTreeMap<InodeNo, SeenNode>,
    /// Inodes of which something could not be read, with the errors. A file is among `nodes` all the same,
    /// with those of its blocks that could; of others nothing is known.
    pub damaged: BTreeMap<InodeNo, Vec<FsError>>,
}

impl Seen {
    pub fn fold_into(&self, digest: &Digest) {
        for (ino, node) in &self.nodes {
            let numbers = [ino.raw(), u64::from(node.mode), u64::from(node.nlink)];
            digest.fold(Event::Observe, &numbers);
            digest.fold(Event::Observe, &[u64::from(node.gid), node.data_version]);
            digest.fold(Event::Observe, &[node.meta_seq.0, node.data_seq.0]);
            for (name, value) in &node.xattrs {
                digest.fold_bytes(Event::Observe, name);
                digest.fold_bytes(Event::Observe, value);
            }
            match &node.body {
                SeenBody::Directory(entries) => {
                    for (name, child) in entries {
                        digest.fold_bytes(Event::Observe, name);
                        digest.fold(Event::Observe, &[child.raw()]);
                    }
                }
                SeenBody::File(file) => {
                    digest.fold(Event::Observe, &[file.size]);
                    for (&index, block) in &file.blocks {
                        digest.fold(Event::Observe, &[index]);
                        digest.fold_bytes(Event::Observe, block);
                    }
                }
                SeenBody::Symlink(target) => digest.fold_bytes(Event::Observe, target),
                SeenBody::Other => {}
            }
        }
    }
}
