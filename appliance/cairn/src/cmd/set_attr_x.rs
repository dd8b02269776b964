//! `cairn set-attr-x`: restore attributes, each for itself.

use super::listfattr::inode;
use super::up::size;
use crate::Globals;
use crate::exit::{self, Error, Outcome};
use crate::live::with_daemon;
use cairn_control::proto::SetAttrXRequest;
use clap::Args;
use std::ffi::{OsStr, OsString};

/// Restore attributes that no client may set
#[derive(Args)]
#[command(
    long_about = "Restore attributes that no client may set, all that are given or none of them. Times may be given to \
                  any inode, and stay until the next change of it; so restore them last. A data version and a size \
                  may be given to a regular file that never had data (EINVAL), a size above 0 only with a data \
                  version. What is not given stays as it is.",
    after_help = "Examples:\n  cairn set-attr-x /a/b -v 7 -s 3150728 --size-offline\n  \
                  cairn set-attr-x ino:4097 -c 1700000000.5 -r 1600000000 --mtime 1650000000.000000001"
)]
pub struct SetAttrX {
    /// An absolute path inside cairn, or ino:N
    #[arg(value_name = "PATH|ino:N")]
    target: OsString,

    /// The data version that the archive has; not 0, and not above the pool's clock in microseconds
    #[arg(short = 'v', long, value_name = "V", value_parser = clap::value_parser!(u64).range(1..))]
    data_version: Option<u64>,

    /// Bytes
    #[arg(short, long, value_name = "SIZE", value_parser = size)]
    size: Option<u64>,

    /// All of the size is offline, 16T at most; else it is a hole
    #[arg(short = 'o', long, requires = "size")]
    size_offline: bool,

    /// Seconds since 1970, with up to nine decimals
    #[arg(short, long, value_name = "TIME", value_parser = ns, allow_negative_numbers = true)]
    ctime: Option<i64>,

    /// The time of creation
    #[arg(short = 'r', long, value_name = "TIME", value_parser = ns, allow_negative_numbers = true)]
    crtime: Option<i64>,

    #[arg(long, value_name = "TIME", value_parser = ns, allow_negative_numbers = true)]
    mtime: Option<i64>,
}

impl SetAttrX {
    pub fn run(&self, globals: &Globals) -> exit::Result {
        let request = SetAttrXRequest {
            inode: None,
            data_version: self.data_version,
            size: self.size,
            size_offline: self.size_offline,
            ctime: self.ctime,
            crtime: self.crtime,
            mtime: self.mtime,
        };
        set(globals, &self.target, request)
    }
}

pub fn set(globals: &Globals, target: &OsStr, mut request: SetAttrXRequest) -> exit::Result {
    let object = target.to_string_lossy();
    let size = request.size.unwrap_or(0);
    if size > 0 && request.data_version.is_none() {
        return Err(Error::usage(object, "a size above 0 wants a data version"));
    }
    if size == 0 && request.size_offline {
        return Err(Error::usage(object, "nothing of size 0 is offline: give a size"));
    }
    request.inode = Some(inode(target)?);
    with_daemon(globals, async |mut client| {
        client.set_attr_x(request).await.map_err(|error| Error::client(&object, error))
    })?;
    Ok(Outcome::Done)
}

/// For clap: seconds since 1970 as `stat` prints them, in nanoseconds.
pub fn ns(text: &str) -> Result<i64, String> {
    parse_ns(text).ok_or_else(|| {
        "seconds since 1970 with up to nine decimals, like 1700000000.000000001, from 1677 to 2262".into()
    })
}

fn parse_ns(text: &str) -> Option<i64> {
    let (sign, rest) = match text.strip_prefix('-') {
        Some(rest) => (-1, rest),
        None => (1, text),
    };
    let (seconds, decimals) = rest.split_once('.').unwrap_or((rest, "0"));
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    if !digits(seconds) || !digits(decimals) || decimals.len() > 9 {
        return None;
    }
    let seconds: i128 = seconds.parse().ok()?;
    let nanos: i128 = format!("{decimals:0<9}").parse().ok()?;
    let ns = seconds.checked_mul(1_000_000_000)?.checked_add(nanos)?;
    i64::try_from(sign * ns).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::output::time;

    #[test]
    fn a_time_is_read_as_it_is_printed() {
        for ns in [0, 1, -1, -1_500_000_000, 1_700_000_000_000_000_001, i64::MAX, i64::MIN] {
            assert_eq!(parse_ns(&time(ns)), Some(ns));
        }
        assert_eq!(parse_ns("5"), Some(5_000_000_000));
        assert_eq!(parse_ns("-0.5"), Some(-500_000_000));
        for bad in ["", "-", ".5", "5.", "1.0000000001", "+1", "1e9", "--1", "9223372037", "1 "] {
            assert_eq!(parse_ns(bad), None, "{bad:?}");
        }
    }
}
