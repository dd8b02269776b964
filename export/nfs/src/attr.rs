//! Attributes between the engine and the wire.
//!
//! NFSv3 knows unsigned seconds, 1970 to 2106, where the engine has signed nanoseconds: a time
//! outside is shown as the nearest one. A guard or a time to be set that a client sends was made from
//! what we showed, so it comes back exactly.
//!
//! Offline blocks count as used: the file has them, and `du` should not change when they are
//! released. A client that wants to know the difference asks the archive interface.

use crate::wire;
use cairn_base::BLOCK_BYTES;
use cairn_engine::attr::{Attr, Before, Change, FileKind, SetAttr, SetTime, Time};

/// Permission bits of a mode; a client may send the file type with them.
const MODE_BITS: u32 = 0o7777;

pub fn attributes(attr: &Attr, fsid: u64) -> wire::Attributes {
    let blocks = attr.online_blocks.saturating_add(attr.offline_blocks);
    wire::Attributes {
        file_type: file_type(attr.kind),
        mode: attr.mode,
        nlink: attr.nlink,
        uid: attr.uid,
        gid: attr.gid,
        size: attr.size,
        used: blocks.saturating_mul(BLOCK_BYTES as u64),
        device: wire::Device { major: attr.rdev.major, minor: attr.rdev.minor },
        fsid,
        fileid: attr.ino.raw(),
        atime: nfs_time(attr.atime),
        mtime: nfs_time(attr.mtime),
        ctime: nfs_time(attr.ctime),
    }
}

/// wcc_data of a change that was carried out: the engine took both sides in one stretch.
pub fn change(change: &Change, fsid: u64) -> wire::Change {
    let Before { size, mtime, ctime } = change.before;
    let before = wire::Before { size, mtime: nfs_time(mtime), ctime: nfs_time(ctime) };
    wire::Change { before: Some(before), after: Some(attributes(&change.after, fsid)) }
}

pub fn set_attr(set: &wire::SetAttributes) -> SetAttr {
    SetAttr {
        mode: set.mode.map(|mode| mode & MODE_BITS),
        uid: set.uid,
        gid: set.gid,
        size: set.size,
        atime: set_time(set.atime),
        mtime: set_time(set.mtime),
    }
}

pub fn time(time: wire::NfsTime) -> Time {
    Time::new(i64::from(time.seconds), time.nanos)
}

fn set_time(set: wire::SetTime) -> Option<SetTime> {
    match set {
        wire::SetTime::Keep => None,
        wire::SetTime::ServerTime => Some(SetTime::Now),
        wire::SetTime::To(to) => Some(SetTime::To(time(to))),
    }
}

fn nfs_time(time: Time) -> wire::NfsTime {
    wire::NfsTime::nearest(time.secs(), time.nanos())
}

fn file_type(kind: FileKind) -> wire::FileType {
    match kind {
        FileKind::Regular => wire::FileType::Regular,
        FileKind::Directory => wire::FileType::Directory,
        FileKind::Symlink => wire::FileType::Symlink,
        FileKind::Block => wire::FileType::Block,
        FileKind::Character => wire::FileType::Character,
        FileKind::Fifo => wire::FileType::Fifo,
        FileKind::Socket => wire::FileType::Socket,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use cairn_engine::attr::Rdev;
    use cairn_format::{InodeNo, Seq};

    fn attr() -> Attr {
        Attr {
            ino: InodeNo::from_raw(4097).unwrap(),
            kind: FileKind::Character,
            mode: 0o4755,
            nlink: 3,
            uid: 1000,
            gid: 100,
            size: 12_345,
            rdev: Rdev { major: 8, minor: 1 },
            atime: Time::new(10, 1),
            mtime: Time::new(20, 2),
            ctime: Time::new(30, 3),
            crtime: Time::new(5, 0),
            meta_seq: Seq(1),
            data_seq: Seq(1),
            data_version: 1,
            online_blocks: 3,
            offline_blocks: 4,
        }
    }

    #[test]
    fn every_field_arrives_in_its_place() {
        let time = |seconds, nanos| wire::NfsTime { seconds, nanos };
        let want = wire::Attributes {
            file_type: wire::FileType::Character,
            mode: 0o4755,
            nlink: 3,
            uid: 1000,
            gid: 100,
            size: 12_345,
            used: 7 * 4096,
            device: wire::Device { major: 8, minor: 1 },
            fsid: 99,
            fileid: 4097,
            atime: time(10, 1),
            mtime: time(20, 2),
            ctime: time(30, 3),
        };
        assert_eq!(attributes(&attr(), 99), want);
        let before = Before { size: 7, mtime: Time::new(1, 2), ctime: Time::new(3, 4) };
        let pair = change(&Change { before, after: attr() }, 99);
        assert_eq!(pair.after, Some(want));
        let seen = wire::Before { size: 7, mtime: time(1, 2), ctime: time(3, 4) };
        assert_eq!(pair.before, Some(seen));
    }

    #[test]
    fn times_outside_of_the_protocol_become_the_nearest_one() {
        let shown = |time: Time| {
            let shown = attributes(&Attr { mtime: time, ..attr() }, 0).mtime;
            (shown.seconds, shown.nanos)
        };
        assert_eq!(shown(Time(-1)), (0, 0));
        assert_eq!(shown(Time(i64::MIN)), (0, 0));
        assert_eq!(shown(Time::new(i64::from(u32::MAX), 5)), (u32::MAX, 5));
        assert_eq!(shown(Time::new(i64::from(u32::MAX) + 1, 5)), (u32::MAX, 999_999_999));
    }

    #[test]
    fn a_time_that_was_shown_comes_back_as_itself() {
        for shown in [Time::new(0, 0), Time::new(1_700_000_000, 123_456_789)] {
            assert_eq!(time(nfs_time(shown)), shown);
        }
    }

    #[test]
    fn only_what_the_client_names_is_set_and_the_file_type_is_not_part_of_a_mode() {
        assert_eq!(set_attr(&wire::SetAttributes::default()), SetAttr::default());
        let all = wire::SetAttributes {
            mode: Some(0o100_644),
            uid: Some(1),
            gid: Some(2),
            size: Some(3),
            atime: wire::SetTime::ServerTime,
            mtime: wire::SetTime::To(wire::NfsTime { seconds: 4, nanos: 5 }),
        };
        let want = SetAttr {
            mode: Some(0o644),
            uid: Some(1),
            gid: Some(2),
            size: Some(3),
            atime: Some(SetTime::Now),
            mtime: Some(SetTime::To(Time::new(4, 5))),
        };
        assert_eq!(set_attr(&all), want);
    }
}
