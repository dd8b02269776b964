//! The model's requests as NFS calls, and the results as the model's answers.
//!
//! The network is bad now and then: a call goes out twice, or its connection breaks and it goes out
//! again on a new one, with the same xid. The client knows nothing of an inode but its handle, which
//! a restart must not change; handles of inodes that it was never told of are sealed here with the
//! pool's key, as the model names nodes that other clients made.
//!
//! A COMMIT proves something only where its verifier is that of the writes before (RFC 1813, section
//! 3.3.21). Where it is another one, the client would send its data again; here it says that it was
//! refused.

use super::caller::{Caller, Sending, Service, stat};
use crate::model::act::{Act, NodeId, Place, Sync};
use crate::model::reading::Answer;
use crate::model::tree::Inodes;
use cairn_base::BlockNo;
use cairn_base::Nanos;
use cairn_base::door::MediaError;
use cairn_base::prng::Prng;
use cairn_engine::attr::FileKind;
use cairn_engine::error::FsError;
use cairn_format::InodeNo;
use cairn_nfs::export::ExportId;
use cairn_nfs::handle::{FileHandle, HandleSeal};
use nfs3_types::nfs3::{
    self, NFS_PROGRAM as Proc, Nfs3Option, Nfs3Result, diropargs3, nfs_fh3, nfsstat3, sattr3,
};
use nfs3_types::xdr_codec::{Opaque, Pack, Unpack};
use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

/// Of one page of a listing: some entries, so that listings take several calls.
const PAGE_BYTES: u32 = 1200;
/// A client that is told to come back later does so after this time.
const JUKEBOX_WAIT: Nanos = Nanos::from_millis(200);
/// Calls that go out again, of a hundred.
const AGAIN_PERCENT: u64 = 8;

/// Verifiers that unstable writes were answered with since the start, by inode; all clients know them.
pub type Verifiers = Rc<RefCell<BTreeMap<InodeNo, BTreeSet<[u8; 8]>>>>;

pub struct NfsClient {
    caller: Caller,
    service: Service,
    seal: HandleSeal,
    prng: RefCell<Prng>,
    unstable: Verifiers,
}

/// NFS's IO does not say which block it was.
pub const IO_ERROR: FsError =
    FsError::Media { block: BlockNo::from_raw(0), error: MediaError::Read(5) };

/// What one call came to.
enum Refusal {
    /// The client asks again, some time later.
    Later,
    For(FsError),
}

impl NfsClient {
    pub fn new(service: &Service, number: usize, seed: u64, unstable: &Verifiers) -> NfsClient {
        let caller = service.connect(&format!("127.0.0.1:{}", 700 + number));
        let mut prng = Prng::new(seed ^ 0x6e66_7363);
        // Clients of one address must not meet in the reply cache.
        caller.set_next_xid((number as u32 + 1) << 24 | (prng.below(1 << 16) as u32) << 8);
        let shard = &service.shard;
        NfsClient {
            caller,
            service: service.clone(),
            seal: HandleSeal::new(shard.handle_key(), shard.fsid()),
            prng: RefCell::new(prng),
            unstable: unstable.clone(),
        }
    }

    /// `None` for what NFS has no call for. `inodes` knows every node of `act`.
    pub async fn perform(&self, act: &Act, inodes: &Inodes) -> Option<Answer> {
        if matches!(act, Act::SetXattr { .. } | Act::RemoveXattr { .. }) {
            return None;
        }
        loop {
            match self.try_perform(act, inodes).await {
                Ok(answer) => return Some(answer),
                Err(Refusal::For(error)) => return Some(Answer::Refused(error)),
                Err(Refusal::Later) => {
                    self.service.shard.reactor().sleep(JUKEBOX_WAIT).await;
                }
            }
        }
    }

    async fn try_perform(&self, act: &Act, inodes: &Inodes) -> Result<Answer, Refusal> {
        let handle = |node: &NodeId| self.handle(inodes[node]);
        let place = |at: &Place| diropargs3 { dir: handle(&at.dir), name: at.name.to_vec().into() };
        let mode = |mode: u32| sattr3 { mode: Nfs3Option::Some(mode), ..sattr3::default() };
        match act {
            Act::Make { at, kind: FileKind::Regular, mode: bits } => {
                let how = nfs3::createhow3::GUARDED(mode(*bits));
                self.create(nfs3::CREATE3args { where_: place(at), how }).await
            }
            Act::Open { at, mode: bits } => {
                let how = nfs3::createhow3::UNCHECKED(mode(*bits));
                self.create(nfs3::CREATE3args { where_: place(at), how }).await
            }
            Act::Make { at, kind: FileKind::Directory, mode: bits } => {
                let args = nfs3::MKDIR3args { where_: place(at), attributes: mode(*bits) };
                let made = done(self.ask::<nfs3::MKDIR3res>(Proc::NFSPROC3_MKDIR, &args).await)?;
                Ok(node(&made.obj_attributes))
            }
            Act::Make { at, kind, mode: bits } => {
                let what = match kind {
                    FileKind::Fifo => nfs3::mknoddata3::NF3FIFO(mode(*bits)),
                    FileKind::Socket => nfs3::mknoddata3::NF3SOCK(mode(*bits)),
                    other => panic!("nobody asks for a {other:?}"),
                };
                let args = nfs3::MKNOD3args { where_: place(at), what };
                let made = done(self.ask::<nfs3::MKNOD3res>(Proc::NFSPROC3_MKNOD, &args).await)?;
                Ok(node(&made.obj_attributes))
            }
            Act::Symlink { at, target } => {
                let symlink = nfs3::symlinkdata3 {
                    symlink_attributes: sattr3::default(),
                    symlink_data: target.clone().into(),
                };
                let args = nfs3::SYMLINK3args { where_: place(at), symlink };
                let made =
                    done(self.ask::<nfs3::SYMLINK3res>(Proc::NFSPROC3_SYMLINK, &args).await)?;
                Ok(node(&made.obj_attributes))
            }
            Act::Link { node, at } => {
                let args = nfs3::LINK3args { file: handle(node), link: place(at) };
                done(self.ask::<nfs3::LINK3res>(Proc::NFSPROC3_LINK, &args).await)?;
                Ok(Answer::Done)
            }
            Act::Unlink { at } => {
                let args = nfs3::REMOVE3args { object: place(at) };
                done(self.ask::<nfs3::REMOVE3res>(Proc::NFSPROC3_REMOVE, &args).await)?;
                Ok(Answer::Done)
            }
            Act::Rmdir { at } => {
                let args = nfs3::RMDIR3args { object: place(at) };
                done(self.ask::<nfs3::RMDIR3res>(Proc::NFSPROC3_RMDIR, &args).await)?;
                Ok(Answer::Done)
            }
            Act::Rename { from, to } => {
                let args = nfs3::RENAME3args { from: place(from), to: place(to) };
                done(self.ask::<nfs3::RENAME3res>(Proc::NFSPROC3_RENAME, &args).await)?;
                Ok(Answer::Done)
            }
            Act::Write { node, data, sync } => {
                self.write(inodes[node], data.offset, &data.bytes(), *sync).await
            }
            Act::Commit { node, offset, len } => self.commit(inodes[node], *offset, *len).await,
            Act::Truncate { node, size } => {
                let set = sattr3 { size: Nfs3Option::Some(*size), ..sattr3::default() };
                self.setattr(handle(node), set).await
            }
            Act::Chmod { node, mode: bits, gid } => {
                self.setattr(handle(node), sattr3 { gid: Nfs3Option::Some(*gid), ..mode(*bits) })
                    .await
            }
            Act::Lookup { at } => {
                let args = nfs3::LOOKUP3args { what: place(at) };
                let found = done(self.ask::<nfs3::LOOKUP3res>(Proc::NFSPROC3_LOOKUP, &args).await)?;
                Ok(node(&found.obj_attributes))
            }
            Act::List { dir } => self.list(inodes[dir]).await,
            Act::Read { node, offset, len } => {
                let args = nfs3::READ3args { file: handle(node), offset: *offset, count: *len };
                let read =
                    done(self.ask::<nfs3::READ3res<'static>>(Proc::NFSPROC3_READ, &args).await)?;
                Ok(Answer::Bytes { bytes: read.data.to_vec(), eof: read.eof })
            }
            Act::Stat { node } => {
                let args = nfs3::GETATTR3args { object: handle(node) };
                let got = done(self.ask::<nfs3::GETATTR3res>(Proc::NFSPROC3_GETATTR, &args).await)?;
                let attr = got.obj_attributes;
                let kind = kind_of(attr.type_);
                let (mode, nlink, size) = (attr.mode, attr.nlink, attr.size);
                Ok(Answer::Stat { kind, mode, nlink, size })
            }
            Act::SetXattr { .. } | Act::RemoveXattr { .. } => {
                panic!("NFS version 3 has no extended attributes")
            }
        }
    }

    async fn create(&self, args: nfs3::CREATE3args<'_>) -> Result<Answer, Refusal> {
        let made = done(self.ask::<nfs3::CREATE3res>(Proc::NFSPROC3_CREATE, &args).await)?;
        Ok(node(&made.obj_attributes))
    }

    async fn setattr(&self, object: nfs_fh3, new_attributes: sattr3) -> Result<Answer, Refusal> {
        let guard = Nfs3Option::None;
        let args = nfs3::SETATTR3args { object, new_attributes, guard };
        done(self.ask::<nfs3::SETATTR3res>(Proc::NFSPROC3_SETATTR, &args).await)?;
        Ok(Answer::Done)
    }

    async fn write(
        &self,
        ino: InodeNo,
        offset: u64,
        bytes: &[u8],
        sync: Sync,
    ) -> Result<Answer, Refusal> {
        let stable = match sync {
            Sync::Unstable => nfs3::stable_how::UNSTABLE,
            Sync::Data => nfs3::stable_how::DATA_SYNC,
            Sync::File => nfs3::stable_how::FILE_SYNC,
        };
        let args = nfs3::WRITE3args {
            file: self.handle(ino),
            offset,
            count: bytes.len() as u32,
            stable,
            data: Opaque::borrowed(bytes),
        };
        let written = done(self.ask::<nfs3::WRITE3res>(Proc::NFSPROC3_WRITE, &args).await)?;
        assert_eq!(written.count as usize, bytes.len(), "nobody writes more than is taken at once");
        assert!(written.committed as u32 >= stable as u32, "as stable as was asked for");
        if written.committed == nfs3::stable_how::UNSTABLE {
            self.unstable.borrow_mut().entry(ino).or_default().insert(written.verf.0);
        }
        Ok(Answer::Done)
    }

    async fn commit(&self, ino: InodeNo, offset: u64, count: u32) -> Result<Answer, Refusal> {
        let args = nfs3::COMMIT3args { file: self.handle(ino), offset, count };
        let before = self.unstable.borrow().get(&ino).cloned().unwrap_or_default();
        let done = done(self.ask::<nfs3::COMMIT3res>(Proc::NFSPROC3_COMMIT, &args).await)?;
        match before.iter().all(|verifier| *verifier == done.verf.0) {
            true => Ok(Answer::Done),
            false => Err(Refusal::For(FsError::Stopped)),
        }
    }

    async fn list(&self, dir: InodeNo) -> Result<Answer, Refusal> {
        let (mut all, mut cookie) = (Vec::new(), 0);
        loop {
            let args = nfs3::READDIRPLUS3args {
                dir: self.handle(dir),
                cookie,
                cookieverf: nfs3::cookieverf3([0; 8]),
                dircount: PAGE_BYTES,
                maxcount: PAGE_BYTES,
            };
            let page = done(
                self.ask::<nfs3::READDIRPLUS3res<'static>>(Proc::NFSPROC3_READDIRPLUS, &args).await,
            )?;
            let entries = page.reply.entries.into_inner();
            let ended = page.reply.eof || entries.is_empty();
            for entry in entries {
                cookie = entry.cookie;
                let name: Box<[u8]> = entry.name.0.to_vec().into();
                if &*name == b"." || &*name == b".." {
                    continue;
                }
                let ino = InodeNo::from_raw(entry.fileid).expect("inode 0 does not exist");
                let kind = match &entry.name_attributes {
                    Nfs3Option::Some(attr) => kind_of(attr.type_),
                    // Its shard was busy, or it is gone by now.
                    Nfs3Option::None => match self.kind_now(ino).await? {
                        Some(kind) => kind,
                        None => return Err(Refusal::Later),
                    },
                };
                all.push((name, ino, kind));
            }
            if ended {
                return Ok(Answer::Listing(all));
            }
        }
    }

    async fn kind_now(&self, ino: InodeNo) -> Result<Option<FileKind>, Refusal> {
        let args = nfs3::GETATTR3args { object: self.handle(ino) };
        match done(self.ask::<nfs3::GETATTR3res>(Proc::NFSPROC3_GETATTR, &args).await) {
            Ok(got) => Ok(Some(kind_of(got.obj_attributes.type_))),
            Err(Refusal::For(FsError::Stale)) => Ok(None),
            Err(refusal) => Err(refusal),
        }
    }

    async fn ask<R: Unpack>(&self, procedure: Proc, args: &impl Pack) -> R {
        let sending = {
            let mut prng = self.prng.borrow_mut();
            match prng.below(100) {
                n if n < AGAIN_PERCENT / 2 => Sending::Twice,
                n if n < AGAIN_PERCENT => {
                    Sending::Reconnecting { after: Nanos(1_000 << prng.below(14)) }
                }
                _ => Sending::Once,
            }
        };
        self.caller.nfs_sent(procedure, args, sending).await
    }

    fn handle(&self, ino: InodeNo) -> nfs_fh3 {
        let bytes = self.seal.encode(FileHandle { export: ExportId::of_path(&[]), ino });
        nfs_fh3 { data: Opaque::owned(bytes.to_vec()) }
    }
}

fn done<R, F>(result: Nfs3Result<R, F>) -> Result<R, Refusal> {
    match (stat(&result), result) {
        (nfsstat3::NFS3ERR_JUKEBOX, _) => Err(Refusal::Later),
        (_, Nfs3Result::Ok(done)) => Ok(done),
        (stat, Nfs3Result::Err(_)) => Err(Refusal::For(error_of(stat))),
    }
}

fn node(attributes: &Nfs3Option<nfs3::fattr3>) -> Answer {
    let Nfs3Option::Some(attr) = attributes else { panic!("a new node comes with its attributes") };
    let ino = InodeNo::from_raw(attr.fileid).expect("inode 0 does not exist");
    Answer::Node { ino, kind: kind_of(attr.type_) }
}

fn kind_of(kind: nfs3::ftype3) -> FileKind {
    match kind {
        nfs3::ftype3::NF3REG => FileKind::Regular,
        nfs3::ftype3::NF3DIR => FileKind::Directory,
        nfs3::ftype3::NF3BLK => FileKind::Block,
        nfs3::ftype3::NF3CHR => FileKind::Character,
        nfs3::ftype3::NF3LNK => FileKind::Symlink,
        nfs3::ftype3::NF3SOCK => FileKind::Socket,
        nfs3::ftype3::NF3FIFO => FileKind::Fifo,
    }
}

/// What the engine meant, as far as a client can know.
fn error_of(stat: nfsstat3) -> FsError {
    match stat {
        nfsstat3::NFS3ERR_PERM => FsError::Permission,
        nfsstat3::NFS3ERR_NOENT => FsError::NotFound,
        nfsstat3::NFS3ERR_ACCES => FsError::Access,
        nfsstat3::NFS3ERR_EXIST => FsError::Exists,
        nfsstat3::NFS3ERR_NOTDIR => FsError::NotDirectory,
        nfsstat3::NFS3ERR_ISDIR => FsError::IsDirectory,
        nfsstat3::NFS3ERR_INVAL => FsError::Invalid,
        nfsstat3::NFS3ERR_FBIG => FsError::TooBig,
        nfsstat3::NFS3ERR_NOSPC => FsError::NoSpace,
        nfsstat3::NFS3ERR_ROFS => FsError::ReadOnly,
        nfsstat3::NFS3ERR_MLINK => FsError::TooManyLinks,
        nfsstat3::NFS3ERR_NAMETOOLONG => FsError::NameTooLong,
        nfsstat3::NFS3ERR_NOTEMPTY => FsError::NotEmpty,
        nfsstat3::NFS3ERR_STALE => FsError::Stale,
        nfsstat3::NFS3ERR_NOT_SYNC => FsError::GuardMismatch,
        nfsstat3::NFS3ERR_BAD_COOKIE => FsError::BadPosition,
        // A device that refused, damage, or a shard that has stopped: which of them is not told.
        nfsstat3::NFS3ERR_IO => IO_ERROR,
        other => panic!("{other} is never the right answer"),
    }
}
