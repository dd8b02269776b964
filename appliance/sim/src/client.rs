//! One request, carried out: from the model's terms to the engine's operations and back.
//!
//! This is what a frontend does, without a wire. Every request goes through `Shard::call` of the
//! shard its client is connected to, and may be routed from there.

use crate::model::act::{Act, NodeId, Place, Sync};
use crate::model::reading::Answer;
use crate::model::tree::Inodes;
use crate::nfs::NfsClient;
use crate::world::World;
use cairn_base::{BLOCK_BYTES, DmaBuf};
use cairn_engine::attr::{FileKind, Rdev, SetAttr};
use cairn_engine::error::FsError;
use cairn_engine::op::{self, CreateHow, Stability};
use cairn_engine::{Cred, Name, Shard};
use cairn_format::{EntryPosition, InodeNo};
use std::rc::Rc;

/// Bytes of one READ or WRITE.
pub const IO_BYTES_MAX: u32 = 1 << 20;

pub struct Client {
    pub shard: Rc<Shard<World>>,
    /// Asks over NFS what NFS has a call for.
    pub nfs: Option<Rc<NfsClient>>,
}

impl Client {
    /// `inodes` knows every node of `act`.
    pub async fn perform(&self, act: &Act, inodes: &Inodes) -> Answer {
        if let Some(nfs) = &self.nfs
            && let Some(answer) = nfs.perform(act, inodes).await
        {
            return answer;
        }
        match self.try_perform(act, inodes).await {
            Ok(answer) => answer,
            Err(error) => Answer::Refused(error),
        }
    }

    async fn try_perform(&self, act: &Act, inodes: &Inodes) -> Result<Answer, FsError> {
        let shard = &self.shard;
        let cred = Cred::root();
        let ino = |node: &NodeId| inodes[node];
        let place = |at: &Place| -> Result<(InodeNo, Name), FsError> {
            Ok((inodes[&at.dir], Name::parse(&at.name)?))
        };
        let created =
            |created: op::Created| Answer::Node { ino: created.ino, kind: created.attr.kind };
        match act {
            Act::Make { at, kind, mode } => {
                let (dir, name) = place(at)?;
                let set = SetAttr { mode: Some(*mode), ..SetAttr::default() };
                let made = match kind {
                    FileKind::Regular => {
                        let how = CreateHow::Guarded(set);
                        shard.call(op::Create { cred, dir, name, how }).await?
                    }
                    FileKind::Directory => shard.call(op::Mkdir { cred, dir, name, set }).await?,
                    &kind => {
                        let rdev = Rdev::default();
                        shard.call(op::Mknod { cred, dir, name, set, kind, rdev }).await?
                    }
                };
                Ok(created(made))
            }
            Act::Open { at, mode } => {
                let (dir, name) = place(at)?;
                let set = SetAttr { mode: Some(*mode), ..SetAttr::default() };
                let how = CreateHow::Unchecked(set);
                shard.call(op::Create { cred, dir, name, how }).await.map(created)
            }
            Act::Symlink { at, target } => {
                let (dir, name) = place(at)?;
                let (set, target) = (SetAttr::default(), target.clone());
                shard.call(op::Symlink { cred, dir, name, set, target }).await.map(created)
            }
            Act::Link { node, at } => {
                let (dir, name) = place(at)?;
                let link = op::Link { cred, ino: ino(node), dir, name };
                shard.call(link).await.map(|_| Answer::Done)
            }
            Act::Unlink { at } => {
                let (dir, name) = place(at)?;
                shard.call(op::Unlink { cred, dir, name }).await.map(|_| Answer::Done)
            }
            Act::Rmdir { at } => {
                let (dir, name) = place(at)?;
                shard.call(op::Rmdir { cred, dir, name }).await.map(|_| Answer::Done)
            }
            Act::Rename { from, to } => {
                let ((from_dir, from_name), (to_dir, to_name)) = (place(from)?, place(to)?);
                let rename = op::Rename { cred, from_dir, from_name, to_dir, to_name };
                shard.call(rename).await.map(|_| Answer::Done)
            }
            Act::Write { node, data, sync } => {
                let bytes = data.bytes();
                let stability = match sync {
                    Sync::Unstable => Stability::Unstable,
                    Sync::Data => Stability::DataSync,
                    Sync::File => Stability::FileSync,
                };
                let write = op::Write {
                    cred,
                    ino: ino(node),
                    offset: data.offset,
                    data: self.buffer(data.offset, &bytes),
                    len: bytes.len(),
                    stability,
                };
                shard.call(write).await.map(|_| Answer::Done)
            }
            Act::Commit { node, offset, len } => {
                let (offset, len) = (*offset, u64::from(*len));
                let commit = op::Commit { cred, ino: ino(node), offset, len };
                shard.call(commit).await.map(|_| Answer::Done)
            }
            Act::Truncate { node, size } => {
                let set = SetAttr { size: Some(*size), ..SetAttr::default() };
                let setattr = op::Setattr { cred, ino: ino(node), set, guard: None };
                shard.call(setattr).await.map(|_| Answer::Done)
            }
            Act::Chmod { node, mode, gid } => {
                let set = SetAttr { mode: Some(*mode), gid: Some(*gid), ..SetAttr::default() };
                let setattr = op::Setattr { cred, ino: ino(node), set, guard: None };
                shard.call(setattr).await.map(|_| Answer::Done)
            }
            Act::SetXattr { node, name, value } => {
                let (ino, name, value) = (ino(node), name.to_vec(), value.clone());
                let how = op::XattrSet::Any;
                let set = op::SetXattr { cred, ino, name, value, how };
                shard.call(set).await.map(|_| Answer::Done)
            }
            Act::RemoveXattr { node, name } => {
                let remove = op::RemoveXattr { cred, ino: ino(node), name: name.to_vec() };
                shard.call(remove).await.map(|_| Answer::Done)
            }
            Act::Lookup { at } => {
                let (dir, name) = place(at)?;
                let found = shard.call(op::Lookup { cred, dir, name }).await?;
                Ok(Answer::Node { ino: found.child, kind: found.kind })
            }
            Act::List { dir } => {
                let entries = self.list(ino(dir)).await?;
                let entry = |e: op::Dirent| (e.name.as_slice().into(), e.ino, e.kind);
                Ok(Answer::Listing(entries.into_iter().map(entry).collect()))
            }
            Act::Read { node, offset, len } => {
                let (bytes, eof) = self.read(ino(node), *offset, *len).await?;
                Ok(Answer::Bytes { bytes, eof })
            }
            Act::Stat { node } => {
                let attr = shard.call(op::Getattr { ino: ino(node) }).await?;
                let (kind, mode, nlink, size) = (attr.kind, attr.mode, attr.nlink, attr.size);
                Ok(Answer::Stat { kind, mode, nlink, size })
            }
        }
    }

    /// Small pages, so that listings take several operations.
    pub async fn list(&self, dir: InodeNo) -> Result<Vec<op::Dirent>, FsError> {
        let (mut entries, mut after) = (Vec::new(), EntryPosition(0));
        loop {
            let cred = Cred::root();
            let page = op::Readdir { cred, dir, after, count_max: 5 };
            let page = self.shard.call(page).await?;
            if let Some(last) = page.entries.last() {
                after = last.position;
            }
            let ended = page.eof || page.entries.is_empty();
            entries.extend(page.entries);
            if ended {
                return Ok(entries);
            }
        }
    }

    pub async fn read(
        &self,
        ino: InodeNo,
        offset: u64,
        len: u32,
    ) -> Result<(Vec<u8>, bool), FsError> {
        let data = self.shard.call(op::Read { cred: Cred::root(), ino, offset, len }).await?;
        Ok((data.to_vec(), data.eof))
    }

    /// The payload lies in the buffer as it will lie in the file's first block.
    fn buffer(&self, offset: u64, bytes: &[u8]) -> DmaBuf {
        let start = (offset % BLOCK_BYTES as u64) as usize;
        let mut buf = self.shard.arena().alloc(start + bytes.len());
        // What surrounds the payload is not the file's: make it visible if it gets there.
        buf.fill(0xee);
        buf[start..start + bytes.len()].copy_from_slice(bytes);
        buf
    }
}
