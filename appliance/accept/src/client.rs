//! One NFSv3 connection: the 21 procedures, each a blocking call.
//!
//! It adds to nfs3_client what every test needs: a mount at the start, errors sorted by what a test
//! does about them (`Fault`), a retry of JUKEBOX (which says that nothing was done, so even a
//! REMOVE may be sent again), and attributes and handles fetched where a reply may leave them out.
//! Replies are otherwise passed on whole, since some tests are about them.
//!
//! A call whose connection broke has an unknown outcome. It is reported as `Fault::Lost` and never
//! sent again here: only the caller knows how to find out what became of it.

use crate::clock::{self, Deadline};
use crate::nfs3_types::nfs3::*;
use crate::nfs3_types::rpc::{auth_unix, opaque_auth};
use crate::nfs3_types::xdr_codec::Opaque;
use crate::served::Address;
use crate::stream::{PATIENCE, Stream, finish};
use nfs3_client::{MountClient, MountError, Nfs3Client, RpcError};
use std::fmt;
use std::time::Duration;

/// Why a call has no answer.
#[derive(Debug)]
pub enum Fault {
    /// The server refused, by the protocol.
    Status(nfsstat3),
    /// The connection broke: done or not done, nobody knows.
    Lost(String),
    /// It did not answer in time.
    Silent,
    /// It answered what no NFSv3 server should.
    Broken(RpcError),
}

pub type Answer<T> = Result<T, Fault>;

impl Fault {
    pub fn status(&self) -> Option<nfsstat3> {
        match self {
            Fault::Status(status) => Some(*status),
            Fault::Lost(_) | Fault::Silent | Fault::Broken(_) => None,
        }
    }

    pub fn is_exist(&self) -> bool {
        self.status() == Some(nfsstat3::NFS3ERR_EXIST)
    }

    pub fn is_no_entry(&self) -> bool {
        self.status() == Some(nfsstat3::NFS3ERR_NOENT)
    }

    fn of_rpc(error: RpcError) -> Fault {
        match error {
            RpcError::Io(io) => Fault::of_io(&io),
            other => Fault::Broken(other),
        }
    }

    fn of_io(error: &std::io::Error) -> Fault {
        use std::io::ErrorKind::{TimedOut, WouldBlock};
        match error.kind() {
            TimedOut | WouldBlock => Fault::Silent,
            _ => Fault::Lost(error.to_string()),
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Fault::Status(status) => write!(f, "{status}"),
            Fault::Lost(why) => write!(f, "connection lost: {why}"),
            Fault::Silent => write!(f, "no answer in {PATIENCE:?}"),
            Fault::Broken(error) => write!(f, "not an NFSv3 answer: {error}"),
        }
    }
}

impl std::error::Error for Fault {}

/// Who asks, as AUTH_SYS says it.
#[derive(Clone, Copy, Debug)]
pub struct Cred {
    pub uid: u32,
    pub gid: u32,
    pub groups: &'static [u32],
}

impl Cred {
    pub const ROOT: Cred = Cred { uid: 0, gid: 0, groups: &[] };

    pub const fn user(uid: u32, gid: u32) -> Cred {
        Cred { uid, gid, groups: &[] }
    }

    fn auth(&self) -> opaque_auth<'static> {
        opaque_auth::auth_unix(&auth_unix {
            stamp: 1,
            machinename: Opaque::borrowed(b"accept"),
            uid: self.uid,
            gid: self.gid,
            gids: self.groups.to_vec(),
        })
    }
}

/// What LOOKUP answers.
#[derive(Clone, Debug)]
pub struct Found {
    pub handle: nfs_fh3,
    pub attr: fattr3,
}

/// What CREATE, MKDIR, SYMLINK and MKNOD answer.
#[derive(Debug)]
pub struct Made {
    pub handle: nfs_fh3,
    pub attr: fattr3,
    pub dir_wcc: wcc_data,
}

pub struct Client {
    nfs: Nfs3Client<Stream>,
    root: nfs_fh3,
}

impl Client {
    /// Connects and mounts the address's export.
    pub fn connect(to: &Address, cred: &Cred) -> Answer<Client> {
        let root = Client::mount(to, cred, to.export.as_bytes())?;
        let stream = Stream::connect(to.nfs, to.local).map_err(|error| Fault::of_io(&error))?;
        let nfs = Nfs3Client::new_with_auth(stream, cred.auth(), opaque_auth::default());
        Ok(Client { nfs, root })
    }

    /// The handle that MNT gives for a path. A refusal comes as the NFS status of the same number.
    pub fn mount(to: &Address, cred: &Cred, path: &[u8]) -> Answer<nfs_fh3> {
        use crate::nfs3_types::mount::{dirpath, mountstat3};
        let stream = Stream::connect(to.mount, to.local).map_err(|error| Fault::of_io(&error))?;
        let mut mount = MountClient::new_with_auth(stream, cred.auth(), opaque_auth::default());
        match finish(mount.mnt(dirpath(Opaque::borrowed(path)))) {
            Ok(mounted) => Ok(nfs_fh3 { data: mounted.fhandle.0 }),
            Err(MountError::Rpc(error)) => Err(Fault::of_rpc(error)),
            Err(MountError::Denied(status)) => Err(Fault::Status(match status {
                mountstat3::MNT3_OK => nfsstat3::NFS3_OK,
                mountstat3::MNT3ERR_PERM => nfsstat3::NFS3ERR_PERM,
                mountstat3::MNT3ERR_NOENT => nfsstat3::NFS3ERR_NOENT,
                mountstat3::MNT3ERR_IO => nfsstat3::NFS3ERR_IO,
                mountstat3::MNT3ERR_ACCES => nfsstat3::NFS3ERR_ACCES,
                mountstat3::MNT3ERR_NOTDIR => nfsstat3::NFS3ERR_NOTDIR,
                mountstat3::MNT3ERR_INVAL => nfsstat3::NFS3ERR_INVAL,
                mountstat3::MNT3ERR_NAMETOOLONG => nfsstat3::NFS3ERR_NAMETOOLONG,
                mountstat3::MNT3ERR_NOTSUPP => nfsstat3::NFS3ERR_NOTSUPP,
                mountstat3::MNT3ERR_SERVERFAULT => nfsstat3::NFS3ERR_SERVERFAULT,
            })),
        }
    }

    pub fn root(&self) -> &nfs_fh3 {
        &self.root
    }

    pub fn null(&mut self) -> Answer<()> {
        finish(self.nfs.null()).map_err(Fault::of_rpc)
    }

    pub fn getattr(&mut self, object: &nfs_fh3) -> Answer<fattr3> {
        let args = GETATTR3args { object: object.clone() };
        Ok(again(|| finish(self.nfs.getattr(&args)))?.obj_attributes)
    }

    pub fn setattr(&mut self, object: &nfs_fh3, set: sattr3) -> Answer<wcc_data> {
        self.setattr_guarded(object, set, sattrguard3::None)
    }

    pub fn setattr_guarded(
        &mut self,
        object: &nfs_fh3,
        set: sattr3,
        guard: sattrguard3,
    ) -> Answer<wcc_data> {
        let args = SETATTR3args { object: object.clone(), new_attributes: set, guard };
        Ok(again(|| finish(self.nfs.setattr(&args)))?.obj_wcc)
    }

    pub fn lookup(&mut self, dir: &nfs_fh3, name: &[u8]) -> Answer<Found> {
        let args = LOOKUP3args { what: place(dir, name) };
        let found = again(|| finish(self.nfs.lookup(&args)))?;
        let attr = self.attr_or_ask(found.obj_attributes, &found.object)?;
        Ok(Found { handle: found.object, attr })
    }

    /// The rights among `wanted` (ACCESS3_*) that the server would grant.
    pub fn access(&mut self, object: &nfs_fh3, wanted: u32) -> Answer<u32> {
        let args = ACCESS3args { object: object.clone(), access: wanted };
        Ok(again(|| finish(self.nfs.access(&args)))?.access)
    }

    pub fn readlink(&mut self, symlink: &nfs_fh3) -> Answer<Vec<u8>> {
        let args = READLINK3args { symlink: symlink.clone() };
        Ok(again(|| finish(self.nfs.readlink(&args)))?.data.0.into_owned())
    }

    pub fn read(&mut self, file: &nfs_fh3, offset: u64, count: u32) -> Answer<READ3resok<'static>> {
        let args = READ3args { file: file.clone(), offset, count };
        again(|| finish(self.nfs.read(&args)))
    }

    /// The first answer, "not now" included.
    pub fn read_once(
        &mut self,
        file: &nfs_fh3,
        offset: u64,
        count: u32,
    ) -> Answer<READ3resok<'static>> {
        let args = READ3args { file: file.clone(), offset, count };
        first(finish(self.nfs.read(&args)))
    }

    /// The same of a write.
    pub fn write_once(&mut self, file: &nfs_fh3, offset: u64, data: &[u8]) -> Answer<WRITE3resok> {
        let count = u32::try_from(data.len()).expect("a write fits a message");
        let (data, stable) = (Opaque::borrowed(data), stable_how::FILE_SYNC);
        let args = WRITE3args { file: file.clone(), offset, count, stable, data };
        first(finish(self.nfs.write(&args)))
    }

    /// The same of a new size.
    pub fn resize_once(&mut self, file: &nfs_fh3, size: u64) -> Answer<SETATTR3resok> {
        let (new_attributes, guard) = (set_size(size), sattrguard3::None);
        let args = SETATTR3args { object: file.clone(), new_attributes, guard };
        first(finish(self.nfs.setattr(&args)))
    }

    pub fn write(
        &mut self,
        file: &nfs_fh3,
        offset: u64,
        data: &[u8],
        stable: stable_how,
    ) -> Answer<WRITE3resok> {
        let count = u32::try_from(data.len()).expect("a write fits a message");
        let data = Opaque::borrowed(data);
        let args = WRITE3args { file: file.clone(), offset, count, stable, data };
        again(|| finish(self.nfs.write(&args)))
    }

    pub fn commit(&mut self, file: &nfs_fh3, offset: u64, count: u32) -> Answer<COMMIT3resok> {
        let args = COMMIT3args { file: file.clone(), offset, count };
        again(|| finish(self.nfs.commit(&args)))
    }

    pub fn create(&mut self, dir: &nfs_fh3, name: &[u8], how: createhow3) -> Answer<Made> {
        let args = CREATE3args { where_: place(dir, name), how };
        let made = again(|| finish(self.nfs.create(&args)))?;
        self.made(dir, name, made.obj, made.obj_attributes, made.dir_wcc)
    }

    pub fn mkdir(&mut self, dir: &nfs_fh3, name: &[u8], attributes: sattr3) -> Answer<Made> {
        let args = MKDIR3args { where_: place(dir, name), attributes };
        let made = again(|| finish(self.nfs.mkdir(&args)))?;
        self.made(dir, name, made.obj, made.obj_attributes, made.dir_wcc)
    }

    pub fn symlink(&mut self, dir: &nfs_fh3, name: &[u8], target: &[u8]) -> Answer<Made> {
        let symlink = symlinkdata3 {
            symlink_attributes: sattr3::default(),
            symlink_data: nfspath3(Opaque::borrowed(target)),
        };
        let args = SYMLINK3args { where_: place(dir, name), symlink };
        let made = again(|| finish(self.nfs.symlink(&args)))?;
        self.made(dir, name, made.obj, made.obj_attributes, made.dir_wcc)
    }

    pub fn mknod(&mut self, dir: &nfs_fh3, name: &[u8], what: mknoddata3) -> Answer<Made> {
        let args = MKNOD3args { where_: place(dir, name), what };
        let made = again(|| finish(self.nfs.mknod(&args)))?;
        self.made(dir, name, made.obj, made.obj_attributes, made.dir_wcc)
    }

    pub fn remove(&mut self, dir: &nfs_fh3, name: &[u8]) -> Answer<wcc_data> {
        let args = REMOVE3args { object: place(dir, name) };
        Ok(again(|| finish(self.nfs.remove(&args)))?.dir_wcc)
    }

    pub fn rmdir(&mut self, dir: &nfs_fh3, name: &[u8]) -> Answer<wcc_data> {
        let args = RMDIR3args { object: place(dir, name) };
        Ok(again(|| finish(self.nfs.rmdir(&args)))?.dir_wcc)
    }

    pub fn rename(
        &mut self,
        from: (&nfs_fh3, &[u8]),
        to: (&nfs_fh3, &[u8]),
    ) -> Answer<RENAME3resok> {
        let args = RENAME3args { from: place(from.0, from.1), to: place(to.0, to.1) };
        again(|| finish(self.nfs.rename(&args)))
    }

    pub fn link(&mut self, file: &nfs_fh3, dir: &nfs_fh3, name: &[u8]) -> Answer<LINK3resok> {
        let args = LINK3args { file: file.clone(), link: place(dir, name) };
        again(|| finish(self.nfs.link(&args)))
    }

    pub fn readdir(
        &mut self,
        dir: &nfs_fh3,
        (cookie, cookieverf): (u64, cookieverf3),
        count: u32,
    ) -> Answer<READDIR3resok<'static>> {
        let args = READDIR3args { dir: dir.clone(), cookie, cookieverf, count };
        again(|| finish(self.nfs.readdir(&args)))
    }

    pub fn readdirplus(
        &mut self,
        dir: &nfs_fh3,
        (cookie, cookieverf): (u64, cookieverf3),
        maxcount: u32,
    ) -> Answer<READDIRPLUS3resok<'static>> {
        let dir = dir.clone();
        let args = READDIRPLUS3args { dir, cookie, cookieverf, dircount: maxcount, maxcount };
        again(|| finish(self.nfs.readdirplus(&args)))
    }

    pub fn fsstat(&mut self) -> Answer<FSSTAT3resok> {
        let args = FSSTAT3args { fsroot: self.root.clone() };
        again(|| finish(self.nfs.fsstat(&args)))
    }

    pub fn fsinfo(&mut self) -> Answer<FSINFO3resok> {
        let args = FSINFO3args { fsroot: self.root.clone() };
        again(|| finish(self.nfs.fsinfo(&args)))
    }

    pub fn pathconf(&mut self, object: &nfs_fh3) -> Answer<PATHCONF3resok> {
        let args = PATHCONF3args { object: object.clone() };
        again(|| finish(self.nfs.pathconf(&args)))
    }

    fn made(
        &mut self,
        dir: &nfs_fh3,
        name: &[u8],
        handle: post_op_fh3,
        attr: post_op_attr,
        dir_wcc: wcc_data,
    ) -> Answer<Made> {
        let handle = match handle {
            Nfs3Option::Some(handle) => handle,
            Nfs3Option::None => self.lookup(dir, name)?.handle,
        };
        let attr = self.attr_or_ask(attr, &handle)?;
        Ok(Made { handle, attr, dir_wcc })
    }

    fn attr_or_ask(&mut self, attr: post_op_attr, handle: &nfs_fh3) -> Answer<fattr3> {
        match attr {
            Nfs3Option::Some(attr) => Ok(attr),
            Nfs3Option::None => self.getattr(handle),
        }
    }
}

/// Attributes to set, by name.
pub fn set_mode(mode: u32) -> set_mode3 {
    Nfs3Option::Some(mode)
}

pub fn set_size(size: u64) -> sattr3 {
    sattr3 { size: Nfs3Option::Some(size), ..sattr3::default() }
}

/// A time to set: the client's, or the server's now.
pub fn now_or(time: Option<nfstime3>) -> set_mtime {
    time.map_or(set_mtime::SET_TO_SERVER_TIME, set_mtime::SET_TO_CLIENT_TIME)
}

fn place<'n>(dir: &nfs_fh3, name: &'n [u8]) -> diropargs3<'n> {
    diropargs3 { dir: dir.clone(), name: name.into() }
}

/// The first answer, whatever it is.
fn first<T, E>(answer: Result<Nfs3Result<T, E>, RpcError>) -> Answer<T> {
    match answer.map_err(Fault::of_rpc)? {
        Nfs3Result::Ok(reply) => Ok(reply),
        Nfs3Result::Err((status, _)) => Err(Fault::Status(status)),
    }
}

/// Sends a call until it is answered other than "not now".
fn again<T, E>(mut call: impl FnMut() -> Result<Nfs3Result<T, E>, RpcError>) -> Answer<T> {
    let deadline = Deadline::after(PATIENCE);
    loop {
        match call().map_err(Fault::of_rpc)? {
            Nfs3Result::Ok(reply) => return Ok(reply),
            Nfs3Result::Err((nfsstat3::NFS3ERR_JUKEBOX, _)) if !deadline.passed() => {
                clock::pause(Duration::from_millis(10));
            }
            Nfs3Result::Err((status, _)) => return Err(Fault::Status(status)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_jukebox_is_asked_again_and_a_refusal_is_not() {
        let mut replies = [
            Nfs3Result::Err((nfsstat3::NFS3ERR_JUKEBOX, ())),
            Nfs3Result::Err((nfsstat3::NFS3ERR_JUKEBOX, ())),
            Nfs3Result::Ok(7),
        ]
        .into_iter();
        let answer = again(|| Ok(replies.next().expect("asked too often")));
        assert_eq!(answer.expect("the third answer counts"), 7);

        let refused = again(|| Ok(Nfs3Result::<(), ()>::Err((nfsstat3::NFS3ERR_NOENT, ()))));
        assert!(refused.expect_err("a refusal").is_no_entry());
    }

    #[test]
    fn a_broken_connection_is_not_taken_for_an_answer() {
        let broken = || Err(RpcError::Io(std::io::ErrorKind::ConnectionReset.into()));
        let lost = again::<(), ()>(broken).expect_err("no answer");
        assert!(matches!(lost, Fault::Lost(_)));
        let late = || Err(RpcError::Io(std::io::ErrorKind::WouldBlock.into()));
        assert!(matches!(again::<(), ()>(late), Err(Fault::Silent)));
    }
}
