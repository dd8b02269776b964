//! The whole tree, read through the engine's own operations.
//!
//! Files up to a few MiB are read whole. Of larger ones, which are sparse, only the blocks are read
//! in which the model finds anything but zeros possible, with their neighbours. What cannot be read for
//! damage is left out and noted; whether there may be any is the caller's to say. What is offline is staged first
//! (`archive.rs`).

use crate::archive::Tapes;
use crate::client::{Client, IO_BYTES_MAX};
use crate::media::Block;
use crate::model::file::SeenFile;
use crate::model::seen::{Seen, SeenBody, SeenNode};
use cairn_base::BLOCK_BYTES;
use cairn_engine::attr::{Attr, FileKind};
use cairn_engine::error::FsError;
use cairn_engine::{Cred, op};
use cairn_format::InodeNo;
use std::collections::{BTreeMap, BTreeSet};

const BLOCK: u64 = BLOCK_BYTES as u64;
const WHOLE_BYTES_MAX: u64 = 4 << 20;

impl Client {
    /// The error names what could not be read.
    pub(crate) async fn read_back(
        &self,
        probes: &BTreeSet<u64>,
        tapes: &Tapes,
    ) -> Result<Seen, String> {
        let mut seen = Seen::default();
        let mut todo = vec![InodeNo::ROOT];
        while let Some(ino) = todo.pop() {
            if seen.nodes.contains_key(&ino) || seen.damaged.contains_key(&ino) {
                continue;
            }
            let mut damage = Vec::new();
            let node = match self.read_node(ino, probes, tapes, &mut damage).await {
                Ok(Ok(node)) => Some(node),
                Ok(Err(what)) => return Err(format!("inode {ino}: {what}")),
                Err(error) if error.is_trouble() => {
                    damage.push(error);
                    None
                }
                Err(error) => return Err(format!("inode {ino} cannot be read: {error}")),
            };
            if !damage.is_empty() {
                seen.damaged.insert(ino, damage);
            }
            let Some(node) = node else { continue };
            if let SeenBody::Directory(entries) = &node.body {
                todo.extend(entries.values());
            }
            seen.nodes.insert(ino, node);
        }
        Ok(seen)
    }

    async fn read_node(
        &self,
        ino: InodeNo,
        probes: &BTreeSet<u64>,
        tapes: &Tapes,
        damage: &mut Vec<FsError>,
    ) -> Result<Result<SeenNode, String>, FsError> {
        let mut attr: Attr = self.shard.call(op::Getattr { ino }).await?;
        if attr.kind == FileKind::Regular {
            attr = match self.bring_back(tapes, &attr).await? {
                Ok(attr) => attr,
                Err(what) => return Ok(Err(what)),
            };
        }
        let body = match attr.kind {
            FileKind::Directory => {
                let mut entries = BTreeMap::new();
                for entry in self.list(ino).await? {
                    entries.insert(entry.name.as_slice().into(), entry.ino);
                }
                SeenBody::Directory(entries)
            }
            FileKind::Regular => {
                SeenBody::File(self.read_file(ino, attr.size, probes, damage).await?)
            }
            FileKind::Symlink => {
                let readlink = op::Readlink { cred: Cred::root(), ino };
                SeenBody::Symlink(self.shard.call(readlink).await?.target)
            }
            _ => SeenBody::Other,
        };
        let mut xattrs = BTreeMap::new();
        for list in [op::XattrList::Visible, op::XattrList::Hidden] {
            for name in self.xattr_names(ino, list).await? {
                let get = op::GetXattr { cred: Cred::root(), ino, name: name.clone() };
                xattrs.insert(name.into(), self.shard.call(get).await?);
            }
        }
        let Attr { kind, mode, gid, nlink, data_version, meta_seq, data_seq, .. } = attr;
        let online_blocks = attr.online_blocks;
        Ok(Ok(SeenNode {
            kind,
            mode,
            gid,
            nlink,
            data_version,
            meta_seq,
            data_seq,
            online_blocks,
            xattrs,
            body,
        }))
    }

    async fn xattr_names(
        &self,
        ino: InodeNo,
        list: op::XattrList,
    ) -> Result<Vec<Vec<u8>>, FsError> {
        let (mut names, mut after) = (Vec::new(), None);
        loop {
            // So small that pages end, too.
            let page = op::ListXattr { cred: Cred::root(), ino, list, after, count_max: 2 };
            let page = self.shard.call(page).await?;
            names.extend(page.names);
            after = page.next;
            if after.is_none() {
                return Ok(names);
            }
        }
    }

    async fn read_file(
        &self,
        ino: InodeNo,
        size: u64,
        probes: &BTreeSet<u64>,
        damage: &mut Vec<FsError>,
    ) -> Result<SeenFile, FsError> {
        let mut blocks = BTreeMap::new();
        let mut wanted: BTreeSet<u64> = BTreeSet::new();
        if size <= WHOLE_BYTES_MAX {
            let mut offset = 0;
            while offset < size {
                let end = size.min(offset + u64::from(IO_BYTES_MAX));
                match self.read(ino, offset, IO_BYTES_MAX).await {
                    Ok((bytes, _)) if bytes.len() as u64 != end - offset => {
                        return Err(FsError::Invalid); // short of its own size
                    }
                    Ok((bytes, _)) => add_blocks(&mut blocks, offset / BLOCK, &bytes),
                    // Then one by one.
                    Err(error) if error.is_trouble() => {
                        damage.push(error);
                        wanted.extend(offset / BLOCK..end.div_ceil(BLOCK));
                    }
                    Err(error) => return Err(error),
                }
                offset += u64::from(IO_BYTES_MAX);
            }
        } else {
            let near = probes.iter().flat_map(|&n| [n.saturating_sub(1), n, n + 1]);
            wanted.extend(near.filter(|n| n * BLOCK < size));
        }
        for index in wanted {
            match self.read(ino, index * BLOCK, BLOCK as u32).await {
                Ok((bytes, _)) => add_blocks(&mut blocks, index, &bytes),
                Err(error) if error.is_trouble() => damage.push(error),
                Err(error) => return Err(error),
            }
        }
        Ok(SeenFile { size, blocks })
    }
}

fn add_blocks(blocks: &mut BTreeMap<u64, Block>, first: u64, bytes: &[u8]) {
    for (index, chunk) in (first..).zip(bytes.chunks(BLOCK_BYTES)) {
        let mut block = vec![0; BLOCK_BYTES];
        block[..chunk.len()].copy_from_slice(chunk);
        blocks.insert(index, block.into());
    }
}
