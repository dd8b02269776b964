//! `cargo xtask sim`: the simulator, always as a release build.
//!
//! A seed is explored a few times faster that way, and a seed that fails in one profile only would
//! be two stories about one bug. Arguments are the simulator's own; its exit code is ours.

use crate::run;
use crate::totals::Totals;
use anyhow::{Context, Result};
use std::path::Path;
use std::process::{Command, ExitCode};

pub fn run(root: &Path, sim_args: &[String]) -> Result<ExitCode> {
    let status = command(root, sim_args).status().context("cannot start cargo")?;
    // No code means a signal: the shell's convention for that is above 128, and 101 is a panic.
    let code = status.code().and_then(|code| u8::try_from(code).ok()).unwrap_or(101);
    Ok(ExitCode::from(code))
}

/// One run whose last line is counted, for `ci`.
pub fn totals(root: &Path, sim_args: &[&str]) -> Result<Totals> {
    let mut last = Totals::default();
    let succeeded = run::watched(&mut command(root, sim_args), |line| {
        let counted = Totals::of_line(line);
        if counted != Totals::default() {
            last = counted;
        }
    })?;
    Ok(last.honest(succeeded))
}

fn command(root: &Path, sim_args: &[impl AsRef<std::ffi::OsStr>]) -> Command {
    let mut command = run::cargo(root);
    command
        .args(["run", "--quiet", "--release", "--package", "cairn-sim", "--bin", "sim", "--"])
        .args(sim_args);
    command
}
