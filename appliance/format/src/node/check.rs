//! What must hold inside a node for `Node`'s methods to need no checks of their own.

use super::{
    Entry, HEADER_BYTES, LEVEL_MAX, NODE_BYTES, NodeHeader, NodeRef, SLOT_BYTES, read_entry,
};
use crate::damage::Damage;
use crate::ids::TABLETS_MAX;
use crate::item::VALUE_BYTES_MAX;
use crate::key::KEY_BYTES_MAX;
use std::cmp::Ordering;
use zerocopy::FromBytes;

pub fn header(header: &NodeHeader) -> Result<(), Damage> {
    if header.flags != 0 || header.reserved.get() != 0 || header.reserved_tail.get() != 0 {
        return Err(Damage::Value("node reserved"));
    }
    if header.level > LEVEL_MAX {
        return Err(Damage::Value("node level"));
    }
    if usize::from(header.tablet.get()) >= TABLETS_MAX {
        return Err(Damage::Value("node tablet"));
    }
    header.filter.check()?;
    if header.level != 1 && !header.filter.is_none() {
        return Err(Damage::Value("node filter"));
    }
    Ok(())
}

/// Entries lie back to back from the end of the node downwards, in key order.
pub fn entries(bytes: &[u8; NODE_BYTES], header: &NodeHeader) -> Result<(), Damage> {
    let count = usize::from(header.item_count.get());
    let heap_start = NODE_BYTES
        .checked_sub(header.heap_used.get() as usize)
        .ok_or(Damage::Bounds("node heap"))?;
    let slots_end = HEADER_BYTES + count * SLOT_BYTES;
    if count == 0 || slots_end > heap_start {
        return Err(Damage::Bounds("node item count"));
    }
    let slots = bytes.get(HEADER_BYTES..slots_end).ok_or(Damage::Bounds("node item count"))?;
    let (mut end, mut first, mut last) = (NODE_BYTES, &[][..], None);
    for slot in slots.chunks_exact(SLOT_BYTES) {
        let at = usize::from(u16::from_le_bytes([slot[0], slot[1]]));
        let bytes = bytes.get(at..end).ok_or(Damage::Bounds("node slot"))?;
        let (entry, rest) = read_entry(bytes).ok_or(Damage::Bounds("node entry"))?;
        if !rest.is_empty() {
            return Err(Damage::Bounds("node entry"));
        }
        value(&entry, header.level)?;
        match last {
            None => {
                first = entry.suffix;
                first_key(&entry, header.level)?;
            }
            Some(last) => next_key(&entry, &last, first)?,
        }
        last = Some(if last.is_none() { entry.relative_to(first) } else { entry });
        end = at;
    }
    if end != heap_start {
        return Err(Damage::Bounds("node heap"));
    }
    Ok(())
}

fn value(entry: &Entry<'_>, level: u8) -> Result<(), Damage> {
    if entry.value.len() > VALUE_BYTES_MAX {
        return Err(Damage::Bounds("node value"));
    }
    if entry.delete && (level > 0 || !entry.value.is_empty()) {
        return Err(Damage::Value("node deletion mark"));
    }
    if level > 0 {
        let child = NodeRef::ref_from_bytes(entry.value);
        child.map_err(|_| Damage::Bounds("node child"))?.check()?;
    }
    Ok(())
}

fn first_key(entry: &Entry<'_>, level: u8) -> Result<(), Damage> {
    if entry.shared != 0 {
        return Err(Damage::Value("node shared bytes"));
    }
    let least = if level == 0 { 1 } else { 0 };
    if !(least..=KEY_BYTES_MAX).contains(&entry.suffix.len()) {
        return Err(Damage::Bounds("node key"));
    }
    Ok(())
}

/// `shared` is all that the key has in common with the first, and the key is above its neighbour.
fn next_key(entry: &Entry<'_>, last: &Entry<'_>, first: &[u8]) -> Result<(), Damage> {
    if entry.shared > first.len() || entry.shared + entry.suffix.len() > KEY_BYTES_MAX {
        return Err(Damage::Bounds("node key"));
    }
    let Some(next) = entry.suffix.first() else {
        return Err(Damage::Order);
    };
    match first.get(entry.shared) {
        Some(byte) if next == byte => return Err(Damage::Value("node shared bytes")),
        Some(byte) if next < byte => return Err(Damage::Order),
        _ => {}
    }
    let ascends = match entry.shared.cmp(&last.shared) {
        Ordering::Less => true,
        Ordering::Equal => entry.suffix > last.suffix,
        Ordering::Greater => false,
    };
    if ascends { Ok(()) } else { Err(Damage::Order) }
}
