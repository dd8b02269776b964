//! `cargo xtask fuzz`: the fuzz targets, built as the tests are.
//!
//! A release build would try more inputs and find less: the checks of arithmetic, which it leaves out,
//! are half of what is looked for. What the tests have built is also there already. Arguments are the
//! runner's own (`appliance/fuzz/src/main.rs`), and so is its exit code.

use crate::run;
use crate::totals::Totals;
use anyhow::{Context, Result};
use std::ffi::OsStr;
use std::path::Path;
use std::process::{Command, ExitCode};

pub fn run(root: &Path, fuzz_args: &[String]) -> Result<ExitCode> {
    let status = command(root, fuzz_args)?.status().context("cannot start cargo")?;
    // No code means a signal, such as a stack that is used up: `--trace` says by which input.
    let code = status.code().and_then(|code| u8::try_from(code).ok()).unwrap_or(101);
    Ok(ExitCode::from(code))
}

/// One run whose last line is counted, for `ci`.
pub fn totals(root: &Path, fuzz_args: &[&str]) -> Result<Totals> {
    let mut last = Totals::default();
    let succeeded = run::watched(&mut command(root, fuzz_args)?, |line| {
        let counted = Totals::of_line(line);
        if counted != Totals::default() {
            last = counted;
        }
    })?;
    Ok(last.honest(succeeded))
}

fn command(root: &Path, fuzz_args: &[impl AsRef<OsStr>]) -> Result<Command> {
    let target = run::target_folder(root)?;
    let mut command = run::cargo(root);
    command
        .args(["run", "--quiet", "--package", "cairn-fuzz", "--bin", "fuzz", "--"])
        .arg("--corpus")
        .arg(root.join("appliance/fuzz/corpus"))
        .arg("--found")
        .arg(target.join("fuzz-found"))
        .args(fuzz_args);
    Ok(command)
}
