//! LINK: one more name for a file.

use crate::access;
use crate::attr::{Attr, Before, Change, FileKind};
use crate::cred::Cred;
use crate::error::FsError;
use crate::item::attr_of_item;
use crate::limits::LINKS_MAX;
use crate::name::Name;
use crate::op::create::require_alive;
use crate::shard::Shard;
use crate::txn::across::{Facts, Watch};
use crate::txn::{Class, Need, Stop, View};
use cairn_base::door::Doors;
use cairn_format::InodeNo;
use cairn_format::item::{InodeItem, PartChange, Site};
use std::rc::Rc;

#[derive(Debug)]
pub struct Link {
    pub cred: Cred,
    pub ino: InodeNo,
    pub dir: InodeNo,
    pub name: Name,
}

#[derive(Clone, Debug)]
pub struct Linked {
    pub attr: Attr,
    pub dir: Change,
}

impl Link {
    pub fn home(&self) -> InodeNo {
        self.dir
    }

    pub(crate) async fn run<D: Doors>(self, shard: &Rc<Shard<D>>) -> Result<Linked, FsError> {
        shard.home(self.ino)?;
        let before = if shard.core.owns(self.ino.tablet()) {
            self.link_here(shard).await?
        } else {
            self.link_across(shard).await?
        };
        let (file, dir) = before;
        let attr = shard.attr_after(file).await?;
        let after = shard.attr_after(dir).await?;
        Ok(Linked { attr, dir: Change { before: Before::of(&dir), after } })
    }

    async fn link_here<D: Doors>(&self, shard: &Rc<Shard<D>>) -> Result<(Attr, Attr), FsError> {
        let tablets = [self.dir.tablet(), self.ino.tablet()];
        let need = Need::new(Class::Growing, &tablets, Need::SMALL);
        let (before, ticket) = shard
            .transact(need, |view| {
                let dir = view.directory_to_change(self.dir)?;
                let file = view.inode_to_change(self.ino)?;
                let taken = view.entry(self.dir, self.name.as_bytes())?.is_some();
                for part in self.decide(&dir, &file, taken, view.now)? {
                    view.apply_change(&part)?;
                }
                Ok((attr_of_item(self.ino, &file), attr_of_item(self.dir, &dir)))
            })
            .await?;
        shard.settle(ticket).await?;
        Ok(before)
    }

    async fn link_across<D: Doors>(&self, shard: &Rc<Shard<D>>) -> Result<(Attr, Attr), FsError> {
        let watches = vec![
            Watch::Inode { ino: self.dir, names: vec![self.name.as_bytes().into()] },
            Watch::Inode { ino: self.ino, names: Vec::new() },
        ];
        shard
            .across(self.dir.tablet(), Class::Growing, watches, |facts: &Facts, view| {
                let (dir, file) = (facts.item(self.dir), facts.item(self.ino));
                let taken = facts.entries(self.dir)[0].is_some();
                let parts = self.decide(&dir, &file, taken, view.now)?;
                Ok((parts, (attr_of_item(self.ino, &file), attr_of_item(self.dir, &dir))))
            })
            .await
    }

    fn decide(
        &self,
        dir: &InodeItem,
        file: &InodeItem,
        taken: bool,
        time: i64,
    ) -> Result<Vec<PartChange>, Stop> {
        if dir.file_kind() != FileKind::Directory {
            return Err(FsError::NotDirectory.into());
        }
        access::require_entry_change(&self.cred, dir)?;
        require_alive(dir)?;
        let kind = file.file_kind();
        if kind == FileKind::Directory {
            return Err(FsError::IsDirectory.into());
        }
        if file.nlink.get() == 0 {
            return Err(FsError::Stale.into());
        }
        if taken {
            return Err(FsError::Exists.into());
        }
        if file.nlink.get() >= LINKS_MAX {
            return Err(FsError::TooManyLinks.into());
        }
        let site = Site { dir: self.dir, position: View::next_position(dir) };
        let name = self.name.as_bytes().into();
        Ok(vec![
            PartChange::AddEntry { site, name, child: self.ino, kind, time },
            PartChange::AddLink { child: self.ino, site, time },
        ])
    }
}
