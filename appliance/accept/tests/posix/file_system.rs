//! What the file system says of itself, and how it is mounted.

use super::*;
use cairn_accept::raw::{self, Verdict, Wire};

#[test]
fn the_limits_are_told() {
    let Some(mut place) = Place::start("fsinfo_pathconf") else { return };
    let info = place.root.fsinfo().expect("fsinfo");
    assert!(info.rtmax >= 65_536 && info.wtmax >= 65_536, "{info:?}");
    assert!(info.rtpref <= info.rtmax && info.wtpref <= info.wtmax, "{info:?}");
    assert!(info.maxfilesize > 1 << 40, "{info:?}");
    let can = FSF3_LINK | FSF3_SYMLINK | FSF3_HOMOGENEOUS | FSF3_CANSETTIME;
    assert_eq!(info.properties & can, can, "{info:?}");
    let home = place.home.clone();
    let conf = place.root.pathconf(&home).expect("pathconf");
    assert!(conf.no_trunc && conf.case_preserving && !conf.case_insensitive, "{conf:?}");
    assert!(conf.linkmax >= 1_000, "{conf:?}");
    place.root.null().expect("null");
    if !place.served.is_foreign() {
        assert_eq!(time(&info.time_delta), (0, 1), "times are in nanoseconds");
        assert_eq!(conf.name_max, 255);
        assert!(conf.chown_restricted);
    }
}

#[test]
fn space_goes_when_it_is_used_and_comes_back() {
    let Some(mut place) = Place::start("fsstat") else { return };
    if place.served.is_foreign() {
        return; // others write there too
    }
    let (home, root) = (place.home.clone(), &mut place.root);
    let before = root.fsstat().expect("fsstat");
    assert!(before.fbytes <= before.tbytes && before.abytes <= before.fbytes, "{before:?}");
    assert!(before.ffiles <= before.tfiles, "{before:?}");
    let file = create(root, &home, "file", 0o644).handle;
    let mebibyte = vec![7; 1 << 16];
    for part in 0..512u64 {
        root.write(&file, part << 16, &mebibyte, stable_how::UNSTABLE).expect("write");
    }
    root.commit(&file, 0, 0).expect("commit");
    let used = root.getattr(&file).expect("getattr").used;
    assert!(used >= 32 << 20, "32 MiB use {used} bytes");
    let full = root.fsstat().expect("fsstat");
    assert!(full.fbytes + (31 << 20) < before.fbytes, "{before:?} then {full:?}");
    root.remove(&home, b"file").expect("remove");
    let back = cairn_accept::eventually(std::time::Duration::from_secs(30), || {
        let now = root.fsstat().expect("fsstat");
        (now.fbytes + (2 << 20) >= before.fbytes).then_some(now)
    });
    assert!(back.is_some(), "{before:?}, {full:?}, and the space did not come back");
}

#[test]
fn a_mount_takes_the_root_directories_below_and_sloppy_paths() {
    let Some(mut place) = Place::start("mount_paths") else { return };
    if place.served.is_foreign() {
        return; // what paths mean is our contract
    }
    let root = place.root.root().clone();
    let outer = mkdir(&mut place.root, &root, "outer");
    let inner = mkdir(&mut place.root, &outer, "inner");
    let address = place.served.address().clone();
    let mut mounted = |path: &str| {
        let handle = Client::mount(&address, &Cred::ROOT, path.as_bytes());
        let handle = handle.unwrap_or_else(|fault| panic!("mount of {path:?}: {fault}"));
        fileid(&mut place.root, &handle)
    };
    let root_id = mounted("/");
    for path in ["", "//", "///"] {
        assert_eq!(mounted(path), root_id, "{path:?}");
    }
    let inner_id = mounted("/outer/inner");
    for path in ["//outer//inner", "/outer/inner/", "outer/inner"] {
        assert_eq!(mounted(path), inner_id, "{path:?}");
    }
    assert_eq!(fileid(&mut place.root, &inner), inner_id);

    create(&mut place.root, &root, "file", 0o644);
    let mount = |path: &str| Client::mount(&address, &Cred::ROOT, path.as_bytes());
    refused(mount("/none"), &[nfsstat3::NFS3ERR_NOENT]);
    refused(mount("/outer/none/deeper"), &[nfsstat3::NFS3ERR_NOENT]);
    refused(mount("/file"), &[nfsstat3::NFS3ERR_NOTDIR]);
}

/// RFC 1813, 5.2.5: EXPORT is a list of (directory, groups), each with a flag in front.
#[test]
fn the_export_is_listed_and_the_port_is_told() {
    let Some(place) = Place::start("export_and_portmap") else { return };
    if place.served.is_foreign() {
        return; // our answer is what is asked for here
    }
    let address = place.served.address();
    let mut wire = Wire::connect(address.nfs).expect("connect");
    let exports = wire.ask(&raw::call(1, raw::MOUNT, 3, 5, &[])).expect("EXPORT");
    assert_eq!(exports.verdict, Verdict::Success);
    let root = raw::opaque(b"/");
    assert_eq!(exports.results.first(), Some(&1), "one export: {:x?}", exports.results);
    assert_eq!(exports.results[1..3], root, "it is the root: {:x?}", exports.results);

    for program in [raw::NFS, raw::MOUNT] {
        let version = 3;
        let get_port = raw::call(2, raw::PORTMAP, 2, 3, &[program, version, 6, 0]);
        let answer = wire.ask(&get_port).expect("GETPORT");
        assert_eq!(answer.results, [u32::from(address.nfs.port())], "program {program}");
    }
    let unknown = raw::call(3, raw::PORTMAP, 2, 3, &[raw::NFSACL, 3, 6, 0]);
    assert_eq!(wire.ask(&unknown).expect("GETPORT").results, [0], "not registered");
    for (program, version) in [(raw::NFS, 3), (raw::MOUNT, 3), (raw::PORTMAP, 2)] {
        let null = wire.ask(&raw::call(4, program, version, 0, &[])).expect("NULL");
        assert_eq!((null.verdict, null.results), (Verdict::Success, vec![]));
    }
}
