//! Whole paths, whole files and whole directories, made of single calls.
//!
//! Paths are bytes with `/` between names, from the mounted root. Directory handles that were seen
//! are kept, since handles outlive even the server's restart; whoever removes or moves a directory
//! drops the cache (`forget`).

use crate::client::{Answer, Client, Fault, Found};
use crate::nfs3_types::nfs3::*;
use std::collections::BTreeMap;

/// As much as one READ asks for.
const READ_BYTES: u32 = 64 * 1024;
/// As much as one READDIRPLUS asks for.
const LIST_BYTES: u32 = 32 * 1024;

/// One entry of a listing.
#[derive(Clone, Debug)]
pub struct ListedEntry {
    pub name: Vec<u8>,
    pub fileid: u64,
    pub cookie: u64,
}

/// A client that thinks in paths.
pub struct Tree {
    pub client: Client,
    dirs: BTreeMap<Vec<u8>, nfs_fh3>,
}

/// The directory's part of a path and the last name.
pub fn split(path: &[u8]) -> (&[u8], &[u8]) {
    match path.iter().rposition(|byte| *byte == b'/') {
        Some(at) => (&path[..at], &path[at + 1..]),
        None => (&[], path),
    }
}

impl Tree {
    pub fn new(client: Client) -> Tree {
        Tree { client, dirs: BTreeMap::new() }
    }

    /// Drops what is known of directories.
    pub fn forget(&mut self) {
        self.dirs.clear();
    }

    /// The handle of a directory that must be there.
    pub fn dir(&mut self, path: &[u8]) -> Answer<nfs_fh3> {
        if path.is_empty() {
            return Ok(self.client.root().clone());
        }
        if let Some(handle) = self.dirs.get(path) {
            return Ok(handle.clone());
        }
        let (parent, name) = split(path);
        let parent = self.dir(parent)?;
        let found = self.client.lookup(&parent, name)?;
        self.dirs.insert(path.to_vec(), found.handle.clone());
        Ok(found.handle)
    }

    /// Makes a directory and those above it. Answers those that this call made, outermost first.
    pub fn make_dirs(&mut self, path: &[u8]) -> Answer<Vec<Vec<u8>>> {
        if path.is_empty() || self.dirs.contains_key(path) {
            return Ok(Vec::new());
        }
        let (above, name) = split(path);
        let mut made = self.make_dirs(above)?;
        let parent = self.dir(above)?;
        let handle = match self.client.lookup(&parent, name) {
            Ok(found) => found.handle,
            Err(fault) if fault.is_no_entry() => {
                match self.client.mkdir(&parent, name, sattr3::default()) {
                    Ok(new) => {
                        made.push(path.to_vec());
                        new.handle
                    }
                    Err(fault) if fault.is_exist() => self.client.lookup(&parent, name)?.handle,
                    Err(fault) => return Err(fault),
                }
            }
            Err(fault) => return Err(fault),
        };
        self.dirs.insert(path.to_vec(), handle);
        Ok(made)
    }

    /// The object at a path; nothing when there is none.
    pub fn find(&mut self, path: &[u8]) -> Answer<Option<Found>> {
        let (parent, name) = split(path);
        let parent = match self.dir(parent) {
            Ok(handle) => handle,
            Err(fault) if fault.is_no_entry() => return Ok(None),
            Err(fault) => return Err(fault),
        };
        match self.client.lookup(&parent, name) {
            Ok(found) => Ok(Some(found)),
            Err(fault) if fault.is_no_entry() => Ok(None),
            Err(fault) => Err(fault),
        }
    }

    /// A file's first bytes, up to `limit` or its end.
    pub fn read_up_to(&mut self, file: &nfs_fh3, limit: u64) -> Answer<Vec<u8>> {
        let mut bytes = Vec::new();
        while (bytes.len() as u64) < limit {
            let left = limit - bytes.len() as u64;
            let count = READ_BYTES.min(u32::try_from(left).unwrap_or(READ_BYTES));
            let part = self.client.read(file, bytes.len() as u64, count)?;
            bytes.extend_from_slice(&part.data);
            if part.eof || part.data.is_empty() {
                break;
            }
        }
        Ok(bytes)
    }

    pub fn read_all(&mut self, file: &nfs_fh3) -> Answer<Vec<u8>> {
        self.read_up_to(file, u64::MAX)
    }

    /// Everything in a directory with its attributes, without `.` and `..`.
    pub fn list(&mut self, dir: &nfs_fh3) -> Answer<Vec<(ListedEntry, Found)>> {
        let mut all = Vec::new();
        let mut position = (0, cookieverf3::default());
        loop {
            let page = self.client.readdirplus(dir, position, LIST_BYTES)?;
            position.1 = page.cookieverf;
            let entries = page.reply.entries.into_inner();
            let at_end = page.reply.eof || entries.is_empty();
            for entry in entries {
                position.0 = entry.cookie;
                let name = entry.name.as_ref().to_vec();
                if name == b"." || name == b".." {
                    continue;
                }
                let found = match (entry.name_handle, entry.name_attributes) {
                    (Nfs3Option::Some(handle), Nfs3Option::Some(attr)) => Found { handle, attr },
                    // The server may leave out what another core would have to be asked for.
                    _ => self.client.lookup(dir, &name)?,
                };
                let (fileid, cookie) = (entry.fileid, entry.cookie);
                all.push((ListedEntry { name, fileid, cookie }, found));
            }
            if at_end {
                return Ok(all);
            }
        }
    }

    /// Writes a new file in one synchronous write and answers what it is.
    pub fn put(&mut self, dir: &nfs_fh3, name: &[u8], bytes: &[u8]) -> Answer<Found> {
        let made = self.client.create(dir, name, createhow3::GUARDED(sattr3::default()))?;
        if !bytes.is_empty() {
            let written =
                self.client.write(&made.handle, 0, bytes, stable_how::FILE_SYNC)?.count as usize;
            if written != bytes.len() {
                return Err(Fault::Lost(format!("short write: {written} of {}", bytes.len())));
            }
        }
        let attr = self.client.getattr(&made.handle)?;
        Ok(Found { handle: made.handle, attr })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_splits_at_its_last_name() {
        assert_eq!(split(b"a/b/c"), (&b"a/b"[..], &b"c"[..]));
        assert_eq!(split(b"c"), (&b""[..], &b"c"[..]));
    }
}
