//! Names and nodes: one possible state of the file system, and what each request does to it.
//!
//! `refusals` says every reason to refuse a request in this state; none means it succeeds. Where
//! several hold, the engine may give any of them, for POSIX orders them in no way. `apply` changes
//! the tree when there is none. A request whose answer was lost in a crash is applied with
//! `Fate::Unanswered`: then a stable write promises no more than an unstable one.
//!
//! `judge` compares with what the engine showed, node by node from the root, and says at which path
//! they part. Trees share their nodes, so that keeping many possible states is cheap.

use crate::model::act::{Act, EntryName, NodeId, Place, RequestId, Sync};
use crate::model::file::{Allow, File};
use crate::model::seen::{Seen, SeenBody, SeenNode};
use cairn_engine::attr::FileKind;
use cairn_engine::error::FsError;
use cairn_format::InodeNo;
use std::collections::{BTreeMap, HashMap};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::marker::PhantomData;
use std::rc::Rc;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tree {
    nodes: BTreeMap<NodeId, Rc<Node>>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Node {
    pub kind: FileKind,
    pub mode: u32,
    pub gid: u32,
    /// Names of a file; for a directory see `Tree::nlink`.
    links: u32,
    pub xattrs: BTreeMap<EntryName, Vec<u8>>,
    pub body: Body,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Body {
    Directory { entries: BTreeMap<EntryName, NodeId>, parent: NodeId },
    File(File),
    Symlink(Vec<u8>),
    Other,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    Answered,
    Unanswered,
}

/// What a successful request tells its client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Done {
    Nothing,
    /// This node is new, or was found.
    Node(NodeId),
}

/// Inode numbers of nodes, as far as clients were told.
pub type Inodes = BTreeMap<NodeId, InodeNo>;

/// Tells trees apart by a hash of each node, which is taken once of the nodes that many of them share.
pub struct Fingerprints<'a> {
    /// By address: these nodes stay where they are.
    shared: HashMap<*const Node, u64>,
    _held: PhantomData<&'a Tree>,
}

impl<'a> Fingerprints<'a> {
    /// The trees to be told apart were made from `trees`.
    pub fn new(trees: impl Iterator<Item = &'a Tree>) -> Fingerprints<'a> {
        let mut shared = HashMap::new();
        for node in trees.flat_map(|tree| tree.nodes.values()) {
            shared.entry(Rc::as_ptr(node)).or_insert_with(|| node.print());
        }
        Fingerprints { shared, _held: PhantomData }
    }

    pub fn of(&self, tree: &Tree) -> u64 {
        let mut all = DefaultHasher::new();
        for (id, node) in &tree.nodes {
            let print = self.shared.get(&Rc::as_ptr(node)).copied();
            (id, print.unwrap_or_else(|| node.print())).hash(&mut all);
        }
        all.finish()
    }
}

impl Node {
    fn print(&self) -> u64 {
        let mut hasher = DefaultHasher::new();
        self.hash(&mut hasher);
        hasher.finish()
    }

    /// As on Linux: what is not a file or a directory has no owner's xattrs.
    fn holds_user_xattrs(&self) -> bool {
        matches!(self.kind, FileKind::Regular | FileKind::Directory)
    }
}

impl Default for Tree {
    fn default() -> Tree {
        let body = Body::Directory { entries: BTreeMap::new(), parent: NodeId::ROOT };
        let mut tree = Tree { nodes: BTreeMap::new() };
        tree.put(NodeId::ROOT, FileKind::Directory, 0o755, body);
        tree
    }
}

impl Tree {
    pub fn node(&self, id: NodeId) -> Option<&Node> {
        self.nodes.get(&id).map(Rc::as_ref)
    }

    pub fn nodes(&self) -> impl Iterator<Item = (NodeId, &Node)> {
        self.nodes.iter().map(|(&id, node)| (id, node.as_ref()))
    }

    pub fn entries(&self, dir: NodeId) -> Option<&BTreeMap<EntryName, NodeId>> {
        match &self.node(dir)?.body {
            Body::Directory { entries, .. } => Some(entries),
            _ => None,
        }
    }

    pub fn child(&self, at: &Place) -> Option<NodeId> {
        self.entries(at.dir)?.get(&at.name).copied()
    }

    pub fn file(&self, id: NodeId) -> Option<&File> {
        match &self.node(id)?.body {
            Body::File(file) => Some(file),
            _ => None,
        }
    }

    /// A directory's links are its own `.`, its name, and the `..` of each child.
    pub fn nlink(&self, id: NodeId) -> u32 {
        match self.entries(id) {
            None => self.node(id).map_or(0, |node| node.links),
            Some(entries) => {
                2 + entries.values().filter(|&&child| self.is_directory(child)).count() as u32
            }
        }
    }

    pub fn is_directory(&self, id: NodeId) -> bool {
        self.entries(id).is_some()
    }

    /// Whether `id` is `ancestor` or lies below it.
    pub fn is_inside(&self, mut id: NodeId, ancestor: NodeId) -> bool {
        loop {
            if id == ancestor {
                return true;
            }
            match self.node(id).map(|node| &node.body) {
                Some(&Body::Directory { parent, .. }) if id != NodeId::ROOT => id = parent,
                _ => return false,
            }
        }
    }

    /// Every reason to refuse; empty when the request succeeds.
    pub fn refusals(&self, act: &Act) -> Vec<FsError> {
        let mut why = Vec::new();
        match act {
            Act::Make { at, .. } | Act::Symlink { at, .. } => self.refuse_taken(at, &mut why),
            Act::Open { at, .. } => {
                self.refuse_dir(at.dir, &mut why);
                if self.child(at).is_some_and(|child| self.file(child).is_none()) {
                    why.extend([FsError::Exists, FsError::IsDirectory, FsError::Invalid]);
                }
            }
            Act::Link { node, at } => {
                self.refuse_taken(at, &mut why);
                match self.node(*node) {
                    None => why.push(FsError::Stale),
                    Some(node) if node.kind == FileKind::Directory => {
                        why.extend([FsError::Permission, FsError::IsDirectory, FsError::Invalid]);
                    }
                    Some(_) => {}
                }
            }
            Act::Unlink { at } => {
                if let Some(child) = self.refuse_missing(at, &mut why)
                    && self.is_directory(child)
                {
                    why.extend([FsError::IsDirectory, FsError::Permission]);
                }
            }
            Act::Rmdir { at } => {
                if let Some(child) = self.refuse_missing(at, &mut why) {
                    match self.entries(child) {
                        None => why.push(FsError::NotDirectory),
                        Some(entries) if !entries.is_empty() => why.push(FsError::NotEmpty),
                        Some(_) => {}
                    }
                }
            }
            Act::Rename { from, to } => self.refuse_rename(from, to, &mut why),
            Act::Write { node, .. }
            | Act::Commit { node, .. }
            | Act::Truncate { node, .. }
            | Act::Read { node, .. } => match self.node(*node) {
                None => why.push(FsError::Stale),
                Some(_) if self.file(*node).is_none() => {
                    why.extend([FsError::IsDirectory, FsError::Invalid]);
                }
                Some(_) => {}
            },
            Act::RemoveXattr { node, name } => match self.node(*node) {
                None => why.push(FsError::Stale),
                Some(node) if !node.xattrs.contains_key(name) => why.push(FsError::NoXattr),
                Some(_) => {}
            },
            Act::SetXattr { node, name, .. } => match self.node(*node) {
                None => why.push(FsError::Stale),
                Some(node) if name.starts_with(b"user.") && !node.holds_user_xattrs() => {
                    why.push(FsError::Permission);
                }
                Some(_) => {}
            },
            Act::Chmod { node, .. } | Act::Stat { node } => {
                if self.node(*node).is_none() {
                    why.push(FsError::Stale);
                }
            }
            Act::Lookup { at } => _ = self.refuse_missing(at, &mut why),
            Act::List { dir } => self.refuse_dir(*dir, &mut why),
        }
        why
    }

    /// Whether this succeeds, where it does, by doing nothing: a rename of one name of an inode over
    /// another of the same.
    pub fn leaves_as_it_is(&self, act: &Act) -> bool {
        matches!(act, Act::Rename { from, to } if self.child(from) == self.child(to))
    }

    /// Changes the tree as a request that nobody refuses does. Reads change nothing.
    pub fn apply(&mut self, id: RequestId, act: &Act, fate: Fate) -> Done {
        match act {
            Act::Make { at, kind, mode } => {
                let body = match kind {
                    FileKind::Regular => Body::File(File::default()),
                    FileKind::Directory => {
                        Body::Directory { entries: BTreeMap::new(), parent: at.dir }
                    }
                    _ => Body::Other,
                };
                self.make(id, at, *kind, *mode, body)
            }
            Act::Open { at, mode } => match self.child(at) {
                Some(child) => Done::Node(child),
                None => self.make(id, at, FileKind::Regular, *mode, Body::File(File::default())),
            },
            Act::Symlink { at, target } => {
                self.make(id, at, FileKind::Symlink, 0o777, Body::Symlink(target.clone()))
            }
            Act::Link { node, at } => {
                self.edit(*node).links += 1;
                self.entries_mut(at.dir).insert(at.name.clone(), *node);
                Done::Nothing
            }
            Act::Unlink { at } | Act::Rmdir { at } => {
                let child = self.entries_mut(at.dir).remove(&at.name);
                self.unlink(child.expect("a missing name was refused"));
                Done::Nothing
            }
            Act::Rename { from, to } => self.rename(from, to),
            Act::Write { node, data, sync } => {
                let stable = *sync != Sync::Unstable && fate == Fate::Answered;
                let file = self.file_mut(*node);
                if stable {
                    file.write_stable(data.offset, &data.bytes());
                } else {
                    file.write_unstable(data.offset, &data.bytes());
                }
                Done::Nothing
            }
            Act::Commit { node, offset, len } => {
                if fate == Fate::Answered {
                    self.file_mut(*node).commit(*offset, u64::from(*len));
                }
                Done::Nothing
            }
            Act::Truncate { node, size } => {
                self.file_mut(*node).truncate(*size);
                Done::Nothing
            }
            Act::Chmod { node, mode, gid } => {
                let node = self.edit(*node);
                (node.mode, node.gid) = (*mode, *gid);
                Done::Nothing
            }
            Act::SetXattr { node, name, value } => {
                self.edit(*node).xattrs.insert(name.clone(), value.clone());
                Done::Nothing
            }
            Act::RemoveXattr { node, name } => {
                self.edit(*node).xattrs.remove(name);
                Done::Nothing
            }
            Act::Lookup { at } => self.child(at).map_or(Done::Nothing, Done::Node),
            Act::List { .. } | Act::Read { .. } | Act::Stat { .. } => Done::Nothing,
        }
    }

    fn refuse_dir(&self, dir: NodeId, why: &mut Vec<FsError>) {
        match self.node(dir) {
            None => why.push(FsError::Stale),
            Some(_) if !self.is_directory(dir) => why.push(FsError::NotDirectory),
            Some(_) => {}
        }
    }

    fn refuse_taken(&self, at: &Place, why: &mut Vec<FsError>) {
        self.refuse_dir(at.dir, why);
        if self.child(at).is_some() {
            why.push(FsError::Exists);
        }
    }

    fn refuse_missing(&self, at: &Place, why: &mut Vec<FsError>) -> Option<NodeId> {
        self.refuse_dir(at.dir, why);
        let child = self.child(at);
        if child.is_none() && self.is_directory(at.dir) {
            why.push(FsError::NotFound);
        }
        child
    }

    fn refuse_rename(&self, from: &Place, to: &Place, why: &mut Vec<FsError>) {
        self.refuse_dir(to.dir, why);
        let Some(child) = self.refuse_missing(from, why) else { return };
        let moves_directory = self.is_directory(child);
        if moves_directory && self.is_inside(to.dir, child) {
            why.push(FsError::Invalid);
        }
        let Some(target) = self.child(to) else { return };
        if target == child {
            return;
        }
        match (moves_directory, self.entries(target)) {
            (false, Some(entries)) => {
                why.extend([FsError::IsDirectory, FsError::Exists]);
                if !entries.is_empty() {
                    why.push(FsError::NotEmpty);
                }
            }
            (true, None) => why.extend([FsError::NotDirectory, FsError::Exists]),
            (true, Some(entries)) if !entries.is_empty() => why.push(FsError::NotEmpty),
            _ => {}
        }
    }

    fn rename(&mut self, from: &Place, to: &Place) -> Done {
        let child = self.child(from).expect("a missing name was refused");
        let target = self.child(to);
        if target == Some(child) {
            return Done::Nothing; // two names of one inode: POSIX leaves both
        }
        self.entries_mut(from.dir).remove(&from.name);
        self.entries_mut(to.dir).insert(to.name.clone(), child);
        if let Some(target) = target {
            self.unlink(target);
        }
        if let Body::Directory { parent, .. } = &mut self.edit(child).body {
            *parent = to.dir;
        }
        Done::Nothing
    }

    fn make(&mut self, id: RequestId, at: &Place, kind: FileKind, mode: u32, body: Body) -> Done {
        self.put(id.node(), kind, mode, body);
        self.entries_mut(at.dir).insert(at.name.clone(), id.node());
        Done::Node(id.node())
    }

    fn put(&mut self, id: NodeId, kind: FileKind, mode: u32, body: Body) {
        let node = Node { kind, mode, gid: 0, links: 1, xattrs: BTreeMap::new(), body };
        self.nodes.insert(id, Rc::new(node));
    }

    fn unlink(&mut self, id: NodeId) {
        let node = self.edit(id);
        node.links -= 1;
        if node.links == 0 {
            self.nodes.remove(&id);
        }
    }

    fn edit(&mut self, id: NodeId) -> &mut Node {
        Rc::make_mut(self.nodes.get_mut(&id).expect("a stale node was refused"))
    }

    fn entries_mut(&mut self, dir: NodeId) -> &mut BTreeMap<EntryName, NodeId> {
        match &mut self.edit(dir).body {
            Body::Directory { entries, .. } => entries,
            _ => panic!("what is no directory was refused"),
        }
    }

    fn file_mut(&mut self, id: NodeId) -> &mut File {
        match &mut self.edit(id).body {
            Body::File(file) => file,
            _ => panic!("what is no file was refused"),
        }
    }

    /// Compares with what the engine showed. The answer is the inode of every node, those that no
    /// client was told of included.
    pub fn judge(&self, seen: &Seen, known: &Inodes, allow: Allow) -> Result<Inodes, String> {
        let mut inodes = Inodes::new();
        let mut todo = vec![(NodeId::ROOT, InodeNo::ROOT, String::new())];
        while let Some((id, ino, path)) = todo.pop() {
            let fail = |what: String| Err(format!("{path:?} ({id:?}, inode {ino}): {what}"));
            if let Some(&told) = known.get(&id)
                && told != ino
            {
                return fail(format!("clients were told inode {told}"));
            }
            if let Some(&before) = inodes.get(&id) {
                if before != ino {
                    return fail(format!("another name of it leads to inode {before}"));
                }
                continue;
            }
            inodes.insert(id, ino);
            let (Some(node), Some(shown)) = (self.node(id), seen.nodes.get(&ino)) else {
                if seen.damaged.contains_key(&ino) {
                    continue; // and whatever is below it
                }
                return fail("not readable".into());
            };
            if let Err(what) = self.judge_node(id, node, shown, allow) {
                return fail(what);
            }
            if let (Body::Directory { entries, .. }, SeenBody::Directory(names)) =
                (&node.body, &shown.body)
            {
                for (name, &child) in entries {
                    let at = format!("{path}/{}", String::from_utf8_lossy(name));
                    todo.push((child, names[name], at));
                }
            }
        }
        let mut numbers: Vec<_> = inodes.values().collect();
        numbers.sort_unstable();
        match numbers.windows(2).find(|pair| pair[0] == pair[1]) {
            Some(pair) => Err(format!("inode {} stands for two nodes", pair[0])),
            None => Ok(inodes),
        }
    }

    fn judge_node(
        &self,
        id: NodeId,
        node: &Node,
        seen: &SeenNode,
        allow: Allow,
    ) -> Result<(), String> {
        let expected = (node.kind, node.mode, node.gid, self.nlink(id));
        let shown = (seen.kind, seen.mode, seen.gid, seen.nlink);
        if expected != shown {
            return Err(format!("kind, mode, gid, nlink {shown:?} where {expected:?} is right"));
        }
        if node.xattrs != seen.xattrs {
            let (shown, right) = (seen.xattrs.keys(), node.xattrs.keys());
            return Err(format!("xattrs {shown:?} where {right:?} is right, or their values"));
        }
        match (&node.body, &seen.body) {
            (Body::Directory { entries, .. }, SeenBody::Directory(names)) => {
                let missing = entries.keys().find(|&name| !names.contains_key(name));
                let extra = names.keys().find(|&name| !entries.contains_key(name));
                match (missing, extra) {
                    (None, None) => Ok(()),
                    (Some(name), _) => {
                        Err(format!("lacks the name {}", String::from_utf8_lossy(name)))
                    }
                    (_, Some(name)) => {
                        Err(format!("has the name {} too", String::from_utf8_lossy(name)))
                    }
                }
            }
            (Body::File(file), SeenBody::File(shown)) => file.judge(shown, allow),
            (Body::Symlink(target), SeenBody::Symlink(shown)) if target != shown => {
                Err(format!("leads to {}", String::from_utf8_lossy(shown)))
            }
            _ => Ok(()),
        }
    }

    /// After `judge` accepted it: what was seen is what there is.
    pub fn settle_as(&mut self, seen: &Seen, inodes: &Inodes) {
        for (&id, ino) in inodes {
            if let Some(SeenBody::File(shown)) = seen.nodes.get(ino).map(|node| &node.body)
                && self.file(id).is_some_and(|file| !file.is_settled())
            {
                self.file_mut(id).settle_as(shown);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(dir: NodeId, name: &str) -> Place {
        Place { dir, name: name.as_bytes().into() }
    }

    /// Applies each request in turn; a refused one answers its first reason.
    fn play(tree: &mut Tree, from: u32, acts: &[Act]) -> Vec<Result<Done, FsError>> {
        let ids = (from..).map(RequestId);
        let play = |(act, id): (&Act, RequestId)| match tree.refusals(act).first() {
            None => Ok(tree.apply(id, act, Fate::Answered)),
            Some(&why) => Err(why),
        };
        acts.iter().zip(ids).map(play).collect()
    }

    fn mkdir(dir: NodeId, name: &str) -> Act {
        Act::Make { at: at(dir, name), kind: FileKind::Directory, mode: 0o755 }
    }

    fn create(dir: NodeId, name: &str) -> Act {
        Act::Make { at: at(dir, name), kind: FileKind::Regular, mode: 0o644 }
    }

    #[test]
    fn link_counts_follow_names_and_the_last_unlink_ends_the_node() {
        let mut tree = Tree::default();
        let root = NodeId::ROOT;
        let answers = play(
            &mut tree,
            1,
            &[
                create(root, "a"),
                Act::Link { node: NodeId(1), at: at(root, "b") },
                Act::Unlink { at: at(root, "a") },
            ],
        );
        assert!(answers.iter().all(Result::is_ok));
        assert_eq!(tree.nlink(NodeId(1)), 1);
        play(&mut tree, 4, &[Act::Unlink { at: at(root, "b") }]);
        assert_eq!(tree.refusals(&Act::Stat { node: NodeId(1) }), [FsError::Stale]);
    }

    #[test]
    fn a_directory_never_moves_into_itself() {
        let mut tree = Tree::default();
        play(&mut tree, 1, &[mkdir(NodeId::ROOT, "a"), mkdir(NodeId(1), "b")]);
        let into = |dir| Act::Rename { from: at(NodeId::ROOT, "a"), to: at(dir, "x") };
        assert_eq!(tree.refusals(&into(NodeId(2))), [FsError::Invalid]);
        assert_eq!(tree.refusals(&into(NodeId(1))), [FsError::Invalid]);
        assert_eq!(tree.refusals(&into(NodeId::ROOT)), []);
    }

    #[test]
    fn rename_replaces_what_may_be_replaced_and_moves_the_parent_link() {
        let mut tree = Tree::default();
        let root = NodeId::ROOT;
        play(&mut tree, 1, &[mkdir(root, "a"), mkdir(root, "b"), mkdir(NodeId(1), "c")]);
        assert_eq!((tree.nlink(root), tree.nlink(NodeId(1))), (4, 3));
        let over = |to: Place| Act::Rename { from: at(root, "b"), to };
        assert_eq!(tree.refusals(&over(at(root, "a"))), [FsError::NotEmpty]);
        play(&mut tree, 4, &[over(at(NodeId(1), "c"))]);
        assert_eq!((tree.nlink(root), tree.nlink(NodeId(1))), (3, 3));
        assert!(tree.is_inside(NodeId(2), NodeId(1)) && tree.node(NodeId(3)).is_none());
    }

    #[test]
    fn renaming_one_name_of_an_inode_over_another_leaves_both() {
        let mut tree = Tree::default();
        let root = NodeId::ROOT;
        let answers = play(
            &mut tree,
            1,
            &[
                create(root, "a"),
                Act::Link { node: NodeId(1), at: at(root, "b") },
                Act::Rename { from: at(root, "a"), to: at(root, "b") },
            ],
        );
        assert_eq!(answers[2], Ok(Done::Nothing));
        assert_eq!((tree.entries(root).map(BTreeMap::len), tree.nlink(NodeId(1))), (Some(2), 2));
    }
}
