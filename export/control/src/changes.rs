//! The change stream as gRPC: page after page from a position on, to what was stable at the start.

use crate::bridge::Caller;
use crate::proto::{ChangeRecord, ChangesReply, ChangesRequest, Xattr};
use crate::request::{ControlReply, ControlRequest, Position};
use crate::status::{self, unexpected};
use cairn_engine::attr::FileKind;
use cairn_engine::{Change, Gone, What};
use cairn_format::Seq;
use tokio::sync::mpsc;
use tonic::Status;

/// Changes in one message; a deleted one has a name and hidden xattrs, a little above 4 KiB together.
const CHANGES_MAX: usize = 256;

pub(crate) type Pages = mpsc::Sender<Result<ChangesReply, Status>>;

/// A position that no stream has ended at: whoever waits behind it misses all that happens before. One that
/// was given out never is, since stable only rises, also over a crash (`cairn_engine::Shard::stable`).
pub(crate) fn refuse_beyond(request: &ChangesRequest, stable: Seq) -> Result<(), Status> {
    match &request.since {
        Some(since) if since.seq > stable.0 => Err(status::invalid(&format!(
            "the newest seq of this pool is {}: a position above it is of another pool, or a mistake; \
             begin with one that `cairn changes` listed, or with 0",
            stable.0
        ))),
        _ => Ok(()),
    }
}

/// Sends what lies behind `since`, up to and with all of `stable`.
pub(crate) async fn stream(shard: Caller, since: ChangesRequest, stable: Seq, pages: Pages) {
    let to = Position { seq: stable, ino: u64::MAX };
    let mut next = first(&since);
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

/// Where a stream begins: behind `since`, if there is anything.
pub(crate) fn first(since: &ChangesRequest) -> Option<Position> {
    match since.since {
        None => Some(Position::MIN),
        Some(at) => Position { seq: Seq(at.seq), ino: at.ino }.next(),
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
    use crate::proto::IndexPosition;

    #[test]
    fn a_position_above_all_that_is_stable_is_refused_and_none_below() {
        let stable = Seq(7);
        let since = |seq, ino| ChangesRequest { since: Some(IndexPosition { seq, ino }) };
        for good in [since(0, 0), since(6, u64::MAX), since(7, 3), since(7, u64::MAX)] {
            assert!(refuse_beyond(&good, stable).is_ok(), "{good:?}");
        }
        assert!(refuse_beyond(&ChangesRequest { since: None }, stable).is_ok());
        let refused = refuse_beyond(&since(8, 0), stable).unwrap_err();
        assert!(refused.message().contains("newest seq of this pool is 7"), "{refused:?}");
    }
}
