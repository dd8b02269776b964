//! Answers to requests that change nothing, compared with one possible state.
//!
//! A read during which something it touches was being changed proves nothing, and is not compared:
//! it may have met the old, the new, or, in several blocks or pages, some of both. A listing is
//! compared all the same, but for the names that came or went meanwhile.

use crate::model::act::{Act, EntryName, NodeId};
use crate::model::footprint::{Footprint, Thing, conflict};
use crate::model::tree::{Inodes, Tree};
use cairn_engine::attr::FileKind;
use cairn_engine::error::FsError;
use cairn_format::InodeNo;
use std::collections::{BTreeMap, BTreeSet};

/// What a client was told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    Done,
    Node { ino: InodeNo, kind: FileKind },
    Listing(Vec<(EntryName, InodeNo, FileKind)>),
    Bytes { bytes: Vec<u8>, eof: bool },
    Stat { kind: FileKind, mode: u32, nlink: u32, size: u64 },
    Refused(FsError),
}

/// A read that waits for its answer.
#[derive(Clone)]
pub struct Read {
    pub act: Act,
    /// A change of the same things was under way at some time.
    pub disturbed: bool,
    /// Names that came or went meanwhile, for a listing.
    pub moving_names: BTreeSet<EntryName>,
}

pub fn judge_read(
    tree: &Tree,
    read: &Read,
    answer: &Answer,
    inodes: &Inodes,
) -> Result<(), String> {
    let why = tree.refusals(&read.act);
    if let Answer::Refused(error) = answer {
        return match why.contains(error) {
            true => Ok(()),
            false => Err(format!("refused with {error:?} where {why:?} are the reasons to")),
        };
    }
    if !why.is_empty() {
        return Err(format!("answered {answer:?} where {why:?} forbid it"));
    }
    let wrong = |what: String| Err(what);
    match (&read.act, answer) {
        (Act::Lookup { at }, Answer::Node { ino, kind }) => {
            let child = tree.child(at).expect("a missing name was refused");
            let known = inodes.get(&child);
            let right = tree.node(child).map(|node| node.kind);
            if known.is_some_and(|known| known != ino) || right != Some(*kind) {
                return wrong(format!("inode {ino}, {kind:?} where {known:?}, {right:?} is right"));
            }
        }
        (Act::List { dir }, Answer::Listing(names)) => {
            return judge_listing(tree, *dir, names, &read.moving_names, inodes);
        }
        (Act::Read { node, offset, len }, Answer::Bytes { bytes, eof }) => {
            let file = tree.file(*node).expect("what is no file was refused");
            let right = file.read(*offset, u64::from(*len));
            if right != *bytes {
                let at = right.iter().zip(bytes).position(|(a, b)| a != b);
                let lengths = (bytes.len(), right.len());
                return wrong(format!(
                    "bytes differ first at {at:?} of the answer; (given, right) lengths {lengths:?}"
                ));
            }
            let right = offset + u64::from(*len) >= file.size();
            if right != *eof && *len > 0 {
                return wrong(format!("eof is {eof} with {} bytes in the file", file.size()));
            }
        }
        (Act::Stat { node }, &Answer::Stat { kind, mode, nlink, size }) => {
            let right = tree.node(*node).expect("a stale node was refused");
            if (kind, mode) != (right.kind, right.mode) {
                return wrong(format!("{kind:?} {mode:o}, not {:?} {:o}", right.kind, right.mode));
            }
            if let Some(file) = tree.file(*node)
                && (size, nlink) != (file.size(), tree.nlink(*node))
            {
                let right = (file.size(), tree.nlink(*node));
                return wrong(format!("size, nlink {:?} where {right:?} is right", (size, nlink)));
            }
        }
        _ => return wrong(format!("{answer:?} is no answer to this")),
    }
    Ok(())
}

fn judge_listing(
    tree: &Tree,
    dir: NodeId,
    names: &[(EntryName, InodeNo, FileKind)],
    moving: &BTreeSet<EntryName>,
    inodes: &Inodes,
) -> Result<(), String> {
    let entries = tree.entries(dir).expect("what is no directory was refused");
    let mut shown = BTreeMap::new();
    for (name, ino, kind) in names {
        // One that went and came back may have two places in the order of the listing.
        if shown.insert(name, (*ino, *kind)).is_some() && !moving.contains(name) {
            return Err(format!("lists {} twice", String::from_utf8_lossy(name)));
        }
    }
    let all: BTreeSet<&EntryName> = shown.keys().copied().chain(entries.keys()).collect();
    for name in all.into_iter().filter(|name| !moving.contains(*name)) {
        let text = String::from_utf8_lossy(name);
        match (shown.get(name), entries.get(name)) {
            (Some(_), None) => return Err(format!("lists {text}, which is not there")),
            (None, _) => return Err(format!("does not list {text}")),
            (Some((ino, kind)), Some(child)) => {
                let known = inodes.get(child);
                let right = tree.node(*child).map(|node| node.kind);
                if known.is_some_and(|known| known != ino) || right != Some(*kind) {
                    return Err(format!("lists {text} as inode {ino}, {kind:?}"));
                }
            }
        }
    }
    Ok(())
}

impl Read {
    pub fn disturb(&mut self, mine: &Footprint, change: &Footprint) {
        if let Act::List { dir } = self.act {
            for (thing, &changed) in change {
                match thing {
                    Thing::Entry(at, name) if *at == dir && changed => {
                        self.moving_names.insert(name.clone());
                    }
                    Thing::Inside(at) if *at == dir && changed => self.disturbed = true,
                    _ => {}
                }
            }
            return;
        }
        self.disturbed |= conflict(mine, change);
    }
}
