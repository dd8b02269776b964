//! Release, stage and what else agents do to a file's data, as their client sees it: one call for a range of
//! any length, which goes to the engine in pieces.

use crate::bridge::Caller;
use crate::proto::{
    PunchOfflineRequest, ReleaseReply, ReleaseRequest, SetAttrXRequest, StageReply, StageRequest,
};
use crate::request::{ControlReply, ControlRequest, Target};
use crate::service::parse_ino;
use crate::status::{self, unexpected};
use cairn_base::BLOCK_BYTES;
use cairn_engine::attr::{Attr, Time};
use cairn_engine::op::Restored;
use cairn_format::InodeNo;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tonic::{Status, Streaming};

/// Bytes released between two replies.
pub(crate) const RELEASE_BYTES: u64 = 16 << 30;
/// Bytes of one piece of a stage: what the engine takes at once.
const PIECE_BYTES_MAX: usize = 1 << 20;
/// Pieces of one stage that are written at once.
const STAGES_MAX: usize = 4;

const BLOCK: u64 = BLOCK_BYTES as u64;

pub(crate) type Replies = mpsc::Sender<Result<ReleaseReply, Status>>;

/// What a release is about, before anything was asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Releasing {
    pub ino: InodeNo,
    pub offset: u64,
    pub length: Option<u64>,
    pub data_version: u64,
}

pub(crate) fn parse_release(request: &ReleaseRequest) -> Result<Releasing, Status> {
    let is_whole = |bytes: u64| bytes.is_multiple_of(BLOCK);
    if !is_whole(request.offset) || !request.length.is_none_or(is_whole) {
        return Err(status::invalid("offset and length of a release are multiples of 4096"));
    }
    if request.length.is_some_and(|length| request.offset.checked_add(length).is_none()) {
        return Err(status::invalid("the range ends behind the largest file"));
    }
    Ok(Releasing {
        ino: parse_ino(request.ino)?,
        offset: request.offset,
        length: request.length,
        data_version: request.data_version,
    })
}

pub(crate) async fn run_release(shard: Caller, asked: Releasing, replies: Replies) {
    if let Err(status) = release(&shard, asked, &replies).await {
        // A client that does not listen any more is told nothing.
        let _ = replies.send(Err(status)).await;
    }
}

async fn release(shard: &Caller, asked: Releasing, replies: &Replies) -> Result<(), Status> {
    let Releasing { ino, offset, length, data_version } = asked;
    if length == Some(0) {
        let nothing = ReleaseReply { released_blocks: 0 };
        return replies.send(Ok(nothing)).await.map_err(|_| Status::cancelled("nobody listens"));
    }
    let size = attr(shard, ino).await?.size.next_multiple_of(BLOCK);
    let end = length.map_or(size, |length| offset + length);
    let (mut at, mut released_blocks) = (offset, 0);
    loop {
        // One call at least, which looks at the version; and what is behind the end costs nothing.
        let len = end.saturating_sub(at).clamp(BLOCK, RELEASE_BYTES);
        let call = ControlRequest::Release { ino, offset: at, len, data_version };
        released_blocks += blocks(shard, call).await?;
        at = at.saturating_add(len);
        let reply = ReleaseReply { released_blocks };
        replies.send(Ok(reply)).await.map_err(|_| Status::cancelled("nobody listens"))?;
        if at >= end.min(size) {
            return Ok(());
        }
    }
}

async fn attr(shard: &Caller, ino: InodeNo) -> Result<Box<Attr>, Status> {
    match shard.call(ControlRequest::Stat(Target::Ino(ino))).await.map_err(status::of_call)? {
        ControlReply::Stat(attr) => Ok(attr),
        _ => Err(unexpected()),
    }
}

async fn blocks(shard: &Caller, request: ControlRequest) -> Result<u64, Status> {
    match shard.call(request).await.map_err(status::of_call)? {
        ControlReply::Blocks(count) => Ok(count),
        _ => Err(unexpected()),
    }
}

/// Where the bytes of one stage go: the next ones at `at`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Staging {
    pub ino: InodeNo,
    pub at: u64,
    pub data_version: u64,
}

/// Where one piece goes, behind those before it, and its bytes, at most 1 MiB. Their end has no overflow.
pub(crate) fn parse_piece(
    before: Option<Staging>,
    piece: StageRequest,
) -> Result<(Staging, Vec<u8>), Status> {
    let place = match (before, piece.target) {
        (Some(place), None) => place,
        (None, Some(target)) => Staging {
            ino: parse_ino(target.ino)?,
            at: target.offset,
            data_version: target.data_version,
        },
        (None, None) => return Err(status::invalid("a stage says in which file")),
        (Some(_), Some(_)) => return Err(status::invalid("one stage is of one file")),
    };
    if piece.data.len() > PIECE_BYTES_MAX {
        return Err(status::invalid("a piece of a stage has at most 1 MiB"));
    }
    if !place.at.is_multiple_of(BLOCK) {
        return Err(status::invalid("a piece of a stage begins at a multiple of 4096"));
    }
    match place.at.checked_add(piece.data.len() as u64) {
        Some(_) => Ok((place, piece.data)),
        None => Err(status::invalid("no file is that large")),
    }
}

/// Takes the client's bytes as fast as they are written, and answers when all of them are.
pub(crate) async fn stage(
    shard: &Caller,
    mut pieces: Streaming<StageRequest>,
) -> Result<StageReply, Status> {
    let mut under_way = JoinSet::new();
    let mut reply = StageReply::default();
    let mut place = None;
    while let Some(piece) = pieces.message().await? {
        let (staging, data) = parse_piece(place, piece)?;
        let Staging { ino, at, data_version } = staging;
        let len = data.len() as u64;
        if len > 0 {
            let call = ControlRequest::Stage { ino, offset: at, data, data_version };
            let shard = shard.clone();
            under_way.spawn(async move { blocks(&shard, call).await });
        }
        place = Some(Staging { at: at + len, ..staging });
        reply.bytes += len;
        while under_way.len() >= STAGES_MAX {
            reply.staged_blocks += landed(&mut under_way).await?.unwrap_or_default();
        }
    }
    if place.is_none() {
        return Err(status::invalid("a stage says in which file"));
    }
    while let Some(staged) = landed(&mut under_way).await? {
        reply.staged_blocks += staged;
    }
    Ok(reply)
}

/// What one piece that is under way came to; `None` when there is none.
async fn landed(pieces: &mut JoinSet<Result<u64, Status>>) -> Result<Option<u64>, Status> {
    match pieces.join_next().await {
        None => Ok(None),
        Some(Ok(staged)) => staged.map(Some),
        Some(Err(_)) => Err(unexpected()),
    }
}

/// A range of whole blocks, whose end has no overflow.
pub(crate) fn check_punch(request: &PunchOfflineRequest) -> Result<(), Status> {
    let is_whole = |bytes: u64| bytes.is_multiple_of(BLOCK);
    if !is_whole(request.offset) || !is_whole(request.length) {
        return Err(status::invalid("offset and length to punch are multiples of 4096"));
    }
    match request.offset.checked_add(request.length) {
        Some(_) => Ok(()),
        None => Err(status::invalid("the range ends behind the largest file")),
    }
}

/// Whether it makes sense the engine says.
pub(crate) fn restored(request: &SetAttrXRequest) -> Restored {
    Restored {
        data_version: request.data_version,
        size: request.size,
        offline: request.size_offline,
        mtime: request.mtime.map(Time),
        ctime: request.ctime.map(Time),
        crtime: request.crtime.map(Time),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::StageTarget;

    fn request(offset: u64, length: Option<u64>) -> ReleaseRequest {
        ReleaseRequest { ino: 7, data_version: 1, offset, length }
    }

    #[test]
    fn a_release_is_of_whole_blocks_of_some_inode() {
        for (offset, length) in [(0, None), (4096, Some(0)), (8192, Some(4096))] {
            assert!(parse_release(&request(offset, length)).is_ok());
        }
        for (offset, length) in [(1, None), (0, Some(1)), (u64::MAX - 4095, Some(8192))] {
            assert!(parse_release(&request(offset, length)).is_err());
        }
        assert!(parse_release(&ReleaseRequest { ino: 0, ..request(0, None) }).is_err());
    }

    fn piece(offset: Option<u64>, len: usize) -> StageRequest {
        let target = offset.map(|offset| StageTarget { ino: 7, data_version: 3, offset });
        StageRequest { target, data: vec![1; len] }
    }

    #[test]
    fn pieces_follow_each_other_in_one_file() {
        let begun = parse_piece(None, piece(Some(8192), 4096)).expect("sound");
        let ino = InodeNo::from_raw(7).expect("not zero");
        let first = Staging { ino, at: 8192, data_version: 3 };
        assert_eq!(begun, (first, vec![1; 4096]));
        let next = Staging { at: 12288, ..first };
        let last = parse_piece(Some(next), piece(None, 10)).expect("sound");
        assert_eq!(last, (next, vec![1; 10]));
        let behind = Staging { at: 12298, ..first };
        for (before, piece) in [
            (None, piece(None, 1)),
            (None, piece(Some(1), 1)),
            (None, piece(Some(0), PIECE_BYTES_MAX + 1)),
            (None, piece(Some(u64::MAX - 4095), 4096)),
            (Some(next), piece(Some(12288), 1)),
            (Some(behind), piece(None, 1)),
        ] {
            let refused = parse_piece(before, piece).expect_err("refused");
            assert_eq!(refused.code(), tonic::Code::InvalidArgument);
        }
    }
}
