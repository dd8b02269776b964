//! What becomes of one file: the calls that copy it in, as steps.
//!
//! Beside the plain copy the steps hold what loses files in practice: writing under another name
//! and renaming, over an existing file and across directories (and so across tablets and shards),
//! hard links elsewhere, symlinks, files and directories that are removed again, a whole directory
//! that moves. Which of these a file gets follows from its number, so that a run of 300 has all of
//! them several times.

use super::ledger::{Dress, RemotePath};
use super::source::{Body, Original};

/// Folders at the root, each in a tablet of its own, that renames and links cross into.
const LANES: u64 = 6;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Style {
    /// Each write is durable when answered.
    Synchronous,
    /// Several writes, then a COMMIT.
    Unstable,
    /// Unstable from the end to the start, then one COMMIT.
    Backwards,
}

#[derive(Clone, Debug)]
pub enum Step {
    MakeDirs {
        at: RemotePath,
    },
    /// A new, empty file; the name must be free.
    Create {
        at: RemotePath,
        exclusive: bool,
    },
    Write {
        at: RemotePath,
        body: Body,
        style: Style,
        chunk: usize,
    },
    SetAttributes {
        at: RemotePath,
        dress: Dress,
    },
    /// Over whatever file has the new name.
    Rename {
        from: RemotePath,
        to: RemotePath,
    },
    Link {
        from: RemotePath,
        to: RemotePath,
    },
    Symlink {
        at: RemotePath,
        target: Vec<u8>,
    },
    Remove {
        at: RemotePath,
    },
    RemoveDir {
        at: RemotePath,
    },
}

/// The steps of one file, in order.
pub fn plan(number: u64, original: &Original, below: &str) -> Vec<Step> {
    let target = join(below, &original.path);
    let lane = number % LANES;
    let in_lane = |kind: &str, name: &str| RemotePath::of(format!("{kind}-{lane}/{name}{number}"));
    let mut steps = vec![Step::MakeDirs { at: parent(&target) }];

    let by_rename = number.is_multiple_of(3);
    let written = if by_rename { in_lane("incoming", "f") } else { target.clone() };
    if by_rename {
        steps.push(Step::MakeDirs { at: parent(&written) });
    }
    if by_rename && number.is_multiple_of(2) {
        // Something lies where the rename will put it.
        let old = Body::Made { number, bytes: 600 };
        steps.push(Step::Create { at: target.clone(), exclusive: false });
        let (style, chunk) = (Style::Synchronous, 4096);
        steps.push(Step::Write { at: target.clone(), body: old, style, chunk });
    }
    steps.push(Step::Create { at: written.clone(), exclusive: number % 4 == 1 });
    let body = original.body.clone();
    let (style, chunk) = (style_of(number), chunk_of(number, body.bytes()));
    steps.push(Step::Write { at: written.clone(), body, style, chunk });
    if number.is_multiple_of(2) {
        let at = written.clone();
        steps.push(Step::SetAttributes { at, dress: dress_of(number) });
    }
    if by_rename {
        steps.push(Step::Rename { from: written, to: target.clone() });
    }
    if number.is_multiple_of(5) {
        let to = in_lane("links", "l");
        steps.push(Step::MakeDirs { at: parent(&to) });
        steps.push(Step::Link { from: target.clone(), to });
    }
    if number.is_multiple_of(7) {
        let at = in_lane("names", "s");
        let aim = [b"../", target.0.as_slice()].concat();
        steps.push(Step::MakeDirs { at: parent(&at) });
        steps.push(Step::Symlink { at, target: aim });
    }
    if number % 5 == 3 {
        steps.extend(short_lived(in_lane("gone", "g"), number));
    }
    if number % 11 == 4 {
        steps.extend(moving_directory(number));
    }
    steps
}

/// A file that is written, linked and removed again, in a directory that goes too.
fn short_lived(dir: RemotePath, number: u64) -> Vec<Step> {
    let file = RemotePath([dir.0.as_slice(), b"/victim"].concat());
    let other = RemotePath([dir.0.as_slice(), b"/second name"].concat());
    let body = Body::Made { number, bytes: 9_000 };
    vec![
        Step::MakeDirs { at: dir.clone() },
        Step::Create { at: file.clone(), exclusive: false },
        Step::Write { at: file.clone(), body, style: Style::Unstable, chunk: 4096 },
        Step::Link { from: file.clone(), to: other.clone() },
        Step::Remove { at: file },
        Step::Remove { at: other },
        Step::RemoveDir { at: dir },
    ]
}

/// A directory with a file in it that moves to another parent.
fn moving_directory(number: u64) -> Vec<Step> {
    let lane = number % LANES;
    let from = RemotePath::of(format!("incoming-{lane}/d{number}"));
    let to = RemotePath::of(format!("moved-{}/d{number}", (lane + 1) % LANES));
    let file = RemotePath([from.0.as_slice(), b"/inside"].concat());
    let body = Body::Made { number, bytes: 20_000 };
    vec![
        Step::MakeDirs { at: from.clone() },
        Step::MakeDirs { at: parent(&to) },
        Step::Create { at: file.clone(), exclusive: false },
        Step::Write { at: file, body, style: Style::Synchronous, chunk: 8192 },
        Step::Rename { from, to },
    ]
}

fn style_of(number: u64) -> Style {
    match number % 4 {
        0 | 1 => Style::Synchronous,
        2 => Style::Unstable,
        _ => Style::Backwards,
    }
}

/// Aligned and not; large files in pieces that keep the number of calls bearable.
fn chunk_of(number: u64, bytes: u64) -> usize {
    let sizes: &[usize] = match bytes {
        0..=65_536 => &[1_000, 4_096, 5_000, 8_192, 32_768],
        65_537..=1_048_576 => &[8_192, 16_384, 33_333, 65_536],
        _ => &[65_536, 131_072, 100_000],
    };
    sizes[usize::try_from(number).unwrap_or(0) % sizes.len()]
}

fn dress_of(number: u64) -> Dress {
    let mode = [0o644, 0o600, 0o755, 0o444][usize::try_from(number / 2).unwrap_or(0) % 4];
    let spread = u32::try_from(number % 1_000_000).unwrap_or(0);
    Dress { mode, mtime_seconds: 1_000_000_000 + spread, mtime_nanoseconds: spread * 7 + 1 }
}

pub fn parent(path: &RemotePath) -> RemotePath {
    RemotePath(crate::tree::split(&path.0).0.to_vec())
}

fn join(below: &str, path: &[u8]) -> RemotePath {
    RemotePath([below.as_bytes(), b"/", path].concat())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    fn all_steps(files: u64) -> Vec<Step> {
        let original = |number| Original {
            path: format!("dir-{}/file-{number}", number % 9).into_bytes(),
            body: Body::Made { number, bytes: 10_000 },
        };
        (0..files).flat_map(|number| plan(number, &original(number), "src")).collect()
    }

    #[test]
    fn a_small_run_has_every_kind_of_step_several_times() {
        let mut counts = [0; 9];
        for step in all_steps(100) {
            let kind = match step {
                Step::MakeDirs { .. } => 0,
                Step::Create { .. } => 1,
                Step::Write { .. } => 2,
                Step::SetAttributes { .. } => 3,
                Step::Rename { .. } => 4,
                Step::Link { .. } => 5,
                Step::Symlink { .. } => 6,
                Step::Remove { .. } => 7,
                Step::RemoveDir { .. } => 8,
            };
            counts[kind] += 1;
        }
        assert!(counts.iter().all(|count| *count >= 5), "{counts:?}");
    }

    #[test]
    fn no_two_files_use_a_name_at_once() {
        let mut taken = BTreeSet::new();
        for step in all_steps(500) {
            match step {
                Step::Create { at, .. } | Step::Symlink { at, .. } => {
                    assert!(taken.insert(at.clone()), "{at} twice");
                }
                Step::Link { to, .. } => assert!(taken.insert(to.clone()), "{to} twice"),
                Step::Rename { from, .. } => {
                    taken.remove(&from);
                }
                _ => {}
            }
        }
    }
}
