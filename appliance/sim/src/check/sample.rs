//! A small tree as a sound pool shows it, for tests that then break something in it.

use crate::model::file::SeenFile;
use crate::model::seen::{Seen, SeenBody, SeenNode};
use cairn_base::BLOCK_BYTES;
use cairn_engine::attr::FileKind;
use cairn_format::{InodeNo, Seq};
use std::collections::BTreeMap;

pub fn ino(raw: u64) -> InodeNo {
    InodeNo::from_raw(raw).expect("not zero")
}

fn node(kind: FileKind, nlink: u32, body: SeenBody) -> SeenNode {
    SeenNode {
        kind,
        mode: 0o700,
        gid: 0,
        nlink,
        data_version: 7,
        meta_seq: Seq(50),
        data_seq: Seq(40),
        online_blocks: 0,
        xattrs: BTreeMap::new(),
        body,
    }
}

/// A file with these blocks, each full of one byte.
pub fn file(nlink: u32, tags: &[u8]) -> SeenNode {
    let block = |(index, &tag): (usize, &u8)| (index as u64, vec![tag; BLOCK_BYTES].into());
    let blocks = tags.iter().enumerate().map(block).collect();
    let body = SeenBody::File(SeenFile { size: (tags.len() * BLOCK_BYTES) as u64, blocks });
    let mut node = node(FileKind::Regular, nlink, body);
    node.online_blocks = tags.iter().filter(|tag| **tag != 0).count() as u64;
    node
}

/// `/d` is inode 2; `/f` and `/d/g` are inode 3, of two full blocks and a hole between them.
pub fn seen() -> Seen {
    let names = |all: &[(&str, u64)]| {
        let names = all.iter().map(|&(name, raw)| (name.as_bytes().into(), ino(raw)));
        SeenBody::Directory(names.collect())
    };
    let nodes = [
        (InodeNo::ROOT, node(FileKind::Directory, 3, names(&[("d", 2), ("f", 3)]))),
        (ino(2), node(FileKind::Directory, 2, names(&[("g", 3)]))),
        (ino(3), file(2, &[1, 0, 2])),
    ];
    Seen { nodes: nodes.into(), ..Seen::default() }
}
