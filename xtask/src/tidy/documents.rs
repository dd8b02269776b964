//! Paths named in the documents exist.
//!
//! A page that sends its reader to a file that is gone is worse than no page. Every path in
//! backticks is looked up, in every Markdown file: from the root, and from the page's own folder.
//! Two pages are left out: `CHANGELOG.md` is history and may name what is gone, and the generated
//! page quotes heads of files, which name neighbours from where they stand. Code blocks are not
//! looked at: they show commands and their output.

use super::{Finding, Tree};
use crate::format_doc;

const LEFT_OUT: &[&str] = &["CHANGELOG.md", format_doc::PAGE];

const SOURCE_EXTENSIONS: &[&str] = &[".rs", ".md", ".toml", ".proto"];

pub fn check(tree: &Tree) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (page, text) in tree.with_extension(".md").filter(|(page, _)| !LEFT_OUT.contains(page)) {
        for (line, number) in prose(text) {
            let dead = quoted(line)
                .flat_map(alternatives)
                .filter(|word| is_path(tree, word) && !exists(tree, page, word));
            for path in dead {
                findings.push(Finding::at_line(page, number, format!("`{path}` does not exist")));
            }
        }
    }
    findings
}

/// The lines outside fenced blocks, with their numbers.
fn prose(text: &str) -> impl Iterator<Item = (&str, usize)> {
    let mut in_block = false;
    text.lines().zip(1..).filter(move |(line, _)| {
        let is_fence = line.trim_start().starts_with("```");
        in_block ^= is_fence;
        !in_block && !is_fence
    })
}

/// What stands between single backticks.
fn quoted(line: &str) -> impl Iterator<Item = &str> {
    line.split('`').skip(1).step_by(2)
}

/// `a/{b,c}.rs` as `a/b.rs` and `a/c.rs`; anything else as itself.
fn alternatives(word: &str) -> Vec<String> {
    let Some((before, rest)) = word.split_once('{') else {
        return vec![word.to_owned()];
    };
    let Some((inner, after)) = rest.split_once('}') else {
        return vec![word.to_owned()];
    };
    inner.split(',').map(|part| format!("{before}{}{after}", part.trim())).collect()
}

/// Whether the writer meant a file or folder of this tree: a slash, and either the ending of a
/// source file or the name of a folder at the top.
fn is_path(tree: &Tree, word: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-".contains(c);
    if !word.contains('/') || word.starts_with(['/', '~']) || !word.chars().all(plain) {
        return false;
    }
    let top = word.split('/').next().unwrap_or_default();
    SOURCE_EXTENSIONS.iter().any(|ending| word.ends_with(ending))
        || tree.folders().any(|folder| folder == top)
}

fn exists(tree: &Tree, page: &str, word: &str) -> bool {
    let word = word.trim_start_matches("./").trim_end_matches('/');
    let beside = page.rsplit_once('/').map(|(folder, _)| format!("{folder}/{word}"));
    tree.has(word) || beside.is_some_and(|path| tree.has(&path))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dead(page: &str, text: &str) -> Vec<String> {
        let tree = Tree::of(&[
            ("engine/src/op/rename.rs", ""),
            ("engine/src/op/unlink.rs", ""),
            ("docs/decisions/0001-first.md", ""),
            (page, text),
        ]);
        check(&tree).into_iter().map(|finding| finding.text).collect()
    }

    #[test]
    fn a_path_that_is_gone_is_caught() {
        let text = "| rename | `engine/src/op/rename.rs` |\n| link | `engine/src/op/link.rs` |\n";
        assert_eq!(dead("ARCHITECTURE.md", text), ["`engine/src/op/link.rs` does not exist"]);
    }

    #[test]
    fn a_folder_that_is_gone_is_caught() {
        assert_eq!(
            dead("README.md", "see `engine/src/op/` or `engine/src/tree/`"),
            ["`engine/src/tree/` does not exist"]
        );
    }

    #[test]
    fn braces_are_each_looked_up() {
        let text = "`engine/src/op/{rename,unlink,link}.rs`";
        assert_eq!(dead("README.md", text), ["`engine/src/op/link.rs` does not exist"]);
    }

    #[test]
    fn a_page_may_name_its_neighbours() {
        assert_eq!(dead("docs/runbook.md", "`decisions/0001-first.md`"), [""; 0]);
    }

    #[test]
    fn commands_addresses_and_code_blocks_are_not_paths() {
        let text = "`/etc/cairn/cairn.toml` `cargo run -- up` `a/b` `READ/WRITE`\n```\nx `gone/x.rs`\n```\n";
        assert_eq!(dead("README.md", text), [""; 0]);
    }

    #[test]
    fn history_may_name_what_is_gone() {
        assert_eq!(dead("CHANGELOG.md", "`engine/src/op/link.rs`"), [""; 0]);
    }
}
