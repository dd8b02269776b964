//! What a daemon has to say while it runs: notices on stderr, as text for a person or as one JSON
//! object a line for a collector.
//!
//! With JSON everything that is written to stderr has that form, the line about a failure and a panic
//! included, or a collector would stumble over the line that matters most. Stdout is not touched: the
//! `ready` record is all that a daemon writes there.

use crate::exit::Error;
use clap::{Args, ValueEnum};
use std::io::IsTerminal;
use std::sync::atomic::{AtomicBool, Ordering};
use tracing_subscriber::EnvFilter;

/// Which notices there are, where --log-level does not say it.
const ENV: &str = "CAIRN_LOG";
const DEFAULT: &str = "info";

/// Set once, before a daemon's first notice.
static IS_JSON: AtomicBool = AtomicBool::new(false);

#[derive(Args)]
pub struct LogArgs {
    /// How notices on stderr look: text, or one JSON object a line
    #[arg(long, value_name = "FORMAT", value_enum, default_value_t = Format::Text)]
    log_format: Format,

    /// The least important notices that are shown [default: $CAIRN_LOG, else info]
    #[arg(long, value_name = "LEVEL", value_enum)]
    log_level: Option<Level>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Format {
    Text,
    Json,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Level {
    Error,
    Warn,
    Info,
    Debug,
    Trace,
}

impl Level {
    fn directive(self) -> &'static str {
        match self {
            Level::Error => "error",
            Level::Warn => "warn",
            Level::Info => "info",
            Level::Debug => "debug",
            Level::Trace => "trace",
        }
    }
}

impl LogArgs {
    /// From here on notices are written.
    pub fn begin(&self) -> Result<(), Error> {
        let filter = filter(self.log_level, std::env::var(ENV).ok().as_deref())?;
        let notices =
            tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
        match self.log_format {
            Format::Text => {
                let ansi = std::io::stderr().is_terminal();
                notices.with_target(false).with_ansi(ansi).init();
            }
            Format::Json => {
                IS_JSON.store(true, Ordering::Relaxed);
                let notices = notices.json().flatten_event(true);
                notices.with_current_span(false).with_span_list(false).init();
                std::panic::set_hook(Box::new(|panic| {
                    let thread = std::thread::current().name().unwrap_or("unnamed").to_owned();
                    let place = panic.location().map(ToString::to_string).unwrap_or_default();
                    let text = panic.payload_as_str().unwrap_or("panic");
                    tracing::error!(target: "panic", thread, place, "{text}");
                }));
            }
        }
        Ok(())
    }
}

/// A level that was said wins over directives from the environment (`info,cairn_daemon=debug`).
fn filter(level: Option<Level>, environment: Option<&str>) -> Result<EnvFilter, Error> {
    let said = level.map(Level::directive).or(environment.filter(|text| !text.is_empty()));
    EnvFilter::try_new(said.unwrap_or(DEFAULT))
        .map_err(|error| Error::usage(ENV, format!("not what to log: {error}")))
}

/// The one line about a command that failed.
pub fn failure(verb: &str, error: &Error) {
    if IS_JSON.load(Ordering::Relaxed) {
        tracing::error!(verb, errno = ?error.errno(), "cairn: {verb} {error}");
    } else {
        eprintln!("cairn: {verb} {error}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_said_wins_over_the_environment_and_nonsense_is_refused() {
        let shown = |level, environment| filter(level, environment).map(|f| f.to_string()).ok();
        assert_eq!(shown(None, None), Some("info".into()));
        assert_eq!(shown(None, Some("")), Some("info".into()));
        assert_eq!(shown(None, Some("warn")), Some("warn".into()));
        assert_eq!(shown(Some(Level::Debug), Some("warn")), Some("debug".into()));
        assert_eq!(shown(None, Some("cairn=loud")), None);
    }
}
