//! File handles that the server did not give, gave long ago, or gave elsewhere.

use super::{refused, still_serves};
use cairn_accept::nfs3_types::nfs3::*;
use cairn_accept::nfs3_types::xdr_codec::Opaque;
use cairn_accept::{Client, Cred, Served};

const NOBODYS: &[nfsstat3] = &[nfsstat3::NFS3ERR_STALE, nfsstat3::NFS3ERR_BADHANDLE];

fn handle(bytes: &[u8]) -> nfs_fh3 {
    nfs_fh3 { data: Opaque::owned(bytes.to_vec()) }
}

/// Every procedure that takes a handle, with this one.
fn nothing_is_done_with(client: &mut Client, bad: &nfs_fh3) {
    let root = client.root().clone();
    let guarded = || createhow3::GUARDED(sattr3::default());
    let start = (0, cookieverf3::default());
    refused(client.getattr(bad), NOBODYS);
    refused(client.setattr(bad, sattr3::default()), NOBODYS);
    refused(client.lookup(bad, b"x"), NOBODYS);
    refused(client.access(bad, ACCESS3_READ), NOBODYS);
    refused(client.readlink(bad), NOBODYS);
    refused(client.read(bad, 0, 10), NOBODYS);
    refused(client.write(bad, 0, b"x", stable_how::FILE_SYNC), NOBODYS);
    refused(client.create(bad, b"x", guarded()), NOBODYS);
    refused(client.mkdir(bad, b"x", sattr3::default()), NOBODYS);
    refused(client.symlink(bad, b"x", b"y"), NOBODYS);
    refused(client.mknod(bad, b"x", mknoddata3::NF3FIFO(sattr3::default())), NOBODYS);
    refused(client.remove(bad, b"x"), NOBODYS);
    refused(client.rmdir(bad, b"x"), NOBODYS);
    refused(client.rename((bad, b"x"), (&root, b"y")), NOBODYS);
    refused(client.link(bad, &root, b"x"), NOBODYS);
    refused(client.readdir(bad, start, 4096), NOBODYS);
    refused(client.readdirplus(bad, start, 4096), NOBODYS);
    refused(client.pathconf(bad), NOBODYS);
    refused(client.commit(bad, 0, 0), NOBODYS);
}

#[test]
fn a_handle_of_what_was_removed_is_stale() {
    let Some(mut served) = Served::start("stale_handle") else { return };
    let mut client = served.connect();
    let home = served.home(&mut client);
    let how = createhow3::GUARDED(sattr3::default());
    let file = client.create(&home, b"file", how).expect("create").handle;
    let dir = client.mkdir(&home, b"dir", sattr3::default()).expect("mkdir").handle;
    client.remove(&home, b"file").expect("remove");
    client.rmdir(&home, b"dir").expect("rmdir");
    nothing_is_done_with(&mut client, &file);
    nothing_is_done_with(&mut client, &dir);
    // A new object of the same name is not the old one.
    let how = createhow3::GUARDED(sattr3::default());
    client.create(&home, b"file", how).expect("create again");
    refused(client.getattr(&file), &[nfsstat3::NFS3ERR_STALE]);
    still_serves(&mut served, &mut client);
}

#[test]
fn a_forged_handle_opens_nothing() {
    let Some(mut served) = Served::start("forged_handle") else { return };
    let mut client = served.connect();
    let (root, home) = (client.root().clone(), served.home(&mut client));
    let how = createhow3::GUARDED(sattr3::default());
    let file = client.create(&home, b"file", how).expect("create").handle;
    for good in [&root, &file] {
        for at in 0..good.data.len() {
            for flip in [0x01, 0x80, 0xff] {
                let mut bytes = good.data.to_vec();
                bytes[at] ^= flip;
                let answer = client.getattr(&handle(&bytes));
                assert!(answer.is_err(), "byte {at} xor {flip:#x} was believed");
                refused(answer, NOBODYS);
            }
        }
        let bytes = good.data.to_vec();
        for length in 0..bytes.len() {
            refused(client.getattr(&handle(&bytes[..length])), NOBODYS);
        }
        let mut longer = bytes.clone();
        longer.extend_from_slice(&[0; 4]);
        refused(client.getattr(&handle(&longer)), NOBODYS);
    }
    // The head of one with the tail of another: each half is genuine.
    let half = file.data.len() / 2;
    let mixed = [&root.data[..half], &file.data[half..]].concat();
    if mixed != root.data.to_vec() && mixed != file.data.to_vec() {
        refused(client.getattr(&handle(&mixed)), NOBODYS);
    }
    nothing_is_done_with(&mut client, &handle(&[0xff; 32]));
    nothing_is_done_with(&mut client, &handle(&[0; 64]));
    still_serves(&mut served, &mut client);
}

#[test]
fn a_handle_of_another_pool_is_refused() {
    let Some(served) = Served::start("foreign_handle_here") else { return };
    let Some(mut other) = Served::start("foreign_handle_there") else { return };
    if served.is_foreign() {
        return; // there is only one of the other server
    }
    let (mut here, mut there) = (served.connect(), other.connect());
    let how = || createhow3::GUARDED(sattr3::default());
    let root = here.root().clone();
    let file = here.create(&root, b"file", how()).expect("create").handle;
    let other_root = there.root().clone();
    there.create(&other_root, b"file", how()).expect("the same numbers there");
    refused(there.getattr(&root), NOBODYS);
    nothing_is_done_with(&mut there, &file);
    still_serves(&mut other, &mut there);
}

#[test]
fn a_good_handle_survives_a_kill_and_another_number_of_shards() {
    let test = "handle_over_restart";
    let Some(mut served) = Served::start(test) else { return };
    let mut client = served.connect();
    let (root, home) = (client.root().clone(), served.home(&mut client));
    let how = createhow3::GUARDED(sattr3::default());
    let file = client.create(&home, b"file", how).expect("create");
    client.write(&file.handle, 0, b"content", stable_how::FILE_SYNC).expect("write");
    let address = served.address().clone();
    let Some(daemon) = served.daemon(test) else { return };
    for shards in [1, 3, 2] {
        daemon.kill().expect("kill");
        daemon.setup_mut().shards = shards;
        daemon.restart().expect("restart");
        let mut client = Client::connect(&address, &Cred::ROOT).expect("mount");
        assert_eq!(client.root(), &root, "{shards} shards: the root's handle");
        let attr = client.getattr(&file.handle).expect("the file's handle");
        assert_eq!((attr.fileid, attr.size), (file.attr.fileid, 7), "{shards} shards");
        let data = client.read(&file.handle, 0, 100).expect("read").data;
        assert_eq!(data.as_ref(), b"content", "{shards} shards");
    }
}
