//! A test that cannot run here says so, and says what it would need.
//!
//! One line, `skipped: needs NEED: TEST`, goes to the output and, in a single write so that tests of
//! several processes do not mix, to the file that CAIRN_SKIP_LOG names: the harness swallows what a
//! passing test prints. `cargo xtask test` counts the lines and, in CI, calls a need that the
//! machine could meet a failure.

use std::io::Write;
use std::path::Path;

/// Reports that `test` did not run because this machine has no `need`.
pub fn skip(test: &str, need: &str) {
    let line = format!("skipped: needs {need}: {test}\n");
    print!("{line}");
    if let Some(log) = std::env::var_os("CAIRN_SKIP_LOG") {
        append(Path::new(&log), &line);
    }
}

fn append(log: &Path, line: &str) {
    let appended = std::fs::OpenOptions::new()
        .append(true)
        .create(true)
        .open(log)
        .and_then(|mut file| file.write_all(line.as_bytes()));
    if let Err(error) = appended {
        panic!("a skip that nobody would count: cannot append to {}: {error}", log.display());
    }
}

/// Whether `program` is missing; then `test` has been reported as skipped for want of `package`.
pub fn skip_without(test: &str, program: &str, package: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let extra = ["/usr/sbin", "/sbin"].map(Into::into);
    let found = std::env::split_paths(&path).chain(extra).any(|dir| dir.join(program).is_file());
    if !found {
        skip(test, package);
    }
    !found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_skip_is_one_line_of_the_log() {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let log = dir.path().join("skips");
        append(&log, "skipped: needs root: one\n");
        append(&log, "skipped: needs root: two\n");
        let text = std::fs::read_to_string(&log).expect("the log was written");
        assert_eq!(text, "skipped: needs root: one\nskipped: needs root: two\n");
    }
}
