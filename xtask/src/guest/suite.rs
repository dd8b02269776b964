//! The suites a guest can run: built here, run there.
//!
//! A suite is a program of the tree that expects a throw-away machine. What it needs is built on the
//! host and called in the guest by its path, which is the same there. `CAIRN_BIN` names the cairn to
//! be tested, as for all end-to-end tests; without it the release build is made first.

use super::{Job, Options, shareable};
use crate::{run, test};
use anyhow::{Context, Result, bail};
use std::ffi::OsString;
use std::path::{Path, PathBuf};

#[derive(Clone, Copy, clap::ValueEnum)]
pub enum Suite {
    /// cairn as the Linux kernel's NFS client sees it
    Nfs,
}

impl Suite {
    /// The subcommand of `cairn-accept`.
    fn subcommand(self) -> &'static str {
        match self {
            Suite::Nfs => "kernel-nfs",
        }
    }

    /// Seconds: several times what an idle machine with two cores takes.
    fn limit_s(self, slice: bool) -> u64 {
        match (self, slice) {
            (Suite::Nfs, true) => 900,
            (Suite::Nfs, false) => 3_600,
        }
    }
}

/// Builds the suite and makes `job` run it.
pub fn prepare(root: &Path, suite: Suite, options: &Options, job: &mut Job) -> Result<()> {
    let cairn = match std::env::var_os("CAIRN_BIN") {
        Some(named) => PathBuf::from(named)
            .canonicalize()
            .context("CAIRN_BIN names no file: unset it, or name a cairn program")?,
        None => match test::build_cairn(root)? {
            Some(built) => built,
            None => bail!("cairn does not build"),
        },
    };
    let accept = build_accept(root)?;
    for program in [&cairn, &accept] {
        job.share(shareable(program.parent().context("a program without a folder")?)?);
    }
    let mut command: Vec<OsString> = vec!["env".into()];
    let mut setting = OsString::from("CAIRN_BIN=");
    setting.push(&cairn);
    command.extend([setting, accept.into(), suite.subcommand().into()]);
    if options.slice {
        command.push("--slice".into());
    }
    command.append(&mut job.command);
    job.command = command;
    if options.timeout.is_none() {
        job.timeout_s = suite.limit_s(options.slice);
    }
    Ok(())
}

fn build_accept(root: &Path) -> Result<PathBuf> {
    let mut build = run::cargo(root);
    build.args(["build", "--quiet", "--package", "cairn-accept", "--bin", "cairn-accept"]);
    if !run::succeeds(&mut build)? {
        bail!("cairn-accept does not build");
    }
    let built = run::target_folder(root)?.join("debug/cairn-accept");
    built.canonicalize().with_context(|| format!("the build left no {}", built.display()))
}
