//! The whole frontend over the real engine in a simulated machine: a connection, calls, answers.

use cairn_nfs::{NfsConfig, NfsServer};
use cairn_sim::nfs::{Caller as Client, Service, packed, stat};
use cairn_sim::world::{World, WorldConfig};
use nfs3_types::nfs3::{self, NFS_PROGRAM as Proc, Nfs3Option, nfs_fh3, nfsstat3};
use nfs3_types::xdr_codec::Opaque;
use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;

const LOOPBACK: &str = "127.0.0.1:50000";

/// Runs a script on core 0 of a new appliance with this many shards.
fn served<F>(shards: usize, script: impl FnOnce(Service) -> F)
where
    F: Future<Output = ()> + 'static,
{
    let config = WorldConfig {
        tablets: 8,
        device_blocks: vec![1 << 16],
        fua: true,
        memtable_bytes: 1 << 20,
        log_blocks: 1024,
    };
    let mut world = World::new(3, config);
    world.format().expect("formatted");
    world.boot(shards).expect("booted");
    let shard = world.shards()[0].clone();
    let server = NfsServer::new(shard.clone(), NfsConfig::loopback(2049));
    let script = script(Service { shard, server });
    world.machine().run(0, script).expect("the script comes to its end");
}

fn place<'a>(dir: &nfs_fh3, name: &'a str) -> nfs3::diropargs3<'a> {
    nfs3::diropargs3 { dir: dir.clone(), name: name.as_bytes().into() }
}

fn with_mode(mode: u32) -> nfs3::sattr3 {
    nfs3::sattr3 { mode: Nfs3Option::Some(mode), ..nfs3::sattr3::default() }
}

async fn create(client: &Client, dir: &nfs_fh3, name: &str) -> nfs_fh3 {
    let how = nfs3::createhow3::GUARDED(with_mode(0o644));
    let args = nfs3::CREATE3args { where_: place(dir, name), how };
    let created: nfs3::CREATE3res = client.nfs(Proc::NFSPROC3_CREATE, &args).await;
    created.unwrap().obj.unwrap()
}

async fn mkdir(client: &Client, dir: &nfs_fh3, name: &str) -> nfs_fh3 {
    let args = nfs3::MKDIR3args { where_: place(dir, name), attributes: with_mode(0o755) };
    let made: nfs3::MKDIR3res = client.nfs(Proc::NFSPROC3_MKDIR, &args).await;
    made.unwrap().obj.unwrap()
}

async fn write(client: &Client, file: &nfs_fh3, offset: u64, data: &[u8]) -> nfs3::WRITE3resok {
    let args = nfs3::WRITE3args {
        file: file.clone(),
        offset,
        count: data.len() as u32,
        stable: nfs3::stable_how::UNSTABLE,
        data: Opaque::borrowed(data),
    };
    let written: nfs3::WRITE3res = client.nfs(Proc::NFSPROC3_WRITE, &args).await;
    written.unwrap()
}

async fn read(client: &Client, file: &nfs_fh3, offset: u64, count: u32) -> (Vec<u8>, bool) {
    let args = nfs3::READ3args { file: file.clone(), offset, count };
    let read: nfs3::READ3res<'static> = client.nfs(Proc::NFSPROC3_READ, &args).await;
    let read = read.unwrap();
    assert_eq!(read.count as usize, read.data.len());
    (read.data.to_vec(), read.eof)
}

async fn getattr(client: &Client, object: &nfs_fh3) -> nfs3::fattr3 {
    let args = nfs3::GETATTR3args { object: object.clone() };
    let got: nfs3::GETATTR3res = client.nfs(Proc::NFSPROC3_GETATTR, &args).await;
    got.unwrap().obj_attributes
}

async fn lookup(client: &Client, dir: &nfs_fh3, name: &str) -> Result<nfs_fh3, nfsstat3> {
    let args = nfs3::LOOKUP3args { what: place(dir, name) };
    let found: nfs3::LOOKUP3res = client.nfs(Proc::NFSPROC3_LOOKUP, &args).await;
    match stat(&found) {
        nfsstat3::NFS3_OK => Ok(found.unwrap().object),
        stat => Err(stat),
    }
}

async fn remove(client: &Client, dir: &nfs_fh3, name: &str) -> nfsstat3 {
    let args = nfs3::REMOVE3args { object: place(dir, name) };
    let removed: nfs3::REMOVE3res = client.nfs(Proc::NFSPROC3_REMOVE, &args).await;
    stat(&removed)
}

#[test]
fn what_is_written_is_read_back_and_seen_in_attributes() {
    served(2, |service| async move {
        let client = service.connect(LOOPBACK);
        let root = client.mount("/").await.unwrap();
        let file = create(&client, &root, "file").await;
        let data: Vec<u8> = (0..100_000u32).map(|n| (n % 251) as u8).collect();
        let written = write(&client, &file, 5000, &data).await;
        assert_eq!(written.count, 100_000);
        let args = nfs3::COMMIT3args { file: file.clone(), offset: 0, count: 0 };
        let committed: nfs3::COMMIT3res = client.nfs(Proc::NFSPROC3_COMMIT, &args).await;
        assert_eq!(committed.unwrap().verf, written.verf);
        let attributes = getattr(&client, &file).await;
        assert_eq!((attributes.size, attributes.mode), (105_000, 0o644));
        assert_eq!(attributes.type_, nfs3::ftype3::NF3REG);
        assert_eq!(read(&client, &file, 4999, 3).await, (vec![0, 0, 1], false));
        assert_eq!(read(&client, &file, 5000, 1 << 20).await, (data, true));
        assert_eq!(read(&client, &file, 105_000, 10).await, (vec![], true));

        let args = nfs3::SETATTR3args {
            object: file.clone(),
            new_attributes: nfs3::sattr3 { size: Nfs3Option::Some(7), ..with_mode(0o600) },
            guard: Nfs3Option::None,
        };
        let set: nfs3::SETATTR3res = client.nfs(Proc::NFSPROC3_SETATTR, &args).await;
        let after = set.unwrap().obj_wcc.after.unwrap();
        assert_eq!((after.size, after.mode), (7, 0o600));
        let args = nfs3::SETATTR3args {
            guard: Nfs3Option::Some(nfs3::nfstime3 { seconds: 1, nseconds: 2 }),
            ..args
        };
        let refused: nfs3::SETATTR3res = client.nfs(Proc::NFSPROC3_SETATTR, &args).await;
        assert_eq!(stat(&refused), nfsstat3::NFS3ERR_NOT_SYNC);
    });
}

#[test]
fn every_kind_of_object_is_made_found_moved_and_removed() {
    served(2, |service| async move {
        let client = service.connect(LOOPBACK);
        let root = client.mount("").await.unwrap();
        let dir = mkdir(&client, &root, "dir").await;
        let file = create(&client, &dir, "file").await;

        let args = nfs3::SYMLINK3args {
            where_: place(&dir, "symlink"),
            symlink: nfs3::symlinkdata3 {
                symlink_attributes: with_mode(0o777),
                symlink_data: b"some/where".to_vec().into(),
            },
        };
        let made: nfs3::SYMLINK3res = client.nfs(Proc::NFSPROC3_SYMLINK, &args).await;
        let args = nfs3::READLINK3args { symlink: made.unwrap().obj.unwrap() };
        let link: nfs3::READLINK3res<'static> = client.nfs(Proc::NFSPROC3_READLINK, &args).await;
        assert_eq!(link.unwrap().data.0.to_vec(), b"some/where");

        let device = nfs3::devicedata3 {
            dev_attributes: with_mode(0o600),
            spec: nfs3::specdata3 { specdata1: 8, specdata2: 1 },
        };
        let what = nfs3::mknoddata3::NF3BLK(device);
        let args = nfs3::MKNOD3args { where_: place(&dir, "device"), what };
        let made: nfs3::MKNOD3res = client.nfs(Proc::NFSPROC3_MKNOD, &args).await;
        let attributes = made.unwrap().obj_attributes.unwrap();
        assert_eq!(attributes.type_, nfs3::ftype3::NF3BLK);
        assert_eq!((attributes.rdev.specdata1, attributes.rdev.specdata2), (8, 1));

        let args = nfs3::LINK3args { file: file.clone(), link: place(&root, "second") };
        let linked: nfs3::LINK3res = client.nfs(Proc::NFSPROC3_LINK, &args).await;
        assert_eq!(linked.unwrap().file_attributes.unwrap().nlink, 2);
        assert_eq!(lookup(&client, &root, "second").await, Ok(file.clone()));

        let args = nfs3::RENAME3args { from: place(&dir, "file"), to: place(&root, "moved") };
        let renamed: nfs3::RENAME3res = client.nfs(Proc::NFSPROC3_RENAME, &args).await;
        renamed.unwrap();
        assert_eq!(lookup(&client, &dir, "file").await, Err(nfsstat3::NFS3ERR_NOENT));

        let rmdir = nfs3::RMDIR3args { object: place(&root, "dir") };
        let full: nfs3::RMDIR3res = client.nfs(Proc::NFSPROC3_RMDIR, &rmdir).await;
        assert_eq!(stat(&full), nfsstat3::NFS3ERR_NOTEMPTY);
        for (dir, name) in
            [(&dir, "symlink"), (&dir, "device"), (&root, "second"), (&root, "moved")]
        {
            assert_eq!(remove(&client, dir, name).await, nfsstat3::NFS3_OK, "{name}");
        }
        let gone: nfs3::RMDIR3res = client.nfs(Proc::NFSPROC3_RMDIR, &rmdir).await;
        assert_eq!(stat(&gone), nfsstat3::NFS3_OK);
        let args = nfs3::GETATTR3args { object: file };
        let stale: nfs3::GETATTR3res = client.nfs(Proc::NFSPROC3_GETATTR, &args).await;
        assert_eq!(stat(&stale), nfsstat3::NFS3ERR_STALE);
    });
}

#[test]
fn listings_are_complete_and_come_with_the_attributes_of_other_shards() {
    served(3, |service| async move {
        let client = service.connect(LOOPBACK);
        let root = client.mount("/").await.unwrap();
        let mut want = BTreeSet::from([".".to_string(), "..".to_string()]);
        for n in 0..60 {
            let name = format!("directory-{n}");
            mkdir(&client, &root, &name).await;
            want.insert(name);
        }
        let mut plus = BTreeMap::new();
        let mut cookie = 0;
        loop {
            let args = nfs3::READDIRPLUS3args {
                dir: root.clone(),
                cookie,
                cookieverf: nfs3::cookieverf3([9; 8]),
                dircount: 1000,
                maxcount: 3000,
            };
            let listed: nfs3::READDIRPLUS3res<'static> =
                client.nfs(Proc::NFSPROC3_READDIRPLUS, &args).await;
            let listed = listed.unwrap();
            for entry in listed.reply.entries.into_inner() {
                cookie = entry.cookie;
                let name = String::from_utf8(entry.name.0.to_vec()).unwrap();
                let attributes = entry.name_attributes.unwrap();
                assert_eq!(attributes.fileid, entry.fileid);
                assert_eq!(attributes.type_, nfs3::ftype3::NF3DIR);
                let seen = getattr(&client, &entry.name_handle.unwrap()).await;
                assert_eq!(seen.fileid, entry.fileid);
                assert!(plus.insert(name, entry.fileid).is_none(), "no entry comes twice");
            }
            if listed.reply.eof {
                break;
            }
        }
        assert_eq!(plus.keys().cloned().collect::<BTreeSet<_>>(), want);

        let mut plain = BTreeMap::new();
        let mut cookie = 0;
        loop {
            let args = nfs3::READDIR3args {
                dir: root.clone(),
                cookie,
                cookieverf: nfs3::cookieverf3([0; 8]),
                count: 500,
            };
            let listed: nfs3::READDIR3res<'static> =
                client.nfs(Proc::NFSPROC3_READDIR, &args).await;
            let listed = listed.unwrap();
            for entry in listed.reply.entries.into_inner() {
                cookie = entry.cookie;
                plain.insert(String::from_utf8(entry.name.0.to_vec()).unwrap(), entry.fileid);
            }
            if listed.reply.eof {
                break;
            }
        }
        assert_eq!(plain, plus);
    });
}

#[test]
fn dots_lead_to_the_directory_and_its_parent_and_not_out_of_the_root() {
    served(2, |service| async move {
        let client = service.connect(LOOPBACK);
        let root = client.mount("/").await.unwrap();
        let dir = mkdir(&client, &root, "dir").await;
        let file = create(&client, &dir, "file").await;
        assert_eq!(lookup(&client, &dir, ".").await, Ok(dir.clone()));
        assert_eq!(lookup(&client, &dir, "..").await, Ok(root.clone()));
        assert_eq!(lookup(&client, &root, "..").await, Ok(root.clone()));
        assert_eq!(lookup(&client, &file, ".").await, Err(nfsstat3::NFS3ERR_NOTDIR));
        let long = "x".repeat(256);
        assert_eq!(lookup(&client, &root, &long).await, Err(nfsstat3::NFS3ERR_NAMETOOLONG));
        let args = nfs3::MKDIR3args { where_: place(&dir, ".."), attributes: with_mode(0o755) };
        let exists: nfs3::MKDIR3res = client.nfs(Proc::NFSPROC3_MKDIR, &args).await;
        assert_eq!(stat(&exists), nfsstat3::NFS3ERR_EXIST);
    });
}

#[test]
fn mount_takes_directories_below_the_export_and_nothing_else() {
    served(2, |service| async move {
        let client = service.connect(LOOPBACK);
        let root = client.mount("///").await.unwrap();
        let a = mkdir(&client, &root, "a").await;
        let b = mkdir(&client, &a, "b").await;
        create(&client, &a, "file").await;
        assert_eq!(client.mount("//a//b/").await, Ok(b));
        assert_eq!(client.mount("/a/file").await, Err(20));
        assert_eq!(client.mount("/a/none").await, Err(2));
        let stranger = service.connect("192.0.2.1:700");
        assert_eq!(stranger.mount("/").await, Err(13));
        let args = nfs3::GETATTR3args { object: root };
        let refused: nfs3::GETATTR3res = stranger.nfs(Proc::NFSPROC3_GETATTR, &args).await;
        assert_eq!(stat(&refused), nfsstat3::NFS3ERR_ACCES);
    });
}

#[test]
fn what_is_refused_leaves_the_connection_alive() {
    served(1, |service| async move {
        let client = service.connect(LOOPBACK);
        let mismatch = |version: u8| [0, 0, 0, version, 0, 0, 0, version];
        // NFSACL; NFSv2 and v4; MOUNT v1; a procedure too many; a handle that ends early.
        for (program, version, procedure, args, want, results) in [
            (100_227, 3, 0, &[][..], 1, vec![]),
            (100_003, 2, 0, &[], 2, mismatch(3).to_vec()),
            (100_003, 4, 1, &[], 2, mismatch(3).to_vec()),
            (100_005, 1, 1, &[], 2, mismatch(3).to_vec()),
            (100_000, 4, 0, &[], 2, mismatch(2).to_vec()),
            (100_003, 3, 22, &[], 3, vec![]),
            (100_003, 3, 1, &[0, 0, 0, 8, 1, 2, 3, 4], 4, vec![]),
            (100_003, 3, 8, &[0, 0, 1, 0], 4, vec![]),
        ] {
            let answer = client.ask(program, version, procedure, args).await;
            assert_eq!(Client::accepted(&answer), (want, &results[..]));
        }
        let null = client.ask(100_003, 3, 0, &[]).await;
        assert_eq!(Client::accepted(&null), (0, &[][..]));
        let getport = [100_003u32, 3, 6, 0].map(u32::to_be_bytes).concat();
        let port = client.ask(100_000, 2, 3, &getport).await;
        assert_eq!(Client::accepted(&port), (0, &[0, 0, 8, 1][..]));
    });
}

#[test]
fn forged_handles_are_bad_and_those_of_another_pool_are_stale() {
    served(1, |service| async move {
        let client = service.connect(LOOPBACK);
        let root = client.mount("/").await.unwrap();
        let stat_of = async |bytes: Vec<u8>| {
            let args = nfs3::GETATTR3args { object: nfs_fh3 { data: Opaque::owned(bytes) } };
            let got: nfs3::GETATTR3res = client.nfs(Proc::NFSPROC3_GETATTR, &args).await;
            stat(&got)
        };
        let good = root.data.to_vec();
        assert_eq!(stat_of(good.clone()).await, nfsstat3::NFS3_OK);
        let with_changed = |at: usize| {
            let mut forged = good.clone();
            forged[at] ^= 1;
            forged
        };
        assert_eq!(stat_of(with_changed(16)).await, nfsstat3::NFS3ERR_BADHANDLE);
        assert_eq!(stat_of(with_changed(28)).await, nfsstat3::NFS3ERR_BADHANDLE);
        assert_eq!(stat_of(with_changed(1)).await, nfsstat3::NFS3ERR_STALE);
        assert_eq!(stat_of(good[..20].to_vec()).await, nfsstat3::NFS3ERR_BADHANDLE);
        assert_eq!(stat_of(Vec::new()).await, nfsstat3::NFS3ERR_BADHANDLE);
    });
}

#[test]
fn a_repeated_remove_gets_the_answer_of_the_first_also_on_a_new_connection() {
    served(2, |service| async move {
        let client = service.connect(LOOPBACK);
        let root = client.mount("/").await.unwrap();
        create(&client, &root, "file").await;
        let args = packed(&nfs3::REMOVE3args { object: place(&root, "file") });
        let xid = client.next_xid();
        let first = client.ask(100_003, 3, 12, &args).await;
        client.set_next_xid(xid);
        assert_eq!(client.ask(100_003, 3, 12, &args).await, first);

        let again = service.connect("127.0.0.1:50001");
        again.set_next_xid(xid);
        assert_eq!(again.ask(100_003, 3, 12, &args).await, first);
        assert_eq!(remove(&again, &root, "file").await, nfsstat3::NFS3ERR_NOENT);
    });
}

#[test]
fn a_create_whose_connection_broke_is_carried_out_once_and_answered_on_the_next() {
    served(2, |service| async move {
        let client = service.connect(LOOPBACK);
        let root = client.mount("/").await.unwrap();
        let how = nfs3::createhow3::GUARDED(with_mode(0o644));
        let args = packed(&nfs3::CREATE3args { where_: place(&root, "file"), how });
        let xid = client.send(100_003, 3, 8, &args);
        // Lets the server read the call, so that it is under way when the connection breaks.
        service.shard.reactor().yield_now().await;
        service.shard.reactor().yield_now().await;
        client.break_off();

        let again = service.connect("127.0.0.1:50001");
        again.set_next_xid(xid);
        let answer = again.ask(100_003, 3, 8, &args).await;
        let (accepted, results) = Client::accepted(&answer);
        assert_eq!((accepted, &results[..4]), (0, &[0; 4][..]), "it succeeded");
        lookup(&again, &root, "file").await.unwrap();
    });
}

#[test]
fn mode_bits_hold_for_users_and_access_says_so_before() {
    served(2, |service| async move {
        let client = service.connect(LOOPBACK);
        let root = client.mount("/").await.unwrap();
        let file = create(&client, &root, "file").await;
        write(&client, &file, 0, b"content").await;
        client.act_as(1000);
        let args = nfs3::ACCESS3args { object: file.clone(), access: 0x3f };
        let access: nfs3::ACCESS3res = client.nfs(Proc::NFSPROC3_ACCESS, &args).await;
        assert_eq!(access.unwrap().access, 0x01, "mode 644 lets others read");
        assert_eq!(read(&client, &file, 0, 100).await.0, b"content");
        let args = nfs3::WRITE3args {
            file,
            offset: 0,
            count: 1,
            stable: nfs3::stable_how::FILE_SYNC,
            data: Opaque::borrowed(b"x"),
        };
        let refused: nfs3::WRITE3res = client.nfs(Proc::NFSPROC3_WRITE, &args).await;
        assert_eq!(stat(&refused), nfsstat3::NFS3ERR_ACCES);
        assert_eq!(remove(&client, &root, "file").await, nfsstat3::NFS3ERR_ACCES);
    });
}

#[test]
fn an_owner_writes_what_it_opened_whatever_the_mode_says_by_then() {
    served(1, |service| async move {
        let client = service.connect(LOOPBACK);
        let root = client.mount("/").await.unwrap();
        let args = nfs3::SETATTR3args {
            object: root.clone(),
            new_attributes: with_mode(0o777),
            guard: Nfs3Option::None,
        };
        let set: nfs3::SETATTR3res = client.nfs(Proc::NFSPROC3_SETATTR, &args).await;
        set.unwrap();
        client.act_as(1000);
        let how = nfs3::createhow3::GUARDED(with_mode(0o444));
        let args = nfs3::CREATE3args { where_: place(&root, "read-only"), how };
        let created: nfs3::CREATE3res = client.nfs(Proc::NFSPROC3_CREATE, &args).await;
        let file = created.unwrap().obj.unwrap();
        assert_eq!(write(&client, &file, 0, b"copied").await.count, 6);
        assert_eq!(read(&client, &file, 0, 10).await.0, b"copied");
    });
}

#[test]
fn the_file_system_describes_itself() {
    served(1, |service| async move {
        let client = service.connect(LOOPBACK);
        let root = client.mount("/").await.unwrap();
        let args = nfs3::FSINFO3args { fsroot: root.clone() };
        let info: nfs3::FSINFO3res = client.nfs(Proc::NFSPROC3_FSINFO, &args).await;
        let info = info.unwrap();
        assert_eq!((info.rtmax, info.wtmax, info.dtpref), (1 << 20, 1 << 20, 64 << 10));
        assert_eq!((info.maxfilesize, info.properties), (i64::MAX as u64, 0x1b));
        let args = nfs3::FSSTAT3args { fsroot: root.clone() };
        let stat: nfs3::FSSTAT3res = client.nfs(Proc::NFSPROC3_FSSTAT, &args).await;
        let stat = stat.unwrap();
        assert_eq!(stat.tbytes, (1 << 16) * 4096);
        assert!(0 < stat.abytes && stat.abytes <= stat.fbytes && stat.fbytes < stat.tbytes);
        let args = nfs3::PATHCONF3args { object: root };
        let conf: nfs3::PATHCONF3res = client.nfs(Proc::NFSPROC3_PATHCONF, &args).await;
        let conf = conf.unwrap();
        assert_eq!((conf.name_max, conf.no_trunc, conf.case_preserving), (255, true, true));
    });
}
