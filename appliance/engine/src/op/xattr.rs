//! Extended attributes, whole values by name.

use crate::access;
use crate::attr::{Attr, Rights};
use crate::cred::Cred;
use crate::error::FsError;
use crate::item::check_xattr;
use crate::shard::Shard;
use crate::txn::{Class, Need, Stop, View};
use cairn_base::door::Doors;
use cairn_format::InodeNo;
use cairn_format::item::{INODE_RETENTION, InodeItem};
use std::rc::Rc;

#[derive(Debug)]
pub struct GetXattr {
    pub cred: Cred,
    pub ino: InodeNo,
    pub name: Vec<u8>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum XattrSet {
    Any,
    /// Refused when there is one.
    Create,
    /// Refused when there is none.
    Replace,
}

#[derive(Debug)]
pub struct SetXattr {
    pub cred: Cred,
    pub ino: InodeNo,
    pub name: Vec<u8>,
    pub value: Vec<u8>,
    pub how: XattrSet,
}

#[derive(Debug)]
pub struct ListXattr {
    pub cred: Cred,
    pub ino: InodeNo,
}

#[derive(Debug)]
pub struct RemoveXattr {
    pub cred: Cred,
    pub ino: InodeNo,
    pub name: Vec<u8>,
}

impl GetXattr {
    pub fn home(&self) -> InodeNo {
        self.ino
    }

    pub(crate) async fn run<D: Doors>(self, shard: &Rc<Shard<D>>) -> Result<Vec<u8>, FsError> {
        check_xattr(&self.name, &[])?;
        shard
            .read_with(|view| {
                let item = view.inode(self.ino)?;
                access::require(&self.cred, &item, Rights::READ)?;
                view.xattr(self.ino, &self.name)?.ok_or(FsError::NoXattr.into())
            })
            .await
    }
}

impl ListXattr {
    pub fn home(&self) -> InodeNo {
        self.ino
    }

    pub(crate) async fn run<D: Doors>(self, shard: &Rc<Shard<D>>) -> Result<Vec<Vec<u8>>, FsError> {
        shard
            .read_with(|view| {
                view.inode(self.ino)?;
                view.xattr_names(self.ino)
            })
            .await
    }
}

impl SetXattr {
    pub fn home(&self) -> InodeNo {
        self.ino
    }

    pub(crate) async fn run<D: Doors>(self, shard: &Rc<Shard<D>>) -> Result<Attr, FsError> {
        check_xattr(&self.name, &self.value)?;
        let bytes = Need::SMALL + self.value.len() + self.value.len() / 16;
        let need = Need::new(Class::Growing, &[self.ino.tablet()], bytes);
        let (attr, ticket) = shard
            .transact(need, |view| {
                let mut item = changeable(view, &self.cred, self.ino)?;
                let exists = view.xattr(self.ino, &self.name)?.is_some();
                match self.how {
                    XattrSet::Create if exists => return Err(FsError::Exists.into()),
                    XattrSet::Replace if !exists => return Err(FsError::NoXattr.into()),
                    XattrSet::Any | XattrSet::Create | XattrSet::Replace => {}
                }
                view.put_xattr(self.ino, &self.name, &self.value)?;
                Ok(changed(view, self.ino, &mut item))
            })
            .await?;
        shard.settle(ticket).await?;
        Ok(attr)
    }
}

impl RemoveXattr {
    pub fn home(&self) -> InodeNo {
        self.ino
    }

    pub(crate) async fn run<D: Doors>(self, shard: &Rc<Shard<D>>) -> Result<Attr, FsError> {
        check_xattr(&self.name, &[])?;
        let need = Need::new(Class::Freeing, &[self.ino.tablet()], Need::SMALL);
        let (attr, ticket) = shard
            .transact(need, |view| {
                let mut item = changeable(view, &self.cred, self.ino)?;
                if !view.drop_xattr(self.ino, &self.name)? {
                    return Err(FsError::NoXattr.into());
                }
                Ok(changed(view, self.ino, &mut item))
            })
            .await?;
        shard.settle(ticket).await?;
        Ok(attr)
    }
}

fn changeable(view: &View<'_>, cred: &Cred, ino: InodeNo) -> Result<InodeItem, Stop> {
    let item = view.inode_to_change(ino)?;
    if item.flags & INODE_RETENTION != 0 {
        return Err(FsError::Permission.into());
    }
    if !access::is_owner(cred, &item) {
        access::require(cred, &item, Rights::WRITE)?;
    }
    Ok(item)
}

fn changed(view: &mut View<'_>, ino: InodeNo, item: &mut InodeItem) -> Attr {
    item.ctime = view.now.into();
    view.change_inode(ino, item);
    view.attr(ino, item)
}
