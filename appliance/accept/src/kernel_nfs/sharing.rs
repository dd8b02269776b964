//! Two mounts of one daemon, as two machines would have them.
//!
//! NFSv3 clients keep what they read and promise each other one thing: who opens a file after
//! another closed it sees what that one wrote. It rests on the server's attributes: on the time of
//! change moving with each change, however soon they follow each other.

use super::mount::KernelMount;
use super::world::World;
use anyhow::{Context, Result, ensure};
use std::fs::OpenOptions;
use std::io::ErrorKind;
use std::path::Path;

pub fn two_mounts(world: &mut World) -> Result<String> {
    let home = world.home("two-mounts")?;
    // Not sharing the first one's caches; and names always asked for, which an ordinary mount
    // leaves out for seconds by design.
    let second = world.beside("second");
    let mut other =
        KernelMount::attach(&second, world.port(), ",nosharecache,lookupcache=none,acdirmax=0")?;
    let there = second.join("two-mounts");
    let turns = world.amount(20, 200);
    for turn in 0..turns {
        close_to_open(&home, &there, turn).with_context(|| format!("turn {turn}"))?;
        names(&home, &there, turn).with_context(|| format!("turn {turn}"))?;
        exclusive(&home, &there, turn).with_context(|| format!("turn {turn}"))?;
    }
    other.unmount()?;
    Ok(format!("{turns} turns of open after close, rename and exclusive create"))
}

/// Written there, read here, and the other way round; each time another size, or the same one.
fn close_to_open(one: &Path, other: &Path, turn: usize) -> Result<()> {
    let (from, to) = if turn.is_multiple_of(2) { (one, other) } else { (other, one) };
    let size = [1, 4_096, 70_000, 4_096][turn % 4];
    let text = format!("{turn} ").repeat(size)[..size].to_owned();
    std::fs::write(from.join("shared"), &text)?;
    let found = std::fs::read_to_string(to.join("shared"))?;
    ensure!(
        found == text,
        "{} bytes read after {} were written and closed",
        found.len(),
        text.len()
    );
    Ok(())
}

/// A rename on the first is seen by the second.
fn names(one: &Path, other: &Path, turn: usize) -> Result<()> {
    let (old, new) = (format!("old-{turn}"), format!("new-{turn}"));
    std::fs::write(one.join(&old), &old)?;
    ensure!(std::fs::read_to_string(other.join(&old))? == old, "a new file has other bytes there");
    std::fs::rename(one.join(&old), one.join(&new))?;
    ensure!(!other.join(&old).exists(), "{old} is still there after its rename");
    ensure!(std::fs::read_to_string(other.join(&new))? == old, "the renamed file has other bytes");
    Ok(())
}

/// Of two exclusive creates exactly one makes the file.
fn exclusive(one: &Path, other: &Path, turn: usize) -> Result<()> {
    let name = format!("exclusive-{turn}");
    let create = |folder: &Path| {
        OpenOptions::new().write(true).create_new(true).open(folder.join(&name)).map(drop)
    };
    let outcomes = std::thread::scope(|scope| {
        let here = scope.spawn(|| create(one));
        let there = scope.spawn(|| create(other));
        [here.join(), there.join()].map(|outcome| outcome.expect("create does not panic"))
    });
    let made = outcomes.iter().filter(|outcome| outcome.is_ok()).count();
    let told = outcomes.iter().filter_map(|outcome| outcome.as_ref().err());
    let refused = told.filter(|error| error.kind() == ErrorKind::AlreadyExists).count();
    ensure!(made == 1 && refused == 1, "two exclusive creates ended with {outcomes:?}");
    Ok(())
}
