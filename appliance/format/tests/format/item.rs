//! Items refuse what they could not have been written as, and keys keep their order.

use crate::sample::{inode, random_key};
use cairn_base::prng::Prng;
use cairn_base::{BlockNo, DeviceId};
use cairn_format::item::*;
use cairn_format::key::{KEY_BYTES_MAX, RANGE_META_SEQ};
use cairn_format::{Damage, Key, Seq};
use zerocopy::{FromZeros, IntoBytes};

fn value<T>(field: &'static str) -> Result<T, Damage> {
    Err(Damage::Value(field))
}

fn bounds<T>(field: &'static str) -> Result<T, Damage> {
    Err(Damage::Bounds(field))
}

#[test]
fn an_inode_has_a_kind_a_mode_and_known_flags() {
    let sound = InodeItem { kind: FileKind::Fifo as u8, ..InodeItem::new_zeroed() };
    let parse = |item: InodeItem| InodeItem::parse(item.as_bytes()).map(|item| item.file_kind());
    assert_eq!(parse(sound), Ok(FileKind::Fifo));
    assert_eq!(parse(InodeItem { kind: 0, ..sound }), value("file kind"));
    assert_eq!(parse(InodeItem { kind: 8, ..sound }), value("file kind"));
    assert_eq!(parse(InodeItem { mode: 0o10000.into(), ..sound }), value("inode mode"));
    assert_eq!(parse(InodeItem { flags: 0x80, ..sound }), value("inode flags"));
    assert_eq!(InodeItem::parse(&sound.as_bytes()[1..]), bounds("inode item"));
}

#[test]
fn every_file_kind_is_its_number() {
    for raw in 1..=7 {
        assert_eq!(FileKind::parse(raw).map(|kind| kind as u8), Ok(raw));
    }
}

#[test]
fn an_entry_names_a_child() {
    let sound = LookupItem { child: 5.into(), position: 0.into(), kind: 1 };
    let parse = |item: LookupItem| LookupItem::parse(item.as_bytes());
    assert_eq!(parse(sound), Ok(sound));
    assert_eq!(parse(LookupItem { child: 0.into(), ..sound }), value("lookup entry child"));
    assert_eq!(parse(LookupItem { kind: 9, ..sound }), value("file kind"));

    let head = ReaddirHead { child: 5.into(), kind: 1 };
    let parse = |head: ReaddirHead, name: &[u8]| {
        ReaddirHead::parse(&[head.as_bytes(), name].concat()).map(|(_, name)| name.len())
    };
    assert_eq!(parse(head, &[b'n'; 255]), Ok(255));
    assert_eq!(parse(head, &[b'n'; 256]), value("readdir entry name"));
    assert_eq!(parse(head, b""), value("readdir entry name"));
    assert_eq!(parse(ReaddirHead { child: 0.into(), ..head }, b"n"), value("readdir entry child"));
}

#[test]
fn an_extent_is_mapped_or_offline_or_inline() {
    let mapped = ExtentHead { start: 99.into(), length: 1.into(), flags: 0, version: 0 };
    let parse = |head: ExtentHead, tail: &[u8]| {
        ExtentHead::parse(&[head.as_bytes(), tail].concat()).map(|(head, tail)| {
            assert_eq!(head.is(EXTENT_INLINE), !tail.is_empty());
            head.blocks()
        })
    };
    assert_eq!(parse(mapped, b""), Ok(1));
    assert_eq!(parse(mapped, b"x"), bounds("extent length"));
    assert_eq!(parse(ExtentHead { length: 4097.into(), ..mapped }, b""), Ok(2));
    assert_eq!(parse(ExtentHead { length: 0.into(), ..mapped }, b""), bounds("extent length"));
    assert_eq!(parse(ExtentHead { version: 1, ..mapped }, b""), value("extent version"));
    assert_eq!(parse(ExtentHead { flags: EXTENT_SHARED, ..mapped }, b""), value("extent flags"));
    let nowhere = ExtentHead { start: 0.into(), ..mapped };
    assert_eq!(parse(nowhere, b""), value("extent start"));
    assert_eq!(parse(ExtentHead { flags: EXTENT_OFFLINE, ..nowhere }, b""), Ok(1));
    let inline = ExtentHead { flags: EXTENT_INLINE, ..nowhere };
    assert_eq!(parse(inline, b"x"), Ok(1));
    assert_eq!(parse(inline, b"xx"), bounds("extent length"));
    assert_eq!(parse(ExtentHead { start: 1.into(), ..inline }, b"x"), value("inline extent"));
    let unwritten = ExtentHead { flags: EXTENT_INLINE | EXTENT_UNWRITTEN, ..inline };
    assert_eq!(parse(unwritten, b"x"), value("inline extent"));
    let long = ExtentHead { length: 4097.into(), ..inline };
    assert_eq!(parse(long, &[0; 4097]), bounds("extent length"));
}

#[test]
fn checksums_hold_what_was_set_and_nothing_else() {
    let mut prng = Prng::new(9);
    for _ in 0..500 {
        let mut sums = Checksums::NONE;
        for _ in 0..1 + prng.below(64) {
            sums.set(prng.below(64) as usize, Some(prng.next_u64() as u32));
        }
        let slot = prng.below(64) as usize;
        sums.set((slot + 1) % 64, Some(1));
        sums.set(slot, None);
        let mut buf = [0; Checksums::ENCODED_BYTES_MAX];
        let len = sums.encode(&mut buf);
        let read = Checksums::parse(&buf[..len]).expect("just encoded");
        assert_eq!(read, sums);
        assert_eq!((read.get(slot), read.get((slot + 1) % 64)), (None, Some(1)));
        assert_eq!(Checksums::parse(&buf[..len - 1]), bounds("checksums"));
    }
    assert_eq!(Checksums::parse(&[0; 8]), value("checksums mask"));
    assert_eq!(Checksums::parse(&[0; 7]), bounds("checksums"));
}

#[test]
fn an_xattr_has_a_name_and_no_more_value_than_it_says() {
    let head = XattrHead { value_len: 2.into(), name_len: 1, reserved: 0 };
    let parse = |head: XattrHead, tail: &[u8]| {
        XattrHead::parse(&[head.as_bytes(), tail].concat()).map(|(_, name, _)| name.len())
    };
    assert_eq!(parse(head, b"nv"), Ok(1));
    assert_eq!(parse(head, b"nvvv"), bounds("xattr value"));
    assert_eq!(parse(head, b""), bounds("xattr name"));
    assert_eq!(parse(XattrHead { name_len: 0, ..head }, b"v"), value("xattr head"));
    assert_eq!(parse(XattrHead { reserved: 1, ..head }, b"nv"), value("xattr head"));
}

#[test]
fn a_deletion_says_how_long_its_parts_are() {
    let head = DeletionHead { name_len: 1, xattrs_len: 5.into(), ..DeletionHead::new_zeroed() };
    let parse = |head: DeletionHead, tail: &[u8]| {
        DeletionHead::parse(&[head.as_bytes(), tail].concat()).map(|(_, _, xattrs)| xattrs.bytes())
    };
    let whole = b"n\x01\x01\0xy";
    assert_eq!(parse(head, whole), Ok(5));
    assert_eq!(parse(head, &whole[..5]), bounds("deletion xattrs"));
    assert_eq!(parse(head, b""), bounds("deletion name"));
    assert_eq!(parse(DeletionHead { flags: 2, ..head }, whole), value("deletion head"));
    assert_eq!(parse(DeletionHead { reserved: 1, ..head }, whole), value("deletion head"));
}

#[test]
fn the_hidden_xattrs_of_a_deletion_fill_their_place_one_behind_another() {
    let parse = |xattrs: &[u8]| {
        let xattrs_len = (xattrs.len() as u16).into();
        let head = DeletionHead { xattrs_len, ..DeletionHead::new_zeroed() };
        let value = [head.as_bytes(), xattrs].concat();
        DeletionHead::parse(&value).map(|(_, _, xattrs)| xattrs.iter().count())
    };
    assert_eq!(parse(b""), Ok(0));
    assert_eq!(parse(b"\x01\x02\0nvv\x02\0\0nn"), Ok(2));
    assert_eq!(parse(b"\x01\x02\0nv"), bounds("deletion xattrs"), "a value cut short");
    assert_eq!(parse(b"\x02\0\0n"), bounds("deletion xattrs"), "a name cut short");
    assert_eq!(parse(b"\x01\0\0n\x01"), bounds("deletion xattrs"), "a head cut short");
    assert_eq!(parse(b"\0\0\0"), value("deletion xattrs"), "no name");
    let long = |bytes: usize| {
        let value = vec![7; bytes - 4];
        [&[1], &(value.len() as u16).to_le_bytes()[..], b"n", &value].concat()
    };
    assert_eq!(parse(&long(DELETION_XATTRS_BYTES_MAX)), Ok(1));
    let over = long(DELETION_XATTRS_BYTES_MAX + 1);
    assert_eq!(parse(&over), bounds("deletion xattrs"), "more than a deletion keeps");
}

#[test]
fn names_and_runs_are_within_their_bounds() {
    assert_eq!(OrphanHead::parse(&[0; 8]).map(|(_, name)| name.len()), Ok(0));
    assert_eq!(OrphanHead::parse(&[0; 8 + 256]).map(drop), bounds("orphan name"));
    assert_eq!(ConsumerHead::parse(&[0; 40]).map(drop), bounds("consumer name"));
    assert_eq!(ConsumerHead::parse(&[0; 40 + 256]).map(drop), bounds("consumer name"));
    assert_eq!(ConsumerHead::parse(&[0xff; 40 + 255]).map(drop), value("consumer name"));
    let trimmed = TrimmedItem { seq: 1.into(), inode: 1.into() };
    assert_eq!(TrimmedItem::parse(trimmed.as_bytes()), Ok(trimmed));
    let nobody = TrimmedItem { inode: 0.into(), ..trimmed };
    assert_eq!(TrimmedItem::parse(nobody.as_bytes()), value("trimmed"));
    assert_eq!(TrimmedItem::parse(&[1; 17]).map(drop), bounds("trimmed"));
    assert_eq!(FreeRunItem::parse(&[0; 8]), value("free run"));
}

#[test]
fn what_a_scrub_keeps_is_of_a_pass_and_of_a_known_kind() {
    let order = ScrubItem { pass: 1.into(), ..ScrubItem::NONE };
    assert_eq!(ScrubItem::parse(order.as_bytes()), Ok(order));
    assert_eq!(ScrubItem::parse(ScrubItem::NONE.as_bytes()), value("scrub"));
    assert_eq!(ScrubItem::parse(ScrubItem { state: 3, ..order }.as_bytes()), value("scrub"));

    let place = ScrubPlaceHead { pass: 1.into(), done: 1, ..ScrubPlaceHead::new_zeroed() };
    let parse = |head: ScrubPlaceHead, cursor: &[u8]| {
        ScrubPlaceHead::parse(&[head.as_bytes(), cursor].concat()).map(|(_, cursor)| cursor)
    };
    assert_eq!(parse(place, b""), Ok(Key::MIN));
    assert_eq!(parse(place, b"x"), value("scrub place"), "done, and not at the end");
    assert_eq!(parse(place, &[1; KEY_BYTES_MAX + 1]), bounds("scrub place cursor"));
    assert_eq!(parse(ScrubPlaceHead { unlisted: 1.into(), ..place }, b""), value("scrub place"));

    let cause = Cause::new(CAUSE_DATA, 0);
    let start = BlockNo::new(DeviceId(1), 5).raw().into();
    let data = DamagedDataItem { pass: 1.into(), start, blocks: 1.into(), cause };
    let parse = |item: DamagedDataItem| DamagedDataItem::parse(item.as_bytes());
    assert_eq!(parse(data), Ok(data));
    assert_eq!(parse(DamagedDataItem { blocks: 0.into(), ..data }), bounds("damaged data"));
    assert_eq!(parse(DamagedDataItem { cause: Cause::new(13, 0), ..data }), value("cause"));

    let what = DAMAGED_FILTER;
    let head = DamagedBlockHead { pass: 1.into(), cause, what, ..DamagedBlockHead::new_zeroed() };
    let parse = |head: DamagedBlockHead, keys: &[u8]| {
        DamagedBlockHead::parse(&[head.as_bytes(), keys].concat()).map(|(_, from, to)| (from, to))
    };
    assert_eq!(parse(head, b""), Ok((Key::MIN, Key::MIN)));
    assert_eq!(parse(head, b"x"), bounds("damaged block"), "only a node hides keys");
    let node = DamagedBlockHead { what: DAMAGED_NODE, from_len: 1, ..head };
    assert_eq!(parse(node, b"xyz").map(|(_, to)| to.as_bytes().len()), Ok(2));
    assert_eq!(parse(DamagedBlockHead { from_len: 4, ..node }, b"xyz"), bounds("damaged block"));
    assert_eq!(parse(DamagedBlockHead { what: 5, ..head }, b""), value("damaged block"));
}

#[test]
fn runs_that_no_device_has_are_refused_before_anybody_asks_for_their_end() {
    let last = BlockNo::new(DeviceId(1), (1 << 52) - 2);
    let free = |blocks: u64| FreeRunItem { blocks: blocks.into() }.run(last);
    assert_eq!(free(1).map(|run| run.end().index()), Ok((1 << 52) - 1));
    assert_eq!(free(2), bounds("free run"));
    assert_eq!(free(u64::MAX), bounds("free run"));

    let extent = |length: u64| {
        let start = last.raw().into();
        let head = ExtentHead { start, length: length.into(), flags: 0, version: 0 };
        ExtentHead::parse(head.as_bytes()).map(|(head, _)| head)
    };
    assert_eq!(extent(4096).map(|head| head.blocks()), Ok(1));
    assert_eq!(extent(4097), bounds("extent run"));

    let one = extent(4096).expect("one block");
    assert_eq!(one.end_block(FILE_BLOCKS_MAX - 1), Ok(FILE_BLOCKS_MAX));
    assert_eq!(one.end_block(FILE_BLOCKS_MAX), bounds("extent end"));
    assert_eq!(one.end_block(u64::MAX), bounds("extent end"));
}

#[test]
fn keys_sort_as_their_bytes_do_and_neighbours_are_neighbours() {
    let mut prng = Prng::new(10);
    for _ in 0..20_000 {
        let (a, b) = (random_key(&mut prng), random_key(&mut prng));
        assert_eq!(a.cmp(&b), a.as_bytes().cmp(b.as_bytes()), "{a:?} {b:?}");
        assert!(a < a.successor() && Key::MIN < a && a < Key::MAX);
        assert!(b <= a || a.successor() <= b);
        let end = a.prefix_end();
        let covered = b >= a && b < end;
        assert_eq!(covered, b.as_bytes().starts_with(a.as_bytes()), "{a:?} {b:?}");
        assert_eq!(Key::from_bytes(a.as_bytes()), Some(a));
    }
    let last = Key::from_bytes(&[0xff; KEY_BYTES_MAX]).expect("31 bytes");
    assert_eq!((last.prefix_end(), last.successor()), (Key::MAX, Key::MAX));
}

#[test]
fn a_place_in_an_index_sorts_before_the_entries_of_its_seq() {
    let place = Key::seq_position(RANGE_META_SEQ, Seq(9), 0);
    assert!(place < Key::meta_seq(Seq(9), inode(1)));
    assert!(Key::meta_seq(Seq(8), inode(1)) < place);
    let exact = Key::seq_position(RANGE_META_SEQ, Seq(9), inode(1).raw());
    assert_eq!(exact, Key::meta_seq(Seq(9), inode(1)));
}
