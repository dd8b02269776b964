//! The arguments of every NFS procedure, as the server decodes them before it knows who asks.
//!
//! The first byte of an input is the procedure's number, the rest its arguments. What was decoded is
//! encoded again here, from RFC 1813, and must decode to the same: our own encoder of arguments would
//! otherwise not exist, since the server has no use for one.

use super::{Target, Verdict, is_within, mode_of};
use crate::specimen::{FSID, HANDLE_KEY, Specimen, inode};
use cairn_engine::Name;
use cairn_net::xdr::{Decoder, Encoder, XdrError};
use cairn_nfs::export::ExportId;
use cairn_nfs::handle::{FileHandle, HANDLE_BYTES, HandleSeal};
use cairn_nfs::wire::{
    AccessArgs, Args, CommitArgs, CreateArgs, CreateHow, Device, DirOp, HANDLE_BYTES_MAX, Handle,
    LinkArgs, MkdirArgs, MknodArgs, MknodData, NAME_BYTES_MAX, NfsTime, Procedure, ReadArgs,
    ReaddirArgs, ReaddirplusArgs, RenameArgs, SYMLINK_BYTES_MAX, SetAttributes, SetTime,
    SetattrArgs, Stable, SymlinkArgs, WriteArgs,
};
use std::borrow::Cow;
use std::cell::OnceCell;
use std::fmt::Debug;

pub const TARGET: Target = Target {
    name: "nfs_args",
    run,
    modes: Procedure::ALL.len() as u8 + 1,
    bytes_max: 8 << 10,
    // Decoding borrows; what is held is our own second encoding.
    heap_max: 64 << 10,
    specimens,
};

fn seal() -> HandleSeal {
    HandleSeal::new(HANDLE_KEY, FSID)
}

fn specimens() -> Vec<Specimen> {
    let handle = seal().encode(FileHandle { export: ExportId(1), ino: inode(5) });
    let dir = Handle(&handle);
    let place = DirOp { dir, name: b"name" };
    let (seconds, nanos) = (7, 8);
    let attributes = SetAttributes {
        mode: Some(0o4755),
        uid: Some(1),
        size: Some(1 << 40),
        atime: SetTime::ServerTime,
        mtime: SetTime::To(NfsTime { seconds, nanos }),
        ..SetAttributes::default()
    };
    let guard = Some(NfsTime { seconds, nanos });
    let device = MknodData::Character(attributes, Device { major: 1, minor: 3 });
    let of = |procedure: Procedure, args: &dyn Write| {
        let mut to = Encoder::new();
        args.write(&mut to);
        let name = format!("{procedure:?}").to_lowercase();
        Specimen::new(&name, &[&[procedure as u8], &to.parts().0])
    };
    let mut specimens = vec![
        of(Procedure::Getattr, &dir),
        of(Procedure::Setattr, &SetattrArgs { object: dir, attributes, guard }),
        of(Procedure::Lookup, &place),
        of(Procedure::Access, &AccessArgs { object: dir, access: 0x3f }),
        of(Procedure::Read, &ReadArgs { file: dir, offset: 1 << 40, count: 1 << 20 }),
        of(
            Procedure::Write,
            &WriteArgs { file: dir, offset: 5, stable: Stable::FileSync, data: b"payload" },
        ),
        of(Procedure::Create, &CreateArgs { place, how: CreateHow::Guarded(attributes) }),
        of(Procedure::Mkdir, &MkdirArgs { place, attributes }),
        of(Procedure::Symlink, &SymlinkArgs { place, attributes, target: b"../x" }),
        of(Procedure::Mknod, &MknodArgs { place, what: device }),
        of(Procedure::Remove, &place),
        of(Procedure::Rename, &RenameArgs { from: place, to: place }),
        of(Procedure::Link, &LinkArgs { file: dir, link: place }),
        of(Procedure::Readdir, &ReaddirArgs { dir, cookie: 9, verifier: [1; 8], count: 4096 }),
        of(
            Procedure::Readdirplus,
            &ReaddirplusArgs { dir, cookie: 9, verifier: [1; 8], dircount: 512, maxcount: 32768 },
        ),
        of(Procedure::Commit, &CommitArgs { file: dir, offset: 0, count: 0 }),
    ];
    let mut exclusive =
        of(Procedure::Create, &CreateArgs { place, how: CreateHow::Exclusive([3; 8]) });
    exclusive.name += "-exclusive";
    specimens.push(exclusive);
    specimens.push(Specimen::new("null", &[&[0]]));
    specimens
}

pub fn run(input: &[u8]) -> Verdict {
    let (number, args) = mode_of(input);
    let Some(procedure) = Procedure::parse(number.into()) else {
        return Verdict::Refused("procedure".into());
    };
    let again = OnceCell::new();
    let read = match procedure {
        Procedure::Null => Ok(()),
        Procedure::Getattr
        | Procedure::Readlink
        | Procedure::Fsstat
        | Procedure::Fsinfo
        | Procedure::Pathconf => decoded::<Handle<'_>>(args, &again),
        Procedure::Lookup | Procedure::Remove | Procedure::Rmdir => {
            decoded::<DirOp<'_>>(args, &again)
        }
        Procedure::Setattr => decoded::<SetattrArgs<'_>>(args, &again),
        Procedure::Access => decoded::<AccessArgs<'_>>(args, &again),
        Procedure::Read => decoded::<ReadArgs<'_>>(args, &again),
        Procedure::Write => decoded::<WriteArgs<'_>>(args, &again),
        Procedure::Create => decoded::<CreateArgs<'_>>(args, &again),
        Procedure::Mkdir => decoded::<MkdirArgs<'_>>(args, &again),
        Procedure::Symlink => decoded::<SymlinkArgs<'_>>(args, &again),
        Procedure::Mknod => decoded::<MknodArgs<'_>>(args, &again),
        Procedure::Rename => decoded::<RenameArgs<'_>>(args, &again),
        Procedure::Link => decoded::<LinkArgs<'_>>(args, &again),
        Procedure::Readdir => decoded::<ReaddirArgs<'_>>(args, &again),
        Procedure::Readdirplus => decoded::<ReaddirplusArgs<'_>>(args, &again),
        Procedure::Commit => decoded::<CommitArgs<'_>>(args, &again),
    };
    match read {
        Ok(()) => Verdict::Accepted,
        Err(error) => Verdict::Refused(kind_of(error)),
    }
}

pub(super) fn kind_of(error: XdrError) -> Cow<'static, str> {
    match error {
        XdrError::Short => "short",
        XdrError::TooLong { .. } => "too long",
        XdrError::NotABool { .. } => "no bool",
        XdrError::NotAnOption { .. } => "no option",
        XdrError::Trailing { .. } => "trailing",
    }
    .into()
}

/// `again` is where the second encoding is put, so that it lives as long as what borrows from it.
fn decoded<'a, T: Args<'a> + Write + Debug>(
    bytes: &'a [u8],
    again: &'a OnceCell<Vec<u8>>,
) -> Result<(), XdrError> {
    let mut from = Decoder::new(bytes);
    let args = T::decode(&mut from)?;
    let used = bytes.len() - from.remaining();
    args.look(bytes);
    let mut to = Encoder::new();
    args.write(&mut to);
    let again = again.get_or_init(|| to.parts().0);
    assert!(again.len() <= used, "what is meant needs no more bytes than were used");
    let mut from = Decoder::new(again);
    let twice = T::decode(&mut from).expect("what was written can be read");
    assert_eq!(from.finish(), Ok(()));
    // Their debug forms name every field and its bytes.
    assert_eq!(format!("{twice:?}"), format!("{args:?}"));
    Ok(())
}

/// What the server goes on to do with a handle and a name, and the bytes they were decoded from.
trait Write {
    fn write(&self, to: &mut Encoder);

    fn look(&self, _record: &[u8]) {}
}

impl Write for Handle<'_> {
    fn write(&self, to: &mut Encoder) {
        to.opaque(self.0);
    }

    fn look(&self, record: &[u8]) {
        assert!(self.0.len() <= HANDLE_BYTES_MAX && is_within(self.0, record));
        if let Ok(found) = seal().decode(self.0) {
            assert_eq!(self.0.len(), HANDLE_BYTES);
            assert_eq!(seal().encode(found)[..], *self.0, "only we make handles");
        }
    }
}

impl Write for DirOp<'_> {
    fn write(&self, to: &mut Encoder) {
        self.dir.write(to);
        to.opaque(self.name);
    }

    fn look(&self, record: &[u8]) {
        self.dir.look(record);
        assert!(self.name.len() <= NAME_BYTES_MAX && is_within(self.name, record));
        if let Ok(name) = Name::parse(self.name) {
            assert_eq!(name.as_bytes(), self.name);
            assert!((1..=255).contains(&self.name.len()));
            assert!(!self.name.iter().any(|byte| matches!(byte, 0 | b'/')));
        }
    }
}

impl Write for NfsTime {
    fn write(&self, to: &mut Encoder) {
        to.u32(self.seconds);
        to.u32(self.nanos);
    }
}

impl Write for SetTime {
    fn write(&self, to: &mut Encoder) {
        match self {
            SetTime::Keep => to.u32(0),
            SetTime::ServerTime => to.u32(1),
            SetTime::To(time) => {
                to.u32(2);
                time.write(to);
            }
        }
    }
}

impl Write for SetAttributes {
    fn write(&self, to: &mut Encoder) {
        to.option(self.mode, |to, mode| to.u32(mode));
        to.option(self.uid, |to, uid| to.u32(uid));
        to.option(self.gid, |to, gid| to.u32(gid));
        to.option(self.size, |to, size| to.u64(size));
        self.atime.write(to);
        self.mtime.write(to);
    }
}

impl Write for SetattrArgs<'_> {
    fn write(&self, to: &mut Encoder) {
        self.object.write(to);
        self.attributes.write(to);
        to.option(self.guard, |to, time| time.write(to));
    }

    fn look(&self, record: &[u8]) {
        self.object.look(record);
    }
}

impl Write for AccessArgs<'_> {
    fn write(&self, to: &mut Encoder) {
        self.object.write(to);
        to.u32(self.access);
    }
}

impl Write for ReadArgs<'_> {
    fn write(&self, to: &mut Encoder) {
        self.file.write(to);
        to.u64(self.offset);
        to.u32(self.count);
    }
}

impl Write for WriteArgs<'_> {
    fn write(&self, to: &mut Encoder) {
        self.file.write(to);
        to.u64(self.offset);
        to.u32(self.data.len() as u32);
        to.u32(self.stable.number());
        to.opaque(self.data);
    }

    fn look(&self, record: &[u8]) {
        self.file.look(record);
        assert!(is_within(self.data, record));
    }
}

impl Write for CreateArgs<'_> {
    fn write(&self, to: &mut Encoder) {
        self.place.write(to);
        match &self.how {
            CreateHow::Unchecked(attributes) => {
                to.u32(0);
                attributes.write(to);
            }
            CreateHow::Guarded(attributes) => {
                to.u32(1);
                attributes.write(to);
            }
            CreateHow::Exclusive(verifier) => {
                to.u32(2);
                to.fixed(verifier);
            }
        }
    }

    fn look(&self, record: &[u8]) {
        self.place.look(record);
    }
}

impl Write for MkdirArgs<'_> {
    fn write(&self, to: &mut Encoder) {
        self.place.write(to);
        self.attributes.write(to);
    }

    fn look(&self, record: &[u8]) {
        self.place.look(record);
    }
}

impl Write for SymlinkArgs<'_> {
    fn write(&self, to: &mut Encoder) {
        self.place.write(to);
        self.attributes.write(to);
        to.opaque(self.target);
    }

    fn look(&self, record: &[u8]) {
        self.place.look(record);
        assert!(self.target.len() <= SYMLINK_BYTES_MAX && is_within(self.target, record));
    }
}

impl Write for MknodArgs<'_> {
    fn write(&self, to: &mut Encoder) {
        let device = |to: &mut Encoder, kind, attributes: &SetAttributes, device: &Device| {
            to.u32(kind);
            attributes.write(to);
            to.u32(device.major);
            to.u32(device.minor);
        };
        self.place.write(to);
        match &self.what {
            MknodData::Block(attributes, numbers) => device(to, 3, attributes, numbers),
            MknodData::Character(attributes, numbers) => device(to, 4, attributes, numbers),
            MknodData::Socket(attributes) => {
                to.u32(6);
                attributes.write(to);
            }
            MknodData::Fifo(attributes) => {
                to.u32(7);
                attributes.write(to);
            }
            MknodData::Other(kind) => to.u32(*kind),
        }
    }

    fn look(&self, record: &[u8]) {
        self.place.look(record);
    }
}

impl Write for RenameArgs<'_> {
    fn write(&self, to: &mut Encoder) {
        self.from.write(to);
        self.to.write(to);
    }

    fn look(&self, record: &[u8]) {
        self.from.look(record);
        self.to.look(record);
    }
}

impl Write for LinkArgs<'_> {
    fn write(&self, to: &mut Encoder) {
        self.file.write(to);
        self.link.write(to);
    }

    fn look(&self, record: &[u8]) {
        self.file.look(record);
        self.link.look(record);
    }
}

impl Write for ReaddirArgs<'_> {
    fn write(&self, to: &mut Encoder) {
        self.dir.write(to);
        to.u64(self.cookie);
        to.fixed(&self.verifier);
        to.u32(self.count);
    }
}

impl Write for ReaddirplusArgs<'_> {
    fn write(&self, to: &mut Encoder) {
        self.dir.write(to);
        to.u64(self.cookie);
        to.fixed(&self.verifier);
        to.u32(self.dircount);
        to.u32(self.maxcount);
    }
}

impl Write for CommitArgs<'_> {
    fn write(&self, to: &mut Encoder) {
        self.file.write(to);
        to.u64(self.offset);
        to.u32(self.count);
    }
}
