//! Every case of rename.

use super::*;

#[test]
fn a_file_replaces_a_file() {
    let Some(mut place) = Place::start("file_over_file") else { return };
    let (home, new) = (place.home.clone(), place.file("new", 0o644, b"new"));
    let old = place.file("old", 0o644, b"old one");
    let root = &mut place.root;
    let second = root.link(&old, &home, b"second name of old").map(|_| ());
    second.expect("link");
    let id = fileid(root, &new);
    root.rename((&home, b"new"), (&home, b"old")).expect("rename");
    assert!(!exists(root, &home, "new"));
    let found = root.lookup(&home, b"old").expect("the name stays");
    assert_eq!((found.attr.fileid, found.attr.nlink), (id, 1));
    assert_eq!(read(root, &found.handle, 0, 100), b"new");
    assert_eq!(root.getattr(&old).expect("it has another name").nlink, 1);

    root.rename((&home, b"old"), (&home, b"second name of old")).expect("rename");
    refused(root.getattr(&old), &[nfsstat3::NFS3ERR_STALE]);
}

#[test]
fn a_directory_replaces_an_empty_directory_only() {
    let Some(mut place) = Place::start("dir_over_dir") else { return };
    let (home, root) = (place.home.clone(), &mut place.root);
    let moving = mkdir(root, &home, "moving");
    create(root, &moving, "inside", 0o644);
    mkdir(root, &home, "empty");
    let full = mkdir(root, &home, "full");
    create(root, &full, "file", 0o644);
    let nlink = root.getattr(&home).expect("getattr").nlink;

    let status = [nfsstat3::NFS3ERR_NOTEMPTY, nfsstat3::NFS3ERR_EXIST];
    refused(root.rename((&home, b"moving"), (&home, b"full")), &status);
    assert!(exists(root, &home, "moving") && exists(root, &full, "file"));

    root.rename((&home, b"moving"), (&home, b"empty")).expect("over an empty one");
    assert!(!exists(root, &home, "moving"));
    let found = root.lookup(&home, b"empty").expect("lookup");
    assert!(exists(root, &found.handle, "inside"));
    assert_eq!(root.getattr(&home).expect("getattr").nlink, nlink - 1);
}

#[test]
fn a_file_does_not_replace_a_directory_nor_a_directory_a_file() {
    let Some(mut place) = Place::start("file_against_dir") else { return };
    let home = place.home.clone();
    place.file("file", 0o644, b"x");
    let root = &mut place.root;
    mkdir(root, &home, "dir");
    let onto_dir = root.rename((&home, b"file"), (&home, b"dir"));
    refused(onto_dir, &[nfsstat3::NFS3ERR_ISDIR, nfsstat3::NFS3ERR_EXIST]);
    let onto_file = root.rename((&home, b"dir"), (&home, b"file"));
    refused(onto_file, &[nfsstat3::NFS3ERR_NOTDIR, nfsstat3::NFS3ERR_EXIST]);
    for (name, kind) in [("file", ftype3::NF3REG), ("dir", ftype3::NF3DIR)] {
        let found = root.lookup(&home, name.as_bytes()).expect("nothing has changed");
        assert_eq!(found.attr.type_, kind);
    }
}

#[test]
fn a_directory_does_not_move_into_itself() {
    let Some(mut place) = Place::start("rename_cycle") else { return };
    let (home, root) = (place.home.clone(), &mut place.root);
    let a = mkdir(root, &home, "a");
    let b = mkdir(root, &a, "b");
    let c = mkdir(root, &b, "c");
    let status = [nfsstat3::NFS3ERR_INVAL];
    refused(root.rename((&home, b"a"), (&a, b"self")), &status);
    refused(root.rename((&home, b"a"), (&c, b"deep")), &status);
    refused(root.rename((&a, b"b"), (&c, b"deep")), &status);
    let above = root.lookup(&c, b"..").expect("dot dot").attr.fileid;
    assert_eq!(above, fileid(root, &b));
}

/// Two moves that are fine alone and make a ring together. They are tried at once, many times.
#[test]
fn two_moves_never_make_a_ring() {
    let Some(mut place) = Place::start("racing_moves") else { return };
    let home = place.home.clone();
    for round in 0..30 {
        let base = mkdir(&mut place.root, &home, &format!("round-{round}"));
        let a = mkdir(&mut place.root, &base, "a");
        let b = mkdir(&mut place.root, &base, "b");
        let (first, second) = std::thread::scope(|scope| {
            let first =
                scope.spawn(|| place.served.connect().rename((&base, b"a"), (&b, b"a")).is_ok());
            let second = place.served.connect().rename((&base, b"b"), (&a, b"b")).is_ok();
            (first.join().expect("the other move"), second)
        });
        assert!(!(first && second), "round {round}: both moved, a and b are cut off");
        assert!(first || second, "round {round}: neither moved");
        let at_the_base =
            [exists(&mut place.root, &base, "a"), exists(&mut place.root, &base, "b")];
        assert_eq!(at_the_base, [second, first], "round {round}");
        let nlink = place.root.getattr(&base).expect("getattr").nlink;
        assert_eq!(nlink, 3, "round {round}: one directory is left in the base");
    }
}

#[test]
fn a_move_to_another_parent_takes_dot_dot_and_link_counts_along() {
    let Some(mut place) = Place::start("move_to_another_parent") else { return };
    let (home, root) = (place.home.clone(), &mut place.root);
    let from = mkdir(root, &home, "from");
    let to = mkdir(root, &home, "to");
    let moved = mkdir(root, &from, "moved");
    let deep = mkdir(root, &moved, "deep");
    root.rename((&from, b"moved"), (&to, b"renamed")).expect("rename");
    let nlink = |root: &mut Client, dir| root.getattr(dir).expect("getattr").nlink;
    assert_eq!((nlink(root, &from), nlink(root, &to), nlink(root, &moved)), (2, 3, 3));
    let above = root.lookup(&moved, b"..").expect("dot dot").attr.fileid;
    assert_eq!(above, fileid(root, &to));
    let found = root.lookup(&to, b"renamed").expect("the new name");
    assert_eq!(found.attr.fileid, fileid(root, &moved));
    assert_eq!(root.lookup(&moved, b"deep").expect("the inside").attr.fileid, fileid(root, &deep));
    assert!(!exists(root, &from, "moved"));
}

#[test]
fn a_rename_to_the_same_file_changes_nothing() {
    let Some(mut place) = Place::start("rename_to_itself") else { return };
    let (home, file) = (place.home.clone(), place.file("one", 0o644, b"x"));
    let root = &mut place.root;
    root.rename((&home, b"one"), (&home, b"one")).expect("to its own name");
    root.link(&file, &home, b"two").expect("link");
    root.rename((&home, b"one"), (&home, b"two")).expect("to its other name");
    assert!(exists(root, &home, "one") && exists(root, &home, "two"), "both names stay");
    assert_eq!(root.getattr(&file).expect("getattr").nlink, 2);
    mkdir(root, &home, "dir");
    root.rename((&home, b"dir"), (&home, b"dir")).expect("a directory to its own name");
}

#[test]
fn what_cannot_be_renamed_is_refused() {
    let Some(mut place) = Place::start("impossible_renames") else { return };
    let (home, file) = (place.home.clone(), place.file("file", 0o644, b"x"));
    let root = &mut place.root;
    refused(root.rename((&home, b"none"), (&home, b"new")), &[nfsstat3::NFS3ERR_NOENT]);
    refused(root.rename((&file, b"a"), (&home, b"new")), &[nfsstat3::NFS3ERR_NOTDIR]);
    refused(root.rename((&home, b"file"), (&file, b"new")), &[nfsstat3::NFS3ERR_NOTDIR]);
    let dots = [
        nfsstat3::NFS3ERR_INVAL,
        nfsstat3::NFS3ERR_EXIST,
        nfsstat3::NFS3ERR_ISDIR,
        nfsstat3::NFS3ERR_NOTEMPTY,
        nfsstat3::NFS3ERR_ACCES,
    ];
    for dot in [&b"."[..], b".."] {
        refused(root.rename((&home, dot), (&home, b"new")), &dots);
        refused(root.rename((&home, b"file"), (&home, dot)), &dots);
    }
}

#[test]
fn symlinks_and_special_files_are_renamed_as_themselves() {
    let Some(mut place) = Place::start("rename_symlink") else { return };
    let (home, root) = (place.home.clone(), &mut place.root);
    let target = mkdir(root, &home, "target");
    root.symlink(&home, b"symlink", b"target").expect("symlink");
    root.rename((&home, b"symlink"), (&target, b"moved")).expect("rename");
    let found = root.lookup(&target, b"moved").expect("lookup");
    assert_eq!(root.readlink(&found.handle).expect("readlink"), b"target");
    root.mknod(&home, b"fifo", mknoddata3::NF3FIFO(sattr3::default())).expect("mknod");
    root.rename((&home, b"fifo"), (&target, b"moved")).expect("over a symlink");
    let found = root.lookup(&target, b"moved").expect("lookup");
    assert_eq!(found.attr.type_, ftype3::NF3FIFO);
}
