//! A kernel mount of cairn, which goes with the value.

use crate::program::run_within;
use anyhow::{Context, Result};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

const MOUNT_LIMIT: Duration = Duration::from_secs(120);

pub struct KernelMount {
    path: PathBuf,
    port: u16,
    extra: &'static str,
    mounted: bool,
}

impl KernelMount {
    /// `extra` is more mount options, each with a comma before it.
    pub fn attach(path: &Path, port: u16, extra: &'static str) -> Result<KernelMount> {
        std::fs::create_dir_all(path)
            .with_context(|| format!("cannot make the mount point {}", path.display()))?;
        let mut this = KernelMount { path: path.to_owned(), port, extra, mounted: false };
        this.mount()?;
        Ok(this)
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Unmounts, which writes back and forgets all, and mounts again.
    pub fn again(&mut self) -> Result<()> {
        self.unmount()?;
        self.mount()
    }

    pub fn unmount(&mut self) -> Result<()> {
        let mut umount = Command::new("umount");
        umount.arg(&self.path);
        run_within(umount, MOUNT_LIMIT)?.succeeded("umount")?;
        self.mounted = false;
        Ok(())
    }

    /// Makes calls that wait for the server fail, and mounts anew.
    pub fn give_up(&mut self) -> Result<()> {
        let mut umount = Command::new("umount");
        umount.args(["-f", "-l"]).arg(&self.path);
        run_within(umount, MOUNT_LIMIT)?.succeeded("umount -f -l")?;
        self.mounted = false;
        self.mount()
    }

    pub fn mount(&mut self) -> Result<()> {
        let port = self.port;
        let options = format!("vers=3,port={port},mountport={port},proto=tcp,nolock{}", self.extra);
        let mut mount = Command::new("mount");
        mount.args(["-t", "nfs", "-o", &options, "127.0.0.1:/"]).arg(&self.path);
        run_within(mount, MOUNT_LIMIT)?.succeeded(&format!("mount -o {options}"))?;
        self.mounted = true;
        Ok(())
    }
}

impl Drop for KernelMount {
    fn drop(&mut self) {
        if self.mounted {
            // Forced: the daemon may be gone. What fails here has been told by what failed before.
            let mut umount = Command::new("umount");
            umount.args(["-f", "-l"]).arg(&self.path);
            let _ = run_within(umount, MOUNT_LIMIT);
        }
    }
}
