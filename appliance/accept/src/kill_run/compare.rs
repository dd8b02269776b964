//! The last word: the server's whole tree beside the ledger, both ways, every byte by hash.

use super::ledger::{Entry, RemotePath};
use super::worker;
use crate::client::Found;
use crate::nfs3_types::nfs3::{fattr3, ftype3, nfs_fh3};
use crate::tree::Tree;
use anyhow::{Context, Result};
use std::collections::BTreeMap;
use std::fmt::Write;

/// So many differences say what is wrong; more only fill the screen.
const DIFFERENCES_MAX: usize = 20;

/// What was compared and found equal.
#[derive(Clone, Copy, Debug, Default)]
pub struct Compared {
    pub files: u64,
    pub dirs: u64,
    pub symlinks: u64,
    pub bytes: u64,
}

pub fn compare(tree: &mut Tree, expected: &BTreeMap<RemotePath, Entry>) -> Result<Compared> {
    let root = tree.client.root().clone();
    let mut found = BTreeMap::new();
    walk(tree, root, &RemotePath(Vec::new()), &mut found)?;

    let mut differences = Vec::new();
    let mut compared = Compared::default();
    for (path, entry) in expected {
        if differences.len() == DIFFERENCES_MAX {
            break;
        }
        match found.get(path) {
            None => differences.push(format!("{path} is missing, acknowledged was {entry:?}")),
            Some(there) => match worker::check(tree, path, entry, there, u64::MAX) {
                Ok(()) => compared.add(entry, &there.attr),
                Err(error) => differences.push(format!("{error:#}")),
            },
        }
    }
    let extra = found.keys().filter(|path| !expected.contains_key(path));
    differences.extend(extra.map(|path| format!("{path} is there and should not be")));
    differences.extend(link_counts(&found));
    if differences.is_empty() {
        return Ok(compared);
    }
    let mut text = format!("{} differences from what was acknowledged:", differences.len());
    for difference in differences.iter().take(DIFFERENCES_MAX) {
        write!(text, "\n  {difference}").context("memory")?;
    }
    anyhow::bail!(text)
}

impl Compared {
    fn add(&mut self, entry: &Entry, attr: &fattr3) {
        match entry {
            Entry::Dir => self.dirs += 1,
            Entry::Symlink { .. } => self.symlinks += 1,
            Entry::File { .. } => {
                self.files += 1;
                self.bytes += attr.size;
            }
        }
    }
}

fn walk(
    tree: &mut Tree,
    dir: nfs_fh3,
    below: &RemotePath,
    found: &mut BTreeMap<RemotePath, Found>,
) -> Result<()> {
    let listed = tree.list(&dir).with_context(|| format!("cannot list {below}"))?;
    for (entry, there) in listed {
        let mut path = below.0.clone();
        if !path.is_empty() {
            path.push(b'/');
        }
        path.extend_from_slice(&entry.name);
        let path = RemotePath(path);
        if there.attr.type_ == ftype3::NF3DIR {
            walk(tree, there.handle.clone(), &path, found)?;
        }
        if found.insert(path.clone(), there).is_some() {
            anyhow::bail!("{path} is listed twice");
        }
    }
    Ok(())
}

/// Link counts that do not fit the names: a file has as many as names, a directory two and one for
/// each directory in it.
fn link_counts(found: &BTreeMap<RemotePath, Found>) -> Vec<String> {
    let mut names: BTreeMap<u64, u32> = BTreeMap::new();
    let mut inner_dirs: BTreeMap<RemotePath, u32> = BTreeMap::new();
    for (path, there) in found {
        *names.entry(there.attr.fileid).or_default() += 1;
        if there.attr.type_ == ftype3::NF3DIR {
            *inner_dirs.entry(super::job::parent(path)).or_default() += 1;
        }
    }
    let expected = |path: &RemotePath, attr: &fattr3| match attr.type_ {
        ftype3::NF3DIR => 2 + inner_dirs.get(path).copied().unwrap_or(0),
        _ => names.get(&attr.fileid).copied().unwrap_or(0),
    };
    found
        .iter()
        .map(|(path, there)| (path, there.attr.nlink, expected(path, &there.attr)))
        .filter(|(_, is, should)| is != should)
        .map(|(path, is, should)| format!("{path} has link count {is}, should be {should}"))
        .collect()
}
