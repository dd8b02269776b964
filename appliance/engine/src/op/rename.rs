//! RENAME: a name moves, perhaps over another, perhaps to another directory.
//!
//! Up to four inodes are involved: two directories, what moves, what it replaces. When all their
//! tablets are here it is one record; else the target directory's shard coordinates
//! (`txn/across.rs`). Either way `decide` is all of rename's meaning. Inodes never move: a renamed
//! file stays in its tablet.
//!
//! A directory that moves to another parent changes who is whose ancestor. Only such moves do, so
//! they take the pool's one rename lock first and hold it until everything is applied; under it the
//! way from the target up to the root is walked, and a target inside the moved directory refused.

use crate::access;
use crate::attr::{Attr, Before, Change, FileKind, Rights};
use crate::cred::Cred;
use crate::error::FsError;
use crate::item::Entry;
use crate::limits::LINKS_MAX;
use crate::name::Name;
use crate::op::create::require_alive;
use crate::op::unlink::{REMOVAL_BYTES, require_removable};
use crate::peer::{Answer, Ask, mismatch};
use crate::sabotage::{Sabotage, planted};
use crate::shard::Shard;
use crate::space::SPACE_TABLET;
use crate::txn::across::{Facts, Watch};
use crate::txn::{Class, Need, Stop, View};
use cairn_base::door::Doors;
use cairn_format::item::{INODE_RETENTION, InodeItem, PartChange, Site};
use cairn_format::{InodeNo, OpId, TabletId};
use cairn_reactor::{Guard, Slot};
use std::rc::Rc;

#[derive(Debug)]
pub struct Rename {
    pub cred: Cred,
    pub from_dir: InodeNo,
    pub from_name: Name,
    pub to_dir: InodeNo,
    pub to_name: Name,
}

#[derive(Clone, Debug)]
pub struct Renamed {
    pub from: Change,
    pub to: Change,
}

/// What both names stand for.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Names {
    moved: Entry,
    replaced: Option<Entry>,
}

/// The inodes of a rename as they are.
struct Parties {
    from_dir: InodeItem,
    to_dir: InodeItem,
    moved: InodeItem,
    replaced: Option<InodeItem>,
}

/// The pool's lock for moves of directories, held.
struct RenameTurn {
    op: OpId,
    /// To the shard that keeps the lock, where it is not this one.
    slot: Option<Slot<Ask, Answer>>,
    /// This shard's turn, and the lock itself where it is kept here.
    _held: (Guard, Option<Guard>),
}

/// How often the names may change between looking and locking.
const TRIES: usize = 16;

impl Rename {
    pub fn home(&self) -> InodeNo {
        self.to_dir
    }

    pub(crate) async fn run<D: Doors>(self, shard: &Rc<Shard<D>>) -> Result<Renamed, FsError> {
        shard.home(self.from_dir)?;
        for _ in 0..TRIES {
            let names = self.look(shard).await?;
            let moves_directory =
                names.moved.kind == FileKind::Directory && self.from_dir != self.to_dir;
            let lock = if moves_directory { Some(shard.lock_renames().await?) } else { None };
            let done = self.attempt(shard, names, moves_directory).await;
            if let Some(lock) = lock {
                shard.unlock_renames(lock).await;
            }
            if let Some((from, to)) = done? {
                shard.pace.wake_all();
                return self.report(shard, from, to).await;
            }
        }
        Err(FsError::Busy)
    }

    async fn report<D: Doors>(
        &self,
        shard: &Rc<Shard<D>>,
        from: Attr,
        to: Attr,
    ) -> Result<Renamed, FsError> {
        let from_after = shard.attr_after(from).await?;
        let to_after = shard.attr_after(to).await?;
        Ok(Renamed {
            from: Change { before: Before::of(&from), after: from_after },
            to: Change { before: Before::of(&to), after: to_after },
        })
    }

    /// What the names stand for now; to be checked again under locks.
    async fn look<D: Doors>(&self, shard: &Rc<Shard<D>>) -> Result<Names, FsError> {
        let cred = self.cred.clone();
        let (dir, name) = (self.from_dir, self.from_name.clone());
        let moved = shard.call_nested(super::PeekEntry { cred, dir, name }).await?;
        let cred = self.cred.clone();
        let (dir, name) = (self.to_dir, self.to_name.clone());
        let replaced = shard.call_nested(super::PeekEntry { cred, dir, name }).await?;
        Ok(Names { moved: moved.ok_or(FsError::NotFound)?, replaced })
    }

    async fn attempt<D: Doors>(
        &self,
        shard: &Rc<Shard<D>>,
        names: Names,
        moves_directory: bool,
    ) -> Result<Option<(Attr, Attr)>, FsError> {
        if moves_directory
            && !planted(Sabotage::MovedIntoItself)
            && shard.is_inside(self.to_dir, names.moved.child).await?
        {
            return Err(FsError::Invalid);
        }
        let mut inodes = vec![self.from_dir, self.to_dir, names.moved.child];
        inodes.extend(names.replaced.map(|entry| entry.child));
        inodes.sort_unstable();
        inodes.dedup();
        for ino in &inodes {
            shard.home(*ino)?;
        }
        if inodes.iter().all(|ino| shard.core.owns(ino.tablet())) {
            self.rename_here(shard, names, &inodes).await
        } else {
            match self.rename_across(shard, names, &inodes).await {
                // What a name stood for is gone by now: look again.
                Err(FsError::Stale) => Ok(None),
                done => done,
            }
        }
    }

    async fn rename_here<D: Doors>(
        &self,
        shard: &Rc<Shard<D>>,
        names: Names,
        inodes: &[InodeNo],
    ) -> Result<Option<(Attr, Attr)>, FsError> {
        let tablets: Vec<TabletId> = inodes.iter().map(|ino| ino.tablet()).collect();
        let need = Need::new(Class::Growing, &tablets, Need::SMALL + REMOVAL_BYTES);
        let (done, ticket) = shard
            .transact(need, |view| {
                let from_dir = view.directory_to_change(self.from_dir)?;
                let to_dir = view.directory_to_change(self.to_dir)?;
                let moved = view.require_entry(self.from_dir, self.from_name.as_bytes())?;
                let replaced = view.entry(self.to_dir, self.to_name.as_bytes())?;
                if (Names { moved, replaced }) != names {
                    return Ok(None);
                }
                let parties = Parties {
                    from_dir,
                    to_dir,
                    moved: view.inode_to_change(moved.child)?,
                    replaced: match replaced {
                        Some(entry) => Some(view.inode_to_change(entry.child)?),
                        None => None,
                    },
                };
                for part in self.decide(&parties, &names, view.now)? {
                    view.apply_change(&part)?;
                }
                Ok(Some(self.befores(&parties)))
            })
            .await?;
        shard.settle(ticket).await?;
        Ok(done)
    }

    async fn rename_across<D: Doors>(
        &self,
        shard: &Rc<Shard<D>>,
        names: Names,
        inodes: &[InodeNo],
    ) -> Result<Option<(Attr, Attr)>, FsError> {
        let watches = inodes.iter().map(|ino| {
            let mut watched: Vec<Box<[u8]>> = Vec::new();
            if *ino == self.from_dir {
                watched.push(self.from_name.as_bytes().into());
            }
            if *ino == self.to_dir {
                watched.push(self.to_name.as_bytes().into());
            }
            Watch::Inode { ino: *ino, names: watched }
        });
        let watches = watches.collect();
        shard
            .across(self.to_dir.tablet(), Class::Growing, watches, |facts: &Facts, view| {
                let moved = facts.entries(self.from_dir)[0];
                let replaced = *facts.entries(self.to_dir).last().expect("the name was watched");
                if moved != Some(names.moved) || replaced != names.replaced {
                    return Ok((Vec::new(), None));
                }
                let parties = Parties {
                    from_dir: facts.item(self.from_dir),
                    to_dir: facts.item(self.to_dir),
                    moved: facts.item(names.moved.child),
                    replaced: names.replaced.map(|entry| facts.item(entry.child)),
                };
                let parts = self.decide(&parties, &names, view.now)?;
                Ok((parts, Some(self.befores(&parties))))
            })
            .await
    }

    fn befores(&self, parties: &Parties) -> (Attr, Attr) {
        let before = crate::item::attr_of_item;
        (before(self.from_dir, &parties.from_dir), before(self.to_dir, &parties.to_dir))
    }

    /// All of rename's meaning: what is refused, and what each inode changes.
    fn decide(&self, at: &Parties, names: &Names, time: i64) -> Result<Vec<PartChange>, Stop> {
        for dir in [&at.from_dir, &at.to_dir] {
            if dir.file_kind() != FileKind::Directory {
                return Err(FsError::NotDirectory.into());
            }
            access::require_entry_change(&self.cred, dir)?;
            require_alive(dir)?;
        }
        access::require_not_sticky(&self.cred, &at.from_dir, &at.moved)?;
        if at.moved.flags & INODE_RETENTION != 0 {
            return Err(FsError::Permission.into());
        }
        let Names { moved, replaced } = *names;
        let same_dir = self.from_dir == self.to_dir;
        let is_directory = moved.kind == FileKind::Directory;
        if is_directory && !same_dir {
            // Its entry for the parent changes, which is a change of the directory itself.
            access::require(&self.cred, &at.moved, Rights::WRITE)?;
        }
        let mut parts = Vec::new();
        if let (Some(entry), Some(inode)) = (replaced, &at.replaced) {
            if entry.child == moved.child {
                // Two names of one inode: nothing happens.
                return Ok(parts);
            }
            self.check_replaced(at, entry, inode, is_directory)?;
            let site = Site { dir: self.to_dir, position: entry.position };
            let name: Box<[u8]> = self.to_name.as_bytes().into();
            parts.push(PartChange::DropEntry { site, name: name.clone(), kind: entry.kind, time });
            parts.push(PartChange::DropLink { child: entry.child, site, name, time });
        } else if is_directory && !same_dir && at.to_dir.nlink.get() >= LINKS_MAX {
            return Err(FsError::TooManyLinks.into());
        }
        let from = Site { dir: self.from_dir, position: moved.position };
        let (child, kind) = (moved.child, moved.kind);
        let (old, new): (Box<[u8]>, Box<[u8]>) =
            (self.from_name.as_bytes().into(), self.to_name.as_bytes().into());
        if same_dir {
            // The entry keeps its position, so a listing under way shows it once.
            parts.push(PartChange::RenameEntry {
                site: from,
                from: old,
                to: new,
                child,
                kind,
                time,
            });
            parts.push(PartChange::MoveLink { child, from, to: from, time });
        } else {
            let to = Site { dir: self.to_dir, position: View::next_position(&at.to_dir) };
            parts.push(PartChange::DropEntry { site: from, name: old, kind, time });
            parts.push(PartChange::AddEntry { site: to, name: new, child, kind, time });
            parts.push(PartChange::MoveLink { child, from, to, time });
        }
        Ok(parts)
    }

    fn check_replaced(
        &self,
        at: &Parties,
        entry: Entry,
        inode: &InodeItem,
        is_directory: bool,
    ) -> Result<(), Stop> {
        let over_directory = entry.kind == FileKind::Directory;
        match (is_directory, over_directory) {
            (true, false) => return Err(FsError::NotDirectory.into()),
            (false, true) => return Err(FsError::IsDirectory.into()),
            (true, true) | (false, false) => {}
        }
        access::require_not_sticky(&self.cred, &at.to_dir, inode)?;
        require_removable(inode)?;
        Ok(())
    }
}

/// What a name stands for, for an operation that will check again; asks for no attributes.
#[derive(Debug)]
pub struct PeekEntry {
    pub cred: Cred,
    pub dir: InodeNo,
    pub name: Name,
}

impl PeekEntry {
    pub fn home(&self) -> InodeNo {
        self.dir
    }

    pub(crate) async fn run<D: Doors>(
        self,
        shard: &Rc<Shard<D>>,
    ) -> Result<Option<Entry>, FsError> {
        shard
            .read_with(|view| {
                let dir = view.directory(self.dir)?;
                access::require(&self.cred, &dir, Rights::EXECUTE)?;
                view.entry(self.dir, self.name.as_bytes())
            })
            .await
    }
}

impl<D: Doors> Shard<D> {
    /// Takes the pool's one lock for moves of directories, on the owner of tablet 1. One move of a
    /// shard asks for it at a time, and gives it back through the slot it asked with: so however many
    /// moves wait, they keep no slot from others, and giving back never meets `Busy`.
    async fn lock_renames(self: &Rc<Self>) -> Result<RenameTurn, FsError> {
        let here = self.rename_turn.acquire(1).await;
        let op = self.next_op_id();
        let keeper = self.core.pool.owner(SPACE_TABLET);
        if keeper == self.core.id {
            let guard = self.rename_lock.acquire(1).await;
            return Ok(RenameTurn { op, slot: None, _held: (here, Some(guard)) });
        }
        let mut slot = self.peers.open(keeper)?;
        slot.ask(Ask::LockRenames { op }).await.done()?;
        Ok(RenameTurn { op, slot: Some(slot), _held: (here, None) })
    }

    async fn unlock_renames(&self, turn: RenameTurn) {
        let RenameTurn { op, slot, _held } = turn;
        if let Some(mut slot) = slot {
            // It fails only when the keeper has stopped, and then no move can begin.
            let _gone = slot.ask(Ask::UnlockRenames { op }).await;
        }
    }

    /// Is `dir` the directory `above`, or somewhere below it?
    async fn is_inside(self: &Rc<Self>, dir: InodeNo, above: InodeNo) -> Result<bool, FsError> {
        let mut at = dir;
        loop {
            if at == above {
                return Ok(true);
            }
            let owner = self.home(at)?;
            let parent = if owner == self.core.id {
                self.parent_of(at).await?
            } else {
                match self.peers.ask(owner, Ask::ParentOf(at)).await? {
                    Answer::Parent(parent) => parent?,
                    other => mismatch(&other),
                }
            };
            match parent {
                Some(parent) => at = parent,
                None => return Ok(false),
            }
        }
    }
}
