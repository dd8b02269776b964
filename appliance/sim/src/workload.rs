//! What the clients ask for, one request after another, from a seed.
//!
//! The name space is small on purpose: few names, few directories, so that clients meet at the same
//! names and inodes, reuse what was just removed, and hold on to what is gone. Each seed draws its
//! own weights, some of them zero: a run that never lists but renames half the time reaches states
//! that an even mixture does not.
//!
//! A request is chosen by looking at one possible present of the model, so most of them make sense;
//! some do not, for errors are answers too. Data comes in the sizes and places where the engine
//! changes its ways: parts of a block, whole blocks, inline and not, across holes, behind 4 GiB.

use crate::model::act::{Act, EntryName, NodeId, Payload, Place, RequestId, Sync};
use crate::model::history::History;
use cairn_base::prng::Prng;
use cairn_engine::attr::FileKind;
use std::collections::VecDeque;

/// Above this many nodes the clients mostly remove.
const NODES_MAX: usize = 48;
const DEPTH_MAX: usize = 5;
const FORGOTTEN_MAX: usize = 6;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verb {
    Create,
    Open,
    Mkdir,
    Special,
    Symlink,
    Link,
    Unlink,
    Rmdir,
    Rename,
    Write,
    Commit,
    Truncate,
    Chmod,
    SetXattr,
    RemoveXattr,
    Lookup,
    List,
    Read,
    Stat,
}

/// Each verb with its weight in an even mixture.
const VERBS: [(Verb, u64); 19] = [
    (Verb::Create, 10),
    (Verb::Open, 3),
    (Verb::Mkdir, 8),
    (Verb::Special, 1),
    (Verb::Symlink, 2),
    (Verb::Link, 5),
    (Verb::Unlink, 8),
    (Verb::Rmdir, 4),
    (Verb::Rename, 10),
    (Verb::Write, 25),
    (Verb::Commit, 5),
    (Verb::Truncate, 5),
    (Verb::Chmod, 3),
    (Verb::SetXattr, 3),
    (Verb::RemoveXattr, 1),
    (Verb::Lookup, 4),
    (Verb::List, 4),
    (Verb::Read, 8),
    (Verb::Stat, 4),
];

/// What clients do that keep rewriting a few files.
const CHURN: [(Verb, u64); 8] = [
    (Verb::Create, 4),
    (Verb::Write, 30),
    (Verb::Commit, 12),
    (Verb::Truncate, 3),
    (Verb::Unlink, 1),
    (Verb::Rename, 1),
    (Verb::Mkdir, 1),
    (Verb::Read, 6),
];

pub struct Workload {
    prng: Prng,
    weights: Vec<(Verb, u64)>,
    names: Vec<EntryName>,
    /// Nodes asked about lately, which may be gone by now.
    recent: VecDeque<NodeId>,
    /// A few files, overwritten again and again: freed space is soon wanted.
    churn: bool,
}

impl Workload {
    pub fn new(seed: u64, churn: bool) -> Workload {
        let mut prng = Prng::new(seed ^ 0x776f_726b);
        let mut weights = VERBS.to_vec();
        for (verb, weight) in &mut weights {
            let factor = [0, 1, 1, 4][prng.below(4) as usize];
            // Without these there is nothing to do anything with.
            let least = u64::from(matches!(verb, Verb::Create | Verb::Mkdir | Verb::Write));
            *weight *= factor.max(least);
        }
        if churn {
            weights = CHURN.to_vec();
        }
        let mut names: Vec<EntryName> = (0..2 + prng.below(if churn { 2 } else { 10 }))
            .map(|n| vec![b'a' + n as u8].into())
            .collect();
        names.push(vec![b'x'; 255].into());
        names.push("später".as_bytes().into());
        names.push(vec![0xff, 0xfe, b' '].into());
        Workload { prng, weights, names, recent: VecDeque::new(), churn }
    }

    pub fn next(&mut self, id: RequestId, history: &History) -> Act {
        let crowded = history.present().nodes().count() > NODES_MAX;
        for _ in 0..64 {
            let verb = match crowded && self.prng.percent(70) {
                true => [Verb::Unlink, Verb::Rmdir][self.prng.below(2) as usize],
                false => self.verb(),
            };
            match self.act(verb, id, history) {
                Some(act) if !history.would_confuse(&act) => return act,
                _ => {}
            }
        }
        Act::List { dir: NodeId::ROOT }
    }

    fn verb(&mut self) -> Verb {
        let total = self.weights.iter().map(|&(_, weight)| weight).sum();
        let mut at = self.prng.below(total);
        for &(verb, weight) in &self.weights {
            if at < weight {
                return verb;
            }
            at -= weight;
        }
        Verb::List
    }

    fn act(&mut self, verb: Verb, id: RequestId, history: &History) -> Option<Act> {
        let mode = 0o600 + self.prng.below(0o200) as u32;
        Some(match verb {
            Verb::Create => Act::Make { at: self.place(history)?, kind: FileKind::Regular, mode },
            Verb::Open => Act::Open { at: self.place(history)?, mode },
            Verb::Mkdir => {
                let at = self.place(history)?;
                if depth(history, at.dir) >= DEPTH_MAX {
                    return None;
                }
                Act::Make { at, kind: FileKind::Directory, mode }
            }
            Verb::Special => {
                let kind = [FileKind::Fifo, FileKind::Socket][self.prng.below(2) as usize];
                Act::Make { at: self.place(history)?, kind, mode }
            }
            Verb::Symlink => {
                let len_max = if self.prng.percent(20) { 4000 } else { 40 };
                let len = 1 + self.prng.below(len_max);
                Act::Symlink { at: self.place(history)?, target: self.text(id, len as usize) }
            }
            Verb::Link => {
                Act::Link { node: self.node(history, not_directory)?, at: self.place(history)? }
            }
            Verb::Unlink => Act::Unlink { at: self.taken(history, not_directory)? },
            Verb::Rmdir => Act::Rmdir { at: self.taken(history, is_directory)? },
            Verb::Rename => {
                let from = self.taken(history, |_| true)?;
                let to = if self.prng.percent(40) {
                    self.taken(history, |_| true)?
                } else {
                    self.place(history)?
                };
                Act::Rename { from, to }
            }
            Verb::Write => {
                let node = self.node(history, is_file)?;
                let size = history.present().file(node).map_or(0, |file| file.size());
                let data = self.payload(id, size);
                let sync = [Sync::Unstable, Sync::Unstable, Sync::File, Sync::File, Sync::Data]
                    [self.prng.below(5) as usize];
                Act::Write { node, data, sync }
            }
            Verb::Commit => {
                let node = self.node(history, is_file)?;
                let size = history.present().file(node).map_or(0, |file| file.size());
                match self.prng.percent(70) {
                    true => Act::Commit { node, offset: 0, len: 0 },
                    false => {
                        let offset = self.prng.below(size + 1);
                        Act::Commit { node, offset, len: 1 + self.prng.below(20_000) as u32 }
                    }
                }
            }
            Verb::Truncate => {
                let node = self.node(history, is_file)?;
                let size = history.present().file(node).map_or(0, |file| file.size());
                let size = match self.prng.below(4) {
                    0 => 0,
                    1 => self.prng.below(size + 1),
                    2 => self.prng.below(size + 1) / 4096 * 4096,
                    _ => size + self.prng.below(20_000),
                };
                Act::Truncate { node, size }
            }
            Verb::Chmod => {
                let gid = self.prng.below(4) as u32;
                Act::Chmod { node: self.node(history, |_| true)?, mode, gid }
            }
            Verb::SetXattr => {
                let len_max = if self.prng.percent(20) { 9000 } else { 60 };
                let len = self.prng.below(len_max);
                let node = self.node(history, xattr_bearer)?;
                let value = self.text(id, len as usize);
                Act::SetXattr { node, name: self.xattr_name(), value }
            }
            Verb::RemoveXattr => {
                let node = self.node(history, xattr_bearer)?;
                Act::RemoveXattr { node, name: self.xattr_name() }
            }
            Verb::Lookup => Act::Lookup { at: self.place(history)? },
            Verb::List => Act::List { dir: self.node(history, is_directory)? },
            Verb::Read => {
                let node = self.node(history, is_file)?;
                let size = history.present().file(node).map_or(0, |file| file.size());
                let offset = match self.prng.below(3) {
                    0 => 0,
                    1 => self.prng.below(size + 1),
                    _ => size.saturating_sub(self.prng.below(10_000)),
                };
                Act::Read { node, offset, len: 1 + self.prng.below(60_000) as u32 }
            }
            Verb::Stat => Act::Stat { node: self.node(history, |_| true)? },
        })
    }

    /// Any name in a directory that lives, or lived until lately.
    fn place(&mut self, history: &History) -> Option<Place> {
        let dir = self.node(history, is_directory)?;
        let name = self.prng.below(self.names.len() as u64) as usize;
        Some(Place { dir, name: self.names[name].clone() })
    }

    /// A name that is taken, most of the time.
    fn taken(&mut self, history: &History, want: impl Fn(Pick) -> bool) -> Option<Place> {
        if self.prng.percent(10) {
            return self.place(history);
        }
        let tree = history.present();
        let mut all = Vec::new();
        for (dir, _) in tree.nodes().filter(|&(dir, _)| history.inode(dir).is_some()) {
            for (name, &child) in tree.entries(dir).into_iter().flatten() {
                let kind = tree.node(child).map(|node| node.kind);
                if kind.is_some_and(|kind| want(Pick { kind })) {
                    all.push(Place { dir, name: name.clone() });
                }
            }
        }
        self.one_of(&all)
    }

    /// A node that clients know the inode number of.
    fn node(&mut self, history: &History, want: impl Fn(Pick) -> bool) -> Option<NodeId> {
        let tree = history.present();
        if self.prng.percent(4) && !self.recent.is_empty() {
            let at = self.prng.below(self.recent.len() as u64) as usize;
            let old = self.recent[at];
            // One that is gone may be taken for anything; a living one must fit.
            if tree.node(old).is_none_or(|node| want(Pick { kind: node.kind })) {
                return Some(old);
            }
        }
        let fits = |id, kind| history.inode(id).is_some() && want(Pick { kind });
        let all: Vec<NodeId> =
            tree.nodes().filter(|&(id, node)| fits(id, node.kind)).map(|(id, _)| id).collect();
        let node = self.one_of(&all)?;
        if !self.recent.contains(&node) {
            self.recent.push_back(node);
            if self.recent.len() > FORGOTTEN_MAX {
                self.recent.pop_front();
            }
        }
        Some(node)
    }

    fn payload(&mut self, id: RequestId, size: u64) -> Payload {
        let prng = &mut self.prng;
        if self.churn && prng.percent(70) {
            // Too long for the log, over what is there.
            let (offset, len) = (prng.below(4) * 16_384, 4096 * (9 + prng.below(8)));
            return Payload { tag: id.0, offset, len: len as u32 };
        }
        let offset = match prng.below(10) {
            0..3 => size,
            3..5 => prng.below(size + 1),
            5..7 => prng.below(size / 4096 + 1) * 4096,
            7 => prng.below(16) * 4096,
            8 => size + prng.below(200_000),
            _ => [1 << 20, (1 << 20) - 100, 5_000_000_000][prng.below(3) as usize],
        };
        let len = match prng.below(10) {
            0..3 => 1 + prng.below(300),
            3..5 => 1 + prng.below(8000),
            5..7 => 4096 * (1 + prng.below(4)),
            7 => 32_000 + prng.below(2000),
            8 => 1 + prng.below(50_000),
            _ => 65_536 + prng.below(65_536),
        };
        Payload { tag: id.0, offset, len: len as u32 }
    }

    fn xattr_name(&mut self) -> EntryName {
        let names: [&[u8]; 3] = [b"user.one", b"user.two", b"user.three"];
        names[self.prng.below(3) as usize].into()
    }

    fn text(&mut self, id: RequestId, len: usize) -> Vec<u8> {
        let word = format!("{id:?}/");
        word.bytes().cycle().take(len).collect()
    }

    fn one_of<T: Clone>(&mut self, all: &[T]) -> Option<T> {
        if all.is_empty() {
            return None;
        }
        Some(all[self.prng.below(all.len() as u64) as usize].clone())
    }
}

/// What a choice of a node may depend on.
#[derive(Clone, Copy)]
struct Pick {
    kind: FileKind,
}

fn is_file(pick: Pick) -> bool {
    pick.kind == FileKind::Regular
}

fn is_directory(pick: Pick) -> bool {
    pick.kind == FileKind::Directory
}

fn not_directory(pick: Pick) -> bool {
    pick.kind != FileKind::Directory
}

fn xattr_bearer(pick: Pick) -> bool {
    is_file(pick) || is_directory(pick)
}

fn depth(history: &History, mut dir: NodeId) -> usize {
    use crate::model::tree::Body;
    let tree = history.present();
    let mut depth = 0;
    while dir != NodeId::ROOT {
        match tree.node(dir).map(|node| &node.body) {
            Some(&Body::Directory { parent, .. }) => dir = parent,
            _ => return depth,
        }
        depth += 1;
    }
    depth
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::reading::Answer;
    use crate::model::tree::Tree;
    use cairn_format::InodeNo;

    /// Runs a workload against the model alone.
    fn run(seed: u64, requests: u32) -> Vec<Act> {
        let (mut workload, mut history) = (Workload::new(seed, seed % 4 == 3), History::default());
        let mut acts = Vec::new();
        for id in (1..=requests).map(RequestId) {
            let act = workload.next(id, &history);
            acts.push(act.clone());
            if act.is_read() {
                continue;
            }
            let tree: &Tree = history.present();
            let answer = match tree.refusals(&act).first() {
                Some(&why) => Answer::Refused(why),
                None => match tree.clone().apply(id, &act, crate::model::tree::Fate::Answered) {
                    crate::model::tree::Done::Nothing => Answer::Done,
                    crate::model::tree::Done::Node(node) => {
                        let ino = InodeNo::from_raw(100 + u64::from(node.0)).expect("not zero");
                        Answer::Node { ino, kind: FileKind::Regular }
                    }
                },
            };
            history.ask(id, &act);
            history.answer(id, &answer).expect("the model explains itself");
        }
        acts
    }

    #[test]
    fn the_same_seed_asks_the_same_and_another_does_not() {
        assert_eq!(run(1, 300), run(1, 300));
        assert_ne!(run(1, 300), run(2, 300));
    }

    #[test]
    fn twenty_seeds_ask_for_everything() {
        let mut kinds = std::collections::BTreeSet::new();
        for seed in 0..20 {
            for act in run(seed, 300) {
                let text = format!("{act:?}");
                kinds.insert(text.split(' ').next().unwrap_or_default().to_owned());
            }
        }
        assert_eq!(kinds.len(), 17, "{kinds:?}");
    }
}
