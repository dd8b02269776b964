//! One connection over a scripted link: what the peer sends is cut into pieces of any size, what we
//! send is collected and taken apart again.

use cairn_base::door::{Link, LinkError};
use cairn_base::prng::Prng;
use cairn_base::{Arena, DmaBuf, DmaSlice, Nanos};
use cairn_net::record::RecordError;
use cairn_net::rpc::{self, Refusal, Xid};
use cairn_net::server::{self, Call, ConnectionError, ConnectionLimits};
use cairn_net::xdr::Encoder;
use cairn_net::{Budget, InboxError};
use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::future::{Future, pending, poll_fn};
use std::net::SocketAddr;
use std::pin::pin;
use std::task::{Context, Poll, Waker};

/// The peer's side is a queue of bytes and an end; at most `piece` bytes arrive at once.
struct Script {
    incoming: RefCell<VecDeque<u8>>,
    ended: Cell<bool>,
    piece: usize,
    outgoing: RefCell<Vec<u8>>,
    sends: Cell<usize>,
    sending_allowed: Cell<bool>,
    send_fails: Cell<bool>,
    largest_buffer: Cell<usize>,
}

impl Script {
    fn new(incoming: &[u8], piece: usize) -> Self {
        Script {
            incoming: RefCell::new(incoming.iter().copied().collect()),
            ended: Cell::new(true),
            piece,
            outgoing: RefCell::default(),
            sends: Cell::new(0),
            sending_allowed: Cell::new(true),
            send_fails: Cell::new(false),
            largest_buffer: Cell::new(0),
        }
    }

    /// The answers so far: xid and what follows the head of an accepted answer.
    fn answers(&self) -> Vec<(u32, Vec<u8>)> {
        let sent = self.outgoing.borrow();
        let mut stream = &sent[..];
        let mut answers = Vec::new();
        while !stream.is_empty() {
            let mark = u32::from_be_bytes(stream[..4].try_into().expect("a mark"));
            assert_ne!(mark & 0x8000_0000, 0, "one fragment an answer");
            let (answer, rest) = stream[4..].split_at((mark & 0x7fff_ffff) as usize);
            let xid = u32::from_be_bytes(answer[..4].try_into().expect("an xid"));
            answers.push((xid, answer[24..].to_vec()));
            stream = rest;
        }
        answers
    }
}

impl Link for Script {
    async fn recv(&self, mut buf: DmaBuf, from: usize) -> (DmaBuf, Result<usize, LinkError>) {
        self.largest_buffer.set(self.largest_buffer.get().max(buf.len()));
        let received = poll_fn(|_| {
            let mut incoming = self.incoming.borrow_mut();
            let bytes = incoming.len().min(self.piece).min(buf.len() - from);
            if bytes == 0 && !self.ended.get() {
                return Poll::Pending;
            }
            for (place, byte) in buf[from..].iter_mut().zip(incoming.drain(..bytes)) {
                *place = byte;
            }
            Poll::Ready(bytes)
        })
        .await;
        (buf, Ok(received))
    }

    async fn send(&self, bufs: Vec<DmaSlice>) -> Result<(), LinkError> {
        self.sends.set(self.sends.get() + 1);
        poll_fn(|_| if self.sending_allowed.get() { Poll::Ready(()) } else { Poll::Pending }).await;
        if self.send_fails.get() {
            return Err(LinkError::Broken(104));
        }
        for slice in &bufs {
            assert!(!slice.is_empty());
            self.outgoing.borrow_mut().extend_from_slice(slice);
        }
        Ok(())
    }

    fn close(&self) {}

    fn peer(&self) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], 700))
    }
}

/// Without a clock and alone: nothing is ever late, and nobody else holds anything.
async fn serve_connection<L: Link, F: Future<Output = Option<Encoder>>>(
    link: &L,
    arena: &Arena,
    limits: ConnectionLimits,
    handler: impl Fn(Call) -> F,
) -> Result<(), ConnectionError> {
    let budget = Budget::new(usize::MAX);
    let handler = |call| (0, handler(call));
    server::serve_connection(link, arena, limits, &budget, |_| pending(), handler).await
}

fn poll_once<T>(future: std::pin::Pin<&mut impl Future<Output = T>>) -> Poll<T> {
    future.poll(&mut Context::from_waker(Waker::noop()))
}

fn run<T>(future: impl Future<Output = T>) -> T {
    let mut future = pin!(future);
    for _ in 0..100_000 {
        if let Poll::Ready(value) = poll_once(future.as_mut()) {
            return value;
        }
    }
    panic!("the future rests for ever")
}

fn call_bytes(xid: u32, procedure: u32, args: &[u8]) -> Vec<u8> {
    let mut call = Encoder::new();
    for word in [xid, 0, 2, 400_000, 1, procedure, 0, 0, 0, 0] {
        call.u32(word);
    }
    let (mut call, _) = call.parts();
    call.extend_from_slice(args);
    call
}

fn record(bytes: &[u8]) -> Vec<u8> {
    fragments(bytes, bytes.len().max(1))
}

fn fragments(bytes: &[u8], size: usize) -> Vec<u8> {
    let mut out = Vec::new();
    let mut pieces = bytes.chunks(size).peekable();
    while let Some(piece) = pieces.next() {
        let last = if pieces.peek().is_none() { 0x8000_0000 } else { 0 };
        out.extend_from_slice(&(piece.len() as u32 | last).to_be_bytes());
        out.extend_from_slice(piece);
    }
    out
}

/// Answers with the arguments, as a payload when the procedure is odd.
async fn echo(arena: &Arena, call: Call) -> Option<Encoder> {
    let mut args = call.args();
    let bytes = args.opaque(usize::MAX).expect("the tests send one opaque");
    let mut answer = rpc::success(call.header.xid);
    if call.header.procedure % 2 == 1 {
        let mut buf = arena.alloc(bytes.len());
        buf[..bytes.len()].copy_from_slice(bytes);
        let whole = DmaSlice::whole(buf);
        let middle = bytes.len() / 2;
        answer.payload([whole.slice(0..middle), whole.slice(middle..bytes.len())]);
        answer.u32(0xfeed);
    } else {
        answer.opaque(bytes);
    }
    Some(answer)
}

fn opaque(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = Encoder::new();
    encoder.opaque(bytes);
    encoder.parts().0
}

#[test]
fn calls_of_all_sizes_are_answered_whole_however_the_bytes_arrive() {
    let arena = Arena::heap();
    let mut prng = Prng::new(3);
    let sizes = [0, 1, 5, 100, 4095, 4096, 16_300, 16_384, 16_385, 70_000, 1 << 20];
    for piece in [1, 3, 4, 100, 1460, 16 << 10, usize::MAX] {
        let mut stream = Vec::new();
        let mut want = Vec::new();
        for (xid, size) in (1u32..).zip(sizes.iter().cycle().take(33)) {
            let size = if piece < 100 { *size % 20_000 } else { *size };
            let mut body = vec![0; size];
            prng.fill(&mut body);
            let call = call_bytes(xid, xid % 2, &opaque(&body));
            let cut = 1 + prng.below(call.len() as u64) as usize;
            let cut = cut.max(call.len() / 50 + 1);
            stream.extend(if xid % 3 == 0 { fragments(&call, cut) } else { record(&call) });
            let mut answer = opaque(&body);
            if xid % 2 == 1 {
                answer.extend(0xfeedu32.to_be_bytes());
            }
            want.push((xid, answer));
        }
        let link = Script::new(&stream, piece);
        let served =
            serve_connection(&link, &arena, ConnectionLimits::DEFAULT, |call| echo(&arena, call));
        assert_eq!(run(served), Ok(()));
        let mut answers = link.answers();
        answers.sort();
        assert!(answers == want, "pieces of {piece}");
        assert!(link.largest_buffer.get() <= (1 << 20) + (64 << 10));
    }
}

#[test]
fn answers_leave_in_the_order_of_completion_and_gather_while_one_send_is_out() {
    let arena = Arena::heap();
    let stream: Vec<u8> = (1..=4).flat_map(|xid| record(&call_bytes(xid, 0, &[]))).collect();
    let link = Script::new(&stream, usize::MAX);
    link.ended.set(false);
    link.sending_allowed.set(false);
    let waiting: RefCell<BTreeMap<u32, Waker>> = RefCell::default();
    let released: RefCell<BTreeSet<u32>> = RefCell::default();
    let mut served = pin!(serve_connection(&link, &arena, ConnectionLimits::DEFAULT, |call| {
        let waiting = &waiting;
        let Xid(xid) = call.header.xid;
        let released = &released;
        poll_fn(move |cx| {
            if released.borrow().contains(&xid) {
                return Poll::Ready(Some(rpc::success(Xid(xid))));
            }
            waiting.borrow_mut().insert(xid, cx.waker().clone());
            Poll::Pending
        })
    }));
    assert!(poll_once(served.as_mut()).is_pending());
    for xid in [3, 1, 4] {
        released.borrow_mut().insert(xid);
        waiting.borrow_mut().remove(&xid).expect("it was asked").wake();
        assert!(poll_once(served.as_mut()).is_pending());
        assert_eq!(link.sends.get(), 1, "after {xid}");
    }
    link.sending_allowed.set(true);
    assert!(poll_once(served.as_mut()).is_pending());
    assert_eq!(link.sends.get(), 2, "the rest went together");
    let order: Vec<u32> = link.answers().iter().map(|(xid, _)| *xid).collect();
    assert_eq!(order, [3, 1, 4]);
}

#[test]
fn a_client_that_asks_too_much_is_not_read_until_an_answer_has_left() {
    let arena = Arena::heap();
    let stream: Vec<u8> = (1..=9).flat_map(|xid| record(&call_bytes(xid, 0, &[]))).collect();
    let link = Script::new(&stream, usize::MAX);
    link.sending_allowed.set(false);
    let limits = ConnectionLimits { calls_max: 4, ..ConnectionLimits::DEFAULT };
    let taken = Cell::new(0);
    let mut served = pin!(serve_connection(&link, &arena, limits, |call| {
        taken.set(taken.get() + 1);
        async move { Some(rpc::success(call.header.xid)) }
    }));
    for _ in 0..10 {
        assert!(poll_once(served.as_mut()).is_pending());
    }
    assert_eq!(taken.get(), 4);
    link.sending_allowed.set(true);
    assert_eq!(run(served), Ok(()));
    assert_eq!(link.answers().len(), 9);
}

#[test]
fn waiting_records_and_waiting_answers_count_against_the_byte_limit() {
    let arena = Arena::heap();
    let body = opaque(&[1; 3000]);
    let stream: Vec<u8> = (1..=9).flat_map(|xid| record(&call_bytes(xid, 0, &body))).collect();
    let link = Script::new(&stream, 500);
    link.sending_allowed.set(false);
    let limits = ConnectionLimits { bytes_max: 9000, ..ConnectionLimits::DEFAULT };
    let taken = Cell::new(0);
    let mut served = pin!(serve_connection(&link, &arena, limits, |call| {
        taken.set(taken.get() + 1);
        echo(&arena, call)
    }));
    for _ in 0..100 {
        assert!(poll_once(served.as_mut()).is_pending());
    }
    assert_eq!(taken.get(), 3);
    link.sending_allowed.set(true);
    assert_eq!(run(served), Ok(()));
    assert_eq!(link.answers().len(), 9);
}

#[test]
fn a_call_left_without_an_answer_frees_its_place() {
    let arena = Arena::heap();
    let stream: Vec<u8> = (1..=20).flat_map(|xid| record(&call_bytes(xid, 0, &[]))).collect();
    let link = Script::new(&stream, usize::MAX);
    let limits = ConnectionLimits { calls_max: 2, ..ConnectionLimits::DEFAULT };
    let served = serve_connection(&link, &arena, limits, |call| async move {
        let Xid(xid) = call.header.xid;
        (xid % 5 == 0).then(|| rpc::refuse(Xid(xid), Refusal::ProcedureUnavailable))
    });
    assert_eq!(run(served), Ok(()));
    let order: Vec<u32> = link.answers().iter().map(|(xid, _)| *xid).collect();
    assert_eq!(order, [5, 10, 15, 20]);
}

#[test]
fn a_denied_call_is_told_so_and_the_connection_lives_on() {
    let arena = Arena::heap();
    let mut version_one = call_bytes(1, 0, &[]);
    version_one[11] = 1;
    let stream = [record(&version_one), record(&call_bytes(2, 0, &opaque(b"x")))].concat();
    let link = Script::new(&stream, usize::MAX);
    let served =
        serve_connection(&link, &arena, ConnectionLimits::DEFAULT, |call| echo(&arena, call));
    assert_eq!(run(served), Ok(()));
    let sent = link.outgoing.borrow();
    // REPLY, MSG_DENIED, RPC_MISMATCH, 2 to 2 (RFC 5531, section 9).
    let denied = [0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 2];
    let at = sent.windows(denied.len()).position(|window| window == denied);
    assert!(at.is_some());
    assert!(sent.windows(4).any(|window| window == b"x\0\0\0"));
}

#[test]
fn calls_before_a_broken_record_are_answered_and_nothing_behind_it_is_read() {
    let arena = Arena::heap();
    let call = record(&call_bytes(1, 0, &opaque(b"good")));
    let late = record(&call_bytes(2, 0, &opaque(b"late")));
    let inbox = |error| Err(ConnectionError::Inbox(error));
    let hostile: [(&[u8], Result<(), ConnectionError>); 5] = [
        (&[0xff; 4], inbox(InboxError::Record(RecordError::TooLarge { bytes: (1 << 31) - 1 }))),
        (&[0; 2000], inbox(InboxError::Record(RecordError::TooManyFragments))),
        (&[0x80, 0, 0, 0], Err(ConnectionError::NotACall)),
        (&[0x80, 0, 0, 8, 0, 0, 0, 1, 0, 0, 0, 1], Err(ConnectionError::NotACall)),
        (&[0x80, 0, 1, 0, 0], inbox(InboxError::Cut)),
    ];
    for (bytes, want) in hostile {
        let tail = if want == inbox(InboxError::Cut) { &[][..] } else { &late[..] };
        for piece in [1, usize::MAX] {
            let link = Script::new(&[&call, bytes, tail].concat(), piece);
            let served = serve_connection(&link, &arena, ConnectionLimits::DEFAULT, |call| {
                echo(&arena, call)
            });
            assert_eq!(run(served), want);
            assert_eq!(link.answers(), [(1, opaque(b"good"))], "{want:?}");
        }
    }
}

#[test]
fn calls_are_carried_to_their_end_after_the_connection_broke_and_no_more_are_taken() {
    let arena = Arena::heap();
    let stream: Vec<u8> = (1..=20).flat_map(|xid| record(&call_bytes(xid, 0, &[]))).collect();
    let link = Script::new(&stream, usize::MAX);
    link.send_fails.set(true);
    let limits = ConnectionLimits { calls_max: 5, ..ConnectionLimits::DEFAULT };
    let (taken, ended) = (Cell::new(0), Cell::new(0));
    let served = serve_connection(&link, &arena, limits, |call| {
        taken.set(taken.get() + 1);
        let ended = &ended;
        let Xid(mut turns) = call.header.xid;
        async move {
            poll_fn(|cx| {
                turns -= 1;
                cx.waker().wake_by_ref();
                if turns == 0 { Poll::Ready(()) } else { Poll::Pending }
            })
            .await;
            ended.set(ended.get() + 1);
            Some(rpc::success(call.header.xid))
        }
    });
    assert_eq!(run(served), Err(ConnectionError::Send(LinkError::Broken(104))));
    assert_eq!((taken.get(), ended.get()), (5, 5));
    assert_eq!(link.sends.get(), 1);
}

#[test]
fn every_call_taken_from_a_mutated_stream_is_answered() {
    let arena = Arena::heap();
    let mut prng = Prng::new(8);
    for _ in 0..300 {
        let mut stream = Vec::new();
        for xid in 0..5 {
            let body = vec![9; prng.below(300) as usize];
            let call = call_bytes(xid, xid % 2, &opaque(&body));
            stream.extend(fragments(&call, 1 + prng.below(200) as usize));
        }
        for _ in 0..prng.below(4) {
            let at = prng.below(stream.len() as u64) as usize;
            stream[at] = prng.next_u64() as u8;
        }
        let link = Script::new(&stream, 1 + prng.below(600) as usize);
        let taken = Cell::new(0);
        let served = serve_connection(&link, &arena, ConnectionLimits::DEFAULT, |call| {
            taken.set(taken.get() + 1);
            async move { Some(rpc::refuse(call.header.xid, Refusal::GarbageArguments)) }
        });
        let _either_way = run(served);
        let sent = link.outgoing.borrow();
        assert!(sent.len() >= 28 * taken.get());
    }
}

/// Time as a test sees it: `due` is the sum of what has passed.
#[derive(Default)]
struct Time {
    now: Cell<u64>,
    sleeps: Cell<usize>,
}

impl Time {
    fn sleep(&self, length: Nanos) -> impl Future<Output = ()> + '_ {
        self.sleeps.set(self.sleeps.get() + 1);
        let due = self.now.get() + length.0;
        poll_fn(move |_| if self.now.get() >= due { Poll::Ready(()) } else { Poll::Pending })
    }
}

fn timed() -> ConnectionLimits {
    let (record_time_max, send_time_max) = (Nanos(10), Nanos(100));
    ConnectionLimits { record_time_max, send_time_max, ..ConnectionLimits::DEFAULT }
}

#[test]
fn a_record_that_is_not_complete_in_time_ends_the_connection_and_silence_between_two_does_not() {
    let arena = Arena::heap();
    let call = record(&call_bytes(1, 0, &opaque(b"good")));
    let slow = Err(ConnectionError::Inbox(InboxError::Slow));
    for open in [1, 4, 20] {
        let link = Script::new(&call, usize::MAX);
        link.ended.set(false);
        let (time, budget) = (Time::default(), Budget::new(usize::MAX));
        let handler = |call| (0, echo(&arena, call));
        let sleep = |length| time.sleep(length);
        let served = server::serve_connection(&link, &arena, timed(), &budget, sleep, handler);
        let mut served = pin!(served);
        for _ in 0..5 {
            assert!(poll_once(served.as_mut()).is_pending());
            time.now.set(time.now.get() + 1_000_000);
        }
        assert_eq!(link.answers(), [(1, opaque(b"good"))]);
        let sleeps = time.sleeps.get();
        // A byte now and then does not help.
        for byte in &call[..open] {
            link.incoming.borrow_mut().push_back(*byte);
            assert!(poll_once(served.as_mut()).is_pending());
        }
        assert_eq!(time.sleeps.get(), sleeps + 1, "one time for the whole record");
        time.now.set(time.now.get() + 9);
        assert!(poll_once(served.as_mut()).is_pending());
        time.now.set(time.now.get() + 1);
        assert_eq!(poll_once(served.as_mut()), Poll::Ready(slow));
    }
}

#[test]
fn a_peer_that_does_not_take_its_answers_is_given_up_after_its_calls_have_ended() {
    let arena = Arena::heap();
    let stream: Vec<u8> = (1..=9).flat_map(|xid| record(&call_bytes(xid, 0, &[]))).collect();
    let link = Script::new(&stream, usize::MAX);
    link.ended.set(false);
    link.sending_allowed.set(false);
    let (time, budget) = (Time::default(), Budget::new(usize::MAX));
    let handler = |call: Call| (0, async move { Some(rpc::success(call.header.xid)) });
    let sleep = |length| time.sleep(length);
    let served = server::serve_connection(&link, &arena, timed(), &budget, sleep, handler);
    let mut served = pin!(served);
    assert!(poll_once(served.as_mut()).is_pending());
    assert!(budget.bytes() > 0);
    time.now.set(99);
    assert!(poll_once(served.as_mut()).is_pending());
    time.now.set(100);
    assert_eq!(poll_once(served.as_mut()), Poll::Ready(Err(ConnectionError::SendTooSlow)));
    assert_eq!(budget.bytes(), 0, "what it held is free");
}

#[test]
fn those_that_hold_much_of_a_budget_are_not_read_while_those_that_hold_nothing_are_served() {
    let arena = Arena::heap();
    let body = opaque(&[1; 3000]);
    let stream: Vec<u8> = (1..=9).flat_map(|xid| record(&call_bytes(xid, 0, &body))).collect();
    let budget = Budget::new(20_000);
    let limits = ConnectionLimits::DEFAULT;
    let handler = |call| (0, echo(&arena, call));
    let hogs = [Script::new(&stream, 500), Script::new(&stream, 500)];
    let mut served = Vec::new();
    for hog in &hogs {
        hog.sending_allowed.set(false);
        served.push(Box::pin(server::serve_connection(
            hog,
            &arena,
            limits,
            &budget,
            |_| pending(),
            handler,
        )));
    }
    for _ in 0..200 {
        for hog in &mut served {
            assert!(poll_once(hog.as_mut()).is_pending());
        }
    }
    // The first had all of it before the second came for its half; each one call more.
    assert!((20_000..37_000).contains(&budget.bytes()), "{}", budget.bytes());
    let good = Script::new(&stream, 500);
    let all = server::serve_connection(&good, &arena, limits, &budget, |_| pending(), handler);
    assert_eq!(run(all), Ok(()));
    assert_eq!(good.answers().len(), 9);
    for (hog, served) in hogs.iter().zip(served) {
        hog.sending_allowed.set(true);
        assert_eq!(run(served), Ok(()));
        assert_eq!(hog.answers().len(), 9, "none was lost");
    }
    assert_eq!(budget.bytes(), 0);
}

#[test]
fn a_call_counts_for_what_it_may_answer_before_it_has_answered() {
    let arena = Arena::heap();
    let stream: Vec<u8> = (1..=9).flat_map(|xid| record(&call_bytes(xid, 0, &[]))).collect();
    let link = Script::new(&stream, usize::MAX);
    let limits = ConnectionLimits { bytes_max: 1 << 20, ..ConnectionLimits::DEFAULT };
    let (taken, open) = (Cell::new(0), Cell::new(false));
    let budget = Budget::new(usize::MAX);
    let handler = |call: Call| {
        taken.set(taken.get() + 1);
        let open = &open;
        let answer = async move {
            poll_fn(|cx| {
                cx.waker().wake_by_ref();
                if open.get() { Poll::Ready(()) } else { Poll::Pending }
            })
            .await;
            Some(rpc::success(call.header.xid))
        };
        (400 << 10, answer)
    };
    let served = server::serve_connection(&link, &arena, limits, &budget, |_| pending(), handler);
    let mut served = pin!(served);
    for _ in 0..10 {
        assert!(poll_once(served.as_mut()).is_pending());
    }
    assert_eq!(taken.get(), 3);
    open.set(true);
    assert_eq!(run(served), Ok(()));
    assert_eq!((taken.get(), link.answers().len()), (9, 9));
}

#[test]
fn the_blocks_at_the_end_of_a_large_call_are_given_away_without_a_copy() {
    for (blocks, front, piece, is_given) in [
        (60, 1, 1000, true),    // most of its buffer
        (256, 4, 70_000, true), // a megabyte
        (17, 4, 1000, false),   // would keep several times as much memory
        (1, 4, 1000, false),
    ] {
        let mut args = vec![7; front * 4];
        args.extend((0..blocks * 4096).map(|at| (at / 64 % 251) as u8));
        let mut stream = record(&call_bytes(1, 0, &args));
        stream.extend(record(&call_bytes(2, 0, b"next")));
        let link = Script::new(&stream, piece);
        let arena = Arena::new(8 << 20, cairn_base::dma_buf::HugePages::Never).0;
        let seen = Cell::new(0);
        let served = serve_connection(&link, &arena, ConnectionLimits::DEFAULT, |mut call| {
            if call.header.xid == Xid(1) {
                let given = call.give_args(front * 4..args.len());
                assert_eq!(given.is_some(), is_given, "{blocks} blocks");
                match given {
                    Some(buf) => {
                        assert!(buf[..] == args[front * 4..]);
                        assert_eq!(call.args().remaining(), 0);
                    }
                    None => assert_eq!(call.args().remaining(), args.len()),
                }
            } else {
                assert_eq!(call.args().remaining(), 4);
            }
            seen.set(seen.get() + 1);
            async { None }
        });
        run(served).expect("a good stream");
        assert_eq!(seen.get(), 2);
    }
}
