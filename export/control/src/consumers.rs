//! Named consumers of the change stream, and what is kept for them, as gRPC.

use crate::bridge::Caller;
use crate::changes::forgotten;
use crate::proto;
use crate::request::{ControlReply, ControlRequest, Local};
use crate::status::{self, unexpected};
use cairn_engine::status::ShardStatus;
use cairn_engine::{Begin, Consumer, ConsumerName, FsError, Tend};
use cairn_format::Seq;
use tonic::Status;

const ENOENT: i32 = 2;
const EEXIST: i32 = 17;

pub(crate) fn add(request: proto::ConsumerAddRequest) -> Result<Tend, Status> {
    let begin = match request.since {
        None => Begin::Now,
        Some(since) if since.seq == 0 => Begin::Beginning,
        Some(since) => Begin::Place((Seq(since.seq), since.ino)),
    };
    Ok(Tend::Add(name(&request.name)?, begin))
}

pub(crate) fn ack(request: proto::ConsumerAckRequest) -> Result<Tend, Status> {
    let place = request.position.ok_or_else(|| status::invalid("up to which position?"))?;
    Ok(Tend::Ack(name(&request.name)?, (Seq(place.seq), place.ino)))
}

pub(crate) fn remove(request: proto::ConsumerRemoveRequest) -> Result<Tend, Status> {
    name(&request.name).map(Tend::Remove)
}

fn name(raw: &str) -> Result<ConsumerName, Status> {
    ConsumerName::parse(raw).map_err(|_| {
        status::invalid("a consumer's name has 1 to 255 bytes and no control characters")
    })
}

pub(crate) async fn tend(shard: &Caller, tend: Tend) -> Result<(), Status> {
    let asked = tend.clone();
    match shard.call(ControlRequest::Consumer(tend)).await {
        Ok(ControlReply::Done) => Ok(()),
        Ok(_) => Err(unexpected()),
        Err(crate::CallError::Fs(error)) => Err(refusal(&asked, error)),
        Err(error) => Err(status::of_call(error)),
    }
}

fn refusal(asked: &Tend, error: FsError) -> Status {
    match (error, asked) {
        (FsError::Trimmed { to }, _) => forgotten(to),
        (FsError::NotFound, _) => unknown(),
        (FsError::Exists, _) => {
            status::taken(EEXIST, "there is a consumer of that name: `cairn changes consumer list`")
        }
        (FsError::Invalid, Tend::Ack(..)) => status::invalid(
            "a cursor goes forward only, and not above the newest seq of the pool: \
             `cairn changes consumer list` says where it is",
        ),
        (FsError::Invalid, _) => status::invalid(
            "above the newest seq of this pool: begin with a position that `cairn changes` listed, with 0, \
             or now",
        ),
        _ => status::of_call(crate::CallError::Fs(error)),
    }
}

fn unknown() -> Status {
    status::missing(ENOENT, "no consumer has that name: `cairn changes consumer list`")
}

pub(crate) async fn list(shard: &Caller) -> Result<Vec<Consumer>, Status> {
    match shard.call(ControlRequest::Consumers).await.map_err(status::of_call)? {
        ControlReply::Consumers(consumers) => Ok(consumers),
        _ => Err(unexpected()),
    }
}

pub(crate) async fn find(shard: &Caller, name: &str) -> Result<Consumer, Status> {
    let all = list(shard).await?;
    all.into_iter().find(|consumer| consumer.name.as_str() == name).ok_or_else(unknown)
}

pub(crate) fn entry(consumer: &Consumer) -> proto::ConsumerEntry {
    let (seq, ino) = consumer.cursor;
    proto::ConsumerEntry {
        name: consumer.name.as_str().into(),
        seq: seq.0,
        ino,
        floor: consumer.floor.0,
        created: consumer.created,
        acked: consumer.acked,
    }
}

/// The deletion index of all shards.
pub(crate) fn deletions(known: &[(ShardStatus, Local)]) -> proto::DeletionsStatus {
    let mut sum = proto::DeletionsStatus::default();
    for (status, _) in known {
        let part = &status.deletions;
        sum.entries += part.entries;
        sum.entries_fullest = sum.entries_fullest.max(part.entries_fullest);
        sum.entries_tablet_max = part.entries_tablet_max;
        sum.trimmed += part.trimmed;
        sum.trimmed_unseen += part.trimmed_unseen;
        if let Some(name) = &part.held_by {
            sum.held_by = Some(name.as_str().into());
        }
    }
    sum
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::IndexPosition;

    #[test]
    fn a_consumer_begins_at_the_beginning_behind_a_place_or_now() {
        let begin = |since| match add(proto::ConsumerAddRequest { name: "tape".into(), since }) {
            Ok(Tend::Add(_, begin)) => Some(begin),
            _ => None,
        };
        assert_eq!(begin(None), Some(Begin::Now));
        assert_eq!(begin(Some(IndexPosition { seq: 0, ino: u64::MAX })), Some(Begin::Beginning));
        let place = Begin::Place((Seq(7), 9));
        assert_eq!(begin(Some(IndexPosition { seq: 7, ino: 9 })), Some(place));
        for bad in ["", "a\nb", &"x".repeat(256)] {
            let request = proto::ConsumerAddRequest { name: bad.into(), since: None };
            assert!(add(request).is_err(), "{bad:?}");
        }
        assert!(ack(proto::ConsumerAckRequest { name: "tape".into(), position: None }).is_err());
    }
}
