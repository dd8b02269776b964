//! A key in words, for whoever reads a line of `cairn print` or cuts it with other tools: its kind, a
//! colon, and its fields in their order with dots, without spaces. Inodes and numbers are decimal,
//! hashes hexadecimal.

use cairn_format::key::{ParsedKey, Purpose};
use cairn_format::{Key, OpId};

pub(crate) fn key_words(key: &Key) -> String {
    let Some(parsed) = key.parse() else {
        let bytes: String = key.as_bytes().iter().map(|byte| format!("{byte:02x}")).collect();
        return format!("unknown:{bytes}");
    };
    match parsed {
        ParsedKey::Inode(ino) => format!("inode:{ino}"),
        ParsedKey::Symlink(ino) => format!("symlink:{ino}"),
        ParsedKey::BackReference { child, dir, position } => {
            format!("back_reference:{child}.{dir}.{position}")
        }
        ParsedKey::Xattr { inode, name_hash, part } => {
            format!("xattr:{inode}.{name_hash:032x}.{part}")
        }
        ParsedKey::Lookup { dir, name_hash } => format!("lookup:{dir}.{name_hash:032x}"),
        ParsedKey::Readdir { dir, position } => format!("readdir:{dir}.{position}"),
        ParsedKey::Extent { inode, file_block } => format!("extent:{inode}.{file_block}"),
        ParsedKey::Checksums { inode, group } => format!("checksums:{inode}.{group}"),
        ParsedKey::Fixity { inode, mib } => format!("fixity:{inode}.{mib}"),
        ParsedKey::MetaSeq(seq, ino) => format!("meta_seq:{seq}.{ino}"),
        ParsedKey::DataSeq(seq, ino) => format!("data_seq:{seq}.{ino}"),
        ParsedKey::Deletion(seq, ino) => format!("deletion:{seq}.{ino}"),
        ParsedKey::Srch { name_hash, inode } => format!("srch:{name_hash:032x}.{inode}"),
        ParsedKey::Totl([a, b, c]) => format!("totl:{a}.{b}.{c}"),
        ParsedKey::Indx { major, minor, inode } => format!("indx:{major}.{minor}.{inode}"),
        ParsedKey::Quota { rule_hash } => format!("quota:{rule_hash:032x}"),
        ParsedKey::Project(project) => format!("project:{project}"),
        ParsedKey::Orphan(ino) => format!("orphan:{ino}"),
        ParsedKey::FreeRun(purpose, start) => format!("free_run:{}.{start}", purpose_word(purpose)),
        ParsedKey::Pending(op) => format!("pending:{}", op_words(op)),
        ParsedKey::Done(op) => format!("done:{}", op_words(op)),
        ParsedKey::Consumer { name_hash } => format!("consumer:{name_hash:032x}"),
        ParsedKey::Scrub => "scrub:".into(),
        ParsedKey::ScrubPlace => "scrub_place:".into(),
        ParsedKey::DamagedData { inode, file_block } => {
            format!("damaged_data:{inode}.{file_block}")
        }
        ParsedKey::DamagedBlock(block) => format!("damaged_block:{block}"),
        ParsedKey::Trimmed => "trimmed:".into(),
    }
}

fn purpose_word(purpose: Purpose) -> &'static str {
    match purpose {
        Purpose::Unassigned => "unassigned",
        Purpose::Node => "node",
        Purpose::Data => "data",
    }
}

fn op_words(op: OpId) -> String {
    let OpId { node, shard, epoch, counter } = op;
    format!("{node}.{shard}.{epoch}.{counter}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use cairn_base::{BlockNo, DeviceId};
    use cairn_format::{InodeNo, Seq};

    #[test]
    fn a_key_is_one_word_of_its_kind_and_its_fields() {
        let root = InodeNo::ROOT;
        assert_eq!(key_words(&Key::inode(root)), "inode:1");
        assert_eq!(key_words(&Key::meta_seq(Seq(17), root)), "meta_seq:17.1");
        assert_eq!(key_words(&Key::extent(root, 256)), "extent:1.256");
        let lookup = key_words(&Key::lookup(root, 255));
        assert!(lookup.starts_with("lookup:1.0000") && lookup.ends_with("00ff"), "{lookup}");
        let free = Key::free_run(Purpose::Data, BlockNo::new(DeviceId(1), 9));
        assert_eq!(key_words(&free), "free_run:data.1:9");
        assert!(!key_words(&Key::MIN).contains(' '));
    }
}
