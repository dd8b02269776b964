//! Bytes from a disk may be anything. A single flipped bit is always noticed, and no bytes, however
//! made, bring a parser down.

use crate::sample::{self, FSID, HANDLE_KEY, inode};
use cairn_base::BLOCK_BYTES;
use cairn_base::hash::{crc32c, xxh3};
use cairn_base::prng::Prng;
use cairn_format::filter::{Filter, FilterRef};
use cairn_format::item::*;
use cairn_format::node::{NODE_BYTES, Node, NodeRef};
use cairn_format::record::{Batch, Record};
use cairn_format::superblock::{Superblock, log_tag};
use cairn_format::tablet_root::TabletRootBlock;
use cairn_format::{Key, TabletId};
use zerocopy::IntoBytes;

/// `accepts` must refuse `bytes` with any one bit of the looked-at bytes flipped.
fn every_flip_is_noticed(mut bytes: Vec<u8>, accepts: impl Fn(&[u8]) -> bool, step: usize) {
    assert!(accepts(&bytes));
    for bit in (0..bytes.len() * 8).step_by(step) {
        bytes[bit / 8] ^= 1 << (bit % 8);
        assert!(!accepts(&bytes), "bit {bit} flipped unnoticed");
        bytes[bit / 8] ^= 1 << (bit % 8);
    }
}

#[test]
fn any_flipped_bit_of_a_node_is_noticed() {
    for (bytes, at) in [sample::leaf(), sample::interior()] {
        every_flip_is_noticed(bytes, |bytes| Node::parse(bytes, &at).is_ok(), 1);
    }
}

#[test]
fn any_flipped_bit_of_a_filter_is_noticed() {
    let (bytes, at) = sample::filter();
    every_flip_is_noticed(bytes, |bytes| Filter::parse(bytes, &at).is_ok(), 1);
}

#[test]
fn any_flipped_bit_of_a_batch_is_noticed() {
    let accepts = |bytes: &[u8]| Batch::parse(bytes, log_tag(&HANDLE_KEY)).is_ok();
    every_flip_is_noticed(sample::batch(), accepts, 1);
}

#[test]
fn any_flipped_bit_of_a_root_is_noticed() {
    let accepts = |bytes: &[u8]| TabletRootBlock::parse(bytes, &FSID, TabletId(7)).is_ok();
    every_flip_is_noticed(sample::root_block(), accepts, 1);
}

#[test]
fn any_flipped_bit_of_a_superblock_is_noticed() {
    // Every seventh bit: each bit of a byte comes up, over all 64 KiB, in a seventh of the time.
    let bytes = sample::superblock().as_bytes().to_vec();
    every_flip_is_noticed(bytes, |bytes| Superblock::parse(bytes).is_ok(), 7);
}

const ROUNDS: usize = 100_000;

/// Random changes: flipped bits, foreign stretches, small numbers where lengths may be.
fn mutate(prng: &mut Prng, bytes: &mut [u8], hot: usize) {
    for _ in 0..1 + prng.below(4) {
        // Most of what matters is at the front.
        let reach = if prng.percent(70) { hot.min(bytes.len()) } else { bytes.len() };
        let at = prng.below(reach as u64) as usize;
        match prng.below(4) {
            0 => bytes[at] ^= 1 << prng.below(8),
            1 => bytes[at] = prng.next_u64() as u8,
            2 => bytes[at] = prng.below(40) as u8,
            _ => {
                let end = bytes.len().min(at + 8);
                prng.fill(&mut bytes[at..end]);
            }
        }
    }
}

/// Puts back the bytes of `original` that `mutate` may have changed.
fn restore(bytes: &mut [u8], original: &[u8]) {
    bytes.copy_from_slice(original);
}

#[test]
fn mutated_nodes_are_refused_or_readable() {
    let mut prng = Prng::new(4);
    let samples = [sample::leaf(), sample::interior()];
    let mut accepted = 0;
    for round in 0..ROUNDS {
        let (original, at) = &samples[round % 2];
        let mut bytes = original.clone();
        // The header and the slots, or the entries at the end.
        if prng.percent(50) {
            mutate(&mut prng, &mut bytes, 80);
        } else {
            mutate(&mut prng, &mut bytes[NODE_BYTES - 500..], 500);
        }
        // With the hash made right, the checks behind it are on their own.
        let at = NodeRef { hash: xxh3(&bytes).into(), ..*at };
        let Ok(node) = Node::parse(&bytes, &at) else { continue };
        accepted += 1;
        let keys: Vec<Key> = (0..node.count()).map(|index| node.key(index)).collect();
        assert!(keys.windows(2).all(|pair| pair[0] < pair[1]));
        for (index, key) in keys.iter().enumerate() {
            assert_eq!(node.search(key), Ok(index));
            if node.level() > 0 {
                node.child(index);
            }
        }
    }
    assert!((1000..ROUNDS).contains(&accepted), "{accepted} accepted: the test tests nothing");
}

#[test]
fn mutated_batches_are_refused_or_readable() {
    let mut prng = Prng::new(5);
    let original = sample::batch();
    let mut bytes = original.clone();
    let mut sound = 0;
    for _ in 0..ROUNDS {
        restore(&mut bytes, &original);
        mutate(&mut prng, &mut bytes[12..], 1800);
        let crc = crc32c(&bytes[12..]).to_le_bytes();
        bytes[8..12].copy_from_slice(&crc);
        let _ = Batch::header_of(&bytes);
        let Ok(batch) = Batch::parse(&bytes, log_tag(&HANDLE_KEY)) else { continue };
        sound += usize::from(walk(&batch));
    }
    assert!((1000..ROUNDS).contains(&sound), "{sound} sound: the test tests nothing");
}

/// Whether every record, section and edit is sound.
fn walk(batch: &Batch<'_>) -> bool {
    batch.records().all(|record| match record {
        Err(_) => false,
        Ok(Record::Trim(trim)) => trim.roots().count() < 1000,
        Ok(Record::Edits(edits)) => edits
            .sections()
            .all(|section| section.is_ok_and(|section| section.edits().all(|edit| edit.is_ok()))),
    })
}

#[test]
fn mutated_superblocks_and_roots_are_refused_or_readable() {
    let mut prng = Prng::new(6);
    let original = sample::root_block();
    let mut bytes = original.clone();
    for _ in 0..ROUNDS {
        restore(&mut bytes, &original);
        mutate(&mut prng, &mut bytes[12..], 1400);
        let crc = crc32c(&bytes[12..]).to_le_bytes();
        bytes[8..12].copy_from_slice(&crc);
        if let Ok(body) = TabletRootBlock::parse(&bytes, &FSID, TabletId(7)) {
            let _ = (body.log_trees().len(), body.fold_cursor());
        }
    }
    let original = sample::superblock().as_bytes().to_vec();
    let mut bytes = original.clone();
    for _ in 0..ROUNDS / 20 {
        restore(&mut bytes, &original);
        mutate(&mut prng, &mut bytes[12..3400], 120);
        let crc = crc32c(&bytes[12..]).to_le_bytes();
        bytes[8..12].copy_from_slice(&crc);
        if let Ok(superblock) = Superblock::parse(&bytes) {
            let _ = (superblock.device_table(), superblock.log_table());
        }
    }
}

#[test]
fn random_bytes_bring_no_parser_down() {
    let mut prng = Prng::new(7);
    let mut bytes = vec![0; NODE_BYTES];
    for round in 0..ROUNDS {
        let len = prng.below(600) as usize;
        prng.fill(&mut bytes[..len]);
        let some = &bytes[..len];
        let _ = Superblock::parse(some);
        let _ = TabletRootBlock::parse(some, &FSID, TabletId(1));
        let _ = Batch::header_of(some);
        let _ = Batch::parse(some, 0);
        let at = FilterRef { blocks: 1.into(), ..FilterRef::NONE };
        let _ = Filter::parse(&bytes[..BLOCK_BYTES], &at);
        if round % 16 == 0 {
            let _ = Node::parse(&bytes, &NodeRef::NONE);
        }
    }
}

#[test]
fn random_items_bring_no_parser_down() {
    let mut prng = Prng::new(8);
    let mut bytes = [0; 300];
    for _ in 0..ROUNDS {
        let len = prng.below(300) as usize;
        prng.fill(&mut bytes[..len]);
        // Small bytes make plausible lengths and kinds.
        if prng.percent(50) {
            bytes[..len].iter_mut().for_each(|byte| *byte &= 7);
        }
        let value = &bytes[..len];
        let _ = InodeItem::parse(value).map(|item| item.file_kind());
        let _ = LookupItem::parse(value);
        let _ = ReaddirHead::parse(value);
        let _ = ExtentHead::parse(value).map(|(head, _)| head.blocks());
        let _ = Checksums::parse(value);
        let _ = XattrHead::parse(value);
        let _ = OrphanHead::parse(value);
        let _ = DeletionHead::parse(value);
        let _ = TotlItem::parse(value);
        let _ = IndxItem::parse(value);
        let _ = QuotaRuleItem::parse(value);
        let _ = ProjectItem::parse(value);
        let _ = FreeRunItem::parse(value);
        let _ = FixityItem::parse(value);
        let _ = ConsumerHead::parse(value);
        let _ = TrimmedItem::parse(value);
        let _ = ScrubItem::parse(value);
        let _ = ScrubPlaceHead::parse(value);
        let _ = DamagedDataItem::parse(value);
        let _ = DamagedBlockHead::parse(value);
        if let Some(key) = Key::from_bytes(value) {
            let _ = (key.parse(), key.successor(), key.prefix_end());
        }
    }
    assert!(Key::from_bytes(&bytes).is_none());
    assert!(Key::from_bytes(Key::inode(inode(1)).as_bytes()).is_some());
}
