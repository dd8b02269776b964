//! `cargo xtask test`: everything the tree can test on this machine, counted honestly.
//!
//! Three things happen before cargo's own harness runs. What the tests call is installed, when we
//! are root and apt is there; else the user is told what to install, and the tests that miss it say
//! so themselves. The `cairn` binary is built for release, because the end-to-end tests drive the
//! program that users run. Then every test gets two variables:
//!
//! - `CAIRN_BIN`: the absolute path of that binary.
//! - `CAIRN_SKIP_LOG`: a file. A test that cannot run here appends one line to it, in a single
//!   write, and returns: `skipped: needs NEED: TEST`. The file, not the output, because the harness
//!   swallows what a passing test prints.
//!
//! A skipped test has passed as far as the harness knows, so it is moved from one count to the
//! other. With `CI=true` a skip whose need this machine can meet (`NEEDS`) is a failure: a test that
//! silently stops running is a promise that silently stops being kept. A need nobody has listed
//! fails there too.

use crate::run;
use crate::totals::Totals;
use anyhow::{Context, Result};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};

/// Debian packages that tests call.
const PACKAGES: &[&str] =
    &["libnfs-utils", "e2fsprogs", "rpcbind", "iproute2", "groff-base", "systemd"];

/// What a test may need beside the toolchain. Packages of `PACKAGES` are needs too, under their own
/// names.
const NEEDS: &[Need] = &[
    Need { name: "root", can_be_met: is_root },
    Need { name: "loop device", can_be_met: || is_root() && exists("/dev/loop-control") },
    Need { name: "hugepages", can_be_met: || is_root() && exists("/proc/sys/vm/nr_hugepages") },
];

struct Need {
    name: &'static str,
    /// Whether this machine could give it.
    can_be_met: fn() -> bool,
}

/// Whether skips that need not be are failures.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Skips {
    Tolerated,
    Judged,
}

pub fn run(root: &Path, cargo_args: &[String]) -> Result<ExitCode> {
    let judged = std::env::var("CI").is_ok_and(|value| value == "true" || value == "1");
    let skips = if judged { Skips::Judged } else { Skips::Tolerated };
    let totals = totals(root, cargo_args, skips)?;
    println!("{totals}");
    Ok(if totals.failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

pub fn totals(root: &Path, cargo_args: &[String], skips: Skips) -> Result<Totals> {
    install_packages()?;
    let Some(binary) = build_cairn(root)? else {
        return Ok(Totals::default().honest(false));
    };
    let skip_log = SkipLog::create()?;

    let mut command = run::cargo(root);
    command.args(["test", "--no-fail-fast"]);
    match cargo_args {
        [] => command.arg("--workspace"),
        given => command.args(given),
    };
    command.env("CAIRN_BIN", binary).env("CAIRN_SKIP_LOG", &skip_log.path);

    let mut totals = Totals::default();
    let succeeded = run::watched(&mut command, |line| totals += Totals::of_line(line))?;
    let mut totals = totals.honest(succeeded);
    for line in skip_log.lines()? {
        println!("{line}");
        if skips == Skips::Judged && should_run_here(&line, could_be_met) {
            println!("  which counts as a failure: this machine can run it");
            move_one(&mut totals.passed, &mut totals.failed);
        } else {
            move_one(&mut totals.passed, &mut totals.skipped);
        }
    }
    Ok(totals)
}

/// A test that skipped and then failed all the same was never counted as passed.
fn move_one(from: &mut u64, to: &mut u64) {
    *from = from.saturating_sub(1);
    *to += 1;
}

/// Whether the need of a `skipped: needs NEED: TEST` line leaves no excuse. `met` answers for one
/// need: `None` when nobody has listed it.
fn should_run_here(line: &str, met: impl Fn(&str) -> Option<bool>) -> bool {
    let need = line.strip_prefix("skipped: needs ").and_then(|rest| rest.split(": ").next());
    match need {
        Some(need) => met(need).unwrap_or(true),
        None => true, // not the agreed form: somebody must look
    }
}

fn could_be_met(need: &str) -> Option<bool> {
    if PACKAGES.contains(&need) {
        return Some(is_root() && has_apt());
    }
    NEEDS.iter().find(|listed| listed.name == need).map(|listed| (listed.can_be_met)())
}

/// The file tests append their skips to; gone when this is dropped.
struct SkipLog {
    path: PathBuf,
}

impl SkipLog {
    fn create() -> Result<SkipLog> {
        let name = format!("cairn-skips-{}.log", std::process::id());
        let path = std::env::temp_dir().join(name);
        std::fs::write(&path, "").with_context(|| format!("cannot write {}", path.display()))?;
        Ok(SkipLog { path })
    }

    fn lines(&self) -> Result<Vec<String>> {
        let text = std::fs::read_to_string(&self.path)
            .with_context(|| format!("a test removed {}", self.path.display()))?;
        Ok(text.lines().map(str::to_owned).collect())
    }
}

impl Drop for SkipLog {
    fn drop(&mut self) {
        // A log left behind in the temporary folder harms nobody, and there is no one to tell.
        let _ = std::fs::remove_file(&self.path);
    }
}

/// The path of the release binary, or nothing when it does not build (cargo has said why).
pub fn build_cairn(root: &Path) -> Result<Option<PathBuf>> {
    if !run::succeeds(run::cargo(root).args(["build", "--release", "--package", "cairn"]))? {
        return Ok(None);
    }
    let binary = run::target_folder(root)?.join("release/cairn");
    anyhow::ensure!(binary.exists(), "the build left no {}", binary.display());
    Ok(Some(binary))
}

/// Installs what is missing. Failing to is told, and not an error: the tests that miss it skip.
fn install_packages() -> Result<()> {
    let missing: Vec<&str> = PACKAGES.iter().copied().filter(|name| !is_installed(name)).collect();
    if missing.is_empty() {
        return Ok(());
    }
    if !is_root() || !has_apt() {
        eprintln!("some tests will be skipped; install for them: {}", missing.join(" "));
        return Ok(());
    }
    let installed = run::succeeds(apt().arg("update"))?
        && run::succeeds(apt().args(["install", "--no-install-recommends"]).args(&missing))?;
    if !installed {
        eprintln!("apt could not install {}: the tests that need it skip", missing.join(" "));
    }
    Ok(())
}

pub fn apt() -> Command {
    let mut apt = Command::new("apt-get");
    apt.args(["--quiet=2", "--yes"]).env("DEBIAN_FRONTEND", "noninteractive").stdin(Stdio::null());
    apt
}

pub fn has_apt() -> bool {
    exists("/usr/bin/apt-get")
}

fn exists(path: &str) -> bool {
    Path::new(path).exists()
}

pub fn is_installed(package: &str) -> bool {
    let query = Command::new("dpkg-query")
        .args(["--show", "--showformat=${db:Status-Status}", package])
        .stderr(Stdio::null())
        .output();
    query.is_ok_and(|output| output.stdout == b"installed")
}

/// The kernel's own view of this process, without a call into libc.
pub fn is_root() -> bool {
    std::fs::metadata("/proc/self").is_ok_and(|process| process.uid() == 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn machine_without_loop_devices(need: &str) -> Option<bool> {
        match need {
            "root" => Some(true),
            "loop device" => Some(false),
            _ => None,
        }
    }

    #[test]
    fn a_skip_that_this_machine_could_run_is_judged() {
        let judged = |line| should_run_here(line, machine_without_loop_devices);
        assert!(judged("skipped: needs root: flush_precedes_reply"));
        assert!(!judged("skipped: needs loop device: flush_precedes_reply"));
    }

    #[test]
    fn an_unlisted_need_and_a_malformed_line_are_judged() {
        let judged = |line| should_run_here(line, machine_without_loop_devices);
        assert!(judged("skipped: needs a quiet evening: listing_is_stable"));
        assert!(judged("could not be bothered"));
    }

    #[test]
    fn a_skip_leaves_the_sum_as_it_was() {
        let mut totals = Totals { passed: 3, failed: 0, skipped: 0 };
        move_one(&mut totals.passed, &mut totals.skipped);
        assert_eq!(totals, Totals { passed: 2, failed: 0, skipped: 1 });
    }
}
