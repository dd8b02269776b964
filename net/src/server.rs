//! Serves RPC calls on one connection: records in, calls run side by side, answers out.
//!
//! One future does it all, on one core. Three things go on inside it: reading, the calls that have
//! been read, and sending. They share only the counters of `Load` and the queue of finished answers,
//! and whenever one of them moves, the others are looked at again before the future rests; so none
//! of them needs a waker for another.
//!
//! A client that asks faster than it is served is not read any more: reading stops at `calls_max`
//! calls or `bytes_max` bytes of their records and answers, until an answer has left. So the memory
//! of a connection is bounded by those, one record, one batch, and the answers of `calls_max` calls.
//!
//! When the peer has finished sending, or sends what is no RPC, nothing more is read, the calls
//! already taken are answered, and then the connection ends. When the connection breaks, the calls
//! are still carried to their end, for a client that comes back asks again, and must then find the
//! answer it missed (the handler may keep it) and not half an operation.
//!
//! Not here: which programs exist and what they do (the handler), and how many connections there
//! may be (whoever accepts them).

use crate::inbox::{Inbox, InboxError};
use crate::outbox;
use crate::record::RecordLimits;
use crate::rpc::{self, CallHeader, RpcError};
use crate::xdr::{Decoder, Encoder};
use cairn_base::door::{Link, LinkError};
use cairn_base::{Arena, DmaSlice};
use futures_util::stream::{FuturesUnordered, StreamExt};
use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::future::{Future, poll_fn};
use std::net::SocketAddr;
use std::pin::pin;
use std::task::Poll;

/// How often the future goes round before other tasks get a turn.
const ROUNDS_MAX: usize = 16;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConnectionLimits {
    pub record: RecordLimits,
    /// Calls taken whose answer has not left yet.
    pub calls_max: usize,
    /// Bytes of their records and, once finished, of their answers: no call is taken above it. The
    /// last record, and answers larger than their calls, may go above it all the same.
    pub bytes_max: usize,
}

impl ConnectionLimits {
    pub const DEFAULT: ConnectionLimits =
        ConnectionLimits { record: RecordLimits::DEFAULT, calls_max: 64, bytes_max: 16 << 20 };
}

/// One call, with the record it came in.
#[derive(Debug)]
pub struct Call {
    pub header: CallHeader,
    pub peer: SocketAddr,
    record: DmaSlice,
    args_at: usize,
}

impl Call {
    /// The arguments, from their first byte.
    pub fn args(&self) -> Decoder<'_> {
        Decoder::new(&self.record[self.args_at..])
    }
}

/// Why a connection ended, other than by the peer's wish.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConnectionError {
    Inbox(InboxError),
    /// A record that is not an RPC call.
    NotACall,
    Send(LinkError),
}

/// Serves until the peer has finished or the connection ends otherwise. `handler` answers each call,
/// from its head on (`rpc::success`, `rpc::refuse`); `None` leaves the call without an answer.
pub async fn serve_connection<L, F>(
    link: &L,
    arena: &Arena,
    limits: ConnectionLimits,
    handler: impl Fn(Call) -> F,
) -> Result<(), ConnectionError>
where
    L: Link,
    F: Future<Output = Option<Encoder>>,
{
    let load = Load::new(limits);
    let finished = RefCell::new(VecDeque::new());
    let calls = RefCell::new(FuturesUnordered::new());

    let mut reading = pin!(async {
        let mut inbox = Inbox::new(link, arena, limits.record);
        loop {
            load.room().await;
            let record = inbox.next().await.map_err(ConnectionError::Inbox)?;
            let Some(record) = record else { return Ok(()) };
            let ticket = load.take(record.len());
            match rpc::decode_call(&record) {
                Ok((header, args)) => {
                    let args_at = record.len() - args.remaining();
                    let call = Call { header, peer: link.peer(), record, args_at };
                    let mut answer = Box::pin(handler(call));
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
            if let Err(error) = link.send(slices).await {
                return error;
            }
            drop(tickets);
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
                outcome = Some(Err(ConnectionError::Send(error)));
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
struct Load {
    limits: ConnectionLimits,
    calls: Cell<usize>,
    bytes: Cell<usize>,
    moves: Cell<u64>,
}

impl Load {
    fn new(limits: ConnectionLimits) -> Self {
        Load { limits, calls: Cell::new(0), bytes: Cell::new(0), moves: Cell::new(0) }
    }

    /// Waits for room. No waker is kept: the answer that makes room leaves from the same future.
    async fn room(&self) {
        poll_fn(|_| {
            let room = self.calls.get() < self.limits.calls_max
                && self.bytes.get() < self.limits.bytes_max;
            if room { Poll::Ready(()) } else { Poll::Pending }
        })
        .await;
    }

    fn take(&self, bytes: usize) -> Ticket<'_> {
        self.calls.set(self.calls.get() + 1);
        self.bytes.set(self.bytes.get() + bytes);
        self.moved();
        Ticket { load: self, bytes }
    }

    fn moved(&self) {
        self.moves.set(self.moves.get() + 1);
    }
}

/// One call's part of the load; held until its answer has left.
struct Ticket<'a> {
    load: &'a Load,
    bytes: usize,
}

impl Ticket<'_> {
    /// The record is gone and its answer waits in its place.
    fn now_weighs(&mut self, bytes: usize) {
        self.load.bytes.set(self.load.bytes.get() - self.bytes + bytes);
        self.bytes = bytes;
        self.load.moved();
    }
}

impl Drop for Ticket<'_> {
    fn drop(&mut self) {
        self.load.calls.set(self.load.calls.get() - 1);
        self.load.bytes.set(self.load.bytes.get() - self.bytes);
        self.load.moved();
    }
}
