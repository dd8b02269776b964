//! READDIR: a directory's entries in position order. Positions never return and never move, so a
//! listing goes on where it stopped, whatever came and went meanwhile, and over restarts.

use crate::access;
use crate::attr::{Attr, FileKind, Rights};
use crate::cred::Cred;
use crate::error::FsError;
use crate::limits::LISTING_ENTRIES_MAX;
use crate::shard::Shard;
use cairn_base::door::Doors;
use cairn_format::item::ReaddirHead;
use cairn_format::key::{KIND_READDIR, Key, ParsedKey};
use cairn_format::{EntryPosition, InodeNo};
use smallvec::SmallVec;
use std::ops::ControlFlow;
use std::rc::Rc;

/// Most names are short, and a listing has many.
pub type EntryName = SmallVec<[u8; 32]>;

#[derive(Debug)]
pub struct Readdir {
    pub cred: Cred,
    pub dir: InodeNo,
    /// Entries behind this position; 0 is the start. Real positions begin at 3.
    pub after: EntryPosition,
    pub count_max: usize,
}

#[derive(Debug)]
pub struct Dirent {
    pub ino: InodeNo,
    pub kind: FileKind,
    pub position: EntryPosition,
    pub name: EntryName,
    /// Of inodes of the directory's own shard.
    pub attr: Option<Attr>,
}

#[derive(Debug)]
pub struct Listing {
    pub entries: Vec<Dirent>,
    pub eof: bool,
    pub dir: Attr,
    pub parent: InodeNo,
}

/// Inodes are read so many at a time: beginning a stretch costs as much as reading some of them, and it
/// keeps every node in memory that it had to wait for.
const ATTRS_PER_STRETCH: usize = 64;

impl Readdir {
    pub fn home(&self) -> InodeNo {
        self.dir
    }

    pub(crate) async fn run<D: Doors>(self, shard: &Rc<Shard<D>>) -> Result<Listing, FsError> {
        let tablet = self.dir.tablet();
        let count_max = self.count_max.clamp(1, LISTING_ENTRIES_MAX);
        let mut listing = shard
            .read_with(|view| {
                let item = view.directory(self.dir)?;
                access::require(&self.cred, &item, Rights::READ)?;
                let mut entries = Vec::new();
                let mut eof = true;
                let mut damage = None;
                let from = Key::readdir(self.dir, self.after).successor();
                let end = Key::of_kind(self.dir, KIND_READDIR).prefix_end();
                view.scan(tablet, from, end, |key, value| {
                    if entries.len() == count_max {
                        eof = false;
                        return ControlFlow::Break(());
                    }
                    match (key.parse(), ReaddirHead::parse(value)) {
                        (Some(ParsedKey::Readdir { position, .. }), Ok((head, name))) => {
                            let child = InodeNo::from_raw(head.child.get());
                            entries.push(Dirent {
                                ino: child.expect("parse refuses inode 0"),
                                kind: FileKind::parse(head.kind).expect("parse checked the kind"),
                                position,
                                name: EntryName::from_slice(name),
                                attr: None,
                            });
                        }
                        (_, Err(bad)) => damage = Some(bad),
                        (_, Ok(_)) => damage = Some(cairn_format::Damage::Value("readdir key")),
                    }
                    ControlFlow::Continue(())
                })?;
                if let Some(damage) = damage {
                    return Err(view.damaged(tablet, damage));
                }
                let parent = view.first_site(self.dir)?.map_or(InodeNo::ROOT, |site| site.dir);
                Ok(Listing { entries, eof, dir: view.attr(self.dir, &item), parent })
            })
            .await?;
        for entries in listing.entries.chunks_mut(ATTRS_PER_STRETCH) {
            let mut at = 0;
            shard
                .read_with(|view| {
                    // What is known already stays known when a stretch begins again.
                    while let Some(entry) = entries.get_mut(at) {
                        if shard.core.owns(entry.ino.tablet()) {
                            let item = view.inode_if_any(entry.ino)?;
                            entry.attr = item.map(|item| view.attr(entry.ino, &item));
                        }
                        at += 1;
                    }
                    Ok(())
                })
                .await?;
        }
        Ok(listing)
    }
}
