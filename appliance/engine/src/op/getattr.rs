//! GETATTR: the inode as it is now, with what is buffered.

use crate::attr::Attr;
use crate::error::FsError;
use crate::shard::Shard;
use cairn_base::door::Doors;
use cairn_format::InodeNo;
use std::rc::Rc;

#[derive(Debug)]
pub struct Getattr {
    pub ino: InodeNo,
}

impl Getattr {
    pub fn home(&self) -> InodeNo {
        self.ino
    }

    pub(crate) async fn run<D: Doors>(self, shard: &Rc<Shard<D>>) -> Result<Attr, FsError> {
        shard
            .read_with(|view| {
                let item = view.inode(self.ino)?;
                Ok(view.attr(self.ino, &item))
            })
            .await
    }
}

/// Attributes of many inodes of one shard (`Shard::group_by_owner`); `None` for one that is gone.
#[derive(Debug)]
pub struct Attrs {
    pub inos: Vec<InodeNo>,
}

impl Attrs {
    /// Panics when nothing is asked for.
    pub fn home(&self) -> InodeNo {
        self.inos[0]
    }

    pub(crate) async fn run<D: Doors>(
        self,
        shard: &Rc<Shard<D>>,
    ) -> Result<Vec<Option<Attr>>, FsError> {
        let mut attrs = Vec::with_capacity(self.inos.len());
        for ino in self.inos {
            let attr = shard
                .read_with(|view| {
                    let item = view.inode_if_any(ino)?;
                    Ok(item.map(|item| view.attr(ino, &item)))
                })
                .await?;
            attrs.push(attr);
        }
        Ok(attrs)
    }
}

impl<D: Doors> Shard<D> {
    /// What an inode is after a change that has been made. By the time it is asked somebody else may
    /// have removed it: then it is told as it was known last.
    pub(crate) async fn attr_after(self: &Rc<Self>, known: Attr) -> Result<Attr, FsError> {
        match self.call_nested(Getattr { ino: known.ino }).await {
            Err(FsError::Stale) => Ok(known),
            answer => answer,
        }
    }
}
