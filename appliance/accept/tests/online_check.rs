//! `cairn check --socket`: a pool is checked while clients change it, and nobody notices.
//!
//! What a check says of a pool that moves is only worth something if it is silent on a good one and
//! loud on a bad one, so both are here: a load that frees and reuses blocks all the time, with checks
//! one after the other, and bytes flipped in the pool's file behind the daemon's back.

use cairn_accept::nfs3_types::nfs3::*;
use cairn_accept::{
    Answer, Client, Cred, Daemon, Fault, Finished, Setup, binary, cairn, eventually, finish, skip,
};
use std::fs::OpenOptions;
use std::os::unix::fs::FileExt;
use std::process::{Child, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;
use tempfile::TempDir;

const BLOCK: usize = 4096;
const LIMIT: Duration = Duration::from_secs(60);
/// A check of this many takes long enough to be met in the middle.
const FILES: &str = "60000";
const CHECKS: usize = 8;
const NEEDLE: &[u8] = b"a pattern that is nowhere else in this pool";

struct Pool {
    daemon: Daemon,
    _dir: TempDir,
}

impl Pool {
    fn start(test: &str, change: impl FnOnce(&mut Setup)) -> Option<Pool> {
        Pool::start_populated(test, None, change)
    }

    /// `files` are made before the pool is served.
    fn start_populated(
        test: &str,
        files: Option<&str>,
        change: impl FnOnce(&mut Setup),
    ) -> Option<Pool> {
        if binary().is_none() {
            skip(test, "the cairn binary");
            return None;
        }
        let dir = tempfile::tempdir().expect("a temporary folder");
        let mut setup = Setup::new(&dir.path().join("pool")).expect("a port");
        setup.size = "256M";
        change(&mut setup);
        let mut daemon = Daemon::start(setup).expect("serves");
        if let Some(files) = files {
            assert!(daemon.stop().expect("stops").success());
            let mut populate =
                cairn(&["debug-populate", "--files", files, "--dir"]).expect("cairn");
            populate.arg(daemon.dir());
            finish(populate).expect("ends").succeeded("debug-populate").expect("fills");
            daemon.restart().expect("serves again");
        }
        Some(Pool { daemon, _dir: dir })
    }

    fn connect(&self) -> Client {
        Client::connect(&self.daemon.address(), &Cred::ROOT).expect("mounts")
    }

    fn check(&self) -> Finished {
        self.daemon.command(&["check", "--data"]).expect("ends by itself")
    }

    /// Starts a check and does not wait for it.
    fn begin_check(&self) -> Child {
        let mut command = cairn(&["check", "--data", "--socket"]).expect("cairn");
        command.arg(self.daemon.socket());
        command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("runs")
    }

    /// Begins checks until one is seen to be running, and leaves that to the caller.
    fn meet_check(&self) -> (Child, Finished) {
        for _ in 0..20 {
            let mut first = self.begin_check();
            for _ in 0..5 {
                let second = self.check();
                if second.status.code() == Some(2) {
                    return (first, second);
                }
                if first.try_wait().expect("a child").is_some() {
                    break;
                }
            }
            first.wait().expect("a child");
        }
        panic!("twenty checks were over before a second one could meet them");
    }

    fn stop_and_check_off_line(&mut self) {
        assert!(self.daemon.stop().expect("stops").success(), "{}", self.daemon.last_words());
        let mut check = cairn(&["check", "--data", "--dir"]).expect("cairn");
        check.arg(self.daemon.dir());
        clean(&finish(check).expect("ends by itself"));
    }

    /// Flips a bit in every block outside the logs that holds `needle`; how many there were.
    fn damage(&self, needle: &[u8], logs: &[(usize, usize)]) -> usize {
        let path = self.daemon.dir().join("pool");
        let file = OpenOptions::new().read(true).write(true).open(path).expect("the pool's file");
        let blocks = file.metadata().expect("metadata").len() as usize / BLOCK;
        let mut block = vec![0; BLOCK];
        let mut damaged = 0;
        for number in (0..blocks).filter(|at| !logs.iter().any(|(from, to)| at >= from && at < to))
        {
            file.read_exact_at(&mut block, (number * BLOCK) as u64).expect("read");
            if let Some(at) = block.windows(needle.len()).position(|bytes| bytes == needle) {
                let byte = [block[at] ^ 0x40];
                file.write_all_at(&byte, (number * BLOCK + at) as u64).expect("write");
                damaged += 1;
            }
        }
        file.sync_all().expect("sync");
        damaged
    }
}

#[track_caller]
fn clean(finished: &Finished) {
    let Finished { status, stdout, stderr } = finished;
    assert_eq!(status.code(), Some(0), "stdout: {stdout}\nstderr: {stderr}");
    assert!(stderr.contains(": 0 findings"), "{stderr}");
}

fn write_all(client: &mut Client, file: &nfs_fh3, bytes: &[u8], stable: stable_how) -> Answer<()> {
    write_at(client, file, 0, bytes, stable)
}

fn write_at(
    client: &mut Client,
    file: &nfs_fh3,
    offset: u64,
    bytes: &[u8],
    stable: stable_how,
) -> Answer<()> {
    let mut written = 0;
    while written < bytes.len() {
        let at = offset + written as u64;
        let part = client.write(file, at, &bytes[written..], stable)?;
        written += part.count as usize;
    }
    Ok(())
}

fn make(client: &mut Client, dir: &nfs_fh3, name: &str) -> Answer<nfs_fh3> {
    Ok(client.create(dir, name.as_bytes(), createhow3::UNCHECKED(sattr3::default()))?.handle)
}

/// Writes, overwrites, renames over others and deletes, in a directory of its own, until told to
/// end. Its directory is on one shard, the one it renames to may be on another.
fn load(client: &mut Client, number: u64, stop: &AtomicBool, done: &AtomicU64) -> Answer<()> {
    let root = client.root().clone();
    let mut mkdir = |name: String| {
        client.mkdir(&root, name.as_bytes(), sattr3::default()).map(|made| made.handle)
    };
    let (here, there) = (mkdir(format!("here-{number}"))?, mkdir(format!("there-{number}"))?);
    for round in 0.. {
        if stop.load(Ordering::Relaxed) {
            break;
        }
        let name = format!("file-{}", round % 7);
        let file = make(client, &here, &name)?;
        let bytes = vec![round as u8; 1000 + (round as usize % 5) * 40_000];
        let stable = if round % 2 == 0 { stable_how::FILE_SYNC } else { stable_how::UNSTABLE };
        write_all(client, &file, &bytes, stable)?;
        client.commit(&file, 0, 0)?;
        let kept = format!("kept-{}", round % 5);
        client.rename((&here, name.as_bytes()), (&there, kept.as_bytes()))?;
        if round % 3 == 0 {
            client.remove(&there, kept.as_bytes())?;
        }
        done.fetch_add(1, Ordering::Relaxed);
    }
    Ok(())
}

fn check_under_load(test: &str, shards: u32) {
    let small = |setup: &mut Setup| {
        setup.shards = shards;
        setup.memtable = Some("128K".into());
    };
    let Some(mut pool) = Pool::start(test, small) else { return };
    let (stop, done) = (AtomicBool::new(false), AtomicU64::new(0));
    let moved = std::thread::scope(|scope| {
        for number in 0..3 {
            let mut client = pool.connect();
            let (stop, done) = (&stop, &done);
            scope.spawn(move || {
                if let Err(fault) = load(&mut client, number, stop, done) {
                    panic!("the load of client {number}: {fault}");
                }
            });
        }
        let check_all = || {
            let begun = eventually(LIMIT, || (done.load(Ordering::Relaxed) > 20).then_some(()));
            let mut moved = 0;
            let checks = (0..CHECKS).map(|_| {
                let before = done.load(Ordering::Relaxed);
                let checked = pool.check();
                moved += done.load(Ordering::Relaxed) - before;
                checked
            });
            let checks: Vec<Finished> = checks.collect();
            stop.store(true, Ordering::Relaxed);
            assert!(begun.is_some(), "the load does not move");
            checks.iter().for_each(clean);
            moved
        };
        check_all()
    });
    assert!(moved > 0, "the load stood still while the pool was checked");
    pool.stop_and_check_off_line();
}

#[test]
fn checks_find_nothing_while_clients_change_a_pool_of_one_shard() {
    check_under_load("online_check_1", 1);
}

#[test]
fn checks_find_nothing_while_clients_change_a_pool_of_three_shards() {
    check_under_load("online_check_3", 3);
}

/// `/damaged`, which has `NEEDLE` in its block 24; and all its bytes.
fn make_marked(client: &mut Client) -> (nfs_fh3, Vec<u8>) {
    let root = client.root().clone();
    let file = make(client, &root, "damaged").expect("create");
    let mut bytes = vec![7; 200_000];
    bytes[100_000..100_000 + NEEDLE.len()].copy_from_slice(NEEDLE);
    write_all(client, &file, &bytes, stable_how::UNSTABLE).expect("write");
    client.commit(&file, 0, 0).expect("commit");
    (file, bytes)
}

#[test]
fn a_flipped_byte_of_data_is_named_with_its_file() {
    let Some(pool) = Pool::start("online_check_data", |_| ()) else { return };
    let mut client = pool.connect();
    make_marked(&mut client);
    clean(&pool.check());
    assert_eq!(pool.damage(NEEDLE, &[]), 1, "the pattern is once in the pool's file");
    let found = pool.check();
    assert_eq!(found.status.code(), Some(1), "{}", found.stderr);
    assert!(found.stdout.contains("data: ino:"), "{}", found.stdout);
    assert!(found.stdout.contains("/damaged, file block 24:"), "{}", found.stdout);
    assert!(found.stderr.contains(": 1 findings"), "{}", found.stderr);
    let json = pool.daemon.command(&["check", "--data", "--json"]).expect("ends by itself");
    let line: serde_json::Value = serde_json::from_str(json.stdout.trim()).expect("one record");
    assert_eq!(line["kind"], "data", "{line}");
    clean(&pool.daemon.command(&["check"]).expect("metadata is whole"));
}

/// A reader of the damage is told so and never the wrong bytes; the operator finds it in the log.
#[test]
fn the_reader_of_a_flipped_byte_hears_eio_and_the_log_names_the_inode() {
    let Some(mut pool) = Pool::start("online_check_reader", |_| ()) else { return };
    let mut client = pool.connect();
    let (file, bytes) = make_marked(&mut client);
    // The cache still has the right bytes, which would be served.
    assert!(pool.daemon.stop().expect("stops").success());
    assert_eq!(pool.damage(NEEDLE, &[]), 1, "the pattern is once in the pool's file");
    pool.daemon.restart().expect("serves again");
    let mut client = pool.connect();
    let told = client.read(&file, 98_304, 4096).expect_err("never the wrong bytes");
    assert!(matches!(told, Fault::Status(nfsstat3::NFS3ERR_IO)), "{told:?}");
    let sound = client.read(&file, 0, 4096).expect("what lies beside it");
    assert_eq!(sound.data.as_ref(), &bytes[..4096]);
    let named = || {
        let words = pool.daemon.last_words();
        let mut lines = words.lines();
        lines.find(|line| line.contains("Read of inode 4") && line.contains("EIO")).map(drop)
    };
    assert!(eventually(LIMIT, named).is_some(), "{}", pool.daemon.last_words());
    let status =
        pool.daemon.command(&["status"]).expect("answers").succeeded("status").expect("ok");
    assert!(status.starts_with("health damaged"), "{status}");
}

#[test]
fn a_flipped_byte_of_a_leaf_is_named_with_its_tree() {
    let small = |setup: &mut Setup| setup.memtable = Some("64K".into());
    let Some(mut pool) = Pool::start("online_check_leaf", small) else { return };
    let mut client = pool.connect();
    let root = client.root().clone();
    let needle = "a-name-that-is-nowhere-else-in-this-pool";
    make(&mut client, &root, needle).expect("create");
    for number in 0..2_000 {
        make(&mut client, &root, &format!("file-{number}")).expect("create");
    }
    clean(&pool.check());
    // The logs hold the name as well; where they lie is the superblock's to say.
    assert!(pool.daemon.stop().expect("stops").success());
    let mut print = cairn(&["print", "superblock", "--json", "--dir"]).expect("cairn");
    print.arg(pool.daemon.dir());
    let printed = finish(print).expect("ends").succeeded("cairn print").expect("prints");
    let superblock: serde_json::Value = serde_json::from_str(printed.trim()).expect("a record");
    let areas = superblock["logs"].as_array().expect("log areas").iter().map(|area| {
        let start = area["start"].as_str().and_then(|at| at.strip_prefix("0:"));
        let start: usize = start.expect("on device 0").parse().expect("a block");
        (start, start + area["blocks"].as_u64().expect("blocks") as usize)
    });
    let areas: Vec<(usize, usize)> = areas.collect();
    pool.daemon.restart().expect("serves again");
    clean(&pool.check());
    assert!(pool.damage(needle.as_bytes(), &areas) > 0, "the name is in no tree");
    let found = pool.check();
    assert_eq!(found.status.code(), Some(1), "{}", found.stderr);
    assert!(found.stdout.contains("tree") && found.stdout.contains("block 0:"), "{}", found.stdout);
    pool.daemon.expect_alive().expect("serves on");
}

#[test]
fn a_second_check_is_refused_while_one_runs() {
    let change = |setup: &mut Setup| setup.size = "1G";
    let Some(pool) = Pool::start_populated("online_check_twice", Some(FILES), change) else {
        return;
    };
    let (mut first, second) = pool.meet_check();
    assert!(second.stderr.contains("a check is running"), "{}", second.stderr);
    assert!(second.stderr.contains("(EBUSY)"), "{}", second.stderr);
    assert_eq!(first.wait().expect("a child").code(), Some(0), "the first goes on");
    clean(&pool.check());
}

#[test]
fn a_check_whose_client_is_killed_leaves_nothing_behind() {
    let change = |setup: &mut Setup| {
        setup.size = "1G";
        setup.shards = 2;
    };
    let Some(mut pool) = Pool::start_populated("online_check_killed", Some(FILES), change) else {
        return;
    };
    let mut client = pool.connect();
    let root = client.root().clone();
    // More than fits twice: what is deleted must be used again.
    let bytes = vec![9; 1 << 20];
    for round in 0..6 {
        let (mut first, _) = pool.meet_check();
        let name = format!("large-{}", round % 2);
        let file = make(&mut client, &root, &name).expect("create");
        for at in 0..200_u64 {
            let part = client.write(&file, at << 20, &bytes, stable_how::UNSTABLE);
            part.unwrap_or_else(|fault| panic!("round {round}, MiB {at}: {fault}"));
        }
        client.commit(&file, 0, 0).expect("commit");
        first.kill().expect("a child");
        first.wait().expect("a child");
        client.remove(&root, name.as_bytes()).expect("remove");
    }
    let next = eventually(LIMIT, || Some(pool.check()).filter(|next| next.status.success()));
    clean(&next.expect("the next check runs"));
    pool.stop_and_check_off_line();
}

#[test]
fn a_full_pool_gives_writers_what_a_check_keeps() {
    let Some(mut pool) = Pool::start_populated("online_check_full", Some("30000"), |_| ()) else {
        return;
    };
    let mut client = pool.connect();
    let root = client.root().clone();
    let bytes = vec![5; 1 << 20];
    let write = |client: &mut Client, mib: u64| -> Answer<()> {
        let file = make(client, &root, "large")?;
        for at in 0..mib {
            write_at(client, &file, at << 20, &bytes, stable_how::UNSTABLE)?;
        }
        client.commit(&file, 0, 0)?;
        Ok(())
    };
    let free = client.fsstat().expect("fsstat").fbytes >> 20;
    let mib = free * 2 / 3;
    assert!(mib > 20, "{free} MiB are free");
    write(&mut client, mib).expect("it fits");
    for round in 0..4 {
        // Overwriting all of it needs what it frees itself, whether or not a check keeps that.
        let mut check = pool.begin_check();
        write(&mut client, mib).unwrap_or_else(|fault| panic!("round {round}: {fault}"));
        let code = check.wait().expect("a child").code();
        assert!(matches!(code, Some(0 | 2)), "the check of a good pool ended with {code:?}");
    }
    pool.stop_and_check_off_line();
}
