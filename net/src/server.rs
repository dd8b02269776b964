//! Serves RPC calls on one connection: records in, calls run side by side, answers out.
//!
//! One future does it all, on one core. Three things go on inside it: reading, the calls that have
//! been read, and sending. They share only the counters of `Load` and the queue of finished answers,
//! and whenever one of them moves, the others are looked at again before the future rests; so none
//! of them needs a waker for another.
//!
//! A client that asks faster than it is served is not read any more: reading stops at `calls_max`
//! calls or `bytes_max` bytes of their records and answers, until an answer has left. A call counts
//! for what its answer may become, from when it is taken: a READ of a megabyte asked 64 times by
//! somebody who takes no answer must not be 64 megabytes. So the memory of a connection is bounded by
//! `bytes_max`, one record, one call and one batch.
//! All connections that share a `Budget` are bounded together as well: once it is used up, each takes
//! no more than its even part. Somebody who has nothing open is always within it, so those that hold
//! much cannot keep those that hold little from being served.
//!
//! Two things have a time: a record that has begun, until it is complete (`inbox.rs`), and answers on
//! their way out, until the peer has taken them. A peer that has sent nothing may be silent for ever.
//!
//! When the peer has finished sending, or sends what is no RPC, nothing more is read, the calls
//! already taken are answered, and then the connection ends. When the connection breaks, the calls
//! are still carried to their end, for a client that comes back asks again, and must then find the
//! answer it missed (the handler may keep it) and not half an operation.
//!
//! Not here: which programs exist and what they do (the handler), and how many connections there
//! may be (whoever accepts them).

use crate::budget::{Budget, Seat};
use crate::inbox::{Inbox, InboxError};
use crate::outbox;
use crate::record::RecordLimits;
use crate::rpc::{self, CallHeader, RpcError};
use crate::xdr::{Decoder, Encoder};
use cairn_base::door::{Link, LinkError};
use cairn_base::{Arena, DmaBuf, DmaSlice, Nanos};
use futures_util::future::{Either, select};
use futures_util::stream::{FuturesUnordered, StreamExt};
use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::future::{Future, poll_fn};
use std::net::SocketAddr;
use std::ops::Range;
use std::pin::pin;
use std::task::Poll;

/// How often the future goes round before other tasks get a turn.
const ROUNDS_MAX: usize = 16;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConnectionLimits {
    pub record: RecordLimits,
    /// Calls taken whose answer has not left yet.
    pub calls_max: usize,
    /// Bytes of their records and of what they may answer or, once finished, of their answers: no call
    /// is taken above it. The last call may go above it all the same.
    pub bytes_max: usize,
    /// From the first byte of a record to its last.
    pub record_time_max: Nanos,
    /// From handing a batch of answers (a megabyte or so) to the link until the peer has taken it.
    pub send_time_max: Nanos,
}

impl ConnectionLimits {
    /// A minute for a megabyte: slower than any link that somebody mounts over.
    pub const DEFAULT: ConnectionLimits = ConnectionLimits {
        record: RecordLimits::DEFAULT,
        calls_max: 64,
        bytes_max: 16 << 20,
        record_time_max: Nanos::from_secs(60),
        send_time_max: Nanos::from_secs(60),
    };
}

/// One call, with the record it came in.
#[derive(Debug)]
pub struct Call {
    pub header: CallHeader,
    pub peer: SocketAddr,
    /// Absent when it was given away.
    record: Option<DmaSlice>,
    args_at: usize,
}

impl Call {
    /// The arguments, from their first byte.
    pub fn args(&self) -> Decoder<'_> {
        Decoder::new(self.record.as_ref().map_or(&[], |record| &record[self.args_at..]))
    }

    /// Gives a part of the arguments away as a buffer of its own, without a copy, and with it all of
    /// the arguments; `None`, and they stay, where that cannot be (`DmaSlice::into_blocks`). The part
    /// counts from their first byte.
    pub fn give_args(&mut self, part: Range<usize>) -> Option<DmaBuf> {
        let part = part.start + self.args_at..part.end + self.args_at;
        match self.record.take()?.into_blocks(part) {
            Ok(buf) => Some(buf),
            Err(record) => {
                self.record = Some(record);
                None
            }
        }
    }
}

/// Why a connection ended, other than by the peer's wish.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConnectionError {
    Inbox(InboxError),
    /// A record that is not an RPC call.
    NotACall,
    Send(LinkError),
    /// The peer did not take its answers in time.
    SendTooSlow,
}

/// Serves until the peer has finished or the connection ends otherwise. `handler` answers each call,
/// from its head on (`rpc::success`, `rpc::refuse`), and says first how many bytes of payload the answer
/// may have; `None` leaves the call without an answer. `sleep` ends after the time it is given.
pub async fn serve_connection<L, F, S>(
    link: &L,
    arena: &Arena,
    limits: ConnectionLimits,
    budget: &Budget,
    sleep: impl Fn(Nanos) -> S,
    handler: impl Fn(Call) -> (usize, F),
) -> Result<(), ConnectionError>
where
    L: Link,
    F: Future<Output = Option<Encoder>>,
    S: Future<Output = ()>,
{
    let _seat = Seat::take(budget);
    let load = Load::new(limits, budget);
    let finished = RefCell::new(VecDeque::new());
    let calls = RefCell::new(FuturesUnordered::new());

    let mut reading = pin!(async {
        let mut inbox =
            Inbox::new(link, arena, budget, limits.record, || sleep(limits.record_time_max));
        loop {
            load.room().await;
            let record = inbox.next().await.map_err(ConnectionError::Inbox)?;
            let Some(record) = record else { return Ok(()) };
            let mut ticket = load.take(record.len());
            match rpc::decode_call(&record) {
                Ok((header, args)) => {
                    let args_at = record.len() - args.remaining();
                    let call = Call { header, peer: link.peer(), record: Some(record), args_at };
                    let (payload_max, answer) = handler(call);
                    ticket.now_weighs(ticket.bytes + payload_max);
                    let mut answer = Box::pin(answer);
                    // Most calls find what they want in memory: no need to keep track of those.
                    let at_once = poll_fn(|cx| Poll::Ready(answer.as_mut().poll(cx))).await;
                    match at_once {
                        Poll::Ready(answer) => finish(&finished, answer, ticket),
                        Poll::Pending => {
                            calls.borrow().push(async move { (answer.await, ticket) });
                        }
                    }
                }
                Err(RpcError::Denied { xid, denial }) => {
                    finished.borrow_mut().push_back((rpc::deny(xid, denial), ticket));
                }
                Err(RpcError::NotACall) => return Err(ConnectionError::NotACall),
            }
        }
    });

    let mut sending = pin!(async {
        loop {
            let (slices, tickets) = poll_fn(|_| match &mut *finished.borrow_mut() {
                none if none.is_empty() => Poll::Pending,
                some => {
                    Poll::Ready(outbox::batch(arena, &mut std::iter::from_fn(|| some.pop_front())))
                }
            })
            .await;
            let due = pin!(sleep(limits.send_time_max));
            match select(pin!(link.send(slices)), due).await {
                Either::Left((Ok(()), _)) => drop(tickets),
                Either::Left((Err(error), _)) => return ConnectionError::Send(error),
                Either::Right(((), _)) => return ConnectionError::SendTooSlow,
            }
        }
    });

    let mut outcome = None;
    let mut broken = false;
    poll_fn(|cx| {
        for _ in 0..ROUNDS_MAX {
            let moves = load.moves.get();
            if outcome.is_none()
                && let Poll::Ready(end) = reading.as_mut().poll(cx)
            {
                outcome = Some(end);
            }
            while let Poll::Ready(Some((answer, ticket))) = calls.borrow_mut().poll_next_unpin(cx) {
                finish(&finished, answer, ticket);
            }
            if !broken && let Poll::Ready(error) = sending.as_mut().poll(cx) {
                broken = true;
                outcome = Some(Err(error));
            }
            if broken {
                finished.borrow_mut().clear();
            }
            if let Some(end) = outcome
                && load.calls.get() == 0
            {
                return Poll::Ready(end);
            }
            if moves == load.moves.get() {
                return Poll::Pending;
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    })
    .await
}

/// Puts an answer among those that are to be sent.
fn finish<'a>(
    finished: &RefCell<VecDeque<(Encoder, Ticket<'a>)>>,
    answer: Option<Encoder>,
    mut ticket: Ticket<'a>,
) {
    if let Some(answer) = answer {
        ticket.now_weighs(answer.len());
        finished.borrow_mut().push_back((answer, ticket));
    }
}

/// What the connection has taken on. `moves` counts every change, so that the round above knows
/// when it has come to rest.
struct Load<'a> {
    limits: ConnectionLimits,
    budget: &'a Budget,
    calls: Cell<usize>,
    bytes: Cell<usize>,
    moves: Cell<u64>,
}

impl<'b> Load<'b> {
    fn new(limits: ConnectionLimits, budget: &'b Budget) -> Self {
        Load { limits, budget, calls: Cell::new(0), bytes: Cell::new(0), moves: Cell::new(0) }
    }

    /// Waits for room. No waker is kept: the answer that makes room leaves from the same future, and
    /// a part of the budget is room for at least one call as soon as all answers have left.
    async fn room(&self) {
        poll_fn(|_| {
            let bytes_max = self.limits.bytes_max.min(self.budget.part());
            let room = self.calls.get() < self.limits.calls_max && self.bytes.get() < bytes_max;
            if room { Poll::Ready(()) } else { Poll::Pending }
        })
        .await;
    }

    fn take(&self, bytes: usize) -> Ticket<'_> {
        self.calls.set(self.calls.get() + 1);
        self.weigh(0, bytes);
        Ticket { load: self, bytes }
    }

    fn weigh(&self, from: usize, to: usize) {
        self.bytes.set(self.bytes.get() - from + to);
        self.budget.grow(from, to);
        self.moved();
    }

    fn moved(&self) {
        self.moves.set(self.moves.get() + 1);
    }
}

/// One call's part of the load; held until its answer has left.
struct Ticket<'a> {
    load: &'a Load<'a>,
    bytes: usize,
}

impl Ticket<'_> {
    /// More is known about its answer, or the record is gone and the answer waits in its place.
    fn now_weighs(&mut self, bytes: usize) {
        self.load.weigh(self.bytes, bytes);
        self.bytes = bytes;
    }
}

impl Drop for Ticket<'_> {
    fn drop(&mut self) {
        self.load.calls.set(self.load.calls.get() - 1);
        self.load.weigh(self.bytes, 0);
    }
}
