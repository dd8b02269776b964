//! What a device says about the pool: superblocks and root blocks, which an open reads before it
//! knows anything else.
//!
//! The first byte of an input: 1 mends the checksum, 2 takes the bytes as they are (else they are
//! filled up with zeros to a whole block), 4 is a root block.

use super::{Target, Verdict, filled, kind_of, mode_of};
use crate::specimen::{self, Specimen};
use cairn_base::BLOCK_BYTES;
use cairn_base::hash::crc32c;
use cairn_format::superblock::{LOG_UNUSED, SUPERBLOCK_BYTES, Superblock, SuperblockError};
use cairn_format::tablet_root::TabletRootBlock;
use cairn_format::{Damage, TabletId};
use zerocopy::{FromBytes, IntoBytes};

const MEND: u8 = 1;
const AS_IT_IS: u8 = 2;
const ROOT: u8 = 4;

pub const TARGET: Target = Target {
    name: "superblock",
    run,
    modes: 8,
    bytes_max: 40 << 10,
    heap_max: 512 << 10,
    specimens,
};

fn specimens() -> Vec<Specimen> {
    let whole = specimen::superblock();
    let (front, root) = (specimen::trimmed(whole.as_bytes()), specimen::root_block());
    vec![
        Specimen::new("superblock", &[&[0], front]),
        Specimen::new("superblock-mended", &[&[MEND], front]),
        Specimen::new("root", &[&[ROOT], specimen::trimmed(&root)]),
        Specimen::new("root-mended", &[&[ROOT | MEND], specimen::trimmed(&root)]),
        Specimen::new("root-whole", &[&[ROOT | AS_IT_IS], &root]),
        Specimen::new(
            "root-empty",
            &[&[ROOT | MEND], specimen::trimmed(&specimen::empty_root_block())],
        ),
    ]
}

pub fn run(input: &[u8]) -> Verdict {
    let (mode, bytes) = mode_of(input);
    let whole = if mode & ROOT == 0 { SUPERBLOCK_BYTES } else { BLOCK_BYTES };
    let mut block = filled(bytes, if mode & AS_IT_IS == 0 { whole } else { 0 });
    if mode & MEND != 0 {
        mend(&mut block, whole);
    }
    if mode & ROOT == 0 { superblock(&block) } else { root(&block, mode & MEND != 0) }
}

/// Puts the checksum in its place, behind the magic.
fn mend(block: &mut [u8], whole: usize) {
    if let Some((front, covered)) = block.get_mut(..whole).and_then(|b| b.split_at_mut_checked(12))
    {
        front[8..].copy_from_slice(&crc32c(covered).to_le_bytes());
    }
}

fn assert_sealed(block: &[u8], whole: usize) {
    let crc = crc32c(&block[12..whole]);
    assert_eq!(block[8..12], crc.to_le_bytes(), "accepted with a wrong checksum");
}

fn superblock(block: &[u8]) -> Verdict {
    let found = match Superblock::parse(block) {
        Ok(found) => found,
        Err(SuperblockError::NotAPool) => return Verdict::Refused("not a pool".into()),
        Err(SuperblockError::Damage(damage)) => return Verdict::Refused(kind_of(damage)),
        Err(SuperblockError::Version { .. }) => return Verdict::Refused("version".into()),
        Err(SuperblockError::IncompatFeatures { .. }) => {
            return Verdict::Refused("features".into());
        }
    };
    assert_sealed(block, SUPERBLOCK_BYTES);
    assert_eq!(found.as_bytes(), &block[..SUPERBLOCK_BYTES]);
    let mut again = Superblock::zeroed();
    again.as_mut_bytes().copy_from_slice(found.as_bytes());
    again.seal();
    assert!(*again == *found, "sealing again changes a sound superblock");

    let devices = found.device_table();
    assert!(devices[0].holds_meta());
    for device in devices {
        assert!(device.usable_blocks() <= device.blocks.get());
        assert!(device.zone_blocks.get() <= device.usable_blocks());
    }
    let used: Vec<_> = found.log_table().iter().filter(|log| log.state != LOG_UNUSED).collect();
    for (nth, log) in used.iter().enumerate() {
        let run = log.run();
        let device = &devices[usize::from(run.start.device().0)];
        assert!(run.end().index() <= device.blocks.get(), "a log area behind its device's end");
        // All pairs of a thousand areas would be most of the run.
        for other in used[..nth].iter().rev().take(8) {
            assert!(!run.overlaps(other.run()), "log areas overlap");
        }
    }
    let told = format!("{found:?}");
    assert!(!told.contains("handle_key"), "keys stay out of what is printed");
    Verdict::Accepted
}

fn root(block: &[u8], mended: bool) -> Verdict {
    // A mended one is read as what it says it is: else nearly all would stop at the first question.
    let mut wanted = (specimen::FSID, specimen::TABLET);
    if mended && let Ok((says, _)) = TabletRootBlock::ref_from_prefix(block) {
        wanted = (says.fsid, TabletId(says.body.tablet.get()));
    }
    let (fsid, tablet) = wanted;
    let body = match TabletRootBlock::parse(block, &fsid, tablet) {
        Ok(body) => body,
        Err(damage) => return Verdict::Refused(kind_of(damage)),
    };
    assert_sealed(block, BLOCK_BYTES);
    assert_eq!(body.check(), Ok::<(), Damage>(()));
    assert_eq!(body.tablet(), tablet);
    let mut again = *body;
    again.set_log_trees(body.log_trees());
    again.set_fold_cursor(body.fold_cursor().as_ref());
    assert_eq!(again, *body);
    let mut written = vec![0xee; BLOCK_BYTES];
    TabletRootBlock::seal(&again, &fsid, &mut written);
    assert_eq!(TabletRootBlock::parse(&written, &fsid, tablet), Ok(body));
    Verdict::Accepted
}
