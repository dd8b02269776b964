//! `cairn scrub`: bytes of a pool rot behind the daemon's back, and the scrub names the files.
//!
//! What clients see is as important as what the operator does: a rotten file is EIO where it is rotten,
//! and everything else goes on as if nothing had happened. The scrub is killed in the middle, and goes on.

use cairn_accept::nfs3_types::nfs3::*;
use cairn_accept::{
    Answer, Client, Cred, Daemon, Fault, Finished, Setup, binary, cairn, eventually, finish, skip,
};
use serde_json::Value;
use std::collections::BTreeSet;
use std::fs::OpenOptions;
use std::os::unix::fs::FileExt;
use std::time::Duration;
use tempfile::TempDir;

const BLOCK: usize = 4096;
const FILES: usize = 48;
const BYTES: usize = 150_000;
const LIMIT: Duration = Duration::from_secs(60);

struct Pool {
    daemon: Daemon,
    _dir: TempDir,
}

fn name(number: usize) -> String {
    format!("file-{number}")
}

/// The content of a file; its block 20 begins with what no other file has.
fn content(number: usize) -> Vec<u8> {
    let mut bytes: Vec<u8> = (0..BYTES).map(|at| (at / 11 + number * 7) as u8).collect();
    let mark = mark(number);
    bytes[20 * BLOCK..20 * BLOCK + mark.len()].copy_from_slice(mark.as_bytes());
    bytes
}

fn mark(number: usize) -> String {
    format!("<the mark of file {number:04} and of no other>")
}

fn write_all(client: &mut Client, name: &str, bytes: &[u8]) -> Answer<()> {
    let root = client.root().clone();
    let how = createhow3::UNCHECKED(sattr3::default());
    let file = client.create(&root, name.as_bytes(), how)?.handle;
    let mut at = 0;
    while at < bytes.len() {
        let part = client.write(&file, at as u64, &bytes[at..], stable_how::UNSTABLE)?;
        at += part.count as usize;
    }
    client.commit(&file, 0, 0).map(drop)
}

fn read_all(client: &mut Client, name: &str) -> Answer<Vec<u8>> {
    let root = client.root().clone();
    let file = client.lookup(&root, name.as_bytes())?.handle;
    let mut bytes = Vec::new();
    loop {
        let part = client.read(&file, bytes.len() as u64, 64 << 10)?;
        bytes.extend_from_slice(part.data.as_ref());
        if part.eof {
            return Ok(bytes);
        }
    }
}

impl Pool {
    fn start(test: &str) -> Option<Pool> {
        if binary().is_none() {
            skip(test, "the cairn binary");
            return None;
        }
        let dir = tempfile::tempdir().expect("a temporary folder");
        let mut setup = Setup::new(&dir.path().join("pool")).expect("a port");
        setup.size = "256M";
        setup.shards = 2;
        let mut pool = Pool { daemon: Daemon::start(setup).expect("serves"), _dir: dir };
        let mut client = pool.connect();
        for number in 0..FILES {
            write_all(&mut client, &name(number), &content(number)).expect("written");
        }
        pool.stop();
        Some(pool)
    }

    fn stop(&mut self) {
        assert!(self.daemon.stop().expect("stops").success(), "{}", self.daemon.last_words());
    }

    fn connect(&self) -> Client {
        Client::connect(&self.daemon.address(), &Cred::ROOT).expect("mounts")
    }

    fn scrub(&self, arguments: &[&str]) -> Finished {
        self.daemon.command(&[&["scrub"], arguments].concat()).expect("ends by itself")
    }

    /// Paths and the pass of a scrub's records.
    fn found(&self, finished: &Finished) -> (BTreeSet<String>, BTreeSet<u64>) {
        let records = finished.stdout.lines().map(|line| {
            let record: Value = serde_json::from_str(line).expect("a record");
            let text = |key: &str| record[key].as_str().map(str::to_owned);
            assert_eq!(text("kind").as_deref(), Some("data"), "{record}");
            assert_eq!(record["offset"].as_u64(), Some(20 * BLOCK as u64), "{record}");
            (text("path").expect("a path"), record["pass"].as_u64().expect("a pass"))
        });
        records.unzip()
    }

    fn progress(&self) -> Value {
        let status = self.scrub(&["--status", "--json"]);
        let line = status.stdout.lines().next().unwrap_or_default().to_owned();
        serde_json::from_str(&line).unwrap_or_else(|_| panic!("{status:?}"))
    }

    /// Flips a bit of the marked block of each of these files; nobody serves the pool.
    fn rot(&self, numbers: &[usize]) {
        let path = self.daemon.dir().join("pool");
        let file = OpenOptions::new().read(true).write(true).open(path).expect("the pool's file");
        let blocks = file.metadata().expect("metadata").len() as usize / BLOCK;
        let (mut block, mut hits) = (vec![0; BLOCK], 0);
        for at in (0..blocks).map(|number| (number * BLOCK) as u64) {
            file.read_exact_at(&mut block, at).expect("read");
            if numbers.iter().any(|number| block.starts_with(mark(*number).as_bytes())) {
                file.write_all_at(&[block[100] ^ 1], at + 100).expect("write");
                hits += 1;
            }
        }
        file.sync_all().expect("sync");
        assert_eq!(hits, numbers.len(), "each mark is once in the pool's file");
    }
}

#[test]
fn a_scrub_names_exactly_the_rotten_files_and_goes_on_when_it_was_killed() {
    let Some(mut pool) = Pool::start("scrub_rotten_files") else { return };
    let rotten = [3, 17, 18, 40, 47];
    let paths: BTreeSet<String> =
        rotten.iter().map(|number| format!("/{}", name(*number))).collect();
    pool.rot(&rotten);
    pool.daemon.restart().expect("serves again");
    let mut client = pool.connect();
    for number in 0..FILES {
        let read = read_all(&mut client, &name(number));
        if rotten.contains(&number) {
            let told = read.expect_err("never the wrong bytes");
            assert!(matches!(told, Fault::Status(nfsstat3::NFS3ERR_IO)), "{number}: {told:?}");
        } else {
            assert!(read.expect("it is sound") == content(number), "file {number} differs");
        }
    }
    write_all(&mut client, "new", &content(1000)).expect("writes go on");

    // About 8 MB: so slow that it is killed in the middle.
    let begun = pool.scrub(&["--rate", "500K", "--background"]);
    assert_eq!(begun.status.code(), Some(0), "{begun:?}");
    let reads = || {
        let progress = pool.progress();
        (progress["data_blocks"].as_u64() > Some(100)).then_some(progress)
    };
    let before = eventually(LIMIT, reads).expect("it reads");
    assert_eq!(before["state"], "running", "{before}");
    pool.daemon.kill().expect("killed");
    pool.daemon.restart().expect("serves again");
    let after = pool.progress();
    assert_eq!((&after["state"], &after["pass"]), (&before["state"], &before["pass"]), "{after}");
    let ended = pool.scrub(&["--rate", "0", "--json"]);
    assert_eq!(ended.status.code(), Some(1), "{ended:?}");
    assert!(ended.stderr.contains(": 5 findings"), "{}", ended.stderr);
    let (found, passes) = pool.found(&ended);
    assert_eq!(found, paths, "{}", ended.stdout);
    assert_eq!(passes.into_iter().collect::<Vec<_>>(), [before["pass"].as_u64().expect("a pass")]);
    let status =
        pool.daemon.command(&["status"]).expect("answers").succeeded("status").expect("ok");
    assert!(status.starts_with("health damaged"), "{status}");
    assert!(
        status.lines().any(|line| line.starts_with("scrub idle") && line.ends_with("damaged 5"))
    );

    // A file that is removed is off the list at once, and a restart forgets none of the others.
    let mut client = pool.connect();
    let root = client.root().clone();
    client.remove(&root, name(3).as_bytes()).expect("removed");
    pool.stop();
    pool.daemon.restart().expect("serves again");
    let status = pool.scrub(&["--status"]);
    assert_eq!(status.status.code(), Some(1), "{status:?}");
    for path in &paths {
        let is_listed =
            status.stdout.contains(&format!("data: {path}, bytes 81920 to 86015: block 0:"));
        assert_eq!(is_listed, path != "/file-3", "{}", status.stdout);
    }
    let mut client = pool.connect();
    for number in &rotten[1..] {
        client.remove(&root, name(*number).as_bytes()).expect("removed");
    }
    let clean = pool.scrub(&[]);
    assert_eq!(clean.status.code(), Some(0), "{clean:?}");
    assert!(clean.stdout.is_empty() && clean.stderr.contains(": 0 findings"), "{clean:?}");
    assert!(read_all(&mut client, "new").expect("it is sound") == content(1000));
    pool.stop();
    let mut check = cairn(&["check", "--data", "--dir"]).expect("cairn");
    check.arg(pool.daemon.dir());
    let checked = finish(check).expect("ends by itself");
    assert_eq!(checked.status.code(), Some(0), "{checked:?}");
}

#[test]
fn a_paused_scrub_is_told_so_and_a_second_start_goes_on() {
    let Some(mut pool) = Pool::start("scrub_paused") else { return };
    pool.daemon.restart().expect("serves again");
    let begun = pool.scrub(&["--rate", "100K", "--background", "--json"]);
    let pass = |finished: &Finished| -> Value {
        let record: Value = serde_json::from_str(finished.stdout.trim()).expect("one record");
        record["pass"].clone()
    };
    assert!(pass(&begun).as_u64() > Some(0), "{begun:?}");
    let paused = pool.scrub(&["--pause", "--json"]);
    assert_eq!(pass(&paused), pass(&begun));
    assert!(paused.stdout.contains("\"state\":\"paused\""), "{paused:?}");
    pool.stop();
    pool.daemon.restart().expect("serves again");
    assert_eq!(pool.progress()["state"], "paused");
    let ended = pool.scrub(&["--rate", "0"]);
    assert_eq!(ended.status.code(), Some(0), "{ended:?}");
    assert_eq!(&pool.progress()["pass"], &pass(&begun), "it was the same pass");
    let wrong = pool.scrub(&["--pause", "--rate", "5M"]);
    assert_eq!(wrong.status.code(), Some(2), "{wrong:?}");
}

#[test]
fn a_scrub_without_a_daemon_could_not_run() {
    if binary().is_none() {
        return skip("scrub_no_daemon", "the cairn binary");
    }
    let dir = tempfile::tempdir().expect("a temporary folder");
    let mut scrub = cairn(&["scrub", "--socket"]).expect("cairn");
    scrub.arg(dir.path().join("nobody.sock"));
    let finished = finish(scrub).expect("ends by itself");
    assert_eq!(finished.status.code(), Some(2), "{finished:?}");
    assert!(finished.stderr.contains("(ENOENT)"), "{}", finished.stderr);
}
