//! `cairn changes`: what was created, changed and deleted since a position.

use crate::Globals;
use crate::exit::{self, Error, Outcome};
use crate::live::with_daemon;
use crate::output::{Output, Reader, name_json, name_text};
use crate::position::Position;
use cairn_control::proto::{ChangeRecord, IndexPosition};
use clap::Args;
use serde_json::{Map, Value};

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
                  that there were more.",
    after_help = "Examples:\n  cairn changes --since 0\n  cairn changes --since 1767225600000000.4097\n  \
                  cairn changes --since 0 --json | jq -r 'select(.change == \"deleted\") | .ino'"
)]
pub struct Changes {
    /// List what lies behind this position: SEQ[.INO], as printed; a bare SEQ is behind all of it
    #[arg(long, value_name = "SEQ[.INO]", value_parser = Position::since, allow_negative_numbers = true)]
    since: IndexPosition,
}

impl Changes {
    pub fn run(&self, globals: &Globals) -> exit::Result {
        let object = match self.since {
            IndexPosition { seq, ino: u64::MAX } => seq.to_string(),
            IndexPosition { seq, ino } => format!("{seq}.{ino}"),
        };
        let failed = |error| Error::client(&object, error);
        let mut out = Output::new(globals.json);
        let mut reader = out.header("seq.ino change kind [parent_ino name]")?;
        with_daemon(globals, async |mut client| {
            let mut pages = client.changes(self.since).await.map_err(failed)?;
            while reader == Reader::Wants
                && let Some(page) = pages.next().await.map_err(failed)?
            {
                for change in &page.changes {
                    reader = show(&mut out, change)?;
                }
            }
            out.finish()
        })?;
        Ok(Outcome::Done)
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
