//! One changed byte, anywhere in anything that must be right, is found, and what is named is what
//! was hit.

use crate::clean::sound;
use crate::disk::check;
use crate::pool::Laid;
use cairn_base::prng::Prng;
use cairn_base::{BLOCK_BYTES, BlockNo, DeviceId};
use cairn_check::Finding;
use cairn_format::node::NODE_BYTES;
use cairn_format::superblock::{SUPERBLOCK_A, SUPERBLOCK_B, SUPERBLOCK_BYTES};

/// Flips `tries` bytes of what begins at each place, one at a time, and wants `named` in a finding.
fn flip_each(
    laid: &Laid,
    places: &[BlockNo],
    bytes: usize,
    tries: usize,
    named: impl Fn(&Finding, BlockNo) -> bool,
) -> usize {
    let mut prng = Prng::new(places.len() as u64);
    let mut flipped = 0;
    for place in places {
        for _ in 0..tries {
            let byte = prng.below(bytes as u64) as usize;
            let mask = 1 << prng.below(8);
            laid.disk.flip(*place, byte, mask);
            let report = check(&laid.disk).expect("it is a pool still");
            let found = report.findings.iter().any(|finding| named(finding, *place));
            assert!(found, "byte {byte} of {place} with mask {mask}: {:?}", report.findings);
            laid.disk.flip(*place, byte, mask);
            flipped += 1;
        }
    }
    assert!(check(&laid.disk).expect("it is a pool").is_clean());
    flipped
}

#[test]
fn a_flipped_byte_is_found_wherever_it_is() {
    let laid = sound(DeviceId(0)).lay();
    let at_block = |kind: &'static str| {
        move |finding: &Finding, at: BlockNo| {
            finding.kind == kind && finding.object.contains(&format!("{at}"))
        }
    };
    let mut flipped = 0;
    flipped += flip_each(&laid, &laid.nodes, NODE_BYTES, 2, at_block("node"));
    flipped += flip_each(&laid, &laid.filters, BLOCK_BYTES, 10, at_block("filter"));
    flipped += flip_each(&laid, &laid.data, BLOCK_BYTES, 1, |finding, at| {
        finding.kind == "data"
            && finding.object.contains("/big")
            && finding.detail.contains(&format!("{at}"))
    });
    // The older slot of tablet 1 is that of the root in the log: it may be half written.
    let roots: Vec<BlockNo> =
        laid.roots.iter().copied().filter(|at| *at != laid.roots[2]).collect();
    flipped += flip_each(&laid, &roots, BLOCK_BYTES, 10, at_block("root"));
    let superblocks = [SUPERBLOCK_A, SUPERBLOCK_B].map(|at| BlockNo::new(DeviceId(0), at));
    flipped += flip_each(&laid, &superblocks, SUPERBLOCK_BYTES, 10, at_block("superblock"));
    for (shard, batches) in laid.batches.iter().enumerate() {
        // All but the last, which nobody was told of.
        for (at, blocks) in &batches[..batches.len() - 1] {
            let bytes = *blocks as usize * BLOCK_BYTES;
            flipped += flip_each(&laid, &[*at], bytes, 10, |finding, at| {
                let place = format!("shard {shard}, block {at}");
                finding.kind == "log" && finding.object.contains(&place)
            });
        }
    }
    assert!(flipped >= 200, "{flipped}");
}

#[test]
fn a_block_that_cannot_be_read_is_named() {
    for (pick, kind) in [(0, "node"), (1, "filter"), (2, "data"), (3, "root"), (4, "log")] {
        let laid = sound(DeviceId(0)).lay();
        let at = match pick {
            0 => laid.nodes[3],
            1 => laid.filters[0],
            2 => laid.data[5],
            3 => laid.roots[1],
            _ => laid.batches[0][0].0,
        };
        laid.disk.make_unreadable(at);
        let report = check(&laid.disk).expect("it is a pool");
        let found = report.findings.iter().any(|f| f.kind == kind && f.detail.contains("errno 5"));
        assert!(found, "{kind}: {:?}", report.findings);
    }
}

#[test]
fn what_a_lost_node_held_is_not_reported_item_by_item() {
    let laid = sound(DeviceId(0)).lay();
    for at in &laid.nodes {
        laid.disk.flip(*at, 9000, 1);
        let report = check(&laid.disk).expect("it is a pool");
        let kinds: Vec<&str> = report.findings.iter().map(|finding| finding.kind).collect();
        assert_eq!(kinds, ["node"], "{at}: {:?}", report.findings);
        laid.disk.flip(*at, 9000, 1);
    }
}

#[test]
fn a_list_that_is_cut_still_has_the_whole_count() {
    let mut pool = sound(DeviceId(0));
    pool.tweak_totals = |_, totals| {
        totals.inodes += 1;
        totals.deletions += 1;
    };
    let options = cairn_check::CheckOptions { data: false, findings_max: 3 };
    let report = crate::disk::now(cairn_check::check(&pool.lay().disk, options, |_| {}));
    let report = report.expect("it is a pool");
    assert_eq!((report.findings.len(), report.findings_total), (3, 8));
}
