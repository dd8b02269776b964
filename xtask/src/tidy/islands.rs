//! Unsafe code lives on named islands, and each says why where it is declared.
//!
//! The lint table denies `unsafe` everywhere; an `#[expect]` could still be put on any function by a
//! tired hand. So the list of islands is here, in one place that a review notices. An island is a
//! whole file: its `mod` line carries the exemption with a reason, and no other line anywhere does.

use super::{Finding, Tree};
use crate::source::{code_only, lines_with_word};

const ISLANDS: &[&str] = &[
    "appliance/accept/src/mapped.rs",
    "appliance/base/src/dma_buf.rs",
    "appliance/base/src/ring.rs",
    "appliance/fuzz/src/tally.rs",
    "appliance/reactor/src/task.rs",
    "nvme/src/mmio.rs",
    "nvme/src/dma.rs",
    "nvme/src/vfio.rs",
    "nvme/src/passthru.rs",
    "export/ublk/src/queue.rs",
];

/// Packages that turn the lint into something no line below can lift.
const FORBIDDEN: &[&str] = &["appliance/format/src/lib.rs", "appliance/engine/src/lib.rs"];

pub fn check(tree: &Tree) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (path, text) in tree.rust() {
        let code = code_only(text);
        let is_island = ISLANDS.contains(&path);
        if !is_island {
            for line in lines_with_word(&code, "unsafe") {
                findings.push(Finding::at_line(path, line, "unsafe outside the named islands"));
            }
        }
        findings.extend(exemptions(path, &code));
        if is_island && !is_declared(tree, path) {
            let text = "its `mod` line needs #[expect(unsafe_code, reason = \"…\")]";
            findings.push(Finding::new(path, text));
        }
    }
    for path in FORBIDDEN {
        let forbids = |text: &str| code_only(text).contains("#![forbid(unsafe_code)]");
        if !tree.text(path).is_some_and(forbids) {
            findings.push(Finding::new(*path, "needs #![forbid(unsafe_code)]"));
        }
    }
    findings
}

/// Exemptions from the lint that are not on an island's `mod` line.
fn exemptions(path: &str, code: &str) -> Vec<Finding> {
    let lines: Vec<&str> = code.lines().map(str::trim).collect();
    let mut findings = Vec::new();
    for (at, line) in lines.iter().enumerate() {
        let lifts = ["allow(", "expect("].iter().any(|word| line.contains(word));
        // A long attribute is broken after its bracket.
        let names = line.contains("unsafe_code")
            || lines.get(at + 1).is_some_and(|next| next.starts_with("unsafe_code"));
        if !lifts || !names {
            continue;
        }
        let item = lines[at..].iter().find(|line| line.contains("mod ") || line.contains('{'));
        let module = item.and_then(|line| module_name(line));
        let island = module.map(|name| sibling(path, name));
        if line.contains("allow(") || !island.is_some_and(|path| ISLANDS.contains(&path.as_str())) {
            let text = "lifts the ban on unsafe, and not for an island's `mod` line";
            findings.push(Finding::at_line(path, at + 1, text));
        }
    }
    findings
}

/// Whether the crate root beside an island declares it with the exemption and a reason.
fn is_declared(tree: &Tree, island: &str) -> bool {
    let Some((folder, file)) = island.rsplit_once('/') else {
        return false;
    };
    let Some(root) = tree.text(&format!("{folder}/lib.rs")) else {
        return false;
    };
    let code = code_only(root);
    let declaration = format!("mod {};", file.trim_end_matches(".rs"));
    let Some(at) = code.find(&declaration) else {
        return false;
    };
    // Attributes reach back to the end of the item before.
    let start = code[..at].rfind([';', '}']).map_or(0, |end| end + 1);
    let attributes: String = code[start..at].split_whitespace().collect();
    attributes.contains("expect(unsafe_code,reason=")
}

fn module_name(line: &str) -> Option<&str> {
    line.split_once("mod ")?.1.strip_suffix(';')
}

fn sibling(path: &str, module: &str) -> String {
    let folder = path.rsplit_once('/').map_or("", |(folder, _)| folder);
    format!("{folder}/{module}.rs")
}

#[cfg(test)]
mod tests {
    use super::*;

    const DECLARED: &str = "#[expect(unsafe_code, reason = \"maps memory\")]\npub mod ring;\n";

    fn findings(files: &[(&str, &str)]) -> Vec<String> {
        let forbidding: Vec<(&str, &str)> =
            FORBIDDEN.iter().map(|path| (*path, "#![forbid(unsafe_code)]")).collect();
        let tree = Tree::of(&[files, &forbidding].concat());
        check(&tree).into_iter().map(|finding| finding.place).collect()
    }

    #[test]
    fn unsafe_outside_the_islands_is_caught_and_a_comment_is_not() {
        let text = "// unsafe\nfn f() { \"unsafe\"; }\nfn g() { unsafe { h() } }\n";
        assert_eq!(findings(&[("net/src/stream.rs", text)]), ["net/src/stream.rs:3"]);
    }

    #[test]
    fn a_declared_island_may_hold_unsafe() {
        let files = [
            ("appliance/base/src/lib.rs", DECLARED),
            ("appliance/base/src/ring.rs", "unsafe fn f() {}"),
        ];
        assert_eq!(findings(&files), [""; 0]);
    }

    #[test]
    fn an_island_without_its_exemption_or_without_a_reason_is_caught() {
        for root in ["pub mod ring;\n", "#[expect(unsafe_code)]\npub mod ring;\n"] {
            let files = [("appliance/base/src/lib.rs", root), ("appliance/base/src/ring.rs", "")];
            assert_eq!(findings(&files), ["appliance/base/src/ring.rs"], "{root}");
        }
    }

    #[test]
    fn lifting_the_ban_elsewhere_is_caught() {
        let on_a_function = "#[expect(unsafe_code, reason = \"fast\")]\nfn f() {\n}\n";
        assert_eq!(findings(&[("net/src/lib.rs", on_a_function)]), ["net/src/lib.rs:1"]);
        let on_another_module = DECLARED.replace("ring", "wring");
        assert_eq!(
            findings(&[("appliance/base/src/lib.rs", &on_another_module)]),
            ["appliance/base/src/lib.rs:1"]
        );
        assert_eq!(
            findings(&[("net/src/lib.rs", "#![allow(\n    unsafe_code\n)]\n")]),
            ["net/src/lib.rs:1"]
        );
    }

    #[test]
    fn format_and_engine_must_forbid() {
        let tree = Tree::of(&[
            ("appliance/format/src/lib.rs", "// #![forbid(unsafe_code)]"),
            ("appliance/engine/src/lib.rs", "#![forbid(unsafe_code)]"),
        ]);
        let places: Vec<String> = check(&tree).into_iter().map(|finding| finding.place).collect();
        assert_eq!(places, ["appliance/format/src/lib.rs"]);
    }
}
