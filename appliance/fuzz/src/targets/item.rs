//! Keys and values as the engine and the check take them apart, wherever they came from: a leaf or the
//! write log.
//!
//! Not a target by itself: `node.rs` and `log_batch.rs` walk every item of what they accepted.

use cairn_base::{BlockNo, Run};
use cairn_format::item::{
    Checksums, ConsumerHead, DamagedBlockHead, DamagedDataItem, DeletionHead, EXTENT_INLINE,
    ExtentHead, FixityItem, FreeRunItem, IndxItem, InodeItem, LookupItem, OrphanHead, PartChange,
    ProjectItem, QuotaRuleItem, ReaddirHead, ScrubItem, ScrubPlaceHead, TotlItem, TrimmedItem,
    XattrHead,
};
use cairn_format::key::ParsedKey;
use cairn_format::{Damage, Key};
use zerocopy::IntoBytes;

/// Whether the item can be read as what its key says it is.
pub fn walk(key: &Key, value: &[u8]) -> Result<(), Damage> {
    let parsed = key.parse().ok_or(Damage::Value("key"))?;
    assert_eq!(rebuilt(parsed), *key, "a key that was understood is written the same");
    match parsed {
        ParsedKey::Inode(_) => {
            let item = InodeItem::parse(value)?;
            let _kind = item.file_kind();
        }
        ParsedKey::Symlink(_) => {}
        ParsedKey::BackReference { .. }
        | ParsedKey::MetaSeq(..)
        | ParsedKey::DataSeq(..)
        | ParsedKey::Srch { .. }
        | ParsedKey::Done(_) => {
            if !value.is_empty() {
                return Err(Damage::Bounds("index value"));
            }
        }
        ParsedKey::Xattr { part: 0, .. } => {
            let (head, name, first) = XattrHead::parse(value)?;
            assert_eq!(name.len(), usize::from(head.name_len));
            assert!(first.len() <= head.value_len.get() as usize);
        }
        ParsedKey::Xattr { .. } => {}
        ParsedKey::Lookup { .. } => assert_ne!(LookupItem::parse(value)?.child.get(), 0),
        ParsedKey::Readdir { .. } => {
            let (_, name) = ReaddirHead::parse(value)?;
            assert!((1..=255).contains(&name.len()));
        }
        ParsedKey::Extent { file_block, .. } => extent(file_block, value)?,
        ParsedKey::Checksums { .. } => {
            let sums = Checksums::parse(value)?;
            let mut out = [0; Checksums::ENCODED_BYTES_MAX];
            let len = sums.encode(&mut out);
            assert_eq!(&out[..len], value, "checksums are written as they were read");
        }
        ParsedKey::Fixity { .. } => drop(FixityItem::parse(value)?),
        ParsedKey::Deletion(..) => deletion(value)?,
        ParsedKey::Totl(_) => drop(TotlItem::parse(value)?),
        ParsedKey::Indx { .. } => drop(IndxItem::parse(value)?),
        ParsedKey::Quota { .. } => drop(QuotaRuleItem::parse(value)?),
        ParsedKey::Project(_) => drop(ProjectItem::parse(value)?),
        ParsedKey::Orphan(_) => drop(OrphanHead::parse(value)?),
        ParsedKey::FreeRun(_, start) => {
            assert_usable(FreeRunItem::parse(value)?.run(start)?);
        }
        ParsedKey::Pending(_) => pending(value)?,
        ParsedKey::Consumer { .. } => drop(ConsumerHead::parse(value)?),
        ParsedKey::Scrub => drop(ScrubItem::parse(value)?),
        ParsedKey::ScrubPlace => drop(ScrubPlaceHead::parse(value)?),
        ParsedKey::DamagedData { .. } => {
            let item = DamagedDataItem::parse(value)?;
            assert_usable(Run::new(BlockNo::from_raw(item.start.get()), item.blocks.get()));
        }
        ParsedKey::DamagedBlock(_) => drop(DamagedBlockHead::parse(value)?),
        ParsedKey::Trimmed => drop(TrimmedItem::parse(value)?),
    }
    Ok(())
}

fn extent(file_block: u64, value: &[u8]) -> Result<(), Damage> {
    let (head, tail) = ExtentHead::parse(value)?;
    assert!(tail.len() <= 4096);
    assert_eq!(head.is(EXTENT_INLINE), !tail.is_empty());
    let end = head.end_block(file_block)?;
    assert!(file_block < end && end.checked_mul(4096).is_some());
    if head.start.get() != 0 {
        assert_usable(Run::new(BlockNo::from_raw(head.start.get()), head.blocks()));
    }
    Ok(())
}

fn deletion(value: &[u8]) -> Result<(), Damage> {
    let (head, name, xattrs) = DeletionHead::parse(value)?;
    let mut again = [head.as_bytes(), name].concat();
    for xattr in xattrs.iter() {
        xattr.encode(&mut again);
    }
    assert_eq!(again, value, "hidden xattrs are written as they were read");
    Ok(())
}

fn pending(value: &[u8]) -> Result<(), Damage> {
    let changes = PartChange::parse_all(value)?;
    let mut again = Vec::new();
    for change in &changes {
        change.encode(&mut again);
        assert!(usize::from(change.tablet().0) < cairn_format::ids::TABLETS_MAX);
        if let PartChange::AddRun { run, .. } = change {
            assert_usable(*run);
        }
    }
    assert_eq!(again, value, "changes are written as they were read");
    Ok(())
}

/// What is a run can be asked for its end.
fn assert_usable(run: Run) {
    assert!(run.end() > run.start, "an empty run");
    assert_eq!(run.end().device(), run.start.device());
    let _bytes = run.bytes();
}

fn rebuilt(parsed: ParsedKey) -> Key {
    match parsed {
        ParsedKey::Inode(inode) => Key::inode(inode),
        ParsedKey::Symlink(inode) => Key::symlink(inode),
        ParsedKey::BackReference { child, dir, position } => {
            Key::back_reference(child, dir, position)
        }
        ParsedKey::Xattr { inode, name_hash, part } => Key::xattr(inode, name_hash, part),
        ParsedKey::Lookup { dir, name_hash } => Key::lookup(dir, name_hash),
        ParsedKey::Readdir { dir, position } => Key::readdir(dir, position),
        ParsedKey::Extent { inode, file_block } => Key::extent(inode, file_block),
        ParsedKey::Checksums { inode, group } => Key::checksums(inode, group),
        ParsedKey::Fixity { inode, mib } => Key::fixity(inode, mib),
        ParsedKey::MetaSeq(seq, inode) => Key::meta_seq(seq, inode),
        ParsedKey::DataSeq(seq, inode) => Key::data_seq(seq, inode),
        ParsedKey::Deletion(seq, inode) => Key::deletion(seq, inode),
        ParsedKey::Srch { name_hash, inode } => Key::srch(name_hash, inode),
        ParsedKey::Totl(name) => Key::totl(name),
        ParsedKey::Indx { major, minor, inode } => Key::indx(major, minor, inode),
        ParsedKey::Quota { rule_hash } => Key::quota(rule_hash),
        ParsedKey::Project(project) => Key::project(project),
        ParsedKey::Orphan(inode) => Key::orphan(inode),
        ParsedKey::FreeRun(purpose, start) => Key::free_run(purpose, start),
        ParsedKey::Pending(op) => Key::pending(op),
        ParsedKey::Done(op) => Key::done(op),
        ParsedKey::Consumer { name_hash } => Key::consumer(name_hash),
        ParsedKey::Scrub => Key::scrub(),
        ParsedKey::ScrubPlace => Key::scrub_place(),
        ParsedKey::DamagedData { inode, file_block } => Key::damaged_data(inode, file_block),
        ParsedKey::DamagedBlock(block) => Key::damaged_block(block),
        ParsedKey::Trimmed => Key::trimmed(),
    }
}
