//! One item's value as text.

use cairn_format::key::ParsedKey;
use cairn_format::item::{
    Checksums, ConsumerHead, DeletionHead, EXTENT_INLINE, EXTENT_OFFLINE, EXTENT_SHARED,
    EXTENT_UNWRITTEN, ExtentHead, FileKind, FixityItem, FreeRunItem, IndxItem, InodeItem,
    LookupItem, OrphanHead, PartChange, ProjectItem, QuotaRuleItem, ReaddirHead, TotlItem,
    XattrHead,
};
use cairn_format::{Damage, Key};
use cairn_base::BlockNo;

/// Never fails: what makes no sense is described as such, with its bytes.
pub fn describe(key: &Key, value: &[u8]) -> String {
    let Some(parsed) = key.parse() else { return format!("unknown kind, {}", hex(value)) };
    text(&parsed, value).unwrap_or_else(|damage| format!("damaged ({damage}), {}", hex(value)))
}

fn text(key: &ParsedKey, value: &[u8]) -> Result<String, Damage> {
    Ok(match key {
        ParsedKey::Inode(_) => inode(&InodeItem::parse(value)?),
        ParsedKey::Symlink(_) => format!("target {:?}", lossy(value)),
        ParsedKey::Xattr { part: 0, .. } => {
            let (head, name, first) = XattrHead::parse(value)?;
            format!("name {:?} bytes {} here {}", lossy(name), head.value_len.get(), first.len())
        }
        ParsedKey::Xattr { .. } => format!("bytes {}", value.len()),
        ParsedKey::Lookup { .. } => {
            let item = LookupItem::parse(value)?;
            let kind = FileKind::parse(item.kind)?;
            format!("child {} position {} {kind:?}", item.child.get(), item.position.get())
        }
        ParsedKey::Readdir { .. } => {
            let (head, name) = ReaddirHead::parse(value)?;
            format!("child {} {:?} name {:?}", head.child.get(), FileKind::parse(head.kind)?, lossy(name))
        }
        ParsedKey::Extent { .. } => {
            let (head, inline) = ExtentHead::parse(value)?;
            extent(&head, inline.len())
        }
        ParsedKey::Checksums { .. } => {
            let sums = Checksums::parse(value)?;
            format!("blocks {} mask {:#x}", sums.mask.count_ones(), sums.mask)
        }
        ParsedKey::Fixity { .. } => {
            let item = FixityItem::parse(value)?;
            format!("crc {:#010x}", item.crc.get())
        }
        ParsedKey::Deletion(..) => {
            let (head, name, xattrs) = DeletionHead::parse(value)?;
            format!(
                "last_parent {} name {:?} data_version {} xattr_bytes {}",
                head.last_parent.get(),
                lossy(name),
                head.data_version.get(),
                xattrs.len()
            )
        }
        ParsedKey::Totl(_) => {
            let item = TotlItem::parse(value)?;
            format!("total {} count {}", item.total.get(), item.count.get())
        }
        ParsedKey::Indx { .. } => format!("count {}", IndxItem::parse(value)?.count.get()),
        ParsedKey::Quota { .. } => {
            let item = QuotaRuleItem::parse(value)?;
            format!("limit {} priority {}", item.limit.get(), item.priority)
        }
        ParsedKey::Project(_) => {
            let item = ProjectItem::parse(value)?;
            format!("inodes {} blocks {}", item.inodes.get(), item.blocks.get())
        }
        ParsedKey::Orphan(_) => {
            let (head, name) = OrphanHead::parse(value)?;
            format!("last_parent {} name {:?}", head.last_parent.get(), lossy(name))
        }
        ParsedKey::FreeRun(..) => format!("blocks {}", FreeRunItem::parse(value)?.blocks.get()),
        ParsedKey::Pending(_) => format!("{:?}", PartChange::parse_all(value)?),
        ParsedKey::Consumer { .. } => {
            let (head, name) = ConsumerHead::parse(value)?;
            format!("name {:?} seq {} ino {}", lossy(name), head.seq.get(), head.inode.get())
        }
        ParsedKey::BackReference { .. }
        | ParsedKey::MetaSeq(..)
        | ParsedKey::DataSeq(..)
        | ParsedKey::Srch { .. }
        | ParsedKey::Done(_) => bytes_if_any(value),
    })
}

fn inode(item: &InodeItem) -> String {
    format!(
        "{:?} mode {:04o} nlink {} uid {} gid {} size {} meta_seq {} data_seq {} data_version {} \
         online_blocks {} offline_blocks {} flags {:#x} special {:#x}",
        item.file_kind(),
        item.mode.get(),
        item.nlink.get(),
        item.uid.get(),
        item.gid.get(),
        item.size.get(),
        item.meta_seq.get(),
        item.data_seq.get(),
        item.data_version.get(),
        item.online_blocks.get(),
        item.offline_blocks.get(),
        item.flags,
        item.special.get()
    )
}

fn extent(head: &ExtentHead, inline: usize) -> String {
    let flags = [
        (EXTENT_INLINE, "inline"),
        (EXTENT_UNWRITTEN, "unwritten"),
        (EXTENT_OFFLINE, "offline"),
        (EXTENT_SHARED, "shared"),
    ];
    let set = flags.iter().filter(|(flag, _)| head.is(*flag)).map(|(_, name)| *name);
    let set = set.collect::<Vec<_>>().join(",");
    let start = BlockNo::from_raw(head.start.get());
    format!("start {start} bytes {} flags [{set}] inline_bytes {inline}", head.length.get())
}

fn lossy(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn bytes_if_any(value: &[u8]) -> String {
    if value.is_empty() { String::new() } else { hex(value) }
}

/// At most 64 of them: a line is for reading.
fn hex(bytes: &[u8]) -> String {
    let shown: String = bytes.iter().take(64).map(|byte| format!("{byte:02x}")).collect();
    let more = if bytes.len() > 64 { "…" } else { "" };
    format!("bytes {} {shown}{more}", bytes.len())
}

#[cfg(test)]
mod tests {
    use super::*;
    use cairn_format::InodeNo;

    #[test]
    fn a_value_that_makes_no_sense_is_shown_with_its_bytes() {
        let shown = describe(&Key::inode(InodeNo::ROOT), &[0xab, 0xcd]);
        assert!(shown.starts_with("damaged"), "{shown}");
        assert!(shown.ends_with("bytes 2 abcd"), "{shown}");
    }
}
