//! Blocks and items in words, for `cairn print`: each function gives JSON objects, one a line, and
//! `text` makes the same line for people.
//!
//! Everything is parsed by `format`'s own types; there is no second parser. Keys of the pool (of
//! names, of handles) are secrets and are not printed.
//!
//! What is damaged is passed over and found: whoever prints is given the findings, which are told beside
//! what was shown, since a list that lacks something looks like one that lacks nothing.

use crate::key_words::key_words;
use crate::merged::Merged;
use crate::report::{Counts, FINDINGS_MAX, Finding, Findings, inode_of};
use crate::space::Space;
use crate::tree::Ground;
use crate::{CheckError, Pool};
use cairn_base::BlockNo;
use cairn_base::door::Disk;
use cairn_format::filter::FilterRef;
use cairn_format::item::{
    Checksums, ConsumerHead, DamagedBlockHead, DamagedDataItem, DeletionHead, ExtentHead,
    FixityItem, FreeRunItem, IndxItem, InodeItem, LookupItem, OrphanHead, PartChange, ProjectItem,
    QuotaRuleItem, ReaddirHead, ScrubItem, ScrubPlaceHead, TotlItem, TrimmedItem, XattrHead,
};
use cairn_format::key::ParsedKey;
use cairn_format::node::{Node, NodeRef};
use cairn_format::record::{Batch, Edit, EditKind, Record};
use cairn_format::superblock::Superblock;
use cairn_format::tablet_root::{RootBody, Totals, TreeRef};
use cairn_format::{Damage, Key, TabletId};
use serde_json::{Map, Value, json};
use std::cell::Cell;

/// One line: `name=value` of each field, nested ones joined by dots.
pub fn text(value: &Value) -> String {
    let mut out = Vec::new();
    flatten(value, "", &mut out);
    out.join(" ")
}

fn flatten(value: &Value, name: &str, out: &mut Vec<String>) {
    let joined = |part: &str| {
        if name.is_empty() { part.to_string() } else { format!("{name}.{part}") }
    };
    match value {
        Value::Object(fields) => {
            fields.iter().for_each(|(part, value)| flatten(value, &joined(part), out));
        }
        Value::Array(values) if values.iter().any(|value| value.is_object()) => {
            for (index, value) in values.iter().enumerate() {
                flatten(value, &joined(&index.to_string()), out);
            }
        }
        Value::Null => {}
        Value::String(text) => out.push(format!("{name}={text}")),
        other => out.push(format!("{name}={other}")),
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A name as text, or in hexadecimal where it is not UTF-8.
fn name(bytes: &[u8]) -> Value {
    match std::str::from_utf8(bytes) {
        Ok(text) => json!(text),
        Err(_) => json!(format!("0x{}", hex(bytes))),
    }
}

pub fn superblock(superblock: &Superblock) -> Value {
    let devices = superblock.device_table().iter().map(|device| {
        json!({
            "uuid": hex(&device.uuid),
            "blocks": device.blocks.get(),
            "zone_blocks": device.zone_blocks.get(),
            "generation": device.generation.get(),
            "role": device.role,
            "state": device.state,
            "mirror_group": device.mirror_group,
            "growing": device.growing_blocks(),
        })
    });
    let logs = superblock.log_table().iter().map(|log| {
        json!({
            "node": log.node.get(),
            "shard": log.shard.get(),
            "state": log.state,
            "epoch": log.epoch.get(),
            "start": place(log.run().start),
            "blocks": log.blocks.get(),
        })
    });
    json!({
        "fsid": hex(&superblock.fsid),
        "version": superblock.version.get(),
        "compat": superblock.features.compat.get(),
        "ro_compat": superblock.features.ro_compat.get(),
        "incompat": superblock.features.incompat.get(),
        "generation": superblock.generation.get(),
        "epoch": superblock.epoch.get(),
        "created": superblock.created.get(),
        "seq_ceiling": superblock.seq_ceiling.get(),
        "tablets": superblock.tablets.get(),
        "device_index": superblock.device_index,
        "devices": devices.collect::<Vec<_>>(),
        "logs": logs.collect::<Vec<_>>(),
    })
}

fn place(block: BlockNo) -> Value {
    json!(block.to_string())
}

fn node_ref(at: &NodeRef) -> Value {
    json!({
        "block": place(at.block_no()),
        "generation": at.generation.get(),
        "hash": format!("{:016x}", at.hash.get()),
    })
}

fn filter_ref(of: &FilterRef) -> Value {
    if of.is_none() {
        return Value::Null;
    }
    json!({ "block": place(of.block_no()), "blocks": of.blocks.get(), "keys": of.keys.get() })
}

fn tree_ref(tree: &TreeRef) -> Value {
    if tree.is_empty() {
        return Value::Null;
    }
    json!({
        "root": node_ref(&tree.root),
        "level": tree.level,
        "items": tree.items.get(),
        "nodes": tree.nodes.get(),
    })
}

fn totals(totals: &Totals) -> Value {
    json!({
        "inode_high_water": totals.inode_high_water.get(),
        "inodes": totals.inodes.get(),
        "orphans": totals.orphans.get(),
        "pending": totals.pending.get(),
        "done": totals.done.get(),
        "deletions": totals.deletions.get(),
        "free_node": totals.free_node.get(),
        "free_data": totals.free_data.get(),
        "free_unassigned": totals.free_unassigned.get(),
    })
}

pub fn root(body: &RootBody) -> Value {
    let log_trees = body.log_trees().iter().map(|entry| {
        json!({
            "tree": tree_ref(&entry.tree),
            "filter": filter_ref(&entry.filter),
            "spare_start": place(entry.spare_start()),
            "spare_blocks": entry.spare_blocks.get(),
            "frozen_seq": entry.frozen_seq.get(),
        })
    });
    json!({
        "tablet": body.tablet().0,
        "generation": body.generation.get(),
        "epoch": body.epoch.get(),
        "node": body.node.get(),
        "replay": {
            "epoch": body.replay.epoch.get(),
            "node": body.replay.node.get(),
            "shard": body.replay.shard.get(),
            "position": body.replay.position.get(),
        },
        "totals": totals(&body.totals),
        "newest_meta_seq": body.newest_meta_seq.get(),
        "newest_data_seq": body.newest_data_seq.get(),
        "folded_seq": body.folded_seq.get(),
        "fs": tree_ref(&body.fs),
        "log_trees": log_trees.collect::<Vec<_>>(),
        "fold_cursor": body.fold_cursor().map(|key| key_words(&key)),
    })
}

/// The header, then a line for each record's section or trim, then one for each edit.
pub fn batch(batch: &Batch<'_>) -> Vec<Value> {
    let header = batch.header();
    let mut lines = vec![json!({
        "batch": header.position.get(),
        "blocks": header.blocks.get(),
        "node": header.node.get(),
        "shard": header.shard.get(),
        "epoch": header.epoch.get(),
        "seq": header.seq.get(),
        "records": header.records.get(),
        "acked": header.acked.get(),
        "tail": header.tail.get(),
        "ceiling": header.ceiling.get(),
    })];
    for (index, record) in batch.records().enumerate() {
        match record {
            Ok(Record::Trim(trim)) => {
                let roots =
                    trim.roots().map(|(tablet, generation)| json!([tablet.0, generation.0]));
                lines.push(json!({ "record": index, "trim": roots.collect::<Vec<_>>() }));
            }
            Ok(Record::Edits(record)) => {
                for section in record.sections() {
                    let Ok(section) = section.map_err(|error| lines.push(damage(index, error)))
                    else {
                        break;
                    };
                    lines.push(json!({
                        "record": index,
                        "tablet": section.tablet.0,
                        "edits": section.edit_count(),
                        "totals": totals(&section.totals),
                        "root": section.root.map(root),
                    }));
                    lines
                        .extend(section.edits().map_while(Result::ok).map(|edit| edit_line(&edit)));
                }
            }
            Err(error) => lines.push(damage(index, error)),
        }
    }
    lines
}

fn damage(record: usize, damage: Damage) -> Value {
    json!({ "record": record, "damage": damage.to_string() })
}

fn edit_line(edit: &Edit<'_>) -> Value {
    let kind = match edit.kind {
        EditKind::Put => "put",
        EditKind::PutNew => "put_new",
        EditKind::Delete => return json!({ "edit": "delete", "key": key_words(&edit.key) }),
    };
    let mut line = item(&edit.key, edit.value);
    if let Value::Object(fields) = &mut line {
        fields.insert("edit".to_string(), json!(kind));
    }
    line
}

/// The header, then a line for each entry.
pub fn node(node: &Node<'_>) -> Vec<Value> {
    let header = node.header();
    let mut lines = vec![json!({
        "node": place(BlockNo::from_raw(header.block.get())),
        "generation": header.generation.get(),
        "tablet": header.tablet.get(),
        "level": header.level,
        "items": header.item_count.get(),
        "bytes_used": node.bytes_used(),
        "filter": filter_ref(&header.filter),
    })];
    for index in 0..node.count() {
        let key = node.key(index);
        lines.push(if !node.is_leaf() {
            json!({ "from": key_words(&key), "child": node_ref(&node.child(index)) })
        } else if node.is_delete(index) {
            json!({ "deleted": key_words(&key) })
        } else {
            item(&key, node.value(index))
        });
    }
    lines
}

/// One item.
pub fn item(key: &Key, value: &[u8]) -> Value {
    let mut line = Map::new();
    line.insert("key".to_string(), json!(key_words(key)));
    let Some(parsed) = key.parse() else {
        line.insert("value".to_string(), json!(hex(value)));
        return Value::Object(line);
    };
    if let Some(inode) = inode_of(&parsed) {
        line.insert("ino".to_string(), json!(inode.raw()));
    }
    match fields(&parsed, value) {
        Ok(Value::Object(fields)) => line.extend(fields),
        Ok(_) => {}
        Err(damage) => {
            line.insert("damage".to_string(), json!(damage.to_string()));
            line.insert("value".to_string(), json!(hex(value)));
        }
    }
    Value::Object(line)
}

fn inode_fields(item: &InodeItem) -> Value {
    json!({
        "kind": format!("{:?}", item.file_kind()),
        "mode": format!("{:o}", item.mode.get()),
        "flags": item.flags,
        "nlink": item.nlink.get(),
        "uid": item.uid.get(),
        "gid": item.gid.get(),
        "size": item.size.get(),
        "atime": item.atime.get(),
        "mtime": item.mtime.get(),
        "ctime": item.ctime.get(),
        "crtime": item.crtime.get(),
        "meta_seq": item.meta_seq.get(),
        "data_seq": item.data_seq.get(),
        "data_version": item.data_version.get(),
        "online_blocks": item.online_blocks.get(),
        "offline_blocks": item.offline_blocks.get(),
        "special": item.special.get(),
    })
}

/// What stands in a value of this kind of key.
fn fields(key: &ParsedKey, value: &[u8]) -> Result<Value, Damage> {
    Ok(match key {
        ParsedKey::Inode(_) => inode_fields(&InodeItem::parse(value)?),
        ParsedKey::Symlink(_) => json!({ "target": name(value) }),
        ParsedKey::Xattr { part: 0, .. } => {
            let (head, xattr, first) = XattrHead::parse(value)?;
            json!({ "name": name(xattr), "value_len": head.value_len.get(), "value": hex(first) })
        }
        ParsedKey::Xattr { .. } => json!({ "value": hex(value) }),
        ParsedKey::Lookup { .. } => {
            let item = LookupItem::parse(value)?;
            let (child, position) = (item.child.get(), item.position.get());
            json!({ "child": child, "position": position, "kind": item.kind })
        }
        ParsedKey::Readdir { .. } => {
            let (head, entry) = ReaddirHead::parse(value)?;
            json!({ "name": name(entry), "child": head.child.get(), "kind": head.kind })
        }
        ParsedKey::Extent { .. } => {
            let (head, bytes) = ExtentHead::parse(value)?;
            json!({
                "start": place(BlockNo::from_raw(head.start.get())),
                "length": head.length.get(),
                "flags": head.flags,
                "inline_bytes": bytes.len(),
            })
        }
        ParsedKey::Checksums { .. } => {
            let sums = Checksums::parse(value)?;
            let crcs = (0..64).filter_map(|slot| sums.get(slot)).map(|crc| format!("{crc:08x}"));
            let mask = format!("{:016x}", sums.mask);
            json!({ "mask": mask, "crcs": crcs.collect::<Vec<_>>() })
        }
        ParsedKey::Fixity { .. } => {
            let fixity = FixityItem::parse(value)?;
            json!({ "crc": fixity.crc.get(), "blocks": fixity.blocks().count() })
        }
        ParsedKey::Deletion(..) => {
            let (head, last, xattrs) = DeletionHead::parse(value)?;
            json!({
                "last_parent": head.last_parent.get(),
                "name": name(last),
                "data_version": head.data_version.get(),
                "kind": head.kind,
                "flags": head.flags,
                "hidden_xattrs": xattrs.iter().map(|xattr| json!({
                    "name": name(xattr.name), "value": hex(xattr.value),
                })).collect::<Vec<_>>(),
            })
        }
        ParsedKey::Orphan(_) => {
            let (head, last) = OrphanHead::parse(value)?;
            json!({ "last_parent": head.last_parent.get(), "name": name(last) })
        }
        ParsedKey::FreeRun(..) => json!({ "blocks": FreeRunItem::parse(value)?.blocks.get() }),
        ParsedKey::Pending(_) => {
            let changes = PartChange::parse_all(value)?;
            let changes = changes.iter().map(|change| format!("{change:?}"));
            json!({ "changes": changes.collect::<Vec<_>>() })
        }
        ParsedKey::Totl(_) => {
            let item = TotlItem::parse(value)?;
            json!({ "total": item.total.get(), "count": item.count.get() })
        }
        ParsedKey::Indx { .. } => json!({ "count": IndxItem::parse(value)?.count.get() }),
        ParsedKey::Quota { .. } => {
            let item = QuotaRuleItem::parse(value)?;
            json!({ "limit": item.limit.get(), "priority": item.priority })
        }
        ParsedKey::Project(_) => {
            let item = ProjectItem::parse(value)?;
            json!({ "inodes": item.inodes.get(), "blocks": item.blocks.get() })
        }
        ParsedKey::Consumer { .. } => {
            let (head, consumer) = ConsumerHead::parse(value)?;
            let (seq, inode) = (head.seq.get(), head.inode.get());
            json!({
                "name": consumer,
                "seq": seq,
                "inode": inode,
                "floor": head.floor.get(),
                "created": head.created.get(),
                "acked": head.acked.get(),
            })
        }
        ParsedKey::Trimmed => {
            let item = TrimmedItem::parse(value)?;
            json!({ "seq": item.seq.get(), "inode": item.inode.get() })
        }
        ParsedKey::Scrub => {
            let item = ScrubItem::parse(value)?;
            json!({
                "pass": item.pass.get(),
                "state": item.state,
                "began": item.began.get(),
                "ended": item.ended.get(),
                "findings": item.findings.get(),
                "rate": item.rate.get(),
            })
        }
        ParsedKey::ScrubPlace => {
            let (head, cursor) = ScrubPlaceHead::parse(value)?;
            json!({
                "pass": head.pass.get(),
                "done": head.done,
                "nodes": head.nodes.get(),
                "blocks": head.blocks.get(),
                "findings": head.findings.get(),
                "unlisted": head.unlisted.get(),
                "cursor": key_words(&cursor),
            })
        }
        ParsedKey::DamagedData { .. } => {
            let item = DamagedDataItem::parse(value)?;
            json!({
                "pass": item.pass.get(),
                "start": place(BlockNo::from_raw(item.start.get())),
                "blocks": item.blocks.get(),
                "cause": item.cause.to_string(),
            })
        }
        ParsedKey::DamagedBlock(_) => {
            let (head, from, to) = DamagedBlockHead::parse(value)?;
            json!({
                "pass": head.pass.get(),
                "what": head.what,
                "tree": head.tree,
                "from": key_words(&from),
                "to": key_words(&to),
                "cause": head.cause.to_string(),
            })
        }
        ParsedKey::BackReference { .. }
        | ParsedKey::MetaSeq(..)
        | ParsedKey::DataSeq(..)
        | ParsedKey::Srch { .. }
        | ParsedKey::Done(_) => json!({}),
    })
}

/// The superblock that counts, and what is wrong with the others and with the devices.
pub async fn pool_superblock<K: Disk>(
    disk: &K,
) -> Result<(Box<Superblock>, Vec<Finding>), CheckError> {
    let findings = Findings::new(FINDINGS_MAX);
    let superblock = crate::superblock::load(disk, &findings).await?;
    Ok((superblock, listed(findings)))
}

/// The newest root of each tablet, from its blocks or the log.
pub async fn pool_roots<K: Disk>(
    disk: &K,
    mut each: impl FnMut(Value),
) -> Result<Vec<Finding>, CheckError> {
    let findings = Findings::new(FINDINGS_MAX);
    let pool = Pool::load(disk, &findings, &mut |_| {}).await?;
    pool.tablets.iter().filter_map(|state| state.root.as_deref()).for_each(|body| each(root(body)));
    Ok(listed(findings))
}

/// Every batch that an open would replay.
pub async fn pool_logs<K: Disk>(
    disk: &K,
    mut each: impl FnMut(Value),
) -> Result<Vec<Finding>, CheckError> {
    let findings = Findings::new(FINDINGS_MAX);
    let pool = Pool::load(disk, &findings, &mut |_| {}).await?;
    let log_tag = pool.superblock.log_tag();
    for log in &pool.logs {
        let batches = log.chain.iter().filter_map(|link| link.batch(log_tag));
        batches.flat_map(|found| batch(&found)).for_each(&mut each);
    }
    Ok(listed(findings))
}

fn listed(findings: Findings) -> Vec<Finding> {
    findings.into_report(Counts::default(), &|_| None).findings
}

/// A tablet's items from `from` on, as a reader would see them, until `each` says false. What is in
/// damaged nodes is passed over.
pub async fn tablet_items<K: Disk>(
    disk: &K,
    tablet: TabletId,
    from: Key,
    mut each: impl FnMut(Key, Value) -> bool,
) -> Result<Vec<Finding>, CheckError> {
    let findings = Findings::new(FINDINGS_MAX);
    let pool = Pool::load(disk, &findings, &mut |_| {}).await?;
    let Some(state) = pool.tablets.get(usize::from(tablet.0)) else { return Ok(listed(findings)) };
    let space = Space::of(&pool.superblock, &findings);
    let (nodes, filters) = (Cell::new(0), Cell::new(0));
    let ground = Ground {
        disk,
        tablet,
        name_key: pool.superblock.name_key,
        generation: state.root.as_ref().map_or(0, |body| body.generation.get()),
        findings: &findings,
        space: &space,
        nodes: &nodes,
        filters: &filters,
    };
    let mut items = Merged::seek(&ground, state, &from).await;
    while let Some(found) = items.next().await {
        if !each(found.key, item(&found.key, &found.value)) {
            break;
        }
    }
    drop(items);
    Ok(listed(findings))
}
