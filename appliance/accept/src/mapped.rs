//! Reading and writing a file through a mapping of it, for tests of how a kernel client keeps
//! mappings and calls in step.
//!
//! A mapping lives only inside one call. The safety note of both leans on what the callers have in
//! common: the file is theirs alone, they hold the only handle (`&mut`), and no other thread or
//! process changes it meanwhile. If one did, and cut the file short, the process would end with
//! SIGBUS, which is a failed test and nothing worse.

use anyhow::{Context, Result, ensure};
use memmap2::{MmapMut, MmapOptions};
use std::fs::File;

/// Copies bytes out of a mapping of the whole file.
pub fn read(file: &mut File, offset: usize, into: &mut [u8]) -> Result<()> {
    let map = map(file, offset + into.len())?;
    into.copy_from_slice(&map[offset..offset + into.len()]);
    Ok(())
}

/// Copies bytes into a mapping of the whole file, and waits until the kernel has written them.
pub fn write(file: &mut File, offset: usize, bytes: &[u8]) -> Result<()> {
    let mut map = map(file, offset + bytes.len())?;
    map[offset..offset + bytes.len()].copy_from_slice(bytes);
    map.flush().context("msync")
}

fn map(file: &mut File, needed: usize) -> Result<MmapMut> {
    let size = usize::try_from(file.metadata()?.len())?;
    ensure!(needed <= size && size > 0, "a mapping of {needed} bytes of a file of {size}");
    // SAFETY: the file is as long as the mapping, and nobody else has it (see the head).
    unsafe { MmapOptions::new().len(size).map_mut(&*file) }.context("mmap")
}
