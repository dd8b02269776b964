//! `cairn punch-offline`: make holes of offline data.

use super::listfattr::inode;
use super::up::size;
use crate::Globals;
use crate::exit::{self, Error, Outcome};
use crate::live::with_daemon;
use crate::output::Output;
use cairn_control::proto::PunchOfflineRequest;
use clap::Args;
use std::ffi::OsString;

/// Make holes of offline data
#[derive(Args)]
#[command(
    long_about = "Make holes of the offline blocks of a range: they read as zeros then, and what the archive has of \
                  them cannot be staged any more. For a sparse file that was restored offline as a whole. Refused \
                  with EINVAL where a block of the range is not offline (what is in front of it may be punched by \
                  then), and with ESTALE when the file's data has another version. What was released of an aligned \
                  MiB and is punched in part comes back without being compared. Prints how many blocks that were.",
    after_help = "Examples:\n  cairn punch-offline /a/b -o 1M -l 512K -V $(cairn stat /a/b -s data_version)\n  \
                  cairn punch-offline ino:4097 --offset 0 --length 4096 --data-version 7"
)]
pub struct PunchOffline {
    /// An absolute path inside cairn, or ino:N
    #[arg(value_name = "PATH|ino:N")]
    target: OsString,

    /// First byte, a multiple of 4096
    #[arg(short, long, value_name = "SIZE", value_parser = size)]
    offset: u64,

    /// Bytes, a multiple of 4096
    #[arg(short, long, value_name = "SIZE", value_parser = size)]
    length: u64,

    /// The version of the file's data
    #[arg(short = 'V', long, value_name = "V")]
    data_version: u64,
}

impl PunchOffline {
    pub fn run(&self, globals: &Globals) -> exit::Result {
        let object = self.target.to_string_lossy();
        let request = PunchOfflineRequest {
            inode: Some(inode(&self.target)?),
            data_version: self.data_version,
            offset: self.offset,
            length: self.length,
        };
        let done = with_daemon(globals, async |mut client| {
            client.punch_offline(request).await.map_err(|error| Error::client(&object, error))
        })?;
        let mut out = Output::new(globals.json);
        let _reader =
            out.record(&done, |done| format!("punched_blocks {}", done.punched_blocks))?;
        out.finish()?;
        Ok(Outcome::Done)
    }
}
