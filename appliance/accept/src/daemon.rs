//! `cairn up`, or `cairn serve` with a configuration, as a child process: started, killed, stopped, started again on the same pool.
//!
//! It serves when it has printed its `ready` line and not before; until then, and whenever it ends
//! without being asked, the last lines it wrote are part of the error, since they are usually the
//! whole explanation.
//!
//! The port is chosen once and kept over restarts, as a user's would be, from below the range that
//! the kernel gives to outgoing connections. From inside that range a client's own connection could
//! take the port between a kill and the restart, or even connect to itself.

use crate::clock::{self, Deadline};
use crate::program::{self, Finished};
use crate::served::Address;
use crate::status::Status;
use anyhow::{Context, Result};
use rustix::process::{Pid, Signal, kill_process};
use std::collections::VecDeque;
use std::io::{BufRead, BufReader, Read};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// Recovery of a small pool, on a debug build and a busy machine, several times over.
const READY_LIMIT: Duration = Duration::from_secs(120);
/// The contract says 10 s from SIGTERM to exit; the rest is for a machine that runs other tests.
const STOP_LIMIT: Duration = Duration::from_secs(20);
/// A daemon that is on its way out has ended after this time.
const SOON: Duration = Duration::from_secs(5);
const CHECK_LIMIT: Duration = Duration::from_secs(600);
const TAIL_LINES: usize = 60;

/// How a daemon is to be started.
#[derive(Clone, Debug)]
pub struct Setup {
    pub dir: PathBuf,
    pub size: &'static str,
    pub shards: u32,
    pub memtable: Option<String>,
    pub port: u16,
    pub environment: Vec<(&'static str, String)>,
    /// `serve` with this, on a pool that is made first, in the place of `up`.
    pub serve: Option<ServeConfig>,
    /// With `serve`: the metadata device and perhaps one for data, formatted already, in the place of
    /// a file in `dir`.
    pub devices: Vec<PathBuf>,
    /// More flags.
    pub arguments: Vec<String>,
}

/// What a configuration says beside where pool and socket are.
#[derive(Clone, Debug, Default)]
pub struct ServeConfig {
    /// Addresses, quoted, in the place of the one on `port`.
    pub listen: Option<String>,
    /// More lines of `[nfs]`.
    pub nfs: String,
    /// The `[[export]]` sections.
    pub exports: String,
}

impl Setup {
    /// A small pool under `dir`, one shard, on a port nobody uses now.
    pub fn new(dir: &Path) -> Result<Setup> {
        Ok(Setup {
            dir: dir.to_owned(),
            size: "4G",
            shards: 1,
            memtable: None,
            port: free_port()?,
            environment: Vec::new(),
            serve: None,
            devices: Vec::new(),
            arguments: Vec::new(),
        })
    }

    /// Where the configuration of `serve` is.
    pub fn config_path(&self) -> PathBuf {
        self.dir.with_extension("toml")
    }

    /// The text of the configuration; the exports begin at its first line.
    pub fn config_text(&self, config: &ServeConfig) -> String {
        let ServeConfig { listen, nfs, exports } = config;
        let one = || format!("\"127.0.0.1:{}\"", self.port);
        let listen = listen.clone().unwrap_or_else(one);
        let dir = self.dir.display();
        let pool = match &self.devices[..] {
            [] => format!("dir = \"{dir}\""),
            [meta] => format!("meta = \"{}\"", meta.display()),
            [meta, data, ..] => {
                format!("meta = \"{}\"\ndata = \"{}\"", meta.display(), data.display())
            }
        };
        format!(
            "{exports}\n[nfs]\nlisten = [{listen}]\n{nfs}\n[pool]\n{pool}\n\
             [control]\nsocket = \"{dir}/control.sock\"\n"
        )
    }

    fn write_config(&self, config: &ServeConfig) -> Result<()> {
        let path = self.config_path();
        std::fs::write(&path, self.config_text(config))
            .with_context(|| format!("cannot write {}", path.display()))
    }

    /// What `serve` needs before it can start.
    pub fn prepare(&self) -> Result<()> {
        let Some(config) = &self.serve else { return Ok(()) };
        self.write_config(config)?;
        std::fs::create_dir_all(&self.dir).context("cannot make the pool's folder")?;
        if !self.devices.is_empty() || self.dir.join("pool").exists() {
            return Ok(());
        }
        let mut format = program::cairn(&["format", "--size", self.size])?;
        format.arg("--dir").arg(&self.dir);
        program::finish(format)?.succeeded("cairn format").map(|_| ())
    }

    /// The command line of `cairn up`, or of `cairn serve`.
    pub fn command(&self) -> Result<Command> {
        let mut command = match &self.serve {
            Some(_) => {
                let mut command = program::cairn(&["serve"])?;
                command.arg("--config").arg(self.config_path());
                command
            }
            None => {
                let mut command = program::cairn(&["up", "--size", self.size])?;
                command.arg("--dir").arg(&self.dir);
                command.arg("--nfs").arg(format!("127.0.0.1:{}", self.port));
                command
            }
        };
        command.arg("--shards").arg(self.shards.to_string());
        if let Some(memtable) = &self.memtable {
            command.arg("--memtable").arg(memtable);
        }
        command.args(&self.arguments);
        command.envs(self.environment.iter().map(|(key, value)| (*key, value.as_str())));
        Ok(command)
    }
}

/// A running `cairn up`. Dropping it kills it.
pub struct Daemon {
    setup: Setup,
    child: Child,
    tail: Tail,
}

/// The last lines a daemon wrote.
#[derive(Clone, Default)]
struct Tail(Arc<Mutex<VecDeque<String>>>);

impl Tail {
    fn push(&self, line: &str) {
        let mut lines = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if lines.len() == TAIL_LINES {
            lines.pop_front();
        }
        lines.push_back(line.to_owned());
    }

    fn holds(&self, wanted: impl Fn(&str) -> bool) -> bool {
        let lines = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        lines.iter().any(|line| wanted(line))
    }

    fn text(&self) -> String {
        let lines = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        lines.iter().map(|line| format!("\n    {line}")).collect()
    }

    fn follow(&self, pipe: impl Read + Send + 'static) {
        let tail = self.clone();
        std::thread::spawn(move || {
            for line in BufReader::new(pipe).lines().map_while(Result::ok) {
                tail.push(&line);
            }
        });
    }
}

impl Daemon {
    /// Starts a daemon and waits until it serves.
    pub fn start(setup: Setup) -> Result<Daemon> {
        let (child, tail) = spawn(&setup)?;
        let mut daemon = Daemon { setup, child, tail };
        daemon.wait_until_ready()?;
        Ok(daemon)
    }

    /// Kills it like a power switch would, as far as a process can see, and waits for its end.
    pub fn kill(&mut self) -> Result<()> {
        if let Some(status) = self.child.try_wait()? {
            anyhow::bail!("the daemon had already ended with {status}:{}", self.tail.text());
        }
        self.child.kill().context("cannot kill the daemon")?;
        self.child.wait().context("cannot wait for the killed daemon")?;
        Ok(())
    }

    /// Asks it to end, and answers how it ended.
    pub fn stop(&mut self) -> Result<ExitStatus> {
        let pid = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw);
        kill_process(pid.context("no pid")?, Signal::TERM).context("cannot send SIGTERM")?;
        program::wait(&mut self.child, STOP_LIMIT)?.with_context(|| {
            format!("no end {STOP_LIMIT:?} after SIGTERM; it wrote:{}", self.tail.text())
        })
    }

    /// Asks it to end, then has every block of its pool read. Answers the last line of the check.
    pub fn stop_and_check(&mut self) -> Result<String> {
        let ended = self.stop()?;
        anyhow::ensure!(ended.success(), "SIGTERM ended the daemon with {ended}");
        let mut check = program::cairn(&["check", "--data"])?;
        check.arg("--dir").arg(self.dir());
        let finished = program::run_within(check, CHECK_LIMIT)?;
        let told = finished.stderr.clone() + &finished.stdout;
        finished.succeeded("cairn check --data")?;
        let last = told.lines().last().unwrap_or_default().to_owned();
        anyhow::ensure!(last.ends_with(": 0 findings"), "cairn check --data: {told}");
        Ok(last)
    }

    /// Writes another configuration and sends SIGHUP, without waiting for what comes of it.
    pub fn reload(&mut self, config: ServeConfig) -> Result<()> {
        self.setup.write_config(&config)?;
        self.setup.serve = Some(config);
        let pid = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw);
        kill_process(pid.context("no pid")?, Signal::HUP).context("cannot send SIGHUP")
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Starts it again, on the same pool and port; it must have ended.
    pub fn restart(&mut self) -> Result<()> {
        (self.child, self.tail) = spawn(&self.setup)?;
        self.wait_until_ready()
    }

    /// The setup that the next restart takes.
    pub fn setup_mut(&mut self) -> &mut Setup {
        &mut self.setup
    }

    pub fn dir(&self) -> &Path {
        &self.setup.dir
    }

    /// Fails when the daemon has ended by itself.
    pub fn expect_alive(&mut self) -> Result<()> {
        match self.child.try_wait()? {
            None => Ok(()),
            Some(status) => {
                anyhow::bail!("the daemon ended by itself with {status}:{}", self.tail.text())
            }
        }
    }

    pub fn address(&self) -> Address {
        Address::of_cairn(self.setup.port)
    }

    pub fn socket(&self) -> PathBuf {
        self.setup.dir.join("control.sock")
    }

    /// Runs a live command against this daemon.
    pub fn command(&self, arguments: &[&str]) -> Result<Finished> {
        let mut command = program::cairn(arguments)?;
        command.arg("--socket").arg(self.socket());
        program::finish(command)
    }

    /// What a live command prints, which must succeed.
    #[track_caller]
    pub fn told(&self, arguments: &[&str]) -> String {
        let finished = self.command(arguments);
        let told = finished.and_then(|finished| finished.succeeded(&arguments.join(" ")));
        told.unwrap_or_else(|error| panic!("{error:#}"))
    }

    /// A live command must fail with this code, say so, and print no record.
    #[track_caller]
    pub fn refuses(&self, arguments: &[&str], code: i32, text: &str) {
        let finished = self.command(arguments).unwrap_or_else(|error| panic!("{error:#}"));
        assert_eq!(finished.status.code(), Some(code), "{arguments:?}: {}", finished.stderr);
        assert!(finished.stderr.contains(text), "{arguments:?}: {}", finished.stderr);
        assert_eq!(finished.stdout, "", "{arguments:?}: stdout is for records");
    }

    pub fn status(&self) -> Result<Status> {
        Status::parse(&self.command(&["status", "--json"])?.succeeded("cairn status --json")?)
    }

    /// For the message about something that failed, perhaps because the daemon is ending by itself:
    /// how it ended, if it does so soon, and what it wrote last.
    pub fn how_it_ended(&mut self) -> String {
        let ended = match program::wait(&mut self.child, SOON) {
            Ok(Some(status)) => format!("ended by itself with {status}"),
            Ok(None) => "is still there".into(),
            Err(error) => format!("cannot be waited for: {error:#}"),
        };
        // Its last lines may still be on their way through the pipe.
        clock::pause(Duration::from_millis(50));
        format!("the daemon {ended}; it wrote:{}", self.tail.text())
    }

    /// What it wrote last, for messages.
    pub fn last_words(&self) -> String {
        self.tail.text()
    }

    fn wait_until_ready(&mut self) -> Result<()> {
        let deadline = Deadline::after(READY_LIMIT);
        loop {
            if self.tail.holds(|line| line.split_whitespace().next() == Some("ready")) {
                return Ok(());
            }
            if let Some(status) = self.child.try_wait()? {
                // Its last lines may still be on their way through the pipe.
                clock::pause(Duration::from_millis(50));
                anyhow::bail!("cairn up ended with {status} before ready:{}", self.tail.text());
            }
            if deadline.passed() {
                self.child.kill().context("cannot kill the daemon")?;
                self.child.wait().context("cannot wait for the killed daemon")?;
                anyhow::bail!("cairn up: no ready line in {READY_LIMIT:?}:{}", self.tail.text());
            }
            clock::pause(Duration::from_millis(5));
        }
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        // It may have ended already; there is nobody left to tell either way.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn spawn(setup: &Setup) -> Result<(Child, Tail)> {
    setup.prepare()?;
    let mut command = setup.command()?;
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().with_context(|| format!("cannot run {command:?}"))?;
    let tail = Tail::default();
    tail.follow(child.stdout.take().context("no pipe")?);
    tail.follow(child.stderr.take().context("no pipe")?);
    Ok((child, tail))
}

/// A port that nobody listens on, from below the range of outgoing connections (32768 and up).
pub fn free_port() -> Result<u16> {
    for _ in 0..200 {
        let port = fastrand::u16(10_000..32_000);
        if TcpListener::bind(SocketAddr::from((Ipv4Addr::LOCALHOST, port))).is_ok() {
            return Ok(port);
        }
    }
    anyhow::bail!("no free port between 10000 and 32000 on 127.0.0.1")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tail_keeps_the_last_lines() {
        let tail = Tail::default();
        for number in 0..TAIL_LINES + 5 {
            tail.push(&format!("line {number}"));
        }
        assert!(!tail.holds(|line| line == "line 4"));
        assert!(tail.holds(|line| line == "line 5"));
    }

    #[test]
    fn a_free_port_is_below_the_outgoing_range() {
        let port = free_port().expect("one of 22,000 ports is free");
        assert!((10_000..32_000).contains(&port));
    }
}
