//! What a scrub keeps: an order in one place, and findings of this tablet and of a pass that it knows.

use super::Mutation;
use super::Which::Mixed;
use super::patient::{Lacks, Patient};
use cairn_base::{BlockNo, DeviceId};
use cairn_format::item::{CAUSE_DATA, Cause, DamagedDataItem, ScrubItem, ScrubPlaceHead};
use cairn_format::{InodeNo, Key, TabletId};
use zerocopy::{FromZeros, IntoBytes};

const PASS: u64 = 1000;

fn words(tablet: TabletId, key: &Key) -> String {
    format!("tablet {tablet} {key:?}")
}

/// The tablet has been scrubbed by a pass.
fn put_place(p: &mut Patient<'_>, tablet: TabletId, place: ScrubPlaceHead) {
    p.put(tablet, Key::scrub_place(), place.as_bytes());
}

fn place() -> ScrubPlaceHead {
    ScrubPlaceHead { pass: PASS.into(), done: 1, ..ScrubPlaceHead::new_zeroed() }
}

fn put_damage(
    p: &mut Patient<'_>,
    tablet: TabletId,
    ino: InodeNo,
    item: DamagedDataItem,
) -> Result<String, Lacks> {
    put_place(p, tablet, place());
    let key = Key::damaged_data(ino, 3);
    p.put(tablet, key, item.as_bytes());
    Ok(words(tablet, &key))
}

fn damage() -> DamagedDataItem {
    let start = BlockNo::new(DeviceId(0), 5000).raw().into();
    let cause = Cause::new(CAUSE_DATA, 0);
    DamagedDataItem { pass: PASS.into(), start, blocks: 1.into(), cause }
}

pub const ALL: &[Mutation] = &[
    Mutation {
        name: "scrub-ordered-elsewhere",
        breaks: "an order to scrub in a tablet that nobody asks for it",
        pool: Mixed,
        finding: ["item", "only tablet 1"],
        apply: |p| {
            let tablet = TabletId(2);
            let order = ScrubItem { pass: PASS.into(), ..ScrubItem::NONE };
            p.put(tablet, Key::scrub(), order.as_bytes());
            Ok(words(tablet, &Key::scrub()))
        },
    },
    Mutation {
        name: "scrub-place-of-no-pass",
        breaks: "a tablet that was scrubbed by a pass that cannot be",
        pool: Mixed,
        finding: ["item", "scrub place has an impossible value"],
        apply: |p| {
            let tablet = TabletId(2);
            put_place(p, tablet, ScrubPlaceHead { pass: 0.into(), ..place() });
            Ok(words(tablet, &Key::scrub_place()))
        },
    },
    Mutation {
        name: "damage-of-another-tablet",
        breaks: "damage to a file of another tablet, where no pass takes it off the list",
        pool: Mixed,
        finding: ["item", "belongs to another tablet"],
        apply: |p| {
            let ino = p.ino("/b/big")?;
            let elsewhere = TabletId((ino.tablet().0 + 1) % 4);
            put_damage(p, elsewhere, ino, damage())
        },
    },
    Mutation {
        name: "damage-of-a-later-pass",
        breaks: "damage that a pass has found before it began",
        pool: Mixed,
        finding: ["item", "the tablet's is 1000"],
        apply: |p| {
            let ino = p.ino("/b/big")?;
            let item = DamagedDataItem { pass: (PASS + 1).into(), ..damage() };
            put_damage(p, ino.tablet(), ino, item)
        },
    },
];
