//! What is left of inodes without a name is removed in the background, in bounded steps. After a
//! crash the orphan items say where to go on.

use crate::data::{self, Progress};
use crate::error::FsError;
use crate::limits::REMOVE_STEP_ITEMS;
use crate::op::unlink::REMOVAL_BYTES;
use crate::shard::Shard;
use crate::trouble::{During, Trouble};
use crate::txn::{Class, Need};
use cairn_base::Nanos;
use cairn_base::door::Doors;
use cairn_format::key::{Key, ParsedKey, RANGE_ORPHAN};
use cairn_format::{InodeNo, TabletId};
use std::rc::Rc;

/// Until an orphan that could not be removed is tried again.
const RETRY: Nanos = Nanos::from_secs(1);

impl<D: Doors> Shard<D> {
    /// The task that removes orphans; ends when the shard stops.
    pub(crate) async fn run_removals(self: Rc<Self>) {
        let mut failed = None;
        let mut under_way = None;
        loop {
            let due = self.pace.until(|| {
                if self.is_stopping() || self.log.has_failed() {
                    return Some(None);
                }
                let with =
                    self.core.tablets().filter(|tablet| tablet.totals.get().orphans.get() > 0);
                // One that cannot be removed is not to keep those of other tablets waiting.
                with.map(|tablet| tablet.id).max_by_key(|id| (Some(*id) != failed, *id)).map(Some)
            });
            let Some(tablet) = due.await else { return };
            match self.remove_one(tablet, under_way.take()).await {
                Ok(more) => {
                    (failed, under_way) = (None, more);
                    self.handle.yield_now().await;
                }
                Err(FsError::Stopped) => return,
                // Full, or damaged, or a neighbour is busy: the orphan stays for now.
                Err(_) => {
                    failed = Some(tablet);
                    self.handle.sleep(RETRY).await;
                }
            }
        }
    }

    /// One step for the first orphan of a tablet; gives how far it has come if that was not the last.
    async fn remove_one(
        self: &Rc<Self>,
        tablet: TabletId,
        under_way: Option<(InodeNo, Progress)>,
    ) -> Result<Option<(InodeNo, Progress)>, FsError> {
        let prefix = Key::of_range(RANGE_ORPHAN);
        let found = self.read_with(|view| view.first(tablet, prefix, prefix.prefix_end())).await?;
        let ino = found.and_then(|(key, _)| match key.parse() {
            Some(ParsedKey::Orphan(ino)) => Some(ino),
            _ => None,
        });
        let Some(ino) = ino else { return Ok(None) };
        let done = under_way.filter(|(of, _)| *of == ino).map(|(_, done)| done);
        let more = self.remove_orphan_step(ino, done.unwrap_or_default()).await;
        let more = more.inspect_err(|&error| {
            if error.is_trouble() {
                self.note(Trouble { during: During::Removal, ino: Some(ino), error });
            }
        })?;
        Ok(more.map(|done| (ino, done)))
    }

    async fn remove_orphan_step(
        self: &Rc<Self>,
        ino: InodeNo,
        done: Progress,
    ) -> Result<Option<Progress>, FsError> {
        let need = Need::new(Class::Freeing, &[ino.tablet()], REMOVAL_BYTES);
        let step = self.transact(need, |view| {
            let mut item = view.inode_to_change(ino)?;
            let mut left = REMOVE_STEP_ITEMS;
            let more = data::remove_data_step(view, ino, &mut item, done, &mut left)?;
            view.change_inode(ino, &mut item);
            if more.is_some() || view.finish_orphan(ino, &item, left)? {
                return Ok(more);
            }
            Ok(Some(done))
        });
        Ok(step.await?.0)
    }
}
