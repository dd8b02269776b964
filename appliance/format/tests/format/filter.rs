//! Filters never deny a key they hold, and seldom claim one they do not.

use crate::sample::{self, block, inode};
use cairn_base::BLOCK_BYTES;
use cairn_base::prng::Prng;
use cairn_format::filter::{Filter, FilterBuilder, FilterRef, filter_blocks, lookup_hash};
use cairn_format::{Damage, InodeNo, TabletId};

fn name_hash(prng: &mut Prng) -> u128 {
    u128::from(prng.next_u64()) << 64 | u128::from(prng.next_u64())
}

#[test]
fn every_key_is_found_and_few_others() {
    let mut prng = Prng::new(2);
    for keys in [1, 300, 407, 20_000, 300_000] {
        let mut bytes = vec![0xff; filter_blocks(keys) as usize * BLOCK_BYTES];
        let present: Vec<u64> =
            (0..keys).map(|n| lookup_hash(inode(1 + n % 50), name_hash(&mut prng))).collect();
        let mut builder = FilterBuilder::new(&mut bytes, keys);
        present.iter().for_each(|hash| builder.add(*hash));
        let at = builder.finish(block(50));
        assert_eq!((u64::from(at.keys.get()), at.bytes()), (keys, bytes.len()));
        let filter = Filter::parse(&bytes, &at).expect("a filter just built");
        assert!(present.iter().all(|hash| filter.may_contain(*hash)));
        assert!(present.iter().all(|hash| Filter::trusted(&bytes).may_contain(*hash)));
        let asked = 100_000;
        let wrong = (0..asked)
            .filter(|_| filter.may_contain(lookup_hash(inode(1), name_hash(&mut prng))))
            .count();
        assert!(wrong * 50 < asked, "{wrong} of {asked} wrong with {keys} keys"); // 2 %
    }
}

#[test]
fn a_filter_filled_in_portions_is_the_one_that_is_filled_at_once() {
    let keys = 5000;
    let mut prng = Prng::new(4);
    let hashes: Vec<u64> = (0..keys).map(|_| prng.next_u64()).collect();
    let mut whole = vec![0; filter_blocks(keys) as usize * BLOCK_BYTES];
    let mut builder = FilterBuilder::new(&mut whole, keys);
    hashes.iter().for_each(|hash| builder.add(*hash));
    let right = builder.finish(block(50));
    let mut parts = vec![0; whole.len()];
    for (portion, some) in hashes.chunks(700).enumerate() {
        let before = portion as u32 * 700;
        let mut builder = FilterBuilder::resume(&mut parts, keys, before);
        some.iter().for_each(|hash| builder.add(*hash));
    }
    let at = FilterBuilder::resume(&mut parts, keys, keys as u32).finish(block(50));
    assert_eq!(at, right);
    assert!(parts == whole);
}

#[test]
fn one_name_in_many_directories_and_many_names_in_one_spread_alike() {
    let keys = 20_000;
    for by_directory in [true, false] {
        let mut bytes = vec![0; filter_blocks(keys) as usize * BLOCK_BYTES];
        let mut builder = FilterBuilder::new(&mut bytes, keys);
        let hash = |n: u64| match by_directory {
            true => lookup_hash(InodeNo::new(TabletId(3), 1 + n).expect("small"), 0x1234),
            false => lookup_hash(InodeNo::ROOT, u128::from(n)),
        };
        (0..keys).for_each(|n| builder.add(hash(n)));
        let at = builder.finish(block(50));
        let filter = Filter::parse(&bytes, &at).expect("a filter just built");
        let wrong = (keys..6 * keys).filter(|n| filter.may_contain(hash(*n))).count();
        assert!(wrong * 50 < 5 * keys as usize, "{wrong} of {} wrong", 5 * keys);
    }
}

#[test]
fn the_hash_of_an_entry_is_part_of_the_format() {
    let hash = lookup_hash(InodeNo::ROOT, 0x0123_4567_89ab_cdef_0011_2233_4455_6677);
    assert_eq!(hash, GOLDEN_HASH);
    assert_ne!(hash, lookup_hash(InodeNo::ROOT, 0x0123_4567_89ab_cdef_0011_2233_4455_6676));
    assert_ne!(hash, lookup_hash(InodeNo::ROOT, 0x0123_4567_89ab_cdee_0011_2233_4455_6677));
}

const GOLDEN_HASH: u64 = 0x2dfb_a0b6_842c_409f;

#[test]
fn a_filter_takes_about_ten_bits_a_key() {
    assert_eq!(filter_blocks(0), 1);
    assert_eq!(filter_blocks(3225), 1); // 63 lines of 512 bits behind the header
    assert_eq!(filter_blocks(3226), 2);
    assert_eq!(filter_blocks(1_000_000), 306);
}

#[test]
fn a_filter_that_is_not_the_one_wanted_is_refused() {
    let (bytes, at) = sample::filter();
    let refused = |bytes: &[u8], at: FilterRef| Filter::parse(bytes, &at).err();
    assert_eq!(refused(&bytes, at), None);
    assert_eq!(refused(&bytes, FilterRef::NONE), Some(Damage::Bounds("filter length")));
    assert_eq!(refused(&bytes[1..], at), Some(Damage::Bounds("filter length")));
    let claims = at.start.get();
    let elsewhere = FilterRef { start: 9.into(), ..at };
    assert_eq!(refused(&bytes, elsewhere), Some(Damage::Misdirected { claims }));
    assert_eq!(refused(&bytes, FilterRef { hash: 9.into(), ..at }), Some(Damage::Hash));
    let fewer = FilterRef { keys: 9.into(), ..at };
    assert_eq!(refused(&bytes, fewer), Some(Damage::Value("filter header")));
}
