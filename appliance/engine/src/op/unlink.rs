//! REMOVE and RMDIR: a name goes; with the last one its inode becomes an orphan.

use crate::access;
use crate::attr::{Attr, Before, Change, FileKind};
use crate::cred::Cred;
use crate::error::FsError;
use crate::item::Entry;
use crate::name::Name;
use crate::shard::Shard;
use crate::txn::across::{Facts, Watch};
use crate::txn::{Class, Need, Stop};
use cairn_base::door::Doors;
use cairn_format::InodeNo;
use cairn_format::item::{INODE_RETENTION, InodeItem, PartChange, Site};
use std::rc::Rc;

#[derive(Debug)]
pub struct Unlink {
    pub cred: Cred,
    pub dir: InodeNo,
    pub name: Name,
}

#[derive(Debug)]
pub struct Rmdir {
    pub cred: Cred,
    pub dir: InodeNo,
    pub name: Name,
}

impl Unlink {
    pub fn home(&self) -> InodeNo {
        self.dir
    }

    pub(crate) async fn run<D: Doors>(self, shard: &Rc<Shard<D>>) -> Result<Change, FsError> {
        let Unlink { cred, dir, name } = self;
        Removal { cred, dir, name, what: What::File }.run(shard).await
    }
}

impl Rmdir {
    pub fn home(&self) -> InodeNo {
        self.dir
    }

    pub(crate) async fn run<D: Doors>(self, shard: &Rc<Shard<D>>) -> Result<Change, FsError> {
        let Rmdir { cred, dir, name } = self;
        Removal { cred, dir, name, what: What::Directory }.run(shard).await
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum What {
    File,
    Directory,
}

struct Removal {
    cred: Cred,
    dir: InodeNo,
    name: Name,
    what: What,
}

/// How often a name may stand for something else by the time everything is locked.
const TRIES: usize = 16;

impl Removal {
    async fn run<D: Doors>(self, shard: &Rc<Shard<D>>) -> Result<Change, FsError> {
        let before = self.remove(shard).await?;
        shard.pace.wake_all();
        let after = shard.attr_after(before).await?;
        Ok(Change { before: Before::of(&before), after })
    }

    async fn remove<D: Doors>(&self, shard: &Rc<Shard<D>>) -> Result<Attr, FsError> {
        for _ in 0..TRIES {
            match self.remove_here(shard).await? {
                Ok(before) => return Ok(before),
                Err(elsewhere) => {
                    if let Some(before) = self.remove_across(shard, elsewhere).await? {
                        return Ok(before);
                    }
                }
            }
        }
        Err(FsError::Busy)
    }

    /// In one record, if the child is here too; else the entry.
    async fn remove_here<D: Doors>(
        &self,
        shard: &Rc<Shard<D>>,
    ) -> Result<Result<Attr, Entry>, FsError> {
        let home = self.dir.tablet();
        let child = shard
            .read_with(|view| {
                view.directory(self.dir)?;
                Ok(view.entry(self.dir, self.name.as_bytes())?.map(|entry| entry.child))
            })
            .await?;
        let child = child.filter(|child| shard.core.owns(child.tablet()));
        let tablets = [home, child.map_or(home, |child| child.tablet())];
        let need = Need::new(Class::Freeing, &tablets, Need::SMALL + REMOVAL_BYTES);
        let (outcome, ticket) = shard
            .transact(need, |view| {
                let dir = view.directory_to_change(self.dir)?;
                access::require_entry_change(&self.cred, &dir)?;
                let entry = view.require_entry(self.dir, self.name.as_bytes())?;
                if !tablets.contains(&entry.child.tablet()) {
                    return Ok(Err(entry));
                }
                let inode = view.inode_to_change(entry.child)?;
                for part in self.decide(&dir, &entry, &inode, view.now)? {
                    view.apply_change(&part)?;
                }
                Ok(Ok(view.attr(self.dir, &dir)))
            })
            .await?;
        shard.settle(ticket).await?;
        Ok(outcome)
    }

    /// `None` when the name stands for something else by now.
    async fn remove_across<D: Doors>(
        &self,
        shard: &Rc<Shard<D>>,
        entry: Entry,
    ) -> Result<Option<Attr>, FsError> {
        if shard.core.owns(entry.child.tablet()) {
            return Ok(None);
        }
        let watches = vec![
            Watch::Inode { ino: self.dir, names: vec![self.name.as_bytes().into()] },
            Watch::Inode { ino: entry.child, names: Vec::new() },
        ];
        let removed = shard
            .across(self.dir.tablet(), Class::Freeing, watches, |facts: &Facts, view| {
                let dir = facts.item(self.dir);
                if facts.entries(self.dir)[0] != Some(entry) {
                    return Ok((Vec::new(), None));
                }
                access::require_entry_change(&self.cred, &dir)?;
                let inode = facts.item(entry.child);
                let parts = self.decide(&dir, &entry, &inode, view.now)?;
                Ok((parts, Some(view.attr(self.dir, &dir))))
            })
            .await;
        match removed {
            // Somebody else removed it meanwhile: the name tells.
            Err(FsError::Stale) => Ok(None),
            done => done,
        }
    }

    fn decide(
        &self,
        dir: &InodeItem,
        entry: &Entry,
        inode: &InodeItem,
        time: i64,
    ) -> Result<Vec<PartChange>, Stop> {
        let is_directory = inode.file_kind() == FileKind::Directory;
        match self.what {
            What::File if is_directory => return Err(FsError::IsDirectory.into()),
            What::Directory if !is_directory => return Err(FsError::NotDirectory.into()),
            What::File | What::Directory => {}
        }
        access::require_not_sticky(&self.cred, dir, inode)?;
        require_removable(inode)?;
        let site = Site { dir: self.dir, position: entry.position };
        let name: Box<[u8]> = self.name.as_bytes().into();
        Ok(vec![
            PartChange::DropEntry { site, name: name.clone(), kind: entry.kind, time },
            PartChange::DropLink { child: entry.child, site, name, time },
        ])
    }
}

/// Edits of removing a small file's items together with its name.
pub const REMOVAL_BYTES: usize = crate::data::REMOVE_STEP_BYTES;

/// May an inode lose a name? Retention and a directory's content say no.
pub fn require_removable(inode: &InodeItem) -> Result<(), FsError> {
    if inode.flags & INODE_RETENTION != 0 {
        return Err(FsError::Permission);
    }
    if inode.file_kind() == FileKind::Directory && inode.size.get() > 0 {
        return Err(FsError::NotEmpty);
    }
    Ok(())
}
