//! The files that are copied in.
//!
//! Real ones, since real trees have what nobody thinks of: an unpacked Debian source package, else
//! what the machine has under its library folders. Beside them come those that a tree may lack and
//! the format must not: empty files, names of 255 bytes, deep paths, large files.
//!
//! The package is fetched from where the machine's own packages come from, with an apt configuration
//! of its own (the machine's may have no source entries), and kept in the temporary folder, so that runs after the first need no network.

use crate::program::run_within;
use anyhow::{Context, Result};
use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

/// About 6,000 files, deep in places, most of them small.
const PACKAGE: &str = "perl";
const FETCH_LIMIT: Duration = Duration::from_secs(180);
/// Files of the tree above this stay out: size has files of its own below.
const BYTES_MAX: u64 = 2 << 20;
const DEEP_LEVELS: usize = 40;

/// One file to copy: where it shall lie below the copy's root, and what is in it.
#[derive(Clone, Debug)]
pub struct Original {
    pub path: Vec<u8>,
    pub body: Body,
}

#[derive(Clone, Debug)]
pub enum Body {
    /// A file of this machine.
    Disk { path: PathBuf, bytes: u64 },
    /// Bytes that follow from a number.
    Made { number: u64, bytes: u64 },
}

impl Body {
    pub fn bytes(&self) -> u64 {
        match self {
            Body::Disk { bytes, .. } | Body::Made { bytes, .. } => *bytes,
        }
    }

    pub fn load(&self) -> Result<Vec<u8>> {
        match self {
            Body::Disk { path, .. } => {
                fs::read(path).with_context(|| format!("cannot read {}", path.display()))
            }
            Body::Made { number, bytes } => {
                let mut filled = vec![0; usize::try_from(*bytes)?];
                let seed = number.to_le_bytes();
                blake3::Hasher::new().update(&seed).finalize_xof().fill(&mut filled);
                Ok(filled)
            }
        }
    }
}

/// `count` files from `source` (or wherever real files are found), and the special ones.
pub fn gather(source: Option<&Path>, count: usize, large_bytes: u64) -> Result<Vec<Original>> {
    let root = match source {
        Some(named) => named.to_owned(),
        None => debian_source().unwrap_or_else(|error| {
            eprintln!("no Debian source package ({error:#}): taking files of this machine");
            PathBuf::from("/usr/share")
        }),
    };
    let mut originals = special(large_bytes);
    let wanted = count.saturating_sub(originals.len());
    let mut found = Vec::new();
    walk(&root, &mut Vec::new(), &mut found)?;
    anyhow::ensure!(!found.is_empty(), "no files under {}", root.display());
    found.sort_by(|one, other| one.path.cmp(&other.path));
    // Evenly over the tree, so that a small run sees all its corners too.
    let taken = wanted.min(found.len());
    originals.extend((0..taken).map(|at| found[at * found.len() / taken].clone()));
    // A tree that has too few is made up by copies of it under other names.
    for again in 0..wanted - taken {
        let model = &found[again % found.len()];
        let mut path = format!("again-{}/", again / found.len()).into_bytes();
        path.extend_from_slice(&model.path);
        originals.push(Original { path, body: model.body.clone() });
    }
    Ok(originals)
}

/// What a real tree may lack.
fn special(large_bytes: u64) -> Vec<Original> {
    let made = |path: Vec<u8>, number, bytes| Original { path, body: Body::Made { number, bytes } };
    let deep: Vec<u8> =
        (0..DEEP_LEVELS).flat_map(|level| format!("level-{level}/").into_bytes()).collect();
    let mut files = vec![
        made(b"special/empty".to_vec(), 1, 0),
        made([b"special/".as_slice(), &[b'n'; 255]].concat(), 2, 3_000),
        made(["special/".as_bytes(), "\u{e9}".repeat(127).as_bytes()].concat(), 3, 40_000),
        made(b"special/\xff\xfe not UTF-8 \n".to_vec(), 4, 100),
        made([deep.as_slice(), b"bottom"].concat(), 5, 70_001),
        made(b"special/one-block".to_vec(), 6, 4096),
        made(b"special/inline-border".to_vec(), 7, 32 * 1024),
        made(b"special/past-the-border".to_vec(), 8, 32 * 1024 + 1),
        made(b"special/large".to_vec(), 9, large_bytes),
    ];
    files.extend((0..4).map(|n| made(format!("special/empty-{n}").into_bytes(), 10 + n, 0)));
    files
}

fn walk(dir: &Path, below: &mut Vec<u8>, found: &mut Vec<Original>) -> Result<()> {
    let Ok(entries) = fs::read_dir(dir) else {
        return Ok(()); // a folder of the machine that we may not read is no loss
    };
    for entry in entries {
        let entry = entry.with_context(|| format!("cannot list {}", dir.display()))?;
        let kind = entry.file_type()?;
        let depth = below.len();
        let name: &OsStr = &entry.file_name();
        below.extend_from_slice(name.as_bytes());
        if kind.is_dir() {
            below.push(b'/');
            walk(&entry.path(), below, found)?;
        } else if kind.is_file() {
            let bytes = entry.metadata()?.len();
            if bytes <= BYTES_MAX && fs::File::open(entry.path()).is_ok() {
                let body = Body::Disk { path: entry.path(), bytes };
                found.push(Original { path: below.clone(), body });
            }
        }
        below.truncate(depth);
    }
    Ok(())
}

/// The unpacked package: from the temporary folder, else fetched there.
fn debian_source() -> Result<PathBuf> {
    let kept = std::env::temp_dir().join("cairn-accept-source");
    let unpacked = kept.join("unpacked");
    if !unpacked.is_dir() {
        fs::create_dir_all(&kept)?;
        let work = tempfile::Builder::new().prefix("fetch-").tempdir_in(&kept)?;
        fetch(work.path())?;
        let fresh = work.path().join("unpacked");
        fs::create_dir(&fresh)?;
        let archive = fs::read_dir(work.path())?
            .filter_map(|entry| Some(entry.ok()?.path()))
            .find(|path| path.to_string_lossy().contains(".orig.tar"))
            .context("the package has no .orig.tar")?;
        let mut tar = Command::new("tar");
        tar.args(["--extract", "--strip-components=1", "--directory"]).arg(&fresh);
        tar.arg("--file").arg(archive);
        run_within(tar, FETCH_LIMIT)?.succeeded("tar")?;
        // Another run may have been faster; its tree is as good.
        if let Err(error) = fs::rename(&fresh, &unpacked) {
            anyhow::ensure!(unpacked.is_dir(), "cannot keep the unpacked package: {error}");
        }
    }
    Ok(unpacked)
}

/// Where this machine has the main part of its release from: address, release and component, as a
/// line of sources.list has them. Updates (`bookworm-security`) hold only some packages.
fn origin() -> Result<String> {
    let mut targets = Command::new("apt-get");
    targets.args(["indextargets", "--format", "$(REPO_URI) $(RELEASE) $(COMPONENT)"]);
    targets.arg("Created-By: Packages");
    let found = run_within(targets, FETCH_LIMIT)?.succeeded("apt-get indextargets")?;
    let main_part = |line: &&str| {
        let words: Vec<&str> = line.split_whitespace().collect();
        matches!(words[..], [_, release, "main"] if !release.contains('-'))
    };
    let line = found.lines().find(main_part).map(str::to_owned);
    line.context("apt has no package list of a whole release: run apt-get update")
}

/// Downloads the package's files into `work`, by an apt that knows only this.
fn fetch(work: &Path) -> Result<()> {
    let list = work.join("sources.list");
    fs::write(&list, format!("deb-src {}\n", origin()?))?;
    for folder in ["lists/partial", "cache/archives/partial", "etc"] {
        fs::create_dir_all(work.join(folder))?;
    }
    for action in [&["update"][..], &["source", "--download-only", PACKAGE]] {
        let mut apt = Command::new("apt-get");
        apt.current_dir(work).env("DEBIAN_FRONTEND", "noninteractive");
        let mut option = |key: &str, value: &Path| {
            apt.arg("-o").arg(format!("{key}={}", value.display()));
        };
        option("Dir::Etc::sourcelist", &list);
        option("Dir::Etc::sourceparts", Path::new("/dev/null"));
        option("Dir::State::lists", &work.join("lists"));
        option("Dir::Cache", &work.join("cache"));
        // Without it apt would hand the work to a user who cannot enter our folder.
        apt.args(["-o", "APT::Sandbox::User=root", "--quiet=2"]).args(action);
        run_within(apt, FETCH_LIMIT)?.succeeded("apt-get")?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_special_files_hold_the_extremes() {
        let files = special(1 << 20);
        let longest = |file: &Original| {
            file.path.split(|byte| *byte == b'/').map(<[u8]>::len).max().unwrap_or(0)
        };
        assert!(files.iter().any(|file| longest(file) == 255));
        assert!(files.iter().all(|file| longest(file) <= 255));
        assert!(files.iter().any(|file| file.body.bytes() == 0));
        assert!(files.iter().any(|file| file.body.bytes() == 1 << 20));
        let levels = |file: &Original| file.path.iter().filter(|byte| **byte == b'/').count();
        assert!(files.iter().any(|file| levels(file) == DEEP_LEVELS));
    }

    #[test]
    fn a_small_tree_is_made_up_to_the_count_without_doubling_a_path() {
        let dir = tempfile::tempdir().expect("a temporary folder");
        fs::create_dir(dir.path().join("sub")).expect("can make a folder");
        for name in ["a", "sub/b", "sub/c"] {
            fs::write(dir.path().join(name), name).expect("can write");
        }
        let files = gather(Some(dir.path()), 30, 1 << 16).expect("gathers");
        assert_eq!(files.len(), 30);
        let mut paths: Vec<_> = files.iter().map(|file| file.path.clone()).collect();
        paths.sort();
        paths.dedup();
        assert_eq!(paths.len(), 30);
    }

    #[test]
    fn made_bytes_are_the_same_each_time() {
        let body = Body::Made { number: 7, bytes: 5_000 };
        assert_eq!(body.load().expect("made"), body.load().expect("made"));
        assert_ne!(body.load().expect("made"), vec![0; 5_000]);
    }
}
