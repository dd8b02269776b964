//! Symlinks, fifos, sockets and devices.

use super::*;

#[test]
fn a_symlink_keeps_its_text_unread() {
    let Some(mut place) = Place::start("symlinks") else { return };
    let (home, root) = (place.home.clone(), &mut place.root);
    let long = [b'x'; 4_000];
    for (name, target) in
        [("plain", &b"../some/where"[..]), ("odd", b"\xff//not\nUTF-8/."), ("long", &long)]
    {
        let made = root.symlink(&home, name.as_bytes(), target).expect("symlink");
        assert_eq!(made.attr.type_, ftype3::NF3LNK, "{name}");
        assert_eq!(made.attr.size, target.len() as u64, "{name}");
        assert_eq!(root.readlink(&made.handle).expect("readlink"), target, "{name}");
        let found = root.lookup(&home, name.as_bytes()).expect("lookup");
        assert_eq!(found.attr.fileid, made.attr.fileid, "{name}: not followed");
    }
    refused(root.symlink(&home, b"plain", b"x"), &[nfsstat3::NFS3ERR_EXIST]);
    let file = create(root, &home, "file", 0o644);
    refused(root.readlink(&file.handle), &[nfsstat3::NFS3ERR_INVAL]);
    root.remove(&home, b"plain").expect("a symlink is removed like a file");
}

#[test]
fn special_files_keep_type_and_device_numbers() {
    let Some(mut place) = Place::start("special_files") else { return };
    let (home, root) = (place.home.clone(), &mut place.root);
    let device = |specdata1, specdata2| devicedata3 {
        dev_attributes: with_mode(0o600),
        spec: specdata3 { specdata1, specdata2 },
    };
    let special = [
        ("fifo", mknoddata3::NF3FIFO(with_mode(0o600)), ftype3::NF3FIFO, (0, 0)),
        ("socket", mknoddata3::NF3SOCK(with_mode(0o600)), ftype3::NF3SOCK, (0, 0)),
        ("null", mknoddata3::NF3CHR(device(1, 3)), ftype3::NF3CHR, (1, 3)),
        ("disk", mknoddata3::NF3BLK(device(259, 70_000)), ftype3::NF3BLK, (259, 70_000)),
    ];
    for (name, what, kind, numbers) in special {
        let made = root.mknod(&home, name.as_bytes(), what).expect(name);
        let attr = root.getattr(&made.handle).expect("getattr");
        assert_eq!(attr.type_, kind, "{name}");
        assert_eq!(attr.mode & 0o7777, 0o600, "{name}");
        let rdev = (attr.rdev.specdata1, attr.rdev.specdata2);
        if matches!(kind, ftype3::NF3CHR | ftype3::NF3BLK) {
            assert_eq!(rdev, numbers, "{name}");
        }
        let status = [
            nfsstat3::NFS3ERR_INVAL,
            nfsstat3::NFS3ERR_IO,
            nfsstat3::NFS3ERR_NOTSUPP,
            nfsstat3::NFS3ERR_BADTYPE,
        ];
        refused(root.read(&made.handle, 0, 10), &status);
        root.remove(&home, name.as_bytes()).expect("remove");
    }
}

#[test]
fn devices_are_for_root_and_fifos_for_everybody() {
    let Some(place) = Place::start("user_mknod") else { return };
    let mut user = place.user(1001, 2001);
    let device = || devicedata3 {
        dev_attributes: with_mode(0o600),
        spec: specdata3 { specdata1: 1, specdata2: 3 },
    };
    let status = [nfsstat3::NFS3ERR_PERM, nfsstat3::NFS3ERR_ACCES];
    refused(user.mknod(&place.home, b"chr", mknoddata3::NF3CHR(device())), &status);
    refused(user.mknod(&place.home, b"blk", mknoddata3::NF3BLK(device())), &status);
    user.mknod(&place.home, b"fifo", mknoddata3::NF3FIFO(with_mode(0o600))).expect("a fifo");
    user.mknod(&place.home, b"sock", mknoddata3::NF3SOCK(with_mode(0o600))).expect("a socket");
}
