//! The change stream, from its beginning, knows exactly the inodes that are there, and tells of no
//! deletion of one that is.
//!
//! An agent that reads the stream and asks nothing else must come to the same inodes as a walk of the
//! tree. Those that were removed before it read are deletions to it, or nothing.

use crate::machine::Halt;
use crate::model::seen::Seen;
use crate::world::World;
use cairn_engine::error::FsError;
use cairn_engine::{Change, What};
use cairn_format::{InodeNo, Seq};
use std::collections::BTreeSet;

const PAGE: usize = 50;

/// For a pool at rest.
pub fn check(world: &mut World, seen: &Seen) -> Result<Result<(), String>, Halt> {
    let shard = world.shards()[0].clone();
    let read = world.machine().run(0, async move {
        let (mut all, mut from) = (Vec::new(), (Seq(0), 0));
        loop {
            let page = shard.changes(from, (Seq(u64::MAX), u64::MAX), PAGE).await?;
            let Some(last) = page.last() else { return Ok::<_, FsError>(all) };
            from = (last.seq, last.ino.raw() + 1);
            all.extend(page);
        }
    })?;
    Ok(match read {
        Ok(changes) => judge(&changes, seen),
        Err(error) => Err(format!("the change stream: {error}")),
    })
}

fn judge(changes: &[Change], seen: &Seen) -> Result<(), String> {
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

    fn change(raw: u64, what: What) -> Change {
        Change { seq: Seq(raw), ino: ino(raw), kind: FileKind::Regular, data_version: 0, what }
    }

    fn gone(raw: u64) -> Change {
        change(raw, What::Deleted(Gone { parent: 1, name: b"x"[..].into() }))
    }

    fn right() -> Vec<Change> {
        [1, 2, 3].map(|raw| change(raw, What::Metadata)).into()
    }

    #[test]
    fn what_is_there_and_what_is_gone_passes() {
        assert_eq!(judge(&[right(), vec![gone(9)]].concat(), &seen()), Ok(()));
    }

    #[test]
    fn what_is_left_out_made_up_or_said_to_be_gone_is_found() {
        assert!(judge(&right()[1..], &seen()).is_err());
        assert!(judge(&[right(), vec![change(9, What::Created)]].concat(), &seen()).is_err());
        assert!(judge(&[right(), vec![gone(3)]].concat(), &seen()).is_err());
        assert!(judge(&[right(), vec![gone(9), gone(9)]].concat(), &seen()).is_err());
    }
}
