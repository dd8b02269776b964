//! Every name leads to an inode, and an inode counts its names.
//!
//! The oracle compares with what clients asked for. This looks at what was shown by itself: it holds
//! whatever was asked, also beside damage, as far as directories could be read.

use crate::model::seen::{Seen, SeenBody};
use cairn_engine::attr::FileKind;
use cairn_format::InodeNo;
use std::collections::BTreeMap;

pub fn check(seen: &Seen) -> Result<(), String> {
    let mut names: BTreeMap<InodeNo, u32> = [(InodeNo::ROOT, 1)].into();
    let mut directories: BTreeMap<InodeNo, u32> = BTreeMap::new();
    for (&ino, node) in &seen.nodes {
        let SeenBody::Directory(entries) = &node.body else { continue };
        for (name, child) in entries {
            let text = String::from_utf8_lossy(name);
            *names.entry(*child).or_default() += 1;
            match seen.nodes.get(child).map(|child| child.kind) {
                Some(FileKind::Directory) => *directories.entry(ino).or_default() += 1,
                Some(_) => {}
                None if seen.damaged.contains_key(child) => {}
                None => {
                    return Err(format!("{text} of inode {ino} leads to {child}, which is none"));
                }
            }
        }
    }
    if !seen.damaged.is_empty() {
        return Ok(());
    }
    for (&ino, node) in &seen.nodes {
        let names = names.get(&ino).copied().unwrap_or(0);
        let right = match node.kind {
            FileKind::Directory if names != 1 => {
                return Err(format!("directory {ino} has {names} names"));
            }
            FileKind::Directory => 2 + directories.get(&ino).copied().unwrap_or(0),
            _ => names,
        };
        if node.nlink != right {
            return Err(format!("inode {ino} has a link count of {}, not {right}", node.nlink));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::sample::{file, ino, seen};

    #[test]
    fn a_sound_tree_passes() {
        assert_eq!(check(&seen()), Ok(()));
    }

    #[test]
    fn a_name_that_leads_nowhere_is_found() {
        let mut seen = seen();
        seen.nodes.remove(&ino(3));
        assert!(check(&seen).is_err_and(|what| what.contains("which is none")));
        // Unless it is known that it could not be read.
        seen.damaged.insert(ino(3), Vec::new());
        assert_eq!(check(&seen), Ok(()));
    }

    #[test]
    fn wrong_link_counts_of_files_and_directories_are_found() {
        for raw in [1, 2, 3] {
            let mut seen = seen();
            seen.nodes.get_mut(&ino(raw)).expect("it is there").nlink += 1;
            assert!(check(&seen).is_err_and(|what| what.contains("link count")), "inode {raw}");
        }
    }

    #[test]
    fn an_inode_without_a_name_is_found() {
        let mut seen = seen();
        seen.nodes.insert(ino(9), file(1, &[]));
        assert!(check(&seen).is_err());
    }
}
