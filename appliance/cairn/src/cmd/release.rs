//! `cairn release`: free the blocks of what the archive has.

use super::stat::parse_target;
use super::up::size;
use crate::Globals;
use crate::exit::{self, Error, Outcome};
use crate::live::with_daemon;
use crate::output::Output;
use cairn_control::proto::{ReleaseReply, ReleaseRequest};
use clap::Args;
use std::ffi::OsString;

/// Free the blocks of data that the archive has
#[derive(Args)]
#[command(
    long_about = "Free the blocks of a file's data, or of a range of it, and mark them offline: the \
                  archive has them, and whoever reads or writes them is told to come back until they \
                  are staged. Size, times, data_seq and data_version stay as they are. Refused with \
                  ESTALE when the file's data has another version than the one that was copied out: \
                  it was written since, so copy it again. Holes stay holes, and releasing twice does no \
                  harm. Prints how many blocks were released that had not been.",
    after_help = "Examples:\n  cairn release /a/b --data-version $(cairn stat /a/b -s data_version)\n  \
                  cairn release ino:4097 -V 1795467600000001 --offset 1G --length 512M"
)]
pub struct Release {
    /// An absolute path inside cairn, or ino:N
    #[arg(value_name = "PATH|ino:N")]
    target: OsString,

    /// The version of the data that was copied out
    #[arg(short = 'V', long, value_name = "V")]
    data_version: u64,

    /// First byte, a multiple of 4096
    #[arg(short, long, value_name = "SIZE", value_parser = size, default_value = "0")]
    offset: u64,

    /// Bytes, a multiple of 4096; without it, to the end of the file
    #[arg(short, long, value_name = "SIZE", value_parser = size)]
    length: Option<u64>,
}

impl Release {
    pub fn run(&self, globals: &Globals) -> exit::Result {
        let object = self.target.to_string_lossy();
        let target = parse_target(&self.target)?;
        let done = with_daemon(globals, async |mut client| {
            let failed = |error| Error::client(&object, error);
            let ino = client.stat(target).await.map_err(failed)?.ino;
            let request = ReleaseRequest {
                ino,
                data_version: self.data_version,
                offset: self.offset,
                length: self.length,
            };
            let mut replies = client.release(request).await.map_err(failed)?;
            let mut done = ReleaseReply::default();
            while let Some(reply) = replies.next().await.map_err(failed)? {
                done = reply;
            }
            Ok(done)
        })?;
        let mut out = Output::new(globals.json);
        let _reader =
            out.record(&done, |done| format!("released_blocks {}", done.released_blocks))?;
        out.finish()?;
        Ok(Outcome::Done)
    }
}
