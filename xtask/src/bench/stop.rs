//! Waiting that Ctrl-C and SIGTERM can end.
//!
//! Without this an interrupted benchmark would leave a mounted file system, a loop device and two
//! servers behind. So the signal becomes an error at the next wait, and the error takes the ordinary
//! way out, past everything that cleans up when dropped. The servers are in process groups of their
//! own: the terminal's signal does not reach them, only we do.

use anyhow::{Context, Result, bail};
use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};
use std::time::{Duration, Instant};

pub struct Stop {
    signals: Receiver<()>,
    deadline: Option<Instant>,
}

#[expect(clippy::disallowed_methods, reason = "a benchmark runs in real time")]
pub fn now() -> Instant {
    Instant::now()
}

impl Stop {
    /// At most once in a process. With `time_max`, waiting fails when that is over.
    pub fn install(time_max: Option<Duration>) -> Result<Stop> {
        let (send, signals) = sync_channel(1);
        ctrlc::set_handler(move || {
            // A full channel means that the first signal is still being obeyed.
            let _ = send.try_send(());
        })
        .context("cannot catch Ctrl-C")?;
        Ok(Stop { signals, deadline: time_max.map(|time| now() + time) })
    }

    pub fn wait(&self, time: Duration) -> Result<()> {
        if self.deadline.is_some_and(|deadline| now() > deadline) {
            bail!("the time for the whole benchmark is over; this machine may be too busy for it");
        }
        match self.signals.recv_timeout(time) {
            Err(RecvTimeoutError::Timeout) => Ok(()),
            Ok(()) => bail!("interrupted"),
            Err(RecvTimeoutError::Disconnected) => bail!("the signal handler is gone"),
        }
    }

    /// Asks `done` again and again, at most for `time_max`.
    pub fn wait_until(
        &self,
        time_max: Duration,
        what: &str,
        mut done: impl FnMut() -> Result<bool>,
    ) -> Result<()> {
        let deadline = now() + time_max;
        while !done()? {
            if now() > deadline {
                bail!("{what} took more than {} s", time_max.as_secs());
            }
            self.wait(Duration::from_millis(50))?;
        }
        Ok(())
    }
}
