//! Messages on the control socket: what the service makes of a request between the decoder of messages
//! and the shards. Paths, inode numbers, positions, sizes.
//!
//! The first byte of an input is the method, by its place in `Method::ALL`.

use super::{Target, Verdict, mode_of};
use crate::specimen::Specimen;
use cairn_base::{BLOCK_BYTES, DeviceId};
use cairn_control::foreign::{Method, Pool, Refused, asked};
use cairn_control::proto::{
    ChangeIndex, ChangesRequest, ConsumerAckRequest, ConsumerAddRequest, DataWaitErrRequest,
    GetFiemapRequest, GetReferringEntriesRequest, GetXattrRequest, IndexPosition, InoPathRequest,
    InodeTarget, ListXattrsRequest, PunchOfflineRequest, ReleaseRequest, RemoveXattrRequest,
    ResizeDevicesRequest, SetAttrXRequest, SetXattrRequest, StageRequest, StageTarget, StatRequest,
    WalkInodesRequest, XattrSet, inode_target, stat_request,
};
use cairn_control::request::{ControlRequest, Position, Target as Asked};
use cairn_engine::{DeviceSpace, Tend};
use cairn_format::Seq;
use prost::Message;
use std::fmt::Debug;

pub const TARGET: Target = Target {
    name: "control",
    run,
    modes: Method::ALL.len() as u8 + 1,
    bytes_max: 8 << 10,
    // A path may be all one-letter names, each in a box of its own.
    heap_max: 512 << 10,
    specimens,
};

fn pool() -> Pool {
    let device = DeviceSpace {
        holds_nodes: true,
        holds_data: false,
        blocks: 1000,
        blocks_free: 500,
        blocks_more: 100,
        can_lengthen: false,
    };
    let data = DeviceSpace { holds_nodes: false, holds_data: true, can_lengthen: true, ..device };
    Pool { devices: vec![device, data], stable: Seq(1 << 50) }
}

fn specimens() -> Vec<Specimen> {
    let of = |name: &str, method: Method, message: Vec<u8>| {
        let number = Method::ALL.iter().position(|each| *each == method).expect("listed");
        Specimen::new(name, &[&[number as u8], &message])
    };
    let stat = |target| StatRequest { target: Some(target) }.encode_to_vec();
    let path = |path: &[u8]| stat(stat_request::Target::Path(path.to_vec()));
    let at = |seq, ino| Some(IndexPosition { seq, ino });
    let walk = |first, last| {
        let index = ChangeIndex::MetaSeq.into();
        WalkInodesRequest { index, first, last }.encode_to_vec()
    };
    let resize =
        |meta_bytes, data_bytes| ResizeDevicesRequest { meta_bytes, data_bytes }.encode_to_vec();
    let file = |path: &[u8]| {
        let target = Some(inode_target::Target::Path(path.to_vec()));
        Some(InodeTarget { target })
    };
    let numbered = Some(InodeTarget { target: Some(inode_target::Target::Ino(4097)) });
    let name = b"cairn.hide.tape".to_vec();
    let get = GetXattrRequest { inode: file(b"/a/b"), name: name.clone() };
    let set = SetXattrRequest {
        inode: numbered.clone(),
        name: name.clone(),
        value: b"A00001L8".to_vec(),
        how: XattrSet::Create.into(),
    };
    let unknown = SetXattrRequest { how: 3, ..set.clone() };
    let remove = RemoveXattrRequest { inode: file(b"/a"), name };
    let list = ListXattrsRequest { inode: numbered, hidden: true };
    let block = BLOCK_BYTES as u64;
    let release = |offset, length| {
        let (ino, data_version) = (4097, 1795467600000001);
        ReleaseRequest { ino, data_version, offset, length }.encode_to_vec()
    };
    let stage = |offset, len| {
        let (ino, data_version) = (4097, 1795467600000001);
        let target = Some(StageTarget { ino, data_version, offset });
        StageRequest { target, data: vec![7; len] }.encode_to_vec()
    };
    let nowhere = StageRequest { target: None, data: vec![7; 10] }.encode_to_vec();
    vec![
        of("stat-root", Method::Stat, path(b"/")),
        of("stat-path", Method::Stat, path(b"//a/./bc//def/")),
        of("stat-dots", Method::Stat, path(b"/a/../b")),
        of("stat-relative", Method::Stat, path(b"a/b")),
        of("stat-ino", Method::Stat, stat(stat_request::Target::Ino(4096))),
        of("walk-all", Method::WalkInodes, walk(None, None)),
        of("walk-part", Method::WalkInodes, walk(at(5, 1), at(1 << 40, u64::MAX))),
        of("walk-backwards", Method::WalkInodes, walk(at(9, 1), at(8, 1))),
        of("changes", Method::Changes, changes(at(1 << 49, 7))),
        of("changes-last", Method::Changes, changes(at(1 << 50, u64::MAX))),
        of(
            "changes-follow",
            Method::Changes,
            ChangesRequest { since: None, consumer: Some("tape".into()), follow: true }
                .encode_to_vec(),
        ),
        of("consumer-add", Method::ConsumerAdd, add(at(9, u64::MAX))),
        of("consumer-add-now", Method::ConsumerAdd, add(None)),
        of(
            "consumer-ack",
            Method::ConsumerAck,
            ConsumerAckRequest { name: "tape".into(), position: at(9, 77) }.encode_to_vec(),
        ),
        of("changes-all", Method::Changes, Vec::new()),
        of("ino-path", Method::InoPath, InoPathRequest { ino: 77, all: true }.encode_to_vec()),
        of(
            "referring",
            Method::GetReferringEntries,
            GetReferringEntriesRequest { ino: 77 }.encode_to_vec(),
        ),
        of("xattr-get", Method::GetXattr, get.encode_to_vec()),
        of("xattr-set", Method::SetXattr, set.encode_to_vec()),
        of("xattr-set-how", Method::SetXattr, unknown.encode_to_vec()),
        of("xattr-remove", Method::RemoveXattr, remove.encode_to_vec()),
        of("xattr-list", Method::ListXattrs, list.encode_to_vec()),
        of("resize-all", Method::ResizeDevices, resize(None, None)),
        of("resize-meta", Method::ResizeDevices, resize(Some(1050 * block), None)),
        of("resize-data", Method::ResizeDevices, resize(None, Some(5000 * block + 1))),
        of("release-all", Method::Release, release(0, None)),
        of("release-part", Method::Release, release(block, Some(1 << 40))),
        of("release-far", Method::Release, release(u64::MAX - 4095, Some(2 * block))),
        of("stage", Method::Stage, stage(block, 100)),
        of("stage-far", Method::Stage, stage(u64::MAX - 4095, 4096)),
        of("stage-nowhere", Method::Stage, nowhere),
        of("wait-err", Method::DataWaitErr, wait_err(5, &["read", "write"])),
        of("wait-err-errno", Method::DataWaitErr, wait_err(4096, &[])),
        of("punch", Method::PunchOffline, punch(numbered_target(4097), block)),
        of("punch-path", Method::PunchOffline, punch(file(b"/a"), block)),
        of("punch-part", Method::PunchOffline, punch(numbered_target(4097), 5)),
        of("punch-far", Method::PunchOffline, punch(numbered_target(4097), u64::MAX - 4095)),
        of("fiemap", Method::GetFiemap, fiemap(numbered_target(4097), 5000, Some(u64::MAX))),
        of("fiemap-all", Method::GetFiemap, fiemap(file(b"/a"), 0, None)),
        of("fiemap-none", Method::GetFiemap, fiemap(numbered_target(4097), 0, Some(0))),
        of("set-attr-x", Method::SetAttrX, set_attr_x(numbered_target(4097), Some(i64::MIN))),
        of("set-attr-x-path", Method::SetAttrX, set_attr_x(file(b"/a"), None)),
        of("set-attr-x-nowhere", Method::SetAttrX, set_attr_x(None, None)),
        of("wait-err-op", Method::DataWaitErr, wait_err(5, &["append"])),
    ]
}

fn wait_err(errno: u32, ops: &[&str]) -> Vec<u8> {
    let ops = ops.iter().map(|op| (*op).into()).collect();
    let (offset, length) = (1 << 20, Some(4096));
    DataWaitErrRequest { ino: 4097, offset, length, ops, errno }.encode_to_vec()
}

fn numbered_target(ino: u64) -> Option<InodeTarget> {
    Some(InodeTarget { target: Some(inode_target::Target::Ino(ino)) })
}

fn punch(inode: Option<InodeTarget>, offset: u64) -> Vec<u8> {
    PunchOfflineRequest { inode, data_version: 7, offset, length: 1 << 20 }.encode_to_vec()
}

fn fiemap(inode: Option<InodeTarget>, offset: u64, length: Option<u64>) -> Vec<u8> {
    GetFiemapRequest { inode, offset, length }.encode_to_vec()
}

fn set_attr_x(inode: Option<InodeTarget>, ctime: Option<i64>) -> Vec<u8> {
    SetAttrXRequest {
        inode,
        data_version: Some(7),
        size: Some(u64::MAX),
        size_offline: true,
        ctime,
        crtime: Some(1),
        mtime: None,
    }
    .encode_to_vec()
}

fn changes(since: Option<IndexPosition>) -> Vec<u8> {
    ChangesRequest { since, ..ChangesRequest::default() }.encode_to_vec()
}

fn add(since: Option<IndexPosition>) -> Vec<u8> {
    ConsumerAddRequest { name: "tape".into(), since }.encode_to_vec()
}

pub fn run(input: &[u8]) -> Verdict {
    let (number, message) = mode_of(input);
    let Some(method) = Method::ALL.get(usize::from(number)).copied() else {
        return Verdict::Refused("method".into());
    };
    match method {
        Method::Stat => comes_back::<StatRequest>(message),
        Method::WalkInodes => comes_back::<WalkInodesRequest>(message),
        Method::Changes => comes_back::<ChangesRequest>(message),
        Method::ConsumerAdd => comes_back::<ConsumerAddRequest>(message),
        Method::ConsumerAck => comes_back::<ConsumerAckRequest>(message),
        Method::InoPath => comes_back::<InoPathRequest>(message),
        Method::GetReferringEntries => comes_back::<GetReferringEntriesRequest>(message),
        Method::ResizeDevices => comes_back::<ResizeDevicesRequest>(message),
        Method::GetXattr => comes_back::<GetXattrRequest>(message),
        Method::SetXattr => comes_back::<SetXattrRequest>(message),
        Method::RemoveXattr => comes_back::<RemoveXattrRequest>(message),
        Method::ListXattrs => comes_back::<ListXattrsRequest>(message),
        Method::Release => comes_back::<ReleaseRequest>(message),
        Method::Stage => comes_back::<StageRequest>(message),
        Method::PunchOffline => comes_back::<PunchOfflineRequest>(message),
        Method::GetFiemap => comes_back::<GetFiemapRequest>(message),
        Method::SetAttrX => comes_back::<SetAttrXRequest>(message),
        Method::DataWaitErr => comes_back::<DataWaitErrRequest>(message),
    }
    match asked(method, message, &pool()) {
        Ok(None) => Verdict::Refused("nothing to ask".into()),
        Ok(Some(request)) => {
            sound(method, &request, message);
            Verdict::Accepted
        }
        Err(Refused::Undecodable) => Verdict::Refused("undecodable".into()),
        Err(Refused::Because(text)) => Verdict::Refused(kind_of(&text)),
    }
}

/// Numbers of the request are in the text; what is left without them is the kind.
fn kind_of(text: &str) -> std::borrow::Cow<'static, str> {
    assert!(!text.is_empty(), "a refusal has a reason");
    text.split(' ')
        .filter(|word| !word.contains(|c: char| c.is_ascii_digit()))
        .take(6)
        .collect::<Vec<_>>()
        .join(" ")
        .into()
}

fn comes_back<M: Message + Default + PartialEq + Debug>(message: &[u8]) {
    if let Ok(read) = M::decode(message) {
        let again = M::decode(&read.encode_to_vec()[..]);
        assert_eq!(again.as_ref(), Ok(&read), "a request is written as it was read");
    }
}

fn sound(method: Method, request: &ControlRequest, message: &[u8]) {
    match request {
        ControlRequest::Stat(Asked::Path(names)) => {
            let bytes: usize = names.iter().map(|name| 1 + name.as_bytes().len()).sum();
            assert!(bytes <= message.len(), "the names of a path are parts of it");
        }
        ControlRequest::Stat(Asked::Ino(_)) | ControlRequest::Referring { .. } => {}
        ControlRequest::Walk(page) => {
            assert!(page.first <= page.last && (1..=4096).contains(&page.count_max));
            in_order(page.first);
        }
        ControlRequest::Changes { from, to, .. } => {
            assert!(from <= to && to.seq <= pool().stable);
            in_order(*from);
        }
        ControlRequest::Resize(wanted) => {
            for grow in wanted {
                let device = pool().devices[usize::from(grow.device.0)];
                assert!(grow.device <= DeviceId(1));
                let blocks = grow.blocks.unwrap_or(device.blocks);
                assert!(blocks >= device.blocks, "devices do not shrink");
                assert!(blocks.checked_mul(BLOCK_BYTES as u64).is_some());
            }
        }
        ControlRequest::Consumer(Tend::Add(name, _) | Tend::Ack(name, _)) => {
            let name = name.as_str();
            assert!((1..=255).contains(&name.len()) && name.len() <= message.len());
            assert!(!name.chars().any(char::is_control), "a list of them has one a line");
        }
        ControlRequest::Release { offset, len, .. } => {
            assert!(offset.is_multiple_of(BLOCK_BYTES as u64));
            assert!(len.is_multiple_of(BLOCK_BYTES as u64));
        }
        ControlRequest::Stage { offset, data, .. } => {
            assert!(offset.is_multiple_of(BLOCK_BYTES as u64));
            assert!(data.len() <= message.len() && offset.checked_add(data.len() as u64).is_some());
        }
        ControlRequest::FailWaiters { offset, len, ops, errno, .. } => {
            assert!((1..=4095).contains(errno) && (1..=3).contains(&ops.len()));
            assert!(offset.checked_add(*len).is_some());
        }
        ControlRequest::PunchOffline { offset, len, .. } => {
            assert!(offset.is_multiple_of(4096) && len.is_multiple_of(4096));
            assert!(offset.checked_add(*len).is_some());
        }
        ControlRequest::Extents { blocks, .. } => assert!(blocks.end <= 1 << 52),
        // Whether it makes sense the engine says.
        ControlRequest::SetAttrX { .. } => {}
        other => panic!("{method:?} asks for {other:?}"),
    }
}

/// The next page begins behind what was listed, whatever that was.
fn in_order(position: Position) {
    match position.next() {
        Some(next) => assert!(position < next),
        None => assert_eq!(position, Position::MAX),
    }
}
