//! Node space that tablets keep for what they owe, when others have none left.
//!
//! A tablet keeps node blocks for writing out and folding its memtables and log trees, several times what
//! those take themselves (`owed_blocks`). While zones are plenty that costs nothing. But a tablet that nobody
//! writes to any more keeps its log trees, as it has few, and with them the space: a pool whose files come and go
//! would in the end be full of it, and refuse writes with a quarter of it in use.
//!
//! So who wants to grow and finds no zone anywhere has tablets fold, the one that owes most first, until some
//! node zone is wholly free. That takes a while, which is better than ENOSPC. One at a time on each shard, and
//! never by the pacing task, which does the folding.

use crate::error::FsError;
use crate::peer::{Answer, Ask, mismatch};
use crate::shard::Shard;
use crate::tablet::Tablet;
use crate::txn::owed_blocks;
use cairn_base::Nanos;
use cairn_base::door::Doors;
use cairn_format::ShardId;
use std::rc::Rc;

impl<D: Doors> Shard<D> {
    /// True when zones came back to tablet 1; false when no tablet keeps enough for one.
    pub(crate) async fn fold_for_zones(self: &Rc<Self>) -> Result<bool, FsError> {
        let _turn = self.repay_turn.acquire(1).await;
        if self.fold_here_for_zones().await? {
            return Ok(true);
        }
        for shard in (0..self.core.pool.shards).map(ShardId).filter(|id| *id != self.core.id) {
            let folded = loop {
                match self.peers.ask(shard, Ask::FoldForZones).await {
                    Ok(Answer::Zone(folded)) => break folded?,
                    Ok(other) => mismatch(&other),
                    // Only until one of the calls before has been answered.
                    Err(FsError::Busy) => self.handle.sleep(Nanos::from_millis(1)).await,
                    Err(error) => return Err(error),
                }
            };
            if folded {
                return Ok(true);
            }
        }
        Ok(false)
    }

    pub(crate) async fn fold_here_for_zones(self: &Rc<Self>) -> Result<bool, FsError> {
        let nodes = self.core.pool.devices.iter().filter(|device| device.holds_nodes);
        let zone = nodes.map(|device| device.zone_blocks).min().unwrap_or(u64::MAX);
        let mut owing: Vec<(u64, Rc<Tablet>)> = self
            .core
            .tablets()
            .map(|tablet| (owed_blocks(tablet), tablet.clone()))
            .filter(|(owed, _)| *owed >= zone)
            .collect();
        owing.sort_by_key(|(owed, tablet)| (*owed, tablet.id));
        while let Some((_, tablet)) = owing.pop() {
            self.fold_all(&tablet).await?;
            if self.return_zones().await? {
                return Ok(true);
            }
        }
        Ok(false)
    }
}
