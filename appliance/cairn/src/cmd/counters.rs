//! `cairn counters`: everything the daemon counts.

use crate::Globals;
use crate::exit::{self, Error, Outcome};
use crate::live::{self, with_daemon};
use crate::output::{Output, Reader};
use cairn_control::metrics_text;
use cairn_control::proto::Counter;
use clap::Args;
use nix::errno::Errno;
use std::time::Duration;

/// Show everything the daemon counts
#[derive(Args)]
#[command(
    long_about = "Show everything the daemon counts, `name value unit` a line, by name. A value is the \
                  sum over all shards, or of maxima the largest; --json has each shard's own, and what \
                  it means, as docs/counters.md does. Counters count from the daemon's start. With \
                  --watch they are shown again and again, only those that changed and with the \
                  difference, until interrupted.",
    after_help = "Examples:\n  cairn counters\n  cairn counters --prefix log_\n  cairn counters --prometheus\n  \
                  cairn counters --prefix nfs_ --watch 5\n  \
                  cairn counters --json | jq -r '\"\\(.name): \\(.help)\"'"
)]
pub struct Counters {
    /// Only counters whose names begin so
    #[arg(long, value_name = "P", default_value = "")]
    prefix: String,

    /// Show what changed, every so many seconds
    #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(1..=86400),
          allow_negative_numbers = true)]
    watch: Option<u64>,

    /// As OpenMetrics text, which Prometheus reads
    #[arg(long, conflicts_with = "watch")]
    prometheus: bool,
}

impl Counters {
    pub fn run(&self, globals: &Globals) -> exit::Result {
        let socket = live::socket(globals);
        let failed = |error| Error::client(socket.display(), error);
        with_daemon(globals, async |mut client| {
            let mut before: Vec<Counter> = Vec::new();
            loop {
                let now = client.counters(&self.prefix).await.map_err(failed)?;
                if now.is_empty() {
                    let text = "no counter's name begins so: `cairn counters` has all names";
                    return Err(Error::new(&self.prefix, Errno::ENOENT, text));
                }
                if self.prometheus {
                    let mut out = Output::new(false);
                    // It is all of it: whoever reads no further wants no more.
                    let _ = out.bytes_line(metrics_text(now).trim_end().as_bytes())?;
                    out.finish()?;
                    return Ok(());
                }
                let mut out = Output::new(globals.json);
                let mut reader = Reader::Wants;
                for (at, counter) in now.iter().enumerate() {
                    // The registry does not change while a daemon lives.
                    let old = before.get(at).map(|counter| counter.value);
                    if reader == Reader::Wants && old != Some(counter.value) {
                        reader = out.record(counter, |counter| line(counter, old))?;
                    }
                }
                out.finish()?;
                match self.watch {
                    Some(seconds) if reader == Reader::Wants => {
                        tokio::time::sleep(Duration::from_secs(seconds)).await;
                    }
                    _ => return Ok(()),
                }
                before = now;
            }
        })?;
        Ok(Outcome::Done)
    }
}

fn line(counter: &Counter, old: Option<u64>) -> String {
    let Counter { name, value, unit, .. } = counter;
    match old {
        None => format!("{name} {value} {unit}"),
        Some(old) => format!("{name} {value} {unit} {:+}", i128::from(*value) - i128::from(old)),
    }
}
