//! CREATE, MKDIR, SYMLINK, MKNOD: a new inode with a name.
//!
//! Everything but a directory lies in its parent's tablet, so it is one record here. A directory
//! may be placed elsewhere (`place_directory`); when that is another shard's, the two are one
//! operation over tablets.

use crate::access::{self, SGID};
use crate::attr::{Attr, Before, Change, FileKind, Rdev, SetAttr, SetTime};
use crate::cred::Cred;
use crate::error::FsError;
use crate::item::attr_of_item;
use crate::limits::{LINKS_MAX, POSITION_FIRST, SYMLINK_BYTES_MAX};
use crate::name::Name;
use crate::op::parts::directory_item;
use crate::shard::Shard;
use crate::txn::across::{Facts, Watch};
use crate::txn::{Class, Need, Stop, View};
use cairn_base::door::Doors;
use cairn_format::item::{INODE_SPREAD, InodeItem, PartChange, Site};
use cairn_format::key::Key;
use cairn_format::{InodeNo, TabletId};
use std::rc::Rc;

#[derive(Clone, Debug)]
pub enum CreateHow {
    /// Takes an existing regular file as it is, but for the size.
    Unchecked(SetAttr),
    Guarded(SetAttr),
    /// Exactly once, however often it is asked: the verifier is kept in the times.
    Exclusive([u8; 8]),
}

#[derive(Debug)]
pub struct Create {
    pub cred: Cred,
    pub dir: InodeNo,
    pub name: Name,
    pub how: CreateHow,
}

#[derive(Debug)]
pub struct Mkdir {
    pub cred: Cred,
    pub dir: InodeNo,
    pub name: Name,
    pub set: SetAttr,
}

#[derive(Debug)]
pub struct Symlink {
    pub cred: Cred,
    pub dir: InodeNo,
    pub name: Name,
    pub set: SetAttr,
    pub target: Vec<u8>,
}

/// A device, fifo or socket.
#[derive(Debug)]
pub struct Mknod {
    pub cred: Cred,
    pub dir: InodeNo,
    pub name: Name,
    pub set: SetAttr,
    pub kind: FileKind,
    pub rdev: Rdev,
}

#[derive(Clone, Debug)]
pub struct Created {
    pub ino: InodeNo,
    pub attr: Attr,
    pub dir: Change,
}

/// What a new inode is to be.
struct Plan<'p> {
    kind: FileKind,
    set: SetAttr,
    size: u64,
    special: u64,
    text: Option<&'p [u8]>,
    verifier: Option<[u8; 8]>,
}

const DEFAULT_FILE_MODE: u32 = 0o644;
const DEFAULT_DIRECTORY_MODE: u32 = 0o755;

impl Create {
    pub fn home(&self) -> InodeNo {
        self.dir
    }

    pub(crate) async fn run<D: Doors>(self, shard: &Rc<Shard<D>>) -> Result<Created, FsError> {
        let (set, verifier) = match &self.how {
            CreateHow::Unchecked(set) | CreateHow::Guarded(set) => (*set, None),
            CreateHow::Exclusive(verifier) => (SetAttr::default(), Some(*verifier)),
        };
        let size = set.size.unwrap_or(0);
        if size > crate::limits::FILE_BYTES_MAX {
            return Err(FsError::TooBig);
        }
        let plan = Plan { kind: FileKind::Regular, set, size, special: 0, text: None, verifier };
        let made = create(shard, &self.cred, self.dir, &self.name, &plan).await;
        if made.as_ref().err() != Some(&FsError::Exists) {
            return made;
        }
        match self.how {
            CreateHow::Guarded(_) => Err(FsError::Exists),
            CreateHow::Exclusive(verifier) => self.same_create(shard, verifier).await,
            CreateHow::Unchecked(set) => self.reuse(shard, set).await,
        }
    }

    /// The file exists: was it made by this very call, sent again?
    async fn same_create<D: Doors>(
        &self,
        shard: &Rc<Shard<D>>,
        verifier: [u8; 8],
    ) -> Result<Created, FsError> {
        let (ino, dir) = self.existing(shard).await?;
        let attr = shard.call_nested(super::Getattr { ino }).await?;
        let (mtime, atime) = verifier_times(verifier);
        let same = attr.kind == FileKind::Regular && attr.mtime.0 == mtime && attr.atime.0 == atime;
        if !same {
            return Err(FsError::Exists);
        }
        Ok(Created { ino, attr, dir: Change { before: Before::of(&dir), after: dir } })
    }

    async fn reuse<D: Doors>(
        &self,
        shard: &Rc<Shard<D>>,
        set: SetAttr,
    ) -> Result<Created, FsError> {
        let (ino, dir) = self.existing(shard).await?;
        let mut attr = shard.call_nested(super::Getattr { ino }).await?;
        match attr.kind {
            FileKind::Regular => {}
            FileKind::Directory => return Err(FsError::IsDirectory),
            _ => return Err(FsError::Exists),
        }
        if set.size.is_some() {
            let set = SetAttr { size: set.size, ..SetAttr::default() };
            let cred = self.cred.clone();
            attr = shard.call_nested(super::Setattr { cred, ino, set, guard: None }).await?.after;
        }
        Ok(Created { ino, attr, dir: Change { before: Before::of(&dir), after: dir } })
    }

    async fn existing<D: Doors>(&self, shard: &Rc<Shard<D>>) -> Result<(InodeNo, Attr), FsError> {
        shard
            .read_with(|view| {
                let dir = view.directory(self.dir)?;
                let entry = view.require_entry(self.dir, self.name.as_bytes())?;
                Ok((entry.child, view.attr(self.dir, &dir)))
            })
            .await
    }
}

impl Symlink {
    pub fn home(&self) -> InodeNo {
        self.dir
    }

    pub(crate) async fn run<D: Doors>(self, shard: &Rc<Shard<D>>) -> Result<Created, FsError> {
        if self.target.is_empty() {
            return Err(FsError::Invalid);
        }
        if self.target.len() > SYMLINK_BYTES_MAX {
            return Err(FsError::NameTooLong);
        }
        let set = SetAttr { mode: Some(0o777), ..self.set };
        let plan = Plan {
            kind: FileKind::Symlink,
            set,
            size: self.target.len() as u64,
            special: 0,
            text: Some(&self.target),
            verifier: None,
        };
        create(shard, &self.cred, self.dir, &self.name, &plan).await
    }
}

impl Mknod {
    pub fn home(&self) -> InodeNo {
        self.dir
    }

    pub(crate) async fn run<D: Doors>(self, shard: &Rc<Shard<D>>) -> Result<Created, FsError> {
        let special = match self.kind {
            FileKind::Block | FileKind::Character if self.cred.privileged => {
                u64::from(self.rdev.major) << 32 | u64::from(self.rdev.minor)
            }
            FileKind::Block | FileKind::Character => return Err(FsError::Permission),
            FileKind::Fifo | FileKind::Socket => 0,
            FileKind::Regular | FileKind::Directory | FileKind::Symlink => {
                return Err(FsError::Invalid);
            }
        };
        let plan =
            Plan { kind: self.kind, set: self.set, size: 0, special, text: None, verifier: None };
        create(shard, &self.cred, self.dir, &self.name, &plan).await
    }
}

/// A new inode in its parent's tablet.
async fn create<D: Doors>(
    shard: &Rc<Shard<D>>,
    cred: &Cred,
    dir: InodeNo,
    name: &Name,
    plan: &Plan<'_>,
) -> Result<Created, FsError> {
    let tablet = dir.tablet();
    let text = plan.text.map_or(0, <[u8]>::len);
    let need = Need::new(Class::Growing, &[tablet], Need::SMALL + text);
    let (created, ticket) = shard
        .transact(need, |view| {
            let parent = view.directory_to_change(dir)?;
            access::require_entry_change(cred, &parent)?;
            require_alive(&parent)?;
            if view.entry(dir, name.as_bytes())?.is_some() {
                return Err(FsError::Exists.into());
            }
            let before = Before::of(&view.attr(dir, &parent));
            let ino = view.new_inode_no(tablet)?;
            let site = Site { dir, position: View::next_position(&parent) };
            let item = new_item(cred, &parent, plan, view.now);
            let item = view.add_inode(ino, item);
            view.put_back_reference(ino, site);
            if let Some(text) = plan.text {
                view.put_new(tablet, Key::symlink(ino), text);
            }
            let (kind, time) = (plan.kind, view.now);
            let name = name.as_bytes().into();
            view.apply_change(&PartChange::AddEntry { site, name, child: ino, kind, time })?;
            let after = view.inode(dir)?;
            let dir = Change { before, after: view.attr(dir, &after) };
            Ok(Created { ino, attr: view.attr(ino, &item), dir })
        })
        .await?;
    shard.settle(ticket).await?;
    Ok(created)
}

/// A directory that was removed while somebody still has its handle takes no new names.
pub fn require_alive(dir: &InodeItem) -> Result<(), FsError> {
    if dir.nlink.get() == 0 { Err(FsError::Stale) } else { Ok(()) }
}

fn new_item(cred: &Cred, parent: &InodeItem, plan: &Plan<'_>, now: i64) -> InodeItem {
    let is_directory = plan.kind == FileKind::Directory;
    let default = if is_directory { DEFAULT_DIRECTORY_MODE } else { DEFAULT_FILE_MODE };
    let inherit = u32::from(parent.mode.get()) & SGID != 0;
    let gid = if inherit { parent.gid.get() } else { cred.gid };
    let gid = plan.set.gid.filter(|gid| cred.privileged || cred.in_group(*gid)).unwrap_or(gid);
    let uid = plan.set.uid.filter(|_| cred.privileged).unwrap_or(cred.uid);
    let mut mode = plan.set.mode.unwrap_or(default) & 0o7777;
    if !is_directory && !cred.privileged && mode & SGID != 0 && !cred.in_group(gid) {
        mode &= !SGID;
    }
    if is_directory && inherit {
        mode |= SGID;
    }
    let time = |set: Option<SetTime>| match set {
        Some(SetTime::To(time)) => time.0,
        Some(SetTime::Now) | None => now,
    };
    let (mut mtime, mut atime) = (time(plan.set.mtime), time(plan.set.atime));
    if let Some(verifier) = plan.verifier {
        (mtime, atime) = verifier_times(verifier);
    }
    InodeItem {
        mode: (mode as u16).into(),
        kind: plan.kind as u8,
        flags: 0,
        nlink: if is_directory { 2 } else { 1 }.into(),
        uid: uid.into(),
        gid: gid.into(),
        size: plan.size.into(),
        atime: atime.into(),
        mtime: mtime.into(),
        ctime: now.into(),
        crtime: now.into(),
        meta_seq: 0.into(),
        data_seq: 0.into(),
        data_version: 0.into(),
        online_blocks: 0.into(),
        offline_blocks: 0.into(),
        special: plan.special.into(),
    }
}

/// An exclusive create's verifier as two times, in whole seconds, which every client can send back.
fn verifier_times(verifier: [u8; 8]) -> (i64, i64) {
    let half = |bytes: &[u8]| {
        let word = bytes.iter().fold(0u32, |word, byte| word << 8 | u32::from(*byte));
        i64::from(word & 0x7fff_ffff) * 1_000_000_000
    };
    (half(&verifier[..4]), half(&verifier[4..]))
}

impl Mkdir {
    pub fn home(&self) -> InodeNo {
        self.dir
    }

    pub(crate) async fn run<D: Doors>(self, shard: &Rc<Shard<D>>) -> Result<Created, FsError> {
        let placed = self.place(shard).await?;
        let made = if shard.core.owns(placed) {
            self.make_here(shard, placed).await?
        } else {
            self.make_across(shard, placed).await?
        };
        let (made, before) = made;
        let attr = shard.attr_after(made).await?;
        let after = shard.attr_after(before).await?;
        let dir = Change { before: Before::of(&before), after };
        Ok(Created { ino: made.ino, attr, dir })
    }

    /// Round robin for children and grandchildren of the root, and below what is marked `spread`;
    /// else with the parent, so that a deep tree stays on one core.
    async fn place<D: Doors>(&self, shard: &Rc<Shard<D>>) -> Result<TabletId, FsError> {
        let spread = shard
            .read_with(|view| {
                let dir = view.directory(self.dir)?;
                let near_root = self.dir == InodeNo::ROOT
                    || view.first_site(self.dir)?.is_some_and(|site| site.dir == InodeNo::ROOT);
                Ok(near_root || dir.flags & INODE_SPREAD != 0)
            })
            .await?;
        if !spread {
            return Ok(self.dir.tablet());
        }
        let rotor = &shard.core.rotor;
        let tablet = rotor.get() % shard.core.pool.tablets;
        rotor.set((tablet + 1) % shard.core.pool.tablets);
        Ok(TabletId(tablet))
    }

    async fn make_here<D: Doors>(
        &self,
        shard: &Rc<Shard<D>>,
        tablet: TabletId,
    ) -> Result<(Attr, Attr), FsError> {
        let need = Need::new(Class::Growing, &[self.dir.tablet(), tablet], Need::SMALL);
        let (made, ticket) = shard
            .transact(need, |view| {
                let parent = view.directory_to_change(self.dir)?;
                let taken = view.entry(self.dir, self.name.as_bytes())?.is_some();
                self.check(&parent, taken)?;
                let ino = view.new_inode_no(tablet)?;
                let parts = self.parts(&parent, ino, view.now);
                for part in &parts {
                    view.apply_change(part)?;
                }
                Ok((attr_of_new(&parts), attr_of_item(self.dir, &parent)))
            })
            .await?;
        shard.settle(ticket).await?;
        Ok(made)
    }

    async fn make_across<D: Doors>(
        &self,
        shard: &Rc<Shard<D>>,
        tablet: TabletId,
    ) -> Result<(Attr, Attr), FsError> {
        let names = vec![self.name.as_bytes().into()];
        let watches = vec![Watch::Inode { ino: self.dir, names }, Watch::NewInode { tablet }];
        let home = self.dir.tablet();
        shard
            .across(home, Class::Growing, watches, |facts: &Facts, view| {
                let parent = facts.item(self.dir);
                self.check(&parent, facts.entries(self.dir)[0].is_some())?;
                let parts = self.parts(&parent, facts.new_inode(), view.now);
                let attrs = (attr_of_new(&parts), attr_of_item(self.dir, &parent));
                Ok((parts, attrs))
            })
            .await
    }

    fn check(&self, parent: &InodeItem, taken: bool) -> Result<(), Stop> {
        if parent.file_kind() != FileKind::Directory {
            return Err(FsError::NotDirectory.into());
        }
        access::require_entry_change(&self.cred, parent)?;
        require_alive(parent)?;
        if taken {
            return Err(FsError::Exists.into());
        }
        if parent.nlink.get() >= LINKS_MAX {
            return Err(FsError::TooManyLinks.into());
        }
        Ok(())
    }

    fn parts(&self, parent: &InodeItem, ino: InodeNo, now: i64) -> Vec<PartChange> {
        let plan = Plan {
            kind: FileKind::Directory,
            set: self.set,
            size: 0,
            special: POSITION_FIRST,
            text: None,
            verifier: None,
        };
        let item = new_item(&self.cred, parent, &plan, now);
        let site = Site { dir: self.dir, position: View::next_position(parent) };
        let name: Box<[u8]> = self.name.as_bytes().into();
        vec![
            PartChange::AddEntry { site, name, child: ino, kind: FileKind::Directory, time: now },
            PartChange::NewDirectory {
                ino,
                site,
                mode: item.mode.get(),
                uid: item.uid.get(),
                gid: item.gid.get(),
                times: [item.atime.get(), item.mtime.get(), item.ctime.get()],
            },
        ]
    }
}

/// The directory that a list of parts makes, as it will be.
fn attr_of_new(parts: &[PartChange]) -> Attr {
    let made = parts.iter().find_map(|part| match part {
        PartChange::NewDirectory { ino, mode, uid, gid, times, .. } => {
            Some(attr_of_item(*ino, &directory_item(*mode, *uid, *gid, *times)))
        }
        _ => None,
    });
    made.expect("mkdir makes a directory")
}
