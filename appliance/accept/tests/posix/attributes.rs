//! Setting attributes: mode, owner, times, guards.

use super::*;
use cairn_accept::now_or;

fn owner(uid: Option<u32>, gid: Option<u32>) -> sattr3 {
    let some = |id: Option<u32>| id.map_or(Nfs3Option::None, Nfs3Option::Some);
    sattr3 { uid: some(uid), gid: some(gid), ..sattr3::default() }
}

const fn at(seconds: u32, nseconds: u32) -> nfstime3 {
    nfstime3 { seconds, nseconds }
}

#[test]
fn each_attribute_is_set_alone() {
    let Some(mut place) = Place::start("setattr_each") else { return };
    let file = place.file("file", 0o644, b"content");
    let root = &mut place.root;
    let id = fileid(root, &file);
    changed(&place.served, &root.setattr(&file, with_mode(0o7751)).expect("mode"), id);
    assert_eq!(root.getattr(&file).expect("getattr").mode & 0o7777, 0o7751);
    changed(&place.served, &root.setattr(&file, owner(Some(7), None)).expect("uid"), id);
    changed(&place.served, &root.setattr(&file, owner(None, Some(8))).expect("gid"), id);
    let attr = root.getattr(&file).expect("getattr");
    assert_eq!((attr.uid, attr.gid), (7, 8));
    let times =
        sattr3 { atime: set_atime::SET_TO_CLIENT_TIME(at(11, 111_111_111)), ..sattr3::default() };
    root.setattr(&file, times).expect("atime");
    let times = sattr3 { mtime: now_or(Some(at(22, 999_999_999))), ..sattr3::default() };
    root.setattr(&file, times).expect("mtime");
    let attr = root.getattr(&file).expect("getattr");
    assert_eq!(time(&attr.atime), (11, 111_111_111));
    assert_eq!(time(&attr.mtime), (22, 999_999_999));
    assert_eq!((attr.uid, attr.gid, attr.size), (7, 8, 7), "the others stay");
}

#[test]
fn server_time_is_now_and_every_change_moves_ctime() {
    let Some(mut place) = Place::start("server_times") else { return };
    let file = place.file("file", 0o644, b"content");
    let root = &mut place.root;
    let old = sattr3 {
        atime: set_atime::SET_TO_CLIENT_TIME(at(1, 0)),
        mtime: now_or(Some(at(1, 0))),
        ..sattr3::default()
    };
    root.setattr(&file, old).expect("setattr");
    let before = root.getattr(&file).expect("getattr");
    assert!(before.ctime.seconds > 1_000_000_000, "ctime is the server's");
    let now =
        sattr3 { atime: set_atime::SET_TO_SERVER_TIME, mtime: now_or(None), ..sattr3::default() };
    root.setattr(&file, now).expect("setattr");
    let after = root.getattr(&file).expect("getattr");
    assert!(time(&after.ctime) > time(&before.ctime));
    assert!(time(&after.mtime) >= time(&before.ctime));
    assert!(time(&after.atime) >= time(&before.ctime));
}

#[test]
fn a_guard_that_does_not_match_stops_the_change() {
    let Some(mut place) = Place::start("setattr_guard") else { return };
    let file = place.file("file", 0o644, b"content");
    let root = &mut place.root;
    let ctime = root.getattr(&file).expect("getattr").ctime;
    root.setattr(&file, with_mode(0o600)).expect("somebody else's change");
    let late = root.setattr_guarded(&file, with_mode(0o777), Nfs3Option::Some(ctime));
    refused(late, &[nfsstat3::NFS3ERR_NOT_SYNC]);
    let attr = root.getattr(&file).expect("getattr");
    assert_eq!(attr.mode & 0o7777, 0o600);
    let in_time = root.setattr_guarded(&file, with_mode(0o777), Nfs3Option::Some(attr.ctime));
    in_time.expect("the guard matches");
    assert_eq!(root.getattr(&file).expect("getattr").mode & 0o7777, 0o777);
}

#[test]
fn a_directory_has_no_size_to_set() {
    let Some(mut place) = Place::start("size_of_directory") else { return };
    let dir = place.dir("dir", 0o755);
    let sized = place.root.setattr(&dir, cairn_accept::set_size(0));
    let status = [nfsstat3::NFS3ERR_ISDIR, nfsstat3::NFS3ERR_INVAL, nfsstat3::NFS3ERR_BADTYPE];
    refused(sized, &status);
}

#[test]
fn owners_change_modes_and_only_root_gives_files_away() {
    let Some(mut place) = Place::start("chown_chmod_rules") else { return };
    let file = place.file("file", 0o666, b"content");
    place.root.setattr(&file, owner(Some(1001), Some(2001))).expect("by root");
    let mut other = place.user(1002, 2001);
    let status = [nfsstat3::NFS3ERR_PERM, nfsstat3::NFS3ERR_ACCES];
    refused(other.setattr(&file, with_mode(0o600)), &status);
    refused(other.setattr(&file, owner(None, Some(2001))), &status);

    let in_groups = Cred { uid: 1001, gid: 2001, groups: &[3001, 3002] };
    let mut user = place.served.connect_as(&in_groups);
    user.setattr(&file, with_mode(0o640)).expect("chmod by the owner");
    refused(user.setattr(&file, owner(Some(1002), None)), &status);
    refused(user.setattr(&file, owner(None, Some(4001))), &status);
    user.setattr(&file, owner(None, Some(3002))).expect("to a group of the owner's");
    let attr = user.getattr(&file).expect("getattr");
    assert_eq!((attr.uid, attr.gid, attr.mode & 0o7777), (1001, 3002, 0o640));
}

#[test]
fn times_are_the_owners_except_now() {
    let Some(mut place) = Place::start("utimes_rules") else { return };
    let file = place.file("file", 0o666, b"content");
    let mut writer = place.user(1002, 2002);
    let now = || sattr3 { mtime: now_or(None), ..sattr3::default() };
    let set = || sattr3 { mtime: now_or(Some(at(5, 5))), ..sattr3::default() };
    writer.setattr(&file, now()).expect("now, by who may write");
    let status = [nfsstat3::NFS3ERR_PERM, nfsstat3::NFS3ERR_ACCES];
    refused(writer.setattr(&file, set()), &status);
    place.root.setattr(&file, with_mode(0o644)).expect("chmod");
    refused(writer.setattr(&file, now()), &status);
    place.root.setattr(&file, owner(Some(1002), None)).expect("chown");
    writer.setattr(&file, set()).expect("any time, by the owner");
    assert_eq!(time(&writer.getattr(&file).expect("getattr").mtime), (5, 5));
}

#[test]
fn set_id_bits_go_when_others_write_or_the_owner_changes() {
    let Some(mut place) = Place::start("suid_clearing") else { return };
    let file = place.file("program", 0o777, b"content");
    place.root.setattr(&file, owner(Some(1001), Some(2001))).expect("chown");
    let mode = |place: &mut Place| place.root.getattr(&file).expect("getattr").mode & 0o7777;

    place.root.setattr(&file, with_mode(0o6777)).expect("chmod");
    let mut other = place.user(1002, 2002);
    write(&mut other, &file, 0, b"changed");
    assert_eq!(mode(&mut place), 0o777, "after a write by another");

    place.root.setattr(&file, with_mode(0o6777)).expect("chmod");
    let mut user = place.served.connect_as(&Cred { uid: 1001, gid: 2001, groups: &[2002] });
    user.setattr(&file, owner(None, Some(2002))).expect("chgrp");
    assert_eq!(mode(&mut place), 0o777, "after a change of group by the owner");

    if place.served.is_foreign() {
        return; // some leave it to the client
    }
    place.root.setattr(&file, with_mode(0o6777)).expect("chmod");
    other.setattr(&file, cairn_accept::set_size(1)).expect("truncate");
    assert_eq!(mode(&mut place) & 0o4000, 0, "after a truncation by another");
}

#[test]
fn a_setgid_directory_hands_its_group_down() {
    let Some(mut place) = Place::start("setgid_inheritance") else { return };
    let dir = place.dir("shared", 0o777);
    place.root.setattr(&dir, owner(None, Some(5001))).expect("chgrp");
    place.root.setattr(&dir, with_mode(0o2777)).expect("chmod");
    let mut user = place.user(1001, 2001);
    let file = create(&mut user, &dir, "file", 0o644);
    assert_eq!((file.attr.uid, file.attr.gid), (1001, 5001));
    assert_eq!(file.attr.mode & 0o2000, 0, "a file does not get the bit");
    let inner = user.mkdir(&dir, b"inner", with_mode(0o755)).expect("mkdir");
    assert_eq!(inner.attr.gid, 5001);
    assert_eq!(inner.attr.mode & 0o7777, 0o2755, "a directory does");
    let symlink = user.symlink(&dir, b"symlink", b"x").expect("symlink");
    assert_eq!(symlink.attr.gid, 5001);
}
