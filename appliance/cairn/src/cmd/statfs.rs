//! `cairn statfs`: the pool's totals.

use crate::Globals;
use crate::exit::{self, Error, Outcome};
use crate::live::{self, with_daemon};
use crate::output::{Output, Reader, key_values};
use clap::Args;

/// Show the pool's totals
#[derive(Args)]
#[command(
    long_about = "Show the pool's totals as `key value` lines: fsid, stable_seq (nothing at or \
                  below it can appear later), block_bytes, blocks_total, blocks_free, inodes.",
    after_help = "Examples:\n  cairn statfs\n  cairn statfs --single-field inodes"
)]
pub struct Statfs {
    /// Print this field's bare value
    #[arg(long, value_name = "F")]
    single_field: Option<String>,
}

impl Statfs {
    pub fn run(&self, globals: &Globals) -> exit::Result {
        let socket = live::socket(globals);
        let reply = with_daemon(globals, async |mut client| {
            client.statfs().await.map_err(|error| Error::client(socket.display(), error))
        })?;
        print_fields(globals, &reply, &key_values(&reply)?, self.single_field.as_deref())
    }
}

/// All fields as lines, or one of them bare; as JSON the whole record either way.
pub fn print_fields<T: serde::Serialize>(
    globals: &Globals,
    record: &T,
    fields: &[(String, String)],
    single: Option<&str>,
) -> exit::Result {
    let mut out = Output::new(globals.json);
    let mut reader = Reader::Wants;
    match single {
        Some(name) => {
            let Some((_, value)) = fields.iter().find(|(key, _)| key == name) else {
                let names: Vec<&str> = fields.iter().map(|(key, _)| key.as_str()).collect();
                return Err(Error::usage(
                    name,
                    format!("no such field; one of {}", names.join(" ")),
                ));
            };
            let _ = out.line(value)?;
        }
        None if globals.json => {
            let _ = out.record(record, |_| String::new())?;
        }
        None => {
            for (key, value) in fields {
                if reader == Reader::Wants {
                    reader = out.line(&format!("{key} {value}"))?;
                }
            }
        }
    }
    out.finish()?;
    Ok(Outcome::Done)
}
