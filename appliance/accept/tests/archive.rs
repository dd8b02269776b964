//! `cairn release` and `cairn stage`: an agent copies a file out, releases it, and gives it back; NFS clients
//! meanwhile are told to come back, and never see a byte that is not the file's.

use cairn_accept::nfs3_types::nfs3::*;
use cairn_accept::{Daemon, Served, Tree};
use std::fs;

const MIB: usize = 1 << 20;

fn field(daemon: &Daemon, path: &str, name: &str) -> String {
    daemon.told(&["stat", path, "--single-field", name]).trim().to_owned()
}

#[test]
fn a_released_file_waits_for_its_own_bytes() {
    let test = "archive";
    let Some(mut served) =
        Served::start_with(test, |setup| setup.memtable = Some("256K".to_owned()))
    else {
        return;
    };
    if served.is_foreign() {
        return;
    }
    let mut client = served.connect();
    let root = client.root().clone();
    let bytes: Vec<u8> = (0..3 * MIB + 5000).map(|n| (n / 3 + n / 4096) as u8).collect();
    let how = createhow3::GUARDED(sattr3::default());
    let file = client.create(&root, b"file", how).expect("create").handle;
    for (nth, piece) in bytes.chunks(MIB / 4).enumerate() {
        let offset = (nth * MIB / 4) as u64;
        client.write(&file, offset, piece, stable_how::FILE_SYNC).expect("write");
    }
    let daemon = served.daemon(test).expect("ours");
    let copy = daemon.dir().join("copy");
    fs::write(&copy, &bytes).expect("written");
    let copy = copy.to_str().expect("UTF-8").to_owned();
    let version = field(daemon, "/file", "data_version");

    daemon.refuses(&["release", "/file", "--data-version", "7"], 1, "another data version");
    daemon.refuses(&["release", "/file", "-V", &version, "--offset", "1"], 1, "EINVAL");
    let released = daemon.told(&["release", "/file", "-V", &version]);
    assert_eq!(released, "released_blocks 770\n");
    assert_eq!(field(daemon, "/file", "online_blocks"), "0");
    assert_eq!(field(daemon, "/file", "offline_blocks"), "770");
    let jukebox = Some(nfsstat3::NFS3ERR_JUKEBOX);
    let read = client.read_once(&file, 0, 4096).map(drop);
    assert_eq!(read.expect_err("offline").status(), jukebox);

    // Other bytes are refused, wherever they differ, and stay unseen.
    let wrong = daemon.dir().join("wrong");
    let mut other = bytes.clone();
    other[2 * MIB + 77] ^= 1;
    fs::write(&wrong, &other).expect("written");
    let wrong = wrong.to_str().expect("UTF-8").to_owned();
    daemon.refuses(
        &["stage", &wrong, "/file", "-V", &version],
        1,
        "not the bytes that were released",
    );
    let read = client.read_once(&file, 2 * MIB as u64, 4096).map(drop);
    assert_eq!(read.expect_err("offline").status(), jukebox);
    daemon.refuses(&["stage", &copy, "/file", "-V", "7"], 1, "ESTALE");

    // A part, then a crash, then all of it.
    let part = ["stage", &copy, "/file", "-V", &version, "--length", "1M"];
    daemon.told(&part);
    daemon.kill().expect("killed");
    daemon.restart().expect("starts again");
    let json = daemon.told(&["stage", &copy, "/file", "-V", &version, "--json"]);
    let json: serde_json::Value = serde_json::from_str(&json).expect("an object");
    assert_eq!(json["bytes"], bytes.len());
    assert_eq!(field(daemon, "/file", "offline_blocks"), "0");
    let mut tree = Tree::new(served.connect());
    assert!(tree.read_all(&file).expect("read") == bytes, "the file is what it was");
    let daemon = served.daemon(test).expect("ours");
    assert_eq!(field(daemon, "/file", "data_version"), version);
    daemon.stop_and_check().expect("the verifier finds nothing");
}
