//! A file counts the blocks that it has: at least those that hold anything, and no more than its size
//! has room for.
//!
//! Exact counts are the whole verifier's (`whole.rs`), which sees the extents; this one sees what a
//! client sees. For a pool with nothing buffered.

use crate::model::seen::{Seen, SeenBody};
use cairn_base::BLOCK_BYTES;

pub fn check(seen: &Seen) -> Result<(), String> {
    for (&ino, node) in &seen.nodes {
        let SeenBody::File(file) = &node.body else { continue };
        let full = file.blocks.values().filter(|block| block.iter().any(|&byte| byte != 0));
        let (least, most) = (full.count() as u64, file.size.div_ceil(BLOCK_BYTES as u64));
        if let Some((last, _)) = file.blocks.last_key_value()
            && *last >= most
        {
            return Err(format!("inode {ino} of {} bytes shows a block {last}", file.size));
        }
        if node.online_blocks < least || node.online_blocks > most {
            let (blocks, size) = (node.online_blocks, file.size);
            return Err(format!(
                "inode {ino} counts {blocks} blocks, with {least} full ones in {size} bytes"
            ));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::sample::{ino, seen};

    #[test]
    fn a_file_that_counts_right_passes() {
        assert_eq!(check(&seen()), Ok(()));
    }

    #[test]
    fn too_few_and_too_many_blocks_are_found() {
        for wrong in [0, 1, 4] {
            let mut seen = seen();
            seen.nodes.get_mut(&ino(3)).expect("it is there").online_blocks = wrong;
            assert!(check(&seen).is_err(), "{wrong} blocks");
        }
    }

    #[test]
    fn a_block_behind_the_end_is_found() {
        let mut seen = seen();
        let node = seen.nodes.get_mut(&ino(3)).expect("it is there");
        let SeenBody::File(file) = &mut node.body else { panic!("it is a file") };
        file.size = 4096;
        assert!(check(&seen).is_err());
    }
}
