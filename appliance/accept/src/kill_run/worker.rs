//! One connection's worth of copying, through any number of kills.
//!
//! A worker performs steps and enters each in the ledger when it is acknowledged. When the
//! connection breaks it waits for the next start of the daemon, and then finds out: everything
//! acknowledged since the start before must be there, and the step that was in flight is either
//! done or not done, nothing between. It enters which, and goes on.
//!
//! Looking is done with the same calls as copying, so a step is written once: `perform` with
//! `Doubt::InFlight` first looks what is there.

use super::job::{Step, Style, parent};
use super::ledger::{Content, Dress, Entry, Ledger, RemotePath};
use super::source::Body;
use super::stage::{Queue, Stage};
use crate::client::{Client, Cred, Fault, Found, now_or, set_mode};
use crate::nfs3_types::nfs3::*;
use crate::tree::Tree;
use anyhow::{Context, Result};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// A look at a recently acknowledged file reads this much of it; the comparison at the end reads
/// everything.
const GLANCE_BYTES: u64 = 1 << 20;
/// Unstable writes between two COMMITs.
const WRITES_A_COMMIT: usize = 8;

/// Whether a step may have been done already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Doubt {
    None,
    InFlight,
}

/// Why a step is not done: the connection, or a promise.
enum Stop {
    Fault(Fault),
    Broken(anyhow::Error),
}

impl From<Fault> for Stop {
    fn from(fault: Fault) -> Stop {
        Stop::Fault(fault)
    }
}

impl From<anyhow::Error> for Stop {
    fn from(error: anyhow::Error) -> Stop {
        Stop::Broken(error)
    }
}

/// A broken promise, in words.
macro_rules! broken {
    ($($word:tt)*) => { return Err(Stop::Broken(anyhow::anyhow!($($word)*))) };
}

pub struct Worker<'r> {
    stage: &'r Stage,
    ledger: &'r Mutex<Ledger>,
    tree: Tree,
    generation: u64,
    /// Names that changed since the daemon last started.
    recent: Vec<RemotePath>,
    /// The part of the file being written that the server has promised to keep.
    promised: u64,
}

impl<'r> Worker<'r> {
    /// Works the queue down. Ends early, and well, when the run is being abandoned.
    pub fn run(stage: &'r Stage, ledger: &'r Mutex<Ledger>, queue: &Queue) -> Result<()> {
        let Some((generation, tree)) = connect(stage, 0)? else {
            return Ok(());
        };
        let (recent, promised) = (Vec::new(), 0);
        let mut worker = Worker { stage, ledger, tree, generation, recent, promised };
        while let Some(steps) = queue.next() {
            for step in steps {
                if !worker.see_through(&step)? {
                    return Ok(());
                }
            }
            queue.finished_one();
        }
        Ok(())
    }

    /// Performs a step, over restarts if need be. False when the run is being abandoned.
    fn see_through(&mut self, step: &Step) -> Result<bool> {
        let mut doubt = Doubt::None;
        self.promised = 0;
        loop {
            match self.perform(step, doubt) {
                Ok(()) => return Ok(true),
                Err(Stop::Fault(Fault::Lost(_))) => {
                    if !self.reconnect(step)? {
                        return Ok(false);
                    }
                    doubt = Doubt::InFlight;
                }
                Err(Stop::Fault(fault)) => return Err(fault).context(format!("{step:?}")),
                Err(Stop::Broken(error)) => return Err(error.context(format!("{step:?}"))),
            }
        }
    }

    /// Waits for the next start and looks at what had been acknowledged before it.
    fn reconnect(&mut self, step: &Step) -> Result<bool> {
        loop {
            let Some((generation, tree)) = connect(self.stage, self.generation)? else {
                return Ok(false);
            };
            (self.generation, self.tree) = (generation, tree);
            match self.glance_back(step) {
                Ok(()) => {
                    self.recent.clear();
                    return Ok(true);
                }
                Err(Stop::Fault(Fault::Lost(_))) => {} // killed again while we looked
                Err(Stop::Fault(fault)) => return Err(fault).context("looking after a restart"),
                Err(Stop::Broken(error)) => return Err(error.context("after a restart")),
            }
        }
    }

    fn glance_back(&mut self, step: &Step) -> Result<(), Stop> {
        for path in self.recent.clone() {
            if touches(step, &path) {
                continue; // in flight: may be either, which `perform` is about to see
            }
            let expected = self.ledger().get(&path).cloned();
            let found = self.tree.find(&path.0)?;
            match (expected, found) {
                (None, None) => {}
                (None, Some(_)) => broken!("{path} is back, its removal was acknowledged"),
                (Some(entry), None) => broken!("{path} is gone, acknowledged was {entry:?}"),
                (Some(entry), Some(found)) => {
                    verify(&mut self.tree, &path, &entry, &found, GLANCE_BYTES)?;
                }
            }
        }
        Ok(())
    }

    fn perform(&mut self, step: &Step, doubt: Doubt) -> Result<(), Stop> {
        match step {
            Step::MakeDirs { at } => self.make_dirs(at),
            Step::Create { at, exclusive } => self.create(at, *exclusive, doubt),
            Step::Write { at, body, style, chunk } => self.write(at, body, *style, *chunk),
            Step::SetAttributes { at, dress } => self.set_attributes(at, *dress),
            Step::Rename { from, to } => self.rename(from, to, doubt),
            Step::Link { from, to } => self.link(from, to, doubt),
            Step::Symlink { at, target } => self.symlink(at, target, doubt),
            Step::Remove { at } => self.remove(at, doubt),
            Step::RemoveDir { at } => self.remove_dir(at, doubt),
        }
    }

    fn make_dirs(&mut self, at: &RemotePath) -> Result<(), Stop> {
        self.tree.make_dirs(&at.0)?;
        // All of them are there now; an earlier try, cut off by a kill, may have made some.
        let ends = at.0.iter().enumerate().filter(|(_, byte)| **byte == b'/').map(|(end, _)| end);
        for end in ends.chain([at.0.len()]).filter(|end| *end > 0) {
            let dir = RemotePath(at.0[..end].to_vec());
            if self.ledger().get(&dir).is_none() {
                self.ledger().put(&dir, Entry::Dir)?;
                self.recent.push(dir);
            }
        }
        Ok(())
    }

    fn create(&mut self, at: &RemotePath, exclusive: bool, doubt: Doubt) -> Result<(), Stop> {
        let (dir, name) = self.place(at)?;
        let there = if doubt == Doubt::InFlight { self.tree.find(&at.0)? } else { None };
        let attr = match there {
            Some(found) if found.attr.type_ != ftype3::NF3REG || found.attr.size != 0 => {
                broken!("{at}: created as an empty file, is {:?}", found.attr)
            }
            // An exclusive create is finished by a SETATTR, which may have been lost.
            Some(found) => found.attr,
            None => {
                let how = if exclusive {
                    createhow3::EXCLUSIVE(createverf3(verifier_of(at)))
                } else {
                    createhow3::GUARDED(sattr3::default())
                };
                self.tree.client.create(&dir, &name, how)?.attr
            }
        };
        let content = Content::of(b"");
        self.entered(at, Some(Entry::File { fileid: attr.fileid, content, dress: None }))
    }

    fn write(
        &mut self,
        at: &RemotePath,
        body: &Body,
        style: Style,
        chunk: usize,
    ) -> Result<(), Stop> {
        let bytes = body.load()?;
        let file = self.expect(at)?;
        let kept = self.tree.read_up_to(&file.handle, self.promised)?;
        let promised = usize::try_from(self.promised).unwrap_or(usize::MAX);
        if bytes.get(..promised) != Some(kept.as_slice()) {
            broken!("{at}: of {promised} bytes promised, {} are there or they differ", kept.len());
        }
        match style {
            Style::Synchronous => self.write_synchronously(&file, at, &bytes, chunk)?,
            Style::Unstable => self.write_unstable(&file, at, &bytes, chunk)?,
            Style::Backwards => self.write_backwards(&file, at, &bytes, chunk)?,
        }
        let content = Content::of(&bytes);
        self.ledger().change(file.attr.fileid, |entry| {
            if let Entry::File { content: old, .. } = entry {
                *old = content.clone();
            }
        })?;
        self.recent.push(at.clone());
        Ok(())
    }

    fn write_synchronously(
        &mut self,
        file: &Found,
        at: &RemotePath,
        bytes: &[u8],
        chunk: usize,
    ) -> Result<(), Stop> {
        while (self.promised as usize) < bytes.len() {
            let start = self.promised as usize;
            let part = &bytes[start..bytes.len().min(start + chunk)];
            let written =
                self.tree.client.write(&file.handle, start as u64, part, stable_how::FILE_SYNC)?;
            if written.count == 0 || written.committed != stable_how::FILE_SYNC {
                broken!("{at}: FILE_SYNC write answered {written:?}");
            }
            self.promised += u64::from(written.count);
            let promised = self.promised;
            self.ledger().note(format_args!("promised {promised} bytes of {at}"))?;
        }
        Ok(())
    }

    fn write_unstable(
        &mut self,
        file: &Found,
        at: &RemotePath,
        bytes: &[u8],
        chunk: usize,
    ) -> Result<(), Stop> {
        while (self.promised as usize) < bytes.len() {
            let start = self.promised as usize;
            let end = bytes.len().min(start + chunk * WRITES_A_COMMIT);
            let parts = ranges(start, end, chunk);
            self.write_and_commit(file, at, bytes, parts)?;
            self.promised = end as u64;
            self.ledger().note(format_args!("committed {end} bytes of {at}"))?;
        }
        Ok(())
    }

    fn write_backwards(
        &mut self,
        file: &Found,
        at: &RemotePath,
        bytes: &[u8],
        chunk: usize,
    ) -> Result<(), Stop> {
        let mut parts = ranges(0, bytes.len(), chunk);
        parts.reverse();
        self.write_and_commit(file, at, bytes, parts)?;
        self.promised = bytes.len() as u64;
        Ok(())
    }

    /// Unstable writes and their COMMIT; again when the verifier says that the server forgot some.
    fn write_and_commit(
        &mut self,
        file: &Found,
        at: &RemotePath,
        bytes: &[u8],
        parts: Vec<(usize, usize)>,
    ) -> Result<(), Stop> {
        for _ in 0..3 {
            let mut verifiers = Vec::new();
            for (from, to) in &parts {
                let mut start = *from;
                while start < *to {
                    let part = &bytes[start..*to];
                    let unstable = stable_how::UNSTABLE;
                    let handle = &file.handle;
                    let written = self.tree.client.write(handle, start as u64, part, unstable)?;
                    if written.count == 0 {
                        broken!("{at}: a write at {start} wrote nothing");
                    }
                    start += written.count as usize;
                    verifiers.push(written.verf);
                }
            }
            let committed = self.tree.client.commit(&file.handle, 0, 0)?;
            if verifiers.iter().all(|verifier| *verifier == committed.verf) {
                return Ok(());
            }
        }
        broken!("{at}: the write verifier changed three times without a restart")
    }

    fn set_attributes(&mut self, at: &RemotePath, dress: Dress) -> Result<(), Stop> {
        let file = self.expect(at)?;
        let mtime = nfstime3 { seconds: dress.mtime_seconds, nseconds: dress.mtime_nanoseconds };
        let mode = set_mode(dress.mode);
        let set = sattr3 { mode, mtime: now_or(Some(mtime)), ..sattr3::default() };
        self.tree.client.setattr(&file.handle, set)?;
        self.ledger().change(file.attr.fileid, |entry| {
            if let Entry::File { dress: old, .. } = entry {
                *old = Some(dress);
            }
        })?;
        self.recent.push(at.clone());
        Ok(())
    }

    fn rename(&mut self, from: &RemotePath, to: &RemotePath, doubt: Doubt) -> Result<(), Stop> {
        let (from_dir, from_name) = self.place(from)?;
        let (to_dir, to_name) = self.place(to)?;
        let done = match doubt {
            Doubt::None => false,
            Doubt::InFlight => match (self.tree.find(&from.0)?, self.tree.find(&to.0)?) {
                (Some(_), _) => false,
                (None, Some(_)) => true,
                (None, None) => broken!("{from} is under neither name, {to} was the other"),
            },
        };
        if !done {
            let client = &mut self.tree.client;
            client.rename((&from_dir, &from_name), (&to_dir, &to_name))?;
        }
        self.tree.forget();
        // Looked at before it is entered: a step must not break off behind its entry. And a rename
        // that is found done has moved what we meant, not left what lay there before.
        let entry = self.ledger().get(from).cloned();
        let entry = entry.with_context(|| format!("{from} was never acknowledged"))?;
        let found = self.expect(to)?;
        verify(&mut self.tree, to, &entry, &found, GLANCE_BYTES)?;
        self.ledger().rename(from, to)?;
        self.recent.extend([from.clone(), to.clone()]);
        Ok(())
    }

    fn link(&mut self, from: &RemotePath, to: &RemotePath, doubt: Doubt) -> Result<(), Stop> {
        let file = self.expect(from)?;
        let (dir, name) = self.place(to)?;
        let there = if doubt == Doubt::InFlight { self.tree.find(&to.0)? } else { None };
        match there {
            Some(found) if found.attr.fileid != file.attr.fileid => {
                broken!("{to}: a link to {} is file {}", file.attr.fileid, found.attr.fileid)
            }
            Some(_) => {}
            None => {
                self.tree.client.link(&file.handle, &dir, &name)?;
            }
        }
        let entry = self.ledger().get(from).cloned();
        self.entered(to, entry)
    }

    fn symlink(&mut self, at: &RemotePath, target: &[u8], doubt: Doubt) -> Result<(), Stop> {
        let (dir, name) = self.place(at)?;
        let there = if doubt == Doubt::InFlight { self.tree.find(&at.0)? } else { None };
        let entry = Entry::Symlink { target: target.to_vec() };
        match there {
            Some(found) => verify(&mut self.tree, at, &entry, &found, GLANCE_BYTES)?,
            None => {
                self.tree.client.symlink(&dir, &name, target)?;
            }
        }
        self.entered(at, Some(entry))
    }

    fn remove(&mut self, at: &RemotePath, doubt: Doubt) -> Result<(), Stop> {
        let (dir, name) = self.place(at)?;
        if doubt == Doubt::None || self.tree.find(&at.0)?.is_some() {
            self.tree.client.remove(&dir, &name)?;
        }
        self.entered(at, None)
    }

    fn remove_dir(&mut self, at: &RemotePath, doubt: Doubt) -> Result<(), Stop> {
        let (dir, name) = self.place(at)?;
        if doubt == Doubt::None || self.tree.find(&at.0)?.is_some() {
            self.tree.client.rmdir(&dir, &name)?;
        }
        self.tree.forget();
        self.entered(at, None)
    }

    /// What is acknowledged at a path from now on, and with it the directories above: another
    /// worker may have made them, and only a change inside promises us that they stay.
    fn entered(&mut self, at: &RemotePath, entry: Option<Entry>) -> Result<(), Stop> {
        let mut above = parent(at);
        while !above.0.is_empty() {
            if self.ledger().get(&above).is_none() {
                self.ledger().put(&above, Entry::Dir)?;
                self.recent.push(above.clone());
            }
            above = parent(&above);
        }
        match entry {
            Some(entry) => self.ledger().put(at, entry)?,
            None => self.ledger().remove(at)?,
        }
        self.recent.push(at.clone());
        Ok(())
    }

    fn expect(&mut self, at: &RemotePath) -> Result<Found, Stop> {
        match self.tree.find(&at.0)? {
            Some(found) => Ok(found),
            None => {
                let entry = self.ledger().get(at).cloned();
                broken!("{at} is gone, acknowledged was {entry:?}")
            }
        }
    }

    fn place(&mut self, at: &RemotePath) -> Result<(nfs_fh3, Vec<u8>), Stop> {
        let (dir, name) = crate::tree::split(&at.0);
        match self.tree.dir(dir) {
            Ok(handle) => Ok((handle, name.to_vec())),
            Err(fault) if fault.is_no_entry() => {
                if self.ledger().get(&parent(at)).is_some() {
                    broken!("the directory of {at} is gone, it was acknowledged");
                }
                // Another worker's, seen and lost before anything about it was acknowledged.
                self.make_dirs(&parent(at))?;
                Ok((self.tree.dir(dir)?, name.to_vec()))
            }
            Err(fault) => Err(fault.into()),
        }
    }

    fn ledger(&self) -> MutexGuard<'r, Ledger> {
        self.ledger.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether what is found is what was acknowledged, reading up to `limit` bytes of a file.
pub fn check(
    tree: &mut Tree,
    path: &RemotePath,
    entry: &Entry,
    found: &Found,
    limit: u64,
) -> Result<()> {
    match verify(tree, path, entry, found, limit) {
        Ok(()) => Ok(()),
        Err(Stop::Fault(fault)) => Err(fault).with_context(|| format!("looking at {path}")),
        Err(Stop::Broken(error)) => Err(error),
    }
}

fn verify(
    tree: &mut Tree,
    path: &RemotePath,
    entry: &Entry,
    found: &Found,
    limit: u64,
) -> Result<(), Stop> {
    let attr = &found.attr;
    match entry {
        Entry::Dir if attr.type_ != ftype3::NF3DIR => {
            broken!("{path}: {:?}, not a directory", attr)
        }
        Entry::Dir => {}
        Entry::Symlink { target } => {
            if attr.type_ != ftype3::NF3LNK {
                broken!("{path}: {attr:?}, not a symlink");
            }
            let is = tree.client.readlink(&found.handle)?;
            if is != *target {
                broken!("{path}: points to {:?}", RemotePath(is));
            }
        }
        Entry::File { fileid, content, dress } => {
            if attr.type_ != ftype3::NF3REG || attr.fileid != *fileid || attr.size != content.bytes
            {
                broken!("{path}: acknowledged was {entry:?}, there is {attr:?}");
            }
            if let Some(dress) = dress {
                let mtime = (attr.mtime.seconds, attr.mtime.nseconds);
                let set = (dress.mtime_seconds, dress.mtime_nanoseconds);
                if attr.mode & 0o7777 != dress.mode || mtime != set {
                    broken!("{path}: acknowledged was {dress:?}, there is {attr:?}");
                }
            }
            if content.bytes <= limit {
                let bytes = tree.read_all(&found.handle)?;
                if Content::of(&bytes) != *content {
                    broken!("{path}: {} bytes with another hash than acknowledged", bytes.len());
                }
            }
        }
    }
    Ok(())
}

/// A connection to the daemon of a later generation; nothing when the run is being abandoned.
fn connect(stage: &Stage, after: u64) -> Result<Option<(u64, Tree)>> {
    let mut after = after;
    while let Some((generation, address)) = stage.wait_for_start(after) {
        match Client::connect(&address, &Cred::ROOT) {
            Ok(client) => return Ok(Some((generation, Tree::new(client)))),
            Err(Fault::Lost(_)) => after = generation, // killed before we came
            Err(fault) => return Err(fault).context("cannot mount after a start"),
        }
    }
    Ok(None)
}

fn touches(step: &Step, path: &RemotePath) -> bool {
    match step {
        Step::MakeDirs { .. } => false,
        Step::Rename { from, to } => {
            // A moved directory takes all names below it along.
            let inside = |dir: &RemotePath| {
                path == dir || path.0.starts_with(&[dir.0.as_slice(), b"/"].concat())
            };
            inside(from) || inside(to)
        }
        Step::Link { to, .. } => path == to,
        // A file keeps its links' company: the written file may be seen under any name.
        Step::Create { at, .. }
        | Step::Write { at, .. }
        | Step::SetAttributes { at, .. }
        | Step::Symlink { at, .. }
        | Step::Remove { at }
        | Step::RemoveDir { at } => path == at,
    }
}

fn ranges(start: usize, end: usize, chunk: usize) -> Vec<(usize, usize)> {
    (start..end).step_by(chunk).map(|from| (from, end.min(from + chunk))).collect()
}

fn verifier_of(at: &RemotePath) -> [u8; 8] {
    let mut verifier = [0; 8];
    verifier.copy_from_slice(&blake3::hash(&at.0).as_bytes()[..8]);
    verifier
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_cover_everything_once() {
        assert_eq!(ranges(10, 25, 10), [(10, 20), (20, 25)]);
        assert_eq!(ranges(0, 0, 10), []);
    }

    #[test]
    fn a_rename_in_flight_touches_what_is_below() {
        let step = Step::Rename { from: RemotePath::of("a/d"), to: RemotePath::of("b/d") };
        assert!(touches(&step, &RemotePath::of("a/d/inside")));
        assert!(touches(&step, &RemotePath::of("b/d")));
        assert!(!touches(&step, &RemotePath::of("a/d2")));
    }
}
