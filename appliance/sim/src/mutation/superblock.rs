//! The superblock's copies: two on each device, which must say the same.

use super::Mutation;
use super::Which::{Mixed, Split};
use super::patient::Patient;
use cairn_base::{BlockNo, DeviceId};
use cairn_format::superblock::{SUPERBLOCK_BLOCKS, Superblock};

/// Where the newest copy lies on a device, and the one before it.
fn newest(p: &Patient<'_>, device: u8) -> BlockNo {
    BlockNo::new(DeviceId(device), Superblock::slot(p.superblock().generation.get()))
}

fn older(p: &Patient<'_>, device: u8) -> BlockNo {
    BlockNo::new(DeviceId(device), Superblock::slot(p.superblock().generation.get() + 1))
}

fn words(at: BlockNo) -> String {
    format!("superblock {at}")
}

pub const ALL: &[Mutation] = &[
    Mutation {
        name: "superblock-copies-differ",
        breaks: "two devices have different superblocks of one generation",
        pool: Split,
        finding: ["superblock", "differs from its copy on another device"],
        apply: |p| {
            let at = newest(p, 1);
            p.patch_superblock(at, |superblock| superblock.seq_ceiling += 1);
            Ok(words(at))
        },
    },
    Mutation {
        name: "superblock-of-another-key",
        breaks: "the copy to fall back to would file names under other hashes",
        pool: Mixed,
        finding: ["superblock", "in what never changes"],
        apply: |p| {
            let at = older(p, 0);
            p.patch_superblock(at, |superblock| superblock.name_key[3] ^= 1);
            Ok(words(at))
        },
    },
    Mutation {
        name: "superblock-of-another-pool",
        breaks: "one copy is of another pool",
        pool: Split,
        finding: ["superblock", "belongs to another pool"],
        apply: |p| {
            let at = older(p, 1);
            p.patch_superblock(at, |superblock| superblock.fsid[0] ^= 1);
            Ok(words(at))
        },
    },
    Mutation {
        name: "superblock-of-another-device",
        breaks: "one copy was written for another device",
        pool: Split,
        finding: ["superblock", "was written for device 0"],
        apply: |p| {
            let at = older(p, 1);
            p.patch_superblock(at, |superblock| superblock.device_index = 0);
            Ok(words(at))
        },
    },
    Mutation {
        name: "superblock-in-the-other-slot",
        breaks: "a copy lies where the other generation belongs",
        pool: Mixed,
        finding: ["superblock", "lies in the other generation's slot"],
        apply: |p| {
            let at = older(p, 0);
            p.patch_superblock(at, |superblock| superblock.generation -= 1);
            Ok(words(at))
        },
    },
    Mutation {
        name: "superblock-left-behind",
        breaks: "a device missed the last changes of the superblock",
        pool: Split,
        finding: ["superblock", "or one before"],
        apply: |p| {
            for at in [newest(p, 1), older(p, 1)] {
                p.patch_superblock(at, |superblock| superblock.generation -= 2);
            }
            Ok("device 1".into())
        },
    },
    Mutation {
        name: "superblock-copy-lost",
        breaks: "there is no copy to fall back to",
        pool: Mixed,
        finding: ["superblock", "not a device of a pool"],
        apply: |p| {
            let at = older(p, 0);
            p.copy.put(at, &vec![0; SUPERBLOCK_BLOCKS as usize * cairn_base::BLOCK_BYTES]);
            Ok(words(at))
        },
    },
    Mutation {
        name: "epoch-set-back",
        breaks: "roots are of an epoch that the superblock does not know",
        pool: Mixed,
        finding: ["root", "the pool's is"],
        apply: |p| {
            for at in [newest(p, 0), older(p, 0)] {
                p.patch_superblock(at, |superblock| superblock.epoch = 1.into());
            }
            Ok("root".into())
        },
    },
    Mutation {
        name: "device-shrunk",
        breaks: "the superblock lists more blocks than the device has",
        pool: Split,
        finding: ["device", "the superblock lists"],
        apply: |p| {
            for device in 0..2 {
                for at in [newest(p, device), older(p, device)] {
                    p.patch_superblock(at, |superblock| superblock.devices[1].blocks += 8);
                }
            }
            Ok("device 1".into())
        },
    },
];
