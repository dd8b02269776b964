//! Extended attributes, whole values by name.
//!
//! Who may do what follows the namespace of the name (`cairn_format::xattr_name`). `user.` is as the file's
//! data, on files and directories only; the others are set by administrators, and `trusted.` is read by
//! them alone. What of a tagged name is kept elsewhere changes in the record that changes the xattr; a name
//! with a tag whose index is not kept yet is refused, since whoever set it would search in vain.
//!
//! A listing goes in pages in the order of the names' hashes: a name that is there from its beginning to
//! its end is listed once, whatever comes and goes meanwhile.

use crate::access;
use crate::attr::{Attr, FileKind, Rights};
use crate::cred::Cred;
use crate::error::FsError;
use crate::item::{XattrPlace, check_xattr};
use crate::shard::Shard;
use crate::txn::{Class, Need, Stop, View};
use cairn_base::door::Doors;
use cairn_format::InodeNo;
use cairn_format::item::{INODE_RETENTION, InodeItem};
use cairn_format::xattr_name::XattrNamespace;
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

/// Which names a listing has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum XattrList {
    /// All but the hidden ones, and no `trusted.` for who may not read them.
    Visible,
    /// Only the hidden ones.
    Hidden,
}

#[derive(Debug)]
pub struct ListXattr {
    pub cred: Cred,
    pub ino: InodeNo,
    pub list: XattrList,
    /// Where the page before it ended.
    pub after: Option<XattrPlace>,
    /// Names, at least one.
    pub count_max: usize,
}

#[derive(Debug)]
pub struct XattrNames {
    pub names: Vec<Vec<u8>>,
    /// Where the next page begins, if there may be one; this one may be empty all the same.
    pub next: Option<XattrPlace>,
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
        let namespace = check_xattr(&self.name, &[])?;
        shard
            .read_with(|view| {
                let item = view.inode(self.ino)?;
                access::require(&self.cred, &item, Rights::READ)?;
                if !shows(&self.cred, namespace) {
                    return Err(FsError::NoXattr.into());
                }
                view.xattr(self.ino, &self.name)?.ok_or(FsError::NoXattr.into())
            })
            .await
    }
}

impl ListXattr {
    pub fn home(&self) -> InodeNo {
        self.ino
    }

    pub(crate) async fn run<D: Doors>(self, shard: &Rc<Shard<D>>) -> Result<XattrNames, FsError> {
        let ListXattr { cred, ino, list, after, count_max } = self;
        let wants = |namespace: XattrNamespace| {
            (list == XattrList::Hidden) == namespace.is_hidden() && shows(&cred, namespace)
        };
        let (names, next) = shard
            .read_with(|view| {
                let item = view.inode(ino)?;
                if list == XattrList::Hidden {
                    access::require(&cred, &item, Rights::READ)?;
                }
                view.xattr_names(ino, after, count_max.max(1), wants)
            })
            .await?;
        Ok(XattrNames { names, next })
    }
}

impl SetXattr {
    pub fn home(&self) -> InodeNo {
        self.ino
    }

    pub(crate) async fn run<D: Doors>(self, shard: &Rc<Shard<D>>) -> Result<Attr, FsError> {
        let namespace = check_xattr(&self.name, &self.value)?;
        if matches!(namespace, XattrNamespace::Tagged(tags) if tags.is_indexed()) {
            return Err(FsError::XattrIndex);
        }
        let bytes = Need::SMALL + self.value.len() + self.value.len() / 16;
        let need = Need::new(Class::Growing, &[self.ino.tablet()], bytes);
        let (attr, ticket) = shard
            .transact(need, |view| {
                let mut item = changeable(view, &self.cred, self.ino, namespace)?;
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
        let namespace = check_xattr(&self.name, &[])?;
        let need = Need::new(Class::Freeing, &[self.ino.tablet()], Need::SMALL);
        let (attr, ticket) = shard
            .transact(need, |view| {
                let mut item = changeable(view, &self.cred, self.ino, namespace)?;
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

fn shows(cred: &Cred, namespace: XattrNamespace) -> bool {
    cred.privileged || namespace != XattrNamespace::Trusted
}

fn changeable(
    view: &View<'_>,
    cred: &Cred,
    ino: InodeNo,
    namespace: XattrNamespace,
) -> Result<InodeItem, Stop> {
    let item = view.inode_to_change(ino)?;
    if item.nlink.get() == 0 {
        // What its deletion keeps of it is being decided (`remove.rs`).
        return Err(FsError::Stale.into());
    }
    match namespace {
        XattrNamespace::User => require_user(cred, &item)?,
        XattrNamespace::Trusted | XattrNamespace::Security | XattrNamespace::Tagged(_)
            if cred.privileged => {}
        XattrNamespace::Trusted | XattrNamespace::Security | XattrNamespace::Tagged(_) => {
            return Err(FsError::Permission.into());
        }
    }
    Ok(item)
}

/// What is the user's is as the data: retention keeps it as it is, mode bits say who may change it. Devices,
/// pipes and links have none, since their mode bits are not about what they hold.
fn require_user(cred: &Cred, item: &InodeItem) -> Result<(), FsError> {
    if item.flags & INODE_RETENTION != 0 {
        return Err(FsError::Permission);
    }
    match item.file_kind() {
        FileKind::Regular => {}
        FileKind::Directory => {
            let sticky = u32::from(item.mode.get()) & access::STICKY != 0;
            if sticky && !access::is_owner(cred, item) {
                return Err(FsError::Permission);
            }
        }
        FileKind::Symlink
        | FileKind::Block
        | FileKind::Character
        | FileKind::Fifo
        | FileKind::Socket => return Err(FsError::Permission),
    }
    access::require(cred, item, Rights::WRITE)
}

fn changed(view: &mut View<'_>, ino: InodeNo, item: &mut InodeItem) -> Attr {
    item.ctime = view.now.into();
    view.change_inode(ino, item);
    view.attr(ino, item)
}
