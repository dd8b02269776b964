//! ACCESS: which of the rights asked for somebody has.

use crate::access;
use crate::attr::{Attr, Rights};
use crate::cred::Cred;
use crate::error::FsError;
use crate::shard::Shard;
use cairn_base::door::Doors;
use cairn_format::InodeNo;
use std::rc::Rc;

#[derive(Debug)]
pub struct Access {
    pub cred: Cred,
    pub ino: InodeNo,
    pub want: Rights,
}

#[derive(Debug)]
pub struct Accessed {
    pub granted: Rights,
    pub attr: Attr,
}

impl Access {
    pub fn home(&self) -> InodeNo {
        self.ino
    }

    pub(crate) async fn run<D: Doors>(self, shard: &Rc<Shard<D>>) -> Result<Accessed, FsError> {
        shard
            .read_with(|view| {
                let item = view.inode(self.ino)?;
                let granted = Rights(access::granted(&self.cred, &item).0 & self.want.0);
                Ok(Accessed { granted, attr: view.attr(self.ino, &item) })
            })
            .await
    }
}
