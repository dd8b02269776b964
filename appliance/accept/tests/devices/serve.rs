//! A pool on block devices, from `format` to the last check, with the daemon killed in between; and
//! devices that grow or shrink under it.

use crate::{MIB, disk, skipped, succeeds};
use cairn_accept::nfs3_types::nfs3::{createhow3, nfs_fh3, sattr3, stable_how};
use cairn_accept::{Client, Cred, Daemon, LoopDisk, ServeConfig, Setup};
use std::fs::File;
use tempfile::TempDir;

const CHUNK: usize = 128 << 10;

struct Pool {
    // Dropped in this order: the daemon ends before its devices go.
    daemon: Daemon,
    disks: Vec<LoopDisk>,
    _dir: TempDir,
}

impl Pool {
    fn start(disks: Vec<LoopDisk>, shards: u32) -> Pool {
        succeeds(&[&["format"], &places(&disks)[..]].concat());
        let dir = tempfile::tempdir().unwrap();
        let mut setup = Setup::new(&dir.path().join("pool")).expect("a port");
        setup.shards = shards;
        setup.devices = disks.iter().map(|disk| disk.path().to_owned()).collect();
        let exports = "[[export]]\npath = \"/\"\nclients = [\"127.0.0.1\"]\nsquash = \"none\"\n\
                       secure = false\n";
        setup.serve = Some(ServeConfig { exports: exports.into(), ..ServeConfig::default() });
        let daemon = Daemon::start(setup).unwrap_or_else(|error| panic!("{error:#}"));
        Pool { daemon, disks, _dir: dir }
    }

    fn check(&self) {
        succeeds(&[&["check", "--data"], &places(&self.disks)[..]].concat());
    }

    fn asked(&self, arguments: &[&str]) -> String {
        let finished = self.daemon.command(arguments).expect("cairn");
        finished.succeeded(&arguments.join(" ")).unwrap_or_else(|error| panic!("{error:#}"))
    }

    /// The words of each line of `df`.
    fn df(&self) -> Vec<Vec<String>> {
        let text = self.asked(&["df"]);
        text.lines().map(|line| line.split_whitespace().map(str::to_owned).collect()).collect()
    }

    fn restart(&mut self) {
        self.daemon.restart().unwrap_or_else(|error| panic!("{error:#}"));
    }
}

/// The arguments that name the devices, for commands that work off line.
fn places(disks: &[LoopDisk]) -> Vec<&str> {
    let names = ["--meta", "--data"];
    names.iter().zip(disks).flat_map(|(name, disk)| [*name, disk.text()]).collect()
}

fn connect(pool: &Pool) -> (Client, nfs_fh3) {
    let client = Client::connect(&pool.daemon.address(), &Cred::ROOT).expect("mounts");
    let root = client.root().clone();
    (client, root)
}

fn bytes(number: usize) -> Vec<u8> {
    (0..CHUNK).map(|at| (at * 31 + number * 7 + at / 251) as u8).collect()
}

/// Makes files until one is refused or `most` are there; all of them are on stable media.
fn fill(client: &mut Client, root: &nfs_fh3, from: usize, most: usize) -> usize {
    for number in from..from + most {
        let name = format!("file-{number}");
        let how = createhow3::GUARDED(sattr3::default());
        let Ok(made) = client.create(root, name.as_bytes(), how) else { return number - from };
        let written = client.write(&made.handle, 0, &bytes(number), stable_how::FILE_SYNC);
        if written.is_err() {
            return number - from;
        }
    }
    most
}

fn reads(client: &mut Client, root: &nfs_fh3, numbers: impl Iterator<Item = usize>) {
    for number in numbers {
        let found = client.lookup(root, format!("file-{number}").as_bytes()).expect("is there");
        let read = client.read(&found.handle, 0, CHUNK as u32).expect("reads");
        assert!(*read.data == bytes(number)[..], "file {number}");
    }
}

#[test]
fn a_pool_on_block_devices_keeps_what_it_acknowledged_when_the_daemon_is_killed() {
    if skipped("pool_on_block_devices") {
        return;
    }
    for (disks, roles) in
        [(vec![disk(512)], &["mixed"][..]), (vec![disk(256), disk(512)], &["meta", "data"])]
    {
        let mut pool = Pool::start(disks, 2);
        let (mut client, root) = connect(&pool);
        assert_eq!(fill(&mut client, &root, 0, 60), 60);
        let df = pool.df();
        assert_eq!(df.iter().map(|line| line[0].as_str()).collect::<Vec<_>>(), roles);
        for (line, disk) in df.iter().zip(&pool.disks) {
            let blocks = File::open(disk.image()).unwrap().metadata().unwrap().len() / 4096;
            assert_eq!((&line[2], &line[6]), (&blocks.to_string(), &"0".to_string()), "{line:?}");
        }
        pool.daemon.kill().expect("killed");
        pool.check();
        pool.restart();
        let (mut client, root) = connect(&pool);
        reads(&mut client, &root, 0..60);
        assert!(pool.daemon.stop().expect("stops").success());
        pool.check();
    }
}

#[test]
fn a_full_pool_takes_files_again_when_a_device_has_grown() {
    if skipped("resize_devices_on_line") {
        return;
    }
    let mut pool = Pool::start(vec![disk(256), disk(256)], 2);
    let (mut client, root) = connect(&pool);
    let full = fill(&mut client, &root, 0, 10_000);
    assert!(full < 2_048, "256 MiB took {full} files");
    pool.disks[1].resize(512 * MIB).expect("grows");
    let more = (256 * MIB / 4096).to_string();
    assert_eq!(pool.df()[1][6], more, "df sees it without a restart");
    let status = pool.asked(&["status"]);
    let told = format!("device data 256M, {} bytes more", 256 * MIB);
    assert!(status.contains("resize-devices") && status.contains(&told), "{status}");

    let too_long = (513 * MIB).to_string();
    for (size, words) in [("255M", "shrink"), (too_long.as_str(), "larger first")] {
        let finished = pool.daemon.command(&["resize-devices", "--data", size]).expect("cairn");
        assert_eq!(finished.status.code(), Some(1), "{size}");
        let stderr = finished.stderr;
        assert!(stderr.contains(words) && stderr.contains("EINVAL"), "{size}: {stderr}");
    }
    let done = pool.asked(&["resize-devices"]);
    let expected = format!("meta {0} {0}\ndata {0} {1}\n", 256 * MIB, 512 * MIB);
    assert_eq!(done, expected);
    let df = pool.df();
    assert_eq!((&df[1][2], df[1][6].as_str()), (&(512 * MIB / 4096).to_string(), "0"));
    let again = fill(&mut client, &root, 5_000, 1_000);
    assert_eq!(again, 1_000, "125 MiB of the 256 MiB that came");
    pool.asked(&["check"]);
    pool.daemon.kill().expect("killed");
    pool.check();
    pool.restart();
    let (mut client, root) = connect(&pool);
    reads(&mut client, &root, (0..full).step_by(50).chain((5_000..6_000).step_by(50)));
    assert!(pool.daemon.stop().expect("stops").success());
    pool.check();
}

#[test]
fn a_daemon_killed_while_a_device_grows_leaves_one_size_or_the_other() {
    if skipped("resize_devices_killed") {
        return;
    }
    let mut pool = Pool::start(vec![disk(256)], 2);
    let mut size = 256 * MIB;
    let mut taken_up = 0;
    for round in 0..8 {
        pool.disks[0].resize(size + 16 * MIB).expect("grows");
        let mut resize = cairn_accept::cairn(&["resize-devices"]).expect("cairn");
        resize.arg("--socket").arg(pool.daemon.socket());
        resize.stdout(std::process::Stdio::null()).stderr(std::process::Stdio::null());
        let mut resize = resize.spawn().expect("runs");
        // Somewhere between the call's way to the daemon and its end.
        std::thread::park_timeout(std::time::Duration::from_millis(3 * round));
        pool.daemon.kill().expect("killed");
        let told = resize.wait().expect("ends").success();
        pool.check();
        pool.restart();
        let df = pool.df();
        let blocks: u64 = df[0][2].parse().unwrap();
        let now = blocks * 4096;
        assert!(now == size + 16 * MIB || now == size && !told, "{now} after {size}, {df:?}");
        taken_up += u64::from(now > size);
        pool.asked(&["resize-devices"]);
        size += 16 * MIB;
    }
    println!("{taken_up} of 8 were taken up before the kill");
    assert!(pool.daemon.stop().expect("stops").success());
    pool.check();
}

#[test]
fn a_device_that_was_cut_short_is_refused_with_both_sizes_and_left_alone() {
    if skipped("shrunk_device") {
        return;
    }
    let mut pool = Pool::start(vec![disk(256), disk(256)], 1);
    assert!(pool.daemon.stop().expect("stops").success());
    let front = |disk: &LoopDisk| {
        let mut front = vec![0; 4 << 20];
        std::os::unix::fs::FileExt::read_exact_at(&File::open(disk.path()).unwrap(), &mut front, 0)
            .unwrap();
        front
    };
    let before: Vec<Vec<u8>> = pool.disks.iter().map(front).collect();
    pool.disks[1].resize(255 * MIB).expect("shrinks");
    let refused = format!("{:#}", pool.daemon.restart().unwrap_err());
    let sizes = [(255 * MIB).to_string(), (256 * MIB).to_string()];
    for word in [pool.disks[1].text(), &sizes[0], &sizes[1], "cut short", "ENXIO"] {
        assert!(refused.contains(word), "no {word:?} in {refused}");
    }
    let after: Vec<Vec<u8>> = pool.disks.iter().map(front).collect();
    assert!(before == after, "something was written");
    pool.disks[1].resize(257 * MIB).expect("grows");
    pool.restart();
    assert_eq!(pool.df()[1][6], (MIB / 4096).to_string());
    assert!(pool.daemon.stop().expect("stops").success());
    pool.check();
}

#[test]
fn the_file_of_an_embedded_pool_is_made_longer_when_asked() {
    if cairn_accept::binary().is_none() {
        return cairn_accept::skip("resize_embedded", "the cairn binary");
    }
    let dir = tempfile::tempdir().unwrap();
    let mut setup = Setup::new(&dir.path().join("pool")).expect("a port");
    setup.size = "256M";
    let mut daemon = Daemon::start(setup).unwrap_or_else(|error| panic!("{error:#}"));
    let asked = |daemon: &Daemon, size: &str| {
        daemon.command(&["resize-devices", "--size", size, "--json"]).expect("cairn")
    };
    let shrink = asked(&daemon, "128M");
    assert!(shrink.stderr.contains("do not shrink"), "{}", shrink.stderr);
    let grown = asked(&daemon, "1G").succeeded("resize-devices").expect("grows");
    assert!(grown.contains("\"bytes_after\":1073741824"), "{grown}");
    let file = dir.path().join("pool").join("pool");
    assert_eq!(file.metadata().unwrap().len(), 1 << 30);
    daemon.kill().expect("killed");
    succeeds(&["check", "--dir", dir.path().join("pool").to_str().unwrap()]);
    daemon.restart().unwrap_or_else(|error| panic!("{error:#}"));
    let df = daemon.command(&["df"]).expect("cairn").stdout;
    assert!(df.starts_with("mixed 4096 262144 "), "{df}");
    assert!(daemon.stop().expect("stops").success());
}
