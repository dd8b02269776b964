//! Log trees of a tablet that stay as they are, since damage is in the way of what would be done with
//! them.
//!
//! A step of a fold or merge that meets a damaged node cannot be made, now or later. That is no reason
//! to stop the shard, with all its other tablets: nothing was named yet, readers ask the same trees as
//! before, and only what lies in the damaged node cannot be read. So the step is dropped, the operator
//! is told, and the log tree is barred until the next start: the oldest one from folding, where a fold
//! fails, whichever of the trees is to blame; the one that could not be read from merging. Younger ones
//! merge among themselves, so the tablet goes on with freezes and merges alone, however long.
//!
//! Only where so many are barred that those between them can neither merge nor fold is the tablet
//! *stuck*. Its memtable may still become a log tree in the last places that a root has, so that it does
//! not hold back the log; and who would change the tablet is refused with the damage that began it.
//!
//! The same holds for free runs that cannot be read: they are done without (`space/acquire.rs`).

use crate::error::FsError;
use crate::shard::Shard;
use crate::tablet::Tablet;
use crate::trouble::{During, Trouble};
use cairn_base::door::{Doors, MediaError};
use cairn_format::node::NodeRef;
use cairn_format::tablet_root::LOG_TREES_MAX;
use std::cell::{Cell, RefCell};

/// By their roots.
#[derive(Default)]
pub struct Barred {
    trees: RefCell<Vec<NodeRef>>,
    first: Cell<Option<FsError>>,
}

impl Barred {
    pub fn has(&self, root: &NodeRef) -> bool {
        self.trees.borrow().contains(root)
    }

    pub fn is_empty(&self) -> bool {
        self.first.get().is_none()
    }
}

/// Could something not be read? What a device did with a write is another matter: that stops the shard.
pub fn is_damage(error: FsError) -> bool {
    matches!(error, FsError::Corrupt { .. } | FsError::Media { error: MediaError::Read(_), .. })
}

impl<D: Doors> Shard<D> {
    /// Leaves a log tree alone from now on.
    pub(crate) fn bar(&self, tablet: &Tablet, tree: NodeRef, error: FsError) {
        tablet.barred.trees.borrow_mut().push(tree);
        tablet.barred.first.set(tablet.barred.first.get().or(Some(error)));
        self.note(Trouble { during: During::Upkeep(tablet.id), ino: None, error });
        self.pace.wake_all();
    }

    /// Why nothing may be added to the tablet any more, if so.
    pub(crate) fn stuck(&self, tablet: &Tablet) -> Option<FsError> {
        let error = tablet.barred.first.get()?;
        let may_go_on = tablet.has_room_for_log_tree()
            || !tablet.merges.is_empty()
            || self.step_of(tablet, true).is_some();
        (!may_go_on).then_some(error)
    }

    /// May it use the places for log trees that are kept from others?
    pub(crate) fn has_last_room(&self, tablet: &Tablet) -> bool {
        !tablet.barred.is_empty() && tablet.root.borrow().log_trees.len() < LOG_TREES_MAX
    }
}
