//! Who waits for offline data: NFS clients are told to come again at once, agents see what they want
//! (`cairn data-waiting`), stage it, or have them told that it does not come (`cairn data-wait-err`).

use cairn_accept::nfs3_types::nfs3::*;
use cairn_accept::{Answer, Client, Cred, Daemon, Served, crowd, eventually};
use serde_json::Value;
use std::fs;
use std::io::{BufRead, BufReader};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::process::Stdio;
use std::time::Duration;

const MIB: usize = 1 << 20;
const LIMIT: Duration = Duration::from_secs(30);

fn field(daemon: &Daemon, path: &str, name: &str) -> String {
    daemon.told(&["stat", path, "--single-field", name]).trim().to_owned()
}

/// Who waits, without the seconds: block, blocks, what for, and who.
fn waiting(daemon: &Daemon, more: &[&str]) -> Vec<(u64, u64, String, String)> {
    let json = daemon.told(&[&["data-waiting", "--json"], more].concat());
    let one = |line: &str| -> (u64, u64, String, String) {
        let waiter: Value = serde_json::from_str(line).expect("an object");
        assert!(waiter["age"].as_u64().expect("seconds") < 60, "{line}");
        let number = |key: &str| waiter[key].as_u64().expect("a number");
        let text = |key: &str| waiter[key].as_str().expect("text").to_owned();
        (number("block"), number("blocks"), text("op"), text("client"))
    };
    json.lines().map(one).collect()
}

fn waiter(block: u64, blocks: u64, op: &str, client: &str) -> (u64, u64, String, String) {
    (block, blocks, op.into(), client.into())
}

#[track_caller]
fn is<T>(answer: Answer<T>, status: nfsstat3) {
    match answer {
        Ok(_) => panic!("want {status}, it was done"),
        Err(fault) => assert_eq!(fault.status(), Some(status), "{fault}"),
    }
}

const JUKEBOX: nfsstat3 = nfsstat3::NFS3ERR_JUKEBOX;

/// `/file`, released; and its bytes, also as the file `copy` beside the pool.
fn released(served: &mut Served, test: &str, bytes: usize) -> (nfs_fh3, Vec<u8>, String) {
    let mut client = served.connect();
    let root = client.root().clone();
    let bytes: Vec<u8> = (0..bytes).map(|n| (n / 3 + n / 4096) as u8).collect();
    let how = createhow3::GUARDED(sattr3::default());
    let file = client.create(&root, b"file", how).expect("create").handle;
    for (nth, piece) in bytes.chunks(MIB / 4).enumerate() {
        let offset = (nth * MIB / 4) as u64;
        client.write(&file, offset, piece, stable_how::FILE_SYNC).expect("write");
    }
    let daemon = served.daemon(test).expect("ours");
    fs::write(daemon.dir().join("copy"), &bytes).expect("written");
    let version = field(daemon, "/file", "data_version");
    daemon.told(&["release", "/file", "-V", &version]);
    (file, bytes, version)
}

fn copy(daemon: &Daemon) -> String {
    daemon.dir().join("copy").to_str().expect("UTF-8").to_owned()
}

#[test]
fn agents_see_who_waits_and_stage_it_or_tell_them_that_it_does_not_come() {
    let test = "waiters";
    let Some(mut served) = Served::start_with(test, |setup| setup.shards = 2) else { return };
    if served.is_foreign() {
        return;
    }
    let (file, bytes, version) = released(&mut served, test, 3 * MIB + 5000);
    let mut client = served.connect();
    let daemon = served.daemon(test).expect("ours");
    assert_eq!(daemon.told(&["data-waiting"]), "");

    // Who asks again, and again for the same, waits once.
    for _ in 0..3 {
        is(client.read_once(&file, 5000, 100), JUKEBOX);
        is(client.write_once(&file, 1 << 30, b"x"), JUKEBOX);
        is(client.resize_once(&file, 2 * MIB as u64), JUKEBOX);
    }
    let from_elsewhere = SocketAddr::new(IpAddr::V4(Ipv4Addr::new(127, 0, 0, 2)), 0);
    let mut address = daemon.address();
    address.local = Some(from_elsewhere);
    let mut other = Client::connect(&address, &Cred::ROOT).expect("connected");
    is(other.read_once(&file, 5000, 100), JUKEBOX);
    is(other.read_once(&file, 2 * MIB as u64, MIB as u32), JUKEBOX);
    let all = [
        waiter(0, 770, "write", "127.0.0.1"),
        waiter(0, 512, "change_size", "127.0.0.1"),
        waiter(1, 1, "read", "127.0.0.1"),
        waiter(1, 1, "read", "127.0.0.2"),
        waiter(512, 256, "read", "127.0.0.2"),
    ];
    assert_eq!(waiting(daemon, &[]), all);
    let ino = field(daemon, "/file", "ino");
    assert_eq!(waiting(daemon, &["-I", &ino, "-B", "0"]), all[2..]);
    assert_eq!(waiting(daemon, &["-I", &ino]), []);
    let text = daemon.told(&["data-waiting"]);
    assert!(text.starts_with(&format!("{ino} 0 770 write ")), "{text}");

    // A part is staged: who wants that part is served, the others wait on.
    daemon.told(&["stage", &copy(daemon), "/file", "-V", &version, "--length", "1M"]);
    assert_eq!(waiting(daemon, &[]), all[4..]);
    let read = client.read_once(&file, 5000, 100).expect("it is online");
    assert_eq!(*read.data, bytes[5000..5100]);
    is(client.write_once(&file, 0, b"x"), JUKEBOX);
    is(client.resize_once(&file, 2 * MIB as u64), JUKEBOX);
    let others = [
        waiter(256, 514, "write", "127.0.0.1"),
        waiter(256, 256, "change_size", "127.0.0.1"),
        waiter(512, 256, "read", "127.0.0.2"),
    ];
    assert_eq!(waiting(daemon, &[]), others);

    // Errors: to those that were meant, with their next request, once.
    let target = format!("ino:{ino}");
    let fail = |daemon: &Daemon, more: &[&str]| {
        daemon.told(&[&["data-wait-err", &target], more].concat()).trim().to_owned()
    };
    assert_eq!(
        fail(daemon, &["-E", "EIO", "-F", "3M"]),
        "waiters 1",
        "only the write reaches there"
    );
    assert_eq!(fail(daemon, &["-E", "EIO", "-F", "3M"]), "waiters 0", "it is told already");
    assert_eq!(fail(daemon, &["-E", "-6", "-O", "read", "-C", "1"]), "waiters 0");
    assert_eq!(fail(daemon, &["-E", "-6", "-O", "read,write"]), "waiters 1");
    assert_eq!(waiting(daemon, &[]), others[1..2], "whoever will be told is waited for no more");
    is(client.read_once(&file, 2 * MIB as u64, MIB as u32), JUKEBOX);
    is(other.read_once(&file, 2 * MIB as u64, MIB as u32), nfsstat3::NFS3ERR_NXIO);
    is(other.read_once(&file, 2 * MIB as u64, MIB as u32), JUKEBOX);
    is(client.write_once(&file, 0, b"x"), nfsstat3::NFS3ERR_IO);
    is(client.write_once(&file, 0, b"x"), JUKEBOX);

    // Bad input.
    for (arguments, code, why) in [
        (["data-wait-err", "/file", "--error", "0"], 2, "from 1 to 4095"),
        (["data-wait-err", "/file", "--error", "EWHAT"], 2, "a name like EIO"),
        (["data-wait-err", "/", "--error", "EIO"], 1, "EISDIR"),
        (["data-wait-err", "/nothing", "--error", "EIO"], 1, "ENOENT"),
        (["data-wait-err", "ino:999999", "--error", "EIO"], 1, "ESTALE"),
    ] {
        daemon.refuses(&arguments, code, why);
    }

    // After a crash clients ask again, and agents see them.
    daemon.kill().expect("killed");
    daemon.restart().expect("starts again");
    assert_eq!(waiting(daemon, &[]), []);
    let mut client = served.connect();
    is(client.read_once(&file, 3 * MIB as u64, 100), JUKEBOX);
    let daemon = served.daemon(test).expect("ours");
    assert_eq!(waiting(daemon, &[]), [waiter(768, 1, "read", "127.0.0.1")]);

    // A file that is cut to nothing, or removed, has nobody who waits for it. That needs no recall.
    client.resize_once(&file, 0).expect("nothing of it stays");
    assert_eq!(waiting(daemon, &[]), []);
    daemon.stop_and_check().expect("the verifier finds nothing");
}

#[test]
fn many_who_wait_cost_little_and_are_all_listed() {
    if cairn_accept::binary().is_none() {
        cairn_accept::skip("waiters-crowd", "the cairn binary");
        return;
    }
    let options = crowd::Options { waiters: 40_000, connections: 16, bound_bytes: 16 << 20 };
    let summary = crowd::run(&options).expect("it runs");
    assert!(summary.is_good(), "{summary}");
}

#[test]
fn who_follows_hears_of_each_waiter_once() {
    let test = "waiters-followed";
    let Some(mut served) = Served::start_with(test, |setup| setup.shards = 2) else { return };
    if served.is_foreign() {
        return;
    }
    let (file, _, version) = released(&mut served, test, MIB);
    let mut client = served.connect();
    is(client.read_once(&file, 0, 4096), JUKEBOX);
    let daemon = served.daemon(test).expect("ours");
    let mut follow =
        cairn_accept::cairn(&["data-waiting", "--follow", "--json", "--socket"]).expect("built");
    follow.arg(daemon.socket()).stdout(Stdio::piped());
    let mut follow = follow.spawn().expect("runs");
    let mut lines = BufReader::new(follow.stdout.take().expect("piped")).lines();
    let mut next = || -> u64 {
        let line = lines.next().expect("it goes on").expect("text");
        let waiter: Value = serde_json::from_str(&line).expect("an object");
        waiter["block"].as_u64().expect("a number")
    };
    assert_eq!(next(), 0);
    for block in [7, 0, 3, 7] {
        is(client.read_once(&file, block * 4096, 4096), JUKEBOX);
    }
    assert_eq!([next(), next()], [7, 3]);
    // Served, released again, asked for again: it is a recall of its own.
    let copied = copy(daemon);
    daemon.told(&["stage", &copied, "/file", "-V", &version]);
    daemon.told(&["release", "/file", "-V", &version]);
    is(client.read_once(&file, 0, 4096), JUKEBOX);
    assert_eq!(next(), 0);
    daemon.stop_and_check().expect("the verifier finds nothing");
    let ended = eventually(LIMIT, || follow.try_wait().expect("it is ours"));
    assert_eq!(ended.and_then(|status| status.code()), Some(0), "it ends with the daemon");
}
