//! `cairn setattr`, `set-attr-x` and `get-attr-x`: a volume is lost, and its files come back from the archive.
//! NFS clients see sizes and times at once, and wait for the bytes.

use cairn_accept::nfs3_types::nfs3::*;
use cairn_accept::{Served, Tree};
use std::fs;

const MIB: usize = 1 << 20;

#[test]
fn a_lost_file_is_there_again_and_waits_for_its_bytes() {
    let test = "restore";
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
    let mut create = |name: &[u8]| {
        let how = createhow3::GUARDED(sattr3::default());
        client.create(&root, name, how).expect("create").handle
    };
    let file = create(b"file");
    create(b"huge");
    create(b"later");
    let written = create(b"written");
    client.write(&written, 0, b"data", stable_how::FILE_SYNC).expect("write");
    let bytes: Vec<u8> = (0..MIB + 5000).map(|n| (n / 3 + n / 4096) as u8).collect();
    let daemon = served.daemon(test).expect("ours");
    let copy = daemon.dir().join("copy");
    fs::write(&copy, &bytes).expect("written");
    let copy = copy.to_str().expect("UTF-8").to_owned();
    let size = bytes.len().to_string();

    // What makes no sense, of which nothing stays.
    daemon.refuses(&["setattr", "/", "-V", "7", "-s", "1", "-o"], 1, "EINVAL");
    daemon.refuses(&["setattr", "/none", "-V", "7", "-s", "1", "-o"], 1, "ENOENT");
    daemon.refuses(&["setattr", "ino:999999999", "-V", "7"], 1, "ESTALE");
    daemon.refuses(&["setattr", "/written", "-V", "7", "-s", "1", "-o"], 1, "EINVAL");
    daemon.refuses(&["setattr", "/file", "-V", "0", "-s", "1"], 2, "");
    daemon.refuses(&["setattr", "/file", "-V", "7", "-o"], 2, "");
    daemon.refuses(&["setattr", "/file", "-s", "1"], 2, "data version");
    daemon.refuses(&["setattr", "/file", "-t", "1.0000000001"], 2, "");
    let max = u64::MAX.to_string();
    daemon.refuses(&["setattr", "/file", "-V", &max, "-s", "1", "-o"], 1, "clock of this pool");
    daemon.refuses(&["setattr", "/file", "-V", "7", "-s", "17T", "-o"], 1, "EFBIG");
    daemon.refuses(&["setattr", "/file", "-V", "7", "-s", &max], 1, "EFBIG");
    assert_eq!(
        daemon.told(&["get-attr-x", "/file", "-s", "-v", "-f", "-n"]),
        "data_version 0\nonline_blocks 0\noffline_blocks 0\nsize 0\n"
    );

    let times = ["-t", "1700000000.000000001", "-r", "-5.5"];
    daemon.told(&[&["setattr", "/file", "-V", "7", "-s", &size, "-o"], &times[..]].concat());
    assert_eq!(daemon.told(&["get-attr-x", "/file", "-c"]), "1700000000.000000001\n");
    let json = daemon.told(&["get-attr-x", "/file", "-r", "-v", "-f", "--json"]);
    let json: serde_json::Value = serde_json::from_str(&json).expect("an object");
    let expect =
        serde_json::json!({"crtime": -5_500_000_000_i64, "data_version": 7, "offline_blocks": 258});
    assert_eq!(json, expect);
    daemon.refuses(&["setattr", "/file", "-V", "7", "-s", &size, "-o"], 1, "EINVAL");
    // 4 GiB take several records; a crash right behind the answer takes none of them.
    daemon.told(&["set-attr-x", "/huge", "-v", "9", "-s", "4G", "--size-offline", "--mtime", "5"]);
    daemon.kill().expect("killed");
    daemon.restart().expect("starts again");
    assert_eq!(daemon.told(&["get-attr-x", "/huge", "-f"]), "1048576\n");

    let jukebox = Some(nfsstat3::NFS3ERR_JUKEBOX);
    let mut client = served.connect();
    let huge = client.lookup(&root, b"huge").expect("lookup").handle;
    for (handle, at) in [(&file, 0), (&file, MIB as u64), (&huge, 0), (&huge, (4 << 30) - 1)] {
        let read = client.read_once(handle, at, 4096).map(drop);
        assert_eq!(read.expect_err("offline").status(), jukebox);
    }
    // Block by block: nothing is known of it that a block could wait for.
    let daemon = served.daemon(test).expect("ours");
    let part = ["stage", &copy, "/file", "-V", "7", "--length", "4096"];
    assert!(daemon.told(&part).contains("staged_blocks 1\n"));
    let read = client.read_once(&file, 0, 4096).expect("it is here");
    assert_eq!(read.data.as_ref(), &bytes[..4096]);
    let read = client.read_once(&file, 4096, 4096).map(drop);
    assert_eq!(read.expect_err("offline").status(), jukebox);
    let listed = daemon.told(&["get-fiemap", "/file"]);
    let lines: Vec<Vec<&str>> = listed.lines().map(|line| line.split(' ').collect()).collect();
    assert_eq!((&lines[0][..2], lines[0][4]), (&["0", "4096"][..], "-"), "{listed}");
    assert_eq!(lines[1], ["4096", "1052672", "-", "-", "OL"], "{listed}");
    let json = daemon.told(&["get-fiemap", "/file", "-o", "4096", "-l", "1", "--json"]);
    let json: serde_json::Value = serde_json::from_str(&json).expect("one object");
    let expect = serde_json::json!({"offset": 4096, "length": 4096, "device": null, "block": null,
        "offline": true, "unwritten": false, "inline": false, "last": false});
    assert_eq!(json, expect);
    assert_eq!(daemon.told(&["get-fiemap", "/later"]), "");
    let punch = |target, version, offset, length| {
        ["punch-offline", target, "-V", version, "-o", offset, "-l", length]
    };
    daemon.refuses(&punch("/", "0", "0", "4096"), 1, "EISDIR");
    daemon.refuses(&punch("ino:999999999", "0", "0", "4096"), 1, "ESTALE");
    daemon.refuses(&punch("/huge", "8", "0", "4096"), 1, "ESTALE");
    daemon.refuses(&punch("/huge", "9", "1", "4096"), 1, "EINVAL");
    daemon.refuses(&punch("/huge", "9", "0", "10"), 1, "EINVAL");
    daemon.refuses(&punch("/huge", "9", "18446744073709547520", "8192"), 1, "EINVAL");
    daemon.refuses(&punch("/file", "7", "0", "8192"), 1, "not offline");
    assert_eq!(daemon.told(&punch("/huge", "9", "4096", "1G")), "punched_blocks 262144\n");
    let again = [&punch("/huge", "9", "4096", "1G")[..], &["--json"]].concat();
    assert_eq!(daemon.told(&again), "{\"punched_blocks\":0}\n");
    let read = client.read_once(&huge, 4096, 4096).expect("a hole");
    assert!(read.data.as_ref().iter().all(|byte| *byte == 0));
    let read = client.read_once(&huge, 0, 4096).map(drop);
    assert_eq!(read.expect_err("offline").status(), jukebox);
    assert_eq!(
        daemon.told(&["get-fiemap", "/huge"]),
        "0 4096 - - O\n1073745920 3221221376 - - OL\n"
    );
    daemon.refuses(&["get-fiemap", "/"], 1, "EISDIR");
    daemon.refuses(&["get-fiemap", "/file", "-l", "0"], 1, "EINVAL");
    daemon.refuses(&["get-fiemap", "ino:999999999"], 1, "ESTALE");
    daemon.told(&["stage", &copy, "/file", "-V", "7"]);
    let mut tree = Tree::new(served.connect());
    assert!(tree.read_all(&file).expect("read") == bytes, "the file is what the archive has");

    let daemon = served.daemon(test).expect("ours");
    daemon.told(&["setattr", "/later", "-t", "1"]);
    assert_eq!(
        daemon.told(&["get-attr-x", "/later", "-v", "-c"]),
        "data_version 0\nctime 1.000000000\n"
    );
    daemon.told(&["set-attr-x", "/", "-r", "2"]);
    assert_eq!(daemon.told(&["get-attr-x", "/", "-r"]), "2.000000000\n");
    daemon.stop_and_check().expect("the verifier finds nothing");
}
