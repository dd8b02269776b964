//! The size of source files, tests not counted.
//!
//! Length is a symptom, so the first threshold only asks for a look. Behind the second, the head of
//! the file must say why it is one idea, with the words `long because`.

use super::{Finding, Tree};
use crate::source::{head, lines_without_tests};

const LOOK_LINES: usize = 600;
const REASON_LINES: usize = 1_000;

pub fn check(tree: &Tree) -> Vec<Finding> {
    let too_long = |(path, text): (&str, &str)| {
        let lines = lines_without_tests(text);
        let reasoned = head(text).join(" ").contains("long because");
        let text = format!("{lines} lines without tests, and its head does not say why");
        (lines > REASON_LINES && !reasoned).then(|| Finding::new(path, text))
    };
    tree.rust().filter_map(too_long).collect()
}

pub fn notes(tree: &Tree) -> Vec<Finding> {
    let long = |(path, text): (&str, &str)| {
        let lines = lines_without_tests(text);
        (lines > LOOK_LINES).then(|| Finding::new(path, format!("{lines} lines without tests")))
    };
    tree.rust().filter_map(long).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counts(text: &str) -> (usize, usize) {
        let tree = Tree::of(&[("net/src/f.rs", text)]);
        (check(&tree).len(), notes(&tree).len())
    }

    #[test]
    fn a_long_file_is_noted_and_a_very_long_one_needs_a_reason() {
        assert_eq!(counts(&"x\n".repeat(LOOK_LINES)), (0, 0));
        assert_eq!(counts(&"x\n".repeat(LOOK_LINES + 1)), (0, 1));
        assert_eq!(counts(&"x\n".repeat(REASON_LINES + 1)), (1, 1));
        let reasoned = format!("//! It is long\n//! because so.\n{}", "x\n".repeat(REASON_LINES));
        assert_eq!(counts(&reasoned), (0, 1));
    }

    #[test]
    fn tests_may_be_as_long_as_they_like() {
        assert_eq!(counts(&format!("x\n#[cfg(test)]\n{}", "x\n".repeat(2_000))), (0, 0));
    }
}
