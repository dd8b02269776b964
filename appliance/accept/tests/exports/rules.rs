//! Who may do what through an export.

use super::{World, export, guarded, open, other, refused_with};
use cairn_accept::nfs3_types::nfs3::*;
use cairn_accept::{Client, Cred, skip};
use nfsstat3::{NFS3ERR_ACCES, NFS3ERR_NOENT, NFS3ERR_ROFS, NFS3ERR_STALE, NFS3ERR_XDEV};
use std::net::SocketAddr;

#[test]
fn a_read_only_export_refuses_every_change_and_lets_everything_be_read() {
    let exports = export("/a", "clients = ['127.0.0.1']\naccess = 'ro'\nsquash = 'none'");
    let Some(world) = World::start("ro_export", &exports) else { return };
    let mut root = world.client("/");
    let top = root.root().clone();
    let dir = root.lookup(&top, b"a").expect("lookup").handle;
    let file = root.create(&dir, b"file", guarded()).expect("create").handle;
    root.write(&file, 0, b"content", stable_how::FILE_SYNC).expect("write");

    let mut ro = world.client("/a");
    let dir = ro.root().clone();
    let file = ro.lookup(&dir, b"file").expect("lookup").handle;
    assert_eq!(ro.read(&file, 0, 100).expect("read").data.as_ref(), b"content");
    ro.readdirplus(&dir, (0, cookieverf3::default()), 8192).expect("list");
    refused_with(ro.write(&file, 0, b"x", stable_how::FILE_SYNC), NFS3ERR_ROFS);
    refused_with(ro.setattr(&file, open()), NFS3ERR_ROFS);
    refused_with(ro.create(&dir, b"new", guarded()), NFS3ERR_ROFS);
    refused_with(ro.mkdir(&dir, b"new", open()), NFS3ERR_ROFS);
    refused_with(ro.symlink(&dir, b"new", b"file"), NFS3ERR_ROFS);
    refused_with(ro.mknod(&dir, b"new", mknoddata3::NF3FIFO(sattr3::default())), NFS3ERR_ROFS);
    refused_with(ro.remove(&dir, b"file"), NFS3ERR_ROFS);
    refused_with(ro.rmdir(&dir, b"sub"), NFS3ERR_ROFS);
    refused_with(ro.rename((&dir, b"file"), (&dir, b"new")), NFS3ERR_ROFS);
    refused_with(ro.link(&file, &dir, b"new"), NFS3ERR_ROFS);
    let all = ACCESS3_READ | ACCESS3_MODIFY | ACCESS3_EXTEND | ACCESS3_DELETE;
    assert_eq!(ro.access(&file, all).expect("access"), ACCESS3_READ);
    // The same file through the other export is writable.
    let same = root.lookup(&top, b"a").expect("lookup").handle;
    let same = root.lookup(&same, b"file").expect("lookup").handle;
    root.write(&same, 0, b"CONTENT", stable_how::FILE_SYNC).expect("write through /");
}

#[test]
fn a_client_outside_the_networks_gets_no_handle_and_can_use_none() {
    let exports = export("/a", "clients = ['127.0.0.1', '127.0.0.64/26']\nsquash = 'none'");
    let Some(world) = World::start("cidr", &exports) else { return };
    let to = world.daemon.address().export("/a");
    for (last, admitted) in [(64, true), (100, true), (127, true), (63, false), (128, false)] {
        let from = to.from(other(last));
        match Client::connect(&from, &Cred::ROOT) {
            Ok(mut client) => {
                assert!(admitted, "127.0.0.{last} is not in the list");
                let root = client.root().clone();
                client.getattr(&root).expect("getattr");
            }
            Err(fault) => {
                assert!(!admitted, "127.0.0.{last}: {fault}");
                assert_eq!(fault.status(), Some(NFS3ERR_ACCES));
            }
        }
    }
    // A handle that wandered to another machine is worth nothing there.
    let handle = world.client("/a").root().clone();
    let whole = to.export("/");
    refused_with(Client::mount(&whole.from(other(64)), &Cred::ROOT, b"/"), NFS3ERR_ACCES);
    let mut inside = Client::connect(&to.from(other(64)), &Cred::ROOT).expect("mount");
    inside.getattr(&handle).expect("getattr");
    let root = world.client("/").root().clone();
    refused_with(inside.getattr(&root), NFS3ERR_ACCES);
    refused_with(inside.create(&root, b"x", guarded()), NFS3ERR_ACCES);
}

#[test]
fn squashing_replaces_root_or_everybody_as_the_export_says() {
    let keys = |path, squash| {
        format!(
            "[[export]]\npath = '{path}'\nclients = ['127.0.0.1']\nsquash = '{squash}'\n\
             anon_uid = 77\nanon_gid = 78\n"
        )
    };
    let exports =
        [super::ROOT.to_owned(), keys("/a", "root"), keys("/b", "all"), keys("/a/sub", "none")];
    let Some(world) = World::start("squash", &exports.concat()) else { return };
    let user = Cred { uid: 1000, gid: 100, groups: &[0, 5] };
    for (export, cred, owner) in [
        ("/a", Cred::ROOT, (77, 78)),
        ("/a", user, (1000, 100)),
        ("/b", Cred::ROOT, (77, 78)),
        ("/b", user, (77, 78)),
        ("/a/sub", Cred::ROOT, (0, 0)),
        ("/a/sub", user, (1000, 100)),
    ] {
        let mut client = world.client_as(export, &cred);
        let dir = client.root().clone();
        let name = format!("of-{}", cred.uid);
        let made = client.create(&dir, name.as_bytes(), guarded()).expect("create");
        assert_eq!((made.attr.uid, made.attr.gid), owner, "{export} as {}", cred.uid);
    }
    // Root is nobody special where it is squashed: a private file of a user stays private.
    let mut owner = world.client_as("/a", &user);
    let dir = owner.root().clone();
    let file = owner.lookup(&dir, b"of-1000").expect("lookup").handle;
    let private = sattr3 { mode: cairn_accept::set_mode(0o600), ..sattr3::default() };
    owner.setattr(&file, private).expect("chmod");
    let mut squashed = world.client("/a");
    refused_with(squashed.read(&file, 0, 10), NFS3ERR_ACCES);
    // Group 0 among the supplementary groups is squashed too.
    let mut root = world.client("/");
    let top = root.root().clone();
    let a = root.lookup(&top, b"a").expect("lookup").handle;
    let file = root.create(&a, b"wheel", guarded()).expect("create").handle;
    let wheel = sattr3 { mode: cairn_accept::set_mode(0o060), ..sattr3::default() };
    root.setattr(&file, wheel).expect("chmod");
    let file = owner.lookup(&dir, b"wheel").expect("lookup").handle;
    refused_with(owner.read(&file, 0, 10), NFS3ERR_ACCES);
}

#[test]
fn a_secure_export_wants_calls_from_reserved_ports() {
    let exports = export("/a", "clients = ['127.0.0.1']\nsecure = true");
    let Some(world) = World::start("secure_export", &exports) else { return };
    let to = world.daemon.address().export("/a");
    refused_with(Client::mount(&to, &Cred::ROOT, b"/a"), NFS3ERR_ACCES);
    Client::mount(&to, &Cred::ROOT, b"/").expect("the other export is not secure");
    let reserved = (600..1024).find_map(|port| {
        let from = to.from(SocketAddr::from(([127, 0, 0, 1], port)));
        Client::mount(&from, &Cred::ROOT, b"/a").ok().map(|handle| (from, handle))
    });
    let Some((_, handle)) = reserved else {
        return skip("secure_export", "root"); // who may use reserved ports
    };
    // Each call is looked at, not only MNT.
    refused_with(world.client("/").getattr(&handle), NFS3ERR_ACCES);
}

#[test]
fn a_subdirectory_that_is_exported_is_a_jail() {
    let exports = [
        export("/a", "clients = ['127.0.0.1', '127.0.0.2']\nsquash = 'none'"),
        "[[export]]\npath = '/b'\nclients = ['127.0.0.2']\nsquash = 'none'\n".to_owned(),
    ]
    .concat();
    let Some(world) = World::start("export_jail", &exports) else { return };
    let jailed = world.daemon.address().export("/a").from(other(2));
    let mount = |path: &[u8]| Client::mount(&jailed, &Cred::ROOT, path);
    for path in ["/a/..", "/a/../b", "/a/sub/../..", "/a/."] {
        assert!(mount(path.as_bytes()).is_err(), "{path}");
    }
    for path in ["/", "", "//", "/c", "/ab"] {
        refused_with(mount(path.as_bytes()), NFS3ERR_ACCES); // the root's export serves it
    }
    refused_with(mount(b"/a/nowhere"), NFS3ERR_NOENT);
    mount(b"//a///sub/").expect("a directory below, however its slashes are written");

    let mut client = Client::connect(&jailed, &Cred::ROOT).expect("mount");
    let root = client.root().clone();
    let own = client.getattr(&root).expect("getattr").fileid;
    let up = client.lookup(&root, b"..").expect("lookup ..");
    assert_eq!((up.handle, up.attr.fileid), (root.clone(), own), "the way up ends here");
    let sub = client.lookup(&root, b"sub").expect("lookup").handle;
    assert_eq!(client.lookup(&sub, b"..").expect("lookup ..").handle, root);

    // Handles of two exports in one call.
    let elsewhere = Client::connect(&jailed.export("/b"), &Cred::ROOT).expect("mount");
    let b = elsewhere.root().clone();
    let file = client.create(&root, b"file", guarded()).expect("create").handle;
    refused_with(client.rename((&root, b"file"), (&b, b"file")), NFS3ERR_XDEV);
    refused_with(client.link(&file, &b, b"file"), NFS3ERR_XDEV);

    // Somebody who may use both places moves the directory away under the client's feet.
    let mut admin = world.client("/");
    let top = admin.root().clone();
    let a = admin.lookup(&top, b"a").expect("lookup").handle;
    let deep = client.mkdir(&sub, b"deep", open()).expect("mkdir").handle;
    admin.rename((&a, b"sub"), (&top, b"moved")).expect("rename");
    client.getattr(&sub).expect("its handle is good");
    refused_with(client.lookup(&sub, b".."), NFS3ERR_ACCES);
    let parent = client.lookup(&deep, b"..");
    refused_with(parent, NFS3ERR_ACCES);
    let listed = client.readdirplus(&sub, (0, cookieverf3::default()), 8192).expect("list");
    for entry in listed.reply.entries.0.iter().filter(|entry| entry.name.0.as_ref() == b"..") {
        assert!(matches!(entry.name_handle, Nfs3Option::None), "no handle of what is outside");
    }

    // A handle says through which export it was given, and cannot be made to say another.
    let mut bytes = root.data.to_vec();
    let at = bytes.len() - 9;
    bytes[at] ^= 1;
    let forged = nfs_fh3 { data: cairn_accept::nfs3_types::xdr_codec::Opaque::owned(bytes) };
    assert!(client.getattr(&forged).is_err_and(|fault| fault.status() != Some(NFS3ERR_STALE)));
}

#[test]
fn exports_inside_each_other_each_have_their_own_rules() {
    let exports = [
        export("/a", "clients = ['127.0.0.1']\nsquash = 'none'"),
        "[[export]]\npath = '/a/sub'\nclients = ['127.0.0.1']\naccess = 'ro'\nsquash = 'none'\n"
            .to_owned(),
    ]
    .concat();
    let Some(world) = World::start("nested_exports", &exports) else { return };
    let mut outer = world.client("/a");
    let root = outer.root().clone();
    let through = outer.lookup(&root, b"sub").expect("lookup").handle;
    outer.create(&through, b"file", guarded()).expect("the outer export is rw");
    let mut inner = world.client("/a/sub");
    let root = inner.root().clone();
    assert_ne!(root, through, "another export, another handle");
    refused_with(inner.remove(&root, b"file"), NFS3ERR_ROFS);
    let fileid = |client: &mut Client, of: &nfs_fh3| client.getattr(of).expect("getattr").fileid;
    assert_eq!(fileid(&mut inner, &root), fileid(&mut outer, &through), "the same directory");
}
