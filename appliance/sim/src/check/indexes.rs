//! The change indexes say what a scan of all inodes says.
//!
//! Each inode is in the index of its newest seq exactly once, in seq order; a walk in small pages,
//! each from behind the last entry of the one before, meets all of them.

use super::Unfit;
use crate::machine::Halt;
use crate::model::seen::Seen;
use crate::world::World;
use cairn_engine::SeqIndex;
use cairn_engine::attr::FileKind;
use cairn_engine::error::FsError;
use cairn_format::{InodeNo, Seq};

const PAGE_ENTRIES: usize = 7;

type Entries = Vec<(Seq, InodeNo)>;

/// For a pool at rest, with nothing buffered.
pub fn check(world: &mut World, seen: &Seen) -> Result<Result<(), Unfit>, Halt> {
    let meta = seen.nodes.iter().map(|(&ino, node)| (node.meta_seq, ino)).collect();
    let files = seen.nodes.iter().filter(|(_, node)| node.kind == FileKind::Regular);
    let data = files.map(|(&ino, node)| (node.data_seq, ino)).filter(|(seq, _)| seq.0 > 0);
    let data = data.collect();
    Ok(compare(world, SeqIndex::Meta, meta)?.and(compare(world, SeqIndex::Data, data)?))
}

fn compare(
    world: &mut World,
    index: SeqIndex,
    mut right: Entries,
) -> Result<Result<(), Unfit>, Halt> {
    right.sort_unstable();
    let walked = match walk(world, index)? {
        Ok(walked) => walked,
        Err(error) => return Ok(Err(Unfit::of(error, &format!("{index:?} index")))),
    };
    if walked == right {
        return Ok(Ok(()));
    }
    let at = walked.iter().zip(&right).position(|(a, b)| a != b);
    let at = at.unwrap_or(walked.len().min(right.len()));
    let what = (walked.get(at), right.get(at));
    Ok(Err(format!("{index:?} index: entry {at} (walked, right) is {what:?}").into()))
}

fn walk(world: &mut World, index: SeqIndex) -> Result<Result<Entries, FsError>, Halt> {
    let shard = world.shards()[0].clone();
    world.machine().run(0, async move {
        let (mut all, mut from) = (Entries::new(), (Seq(0), 0));
        loop {
            let end = (Seq(u64::MAX), u64::MAX);
            let page = shard.walk_seq(index, from, end, PAGE_ENTRIES).await?;
            if let Some(&(seq, ino)) = page.last() {
                from = (seq, ino.raw() + 1);
            }
            let ended = page.len() < PAGE_ENTRIES;
            all.extend(page);
            if ended {
                return Ok(all);
            }
        }
    })
}
