//! How a command ends: the exit code, and for failures the line that says why.
//!
//! The line's form is part of the contract with scripts: `cairn: VERB OBJECT: text (ERRNO)`.

use cairn_control::ClientError;
use cairn_daemon::{Failure, errno_of};
use nix::errno::Errno;
use std::fmt;
use std::process::ExitCode;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    Done,
    /// `check` and its like: they ran, and found something.
    Found,
}

impl Outcome {
    pub fn code(self) -> ExitCode {
        match self {
            Outcome::Done => ExitCode::SUCCESS,
            Outcome::Found => ExitCode::from(1),
        }
    }
}

/// Why a command failed, and on what.
#[derive(Debug)]
pub struct Error {
    object: String,
    text: String,
    errno: Errno,
    code: u8,
}

impl Error {
    pub fn new(object: impl fmt::Display, errno: Errno, text: impl Into<String>) -> Error {
        Error { object: object.to_string(), text: text.into(), errno, code: 1 }
    }

    /// The command line makes no sense, in a way only the command itself can see.
    pub fn usage(object: impl fmt::Display, text: impl Into<String>) -> Error {
        Error::new(object, Errno::EINVAL, text).exits_2()
    }

    /// For `check` and its like, whose exit code 1 means that something was found.
    pub fn exits_2(self) -> Error {
        Error { code: 2, ..self }
    }

    /// Adds the way out, where the error is of this kind.
    pub fn advised(mut self, errno: Errno, advice: &str) -> Error {
        if self.errno == errno {
            self.text = format!("{}; {advice}", self.text);
        }
        self
    }

    pub fn failure(object: impl fmt::Display, failure: Failure) -> Error {
        Error::new(object, failure.errno, failure.text)
    }

    pub fn client(object: impl fmt::Display, error: ClientError) -> Error {
        Error::new(object, Errno::from_raw(error.errno), error.text)
    }

    pub fn io(object: impl fmt::Display, error: &std::io::Error) -> Error {
        let errno = errno_of(error);
        // The standard library's text of a system error has the number in it, ours the name behind it.
        let text = match error.raw_os_error() {
            Some(_) => errno.desc().to_lowercase(),
            None => error.to_string(),
        };
        Error::new(object, errno, text)
    }

    pub fn errno(&self) -> Errno {
        self.errno
    }

    pub fn code(&self) -> ExitCode {
        ExitCode::from(self.code)
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {} ({:?})", self.object, self.text, self.errno)
    }
}

pub type Result = std::result::Result<Outcome, Error>;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_system_error_is_told_once() {
        let full = std::io::Error::from_raw_os_error(Errno::ENOSPC as i32);
        let line = Error::io("stdout", &full).to_string();
        assert_eq!(line, "stdout: no space left on device (ENOSPC)");
    }
}
