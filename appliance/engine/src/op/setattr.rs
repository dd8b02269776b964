//! SETATTR: mode, owner, times and size.
//!
//! All but a large truncation is one record. A truncation over many extents says the new size in
//! its first record and removes what lies behind in more of them; the inode is marked meanwhile, so
//! that a crash in between is finished by whoever changes it next.

use crate::access::{self, SGID, without_set_id};
use crate::attr::{Before, Change, FileKind, Rights, SetAttr, SetTime, Time};
use crate::cred::Cred;
use crate::data;
use crate::error::FsError;
use crate::limits::FILE_BYTES_MAX;
use crate::op::unlink::REMOVAL_BYTES;
use crate::shard::Shard;
use crate::txn::{Class, Need, Stop, View};
use cairn_base::door::Doors;
use cairn_format::InodeNo;
use cairn_format::item::{INODE_RETENTION, InodeItem};
use std::rc::Rc;

#[derive(Debug)]
pub struct Setattr {
    pub cred: Cred,
    pub ino: InodeNo,
    pub set: SetAttr,
    /// Refused unless the inode's ctime is this.
    pub guard: Option<Time>,
}

impl Setattr {
    pub fn home(&self) -> InodeNo {
        self.ino
    }

    pub(crate) async fn run<D: Doors>(self, shard: &Rc<Shard<D>>) -> Result<Change, FsError> {
        if self.set.size.is_some_and(|size| size > FILE_BYTES_MAX) {
            return Err(FsError::TooBig);
        }
        if self.set.size.is_some() || self.set.mtime.is_some() {
            // What was buffered before must not overwrite this later.
            shard.write_back_file(self.ino).await?;
        }
        let class = if self.frees(shard).await? { Class::Freeing } else { Class::Growing };
        let resizes = self.set.size.is_some();
        let bytes = if resizes { Need::SMALL + REMOVAL_BYTES } else { Need::SMALL };
        let need = Need::new(class, &[self.ino.tablet()], bytes);
        let ((change, more), mut ticket) = shard
            .transact(need, |view| {
                let mut item = view.inode_to_change(self.ino)?;
                let attr = view.attr(self.ino, &item);
                if self.guard.is_some_and(|guard| guard != attr.ctime) {
                    return Err(FsError::GuardMismatch.into());
                }
                let before = Before::of(&attr);
                let more = self.change(view, &mut item)?;
                view.change_inode(self.ino, &mut item);
                Ok((Change { before, after: view.attr(self.ino, &item) }, more))
            })
            .await?;
        if more {
            shard.finish_truncation(self.ino).await?;
            ticket = shard.log.newest_ticket();
        }
        shard.settle(ticket).await?;
        Ok(change)
    }

    /// Does it make the file shorter? Then it may use what is kept for freeing space. The size may change
    /// until it applies, and costs no more then.
    async fn frees<D: Doors>(&self, shard: &Rc<Shard<D>>) -> Result<bool, FsError> {
        let Some(size) = self.set.size else { return Ok(false) };
        let attr = shard.read_with(|view| {
            let item = view.inode(self.ino)?;
            Ok(view.attr(self.ino, &item))
        });
        Ok(size < attr.await?.size)
    }

    /// Checks and changes everything asked for. True when a truncation has more to remove.
    fn change(&self, view: &mut View<'_>, item: &mut InodeItem) -> Result<bool, Stop> {
        let (cred, set) = (&self.cred, &self.set);
        self.check(item)?;
        let mut more = false;
        if let Some(size) = set.size {
            item.mode = access::mode_after_write(cred, item).into();
            more = data::truncate_in(view, self.ino, item, size)?;
            item.mtime = view.now.into();
        }
        let owner_changes = set.uid.is_some_and(|uid| uid != item.uid.get())
            || set.gid.is_some_and(|gid| gid != item.gid.get());
        if let Some(uid) = set.uid {
            item.uid = uid.into();
        }
        if let Some(gid) = set.gid {
            item.gid = gid.into();
        }
        if owner_changes && item.file_kind() == FileKind::Regular {
            item.mode = (without_set_id(item.mode.get().into()) as u16).into();
        }
        if let Some(mode) = set.mode {
            let mut mode = mode & 0o7777;
            let keeps_group = cred.privileged || cred.in_group(item.gid.get());
            if !keeps_group && item.file_kind() != FileKind::Directory {
                mode &= !SGID;
            }
            item.mode = (mode as u16).into();
        }
        let time = |set: SetTime| match set {
            SetTime::Now => view.now,
            SetTime::To(time) => time.0,
        };
        if let Some(atime) = set.atime {
            item.atime = time(atime).into();
        }
        if let Some(mtime) = set.mtime {
            item.mtime = time(mtime).into();
        }
        item.ctime = view.now.into();
        Ok(more)
    }

    fn check(&self, item: &InodeItem) -> Result<(), Stop> {
        let (cred, set) = (&self.cred, &self.set);
        let owner = access::is_owner(cred, item);
        let retained = item.flags & INODE_RETENTION != 0;
        if retained {
            return Err(FsError::Permission.into());
        }
        if set.mode.is_some() && !owner {
            return Err(FsError::Permission.into());
        }
        let keeps_uid = set.uid.is_none_or(|uid| owner && uid == item.uid.get());
        if !keeps_uid && !cred.privileged {
            return Err(FsError::Permission.into());
        }
        if let Some(gid) = set.gid {
            let to_own = gid == item.gid.get() || cred.in_group(gid);
            let allowed = cred.privileged || owner && to_own;
            if !allowed {
                return Err(FsError::Permission.into());
            }
        }
        let to_times = [set.atime, set.mtime];
        if to_times.iter().any(|time| matches!(time, Some(SetTime::To(_)))) && !owner {
            return Err(FsError::Permission.into());
        }
        if to_times.iter().any(|time| matches!(time, Some(SetTime::Now))) && !owner {
            access::require(cred, item, Rights::WRITE)?;
        }
        if set.size.is_some() {
            match item.file_kind() {
                FileKind::Regular => {}
                FileKind::Directory => return Err(FsError::IsDirectory.into()),
                _ => return Err(FsError::Invalid.into()),
            }
            // The owner may: a client that opened the file for writing and then took the right
            // away from itself goes on (RFC 1813, 4.4).
            if !owner {
                access::require(cred, item, Rights::WRITE)?;
            }
        }
        Ok(())
    }
}
