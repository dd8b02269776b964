//! COMMIT: what was written unstable is on stable media when this is answered, or the answer says
//! that it was lost.
//!
//! A loss is answered once, to the first COMMIT behind it, whatever its range: the file's buffered
//! data goes as a whole. The write verifier has changed by then.

use crate::attr::{Before, Change, FileKind};
use crate::cred::Cred;
use crate::data::blocks_of;
use crate::error::FsError;
use crate::shard::Shard;
use cairn_base::door::Doors;
use cairn_format::InodeNo;
use std::rc::Rc;

#[derive(Clone, Debug)]
pub struct Commit {
    pub cred: Cred,
    pub ino: InodeNo,
    pub offset: u64,
    /// 0 is to the end.
    pub len: u64,
}

#[derive(Clone, Copy, Debug)]
pub struct Committed {
    pub change: Change,
    /// Of the shard that holds the file.
    pub verifier: u64,
}

impl Commit {
    pub fn home(&self) -> InodeNo {
        self.ino
    }

    pub(crate) async fn run<D: Doors>(self, shard: &Rc<Shard<D>>) -> Result<Committed, FsError> {
        let ino = self.ino;
        let before = shard
            .read_with(|view| {
                let item = view.inode(ino)?;
                match item.file_kind() {
                    FileKind::Regular => Ok(Before::of(&view.attr(ino, &item))),
                    FileKind::Directory => Err(FsError::IsDirectory.into()),
                    _ => Err(FsError::Invalid.into()),
                }
            })
            .await?;
        let blocks = if self.len == 0 {
            self.offset / cairn_base::BLOCK_BYTES as u64..u64::MAX
        } else {
            blocks_of(self.offset, self.len)
        };
        let tablet = shard.core.tablet(ino.tablet());
        let overlay = tablet.overlays.get(ino);
        let placed = shard.place(ino, blocks).await;
        if let Some(overlay) = overlay {
            let failure = overlay.take_failure();
            tablet.overlays.drop_idle(&overlay);
            failure.map_or(Ok(()), Err)?;
        }
        placed?;
        let after = shard
            .read_with(|view| {
                let item = view.inode(ino)?;
                Ok(view.attr(ino, &item))
            })
            .await?;
        let verifier = shard.write_verifier();
        Ok(Committed { change: Change { before, after }, verifier })
    }
}
