//! Many pieces of new content in one record, against a model that knows each block by itself.

use super::*;
use crate::data::map::checksum_of;
use crate::data::place::{Placed, addresses, extents_of, runs_of};
use crate::data::replace::{Content, NewExtent, replace};
use cairn_format::key::Purpose;

/// Two MiB and a half.
const BLOCKS: u64 = 640;

#[derive(Clone, Debug, PartialEq, Eq)]
enum Holds {
    Run { at: BlockNo, crc: u32 },
    Inline(Vec<u8>),
}

type Model = BTreeMap<u64, Holds>;

/// What the map says, block by block. Extents that meet in the file and on the device are one.
async fn shown(shard: &TestShard, ino: InodeNo) -> Model {
    let found = shard.read_with(|view| {
        let all = map::extents(view, ino, 0..BLOCKS)?;
        Ok((all, map::checksums(view, ino, 0..BLOCKS)?))
    });
    let (extents, sums) = found.await.expect("the map is readable");
    assert!(extents.windows(2).all(|pair| !pair[0].goes_on_in(&pair[1])), "{extents:?}");
    let mut model = Model::new();
    for extent in &extents {
        for block in extent.first_block..extent.end_block() {
            let held = match (&extent.inline, extent.run(&(block..block + 1))) {
                (Some(bytes), None) => Holds::Inline(bytes.to_vec()),
                (None, Some(run)) => {
                    let crc = checksum_of(&sums, block).expect("what is mapped has a checksum");
                    Holds::Run { at: run.start, crc }
                }
                both => panic!("an extent is inline or on the device: {both:?}"),
            };
            model.insert(block, held);
        }
    }
    model
}

/// Blocks in some stretches, whose device blocks follow on each other or do not.
async fn put_runs(shard: &TestShard, ino: InodeNo, random: &RefCell<Prng>, model: &mut Model) {
    let below = |bound| random.borrow_mut().below(bound);
    let mut blocks: Vec<u64> = Vec::new();
    let mut next = below(BLOCKS);
    while next < BLOCKS && blocks.len() < 200 {
        let end = (next + 1 + below(40)).min(BLOCKS);
        blocks.extend(next..end);
        next = end + [0, 1, 3, 300][below(4) as usize];
    }
    let tablet = shard.core.tablet(ino.tablet());
    let held = shard.reserve_data(&tablet, 2 * blocks.len() as u64).await.expect("room");
    // Some of what is reserved is left out, so that runs end.
    let mut at = addresses(&held).filter(|_| below(10) > 0);
    let placed: Vec<Placed> = blocks
        .iter()
        .map(|block| {
            let at = at.next().expect("twice as many are reserved");
            Placed::new(*block, BLOCK, at, &below(u64::MAX).to_le_bytes())
        })
        .collect();
    let need = Need::new(Class::Growing, &[ino.tablet()], 100_000);
    let done = shard.transact(need, |view| {
        let mut item = view.inode_to_change(ino)?;
        replace(view, ino, &mut item, &extents_of(&placed))?;
        for run in runs_of(&placed) {
            view.take_run(ino.tablet(), Purpose::Data, run);
        }
        item.size = (BLOCKS * BLOCK).into();
        view.change_inode(ino, &mut item);
        Ok(())
    });
    done.await.expect("room");
    for one in &placed {
        model.insert(one.block, Holds::Run { at: one.at, crc: one.crc });
    }
}

async fn put_inline(shard: &TestShard, ino: InodeNo, random: &RefCell<Prng>, model: &mut Model) {
    let below = |bound| random.borrow_mut().below(bound);
    let blocks: BTreeSet<u64> = (0..1 + below(4)).map(|_| below(BLOCKS)).collect();
    let bytes: Vec<(u64, Vec<u8>)> = blocks
        .into_iter()
        .map(|block| (block, vec![below(256) as u8; 1 + below(BLOCK) as usize]))
        .collect();
    let new: Vec<NewExtent<'_>> = bytes
        .iter()
        .map(|(block, bytes)| NewExtent {
            first_block: *block,
            length: bytes.len() as u64,
            content: Content::Inline(bytes),
        })
        .collect();
    let need = Need::new(Class::Growing, &[ino.tablet()], 100_000);
    let done = shard.transact(need, |view| {
        let mut item = view.inode_to_change(ino)?;
        replace(view, ino, &mut item, &new)?;
        item.size = (BLOCKS * BLOCK).into();
        view.change_inode(ino, &mut item);
        Ok(())
    });
    done.await.expect("room");
    for (block, bytes) in bytes {
        model.insert(block, Holds::Inline(bytes));
    }
}

#[test]
fn new_content_of_any_shape_replaces_what_it_covers_and_nothing_else() {
    let (disk, clock) = formatted();
    on_shard(&disk, &clock, |shard| async move {
        let random = RefCell::new(Prng::new(5));
        let ino = make_file(&shard, 0o644).await;
        let mut model = Model::new();
        for turn in 0..150 {
            let is_inline = random.borrow_mut().percent(30);
            match is_inline {
                true => put_inline(&shard, ino, &random, &mut model).await,
                false => put_runs(&shard, ino, &random, &mut model).await,
            }
            let shown = shown(&shard, ino).await;
            for block in 0..BLOCKS {
                assert_eq!(shown.get(&block), model.get(&block), "block {block}, turn {turn}");
            }
            check_map(&shard, ino).await;
        }
    });
}
