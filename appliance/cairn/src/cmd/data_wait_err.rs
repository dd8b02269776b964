//! `cairn data-wait-err`: tell clients that wait for offline data that it does not come.

use super::stat::{ino, parse_target};
use super::up::size;
use crate::Globals;
use crate::exit::{self, Error, Outcome};
use crate::live::with_daemon;
use crate::output::Output;
use cairn_control::proto::DataWaitErrRequest;
use cairn_control::proto::stat_request::Target;
use clap::Args;
use nix::errno::Errno;
use std::ffi::OsString;

/// Have clients that wait for offline data fail
#[derive(Args)]
#[command(
    long_about = "Have clients that wait for offline data fail, since it cannot be brought back: the next \
                  request of each for the range gets the error, once. Whoever asks again after that waits again \
                  and is listed again. Prints how many clients that are. NFSv3 has a status for EPERM, EIO, ENXIO, \
                  EACCES, EINVAL, EFBIG, ENOSPC, EROFS, ESTALE and EDQUOT; clients are told any other as EIO.",
    after_help = "Examples:\n  cairn data-wait-err /a/b --error EIO\n  \
                  cairn data-wait-err ino:4097 --error ENXIO --op read --offset 1M --count 1M\n  \
                  cairn data-wait-err -I 4097 -O read -E 5"
)]
pub struct DataWaitErr {
    /// An absolute path inside cairn, or ino:N
    #[arg(value_name = "PATH|ino:N", required_unless_present = "inode")]
    target: Option<OsString>,

    /// The file, by its number
    #[arg(short = 'I', long, value_name = "INO", value_parser = ino, conflicts_with = "target")]
    inode: Option<u64>,

    /// The first byte; every block that the range touches counts
    #[arg(short = 'F', long, value_name = "SIZE", value_parser = size, default_value = "0")]
    offset: u64,

    /// Bytes; without it, to the end of the file
    #[arg(short = 'C', long, value_name = "SIZE", value_parser = size)]
    count: Option<u64>,

    /// Only who wants this: read, write or change_size; may be given several times
    #[arg(short = 'O', long, value_name = "OP", value_parser = ["read", "write", "change_size"],
          value_delimiter = ',')]
    op: Vec<String>,

    /// What they are told: a name like EIO, or a number; a negative one is taken for its positive
    #[arg(short = 'E', long, value_name = "ERRNO", value_parser = errno, allow_negative_numbers = true)]
    error: u32,
}

const NAMES: [Errno; 14] = [
    Errno::EPERM,
    Errno::EIO,
    Errno::ENXIO,
    Errno::EAGAIN,
    Errno::EACCES,
    Errno::ENODEV,
    Errno::EINVAL,
    Errno::EFBIG,
    Errno::ENOSPC,
    Errno::EROFS,
    Errno::ENODATA,
    Errno::ETIMEDOUT,
    Errno::ESTALE,
    Errno::EDQUOT,
];

fn errno(text: &str) -> Result<u32, String> {
    if let Some(known) = NAMES.iter().find(|errno| format!("{errno:?}") == text) {
        return Ok(*known as u32);
    }
    let number = text.strip_prefix('-').unwrap_or(text).parse().ok();
    let number = number.filter(|number| (1..=4095).contains(number));
    number.ok_or_else(|| "a name like EIO or ENXIO, or a number from 1 to 4095".into())
}

impl DataWaitErr {
    pub fn run(&self, globals: &Globals) -> exit::Result {
        let (object, target) = match (&self.target, self.inode) {
            (Some(target), _) => (target.to_string_lossy().into_owned(), parse_target(target)?),
            (None, ino) => {
                let ino = ino.unwrap_or_default();
                (format!("ino:{ino}"), Target::Ino(ino))
            }
        };
        let done = with_daemon(globals, async |mut client| {
            let failed = |error| Error::client(&object, error);
            let ino = client.stat(target).await.map_err(failed)?.ino;
            let request = DataWaitErrRequest {
                ino,
                offset: self.offset,
                length: self.count,
                ops: self.op.clone(),
                errno: self.error,
            };
            client.data_wait_err(request).await.map_err(failed)
        })?;
        let mut out = Output::new(globals.json);
        let _reader = out.record(&done, |done| format!("waiters {}", done.waiters))?;
        out.finish()?;
        Ok(Outcome::Done)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_errno_is_a_name_or_a_number() {
        assert_eq!(errno("EIO"), Ok(5));
        assert_eq!(errno("-5"), Ok(5));
        assert_eq!(errno("4095"), Ok(4095));
        for bad in ["0", "4096", "EWHAT", "", "-", "--5"] {
            assert!(errno(bad).is_err(), "{bad:?}");
        }
    }
}
