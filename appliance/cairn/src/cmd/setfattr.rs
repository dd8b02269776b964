//! `cairn setfattr`: sets or removes an extended attribute.

use super::listfattr::inode;
use crate::Globals;
use crate::exit::{self, Error, Outcome};
use crate::live::with_daemon;
use cairn_control::proto::{RemoveXattrRequest, SetXattrRequest, XattrSet};
use clap::Args;
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::ffi::OsStringExt;

/// One byte more than a value may have, so that a file that is too long is refused for that.
const VALUE_BYTES_READ: u64 = 65_536;

/// Set or remove an extended attribute
#[derive(Args)]
#[command(
    long_about = "Set or remove an extended attribute. When the command is back, that is on stable media. The \
                  name has at most 255 bytes and begins with user., trusted., security., or with scoutfs. \
                  or cairn. and tags; the value has at most 65535 bytes. The tag hide \
                  (cairn.hide.NAME) keeps an attribute out of listings, and in `cairn changes` when its inode \
                  is deleted. The tags srch, totl and indx are refused for now: their indexes are not kept yet. \
                  docs/xattrs.md has the rules.",
    after_help = "Examples:\n  cairn setfattr /a/b cairn.hide.tape A00001L8\n  \
                  sha256sum < b | cairn setfattr /a/b user.sha256 --value-file -\n  \
                  cairn setfattr ino:4097 user.owner -- -x-\n  cairn setfattr /a/b --remove user.sha256"
)]
pub struct Setfattr {
    /// An absolute path inside cairn, or ino:N
    #[arg(value_name = "PATH|ino:N")]
    target: OsString,

    /// The attribute, with its prefix
    #[arg(required_unless_present = "remove", conflicts_with = "remove")]
    name: Option<OsString>,

    /// Its value; may be empty
    #[arg(required_unless_present_any = ["remove", "value_file"], conflicts_with = "value_file")]
    value: Option<OsString>,

    /// Take the value from this file, byte for byte; `-` is standard input
    #[arg(long, value_name = "FILE", conflicts_with = "remove")]
    value_file: Option<OsString>,

    /// Remove this attribute
    #[arg(long, value_name = "NAME")]
    remove: Option<OsString>,

    /// Fail when there is one (EEXIST)
    #[arg(long, conflicts_with_all = ["replace", "remove"])]
    create: bool,

    /// Fail when there is none (ENODATA)
    #[arg(long, conflicts_with = "remove")]
    replace: bool,
}

impl Setfattr {
    pub fn run(&self, globals: &Globals) -> exit::Result {
        let failed = |error| Error::client(self.target.to_string_lossy(), error);
        let inode = Some(inode(&self.target)?);
        if let Some(name) = &self.remove {
            let request = RemoveXattrRequest { inode, name: name.clone().into_vec() };
            with_daemon(globals, async |mut client| {
                client.remove_xattr(request).await.map_err(failed)
            })?;
            return Ok(Outcome::Done);
        }
        let how = match (self.create, self.replace) {
            (true, _) => XattrSet::Create,
            (false, true) => XattrSet::Replace,
            (false, false) => XattrSet::Any,
        };
        let value = match (&self.value_file, &self.value) {
            (Some(file), _) => read(file)?,
            (None, value) => value.clone().unwrap_or_default().into_vec(),
        };
        let name = self.name.clone().unwrap_or_default().into_vec();
        let request = SetXattrRequest { inode, name, value, how: how.into() };
        with_daemon(globals, async |mut client| client.set_xattr(request).await.map_err(failed))?;
        Ok(Outcome::Done)
    }
}

fn read(file: &OsStr) -> Result<Vec<u8>, Error> {
    let mut value = Vec::new();
    let read = if file == "-" {
        io::stdin().take(VALUE_BYTES_READ).read_to_end(&mut value)
    } else {
        File::open(file).and_then(|file| file.take(VALUE_BYTES_READ).read_to_end(&mut value))
    };
    read.map_err(|error| Error::io(file.to_string_lossy(), &error))?;
    Ok(value)
}
