//! `cairn changes`: what was created, changed and deleted since a position, and who follows it.
//!
//! Whoever follows ends it with an interrupt. Where to go on is then on stderr: behind all that was
//! printed, and behind what was stable by then.

mod consumer;

use crate::Globals;
use crate::exit::{self, Error, Outcome};
use crate::live::{with_daemon, with_daemon_until_interrupted};
use crate::output::{Output, Reader, name_json, name_text};
use crate::position::Position;
use cairn_control::proto::{ChangeRecord, ChangesReply, ChangesRequest, IndexPosition};
use cairn_control::{Client, Stream};
use clap::{Args, Subcommand};
use serde_json::{Map, Value};
use tokio::signal::unix::{Signal, SignalKind, signal};

/// List what was created, changed and deleted since a position
#[derive(Args)]
#[command(
    long_about = "List what was created, changed and deleted behind a position, in order, one a line: \
                  SEQ.INO, what happened (created, metadata, data, deleted), and the kind of inode; \
                  of a deleted one also the directory that had its last name, and the name. The \
                  SEQ.INO of the last line is where to go on: nothing is missed and no change is \
                  listed twice, whatever happens meanwhile, a crash included.\n\nIt is a list of last changes: \
                  what changed twice in one way (its metadata, its data) is listed at its later position \
                  only. So an inode is `created` where nothing has happened to it since (or no data was \
                  written to a file); else it shows by its later change, and is new to whoever does not \
                  know its number. What is listed is durable. A position above the pool's newest seq, as of another \
                  pool, is an error. In names a newline is \\n and a backslash \\\\; --json has \
                  them as they are, and of a deleted inode also `hidden_xattrs`: the extended attributes \
                  with the hide tag that it had, up to 3841 bytes of names and values; `hidden_xattrs_cut` says \
                  that there were more.\n\nDeletions are kept for 30 days and until every named consumer has passed them \
                  (`cairn changes consumer`). A position from before what is forgotten is an error \
                  (ESTALE) that says from where on history is whole. 0 never is: it lists all that there is.\n\n\
                  --follow goes on when the end is reached, until it is interrupted or the daemon stops, and \
                  then says on stderr where to go on.",
    after_help = "Examples:\n  cairn changes --since 0\n  cairn changes --since 1767225600000000.4097\n  \
                  cairn changes --since 1767225600000000.4097 --follow\n  \
                  cairn changes consumer add tape --from 0\n  cairn changes --consumer tape --json --follow\n  \
                  cairn changes --since 0 --json | jq -r 'select(.change == \"deleted\") | .ino'",
    args_conflicts_with_subcommands = true,
    subcommand_negates_reqs = true
)]
pub struct Changes {
    /// List what lies behind this position: SEQ[.INO], as printed; a bare SEQ is behind all of it
    #[arg(
        long,
        value_name = "SEQ[.INO]",
        value_parser = Position::since,
        allow_negative_numbers = true,
        required_unless_present = "consumer"
    )]
    since: Option<IndexPosition>,

    /// List what lies behind the cursor of this consumer
    #[arg(long, value_name = "NAME", conflicts_with = "since")]
    consumer: Option<String>,

    /// Go on when the end is reached
    #[arg(long)]
    follow: bool,

    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Subcommand)]
enum Command {
    /// Consumers with names, whose places are kept in the pool
    #[command(subcommand)]
    Consumer(consumer::Consumer),
}

/// How a listing came to its end.
enum End {
    Listed,
    /// Nobody reads on.
    Unread,
    Interrupted,
    Broken(Error),
}

impl Changes {
    pub fn run(&self, globals: &Globals) -> exit::Result {
        if let Some(Command::Consumer(consumer)) = &self.command {
            return consumer.run(globals);
        }
        if self.follow {
            return with_daemon_until_interrupted(globals, |client| self.follow(globals, client));
        }
        with_daemon(globals, async |mut client| {
            let mut out = Output::new(globals.json);
            let mut at = None;
            let pages = client.changes(self.request()).await;
            let mut pages = pages.map_err(|error| Error::client(self.object(), error))?;
            let end = self.list(&mut pages, &mut out, &mut at).await;
            out.finish()?;
            match end {
                End::Broken(error) => Err(error),
                End::Listed | End::Unread | End::Interrupted => Ok(Outcome::Done),
            }
        })
    }

    fn request(&self) -> ChangesRequest {
        let (since, consumer) = (self.since, self.consumer.clone());
        ChangesRequest { since, consumer, follow: self.follow }
    }

    fn object(&self) -> String {
        match (&self.since, &self.consumer) {
            (Some(since), _) => words(since),
            (None, Some(consumer)) => consumer.clone(),
            (None, None) => String::new(),
        }
    }

    async fn follow(&self, globals: &Globals, mut client: Client) -> exit::Result {
        let signals = || Ok((signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?));
        let signals = signals().map_err(|error| Error::io(self.object(), &error))?;
        let mut out = Output::new(globals.json);
        let mut at = None;
        let listing = async {
            match client.changes(self.request()).await {
                Ok(mut pages) => self.list(&mut pages, &mut out, &mut at).await,
                Err(error) => End::Broken(Error::client(self.object(), error)),
            }
        };
        let end = tokio::select! {
            end = listing => end,
            () = any(signals) => End::Interrupted,
        };
        if let End::Unread = end {
            return Ok(Outcome::Done);
        }
        out.finish()?;
        if let End::Listed = end {
            eprintln!("the daemon stops");
        }
        if let Some(at) = at.map(|at| words(&at)) {
            match &self.consumer {
                Some(name) => eprintln!(
                    "go on behind {at}: cairn changes consumer ack {name} {at}, when all of it is done"
                ),
                None => eprintln!("go on behind {at}: cairn changes --since {at} --follow"),
            }
        }
        match end {
            End::Broken(error) => Err(error),
            End::Listed | End::Unread | End::Interrupted => Ok(Outcome::Done),
        }
    }

    /// Prints page after page; `at` is behind all that was printed as a whole.
    async fn list(
        &self,
        pages: &mut Stream<ChangesReply>,
        out: &mut Output,
        at: &mut Option<IndexPosition>,
    ) -> End {
        let mut page = async || -> Result<Option<(ChangesReply, Reader)>, Error> {
            let page = pages.next().await;
            let page = page.map_err(|error| Error::client(self.object(), error))?;
            let Some(page) = page else { return Ok(None) };
            let mut reader = out.header("seq.ino change kind [parent_ino name]")?;
            for change in &page.changes {
                if reader == Reader::Wants {
                    reader = show(out, change)?;
                }
            }
            if reader == Reader::Wants {
                reader = out.flush()?;
            }
            Ok(Some((page, reader)))
        };
        loop {
            match page().await {
                Ok(Some((_, Reader::Gone))) => return End::Unread,
                Ok(Some((page, Reader::Wants))) => *at = page.position.or(*at),
                Ok(None) => return End::Listed,
                Err(error) => return End::Broken(error),
            }
        }
    }
}

async fn any((mut interrupt, mut terminate): (Signal, Signal)) {
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
    }
}

/// As the command line takes it.
fn words(at: &IndexPosition) -> String {
    match at {
        IndexPosition { seq, ino: u64::MAX } => seq.to_string(),
        IndexPosition { seq, ino } => format!("{seq}.{ino}"),
    }
}

fn show(out: &mut Output, change: &ChangeRecord) -> Result<Reader, Error> {
    if out.is_json() {
        out.record(&json(change), |_| String::new())
    } else {
        out.bytes_line(&text(change))
    }
}

fn text(change: &ChangeRecord) -> Vec<u8> {
    let mut line =
        format!("{}.{} {} {}", change.seq, change.ino, change.change, change.kind).into_bytes();
    if let (Some(parent), Some(name)) = (change.parent_ino, &change.name) {
        line.extend_from_slice(format!(" {parent} ").as_bytes());
        line.extend_from_slice(&name_text(name));
    }
    line
}

fn json(change: &ChangeRecord) -> Value {
    let mut fields = Map::new();
    fields.insert("seq".into(), change.seq.into());
    fields.insert("ino".into(), change.ino.into());
    fields.insert("change".into(), change.change.as_str().into());
    fields.insert("kind".into(), change.kind.as_str().into());
    fields.insert("data_version".into(), change.data_version.into());
    if let Some(parent) = change.parent_ino {
        fields.insert("parent_ino".into(), parent.into());
    }
    if let Some(name) = &change.name {
        fields.extend([name_json("name", name)]);
    }
    if let Some(cut) = change.hidden_xattrs_cut {
        let kept = change.hidden_xattrs.iter().map(|xattr| {
            let xattr = [name_json("name", &xattr.name), name_json("value", &xattr.value)];
            Value::Object(xattr.into_iter().collect())
        });
        fields.insert("hidden_xattrs".into(), kept.collect());
        fields.insert("hidden_xattrs_cut".into(), cut.into());
    }
    Value::Object(fields)
}

#[cfg(test)]
mod tests {
    use super::*;
    use cairn_control::proto::Xattr;

    #[test]
    fn only_what_is_gone_has_a_name() {
        let mut change = ChangeRecord {
            seq: 7,
            ino: 12,
            change: "data".into(),
            kind: "regular".into(),
            data_version: 9,
            ..ChangeRecord::default()
        };
        assert_eq!(text(&change), b"7.12 data regular");
        let line = r#"{"seq":7,"ino":12,"change":"data","kind":"regular","data_version":9}"#;
        assert_eq!(json(&change).to_string(), line);
        change.change = "deleted".into();
        (change.parent_ino, change.name) = (Some(1), Some(b"a\nb".into()));
        assert_eq!(text(&change), b"7.12 deleted regular 1 a\\nb");
        assert_eq!(json(&change)["name"], "a\nb");
        let xattr = |name: &[u8], value: &[u8]| Xattr { name: name.into(), value: value.into() };
        change.hidden_xattrs =
            vec![xattr(b"cairn.hide.a", b"tape"), xattr(b"cairn.hide.b", b"\xff")];
        change.hidden_xattrs_cut = Some(false);
        let xattrs = r#"[{"name":"cairn.hide.a","value":"tape"},{"name":"cairn.hide.b","value_b64":"/w=="}]"#;
        assert_eq!(json(&change)["hidden_xattrs"].to_string(), xattrs);
        assert_eq!(json(&change)["hidden_xattrs_cut"], false);
    }
}
