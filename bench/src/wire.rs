//! One connection, kept full: as many calls under way as it has slots, each the next step of its own
//! workload, answered in any order.
//!
//! A slot is an `async` function that makes one call after another. Nothing needs a waker: only a reply
//! makes a slot go on, its xid says which slot, and `drive` polls exactly that one. So a call costs an
//! encode, a copy of a small reply and a poll, well below what any server needs to answer it, and all
//! replies of one `recv` lead to one `send`. The clock is read once for each such turn.
//!
//! A large payload is not copied: outgoing ones are slices of the shared pattern, given to `writev`
//! between the headers; an incoming one is received into its slot's own buffer once its header has
//! come. Buffers are kept for the life of the connection.
//!
//! What always holds: a slot has at most one call under way, and its buffer is either with it or with
//! the reply that it reads.

use crate::clock;
use crate::pattern::{Pattern, Piece};
use crate::rpc::{self, Program};
use crate::xdr::{Decoder, Encoder, padding};
use anyhow::{Context as _, Result, bail, ensure};
use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::future::Future;
use std::io::{ErrorKind, IoSlice};
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Instant;
use tokio::io::Interest;
use tokio::net::TcpStream;

/// What a slot does from first to last.
pub type Task = Pin<Box<dyn Future<Output = Result<()>>>>;

const INBOX_BYTES: usize = 128 << 10;
/// A record this long goes straight to its slot's buffer when it has not come as a whole.
const DIRECT_BYTES_MIN: usize = 64 << 10;
/// Our largest reply is a READ of a few MiB; a mark above this is nonsense.
const RECORD_BYTES_MAX: usize = 64 << 20;
/// The kernel's own limit is 1,024; more than these are never useful at once.
const SLICES_MAX: usize = 64;
/// A payload up to this is copied behind its header.
const COPIED_BYTES_MAX: usize = 16 << 10;

pub struct Wire {
    slots: RefCell<Vec<SlotState>>,
    outbox: RefCell<Outbox>,
    now: Cell<Instant>,
    pattern: Arc<Pattern>,
}

#[derive(Default)]
struct SlotState {
    /// So many calls, from anywhere on.
    calls: u32,
    xid: u32,
    /// Only grows: `length` says how much of it is the reply.
    buffer: Vec<u8>,
    length: usize,
    has_arrived: bool,
}

impl SlotState {
    /// A server takes the xid of an earlier connection of ours for a call that is repeated, and answers
    /// what it answered then: a REMOVE of the same name would remove nothing.
    fn begin() -> SlotState {
        SlotState { calls: fastrand::u32(..), ..SlotState::default() }
    }
}

impl Wire {
    pub fn new(slots: usize, pattern: Arc<Pattern>) -> Rc<Wire> {
        assert!(slots <= rpc::SLOTS_MAX, "the depth was checked on the command line");
        let slots = (0..slots).map(|_| SlotState::begin()).collect();
        Rc::new(Wire {
            slots: RefCell::new(slots),
            outbox: RefCell::default(),
            now: Cell::new(clock::now()),
            pattern,
        })
    }

    pub fn pattern(&self) -> &Pattern {
        &self.pattern
    }

    /// The time of the turn that is being handled.
    pub fn now(&self) -> Instant {
        self.now.get()
    }

    /// Puts a call on its way; the answer is what `.await` gives. `payload` is sent as the last opaque
    /// argument.
    pub fn call(
        &self,
        slot: usize,
        (program, procedure): (Program, u32),
        payload: Option<Piece>,
        arguments: impl FnOnce(&mut Encoder<'_>),
    ) -> Answer<'_> {
        let mut slots = self.slots.borrow_mut();
        let state = &mut slots[slot];
        state.calls = state.calls.wrapping_add(1);
        state.xid = rpc::xid(slot, state.calls);
        state.has_arrived = false;
        let mut outbox = self.outbox.borrow_mut();
        let outbox = &mut *outbox;
        let start = outbox.head.len();
        outbox.head.extend_from_slice(&[0; rpc::MARK_BYTES]);
        rpc::encode_call(&mut outbox.head, state.xid, program, procedure);
        arguments(&mut Encoder::new(&mut outbox.head));
        let mut elsewhere = 0;
        if let Some(piece) = payload {
            elsewhere = outbox.append_payload(piece, &self.pattern);
        }
        let length = outbox.head.len() - start - rpc::MARK_BYTES + elsewhere;
        let mark = u32::try_from(length).expect("a call is small") | rpc::LAST_FRAGMENT;
        outbox.head[start..start + rpc::MARK_BYTES].copy_from_slice(&mark.to_be_bytes());
        Answer { wire: self, slot }
    }

    /// The slot that waits for the record that begins with these bytes.
    fn waiting_slot(&self, record: &[u8]) -> Result<usize> {
        let xid = Decoder::new(record).u32()?;
        let slot = rpc::slot_of(xid);
        let slots = self.slots.borrow();
        let state = slots.get(slot).with_context(|| format!("a reply to unknown xid {xid:#x}"))?;
        ensure!(
            state.xid == xid && !state.has_arrived,
            "a reply with xid {xid:#x} that nobody waits for"
        );
        Ok(slot)
    }

    fn deliver(&self, record: &[u8]) -> Result<usize> {
        let slot = self.waiting_slot(record)?;
        let state = &mut self.slots.borrow_mut()[slot];
        if state.buffer.len() < record.len() {
            state.buffer.resize(record.len(), 0);
        }
        state.buffer[..record.len()].copy_from_slice(record);
        state.length = record.len();
        state.has_arrived = true;
        Ok(slot)
    }
}

/// A reply that is to come.
pub struct Answer<'a> {
    wire: &'a Wire,
    slot: usize,
}

impl<'a> Future for Answer<'a> {
    type Output = Result<Reply<'a>>;

    fn poll(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Result<Reply<'a>>> {
        let state = &mut self.wire.slots.borrow_mut()[self.slot];
        if !state.has_arrived {
            return Poll::Pending;
        }
        let buffer = std::mem::take(&mut state.buffer);
        let mut decoder = Decoder::new(&buffer[..state.length]);
        let decoded = rpc::decode_reply(&mut decoder);
        let at = state.length - decoder.remaining();
        let reply = Reply { wire: self.wire, slot: self.slot, buffer, results: at..state.length };
        Poll::Ready(decoded.map(|()| reply))
    }
}

/// The results of one call. Gives its buffer back to the slot when dropped.
pub struct Reply<'a> {
    wire: &'a Wire,
    slot: usize,
    buffer: Vec<u8>,
    results: std::ops::Range<usize>,
}

impl Reply<'_> {
    pub fn results(&self) -> Decoder<'_> {
        Decoder::new(&self.buffer[self.results.clone()])
    }
}

impl Drop for Reply<'_> {
    fn drop(&mut self) {
        self.wire.slots.borrow_mut()[self.slot].buffer = std::mem::take(&mut self.buffer);
    }
}

/// Headers back to back, and the payloads that belong between them.
#[derive(Default)]
struct Outbox {
    head: Vec<u8>,
    head_sent: usize,
    payloads: VecDeque<Payload>,
}

struct Payload {
    /// Sent when this much of the head has been.
    at: usize,
    piece: Piece,
}

impl Outbox {
    /// The bytes of the record that are not in the head.
    fn append_payload(&mut self, piece: Piece, pattern: &Pattern) -> usize {
        let length = piece.length();
        Encoder::new(&mut self.head).u32(u32::try_from(length).expect("a payload is small"));
        if length <= COPIED_BYTES_MAX {
            Encoder::new(&mut self.head).fixed(pattern.bytes(piece));
            return 0;
        }
        self.payloads.push_back(Payload { at: self.head.len(), piece });
        self.head.extend_from_slice(&[0; 3][..padding(length)]);
        length
    }

    fn is_empty(&self) -> bool {
        self.head_sent == self.head.len() && self.payloads.is_empty()
    }

    fn send(&mut self, stream: &TcpStream, pattern: &Pattern) -> std::io::Result<()> {
        while !self.is_empty() {
            let sent = if self.payloads.is_empty() {
                stream.try_write(&self.head[self.head_sent..])?
            } else {
                let mut slices = [IoSlice::new(&[]); SLICES_MAX];
                let count = self.slices(pattern, &mut slices);
                stream.try_write_vectored(&slices[..count])?
            };
            self.advance(sent);
        }
        self.head.clear();
        self.head_sent = 0;
        Ok(())
    }

    fn slices<'a>(&'a self, pattern: &'a Pattern, slices: &mut [IoSlice<'a>]) -> usize {
        let mut at = self.head_sent;
        let mut count = 0;
        for payload in self.payloads.iter().take(SLICES_MAX / 2 - 1) {
            slices[count] = IoSlice::new(&self.head[at..payload.at]);
            slices[count + 1] = IoSlice::new(pattern.bytes(payload.piece));
            count += 2;
            at = payload.at;
        }
        // Behind a payload that is not in the list nothing may be sent.
        if self.payloads.len() < SLICES_MAX / 2 {
            slices[count] = IoSlice::new(&self.head[at..]);
            count += 1;
        }
        count
    }

    fn advance(&mut self, mut sent: usize) {
        while sent > 0 {
            let head_end = self.payloads.front().map_or(self.head.len(), |payload| payload.at);
            let of_head = sent.min(head_end - self.head_sent);
            self.head_sent += of_head;
            sent -= of_head;
            if let Some(payload) = self.payloads.front_mut() {
                let of_payload = sent.min(payload.piece.length());
                payload.piece.skip(of_payload);
                sent -= of_payload;
                if payload.piece.length() == 0 && self.head_sent == payload.at {
                    self.payloads.pop_front();
                }
            }
        }
    }
}

/// What has been received and not yet handed out.
struct Inbox {
    buffer: Vec<u8>,
    start: usize,
    end: usize,
    /// Earlier fragments of the record that is coming. Most servers never cut one.
    fragments: Vec<u8>,
    direct: Option<Direct>,
}

/// A long record on its way into its slot's buffer.
struct Direct {
    slot: usize,
    filled: usize,
    length: usize,
}

/// Runs all tasks of a connection to their end.
pub async fn drive(stream: &TcpStream, wire: &Wire, tasks: Vec<Task>) -> Result<()> {
    let mut tasks: Vec<Option<Task>> = tasks.into_iter().map(Some).collect();
    let mut running = tasks.len();
    let mut inbox = Inbox {
        buffer: vec![0; INBOX_BYTES],
        start: 0,
        end: 0,
        fragments: Vec::new(),
        direct: None,
    };
    wire.now.set(clock::now());
    let mut ready: Vec<usize> = (0..tasks.len()).collect();
    loop {
        for slot in ready.drain(..) {
            let task = tasks[slot].as_mut().context("a reply to a slot that has ended")?;
            let mut context = Context::from_waker(Waker::noop());
            if let Poll::Ready(result) = task.as_mut().poll(&mut context) {
                result?;
                tasks[slot] = None;
                running -= 1;
            }
        }
        let is_sent = match wire.outbox.borrow_mut().send(stream, &wire.pattern) {
            Ok(()) => true,
            Err(error) if error.kind() == ErrorKind::WouldBlock => false,
            Err(error) => return Err(error).context("the server closed the connection"),
        };
        if running == 0 {
            return Ok(());
        }
        let interest =
            if is_sent { Interest::READABLE } else { Interest::READABLE | Interest::WRITABLE };
        let readiness = stream.ready(interest).await.context("the connection failed")?;
        if readiness.is_readable() {
            inbox.receive(stream, wire, &mut ready)?;
            wire.now.set(clock::now());
        }
    }
}

impl Inbox {
    /// One `recv`; the slots whose reply is complete are added to `ready`.
    fn receive(&mut self, stream: &TcpStream, wire: &Wire, ready: &mut Vec<usize>) -> Result<()> {
        if let Some(direct) = &mut self.direct {
            let state = &mut wire.slots.borrow_mut()[direct.slot];
            let Some(count) = received(stream, &mut state.buffer[direct.filled..direct.length])?
            else {
                return Ok(());
            };
            direct.filled += count;
            if direct.filled == direct.length {
                state.length = direct.length;
                state.has_arrived = true;
                ready.push(direct.slot);
                self.direct = None;
            }
            return Ok(());
        }
        let Some(count) = received(stream, &mut self.buffer[self.end..])? else {
            return Ok(());
        };
        self.end += count;
        self.hand_out(wire, ready)
    }

    fn hand_out(&mut self, wire: &Wire, ready: &mut Vec<usize>) -> Result<()> {
        while let Some((mark, rest)) =
            self.buffer[self.start..self.end].split_first_chunk::<{ rpc::MARK_BYTES }>()
        {
            let mark = u32::from_be_bytes(*mark);
            let is_last = mark & rpc::LAST_FRAGMENT != 0;
            let length = usize::try_from(mark & !rpc::LAST_FRAGMENT)?;
            ensure!(length <= RECORD_BYTES_MAX, "the server announces a record of {length} bytes");
            if rest.len() < length {
                let is_alone = is_last && self.fragments.is_empty();
                if is_alone && length >= DIRECT_BYTES_MIN && rest.len() >= rpc::MARK_BYTES {
                    self.divert(wire, length)?;
                } else {
                    self.make_room(rpc::MARK_BYTES + length);
                }
                return Ok(());
            }
            let fragment = &rest[..length];
            if is_last && self.fragments.is_empty() {
                ready.push(wire.deliver(fragment)?);
            } else {
                self.fragments.extend_from_slice(fragment);
                ensure!(self.fragments.len() <= RECORD_BYTES_MAX, "a record without an end");
                if is_last {
                    ready.push(wire.deliver(&self.fragments)?);
                    self.fragments.clear();
                }
            }
            self.start += rpc::MARK_BYTES + length;
        }
        self.make_room(rpc::MARK_BYTES);
        Ok(())
    }

    /// Moves the beginning of a long record to its slot.
    fn divert(&mut self, wire: &Wire, length: usize) -> Result<()> {
        let begun = &self.buffer[self.start + rpc::MARK_BYTES..self.end];
        let slot = wire.waiting_slot(begun)?;
        let state = &mut wire.slots.borrow_mut()[slot];
        if state.buffer.len() < length {
            state.buffer.resize(length, 0);
        }
        state.buffer[..begun.len()].copy_from_slice(begun);
        self.direct = Some(Direct { slot, filled: begun.len(), length });
        (self.start, self.end) = (0, 0);
        Ok(())
    }

    /// Makes sure that a record of `wanted` bytes fits behind `start`.
    fn make_room(&mut self, wanted: usize) {
        if self.start == self.end {
            (self.start, self.end) = (0, 0);
        } else if self.buffer.len() - self.start < wanted || self.end == self.buffer.len() {
            self.buffer.copy_within(self.start..self.end, 0);
            (self.start, self.end) = (0, self.end - self.start);
        }
        if self.buffer.len() < wanted {
            self.buffer.resize(wanted, 0);
        }
    }
}

/// `None`: nothing to read yet after all.
fn received(stream: &TcpStream, buffer: &mut [u8]) -> Result<Option<usize>> {
    match stream.try_read(buffer) {
        Ok(0) => bail!("the server closed the connection"),
        Ok(count) => Ok(Some(count)),
        Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(None),
        Err(error) => Err(error).context("the connection failed"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pattern::Sameness;
    use std::io::{Read, Write};
    use std::net::{Ipv4Addr, TcpListener};

    const PROCEDURE: (Program, u32) = (rpc::NFS, 0);

    #[test]
    fn a_new_connection_does_not_repeat_the_xids_of_the_last() {
        let first_calls = || {
            let wire = Wire::new(8, Arc::new(Pattern::new(Sameness::default())));
            let slots = wire.slots.borrow();
            slots.iter().map(|state| state.calls).collect::<Vec<_>>()
        };
        assert_ne!(first_calls(), first_calls());
    }

    /// What a scripted server sends when it has read as many calls as there are slots.
    type Script = fn(Vec<Vec<u8>>) -> Vec<u8>;

    /// Each slot makes one call with its number and gives the results it got.
    fn converse(slots: usize, script: Script) -> Result<Vec<Vec<u8>>> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
        let address = listener.local_addr().expect("an address");
        let server = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().expect("a client");
            let calls = (0..slots).map(|_| read_record(&mut stream)).collect();
            stream.write_all(&script(calls)).expect("the client reads");
            // Until the client closes: an early end would be an error of its own.
            let _ = stream.read(&mut [0]);
        });
        let wire = Wire::new(slots, Arc::new(Pattern::new(Sameness::default())));
        let heard = Rc::new(RefCell::new(vec![Vec::new(); slots]));
        let task = |slot: usize| -> Task {
            let (wire, heard) = (Rc::clone(&wire), Rc::clone(&heard));
            Box::pin(async move {
                let reply = wire
                    .call(slot, PROCEDURE, None, |call| {
                        call.u64(slot as u64);
                    })
                    .await?;
                let mut results = reply.results();
                heard.borrow_mut()[slot] = results.opaque(RECORD_BYTES_MAX)?.to_vec();
                Ok(())
            })
        };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build();
        let driven = runtime.expect("a runtime").block_on(async {
            let stream = TcpStream::connect(address).await.expect("the server listens");
            drive(&stream, &wire, (0..slots).map(task).collect()).await
        });
        server.join().expect("the script is sound");
        driven.map(|()| heard.take())
    }

    fn read_record(stream: &mut std::net::TcpStream) -> Vec<u8> {
        let mut mark = [0; 4];
        stream.read_exact(&mut mark).expect("a mark");
        let length = u32::from_be_bytes(mark) & !rpc::LAST_FRAGMENT;
        let mut record = vec![0; length as usize];
        stream.read_exact(&mut record).expect("a record");
        record
    }

    /// An accepted reply to `call` with `results` as one opaque.
    fn answer(call: &[u8], results: &[u8]) -> Vec<u8> {
        let mut reply = call[..4].to_vec();
        Encoder::new(&mut reply).u32(1).u32(0).u32(0).u32(0).u32(0).opaque(results);
        reply
    }

    /// The last eight bytes of a call: its slot's number, tenfold.
    fn tenfold(call: &[u8]) -> Vec<u8> {
        let (_, number) = call.split_last_chunk::<8>().expect("a number");
        (u64::from_be_bytes(*number) * 10).to_be_bytes().to_vec()
    }

    fn record(bytes: &[u8]) -> Vec<u8> {
        fragment(bytes, rpc::LAST_FRAGMENT)
    }

    fn fragment(bytes: &[u8], last: u32) -> Vec<u8> {
        let length = u32::try_from(bytes.len()).expect("short");
        [&(length | last).to_be_bytes(), bytes].concat()
    }

    #[test]
    fn replies_in_any_order_reach_the_slots_that_asked() {
        let heard = converse(5, |calls| {
            calls.iter().rev().flat_map(|call| record(&answer(call, &tenfold(call)))).collect()
        });
        let numbers = (0..5_u64).map(|slot| (slot * 10).to_be_bytes().to_vec());
        assert_eq!(heard.expect("all is well"), numbers.collect::<Vec<_>>());
    }

    #[test]
    fn a_reply_in_fragments_is_put_together() {
        let heard = converse(2, |calls| {
            let cut = |call: &Vec<u8>| {
                let whole = answer(call, b"0123456789");
                let (first, rest) = whole.split_at(7);
                [fragment(first, 0), fragment(&[], 0), record(rest)].concat()
            };
            calls.iter().flat_map(cut).collect()
        });
        assert_eq!(heard.expect("all is well"), [b"0123456789".to_vec(), b"0123456789".to_vec()]);
    }

    #[test]
    fn a_long_reply_is_received_as_it_was_sent_with_others_around_it() {
        fn long() -> Vec<u8> {
            (0..3_000_001_u32).map(|at| (at % 251) as u8).collect()
        }
        let heard = converse(3, |calls| {
            let results = [b"before".to_vec(), long(), b"behind".to_vec()];
            calls.iter().zip(results).flat_map(|(call, it)| record(&answer(call, &it))).collect()
        });
        let heard = heard.expect("all is well");
        assert_eq!((heard[0].as_slice(), heard[2].as_slice()), (&b"before"[..], &b"behind"[..]));
        assert!(heard[1] == long());
    }

    #[test]
    fn a_reply_that_nobody_waits_for_is_an_error() {
        let twice = converse(2, |calls| record(&answer(&calls[0], b"x")).repeat(2));
        assert!(twice.is_err());
        let unknown = converse(1, |calls| {
            let mut reply = answer(&calls[0], b"x");
            reply[0] ^= 0x80;
            record(&reply)
        });
        assert!(unknown.is_err());
    }

    #[test]
    fn payloads_are_sent_between_their_headers_whatever_the_socket_takes() {
        let pattern = Pattern::new(Sameness::default());
        let mut outbox = Outbox::default();
        let mut expected = Vec::new();
        for number in 0..40_u64 {
            Encoder::new(&mut outbox.head).u64(number);
            expected.extend_from_slice(&number.to_be_bytes());
            let length = if number % 3 == 0 { 100 } else { COPIED_BYTES_MAX + number as usize };
            let piece = pattern.piece(number, length);
            outbox.append_payload(piece, &pattern);
            Encoder::new(&mut expected).opaque(pattern.bytes(piece));
        }
        let mut sent = Vec::new();
        let mut random = fastrand::Rng::with_seed(1);
        while !outbox.is_empty() {
            let taken = {
                let mut slices = [IoSlice::new(&[]); SLICES_MAX];
                let count = outbox.slices(&pattern, &mut slices);
                let offered: Vec<u8> =
                    slices[..count].iter().flat_map(|slice| slice.iter().copied()).collect();
                let taken = random.usize(1..=offered.len());
                sent.extend_from_slice(&offered[..taken]);
                taken
            };
            outbox.advance(taken);
        }
        assert!(sent == expected);
    }
}
