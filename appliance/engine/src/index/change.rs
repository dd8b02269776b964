//! What changed, in seq order, over all tablets.
//!
//! Each inode has one entry an index, in its own tablet; a walk merges the tablets (`merge.rs`). It is clamped to
//! the stable seq, so nothing can appear later at or below where it ended. A tablet whose newest seq
//! lies below the cursor is skipped unread: a page costs its answer and the tablets that changed.

use super::merge::{Read, merged};
use crate::error::FsError;
use crate::peer::{Answer, Ask, mismatch};
use crate::shard::Shard;
use crate::tablet::Tablet;
use cairn_base::door::Doors;
use cairn_format::key::{Key, ParsedKey, RANGE_DATA_SEQ, RANGE_META_SEQ};
use cairn_format::{InodeNo, Seq, ShardId};
use std::ops::ControlFlow;
use std::rc::Rc;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SeqIndex {
    Meta,
    Data,
}

impl SeqIndex {
    fn range(self) -> u8 {
        match self {
            SeqIndex::Meta => RANGE_META_SEQ,
            SeqIndex::Data => RANGE_DATA_SEQ,
        }
    }
}

/// A place in an index; the number need not be an inode's.
pub type Place = (Seq, u64);

impl<D: Doors> Shard<D> {
    /// Up to `max` entries of `from..=to`, in order, none above the stable seq. Fewer than `max`
    /// means that there are no more by now.
    pub async fn walk_seq(
        self: &Rc<Self>,
        index: SeqIndex,
        from: Place,
        to: Place,
        max: usize,
    ) -> Result<Vec<(Seq, InodeNo)>, FsError> {
        let stable = self.stable().await?;
        let to = to.min((stable, u64::MAX));
        if from > to || max == 0 {
            return Ok(Vec::new());
        }
        let range = index.range();
        let mut all = self.walk_here(range, from, to, max).await?;
        for id in (0..self.core.pool.shards).map(ShardId).filter(|id| *id != self.core.id) {
            match self.peers.ask(id, Ask::Walk { range, from, to, max }).await? {
                Answer::Walk(more) => all.extend(more?),
                other => mismatch(&other),
            }
        }
        all.sort_unstable();
        all.truncate(max);
        Ok(all)
    }

    pub(crate) async fn walk_here(
        self: &Rc<Self>,
        range: u8,
        from: Place,
        to: Place,
        max: usize,
    ) -> Result<Vec<(Seq, InodeNo)>, FsError> {
        let newest = |tablet: &Tablet| match range {
            RANGE_META_SEQ => tablet.newest_meta_seq.get(),
            _ => tablet.newest_data_seq.get(),
        };
        let tablets = self.core.tablets().filter(|tablet| newest(tablet) >= from.0);
        let read = ReadIndex { shard: self, range, to };
        let found = merged(&read, tablets.cloned().collect(), from, max).await?;
        // What was read is durable, since it is not above stable. What was not there may have left by a
        // change that is not: a crash would bring it back below where the walk has got to.
        self.settle(self.log.newest_ticket()).await?;
        Ok(found)
    }
}

struct ReadIndex<'a, D: Doors> {
    shard: &'a Rc<Shard<D>>,
    range: u8,
    to: Place,
}

impl<D: Doors> Read for ReadIndex<'_, D> {
    type Entry = (Seq, InodeNo);

    fn place(entry: &(Seq, InodeNo)) -> Place {
        (entry.0, entry.1.raw())
    }

    async fn read(
        &self,
        tablet: &Rc<Tablet>,
        from: Place,
        max: usize,
    ) -> Result<Vec<(Seq, InodeNo)>, FsError> {
        let first = Key::seq_position(self.range, from.0, from.1);
        let end = Key::seq_position(self.range, self.to.0, self.to.1).successor();
        let read = self.shard.read_with(|view| {
            let mut here = Vec::with_capacity(max);
            view.scan(tablet.id, first, end, |key, _| {
                match key.parse() {
                    Some(ParsedKey::MetaSeq(seq, ino) | ParsedKey::DataSeq(seq, ino)) => {
                        here.push((seq, ino));
                    }
                    _ => unreachable!("the range holds only this kind of key"),
                }
                if here.len() == max { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
            })?;
            Ok(here)
        });
        read.await
    }
}
