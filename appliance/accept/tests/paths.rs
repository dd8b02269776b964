//! `cairn ino-path` and `cairn get-referring-entries`: from an inode to its names and paths.

use cairn_accept::nfs3_types::nfs3::*;
use cairn_accept::{Daemon, Finished, Served};
use serde_json::Value;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

fn lines(finished: Finished) -> Vec<String> {
    let stdout = finished.succeeded("a query").unwrap_or_else(|error| panic!("{error:#}"));
    stdout.lines().map(str::to_owned).collect()
}

fn paths(daemon: &Daemon, ino: u64) -> BTreeSet<String> {
    let all = lines(daemon.command(&["ino-path", &ino.to_string(), "--all"]).expect("runs"));
    let count = all.len();
    let paths: BTreeSet<String> = all.into_iter().collect();
    assert_eq!(paths.len(), count, "a path twice");
    paths
}

#[test]
fn every_name_of_an_inode_is_found_in_every_directory() {
    let test = "ino_path";
    let Some(mut served) = Served::start_with(test, |setup| setup.shards = 2) else { return };
    if served.is_foreign() {
        return;
    }
    let mut client = served.connect();
    let root = client.root().clone();
    let new = || createhow3::GUARDED(sattr3::default());
    // Directories near the root go round over all tablets, so names and inode lie apart.
    let mut dir = root.clone();
    let mut deep = String::new();
    for level in 0..40 {
        let name = format!("level-{level}");
        dir = client.mkdir(&dir, name.as_bytes(), sattr3::default()).expect("mkdir").handle;
        deep.push_str(&format!("/{name}"));
    }
    let file = client.create(&dir, b"file", new()).expect("create");
    let ino = file.attr.fileid;
    let mut expected = BTreeSet::from([format!("{deep}/file")]);
    let mut dirs = Vec::new();
    for number in 0..300 {
        if number % 10 == 0 {
            let name = format!("dir-{number}");
            let made = client.mkdir(&root, name.as_bytes(), sattr3::default()).expect("mkdir");
            dirs.push((name, made));
        }
        let (dir_name, made) = dirs.last().expect("one was made");
        let name = format!("link-{number}");
        client.link(&file.handle, &made.handle, name.as_bytes()).expect("link");
        expected.insert(format!("/{dir_name}/{name}"));
    }
    let odd = client.create(&root, b"a\nb\\c\xff", new()).expect("create");
    let empty = client.create(&root, b"unlinked", new()).expect("create");
    client.remove(&root, b"unlinked").expect("remove");

    let daemon = served.daemon(test).expect("ours");
    assert_eq!(paths(daemon, ino), expected);
    let one = lines(daemon.command(&["ino-path", &format!("ino:{ino}")]).expect("runs"));
    assert_eq!(one.len(), 1);
    assert!(expected.contains(&one[0]));
    assert_eq!(lines(daemon.command(&["ino-path", "1", "--all"]).expect("runs")), ["/"]);

    let entries = daemon.command(&["get-referring-entries", &ino.to_string(), "--json"]);
    let entries: Vec<Value> = lines(entries.expect("runs"))
        .iter()
        .map(|line| serde_json::from_str(line).expect("JSON"))
        .collect();
    assert_eq!(entries.len(), 301);
    assert!(entries.iter().all(|entry| entry["d_type"] == "regular"));
    let order: Vec<_> =
        entries.iter().map(|e| (e["dir_ino"].as_u64(), e["position"].as_u64())).collect();
    assert!(order.windows(2).all(|pair| pair[0] < pair[1]), "not in order");
    for (name, made) in &dirs {
        let here = entries.iter().filter(|entry| entry["dir_ino"] == made.attr.fileid);
        assert_eq!(here.count(), 10, "names in {name}");
    }
    assert_eq!(lines(daemon.command(&["get-referring-entries", "1"]).expect("runs")), [""; 0]);

    let number = odd.attr.fileid.to_string();
    let raw = daemon.command(&["ino-path", &number, "--json"]).expect("runs");
    assert_eq!(raw.stdout, "{\"path_b64\":\"L2EKYlxj/w==\"}\n", "any bytes, in base64");
    let escaped = lines(daemon.command(&["ino-path", &number]).expect("runs"));
    assert_eq!(escaped, ["/a\\nb\\\\c\u{fffd}"], "one line");

    for query in ["ino-path", "get-referring-entries"] {
        let refused = daemon.command(&[query, &empty.attr.fileid.to_string()]).expect("runs");
        let line = format!(
            "cairn: {query} ino:{}: there is no such inode, or no longer (ESTALE)\n",
            empty.attr.fileid
        );
        assert_eq!((refused.status.code(), refused.stderr), (Some(1), line));
    }
    daemon.kill().expect("kill");
    daemon.restart().expect("restart");
    assert_eq!(paths(daemon, ino), expected, "the same after a kill");
}

#[test]
fn a_path_that_changes_is_one_that_existed() {
    let test = "ino_path_moving";
    let Some(mut served) = Served::start_with(test, |setup| setup.shards = 2) else { return };
    if served.is_foreign() {
        return;
    }
    let mut client = served.connect();
    let root = client.root().clone();
    let mut make = |dir: &nfs_fh3, name: &[u8]| {
        client.mkdir(dir, name, sattr3::default()).expect("mkdir").handle
    };
    // x/a/f and y/b/f exist by turns; x/b/f and y/a/f never do.
    let (x, y) = (make(&root, b"x"), make(&root, b"y"));
    let moving = make(&x, b"a");
    let file = client.create(&moving, b"f", createhow3::GUARDED(sattr3::default()));
    let ino = file.expect("create").attr.fileid.to_string();
    let is_over = Arc::new(AtomicBool::new(false));
    let over = is_over.clone();
    let mover = std::thread::spawn(move || {
        let mut moves = 0;
        while !over.load(Ordering::Relaxed) {
            client.rename((&x, b"a"), (&y, b"b")).expect("rename");
            client.rename((&y, b"b"), (&x, b"a")).expect("rename");
            moves += 2;
        }
        moves
    });
    let daemon = served.daemon(test).expect("ours");
    let (mut seen, mut unsteady) = (BTreeSet::new(), 0);
    for _ in 0..150 {
        let finished = daemon.command(&["ino-path", &ino]).expect("runs");
        if finished.status.success() {
            seen.insert(finished.stdout);
        } else {
            let text =
                format!("cairn: ino-path ino:{ino}: its path keeps changing: try again (ESTALE)\n");
            assert_eq!(finished.stderr, text);
            unsteady += 1;
        }
    }
    is_over.store(true, Ordering::Relaxed);
    let moves = mover.join().expect("the mover ends");
    let allowed = BTreeSet::from(["/x/a/f\n".to_owned(), "/y/b/f\n".to_owned()]);
    assert!(seen.is_subset(&allowed), "{seen:?}");
    assert!(!seen.is_empty(), "{unsteady} answers and none a path, over {moves} moves");
}
