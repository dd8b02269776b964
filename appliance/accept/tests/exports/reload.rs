//! SIGHUP: what changes, what stays, and what is refused.

use super::{LIMIT, ROOT, World, export, guarded, open, refused_with};
use cairn_accept::nfs3_types::nfs3::*;
use cairn_accept::{Client, Cred, ServeConfig, Setup, binary, finish, skip};
use nfsstat3::{NFS3ERR_NOENT, NFS3ERR_ROFS, NFS3ERR_STALE};

const A: &str = "clients = ['127.0.0.1']\nsquash = 'none'";

#[test]
fn an_export_comes_and_goes_under_clients_that_stay_connected() {
    let Some(mut world) = World::start("reload", ROOT) else { return };
    // Several connections, so that each shard has some.
    let mut stays: Vec<Client> = (0..6).map(|_| world.client("/")).collect();
    let to = world.daemon.address().export("/a");
    Client::mount(&to, &Cred::ROOT, b"/a").expect("the root's export serves it");

    world.use_exports(&export("/a", A));
    let mut clients: Vec<Client> = (0..6).map(|_| world.client("/a")).collect();
    let handle = clients[0].root().clone();
    let file = clients[0].create(&handle, b"file", guarded()).expect("create").handle;
    for client in &mut clients {
        assert_eq!(client.root(), &handle);
        client.write(&file, 0, b"x", stable_how::FILE_SYNC).expect("write");
    }

    world.use_exports(&export("/a", &format!("{A}\naccess = 'ro'")));
    for client in &mut clients {
        refused_with(client.write(&file, 0, b"x", stable_how::FILE_SYNC), NFS3ERR_ROFS);
        client.read(&file, 0, 1).expect("read");
    }

    world.use_exports(&export("/b", A));
    for client in &mut clients {
        refused_with(client.getattr(&handle), NFS3ERR_STALE);
        refused_with(client.read(&file, 0, 1), NFS3ERR_STALE);
        client.null().expect("the connection lives");
    }

    world.use_exports(&export("/a", A));
    for client in &mut clients {
        client.write(&file, 0, b"y", stable_how::FILE_SYNC).expect("the handle is good again");
    }
    for client in &mut stays {
        let root = client.root().clone();
        client.getattr(&root).expect("a client of another export noticed nothing");
    }
}

#[test]
fn handles_outlive_a_restart_another_order_of_exports_and_another_number_of_shards() {
    let first = [export("/a", A), format!("[[export]]\npath = '/b'\nid = 9\n{A}\n")].concat();
    let Some(mut world) = World::start("export_ids", &first) else { return };
    let (a, b) = (world.client("/a").root().clone(), world.client("/b").root().clone());
    let second = format!("[[export]]\npath = '/b'\nid = 9\n{A}\n[[export]]\npath = '/a/'\n{A}\n");
    for shards in [1, 3] {
        world.daemon.kill().expect("kill");
        let setup = world.daemon.setup_mut();
        setup.shards = shards;
        setup.serve = Some(ServeConfig { exports: second.clone(), ..Default::default() });
        world.daemon.restart().expect("restart");
        let mut client = world.client("/a");
        assert_eq!(client.root(), &a);
        client.getattr(&a).expect("a handle of before");
        client.getattr(&b).expect("a handle of before");
        refused_with(Client::mount(&world.daemon.address(), &Cred::ROOT, b"/"), NFS3ERR_NOENT);
    }
}

#[test]
fn an_id_follows_a_renamed_directory_and_is_not_given_to_another() {
    let with_id = |path: &str| export(path, &format!("id = 9\n{A}"));
    let Some(mut world) = World::start("export_id_moves", &with_id("/a")) else { return };
    let mut client = world.client("/a");
    let handle = client.root().clone();
    let refused = world.refused(
        ServeConfig { exports: with_id("/b"), ..Default::default() },
        "id 9 is that of /a, another directory",
    );
    assert!(refused.contains("export[1].path"), "{refused}");
    client.getattr(&handle).expect("nothing has changed");
    let mut root = world.client("/");
    let top = root.root().clone();
    root.rename((&top, b"a"), (&top, b"renamed")).expect("rename");
    world.use_exports(&with_id("/renamed"));
    client.getattr(&handle).expect("the same directory");
    assert_eq!(world.client("/renamed").root(), &handle);
}

/// (what is wrong, what the message must have in it).
fn mistakes() -> Vec<(String, &'static str)> {
    let keys = |keys: &str| format!("{ROOT}[[export]]\n{keys}\n");
    vec![
        (keys("path = '/a'\nclients = ['10.0.0.0/33']"), "line 7: export[1].clients"),
        (keys("path = '/a'\nclients = ['10.1.0.0/8']"), "\"10.0.0.0/8\" is the network"),
        (keys("path = '/a'\nclients = []"), "line 7: export[1].clients: nobody could mount it"),
        (keys("path = 'a'\nclients = ['::1']"), "line 6: export[1].path"),
        (keys("path = '/a/../b'\nclients = ['::1']"), "line 6: export[1].path"),
        (keys("path = '/a'"), "line 5: missing field `clients`"),
        (keys("path = '/a'\nclinets = ['::1']"), "line 7: unknown field `clinets`"),
        (keys("path = '/a'\nclients = ['::1']\naccess = 'write'"), "line 8: unknown variant"),
        (keys("path = '/a'\nclients = ['::1']\nanon_uid = 'root'"), "line 8:"),
        (keys("path = '/'\nclients = ['::1']"), "line 6: export[1].path: / is line 2"),
        (keys("path = '/b'\nclients = ['::1']\nid = 1"), "the same id 1"),
        (keys("path = '/nowhere'\nclients = ['::1']"), "line 6: export[1].path: the pool has no"),
        (
            keys("path = '/file'\nclients = ['::1']"),
            "line 6: export[1].path: /file is no directory",
        ),
        (keys("path = '/a'\nclients = ['::1'"), "line "),
        ("surprise = 1\n".to_owned(), "line 1: unknown field `surprise`"),
    ]
}

#[test]
fn a_configuration_with_a_mistake_is_refused_with_its_place_and_the_old_one_stays() {
    let Some(mut world) = World::start("bad_reload", &export("/a", A)) else { return };
    let mut client = world.client("/a");
    let handle = client.root().clone();
    let mut root = world.client("/");
    let top = root.root().clone();
    root.create(&top, b"file", guarded()).expect("create");
    let before = world.shown()["exports"].clone();
    for (exports, expected) in mistakes() {
        // Told apart from what the mistake before left behind.
        world.use_exports(&export("/a", A));
        let told = world.refused(ServeConfig { exports, ..Default::default() }, expected);
        assert!(told.starts_with("line "), "{told}");
        assert_eq!(world.shown()["exports"], before, "{told}");
        client.mkdir(&handle, b"works", open()).expect("what was in force is");
        client.rmdir(&handle, b"works").expect("rmdir");
    }
    let nfs = "connections_max = 0".to_owned();
    world.refused(
        ServeConfig { nfs, exports: export("/a", A), listen: None },
        "nfs.connections_max",
    );
    world.use_exports(&export("/b", A));
    assert!(world.shown()["refused"].is_null(), "a good one ends it");
    let words = world.daemon.last_words();
    assert!(words.contains("what was in force stays"), "it is in the log: {words}");
}

#[test]
fn a_daemon_does_not_start_with_a_mistake_and_says_where_it_is() {
    if binary().is_none() {
        return skip("bad_start", "the cairn binary");
    }
    let dir = tempfile::tempdir().expect("a folder");
    for (exports, expected) in mistakes() {
        if exports.contains("/file") {
            continue; // there is none in a new pool
        }
        let mut setup = Setup::new(&dir.path().join("pool")).expect("a free port");
        setup.size = "256M";
        setup.serve = Some(ServeConfig { exports, ..Default::default() });
        // A new pool has none of the directories; the mistake is found all the same.
        setup.prepare().expect("a pool");
        let ended = finish(setup.command().expect("a command")).expect("it ends");
        let said = ended.stderr;
        assert_eq!(ended.status.code(), Some(1), "{said}");
        let line = said.lines().find(|line| line.starts_with("cairn: serve "));
        let line = line.unwrap_or_else(|| panic!("no error line: {said}"));
        let is_missing = line.contains("the pool has no directory");
        assert!(line.contains(expected) || is_missing, "want {expected:?}: {line}");
        assert!(line.contains("pool.toml"), "the file is named: {line}");
    }
}

#[test]
fn what_cannot_change_while_running_is_said_and_the_rest_changes() {
    let Some(mut world) = World::start("fixed_keys", ROOT) else { return };
    let listen = Some("\"127.0.0.1:1\"".to_owned());
    let nfs = "portmap = true\nconnections_max = 77".to_owned();
    world.reload(ServeConfig { listen, nfs, exports: export("/b", A) });
    let shown = world.shown();
    assert_eq!(shown["needs_restart"], serde_json::json!(["nfs.listen", "nfs.portmap"]));
    assert_eq!(shown["nfs"]["connections_max"], 77);
    assert_eq!(shown["exports"][1]["path"], "/b");
    let said = cairn_accept::eventually(LIMIT, || {
        let words = world.daemon.last_words();
        words.contains("from the next start on only: nfs.listen, nfs.portmap").then_some(())
    });
    assert!(said.is_some(), "{}", world.daemon.last_words());
    world.use_exports(ROOT);
    assert_eq!(world.shown()["needs_restart"], serde_json::json!([]));
}
