//! Results as we encode them must come out of an independent implementation's decoders unchanged.

use cairn_base::{Arena, DmaSlice};
use cairn_net::xdr::Encoder;
use cairn_nfs::mount_wire::{
    DirPath, ExportLine, MntRes, MountError, Mounted, MountedBy, encode_dump, encode_exports,
};
use cairn_nfs::portmap_wire::{Mapping, encode_mappings, encode_port};
use cairn_nfs::wire::{
    AccessOk, AccessRes, Attributes, Before, Change, CommitOk, CommitRes, CreateOk, CreateRes,
    Device, DirLimits, DirList, Encode, Entry, EntryPlus, Failure, FileType, Fit, FsinfoOk,
    FsinfoRes, FsstatOk, FsstatRes, GetattrRes, Handle, LinkChanges, LinkRes, LookupOk, LookupRes,
    NfsStat, NfsTime, PathconfOk, PathconfRes, ReadOk, ReadRes, ReadlinkOk, ReadlinkRes, RemoveRes,
    RenameChanges, RenameRes, SetattrRes, Stable, WriteOk, WriteRes, property,
};
use nfs3_types::nfs3::{self, Nfs3Option, nfsstat3};
use nfs3_types::xdr_codec::{Pack, Unpack};
use nfs3_types::{mount, portmap};

const HANDLE: Handle<'static> = Handle(b"handle");

const ATTRIBUTES: Attributes = Attributes {
    file_type: FileType::Regular,
    mode: 0o644,
    nlink: 2,
    uid: 3,
    gid: 4,
    size: 5 << 32,
    used: 6 << 32,
    device: Device { major: 7, minor: 8 },
    fsid: 9 << 40,
    fileid: 10 << 50,
    atime: NfsTime { seconds: 11, nanos: 12 },
    mtime: NfsTime { seconds: 13, nanos: 14 },
    ctime: NfsTime { seconds: 15, nanos: 16 },
};

const CHANGE: Change = Change {
    before: Some(Before {
        size: 17 << 33,
        mtime: NfsTime { seconds: 18, nanos: 19 },
        ctime: NfsTime { seconds: 20, nanos: 21 },
    }),
    after: Some(ATTRIBUTES),
};

/// The bytes on the wire: payloads put where they belong.
fn wire_bytes(encoder: Encoder) -> Vec<u8> {
    let len = encoder.len();
    let (fields, payloads) = encoder.parts();
    let mut bytes = Vec::new();
    let mut from = 0;
    for payload in payloads {
        bytes.extend_from_slice(&fields[from..payload.at]);
        bytes.extend_from_slice(&payload.slice);
        from = payload.at;
    }
    bytes.extend_from_slice(&fields[from..]);
    assert_eq!(bytes.len(), len);
    bytes
}

fn encoded(result: impl Encode) -> Vec<u8> {
    let mut encoder = Encoder::new();
    result.encode(&mut encoder);
    wire_bytes(encoder)
}

/// Decodes with the other implementation, which must use every byte and encode the same again.
fn theirs<T: Pack + Unpack>(bytes: &[u8]) -> T {
    let (value, used) = T::unpack(&mut &bytes[..]).expect("the other side decodes it");
    assert_eq!(used, bytes.len());
    let mut again = Vec::new();
    value.pack(&mut again).expect("a vector takes everything");
    assert_eq!(again, bytes);
    value
}

fn text(value: impl std::fmt::Debug) -> String {
    format!("{value:?}")
}

fn their_attributes() -> nfs3::fattr3 {
    nfs3::fattr3 {
        type_: nfs3::ftype3::NF3REG,
        mode: 0o644,
        nlink: 2,
        uid: 3,
        gid: 4,
        size: 5 << 32,
        used: 6 << 32,
        rdev: nfs3::specdata3 { specdata1: 7, specdata2: 8 },
        fsid: 9 << 40,
        fileid: 10 << 50,
        atime: nfs3::nfstime3 { seconds: 11, nseconds: 12 },
        mtime: nfs3::nfstime3 { seconds: 13, nseconds: 14 },
        ctime: nfs3::nfstime3 { seconds: 15, nseconds: 16 },
    }
}

fn their_post_op() -> nfs3::post_op_attr {
    Nfs3Option::Some(their_attributes())
}

fn their_change() -> nfs3::wcc_data {
    nfs3::wcc_data {
        before: Nfs3Option::Some(nfs3::wcc_attr {
            size: 17 << 33,
            mtime: nfs3::nfstime3 { seconds: 18, nseconds: 19 },
            ctime: nfs3::nfstime3 { seconds: 20, nseconds: 21 },
        }),
        after: their_post_op(),
    }
}

fn failed<F>(stat: NfsStat, body: F) -> Failure<F> {
    Failure { stat, body }
}

#[test]
fn every_status_has_its_number() {
    use NfsStat as S;
    let all = [
        S::Perm,
        S::NoEnt,
        S::Io,
        S::NxIo,
        S::Acces,
        S::Exist,
        S::XDev,
        S::NoDev,
        S::NotDir,
        S::IsDir,
        S::Inval,
        S::FBig,
        S::NoSpc,
        S::RoFs,
        S::MLink,
        S::NameTooLong,
        S::NotEmpty,
        S::DQuot,
        S::Stale,
        S::Remote,
        S::BadHandle,
        S::NotSync,
        S::BadCookie,
        S::NotSupp,
        S::TooSmall,
        S::ServerFault,
        S::BadType,
        S::Jukebox,
    ];
    for stat in all {
        let bytes = encoded(GetattrRes::Err(failed(stat, ())));
        let nfs3::GETATTR3res::Err((code, _)) = theirs::<nfs3::GETATTR3res>(&bytes) else {
            panic!("{stat:?} is a failure")
        };
        assert_eq!(
            text(code),
            format!("NFS3ERR_{stat:?}")
                .to_uppercase()
                .replace("BADCOOKIE", "BAD_COOKIE")
                .replace("NOTSYNC", "NOT_SYNC")
        );
    }
}

#[test]
fn every_file_type_has_its_number() {
    for (file_type, want) in [
        (FileType::Regular, nfs3::ftype3::NF3REG),
        (FileType::Directory, nfs3::ftype3::NF3DIR),
        (FileType::Block, nfs3::ftype3::NF3BLK),
        (FileType::Character, nfs3::ftype3::NF3CHR),
        (FileType::Symlink, nfs3::ftype3::NF3LNK),
        (FileType::Socket, nfs3::ftype3::NF3SOCK),
        (FileType::Fifo, nfs3::ftype3::NF3FIFO),
    ] {
        let bytes = encoded(GetattrRes::Ok(Attributes { file_type, ..ATTRIBUTES }));
        assert_eq!(theirs::<nfs3::GETATTR3res>(&bytes).unwrap().obj_attributes.type_, want);
    }
}

#[test]
fn getattr_and_setattr() {
    let got = theirs::<nfs3::GETATTR3res>(&encoded(GetattrRes::Ok(ATTRIBUTES))).unwrap();
    assert_eq!(text(got.obj_attributes), text(their_attributes()));
    let got = theirs::<nfs3::SETATTR3res>(&encoded(SetattrRes::Ok(CHANGE))).unwrap();
    assert_eq!(text(got.obj_wcc), text(their_change()));
    let failure = failed(NfsStat::NotSync, Change { before: None, after: Some(ATTRIBUTES) });
    let got = theirs::<nfs3::SETATTR3res>(&encoded(SetattrRes::Err(failure)));
    let nfs3::SETATTR3res::Err((nfsstat3::NFS3ERR_NOT_SYNC, body)) = got else {
        panic!("a failure")
    };
    assert!(body.obj_wcc.before.is_none());
    assert_eq!(text(body.obj_wcc.after), text(their_post_op()));
}

#[test]
fn lookup_and_access() {
    let ok = LookupOk { object: HANDLE, attributes: None, dir_attributes: Some(ATTRIBUTES) };
    let got = theirs::<nfs3::LOOKUP3res>(&encoded(LookupRes::Ok(ok))).unwrap();
    assert_eq!(&got.object.data[..], HANDLE.0);
    assert!(got.obj_attributes.is_none());
    assert_eq!(text(got.dir_attributes), text(their_post_op()));
    let failure = failed(NfsStat::NoEnt, Some(ATTRIBUTES));
    let got = theirs::<nfs3::LOOKUP3res>(&encoded(LookupRes::Err(failure)));
    let nfs3::LOOKUP3res::Err((nfsstat3::NFS3ERR_NOENT, body)) = got else { panic!("a failure") };
    assert_eq!(text(body.dir_attributes), text(their_post_op()));

    let ok = AccessOk { attributes: Some(ATTRIBUTES), access: 0x1f };
    let got = theirs::<nfs3::ACCESS3res>(&encoded(AccessRes::Ok(ok))).unwrap();
    assert_eq!((text(got.obj_attributes), got.access), (text(their_post_op()), 0x1f));
}

#[test]
fn readlink_and_read() {
    let ok = ReadlinkOk { attributes: Some(ATTRIBUTES), target: b"../there" };
    let bytes = encoded(ReadlinkRes::Ok(ok));
    let got = theirs::<nfs3::READLINK3res<'_>>(&bytes).unwrap();
    assert_eq!(got.data.as_ref(), b"../there");

    let mut buf = Arena::heap().alloc(4096);
    buf[..10].copy_from_slice(b"0123456789");
    let whole = DmaSlice::whole(buf);
    for (slices, want) in [
        (vec![], &b""[..]),
        (vec![whole.slice(0..3)], b"012"),
        (vec![whole.slice(4..8), whole.slice(0..0), whole.slice(0..3)], b"4567012"),
    ] {
        let ok = ReadOk { attributes: Some(ATTRIBUTES), eof: true, data: slices };
        let bytes = encoded(ReadRes::Ok(ok));
        let got = theirs::<nfs3::READ3res<'_>>(&bytes).unwrap();
        assert_eq!((&got.data[..], got.count as usize, got.eof), (want, want.len(), true));
    }
    let bytes = encoded(ReadRes::Err(failed(NfsStat::Jukebox, None)));
    assert_eq!(bytes, [0, 0, 0x27, 0x18, 0, 0, 0, 0]);
}

#[test]
fn write_and_commit() {
    for (committed, want) in [
        (Stable::Unstable, nfs3::stable_how::UNSTABLE),
        (Stable::DataSync, nfs3::stable_how::DATA_SYNC),
        (Stable::FileSync, nfs3::stable_how::FILE_SYNC),
    ] {
        let ok =
            WriteOk { change: CHANGE, count: 99, committed, verifier: [1, 2, 3, 4, 5, 6, 7, 8] };
        let got = theirs::<nfs3::WRITE3res>(&encoded(WriteRes::Ok(ok))).unwrap();
        assert_eq!(text(got.file_wcc), text(their_change()));
        assert_eq!((got.count, got.committed, got.verf.0), (99, want, [1, 2, 3, 4, 5, 6, 7, 8]));
    }
    let ok = CommitOk { change: CHANGE, verifier: [8; 8] };
    let got = theirs::<nfs3::COMMIT3res>(&encoded(CommitRes::Ok(ok))).unwrap();
    assert_eq!((text(got.file_wcc), got.verf.0), (text(their_change()), [8; 8]));
    let failure = failed(NfsStat::Io, CHANGE);
    assert_eq!(encoded(CommitRes::Err(failure)), encoded(WriteRes::Err(failure)));
    let got = theirs::<nfs3::WRITE3res>(&encoded(WriteRes::Err(failure)));
    assert!(matches!(got, nfs3::WRITE3res::Err((nfsstat3::NFS3ERR_IO, _))));
}

#[test]
fn create_mkdir_symlink_and_mknod() {
    let ok = CreateOk { object: Some(HANDLE), attributes: Some(ATTRIBUTES), dir_change: CHANGE };
    let bytes = encoded(CreateRes::Ok(ok));
    let got = theirs::<nfs3::CREATE3res>(&bytes).unwrap();
    assert_eq!(&got.obj.unwrap().data[..], HANDLE.0);
    assert_eq!(text(got.obj_attributes), text(their_post_op()));
    assert_eq!(text(got.dir_wcc), text(their_change()));
    theirs::<nfs3::MKDIR3res>(&bytes).unwrap();
    theirs::<nfs3::SYMLINK3res>(&bytes).unwrap();
    theirs::<nfs3::MKNOD3res>(&bytes).unwrap();
    let bytes = encoded(CreateRes::Err(failed(NfsStat::Exist, CHANGE)));
    for name in ["CREATE", "MKDIR"] {
        let got = match name {
            "CREATE" => text(theirs::<nfs3::CREATE3res>(&bytes)),
            _ => text(theirs::<nfs3::MKDIR3res>(&bytes)),
        };
        assert!(got.starts_with("Err((NFS3ERR_EXIST"), "{name}: {got}");
    }
}

#[test]
fn remove_rmdir_rename_and_link() {
    let bytes = encoded(RemoveRes::Ok(CHANGE));
    assert_eq!(text(theirs::<nfs3::REMOVE3res>(&bytes).unwrap().dir_wcc), text(their_change()));
    assert_eq!(text(theirs::<nfs3::RMDIR3res>(&bytes).unwrap().dir_wcc), text(their_change()));

    let changes = RenameChanges { from_dir: CHANGE, to_dir: Change::default() };
    let got = theirs::<nfs3::RENAME3res>(&encoded(RenameRes::Ok(changes))).unwrap();
    assert_eq!(text(got.fromdir_wcc), text(their_change()));
    assert_eq!(text(got.todir_wcc), text(nfs3::wcc_data::default()));
    let got = theirs::<nfs3::RENAME3res>(&encoded(RenameRes::Err(failed(NfsStat::XDev, changes))));
    let nfs3::RENAME3res::Err((nfsstat3::NFS3ERR_XDEV, body)) = got else { panic!("a failure") };
    assert_eq!(text(body.fromdir_wcc), text(their_change()));

    let changes = LinkChanges { attributes: None, dir_change: CHANGE };
    let got = theirs::<nfs3::LINK3res>(&encoded(LinkRes::Ok(changes))).unwrap();
    assert!(got.file_attributes.is_none());
    assert_eq!(text(got.linkdir_wcc), text(their_change()));
    let got = theirs::<nfs3::LINK3res>(&encoded(LinkRes::Err(failed(NfsStat::MLink, changes))));
    assert!(matches!(got, nfs3::LINK3res::Err((nfsstat3::NFS3ERR_MLINK, _))));
}

#[test]
fn fsstat_fsinfo_and_pathconf() {
    let ok = FsstatOk {
        attributes: Some(ATTRIBUTES),
        total_bytes: 1,
        free_bytes: 2,
        available_bytes: 3,
        total_files: 4,
        free_files: 5,
        available_files: 6,
        invariant_secs: 7,
    };
    let got = theirs::<nfs3::FSSTAT3res>(&encoded(FsstatRes::Ok(ok))).unwrap();
    assert_eq!([got.tbytes, got.fbytes, got.abytes], [1, 2, 3]);
    assert_eq!([got.tfiles, got.ffiles, got.afiles, u64::from(got.invarsec)], [4, 5, 6, 7]);

    let ok = FsinfoOk {
        attributes: None,
        read_max: 1,
        read_preferred: 2,
        read_multiple: 3,
        write_max: 4,
        write_preferred: 5,
        write_multiple: 6,
        readdir_preferred: 7,
        file_size_max: 8,
        time_delta: NfsTime { seconds: 9, nanos: 10 },
        properties: property::LINK
            | property::SYMLINK
            | property::HOMOGENEOUS
            | property::CAN_SET_TIME,
    };
    let got = theirs::<nfs3::FSINFO3res>(&encoded(FsinfoRes::Ok(ok))).unwrap();
    assert_eq!([got.rtmax, got.rtpref, got.rtmult, got.wtmax, got.wtpref], [1, 2, 3, 4, 5]);
    assert_eq!((got.wtmult, got.dtpref, got.maxfilesize), (6, 7, 8));
    assert_eq!(got.time_delta, nfs3::nfstime3 { seconds: 9, nseconds: 10 });
    assert_eq!(
        got.properties,
        nfs3::FSF3_LINK | nfs3::FSF3_SYMLINK | nfs3::FSF3_HOMOGENEOUS | nfs3::FSF3_CANSETTIME
    );

    let ok = PathconfOk {
        attributes: Some(ATTRIBUTES),
        link_max: 1,
        name_max: 255,
        no_trunc: true,
        chown_restricted: true,
        case_insensitive: false,
        case_preserving: true,
    };
    let got = theirs::<nfs3::PATHCONF3res>(&encoded(PathconfRes::Ok(ok))).unwrap();
    assert_eq!((got.linkmax, got.name_max), (1, 255));
    assert_eq!(
        [got.no_trunc, got.chown_restricted, got.case_insensitive, got.case_preserving],
        [true, true, false, true]
    );
}

#[test]
fn times_outside_the_protocol_become_the_nearest_it_has() {
    assert_eq!(NfsTime::nearest(-1, 5), NfsTime { seconds: 0, nanos: 0 });
    assert_eq!(NfsTime::nearest(12, 5), NfsTime { seconds: 12, nanos: 5 });
    let latest = NfsTime { seconds: u32::MAX, nanos: 999_999_999 };
    assert_eq!(NfsTime::nearest(1 << 40, 5), latest);
}

fn names(count: usize) -> Vec<Vec<u8>> {
    (0..count).map(|i| vec![b'a' + (i % 26) as u8; 1 + i % 9]).collect()
}

/// Lists `names` under `limits`, and how many entries went in.
fn listing(
    names: &[Vec<u8>],
    limits: DirLimits,
    plus: Option<EntryPlus<'_>>,
) -> (usize, Result<Vec<u8>, NfsStat>) {
    let mut encoder = Encoder::new();
    encoder.u32(0xaaaa_aaaa);
    let mut list = DirList::begin(&mut encoder, Some(ATTRIBUTES), [5; 8], limits);
    let mut added = 0;
    for (cookie, name) in (1..).zip(names) {
        let entry = Entry { fileid: cookie + 100, name, cookie };
        let fit = match plus {
            Some(plus) => list.add_plus(&entry, plus),
            None => list.add(&entry),
        };
        if fit == Fit::Full {
            break;
        }
        added += 1;
    }
    let outcome = list.finish(added == names.len());
    let bytes = wire_bytes(encoder);
    assert_eq!(bytes[..4], [0xaa; 4]);
    match outcome {
        Ok(()) => (added, Ok(bytes[4..].to_vec())),
        Err(failure) => {
            assert_eq!(bytes.len(), 4, "nothing of a failed list remains");
            (added, Err(failure.stat))
        }
    }
}

#[test]
fn a_listing_fills_its_limit_to_the_last_byte_and_no_further() {
    let names = names(40);
    let unlimited = DirLimits { whole_bytes: usize::MAX, names_bytes: usize::MAX };
    let (added, Ok(all)) = listing(&names, unlimited, None) else { panic!("it fits") };
    assert_eq!(added, 40);
    let whole = all.len() - 4; // READDIR3resok begins behind the status
    for whole_bytes in 100..=whole {
        let limits = DirLimits { whole_bytes, ..unlimited };
        let (added, outcome) = listing(&names, limits, None);
        if added == 0 {
            assert_eq!(outcome, Err(NfsStat::TooSmall));
            continue;
        }
        let bytes = outcome.unwrap();
        assert!(bytes.len() - 4 <= whole_bytes);
        let got = theirs::<nfs3::READDIR3res<'_>>(&bytes).unwrap();
        assert_eq!(got.reply.eof, whole_bytes == whole);
        assert_eq!(got.reply.entries.0.len(), added);
        assert_eq!(got.cookieverf.0, [5; 8]);
        assert_eq!(text(got.dir_attributes), text(their_post_op()));
        for ((cookie, name), entry) in (1..).zip(&names).zip(&got.reply.entries.0) {
            assert_eq!((entry.fileid, entry.cookie), (cookie + 100, cookie));
            assert_eq!(entry.name.as_ref(), &name[..]);
        }
        // One more would not have fitted.
        if let Some(next) = names.get(added) {
            let next = Entry { fileid: 0, name: next, cookie: 0 }.bytes();
            assert!(bytes.len() - 4 + next > whole_bytes);
        }
    }
}

#[test]
fn attributes_and_handles_count_against_maxcount_but_not_against_dircount() {
    let names = names(40);
    let plus = Some(EntryPlus { attributes: Some(ATTRIBUTES), handle: Some(HANDLE) });
    let entry = |index: usize| Entry { fileid: 0, name: &names[index], cookie: 0 }.bytes();
    let ten: usize = (0..10).map(entry).sum();
    let limits = DirLimits { whole_bytes: usize::MAX, names_bytes: ten };
    let (added, bytes) = listing(&names, limits, plus);
    assert_eq!(added, 10);
    let bytes = bytes.unwrap();
    let got = theirs::<nfs3::READDIRPLUS3res<'_>>(&bytes).unwrap();
    assert!(!got.reply.eof);
    for entry in &got.reply.entries.0 {
        assert_eq!(text(&entry.name_attributes), text(their_post_op()));
        assert!(matches!(&entry.name_handle, Nfs3Option::Some(fh) if &fh.data[..] == HANDLE.0));
    }
    let limits = DirLimits { whole_bytes: bytes.len() - 4 - 1, names_bytes: ten };
    assert_eq!(listing(&names, limits, plus).0, 9);
    let limits = DirLimits { names_bytes: ten - 1, ..limits };
    assert_eq!(listing(&names, limits, Some(EntryPlus::default())).0, 9);
}

#[test]
fn the_first_entry_goes_out_whatever_dircount_wishes() {
    let limits = DirLimits { whole_bytes: 4096, names_bytes: 0 };
    let (added, outcome) = listing(&names(3), limits, Some(EntryPlus::default()));
    assert_eq!(added, 1);
    let got = outcome.unwrap();
    assert_eq!(theirs::<nfs3::READDIRPLUS3res<'_>>(&got).unwrap().reply.entries.0.len(), 1);
}

#[test]
fn an_empty_directory_ends_at_once_if_even_that_fits() {
    let exact = 4 + Attributes::BYTES + 8 + 8;
    let limits = DirLimits { whole_bytes: exact, names_bytes: 0 };
    let got = listing(&[], limits, None).1.unwrap();
    assert!(theirs::<nfs3::READDIR3res<'_>>(&got).unwrap().reply.eof);
    let limits = DirLimits { whole_bytes: exact - 1, names_bytes: 0 };
    assert_eq!(listing(&[], limits, None).1, Err(NfsStat::TooSmall));
}

#[test]
fn mount_results() {
    let ok = Mounted { handle: HANDLE, flavors: &[1, 0] };
    let bytes = encoded(MntRes::Ok(ok));
    let mount::mountres3::Ok(got) = theirs::<mount::mountres3<'_>>(&bytes) else {
        panic!("mounted")
    };
    assert_eq!((&got.fhandle.0[..], got.auth_flavors), (HANDLE.0, vec![1, 0]));
    for error in [
        MountError::Perm,
        MountError::NoEnt,
        MountError::Io,
        MountError::Acces,
        MountError::NotDir,
        MountError::Inval,
        MountError::NameTooLong,
        MountError::NotSupp,
        MountError::ServerFault,
    ] {
        let bytes = encoded(MntRes::Err(error));
        let mount::mountres3::Err(got) = theirs::<mount::mountres3<'_>>(&bytes) else {
            panic!("an error")
        };
        assert_eq!(got.to_string(), format!("MNT3ERR_{error:?}").to_uppercase());
    }
}

#[test]
fn mount_lists() {
    let mut encoder = Encoder::new();
    let mounts = [(&b"host"[..], &b"/a"[..]), (b"other", b"/")];
    encode_dump(&mut encoder, mounts.map(|(host, dir)| MountedBy { host, dir: DirPath(dir) }));
    let got = theirs::<mount::mountlist<'_, '_>>(&wire_bytes(encoder)).0;
    let got: Vec<_> = got.iter().map(|m| (&m.ml_hostname.0[..], &m.ml_directory.0[..])).collect();
    assert_eq!(got, mounts);

    let mut encoder = Encoder::new();
    let exports = [
        ExportLine { dir: DirPath(b"/"), groups: &[] },
        ExportLine { dir: DirPath(b"/data"), groups: &[b"10.0.0.0/8", b"::1/128"] },
    ];
    encode_exports(&mut encoder, exports);
    let got = theirs::<mount::exports<'_, '_>>(&wire_bytes(encoder)).0;
    assert_eq!(got.len(), 2);
    for (want, got) in exports.iter().zip(&got) {
        assert_eq!(&got.ex_dir.0[..], want.dir.0);
        let groups: Vec<_> = got.ex_groups.0.iter().map(|group| &group.0[..]).collect();
        assert_eq!(groups, want.groups);
    }
}

#[test]
fn portmap_results() {
    let port = |port| {
        let mut encoder = Encoder::new();
        encode_port(&mut encoder, port);
        wire_bytes(encoder)
    };
    assert_eq!(theirs::<u32>(&port(Some(2049))), 2049);
    assert_eq!(theirs::<u32>(&port(None)), 0);
    let mut encoder = Encoder::new();
    let mappings =
        [100_003, 100_005].map(|program| Mapping { program, version: 3, protocol: 6, port: 2049 });
    encode_mappings(&mut encoder, mappings);
    let got = theirs::<portmap::pmaplist>(&wire_bytes(encoder)).0;
    for (want, got) in mappings.iter().zip(&got) {
        assert_eq!(
            (want.program, want.version, want.protocol, want.port),
            (got.prog, got.vers, got.prot, got.port)
        );
    }
    assert_eq!(got.len(), 2);
}
