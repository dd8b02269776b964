//! Release and stage, as their client sees them: one call for a range of any length, which goes to the
//! engine in pieces.

use crate::bridge::Caller;
use crate::proto::{ReleaseReply, ReleaseRequest, StageReply, StageRequest};
use crate::request::{ControlReply, ControlRequest, Target};
use crate::service::parse_ino;
use crate::status::{self, unexpected};
use cairn_base::BLOCK_BYTES;
use cairn_engine::attr::Attr;
use cairn_format::InodeNo;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tonic::{Status, Streaming};

/// Bytes released between two replies.
const RELEASE_BYTES: u64 = 16 << 30;
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
    let size = attr(shard, ino).await?.size.next_multiple_of(BLOCK);
    let end = length.map_or(size, |length| offset + length);
    let (mut at, mut released_blocks) = (offset, 0);
    loop {
        // One call at least, which looks at the version; and what is behind the end costs nothing.
        let len = end.saturating_sub(at).min(RELEASE_BYTES).max(BLOCK);
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

/// Takes the client's bytes as fast as they are written, and answers when all of them are.
pub(crate) async fn stage(
    shard: &Caller,
    mut pieces: Streaming<StageRequest>,
) -> Result<StageReply, Status> {
    let first = pieces.message().await?;
    let first = first.ok_or_else(|| status::invalid("a stage says in which file"))?;
    let target = first.target.ok_or_else(|| status::invalid("a stage says in which file"))?;
    let ino = parse_ino(target.ino)?;
    let data_version = target.data_version;
    let mut under_way = JoinSet::new();
    let mut reply = StageReply::default();
    let mut at = target.offset;
    let mut next = Some(first.data);
    while let Some(data) = next {
        let len = data.len() as u64;
        if len > 0 {
            let call = ControlRequest::Stage { ino, offset: at, data, data_version };
            let shard = shard.clone();
            under_way.spawn(async move { blocks(&shard, call).await });
        }
        at = at.checked_add(len).ok_or_else(|| status::invalid("no file is that large"))?;
        reply.bytes += len;
        while under_way.len() >= STAGES_MAX {
            reply.staged_blocks += landed(&mut under_way).await?.unwrap_or_default();
        }
        next = match pieces.message().await? {
            Some(piece) if piece.target.is_some() => {
                return Err(status::invalid("one stage is of one file"));
            }
            piece => piece.map(|piece| piece.data),
        };
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

#[cfg(test)]
mod tests {
    use super::*;

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
}
