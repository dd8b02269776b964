//! What the steps share: the daemon, its kernel mount, and a folder on the local disk.

use super::Options;
use super::mount::KernelMount;
use crate::daemon::{Daemon, Setup};
use crate::program::run_within;
use anyhow::{Context, Result};
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;
use tempfile::TempDir;

/// For one program that a step calls, under emulation on a busy machine.
pub const TOOL_LIMIT: Duration = Duration::from_secs(900);

pub struct World {
    pub mount: KernelMount,
    pub daemon: Daemon,
    pub slice: bool,
    pub seed: u64,
    /// Last, since the pool is in it.
    dir: TempDir,
}

impl World {
    pub fn start(options: &Options) -> Result<World> {
        // On a disk, not in memory: a guest has little of that.
        let dir = tempfile::Builder::new().prefix("kernel-nfs-").tempdir_in("/var/tmp")?;
        let mut setup = Setup::new(&dir.path().join("pool-of-daemon"))?;
        setup.shards = options.shards;
        let port = setup.port;
        let daemon = Daemon::start(setup)?;
        let mount = KernelMount::attach(&dir.path().join("mounted"), port, "")?;
        std::fs::create_dir(dir.path().join("local"))?;
        Ok(World { mount, daemon, slice: options.slice, seed: options.seed, dir })
    }

    pub fn port(&self) -> u16 {
        self.daemon.address().nfs.port()
    }

    /// Where a step works on the mount: a new folder under its name.
    pub fn home(&self, step: &str) -> Result<PathBuf> {
        fresh(&self.mount.path().join(step))
    }

    /// Where a step keeps what it compares with: a new folder on the local disk.
    pub fn local(&self, step: &str) -> Result<PathBuf> {
        fresh(&self.dir.path().join("local").join(step))
    }

    /// A place for another mount point.
    pub fn beside(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// The larger amount in the long run, the smaller in the slice.
    pub fn amount<T>(&self, slice: T, long: T) -> T {
        if self.slice { slice } else { long }
    }
}

fn fresh(path: &Path) -> Result<PathBuf> {
    std::fs::create_dir(path).with_context(|| format!("cannot make {}", path.display()))?;
    Ok(path.to_owned())
}

/// Makes the kernel forget clean pages, attributes and names, so that the next look asks the server.
pub fn drop_caches() -> Result<()> {
    tool("sync", &[] as &[&str], Path::new("/"))?;
    std::fs::write("/proc/sys/vm/drop_caches", "3\n").context("cannot drop the kernel's caches")
}

/// Runs a program that must succeed, in a folder, and answers its stdout.
pub fn tool(program: &str, arguments: &[impl AsRef<OsStr>], folder: &Path) -> Result<String> {
    let mut command = Command::new(program);
    command.args(arguments).current_dir(folder);
    // git asks for an author, and reads whatever a user has set up.
    for role in ["AUTHOR", "COMMITTER"] {
        command.env(format!("GIT_{role}_NAME"), "Guest");
        command.env(format!("GIT_{role}_EMAIL"), "guest@example.org");
    }
    command.env("GIT_CONFIG_NOSYSTEM", "1").env("GIT_CONFIG_GLOBAL", "/dev/null");
    let first = arguments.first().map(|word| word.as_ref().to_string_lossy().into_owned());
    let what = format!("{program} {}", first.unwrap_or_default());
    run_within(command, TOOL_LIMIT)?.succeeded(&what)
}

/// The last step: nothing mounted, the daemon asked to end, and every block of the pool read.
pub fn check(world: &mut World) -> Result<String> {
    world.mount.unmount()?;
    let last = world.daemon.stop_and_check()?;
    // Whoever asks whether it lives finds it alive; it also shows that the pool opens again.
    world.daemon.restart()?;
    Ok(last)
}
