//! `cairn debug`: faults, for who tests a daemon that holds nothing of value.

use crate::Globals;
use crate::exit::{self, Error, Outcome};
use crate::live::with_daemon;
use crate::output::{Output, Reader};
use cairn_control::proto::{TriggerEntry, TriggerRequest};
use clap::{Args, Subcommand};

/// Set off faults in a daemon that was started for it
#[derive(Args)]
#[command(
    after_help = "Examples:\n  cairn debug triggers\n  cairn debug trigger die-in-stage --ino 4097\n\n\
                  The daemon: cairn up --debug-triggers"
)]
pub struct Debug {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Set off a fault, once, at the next place where it can happen
    #[command(
        long_about = "Set off a fault, once, at the next place where it can happen: to see that agents and \
                      scripts survive it. Refused (EPERM) unless the daemon was started with \
                      --debug-triggers.",
        after_help = "Examples:\n  cairn debug triggers\n  cairn debug trigger die-in-stage --ino 4097\n  \
                      cairn debug trigger refuse-permit"
    )]
    Trigger {
        /// As `cairn debug triggers` has it
        name: String,
        /// Only what is done to this inode sets it off
        #[arg(long, value_name = "N", value_parser = super::stat::ino)]
        ino: Option<u64>,
    },
    /// List the faults: name, how often it is set off and waits for its place, how often it fired, what it does
    #[command(after_help = "Examples:\n  cairn debug triggers\n  cairn debug triggers --json")]
    Triggers,
}

impl Debug {
    pub fn run(&self, globals: &Globals) -> exit::Result {
        match &self.command {
            Command::Trigger { name, ino } => {
                let request = TriggerRequest { name: name.clone(), ino: ino.unwrap_or(0) };
                with_daemon(globals, async |mut client| {
                    client.trigger(request).await.map_err(|error| Error::client(name, error))
                })?;
            }
            Command::Triggers => {
                let all = with_daemon(globals, async |mut client| {
                    client.triggers().await.map_err(|error| Error::client("triggers", error))
                })?;
                let mut out = Output::new(globals.json);
                for trigger in &all {
                    if out.record(trigger, line)? == Reader::Gone {
                        break;
                    }
                }
                out.finish()?;
            }
        }
        Ok(Outcome::Done)
    }
}

fn line(trigger: &TriggerEntry) -> String {
    let TriggerEntry { name, help, armed, fired, .. } = trigger;
    format!("{name} armed {armed} fired {fired} {help}")
}
