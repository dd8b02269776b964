//! Runs one machine to its end: passes on its output, waits for the exit code, keeps the time.
//!
//! stdout and stderr come through ports of their own and stay apart. The third port carries two
//! lines: `begun` when the command starts and `exit N` when it has ended. QEMU's own end without the
//! second means that the guest died; then the end of its console is the explanation.

use super::machine::{Machine, Port};
use super::{NO_ANSWER, TIMED_OUT};
use anyhow::{Context, Result};
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixListener;
use std::process::{Child, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::{Duration, Instant};

/// From the report of the exit code to QEMU's end; the guest has only its shares to unmount.
const POWER_OFF_LIMIT: Duration = Duration::from_secs(20);
/// For output that QEMU has taken and we have not read, once it has ended.
const DRAIN_LIMIT: Duration = Duration::from_secs(10);
const POLL: Duration = Duration::from_millis(20);
const CONSOLE_LINES: usize = 40;

enum News {
    Begun,
    Exit(u8),
    /// stdout or stderr is at its end.
    Drained,
}

/// QEMU, which ends with the value.
struct Qemu(Child);

impl Drop for Qemu {
    fn drop(&mut self) {
        // It may have ended by itself; either way there is nothing more to do about it.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// How far the guest got.
#[derive(Default)]
struct Progress {
    begun: bool,
    exit: Option<u8>,
    drained: u8,
}

impl Progress {
    fn note(&mut self, news: News) {
        match news {
            News::Begun => self.begun = true,
            News::Exit(code) => self.exit = Some(code),
            News::Drained => self.drained += 1,
        }
    }
}

pub fn run(machine: &Machine<'_>) -> Result<u8> {
    let (sender, news) = channel();
    for port in Port::ALL {
        let listener = UnixListener::bind(machine.socket(port))
            .with_context(|| format!("cannot listen at {}", machine.socket(port).display()))?;
        let sender = sender.clone();
        // Ends with QEMU, or with us when QEMU never connected.
        std::thread::spawn(move || serve(port, &listener, &sender));
    }
    let mut command = machine.prepare()?;
    command.stderr(Stdio::inherit());
    let mut qemu = Qemu(command.spawn().context("cannot start setpriv (util-linux) with QEMU")?);

    let limit = Duration::from_secs(machine.job.timeout_s);
    let mut progress = Progress::default();
    let timed_out = !follow(&mut qemu, &news, &mut progress, limit)?;
    drop(qemu);
    if progress.begun {
        let end = now() + DRAIN_LIMIT;
        while progress.drained < 2 && receive(&news, &mut progress) && now() < end {}
    }
    if machine.options.console {
        std::io::stderr().write_all(&std::fs::read(machine.console()).unwrap_or_default())?;
    }
    Ok(match progress.exit {
        Some(code) => code,
        None if timed_out => {
            let done = if progress.begun { "the command was running" } else { "it was booting" };
            eprintln!("xtask guest: ended after {} s; {done}", machine.job.timeout_s);
            show_console(machine);
            TIMED_OUT
        }
        None => {
            eprintln!("xtask guest: the guest died without an exit code; its console ends with:");
            show_console(machine);
            NO_ANSWER
        }
    })
}

/// Waits until QEMU has ended; false when the time was up before.
fn follow(
    qemu: &mut Qemu,
    news: &Receiver<News>,
    progress: &mut Progress,
    limit: Duration,
) -> Result<bool> {
    let mut end = now() + limit;
    loop {
        let had_exit = progress.exit.is_some();
        receive(news, progress);
        if !had_exit && progress.exit.is_some() {
            end = now() + POWER_OFF_LIMIT;
        }
        if qemu.0.try_wait().context("lost QEMU")?.is_some() {
            return Ok(true);
        }
        if now() >= end {
            return Ok(false);
        }
    }
}

/// Waits a moment for one piece of news; false when none can come any more.
fn receive(news: &Receiver<News>, progress: &mut Progress) -> bool {
    match news.recv_timeout(POLL) {
        Ok(item) => {
            progress.note(item);
            true
        }
        Err(RecvTimeoutError::Timeout) => true,
        Err(RecvTimeoutError::Disconnected) => false,
    }
}

fn serve(port: Port, listener: &UnixListener, sender: &Sender<News>) {
    let Ok((stream, _)) = listener.accept() else { return };
    // Whoever reads our stdout may have gone: the guest's command goes on, as with any pipeline
    // whose writer does not care. The receiver may be gone too, when time was up.
    match port {
        Port::Stdout => {
            let _ = pass_on(stream, &mut std::io::stdout());
            let _ = sender.send(News::Drained);
        }
        Port::Stderr => {
            let _ = pass_on(stream, &mut std::io::stderr());
            let _ = sender.send(News::Drained);
        }
        Port::Report => {
            for line in BufReader::new(stream).lines().map_while(Result::ok) {
                if let Some(item) = parse_report(&line) {
                    let _ = sender.send(item);
                }
            }
        }
    }
}

fn parse_report(line: &str) -> Option<News> {
    match line.trim().split_once(' ') {
        None if line.trim() == "begun" => Some(News::Begun),
        Some(("exit", code)) => code.parse().ok().map(News::Exit),
        _ => None,
    }
}

fn pass_on(mut from: impl Read, to: &mut impl Write) -> std::io::Result<()> {
    let mut buffer = [0; 64 * 1024];
    loop {
        let count = from.read(&mut buffer)?;
        if count == 0 {
            return Ok(());
        }
        to.write_all(&buffer[..count])?;
        to.flush()?;
    }
}

fn show_console(machine: &Machine<'_>) {
    let bytes = std::fs::read(machine.console()).unwrap_or_default();
    let text = String::from_utf8_lossy(&bytes);
    let lines: Vec<&str> = text.lines().collect();
    for line in &lines[lines.len().saturating_sub(CONSOLE_LINES)..] {
        eprintln!("  {line}");
    }
}

#[expect(clippy::disallowed_methods, reason = "bounds the wait for an emulated machine")]
fn now() -> Instant {
    Instant::now()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_line_is_understood_and_noise_is_not() {
        assert!(matches!(parse_report("begun\r"), Some(News::Begun)));
        assert!(matches!(parse_report("exit 3"), Some(News::Exit(3))));
        for noise in ["", "exit", "exit 256", "exit -1", "begun twice"] {
            assert!(parse_report(noise).is_none(), "{noise}");
        }
    }
}
