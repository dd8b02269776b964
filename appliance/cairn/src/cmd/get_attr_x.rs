//! `cairn get-attr-x`: the attributes that archive agents ask for, one or some of them.

use super::stat::parse_target;
use crate::Globals;
use crate::exit::{self, Error, Outcome};
use crate::live::with_daemon;
use crate::output::{Output, Reader, time};
use clap::Args;
use std::ffi::OsString;

/// Show attributes for the archive
#[derive(Args)]
#[command(
    long_about = "Show the attributes that are asked for as `key value` lines, in the order of the options below; one \
                  alone without its key, and all when none is asked for. Blocks are 4 KiB, times seconds since 1970 \
                  with nine decimals; with --json all are integers, times in nanoseconds. `stat` shows these and the \
                  others.",
    after_help = "Examples:\n  cairn get-attr-x /a/b -v\n  cairn get-attr-x ino:4097 --online-blocks --offline-blocks"
)]
pub struct GetAttrX {
    /// An absolute path inside cairn, or ino:N
    #[arg(value_name = "PATH|ino:N")]
    target: OsString,

    /// The seq of its last change of any kind
    #[arg(short, long)]
    meta_seq: bool,

    /// The seq of its last change of data
    #[arg(short, long)]
    data_seq: bool,

    /// What release and stage compare; 0: it never had data
    #[arg(short = 'v', long)]
    data_version: bool,

    /// Blocks whose data is here
    #[arg(short = 'n', long)]
    online_blocks: bool,

    /// Blocks whose data is on the archive tier
    #[arg(short = 'f', long)]
    offline_blocks: bool,

    #[arg(short, long)]
    ctime: bool,

    /// The time of creation
    #[arg(short = 'r', long)]
    crtime: bool,

    /// Bytes
    #[arg(short, long)]
    size: bool,
}

impl GetAttrX {
    pub fn run(&self, globals: &Globals) -> exit::Result {
        let object = self.target.to_string_lossy();
        let target = parse_target(&self.target)?;
        let reply = with_daemon(globals, async |mut client| {
            client.stat(target).await.map_err(|error| Error::client(&object, error))
        })?;
        let of = |value: u64| (value.to_string(), value.into());
        let at = |value: i64| (time(value), value.into());
        let all: [(&str, bool, (String, serde_json::Value)); 8] = [
            ("meta_seq", self.meta_seq, of(reply.meta_seq)),
            ("data_seq", self.data_seq, of(reply.data_seq)),
            ("data_version", self.data_version, of(reply.data_version)),
            ("online_blocks", self.online_blocks, of(reply.online_blocks)),
            ("offline_blocks", self.offline_blocks, of(reply.offline_blocks)),
            ("ctime", self.ctime, at(reply.ctime)),
            ("crtime", self.crtime, at(reply.crtime)),
            ("size", self.size, of(reply.size)),
        ];
        let wants_all = all.iter().all(|(_, is_wanted, _)| !is_wanted);
        let wanted: Vec<_> =
            all.into_iter().filter(|(_, is_wanted, _)| *is_wanted || wants_all).collect();
        let mut out = Output::new(globals.json);
        let mut reader = Reader::Wants;
        if globals.json {
            let fields = wanted.iter().map(|(key, _, (_, json))| ((*key).to_owned(), json.clone()));
            let object: serde_json::Map<String, serde_json::Value> = fields.collect();
            reader = out.record(&object, |_| String::new())?;
        } else if let [(_, _, (text, _))] = &wanted[..] {
            reader = out.line(text)?;
        } else {
            for (key, _, (text, _)) in &wanted {
                if reader == Reader::Wants {
                    reader = out.line(&format!("{key} {text}"))?;
                }
            }
        }
        let _ = reader;
        out.finish()?;
        Ok(Outcome::Done)
    }
}
