//! Loop devices: bare ones for pools to be on, and an ext4 file system on one of its own, whose
//! flushes can be counted.
//!
//! Killing a process proves nothing about flushes, and a system call trace does not show what a
//! ring submits. The block layer counts the flush requests that each device has completed: on a
//! device that only the pool uses, a flush that happened is a count that rose.

use crate::clock::eventually;
use crate::program::{Finished, run_within};
use anyhow::{Context, Result};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;
use tempfile::TempDir;

const TOOL_LIMIT: Duration = Duration::from_secs(60);
/// Place of "flush I/Os" in /sys/block/DEVICE/stat, counted from 0
/// (Linux, Documentation/block/stat.rst).
const FLUSH_FIELD: usize = 15;

/// A mounted file system that goes with the value. Needs root.
pub struct LoopDevice {
    device: String,
    mounted: bool,
    dir: TempDir,
}

impl LoopDevice {
    pub fn mount(bytes: u64) -> Result<LoopDevice> {
        let dir = tempfile::Builder::new().prefix("cairn-loop-").tempdir()?;
        let image = dir.path().join("image");
        std::fs::File::create(&image)?.set_len(bytes)?;
        let image = path_text(&image)?;
        let device = tool("losetup", &["--find", "--show", image])?.trim().to_owned();
        let mut this = LoopDevice { device, mounted: false, dir };
        std::fs::create_dir(this.path())?;
        // No lazy initialisation: its writes and flushes would be counted as the daemon's.
        let options = "lazy_itable_init=0,lazy_journal_init=0,nodiscard";
        tool("mkfs.ext4", &["-q", "-E", options, &this.device])?;
        tool("mount", &["-t", "ext4", &this.device, path_text(&this.path())?])?;
        this.mounted = true;
        Ok(this)
    }

    /// Where the file system is mounted.
    pub fn path(&self) -> PathBuf {
        self.dir.path().join("mounted")
    }

    /// Flush requests that this device has completed so far.
    pub fn flushes(&self) -> Result<u64> {
        let name = self.device.trim_start_matches("/dev/");
        let path = format!("/sys/block/{name}/stat");
        let text = std::fs::read_to_string(&path).with_context(|| format!("cannot read {path}"))?;
        flush_count(&text).with_context(|| format!("{path} has no flush count: {text}"))
    }
}

impl Drop for LoopDevice {
    fn drop(&mut self) {
        // Told, not thrown: we may be on the way out of a failing test that has more to say.
        if self.mounted
            && let Err(error) = path_text(&self.path()).and_then(unmount)
        {
            eprintln!("left mounted: {error:#}");
        }
        if let Err(error) = tool("losetup", &["--detach", &self.device]) {
            eprintln!("left attached: {error:#}");
        }
    }
}

/// A bare block device over a sparse file, which goes with the value. Needs root.
pub struct LoopDisk {
    device: PathBuf,
    image: PathBuf,
    _dir: Option<TempDir>,
}

impl LoopDisk {
    /// `options`: more of losetup's.
    pub fn attach(bytes: u64, options: &[&str]) -> Result<LoopDisk> {
        let dir = tempfile::Builder::new().prefix("cairn-loop-").tempdir()?;
        let image = dir.path().join("image");
        std::fs::File::create(&image)?.set_len(bytes)?;
        let mut disk = LoopDisk::over(&image, options)?;
        disk._dir = Some(dir);
        Ok(disk)
    }

    /// One more device over a file that is somebody else's.
    pub fn over(image: &Path, options: &[&str]) -> Result<LoopDisk> {
        let arguments = [&["--find", "--show"], options, &[path_text(image)?]].concat();
        let device = tool("losetup", &arguments)?.trim().into();
        Ok(LoopDisk { device, image: image.into(), _dir: None })
    }

    pub fn path(&self) -> &Path {
        &self.device
    }

    /// As an argument of a command.
    pub fn text(&self) -> &str {
        self.device.to_str().unwrap_or_default()
    }

    /// What is behind it, for those who look at bytes.
    pub fn image(&self) -> &Path {
        &self.image
    }

    /// Makes the device so long, whoever has it open.
    pub fn resize(&self, bytes: u64) -> Result<()> {
        std::fs::OpenOptions::new().write(true).open(&self.image)?.set_len(bytes)?;
        tool("losetup", &["--set-capacity", self.text()]).map(|_| ())
    }
}

impl Drop for LoopDisk {
    fn drop(&mut self) {
        if let Err(error) = tool("losetup", &["--detach", self.text()]) {
            eprintln!("left attached: {error:#}");
        }
    }
}

/// A ring gives its files back some time after its process has ended: until then the file system is
/// in use.
fn unmount(path: &str) -> Result<()> {
    let mut outcome = None;
    eventually(TOOL_LIMIT, || {
        outcome = Some(tool("umount", &[path]));
        matches!(outcome, Some(Ok(_))).then_some(())
    });
    outcome.context("nobody tried to unmount")?.map(|_| ())
}

fn flush_count(stat: &str) -> Option<u64> {
    stat.split_whitespace().nth(FLUSH_FIELD)?.parse().ok()
}

fn path_text(path: &Path) -> Result<&str> {
    path.to_str().context("the temporary folder's name is not text")
}

/// Runs a tool of the system to its end; it must succeed.
pub fn tool(program: &str, arguments: &[&str]) -> Result<String> {
    let mut command = Command::new(program);
    command.args(arguments);
    let sbin = std::env::var("PATH").unwrap_or_default() + ":/usr/sbin:/sbin";
    command.env("PATH", sbin);
    let finished: Finished = run_within(command, TOOL_LIMIT)?;
    finished.succeeded(program)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_flush_count_is_the_sixteenth_number() {
        let stat = "    1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17\n";
        assert_eq!(flush_count(stat), Some(16));
        assert_eq!(flush_count("1 2 3 4 5 6 7 8 9 10 11"), None, "a kernel before 5.5");
    }
}
