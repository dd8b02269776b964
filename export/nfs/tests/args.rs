//! Arguments as an independent implementation encodes them must come out of our decoders unchanged.

use cairn_base::prng::Prng;
use cairn_net::xdr::{Decoder, XdrError};
use cairn_nfs::mount_wire::{DirPath, MountProcedure};
use cairn_nfs::portmap_wire::{self, Mapping, PortmapProcedure};
use cairn_nfs::wire::{
    AccessArgs, Args, CommitArgs, CreateArgs, CreateHow, Device, DirOp, Handle, LinkArgs,
    MkdirArgs, MknodArgs, MknodData, NfsTime, Procedure, ReadArgs, ReaddirArgs, ReaddirplusArgs,
    RenameArgs, SetAttributes, SetTime, SetattrArgs, Stable, SymlinkArgs, WriteArgs,
};
use nfs3_types::nfs3::{self, Nfs3Option};
use nfs3_types::xdr_codec::{Opaque, Pack};
use nfs3_types::{mount, portmap};
use std::fmt::Debug;

const HANDLE: &[u8] = b"a handle of 31 bytes, so padded";
const OTHER: &[u8] = &[0xee; 64];

fn packed(value: &impl Pack) -> Vec<u8> {
    let mut bytes = Vec::new();
    value.pack(&mut bytes).expect("a vector takes everything");
    bytes
}

/// Decodes all of `bytes`; every cut of it must be refused, and more behind it must not matter.
fn decoded<'a, T: Args<'a> + Debug>(bytes: &'a [u8]) -> T {
    for cut in 0..bytes.len() {
        let refused = T::decode(&mut Decoder::new(&bytes[..cut]));
        assert_eq!(refused.err(), Some(XdrError::Short), "cut at {cut}");
    }
    let mut decoder = Decoder::new(bytes);
    let args = T::decode(&mut decoder).expect("what the other side encodes");
    assert_eq!(decoder.finish(), Ok(()));
    args
}

fn fh(bytes: &[u8]) -> nfs3::nfs_fh3 {
    nfs3::nfs_fh3 { data: Opaque::owned(bytes.to_vec()) }
}

fn place<'a>(handle: &[u8], name: &'a [u8]) -> nfs3::diropargs3<'a> {
    nfs3::diropargs3 { dir: fh(handle), name: name.into() }
}

fn time(seconds: u32, nseconds: u32) -> nfs3::nfstime3 {
    nfs3::nfstime3 { seconds, nseconds }
}

fn some_attributes() -> (nfs3::sattr3, SetAttributes) {
    let theirs = nfs3::sattr3 {
        mode: Nfs3Option::Some(0o4755),
        uid: Nfs3Option::Some(1),
        gid: Nfs3Option::Some(u32::MAX),
        size: Nfs3Option::Some(1 << 40),
        atime: nfs3::set_atime::SET_TO_SERVER_TIME,
        mtime: nfs3::set_mtime::SET_TO_CLIENT_TIME(time(7, 8)),
    };
    let ours = SetAttributes {
        mode: Some(0o4755),
        uid: Some(1),
        gid: Some(u32::MAX),
        size: Some(1 << 40),
        atime: SetTime::ServerTime,
        mtime: SetTime::To(NfsTime { seconds: 7, nanos: 8 }),
    };
    (theirs, ours)
}

fn here<'a>() -> DirOp<'a> {
    DirOp { dir: Handle(HANDLE), name: b"name" }
}

#[test]
fn procedure_numbers_are_those_of_the_rfc() {
    for (number, ours) in (0..).zip(Procedure::ALL) {
        let theirs = nfs3::NFS_PROGRAM::try_from(number).unwrap();
        let name = format!("NFSPROC3_{ours:?}").to_uppercase();
        assert_eq!(theirs.to_string(), name);
        assert_eq!(Procedure::parse(number), Some(ours));
    }
    assert_eq!(Procedure::parse(22), None);
    for (number, ours) in (0..).zip(MountProcedure::ALL) {
        let theirs = mount::MOUNT_PROGRAM::try_from(number).unwrap();
        assert_eq!(theirs.to_string(), format!("MOUNTPROC3_{ours:?}").to_uppercase());
        assert_eq!(MountProcedure::parse(number), Some(ours));
    }
    assert_eq!(MountProcedure::parse(6), None);
    let known: Vec<_> = (0..8).map(PortmapProcedure::parse).collect();
    use PortmapProcedure::{Dump, Getport, Null};
    assert_eq!(known, [Some(Null), None, None, Some(Getport), Some(Dump), None, None, None]);
    assert_eq!(cairn_nfs::wire::PROGRAM, nfs3::PROGRAM);
    assert_eq!(cairn_nfs::mount_wire::PROGRAM, mount::PROGRAM);
    assert_eq!(portmap_wire::PROGRAM, portmap::PROGRAM);
    assert_eq!(portmap_wire::TCP, portmap::IPPROTO_TCP);
}

#[test]
fn a_lone_handle() {
    for handle in [&b""[..], HANDLE, OTHER] {
        let bytes = packed(&nfs3::GETATTR3args { object: fh(handle) });
        assert_eq!(decoded::<Handle<'_>>(&bytes), Handle(handle));
        assert_eq!(bytes, packed(&nfs3::READLINK3args { symlink: fh(handle) }));
        assert_eq!(bytes, packed(&nfs3::FSSTAT3args { fsroot: fh(handle) }));
        assert_eq!(bytes, packed(&nfs3::FSINFO3args { fsroot: fh(handle) }));
        assert_eq!(bytes, packed(&nfs3::PATHCONF3args { object: fh(handle) }));
    }
}

#[test]
fn setattr() {
    let (theirs, attributes) = some_attributes();
    for guard in [None, Some(NfsTime { seconds: 3, nanos: 4 })] {
        let bytes = packed(&nfs3::SETATTR3args {
            object: fh(HANDLE),
            new_attributes: theirs.clone(),
            guard: guard.map_or(Nfs3Option::None, |t| Nfs3Option::Some(time(t.seconds, t.nanos))),
        });
        let want = SetattrArgs { object: Handle(HANDLE), attributes, guard };
        assert_eq!(decoded::<SetattrArgs<'_>>(&bytes), want);
    }
    let bytes = packed(&nfs3::SETATTR3args {
        object: fh(HANDLE),
        new_attributes: nfs3::sattr3 {
            atime: nfs3::set_atime::SET_TO_CLIENT_TIME(time(1, 2)),
            ..Default::default()
        },
        guard: Nfs3Option::None,
    });
    let atime = SetTime::To(NfsTime { seconds: 1, nanos: 2 });
    assert_eq!(
        decoded::<SetattrArgs<'_>>(&bytes).attributes,
        SetAttributes { atime, ..Default::default() }
    );
}

#[test]
fn lookup_remove_and_rmdir() {
    let bytes = packed(&nfs3::LOOKUP3args { what: place(HANDLE, b"name") });
    assert_eq!(decoded::<DirOp<'_>>(&bytes), here());
    assert_eq!(bytes, packed(&nfs3::REMOVE3args { object: place(HANDLE, b"name") }));
    assert_eq!(bytes, packed(&nfs3::RMDIR3args { object: place(HANDLE, b"name") }));
}

#[test]
fn access() {
    let bytes = packed(&nfs3::ACCESS3args { object: fh(HANDLE), access: 0x2d });
    let want = AccessArgs { object: Handle(HANDLE), access: 0x2d };
    assert_eq!(decoded::<AccessArgs<'_>>(&bytes), want);
    use cairn_nfs::wire::access;
    assert_eq!(
        [access::READ, access::LOOKUP, access::MODIFY, access::EXTEND, access::DELETE],
        [
            nfs3::ACCESS3_READ,
            nfs3::ACCESS3_LOOKUP,
            nfs3::ACCESS3_MODIFY,
            nfs3::ACCESS3_EXTEND,
            nfs3::ACCESS3_DELETE
        ]
    );
    assert_eq!(access::EXECUTE, nfs3::ACCESS3_EXECUTE);
}

#[test]
fn read_and_commit() {
    let bytes = packed(&nfs3::READ3args { file: fh(HANDLE), offset: 1 << 50, count: 1 << 20 });
    let want = ReadArgs { file: Handle(HANDLE), offset: 1 << 50, count: 1 << 20 };
    assert_eq!(decoded::<ReadArgs<'_>>(&bytes), want);
    let bytes = packed(&nfs3::COMMIT3args { file: fh(HANDLE), offset: 9, count: 0 });
    let want = CommitArgs { file: Handle(HANDLE), offset: 9, count: 0 };
    assert_eq!(decoded::<CommitArgs<'_>>(&bytes), want);
}

fn write_bytes(count: u32, stable: nfs3::stable_how, data: &[u8]) -> Vec<u8> {
    packed(&nfs3::WRITE3args {
        file: fh(HANDLE),
        offset: 77,
        count,
        stable,
        data: Opaque::borrowed(data),
    })
}

#[test]
fn write() {
    for (theirs, stable) in [
        (nfs3::stable_how::UNSTABLE, Stable::Unstable),
        (nfs3::stable_how::DATA_SYNC, Stable::DataSync),
        (nfs3::stable_how::FILE_SYNC, Stable::FileSync),
    ] {
        let bytes = write_bytes(5, theirs, b"hello");
        let want = WriteArgs { file: Handle(HANDLE), offset: 77, stable, data: b"hello" };
        assert_eq!(decoded::<WriteArgs<'_>>(&bytes), want);
    }
}

#[test]
fn a_write_takes_as_many_bytes_as_its_count_says_and_none_that_are_not_there() {
    let bytes = write_bytes(2, nfs3::stable_how::UNSTABLE, b"hello");
    assert_eq!(WriteArgs::decode(&mut Decoder::new(&bytes)).unwrap().data, b"he");
    let bytes = write_bytes(6, nfs3::stable_how::UNSTABLE, b"hello");
    assert_eq!(WriteArgs::decode(&mut Decoder::new(&bytes)), Err(XdrError::Short));
}

#[test]
fn create() {
    let (theirs, ours) = some_attributes();
    for (theirs, how) in [
        (nfs3::createhow3::UNCHECKED(theirs.clone()), CreateHow::Unchecked(ours)),
        (nfs3::createhow3::GUARDED(theirs), CreateHow::Guarded(ours)),
        (nfs3::createhow3::EXCLUSIVE(nfs3::createverf3([9; 8])), CreateHow::Exclusive([9; 8])),
    ] {
        let bytes = packed(&nfs3::CREATE3args { where_: place(HANDLE, b"name"), how: theirs });
        assert_eq!(decoded::<CreateArgs<'_>>(&bytes), CreateArgs { place: here(), how });
    }
}

#[test]
fn mkdir_and_symlink() {
    let (theirs, attributes) = some_attributes();
    let bytes =
        packed(&nfs3::MKDIR3args { where_: place(HANDLE, b"name"), attributes: theirs.clone() });
    assert_eq!(decoded::<MkdirArgs<'_>>(&bytes), MkdirArgs { place: here(), attributes });
    let bytes = packed(&nfs3::SYMLINK3args {
        where_: place(HANDLE, b"name"),
        symlink: nfs3::symlinkdata3 {
            symlink_attributes: theirs,
            symlink_data: b"../target"[..].into(),
        },
    });
    let want = SymlinkArgs { place: here(), attributes, target: b"../target" };
    assert_eq!(decoded::<SymlinkArgs<'_>>(&bytes), want);
}

#[test]
fn mknod() {
    let (theirs, ours) = some_attributes();
    let node = || nfs3::devicedata3 {
        dev_attributes: theirs.clone(),
        spec: nfs3::specdata3 { specdata1: 8, specdata2: 1 },
    };
    let device = Device { major: 8, minor: 1 };
    for (theirs, what) in [
        (nfs3::mknoddata3::NF3CHR(node()), MknodData::Character(ours, device)),
        (nfs3::mknoddata3::NF3BLK(node()), MknodData::Block(ours, device)),
        (nfs3::mknoddata3::NF3SOCK(theirs.clone()), MknodData::Socket(ours)),
        (nfs3::mknoddata3::NF3FIFO(theirs.clone()), MknodData::Fifo(ours)),
    ] {
        let bytes = packed(&nfs3::MKNOD3args { where_: place(HANDLE, b"name"), what: theirs });
        assert_eq!(decoded::<MknodArgs<'_>>(&bytes), MknodArgs { place: here(), what });
    }
    for other in [0u32, 1, 2, 5, 8, u32::MAX] {
        let bytes = [packed(&place(HANDLE, b"name")), other.to_be_bytes().to_vec()].concat();
        assert_eq!(decoded::<MknodArgs<'_>>(&bytes).what, MknodData::Other(other));
    }
}

#[test]
fn rename_and_link() {
    let to = DirOp { dir: Handle(OTHER), name: b"" };
    let bytes = packed(&nfs3::RENAME3args { from: place(HANDLE, b"name"), to: place(OTHER, b"") });
    assert_eq!(decoded::<RenameArgs<'_>>(&bytes), RenameArgs { from: here(), to });
    let bytes = packed(&nfs3::LINK3args { file: fh(OTHER), link: place(HANDLE, b"name") });
    let want = LinkArgs { file: Handle(OTHER), link: here() };
    assert_eq!(decoded::<LinkArgs<'_>>(&bytes), want);
}

#[test]
fn readdir_and_readdirplus() {
    let bytes = packed(&nfs3::READDIR3args {
        dir: fh(HANDLE),
        cookie: u64::MAX - 1,
        cookieverf: nfs3::cookieverf3([3; 8]),
        count: 4096,
    });
    let (dir, cookie, verifier) = (Handle(HANDLE), u64::MAX - 1, [3; 8]);
    assert_eq!(
        decoded::<ReaddirArgs<'_>>(&bytes),
        ReaddirArgs { dir, cookie, verifier, count: 4096 }
    );
    let bytes = packed(&nfs3::READDIRPLUS3args {
        dir: fh(HANDLE),
        cookie,
        cookieverf: nfs3::cookieverf3([3; 8]),
        dircount: 512,
        maxcount: 32768,
    });
    assert_eq!(
        decoded::<ReaddirplusArgs<'_>>(&bytes),
        ReaddirplusArgs { dir, cookie, verifier, dircount: 512, maxcount: 32768 }
    );
}

#[test]
fn mount_paths_and_portmap_mappings() {
    for path in [&b""[..], b"/", b"//a//b/", &[b'p'; 1024]] {
        let bytes = packed(&mount::dirpath(Opaque::borrowed(path)));
        assert_eq!(decoded::<DirPath<'_>>(&bytes), DirPath(path));
    }
    let long = packed(&mount::dirpath(Opaque::borrowed(&[b'p'; 1025])));
    assert_eq!(DirPath::decode(&mut Decoder::new(&long)), Err(XdrError::TooLong { bytes: 1025 }));
    let bytes = packed(&portmap::mapping { prog: 100_003, vers: 3, prot: 6, port: 0 });
    let want = Mapping { program: 100_003, version: 3, protocol: 6, port: 0 };
    assert_eq!(decoded::<Mapping>(&bytes), want);
}

#[test]
fn lengths_at_their_bounds_are_taken_and_above_them_refused() {
    let name = |len: usize| packed(&place(HANDLE, &vec![b'n'; len]));
    // Too long for any file system, and still decoded, so that the answer can be NAMETOOLONG.
    assert_eq!(DirOp::decode(&mut Decoder::new(&name(1024))).unwrap().name.len(), 1024);
    assert_eq!(
        DirOp::decode(&mut Decoder::new(&name(1025))),
        Err(XdrError::TooLong { bytes: 1025 })
    );
    let long = packed(&fh(&[0; 65]));
    assert_eq!(Handle::decode(&mut Decoder::new(&long)), Err(XdrError::TooLong { bytes: 65 }));
    let symlink = |len: usize| {
        packed(&nfs3::SYMLINK3args {
            where_: place(HANDLE, b"name"),
            symlink: nfs3::symlinkdata3 {
                symlink_attributes: nfs3::sattr3::default(),
                symlink_data: vec![b't'; len].into(),
            },
        })
    };
    let bytes = symlink(4096);
    assert_eq!(SymlinkArgs::decode(&mut Decoder::new(&bytes)).unwrap().target.len(), 4096);
    assert_eq!(
        SymlinkArgs::decode(&mut Decoder::new(&symlink(4097))),
        Err(XdrError::TooLong { bytes: 4097 })
    );
}

#[test]
fn unknown_discriminants_are_refused() {
    let found = 3u32.to_be_bytes();
    let refused = XdrError::NotAnOption { found: 3 };
    let create = [&packed(&place(HANDLE, b"name"))[..], &found].concat();
    assert_eq!(CreateArgs::decode(&mut Decoder::new(&create)), Err(refused));
    let mut write = write_bytes(0, nfs3::stable_how::UNSTABLE, b"");
    let stable_at = write.len() - 8;
    write[stable_at..stable_at + 4].copy_from_slice(&found);
    assert_eq!(WriteArgs::decode(&mut Decoder::new(&write)), Err(refused));
    let mut setattr = packed(&nfs3::SETATTR3args {
        object: fh(HANDLE),
        new_attributes: nfs3::sattr3::default(),
        guard: Nfs3Option::None,
    });
    let mtime_at = setattr.len() - 8;
    setattr[mtime_at..mtime_at + 4].copy_from_slice(&found);
    assert_eq!(SetattrArgs::decode(&mut Decoder::new(&setattr)), Err(refused));
}

/// Every decoder over mutations of every procedure's arguments: it returns, and what it returns lies
/// inside the record.
#[test]
fn mutated_arguments_are_taken_or_refused_and_nothing_else_happens() {
    let (attributes, _) = some_attributes();
    let where_ = || place(HANDLE, b"name");
    let corpus = [
        packed(&nfs3::SETATTR3args {
            object: fh(HANDLE),
            new_attributes: attributes.clone(),
            guard: Nfs3Option::Some(time(1, 2)),
        }),
        packed(&nfs3::RENAME3args { from: where_(), to: place(OTHER, b"x") }),
        packed(&nfs3::MKNOD3args {
            where_: where_(),
            what: nfs3::mknoddata3::NF3FIFO(attributes.clone()),
        }),
        packed(&nfs3::CREATE3args {
            where_: where_(),
            how: nfs3::createhow3::GUARDED(attributes.clone()),
        }),
        packed(&nfs3::SYMLINK3args {
            where_: where_(),
            symlink: nfs3::symlinkdata3 {
                symlink_attributes: attributes,
                symlink_data: b"target"[..].into(),
            },
        }),
        write_bytes(300, nfs3::stable_how::FILE_SYNC, &[5; 300]),
    ];
    let mut prng = Prng::new(1813);
    let mut taken = 0u32;
    for round in 0..100_000 {
        let mut bytes = corpus[round % corpus.len()].clone();
        for _ in 0..1 + prng.below(5) {
            let at = prng.below(bytes.len() as u64) as usize;
            bytes[at] = if prng.percent(50) { prng.below(9) as u8 } else { prng.next_u64() as u8 };
        }
        bytes.truncate(bytes.len() - prng.below(bytes.len() as u64 / 4) as usize);
        let decoder = Decoder::new(&bytes);
        taken += u32::from(Handle::decode(&mut decoder.clone()).is_ok());
        taken += u32::from(DirOp::decode(&mut decoder.clone()).is_ok());
        taken += u32::from(SetattrArgs::decode(&mut decoder.clone()).is_ok());
        taken += u32::from(AccessArgs::decode(&mut decoder.clone()).is_ok());
        taken += u32::from(ReadArgs::decode(&mut decoder.clone()).is_ok());
        taken += u32::from(CreateArgs::decode(&mut decoder.clone()).is_ok());
        taken += u32::from(MkdirArgs::decode(&mut decoder.clone()).is_ok());
        taken += u32::from(SymlinkArgs::decode(&mut decoder.clone()).is_ok());
        taken += u32::from(MknodArgs::decode(&mut decoder.clone()).is_ok());
        taken += u32::from(RenameArgs::decode(&mut decoder.clone()).is_ok());
        taken += u32::from(LinkArgs::decode(&mut decoder.clone()).is_ok());
        taken += u32::from(ReaddirArgs::decode(&mut decoder.clone()).is_ok());
        taken += u32::from(ReaddirplusArgs::decode(&mut decoder.clone()).is_ok());
        taken += u32::from(CommitArgs::decode(&mut decoder.clone()).is_ok());
        taken += u32::from(DirPath::decode(&mut decoder.clone()).is_ok());
        taken += u32::from(Mapping::decode(&mut decoder.clone()).is_ok());
        if let Ok(write) = WriteArgs::decode(&mut decoder.clone()) {
            assert!(write.data.len() <= bytes.len());
            taken += 1;
        }
    }
    assert!((1_000..1_700_000).contains(&taken), "{taken} were taken");
}
