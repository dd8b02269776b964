//! `cairn setattr`: give a new file the size, version and times of one that the archive has.

use super::set_attr_x::{self, ns};
use super::up::size;
use crate::Globals;
use crate::exit;
use cairn_control::proto::SetAttrXRequest;
use clap::Args;
use std::ffi::OsString;

/// Restore a new file's size, data version and times
#[derive(Args)]
#[command(
    long_about = "Restore a regular file that never had data: its size (0 when none is given), data version, ctime \
                  and crtime, all of them or none. With --offline its data is on the archive tier: it is staged \
                  under the given version, and whoever reads it before waits. Without, the size is a hole. Times \
                  that are not given stay. EINVAL for a file that has a data version or data, or is no regular file. \
                  set-attr-x does the same one attribute at a time.",
    after_help = "Examples:\n  cairn setattr /a/b -V 7 -s 3150728 --offline -t 1700000000.000000001\n  \
                  cairn setattr ino:4097 --data-version 7 --size 1T -o -r 1600000000"
)]
pub struct Setattr {
    /// An absolute path inside cairn, or ino:N
    #[arg(value_name = "PATH|ino:N")]
    target: OsString,

    /// The data version that the archive has; not 0, and not above the pool's clock in microseconds
    #[arg(short = 'V', long, value_name = "V", value_parser = clap::value_parser!(u64).range(1..))]
    data_version: Option<u64>,

    /// Bytes; above 0 it wants --data-version
    #[arg(short, long, value_name = "SIZE", value_parser = size, default_value = "0")]
    size: u64,

    /// All of the size is offline, 16T at most
    #[arg(short, long, requires = "size")]
    offline: bool,

    /// Seconds since 1970, with up to nine decimals
    #[arg(short = 't', long, value_name = "TIME", value_parser = ns, allow_negative_numbers = true)]
    ctime: Option<i64>,

    /// The time of creation
    #[arg(short = 'r', long, value_name = "TIME", value_parser = ns, allow_negative_numbers = true)]
    crtime: Option<i64>,
}

impl Setattr {
    pub fn run(&self, globals: &Globals) -> exit::Result {
        let request = SetAttrXRequest {
            inode: None,
            data_version: self.data_version,
            size: Some(self.size),
            size_offline: self.offline,
            ctime: self.ctime,
            crtime: self.crtime,
            mtime: None,
        };
        set_attr_x::set(globals, &self.target, request)
    }
}
