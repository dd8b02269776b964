//! `cargo xtask guest -- CMD`: one command, as root, under a Linux kernel of its own.
//!
//! What users put between themselves and cairn is the kernel: its NFS client, its block layer, its
//! IOMMU. A build machine's kernel cannot be mounted upon, rebooted or given devices, so the tests
//! of all that run in an emulated machine which is thrown away afterwards. QEMU emulates in
//! software (no KVM is asked for), so it runs inside a container too, and slowly: nothing here
//! says anything about speed.
//!
//! The guest is the host's own Debian release with a kernel that has ublk (`guest/recipe.rs`), so
//! what was built here runs there as it is. The tree is shared over 9p at the path it has on the
//! host, writable, and is the working folder: a path means the same on both sides. The disk is a
//! snapshot: runs start equal, and several may run at once.
//!
//! The image is built once (`guest/image.rs`) and kept in the user's cache folder until its recipe
//! changes. What the host lacks is installed when we are root (`guest/host.rs`). A machine that
//! cannot do it says `skipped: needs NEED` and ends with 77, so that a caller can tell "not here"
//! from "broken". Otherwise the exit code is the command's; 124 when time was up, 125 when the
//! guest did not get as far as an exit code.

mod cache;
mod cpio;
mod host;
mod image;
mod kernel;
mod machine;
mod modules;
mod recipe;
mod run_folder;
mod session;
mod suite;

use anyhow::{Context, Result, ensure};
use std::ffi::OsString;
use std::fmt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// The code of a run that did not take place (automake's convention for a skipped test).
const SKIPPED: u8 = 77;
const TIMED_OUT: u8 = 124;
const NO_ANSWER: u8 = 125;

#[derive(clap::Args, Clone)]
pub struct Options {
    /// NVMe controllers with one namespace each, at PCI 0000:00:10.0 and on
    #[arg(long, default_value_t = 0, value_name = "N", value_parser = clap::value_parser!(u8).range(..=8))]
    nvme: u8,
    /// Size of each, sparse and gone after the run
    #[arg(long, default_value = "1G", value_name = "SIZE")]
    nvme_size: Size,
    /// An IOMMU, with vfio-pci loaded in place of the kernel's nvme: `vfio-bind 0000:00:10.0` in the
    /// guest prints /dev/vfio/GROUP
    #[arg(long)]
    iommu: bool,
    /// Pages of 2 MiB set aside, at /dev/hugepages
    #[arg(long, default_value_t = 0, value_name = "N")]
    hugepages: u32,
    /// MiB of memory
    #[arg(long, default_value_t = 1024, value_name = "MIB")]
    memory: u32,
    #[arg(long, default_value_t = 2, value_name = "N", value_parser = clap::value_parser!(u8).range(1..=16))]
    cpus: u8,
    /// One more folder of the host, at the same path in the guest
    #[arg(long, value_name = "DIR")]
    share: Vec<PathBuf>,
    /// Seconds until the guest is ended [default: 300, or what the suite needs]
    #[arg(long, value_name = "S")]
    timeout: Option<u64>,
    /// The guest kernel's console on stderr
    #[arg(long)]
    console: bool,
    /// Build the image anew, also when its recipe is the same
    #[arg(long)]
    rebuild: bool,
    /// Run a suite of the tree; what follows `--` is passed on to it
    #[arg(long, value_enum)]
    suite: Option<suite::Suite>,
    /// Only the part of the suite that is quick enough for every change
    #[arg(long, requires = "suite")]
    slice: bool,
    /// The command and its arguments, not read by a shell
    #[arg(last = true, required_unless_present = "suite", value_name = "CMD")]
    command: Vec<OsString>,
}

/// Bytes, written as a number and K, M, G, T or nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Size(u64);

impl std::str::FromStr for Size {
    type Err = String;

    fn from_str(text: &str) -> Result<Size, String> {
        let units = [('K', 10), ('M', 20), ('G', 30), ('T', 40)];
        let unit = units.iter().find(|(letter, _)| text.ends_with(*letter));
        let (digits, shift) =
            unit.map_or((text, 0), |(letter, shift)| (text.trim_end_matches(*letter), *shift));
        match digits.parse::<u64>().ok().and_then(|number| number.checked_mul(1 << shift)) {
            Some(bytes) if bytes > 0 => Ok(Size(bytes)),
            _ => Err(format!("`{text}` is no size: a number above 0, then K, M, G, T or nothing")),
        }
    }
}

/// What this machine lacks for a run, in words for the `skipped:` line.
#[derive(Debug)]
struct Missing(String);

impl fmt::Display for Missing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "needs {}", self.0)
    }
}

impl std::error::Error for Missing {}

/// What is to be run and what the guest must see for it.
struct Job {
    command: Vec<OsString>,
    /// Folders of the host, each at the same path in the guest. The first is the working folder.
    shares: Vec<PathBuf>,
    timeout_s: u64,
}

pub fn run(root: &Path, options: &Options) -> ExitCode {
    match boot(root, options) {
        Ok(code) => ExitCode::from(code),
        Err(error) => match error.downcast_ref::<Missing>() {
            Some(missing) => {
                println!("skipped: {missing}");
                ExitCode::from(SKIPPED)
            }
            None => {
                eprintln!("xtask guest: {error:#}");
                ExitCode::from(NO_ANSWER)
            }
        },
    }
}

fn boot(root: &Path, options: &Options) -> Result<u8> {
    let host = host::Host::look()?;
    let cache = cache::Cache::open()?;
    // Before the suite is built: a machine that cannot boot it should not spend minutes on that.
    let image = image::current(&host, &cache, options.rebuild)?;
    let job = job(root, options)?;
    let folder = run_folder::RunFolder::create(cache.path())?;
    let machine = machine::Machine { options, job: &job, image: &image, folder: folder.path() };
    session::run(&machine)
}

fn job(root: &Path, options: &Options) -> Result<Job> {
    let mut job = Job {
        command: options.command.clone(),
        shares: vec![shareable(root)?],
        timeout_s: options.timeout.unwrap_or(300),
    };
    for folder in &options.share {
        job.share(shareable(folder)?);
    }
    if let Some(suite) = options.suite {
        suite::prepare(root, suite, options, &mut job)?;
    }
    Ok(job)
}

impl Job {
    /// Adds a folder, unless a folder above it is shared already.
    fn share(&mut self, folder: PathBuf) {
        if !self.shares.iter().any(|shared| folder.starts_with(shared)) {
            self.shares.push(folder);
        }
    }
}

/// The absolute path of a folder that may be laid over the guest's own file system.
fn shareable(folder: &Path) -> Result<PathBuf> {
    const GUESTS_OWN: &[&str] =
        &["/", "/bin", "/dev", "/etc", "/lib", "/proc", "/run", "/sbin", "/sys", "/usr", "/var"];
    let path = folder
        .canonicalize()
        .with_context(|| format!("cannot share {}: no such folder", folder.display()))?;
    ensure!(path.is_dir(), "cannot share {}: not a folder", path.display());
    ensure!(
        !GUESTS_OWN.iter().any(|own| path == Path::new(own)),
        "cannot share {}: the guest has its own there; share a folder inside it",
        path.display()
    );
    Ok(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_size_needs_a_number_above_nothing() {
        for (good, bytes) in [("1G", 1 << 30), ("512M", 512 << 20), ("4096", 4096)] {
            assert_eq!(good.parse(), Ok(Size(bytes)), "{good}");
        }
        for bad in ["", "G", "0G", "1,file=x", "-1G", "1GB", "99999999T"] {
            assert!(bad.parse::<Size>().is_err(), "{bad}");
        }
    }

    #[test]
    fn a_folder_inside_a_shared_one_is_not_shared_twice() {
        let mut job = Job { command: vec![], shares: vec!["/a/tree".into()], timeout_s: 1 };
        job.share("/a/tree/target".into());
        job.share("/a/tree2".into());
        assert_eq!(job.shares, [Path::new("/a/tree"), Path::new("/a/tree2")]);
    }

    #[test]
    fn folders_the_guest_lives_on_are_not_covered() {
        assert!(shareable(Path::new("/")).is_err());
        assert!(shareable(Path::new("/usr")).is_err());
        assert!(shareable(Path::new("/no/such/folder")).is_err());
    }
}
