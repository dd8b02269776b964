//! The inputs that are checked in: a folder a target, a file an input.
//!
//! `ok-…` was made by `specimens` and must be taken (or refused only as an item within what was
//! taken), `no-…` must be refused, `crash-…` failed once and must never again. Names are what a person
//! calls them, or for a crash the hash of the bytes, which is also how a run names what it has found.

use crate::targets::Target;
use crate::{Verdict, specimen::Specimen};
use anyhow::{Context, Result};
use cairn_base::hash::xxh3;
use std::path::{Path, PathBuf};

/// Of one target; a corpus is to be read in a second and to fit a review.
pub const BYTES_MAX: usize = 200 << 10;
pub const FILES_MAX: usize = 64;

/// Where the tree this was built from keeps it.
pub fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus")
}

/// The inputs of one target by their names, in order.
pub fn read(folder: &Path, target: &Target) -> Result<Vec<Specimen>> {
    let folder = folder.join(target.name);
    let failed = || format!("cannot read {}: is there a corpus of this target?", folder.display());
    let mut inputs = Vec::new();
    for file in std::fs::read_dir(&folder).with_context(failed)? {
        let path = file.with_context(failed)?.path();
        let bytes =
            std::fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        inputs.push(Specimen { name, bytes });
    }
    inputs.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(inputs)
}

/// Writes what the specimens make, and leaves everything else as it is. Returns how many files.
pub fn write(folder: &Path, target: &Target) -> Result<usize> {
    let folder = folder.join(target.name);
    std::fs::create_dir_all(&folder)
        .with_context(|| format!("cannot make {}", folder.display()))?;
    let specimens = (target.specimens)();
    for specimen in &specimens {
        let path = folder.join(file_name(target, specimen));
        std::fs::write(&path, &specimen.bytes)
            .with_context(|| format!("cannot write {}", path.display()))?;
    }
    Ok(specimens.len())
}

pub fn file_name(target: &Target, specimen: &Specimen) -> String {
    let word = match (target.run)(&specimen.bytes) {
        Verdict::Accepted => "ok",
        Verdict::Refused(_) => "no",
    };
    format!("{word}-{}", specimen.name)
}

/// What an input that failed is called.
pub fn crash_name(input: &[u8]) -> String {
    format!("crash-{:016x}", xxh3(input))
}
