//! Where an inode is named: its back references, in order, and the name that stands at one of them.
//!
//! The two halves of a link may lie in two tablets, so they are two questions, each asked of the
//! shard that has the answer. Both wait for operations over tablets to come to their end, so that one
//! half of a rename is not taken for a change.

use crate::error::FsError;
use crate::limits::LISTING_ENTRIES_MAX;
use crate::shard::Shard;
use cairn_base::door::Doors;
use cairn_format::InodeNo;
use cairn_format::item::{FileKind, ReaddirHead, Site};
use cairn_format::key::{KIND_BACK_REFERENCE, Key, ParsedKey};
use std::ops::ControlFlow;
use std::rc::Rc;

/// The places at which an inode is named; none for the root.
#[derive(Debug)]
pub struct Referring {
    pub ino: InodeNo,
    /// Places behind this one; `None`: from the first on.
    pub after: Option<Site>,
    pub count_max: usize,
}

impl Referring {
    pub fn home(&self) -> InodeNo {
        self.ino
    }

    pub(crate) async fn run<D: Doors>(self, shard: &Rc<Shard<D>>) -> Result<Vec<Site>, FsError> {
        let tablet = self.ino.tablet();
        let count_max = self.count_max.clamp(1, LISTING_ENTRIES_MAX);
        let prefix = Key::of_kind(self.ino, KIND_BACK_REFERENCE);
        let from = self.after.map_or(prefix, |site| {
            Key::back_reference(self.ino, site.dir, site.position).successor()
        });
        shard
            .read_with(|view| {
                view.require_unlocked(self.ino)?;
                view.inode(self.ino)?;
                let mut sites = Vec::new();
                view.scan(tablet, from, prefix.prefix_end(), |key, _| {
                    match key.parse() {
                        Some(ParsedKey::BackReference { dir, position, .. }) => {
                            sites.push(Site { dir, position });
                        }
                        _ => unreachable!("the range holds only this kind of key"),
                    }
                    if sites.len() == count_max {
                        ControlFlow::Break(())
                    } else {
                        ControlFlow::Continue(())
                    }
                })?;
                Ok(sites)
            })
            .await
    }
}

/// What stands at a place, if it is a name of `child`.
#[derive(Debug)]
pub struct NameAt {
    pub site: Site,
    pub child: InodeNo,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Named {
    pub name: Box<[u8]>,
    pub kind: FileKind,
}

impl NameAt {
    pub fn home(&self) -> InodeNo {
        self.site.dir
    }

    pub(crate) async fn run<D: Doors>(
        self,
        shard: &Rc<Shard<D>>,
    ) -> Result<Option<Named>, FsError> {
        let Site { dir, position } = self.site;
        let tablet = dir.tablet();
        shard
            .read_with(|view| {
                view.require_unlocked(dir)?;
                let Some(value) = view.get(tablet, &Key::readdir(dir, position))? else {
                    return Ok(None);
                };
                let (head, name) =
                    ReaddirHead::parse(&value).map_err(|damage| view.damaged(tablet, damage))?;
                let kind = FileKind::parse(head.kind).expect("parse checked the kind");
                let is_it = head.child.get() == self.child.raw();
                Ok(is_it.then(|| Named { name: name.into(), kind }))
            })
            .await
    }
}
