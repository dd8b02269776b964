//! Random calls on one file, each checked against a copy of the file in memory.
//!
//! Reads, writes, mapped reads and writes, truncation both ways, fsync, closing and opening again,
//! and dropping the kernel's caches follow each other by a seed. What is read must be what the copy
//! has, and so must the size. It finds stale pages, lost tails and bytes that come back after a
//! truncation. The last calls before a mismatch are part of the message; the seed repeats them.

use super::world::{World, drop_caches};
use crate::mapped;
use anyhow::{Context, Result, ensure};
use fastrand::Rng;
use std::collections::VecDeque;
use std::fs::{File, OpenOptions};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

const FILE_BYTES_MAX: usize = 400_000;
const CALL_BYTES_MAX: usize = 70_000;
const TOLD_CALLS: usize = 12;
/// O_DIRECT on x86-64 (Linux, include/uapi/asm-generic/fcntl.h).
const O_DIRECT: i32 = 0o40_000;

#[derive(Clone, Copy, PartialEq, Eq)]
enum Way {
    /// Through the page cache, mappings included.
    Buffered,
    /// Past it. No mappings: POSIX leaves open what they see then.
    Direct,
}

pub fn buffered(world: &mut World) -> Result<String> {
    several(world, "fsx", Way::Buffered)
}

pub fn direct(world: &mut World) -> Result<String> {
    several(world, "fsx-direct", Way::Direct)
}

fn several(world: &World, step: &str, way: Way) -> Result<String> {
    let home = world.home(step)?;
    // Each call of the direct way is a round trip to the server and its disk.
    let calls_long = if way == Way::Direct { 2_500 } else { 6_000 };
    let (files, calls) = world.amount((1, 1_000), (4, calls_long));
    for number in 0..files {
        let seed = world.seed * 1_000 + number;
        let mut run = Run::new(&home.join(format!("file-{number}")), seed, way)?;
        run.calls(calls).with_context(|| run.story(seed))?;
    }
    Ok(format!("{calls} calls on each of {files} files"))
}

struct Run {
    path: PathBuf,
    file: File,
    way: Way,
    shadow: Vec<u8>,
    rng: Rng,
    last: VecDeque<String>,
}

impl Run {
    fn new(path: &Path, seed: u64, way: Way) -> Result<Run> {
        Ok(Run {
            path: path.to_owned(),
            file: open(path, way)?,
            way,
            shadow: Vec::new(),
            rng: Rng::with_seed(seed),
            last: VecDeque::new(),
        })
    }

    fn story(&self, seed: u64) -> String {
        let calls: Vec<&str> = self.last.iter().map(String::as_str).collect();
        format!("seed {seed}, last calls: {}", calls.join("; "))
    }

    fn note(&mut self, call: String) {
        if self.last.len() == TOLD_CALLS {
            self.last.pop_front();
        }
        self.last.push_back(call);
    }

    fn calls(&mut self, count: u32) -> Result<()> {
        for _ in 0..count {
            self.call()?;
        }
        self.note("last look".to_owned());
        self.file.sync_all().context("fsync")?;
        drop_caches()?;
        self.reopen()?;
        self.expect(0, self.shadow.len())
    }

    fn call(&mut self) -> Result<()> {
        match self.rng.u32(..100) {
            0..30 => self.write(),
            30..55 => self.read(),
            55..65 if self.way == Way::Buffered => self.map_write(),
            65..75 if self.way == Way::Buffered => self.map_read(),
            55..75 => self.write(),
            75..83 => self.truncate(),
            83..90 => self.size(),
            90..94 => {
                self.note("fsync".to_owned());
                self.file.sync_all().context("fsync")
            }
            94..99 => {
                self.note("reopen".to_owned());
                self.reopen()
            }
            _ => {
                self.note("drop caches".to_owned());
                self.file.sync_all().context("fsync")?;
                // All of it now and then; a call per hundred would be most of the time.
                if self.rng.u32(..4) == 0 { drop_caches() } else { Ok(()) }
            }
        }
    }

    /// A place and a length, the place at most `limit`, both often at the edge of a page.
    fn span(&mut self, limit: usize) -> (usize, usize) {
        let mut at = self.rng.usize(..=limit);
        let mut length = self.rng.usize(1..CALL_BYTES_MAX);
        if self.rng.u32(..3) == 0 {
            at &= !4_095;
        }
        if self.rng.u32(..3) == 0 {
            length = length.next_multiple_of(4_096);
        }
        (at, length)
    }

    fn bytes(&mut self, length: usize) -> Vec<u8> {
        // One byte value for most, so that a message can show where a piece came from.
        let value = self.rng.u8(1..);
        (0..length).map(|at| if at % 64 == 0 { self.rng.u8(..) } else { value }).collect()
    }

    fn write(&mut self) -> Result<()> {
        let (at, length) = self.span(FILE_BYTES_MAX - CALL_BYTES_MAX - 4_096);
        let bytes = self.bytes(length);
        self.note(format!("write {length} at {at}"));
        self.file.write_all_at(&bytes, at as u64).context("write")?;
        let end = at + length;
        if self.shadow.len() < end {
            self.shadow.resize(end, 0);
        }
        self.shadow[at..end].copy_from_slice(&bytes);
        Ok(())
    }

    fn read(&mut self) -> Result<()> {
        let (at, length) = self.span(FILE_BYTES_MAX);
        self.note(format!("read {length} at {at}"));
        self.expect(at, length)
    }

    /// Reads up to `length` bytes, and wants what the shadow has there.
    fn expect(&mut self, at: usize, length: usize) -> Result<()> {
        let mut found = vec![0; length];
        let mut filled = 0;
        while filled < length {
            let count =
                self.file.read_at(&mut found[filled..], (at + filled) as u64).context("read")?;
            if count == 0 {
                break;
            }
            filled += count;
        }
        let start = at.min(self.shadow.len());
        let expected = &self.shadow[start..(at + length).min(self.shadow.len()).max(start)];
        same(at, expected, &found[..filled])
    }

    fn map_write(&mut self) -> Result<()> {
        let Some((at, length)) = self.span_inside() else { return Ok(()) };
        let bytes = self.bytes(length);
        self.note(format!("mapped write {length} at {at}"));
        mapped::write(&mut self.file, at, &bytes)?;
        self.shadow[at..at + length].copy_from_slice(&bytes);
        Ok(())
    }

    fn map_read(&mut self) -> Result<()> {
        let Some((at, length)) = self.span_inside() else { return Ok(()) };
        self.note(format!("mapped read {length} at {at}"));
        let mut found = vec![0; length];
        mapped::read(&mut self.file, at, &mut found)?;
        same(at, &self.shadow[at..at + length], &found)
    }

    fn span_inside(&mut self) -> Option<(usize, usize)> {
        let size = self.shadow.len();
        if size == 0 {
            return None;
        }
        let (at, length) = self.span(size - 1);
        Some((at, length.min(size - at)))
    }

    fn truncate(&mut self) -> Result<()> {
        let (size, _) = self.span(FILE_BYTES_MAX);
        self.note(format!("truncate {} to {size}", self.shadow.len()));
        self.file.set_len(size as u64).context("ftruncate")?;
        self.shadow.resize(size, 0);
        Ok(())
    }

    fn size(&mut self) -> Result<()> {
        self.note("size".to_owned());
        let found = self.file.metadata().context("fstat")?.len();
        ensure!(found == self.shadow.len() as u64, "size {found}, not {}", self.shadow.len());
        Ok(())
    }

    fn reopen(&mut self) -> Result<()> {
        self.file = open(&self.path, self.way)?;
        Ok(())
    }
}

fn open(path: &Path, way: Way) -> Result<File> {
    let flags = if way == Way::Direct { O_DIRECT } else { 0 };
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false).custom_flags(flags);
    options.open(path).with_context(|| format!("cannot open {}", path.display()))
}

fn same(at: usize, expected: &[u8], found: &[u8]) -> Result<()> {
    ensure!(
        expected.len() == found.len(),
        "{} bytes at {at}, where the file has {}",
        found.len(),
        expected.len()
    );
    if let Some(first) = expected.iter().zip(found).position(|(one, other)| one != other) {
        let wrong = expected.iter().zip(found).filter(|(one, other)| one != other).count();
        anyhow::bail!(
            "{wrong} wrong bytes, the first at {}: {:#04x} and not {:#04x}",
            at + first,
            found[first],
            expected[first]
        );
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_on_the_local_disk_passes() {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let mut run = Run::new(&dir.path().join("file"), 7, Way::Buffered).expect("a file");
        for _ in 0..60 {
            run.call().map_err(|error| run.story(7) + &error.to_string()).expect("no mismatch");
        }
    }

    #[test]
    fn a_byte_changed_behind_its_back_is_found() {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let path = dir.path().join("file");
        let mut run = Run::new(&path, 7, Way::Buffered).expect("a file");
        run.write().expect("a write");
        let size = run.shadow.len();
        run.expect(0, size).expect("nothing has changed");
        run.shadow[size - 1] ^= 1;
        let told = run.expect(0, size).expect_err("a byte differs").to_string();
        assert!(told.starts_with("1 wrong bytes"), "{told}");
    }
}
