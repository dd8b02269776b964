//! What went wrong on a shard below the file system, for its operator.
//!
//! A client whose call meets damage or a device error hears EIO, and perhaps nobody reads its log. So the
//! shard keeps a note as well, of calls and of work that no call waits for, until the daemon takes the notes
//! and writes them down. There is room for a few: who floods them has seen the first ones.

use crate::error::FsError;
use crate::shard::Shard;
use cairn_base::door::Doors;
use cairn_format::{InodeNo, TabletId};
use std::cell::{Cell, RefCell};
use std::fmt;

/// Notes that are kept until somebody takes them.
const NOTES_MAX: usize = 64;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum During {
    /// An operation was answered with it; the operation's name.
    Operation(&'static str),
    /// What was buffered of a file is lost.
    WriteBack,
    /// A file without names cannot be removed, and keeps its space.
    Removal,
    /// An operation over tablets cannot be finished in this one.
    Finishing(TabletId),
    /// Log trees cannot be folded or merged, or free runs not be found.
    Upkeep(TabletId),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Trouble {
    pub during: During,
    /// Of calls, write-backs and removals.
    pub ino: Option<InodeNo>,
    pub error: FsError,
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Trouble { during, ino, error } = self;
        let ino = ino.map_or(0, InodeNo::raw);
        match during {
            During::Upkeep(tablet) => write!(
                f,
                "tablet {tablet} goes on without what cannot be read of its trees: {error}"
            ),
            During::Finishing(tablet) => write!(
                f,
                "an operation over tablets stays unfinished in tablet {tablet}: {error}; `cairn check` \
                 names what does not fit together"
            ),
            During::Operation(name) => write!(f, "{name} of inode {ino}: {error}"),
            During::WriteBack => write!(
                f,
                "buffered writes to inode {ino} are lost: {error}; clients hear it at COMMIT, and \
                 send again what they still have"
            ),
            During::Removal => {
                write!(f, "inode {ino} has no name left and cannot be removed: {error}")
            }
        }
    }
}

#[derive(Debug, Default)]
pub struct Troubles {
    notes: RefCell<Vec<Trouble>>,
    untold: Cell<u64>,
}

impl Troubles {
    fn note(&self, trouble: Trouble) {
        let mut notes = self.notes.borrow_mut();
        if notes.contains(&trouble) {
            return;
        }
        if notes.len() < NOTES_MAX {
            notes.push(trouble);
        } else {
            self.untold.set(self.untold.get() + 1);
        }
    }

    pub fn is_empty(&self) -> bool {
        self.notes.borrow().is_empty()
    }

    /// The notes since the last time, each once, and of how many more there was no room for.
    pub fn take(&self) -> (Vec<Trouble>, u64) {
        (self.notes.take(), self.untold.take())
    }
}

impl<D: Doors> Shard<D> {
    pub(crate) fn note(&self, trouble: Trouble) {
        if trouble.error.is_trouble() {
            self.core.counters.device_errors.add(1);
        }
        self.troubles.note(trouble);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn notes_are_kept_once_and_not_without_end() {
        let troubles = Troubles::default();
        let trouble = |raw| Trouble {
            during: During::Operation("Read"),
            ino: InodeNo::from_raw(raw),
            error: FsError::Stopped,
        };
        for raw in (1..=NOTES_MAX as u64 + 3).flat_map(|raw| [raw, raw]) {
            troubles.note(trouble(raw));
        }
        let (notes, untold) = troubles.take();
        assert_eq!((notes.len(), notes[0], untold), (NOTES_MAX, trouble(1), 6));
        assert!(troubles.is_empty());
        assert_eq!(troubles.take(), (Vec::new(), 0));
    }
}
