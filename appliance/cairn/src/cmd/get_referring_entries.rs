//! `cairn get-referring-entries`: which directory entries refer to an inode.

use super::stat::ino;
use crate::Globals;
use crate::exit::{self, Error, Outcome};
use crate::live::with_daemon;
use crate::output::{Output, Reader, name_json, name_text};
use cairn_control::proto::ReferringEntry;
use clap::Args;
use serde_json::{Map, Value};

/// List the directory entries that refer to an inode
#[derive(Args)]
#[command(
    long_about = "List the directory entries that refer to an inode, in the order of directory and \
                  position: `dir_ino position d_type name` a line. A position is the entry's place in \
                  the listing order of its directory and is never used twice. The root has no entry. \
                  In names a newline is \\n and a backslash \\\\; --json has them as they are.",
    after_help = "Examples:\n  cairn get-referring-entries 4097\n  \
                  cairn get-referring-entries ino:4097 --json | jq .dir_ino"
)]
pub struct GetReferringEntries {
    /// The inode's number
    #[arg(value_name = "INO|ino:N", value_parser = ino, allow_negative_numbers = true)]
    ino: u64,
}

impl GetReferringEntries {
    pub fn run(&self, globals: &Globals) -> exit::Result {
        let failed = |error| Error::client(format_args!("ino:{}", self.ino), error);
        let mut out = Output::new(globals.json);
        let mut reader = out.header("dir_ino position d_type name")?;
        with_daemon(globals, async |mut client| {
            let mut pages = client.referring_entries(self.ino).await.map_err(failed)?;
            while reader == Reader::Wants
                && let Some(page) = pages.next().await.map_err(failed)?
            {
                for entry in &page.entries {
                    reader = show(&mut out, entry)?;
                }
            }
            out.finish()
        })?;
        Ok(Outcome::Done)
    }
}

fn show(out: &mut Output, entry: &ReferringEntry) -> Result<Reader, Error> {
    let ReferringEntry { dir_ino, position, d_type, name } = entry;
    if out.is_json() {
        let mut fields = Map::new();
        fields.insert("dir_ino".into(), (*dir_ino).into());
        fields.insert("position".into(), (*position).into());
        fields.insert("d_type".into(), d_type.as_str().into());
        fields.extend([name_json("name", name)]);
        return out.record(&Value::Object(fields), |_| String::new());
    }
    let mut line = format!("{dir_ino} {position} {d_type} ").into_bytes();
    line.extend_from_slice(&name_text(name));
    out.bytes_line(&line)
}
