//! `cairn get-fiemap`: where the data of a file is.

use super::listfattr::inode;
use super::up::size;
use crate::Globals;
use crate::exit::{self, Error, Outcome};
use crate::live::with_daemon;
use crate::output::{Output, Reader};
use cairn_control::proto::{FileExtent, GetFiemapRequest};
use clap::Args;
use std::ffi::OsString;

/// List a file's extents
#[derive(Args)]
#[command(
    long_about = "List a file's extents, `offset length device block flags` a line: bytes in the file, and the device of \
                  the pool and its block of 4 KiB where the data is, or - - where it is on none. Flags are letters, \
                  or - for none: O offline (with a place it was staged, and waits for the rest of its MiB), \
                  U unwritten (allocated, reads as zeros), I inline (in the metadata, as small writes are for some \
                  time, and small files), L the last of the file. What is between extents is a hole. Buffered writes \
                  are placed first.",
    after_help = "Examples:\n  cairn get-fiemap /a/b\n  cairn get-fiemap ino:4097 --offset 1G --length 1M --json"
)]
pub struct GetFiemap {
    /// An absolute path inside cairn, or ino:N
    #[arg(value_name = "PATH|ino:N")]
    target: OsString,

    /// First byte
    #[arg(short, long, value_name = "SIZE", value_parser = size, default_value = "0")]
    offset: u64,

    /// Bytes; without it, to the end of the file
    #[arg(short, long, value_name = "SIZE", value_parser = size)]
    length: Option<u64>,
}

impl GetFiemap {
    pub fn run(&self, globals: &Globals) -> exit::Result {
        let failed = |error| Error::client(self.target.to_string_lossy(), error);
        let request = GetFiemapRequest {
            inode: Some(inode(&self.target)?),
            offset: self.offset,
            length: self.length,
        };
        let mut out = Output::new(globals.json);
        let mut reader = out.header("offset length device block flags")?;
        with_daemon(globals, async |mut client| {
            let mut pages = client.get_fiemap(request).await.map_err(failed)?;
            while reader == Reader::Wants
                && let Some(page) = pages.next().await.map_err(failed)?
            {
                for extent in &page.extents {
                    reader = out.record(extent, line)?;
                }
            }
            out.finish()
        })?;
        Ok(Outcome::Done)
    }
}

fn line(extent: &FileExtent) -> String {
    let (device, block) = match (extent.device, extent.block) {
        (Some(device), Some(block)) => (device.to_string(), block.to_string()),
        (_, _) => ("-".into(), "-".into()),
    };
    let letters =
        [(extent.offline, 'O'), (extent.unwritten, 'U'), (extent.inline, 'I'), (extent.last, 'L')];
    let mut flags: String =
        letters.into_iter().filter_map(|(is_set, letter)| is_set.then_some(letter)).collect();
    if flags.is_empty() {
        flags.push('-');
    }
    format!("{} {} {device} {block} {flags}", extent.offset, extent.length)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_extent_is_a_line_of_five_words() {
        let mut extent = FileExtent { offset: 4096, length: 8192, ..FileExtent::default() };
        assert_eq!(line(&extent), "4096 8192 - - -");
        (extent.device, extent.block) = (Some(1), Some(77));
        (extent.offline, extent.last) = (true, true);
        assert_eq!(line(&extent), "4096 8192 1 77 OL");
    }
}
