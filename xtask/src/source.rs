//! Rust source as the checkers see it: with comments and literals blanked, and without its tests.
//!
//! The checks look for words, and a word in a comment or a string is not code. A full parser would
//! cost a large dependency for what a scan of a page does; what the scan must get right is where
//! literals end: raw strings, nested comments, lifetimes against characters. Blanking keeps every
//! line where it was, so a finding can name its line.

/// `text` with each byte of comments and of string, byte and character literals replaced by a
/// space, newlines kept.
pub fn code_only(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut code = bytes.to_vec();
    let mut at = 0;
    while at < bytes.len() {
        let end = match bytes[at] {
            b'/' if bytes[at..].starts_with(b"//") => line_end(bytes, at),
            b'/' if bytes[at..].starts_with(b"/*") => comment_end(bytes, at),
            b'"' => string_end(bytes, at),
            b'r' | b'b' | b'c' if !follows_word(bytes, at) => match raw_string_end(bytes, at) {
                Some(end) => end,
                None => {
                    at += 1;
                    continue;
                }
            },
            b'\'' => match character_end(bytes, at) {
                Some(end) => end,
                None => {
                    at += 1; // a lifetime
                    continue;
                }
            },
            _ => {
                at += 1;
                continue;
            }
        };
        for byte in &mut code[at..end] {
            if *byte != b'\n' {
                *byte = b' ';
            }
        }
        at = end;
    }
    String::from_utf8_lossy(&code).into_owned()
}

/// The lines of the file's opening `//!` comment, without the marker.
pub fn head(text: &str) -> Vec<&str> {
    text.lines()
        .map(str::trim)
        .skip_while(|line| line.is_empty() || line.starts_with("#!["))
        .map_while(|line| line.strip_prefix("//!"))
        .map(|line| line.strip_prefix(' ').unwrap_or(line))
        .collect()
}

/// How many lines stand before the file's test module, which by custom ends the file.
pub fn lines_without_tests(text: &str) -> usize {
    text.lines().take_while(|line| line.trim() != "#[cfg(test)]").count()
}

/// The 1-based lines where `word` stands alone in `code`.
pub fn lines_with_word(code: &str, word: &str) -> Vec<usize> {
    let holds = |line: &str| {
        line.match_indices(word).any(|(at, _)| {
            let before = line[..at].chars().next_back();
            let after = line[at + word.len()..].chars().next();
            !before.is_some_and(is_word) && !after.is_some_and(is_word)
        })
    };
    code.lines().zip(1..).filter(|(line, _)| holds(line)).map(|(_, number)| number).collect()
}

fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

fn follows_word(bytes: &[u8], at: usize) -> bool {
    at > 0 && (bytes[at - 1].is_ascii_alphanumeric() || bytes[at - 1] == b'_')
}

fn line_end(bytes: &[u8], at: usize) -> usize {
    bytes[at..].iter().position(|byte| *byte == b'\n').map_or(bytes.len(), |len| at + len)
}

fn comment_end(bytes: &[u8], start: usize) -> usize {
    let mut depth = 0_usize;
    let mut at = start;
    while at < bytes.len() {
        if bytes[at..].starts_with(b"/*") {
            depth += 1;
            at += 2;
        } else if bytes[at..].starts_with(b"*/") {
            depth -= 1;
            at += 2;
            if depth == 0 {
                return at;
            }
        } else {
            at += 1;
        }
    }
    bytes.len()
}

/// `start` is the opening quote.
fn string_end(bytes: &[u8], start: usize) -> usize {
    let mut at = start + 1;
    while at < bytes.len() {
        match bytes[at] {
            b'\\' => at += 2,
            b'"' => return at + 1,
            _ => at += 1,
        }
    }
    bytes.len()
}

/// The end of `r"…"`, `br#"…"#`, `b"…"` and their like, when one starts here.
fn raw_string_end(bytes: &[u8], start: usize) -> Option<usize> {
    let mut at = start;
    while matches!(bytes.get(at), Some(b'r' | b'b' | b'c')) && at - start < 2 {
        at += 1;
    }
    let is_raw = bytes[start..at].contains(&b'r');
    let hashes = bytes[at..].iter().take_while(|byte| **byte == b'#').count();
    if bytes.get(at + hashes) != Some(&b'"') || (hashes > 0 && !is_raw) {
        return None;
    }
    if !is_raw {
        return Some(string_end(bytes, at));
    }
    let mut close = vec![b'"'];
    close.resize(1 + hashes, b'#');
    let body = at + hashes + 1;
    let len = bytes[body..].windows(close.len()).position(|window| window == close);
    Some(len.map_or(bytes.len(), |len| body + len + close.len()))
}

/// `start` is a single quote: of a character when one character, or an escape, is closed by another.
fn character_end(bytes: &[u8], start: usize) -> Option<usize> {
    if bytes.get(start + 1) == Some(&b'\\') {
        let from = start + 3; // past the escaped byte, which may itself be a quote
        let len = bytes.get(from..)?.iter().position(|byte| *byte == b'\'')?;
        return Some(from + len + 1);
    }
    let body = &bytes[start + 1..];
    let width = (1..=4).find(|width| body.get(..*width).is_some_and(is_text))?;
    (body.get(width) == Some(&b'\'')).then_some(start + 1 + width + 1)
}

fn is_text(bytes: &[u8]) -> bool {
    std::str::from_utf8(bytes).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn literals_and_comments_are_blank_and_lines_stay() {
        let text = "a /* x /* y */ z */ b // c\nlet s = \"d \\\" e\"; f r#\"g\" h\"# i b'\\'' j\n";
        let code = code_only(text);
        assert_eq!(code.len(), text.len());
        assert_eq!(code.lines().count(), 2);
        let words: Vec<&str> = code.split_whitespace().collect();
        assert_eq!(words, ["a", "b", "let", "s", "=", ";", "f", "i", "b", "j"]);
    }

    #[test]
    fn a_lifetime_does_not_open_a_character() {
        let code = code_only("fn f<'a>(x: &'a str, c: char) { c == 'x' || c == '\"' } // \"");
        assert!(code.contains("fn f<'a>(x: &'a str, c: char) { c == "));
        assert!(!code.contains("'x'"));
        assert!(!code.contains('"'));
    }

    #[test]
    fn a_word_inside_a_longer_name_is_not_the_word() {
        let code = "deny(unsafe_code)\nunsafe { }\nlet not_unsafe = 1;";
        assert_eq!(lines_with_word(code, "unsafe"), [2]);
    }

    #[test]
    fn the_head_ends_where_code_begins() {
        assert_eq!(
            head("#![forbid(x)]\n\n//! One.\n//!\n//! Two.\nuse y;\n//! no"),
            ["One.", "", "Two."]
        );
        assert!(head("use y;\n//! late").is_empty());
    }

    #[test]
    fn tests_do_not_count_as_length() {
        assert_eq!(lines_without_tests("a\nb\n#[cfg(test)]\nmod tests {\n}\n"), 2);
    }
}
