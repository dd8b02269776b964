//! The seqs and versions of an inode only grow, over crashes and whatever the wall clock is set to, and
//! none is above the ceiling that the logs have made durable.
//!
//! What is compared was read after a start, so it was durable then: nothing may take it back. An
//! inode number never stands for another inode later, so this holds for ever.

use crate::model::seen::Seen;
use cairn_format::{InodeNo, Seq};
use std::collections::BTreeMap;

/// The newest of each inode that was seen.
#[derive(Default)]
pub struct Seqs {
    newest: BTreeMap<InodeNo, (Seq, Seq, u64)>,
}

impl Seqs {
    /// `ceiling`: the highest of all shards.
    pub fn check(&mut self, seen: &Seen, ceiling: Seq) -> Result<(), String> {
        for (&ino, node) in &seen.nodes {
            let now = (node.meta_seq, node.data_seq, node.data_version);
            if now.0.max(now.1) > ceiling {
                return Err(format!("inode {ino} shows {now:?} above the ceiling {ceiling}"));
            }
            if let Some(before) = self.newest.insert(ino, now)
                && (before.0 > now.0 || before.1 > now.1 || before.2 > now.2)
            {
                return Err(format!(
                    "inode {ino} shows seqs and version {now:?}, and showed {before:?} before"
                ));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::sample::{ino, seen};

    #[test]
    fn what_grows_passes_and_what_goes_back_is_found() {
        let (mut seqs, mut seen) = (Seqs::default(), seen());
        assert_eq!(seqs.check(&seen, Seq(100)), Ok(()));
        seen.nodes.get_mut(&ino(3)).expect("there").meta_seq.0 += 1;
        assert_eq!(seqs.check(&seen, Seq(100)), Ok(()));
        seen.nodes.get_mut(&ino(3)).expect("there").meta_seq.0 -= 1;
        assert!(seqs.check(&seen, Seq(100)).is_err_and(|what| what.contains("before")));
        let (mut seqs, mut seen) = (Seqs::default(), crate::check::sample::seen());
        assert_eq!(seqs.check(&seen, Seq(100)), Ok(()));
        seen.nodes.get_mut(&ino(3)).expect("there").data_version -= 1;
        assert!(seqs.check(&seen, Seq(100)).is_err());
    }

    #[test]
    fn a_seq_above_the_ceiling_is_found() {
        assert!(Seqs::default().check(&seen(), Seq(49)).is_err_and(|what| what.contains("above")));
        assert_eq!(Seqs::default().check(&seen(), Seq(50)), Ok(()));
    }
}
