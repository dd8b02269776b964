//! A file's extents, page after page. One that goes on in the next page is held back until that is known.

use crate::bridge::Caller;
use crate::proto::{FileExtent, GetFiemapReply, GetFiemapRequest};
use crate::request::{ControlReply, ControlRequest};
use crate::status::{self, unexpected};
use cairn_base::BLOCK_BYTES;
use cairn_engine::op;
use cairn_format::InodeNo;
use std::ops::Range;
use tokio::sync::mpsc;
use tonic::Status;

/// Items of a file's map that one page looks at.
const ITEMS_MAX: usize = 1024;

const BLOCK: u64 = BLOCK_BYTES as u64;

pub(crate) type Pages = mpsc::Sender<Result<GetFiemapReply, Status>>;

/// The blocks that a request is about.
pub(crate) fn blocks(request: &GetFiemapRequest) -> Result<Range<u64>, Status> {
    if request.length == Some(0) {
        return Err(status::invalid("a range of no bytes has no extents"));
    }
    let end = request.length.map_or(u64::MAX, |length| request.offset.saturating_add(length));
    Ok(request.offset / BLOCK..end.div_ceil(BLOCK))
}

pub(crate) async fn send(shard: Caller, ino: InodeNo, mut blocks: Range<u64>, pages: Pages) {
    let mut held: Option<op::FileExtent> = None;
    loop {
        let Ok(room) = pages.reserve().await else { return };
        let request = ControlRequest::Extents { ino, blocks: blocks.clone(), count_max: ITEMS_MAX };
        let page = match shard.call(request).await {
            Ok(ControlReply::Extents(page)) => page,
            Ok(_) => return room.send(Err(unexpected())),
            Err(error) => return room.send(Err(status::of_call(error))),
        };
        let mut extents = Vec::with_capacity(page.extents.len() + 1);
        for extent in &page.extents {
            let goes_on = held.as_mut().is_some_and(|before| before.append(extent));
            if !goes_on {
                extents.extend(held.replace(*extent).map(|before| shown(&before)));
            }
        }
        match page.next {
            // It only ever goes forward.
            Some(next) if next > blocks.start => blocks.start = next,
            Some(_) | None => {
                let last = held.map(|last| FileExtent { last: page.is_end, ..shown(&last) });
                extents.extend(last);
                return room.send(Ok(GetFiemapReply { extents }));
            }
        }
        if !extents.is_empty() {
            room.send(Ok(GetFiemapReply { extents }));
        }
    }
}

fn shown(extent: &op::FileExtent) -> FileExtent {
    FileExtent {
        offset: extent.first_block * BLOCK,
        length: extent.blocks * BLOCK,
        device: extent.start.map(|start| u32::from(start.device().0)),
        block: extent.start.map(|start| start.index()),
        offline: extent.offline,
        unwritten: extent.unwritten,
        inline: extent.inline,
        last: false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(offset: u64, length: Option<u64>) -> Option<Range<u64>> {
        blocks(&GetFiemapRequest { inode: None, offset, length }).ok()
    }

    #[test]
    fn a_range_is_every_block_that_it_touches() {
        assert_eq!(asked(0, Some(1)), Some(0..1));
        assert_eq!(asked(4095, Some(2)), Some(0..2));
        assert_eq!(asked(8192, Some(4096)), Some(2..3));
        assert_eq!(asked(8192, Some(u64::MAX)), Some(2..1 << 52));
        assert_eq!(asked(0, None), Some(0..1 << 52));
        assert_eq!(asked(0, Some(0)), None);
    }
}
