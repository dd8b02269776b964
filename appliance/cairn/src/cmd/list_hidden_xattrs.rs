//! `cairn list-hidden-xattrs`: the names that `cairn listfattr` leaves out.

use super::listfattr::list;
use crate::Globals;
use crate::exit;
use clap::Args;
use std::ffi::OsString;

/// List the names of an inode's hidden extended attributes
#[derive(Args)]
#[command(
    long_about = "List the names of an inode's extended attributes that have the hide tag \
                  (scoutfs.hide.NAME, cairn.hide.NAME), one a line, in no order that means anything. No \
                  other listing has them; `cairn getfattr` reads them by name, and `cairn changes --json` \
                  has them with the deletion of the inode. In names a newline is \\n and a backslash \
                  \\\\; --json has them as they are.",
    after_help = "Examples:\n  cairn list-hidden-xattrs /a/b\n  \
                  cairn list-hidden-xattrs ino:4097 --json"
)]
pub struct ListHiddenXattrs {
    /// An absolute path inside cairn, or ino:N
    #[arg(value_name = "PATH|ino:N")]
    target: OsString,
}

impl ListHiddenXattrs {
    pub fn run(&self, globals: &Globals) -> exit::Result {
        list(globals, &self.target, true)
    }
}
