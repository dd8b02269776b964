//! READLINK: a symbolic link's text.

use crate::attr::{Attr, FileKind};
use crate::cred::Cred;
use crate::error::FsError;
use crate::shard::Shard;
use cairn_base::door::Doors;
use cairn_format::key::Key;
use cairn_format::{Damage, InodeNo};
use std::rc::Rc;

/// Anybody who can name a link may read it.
#[derive(Debug)]
pub struct Readlink {
    pub cred: Cred,
    pub ino: InodeNo,
}

#[derive(Debug)]
pub struct LinkText {
    pub target: Vec<u8>,
    pub attr: Attr,
}

impl Readlink {
    pub fn home(&self) -> InodeNo {
        self.ino
    }

    pub(crate) async fn run<D: Doors>(self, shard: &Rc<Shard<D>>) -> Result<LinkText, FsError> {
        let tablet = self.ino.tablet();
        shard
            .read_with(|view| {
                let item = view.inode(self.ino)?;
                if item.file_kind() != FileKind::Symlink {
                    return Err(FsError::Invalid.into());
                }
                let text = view.get(tablet, &Key::symlink(self.ino))?;
                let missing = view.damaged(tablet, Damage::Missing("symlink text"));
                let target = text.ok_or(missing)?.to_vec();
                Ok(LinkText { target, attr: view.attr(self.ino, &item) })
            })
            .await
    }
}
