//! Log areas for shards that never were: when a pool is opened with more shards than it has logs
//! for, each new shard gets its two areas out of tablet 1's free space.
//!
//! This happens while the pool is only read in: the areas are written full, the run is taken by one
//! more edit of tablet 1, as if it had been the last record of the old epoch, and the area stands in
//! the next superblock. Both become durable by the same superblock write; a crash before it leaves
//! free space that holds zeros.

use crate::block::{Absent, Pins, fetch_filter, fetch_node};
use crate::format_pool::fill;
use crate::log::MemtableBytes;
use crate::log::recover::{RecoveredEdit, RecoveredTablet};
use crate::open::{OpenError, PoolImage, revive};
use crate::pool::Pool;
use crate::shard::{Core, ShardConfig};
use crate::space::{Reads, RunSet, SPACE_TABLET};
use crate::txn::{Stop, View};
use cairn_base::Run;
use cairn_base::door::Disk;
use cairn_format::item::FreeRunItem;
use cairn_format::key::{Key, ParsedKey, Purpose};
use cairn_format::record::EditKind;
use cairn_format::superblock::{LOG_AREAS_MAX, LOG_RETIRING, LogArea};
use cairn_format::{Seq, ShardId};
use std::ops::ControlFlow;
use std::rc::Rc;
use zerocopy::IntoBytes;

impl PoolImage {
    /// Makes sure that each of `shards` shards has its two log areas.
    pub async fn grow_logs<K: Disk>(&mut self, disk: &K, shards: u16) -> Result<(), OpenError> {
        let table = self.superblock.log_table();
        let blocks = table.iter().map(|area| area.blocks.get()).max().unwrap_or(0);
        let has = |shard| table.iter().filter(|area| area.shard.get() == shard).count();
        let missing: Vec<u16> = (0..shards).flat_map(|s| vec![s; 2 - has(s).min(2)]).collect();
        if table.len() + missing.len() > LOG_AREAS_MAX {
            let most = (LOG_AREAS_MAX / 2) as u16;
            return Err(OpenError::TooManyShards { asked: shards, most });
        }
        for shard in missing {
            // Both areas of the shards before are there.
            let no_room =
                OpenError::NoRoomForLogs { asked: shards, most: shard, area_blocks: blocks };
            let run = self.take_unassigned(disk, blocks).await?.ok_or(no_room)?;
            fill(disk, run).await?;
            disk.flush(run.start.device())
                .await
                .map_err(|error| OpenError::Media { block: run.start, error })?;
            let mut area = LogArea::EMPTY;
            area.shard = shard.into();
            area.state = LOG_RETIRING;
            area.start = run.start.raw().into();
            area.blocks = blocks.into();
            let index = usize::from(self.superblock.log_count.get());
            self.superblock.logs[index] = area;
            self.superblock.log_count = (index as u16 + 1).into();
        }
        Ok(())
    }

    /// `None`: there is no such run.
    async fn take_unassigned<K: Disk>(
        &mut self,
        disk: &K,
        blocks: u64,
    ) -> Result<Option<Run>, OpenError> {
        let pool = Pool::of(&self.superblock, 1);
        let Some(held) = self.find_unassigned(disk, &pool, blocks).await? else { return Ok(None) };
        let taken = Run::new(held.start, blocks);
        let tablet = self.tablet_mut(SPACE_TABLET);
        let edit = |kind, key, value| RecoveredEdit { kind, key, value };
        let old = Key::free_run(Purpose::Unassigned, held.start);
        tablet.edits.push(edit(EditKind::Delete, old, Box::default()));
        for piece in RunSet::without(held, taken) {
            let key = Key::free_run(Purpose::Unassigned, piece.start);
            let item = FreeRunItem { blocks: piece.blocks.into() };
            tablet.edits.push(edit(EditKind::Put, key, item.as_bytes().into()));
        }
        let left = tablet.totals.free_unassigned.get() - blocks;
        tablet.totals.free_unassigned = left.into();
        Ok(Some(taken))
    }

    /// A free run of at least `blocks` on a device for metadata, as tablet 1 has it now.
    async fn find_unassigned<K: Disk>(
        &mut self,
        disk: &K,
        pool: &Pool,
        blocks: u64,
    ) -> Result<Option<Run>, OpenError> {
        let recovered = self.tablet_mut(SPACE_TABLET);
        let copy = RecoveredTablet {
            body: recovered.body.clone(),
            block_generation: recovered.block_generation,
            edits: recovered.edits.clone(),
            totals: recovered.totals,
            newest_seq: recovered.newest_seq,
        };
        let reads = Rc::new(Reads::default());
        let memory = MemtableBytes::default();
        let tablets = vec![revive(copy, &reads, &memory)];
        let config = ShardConfig::default();
        let core = Core::new(ShardId(0), pool.clone(), tablets, memory, reads, &config);
        let mut pins = Pins::default();
        loop {
            let view = View::new(&core, &pins, Seq(0), 0);
            let absent = match first_run(&view, pool, blocks) {
                Ok(found) => return Ok(found),
                Err(Stop::Fs(error)) => return Err(error.into()),
                Err(Stop::Locked(_)) => {
                    unreachable!("nothing holds an inode before anybody is served")
                }
                Err(Stop::Absent(absent)) => absent,
            };
            match absent {
                Absent::Node(at) => pins.pin(at, fetch_node(disk, &at).await?),
                Absent::Filter(tablet, at) => {
                    let filter = fetch_filter(disk, &at).await?;
                    core.tablet(tablet).keep_filter(&at, &filter);
                }
            }
        }
    }
}

fn first_run(view: &View<'_>, pool: &Pool, blocks: u64) -> Result<Option<Run>, Stop> {
    let prefix = Key::of_purpose(Purpose::Unassigned);
    let mut found = None;
    view.scan(SPACE_TABLET, prefix, prefix.prefix_end(), |key, value| {
        if let (Some(ParsedKey::FreeRun(_, start)), Ok(item)) =
            (key.parse(), FreeRunItem::parse(value))
            && let Ok(run) = item.run(start)
            && pool.usable(run).blocks >= blocks
            && pool.serves(start.device(), Purpose::Node)
        {
            found = Some(run);
            return ControlFlow::Break(());
        }
        ControlFlow::Continue(())
    })?;
    Ok(found)
}
