//! One run of the load generator against one server.

use super::process::Process;
use super::stop::Stop;
use anyhow::{Context, Result};
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

/// Where a server is and which process it is.
pub struct Server {
    pub url: String,
    pub pid: u32,
}

/// The load generator and what to tell it.
#[derive(Clone)]
pub struct Generator {
    pub binary: PathBuf,
    pub arguments: Vec<String>,
    pub folder: PathBuf,
    pub time_max: Duration,
}

/// How long a server may go on working after its load has ended.
const QUIET_TIME_MAX: Duration = Duration::from_secs(5);
const LOOK: Duration = Duration::from_millis(200);
/// Ticks of 10 ms in `LOOK` that count as doing nothing.
const QUIET_TICKS: u64 = 1;

impl Generator {
    /// The rows, in the order of the workloads.
    pub fn run(&self, server: &Server, stop: &Stop) -> Result<Vec<Value>> {
        let mut command = Command::new(&self.binary);
        command.args(["nfs", &server.url, "--json", "--server-pid", &server.pid.to_string()]);
        command.args(&self.arguments);
        let log = self.folder.join("generator.log");
        let output = Process::start("cairn-bench", &mut command, &log)?
            .finish(stop, self.time_max)
            .with_context(|| format!("against {}", server.url))?;
        let rows = output
            .lines()
            .map(|line| serde_json::from_str(line).with_context(|| format!("not a row: {line}")));
        rows.collect()
    }
}

/// Waits until what a server still does in the background cannot disturb the next run much: write-back,
/// merging. Not for ever; a server that never rests is charged for it in its own runs.
pub fn let_settle(servers: &[&Server], stop: &Stop) -> Result<()> {
    std::process::Command::new("sync").status().context("cannot run sync")?;
    let ticks = || servers.iter().map(|server| ticks(Path::new("/proc"), server.pid)).sum::<u64>();
    let mut before = ticks();
    for _ in 0..QUIET_TIME_MAX.as_millis() / LOOK.as_millis() {
        stop.wait(LOOK)?;
        let now = ticks();
        if now.saturating_sub(before) <= QUIET_TICKS {
            return Ok(());
        }
        before = now;
    }
    Ok(())
}

/// Processor time of a process so far; nothing when it has gone, which the next run will say better.
fn ticks(proc: &Path, pid: u32) -> u64 {
    let stat = std::fs::read_to_string(proc.join(pid.to_string()).join("stat"));
    let stat = stat.unwrap_or_default();
    let behind_name = stat.rsplit_once(')').map_or("", |(_, rest)| rest);
    // utime and stime, fields 14 and 15
    behind_name
        .split_whitespace()
        .skip(11)
        .take(2)
        .map(|field| field.parse().unwrap_or(0_u64))
        .sum()
}
