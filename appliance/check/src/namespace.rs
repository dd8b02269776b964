//! What inodes of all tablets must agree about: each name in a directory is known to its child as a
//! back reference, and the other way round; an inode has as many links as names, is of the kind that
//! its names say, and hangs, over its parents, on the root.
//!
//! Names and back references are gathered in any order, compactly, and joined when all tablets have
//! been walked. From then on paths can be told.

use crate::report::{Findings, Object};
use cairn_format::item::FileKind;
use cairn_format::{EntryPosition, InodeNo, TabletId};

/// Parents to climb at most for a path: a ring must not hold us up.
const PATH_DEPTH_MAX: usize = 256;

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Link {
    child: InodeNo,
    dir: InodeNo,
    position: EntryPosition,
}

struct Name {
    link: Link,
    kind: FileKind,
    len: u8,
    /// In `text`.
    at: u64,
}

struct Known {
    ino: InodeNo,
    nlink: u32,
    kind: FileKind,
    orphan: bool,
}

#[derive(Default)]
pub(crate) struct Namespace {
    names: Vec<Name>,
    backs: Vec<Link>,
    known: Vec<Known>,
    text: Vec<u8>,
    /// Tablets whose items could not all be read.
    torn: Vec<TabletId>,
}

impl Namespace {
    pub fn name(
        &mut self,
        dir: InodeNo,
        position: EntryPosition,
        child: InodeNo,
        kind: FileKind,
        name: &[u8],
    ) {
        let at = self.text.len() as u64;
        self.text.extend_from_slice(name);
        let link = Link { child, dir, position };
        self.names.push(Name { link, kind, len: name.len().min(255) as u8, at });
    }

    pub fn back(&mut self, child: InodeNo, dir: InodeNo, position: EntryPosition) {
        self.backs.push(Link { child, dir, position });
    }

    pub fn inode(&mut self, ino: InodeNo, kind: FileKind, nlink: u32, orphan: bool) {
        self.known.push(Known { ino, nlink, kind, orphan });
    }

    pub fn torn(&mut self, tablet: TabletId) {
        self.torn.push(tablet);
    }

    pub fn names_count(&self) -> u64 {
        self.names.len() as u64
    }

    pub fn torn_tablets(&self) -> &[TabletId] {
        &self.torn
    }

    fn are_whole(&self, link: &Link) -> bool {
        self.is_whole(link.child) && self.is_whole(link.dir)
    }

    fn is_whole(&self, ino: InodeNo) -> bool {
        !self.torn.contains(&ino.tablet())
    }

    /// All tablets have been walked.
    pub fn join(&mut self, findings: &Findings) {
        self.names.sort_unstable_by_key(|name| name.link);
        self.backs.sort_unstable();
        self.known.sort_unstable_by_key(|known| known.ino);
        self.join_links(findings);
        self.check_known(findings);
        if self.torn.is_empty() {
            self.check_reach(findings);
        }
    }

    fn entry(&self, name: &Name) -> Object {
        Object::Entry { dir: name.link.dir, name: self.text_of(name).into() }
    }

    fn text_of(&self, name: &Name) -> &[u8] {
        let at = name.at as usize;
        &self.text[at..at + usize::from(name.len)]
    }

    /// Names against back references, one to one.
    fn join_links(&self, findings: &Findings) {
        let mut names = self.names.iter().peekable();
        let mut backs = self.backs.iter().peekable();
        loop {
            let order = match (names.peek(), backs.peek()) {
                (None, None) => return,
                (Some(_), None) => std::cmp::Ordering::Less,
                (None, Some(_)) => std::cmp::Ordering::Greater,
                (Some(name), Some(back)) => name.link.cmp(back),
            };
            if order.is_le()
                && let Some(name) = names.next()
            {
                if order.is_lt() && self.are_whole(&name.link) {
                    let detail = format!("ino:{} has no back reference to it", name.link.child);
                    findings.note("link", self.entry(name), detail);
                }
                self.check_name(name, findings);
            }
            if order.is_ge()
                && let Some(back) = backs.next()
                && order.is_gt()
                && self.are_whole(back)
            {
                let detail = format!(
                    "refers back to ino:{} position {}, where there is no such entry",
                    back.dir, back.position
                );
                findings.note("link", Object::Inode(back.child), detail);
            }
        }
    }

    fn find(&self, ino: InodeNo) -> Option<&Known> {
        let at = self.known.binary_search_by_key(&ino, |known| known.ino).ok()?;
        self.known.get(at)
    }

    fn check_name(&self, name: &Name, findings: &Findings) {
        if !self.are_whole(&name.link) {
            return;
        }
        match self.find(name.link.child) {
            Some(known) if known.kind != name.kind => {
                let detail = format!("says {:?}, ino:{} is {:?}", name.kind, known.ino, known.kind);
                findings.note("name", self.entry(name), detail);
            }
            Some(_) => {}
            None => {
                let detail = format!("names ino:{}, which does not exist", name.link.child);
                findings.note("name", self.entry(name), detail);
            }
        }
    }

    fn backs_of(&self, ino: InodeNo) -> &[Link] {
        let from = self.backs.partition_point(|back| back.child < ino);
        let len = self.backs[from..].partition_point(|back| back.child == ino);
        &self.backs[from..from + len]
    }

    fn names_of(&self, ino: InodeNo) -> &[Name] {
        let from = self.names.partition_point(|name| name.link.child < ino);
        let len = self.names[from..].partition_point(|name| name.link.child == ino);
        &self.names[from..from + len]
    }

    /// Links against names, and what has no name.
    fn check_known(&self, findings: &Findings) {
        for known in &self.known {
            let note = |kind, detail: String| {
                findings.note(kind, Object::Inode(known.ino), detail);
            };
            let backs = self.backs_of(known.ino).len() as u64;
            let names = self.names_of(known.ino).len() as u64;
            let is_root = known.ino == InodeNo::ROOT;
            if !self.is_whole(known.ino) {
                continue;
            }
            if known.orphan {
                if known.nlink > 0 {
                    note("orphan", format!("is an orphan with {} links", known.nlink));
                }
                // Names in a torn directory may be old ones.
                let names = if self.torn.is_empty() { names } else { 0 };
                if backs + names > 0 {
                    note("orphan", format!("is an orphan with {} names", backs.max(names)));
                }
                continue;
            }
            if known.nlink == 0 {
                note("orphan", "has no link and is no orphan".to_string());
            }
            if known.kind == FileKind::Directory {
                let expected = u64::from(!is_root);
                if backs != expected {
                    note("link", format!("a directory with {backs} parents"));
                }
            } else if u64::from(known.nlink) != backs {
                note("link", format!("has {} links and {backs} back references", known.nlink));
            }
        }
        if self.find(InodeNo::ROOT).is_none() && self.is_whole(InodeNo::ROOT) {
            findings.note("inode", Object::Inode(InodeNo::ROOT), "the root does not exist");
        }
    }

    /// Every directory that is no orphan hangs on the root.
    fn check_reach(&self, findings: &Findings) {
        #[derive(Clone, Copy, PartialEq)]
        enum State {
            Unknown,
            /// On the way up that is being walked.
            Climbing,
            Settled,
        }
        let mut states = vec![State::Unknown; self.known.len()];
        for start in 0..self.known.len() {
            let mut climbed = Vec::new();
            let mut at = start;
            loop {
                let known = &self.known[at];
                let is_directory = known.kind == FileKind::Directory && !known.orphan;
                if !is_directory || states[at] == State::Settled || known.ino == InodeNo::ROOT {
                    break;
                }
                if states[at] == State::Climbing {
                    let object = Object::Inode(known.ino);
                    findings.note("link", object, "is inside itself: its parents form a ring");
                    break;
                }
                states[at] = State::Climbing;
                climbed.push(at);
                // A parent that is missing was reported as a back reference without an entry.
                let parent = self.backs_of(known.ino).first();
                let parent = parent.and_then(|back| {
                    self.known.binary_search_by_key(&back.dir, |known| known.ino).ok()
                });
                let Some(parent) = parent else { break };
                let above = &self.known[parent];
                if above.kind != FileKind::Directory {
                    let detail = format!("its parent ino:{} is no directory", above.ino);
                    findings.note("link", Object::Inode(known.ino), detail);
                    break;
                }
                if above.orphan {
                    let detail = format!("its parent ino:{} was removed", above.ino);
                    findings.note("link", Object::Inode(known.ino), detail);
                    break;
                }
                at = parent;
            }
            for index in climbed {
                states[index] = State::Settled;
            }
        }
    }

    /// One path to an inode, as far up as names lead.
    pub fn path(&self, ino: InodeNo) -> Option<String> {
        let mut parts: Vec<String> = Vec::new();
        let mut at = ino;
        while at != InodeNo::ROOT && parts.len() < PATH_DEPTH_MAX {
            let Some(name) = self.names_of(at).first() else { break };
            parts.push(self.text_of(name).escape_ascii().to_string());
            at = name.link.dir;
        }
        if at == InodeNo::ROOT {
            parts.push(String::new());
            if parts.len() == 1 {
                return Some("/".to_string());
            }
        } else if parts.is_empty() {
            return None;
        } else {
            parts.push("...".to_string());
        }
        parts.reverse();
        Some(parts.join("/"))
    }
}
