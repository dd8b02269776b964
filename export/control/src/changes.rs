//! The change stream as gRPC: page after page from a position on, to what was stable at the start.

use crate::bridge::Caller;
use crate::proto::{ChangeRecord, ChangesReply, ChangesRequest};
use crate::request::{ControlReply, ControlRequest, Position};
use crate::status::{self, unexpected};
use cairn_engine::attr::FileKind;
use cairn_engine::{Change, What};
use cairn_format::Seq;
use tokio::sync::mpsc;
use tonic::Status;

/// Changes in one message; a deleted one has a name of up to 255 bytes.
const CHANGES_MAX: usize = 256;

pub(crate) type Pages = mpsc::Sender<Result<ChangesReply, Status>>;

/// Sends what lies behind `since`, up to and with all of `stable`.
pub(crate) async fn stream(shard: Caller, since: ChangesRequest, stable: Seq, pages: Pages) {
    let to = Position { seq: stable, ino: u64::MAX };
    let mut next = match since.since {
        None => Some(Position::MIN),
        Some(at) => Position { seq: Seq(at.seq), ino: at.ino }.next(),
    };
    while let Some(from) = next.filter(|from| *from <= to) {
        let Ok(room) = pages.reserve().await else { return };
        let request = ControlRequest::Changes { from, to, count_max: CHANGES_MAX };
        let changes = match shard.call(request).await {
            Ok(ControlReply::Changes(changes)) => changes,
            Ok(_) => return room.send(Err(unexpected())),
            Err(error) => return room.send(Err(status::of_call(error))),
        };
        let Some(last) = changes.last() else { return };
        next = Position { seq: last.seq, ino: last.ino.raw() }.next();
        room.send(Ok(ChangesReply { changes: changes.into_iter().map(record).collect() }));
    }
}

fn record(change: Change) -> ChangeRecord {
    let Change { seq, ino, kind, data_version, what } = change;
    let (change, gone) = match what {
        What::Created => ("created", None),
        What::Metadata => ("metadata", None),
        What::Data => ("data", None),
        What::Deleted(gone) => ("deleted", Some(gone)),
    };
    ChangeRecord {
        seq: seq.0,
        ino: ino.raw(),
        change: change.into(),
        kind: kind_word(kind).into(),
        data_version,
        parent_ino: gone.as_ref().map(|gone| gone.parent),
        name: gone.map(|gone| gone.name.into_vec()),
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
