//! `cairn walk-inodes`: everything once, in the order of change, and from any place on.

use cairn_accept::nfs3_types::nfs3::*;
use cairn_accept::{Client, Daemon, Served, set_mode};
use std::collections::{BTreeMap, BTreeSet};

type Position = (u64, u64);

/// The (seq, inode) lines of a walk.
fn walk(daemon: &Daemon, index: &str, first: &str, last: &str) -> Vec<Position> {
    let finished = daemon.command(&["walk-inodes", index, first, last]).expect("runs");
    let stdout = finished.succeeded("cairn walk-inodes").unwrap_or_else(|e| panic!("{e:#}"));
    let position = |line: &str| -> Option<Position> {
        let (seq, ino) = line.split_once(' ')?;
        Some((seq.parse().ok()?, ino.parse().ok()?))
    };
    let line = |line: &str| position(line).unwrap_or_else(|| panic!("not `seq ino`: {line:?}"));
    stdout.lines().map(line).collect()
}

#[track_caller]
fn is_in_order_and_once(walked: &[Position]) {
    let out_of_order = walked.windows(2).find(|pair| pair[0] >= pair[1]);
    assert_eq!(out_of_order, None, "not in seq order");
    let inodes: BTreeSet<u64> = walked.iter().map(|position| position.1).collect();
    assert_eq!(inodes.len(), walked.len(), "an inode is listed twice");
}

fn inodes(walked: &[Position]) -> BTreeSet<u64> {
    walked.iter().map(|position| position.1).collect()
}

/// A tree over many tablets; answers every inode in it with its handle.
fn grow(client: &mut Client) -> BTreeMap<u64, nfs_fh3> {
    let root = client.root().clone();
    let mut all = BTreeMap::new();
    all.insert(client.getattr(&root).expect("getattr").fileid, root.clone());
    for outer in 0..12 {
        let name = format!("dir-{outer}");
        let dir = client.mkdir(&root, name.as_bytes(), sattr3::default()).expect("mkdir");
        all.insert(dir.attr.fileid, dir.handle.clone());
        for inner in 0..30 {
            let name = format!("file-{inner}");
            let how = createhow3::GUARDED(sattr3::default());
            let file = client.create(&dir.handle, name.as_bytes(), how).expect("create");
            all.insert(file.attr.fileid, file.handle);
        }
        let symlink = client.symlink(&dir.handle, b"symlink", b"x").expect("symlink");
        all.insert(symlink.attr.fileid, symlink.handle);
    }
    all
}

#[test]
fn a_walk_lists_each_inode_once_and_goes_on_from_where_it_ended() {
    let test = "walk_inodes";
    let Some(mut served) = Served::start_with(test, |setup| {
        setup.memtable = Some("256K".to_owned());
    }) else {
        return;
    };
    let mut client = served.connect();
    if served.is_foreign() {
        return;
    }
    let all = grow(&mut client);
    let daemon = served.daemon(test).expect("ours");

    let walked = walk(daemon, "meta_seq", "0", "-1");
    is_in_order_and_once(&walked);
    assert_eq!(inodes(&walked), all.keys().copied().collect(), "every inode, and no other");

    // Any piece is what lies between its ends, both inclusive.
    let (low, high) = (walked[100], walked[200]);
    let (first, last) = (format!("{}.{}", low.0, low.1), format!("{}.{}", high.0, high.1));
    assert_eq!(walk(daemon, "meta_seq", &first, &last), walked[100..=200]);

    let end = walked.last().expect("not empty").0;
    let after = (end + 1).to_string();
    assert_eq!(walk(daemon, "meta_seq", &after, "-1"), [], "nothing has changed since");

    let changed: Vec<u64> = all.keys().copied().step_by(37).collect();
    for ino in &changed {
        let set = sattr3 { mode: set_mode(0o711), ..sattr3::default() };
        client.setattr(&all[ino], set).expect("setattr");
    }
    let walked = walk(daemon, "meta_seq", &after, "-1");
    is_in_order_and_once(&walked);
    assert_eq!(inodes(&walked), changed.iter().copied().collect(), "only what was changed");

    let walked = walk(daemon, "meta_seq", "0", "-1");
    is_in_order_and_once(&walked);
    assert_eq!(inodes(&walked), all.keys().copied().collect(), "still everything once");

    daemon.kill().expect("kill");
    daemon.restart().expect("restart");
    assert_eq!(walk(daemon, "meta_seq", "0", "-1"), walked, "the same after a kill");
}

#[test]
fn writes_move_a_file_in_the_data_index_and_removal_takes_it_out() {
    let test = "walk_data_seq";
    let Some(mut served) = Served::start(test) else { return };
    let mut client = served.connect();
    if served.is_foreign() {
        return;
    }
    let root = client.root().clone();
    let mut files = Vec::new();
    for number in 0..20 {
        let name = format!("file-{number}");
        let how = createhow3::GUARDED(sattr3::default());
        let file = client.create(&root, name.as_bytes(), how).expect("create");
        client.write(&file.handle, 0, b"first", stable_how::FILE_SYNC).expect("write");
        files.push((name, file));
    }
    let daemon = served.daemon(test).expect("ours");
    let walked = walk(daemon, "data_seq", "0", "-1");
    is_in_order_and_once(&walked);
    let written: BTreeSet<u64> = files.iter().map(|(_, file)| file.attr.fileid).collect();
    assert!(inodes(&walked).is_superset(&written), "every file that was written");

    let after = (walked.last().expect("not empty").0 + 1).to_string();
    let set = sattr3 { mode: set_mode(0o711), ..sattr3::default() };
    client.setattr(&files[3].1.handle, set).expect("setattr");
    assert_eq!(walk(daemon, "data_seq", &after, "-1"), [], "a mode is not data");
    client.write(&files[5].1.handle, 0, b"second", stable_how::FILE_SYNC).expect("write");
    let now = walk(daemon, "data_seq", &after, "-1");
    assert_eq!(inodes(&now), BTreeSet::from([files[5].1.attr.fileid]));

    let stat = |ino: u64, field: &str| {
        let object = format!("ino:{ino}");
        let finished = daemon.command(&["stat", &object, "--single-field", field]).expect("runs");
        let text = finished.succeeded("cairn stat").unwrap_or_else(|error| panic!("{error:#}"));
        text.trim().parse::<u64>().unwrap_or_else(|_| panic!("not a number: {text}"))
    };
    assert_eq!(stat(now[0].1, "data_seq"), now[0].0, "stat and walk agree");
    assert_eq!(stat(now[0].1, "size"), 6);

    client.remove(&root, files[5].0.as_bytes()).expect("remove");
    let gone = files[5].1.attr.fileid;
    for index in ["data_seq", "meta_seq"] {
        assert!(!inodes(&walk(daemon, index, "0", "-1")).contains(&gone), "{index}");
    }
}
