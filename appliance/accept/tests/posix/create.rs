//! Making and removing files and directories.

use super::*;

#[test]
fn an_unchecked_create_keeps_what_is_there_and_a_guarded_one_refuses() {
    let Some(mut place) = Place::start("unchecked_and_guarded_create") else { return };
    let first = create(&mut place.root, &place.home, "file", 0o640);
    assert_eq!((first.attr.size, first.attr.nlink, first.attr.mode & 0o7777), (0, 1, 0o640));
    assert_eq!(first.attr.type_, ftype3::NF3REG);
    write(&mut place.root, &first.handle, 0, b"kept");

    let guarded = createhow3::GUARDED(sattr3::default());
    let again = place.root.create(&place.home, b"file", guarded);
    refused(again, &[nfsstat3::NFS3ERR_EXIST]);

    let unchecked = createhow3::UNCHECKED(sattr3::default());
    let again = place.root.create(&place.home, b"file", unchecked).expect("is there already");
    assert_eq!((again.attr.fileid, again.attr.size), (first.attr.fileid, 4));

    let size = sattr3 { size: Nfs3Option::Some(0), ..sattr3::default() };
    let again = place.root.create(&place.home, b"file", createhow3::UNCHECKED(size));
    let again = again.expect("opened with truncation");
    assert_eq!((again.attr.fileid, again.attr.size), (first.attr.fileid, 0));
}

#[test]
fn an_exclusive_create_may_be_repeated_by_its_maker_only() {
    let Some(mut place) = Place::start("exclusive_create") else { return };
    let mine = || createhow3::EXCLUSIVE(createverf3(*b"verifier"));
    let first = place.root.create(&place.home, b"lock", mine()).expect("made");
    let again = place.root.create(&place.home, b"lock", mine()).expect("the same request");
    assert_eq!(again.attr.fileid, first.attr.fileid);
    let other = createhow3::EXCLUSIVE(createverf3(*b"stranger"));
    refused(place.root.create(&place.home, b"lock", other), &[nfsstat3::NFS3ERR_EXIST]);
}

#[test]
fn of_many_exclusive_creates_one_wins() {
    let Some(place) = Place::start("racing_exclusive_creates") else { return };
    for round in 0..10 {
        let name = format!("lock-{round}");
        let winners: usize = std::thread::scope(|scope| {
            let race = |racer: u8| {
                let (place, name) = (&place, &name);
                scope.spawn(move || {
                    let mut client = place.served.connect();
                    let how = createhow3::EXCLUSIVE(createverf3([racer; 8]));
                    match client.create(&place.home, name.as_bytes(), how) {
                        Ok(_) => 1,
                        Err(fault) if fault.is_exist() => 0,
                        Err(fault) => panic!("racer {racer}: {fault}"),
                    }
                })
            };
            let racers: Vec<_> = (1..=4).map(race).collect();
            racers.into_iter().map(|racer| racer.join().expect("a racer")).sum()
        });
        assert_eq!(winners, 1, "round {round}");
    }
}

#[test]
fn a_new_file_belongs_to_who_made_it() {
    let Some(place) = Place::start("owner_of_a_new_file") else { return };
    let mut user = place.user(1001, 2001);
    let made = create(&mut user, &place.home, "mine", 0o600);
    assert_eq!((made.attr.uid, made.attr.gid), (1001, 2001));
    let dir = user.mkdir(&place.home, b"my-dir", with_mode(0o700)).expect("mkdir");
    assert_eq!((dir.attr.uid, dir.attr.gid, dir.attr.mode & 0o7777), (1001, 2001, 0o700));
}

#[test]
fn a_directory_counts_its_links() {
    let Some(mut place) = Place::start("directory_links") else { return };
    let outer = mkdir(&mut place.root, &place.home, "outer");
    let nlink = |place: &mut Place| place.root.getattr(&outer).expect("getattr").nlink;
    assert_eq!(nlink(&mut place), 2);
    let inner = mkdir(&mut place.root, &outer, "inner");
    assert_eq!(place.root.getattr(&inner).expect("getattr").nlink, 2);
    mkdir(&mut place.root, &outer, "second");
    create(&mut place.root, &outer, "file", 0o644);
    assert_eq!(nlink(&mut place), 4, "files do not count");
    place.root.rmdir(&outer, b"inner").expect("rmdir");
    assert_eq!(nlink(&mut place), 3);
    let gone = place.root.getattr(&inner);
    refused(gone, &[nfsstat3::NFS3ERR_STALE]);
}

#[test]
fn only_an_empty_directory_can_be_removed_and_only_as_one() {
    let Some(mut place) = Place::start("rmdir_and_remove") else { return };
    let dir = mkdir(&mut place.root, &place.home, "dir");
    create(&mut place.root, &dir, "file", 0o644);
    let full = place.root.rmdir(&place.home, b"dir");
    refused(full, &[nfsstat3::NFS3ERR_NOTEMPTY, nfsstat3::NFS3ERR_EXIST]);
    let as_file = place.root.remove(&place.home, b"dir");
    refused(as_file, &[nfsstat3::NFS3ERR_ISDIR, nfsstat3::NFS3ERR_PERM]);
    refused(place.root.rmdir(&dir, b"file"), &[nfsstat3::NFS3ERR_NOTDIR]);
    place.root.remove(&dir, b"file").expect("remove");
    place.root.rmdir(&place.home, b"dir").expect("rmdir of an empty one");
    refused(place.root.rmdir(&place.home, b"dir"), &[nfsstat3::NFS3ERR_NOENT]);
    refused(place.root.remove(&place.home, b"dir"), &[nfsstat3::NFS3ERR_NOENT]);
    assert!(!exists(&mut place.root, &place.home, "dir"));
}

#[test]
fn nothing_is_made_in_a_directory_that_was_removed() {
    let Some(mut place) = Place::start("create_in_removed_directory") else { return };
    let dir = mkdir(&mut place.root, &place.home, "dir");
    place.root.rmdir(&place.home, b"dir").expect("rmdir");
    let late = place.root.create(&dir, b"late", createhow3::GUARDED(sattr3::default()));
    refused(late, &[nfsstat3::NFS3ERR_STALE, nfsstat3::NFS3ERR_NOENT]);
    let late = place.root.mkdir(&dir, b"late", sattr3::default());
    refused(late, &[nfsstat3::NFS3ERR_STALE, nfsstat3::NFS3ERR_NOENT]);
}

/// A create that wins makes the rmdir fail, and the other way round; never both, never neither.
#[test]
fn a_create_racing_rmdir_leaves_one_winner() {
    let Some(mut place) = Place::start("create_races_rmdir") else { return };
    for round in 0..30 {
        let name = format!("contested-{round}");
        let dir = mkdir(&mut place.root, &place.home, &name);
        let (created, removed) = std::thread::scope(|scope| {
            let creator = scope.spawn(|| {
                let how = createhow3::GUARDED(sattr3::default());
                place.served.connect().create(&dir, b"file", how).is_ok()
            });
            let removed = place.served.connect().rmdir(&place.home, name.as_bytes()).is_ok();
            (creator.join().expect("the creator"), removed)
        });
        assert!(created != removed, "round {round}: created {created}, removed {removed}");
        assert_eq!(exists(&mut place.root, &place.home, &name), created, "round {round}");
    }
}

#[test]
fn names_are_bytes_up_to_255_of_them() {
    let Some(mut place) = Place::start("names") else { return };
    let longest = [b'x'; 255];
    let made = place.root.create(&place.home, &longest, createhow3::GUARDED(sattr3::default()));
    let made = made.expect("255 bytes are a name");
    let found = place.root.lookup(&place.home, &longest).expect("lookup");
    assert_eq!(found.attr.fileid, made.attr.fileid);

    let too_long = [b'x'; 256];
    let status = [nfsstat3::NFS3ERR_NAMETOOLONG];
    let how = || createhow3::GUARDED(sattr3::default());
    refused(place.root.create(&place.home, &too_long, how()), &status);
    refused(place.root.lookup(&place.home, &too_long), &status);
    refused(place.root.mkdir(&place.home, &too_long, sattr3::default()), &status);
    refused(place.root.symlink(&place.home, &too_long, b"x"), &status);
    refused(place.root.remove(&place.home, &too_long), &status);
    refused(place.root.rmdir(&place.home, &too_long), &status);
    refused(place.root.link(&made.handle, &place.home, &too_long), &status);
    refused(place.root.rename((&place.home, &longest), (&place.home, &too_long)), &status);

    for odd in [&b"\xff\xfe\x01"[..], b" ", b"...", b"a\nb", "\u{e9}".as_bytes()] {
        place.root.create(&place.home, odd, how()).expect("any bytes are a name");
        place.root.lookup(&place.home, odd).expect("and found again");
    }
    for (upper, lower) in [("A", "a"), ("\u{c9}", "\u{e9}-2")] {
        create(&mut place.root, &place.home, upper, 0o644);
        assert!(!exists(&mut place.root, &place.home, lower), "{lower}: case is kept apart");
    }
}

#[test]
fn what_is_no_name_is_refused() {
    let Some(mut place) = Place::start("no_names") else { return };
    let invalid = [
        nfsstat3::NFS3ERR_INVAL,
        nfsstat3::NFS3ERR_EXIST,
        nfsstat3::NFS3ERR_ACCES,
        nfsstat3::NFS3ERR_ISDIR,
        nfsstat3::NFS3ERR_NOENT,
    ];
    for name in [&b""[..], b".", b"..", b"a/b", b"/"] {
        let how = createhow3::GUARDED(sattr3::default());
        refused(place.root.create(&place.home, name, how), &invalid);
        refused(place.root.mkdir(&place.home, name, sattr3::default()), &invalid);
    }
    let invalid = [
        nfsstat3::NFS3ERR_INVAL,
        nfsstat3::NFS3ERR_EXIST,
        nfsstat3::NFS3ERR_NOTEMPTY,
        nfsstat3::NFS3ERR_ACCES,
        nfsstat3::NFS3ERR_ISDIR,
        nfsstat3::NFS3ERR_PERM,
    ];
    for name in [&b"."[..], b".."] {
        refused(place.root.rmdir(&place.home, name), &invalid);
        refused(place.root.remove(&place.home, name), &invalid);
    }
}

#[test]
fn a_file_is_not_a_directory() {
    let Some(mut place) = Place::start("file_as_directory") else { return };
    let file = place.file("file", 0o777, b"x");
    let status = [nfsstat3::NFS3ERR_NOTDIR];
    let how = createhow3::GUARDED(sattr3::default());
    refused(place.root.create(&file, b"a", how), &status);
    refused(place.root.mkdir(&file, b"a", sattr3::default()), &status);
    refused(place.root.lookup(&file, b"a"), &status);
    refused(place.root.remove(&file, b"a"), &status);
    refused(place.root.rmdir(&file, b"a"), &status);
    let listed = place.root.readdir(&file, (0, cookieverf3::default()), 4096);
    refused(listed, &status);
    let listed = place.root.readdirplus(&file, (0, cookieverf3::default()), 4096);
    refused(listed, &status);
}

#[test]
fn dot_and_dot_dot_are_looked_up() {
    let Some(mut place) = Place::start("dots") else { return };
    let dir = mkdir(&mut place.root, &place.home, "dir");
    let (home_id, dir_id) =
        (fileid(&mut place.root, &place.home.clone()), fileid(&mut place.root, &dir));
    assert_eq!(place.root.lookup(&dir, b".").expect("dot").attr.fileid, dir_id);
    assert_eq!(place.root.lookup(&dir, b"..").expect("dot dot").attr.fileid, home_id);
    if !place.served.is_foreign() {
        let root = place.root.root().clone();
        let root_id = fileid(&mut place.root, &root);
        let above = place.root.lookup(&root, b"..").expect("above the root is the root");
        assert_eq!(above.attr.fileid, root_id);
    }
}

#[test]
fn each_change_of_a_directory_tells_its_attributes_before_and_after() {
    let Some(mut place) = Place::start("wcc_of_directories") else { return };
    let (home, root) = (place.home.clone(), &mut place.root);
    let id = fileid(root, &home);
    let made = create(root, &home, "file", 0o644);
    changed(&place.served, &made.dir_wcc, id);
    let made_dir = root.mkdir(&home, b"dir", sattr3::default()).expect("mkdir");
    changed(&place.served, &made_dir.dir_wcc, id);
    let symlink = root.symlink(&home, b"symlink", b"x").expect("symlink");
    changed(&place.served, &symlink.dir_wcc, id);
    let fifo = root.mknod(&home, b"fifo", mknoddata3::NF3FIFO(sattr3::default()));
    changed(&place.served, &fifo.expect("mknod").dir_wcc, id);
    let linked = root.link(&made.handle, &home, b"link").expect("link");
    changed(&place.served, &linked.linkdir_wcc, id);
    let renamed = root.rename((&home, b"link"), (&made_dir.handle, b"away")).expect("rename");
    changed(&place.served, &renamed.fromdir_wcc, id);
    changed(&place.served, &renamed.todir_wcc, made_dir.attr.fileid);
    changed(&place.served, &root.remove(&home, b"file").expect("remove"), id);
    root.remove(&made_dir.handle, b"away").expect("remove");
    changed(&place.served, &root.rmdir(&home, b"dir").expect("rmdir"), id);
}
