//! What lies on the devices after a crash is a sound pool, says the verifier (`cairn check`), every
//! block of data read.
//!
//! It needs no machine and takes no simulated time. It is dear, so not every crash is looked at.

use crate::media::Media;
use crate::mutation::pool_copy::PoolCopy;

/// With the power off.
pub fn check(media: &Media) -> Result<(), String> {
    let report = PoolCopy::of(media).check();
    let report = report.map_err(|error| format!("the verifier refuses the pool: {error}"))?;
    match report.findings.first() {
        Some(finding) => Err(format!("the verifier: {finding:?}")),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scenario::DEVICE_BLOCKS;
    use crate::world::{World, WorldConfig};
    use cairn_base::BlockNo;
    use cairn_format::version::NODE_MAGIC;

    #[test]
    fn a_bit_in_a_node_is_found() {
        let config = WorldConfig {
            tablets: 2,
            device_blocks: vec![DEVICE_BLOCKS],
            fua: true,
            memtable_bytes: 64 << 10,
            log_blocks: 256,
        };
        let mut world = World::new(1, config);
        world.format().expect("formatted");
        world.crash();
        let mut media = world.media.borrow_mut();
        assert_eq!(check(&media), Ok(()));
        let is_node = |at: &BlockNo| {
            media.peek(*at).is_some_and(|block| block[..8] == NODE_MAGIC.to_le_bytes())
        };
        let node = media.written().into_iter().find(is_node).expect("format writes a tree");
        media.rot(node, 8 * 100);
        assert!(check(&media).is_err());
    }
}
