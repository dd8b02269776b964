//! A directory entry's name, checked once at the edge: 1 to 255 bytes, no `/`, no NUL, not `.` or
//! `..`. The engine never looks again.

use crate::error::FsError;
use std::fmt;

pub const NAME_BYTES_MAX: usize = 255;

#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Name(Box<[u8]>);

impl Name {
    pub fn parse(raw: &[u8]) -> Result<Name, FsError> {
        match raw {
            [] | b"." | b".." => Err(FsError::Invalid),
            _ if raw.len() > NAME_BYTES_MAX => Err(FsError::NameTooLong),
            _ if raw.iter().any(|b| matches!(b, 0 | b'/')) => Err(FsError::Invalid),
            _ => Ok(Name(raw.into())),
        }
    }

    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&String::from_utf8_lossy(&self.0), f)
    }
}
