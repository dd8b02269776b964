//! The archive agents: what an operator's scripts do, with the command line and NFS and nothing else.
//!
//! A copy on the tapes is a file `INO-VERSION` with the file's bytes, and beside it their checksum. The file
//! in the pool is marked with the same words in a hidden extended attribute, which comes back with its deletion.

use super::user::Patient;
use super::{AGAIN, CONSUMER, Told, World, count};
use crate::client::Fault;
use crate::clock;
use crate::nfs3_types::nfs3::nfsstat3;
use anyhow::{Context, Result, ensure};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};

const LABEL: &str = "cairn.hide.tape";

fn copy_of(world: &World, label: &str) -> PathBuf {
    world.tapes.join(label)
}

/// Follows the change stream: copies out what is new, marks and releases it, and drops copies of what was removed.
/// `archived` is told when there was nothing left after `written`.
pub fn archive(world: &World, written: &AtomicBool, archived: &AtomicBool) -> Result<()> {
    let mut client = Patient::new(world);
    // Of each inode, the version that was released; it is brought back for readers and not released again.
    let mut released = BTreeMap::new();
    let mut copies = BTreeMap::new();
    while !world.is_over() {
        let is_last = written.load(Ordering::Relaxed);
        let list = world.done(&["changes", "--consumer", CONSUMER, "--json"])?;
        let mut last = None;
        for line in list.lines() {
            let change: Value = serde_json::from_str(line).context("a line of changes")?;
            let number = |key: &str| change[key].as_u64().with_context(|| format!("{key}: {line}"));
            let ino = number("ino")?;
            last = Some(format!("{}.{ino}", number("seq")?));
            match (change["change"].as_str(), change["kind"].as_str()) {
                (Some("deleted"), Some("regular")) => forget(world, &change)?,
                (Some("deleted"), _) | (_, Some("directory")) => {}
                _ => {
                    if let Some(version) =
                        save(world, &mut client, &mut copies, ino, released.get(&ino))?
                    {
                        released.insert(ino, version);
                    }
                }
            }
        }
        match last {
            Some(last) => {
                // Killed in between it is told again, and may have been done: then it is no step forward.
                world.ask(&["changes", "consumer", "ack", CONSUMER, &last])?;
            }
            None if is_last => archived.store(true, Ordering::Relaxed),
            None => {}
        }
        clock::pause(AGAIN);
    }
    Ok(())
}

/// Copies a file out and releases it, unless that is done. The version that was released.
fn save(
    world: &World,
    client: &mut Patient<'_>,
    copies: &mut BTreeMap<u64, String>,
    ino: u64,
    released: Option<&u64>,
) -> Result<Option<u64>> {
    let target = format!("ino:{ino}");
    let stat = match world.ask(&["stat", &target, "--json"])? {
        Told::Done(stat) => serde_json::from_str::<Value>(&stat)?,
        // Removed since: its deletion is in the stream.
        Told::Refused(_) => return Ok(None),
    };
    let number = |key: &str| stat[key].as_u64().with_context(|| format!("{key} of {target}"));
    let (version, online) = (number("data_version")?, number("online_blocks")?);
    if released == Some(&version) || number("size")? == 0 {
        return Ok(None);
    }
    let label = format!("{ino}-{version}");
    let copy = copy_of(world, &label);
    if !copy.exists() {
        ensure!(number("offline_blocks")? == 0, "{label} is offline and on no tape");
        let Some(bytes) = read_out(world, client, ino)? else { return Ok(None) };
        let sum = blake3::hash(&bytes).to_hex();
        // Not a copy before it is whole.
        let partial = world.tapes.join("partial");
        fs::write(&partial, &bytes)?;
        fs::write(copy.with_extension("sum"), sum.as_str())?;
        fs::rename(&partial, &copy)?;
        count(&world.counts.archived);
    }
    match world.ask(&["setfattr", &target, LABEL, &label])? {
        Told::Done(_) => {}
        Told::Refused(_) => return Ok(None),
    }
    // The copy of an older version is of no use any more.
    if let Some(older) = copies.insert(ino, label.clone()).filter(|older| *older != label) {
        drop_copy(world, &older)?;
    }
    if online == 0 {
        return Ok(Some(version));
    }
    match world.ask(&["release", &target, "-V", &version.to_string()])? {
        Told::Done(_) => {
            count(&world.counts.released);
            Ok(Some(version))
        }
        // Written meanwhile: the stream has it again.
        Told::Refused(errno) => {
            ensure!(errno == "ESTALE", "release of {label}: {errno}");
            count(&world.counts.stale);
            Ok(None)
        }
    }
}

/// The bytes of a file by its handle; `None` when it is gone.
fn read_out(world: &World, client: &mut Patient<'_>, ino: u64) -> Result<Option<Vec<u8>>> {
    let Told::Done(path) = world.ask(&["ino-path", &ino.to_string()])? else { return Ok(None) };
    let path = path.trim_end().trim_start_matches('/').to_owned();
    client.until_answered(|tree| {
        let gone = |fault: &Fault| fault.status() == Some(nfsstat3::NFS3ERR_STALE);
        match tree.find(path.as_bytes())? {
            Some(found) if found.attr.fileid == ino => match tree.read_all(&found.handle) {
                Err(fault) if gone(&fault) => Ok(None),
                read => read.map(Some),
            },
            _ => Ok(None),
        }
    })
}

fn drop_copy(world: &World, label: &str) -> Result<()> {
    fs::remove_file(copy_of(world, label))?;
    fs::remove_file(copy_of(world, label).with_extension("sum"))?;
    count(&world.counts.dropped);
    Ok(())
}

/// A file was removed: what was noted of it says which copy to drop.
fn forget(world: &World, change: &Value) -> Result<()> {
    let noted = change["hidden_xattrs"].as_array().into_iter().flatten();
    for label in noted.filter(|noted| noted["name"] == LABEL) {
        let label = label["value"].as_str().context("the label is text")?;
        if copy_of(world, label).exists() {
            drop_copy(world, label)?;
        }
    }
    Ok(())
}

/// Brings back what clients wait for.
pub fn recall(world: &World) -> Result<()> {
    while !world.is_over() {
        let list = world.done(&["data-waiting", "--json"])?;
        let mut inodes = BTreeSet::new();
        for line in list.lines() {
            let waiter: Value = serde_json::from_str(line).context("a line of data-waiting")?;
            inodes.insert(waiter["ino"].as_u64().context("ino")?);
        }
        for ino in inodes {
            stage(world, ino)?;
        }
        clock::pause(AGAIN);
    }
    Ok(())
}

fn stage(world: &World, ino: u64) -> Result<()> {
    let target = format!("ino:{ino}");
    let Told::Done(version) = world.ask(&["stat", &target, "-s", "data_version"])? else {
        return Ok(());
    };
    let version = version.trim();
    let copy = copy_of(world, &format!("{ino}-{version}"));
    let copy = copy.to_str().context("a path in UTF-8")?;
    match fs::read(copy) {
        Ok(bytes) => {
            let sum = fs::read_to_string(PathBuf::from(copy).with_extension("sum"))?;
            ensure!(blake3::hash(&bytes).to_hex().as_str() == sum, "the tape has rotted: {copy}");
        }
        // Another version by now, or removed.
        Err(_) => return Ok(()),
    }
    match world.ask(&["stage", copy, &target, "-V", version])? {
        Told::Done(_) => count(&world.counts.staged),
        Told::Refused(errno) => ensure!(errno == "ESTALE", "stage of {copy}: {errno}"),
    }
    Ok(())
}

fn inode_of(label: &str) -> Option<u64> {
    label.split_once('-')?.0.parse().ok()
}

/// The labels on the tapes.
fn copies(world: &World) -> Result<Vec<String>> {
    let mut labels = Vec::new();
    for entry in fs::read_dir(&world.tapes)? {
        let name = entry?.file_name().into_string().ok().context("a label is text")?;
        if inode_of(&name).is_some() && !name.ends_with(".sum") {
            labels.push(name);
        }
    }
    Ok(labels)
}

/// Of each file there is its last version and nothing else.
pub fn look_at_tapes(world: &World) -> Result<()> {
    for label in copies(world)? {
        let ino = inode_of(&label).context("a label has an inode")?;
        let stat = world.ask(&["stat", &format!("ino:{ino}"), "-s", "data_version"])?;
        let Told::Done(version) = stat else {
            anyhow::bail!("{label} is the copy of a file that was removed");
        };
        ensure!(label == format!("{ino}-{}", version.trim()), "{label} is out of date");
    }
    Ok(())
}
