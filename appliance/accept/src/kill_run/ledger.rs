//! What the server has acknowledged: the tree as it must be found.
//!
//! Each path belongs to one worker, which enters a change after the reply that acknowledged it and
//! before its next call. While a change is in flight its worker knows (`worker.rs`) and settles it
//! after the restart; so when all workers are done the ledger is the whole truth, and a name that
//! is on the server and not in the ledger is as wrong as one that is missing.
//!
//! Every entry also goes to a log file in order, which is what a person reads when a run fails.

use anyhow::{Context, Result};
use std::collections::BTreeMap;
use std::fmt;
use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;

/// A path inside the server, printed so that any byte can be told.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct RemotePath(pub Vec<u8>);

impl RemotePath {
    pub fn of(text: impl Into<Vec<u8>>) -> RemotePath {
        RemotePath(text.into())
    }
}

impl fmt::Display for RemotePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "/{}", self.0.escape_ascii())
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Entry {
    Dir,
    File { fileid: u64, content: Content, dress: Option<Dress> },
    Symlink { target: Vec<u8> },
}

/// A file's bytes, by length and hash.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Content {
    pub bytes: u64,
    pub hash: blake3::Hash,
}

impl Content {
    pub fn of(bytes: &[u8]) -> Content {
        Content { bytes: bytes.len() as u64, hash: blake3::hash(bytes) }
    }
}

/// Attributes that were set on purpose.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Dress {
    pub mode: u32,
    pub mtime_seconds: u32,
    pub mtime_nanoseconds: u32,
}

pub struct Ledger {
    tree: BTreeMap<RemotePath, Entry>,
    log: BufWriter<File>,
    acknowledged: u64,
}

impl Ledger {
    pub fn create(log: &Path) -> Result<Ledger> {
        let file = File::create(log).with_context(|| format!("cannot make {}", log.display()))?;
        Ok(Ledger { tree: BTreeMap::new(), log: BufWriter::new(file), acknowledged: 0 })
    }

    /// Acknowledged calls so far.
    pub fn acknowledged(&self) -> u64 {
        self.acknowledged
    }

    pub fn tree(&self) -> &BTreeMap<RemotePath, Entry> {
        &self.tree
    }

    pub fn get(&self, path: &RemotePath) -> Option<&Entry> {
        self.tree.get(path)
    }

    /// A call that leaves the tree as it was, for the log and the count.
    pub fn note(&mut self, what: fmt::Arguments<'_>) -> Result<()> {
        self.acknowledged += 1;
        writeln!(self.log, "{} {what}", self.acknowledged).context("cannot write the log")
    }

    pub fn put(&mut self, path: &RemotePath, entry: Entry) -> Result<()> {
        self.note(format_args!("put {path} {entry:?}"))?;
        self.tree.insert(path.clone(), entry);
        Ok(())
    }

    pub fn remove(&mut self, path: &RemotePath) -> Result<()> {
        self.note(format_args!("remove {path}"))?;
        self.tree.remove(path).with_context(|| format!("{path} was never acknowledged"))?;
        Ok(())
    }

    /// Moves an entry, and for a directory all that is below it.
    pub fn rename(&mut self, from: &RemotePath, to: &RemotePath) -> Result<()> {
        self.note(format_args!("rename {from} {to}"))?;
        let moved = self.tree.remove(from);
        let moved = moved.with_context(|| format!("{from} was never acknowledged"))?;
        self.tree.insert(to.clone(), moved);
        let below = [from.0.as_slice(), b"/"].concat();
        let first = RemotePath(below.clone());
        let inside: Vec<RemotePath> = (self.tree.range(first..))
            .map(|(path, _)| path.clone())
            .take_while(|path| path.0.starts_with(&below))
            .collect();
        for path in inside {
            let new = [to.0.as_slice(), &path.0[from.0.len()..]].concat();
            let entry = self.tree.remove(&path).context("it was just listed")?;
            self.tree.insert(RemotePath(new), entry);
        }
        Ok(())
    }

    /// Changes a file under all its names.
    pub fn change(&mut self, wanted: u64, change: impl Fn(&mut Entry)) -> Result<()> {
        self.note(format_args!("change of file {wanted}"))?;
        for entry in self.tree.values_mut() {
            if matches!(entry, Entry::File { fileid, .. } if *fileid == wanted) {
                change(entry);
            }
        }
        Ok(())
    }

    pub fn flush(&mut self) -> Result<()> {
        self.log.flush().context("cannot write the log")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ledger() -> (Ledger, tempfile::TempDir) {
        let dir = tempfile::tempdir().expect("a temporary folder");
        (Ledger::create(&dir.path().join("log")).expect("can make a log"), dir)
    }

    #[test]
    fn a_moved_directory_takes_its_inside_along_and_not_its_neighbours() {
        let (mut ledger, _dir) = ledger();
        for path in ["a", "a/x", "a/x/y", "a-b", "b"] {
            ledger.put(&RemotePath::of(path), Entry::Dir).expect("put");
        }
        ledger.rename(&RemotePath::of("a"), &RemotePath::of("b/c")).expect("renamed");
        let names: Vec<String> = ledger.tree().keys().map(ToString::to_string).collect();
        assert_eq!(names, ["/a-b", "/b", "/b/c", "/b/c/x", "/b/c/x/y"]);
    }

    #[test]
    fn a_change_reaches_every_name_of_the_file() {
        let (mut ledger, _dir) = ledger();
        let file = |fileid| Entry::File { fileid, content: Content::of(b""), dress: None };
        for (path, fileid) in [("one", 5), ("other", 5), ("third", 6)] {
            ledger.put(&RemotePath::of(path), file(fileid)).expect("put");
        }
        let fresh = Content::of(b"fresh");
        ledger
            .change(5, |entry| {
                if let Entry::File { content, .. } = entry {
                    *content = fresh.clone();
                }
            })
            .expect("changed");
        let changed: Vec<bool> = ledger
            .tree()
            .values()
            .map(|entry| matches!(entry, Entry::File { content, .. } if *content == fresh))
            .collect();
        assert_eq!(changed, [true, true, false]);
    }

    #[test]
    fn a_path_prints_on_one_line() {
        assert_eq!(RemotePath::of(b"a\n\xff".to_vec()).to_string(), "/a\\n\\xff");
    }
}
