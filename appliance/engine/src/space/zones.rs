//! Zones: the large aligned runs in which tablets take space from tablet 1 and give it back.

use super::RunSet;
use cairn_base::{BlockNo, Run};

/// The piece of `run` to hand out: the first aligned zones inside it, `zones` at most, else what there is
/// of it up to the next zone border. Pieces for nodes are whole node units.
pub fn zone_piece(run: Run, zone_blocks: u64, unit: u64, zones: u64) -> Option<Run> {
    let start = run.start.index().next_multiple_of(unit);
    let end = run.end().index();
    let aligned = start.next_multiple_of(zone_blocks);
    let (from, to) = if aligned + zone_blocks <= end {
        let whole = (end - aligned) / zone_blocks;
        (aligned, aligned + whole.min(zones.max(1)) * zone_blocks)
    } else {
        (start, end.min((start / zone_blocks + 1) * zone_blocks))
    };
    let blocks = to.saturating_sub(from) / unit * unit;
    (blocks > 0).then(|| Run::new(BlockNo::new(run.start.device(), from), blocks))
}

/// A whole aligned zone that is free in `set`.
pub fn find_wholly_free(set: &RunSet, zone_blocks: impl Fn(BlockNo) -> u64) -> Option<Run> {
    set.iter().rev().find_map(|run| {
        let zone = zone_blocks(run.start);
        let piece = zone_piece(run, zone, 1, 1)?;
        (piece.blocks == zone).then_some(piece)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use cairn_base::DeviceId;

    fn run(start: u64, blocks: u64) -> Run {
        Run::new(BlockNo::new(DeviceId(0), start), blocks)
    }

    #[test]
    fn a_zone_is_aligned_and_a_rest_is_what_there_is() {
        assert_eq!(zone_piece(run(100, 1000), 256, 4, 1), Some(run(256, 256)));
        assert_eq!(zone_piece(run(100, 1000), 256, 4, 2), Some(run(256, 512)));
        assert_eq!(zone_piece(run(100, 1000), 256, 4, 16), Some(run(256, 768)));
        assert_eq!(zone_piece(run(101, 20), 256, 4, 16), Some(run(104, 16)));
        assert_eq!(zone_piece(run(101, 3), 256, 4, 16), None);
    }
}
