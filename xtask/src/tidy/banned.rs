//! Words and file names that do not enter the tree.
//!
//! A file called after nothing collects everything. A marker that promises work later is work
//! dropped: what is not done is stated in ARCHITECTURE.md, and a test that is ignored tests nothing.
//! A path into somebody's home folder works on one machine.

use super::{Finding, Tree};
use crate::source::{code_only, head};

const FILE_NAMES: &[&str] = &["utils", "util", "helpers", "helper", "common", "manager", "types"];

/// Looked for in code. Split, so that this file passes its own check.
const CODE: &[&str] =
    &[concat!("todo", "!"), concat!("unimplemented", "!"), concat!("#[", "ignore")];

/// Looked for in all text.
const TEXT: &[&str] =
    &[concat!("FIX", "ME"), concat!("/home", "/"), concat!("/root", "/"), concat!("/Users", "/")];

/// Files longer than this have a decision in them, and say what it is.
const HEADLESS_LINES_MAX: usize = 30;

pub fn check(tree: &Tree) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (path, text) in tree.rust() {
        findings.extend(bad_names(path));
        let code = code_only(text);
        for (line, number) in code.lines().zip(1..) {
            for word in CODE.iter().filter(|word| line.contains(**word)) {
                findings.push(Finding::at_line(path, number, format!("`{word}` is banned")));
            }
        }
        if head(text).is_empty() && text.lines().count() > HEADLESS_LINES_MAX {
            findings.push(Finding::new(path, "has no head: what is it for, why this shape"));
        }
    }
    for (path, text) in tree.files() {
        for (line, number) in text.lines().zip(1..) {
            for word in TEXT.iter().filter(|word| line.contains(**word)) {
                findings.push(Finding::at_line(path, number, format!("`{word}` is banned")));
            }
        }
    }
    findings
}

/// Each part of a source file's path that is called after nothing.
fn bad_names(path: &str) -> Vec<Finding> {
    path.trim_end_matches(".rs")
        .split('/')
        .filter(|part| FILE_NAMES.contains(part))
        .map(|part| Finding::new(path, format!("`{part}` names nothing: put it with its owner")))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn places(path: &str, text: &str) -> Vec<String> {
        check(&Tree::of(&[(path, text)])).into_iter().map(|finding| finding.place).collect()
    }

    #[test]
    fn a_file_called_after_nothing_is_caught_also_as_a_folder() {
        assert_eq!(places("net/src/utils.rs", "").len(), 1);
        assert_eq!(places("net/tests/common/mod.rs", "").len(), 1);
        assert_eq!(places("net/src/uncommon.rs", "").len(), 0);
    }

    #[test]
    fn unfinished_work_is_caught_where_it_is_code() {
        for word in CODE {
            let text = format!("// {word}\nfn f() {{\n    {word};\n}}\n");
            assert_eq!(places("net/src/f.rs", &text), ["net/src/f.rs:3"], "{word}");
        }
    }

    #[test]
    fn home_folders_and_markers_are_caught_in_any_text() {
        for word in TEXT {
            let text = format!("one\nsee {word}somebody\n");
            assert_eq!(places("docs/page.md", &text), ["docs/page.md:2"], "{word}");
        }
    }

    #[test]
    fn a_long_file_needs_a_head() {
        let body = "fn f() {}\n".repeat(HEADLESS_LINES_MAX + 1);
        assert_eq!(places("net/src/f.rs", &body), ["net/src/f.rs"]);
        assert_eq!(places("net/src/f.rs", &format!("//! Why.\n{body}")), [""; 0]);
        assert_eq!(places("net/src/lib.rs", "mod f;\n"), [""; 0]);
    }
}
