//! The command line as scripts see it: help, exit codes, error lines, records, and a daemon from
//! its first use to its end. What files do is tested elsewhere.

#![allow(clippy::unwrap_used, reason = "a helper of a test fails like the test")]

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;
use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::net::TcpListener;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use tempfile::TempDir;

const VERBS: &[&str] = &[
    "up",
    "serve",
    "format",
    "check",
    "print",
    "status",
    "df",
    "exports",
    "statfs",
    "stat",
    "walk-inodes",
    "changes",
    "ino-path",
    "get-referring-entries",
    "setattr",
    "get-attr-x",
    "set-attr-x",
    "get-fiemap",
    "punch-offline",
    "resize-devices",
    "counters",
    "top",
    "completions",
    "man",
    "version",
];

fn binary() -> PathBuf {
    std::env::var_os("CAIRN_BIN").map_or_else(|| env!("CARGO_BIN_EXE_cairn").into(), PathBuf::from)
}

fn cairn(dir: &Path, arguments: &[&str]) -> Output {
    let mut command = Command::new(binary());
    command.current_dir(dir).args(arguments).env_remove("CAIRN_SOCKET");
    command.output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

/// A daemon on an embedded pool in `dir`; killed when dropped.
struct Up {
    child: Child,
    ready: Value,
}

impl Up {
    fn start(dir: &Path, arguments: &[&str]) -> Up {
        let mut command = Command::new(binary());
        command.current_dir(dir).args(["up", "--json", "--size", "256M", "--nfs", "127.0.0.1:0"]);
        let mut child = command.args(arguments).stdout(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let ready = serde_json::from_str(&line).unwrap_or_else(|_| panic!("no ready: {line:?}"));
        Up { child, ready }
    }

    fn signal(&mut self, signal: Signal) -> Option<i32> {
        kill(Pid::from_raw(self.child.id() as i32), signal).unwrap();
        self.child.wait().unwrap().code()
    }
}

impl Drop for Up {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[track_caller]
fn refused(output: &Output, code: i32, line: &str) {
    let said = text(&output.stderr);
    assert_eq!(output.status.code(), Some(code), "{said}");
    assert!(said.lines().any(|said| said == line), "expected {line:?}, got {said}");
    assert_eq!(text(&output.stdout), "", "stdout is for records");
}

#[test]
fn every_verb_explains_itself_with_an_example() {
    let dir = TempDir::new().unwrap();
    let overview = text(&cairn(dir.path(), &["--help"]).stdout);
    for verb in VERBS {
        assert!(overview.contains(&format!("\n  {verb} ")), "{verb} is not in the overview");
        let help = cairn(dir.path(), &[verb, "--help"]);
        assert_eq!(help.status.code(), Some(0));
        let help = text(&help.stdout);
        assert!(help.contains(&format!("\n  cairn {verb}")), "{verb} has no example:\n{help}");
    }
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0, "help makes nothing");
}

#[test]
fn a_daemon_serves_from_its_first_use_and_ends_when_told() {
    let dir = TempDir::new().unwrap();
    let dir = dir.path();
    let mut up = Up::start(dir, &["--shards", "2"]);
    assert_eq!(up.ready["event"], "ready");
    assert_eq!(up.ready["socket"], "./cairn-data/control.sock");
    let port = up.ready["nfs_port"].as_u64().unwrap();
    assert!(up.ready["commands"][0].as_str().unwrap().contains(&format!("nfsport={port}&")));

    let status: Value = serde_json::from_slice(&cairn(dir, &["status", "--json"]).stdout).unwrap();
    assert_eq!(status["health"], "ok");
    assert_eq!(status["shards"].as_array().unwrap().len(), 2);
    let root = text(&cairn(dir, &["stat", "/"]).stdout);
    assert!(root.starts_with("ino 1\nmode 0040755\nnlink 2\n"), "{root}");
    assert_eq!(text(&cairn(dir, &["stat", "ino:1", "--single-field", "ino"]).stdout), "1\n");
    let stat: Value = serde_json::from_slice(&cairn(dir, &["stat", "/", "--json"]).stdout).unwrap();
    assert_eq!(stat["mode"], 0o040_755);
    let walk = text(&cairn(dir, &["walk-inodes", "meta_seq", "0", "-1"]).stdout);
    assert_eq!(walk, format!("{} 1\n", stat["meta_seq"]), "a new pool holds only the root");
    assert_eq!(text(&cairn(dir, &["walk-inodes", "data_seq", "0", "-1"]).stdout), "");
    assert_eq!(text(&cairn(dir, &["statfs", "--single-field", "inodes"]).stdout), "1\n");
    let none = cairn(dir, &["counters", "--prefix", "nope_"]);
    let said = "no counter's name begins so: `cairn counters` has all names (ENOENT)";
    refused(&none, 1, &format!("cairn: counters nope_: {said}"));
    let far = text(&cairn(dir, &["resize-devices", "--size", "8000P"]).stderr);
    assert!(far.contains("its file cannot be so long"), "{far}");
    assert!(text(&cairn(dir, &["df"]).stdout).starts_with("mixed 4096 65536 "));

    let missing = cairn(dir, &["stat", "/nothing"]);
    refused(&missing, 1, "cairn: stat /nothing: no such file or directory (ENOENT)");
    let gone = cairn(dir, &["stat", "ino:4198401"]);
    refused(&gone, 1, "cairn: stat ino:4198401: there is no such inode, or no longer (ESTALE)");

    assert_eq!(up.signal(Signal::SIGTERM), Some(0));
    assert!(!dir.join("cairn-data/control.sock").exists());
    let checked = cairn(dir, &["check", "--data"]);
    assert_eq!(checked.status.code(), Some(0), "{}", text(&checked.stderr));
    let fsid = |status: &Value| status["fsid"].as_str().unwrap().to_owned();
    let mut again = Up::start(dir, &["--shards", "3", "--memtable", "256K"]);
    let later: Value = serde_json::from_slice(&cairn(dir, &["status", "--json"]).stdout).unwrap();
    assert_eq!(fsid(&later), fsid(&status), "it is the same pool");
    assert!(later["epoch"].as_u64() > status["epoch"].as_u64());
    assert_eq!(later["shards"][2]["memtable_bytes_max"], 256 << 10);
    assert_eq!(again.signal(Signal::SIGINT), Some(0));
}

#[test]
fn a_pool_has_one_daemon_and_its_socket_one_owner() {
    let dir = TempDir::new().unwrap();
    let dir = dir.path();
    let _first = Up::start(dir, &[]);
    let second = cairn(dir, &["up", "--nfs", "127.0.0.1:0"]);
    let text = "./cairn-data/pool is in use by another process (EBUSY)";
    refused(&second, 1, &format!("cairn: up ./cairn-data: {text}"));
    let in_use = "./cairn-data/pool is in use by another process; check it on line: \
                  cairn check --socket ./cairn-data/control.sock (EBUSY)";
    refused(&cairn(dir, &["check"]), 2, &format!("cairn: check ./cairn-data: {in_use}"));
    refused(&cairn(dir, &["print"]), 1, &format!("cairn: print ./cairn-data: {text}"));
    let format = cairn(dir, &["format", "--dir", "./cairn-data", "--force"]);
    refused(&format, 1, &format!("cairn: format ./cairn-data: {text}"));
    let other = ["up", "--dir", "b", "--size", "256M", "--nfs", "127.0.0.1:0", "--socket"];
    let other = cairn(dir, &[&other[..], &["./cairn-data/control.sock"]].concat());
    let text = "cannot listen on ./cairn-data/control.sock: address already in use: a daemon listens there; \
                stop it, or name another with --socket (control.socket) (EADDRINUSE)";
    refused(&other, 1, &format!("cairn: up b: {text}"));
    assert_eq!(cairn(dir, &["status"]).status.code(), Some(0), "the first is not disturbed");
}

#[test]
fn a_port_in_use_is_refused_before_anything_is_made() {
    let dir = TempDir::new().unwrap();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    let nfs = format!("127.0.0.1:{port}");
    let output = cairn(dir.path(), &["up", "--size", "256M", "--nfs", &nfs]);
    assert_eq!(output.status.code(), Some(1));
    let said = text(&output.stderr);
    assert!(said.contains(&format!("cairn: up ./cairn-data: cannot listen on {nfs}")), "{said}");
    assert!(said.contains("(EADDRINUSE)"), "{said}");
    assert!(!dir.path().join("cairn-data").exists());
}

#[test]
fn what_is_not_a_pool_is_neither_served_nor_formatted() {
    let dir = TempDir::new().unwrap();
    let dir = dir.path();
    fs::create_dir(dir.join("cairn-data")).unwrap();
    let file = dir.join("cairn-data/pool");
    fs::write(&file, vec![b'x'; 1 << 20]).unwrap();
    for (verb, code) in [("up", 1), ("check", 2), ("print", 1)] {
        let arguments: &[&str] =
            if verb == "up" { &["up", "--nfs", "127.0.0.1:0"] } else { &[verb] };
        let output = cairn(dir, arguments);
        assert_eq!(output.status.code(), Some(code));
        let said = text(&output.stderr);
        assert!(said.contains(&format!("cairn: {verb} ./cairn-data: ")), "{said}");
        assert!(said.contains("not a device of a pool (EINVAL)"), "{said}");
    }
    assert_eq!(fs::read(&file).unwrap(), vec![b'x'; 1 << 20], "it was only read");
}

#[test]
fn format_makes_a_pool_once_and_spares_what_it_knows() {
    let dir = TempDir::new().unwrap();
    let dir = dir.path();
    let make = |name: &str| File::create(dir.join(name)).unwrap().set_len(256 << 20).unwrap();
    make("meta");
    make("data");
    let devices = ["format", "--meta", "meta", "--data", "data"];
    let made = cairn(dir, &[&devices[..], &["--tablets", "16", "--json"]].concat());
    assert_eq!(made.status.code(), Some(0), "{}", text(&made.stderr));
    let record: Value = serde_json::from_slice(&made.stdout).unwrap();
    assert_eq!(record["tablets"], 16);
    let again = cairn(dir, &devices);
    let said = format!(
        "cairn: format meta data: meta holds a device of the pool {}: name another device, or --force \
         destroys it (EEXIST)",
        record["fsid"].as_str().unwrap()
    );
    refused(&again, 1, &said);
    let forced = cairn(dir, &[&devices[..], &["--force", "--json"]].concat());
    let second: Value = serde_json::from_slice(&forced.stdout).unwrap();
    assert_ne!(second["fsid"], record["fsid"]);
    let checked = cairn(dir, &["check", "--meta", "meta", "--data", "data", "--data"]);
    assert_eq!(checked.status.code(), Some(0), "{}", text(&checked.stderr));
    let shown = cairn(dir, &["print", "--meta", "meta", "--data", "data", "--json"]);
    let superblock: Value = serde_json::from_slice(&shown.stdout).unwrap();
    assert_eq!(superblock["fsid"], second["fsid"]);
    let small = cairn(dir, &["format", "--dir", "small", "--size", "1M"]);
    assert_eq!(small.status.code(), Some(1));
    assert!(text(&small.stderr).contains("(ENOSPC)"), "{}", text(&small.stderr));
    assert!(text(&small.stderr).contains("small/pool is too small"), "{}", text(&small.stderr));
    assert!(!dir.join("small").exists());
    let embedded = ["format", "--dir", "kept", "--size", "256M", "--json"];
    let kept: Value = serde_json::from_slice(&cairn(dir, &embedded).stdout).unwrap();
    let failed = cairn(dir, &["format", "--dir", "kept", "--size", "1M", "--force"]);
    assert_eq!(failed.status.code(), Some(1));
    let shown = cairn(dir, &["print", "--dir", "kept", "--json"]);
    let superblock: Value = serde_json::from_slice(&shown.stdout).unwrap();
    assert_eq!(superblock["fsid"], kept["fsid"], "the pool that was to be replaced is there");
    assert_eq!(fs::read_dir(dir.join("kept")).unwrap().count(), 1);
}

#[test]
fn a_pool_whose_disk_is_not_mounted_is_not_made_anew() {
    let dir = TempDir::new().unwrap();
    let dir = dir.path();
    fs::create_dir(dir.join("cairn-data")).unwrap();
    std::os::unix::fs::symlink("/nowhere/pool", dir.join("cairn-data/pool")).unwrap();
    let output = cairn(dir, &["up", "--nfs", "127.0.0.1:0"]);
    let said =
        "cairn: up ./cairn-data: cannot open ./cairn-data/pool: no such file or directory (ENOENT)";
    refused(&output, 1, said);
    assert!(dir.join("cairn-data/pool").is_symlink());
}

#[test]
fn a_socket_that_cannot_be_is_refused_before_there_is_a_pool() {
    let dir = TempDir::new().unwrap();
    let dir = dir.path();
    let long = "s".repeat(108);
    for (socket, errno) in [
        (long.as_str(), "it has 108 bytes, a socket's path at most 106; take a shorter --dir"),
        ("none/s", "ENOENT"),
        (".", "it is no socket; remove it, or name another place with --socket"),
    ] {
        let output =
            cairn(dir, &["up", "--size", "256M", "--nfs", "127.0.0.1:0", "--socket", socket]);
        assert_eq!(output.status.code(), Some(1));
        let said = text(&output.stderr);
        let line = format!("cairn: up ./cairn-data: cannot listen on {socket}: ");
        assert!(said.starts_with(&line) && said.contains(errno), "{said}");
        let asked = cairn(dir, &["status", "--socket", socket]);
        assert_eq!(asked.status.code(), Some(1));
    }
    let unnamed = std::ffi::OsStr::from_bytes(b"s\xff");
    let mut up = Command::new(binary());
    up.current_dir(dir).args(["up", "--size", "256M", "--nfs", "127.0.0.1:0", "--socket"]);
    let output = up.arg(unnamed).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let said = text(&output.stderr);
    assert!(said.contains("it is not UTF-8, and no client could name it"), "{said}");
    assert_eq!(fs::read_dir(dir).unwrap().count(), 0);
}

#[test]
fn more_memory_than_there_is_is_refused_before_anything_is_made() {
    let dir = TempDir::new().unwrap();
    for option in ["--memory", "--memtable", "--data-cache"] {
        let output = cairn(dir.path(), &["up", "--nfs", "127.0.0.1:0", option, "15E"]);
        assert_eq!(output.status.code(), Some(1), "{option}");
        let said = text(&output.stderr);
        assert!(said.contains("more than this machine's memory"), "{said}");
    }
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
}

#[test]
fn a_daemon_whose_stdout_is_full_says_so_once_and_serves() {
    let dir = TempDir::new().unwrap();
    let full = File::options().write(true).open("/dev/full").unwrap();
    let mut command = Command::new(binary());
    command.current_dir(dir.path()).args(["up", "--size", "256M", "--nfs", "127.0.0.1:0"]);
    let mut child = command.stdout(full).stderr(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines().map_while(Result::ok);
    let told = lines.find(|line| line.contains("cannot say ready")).unwrap_or_default();
    let mut up = Up { child, ready: Value::Null };
    assert!(told.ends_with("stdout: no space left on device (ENOSPC)"), "{told}");
    assert!(cairn(dir.path(), &["statfs"]).status.success());
    assert_eq!(up.signal(Signal::SIGTERM), Some(0));
}

#[test]
fn who_listens_without_a_word_is_not_waited_for() {
    let dir = TempDir::new().unwrap();
    let socket = dir.path().join("mute");
    let _listener = std::os::unix::net::UnixListener::bind(&socket).unwrap();
    let output = cairn(dir.path(), &["status", "--socket", "mute"]);
    refused(
        &output,
        1,
        "cairn: status mute: who listens there does not answer: is it a daemon, and not stopped? \
         (ETIMEDOUT)",
    );
}

#[test]
fn serve_takes_its_orders_from_a_file() {
    let dir = TempDir::new().unwrap();
    let dir = dir.path();
    assert!(cairn(dir, &["format", "--dir", "pool", "--size", "256M"]).status.success());
    let config =
        "[pool]\ndir = 'pool'\n[nfs]\nlisten = '127.0.0.1:0'\n[control]\nsocket = 'sock'\n";
    fs::write(dir.join("cairn.toml"), config).unwrap();
    let mut command = Command::new(binary());
    command.current_dir(dir).args(["serve", "--config", "cairn.toml"]).stdout(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let ready = lines.next().unwrap().unwrap();
    assert!(ready.starts_with("ready nfs 127.0.0.1:"), "{ready}");
    let mut up = Up { child, ready: Value::Null };
    assert!(cairn(dir, &["statfs", "--socket", "sock"]).status.success());
    assert_eq!(up.signal(Signal::SIGTERM), Some(0));
    fs::write(dir.join("cairn.toml"), "[pool]\ndir = 'missing'\n").unwrap();
    let missing = cairn(dir, &["serve", "--config", "cairn.toml"]);
    let said = "cairn: serve missing: cannot open missing/pool: no such file or directory (ENOENT)";
    refused(&missing, 1, said);
    fs::write(dir.join("cairn.toml"), "[pool]\nfolder = 'pool'\n").unwrap();
    let wrong = text(&cairn(dir, &["serve", "--config", "cairn.toml"]).stderr);
    assert!(wrong.starts_with("cairn: serve cairn.toml: line 2: unknown field"), "{wrong}");
}

#[test]
fn up_listens_on_every_address_it_is_given() {
    if TcpListener::bind("[::1]:0").is_err() {
        return; // a machine without IPv6
    }
    let dir = TempDir::new().unwrap();
    let mut up = Up::start(dir.path(), &["--nfs", "[::1]:0"]);
    let all = up.ready["nfs_all"].as_array().unwrap().clone();
    assert_eq!(all.len(), 2, "{:?}", up.ready);
    assert_eq!(all[0], up.ready["nfs"]);
    for address in &all {
        let address = address.as_str().unwrap();
        assert!(std::net::TcpStream::connect(address).is_ok(), "{address}");
    }
    let shown = cairn(dir.path(), &["exports", "--json"]);
    let shown: Value = serde_json::from_slice(&shown.stdout).unwrap();
    assert_eq!(shown["exports"][0]["clients"], serde_json::json!(["127.0.0.0/8", "::1/128"]));
    assert_eq!(shown["config"], Value::Null);
    assert_eq!(up.signal(Signal::SIGTERM), Some(0));
    let twice = ["up", "--nfs", "127.0.0.1:1", "--nfs", "127.0.0.1:1"];
    let twice = cairn(dir.path(), &twice);
    refused(&twice, 2, "cairn: up --nfs: 127.0.0.1:1 comes twice (EINVAL)");
}

#[test]
fn without_a_daemon_live_commands_name_the_socket() {
    let dir = TempDir::new().unwrap();
    let way_out =
        "no daemon listens there; start one with `cairn up`, or name another with --socket";
    let output = cairn(dir.path(), &["status", "--socket", "no.sock"]);
    refused(&output, 1, &format!("cairn: status no.sock: {way_out} (ENOENT)"));
    drop(std::os::unix::net::UnixListener::bind(dir.path().join("left")).unwrap());
    let output = cairn(dir.path(), &["status", "--socket", "left"]);
    refused(&output, 1, &format!("cairn: status left: {way_out} (ECONNREFUSED)"));
    fs::write(dir.path().join("file"), "").unwrap();
    for place in ["file", ".", "/dev/null"] {
        let output = cairn(dir.path(), &["status", "--socket", place]);
        let said = "is no socket; name the socket of a daemon with --socket (ENOTSOCK)";
        refused(&output, 1, &format!("cairn: status {place}: {said}"));
    }
    let long = "s".repeat(108);
    let output = cairn(dir.path(), &["status", "--socket", &long]);
    let said = format!(
        "cairn: status {long}: the path of a socket has at most 107 bytes, this one 108; name a shorter \
         one with --socket, or serve a --dir with a shorter path (ENAMETOOLONG)"
    );
    refused(&output, 1, &said);
    let mut command = Command::new(binary());
    command.current_dir(dir.path()).arg("df").env("CAIRN_SOCKET", "other.sock");
    let output = command.output().unwrap();
    refused(&output, 1, &format!("cairn: df other.sock: {way_out} (ENOENT)"));
}

#[test]
fn wrong_usage_is_2() {
    let dir = TempDir::new().unwrap();
    for arguments in [
        &["walk-inodes", "meta_seq", "0", "-2"][..],
        &["walk-inodes", "size", "0", "-1"],
        &["stat", "relative/path"],
        &["stat", "ino:none"],
        &["stat", "ino:0"],
        &["changes", "--since", "-1"],
        &["changes"],
        &["changes", "--since", "0", "--consumer", "tape"],
        &["changes", "consumer"],
        &["changes", "consumer", "add", "tape", "--from", "-1"],
        &["changes", "consumer", "ack", "tape", "-1"],
        &["up", "--nfs", "localhost:2049"],
        &["format"],
        &["format", "--dir", "d", "--meta", "m"],
        &["up", "--memtable", "1.5M"],
        &["print", "items", "--tablet", "-1"],
    ] {
        let output = cairn(dir.path(), arguments);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {}", text(&output.stderr));
        assert!(!text(&output.stderr).contains("unexpected argument"), "{arguments:?}");
    }
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
}
