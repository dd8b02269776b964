//! The copies that have a place of their own: two of the superblock on each device, two of each tablet's
//! root. A pass looks at them as it begins a tablet; superblocks with tablet 0, which is shard 0's, since
//! that shard has what they must be.
//!
//! They are the only blocks that are written twice in one place, so one of them may be half written while
//! it is read. It is bad when it is so several times with pauses between, and nobody has written it
//! meanwhile.
//!
//! A root is in its record until the log is trimmed past it, and in the slot of its generation's lowest
//! bit from then on. That slot must have that root. The other one holds an older root, or nothing yet, or
//! what a power cut has left of a younger one that its record has: such a one is written again before
//! anything relies on it.

use super::found::{Damaged, What, media_cause};
use crate::shard::Shard;
use crate::tablet::Tablet;
use cairn_base::door::{Disk, Doors};
use cairn_base::{BLOCK_BYTES, BlockNo, DeviceId, Nanos};
use cairn_format::item::Cause;
use cairn_format::superblock::{SUPERBLOCK_BYTES, Superblock, SuperblockError, root_block};
use cairn_format::tablet_root::TabletRootBlock;
use cairn_format::{Damage, RootGeneration, TabletId};
use std::rc::Rc;

const TRIES: usize = 3;
const PAUSE: Nanos = Nanos::from_millis(20);

impl<D: Doors> Shard<D> {
    /// Gives how many bytes it has read.
    pub(super) async fn scrub_fronts(self: &Rc<Self>, id: TabletId) -> u64 {
        let mut found = Vec::new();
        let mut bytes = self.scrub_roots(id, &mut found).await;
        if id == TabletId(0) {
            bytes += self.scrub_superblocks(&mut found).await;
        }
        self.note_found(id, &found);
        bytes
    }

    async fn scrub_roots(&self, id: TabletId, found: &mut Vec<Damaged>) -> u64 {
        let tablet = self.core.tablet(id);
        for slot in [0, 1] {
            let block = root_block(id, RootGeneration(slot));
            if let Some(cause) = self.root_trouble(&tablet, block, slot).await {
                found.push(Damaged { tablet: id, block, what: What::Root, cause, pass: 0 });
            }
        }
        2 * BLOCK_BYTES as u64
    }

    async fn root_trouble(&self, tablet: &Tablet, block: BlockNo, slot: u64) -> Option<Cause> {
        let mut cause = None;
        for _ in 0..TRIES {
            let written = tablet.root_block_generation.get();
            let (buf, read) = self.disk.read(block, self.disk.arena().alloc(BLOCK_BYTES)).await;
            cause = match read {
                Err(error) => Some(media_cause(error)),
                Ok(()) => self.judge_root(tablet, &buf, slot).err().map(Cause::from),
            };
            cause?;
            self.handle.sleep(PAUSE).await;
            if tablet.root_block_generation.get() != written {
                // It was written under us: what stands there now is for the next look.
                cause = None;
            }
        }
        cause
    }

    fn judge_root(&self, tablet: &Tablet, bytes: &[u8], slot: u64) -> Result<(), Damage> {
        let newest = tablet.root_block_generation.get();
        let is_newest = newest & 1 == slot;
        let found = match TabletRootBlock::parse(bytes, &self.core.pool.fsid, tablet.id) {
            Ok(body) => body.generation.get(),
            Err(_) if !is_newest && bytes.iter().all(|byte| *byte == 0) => return Ok(()),
            Err(_) if !is_newest && self.is_to_be_written(tablet, slot) => return Ok(()),
            Err(damage) => return Err(damage),
        };
        if found & 1 != slot || is_newest && found < newest {
            return Err(Damage::Stale { found });
        }
        Ok(())
    }

    /// Is the tablet's newest root, which is only in its record yet, for this slot?
    fn is_to_be_written(&self, tablet: &Tablet, slot: u64) -> bool {
        tablet.root.borrow().generation & 1 == slot
    }

    async fn scrub_superblocks(&self, found: &mut Vec<Damaged>) -> u64 {
        // Nobody writes one meanwhile.
        let Some((newest, _held)) = self.growth.hold().await else { return 0 };
        let mut bytes = 0;
        for index in 0..self.core.pool.devices.len() {
            for expected in [newest, newest - 1] {
                let device = DeviceId(index as u8);
                let block = BlockNo::new(device, Superblock::slot(expected));
                let mut cause = self.superblock_trouble(block, expected).await;
                if cause.is_some() {
                    cause = self.superblock_trouble(block, expected).await;
                }
                let damaged = |cause| {
                    let what = What::Superblock;
                    Damaged { tablet: TabletId(0), block, what, cause, pass: 0 }
                };
                found.extend(cause.map(damaged));
                bytes += SUPERBLOCK_BYTES as u64;
            }
        }
        bytes
    }

    /// Both slots were written when the epoch began, and each time since then.
    async fn superblock_trouble(&self, block: BlockNo, expected: u64) -> Option<Cause> {
        let (buf, read) = self.disk.read(block, self.disk.arena().alloc(SUPERBLOCK_BYTES)).await;
        if let Err(error) = read {
            return Some(media_cause(error));
        }
        let damage = match Superblock::parse(&buf) {
            Ok(found) if found.fsid != self.core.pool.fsid => Damage::Value("superblock fsid"),
            Ok(found) if found.device_index != block.device().0 => {
                Damage::Misdirected { claims: u64::from(found.device_index) }
            }
            Ok(found) if found.generation.get() != expected => {
                Damage::Stale { found: found.generation.get() }
            }
            Ok(_) => return None,
            Err(SuperblockError::Damage(damage)) => damage,
            Err(SuperblockError::NotAPool) => Damage::Magic { found: 0 },
            Err(_) => Damage::Value("superblock version"),
        };
        Some(damage.into())
    }
}
