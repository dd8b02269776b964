//! `cairn stage`: give a file the bytes back that were released.

use super::stat::parse_target;
use super::up::size;
use crate::Globals;
use crate::exit::{self, Error, Outcome};
use crate::live::with_daemon;
use crate::output::Output;
use cairn_control::proto::{StageReply, StageRequest, StageTarget};
use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};
use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use tokio::sync::mpsc;

/// Bytes of one message, at most what the daemon takes.
const PIECE_BYTES: usize = 1 << 20;
const BLOCK_BYTES: u64 = 4096;

/// Give a file the bytes back that were released
#[derive(Args)]
#[command(
    long_about = "Give a file the bytes back that were released, from FILE or from standard input. Only \
                  offline blocks take bytes; what is online stays as it is, so an interrupted stage \
                  is repeated from its beginning or from any block. Each MiB of the file is shown to \
                  readers when all that was released of it has come and has the checksum of what was \
                  released; other bytes are refused with EBADMSG, and that MiB stays offline. \
                  Refused with ESTALE when the file's data has another version. Prints how many blocks \
                  took their bytes; they are durable then.",
    after_help = "Examples:\n  cairn stage /tape/4097 /a/b -V $(cairn stat /a/b -s data_version)\n  \
                  mt-read 4097 | cairn stage - /a/b -V 1795467600000001\n  \
                  cairn stage part2 /a/b -V 1795467600000001 --offset 128M --length 128M"
)]
pub struct Stage {
    /// The archive's copy; - is standard input
    #[arg(value_name = "FILE")]
    from: PathBuf,

    /// An absolute path inside cairn, or ino:N
    #[arg(value_name = "PATH|ino:N")]
    target: OsString,

    /// The version of the data that was released
    #[arg(short = 'V', long, value_name = "V")]
    data_version: u64,

    /// Where the first byte goes, a multiple of 4096
    #[arg(short, long, value_name = "SIZE", value_parser = size, default_value = "0")]
    offset: u64,

    /// Bytes to take of FILE; without it, all
    #[arg(short, long, value_name = "SIZE", value_parser = size)]
    length: Option<u64>,
}

impl Stage {
    pub fn run(&self, globals: &Globals) -> exit::Result {
        let object = self.target.to_string_lossy();
        let target = parse_target(&self.target)?;
        if !self.offset.is_multiple_of(BLOCK_BYTES) {
            return Err(Error::usage(&object, "--offset is a multiple of 4096"));
        }
        let (from, expected) = self.open()?;
        let done = with_daemon(globals, async |mut client| {
            let failed = |error| Error::client(&object, error);
            let ino = client.stat(target).await.map_err(failed)?.ino;
            let target = StageTarget { ino, data_version: self.data_version, offset: self.offset };
            // Files are read by a thread of its own: the socket's pings go on meanwhile.
            let (pieces, stream) = mpsc::channel(2);
            let bar = progress_bar(expected);
            let limit = self.length.unwrap_or(u64::MAX);
            let reading = std::thread::spawn(move || send(from.take(limit), target, &pieces, &bar));
            // What the daemon refuses nobody reads on for.
            let staged = client.stage(stream).await.map_err(failed)?;
            match reading.join() {
                Ok(Ok(())) => Ok(staged),
                Ok(Err(error)) => Err(Error::io(self.from.display(), &error)),
                Err(panic) => std::panic::resume_unwind(panic),
            }
        })?;
        let mut out = Output::new(globals.json);
        let _reader = out.record(&done, line)?;
        out.finish()?;
        Ok(Outcome::Done)
    }

    /// What is read, and how many bytes it has, if that is known.
    fn open(&self) -> Result<(Box<dyn Read + Send>, Option<u64>), Error> {
        if self.from == Path::new("-") {
            return Ok((Box::new(io::stdin()), self.length));
        }
        let failed = |error| Error::io(self.from.display(), &error);
        let file = File::open(&self.from).map_err(failed)?;
        let bytes = file.metadata().map_err(failed)?.len();
        Ok((Box::new(file), Some(bytes.min(self.length.unwrap_or(u64::MAX)))))
    }
}

fn line(done: &StageReply) -> String {
    format!("staged_blocks {}\nbytes {}", done.staged_blocks, done.bytes)
}

/// Whole pieces, but for the last; ends early when nobody takes them any more.
fn send(
    mut from: impl Read,
    target: StageTarget,
    to: &mpsc::Sender<StageRequest>,
    bar: &ProgressBar,
) -> io::Result<()> {
    let mut target = Some(target);
    loop {
        let mut data = Vec::with_capacity(PIECE_BYTES);
        from.by_ref().take(PIECE_BYTES as u64).read_to_end(&mut data)?;
        let is_last = data.len() < PIECE_BYTES;
        bar.inc(data.len() as u64);
        let is_first = target.is_some();
        if !data.is_empty() || is_first {
            let piece = StageRequest { target: target.take(), data };
            if to.blocking_send(piece).is_err() {
                return Ok(());
            }
        }
        if is_last {
            return Ok(());
        }
    }
}

fn progress_bar(bytes: Option<u64>) -> ProgressBar {
    let bar = match bytes {
        Some(bytes) => ProgressBar::new(bytes),
        None => ProgressBar::no_length(),
    };
    match ProgressStyle::with_template("{wide_bar} {bytes}/{total_bytes} {bytes_per_sec} {eta}") {
        Ok(style) => bar.with_style(style),
        Err(_) => bar,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sent(bytes: usize) -> Vec<(bool, usize)> {
        let (to, mut pieces) = mpsc::channel(8);
        let target = StageTarget { ino: 7, data_version: 1, offset: 0 };
        send(&vec![1; bytes][..], target, &to, &ProgressBar::hidden()).unwrap();
        drop(to);
        let mut all = Vec::new();
        while let Some(piece) = pieces.blocking_recv() {
            all.push((piece.target.is_some(), piece.data.len()));
        }
        all
    }

    #[test]
    fn a_file_goes_in_whole_pieces_and_only_the_first_says_where() {
        const PIECE: usize = PIECE_BYTES;
        assert_eq!(sent(0), [(true, 0)]);
        assert_eq!(sent(10), [(true, 10)]);
        assert_eq!(sent(PIECE), [(true, PIECE)]);
        assert_eq!(sent(2 * PIECE + 1), [(true, PIECE), (false, PIECE), (false, 1)]);
    }
}
