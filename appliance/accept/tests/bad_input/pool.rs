//! Files that are no pool, no longer one, or somebody else's.
//!
//! The superblock is changed by its documented places only (docs/format.md): two copies at 64 KiB
//! and 128 KiB of a device; magic, CRC-32C of all that follows, version, feature masks. A change
//! with a correct checksum is what another release would have written; one without is damage.

use cairn_accept::{
    Daemon, Finished, Setup, binary, cairn, finish, run_within, skip, skip_without, tool,
};
use std::fs::{self, File, OpenOptions};
use std::net::{Ipv4Addr, TcpListener};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tempfile::TempDir;

const SUPERBLOCK_BYTES: usize = 64 << 10;
const SUPERBLOCKS: [u64; 2] = [64 << 10, 128 << 10];
const CRC_AT: usize = 8;
const VERSION_AT: usize = 12;
const INCOMPAT_AT: usize = 32;

/// A pool that was made, served and stopped.
struct Pool {
    setup: Setup,
    dir: TempDir,
}

impl Pool {
    fn make(test: &str) -> Option<Pool> {
        if binary().is_none() {
            skip(test, "the cairn binary");
            return None;
        }
        let dir = tempfile::tempdir().expect("a temporary folder");
        let mut setup = Setup::new(&dir.path().join("pool")).expect("a port");
        setup.size = "256M";
        let mut daemon = Daemon::start(setup.clone()).expect("a new pool");
        assert!(daemon.stop().expect("stops").success());
        Some(Pool { setup, dir })
    }

    /// The pool's device: its largest file.
    fn device(&self) -> PathBuf {
        let files = fs::read_dir(&self.setup.dir).expect("the pool's folder");
        let sizes = files.map(|file| {
            let file = file.expect("an entry");
            (file.metadata().expect("metadata").len(), file.path())
        });
        sizes.max().expect("a pool has files").1
    }

    /// Changes each valid copy of the superblock.
    fn change_superblocks(&self, change: impl Fn(&mut [u8])) {
        let device = OpenOptions::new().read(true).write(true).open(self.device()).expect("open");
        let mut changed = 0;
        for at in SUPERBLOCKS {
            let mut block = vec![0; SUPERBLOCK_BYTES];
            device.read_exact_at(&mut block, at).expect("read");
            if block[..8] == [0; 8] {
                continue; // never written
            }
            change(&mut block);
            device.write_all_at(&block, at).expect("write");
            changed += 1;
        }
        assert!(changed > 0, "no superblock where the format says");
    }

    /// `cairn up` on it must fail by itself and say one of `words`.
    #[track_caller]
    fn refuses(&self, words: &[&str]) {
        let before = digest(&self.device());
        let finished = finish(self.setup.command().expect("cairn")).expect("ends by itself");
        says(&finished, "up", 1, words);
        assert_eq!(digest(&self.device()), before, "what was refused was changed all the same");

        let mut check = cairn(&["check", "--dir"]).expect("cairn");
        check.arg(&self.setup.dir);
        let finished = finish(check).expect("ends by itself");
        let code = finished.status.code();
        assert!(matches!(code, Some(1 | 2)), "check of it ended with {code:?}");
    }
}

/// Makes the checksum right again after a change.
fn seal(block: &mut [u8]) {
    let crc = crc_fast::checksum(crc_fast::CrcAlgorithm::Crc32Iscsi, &block[CRC_AT + 4..]);
    let crc = u32::try_from(crc).expect("32 bits");
    block[CRC_AT..CRC_AT + 4].copy_from_slice(&crc.to_le_bytes());
}

/// The error is one line of the documented form, and says why.
#[track_caller]
fn says(finished: &Finished, verb: &str, code: i32, words: &[&str]) {
    let Finished { status, stdout, stderr } = finished;
    assert_eq!(status.code(), Some(code), "stdout: {stdout}\nstderr: {stderr}");
    let start = format!("cairn: {verb} ");
    let line = stderr.lines().find(|line| line.starts_with(&start));
    let line = line.unwrap_or_else(|| panic!("no line `{start}…`: {stderr}"));
    let lower = line.to_lowercase();
    assert!(words.iter().any(|word| lower.contains(word)), "none of {words:?} in: {line}");
    assert!(!stderr.contains("panicked"), "{stderr}");
}

fn digest(path: &Path) -> blake3::Hash {
    let mut hasher = blake3::Hasher::new();
    let mut file = File::open(path).expect("open");
    std::io::copy(&mut file, &mut hasher_writer(&mut hasher)).expect("read");
    hasher.finalize()
}

fn hasher_writer(hasher: &mut blake3::Hasher) -> impl std::io::Write {
    struct Sink<'h>(&'h mut blake3::Hasher);
    impl std::io::Write for Sink<'_> {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.update(bytes);
            Ok(bytes.len())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    Sink(hasher)
}

#[test]
fn a_file_that_is_no_pool_is_refused_and_left_alone() {
    let Some(pool) = Pool::make("not_a_pool") else { return };
    let device = OpenOptions::new().write(true).open(pool.device()).expect("open");
    let noise: Vec<u8> = (0..4 << 20).map(|at: u32| at.wrapping_mul(2_654_435_761) as u8).collect();
    device.write_all_at(&noise, 0).expect("write");
    pool.refuses(&["pool"]);
}

#[test]
fn a_superblock_of_a_later_release_is_refused_by_its_version() {
    let Some(pool) = Pool::make("later_version") else { return };
    pool.change_superblocks(|block| {
        block[VERSION_AT] += 1;
        seal(block);
    });
    pool.refuses(&["version"]);
}

#[test]
fn an_unknown_incompatible_feature_is_refused() {
    let Some(pool) = Pool::make("unknown_feature") else { return };
    pool.change_superblocks(|block| {
        block[INCOMPAT_AT + 7] |= 0x80;
        seal(block);
    });
    pool.refuses(&["feature"]);
}

#[test]
fn superblocks_with_a_wrong_checksum_are_damage() {
    let Some(pool) = Pool::make("damaged_superblocks") else { return };
    pool.change_superblocks(|block| block[VERSION_AT] += 1);
    pool.refuses(&["superblock", "damage", "checksum"]);
}

#[test]
fn a_device_that_was_cut_short_is_refused() {
    let Some(pool) = Pool::make("truncated_device") else { return };
    let device = OpenOptions::new().write(true).open(pool.device()).expect("open");
    let length = device.metadata().expect("metadata").len();
    device.set_len(length / 2).expect("cut");
    pool.refuses(&["short", "truncat", "small", "size", "blocks", "bytes"]);
    device.set_len(4096).expect("cut");
    pool.refuses(&["short", "truncat", "small", "size", "blocks", "bytes", "pool"]);
}

#[test]
fn swapped_devices_are_refused() {
    let test = "swapped_devices";
    if binary().is_none() {
        return skip(test, "the cairn binary");
    }
    let dir = tempfile::tempdir().expect("a temporary folder");
    let path = |name: &str| dir.path().join(name).to_string_lossy().into_owned();
    let (meta, data) = (path("meta"), path("data"));
    for device in [&meta, &data] {
        File::create(device).expect("make").set_len(256 << 20).expect("size");
    }
    let run = |arguments: &[&str]| finish(cairn(arguments).expect("cairn")).expect("ends");
    let formatted = run(&["format", "--meta", &meta, "--data", &data]);
    formatted.succeeded("cairn format").expect("formats");
    let checked = run(&["check", "--meta", &meta, "--data", &data]);
    checked.succeeded("cairn check").expect("a new pool is good");
    let swapped = run(&["check", "--meta", &data, "--data", &meta]);
    says(&swapped, "check", 2, &["data is the data device of its pool: give it as --data"]);
    for alone in [&meta, &data] {
        let other =
            if alone == &meta { "give the other one too, with --data" } else { "as --data" };
        says(&run(&["check", "--meta", alone]), "check", 2, &[other]);
        says(&run(&["print", "--meta", alone]), "print", 1, &[other]);
    }
}

#[test]
fn devices_of_two_pools_are_no_pool() {
    let test = "devices_of_two_pools";
    if binary().is_none() {
        return skip(test, "the cairn binary");
    }
    let dir = tempfile::tempdir().expect("a temporary folder");
    let path = |name: &str| dir.path().join(name).to_string_lossy().into_owned();
    let [a1, a2, b1, b2, single] = ["a1", "a2", "b1", "b2", "single"].map(path);
    let run = |arguments: &[&str]| finish(cairn(arguments).expect("cairn")).expect("ends");
    for devices in [&[&a1, &a2][..], &[&b1, &b2], &[&single]] {
        let mut arguments = vec!["format"];
        for (key, device) in ["--meta", "--data"].iter().zip(devices) {
            File::create(device).expect("make").set_len(256 << 20).expect("size");
            arguments.extend([*key, device.as_str()]);
        }
        run(&arguments).succeeded("cairn format").expect("formats");
    }
    for (meta, data, text) in [
        (&a1, &b2, "/b2: device 1 belongs to another pool"),
        (&a1, &single, "/single: device 1 belongs to another pool"),
        (&single, &a2, "/single is a pool alone, and "),
    ] {
        for (verb, code) in [("check", 2), ("print", 1)] {
            let finished = run(&[verb, "--meta", meta, "--data", data]);
            says(&finished, verb, code, &[text]);
            assert_eq!(finished.stdout, "", "{verb}: nothing of it is to be believed");
        }
    }
}

#[test]
fn printing_a_pool_that_was_cut_short_says_so() {
    let Some(pool) = Pool::make("print_truncated") else { return };
    let device = OpenOptions::new().write(true).open(pool.device()).expect("open");
    device.set_len(device.metadata().expect("metadata").len() / 2).expect("cut");
    for what in ["superblock", "roots", "items"] {
        let mut print = cairn(&["print", what, "--dir"]).expect("cairn");
        print.arg(&pool.setup.dir);
        let finished = finish(print).expect("ends by itself");
        assert_eq!(finished.status.code(), Some(1), "{what}: {}", finished.stderr);
        assert!(finished.stderr.contains("device 0: has "), "{what}: {}", finished.stderr);
        assert!(!finished.stdout.is_empty(), "{what}: what is left is shown");
    }
}

#[test]
fn a_pipe_in_the_place_of_a_pool_is_refused_and_not_waited_for() {
    let test = "pipe_as_pool";
    if binary().is_none() {
        return skip(test, "the cairn binary");
    }
    if skip_without(test, "mkfifo", "coreutils") {
        return;
    }
    let dir = tempfile::tempdir().expect("a temporary folder");
    let pipe = dir.path().join("pool");
    tool("mkfifo", &[&pipe.to_string_lossy()]).expect("a pipe");
    for (verb, code) in [("check", 2), ("print", 1), ("format", 1)] {
        for (key, place) in [("--meta", &*pipe), ("--dir", dir.path())] {
            let mut command = cairn(&[verb, key]).expect("cairn");
            command.arg(place);
            let finished = run_within(command, Duration::from_secs(20)).expect("ends by itself");
            says(&finished, verb, code, &["is no file and no block device (enotblk)"]);
        }
    }
}

#[test]
fn a_pool_that_is_served_is_nobody_elses() {
    let Some(pool) = Pool::make("pool_in_use") else { return };
    let mut daemon = Daemon::start(pool.setup.clone()).expect("serves");
    let mut second = pool.setup.clone();
    second.port = cairn_accept::free_port().expect("a port");
    let words = ["in use", "served", "busy", "locked"];
    let finished = finish(second.command().expect("cairn")).expect("ends by itself");
    says(&finished, "up", 1, &words);
    for (verb, code) in [("check", 2), ("print", 1), ("format", 1)] {
        let mut command = cairn(&[verb, "--dir"]).expect("cairn");
        command.arg(&pool.setup.dir);
        let finished = finish(command).expect("ends by itself");
        says(&finished, verb, code, &words);
    }
    daemon.expect_alive().expect("the first is not disturbed");
    daemon.status().expect("and answers");
    assert!(daemon.stop().expect("stops").success());
    let mut again = Daemon::start(pool.setup.clone()).expect("free again");
    assert!(again.stop().expect("stops").success());
}

#[test]
fn a_port_that_is_taken_is_named() {
    let Some(pool) = Pool::make("port_in_use") else { return };
    let taken = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
    let mut setup = pool.setup.clone();
    setup.port = taken.local_addr().expect("bound").port();
    let finished = finish(setup.command().expect("cairn")).expect("ends by itself");
    let way_out = format!(
        "127.0.0.1:{}: address already in use: stop the server that has it, or name another address \
         with --nfs",
        setup.port
    );
    says(&finished, "up", 1, &[&way_out]);
    let mut daemon = Daemon::start(pool.setup.clone()).expect("on its own port it serves");
    assert!(daemon.stop().expect("stops").success());
}

#[test]
fn more_shards_than_there_is_room_for_are_told_how_many_there_may_be() {
    let test = "too_many_shards";
    if binary().is_none() {
        return skip(test, "the cairn binary");
    }
    let dir = tempfile::tempdir().expect("a temporary folder");
    let dir = dir.path().join("pool").to_string_lossy().into_owned();
    let run = |arguments: &[&str]| finish(cairn(arguments).expect("cairn")).expect("ends");
    let made = run(&["format", "--dir", &dir, "--size", "64M"]);
    made.succeeded("cairn format").expect("formats");
    let up = ["up", "--dir", &dir, "--nfs", "127.0.0.1:0", "--shards", "64"];
    let said = run(&up);
    says(
        &said,
        "up",
        1,
        &["64 shards need two logs of 4194304 bytes each, and the pool has room for"],
    );
    let other = format!("{dir}-other");
    let made = ["up", "--dir", &other, "--size", "64M", "--nfs", "127.0.0.1:0", "--shards", "64"];
    says(&run(&made), "up", 1, &["the logs of 64 shards are part of that"]);
    says(
        &run(&["format", "--dir", &other, "--size", "9000P"]),
        "format",
        1,
        &["10133099161583616000 bytes are more than a file there may have"],
    );
    assert!(!Path::new(&other).exists(), "what was refused left something behind");
    let most = said.stderr.split("serve with --shards ").nth(1).expect("a way out");
    let most: u32 = most.split(' ').next().and_then(|most| most.parse().ok()).expect("a number");
    assert!((1..64).contains(&most), "{}", said.stderr);
    let mut setup = Setup::new(Path::new(&dir)).expect("a port");
    setup.shards = most;
    let mut daemon = Daemon::start(setup).expect("as many as it said");
    assert!(daemon.stop().expect("stops").success());
}

#[test]
fn wrong_usage_ends_with_2() {
    let test = "wrong_usage";
    if binary().is_none() {
        return skip(test, "the cairn binary");
    }
    let dir = tempfile::tempdir().expect("a temporary folder");
    let inside = dir.path().join("pool");
    let pool = inside.to_string_lossy();
    for arguments in [
        &["no-such-verb"][..],
        &["up", "--dir", &pool, "--size", "much"],
        &["up", "--dir", &pool, "--shards", "0"],
        &["up", "--dir", &pool, "--memtable", "0"],
        &["up", "--dir", &pool, "--memtable", "1K"],
        &["up", "--dir", &pool, "--nfs", "nowhere"],
        &["stat"],
    ] {
        let finished = finish(cairn(arguments).expect("cairn")).expect("ends by itself");
        assert_eq!(finished.status.code(), Some(2), "{arguments:?}: {}", finished.stderr);
        assert!(!finished.stderr.is_empty(), "{arguments:?} said nothing");
        assert!(!inside.exists(), "{arguments:?} made a pool all the same");
    }
}

#[test]
fn a_live_command_without_a_daemon_says_so() {
    let Some(pool) = Pool::make("no_daemon") else { return };
    let socket = pool.dir.path().join("no.sock");
    for verb in ["status", "df", "statfs"] {
        let mut command = cairn(&[verb, "--socket"]).expect("cairn");
        command.arg(&socket);
        let finished = finish(command).expect("ends by itself");
        says(&finished, verb, 1, &["no.sock"]);
    }
}

#[test]
fn format_follows_no_link_and_replaces_none() {
    let Some(pool) = Pool::make("format_link") else { return };
    let (dir, elsewhere) = (pool.dir.path().join("linked"), pool.device());
    fs::create_dir(&dir).expect("a folder");
    let before = digest(&elsewhere);
    for target in [&elsewhere, Path::new("/nowhere/pool")] {
        let link = dir.join("pool");
        std::os::unix::fs::symlink(target, &link).expect("a link");
        for force in [&[][..], &["--force"]] {
            let mut format =
                cairn(&[&["format", "--size", "256M"], force].concat()).expect("cairn");
            format.arg("--dir").arg(&dir);
            let finished = finish(format).expect("ends by itself");
            says(&finished, "format", 1, &["format that with --meta, or remove the link"]);
            assert_eq!(fs::read_link(&link).expect("it is there"), target);
        }
        fs::remove_file(&link).expect("remove");
    }
    assert_eq!(digest(&elsewhere), before);
}

#[test]
fn format_leaves_foreign_files_and_pools_alone() {
    let Some(pool) = Pool::make("format_refuses") else { return };
    let device = pool.device();
    let before = digest(&device);
    let mut format = cairn(&["format", "--meta"]).expect("cairn");
    format.arg(&device);
    let finished = finish(format).expect("ends by itself");
    says(&finished, "format", 1, &["pool", "force"]);
    assert_eq!(digest(&device), before);

    // An ext4 file system is known by two bytes 1,080 bytes in.
    let foreign = pool.dir.path().join("foreign");
    let file = File::create(&foreign).expect("make");
    file.set_len(256 << 20).expect("size");
    file.write_all_at(&[0x53, 0xef], 1_080).expect("write");
    let before = digest(&foreign);
    let mut format = cairn(&["format", "--meta"]).expect("cairn");
    format.arg(&foreign);
    let finished = finish(format).expect("ends by itself");
    says(&finished, "format", 1, &["ext", "signature", "force"]);
    assert_eq!(digest(&foreign), before);
}

/// Also before its first start: every superblock has two copies from the beginning.
#[test]
fn one_damaged_copy_of_a_superblock_is_told_and_no_end() {
    let Some(mut pool) = Pool::make("one_copy") else { return };
    for slot in SUPERBLOCKS {
        let dir = tempfile::tempdir().expect("a temporary folder");
        pool.setup = Setup::new(&dir.path().join("pool")).expect("a port");
        pool.setup.size = "256M";
        let mut format = cairn(&["format", "--size", "256M", "--dir"]).expect("cairn");
        format.arg(&pool.setup.dir);
        finish(format).expect("ends").succeeded("cairn format").expect("a new pool");
        let device = OpenOptions::new().write(true).open(pool.device()).expect("open");
        device.write_all_at(&[0xff], slot + 100).expect("write");
        let mut daemon = Daemon::start(pool.setup.clone()).expect("starts by the other copy");
        let told = daemon.last_words();
        let block = format!("at block {} is damaged,", slot / 4096);
        assert!(told.contains(&block) && told.contains("WARN"), "{told}");
        assert!(daemon.stop().expect("stops").success());
        let mut daemon = Daemon::start(pool.setup.clone()).expect("starts again");
        assert!(!daemon.last_words().contains("is damaged"), "it was not written again");
        daemon.stop_and_check().expect("nothing found");
    }
}

#[test]
fn a_pool_cut_short_while_it_is_served_is_not_resized() {
    let Some(pool) = Pool::make("cut_short") else { return };
    let mut daemon = Daemon::start(pool.setup.clone()).expect("starts");
    let device = OpenOptions::new().write(true).open(pool.device()).expect("open");
    device.set_len(200 << 20).expect("cut");
    for more in [&[][..], &["--size", "512M"]] {
        let finished = daemon.command(&[&["resize-devices"], more].concat()).expect("ends");
        says(&finished, "resize-devices", 1, &["cut short"]);
        assert!(finished.stderr.contains("(ENXIO)"), "{}", finished.stderr);
    }
    device.set_len(256 << 20).expect("put back");
    daemon.stop().expect("stops");
}
