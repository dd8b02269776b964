//! `cairn top`: what the daemon does, now and every second.

use crate::Globals;
use crate::exit::{self, Error, Outcome};
use crate::live::{self, with_daemon};
use crate::output::{Output, Reader};
use crate::top::{Sample, Screen, View, lines};
use cairn_control::Client;
use clap::Args;
use std::fmt::Display;
use std::io::IsTerminal;
use std::time::Duration;
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::Instant;

/// How often the keyboard is looked at.
const KEYS: Duration = Duration::from_millis(50);

/// Watch what the daemon does
#[derive(Args)]
#[command(
    long_about = "Watch what the daemon does: calls by procedure with their mean time from arrival to \
                  answer, bytes in and out, free space, and each shard's load, log and memtables. \
                  Refreshed every second; q quits. With --once, with --json, and where stdout is no \
                  terminal, one such interval is printed as text.",
    after_help = "Examples:\n  cairn top\n  cairn top --interval 5\n  cairn top --once\n  \
                  cairn top --json | jq '.shards[].busy_percent'"
)]
pub struct Top {
    /// Print one interval as text
    #[arg(long)]
    once: bool,

    /// Seconds between two looks
    #[arg(long, value_name = "SECONDS", default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..=3600),
          allow_negative_numbers = true)]
    interval: u64,
}

impl Top {
    pub fn run(&self, globals: &Globals) -> exit::Result {
        let socket = live::socket(globals);
        let object = socket.display();
        if self.once || globals.json || !std::io::stdout().is_terminal() {
            let view = with_daemon(globals, async |mut client| {
                let first = Sample::take(&mut client, &object).await?;
                tokio::time::sleep(self.interval()).await;
                Ok(View::between(&first, &Sample::take(&mut client, &object).await?))
            })?;
            print(globals, &view)?;
        } else {
            with_daemon(globals, async |client| self.watch(client, &object).await)?;
        }
        Ok(Outcome::Done)
    }

    fn interval(&self) -> Duration {
        Duration::from_secs(self.interval)
    }

    /// Until a key, a signal, or the daemon's end.
    async fn watch(&self, mut client: Client, object: impl Display) -> Result<(), Error> {
        let mut old = Sample::take(&mut client, &object).await?;
        let mut terminated = signal(SignalKind::terminate()).map_err(|e| Error::io(&object, &e))?;
        let mut screen = Screen::open()?;
        screen.show(&View::between(&old, &old))?;
        loop {
            let due = Instant::now() + self.interval();
            while Instant::now() < due {
                if screen.is_left()? {
                    return Ok(());
                }
                tokio::select! {
                    () = tokio::time::sleep(KEYS) => {}
                    _ = terminated.recv() => return Ok(()),
                }
            }
            let new = Sample::take(&mut client, &object).await?;
            screen.show(&View::between(&old, &new))?;
            old = new;
        }
    }
}

fn print(globals: &Globals, view: &View) -> Result<(), Error> {
    let mut out = Output::new(globals.json);
    if globals.json {
        let _ = out.record(view, |_| String::new())?;
    } else {
        let mut reader = Reader::Wants;
        for line in lines(view) {
            if reader == Reader::Wants {
                reader = out.line(&line)?;
            }
        }
    }
    out.finish()
}
