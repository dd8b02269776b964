//! The same over real sockets and a real ring: a client thread on loopback, the server here.

use cairn_base::door::{Link, LinkError};
use cairn_base::ring::Ring;
use cairn_base::{Arena, DmaSlice, Nanos};
use cairn_net::listener::{AcceptError, Listener, Sharing};
use cairn_net::rpc;
use cairn_net::server::{self, Call, ConnectionError, ConnectionLimits};
use cairn_net::stream::Stream;
use cairn_net::xdr::{Decoder, Encoder};
use cairn_net::{Budget, InboxError};
use futures_util::future::join;
use std::future::{Future, pending};
use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::pin::pin;
use std::task::{Context, Poll, Waker};
use std::thread;
use std::time::Duration;

const ANY_PORT: SocketAddr =
    SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 0);

/// Runs one future on the ring. The wait is bounded only so that a lost wake-up becomes a failure
/// of the assertion and not a hang.
fn run<T>(ring: &Ring, future: impl Future<Output = T>) -> T {
    let mut future = pin!(future);
    for _ in 0..100_000 {
        if let Poll::Ready(value) = future.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
            return value;
        }
        ring.wait(Some(Nanos::from_millis(100)));
    }
    panic!("the future rests for ever");
}

fn listener(ring: &Ring) -> Listener {
    Listener::bind(ring, ANY_PORT, Sharing::Exclusive).expect("a free port on loopback")
}

fn record(xid: u32, procedure: u32, body: &[u8]) -> Vec<u8> {
    let mut call = Encoder::new();
    for word in [xid, 0, 2, 400_000, 1, procedure, 0, 0, 0, 0] {
        call.u32(word);
    }
    call.opaque(body);
    let (call, _) = call.parts();
    [&(call.len() as u32 | 0x8000_0000).to_be_bytes()[..], &call].concat()
}

fn read_answer(from: &mut impl Read) -> (u32, Vec<u8>) {
    let mut mark = [0; 4];
    from.read_exact(&mut mark).expect("an answer");
    let mut answer = vec![0; (u32::from_be_bytes(mark) & 0x7fff_ffff) as usize];
    from.read_exact(&mut answer).expect("all of it");
    let mut decoder = Decoder::new(&answer);
    let xid = decoder.u32().expect("an xid");
    decoder.fixed::<20>().expect("the rest of the head");
    let body = decoder.opaque(usize::MAX).expect("one opaque").to_vec();
    (xid, body)
}

async fn echo(arena: &Arena, call: Call) -> Option<Encoder> {
    let mut args = call.args();
    let bytes = args.opaque(usize::MAX).expect("the tests send one opaque");
    let mut answer = rpc::success(call.header.xid);
    let mut buf = arena.alloc(bytes.len());
    buf[..bytes.len()].copy_from_slice(bytes);
    answer.payload([DmaSlice::whole(buf).slice(0..bytes.len())]);
    Some(answer)
}

fn body(xid: u32) -> Vec<u8> {
    let sizes = [0, 3, 512, 4096, 20_000, 1 << 20];
    let len = sizes[xid as usize % sizes.len()];
    (0..len).map(|at| (at as u32).wrapping_mul(xid) as u8).collect()
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

#[test]
fn two_clients_with_many_calls_outstanding_get_every_answer() {
    const CALLS: u32 = 120;
    let ring = Ring::new(64).expect("io_uring");
    let arena = Arena::heap();
    let listener = listener(&ring);
    let addr = listener.local_addr();
    let client = move || {
        let mut socket = TcpStream::connect(addr).expect("loopback");
        let mut sender = socket.try_clone().expect("a second handle");
        let sending = thread::spawn(move || {
            for xid in 0..CALLS {
                sender.write_all(&record(xid, 0, &body(xid))).expect("the server reads");
            }
            sender.shutdown(Shutdown::Write).expect("connected");
        });
        let mut seen = vec![false; CALLS as usize];
        for _ in 0..CALLS {
            let (xid, answer) = read_answer(&mut socket);
            assert!(answer == body(xid), "call {xid}");
            assert!(!std::mem::replace(&mut seen[xid as usize], true), "answered twice");
        }
        assert_eq!(socket.read(&mut [0; 1]).expect("a clean end"), 0);
        sending.join().expect("the sender ends");
    };
    let clients = [thread::spawn(client), thread::spawn(client)];
    run(&ring, async {
        let serve = async || {
            let stream = listener.accept().await.expect("a client");
            assert!(stream.peer().ip().is_loopback());
            let handler = |call| echo(&arena, call);
            serve_connection(&stream, &arena, ConnectionLimits::DEFAULT, handler).await
        };
        assert_eq!(join(serve(), serve()).await, (Ok(()), Ok(())));
    });
    for client in clients {
        client.join().expect("the client is content");
    }
}

#[test]
fn a_taken_port_is_reported_with_its_address() {
    let ring = Ring::new(8).expect("io_uring");
    let first = listener(&ring);
    let addr = first.local_addr();
    for sharing in [Sharing::Exclusive, Sharing::WithinUser] {
        let Err(error) = Listener::bind(&ring, addr, sharing) else { panic!("it is taken") };
        assert_eq!((error.addr, error.errno), (addr, libc::EADDRINUSE));
        let text = error.to_string();
        assert!(text.contains(&addr.to_string()) && text.contains("in use"), "{text}");
    }
    assert!(Listener::assert_free(addr).is_err());
    drop(first);
    assert_eq!(Listener::assert_free(addr), Ok(()));
    assert!(Listener::bind(&ring, addr, Sharing::Exclusive).is_ok());
}

#[test]
fn listeners_that_say_so_share_a_port_and_the_guard_still_sees_them() {
    let ring = Ring::new(8).expect("io_uring");
    let first = Listener::bind(&ring, ANY_PORT, Sharing::WithinUser).expect("a free port");
    let addr = first.local_addr();
    assert!(Listener::bind(&ring, addr, Sharing::WithinUser).is_ok());
    assert!(Listener::assert_free(addr).is_err());
}

async fn accepted(listener: &Listener) -> (Stream, TcpStream) {
    let peer = TcpStream::connect(listener.local_addr()).expect("loopback");
    (listener.accept().await.expect("the connection"), peer)
}

#[test]
fn closing_ends_what_waits_and_what_comes_later() {
    let ring = Ring::new(8).expect("io_uring");
    let arena = Arena::heap();
    let listener = listener(&ring);
    let (stream, _peer) = run(&ring, accepted(&listener));
    run(&ring, async {
        let waiting = stream.recv(arena.alloc(4096), 0);
        let ((buf, received), ()) = join(waiting, async { stream.close() }).await;
        assert_eq!(received, Err(LinkError::Closed));
        assert_eq!(stream.recv(buf, 0).await.1, Err(LinkError::Closed));
        let bytes = DmaSlice::whole(arena.alloc(4096));
        assert_eq!(stream.send(vec![bytes]).await, Err(LinkError::Closed));
        let (waiting, ()) = join(listener.accept(), async { listener.close() }).await;
        assert_eq!(waiting.err(), Some(AcceptError::Closed));
        assert_eq!(listener.accept().await.err(), Some(AcceptError::Closed));
    });
}

#[test]
fn a_reset_by_the_peer_ends_the_connection_with_its_errno() {
    let ring = Ring::new(64).expect("io_uring");
    let arena = Arena::heap();
    let listener = listener(&ring);
    let (stream, peer) = run(&ring, accepted(&listener));
    socket2::SockRef::from(&peer).set_linger(Some(Duration::ZERO)).expect("an open socket");
    drop(peer);
    let handler = |call| echo(&arena, call);
    let outcome = run(&ring, serve_connection(&stream, &arena, ConnectionLimits::DEFAULT, handler));
    let reset = LinkError::Broken(libc::ECONNRESET);
    assert_eq!(outcome, Err(ConnectionError::Inbox(InboxError::Link(reset))));
}
