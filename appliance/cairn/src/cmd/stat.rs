//! `cairn stat`: one inode's attributes.

use super::statfs::print_fields;
use crate::Globals;
use crate::exit::{self, Error};
use crate::live::with_daemon;
use crate::output::{key_values, time};
use cairn_control::proto::StatReply;
use cairn_control::proto::stat_request::Target;
use clap::Args;
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};

/// Show one inode's attributes
#[derive(Args)]
#[command(
    long_about = "Show one inode's attributes as `key value` lines: ino mode nlink uid gid size \
                  meta_seq data_seq data_version online_blocks offline_blocks crtime atime mtime \
                  ctime. The mode is octal with the file type, blocks are 4 KiB, times are seconds \
                  since 1970 with nine decimals. With --json all are integers, times in \
                  nanoseconds. Symbolic links are not followed.",
    after_help = "Examples:\n  cairn stat /a/b\n  cairn stat ino:1\n  \
                  cairn stat /a/b --single-field data_version"
)]
pub struct Stat {
    /// An absolute path inside cairn, or ino:N
    #[arg(value_name = "PATH|ino:N")]
    target: OsString,

    /// Print this field's bare value
    #[arg(short, long, value_name = "F")]
    single_field: Option<String>,
}

const NO_INO: &str = "an inode is NUMBER or ino:NUMBER, from 1";

impl Stat {
    pub fn run(&self, globals: &Globals) -> exit::Result {
        let object = self.target.to_string_lossy();
        let target = parse_target(&self.target)?;
        let reply = with_daemon(globals, async |mut client| {
            client.stat(target).await.map_err(|error| Error::client(&object, error))
        })?;
        print_fields(globals, &reply, &fields(&reply)?, self.single_field.as_deref())
    }
}

pub fn parse_target(text: &OsStr) -> Result<Target, Error> {
    let object = text.to_string_lossy();
    match text.as_bytes().strip_prefix(b"ino:") {
        Some(_) => {
            let ino = text.to_str().map_or_else(|| Err(NO_INO.into()), ino);
            ino.map(Target::Ino).map_err(|why| Error::usage(object, why))
        }
        None if text.as_bytes().starts_with(b"/") => Ok(Target::Path(text.to_owned().into_vec())),
        None => Err(Error::usage(object, "a path inside cairn begins with /")),
    }
}

/// For clap: an inode by its number alone, or as ino:N.
pub fn ino(text: &str) -> Result<u64, String> {
    let digits = text.strip_prefix("ino:").unwrap_or(text);
    let is_number = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
    let number = is_number.then(|| digits.parse().ok()).flatten();
    number.filter(|ino| *ino > 0).ok_or_else(|| NO_INO.into())
}

/// As `key_values`, but mode and times the way a person reads them.
fn fields(reply: &StatReply) -> Result<Vec<(String, String)>, Error> {
    let mut fields = key_values(reply)?;
    for (key, value) in &mut fields {
        match key.as_str() {
            "mode" => *value = format!("{:07o}", reply.mode),
            "crtime" => *value = time(reply.crtime),
            "atime" => *value = time(reply.atime),
            "mtime" => *value = time(reply.mtime),
            "ctime" => *value = time(reply.ctime),
            _ => {}
        }
    }
    Ok(fields)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_keep_the_order_of_the_proto() {
        let reply = StatReply { ino: 1, mode: 0o040_755, mtime: 1, ..StatReply::default() };
        let fields = fields(&reply).unwrap();
        let keys: Vec<&str> = fields.iter().map(|(key, _)| key.as_str()).collect();
        let order = "ino mode nlink uid gid size meta_seq data_seq data_version online_blocks \
                     offline_blocks crtime atime mtime ctime";
        assert_eq!(keys.join(" "), order);
        assert_eq!(fields[1].1, "0040755");
        assert_eq!(fields[13].1, "0.000000001");
    }

    #[test]
    fn an_inode_is_a_number_from_1() {
        assert_eq!((ino("7"), ino("ino:8")), (Ok(7), Ok(8)));
        for bad in ["", "0", "ino:", "ino:0", "-1", "+1", "/a", "18446744073709551616"] {
            assert!(ino(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_target_is_an_absolute_path_or_an_inode() {
        assert_eq!(parse_target("ino:7".as_ref()).unwrap(), Target::Ino(7));
        assert_eq!(parse_target("/a".as_ref()).unwrap(), Target::Path(b"/a".into()));
        for bad in ["ino:", "ino:0", "ino:x", "ino:-1", "a/b", ""] {
            assert!(parse_target(bad.as_ref()).is_err(), "{bad:?}");
        }
    }
}
