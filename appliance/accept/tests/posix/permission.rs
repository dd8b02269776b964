//! Who may do what.

use super::*;

const DENIED: &[nfsstat3] = &[nfsstat3::NFS3ERR_ACCES, nfsstat3::NFS3ERR_PERM];
const RIGHTS: u32 = ACCESS3_READ
    | ACCESS3_LOOKUP
    | ACCESS3_MODIFY
    | ACCESS3_EXTEND
    | ACCESS3_DELETE
    | ACCESS3_EXECUTE;

fn owned(place: &mut Place, object: &nfs_fh3, uid: u32, gid: u32) {
    let set =
        sattr3 { uid: Nfs3Option::Some(uid), gid: Nfs3Option::Some(gid), ..sattr3::default() };
    place.root.setattr(object, set).expect("chown");
}

#[test]
fn owner_group_and_others_are_told_apart() {
    let Some(mut place) = Place::start("mode_bits") else { return };
    let readable = place.file("group-reads", 0o640, b"secret");
    owned(&mut place, &readable, 1001, 2001);
    let mut owner = place.user(1001, 9);
    let mut member = place.user(1002, 2001);
    let mut supplementary =
        place.served.connect_as(&Cred { uid: 1003, gid: 9, groups: &[77, 2001, 78] });
    let mut stranger = place.user(1004, 9);

    write(&mut owner, &readable, 0, b"SECRET");
    assert_eq!(read(&mut member, &readable, 0, 10), b"SECRET");
    assert_eq!(read(&mut supplementary, &readable, 0, 10), b"SECRET");
    refused(stranger.read(&readable, 0, 10), DENIED);
    for client in [&mut member, &mut supplementary, &mut stranger] {
        refused(client.write(&readable, 0, b"x", stable_how::FILE_SYNC), DENIED);
        refused(client.setattr(&readable, cairn_accept::set_size(0)), DENIED);
    }

    // The class that fits first decides, even when a later one could do more.
    let odd = place.file("group-less-than-others", 0o606, b"x");
    owned(&mut place, &odd, 1001, 2001);
    refused(member.read(&odd, 0, 10), DENIED);
    assert_eq!(read(&mut stranger, &odd, 0, 10), b"x");
}

#[test]
fn root_is_not_asked() {
    let Some(mut place) = Place::start("root_override") else { return };
    let dir = place.dir("closed", 0o000);
    owned(&mut place, &dir, 1001, 2001);
    let file = create(&mut place.root, &dir, "file", 0o000);
    write(&mut place.root, &file.handle, 0, b"by root");
    assert_eq!(read(&mut place.root, &file.handle, 0, 10), b"by root");
    assert!(exists(&mut place.root, &dir, "file"));
    place.root.remove(&dir, b"file").expect("remove");
}

#[test]
fn a_directory_needs_x_to_pass_r_to_list_and_w_to_change() {
    let Some(mut place) = Place::start("directory_bits") else { return };
    let mut user = place.user(1001, 2001);
    let start = (0, cookieverf3::default());

    let pass_only = place.dir("pass-only", 0o711);
    create(&mut place.root, &pass_only, "inside", 0o644);
    user.lookup(&pass_only, b"inside").expect("x is enough to look up");
    refused(user.readdir(&pass_only, start, 4096), DENIED);
    refused(user.readdirplus(&pass_only, start, 4096), DENIED);

    let list_only = place.dir("list-only", 0o744);
    create(&mut place.root, &list_only, "inside", 0o644);
    user.readdir(&list_only, start, 4096).expect("r is enough to list");
    refused(user.lookup(&list_only, b"inside"), DENIED);

    let read_only = place.dir("read-only", 0o755);
    let inside = create(&mut place.root, &read_only, "inside", 0o666);
    let how = || createhow3::GUARDED(sattr3::default());
    let home = place.home.clone();
    let mine = create(&mut user, &home, "mine", 0o644);
    refused(user.create(&read_only, b"new", how()), DENIED);
    refused(user.mkdir(&read_only, b"new", sattr3::default()), DENIED);
    refused(user.symlink(&read_only, b"new", b"x"), DENIED);
    refused(user.link(&mine.handle, &read_only, b"new"), DENIED);
    refused(user.remove(&read_only, b"inside"), DENIED);
    refused(user.rename((&read_only, b"inside"), (&home, b"new")), DENIED);
    refused(user.rename((&home, b"mine"), (&read_only, b"new")), DENIED);
    write(&mut user, &inside.handle, 0, b"the file itself is open to all");
}

#[test]
fn in_a_sticky_directory_everybody_removes_only_his_own() {
    let Some(mut place) = Place::start("sticky_directory") else { return };
    let sticky = place.dir("tmp", 0o1777);
    let home = place.home.clone();
    let (mut one, mut two) = (place.user(1001, 2001), place.user(1002, 2001));
    create(&mut one, &sticky, "of one", 0o666);
    create(&mut two, &sticky, "of two", 0o666);
    refused(two.remove(&sticky, b"of one"), DENIED);
    refused(two.rename((&sticky, b"of one"), (&home, b"taken")), DENIED);
    refused(two.rename((&sticky, b"of two"), (&sticky, b"of one")), DENIED);
    one.mkdir(&sticky, b"dir of one", with_mode(0o777)).expect("mkdir");
    refused(two.rmdir(&sticky, b"dir of one"), DENIED);
    one.rename((&sticky, b"of one"), (&sticky, b"renamed")).expect("his own");
    one.remove(&sticky, b"renamed").expect("his own");
    one.rmdir(&sticky, b"dir of one").expect("his own");
    place.root.remove(&sticky, b"of two").expect("root's right");

    // The directory's owner may remove everything.
    owned(&mut place, &sticky, 1001, 2001);
    create(&mut two, &sticky, "of two", 0o666);
    one.remove(&sticky, b"of two").expect("the directory's owner");
}

#[test]
fn access_says_what_would_be_granted() {
    let Some(mut place) = Place::start("access") else { return };
    let file = place.file("file", 0o754, b"x");
    let dir = place.dir("dir", 0o751);
    owned(&mut place, &file, 1001, 2001);
    owned(&mut place, &dir, 1001, 2001);
    let writes = ACCESS3_MODIFY | ACCESS3_EXTEND;
    // DELETE is about names in a directory; on a file its meaning is the server's own.
    let of_file = RIGHTS & !ACCESS3_DELETE & !ACCESS3_LOOKUP;
    let of_dir = RIGHTS & !ACCESS3_EXECUTE;
    for (uid, gid, file_rights, dir_rights) in [
        (
            1001,
            9,
            ACCESS3_READ | writes | ACCESS3_EXECUTE,
            ACCESS3_READ | ACCESS3_LOOKUP | writes | ACCESS3_DELETE,
        ),
        (1002, 2001, ACCESS3_READ | ACCESS3_EXECUTE, ACCESS3_READ | ACCESS3_LOOKUP),
        (1003, 9, ACCESS3_READ, ACCESS3_LOOKUP),
    ] {
        let mut user = place.user(uid, gid);
        let granted = user.access(&file, of_file).expect("access");
        assert_eq!(granted, file_rights, "uid {uid} gid {gid} on the file");
        let granted = user.access(&dir, of_dir).expect("access");
        assert_eq!(granted, dir_rights, "uid {uid} gid {gid} on the directory");
    }
    let some = place.user(1001, 9).access(&file, ACCESS3_READ).expect("access");
    assert_eq!(some, ACCESS3_READ, "no more than was asked for");
    let root = place.root.access(&file, of_file).expect("access");
    assert_eq!(root, of_file & !ACCESS3_LOOKUP);
}
