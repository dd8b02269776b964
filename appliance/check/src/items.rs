//! One tablet's items, from the first to the last: each value is what its key promises, the change
//! indexes hold every inode once, and the tablet's totals are what one gets by counting.
//!
//! The key order does the work. All inodes come before the indexes, so one sorted list of what the
//! inodes say is enough to tell, entry by entry, whether an index agrees.

use crate::inode::{Current, Judge};
use crate::mapping::DataRead;
use crate::namespace::Namespace;
use crate::replay::TabletState;
use crate::report::{Counts, Object};
use crate::space::Owner;
use crate::tree::NODE_UNIT;
use cairn_base::Run;
use cairn_format::item::{
    ConsumerHead, DamagedBlockHead, DamagedDataItem, DeletionHead, FileKind, FreeRunItem, IndxItem,
    OrphanHead, PartChange, ProjectItem, QuotaRuleItem, ScrubItem, ScrubPlaceHead, TotlItem,
    TrimmedItem,
};
use cairn_format::key::{ParsedKey, Purpose};
use cairn_format::tablet_root::Totals;
use cairn_format::xattr_name::XattrNamespace;
use cairn_format::{Damage, InodeNo, Key, Seq, TabletId};
use std::collections::BTreeSet;

/// What an inode says about itself that an index must agree with.
struct Indexed {
    ino: InodeNo,
    kind: FileKind,
    nlink: u32,
    meta_seq: u64,
    data_seq: u64,
    in_meta: bool,
    in_data: bool,
    orphan: bool,
}

pub(crate) struct Pass<'a> {
    judge: Judge<'a>,
    id: TabletId,
    namespace: &'a mut Namespace,
    counts: &'a mut Counts,
    current: Option<Current>,
    indexed: Vec<Indexed>,
    /// What the deletion index had so far.
    deleted: BTreeSet<InodeNo>,
    /// Its first entry.
    first_deletion: Option<(Seq, InodeNo)>,
    /// Counted here.
    totals: Totals,
    /// As the tablet says.
    says: Totals,
    /// No seq was ever given out above this.
    ceiling: Seq,
    /// The newest seqs in the trees, and what the root says they are.
    newest: [u64; 2],
    newest_says: [u64; 2],
    /// The pass of the tablet's place in a scrub.
    scrub_pass: u64,
}

impl<'a> Pass<'a> {
    pub fn begin(
        judge: Judge<'a>,
        state: &TabletState,
        ceiling: Seq,
        namespace: &'a mut Namespace,
        counts: &'a mut Counts,
    ) -> Pass<'a> {
        let newest_says = state
            .root
            .as_ref()
            .map_or([0; 2], |body| [body.newest_meta_seq.get(), body.newest_data_seq.get()]);
        Pass {
            judge,
            id: state.id,
            namespace,
            counts,
            current: None,
            indexed: Vec::new(),
            deleted: BTreeSet::new(),
            first_deletion: None,
            totals: Totals::ZERO,
            says: state.totals,
            ceiling,
            newest: [0; 2],
            newest_says,
            scrub_pass: 0,
        }
    }

    fn note(&self, kind: &'static str, object: Object, detail: impl std::fmt::Display) {
        self.judge.findings().note(kind, object, detail);
    }

    /// Something of the tablet could not be read: see `Judge::whole`.
    pub fn lost_something(&self) {
        self.judge.whole.set(false);
    }

    /// The next item. What is to be read for it is appended to `reads`.
    pub fn take(&mut self, key: Key, value: &[u8], from_log: bool, reads: &mut Vec<DataRead>) {
        self.counts.items += 1;
        let Some(parsed) = key.parse() else {
            self.end_inode();
            self.note("item", Object::Item(self.id, key), "its key is of no known kind");
            return;
        };
        let taken = match inode_range(&parsed) {
            Some(ino) => {
                if self.current.as_ref().is_none_or(|current| current.ino != ino) {
                    self.end_inode();
                    self.current = Some(Current::of(ino));
                }
                if ino.tablet() != self.id {
                    self.note("item", Object::Item(self.id, key), "belongs to another tablet");
                }
                self.take_inode(parsed, value, reads)
            }
            None => {
                self.end_inode();
                self.take_other(key, parsed, value, from_log)
            }
        };
        if let Err(damage) = taken {
            // An item that does not parse is damage, whatever else was lost.
            self.judge.findings.note("item", Object::Item(self.id, key), damage);
        }
    }

    fn take_inode(
        &mut self,
        parsed: ParsedKey,
        value: &[u8],
        reads: &mut Vec<DataRead>,
    ) -> Result<(), Damage> {
        let Some(current) = &mut self.current else { return Ok(()) };
        current.take(parsed, value, &self.judge, self.namespace)?;
        reads.append(&mut current.mapping.reads);
        Ok(())
    }

    fn end_inode(&mut self) {
        let Some(mut current) = self.current.take() else { return };
        current.finish(&self.judge);
        self.counts.extents += current.mapping.extents;
        let Some(item) = current.item else { return };
        self.counts.inodes += 1;
        self.totals.inodes += 1;
        if current.ino.counter() >= self.says.inode_high_water.get() {
            let detail =
                format!("is at or above the high-water mark {}", self.says.inode_high_water);
            self.note("inode", Object::Inode(current.ino), detail);
        }
        self.indexed.push(Indexed {
            ino: current.ino,
            kind: item.file_kind(),
            nlink: item.nlink.get(),
            meta_seq: item.meta_seq.get(),
            data_seq: item.data_seq.get(),
            in_meta: false,
            in_data: false,
            orphan: false,
        });
    }

    fn find(&mut self, ino: InodeNo) -> Option<&mut Indexed> {
        let at = self.indexed.binary_search_by_key(&ino, |indexed| indexed.ino).ok()?;
        self.indexed.get_mut(at)
    }

    fn take_other(
        &mut self,
        key: Key,
        parsed: ParsedKey,
        value: &[u8],
        from_log: bool,
    ) -> Result<(), Damage> {
        match parsed {
            ParsedKey::MetaSeq(seq, ino) => {
                self.take_index(0, key, seq, ino, from_log);
                nothing(value)
            }
            ParsedKey::DataSeq(seq, ino) => {
                self.take_index(1, key, seq, ino, from_log);
                nothing(value)
            }
            ParsedKey::Deletion(seq, ino) => {
                self.totals.deletions += 1;
                self.first_deletion = self.first_deletion.or(Some((seq, ino)));
                self.take_deletion(key, seq, ino);
                let (head, _, xattrs) = DeletionHead::parse(value)?;
                let is_hidden =
                    |name| XattrNamespace::parse(name).is_ok_and(XattrNamespace::is_hidden);
                if !xattrs.iter().all(|xattr| is_hidden(xattr.name)) {
                    self.note("index", Object::Item(self.id, key), "an xattr in it was not hidden");
                }
                FileKind::parse(head.kind).map(drop)
            }
            ParsedKey::Orphan(ino) => {
                self.totals.orphans += 1;
                OrphanHead::parse(value)?;
                match self.find(ino) {
                    Some(indexed) => indexed.orphan = true,
                    None => self.note("orphan", Object::Inode(ino), "does not exist"),
                }
                Ok(())
            }
            ParsedKey::FreeRun(purpose, start) => {
                let blocks = FreeRunItem::parse(value)?.blocks.get();
                self.take_free_run(key, purpose, Run::new(start, blocks));
                Ok(())
            }
            ParsedKey::Pending(_) => {
                self.totals.pending += 1;
                self.counts.pending += 1;
                PartChange::parse_all(value).map(drop)
            }
            ParsedKey::Done(_) => {
                self.totals.done += 1;
                nothing(value)
            }
            ParsedKey::Srch { inode, .. } => {
                self.require_tagged(key, inode);
                nothing(value)
            }
            ParsedKey::Totl(_) => TotlItem::parse(value).map(drop),
            ParsedKey::Indx { inode, .. } => {
                self.require_tagged(key, inode);
                IndxItem::parse(value).map(drop)
            }
            ParsedKey::Quota { .. } => QuotaRuleItem::parse(value).map(drop),
            ParsedKey::Project(_) => ProjectItem::parse(value).map(drop),
            ParsedKey::Consumer { name_hash } => self.take_consumer(key, name_hash, value),
            ParsedKey::Trimmed => self.take_trimmed(key, value),
            ParsedKey::Scrub
            | ParsedKey::ScrubPlace
            | ParsedKey::DamagedData { .. }
            | ParsedKey::DamagedBlock(_) => self.take_scrub(key, parsed, value),
            _ => Err(Damage::Value("key")),
        }
    }

    /// What a scrub keeps. Its place goes with the pass that found something, in one record or before it.
    fn take_scrub(&mut self, key: Key, parsed: ParsedKey, value: &[u8]) -> Result<(), Damage> {
        let object = Object::Item(self.id, key);
        let pass = match parsed {
            ParsedKey::ScrubPlace => {
                let (head, _) = ScrubPlaceHead::parse(value)?;
                self.scrub_pass = head.pass.get();
                return Ok(());
            }
            ParsedKey::DamagedData { inode, .. } => {
                if inode.tablet() != self.id {
                    self.note("item", object.clone(), "belongs to another tablet");
                }
                DamagedDataItem::parse(value)?.pass.get()
            }
            ParsedKey::DamagedBlock(_) => DamagedBlockHead::parse(value)?.0.pass.get(),
            _ => {
                if self.id != InodeNo::ROOT.tablet() {
                    self.note("item", object, "only tablet 1 has the order of a scrub");
                }
                return ScrubItem::parse(value).map(drop);
            }
        };
        if pass > self.scrub_pass {
            let detail = format!("is of pass {pass}, the tablet's is {}", self.scrub_pass);
            self.note("item", object, detail);
        }
        Ok(())
    }

    /// An entry of meta_seq (0) or data_seq (1).
    fn take_index(&mut self, which: usize, key: Key, seq: Seq, ino: InodeNo, from_log: bool) {
        let object = Object::Item(self.id, key);
        if seq > self.ceiling {
            self.note("index", object.clone(), "is above every ceiling");
        }
        if !from_log {
            self.newest[which] = self.newest[which].max(seq.0);
        }
        let Some(indexed) = self.find(ino) else {
            self.note("index", object, "the inode does not exist");
            return;
        };
        let (says, seen) = match which {
            0 => (indexed.meta_seq, &mut indexed.in_meta),
            _ => (indexed.data_seq, &mut indexed.in_data),
        };
        let belongs = which == 0 || indexed.kind == FileKind::Regular;
        if belongs && says == seq.0 {
            *seen = true;
        } else if belongs {
            self.note("index", object, format!("the inode says {says}"));
        } else {
            self.note("index", object, "the inode is no regular file");
        }
    }

    /// What is gone was here once, and went once.
    fn take_deletion(&mut self, key: Key, seq: Seq, ino: InodeNo) {
        let object = || Object::Item(self.id, key);
        if ino.tablet() != self.id {
            self.note("item", object(), "belongs to another tablet");
            return;
        }
        if seq > self.ceiling {
            self.note("index", object(), "is above every ceiling");
        }
        if ino.counter() >= self.says.inode_high_water.get() {
            let detail =
                format!("is at or above the high-water mark {}", self.says.inode_high_water);
            self.note("index", object(), detail);
        }
        if self.deleted.contains(&ino) {
            self.note("index", object(), "was deleted before: an inode number is used once");
        }
        if self.indexed.binary_search_by_key(&ino, |indexed| indexed.ino).is_ok() {
            self.note("index", object(), "the inode exists");
        }
        self.deleted.insert(ino);
    }

    /// A cursor is in the order's tablet, under its own name, and where a stream has ended.
    fn take_consumer(&mut self, key: Key, name_hash: u128, value: &[u8]) -> Result<(), Damage> {
        let object = || Object::Item(self.id, key);
        let (head, name) = ConsumerHead::parse(value)?;
        if self.id != InodeNo::ROOT.tablet() {
            self.note("item", object(), "only tablet 1 has consumers");
        }
        if name_hash != self.judge.name_hash(name.as_bytes()) {
            self.note("item", object(), "is not under the hash of its name");
        }
        if Seq(head.seq.get()) > self.ceiling || Seq(head.floor.get()) > self.ceiling {
            self.note("index", object(), format!("consumer {name:?} is above every ceiling"));
        }
        Ok(())
    }

    /// Deletions come before this item: none is left at or below the place.
    fn take_trimmed(&mut self, key: Key, value: &[u8]) -> Result<(), Damage> {
        let object = || Object::Item(self.id, key);
        let item = TrimmedItem::parse(value)?;
        let (seq, inode) = (Seq(item.seq.get()), item.inode.get());
        if seq > self.ceiling {
            self.note("index", object(), "deletions are trimmed up to above every ceiling");
        }
        match self.first_deletion {
            Some((first, ino)) if (first, ino.raw()) <= (seq, inode) => {
                let detail = format!("a deletion at {first}.{ino} is left that was trimmed");
                self.note("index", object(), detail);
            }
            _ => {}
        }
        Ok(())
    }

    /// A tag belongs to an inode.
    fn require_tagged(&mut self, key: Key, ino: InodeNo) {
        if self.find(ino).is_none() {
            self.note("index", Object::Item(self.id, key), "the inode does not exist");
        }
    }

    fn take_free_run(&mut self, key: Key, purpose: Purpose, run: Run) {
        self.counts.free_runs += 1;
        let total = match purpose {
            Purpose::Unassigned => &mut self.totals.free_unassigned,
            Purpose::Node => &mut self.totals.free_node,
            Purpose::Data => &mut self.totals.free_data,
        };
        *total = total.get().saturating_add(run.blocks).into();
        let owner = Owner::Free(self.id, purpose);
        self.judge.space.claim(run, owner, self.judge.findings());
        if purpose == Purpose::Unassigned && self.id != InodeNo::ROOT.tablet() {
            self.note("space", Object::Item(self.id, key), "only tablet 1 has unassigned space");
        }
        let is_whole_nodes =
            run.start.index().is_multiple_of(NODE_UNIT) && run.blocks.is_multiple_of(NODE_UNIT);
        if purpose == Purpose::Node && !is_whole_nodes {
            self.note("space", Object::Item(self.id, key), "node space in parts of a node");
        }
    }

    /// All items have come.
    pub fn finish(mut self) {
        self.end_inode();
        for indexed in std::mem::take(&mut self.indexed) {
            let Indexed { ino, kind, nlink, orphan, .. } = indexed;
            self.namespace.inode(ino, kind, nlink, orphan);
            if !indexed.in_meta {
                let detail = format!("is not in meta_seq at {}", indexed.meta_seq);
                self.note("index", Object::Inode(ino), detail);
            }
            if !indexed.in_data && kind == FileKind::Regular {
                let detail = format!("is not in data_seq at {}", indexed.data_seq);
                self.note("index", Object::Inode(ino), detail);
            }
        }
        if !self.judge.whole.get() {
            self.namespace.torn(self.id);
        }
        self.check_totals();
        for (which, name) in ["meta_seq", "data_seq"].into_iter().enumerate() {
            let (found, says) = (self.newest[which], self.newest_says[which]);
            if found > says {
                let detail = format!("its trees have {name} {found}, its root says {says}");
                self.note("totals", Object::Tablet(self.id), detail);
            }
            if Seq(says) > self.ceiling {
                let detail = format!("its newest {name} {says} is above every ceiling");
                self.note("root", Object::Tablet(self.id), detail);
            }
        }
    }

    fn check_totals(&self) {
        let pairs = [
            ("inodes", self.says.inodes, self.totals.inodes),
            ("orphans", self.says.orphans, self.totals.orphans),
            ("pending operations", self.says.pending, self.totals.pending),
            ("done operations", self.says.done, self.totals.done),
            ("deletions", self.says.deletions, self.totals.deletions),
            ("free node blocks", self.says.free_node, self.totals.free_node),
            ("free data blocks", self.says.free_data, self.totals.free_data),
            ("unassigned blocks", self.says.free_unassigned, self.totals.free_unassigned),
        ];
        for (name, says, counted) in pairs {
            if says != counted {
                let detail = format!("says {says} {name}, there are {counted}");
                self.note("totals", Object::Tablet(self.id), detail);
            }
        }
    }
}

/// The inode of an item in the inode range.
fn inode_range(key: &ParsedKey) -> Option<InodeNo> {
    match *key {
        ParsedKey::Inode(inode)
        | ParsedKey::Symlink(inode)
        | ParsedKey::BackReference { child: inode, .. }
        | ParsedKey::Xattr { inode, .. }
        | ParsedKey::Lookup { dir: inode, .. }
        | ParsedKey::Readdir { dir: inode, .. }
        | ParsedKey::Extent { inode, .. }
        | ParsedKey::Checksums { inode, .. }
        | ParsedKey::Fixity { inode, .. } => Some(inode),
        _ => None,
    }
}

fn nothing(value: &[u8]) -> Result<(), Damage> {
    if value.is_empty() { Ok(()) } else { Err(Damage::Bounds("index value")) }
}
