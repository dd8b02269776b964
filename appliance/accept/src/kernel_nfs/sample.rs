//! A generated tree of 300 objects with all that copying gets wrong: odd names, hard links within
//! and across folders, symbolic links that lead nowhere, modes up to 07777, owners, times with
//! nanoseconds and far from now, empty files, files with holes, folders that may not be written.

use anyhow::{Context, Result};
use fastrand::Rng;
use std::ffi::{OsStr, OsString};
use std::fs::{File, Permissions};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, PermissionsExt, chown, lchown, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, SystemTime};

pub const OBJECTS: usize = 300;
const FOLDERS: usize = 24;
const SYMBOLIC_LINKS: usize = 30;
const HARD_LINKS: usize = 26;

/// Names that shells, encodings and programs stumble over. The longest Linux allows is added to it.
pub const ODD_NAMES: &[&[u8]] = &[
    b"two words",
    b" leading and trailing ",
    b"new\nline",
    b"tab\there",
    b"-rf",
    b"--",
    b"*",
    b"?[a-z]",
    b"'single' \"double\"",
    b"back\\slash",
    b"$(command) `command` %s",
    b"...",
    b".hidden",
    b"~",
    b"#",
    b"\x01\x7f",
    b"\xff\xfe not UTF-8 \xc3",
    "\u{e9} composed".as_bytes(),
    "e\u{301} decomposed".as_bytes(),
    "\u{6f22}\u{5b57}\u{1f5c3}".as_bytes(),
];

pub fn longest_name() -> OsString {
    OsStr::from_bytes(&[b'x'; 255]).to_owned()
}

/// Fills an empty folder.
pub fn generate(root: &Path, seed: u64) -> Result<()> {
    let mut rng = Rng::with_seed(seed);
    let folders = make_folders(root, &mut rng)?;
    let mut files = Vec::new();
    let mut odd: Vec<OsString> =
        ODD_NAMES.iter().map(|name| OsStr::from_bytes(name).into()).collect();
    odd.push(longest_name());
    for number in 0..OBJECTS - FOLDERS - SYMBOLIC_LINKS - HARD_LINKS {
        let folder = &folders[rng.usize(..folders.len())];
        let name = odd.get(number).cloned().unwrap_or_else(|| format!("file-{number}").into());
        let path = folder.join(name);
        make_file(&path, number, &mut rng).with_context(|| format!("cannot make {path:?}"))?;
        files.push(path);
    }
    for number in 0..HARD_LINKS {
        let folder = &folders[rng.usize(..folders.len())];
        let old = &files[rng.usize(..files.len() / 4)]; // so that some have several
        std::fs::hard_link(old, folder.join(format!("hard-{number}")))?;
    }
    make_symbolic_links(&folders, &mut rng)?;
    // Last, and inner ones first: making something inside changes a folder's times.
    for folder in folders.iter().rev() {
        let modes = [0o755, 0o700, 0o555, 0o1777, 0o2755, 0o000];
        let owner = rng.u32(..3) * 1_000;
        chown(folder, Some(owner), Some(owner))?;
        std::fs::set_permissions(folder, Permissions::from_mode(modes[rng.usize(..modes.len())]))?;
        File::open(folder)?.set_modified(some_time(&mut rng))?;
    }
    Ok(())
}

/// Parents come before what is inside them.
fn make_folders(root: &Path, rng: &mut Rng) -> Result<Vec<PathBuf>> {
    let mut folders = vec![root.to_owned()];
    for number in 0..FOLDERS {
        let parent = &folders[rng.usize(..folders.len())];
        let odd = ODD_NAMES.get(number / 2).filter(|_| number % 2 == 0);
        let name = odd.map_or_else(
            || OsString::from(format!("folder-{number}")),
            |name| OsStr::from_bytes(&[name, b" (folder)".as_slice()].concat()).to_owned(),
        );
        let path = parent.join(name);
        std::fs::create_dir(&path).with_context(|| format!("cannot make {path:?}"))?;
        folders.push(path);
    }
    Ok(folders)
}

fn make_file(path: &Path, number: usize, rng: &mut Rng) -> Result<()> {
    let file = File::create(path)?;
    match number % 10 {
        0 => {}
        1 => {
            // A hole, a piece, and a hole at the end.
            let piece: Vec<u8> = (0..5_000).map(|_| rng.u8(..)).collect();
            file.write_all_at(&piece, 100_003)?;
            file.set_len(300_001)?;
        }
        2 => {
            let large: Vec<u8> = (0..250_000).map(|_| rng.u8(..)).collect();
            file.write_all_at(&large, 0)?;
        }
        _ => {
            let bytes: Vec<u8> = (0..rng.usize(1..20_000)).map(|_| rng.u8(..)).collect();
            file.write_all_at(&bytes, 0)?;
        }
    }
    let owner = rng.u32(..3) * 1_000;
    chown(path, Some(owner), Some(owner + rng.u32(..2)))?;
    // After the owner: changing that takes the set-id bits away.
    let modes = [0o644, 0o600, 0o755, 0o444, 0o000, 0o4755, 0o2755, 0o6711, 0o1644, 0o7777];
    file.set_permissions(Permissions::from_mode(modes[rng.usize(..modes.len())]))?;
    file.set_modified(some_time(rng))?;
    Ok(())
}

fn make_symbolic_links(folders: &[PathBuf], rng: &mut Rng) -> Result<()> {
    let long = format!("{}end", "far/".repeat(250));
    let targets = ["file-30", "..", "/", "no such thing", "new\nline", "../*", long.as_str()];
    let mut made = Vec::new();
    for number in 0..SYMBOLIC_LINKS {
        let path = folders[rng.usize(..folders.len())].join(format!("link-{number}"));
        symlink(targets[number % targets.len()], &path)?;
        lchown(&path, Some(rng.u32(..3)), Some(rng.u32(..3)))?;
        made.push(path);
    }
    let mut touch = Command::new("touch");
    touch
        .args(["--no-dereference", "--date", "2003-04-05 06:07:08.123456789 UTC", "--"])
        .args(&made);
    let status = touch.status().context("cannot start touch")?;
    anyhow::ensure!(status.success(), "touch ended with {status}");
    Ok(())
}

/// Between 1970 and 2105, the years an NFSv3 time has (RFC 1813 section 2.5).
fn some_time(rng: &mut Rng) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::new(rng.u64(..4_260_000_000), rng.u32(..1_000_000_000))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn odd_names_are_names() {
        for name in ODD_NAMES {
            assert!(!name.is_empty() && !name.contains(&b'/') && !name.contains(&0), "{name:?}");
        }
    }
}
