//! What an export and a client may recall of offline data.

use super::{ROOT, World, export, guarded, other};
use cairn_accept::nfs3_types::nfs3::*;
use cairn_accept::{Client, Cred, ServeConfig};

fn run(world: &World, arguments: &[&str]) -> String {
    let finished = world.daemon.command(arguments).expect("runs");
    finished.succeeded(arguments[0]).unwrap_or_else(|error| panic!("{error:#}"))
}

/// `/a/file` of so many blocks, released.
fn released(world: &World, blocks: usize) {
    let mut client = world.client("/");
    let top = client.root().clone();
    let dir = client.lookup(&top, b"a").expect("it was made").handle;
    let file = client.create(&dir, b"file", guarded()).expect("create").handle;
    let bytes = vec![7; blocks * 4096];
    client.write(&file, 0, &bytes, stable_how::FILE_SYNC).expect("write");
    let version = run(world, &["stat", "/a/file", "-s", "data_version"]);
    run(world, &["release", "/a/file", "-V", version.trim()]);
}

#[test]
fn an_export_without_recall_refuses_what_is_offline_and_serves_the_rest() {
    let rules = export("/a", "clients = ['127.0.0.0/8']\nrecall = false");
    let Some(world) = World::start("no-recall", &rules) else { return };
    released(&world, 4);
    let mut client = world.client("/a");
    let dir = client.root().clone();
    let file = client.lookup(&dir, b"file").expect("lookup").handle;
    client.getattr(&file).expect("its attributes are here");
    for answer in [
        client.read_once(&file, 0, 4096).map(drop),
        client.write_once(&file, 0, b"x").map(drop),
        client.resize_once(&file, 4096).map(drop),
    ] {
        assert_eq!(answer.expect_err("offline").status(), Some(nfsstat3::NFS3ERR_ACCES));
    }
    assert_eq!(run(&world, &["data-waiting"]), "");
    let shown = run(&world, &["exports"]);
    assert!(
        shown.contains("export /a rw squash root anon 65534:65534 secure no recall no "),
        "{shown}"
    );
    assert!(
        shown.contains("export / rw squash none anon 65534:65534 secure no recall yes "),
        "{shown}"
    );
}

#[test]
fn a_client_has_so_many_recalls_queued_and_others_have_theirs() {
    let everybody = ROOT.replace("'127.0.0.1'", "'127.0.0.0/8'");
    let Some(mut world) = World::start_with("recalls-of-a-client", |setup| setup.shards = 1) else {
        return;
    };
    world.reload(ServeConfig {
        exports: everybody,
        nfs: "recalls_per_client_max = 2".to_owned(),
        ..Default::default()
    });
    released(&world, 4);
    let mut greedy = world.client("/");
    let mut address = world.daemon.address();
    address.local = Some(other(2));
    let mut modest = Client::connect(&address, &Cred::ROOT).expect("connected");
    let top = greedy.root().clone();
    let dir = greedy.lookup(&top, b"a").expect("lookup").handle;
    let file = greedy.lookup(&dir, b"file").expect("lookup").handle;
    let ask = |client: &mut Client, block: u64| {
        let read = client.read_once(&file, block * 4096, 4096).map(drop);
        assert_eq!(read.expect_err("offline").status(), Some(nfsstat3::NFS3ERR_JUKEBOX));
    };
    let blocks = |world: &World| -> Vec<String> {
        let text = run(world, &["data-waiting"]);
        text.lines().map(|line| line.split(' ').nth(1).expect("a block").to_owned()).collect()
    };
    for block in 0..4 {
        ask(&mut greedy, block);
    }
    assert_eq!(blocks(&world), ["0", "1"]);
    ask(&mut modest, 3);
    assert_eq!(blocks(&world), ["0", "1", "3"]);
    let counted = run(&world, &["counters", "--prefix", "recalls"]);
    assert!(counted.contains("recalls 3") && counted.contains("recalls_refused 2"), "{counted}");
}
