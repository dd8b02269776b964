//! Running programs to their end: cairn's offline and live commands, and tools of the system.
//!
//! A command that never ends would hang the whole test run, so each is waited for with a limit and
//! killed behind it. Output is drained by threads while it runs; a full pipe must not look like a
//! command that hangs.

use crate::clock;
use anyhow::{Context, Result};
use std::io::Read;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread::JoinHandle;
use std::time::Duration;

/// Longer than any command of these tests takes on a busy machine.
const COMMAND_LIMIT: Duration = Duration::from_secs(120);

/// What a program left behind.
#[derive(Debug)]
pub struct Finished {
    pub status: ExitStatus,
    pub stdout: String,
    pub stderr: String,
}

impl Finished {
    /// The output of a command that must succeed.
    pub fn succeeded(self, what: &str) -> Result<String> {
        let Finished { status, stdout, stderr } = self;
        anyhow::ensure!(
            status.success(),
            "{what} ended with {status}\nstdout: {stdout}\nstderr: {stderr}"
        );
        Ok(stdout)
    }
}

/// The program under test: $CAIRN_BIN, else the newest-profile build beside this executable.
pub fn binary() -> Option<PathBuf> {
    if let Some(named) = std::env::var_os("CAIRN_BIN") {
        return Some(PathBuf::from(named));
    }
    let this = std::env::current_exe().ok()?;
    let profiles = ["release/cairn", "debug/cairn"];
    this.ancestors()
        .find_map(|dir| profiles.iter().map(|at| dir.join(at)).find(|path| path.is_file()))
}

/// A command of the program under test.
pub fn cairn(arguments: &[&str]) -> Result<Command> {
    let binary = binary().context("no cairn binary: set CAIRN_BIN or run cargo build")?;
    let mut command = Command::new(binary);
    command.args(arguments);
    Ok(command)
}

/// Whether the program under test knows a subcommand, hidden or not.
pub fn has_subcommand(name: &str) -> bool {
    cairn(&[name, "--help"]).and_then(finish).is_ok_and(|help| help.status.success())
}

pub fn finish(command: Command) -> Result<Finished> {
    run_within(command, COMMAND_LIMIT)
}

/// Runs a command to its end; one that is not done after `limit` is killed, which is an error.
pub fn run_within(mut command: Command, limit: Duration) -> Result<Finished> {
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().with_context(|| format!("cannot run {command:?}"))?;
    let stdout = drain(child.stdout.take().context("no pipe")?);
    let stderr = drain(child.stderr.take().context("no pipe")?);
    let ended = wait(&mut child, limit)?;
    let (stdout, stderr) = (collect(stdout), collect(stderr));
    match ended {
        Some(status) => Ok(Finished { status, stdout, stderr }),
        None => anyhow::bail!(
            "{command:?} was not done after {limit:?}\nstdout: {stdout}\nstderr: {stderr}"
        ),
    }
}

/// Waits for a child to end by itself; kills it, and answers nothing, when it does not.
pub fn wait(child: &mut Child, limit: Duration) -> Result<Option<ExitStatus>> {
    let ended = clock::eventually(limit, || child.try_wait().transpose()).transpose()?;
    if ended.is_none() {
        child.kill().context("cannot kill a child that hangs")?;
        child.wait().context("cannot wait for a killed child")?;
    }
    Ok(ended)
}

fn drain(mut pipe: impl Read + Send + 'static) -> JoinHandle<Vec<u8>> {
    std::thread::spawn(move || {
        let mut bytes = Vec::new();
        // What came before an error is still worth showing.
        let _ = pipe.read_to_end(&mut bytes);
        bytes
    })
}

fn collect(pipe: JoinHandle<Vec<u8>>) -> String {
    let bytes = pipe.join().unwrap_or_default();
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str) -> Command {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        command
    }

    #[test]
    fn output_larger_than_a_pipe_is_collected() {
        let finished = finish(shell("head -c 300000 /dev/zero | tr '\\0' x; echo no >&2; exit 3"));
        let finished = finished.expect("the shell runs");
        assert_eq!(finished.stdout.len(), 300_000);
        assert_eq!(finished.stderr, "no\n");
        assert_eq!(finished.status.code(), Some(3));
    }

    #[test]
    fn a_command_that_hangs_is_killed_and_named() {
        let error = run_within(shell("echo begun; exec sleep 1000"), Duration::from_millis(200));
        let text = error.expect_err("it hangs").to_string();
        assert!(text.contains("was not done") && text.contains("sleep 1000"), "{text}");
    }
}
