//! A pool that is full: it says so, keeps what it has, deletes, and takes new files again.

use super::refused;
use cairn_accept::nfs3_types::nfs3::*;
use cairn_accept::{Client, Served, eventually};
use rustix::process::{Pid, Resource, Rlimit, prlimit};
use std::time::Duration;

const CHUNK: usize = 64 << 10;
const CHUNKS_A_FILE: u64 = 64;
/// More than the pool could ever hold.
const FILES_MAX: usize = 1_000;

/// Fills the pool from one directory; answers the files that were written whole.
fn fill(client: &mut Client, dir: &nfs_fh3) -> Vec<(String, nfs_fh3, u8)> {
    let mut whole = Vec::new();
    for number in 0..FILES_MAX {
        let name = format!("file-{number}");
        let letter = u8::try_from(number % 251).expect("below 251");
        match write_file(client, dir, &name, letter) {
            Ok(handle) => whole.push((name, handle, letter)),
            Err(fault) => {
                refused::<()>(Err(fault), &[nfsstat3::NFS3ERR_NOSPC]);
                return whole;
            }
        }
    }
    panic!("{FILES_MAX} files of 4 MiB fit into a pool of 256 MiB");
}

fn write_file(
    client: &mut Client,
    dir: &nfs_fh3,
    name: &str,
    letter: u8,
) -> cairn_accept::Answer<nfs_fh3> {
    let how = createhow3::GUARDED(sattr3::default());
    let file = client.create(dir, name.as_bytes(), how)?.handle;
    let bytes = vec![letter; CHUNK];
    for chunk in 0..CHUNKS_A_FILE {
        let mut written = 0;
        while written < CHUNK {
            let offset = chunk * CHUNK as u64 + written as u64;
            let part = client.write(&file, offset, &bytes[written..], stable_how::UNSTABLE)?;
            written += part.count as usize;
        }
    }
    client.commit(&file, 0, 0)?;
    Ok(file)
}

fn read_back(client: &mut Client, files: &[(String, nfs_fh3, u8)], when: &str) {
    for (name, handle, letter) in files {
        let part = client.read(handle, 0, 4096).expect(when);
        assert!(part.data.iter().all(|byte| byte == letter), "{name} differs: {when}");
    }
}

#[test]
fn a_full_pool_deletes_and_takes_new_files_from_elsewhere() {
    let test = "disk_full";
    let Some(mut served) = Served::start_with(test, |setup| setup.size = "256M") else { return };
    if served.is_foreign() {
        return; // its disk is not ours to fill
    }
    let mut client = served.connect();
    let root = client.root().clone();
    let mkdir = |client: &mut Client, name: &[u8]| {
        client.mkdir(&root, name, sattr3::default()).expect("mkdir").handle
    };
    let (one, two) = (mkdir(&mut client, b"one"), mkdir(&mut client, b"two"));

    let first = fill(&mut client, &one);
    assert!(first.len() >= 10, "only {} files of 4 MiB fit into 256 MiB", first.len());
    // What is there can be read, and what is open can be asked for.
    read_back(&mut client, &first, "read on a full pool");
    client.fsstat().expect("fsstat on a full pool");

    let listed: Vec<_> = cairn_names(&mut client, &one);
    for name in &listed {
        if let Err(fault) = client.remove(&one, name) {
            panic!("a delete on a full pool: {fault}{}", served.last_words());
        }
    }
    // Freed blocks come back when the records that dropped them are durable and applied.
    let mut second = Vec::new();
    let refilled = eventually(Duration::from_secs(60), || {
        for name in cairn_names(&mut client, &two) {
            client.remove(&two, &name).expect("remove");
        }
        second = fill(&mut client, &two);
        (second.len() * 10 >= first.len() * 8).then_some(())
    });
    let (had, has) = (first.len(), second.len());
    assert!(refilled.is_some(), "{had} files fitted, after deleting all of them only {has}");

    let daemon = served.daemon(test).expect("ours");
    daemon.kill().expect("kill");
    daemon.restart().expect("a full pool opens");
    let mut client = served.connect();
    read_back(&mut client, &second, "read after the kill");
    for name in cairn_names(&mut client, &two) {
        client.remove(&two, &name).expect("a delete on a full pool, after a kill");
    }
    let daemon = served.daemon(test).expect("ours");
    daemon.stop_and_check().expect("nothing found");
}

fn cairn_names(client: &mut Client, dir: &nfs_fh3) -> Vec<Vec<u8>> {
    let mut names = Vec::new();
    let mut position = (0, cookieverf3::default());
    loop {
        let page = client.readdir(dir, position, 8192).expect("readdir");
        position.1 = page.cookieverf;
        for entry in page.reply.entries.into_inner() {
            position.0 = entry.cookie;
            names.push(entry.name.as_ref().to_vec());
        }
        if page.reply.eof {
            names.retain(|name| name != b"." && name != b"..");
            return names;
        }
    }
}

/// As on a full file system below a sparse pool file, without one: writes fail, and the kernel would
/// send SIGXFSZ as well.
#[test]
fn a_pool_file_that_may_not_grow_is_a_full_disk_to_clients_and_no_end() {
    let test = "file_may_not_grow";
    let Some(mut served) = Served::start_with(test, |setup| setup.size = "1G") else { return };
    if served.is_foreign() {
        return; // its process is not ours to limit
    }
    let daemon = served.daemon(test).expect("ours");
    let pid = i32::try_from(daemon.pid()).ok().and_then(Pid::from_raw);
    let limit = Rlimit { current: Some(300 << 20), maximum: Some(300 << 20) };
    prlimit(pid, Resource::Fsize, limit).expect("a limit may be lowered");
    let mut client = served.connect();
    let root = client.root().clone();
    let written = fill(&mut client, &root);
    assert!(written.len() >= 10, "only {} files of 4 MiB fit into 300 MiB", written.len());
    read_back(&mut client, &written, "what was committed can be read");
    let last = format!("file-{}", written.len());
    client.remove(&root, last.as_bytes()).expect("a delete needs no room in the file");
    let daemon = served.daemon(test).expect("ours");
    daemon.stop_and_check().expect("nothing found");
}
