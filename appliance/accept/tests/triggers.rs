//! `cairn debug trigger`: faults by name, once each, in a daemon that was started for them.

use cairn_accept::nfs3_types::nfs3::*;
use cairn_accept::{Client, Daemon, Served, eventually};
use serde_json::Value;
use std::fs;
use std::time::Duration;

const MIB: usize = 1 << 20;

fn field(daemon: &Daemon, name: &str) -> String {
    daemon.told(&["stat", "/file", "--single-field", name]).trim().to_owned()
}

/// How often it waits for its place, and how often it fired.
fn counted(daemon: &Daemon, name: &str) -> (u64, u64) {
    let json = daemon.told(&["debug", "triggers", "--json"]);
    let all = json.lines().map(|line| serde_json::from_str::<Value>(line).expect("an object"));
    let one = all.into_iter().find(|one| one["name"] == name).expect("it is listed");
    (one["armed"].as_u64().expect("a number"), one["fired"].as_u64().expect("a number"))
}

fn written(client: &mut Client, bytes: &[u8]) -> nfs_fh3 {
    let root = client.root().clone();
    let how = createhow3::GUARDED(sattr3::default());
    let file = client.create(&root, b"file", how).expect("create").handle;
    for (nth, piece) in bytes.chunks(MIB / 2).enumerate() {
        let offset = (nth * MIB / 2) as u64;
        client.write(&file, offset, piece, stable_how::UNSTABLE).expect("write");
    }
    client.commit(&file, 0, 0).expect("commit");
    file
}

/// It is about to die, and is started again when it has.
fn after_its_death(daemon: &mut Daemon) {
    let died = eventually(Duration::from_secs(30), || daemon.expect_alive().err());
    assert!(died.is_some(), "it should have died");
    daemon.restart().expect("starts again");
}

#[test]
fn a_daemon_dies_in_the_middle_of_releases_and_stages_and_nothing_is_lost() {
    let test = "triggers";
    let started = Served::start_with(test, |setup| {
        setup.shards = 2;
        setup.arguments = vec!["--debug-triggers".into()];
    });
    let Some(mut served) = started else { return };
    if served.is_foreign() {
        return;
    }
    let bytes: Vec<u8> = (0..18 * MIB).map(|n| (n / 3 + n / 4096) as u8).collect();
    let mut client = served.connect();
    let file = written(&mut client, &bytes);
    let daemon = served.daemon(test).expect("ours");
    let (ino, version) = (field(daemon, "ino"), field(daemon, "data_version"));
    let copy = daemon.dir().join("copy");
    fs::write(&copy, &bytes).expect("written");
    let copy = copy.to_str().expect("UTF-8").to_owned();

    // What is wrong is told, and sets off nothing.
    for (arguments, why) in [
        (&["debug", "trigger", "what"][..], "cairn debug triggers"),
        (&["debug", "trigger", "refuse-zone", "--ino", "7"], "leave --ino out"),
    ] {
        daemon.refuses(arguments, 1, why);
    }
    assert_eq!(counted(daemon, "refuse-zone"), (0, 0));

    // One call is answered "later", another file's is not.
    daemon.told(&["debug", "trigger", "answer-busy", "--ino", &ino]);
    let root = client.root().clone();
    client.getattr(&root).expect("another inode");
    assert_eq!(counted(daemon, "answer-busy"), (1, 0));
    let read = client.read_once(&file, 0, 4096).map(drop);
    assert_eq!(read.expect_err("busy").status(), Some(nfsstat3::NFS3ERR_JUKEBOX));
    client.read_once(&file, 0, 4096).expect("once only");
    assert_eq!(counted(daemon, "answer-busy"), (0, 1));

    // One operation is refused room, the next one has it.
    daemon.told(&["debug", "trigger", "refuse-permit"]);
    let make = |client: &mut Client| client.mkdir(&root, b"dir", sattr3::default()).map(drop);
    assert_eq!(make(&mut client).expect_err("full").status(), Some(nfsstat3::NFS3ERR_NOSPC));
    make(&mut client).expect("once only");

    // A release dies behind its first step of 16 MiB; another does the rest.
    daemon.told(&["debug", "trigger", "die-in-release", "--ino", &ino]);
    let release = ["release", "/file", "-V", &version];
    daemon.refuses(&release, 1, "release");
    after_its_death(daemon);
    assert_eq!(
        (field(daemon, "offline_blocks"), field(daemon, "online_blocks")),
        ("4096".into(), "512".into())
    );
    assert_eq!(daemon.told(&release), "released_blocks 512\n");

    // A stage dies when its bytes are written and not in the file; another brings them.
    daemon.told(&["debug", "trigger", "die-in-stage", "--ino", &ino]);
    let stage = ["stage", &copy, "/file", "-V", &version];
    daemon.refuses(&stage, 1, "stage");
    after_its_death(daemon);
    assert!(field(daemon, "offline_blocks").parse::<u64>().expect("a number") > 0);
    daemon.told(&stage);
    assert_eq!(
        (field(daemon, "offline_blocks"), field(daemon, "data_version")),
        ("0".into(), version)
    );

    // And what is acknowledged outlives a death at a batch of the log.
    daemon.told(&["debug", "trigger", "die-at-log-batch"]);
    let mut client = served.connect();
    client.mkdir(&root, b"never", sattr3::default()).map(drop).expect_err("it died");
    let daemon = served.daemon(test).expect("ours");
    after_its_death(daemon);
    let mut client = served.connect();
    let missing = client.lookup(&root, b"never").map(drop).expect_err("it was never logged");
    assert!(missing.is_no_entry(), "{missing}");
    let mut at = 0;
    while at < bytes.len() {
        let read = client.read(&file, at as u64, MIB as u32).expect("read");
        assert!(*read.data == bytes[at..at + read.data.len()], "wrong bytes behind {at}");
        at += read.data.len();
    }
    let daemon = served.daemon(test).expect("ours");
    daemon.stop_and_check().expect("the verifier finds nothing");
}

#[test]
fn a_daemon_for_users_sets_off_nothing() {
    let test = "no-triggers";
    let Some(mut served) = Served::start_with(test, |_| {}) else { return };
    if served.is_foreign() {
        return;
    }
    let daemon = served.daemon(test).expect("ours");
    for arguments in [&["debug", "trigger", "refuse-zone"][..], &["debug", "triggers"]] {
        daemon.refuses(arguments, 1, "--debug-triggers (EPERM)");
    }
}
