//! `cairn getfattr`, `setfattr`, `listfattr` and `list-hidden-xattrs`: what an agent notes of a file is there
//! after a kill, and reaches it again with the file's deletion.

use cairn_accept::nfs3_types::nfs3::*;
use cairn_accept::{Daemon, Finished, Served, cairn};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::path::Path;

#[track_caller]
fn objects(daemon: &Daemon, arguments: &[&str]) -> Vec<Value> {
    let arguments = [arguments, &["--json"]].concat();
    let lines = daemon.told(&arguments);
    let object = |line: &str| serde_json::from_str(line).unwrap_or_else(|e| panic!("{line}: {e}"));
    lines.lines().map(object).collect()
}

fn sorted(lines: &str) -> Vec<&str> {
    let mut lines: Vec<&str> = lines.lines().collect();
    lines.sort_unstable();
    lines
}

/// A value's bytes as the command writes them, which need not be text.
fn raw(daemon: &Daemon, target: &str, name: &str) -> Vec<u8> {
    let mut command = cairn(&["getfattr", target, name]).expect("a program");
    let output = command.arg("--socket").arg(daemon.socket()).output().expect("runs");
    assert!(output.status.success(), "{output:?}");
    output.stdout
}

fn set_from(daemon: &Daemon, target: &str, name: &str, value: &[u8], dir: &Path) -> Finished {
    let file = dir.join("value");
    std::fs::write(&file, value).expect("write");
    daemon
        .command(&["setfattr", target, name, "--value-file", file.to_str().expect("UTF-8")])
        .expect("runs")
}

#[test]
fn what_is_set_is_read_listed_and_removed_by_its_name() {
    let test = "xattrs";
    let Some(mut served) = Served::start_with(test, |setup| setup.shards = 2) else { return };
    if served.is_foreign() {
        return;
    }
    let mut client = served.connect();
    let root = client.root().clone();
    let dir = client.mkdir(&root, b"dir", sattr3::default()).expect("mkdir");
    let how = createhow3::GUARDED(sattr3::default());
    let file = client.create(&dir.handle, b"file", how).expect("create");
    let link = client.symlink(&dir.handle, b"link", b"file").expect("symlink");
    let scratch = tempfile::tempdir().expect("a temporary folder");
    let daemon = served.daemon(test).expect("ours");
    let path = "/dir/file";
    let by_number = format!("ino:{}", file.attr.fileid);

    let before = daemon.told(&["stat", path, "--single-field", "meta_seq"]);
    assert_eq!(daemon.told(&["setfattr", path, "user.a", "one"]), "");
    let after = daemon.told(&["stat", path, "--single-field", "meta_seq"]);
    assert!(after.trim().parse::<u64>().ok() > before.trim().parse().ok(), "{before} {after}");
    daemon.told(&["setfattr", &by_number, "trusted.b", "two\nlines"]);
    daemon.told(&["setfattr", path, "security.c", ""]);
    daemon.told(&["setfattr", path, "cairn.hide.tape", "A00001L8"]);
    daemon.told(&["setfattr", path, "scoutfs.hide.tape", "the other prefix"]);
    let bytes: Vec<u8> = (0..=255).collect();
    set_from(daemon, path, "user.bytes", &bytes, scratch.path()).succeeded("set").expect("set");

    // Values: raw, in one line, and in JSON.
    assert_eq!(raw(daemon, path, "user.bytes"), bytes);
    assert_eq!(raw(daemon, &by_number, "trusted.b"), b"two\nlines");
    assert_eq!(raw(daemon, path, "security.c"), b"");
    assert_eq!(daemon.told(&["getfattr", path, "cairn.hide.tape"]), "A00001L8");
    assert_eq!(daemon.told(&["getfattr", path, "scoutfs.hide.tape"]), "the other prefix");
    let one = objects(daemon, &["getfattr", path, "user.a"]);
    assert_eq!(one, [json!({ "name": "user.a", "value": "one" })]);
    let base64 = &objects(daemon, &["getfattr", path, "user.bytes"])[0]["value_b64"];
    assert!(base64.as_str().is_some_and(|text| text.starts_with("AAECAwQF")), "{base64}");
    let all = objects(daemon, &["getfattr", path]);
    let names: BTreeSet<&str> = all.iter().filter_map(|each| each["name"].as_str()).collect();
    assert_eq!(names, BTreeSet::from(["security.c", "trusted.b", "user.a", "user.bytes"]));
    let lines = daemon.told(&["getfattr", path]);
    assert!(lines.lines().any(|line| line == "trusted.b two\\nlines"), "a record is a line");

    // Names: the hidden ones in a list of their own.
    let visible = daemon.told(&["listfattr", path]);
    assert_eq!(sorted(&visible), ["security.c", "trusted.b", "user.a", "user.bytes"]);
    let hidden = daemon.told(&["list-hidden-xattrs", &by_number]);
    assert_eq!(sorted(&hidden), ["cairn.hide.tape", "scoutfs.hide.tape"]);
    assert_eq!(objects(daemon, &["listfattr", "/dir"]), [json!(null); 0]);
    assert_eq!(objects(daemon, &["list-hidden-xattrs", path]).len(), 2);

    // Only if there is one, only if there is none.
    daemon.refuses(&["setfattr", path, "user.a", "x", "--create"], 1, "(EEXIST)");
    daemon.refuses(&["setfattr", path, "user.new", "x", "--replace"], 1, "(ENODATA)");
    daemon.told(&["setfattr", path, "user.new", "x", "--create"]);
    daemon.told(&["setfattr", path, "user.new", "a longer one", "--replace"]);
    assert_eq!(daemon.told(&["getfattr", path, "user.new"]), "a longer one");
    daemon.told(&["setfattr", path, "--remove", "user.new"]);
    daemon.refuses(&["setfattr", path, "--remove", "user.new"], 1, "(ENODATA)");
    daemon.refuses(&["getfattr", path, "user.new"], 1, "no such extended attribute (ENODATA)");

    // The largest, and what is larger.
    let longest = format!("user.{}", "n".repeat(250));
    let largest: Vec<u8> = (0..65_535_u32).map(|n| ((n * 31) >> 3) as u8).collect();
    set_from(daemon, path, &longest, &largest, scratch.path()).succeeded("set").expect("set");
    assert_eq!(raw(daemon, path, &longest), largest);
    let over = set_from(daemon, path, "user.a", &[largest, vec![0]].concat(), scratch.path());
    assert!(over.stderr.contains("has at most 65535 bytes (E2BIG)"), "{}", over.stderr);
    assert_eq!(raw(daemon, path, "user.a"), b"one", "it stays as it was");
    let too_long = format!("{longest}n");
    daemon.refuses(&["setfattr", path, &too_long, "x"], 1, "has at most 255 bytes (ERANGE)");

    for (name, errno) in [
        ("scoutfs.plain", "(EINVAL)"),
        ("cairn.hide.hide.a", "(EINVAL)"),
        ("scoutfs.totl.indx.a", "(EINVAL)"),
        ("user.", "(EINVAL)"),
        ("", "(EINVAL)"),
        ("system.posix_acl_access", "(EOPNOTSUPP)"),
        ("tape", "(EOPNOTSUPP)"),
        ("scoutfs.srch.a", "that this version does not keep; hide alone works (EOPNOTSUPP)"),
        ("cairn.hide.totl.a.1.2.3", "(EOPNOTSUPP)"),
        ("scoutfs.indx.hide.1.2.a", "(EOPNOTSUPP)"),
    ] {
        daemon.refuses(&["setfattr", path, name, "x"], 1, errno);
    }
    daemon.refuses(&["getfattr", path, "cairn.srch.a"], 1, "(ENODATA)");
    daemon.refuses(&["setfattr", path, "user.a"], 2, "<VALUE>");
    daemon.refuses(&["setfattr", path, "user.a", "x", "--create", "--replace"], 2, "--replace");
    daemon.refuses(&["getfattr", "dir/file"], 2, "a path inside cairn begins with /");
    daemon.refuses(&["listfattr", "/dir/none"], 1, "cairn: listfattr /dir/none: no such file");
    daemon.refuses(&["list-hidden-xattrs", "/dir/file/"], 1, "not a directory (ENOTDIR)");
    daemon.refuses(&["listfattr", "ino:4198401"], 1, "or no longer (ESTALE)");
    // A link has no data of its own that a user could add to; an administrator may mark it.
    let link = format!("ino:{}", link.attr.fileid);
    daemon.refuses(&["setfattr", &link, "user.a", "x"], 1, "(EPERM)");
    daemon.told(&["setfattr", &link, "cairn.hide.a", "x"]);
}

#[test]
fn hidden_xattrs_come_with_the_deletion_after_a_kill() {
    let test = "xattrs_deleted";
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
    let mut made = Vec::new();
    for name in ["archived", "noted much", "plain"] {
        let how = createhow3::GUARDED(sattr3::default());
        made.push(client.create(&root, name.as_bytes(), how).expect("create"));
    }
    let scratch = tempfile::tempdir().expect("a temporary folder");
    let daemon = served.daemon(test).expect("ours");
    daemon.told(&["setfattr", "/archived", "cairn.hide.tape", "A00001L8"]);
    daemon.told(&["setfattr", "/archived", "user.visible", "not kept"]);
    let odd = set_from(daemon, "/archived", "scoutfs.hide.flags", b"\xff", scratch.path());
    odd.succeeded("set").expect("set");
    daemon.told(&["setfattr", "/noted much", "cairn.hide.tape", "B00002L8"]);
    let long = set_from(daemon, "/noted much", "cairn.hide.log", &[b'x'; 4096], scratch.path());
    long.succeeded("set").expect("set");
    // More names than one page has.
    for number in 0..300 {
        let name = format!("user.{number}");
        daemon.told(&["setfattr", "/noted much", &name, "value"]);
    }
    let listed = daemon.told(&["listfattr", "/noted much"]);
    let names: BTreeSet<&str> = listed.lines().collect();
    assert_eq!((names.len(), listed.lines().count()), (300, 300), "each once");
    assert_eq!(objects(daemon, &["getfattr", "/noted much"]).len(), 300);

    daemon.kill().expect("kill");
    daemon.restart().expect("restart");
    assert_eq!(daemon.told(&["getfattr", "/archived", "cairn.hide.tape"]), "A00001L8");
    let mut client = served.connect();
    for name in ["archived", "noted much", "plain"] {
        client.remove(&root, name.as_bytes()).expect("remove");
    }
    let daemon = served.daemon(test).expect("ours");
    daemon.kill().expect("kill");
    daemon.restart().expect("restart");

    let told = |daemon: &Daemon, ino: u64| -> Option<Value> {
        let all = objects(daemon, &["changes", "--since", "0"]);
        all.into_iter().find(|change| change["ino"] == ino && change["change"] == "deleted")
    };
    let notes: Vec<Value> = made
        .iter()
        .map(|made| {
            // The one with many takes steps, which a restart goes on with.
            let found = cairn_accept::eventually(std::time::Duration::from_secs(20), || {
                told(daemon, made.attr.fileid)
            });
            found.expect("its deletion is told")
        })
        .collect();
    let tape = json!({ "name": "cairn.hide.tape", "value": "A00001L8" });
    let flags = json!({ "name": "scoutfs.hide.flags", "value_b64": "/w==" });
    let kept = notes[0]["hidden_xattrs"].as_array().expect("a list");
    assert!(kept.len() == 2 && kept.contains(&tape) && kept.contains(&flags), "{kept:?}");
    assert_eq!(notes[0]["hidden_xattrs_cut"], false);
    assert_eq!(notes[0]["name"], "archived");
    let tape = json!({ "name": "cairn.hide.tape", "value": "B00002L8" });
    assert_eq!(notes[1]["hidden_xattrs"], json!([tape]), "4096 bytes are more than is kept");
    assert_eq!(notes[1]["hidden_xattrs_cut"], true);
    assert_eq!(
        (&notes[2]["hidden_xattrs"], &notes[2]["hidden_xattrs_cut"]),
        (&json!([]), &json!(false))
    );
}
