//! All short scripts: sequences of operations that succeed, on four names in two directories.
//!
//! A script begins with the two directories empty. Each of its steps is one verb on some of the names, and
//! changes the tree: what is refused, or leaves everything as it is, writes nothing, so that the script
//! without it says the same. Of two scripts that differ in what names are called only one is there: a
//! directory's second name is never used before its first was.

use crate::model::act::{Act, EntryName, NodeId, Payload, Place, RequestId, Sync};
use crate::model::tree::{Fate, Tree};
use cairn_engine::attr::FileKind;

/// One step: its requests go one after another.
pub type Step = Vec<Act>;
pub type Script = Vec<Step>;

pub const NAMES: [&[u8]; 2] = [b"a", b"b"];

/// Crosses three blocks, the first and last in part, and goes inline.
const WRITE: (u64, u32) = (3000, 7000);
/// More than one record takes inline.
const STORE: (u64, u32) = (0, 40 << 10);
const CUT_AT: u64 = 5000;

/// Every script of `length` steps, from `tree` on, whose next request has the number `next`.
pub fn scripts(tree: &Tree, dirs: [NodeId; 2], next: u32, length: usize) -> Vec<Script> {
    let mut found = Vec::new();
    let start = Walk { tree: tree.clone(), dirs, next, used: [0; 2] };
    start.extend(&mut Vec::new(), length, &mut found);
    found
}

#[derive(Clone)]
struct Walk {
    tree: Tree,
    dirs: [NodeId; 2],
    next: u32,
    /// Names of each directory that the script has used.
    used: [usize; 2],
}

impl Walk {
    fn extend(&self, script: &mut Script, length: usize, found: &mut Vec<Script>) {
        if length == 0 {
            found.push(script.clone());
            return;
        }
        for step in self.steps() {
            let Some(after) = self.after(&step) else { continue };
            script.push(step);
            after.extend(script, length - 1, found);
            script.pop();
        }
    }

    /// The state behind a step, if all of it succeeds and changes something.
    fn after(&self, step: &Step) -> Option<Walk> {
        let mut after = self.clone();
        for act in step {
            if !after.tree.refusals(act).is_empty() || after.tree.leaves_as_it_is(act) {
                return None;
            }
            after.tree.apply(RequestId(after.next), act, Fate::Answered);
            after.next += 1;
        }
        for (dir, used) in self.dirs.iter().zip(&mut after.used) {
            let entries = after.tree.entries(*dir)?;
            let is_there = |name: &&[u8]| entries.contains_key::<[u8]>(name);
            *used = (*used).max(NAMES.iter().rposition(is_there).map_or(0, |last| last + 1));
        }
        Some(after)
    }

    fn steps(&self) -> Vec<Step> {
        let places: Vec<Place> = self.places().collect();
        let mut steps: Vec<Step> = Vec::new();
        for at in &places {
            match self.tree.child(at) {
                None => steps.extend(self.that_make(at, &places)),
                Some(child) => steps.extend(self.that_change(at, child, &places)),
            }
            let others = places.iter().filter(|from| *from != at);
            let from = others.filter(|from| self.tree.child(from).is_some());
            steps.extend(from.map(|from| vec![Act::Rename { from: from.clone(), to: at.clone() }]));
        }
        steps
    }

    /// The names that a step may use.
    fn places(&self) -> impl Iterator<Item = Place> {
        self.dirs.iter().zip(&self.used).flat_map(|(&dir, used)| {
            let names = NAMES.iter().take(used + 1);
            names.map(move |name| Place { dir, name: EntryName::from(*name) })
        })
    }

    fn that_make(&self, at: &Place, places: &[Place]) -> Vec<Step> {
        let make = |kind, mode| vec![Act::Make { at: at.clone(), kind, mode }];
        let mut steps = vec![
            make(FileKind::Regular, 0o644),
            make(FileKind::Directory, 0o755),
            vec![Act::Symlink { at: at.clone(), target: b"../elsewhere".to_vec() }],
        ];
        let mut nodes: Vec<NodeId> =
            places.iter().filter_map(|from| self.tree.child(from)).collect();
        nodes.sort_unstable();
        nodes.dedup();
        steps.extend(nodes.into_iter().map(|node| vec![Act::Link { node, at: at.clone() }]));
        steps
    }

    fn that_change(&self, at: &Place, node: NodeId, places: &[Place]) -> Vec<Step> {
        let mut steps = match self.tree.is_directory(node) {
            true => vec![vec![Act::Rmdir { at: at.clone() }]],
            false => vec![vec![Act::Unlink { at: at.clone() }]],
        };
        // The rest is about the inode, whichever its name.
        if places.iter().find(|first| self.tree.child(first) == Some(node)) != Some(at) {
            return steps;
        }
        let (name, value) = (EntryName::from(&b"user.k"[..]), vec![b'v'; 100]);
        steps.push(vec![Act::SetXattr { node, name, value }]);
        if self.tree.file(node).is_some() {
            let data = |(offset, len)| Payload { tag: self.next, offset, len };
            steps.push(vec![Act::Write { node, data: data(WRITE), sync: Sync::File }]);
            steps.push(vec![
                Act::Write { node, data: data(STORE), sync: Sync::Unstable },
                Act::Commit { node, offset: 0, len: 0 },
            ]);
            steps.push(vec![Act::Truncate { node, size: CUT_AT }]);
        }
        steps
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn base() -> (Tree, [NodeId; 2]) {
        let mut tree = Tree::default();
        for id in [1, 2] {
            let at =
                Place { dir: NodeId::ROOT, name: EntryName::from([b'0' + id as u8].as_slice()) };
            let act = Act::Make { at, kind: FileKind::Directory, mode: 0o755 };
            tree.apply(RequestId(id), &act, Fate::Answered);
        }
        (tree, [NodeId(1), NodeId(2)])
    }

    #[test]
    fn the_first_step_makes_something_under_the_first_name_of_either_directory() {
        let (tree, dirs) = base();
        let one = scripts(&tree, dirs, 3, 1);
        assert_eq!(one.len(), 2 * 3, "{one:?}");
    }

    #[test]
    fn no_script_is_there_twice_and_none_names_a_second_name_first() {
        let (tree, dirs) = base();
        let three = scripts(&tree, dirs, 3, 3);
        let mut texts: Vec<String> = three.iter().map(|script| format!("{script:?}")).collect();
        texts.sort_unstable();
        texts.dedup();
        assert_eq!(texts.len(), three.len());
        for text in texts {
            for dir in ["n1", "n2"] {
                let first = |name| text.find(&format!("{dir}/{name}")).unwrap_or(usize::MAX);
                assert!(first("a") <= first("b"), "{text}");
            }
        }
    }
}
