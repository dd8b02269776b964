//! What READDIR and READDIRPLUS share: a directory as a row of entries, page by page, with `.` and
//! `..` in front.
//!
//! A cookie is the entry's position in the directory, which the engine never reuses and never moves.
//! So a cookie is good for ever, across restarts and whatever was added or removed since, and needs
//! no verifier: ours is always zero, and any that a client sends is accepted. Positions begin at 3,
//! which leaves 1 and 2 for the dots that the engine does not store. The parent of an export's root is
//! that root, here as in LOOKUP. In an export that is a part of the pool, READDIRPLUS gives no handle
//! with other `..`: whoever wants it asks LOOKUP, which looks where the parent lies.
//!
//! A listing that begins well ends well: when a later page cannot be had (a shard is busy), what
//! is there goes out as an unfinished list, and the client's next call meets the error, if it still
//! is one.

use crate::context::{Context, Target};
use crate::limits::READDIR_BATCH;
use crate::wire::{DirList, Entry, Fit, Verifier};
use cairn_base::door::Doors;
use cairn_engine::attr::Attr;
use cairn_engine::{Cred, FsError, op};
use cairn_format::{EntryPosition, InodeNo};

pub const VERIFIER: Verifier = [0; 8];

const COOKIE_OF_DOT: u64 = 1;
pub const COOKIE_OF_DOT_DOT: u64 = 2;

/// Bytes of an entry with the shortest name.
pub const ENTRY_BYTES_MIN: usize = 28;

/// An entry, the dots included.
pub struct Item {
    pub ino: InodeNo,
    pub name: op::EntryName,
    pub cookie: u64,
    pub attr: Option<Attr>,
}

impl Item {
    pub fn entry(&self) -> Entry<'_> {
        Entry { fileid: self.ino.raw(), name: &self.name, cookie: self.cookie }
    }
}

pub struct Page {
    pub dir: Attr,
    pub items: Vec<Item>,
    /// Nothing comes behind this page.
    pub eof: bool,
}

/// A directory being listed from a cookie on.
pub struct Pages {
    cred: Cred,
    dir: InodeNo,
    is_export_root: bool,
    cookie: u64,
    batch: usize,
}

impl Pages {
    /// `batch` entries at most at a time, and never more than `READDIR_BATCH`.
    pub fn new(target: Target<'_>, cookie: u64, batch: usize) -> Pages {
        Pages {
            cred: target.cred,
            dir: target.ino,
            is_export_root: target.ino == target.export.root,
            cookie,
            batch: batch.clamp(1, READDIR_BATCH),
        }
    }

    pub async fn next<D: Doors>(&mut self, call: &Context<'_, D>) -> Result<Page, FsError> {
        let after = match self.cookie {
            0..=COOKIE_OF_DOT_DOT => EntryPosition(0),
            position => EntryPosition(position),
        };
        let cred = self.cred.clone();
        let op = op::Readdir { cred, dir: self.dir, after, count_max: self.batch };
        let listing = call.shard().call(op).await?;
        Ok(self.page(listing))
    }

    fn page(&mut self, listing: op::Listing) -> Page {
        let mut items = Vec::with_capacity(listing.entries.len() + 2);
        let dots = |name: &[u8], ino, cookie, attr| Item { ino, name: name.into(), cookie, attr };
        if self.cookie < COOKIE_OF_DOT {
            items.push(dots(b".", self.dir, COOKIE_OF_DOT, Some(listing.dir)));
        }
        if self.cookie < COOKIE_OF_DOT_DOT {
            items.push(match self.is_export_root {
                true => dots(b"..", self.dir, COOKIE_OF_DOT_DOT, Some(listing.dir)),
                false => dots(b"..", listing.parent, COOKIE_OF_DOT_DOT, None),
            });
        }
        items.extend(listing.entries.into_iter().map(|entry| Item {
            ino: entry.ino,
            name: entry.name,
            cookie: entry.position.0,
            attr: entry.attr,
        }));
        assert!(listing.eof || !items.is_empty(), "a page with pages behind it has entries");
        self.cookie = items.last().map_or(self.cookie, |last| last.cookie);
        Page { dir: listing.dir, items, eof: listing.eof }
    }
}

/// What became of a page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Packed {
    /// All of it is in the list, and there is more.
    WantsMore,
    /// The list is to be finished; `eof` says with what.
    Done { eof: bool },
}

/// Adds the entries of a page, in order, until one does not fit.
pub fn pack(
    list: &mut DirList<'_>,
    page: &Page,
    mut add: impl FnMut(&mut DirList<'_>, &Item) -> Fit,
) -> Packed {
    for item in &page.items {
        if add(list, item) == Fit::Full {
            return Packed::Done { eof: false };
        }
    }
    if page.eof { Packed::Done { eof: true } } else { Packed::WantsMore }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::{DirLimits, EntryPlus, Handle, NfsStat};
    use cairn_base::prng::Prng;
    use cairn_engine::attr::{FileKind, Rdev, Time};
    use cairn_engine::op::{Dirent, Listing};
    use cairn_format::Seq;
    use cairn_net::xdr::{Decoder, Encoder};

    fn ino(raw: u64) -> InodeNo {
        InodeNo::from_raw(raw).unwrap()
    }

    fn attr(raw: u64) -> Attr {
        Attr {
            ino: ino(raw),
            kind: FileKind::Directory,
            mode: 0o755,
            nlink: 2,
            uid: 0,
            gid: 0,
            size: 0,
            rdev: Rdev::default(),
            atime: Time(0),
            mtime: Time(0),
            ctime: Time(0),
            crtime: Time(0),
            meta_seq: Seq(0),
            data_seq: Seq(0),
            data_version: 0,
            online_blocks: 0,
            offline_blocks: 0,
        }
    }

    const DIR: u64 = 50;
    const PARENT: u64 = 40;

    /// A directory with holes in its positions, as the engine would list it.
    struct Directory(Vec<(u64, Vec<u8>)>);

    impl Directory {
        fn of(prng: &mut Prng, count: usize) -> Directory {
            let mut position = 2;
            let entry = |_| {
                position += 1 + prng.below(5);
                let name = vec![b'a' + (position % 26) as u8; 1 + prng.below(255) as usize];
                (position, name)
            };
            Directory((0..count).map(entry).collect())
        }

        fn listing(&self, after: u64, count_max: usize) -> Listing {
            let behind = self.0.iter().filter(|(position, _)| *position > after);
            let entries: Vec<Dirent> = behind
                .clone()
                .take(count_max)
                .map(|(position, name)| Dirent {
                    ino: ino(1000 + position),
                    kind: FileKind::Regular,
                    position: EntryPosition(*position),
                    name: name.clone().into(),
                    attr: None,
                })
                .collect();
            let eof = entries.len() == behind.count();
            Listing { entries, eof, dir: attr(DIR), parent: ino(PARENT) }
        }

        /// One call: the bytes of its result.
        fn call(&self, cookie: u64, limits: DirLimits, plus: bool, batch: usize) -> Vec<u8> {
            let mut to = Encoder::new();
            let mut pages = pages(cookie, batch);
            let mut list = DirList::begin(&mut to, None, VERIFIER, limits);
            let eof = loop {
                let after = if pages.cookie < 3 { 0 } else { pages.cookie };
                let page = pages.page(self.listing(after, batch));
                let packed = pack(&mut list, &page, |list, item| match plus {
                    false => list.add(&item.entry()),
                    true => list.add_plus(
                        &item.entry(),
                        EntryPlus { attributes: None, handle: Some(Handle(&[7; 29])) },
                    ),
                });
                match packed {
                    Packed::WantsMore => {}
                    Packed::Done { eof } => break eof,
                }
            };
            match list.finish(eof) {
                Ok(()) => to.parts().0,
                Err(failure) => {
                    assert_eq!(failure.stat, NfsStat::TooSmall);
                    Vec::new()
                }
            }
        }
    }

    fn pages(cookie: u64, batch: usize) -> Pages {
        Pages { cred: Cred::root(), dir: ino(DIR), is_export_root: false, cookie, batch }
    }

    type Seen = Vec<(u64, Vec<u8>, u64)>;

    /// Reads a result as a client does: entries of fileid, name and cookie, and eof.
    fn read(bytes: &[u8], plus: bool) -> (Seen, bool) {
        let mut from = Decoder::new(bytes);
        assert_eq!(from.u32(), Ok(0), "the status");
        assert_eq!(from.bool(), Ok(false), "no attributes of the directory");
        assert_eq!(from.fixed::<8>(), Ok(VERIFIER));
        let mut seen = Vec::new();
        while from.bool().unwrap() {
            let fileid = from.u64().unwrap();
            let name = from.opaque(255).unwrap().to_vec();
            seen.push((fileid, name, from.u64().unwrap()));
            if plus {
                assert_eq!(from.bool(), Ok(false), "no attributes");
                assert_eq!(from.option(|from| from.opaque(64)), Ok(Some(&[7; 29][..])));
            }
        }
        let eof = from.bool().unwrap();
        assert_eq!(from.finish(), Ok(()));
        (seen, eof)
    }

    /// Lists to the end the way a client does, and checks every answer's size.
    fn list(directory: &Directory, limits: DirLimits, plus: bool, batch: usize) -> Seen {
        let mut all: Seen = Vec::new();
        loop {
            let cookie = all.last().map_or(0, |(_, _, cookie)| *cookie);
            let bytes = directory.call(cookie, limits, plus, batch);
            assert!(bytes.len() - 4 <= limits.whole_bytes, "the status does not count");
            let (seen, eof) = read(&bytes, plus);
            assert!(eof || !seen.is_empty(), "a client makes progress");
            all.extend(seen);
            if eof {
                return all;
            }
        }
    }

    #[test]
    fn no_listing_is_too_large_and_none_loses_or_repeats_an_entry() {
        let mut prng = Prng::new(1813);
        for count in [0, 1, 2, 10, 100] {
            let directory = Directory::of(&mut prng, count);
            let mut want = vec![(DIR, b".".to_vec(), 1), (PARENT, b"..".to_vec(), 2)];
            want.extend(directory.0.iter().map(|(at, name)| (1000 + at, name.clone(), *at)));
            for _ in 0..30 {
                // The largest entry: 28 + 252 bytes of name and 44 of handle, and 20 around the list.
                let whole_bytes = 344 + prng.below(4000) as usize;
                let names_bytes = prng.below(3000) as usize;
                let limits = DirLimits { whole_bytes, names_bytes };
                let batch = 1 + prng.below(20) as usize;
                for plus in [false, true] {
                    assert_eq!(list(&directory, limits, plus, batch), want);
                }
            }
        }
    }

    #[test]
    fn room_for_no_entry_at_all_is_too_small() {
        let directory = Directory(vec![(3, b"name".to_vec())]);
        for whole_bytes in 0..40 {
            let limits = DirLimits { whole_bytes, names_bytes: usize::MAX };
            assert!(directory.call(0, limits, false, 10).is_empty(), "{whole_bytes} bytes");
        }
    }

    #[test]
    fn a_cookie_resumes_behind_its_entry_also_when_the_entry_is_gone() {
        let directory = Directory(vec![(3, b"a".to_vec()), (5, b"b".to_vec()), (9, b"c".to_vec())]);
        let limits = DirLimits { whole_bytes: 4096, names_bytes: usize::MAX };
        let cookies_behind = |cookie| -> Vec<u64> {
            let (seen, eof) = read(&directory.call(cookie, limits, false, 10), false);
            assert!(eof);
            seen.into_iter().map(|(_, _, cookie)| cookie).collect()
        };
        assert_eq!(cookies_behind(0), [1, 2, 3, 5, 9]);
        assert_eq!(cookies_behind(1), [2, 3, 5, 9]);
        assert_eq!(cookies_behind(2), [3, 5, 9]);
        assert_eq!(cookies_behind(4), [5, 9]);
        assert_eq!(cookies_behind(9), [0u64; 0]);
    }

    #[test]
    fn the_parent_of_an_exports_root_is_itself() {
        let directory = Directory(Vec::new());
        let mut root = Pages { is_export_root: true, ..pages(0, 10) };
        let page = root.page(directory.listing(0, 10));
        assert_eq!(page.items[1].ino, ino(DIR));
        let page = pages(0, 10).page(directory.listing(0, 10));
        assert_eq!(page.items[1].ino, ino(PARENT));
    }
}
