//! What goes to stdout: records, one a line, and nothing else; a header only for a person.
//!
//! A reader that has seen enough (`| head -1`) closes the pipe: that is the end of the output, not a
//! failure of the command.

use crate::exit::Error;
use base64::prelude::{BASE64_STANDARD, Engine as _};
use nix::errno::Errno;
use serde::Serialize;
use std::io::{self, BufWriter, ErrorKind, IsTerminal, StdoutLock, Write};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum Reader {
    Wants,
    /// Nobody reads on.
    Gone,
}

pub struct Output {
    out: BufWriter<StdoutLock<'static>>,
    json: bool,
    header: bool,
}

impl Output {
    pub fn new(json: bool) -> Output {
        let stdout = io::stdout();
        let header = !json && stdout.is_terminal();
        Output { out: BufWriter::new(stdout.lock()), json, header }
    }

    /// Printed before the first record, and only on a terminal.
    pub fn header(&mut self, text: &str) -> Result<Reader, Error> {
        if std::mem::take(&mut self.header) { self.line(text) } else { Ok(Reader::Wants) }
    }

    /// One record: its JSON form, or its text.
    pub fn record<T: Serialize>(
        &mut self,
        record: &T,
        text: impl FnOnce(&T) -> String,
    ) -> Result<Reader, Error> {
        if self.json {
            let line = serde_json::to_string(record)
                .map_err(|error| Error::new("stdout", Errno::EINVAL, error.to_string()))?;
            return self.line(&line);
        }
        self.line(&text(record))
    }

    pub fn line(&mut self, line: &str) -> Result<Reader, Error> {
        self.bytes_line(line.as_bytes())
    }

    /// A line with names in it, which need not be UTF-8 (`name_text`).
    pub fn bytes_line(&mut self, line: &[u8]) -> Result<Reader, Error> {
        let written = self.out.write_all(line).and_then(|()| self.out.write_all(b"\n"));
        judge(written)
    }

    /// Bytes that are the whole output: no line, and nothing behind them.
    pub fn bytes(&mut self, bytes: &[u8]) -> Result<Reader, Error> {
        judge(self.out.write_all(bytes))
    }

    pub fn is_json(&self) -> bool {
        self.json
    }

    /// What was printed so far is there for whoever reads along.
    pub fn flush(&mut self) -> Result<Reader, Error> {
        let flushed = self.out.flush();
        judge(flushed)
    }

    pub fn finish(mut self) -> Result<(), Error> {
        let flushed = self.out.flush();
        let _: Reader = judge(flushed)?;
        Ok(())
    }
}

pub fn judge(written: io::Result<()>) -> Result<Reader, Error> {
    match written {
        Ok(()) => Ok(Reader::Wants),
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(Reader::Gone),
        Err(error) => Err(Error::io("stdout", &error)),
    }
}

/// A name or path as a line holds it: its bytes, but a newline as `\n` and a backslash as `\\`, so
/// that a record is one line whatever the name.
pub fn name_text(name: &[u8]) -> Vec<u8> {
    let mut text = Vec::with_capacity(name.len());
    for byte in name {
        match byte {
            b'\n' => text.extend_from_slice(b"\\n"),
            b'\\' => text.extend_from_slice(b"\\\\"),
            other => text.push(*other),
        }
    }
    text
}

/// A name or path as JSON holds it: under `key` when it is UTF-8, else in base64 under `key_b64`.
pub fn name_json(key: &'static str, name: &[u8]) -> (String, serde_json::Value) {
    match std::str::from_utf8(name) {
        Ok(text) => (key.into(), text.into()),
        Err(_) => (format!("{key}_b64"), BASE64_STANDARD.encode(name).into()),
    }
}

/// Lines of `key value` from a record's own fields, so that text and JSON never drift apart.
pub fn key_values<T: Serialize>(record: &T) -> Result<Vec<(String, String)>, Error> {
    let value = serde_json::to_value(record)
        .map_err(|error| Error::new("stdout", Errno::EINVAL, error.to_string()))?;
    let serde_json::Value::Object(fields) = value else { return Ok(Vec::new()) };
    Ok(fields.into_iter().map(|(key, value)| (key, plain(&value))).collect())
}

fn plain(value: &serde_json::Value) -> String {
    match value {
        serde_json::Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

/// Nanoseconds since 1970 as seconds with nine decimals, as `stat -c %.9Y` prints them.
pub fn time(ns: i64) -> String {
    let sign = if ns < 0 { "-" } else { "" };
    let ns = ns.unsigned_abs();
    format!("{sign}{}.{:09}", ns / 1_000_000_000, ns % 1_000_000_000)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_of_any_bytes_is_one_line_and_valid_json() {
        assert_eq!(name_text(b"a\nb\\c\xff"), b"a\\nb\\\\c\xff");
        assert_eq!(name_json("name", "é".as_bytes()), ("name".into(), "é".into()));
        assert_eq!(name_json("name", b"\xff\xfe"), ("name_b64".into(), "//4=".into()));
    }

    #[test]
    fn a_time_before_1970_is_a_negative_number() {
        assert_eq!(time(1_700_000_000_000_000_001), "1700000000.000000001");
        assert_eq!(time(-500_000_000), "-0.500000000");
        assert_eq!(time(i64::MIN), "-9223372036.854775808");
    }
}
