//! `cairn listfattr`: the names of an inode's extended attributes.

use super::stat::parse_target;
use crate::Globals;
use crate::exit::{self, Error, Outcome};
use crate::live::with_daemon;
use crate::output::{Output, Reader, name_json, name_text};
use cairn_control::proto::{InodeTarget, ListXattrsRequest, inode_target, stat_request};
use clap::Args;
use serde_json::{Map, Value};
use std::ffi::{OsStr, OsString};

/// List the names of an inode's extended attributes
#[derive(Args)]
#[command(
    long_about = "List the names of an inode's extended attributes, one a line, in no order that means \
                  anything. Those with the hide tag are left out: `cairn list-hidden-xattrs` has them. \
                  In names a newline is \\n and a backslash \\\\; --json has them as they are.",
    after_help = "Examples:\n  cairn listfattr /a/b\n  cairn listfattr ino:4097 --json"
)]
pub struct Listfattr {
    /// An absolute path inside cairn, or ino:N
    #[arg(value_name = "PATH|ino:N")]
    target: OsString,
}

impl Listfattr {
    pub fn run(&self, globals: &Globals) -> exit::Result {
        list(globals, &self.target, false)
    }
}

/// Either kind of names.
pub fn list(globals: &Globals, target: &OsStr, hidden: bool) -> exit::Result {
    let failed = |error| Error::client(target.to_string_lossy(), error);
    let request = ListXattrsRequest { inode: Some(inode(target)?), hidden };
    let mut out = Output::new(globals.json);
    let mut reader = out.header("name")?;
    with_daemon(globals, async |mut client| {
        let mut pages = client.list_xattrs(request).await.map_err(failed)?;
        while reader == Reader::Wants
            && let Some(page) = pages.next().await.map_err(failed)?
        {
            for name in &page.names {
                reader = if out.is_json() {
                    let fields: Map<String, Value> =
                        [name_json("name", name)].into_iter().collect();
                    out.record(&Value::Object(fields), |_| String::new())?
                } else {
                    out.bytes_line(&name_text(name))?
                };
            }
        }
        out.finish()
    })?;
    Ok(Outcome::Done)
}

/// A path or ino:N, as requests about extended attributes have it.
pub fn inode(text: &OsStr) -> Result<InodeTarget, Error> {
    let target = match parse_target(text)? {
        stat_request::Target::Path(path) => inode_target::Target::Path(path),
        stat_request::Target::Ino(ino) => inode_target::Target::Ino(ino),
    };
    Ok(InodeTarget { target: Some(target) })
}
