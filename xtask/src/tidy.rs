//! `cargo xtask tidy`: the rules of STYLE.md that a machine can hold us to.
//!
//! Each rule is a file of `tidy/` and a pure function from the tree's text, or from cargo's
//! metadata, to findings: so each has a test that plants a violation and sees it caught. This file
//! reads the tree once, runs them all and prints what they say. A finding fails the run; a note only
//! asks somebody to look.
//!
//! Not here: what clippy already refuses (clocks, `unwrap`, undocumented unsafe), and judgement.

mod arrows;
mod banned;
mod documents;
mod islands;
mod licences;
mod sizes;

use crate::{format_doc, run};
use anyhow::{Context, Result};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::Path;
use std::process::ExitCode;

/// One place where a rule is broken. The place is a path, with a line where there is one, or a
/// package.
#[derive(Debug, PartialEq, Eq)]
pub struct Finding {
    pub place: String,
    pub text: String,
}

impl Finding {
    pub fn new(place: impl Into<String>, text: impl Into<String>) -> Finding {
        Finding { place: place.into(), text: text.into() }
    }

    pub fn at_line(path: &str, line: usize, text: impl Into<String>) -> Finding {
        Finding::new(format!("{path}:{line}"), text)
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.place, self.text)
    }
}

/// The text files of the tree, by path from the root with `/` between, and all folders. A file that
/// is not UTF-8 has its path here and no text.
#[derive(Default)]
pub struct Tree {
    files: BTreeMap<String, String>,
    folders: BTreeSet<String>,
}

impl Tree {
    /// Build output, pools and hidden folders are not the tree; `.ci` and `.cargo` are.
    pub fn read(root: &Path) -> Result<Tree> {
        let mut tree = Tree::default();
        tree.read_folder(root, "")?;
        Ok(tree)
    }

    fn read_folder(&mut self, folder: &Path, prefix: &str) -> Result<()> {
        let entries = std::fs::read_dir(folder)
            .with_context(|| format!("cannot list {}", folder.display()))?;
        for entry in entries {
            let entry = entry?;
            let name = entry.file_name().to_string_lossy().into_owned();
            let path = format!("{prefix}{name}");
            let hidden = name.starts_with('.') && !matches!(name.as_str(), ".ci" | ".cargo");
            if hidden || matches!(name.as_str(), "target" | "cairn-data") {
                continue;
            }
            if entry.file_type()?.is_dir() {
                self.folders.insert(path.clone());
                self.read_folder(&entry.path(), &format!("{path}/"))?;
            } else {
                let bytes = std::fs::read(entry.path()).with_context(|| format!("read {path}"))?;
                self.files.insert(path, String::from_utf8(bytes).unwrap_or_default());
            }
        }
        Ok(())
    }

    /// Rust sources, in the order of their paths.
    pub fn rust(&self) -> impl Iterator<Item = (&str, &str)> {
        self.with_extension(".rs")
    }

    pub fn with_extension(&self, extension: &str) -> impl Iterator<Item = (&str, &str)> {
        self.files
            .iter()
            .filter(move |(path, _)| path.ends_with(extension))
            .map(|(path, text)| (path.as_str(), text.as_str()))
    }

    pub fn files(&self) -> impl Iterator<Item = (&str, &str)> {
        self.files.iter().map(|(path, text)| (path.as_str(), text.as_str()))
    }

    pub fn text(&self, path: &str) -> Option<&str> {
        self.files.get(path).map(String::as_str)
    }

    pub fn folders(&self) -> impl Iterator<Item = &str> {
        self.folders.iter().map(String::as_str)
    }

    /// Whether a file or a folder has this path.
    pub fn has(&self, path: &str) -> bool {
        self.files.contains_key(path) || self.folders.contains(path)
    }

    #[cfg(test)]
    pub fn of(files: &[(&str, &str)]) -> Tree {
        let mut tree = Tree::default();
        for (path, text) in files {
            tree.files.insert((*path).to_owned(), (*text).to_owned());
            let folders = path.match_indices('/').map(|(at, _)| path[..at].to_owned());
            tree.folders.extend(folders);
        }
        tree
    }
}

pub fn run(root: &Path) -> Result<ExitCode> {
    Ok(if is_clean(root)? { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Prints what is wrong; true when nothing is.
pub fn is_clean(root: &Path) -> Result<bool> {
    let tree = Tree::read(root)?;
    let metadata = run::metadata(root)?;
    let licences = tree.text("deny.toml").context("no deny.toml, which lists the licences")?;

    let mut findings = Vec::new();
    findings.extend(arrows::check(&metadata)?);
    findings.extend(licences::check(&metadata, &licences::Allowed::parse(licences)?)?);
    findings.extend(islands::check(&tree));
    findings.extend(banned::check(&tree));
    findings.extend(documents::check(&tree));
    findings.extend(sizes::check(&tree));
    match format_doc::is_current(root) {
        Ok(true) => {}
        Ok(false) => findings.push(Finding::new(format_doc::PAGE, "stale")),
        Err(error) => findings.push(Finding::new(format_doc::PAGE, format!("{error:#}"))),
    }

    for note in sizes::notes(&tree) {
        println!("note: {note}");
    }
    for finding in &findings {
        println!("{finding}");
    }
    println!("tidy: {} findings", findings.len());
    Ok(findings.is_empty())
}
