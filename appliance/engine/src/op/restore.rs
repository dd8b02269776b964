//! Restoring attributes: what an archive gives back to an inode that was made anew, and no client may set.
//! How a file's data becomes offline that was never here is in `data/restore.rs`.
//!
//! Without a version, times are all that is set, and of any inode. `meta_seq` moves, `data_seq` does not: the
//! archive has the data.

use crate::data::Restored;
use crate::error::FsError;
use crate::shard::Shard;
use cairn_base::door::Doors;
use cairn_format::InodeNo;
use std::rc::Rc;

#[derive(Clone, Debug)]
pub struct Restore {
    pub ino: InodeNo,
    pub set: Restored,
}

impl Restore {
    pub fn home(&self) -> InodeNo {
        self.ino
    }

    pub(crate) async fn run<D: Doors>(self, shard: &Rc<Shard<D>>) -> Result<(), FsError> {
        if self.set.is_nothing() {
            return Ok(());
        }
        self.set.check()?;
        shard.restore(self.ino, &self.set).await
    }
}
