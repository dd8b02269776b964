//! Extended attributes as gRPC: what requests name, and listings page after page.

use crate::bridge::Caller;
use crate::proto::{self, ListXattrsReply, inode_target, stat_request};
use crate::request::{ControlReply, ControlRequest};
use crate::status::{self, unexpected};
use cairn_engine::op::{XattrList, XattrSet};
use cairn_format::InodeNo;
use tokio::sync::mpsc;
use tonic::Status;

/// Names in one message, of up to 255 bytes each.
const NAMES_MAX: usize = 256;

pub(crate) type Pages = mpsc::Sender<Result<ListXattrsReply, Status>>;

/// As `Stat` names inodes.
pub(crate) fn target(inode: Option<proto::InodeTarget>) -> Option<stat_request::Target> {
    Some(match inode?.target? {
        inode_target::Target::Path(path) => stat_request::Target::Path(path),
        inode_target::Target::Ino(ino) => stat_request::Target::Ino(ino),
    })
}

pub(crate) fn how(request: &proto::SetXattrRequest) -> Result<XattrSet, Status> {
    match proto::XattrSet::try_from(request.how) {
        Ok(proto::XattrSet::Any) => Ok(XattrSet::Any),
        Ok(proto::XattrSet::Create) => Ok(XattrSet::Create),
        Ok(proto::XattrSet::Replace) => Ok(XattrSet::Replace),
        Err(_) => {
            Err(status::invalid("an extended attribute is set in any case, created, or replaced"))
        }
    }
}

/// Sends the names page by page, each when the one before was taken.
pub(crate) async fn list(shard: Caller, ino: InodeNo, hidden: bool, pages: Pages) {
    let list = if hidden { XattrList::Hidden } else { XattrList::Visible };
    let mut after = None;
    loop {
        let Ok(room) = pages.reserve().await else { return };
        let request = ControlRequest::ListXattrs { ino, list, after, count_max: NAMES_MAX };
        let page = match shard.call(request).await {
            Ok(ControlReply::Xattrs(page)) => page,
            Ok(_) => return room.send(Err(unexpected())),
            Err(error) => return room.send(Err(status::of_call(error))),
        };
        if !page.names.is_empty() {
            room.send(Ok(ListXattrsReply { names: page.names }));
        }
        if page.next.is_none() {
            return;
        }
        after = page.next;
    }
}
