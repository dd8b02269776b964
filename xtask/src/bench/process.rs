//! A program that runs beside us and never outlives us.
//!
//! Its output goes to a file, which is shown when it fails. When dropped it is asked to end, by its own
//! process id, and after a while it is made to.

use super::stop::{Stop, now};
use anyhow::{Context, Result, bail};
use rustix::process::{Pid, Signal, kill_process};
use std::fs::File;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// Long enough for a daemon to write out what it has.
const END_TIME_MAX: Duration = Duration::from_secs(15);

pub struct Process {
    child: Child,
    name: String,
    log: PathBuf,
}

impl Process {
    /// Starts `command` with stdout and stderr in `log`.
    pub fn start(name: &str, command: &mut Command, log: &Path) -> Result<Process> {
        let output =
            File::create(log).with_context(|| format!("cannot write {}", log.display()))?;
        let errors = output.try_clone().context("cannot duplicate a file descriptor")?;
        let child = command
            .process_group(0)
            .stdin(Stdio::null())
            .stdout(output)
            .stderr(errors)
            .spawn()
            .with_context(|| format!("cannot start {command:?}"))?;
        Ok(Process { child, name: name.to_owned(), log: log.to_owned() })
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    pub fn output(&self) -> Result<String> {
        let bytes = std::fs::read(&self.log)
            .with_context(|| format!("cannot read {}", self.log.display()))?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }

    /// An error with the end of its output when it has ended.
    pub fn ensure_alive(&mut self) -> Result<()> {
        match self.child.try_wait()? {
            None => Ok(()),
            Some(status) => bail!("{} ended ({status}):\n{}", self.name, tail(&self.output()?)),
        }
    }

    /// Waits for the end and gives the output; an exit code other than 0 is an error.
    pub fn finish(mut self, stop: &Stop, time_max: Duration) -> Result<String> {
        let mut status = None;
        let name = self.name.clone();
        stop.wait_until(time_max, &name, || {
            status = self.child.try_wait()?;
            Ok(status.is_some())
        })?;
        let output = self.output()?;
        match status {
            Some(status) if status.success() => Ok(output),
            _ => bail!("{name} failed:\n{}", tail(&output)),
        }
    }

    fn signal(&self, signal: Signal) {
        if let Some(pid) = i32::try_from(self.pid()).ok().and_then(Pid::from_raw) {
            // It may have ended a moment ago, which is what we want.
            let _ = kill_process(pid, signal);
        }
    }
}

impl Drop for Process {
    #[expect(clippy::disallowed_methods, reason = "waits for another program's end")]
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(Some(_))) {
            return;
        }
        self.signal(Signal::TERM);
        let deadline = now() + END_TIME_MAX;
        while now() < deadline {
            if matches!(self.child.try_wait(), Ok(Some(_))) {
                return;
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        eprintln!("{} does not end in {} s and is killed", self.name, END_TIME_MAX.as_secs());
        self.signal(Signal::KILL);
        // Reaps it. A killed child ends; an error would mean that it is not ours any more.
        let _ = self.child.wait();
    }
}

fn tail(output: &str) -> String {
    let lines: Vec<&str> = output.lines().collect();
    lines[lines.len().saturating_sub(15)..].join("\n")
}
