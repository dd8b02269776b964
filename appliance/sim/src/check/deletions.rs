//! The change stream, from its beginning, knows exactly the inodes that are there, and tells of no
//! deletion of one that is.
//!
//! An agent that reads the stream and asks nothing else must come to the same inodes as a walk of the
//! tree. One that read before, and knew an inode that is gone since, must be told so.

use super::Unfit;
use super::stream::whole;
use crate::machine::Halt;
use crate::model::seen::Seen;
use crate::world::World;
use cairn_engine::{Change, What};
use cairn_format::InodeNo;
use std::collections::BTreeSet;

/// Inodes that were there at some time, after a start: nothing takes back that they were.
#[derive(Default)]
pub struct Deletions {
    known: BTreeSet<InodeNo>,
}

impl Deletions {
    pub fn note(&mut self, seen: &Seen) {
        self.known.extend(seen.nodes.keys());
    }

    /// For a pool at rest.
    pub fn check(&self, world: &mut World, seen: &Seen) -> Result<Result<(), Unfit>, Halt> {
        check(world, seen, &self.known)
    }
}

fn check(
    world: &mut World,
    seen: &Seen,
    before: &BTreeSet<InodeNo>,
) -> Result<Result<(), Unfit>, Halt> {
    let shard = world.shards()[0].clone();
    let read = world.machine().run(0, async move { whole(&shard).await })?;
    Ok(match read {
        Ok(changes) => judge(&changes, seen, before).map_err(Unfit::from),
        Err(error) => Err(Unfit::of(error, "the change stream")),
    })
}

fn judge(changes: &[Change], seen: &Seen, before: &BTreeSet<InodeNo>) -> Result<(), String> {
    let (mut known, mut gone) = (BTreeSet::new(), BTreeSet::new());
    for change in changes {
        match change.what {
            What::Deleted(_) if !gone.insert(change.ino) => {
                return Err(format!("inode {} is deleted twice", change.ino));
            }
            What::Deleted(_) => {}
            _ => _ = known.insert(change.ino),
        }
    }
    let there: BTreeSet<InodeNo> = seen.nodes.keys().copied().collect();
    if let Some(ino) = there.difference(&known).next() {
        return Err(format!("the change stream does not tell of inode {ino}"));
    }
    if let Some(ino) = known.difference(&there).next() {
        return Err(format!("the change stream tells of inode {ino}, which has no name"));
    }
    if let Some(ino) = before.iter().find(|ino| !there.contains(ino) && !gone.contains(ino)) {
        return Err(format!("the change stream does not tell that inode {ino} is gone"));
    }
    match there.intersection(&gone).next() {
        Some(ino) => Err(format!("the change stream says that inode {ino} is gone")),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::sample::{ino, seen};
    use cairn_engine::Gone;
    use cairn_engine::attr::FileKind;
    use cairn_format::Seq;

    fn change(raw: u64, what: What) -> Change {
        Change { seq: Seq(raw), ino: ino(raw), kind: FileKind::Regular, data_version: 0, what }
    }

    fn gone(raw: u64) -> Change {
        let name = b"x"[..].into();
        let (hidden_xattrs, hidden_xattrs_cut) = (Box::default(), false);
        let gone = Gone { parent: 1, name, hidden_xattrs, hidden_xattrs_cut };
        change(raw, What::Deleted(gone))
    }

    fn right() -> Vec<Change> {
        [1, 2, 3].map(|raw| change(raw, What::Metadata)).into()
    }

    /// Of which 9 is there no more.
    fn known() -> BTreeSet<InodeNo> {
        [1, 2, 9].map(ino).into()
    }

    #[test]
    fn what_is_there_and_what_is_gone_passes() {
        assert_eq!(judge(&[right(), vec![gone(9)]].concat(), &seen(), &known()), Ok(()));
    }

    #[test]
    fn what_is_left_out_made_up_or_said_to_be_gone_is_found() {
        assert!(judge(&[&right()[1..], &[gone(9)]].concat(), &seen(), &known()).is_err());
        assert!(
            judge(&[right(), vec![change(8, What::Created), gone(9)]].concat(), &seen(), &known())
                .is_err()
        );
        assert!(judge(&right(), &seen(), &known()).is_err());
        assert!(judge(&[right(), vec![gone(3), gone(9)]].concat(), &seen(), &known()).is_err());
        assert!(judge(&[right(), vec![gone(9), gone(9)]].concat(), &seen(), &known()).is_err());
    }
}
