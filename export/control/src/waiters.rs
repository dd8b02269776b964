//! Who waits for offline data, as gRPC: listed over all shards, followed, and told errors.
//!
//! A shard gives its waiters a page at a time. A listing merges the pages of all shards by inode and block;
//! who follows gets those of each shard in the order in which they came, and asks again a few times a second.
//! A page is asked for when the last one was taken, so whoever is slow holds a page a shard.

use crate::bridge::{CallError, Caller};
use crate::proto::{DataWaitErrRequest, DataWaiter, DataWaitingReply, DataWaitingRequest};
use crate::request::{ControlReply, ControlRequest};
use crate::service::parse_ino;
use crate::status::{self, unexpected};
use cairn_engine::{FsError, WaitOp, Waiter, WaitersFrom};
use cairn_format::InodeNo;
use std::collections::VecDeque;
use std::time::Duration;
use tokio::sync::{mpsc, watch};
use tonic::Status;

/// Waiters in one message.
const PAGE_WAITERS: usize = 1024;
/// Who follows hears of a waiter at most so much later than it came.
const POLL_INTERVAL: Duration = Duration::from_millis(200);
const ERRNO_MAX: u32 = 4095;

type Pages = mpsc::Sender<Result<DataWaitingReply, Status>>;

pub(crate) struct Listing {
    shards: Vec<Reading>,
    follow: bool,
}

/// How far one shard's waiters are read.
struct Reading {
    shard: Caller,
    next: WaitersFrom,
    is_last: bool,
    read: VecDeque<Waiter>,
}

/// Why a listing ends.
enum End {
    Quiet,
    Because(Status),
}

impl Listing {
    pub fn parse(request: &DataWaitingRequest, shards: &[Caller]) -> Result<Listing, Status> {
        let place = match (request.after_ino, request.after_block) {
            (0, 0) => None,
            (ino, block) => Some((parse_ino(ino)?, block)),
        };
        let from = match (request.follow, place) {
            (true, None) => WaitersFrom::Arrival(0),
            (true, Some(_)) => {
                return Err(status::invalid("who follows hears of all: no place to begin behind"));
            }
            // No inode has a lower number, and the last block of its largest file waits for nobody.
            (false, place) => {
                let (ino, block) = place.unwrap_or((InodeNo::ROOT, u64::MAX));
                WaitersFrom::Place(ino, block)
            }
        };
        let reading = |shard: &Caller| {
            let (shard, read) = (shard.clone(), VecDeque::new());
            Reading { shard, next: from, is_last: false, read }
        };
        Ok(Listing { shards: shards.iter().map(reading).collect(), follow: request.follow })
    }

    pub async fn run(mut self, pages: Pages, mut stopping: watch::Receiver<()>) {
        let end = tokio::select! {
            end = self.send(&pages) => end,
            // Nothing is ever sent there: the sender has gone.
            _ = stopping.changed() => End::Quiet,
            () = pages.closed() => End::Quiet,
        };
        if let End::Because(status) = end {
            // Who does not listen any more does not want to know.
            let _ = pages.send(Err(status)).await;
        }
    }

    async fn send(&mut self, pages: &Pages) -> End {
        loop {
            let Ok(room) = pages.reserve().await else { return End::Quiet };
            match self.page().await {
                Ok(page) if page.is_empty() && !self.follow => return End::Quiet,
                Ok(page) if page.is_empty() => {
                    drop(room);
                    tokio::time::sleep(POLL_INTERVAL).await;
                    self.shards.iter_mut().for_each(|reading| reading.is_last = false);
                }
                Ok(page) => {
                    let waiters = page.iter().map(record).collect();
                    room.send(Ok(DataWaitingReply { waiters }));
                }
                Err(end) => return end,
            }
        }
    }

    /// The next ones of all shards; none: there are none now.
    async fn page(&mut self) -> Result<Vec<Waiter>, End> {
        let mut page = Vec::new();
        while page.len() < PAGE_WAITERS {
            for reading in &mut self.shards {
                reading.fill(self.follow).await?;
            }
            let by_place = |waiter: &Waiter| (waiter.ino, waiter.block, waiter.op, waiter.client);
            let first = self
                .shards
                .iter_mut()
                .filter(|reading| !reading.read.is_empty())
                .min_by_key(|reading| reading.read.front().map(by_place));
            match first.and_then(|reading| reading.read.pop_front()) {
                Some(waiter) => page.push(waiter),
                None => break,
            }
        }
        Ok(page)
    }
}

impl Reading {
    /// Reads on until there is something, or nothing any more.
    async fn fill(&mut self, patient: bool) -> Result<(), End> {
        while self.read.is_empty() && !self.is_last {
            match self.shard.call(ControlRequest::Waiting(self.next)).await {
                Ok(ControlReply::Waiting(page)) => {
                    (self.next, self.is_last) = (page.next, page.is_last);
                    self.read.extend(page.waiters);
                }
                Ok(_) => return Err(End::Because(unexpected())),
                Err(CallError::Busy | CallError::Fs(FsError::Busy)) if patient => {
                    tokio::time::sleep(POLL_INTERVAL).await;
                }
                Err(CallError::Gone) if patient => return Err(End::Quiet),
                Err(error) => return Err(End::Because(status::of_call(error))),
            }
        }
        Ok(())
    }
}

fn record(waiter: &Waiter) -> DataWaiter {
    DataWaiter {
        ino: waiter.ino.raw(),
        block: waiter.block,
        blocks: waiter.blocks,
        op: waiter.op.name().into(),
        age: waiter.age.0 / 1_000_000_000,
        client: waiter.client.to_canonical().to_string(),
    }
}

pub(crate) fn parse_fail(request: DataWaitErrRequest) -> Result<ControlRequest, Status> {
    let ino = parse_ino(request.ino)?;
    let errno = u16::try_from(request.errno).ok();
    let Some(errno) = errno.filter(|errno| (1..=ERRNO_MAX).contains(&u32::from(*errno))) else {
        return Err(status::invalid("an errno is a number from 1 to 4095"));
    };
    let named = |name: &String| {
        let op = WaitOp::ALL.into_iter().find(|op| op.name() == name);
        op.ok_or_else(|| status::invalid("clients wait to `read`, `write` or `change_size`"))
    };
    let ops = match request.ops.as_slice() {
        [] => WaitOp::ALL.to_vec(),
        ops if ops.len() > WaitOp::ALL.len() => {
            return Err(status::invalid("there are three kinds of requests that wait"));
        }
        ops => ops.iter().map(named).collect::<Result<_, _>>()?,
    };
    let offset = request.offset;
    let len = request.length.unwrap_or(u64::MAX - offset);
    if offset.checked_add(len).is_none() {
        return Err(status::invalid("the range ends behind the largest file"));
    }
    Ok(ControlRequest::FailWaiters { ino, offset, len, ops, errno })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(errno: u32, ops: &[&str]) -> DataWaitErrRequest {
        let ops = ops.iter().map(|op| (*op).into()).collect();
        DataWaitErrRequest { ino: 7, errno, ops, ..DataWaitErrRequest::default() }
    }

    #[test]
    fn an_error_has_a_number_and_goes_to_what_was_named() {
        let ops = |request| match parse_fail(request) {
            Ok(ControlRequest::FailWaiters { ops, errno: 5, offset: 0, len: u64::MAX, .. }) => ops,
            other => panic!("{other:?}"),
        };
        assert_eq!(ops(request(5, &[])), WaitOp::ALL);
        assert_eq!(ops(request(5, &["change_size"])), [WaitOp::ChangeSize]);
        for bad in [
            request(0, &[]),
            request(4096, &[]),
            request(5, &["append"]),
            request(5, &["read"; 4]),
            DataWaitErrRequest { offset: 2, length: Some(u64::MAX - 1), ..request(5, &[]) },
            DataWaitErrRequest { ino: 0, ..request(5, &[]) },
        ] {
            assert!(parse_fail(bad.clone()).is_err(), "{bad:?}");
        }
    }
}
