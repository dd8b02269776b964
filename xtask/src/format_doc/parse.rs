//! What `docs/format.md` needs from a source file: its head, constants, wire structures and keys.
//!
//! A scan for items, not a parser: with literals and comments blanked, an item ends at a semicolon or
//! a closing brace outside all brackets, and a field at a comma. What the scan does not know it
//! passes over, so the rest of the package can be ordinary Rust. The test module ends the file.

use crate::source::{code_only, head};

#[derive(Debug, Default)]
pub struct Source {
    pub path: String,
    pub head: Vec<String>,
    /// Declared submodules, in their order.
    pub modules: Vec<String>,
    pub constants: Vec<Constant>,
    /// Not shown; expressions of others may name them.
    pub private_constants: Vec<Constant>,
    pub structures: Vec<Structure>,
    pub enumerations: Vec<Enumeration>,
    pub ids: Vec<Id>,
    pub keys: Vec<KeyShape>,
    /// (structure, expression) of each compile-time assertion about a size.
    pub asserted_sizes: Vec<(String, String)>,
}

#[derive(Debug)]
pub struct Constant {
    pub name: String,
    pub value: String,
    pub doc: Vec<String>,
}

#[derive(Debug)]
pub struct Structure {
    pub name: String,
    pub doc: Vec<String>,
    pub fields: Vec<Field>,
}

#[derive(Debug)]
pub struct Field {
    pub name: String,
    pub kind: String,
    pub doc: Vec<String>,
}

#[derive(Debug)]
pub struct Enumeration {
    pub name: String,
    pub repr: String,
    pub doc: Vec<String>,
    pub variants: Vec<Variant>,
}

#[derive(Debug)]
pub struct Variant {
    pub name: String,
    pub value: String,
    pub doc: Vec<String>,
}

/// A newtype over an integer.
#[derive(Debug)]
pub struct Id {
    pub name: String,
    pub inner: String,
    pub doc: Vec<String>,
}

/// A constructor of `Key`: which constant the key begins with, then which fields.
#[derive(Debug)]
pub struct KeyShape {
    pub name: String,
    pub constant: String,
    pub fields: Vec<(String, String)>,
}

impl KeyShape {
    /// What the key begins with, and the bytes of range and kind in it.
    pub fn prefix(&self) -> (String, u64) {
        if self.constant.starts_with("KIND_") {
            (format!("RANGE_INODE … {}", self.constant), 2)
        } else {
            (self.constant.clone(), 1)
        }
    }
}

/// One item, field or variant: as written, with comments and literals blanked, and what was said
/// about it.
struct Item<'a> {
    text: &'a str,
    code: &'a str,
    doc: Vec<String>,
    attributes: String,
}

pub fn source(path: &str, text: &str) -> Source {
    let mut source = Source {
        path: path.to_owned(),
        head: head(text).into_iter().map(str::to_owned).collect(),
        ..Source::default()
    };
    let text = text.split("\n#[cfg(test)]\n").next().unwrap_or_default();
    let code = code_only(text);
    for item in items(text, &code, item_end) {
        source.take(&item);
    }
    source
}

impl Source {
    fn take(&mut self, item: &Item<'_>) {
        let (visible, declaration) = match item.code.strip_prefix("pub") {
            Some(rest) => (true, skip_restriction(rest)),
            None => (false, item.code),
        };
        let (keyword, rest) = split_word(declaration);
        match keyword {
            "mod" => self.modules.extend(rest.strip_suffix(';').map(str::to_owned)),
            "const" if rest.starts_with('_') => self.asserted_sizes.extend(size_assertions(rest)),
            "const" if split_word(rest).0 != "fn" => {
                let Some(constant) = constant(item, rest) else { return };
                let list = if visible { &mut self.constants } else { &mut self.private_constants };
                list.push(constant);
            }
            "struct" if item.attributes.contains("repr(C") => {
                self.structures.extend(structure(item, rest));
            }
            "struct" if item.attributes.contains("repr(transparent)") => {
                self.ids.extend(newtype(item, rest));
            }
            "enum" => self.enumerations.extend(enumeration(item, rest)),
            "impl" if split_word(rest).0 == "Key" => self.keys.extend(keys(item)),
            // A macro that declares ids: documentation and `Name(integer)` in its brackets.
            _ if declaration.contains("!(") => self.ids.extend(declared_ids(item)),
            _ => {}
        }
    }
}

/// Cuts `text` into items. `end` tells where one that begins at the start of its argument ends.
fn items<'a>(text: &'a str, code: &'a str, end: impl Fn(&str) -> usize) -> Vec<Item<'a>> {
    let mut items = Vec::new();
    let mut doc = Vec::new();
    let mut attributes = String::new();
    let mut at = 0;
    while let Some(gap) = code[at..].find(|c: char| !c.is_whitespace()) {
        doc.extend(doc_lines(&text[at..at + gap]));
        at += gap;
        let is_attribute = code[at..].starts_with('#');
        let len = if is_attribute { closing(&code[at..]) } else { end(&code[at..]) };
        if is_attribute {
            attributes.push_str(&code[at..at + len]);
        } else {
            items.push(Item {
                text: text[at..at + len].trim(),
                code: code[at..at + len].trim(),
                doc: std::mem::take(&mut doc),
                attributes: std::mem::take(&mut attributes),
            });
        }
        at += len;
    }
    items
}

/// Behind the semicolon or closing brace outside all brackets.
fn item_end(code: &str) -> usize {
    let mut depth = 0_usize;
    for (at, c) in code.char_indices() {
        match c {
            '(' | '[' | '{' => depth += 1,
            ')' | ']' | '}' => depth = depth.saturating_sub(1),
            _ => {}
        }
        if depth == 0 && matches!(c, ';' | '}') {
            return at + 1;
        }
    }
    code.len()
}

/// Behind the comma outside all brackets.
fn field_end(code: &str) -> usize {
    let mut depth = 0_usize;
    for (at, c) in code.char_indices() {
        match c {
            '(' | '[' | '{' => depth += 1,
            ')' | ']' | '}' => depth = depth.saturating_sub(1),
            ',' if depth == 0 => return at + 1,
            _ => {}
        }
    }
    code.len()
}

/// Behind the bracket that closes the first one.
fn closing(code: &str) -> usize {
    let mut depth = 0_usize;
    for (at, c) in code.char_indices() {
        match c {
            '(' | '[' | '{' => depth += 1,
            ')' | ']' | '}' => {
                depth = depth.saturating_sub(1);
                if depth == 0 {
                    return at + 1;
                }
            }
            _ => {}
        }
    }
    code.len()
}

fn doc_lines(text: &str) -> impl Iterator<Item = String> {
    text.lines().filter_map(|line| {
        let doc = line.trim().strip_prefix("///")?;
        Some(doc.strip_prefix(' ').unwrap_or(doc).to_owned())
    })
}

fn constant(item: &Item<'_>, declaration: &str) -> Option<Constant> {
    let name = declaration.split(':').next()?.trim().to_owned();
    // Literals matter here, so the value is taken from the text.
    let value = item.text.split_once('=')?.1.trim().trim_end_matches(';');
    let value = value.lines().map(str::trim).collect::<Vec<_>>().join(" ");
    Some(Constant { name, value: value.trim().to_owned(), doc: item.doc.clone() })
}

fn structure(item: &Item<'_>, declaration: &str) -> Option<Structure> {
    let name = split_word(declaration).0.to_owned();
    let (text, code) = body(item)?;
    let fields = items(text, code, field_end);
    let fields = fields.iter().filter_map(|field| {
        let (name, kind) = field.code.trim_end_matches(',').split_once(':')?;
        Some(Field {
            name: skip_visibility(name).to_owned(),
            kind: kind.split_whitespace().collect::<Vec<_>>().join(" "),
            doc: said_about(field, text),
        })
    });
    Some(Structure { name, doc: item.doc.clone(), fields: fields.collect() })
}

/// The documentation of a field, or else the plain comment at the end of its line.
fn said_about(field: &Item<'_>, body: &str) -> Vec<String> {
    if !field.doc.is_empty() {
        return field.doc.clone();
    }
    let Some(at) = body.find(field.text) else {
        return Vec::new();
    };
    let rest_of_line = body[at + field.text.len()..].lines().next().unwrap_or_default();
    rest_of_line.trim().strip_prefix("// ").map(str::to_owned).into_iter().collect()
}

/// An enum whose values are in the format: those of a declared width.
fn enumeration(item: &Item<'_>, declaration: &str) -> Option<Enumeration> {
    let repr = item.attributes.split_once("repr(")?.1.split(')').next()?.to_owned();
    let (text, code) = body(item)?;
    let variants = items(text, code, field_end);
    let variants = variants.iter().filter_map(|variant| {
        let (name, value) = variant.code.trim_end_matches(',').split_once('=')?;
        Some(Variant {
            name: name.trim().to_owned(),
            value: value.trim().to_owned(),
            doc: said_about(variant, text),
        })
    });
    let name = split_word(declaration).0.to_owned();
    Some(Enumeration { name, repr, doc: item.doc.clone(), variants: variants.collect() })
}

/// `Name(integer);`
fn newtype(item: &Item<'_>, declaration: &str) -> Option<Id> {
    let (name, rest) = declaration.split_once('(')?;
    let inner = skip_visibility(rest.split(')').next()?).to_owned();
    Some(Id { name: name.trim().to_owned(), inner, doc: item.doc.clone() })
}

fn declared_ids(item: &Item<'_>) -> Vec<Id> {
    let Some(open) = item.code.find("!(") else {
        return Vec::new();
    };
    let start = open + 2;
    let end = item.code.rfind(')').unwrap_or(start).max(start);
    items(&item.text[start..end], &item.code[start..end], field_end)
        .iter()
        .filter_map(|inner| newtype(inner, inner.code))
        .filter(|id| {
            id.inner.starts_with(['u', 'i']) && id.inner.chars().all(char::is_alphanumeric)
        })
        .collect()
}

/// (type, expression) of each `size_of::<T>() == expression` in an assertion.
fn size_assertions(code: &str) -> Vec<(String, String)> {
    code.split("size_of::<")
        .skip(1)
        .filter_map(|rest| {
            let (name, rest) = rest.split_once(">()")?;
            let expression = rest.trim_start().strip_prefix("==")?;
            let end = field_end(expression).min(closing_of_caller(expression));
            let expression = expression[..end].trim().trim_end_matches(',');
            Some((name.to_owned(), expression.to_owned()))
        })
        .collect()
}

/// Where the bracket closes that was opened before `code`.
fn closing_of_caller(code: &str) -> usize {
    let mut depth = 0_usize;
    for (at, c) in code.char_indices() {
        match c {
            '(' => depth += 1,
            ')' if depth == 0 => return at,
            ')' => depth -= 1,
            _ => {}
        }
    }
    code.len()
}

/// The public constructors in `impl Key` that begin with a constant of their own.
fn keys(item: &Item<'_>) -> Vec<KeyShape> {
    let Some((text, code)) = body(item) else {
        return Vec::new();
    };
    let functions = items(text, code, item_end);
    functions.iter().filter_map(|function| key_shape(function, &functions)).collect()
}

fn key_shape(function: &Item<'_>, others: &[Item<'_>]) -> Option<KeyShape> {
    let declaration = function.code.strip_prefix("pub fn ")?;
    let (name, rest) = declaration.split_once('(')?;
    let (arguments, rest) = rest.split_once(") -> Key")?;
    if name.starts_with("of_") {
        return None; // a prefix, not a key
    }
    let constant = leading_constant(rest).or_else(|| {
        let prefix = words(rest).find(|word| word.starts_with("of_"))?;
        let declared = format!("fn {prefix}(");
        leading_constant(others.iter().find(|other| other.code.contains(&declared))?.code)
    })?;
    let arguments = items(arguments, arguments, field_end);
    let fields = arguments.iter().filter_map(|argument| {
        let (name, kind) = argument.code.trim_end_matches(',').split_once(':')?;
        Some((name.trim().to_owned(), kind.trim().to_owned()))
    });
    Some(KeyShape {
        name: name.replace('_', " "),
        constant: constant.to_owned(),
        fields: fields.collect(),
    })
}

fn leading_constant(code: &str) -> Option<&str> {
    words(code).find(|word| word.starts_with("RANGE_") || word.starts_with("KIND_"))
}

fn words(code: &str) -> impl Iterator<Item = &str> {
    code.split(|c: char| !c.is_ascii_alphanumeric() && c != '_')
}

/// What stands between an item's outermost braces, as written and as code.
fn body<'a>(item: &Item<'a>) -> Option<(&'a str, &'a str)> {
    let start = item.code.find('{')? + 1;
    let end = item.code.rfind('}')?;
    Some((&item.text[start..end], &item.code[start..end]))
}

fn split_word(text: &str) -> (&str, &str) {
    let text = text.trim_start();
    let end = text.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(text.len());
    (&text[..end], text[end..].trim_start())
}

fn skip_visibility(text: &str) -> &str {
    let text = text.trim();
    text.strip_prefix("pub").map_or(text, skip_restriction).trim()
}

/// `(crate) rest` as `rest`.
fn skip_restriction(text: &str) -> &str {
    let text = text.trim_start();
    if text.starts_with('(') { text[closing(text)..].trim_start() } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn documentation_crosses_attributes_and_stays_with_its_item() {
        let text = "/// One.\n#[derive(A)]\n#[repr(C)]\npub struct S {\n    /// Two.\n    \
            pub a: U16, // not this\n    b: [u8; 2], // three\n}\nfn f() { x; }\n\
            pub const C: u64 = u64::from_le_bytes(*b\"a;=}\");\n";
        let source = source("s.rs", text);
        let structure = &source.structures[0];
        assert_eq!((structure.name.as_str(), structure.doc.join("")), ("S", "One.".to_owned()));
        let fields: Vec<_> =
            structure.fields.iter().map(|f| (f.name.as_str(), f.kind.as_str())).collect();
        assert_eq!(fields, [("a", "U16"), ("b", "[u8; 2]")]);
        assert_eq!(structure.fields[0].doc, ["Two."]);
        assert_eq!(structure.fields[1].doc, ["three"]);
        assert_eq!(source.constants[0].value, "u64::from_le_bytes(*b\"a;=}\")");
        assert!(source.constants[0].doc.is_empty());
    }

    #[test]
    fn only_wire_structures_count() {
        let text =
            "pub struct Plain { a: u8 }\npub enum E { A }\n#[repr(u8)]\nenum W { A = 1, B = 7 }\n";
        let source = source("s.rs", text);
        assert!(source.structures.is_empty());
        assert_eq!(source.enumerations.len(), 1);
        assert_eq!(source.enumerations[0].repr, "u8");
        assert_eq!(source.enumerations[0].variants[1].value, "7");
    }

    #[test]
    fn sizes_are_found_in_blocks_of_assertions() {
        let text = "const _: () = {\n    assert!(size_of::<A>() == 8 * (1 + 2));\n    \
            assert!(offset_of!(A, b) == 4);\n    assert!(size_of::<B>() == 4, \"b\");\n};\n";
        let found = source("s.rs", text).asserted_sizes;
        let expected = [("A", "8 * (1 + 2)"), ("B", "4")];
        assert_eq!(found, expected.map(|(a, b)| (a.to_owned(), b.to_owned())));
    }

    #[test]
    fn a_key_is_its_constant_and_its_arguments() {
        let text = "impl Key {\n    pub fn of_inode(i: InodeNo) -> Key { Key::range(RANGE_INODE) }\n    \
            pub fn entry(dir: InodeNo, name_hash: u128) -> Key {\n        \
            Key::of_kind(dir, KIND_LOOKUP).push(&name_hash.to_be_bytes())\n    }\n    \
            pub fn own(i: InodeNo) -> Key { Key::of_inode(i).push(&[7]) }\n}\n";
        let keys = source("key.rs", text).keys;
        assert_eq!(keys.len(), 2);
        assert_eq!(keys[0].constant, "KIND_LOOKUP");
        assert_eq!(keys[1].constant, "RANGE_INODE");
        assert_eq!(keys[0].fields[1], ("name_hash".to_owned(), "u128".to_owned()));
    }

    #[test]
    fn ids_declared_by_a_macro_are_found() {
        let text = "macro_rules! number { ($x:ident) => { pub struct $x(u8); } }\n\
            number!(\n    /// One slice.\n    TabletId(u16)\n);\n";
        let ids = source("ids.rs", text).ids;
        assert_eq!(ids.len(), 1);
        assert_eq!((ids[0].name.as_str(), ids[0].inner.as_str()), ("TabletId", "u16"));
        assert_eq!(ids[0].doc, ["One slice."]);
    }
}
