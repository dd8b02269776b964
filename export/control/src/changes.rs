//! The change stream as gRPC: page after page from a position on, to what was stable at the start; and, for
//! who follows it, on from there whenever something more is stable.
//!
//! A page is asked for when the last one was taken, so whoever is slow holds one page. Who follows and has
//! come to the end asks a few times a second what is stable by now: that reads no device, since a tablet
//! that has not changed behind the cursor is skipped by the number of its newest change.

use crate::bridge::{CallError, Caller};
use crate::proto::{ChangeRecord, ChangesReply, ChangesRequest, IndexPosition, Xattr};
use crate::request::{ControlReply, ControlRequest, Position};
use crate::status::{self, unexpected};
use cairn_engine::attr::FileKind;
use cairn_engine::{Change, Consumer, FsError, Gone, What};
use cairn_format::Seq;
use std::time::Duration;
use tokio::sync::{mpsc, watch};
use tonic::Status;

/// Changes in one message; a deleted one has a name and hidden xattrs, a little above 4 KiB together.
const CHANGES_MAX: usize = 256;

/// Who follows hears of a change at most so much later than it is stable.
const POLL_INTERVAL: Duration = Duration::from_millis(200);

pub(crate) type Pages = mpsc::Sender<Result<ChangesReply, Status>>;

/// A position that no stream has ended at: whoever waits behind it misses all that happens before. One that
/// was given out never is, since stable only rises, also over a crash (`cairn_engine::Shard::stable`).
pub(crate) fn refuse_beyond(request: &ChangesRequest, stable: Seq) -> Result<(), Status> {
    match &request.since {
        Some(_) if request.consumer.is_some() => {
            Err(status::invalid("a consumer has a place of its own: name one or the other"))
        }
        Some(since) if since.seq > stable.0 => Err(status::invalid(&format!(
            "the newest seq of this pool is {}: a position above it is of another pool, or a mistake; \
             begin with one that `cairn changes` listed, or with 0",
            stable.0
        ))),
        _ => Ok(()),
    }
}

/// Where a stream is.
pub(crate) struct Reading {
    next: Option<Position>,
    /// Deletions up to here are nothing to the reader.
    floor: Seq,
    /// All up to here is stable.
    stable: Seq,
    follow: bool,
}

/// Why a stream ends.
enum End {
    /// The daemon stops, or nobody listens.
    Quiet,
    Because(Status),
}

impl Reading {
    pub fn begin(request: &ChangesRequest, stable: Seq) -> Reading {
        let (next, floor) = (first(request), floor(request, stable));
        Reading { next, floor, stable, follow: request.follow }
    }

    pub fn of(consumer: &Consumer, stable: Seq, follow: bool) -> Reading {
        let (seq, ino) = consumer.cursor;
        Reading { next: Position { seq, ino }.next(), floor: consumer.floor, stable, follow }
    }

    /// Sends page after page up to what was stable when it began; and goes on, if it is to be followed.
    pub async fn run(mut self, shard: Caller, pages: Pages, mut stopping: watch::Receiver<()>) {
        let end = tokio::select! {
            end = self.send(&shard, &pages) => end,
            // Nothing is ever sent there: the sender has gone.
            _ = stopping.changed() => End::Quiet,
            () = pages.closed() => End::Quiet,
        };
        if let End::Because(status) = end {
            // Who does not listen any more does not want to know.
            let _ = pages.send(Err(status)).await;
        }
    }

    async fn send(&mut self, shard: &Caller, pages: &Pages) -> End {
        let mut is_told = false;
        loop {
            let to = Position { seq: self.stable, ino: u64::MAX };
            while let Some(from) = self.next.filter(|from| *from <= to) {
                // A page is asked for when there is room for it.
                let Ok(room) = pages.reserve().await else { return End::Quiet };
                let floor = self.floor;
                let request = ControlRequest::Changes { from, floor, to, count_max: CHANGES_MAX };
                let changes = match self.ask(shard, request).await {
                    Ok(ControlReply::Changes(changes)) => changes,
                    Ok(_) => return End::Because(unexpected()),
                    Err(end) => return end,
                };
                let Some(last) = changes.last() else { break };
                let last = Position { seq: last.seq, ino: last.ino.raw() };
                self.next = last.next();
                is_told = false;
                let changes = changes.into_iter().map(record).collect();
                room.send(Ok(ChangesReply { changes, position: Some(position(last)) }));
            }
            // Nothing will appear at or below what is stable, so all of it has been listed; and a tablet
            // that does not change is not read again.
            self.next = self.next.max(to.next());
            if !is_told {
                is_told = true;
                let reply = ChangesReply { changes: Vec::new(), position: Some(position(to)) };
                if pages.send(Ok(reply)).await.is_err() {
                    return End::Quiet;
                }
            }
            if !self.follow {
                return End::Quiet;
            }
            tokio::time::sleep(POLL_INTERVAL).await;
            self.stable = match self.ask(shard, ControlRequest::Stable).await {
                Ok(ControlReply::Stable(stable)) => self.stable.max(stable),
                Ok(_) => return End::Because(unexpected()),
                Err(end) => return end,
            };
        }
    }

    /// Who follows waits where others are told to come again.
    async fn ask(&self, shard: &Caller, request: ControlRequest) -> Result<ControlReply, End> {
        loop {
            match shard.call(request.clone()).await {
                Ok(reply) => return Ok(reply),
                Err(CallError::Busy | CallError::Fs(FsError::Busy)) if self.follow => {
                    tokio::time::sleep(POLL_INTERVAL).await;
                }
                Err(CallError::Gone) if self.follow => return Err(End::Quiet),
                Err(CallError::Fs(FsError::Trimmed { to })) => {
                    return Err(End::Because(forgotten(to)));
                }
                Err(error) => return Err(End::Because(status::of_call(error))),
            }
        }
    }
}

/// The newest seq that nothing can appear at or below any more.
pub(crate) async fn stable(shard: &Caller) -> Result<Seq, Status> {
    match shard.call(ControlRequest::Stable).await.map_err(status::of_call)? {
        ControlReply::Stable(stable) => Ok(stable),
        _ => Err(unexpected()),
    }
}

/// The way out of a place that history does not reach back to.
pub(crate) fn forgotten(to: Seq) -> Status {
    let error = FsError::Trimmed { to };
    let text = format!(
        "{error}; begin again with 0, which lists all that there is, and forget what it does not list; \
         or go on behind {to}, which leaves those deletions out"
    );
    status::stale(error.errno(), text)
}

/// Where a stream begins: behind `since`, if there is anything.
pub(crate) fn first(since: &ChangesRequest) -> Option<Position> {
    match since.since {
        None => Some(Position::MIN),
        Some(at) => Position { seq: Seq(at.seq), ino: at.ino }.next(),
    }
}

/// Who begins at the beginning learns only of what is there: earlier deletions are nothing to it.
pub(crate) fn floor(request: &ChangesRequest, stable: Seq) -> Seq {
    match request.since {
        Some(since) if since.seq > 0 => Seq(0),
        _ => stable,
    }
}

fn position(at: Position) -> IndexPosition {
    IndexPosition { seq: at.seq.0, ino: at.ino }
}

fn record(change: Change) -> ChangeRecord {
    let Change { seq, ino, kind, data_version, what } = change;
    let (change, gone) = match what {
        What::Created => ("created", None),
        What::Metadata => ("metadata", None),
        What::Data => ("data", None),
        What::Deleted(gone) => ("deleted", Some(gone)),
    };
    let (mut hidden_xattrs, mut hidden_xattrs_cut) = (Vec::new(), None);
    let (mut parent_ino, mut last_name) = (None, None);
    if let Some(Gone { parent, name, hidden_xattrs: kept, hidden_xattrs_cut: cut }) = gone {
        (parent_ino, last_name) = (Some(parent), Some(name.into_vec()));
        let xattr = |cairn_engine::Xattr { name, value }| Xattr {
            name: name.into_vec(),
            value: value.into_vec(),
        };
        hidden_xattrs = kept.into_iter().map(xattr).collect();
        hidden_xattrs_cut = Some(cut);
    }
    ChangeRecord {
        seq: seq.0,
        ino: ino.raw(),
        change: change.into(),
        kind: kind_word(kind).into(),
        data_version,
        parent_ino,
        name: last_name,
        hidden_xattrs,
        hidden_xattrs_cut,
    }
}

pub(crate) fn kind_word(kind: FileKind) -> &'static str {
    match kind {
        FileKind::Regular => "regular",
        FileKind::Directory => "directory",
        FileKind::Symlink => "symlink",
        FileKind::Block => "block",
        FileKind::Character => "character",
        FileKind::Fifo => "fifo",
        FileKind::Socket => "socket",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_position_above_all_that_is_stable_is_refused_and_none_below() {
        let stable = Seq(7);
        let since = |seq, ino| {
            let since = Some(IndexPosition { seq, ino });
            ChangesRequest { since, ..ChangesRequest::default() }
        };
        for good in [since(0, 0), since(6, u64::MAX), since(7, 3), since(7, u64::MAX)] {
            assert!(refuse_beyond(&good, stable).is_ok(), "{good:?}");
        }
        assert!(refuse_beyond(&ChangesRequest::default(), stable).is_ok());
        let refused = refuse_beyond(&since(8, 0), stable).unwrap_err();
        assert!(refused.message().contains("newest seq of this pool is 7"), "{refused:?}");
    }
}
