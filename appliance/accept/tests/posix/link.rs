//! Hard links.

use super::*;

#[test]
fn a_file_lives_as_long_as_one_of_its_names() {
    let Some(mut place) = Place::start("hard_links") else { return };
    let (home, file) = (place.home.clone(), place.file("one", 0o644, b"content"));
    let root = &mut place.root;
    let other = mkdir(root, &home, "other");
    let linked = root.link(&file, &other, b"two").expect("link across directories");
    if let Nfs3Option::Some(attr) = linked.file_attributes {
        assert_eq!(attr.nlink, 2, "attributes after the link");
    }
    let found = root.lookup(&other, b"two").expect("lookup");
    assert_eq!((found.attr.fileid, found.attr.nlink), (fileid(root, &file), 2));

    root.remove(&home, b"one").expect("remove");
    assert_eq!(root.getattr(&file).expect("getattr").nlink, 1);
    assert_eq!(read(root, &file, 0, 100), b"content");
    root.remove(&other, b"two").expect("remove");
    refused(root.getattr(&file), &[nfsstat3::NFS3ERR_STALE]);
    refused(root.link(&file, &home, b"back"), &[nfsstat3::NFS3ERR_STALE]);
}

#[test]
fn a_link_moves_ctime_and_not_mtime() {
    let Some(mut place) = Place::start("link_times") else { return };
    let (home, file) = (place.home.clone(), place.file("one", 0o644, b"content"));
    let root = &mut place.root;
    let before = root.getattr(&file).expect("getattr");
    root.link(&file, &home, b"two").expect("link");
    let after = root.getattr(&file).expect("getattr");
    assert_eq!(time(&before.mtime), time(&after.mtime));
    assert!(time(&before.ctime) < time(&after.ctime));
}

#[test]
fn directories_taken_names_and_missing_files_are_not_linked() {
    let Some(mut place) = Place::start("refused_links") else { return };
    let (home, file) = (place.home.clone(), place.file("file", 0o644, b"x"));
    let root = &mut place.root;
    let dir = mkdir(root, &home, "dir");
    let status = [
        nfsstat3::NFS3ERR_ISDIR,
        nfsstat3::NFS3ERR_PERM,
        nfsstat3::NFS3ERR_INVAL,
        nfsstat3::NFS3ERR_BADTYPE,
    ];
    refused(root.link(&dir, &home, b"second"), &status);
    refused(root.link(&file, &home, b"file"), &[nfsstat3::NFS3ERR_EXIST]);
    refused(root.link(&file, &home, b"dir"), &[nfsstat3::NFS3ERR_EXIST]);
    refused(root.link(&file, &file, b"new"), &[nfsstat3::NFS3ERR_NOTDIR]);
    assert_eq!(root.getattr(&file).expect("getattr").nlink, 1);
}

#[test]
fn symlinks_and_special_files_can_have_two_names() {
    let Some(mut place) = Place::start("link_to_symlink") else { return };
    let (home, root) = (place.home.clone(), &mut place.root);
    let symlink = root.symlink(&home, b"symlink", b"nowhere").expect("symlink");
    root.link(&symlink.handle, &home, b"second").expect("link");
    let found = root.lookup(&home, b"second").expect("lookup");
    assert_eq!((found.attr.type_, found.attr.nlink), (ftype3::NF3LNK, 2));
    let fifo = root.mknod(&home, b"fifo", mknoddata3::NF3FIFO(sattr3::default()));
    root.link(&fifo.expect("mknod").handle, &home, b"second fifo").expect("link");
}

#[test]
fn a_file_under_many_names_counts_them_all() {
    let Some(mut place) = Place::start("many_links") else { return };
    let (home, file) = (place.home.clone(), place.file("first", 0o644, b"x"));
    let root = &mut place.root;
    for number in 0..200 {
        root.link(&file, &home, format!("name-{number}").as_bytes()).expect("link");
    }
    assert_eq!(root.getattr(&file).expect("getattr").nlink, 201);
    for number in 0..200 {
        root.remove(&home, format!("name-{number}").as_bytes()).expect("remove");
    }
    assert_eq!(root.getattr(&file).expect("getattr").nlink, 1);
}
