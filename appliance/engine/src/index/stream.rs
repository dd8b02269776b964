//! The change stream: what was created, changed and deleted, as one list in seq order.
//!
//! It is made of three indexes. Two hold each inode's last change of any kind and of data; the third
//! holds a note of each inode that is gone. So it is a stream of last changes, not a history: an
//! inode that changed twice is met at the later place only. An inode's entries and the inode itself
//! lie in one tablet and are read in one stretch, so what is said of a change is true of that change
//! and not of a later one.
//!
//! Nothing above the stable seq is shown, and what in-flight changes hid is shown at neither place
//! before they are durable: whoever goes on from the last change that was shown misses nothing,
//! whatever a crash takes back.
//!
//! What was trimmed of the third index (`trim.rs`) is a gap that a reader is told of: behind it nothing is
//! left out, and whoever stands before it and may know an inode that went in it gets an error.
//!
//! A creation is told where nothing has happened to the inode since, or, for a file, no data was
//! written; else the inode shows up by its later change, and is new to whoever does not know its
//! number, since numbers never return.

use super::change::Place;
use super::merge::{Read, merged};
use super::trim::trimmed;
use crate::error::FsError;
use crate::peer::{Answer, Ask, mismatch};
use crate::shard::Shard;
use crate::tablet::Tablet;
use crate::txn::{Stop, View};
use cairn_base::door::Doors;
use cairn_format::item::{DELETION_XATTRS_CUT, DeletionHead, FileKind, HiddenXattr, InodeItem};
use cairn_format::key::{Key, ParsedKey, RANGE_DATA_SEQ, RANGE_DELETION, RANGE_META_SEQ};
use cairn_format::{InodeNo, Seq, ShardId, TabletId};
use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::rc::Rc;

/// Changes of one stretch. Each may need a node that is not in memory, and each such node makes the
/// stretch begin again.
const STRETCH_MAX: usize = 256;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    pub seq: Seq,
    pub ino: InodeNo,
    pub kind: FileKind,
    pub data_version: u64,
    pub what: What,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum What {
    Created,
    /// Attributes, names or what a directory holds.
    Metadata,
    Data,
    Deleted(Gone),
}

/// Where a deleted inode was named last, and what agents had noted of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Gone {
    pub parent: u64,
    pub name: Box<[u8]>,
    /// The hidden ones that it had.
    pub hidden_xattrs: Box<[Xattr]>,
    /// There were more than a deletion keeps.
    pub hidden_xattrs_cut: bool,
}

/// An extended attribute.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Xattr {
    pub name: Box<[u8]>,
    pub value: Box<[u8]>,
}

impl Change {
    fn place(&self) -> Place {
        (self.seq, self.ino.raw())
    }
}

impl<D: Doors> Shard<D> {
    /// Changes of `from..=to`, in order, none above the stable seq; at most `max`. None at all means
    /// that there are no more by now.
    pub async fn changes(
        self: &Rc<Self>,
        from: Place,
        to: Place,
        max: usize,
    ) -> Result<Vec<Change>, FsError> {
        self.changes_known(from, Seq(0), to, max).await
    }

    /// The same for a reader who knew, when it began, of no inode that was gone at `floor`: what was
    /// trimmed up to there it does not miss. `Trimmed` where it has missed something.
    pub async fn changes_known(
        self: &Rc<Self>,
        from: Place,
        floor: Seq,
        to: Place,
        max: usize,
    ) -> Result<Vec<Change>, FsError> {
        let stable = self.stable().await?;
        let to = to.min((stable, u64::MAX));
        let max = max.min(STRETCH_MAX);
        if from > to || max == 0 {
            return Ok(Vec::new());
        }
        let (mut all, mut trimmed) = (Vec::new(), None);
        for id in (0..self.core.pool.shards).map(ShardId) {
            let page = if id == self.core.id {
                self.changes_here(from, floor, to, max).await
            } else {
                match self.peers.ask(id, Ask::Changes { from, floor, to, max }).await? {
                    Answer::Changes(page) => page,
                    other => mismatch(&other),
                }
            };
            match page {
                Ok(more) => all.extend(more),
                // Who is told where history begins now is not to hear of a later place next time.
                Err(FsError::Trimmed { to }) => trimmed = trimmed.max(Some(to)),
                Err(error) => return Err(error),
            }
        }
        match trimmed {
            Some(to) => Err(FsError::Trimmed { to }),
            None => Ok(first(all, max)),
        }
    }

    pub(crate) async fn changes_here(
        self: &Rc<Self>,
        from: Place,
        floor: Seq,
        to: Place,
        max: usize,
    ) -> Result<Vec<Change>, FsError> {
        // Deletions and changes of data are changes of any kind, too.
        let tablets = self.core.tablets().filter(|tablet| tablet.newest_meta_seq.get() >= from.0);
        let read = ReadChanges { shard: self, floor, to };
        let found = merged(&read, tablets.cloned().collect(), from, max).await?;
        // As in `walk_here`: what was not there may have left by a change that is not durable yet.
        self.settle(self.log.newest_ticket()).await?;
        Ok(found)
    }
}

struct ReadChanges<'a, D: Doors> {
    shard: &'a Rc<Shard<D>>,
    floor: Seq,
    to: Place,
}

impl<D: Doors> Read for ReadChanges<'_, D> {
    type Entry = Change;

    fn place(change: &Change) -> Place {
        change.place()
    }

    async fn read(
        &self,
        tablet: &Rc<Tablet>,
        from: Place,
        max: usize,
    ) -> Result<Vec<Change>, FsError> {
        let read = self.shard.read_with(|view| {
            let missed = trimmed(view, tablet.id, from.0)?;
            let missed = missed.filter(|at| *at >= from && at.0 > self.floor);
            match missed {
                Some(at) => Ok(Err(FsError::Trimmed { to: at.0 })),
                None => changes_of(view, tablet.id, from, self.to, max).map(Ok),
            }
        });
        read.await?
    }
}

fn first(mut changes: Vec<Change>, max: usize) -> Vec<Change> {
    changes.sort_unstable_by_key(Change::place);
    changes.truncate(max);
    changes
}

fn changes_of(
    view: &View<'_>,
    tablet: TabletId,
    from: Place,
    to: Place,
    max: usize,
) -> Result<Vec<Change>, Stop> {
    let mut places: BTreeMap<Place, Option<Change>> = BTreeMap::new();
    let mut damage = None;
    for range in [RANGE_META_SEQ, RANGE_DATA_SEQ, RANGE_DELETION] {
        let begin = Key::seq_position(range, from.0, from.1);
        let end = Key::seq_position(range, to.0, to.1).successor();
        let mut count = 0;
        view.scan(tablet, begin, end, |key, value| {
            match key.parse() {
                Some(ParsedKey::MetaSeq(seq, ino) | ParsedKey::DataSeq(seq, ino)) => {
                    places.insert((seq, ino.raw()), None);
                }
                Some(ParsedKey::Deletion(seq, ino)) => match deletion(seq, ino, value) {
                    Ok(change) => drop(places.insert((seq, ino.raw()), Some(change))),
                    Err(bad) => damage = Some(bad),
                },
                _ => unreachable!("the range holds only this kind of key"),
            }
            count += 1;
            if count == max { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        })?;
    }
    if let Some(damage) = damage {
        return Err(view.damaged(tablet, damage));
    }
    let mut changes = Vec::with_capacity(places.len().min(max));
    for ((seq, ino), deleted) in places.into_iter().take(max) {
        changes.push(match deleted {
            Some(change) => change,
            None => {
                let ino = InodeNo::from_raw(ino).expect("it came out of a key");
                change(seq, ino, &view.inode(ino)?)
            }
        });
    }
    Ok(changes)
}

fn deletion(seq: Seq, ino: InodeNo, value: &[u8]) -> Result<Change, cairn_format::Damage> {
    let (head, name, xattrs) = DeletionHead::parse(value)?;
    let xattr =
        |xattr: HiddenXattr<'_>| Xattr { name: xattr.name.into(), value: xattr.value.into() };
    let gone = Gone {
        parent: head.last_parent.get(),
        name: name.into(),
        hidden_xattrs: xattrs.iter().map(xattr).collect(),
        hidden_xattrs_cut: head.flags & DELETION_XATTRS_CUT != 0,
    };
    Ok(Change {
        seq,
        ino,
        kind: FileKind::parse(head.kind)?,
        data_version: head.data_version.get(),
        what: What::Deleted(gone),
    })
}

/// What an inode's entry at `seq` tells of it.
fn change(seq: Seq, ino: InodeNo, item: &InodeItem) -> Change {
    let kind = item.file_kind();
    let is_of_data = kind == FileKind::Regular && item.data_seq.get() == seq.0;
    let is_untouched = item.ctime == item.crtime && item.meta_seq.get() == seq.0;
    // A file has its first data_seq from its creation, and its first version from its first data.
    let never_had_data = is_of_data && item.data_version.get() == 0;
    let what = match is_of_data {
        _ if is_untouched || never_had_data => What::Created,
        true => What::Data,
        false => What::Metadata,
    };
    Change { seq, ino, kind, data_version: item.data_version.get(), what }
}

#[cfg(test)]
mod tests {
    use super::*;
    use zerocopy::FromZeros;

    fn item(kind: FileKind, meta_seq: u64, data_seq: u64, ctime: i64, version: u64) -> InodeItem {
        let mut item = InodeItem::new_zeroed();
        item.kind = kind as u8;
        item.meta_seq = meta_seq.into();
        item.data_seq = data_seq.into();
        item.crtime = 100.into();
        item.ctime = ctime.into();
        item.data_version = version.into();
        item
    }

    fn what(item: &InodeItem, seq: u64) -> What {
        change(Seq(seq), InodeNo::ROOT, item).what
    }

    #[test]
    fn an_inode_is_created_until_something_else_happens_to_it() {
        let (file, directory) = (FileKind::Regular, FileKind::Directory);
        assert_eq!(what(&item(file, 5, 5, 100, 0), 5), What::Created);
        assert_eq!(what(&item(directory, 5, 0, 100, 0), 5), What::Created);
        assert_eq!(what(&item(directory, 6, 0, 101, 0), 6), What::Metadata);
        let renamed = item(file, 6, 5, 101, 0);
        assert_eq!((what(&renamed, 5), what(&renamed, 6)), (What::Created, What::Metadata));
        let written = item(file, 7, 7, 101, 7);
        assert_eq!(what(&written, 7), What::Data);
        let written_and_renamed = item(file, 8, 7, 102, 7);
        assert_eq!(what(&written_and_renamed, 7), What::Data);
        assert_eq!(what(&written_and_renamed, 8), What::Metadata);
    }
}
