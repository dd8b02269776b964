//! `cairn changes consumer`: names whose places in the change stream are kept in the pool.

use super::words;
use crate::Globals;
use crate::exit::{self, Error, Outcome};
use crate::live::with_daemon;
use crate::output::{Output, Reader, name_text};
use crate::position::Position;
use cairn_control::proto::{ConsumerAckRequest, ConsumerAddRequest, ConsumerEntry, IndexPosition};
use clap::Subcommand;

#[derive(Subcommand)]
pub enum Consumer {
    /// Add a consumer: deletions that it has not passed are kept
    #[command(
        long_about = "Add a consumer. Its place is kept in the pool, survives a crash, and keeps the \
                      deletions behind it: of those a tablet holds a bounded number, and with more the \
                      oldest are forgotten all the same, after `cairn status` and the daemon's log have \
                      named the consumer. There are at most 256.",
        after_help = "Examples:\n  cairn changes consumer add tape\n  \
                      cairn changes consumer add tape --from 0\n  \
                      cairn changes consumer add tape --from 1767225600000000.4097"
    )]
    Add {
        name: String,
        /// Begin behind this position: SEQ[.INO], 0 for all that there is, or now
        #[arg(
            long,
            value_name = "SEQ[.INO]|now",
            default_value = "now",
            value_parser = from,
            allow_negative_numbers = true
        )]
        from: Begin,
    },
    /// Say that a consumer has seen, and is done with, everything up to and with a position
    #[command(
        long_about = "Say that a consumer has seen, and is done with, everything up to and with a position \
                      that `cairn changes` has listed. Durable when the command ends. A place goes forward \
                      only; below it, or above the newest seq of the pool, is an error (EINVAL).",
        after_help = "Example: cairn changes consumer ack tape 1767225600000000.4097"
    )]
    Ack {
        name: String,
        #[arg(value_name = "SEQ[.INO]", value_parser = Position::since, allow_negative_numbers = true)]
        position: IndexPosition,
    },
    /// List the consumers: name and place, and when they were added and moved on last
    #[command(
        long_about = "List the consumers, by name, one a line: name, SEQ[.INO] of the last change that it \
                      is done with, and when it was added and moved on last, nanoseconds since 1970 (0: it \
                      never has).",
        after_help = "Examples:\n  cairn changes consumer list\n  cairn changes consumer list --json"
    )]
    List,
    /// Remove a consumer: nothing is kept for it any more
    #[command(after_help = "Example: cairn changes consumer remove tape")]
    Remove { name: String },
}

/// Where a consumer begins; nothing is now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Begin(Option<IndexPosition>);

fn from(text: &str) -> Result<Begin, String> {
    match text {
        "now" => Ok(Begin(None)),
        text => Position::since(text)
            .map(|at| Begin(Some(at)))
            .map_err(|_| "a consumer begins behind SEQ or SEQ.INO, or now".into()),
    }
}

impl Consumer {
    pub fn run(&self, globals: &Globals) -> exit::Result {
        match self {
            Consumer::Add { name, from: Begin(since) } => {
                let request = ConsumerAddRequest { name: name.clone(), since: *since };
                with_daemon(globals, async |mut client| {
                    client.consumer_add(request).await.map_err(|error| Error::client(name, error))
                })?;
            }
            Consumer::Ack { name, position } => {
                let request = ConsumerAckRequest { name: name.clone(), position: Some(*position) };
                with_daemon(globals, async |mut client| {
                    client.consumer_ack(request).await.map_err(|error| Error::client(name, error))
                })?;
            }
            Consumer::Remove { name } => with_daemon(globals, async |mut client| {
                client.consumer_remove(name).await.map_err(|error| Error::client(name, error))
            })?,
            Consumer::List => return list(globals),
        }
        Ok(Outcome::Done)
    }
}

fn list(globals: &Globals) -> exit::Result {
    let all = with_daemon(globals, async |mut client| {
        client.consumers().await.map_err(|error| Error::client("consumers", error))
    })?;
    let mut out = Output::new(globals.json);
    let mut reader = out.header("name seq.ino created acked")?;
    for consumer in &all {
        if reader == Reader::Wants {
            reader = match out.is_json() {
                true => out.record(consumer, |_| String::new())?,
                false => out.bytes_line(&line(consumer))?,
            };
        }
    }
    out.finish()?;
    Ok(Outcome::Done)
}

/// Numbers are last, since a name may have spaces.
fn line(consumer: &ConsumerEntry) -> Vec<u8> {
    let ConsumerEntry { seq, ino, created, acked, .. } = *consumer;
    let place = words(&IndexPosition { seq, ino });
    let mut line = name_text(consumer.name.as_bytes());
    line.extend_from_slice(format!(" {place} {created} {acked}").as_bytes());
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_consumer_begins_now_or_behind_a_place() {
        assert_eq!(from("now"), Ok(Begin(None)));
        let at = |seq, ino| Ok(Begin(Some(IndexPosition { seq, ino })));
        assert_eq!(from("0"), at(0, u64::MAX));
        assert_eq!(from("7.12"), at(7, 12));
        assert!(from("-1").is_err());
        assert!(from("then").is_err());
    }

    #[test]
    fn a_consumer_is_a_line_whatever_its_name() {
        let name = "tape two".into();
        let consumer =
            ConsumerEntry { name, seq: 7, ino: u64::MAX, created: 5, ..ConsumerEntry::default() };
        assert_eq!(line(&consumer), b"tape two 7 5 0");
        assert_eq!(line(&ConsumerEntry { ino: 12, ..consumer }), b"tape two 7.12 5 0");
    }
}
