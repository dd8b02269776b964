//! LOOKUP: what a name stands for in a directory.

use crate::access;
use crate::attr::{Attr, FileKind, Rights};
use crate::cred::Cred;
use crate::error::FsError;
use crate::name::Name;
use crate::shard::Shard;
use crate::txn::{Stop, View};
use cairn_base::door::Doors;
use cairn_format::InodeNo;
use std::rc::Rc;

#[derive(Debug)]
pub struct Lookup {
    pub cred: Cred,
    pub dir: InodeNo,
    pub name: Name,
}

#[derive(Debug)]
pub struct Found {
    pub child: InodeNo,
    pub kind: FileKind,
    /// `None` when the child's tablet is another shard's: ask `Getattr`.
    pub attr: Option<Attr>,
    pub dir: Attr,
}

impl Lookup {
    pub fn home(&self) -> InodeNo {
        self.dir
    }

    pub(crate) async fn run<D: Doors>(self, shard: &Rc<Shard<D>>) -> Result<Found, FsError> {
        shard
            .read_with(|view| {
                let dir = view.directory(self.dir)?;
                access::require(&self.cred, &dir, Rights::EXECUTE)?;
                let entry = view.require_entry(self.dir, self.name.as_bytes())?;
                Ok(Found {
                    child: entry.child,
                    kind: entry.kind,
                    attr: attr_if_here(view, entry.child)?,
                    dir: view.attr(self.dir, &dir),
                })
            })
            .await
    }
}

/// `..`: the directory that holds this one. The root is its own parent.
#[derive(Debug)]
pub struct Parent {
    pub cred: Cred,
    pub dir: InodeNo,
}

impl Parent {
    pub fn home(&self) -> InodeNo {
        self.dir
    }

    pub(crate) async fn run<D: Doors>(self, shard: &Rc<Shard<D>>) -> Result<Found, FsError> {
        shard
            .read_with(|view| {
                let dir = view.directory(self.dir)?;
                access::require(&self.cred, &dir, Rights::EXECUTE)?;
                let parent = view.first_site(self.dir)?.map_or(InodeNo::ROOT, |site| site.dir);
                Ok(Found {
                    child: parent,
                    kind: FileKind::Directory,
                    attr: attr_if_here(view, parent)?,
                    dir: view.attr(self.dir, &dir),
                })
            })
            .await
    }
}

fn attr_if_here(view: &View<'_>, ino: InodeNo) -> Result<Option<Attr>, Stop> {
    if !view.core.owns(ino.tablet()) {
        return Ok(None);
    }
    let item = view.inode(ino)?;
    Ok(Some(view.attr(ino, &item)))
}

impl<D: Doors> Shard<D> {
    /// The parent of a directory of this shard; `None` for the root.
    pub(crate) async fn parent_of(&self, dir: InodeNo) -> Result<Option<InodeNo>, FsError> {
        self.read_with(|view| {
            view.inode(dir)?;
            Ok(view.first_site(dir)?.map(|site| site.dir))
        })
        .await
    }
}
