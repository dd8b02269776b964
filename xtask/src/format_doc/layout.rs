//! Sizes of the format's types, and values of its constants.
//!
//! The wire types are few and have no alignment, so a structure is the sum of its fields. Constant
//! expressions are integer arithmetic over names; anything else has no value here and is shown as
//! it is written.

use super::parse::{Constant, Source, Structure};
use anyhow::{Context, Result, ensure};
use std::collections::BTreeMap;

/// How deep a type or a constant may refer to others: more is a ring.
const DEPTH_MAX: usize = 16;

pub struct Layout<'a> {
    structures: BTreeMap<&'a str, &'a Structure>,
    scalars: BTreeMap<&'a str, &'a str>,
    constants: BTreeMap<&'a str, &'a str>,
}

impl<'a> Layout<'a> {
    pub fn new(sources: &'a [Source], borrowed: &'a [Constant]) -> Layout<'a> {
        let mut layout = Layout {
            structures: BTreeMap::new(),
            scalars: BTreeMap::new(),
            constants: BTreeMap::new(),
        };
        for constant in borrowed {
            layout.constants.insert(&constant.name, &constant.value);
        }
        for source in sources {
            for structure in &source.structures {
                layout.structures.insert(&structure.name, structure);
            }
            for enumeration in &source.enumerations {
                layout.scalars.insert(&enumeration.name, &enumeration.repr);
            }
            for id in &source.ids {
                layout.scalars.insert(&id.name, &id.inner);
            }
            for constant in source.constants.iter().chain(&source.private_constants) {
                layout.constants.insert(&constant.name, &constant.value);
            }
        }
        layout
    }

    /// Bytes of a type on the disk.
    pub fn size_of(&self, kind: &str) -> Result<u64> {
        self.size_within(kind, DEPTH_MAX)
    }

    /// Bytes of a type in a key. Keys are made of the program's integers and ids.
    pub fn key_bytes(&self, kind: &str) -> Result<u64> {
        match last_segment(kind) {
            "InodeNo" | "BlockNo" => Ok(8),
            "OpId" => {
                // Node, shard, epoch, counter.
                Ok(2 + 2 + 8 + 8)
            }
            name => match self.scalars.get(name) {
                Some(inner) => self.key_bytes(inner),
                None => self.size_of(kind),
            },
        }
    }

    fn size_within(&self, kind: &str, depth: usize) -> Result<u64> {
        ensure!(depth > 0, "the type {kind} contains itself");
        if let Some(inner) = kind.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
            let (element, count) = inner.rsplit_once(';').context("an array without a count")?;
            let count = self.value(count).with_context(|| format!("no count in {kind}"))?;
            return Ok(self.size_within(element.trim(), depth - 1)? * count);
        }
        let name = last_segment(kind);
        Ok(match name {
            "u8" | "i8" => 1,
            "U16" | "I16" | "u16" => 2,
            "U32" | "I32" | "u32" => 4,
            "U64" | "I64" | "u64" | "i64" => 8,
            "U128" | "I128" | "u128" => 16,
            _ => match (self.structures.get(name), self.scalars.get(name)) {
                (Some(structure), _) => {
                    let mut total = 0;
                    for field in &structure.fields {
                        total += self.size_within(&field.kind, depth - 1)?;
                    }
                    total
                }
                (None, Some(inner)) => self.size_within(inner, depth - 1)?,
                (None, None) => anyhow::bail!("no size is known for the type {kind}"),
            },
        })
    }

    /// The value of an integer expression, when it is one.
    pub fn value(&self, expression: &str) -> Option<u64> {
        self.value_within(expression, DEPTH_MAX)
    }

    fn value_within(&self, expression: &str, depth: usize) -> Option<u64> {
        let tokens = tokens(expression)?;
        let mut reader = Reader { layout: self, tokens: &tokens, depth };
        let value = reader.binary(0)?;
        reader.tokens.is_empty().then_some(value)
    }
}

/// Operators by how tightly they bind, loosest first.
const LEVELS: &[&[&str]] = &[&["|"], &["<<", ">>"], &["+", "-"], &["*", "/", "%"]];

struct Reader<'l, 't> {
    layout: &'l Layout<'l>,
    tokens: &'t [String],
    depth: usize,
}

impl Reader<'_, '_> {
    fn peek(&self) -> Option<&str> {
        self.tokens.first().map(String::as_str)
    }

    fn next(&mut self) -> Option<String> {
        let (first, rest) = self.tokens.split_first()?;
        self.tokens = rest;
        Some(first.clone())
    }

    fn binary(&mut self, level: usize) -> Option<u64> {
        let Some(operators) = LEVELS.get(level) else {
            return self.single();
        };
        let mut left = self.binary(level + 1)?;
        while self.peek().is_some_and(|token| operators.contains(&token)) {
            let operator = self.next()?;
            let right = self.binary(level + 1)?;
            left = match operator.as_str() {
                "|" => left | right,
                "<<" => left.checked_shl(u32::try_from(right).ok()?)?,
                ">>" => left.checked_shr(u32::try_from(right).ok()?)?,
                "+" => left.checked_add(right)?,
                "-" => left.checked_sub(right)?,
                "*" => left.checked_mul(right)?,
                "/" => left.checked_div(right)?,
                "%" => left.checked_rem(right)?,
                _ => return None,
            };
        }
        Some(left)
    }

    fn single(&mut self) -> Option<u64> {
        let token = self.next()?;
        let value = if token == "(" {
            let value = self.binary(0)?;
            (self.next()? == ")").then_some(value)?
        } else if token.starts_with(|c: char| c.is_ascii_digit()) {
            integer(&token)?
        } else if last_segment(&token) == "size_of" {
            let parts: Vec<String> = (0..5).map_while(|_| self.next()).collect();
            match parts.iter().map(String::as_str).collect::<Vec<_>>()[..] {
                ["<", kind, ">", "(", ")"] => self.layout.size_of(kind).ok()?,
                _ => return None,
            }
        } else {
            let depth = self.depth.checked_sub(1)?;
            let expression = self.layout.constants.get(last_segment(&token))?;
            self.layout.value_within(expression, depth)?
        };
        if self.peek() == Some("as") {
            self.next()?;
            self.next()?;
        }
        Some(value)
    }
}

/// Numbers, paths and operators; nothing when there is anything else. `size_of::<T>` loses its
/// double colon.
fn tokens(expression: &str) -> Option<Vec<String>> {
    let mut tokens = Vec::new();
    let mut rest = expression.trim();
    while let Some(first) = rest.chars().next() {
        let word = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == ':';
        let len = if word(first) {
            rest.find(|c: char| !word(c)).unwrap_or(rest.len())
        } else if rest.starts_with("<<") || rest.starts_with(">>") {
            2
        } else if "+-*/%|()<>".contains(first) {
            1
        } else {
            return None;
        };
        tokens.push(rest[..len].trim_end_matches(':').to_owned());
        rest = rest[len..].trim_start();
    }
    Some(tokens)
}

fn integer(token: &str) -> Option<u64> {
    let digits = token.replace('_', "");
    let digits = ["usize", "u64", "u32", "u16", "u8", "i64"]
        .iter()
        .find_map(|suffix| digits.strip_suffix(suffix))
        .unwrap_or(&digits);
    match digits.get(..2) {
        Some("0x") => u64::from_str_radix(&digits[2..], 16).ok(),
        Some("0b") => u64::from_str_radix(&digits[2..], 2).ok(),
        Some("0o") => u64::from_str_radix(&digits[2..], 8).ok(),
        _ => digits.parse().ok(),
    }
}

fn last_segment(path: &str) -> &str {
    path.rsplit("::").next().unwrap_or(path)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format_doc::parse;

    fn layout_of(text: &str, then: impl FnOnce(&Layout<'_>)) {
        let sources = [parse::source("a.rs", text)];
        then(&Layout::new(&sources, &[]));
    }

    #[test]
    fn arithmetic_binds_as_in_rust() {
        layout_of(
            "pub const A: usize = 1 << 4 + 1;\npub const B: u64 = A as u64 - 0x2_u64;\n",
            |l| {
                assert_eq!(l.value("A"), Some(32));
                assert_eq!(l.value("crate::B * (1 + 2)"), Some(90));
                assert_eq!(l.value("7 - 2 - 1"), Some(4));
            },
        );
    }

    #[test]
    fn what_is_no_arithmetic_has_no_value() {
        layout_of("pub const A: u64 = A;\n", |layout| {
            for expression in ["*b\"CAIRN\"", "A", "MISSING", "1 - 2", "1 / 0", "(1", ""] {
                assert_eq!(layout.value(expression), None, "{expression}");
            }
        });
    }

    #[test]
    fn a_size_may_name_a_structure() {
        layout_of(
            "#[repr(C)]\npub struct S {\n    pub a: [[u8; 3]; 2],\n    pub b: U16,\n}\n",
            |l| {
                assert_eq!(l.size_of("S").ok(), Some(8));
                assert_eq!(l.value("4096 - size_of::<S>() * 2"), Some(4080));
            },
        );
    }
}
