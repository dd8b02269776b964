//! Several trees read as one, from the youngest's point of view: the items of neighbouring log trees
//! that become one log tree.
//!
//! Each key comes once, with what the youngest tree says about it. That may be a deletion mark, which
//! goes on as a mark: what it hides may lie in a tree that is older than all of these. Only a fold may
//! drop it.

use super::pack::Item;
use super::{Growing, Stream};
use crate::error::FsError;
use crate::sabotage::{Sabotage, planted};
use cairn_base::BlockNo;
use cairn_base::door::Disk;
use cairn_format::key::Key;
use cairn_format::tablet_root::TreeRef;

/// Which of the trees could not be read, and why.
#[derive(Clone, Copy, Debug)]
pub struct Unread {
    pub nth: usize,
    pub error: FsError,
}

/// Where a merge has come to in each of its trees.
pub struct Inputs {
    /// Oldest first.
    streams: Vec<Stream>,
}

impl Inputs {
    /// At the first item of each; `trees` come oldest first.
    pub async fn begin<K: Disk>(
        disk: &K,
        trees: impl Iterator<Item = &TreeRef>,
    ) -> Result<Inputs, Unread> {
        let mut streams = Vec::new();
        for (nth, tree) in trees.enumerate() {
            let stream = Stream::seek(disk, tree, &Key::MIN).await;
            streams.push(stream.map_err(|error| Unread { nth, error })?);
        }
        Ok(Inputs { streams })
    }

    /// Moves items to `out` until they are `bytes_max`, or there are no more. Shows each key to `each`.
    pub async fn take<K: Disk>(
        &mut self,
        disk: &K,
        bytes_max: usize,
        out: &mut Growing,
        mut each: impl FnMut(&Key),
    ) -> Result<(), Unread> {
        let mut bytes = 0;
        while bytes < bytes_max {
            let Some(key) = self.next_key() else { break };
            let youngest = self.streams.iter().rev().filter_map(Stream::peek);
            let found = youngest.into_iter().find(|(at, _, _)| *at == key);
            let (_, value, delete) = found.expect("the least key is one of theirs");
            bytes += crate::log::item_bytes(&key, value.len());
            if !(delete && planted(Sabotage::MergeDropsDeletion)) {
                each(&key);
                out.push(Item { key, value: value.into(), delete });
            }
            for (nth, stream) in self.streams.iter_mut().enumerate() {
                if stream.peek().is_some_and(|(at, _, _)| at == key) {
                    stream.step(disk).await.map_err(|error| Unread { nth, error })?;
                }
            }
        }
        Ok(())
    }

    pub fn is_at_end(&self) -> bool {
        self.next_key().is_none()
    }

    fn next_key(&self) -> Option<Key> {
        self.streams.iter().filter_map(|stream| stream.peek().map(|(key, _, _)| key)).min()
    }

    /// Where the nodes lie that were read since the last call. At the end these are all nodes of all trees.
    pub fn take_visited(&mut self) -> Vec<BlockNo> {
        self.streams.iter_mut().flat_map(Stream::take_visited).collect()
    }
}
