//! What a committed operation over tablets still asks of its participants: the value of a `pending`
//! item.
//!
//! A list of changes, each to one inode or to one tablet's free space, as plain little-endian
//! fields behind a tag. Times are in it, because a participant may apply after a restart; seqs and
//! index entries are not, because they are the participant's own at that moment. A `done` item has
//! no value: its key says all.

use super::FileKind;
use crate::damage::Damage;
use crate::ids::{EntryPosition, InodeNo, TABLETS_MAX, TabletId};
use crate::key::Purpose;
use cairn_base::{BlockNo, Run};

/// Where a name is: its directory and its position there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Site {
    pub dir: InodeNo,
    pub position: EntryPosition,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PartChange {
    /// The directory gets a name. A subdirectory raises its link count.
    AddEntry { site: Site, name: Box<[u8]>, child: InodeNo, kind: FileKind, time: i64 },
    /// The directory loses a name.
    DropEntry { site: Site, name: Box<[u8]>, kind: FileKind, time: i64 },
    /// A name changes within its directory and keeps its position.
    RenameEntry {
        site: Site,
        from: Box<[u8]>,
        to: Box<[u8]>,
        child: InodeNo,
        kind: FileKind,
        time: i64,
    },
    /// A file gets one more name.
    AddLink { child: InodeNo, site: Site, time: i64 },
    /// An inode loses a name; without one it becomes an orphan.
    DropLink { child: InodeNo, site: Site, name: Box<[u8]>, time: i64 },
    /// An inode's name moves.
    MoveLink { child: InodeNo, from: Site, to: Site, time: i64 },
    /// A directory comes into being.
    NewDirectory { ino: InodeNo, site: Site, mode: u16, uid: u32, gid: u32, times: [i64; 3] },
    /// A tablet gets a free run.
    AddRun { tablet: TabletId, purpose: Purpose, run: Run },
}

impl PartChange {
    /// The tablet it changes.
    pub fn tablet(&self) -> TabletId {
        match self {
            PartChange::AddEntry { site, .. }
            | PartChange::DropEntry { site, .. }
            | PartChange::RenameEntry { site, .. } => site.dir.tablet(),
            PartChange::AddLink { child, .. }
            | PartChange::DropLink { child, .. }
            | PartChange::MoveLink { child, .. } => child.tablet(),
            PartChange::NewDirectory { ino, .. } => ino.tablet(),
            PartChange::AddRun { tablet, .. } => *tablet,
        }
    }

    pub fn encode(&self, out: &mut Vec<u8>) {
        match self {
            PartChange::AddEntry { site, name, child, kind, time } => {
                out.push(1);
                site.encode(out);
                put_name(out, name);
                put(out, child.raw());
                out.push(*kind as u8);
                put(out, *time as u64);
            }
            PartChange::DropEntry { site, name, kind, time } => {
                out.push(2);
                site.encode(out);
                put_name(out, name);
                out.push(*kind as u8);
                put(out, *time as u64);
            }
            PartChange::RenameEntry { site, from, to, child, kind, time } => {
                out.push(3);
                site.encode(out);
                put_name(out, from);
                put_name(out, to);
                put(out, child.raw());
                out.push(*kind as u8);
                put(out, *time as u64);
            }
            PartChange::AddLink { child, site, time } => {
                out.push(4);
                put(out, child.raw());
                site.encode(out);
                put(out, *time as u64);
            }
            PartChange::DropLink { child, site, name, time } => {
                out.push(5);
                put(out, child.raw());
                site.encode(out);
                put_name(out, name);
                put(out, *time as u64);
            }
            PartChange::MoveLink { child, from, to, time } => {
                out.push(6);
                put(out, child.raw());
                from.encode(out);
                to.encode(out);
                put(out, *time as u64);
            }
            PartChange::NewDirectory { ino, site, mode, uid, gid, times } => {
                out.push(7);
                put(out, ino.raw());
                site.encode(out);
                out.extend_from_slice(&mode.to_le_bytes());
                out.extend_from_slice(&uid.to_le_bytes());
                out.extend_from_slice(&gid.to_le_bytes());
                times.iter().for_each(|time| put(out, *time as u64));
            }
            PartChange::AddRun { tablet, purpose, run } => {
                out.push(8);
                out.extend_from_slice(&tablet.0.to_le_bytes());
                out.push(*purpose as u8);
                put(out, run.start.raw());
                put(out, run.blocks);
            }
        }
    }

    /// All changes of a `pending` item.
    pub fn parse_all(value: &[u8]) -> Result<Vec<PartChange>, Damage> {
        let mut fields = Fields(value);
        let mut changes = Vec::new();
        while !fields.0.is_empty() {
            changes.push(fields.change().ok_or(Damage::Value("pending change"))?);
        }
        Ok(changes)
    }
}

impl Site {
    fn encode(&self, out: &mut Vec<u8>) {
        put(out, self.dir.raw());
        put(out, self.position.0);
    }
}

fn put(out: &mut Vec<u8>, number: u64) {
    out.extend_from_slice(&number.to_le_bytes());
}

fn put_name(out: &mut Vec<u8>, name: &[u8]) {
    assert!(name.len() <= 255, "a name fits one byte of length");
    out.push(name.len() as u8);
    out.extend_from_slice(name);
}

struct Fields<'a>(&'a [u8]);

impl Fields<'_> {
    fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (head, rest) = self.0.split_first_chunk::<N>()?;
        self.0 = rest;
        Some(*head)
    }

    fn u8(&mut self) -> Option<u8> {
        self.take::<1>().map(|b| b[0])
    }

    fn u64(&mut self) -> Option<u64> {
        self.take().map(u64::from_le_bytes)
    }

    fn time(&mut self) -> Option<i64> {
        self.take().map(i64::from_le_bytes)
    }

    fn inode(&mut self) -> Option<InodeNo> {
        InodeNo::from_raw(self.u64()?)
    }

    fn tablet(&mut self) -> Option<TabletId> {
        let raw = self.take().map(u16::from_le_bytes)?;
        (usize::from(raw) < TABLETS_MAX).then_some(TabletId(raw))
    }

    fn site(&mut self) -> Option<Site> {
        Some(Site { dir: self.inode()?, position: EntryPosition(self.u64()?) })
    }

    fn kind(&mut self) -> Option<FileKind> {
        FileKind::parse(self.u8()?).ok()
    }

    fn name(&mut self) -> Option<Box<[u8]>> {
        let len = usize::from(self.u8()?);
        let (name, rest) = self.0.split_at_checked(len)?;
        self.0 = rest;
        Some(name.into())
    }

    fn change(&mut self) -> Option<PartChange> {
        Some(match self.u8()? {
            1 => PartChange::AddEntry {
                site: self.site()?,
                name: self.name()?,
                child: self.inode()?,
                kind: self.kind()?,
                time: self.time()?,
            },
            2 => PartChange::DropEntry {
                site: self.site()?,
                name: self.name()?,
                kind: self.kind()?,
                time: self.time()?,
            },
            3 => PartChange::RenameEntry {
                site: self.site()?,
                from: self.name()?,
                to: self.name()?,
                child: self.inode()?,
                kind: self.kind()?,
                time: self.time()?,
            },
            4 => {
                PartChange::AddLink { child: self.inode()?, site: self.site()?, time: self.time()? }
            }
            5 => PartChange::DropLink {
                child: self.inode()?,
                site: self.site()?,
                name: self.name()?,
                time: self.time()?,
            },
            6 => PartChange::MoveLink {
                child: self.inode()?,
                from: self.site()?,
                to: self.site()?,
                time: self.time()?,
            },
            7 => PartChange::NewDirectory {
                ino: self.inode()?,
                site: self.site()?,
                mode: self.take().map(u16::from_le_bytes)?,
                uid: self.take().map(u32::from_le_bytes)?,
                gid: self.take().map(u32::from_le_bytes)?,
                times: [self.time()?, self.time()?, self.time()?],
            },
            8 => PartChange::AddRun {
                tablet: self.tablet()?,
                purpose: Purpose::parse(self.u8()?)?,
                run: Run::parse(BlockNo::from_raw(self.u64()?), self.u64()?)?,
            },
            _ => return None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_change_comes_back_and_a_cut_one_does_not() {
        let ino = InodeNo::ROOT;
        let site = Site { dir: ino, position: EntryPosition(7) };
        let (name, kind, time) = (Box::from(&b"name"[..]), FileKind::Directory, -5);
        let changes = vec![
            PartChange::AddEntry { site, name, child: ino, kind, time },
            PartChange::DropEntry { site, name: Box::from(&b"x"[..]), kind, time },
            PartChange::RenameEntry {
                site,
                from: Box::from(&b"a"[..]),
                to: Box::from(&b"b"[..]),
                child: ino,
                kind,
                time,
            },
            PartChange::AddLink { child: ino, site, time },
            PartChange::DropLink { child: ino, site, name: Box::from(&b"y"[..]), time },
            PartChange::MoveLink { child: ino, from: site, to: site, time },
            PartChange::NewDirectory { ino, site, mode: 0o755, uid: 1, gid: 2, times: [1, 2, 3] },
            PartChange::AddRun {
                tablet: TabletId(9),
                purpose: Purpose::Node,
                run: Run::new(BlockNo::from_raw(77), 8),
            },
        ];
        let mut bytes = Vec::new();
        changes.iter().for_each(|change| change.encode(&mut bytes));
        assert_eq!(PartChange::parse_all(&bytes).as_ref(), Ok(&changes));
        assert!(PartChange::parse_all(&bytes[..bytes.len() - 1]).is_err());
    }

    #[test]
    fn a_tablet_or_a_run_that_cannot_be_is_refused() {
        let add_run = |tablet: u16, start: u64, blocks: u64| {
            let mut bytes = vec![8];
            bytes.extend_from_slice(&tablet.to_le_bytes());
            bytes.push(Purpose::Data as u8);
            put(&mut bytes, start);
            put(&mut bytes, blocks);
            PartChange::parse_all(&bytes).map(|changes| changes.len())
        };
        let refused = Err(Damage::Value("pending change"));
        assert_eq!(add_run(4095, 77, 8), Ok(1));
        assert_eq!(add_run(4096, 77, 8), refused, "there are 4,096 tablets");
        assert_eq!(add_run(9, 77, 0), refused, "no blocks");
        assert_eq!(add_run(9, u64::MAX - 4, 8), refused, "behind its device's last address");
        assert_eq!(add_run(9, 77, u64::MAX), refused);
    }
}
