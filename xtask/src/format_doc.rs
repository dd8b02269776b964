//! `cargo xtask format-doc`: writes `docs/format.md` from the sources of `appliance/format`.
//!
//! The page is for somebody with a pool image and no program of ours. It has to be right for years,
//! so nobody writes it: every file of the package becomes a section, with its head, its constants,
//! its structures with computed offsets, and its keys, in the order of the `mod` lines. Offsets are
//! computed here from the field types and must agree with the sizes that the package asserts at
//! compile time; a type whose size we cannot tell is an error, not a gap in a table.
//!
//! Reading the sources is `format_doc/parse.rs`, arithmetic `format_doc/layout.rs`; this file puts
//! the page together.

mod layout;
mod parse;

use anyhow::{Context, Result, ensure};
use layout::Layout;
use parse::{Constant, Enumeration, Id, KeyShape, Source, Structure};
use std::fmt::Write;
use std::path::Path;
use std::process::ExitCode;

pub const PAGE: &str = "docs/format.md";
const PACKAGE: &str = "appliance/format/src";

/// Where the constants come from that the package borrows from below.
const BORROWED: &str = "appliance/base/src/units.rs";

pub fn run_write(root: &Path) -> Result<ExitCode> {
    let page = generate(root)?;
    std::fs::write(root.join(PAGE), page).with_context(|| format!("cannot write {PAGE}"))?;
    Ok(ExitCode::SUCCESS)
}

pub fn run_check(root: &Path) -> Result<ExitCode> {
    Ok(if is_current(root)? { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Whether the page says what the sources say. Tells on stderr from where on it does not.
pub fn is_current(root: &Path) -> Result<bool> {
    let wanted = generate(root)?;
    let found = std::fs::read_to_string(root.join(PAGE)).unwrap_or_default();
    if wanted == found {
        return Ok(true);
    }
    let same = wanted.lines().zip(found.lines()).take_while(|(a, b)| a == b).count();
    eprintln!("{PAGE} is stale from line {}: run `cargo xtask format-doc`", same + 1);
    Ok(false)
}

fn generate(root: &Path) -> Result<String> {
    let borrowed = read(root, BORROWED)?;
    let mut sources = Vec::new();
    collect(root, PACKAGE, "lib", &mut sources)?;
    render(&sources, &parse::source(BORROWED, &borrowed).constants)
}

/// Reads one module, then the modules it declares.
fn collect(root: &Path, folder: &str, module: &str, sources: &mut Vec<Source>) -> Result<()> {
    let flat = format!("{folder}/{module}.rs");
    let nested = format!("{folder}/{module}");
    let as_folder = format!("{nested}/mod.rs");
    let path = if root.join(&flat).exists() { &flat } else { &as_folder };
    let text = read(root, path)?;
    let source = parse::source(path, &text);
    let children = source.modules.clone();
    sources.push(source);
    let below = if module == "lib" { folder } else { &nested };
    for child in children {
        collect(root, below, &child, sources)?;
    }
    Ok(())
}

fn read(root: &Path, path: &str) -> Result<String> {
    std::fs::read_to_string(root.join(path)).with_context(|| format!("cannot read {path}"))
}

/// The page. `borrowed` are constants that expressions may name and that have no section.
fn render(sources: &[Source], borrowed: &[Constant]) -> Result<String> {
    let layout = Layout::new(sources, borrowed);
    let mut page = String::from("# The format on the disk\n\n");
    page.push_str("Generated from `appliance/format/src/` by `cargo xtask format-doc`. ");
    page.push_str("Change it there.\n\n");
    page.push_str("`U16`, `U32`, `U64`, `I64` are little-endian and unaligned; ");
    page.push_str("structures have no padding; sizes and offsets are in bytes.\n");
    for source in sources {
        if source.path.ends_with("/lib.rs") {
            push_prose(&mut page, &source.head);
            continue;
        }
        let name = source.path.trim_start_matches(PACKAGE).trim_start_matches('/');
        write!(page, "\n## {name}\n")?;
        push_prose(&mut page, &source.head);
        push_ids(&mut page, &source.ids)?;
        push_constants(&mut page, &source.constants, &layout)?;
        for enumeration in &source.enumerations {
            push_enumeration(&mut page, enumeration)?;
        }
        push_keys(&mut page, &source.keys, &layout)?;
        for structure in &source.structures {
            push_structure(&mut page, structure, &layout)
                .with_context(|| format!("{} in {}", structure.name, source.path))?;
        }
        for (name, asserted) in &source.asserted_sizes {
            let computed = layout.size_of(name)?;
            let asserted = layout.value(asserted).context("an asserted size is no number")?;
            ensure!(computed == asserted, "{name} has {computed} bytes, and asserts {asserted}");
        }
    }
    Ok(page)
}

fn push_prose(page: &mut String, lines: &[String]) {
    if lines.is_empty() {
        return;
    }
    page.push('\n');
    for line in lines {
        page.push_str(line);
        page.push('\n');
    }
}

fn push_ids(page: &mut String, ids: &[Id]) -> Result<()> {
    if ids.is_empty() {
        return Ok(());
    }
    page.push_str("\n| id | held in | meaning |\n|---|---|---|\n");
    for id in ids {
        writeln!(page, "| `{}` | `{}` | {} |", id.name, id.inner, cell(&id.doc))?;
    }
    Ok(())
}

fn push_constants(page: &mut String, constants: &[Constant], layout: &Layout<'_>) -> Result<()> {
    if constants.is_empty() {
        return Ok(());
    }
    page.push_str("\n| constant | value | meaning |\n|---|---|---|\n");
    for constant in constants {
        let expression = &constant.value;
        let is_plain = expression.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
        let is_named = expression.starts_with(|c: char| c.is_ascii_alphabetic());
        let value = match layout.value(expression) {
            Some(value) if !is_plain || is_named => format!("`{expression}` = {value}"),
            _ => format!("`{expression}`"),
        };
        let value = value.replace('|', "\\|");
        writeln!(page, "| `{}` | {value} | {} |", constant.name, cell(&constant.doc))?;
    }
    Ok(())
}

fn push_enumeration(page: &mut String, enumeration: &Enumeration) -> Result<()> {
    write!(page, "\n### {} (`{}`)\n", enumeration.name, enumeration.repr)?;
    push_prose(page, &enumeration.doc);
    page.push_str("\n| value | name | meaning |\n|---|---|---|\n");
    for variant in &enumeration.variants {
        writeln!(page, "| {} | {} | {} |", variant.value, variant.name, cell(&variant.doc))?;
    }
    Ok(())
}

fn push_keys(page: &mut String, keys: &[KeyShape], layout: &Layout<'_>) -> Result<()> {
    if keys.is_empty() {
        return Ok(());
    }
    page.push_str("\n| key | begins with | then, big-endian | bytes |\n|---|---|---|---|\n");
    for key in keys {
        let mut fields = Vec::new();
        let mut total = 0;
        for (field, kind) in &key.fields {
            let bytes = layout.key_bytes(kind).with_context(|| format!("key {}", key.name))?;
            fields.push(format!("{} ({bytes})", field.replace('_', " ")));
            total += bytes;
        }
        let (prefix, prefix_bytes) = key.prefix();
        // Within one inode's range the inode comes before the kind.
        if prefix_bytes == 2 && !fields.is_empty() {
            let inode = fields.remove(0);
            fields.insert(0, format!("{inode}, kind"));
        }
        let fields = if fields.is_empty() { "nothing".into() } else { fields.join(", ") };
        writeln!(page, "| {} | `{prefix}` | {fields} | {} |", key.name, total + prefix_bytes)?;
    }
    Ok(())
}

fn push_structure(page: &mut String, structure: &Structure, layout: &Layout<'_>) -> Result<()> {
    let size = layout.size_of(&structure.name)?;
    write!(page, "\n### {} ({size} bytes)\n", structure.name)?;
    push_prose(page, &structure.doc);
    page.push_str("\n| offset | bytes | field | type | meaning |\n|---:|---:|---|---|---|\n");
    let mut offset = 0;
    for field in &structure.fields {
        let bytes = layout.size_of(&field.kind)?;
        let (name, kind, meaning) = (&field.name, &field.kind, cell(&field.doc));
        writeln!(page, "| {offset} | {bytes} | `{name}` | `{kind}` | {meaning} |")?;
        offset += bytes;
    }
    Ok(())
}

/// Lines of prose as one table cell.
fn cell(lines: &[String]) -> String {
    lines.join(" ").trim().replace('|', "\\|")
}

#[cfg(test)]
mod tests {
    use super::*;

    const SOURCE: &str = "//! A block.\n\
        /// Blocks of a thing.\n\
        pub const COUNT: usize = 2 * HALF;\n\
        const HALF: usize = 2;\n\
        /// A head.\n\
        #[repr(C)]\n\
        pub struct Head {\n    \
            /// Says a | b.\n    \
            pub magic: U32,\n    \
            pub parts: [Part; COUNT],\n\
        }\n\
        const _: () = assert!(size_of::<Head>() == 44);\n\
        #[repr(C)]\n\
        pub struct Part { pub a: u8, pub b: U64, pub c: u8 }\n";

    fn page(text: &str) -> Result<String> {
        render(&[parse::source("appliance/format/src/block.rs", text)], &[])
    }

    #[test]
    fn offsets_follow_from_the_types() {
        let page = page(SOURCE).expect("sizes agree");
        assert!(page.contains("### Head (44 bytes)"), "{page}");
        assert!(page.contains("| 0 | 4 | `magic` | `U32` | Says a \\| b. |"), "{page}");
        assert!(page.contains("| 4 | 40 | `parts` | `[Part; COUNT]` |  |"), "{page}");
        assert!(page.contains("| `COUNT` | `2 * HALF` = 4 | Blocks of a thing. |"), "{page}");
    }

    #[test]
    fn a_size_that_disagrees_with_the_assertion_is_an_error() {
        let error = page(&SOURCE.replace("== 44", "== 45")).expect_err("44 is not 45");
        assert!(error.to_string().contains("Head has 44 bytes"), "{error}");
    }

    #[test]
    fn an_unknown_type_is_an_error() {
        assert!(page(&SOURCE.replace("c: u8", "c: Mystery")).is_err());
    }
}
