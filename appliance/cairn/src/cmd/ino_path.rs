//! `cairn ino-path`: from an inode's number to its paths.

use super::stat::ino;
use crate::Globals;
use crate::exit::{self, Error, Outcome};
use crate::live::with_daemon;
use crate::output::{Output, Reader, name_json, name_text};
use clap::Args;
use serde_json::{Map, Value};

/// Show the paths of an inode
#[derive(Args)]
#[command(
    long_about = "Show the path of an inode, without a scan: the first one, or with --all one for each \
                  of its names. Paths are absolute inside cairn, and each existed as a whole at one \
                  moment. An inode that does not exist is ESTALE, one that lost its last name ENOENT; \
                  one whose path keeps changing is ESTALE too, and may be asked again. In a path a \
                  newline is \\n and a backslash \\\\; --json has it as it is.",
    after_help = "Examples:\n  cairn ino-path 4097\n  cairn ino-path ino:4097 --all\n  \
                  cairn ino-path 4097 --json | jq -r .path"
)]
pub struct InoPath {
    /// The inode's number
    #[arg(value_name = "INO|ino:N", value_parser = ino, allow_negative_numbers = true)]
    ino: u64,

    /// All paths, one for each name (hard link)
    #[arg(long)]
    all: bool,
}

impl InoPath {
    pub fn run(&self, globals: &Globals) -> exit::Result {
        let failed = |error| Error::client(format_args!("ino:{}", self.ino), error);
        let mut out = Output::new(globals.json);
        let mut reader = Reader::Wants;
        with_daemon(globals, async |mut client| {
            let mut paths = client.ino_path(self.ino, self.all).await.map_err(failed)?;
            while reader == Reader::Wants
                && let Some(reply) = paths.next().await.map_err(failed)?
            {
                reader = if out.is_json() {
                    let fields = Map::from_iter([name_json("path", &reply.path)]);
                    out.record(&Value::Object(fields), |_| String::new())?
                } else {
                    out.bytes_line(&name_text(&reply.path))?
                };
            }
            out.finish()
        })?;
        Ok(Outcome::Done)
    }
}
