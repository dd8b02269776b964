//! Copying a tree in with the programs people use, and finding it again.

use super::compare::equal_trees;
use super::sample;
use super::world::{World, drop_caches, tool};
use anyhow::{Result, ensure};
use std::path::{Path, PathBuf};

/// The sample on the local disk and its copy by `cp -a` on the mount; made by whoever asks first.
fn copied(world: &World) -> Result<(PathBuf, PathBuf)> {
    let (local, mounted) = (world.beside("local/copy/tree"), world.mount.path().join("copy/tree"));
    if !local.exists() {
        std::fs::create_dir(world.local("copy")?.join("tree"))?;
        sample::generate(&local, world.seed)?;
        let home = world.home("copy")?;
        tool("cp", &["-a".as_ref(), local.as_os_str(), ".".as_ref()], &home)?;
    }
    Ok((local, mounted))
}

pub fn copy(world: &mut World) -> Result<String> {
    let (local, mounted) = copied(world)?;
    let fresh = same(&local, &mounted)?;
    drop_caches()?;
    equal_trees(&local, &mounted)?;
    ensure!(fresh == sample::OBJECTS, "the sample has {fresh} objects");
    Ok(format!("cp -a of {fresh} objects, compared with and without the client's caches"))
}

fn same(local: &Path, mounted: &Path) -> Result<usize> {
    let sides = [local.as_os_str(), mounted.as_os_str()];
    tool(
        "diff",
        &[&["-r".as_ref(), "--no-dereference".as_ref()], &sides[..]].concat(),
        Path::new("/"),
    )?;
    equal_trees(local, mounted)
}

/// Packed here and unpacked there, and packed there and unpacked here.
pub fn untar(world: &mut World) -> Result<String> {
    let (local, _) = copied(world)?;
    let (home, back) = (world.home("untar")?, world.local("untar")?);
    let pack = |from: &Path, to: &Path| {
        let words = ["--format=posix".as_ref(), "-cf".as_ref(), to.as_os_str(), ".".as_ref()];
        tool("tar", &words, from)
    };
    let unpack = |from: &Path, to: &Path| tool("tar", &["-xpf".as_ref(), from.as_os_str()], to);
    let archive = world.beside("local/untar/there.tar");
    pack(&local, &archive)?;
    unpack(&archive, &home)?;
    let count = equal_trees(&local, &home)?;
    drop_caches()?;
    if world.slice {
        equal_trees(&local, &home)?;
        return Ok(format!("{count} objects"));
    }
    let returned = back.join("returned");
    std::fs::create_dir(&returned)?;
    pack(&home, &home.join("../untar.tar"))?;
    unpack(&home.join("../untar.tar"), &returned)?;
    equal_trees(&local, &returned)?;
    Ok(format!("{count} objects, there and back"))
}

/// rsync writes to temporary names and renames; a second run must find nothing to do.
pub fn rsync(world: &mut World) -> Result<String> {
    let (local, _) = copied(world)?;
    let home = world.home("rsync")?;
    let mut from = local.as_os_str().to_owned();
    from.push("/");
    tool("rsync", &["-aH".as_ref(), from.as_os_str(), home.as_os_str()], &home)?;
    let count = equal_trees(&local, &home)?;
    drop_caches()?;
    let words = ["-aHcni".as_ref(), "--delete".as_ref(), from.as_os_str(), home.as_os_str()];
    let left = tool("rsync", &words, &home)?;
    ensure!(left.trim().is_empty(), "a second rsync would still change:\n{left}");
    Ok(format!("{count} objects, and a second run changes nothing"))
}

/// Unmounted and mounted again, after the daemon was killed: the copies are still equal.
pub fn remount(world: &mut World) -> Result<String> {
    let (local, mounted) = copied(world)?;
    if !world.slice {
        world.mount.again()?;
        same(&local, &mounted)?;
    }
    world.mount.unmount()?;
    world.daemon.kill()?;
    world.daemon.restart()?;
    world.mount.mount()?;
    let count = equal_trees(&local, &mounted)?;
    Ok(format!("{count} objects after the daemon was killed between unmount and mount"))
}
