//! Two trees side by side, in all that a copy should keep.
//!
//! `diff -r` looks at bytes only. Here an object is its type and mode, owners, time of change,
//! size, bytes, link target, link count and the other names it has. Not compared: the sizes and link
//! counts of folders, which are each file system's own business.

use anyhow::{Context, Result, ensure};
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

#[derive(Clone, Debug, PartialEq, Eq)]
struct Facts {
    mode: u32,
    owners: (u32, u32),
    modified: (i64, i64),
    /// Size, links, special device.
    numbers: (u64, u64, u64),
    /// The first of its names, in the order of the walk.
    first_name: PathBuf,
    target: Option<PathBuf>,
    content: Option<blake3::Hash>,
}

type Listing = BTreeMap<PathBuf, Facts>;

/// Fails with the first few differences, when there are any. Answers how many objects were equal.
pub fn equal_trees(expected: &Path, found: &Path) -> Result<usize> {
    let (expected, found) = (listing(expected)?, listing(found)?);
    let mut told = Vec::new();
    for (path, facts) in &expected {
        match found.get(path) {
            None => told.push(format!("{path:?} is missing")),
            Some(other) if other != facts => {
                told.push(format!("{path:?} is {other:?} and should be {facts:?}"));
            }
            Some(_) => {}
        }
    }
    let surplus = found.keys().filter(|path| !expected.contains_key(*path));
    told.extend(surplus.map(|path| format!("{path:?} should not be there")));
    let count = told.len();
    told.truncate(4);
    ensure!(count == 0, "{count} differences, the first of them: {}", told.join("; "));
    Ok(expected.len())
}

fn listing(root: &Path) -> Result<Listing> {
    let mut listing = Listing::new();
    let mut names = BTreeMap::new();
    walk(root, Path::new(""), &mut listing, &mut names)?;
    Ok(listing)
}

fn walk(
    root: &Path,
    inside: &Path,
    listing: &mut Listing,
    names: &mut BTreeMap<(u64, u64), PathBuf>,
) -> Result<()> {
    let folder = root.join(inside);
    let mut entries: Vec<OsString> = Vec::new();
    for entry in std::fs::read_dir(&folder).with_context(|| format!("cannot list {folder:?}"))? {
        entries.push(entry.with_context(|| format!("cannot list {folder:?}"))?.file_name());
    }
    entries.sort();
    for name in entries {
        let path = inside.join(name);
        let facts = facts(&root.join(&path), &path, names)
            .with_context(|| format!("cannot look at {:?}", root.join(&path)))?;
        let is_folder = facts.mode & 0o170_000 == 0o040_000;
        listing.insert(path.clone(), facts);
        if is_folder {
            walk(root, &path, listing, names)?;
        }
    }
    Ok(())
}

fn facts(at: &Path, path: &Path, names: &mut BTreeMap<(u64, u64), PathBuf>) -> Result<Facts> {
    let data = at.symlink_metadata()?;
    let kind = data.file_type();
    let first_name = match kind.is_dir() {
        true => path.to_owned(),
        false => names.entry((data.dev(), data.ino())).or_insert_with(|| path.to_owned()).clone(),
    };
    let is_folder = kind.is_dir();
    Ok(Facts {
        mode: data.mode(),
        owners: (data.uid(), data.gid()),
        modified: (data.mtime(), data.mtime_nsec()),
        numbers: if is_folder { (0, 0, 0) } else { (data.size(), data.nlink(), data.rdev()) },
        first_name,
        target: if kind.is_symlink() { Some(std::fs::read_link(at)?) } else { None },
        content: if kind.is_file() { Some(blake3::hash(&std::fs::read(at)?)) } else { None },
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    fn two_equal_trees() -> (tempfile::TempDir, PathBuf, PathBuf) {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let trees = ["a", "b"].map(|name| dir.path().join(name));
        for tree in &trees {
            fs::create_dir(tree).expect("a folder");
            fs::write(tree.join("f"), "bytes").expect("a file");
            fs::hard_link(tree.join("f"), tree.join("g")).expect("a link");
            let file = fs::File::open(tree.join("f")).expect("a file");
            file.set_modified(std::time::UNIX_EPOCH).expect("a time");
        }
        let [a, b] = trees;
        (dir, a, b)
    }

    #[test]
    fn a_changed_byte_time_or_link_is_a_difference() {
        let (_dir, a, b) = two_equal_trees();
        assert_eq!(equal_trees(&a, &b).expect("they are equal"), 2);
        fs::File::open(b.join("f"))
            .and_then(|f| {
                f.set_modified(std::time::UNIX_EPOCH + std::time::Duration::from_nanos(1))
            })
            .expect("a time");
        assert!(equal_trees(&a, &b).is_err());

        let (_dir, a, b) = two_equal_trees();
        fs::remove_file(b.join("g")).expect("it is there");
        fs::write(b.join("g"), "bytes").expect("a file");
        fs::File::open(b.join("g"))
            .and_then(|f| f.set_modified(std::time::UNIX_EPOCH))
            .expect("a time");
        let told = equal_trees(&a, &b).expect_err("equal bytes, but no link").to_string();
        assert!(told.starts_with("2 differences"), "{told}");
    }

    #[test]
    fn what_is_too_much_is_a_difference() {
        let (_dir, a, b) = two_equal_trees();
        fs::create_dir(b.join("more")).expect("a folder");
        assert!(equal_trees(&a, &b).is_err());
        assert!(equal_trees(&b, &a).is_err());
    }
}
