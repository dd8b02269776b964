//! `cairn getfattr`: the value of an extended attribute, or all that are not hidden.

use super::listfattr::inode;
use crate::Globals;
use crate::exit::{self, Error, Outcome};
use crate::live::with_daemon;
use crate::output::{Output, Reader, name_json, name_text};
use cairn_control::Client;
use cairn_control::proto::{GetXattrRequest, InodeTarget, ListXattrsRequest};
use clap::Args;
use nix::errno::Errno;
use serde_json::{Map, Value};
use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;

/// Show an extended attribute's value, or all that are not hidden
#[derive(Args)]
#[command(
    long_about = "Show the value of an extended attribute: its bytes and nothing else, no newline behind \
                  them; with --json as text, or in base64 as value_b64 when it is not UTF-8. A hidden one is \
                  found by its name like any other. Without NAME all that are not hidden, `NAME VALUE` a \
                  line, where a newline is \\n and a backslash \\\\.",
    after_help = "Examples:\n  cairn getfattr /a/b cairn.hide.tape\n  cairn getfattr ino:4097 user.sha256 --json\n  \
                  cairn getfattr /a/b"
)]
pub struct Getfattr {
    /// An absolute path inside cairn, or ino:N
    #[arg(value_name = "PATH|ino:N")]
    target: OsString,

    /// The attribute, with its prefix
    name: Option<OsString>,
}

impl Getfattr {
    pub fn run(&self, globals: &Globals) -> exit::Result {
        let inode = inode(&self.target)?;
        match &self.name {
            Some(name) => self.one(globals, inode, name.clone().into_vec()),
            None => self.all(globals, inode),
        }
    }

    fn one(&self, globals: &Globals, inode: InodeTarget, name: Vec<u8>) -> exit::Result {
        let failed = |error| Error::client(self.target.to_string_lossy(), error);
        let request = GetXattrRequest { inode: Some(inode), name: name.clone() };
        let value = with_daemon(globals, async |mut client| {
            client.get_xattr(request).await.map_err(failed)
        })?;
        let mut out = Output::new(globals.json);
        let _: Reader = match out.is_json() {
            true => show(&mut out, &name, &value)?,
            false => out.bytes(&value)?,
        };
        out.finish()?;
        Ok(Outcome::Done)
    }

    fn all(&self, globals: &Globals, inode: InodeTarget) -> exit::Result {
        let failed = |error| Error::client(self.target.to_string_lossy(), error);
        let request = ListXattrsRequest { inode: Some(inode.clone()), hidden: false };
        let mut out = Output::new(globals.json);
        let mut reader = out.header("name value")?;
        with_daemon(globals, async |mut client: Client| {
            let mut pages = client.list_xattrs(request).await.map_err(failed)?;
            while let Some(page) = pages.next().await.map_err(failed)? {
                for name in page.names {
                    if reader == Reader::Gone {
                        return out.finish();
                    }
                    let get = GetXattrRequest { inode: Some(inode.clone()), name: name.clone() };
                    reader = match client.get_xattr(get).await {
                        Ok(value) => show(&mut out, &name, &value)?,
                        // Removed since it was listed.
                        Err(error) if error.errno == Errno::ENODATA as i32 => reader,
                        Err(error) => return Err(failed(error)),
                    };
                }
            }
            out.finish()
        })?;
        Ok(Outcome::Done)
    }
}

fn show(out: &mut Output, name: &[u8], value: &[u8]) -> Result<Reader, Error> {
    if out.is_json() {
        let fields = [name_json("name", name), name_json("value", value)];
        let fields: Map<String, Value> = fields.into_iter().collect();
        return out.record(&Value::Object(fields), |_| String::new());
    }
    out.bytes_line(&[name_text(name), name_text(value)].join(&b' '))
}
