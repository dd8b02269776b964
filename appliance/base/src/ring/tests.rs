//! The ring against the kernel: files in the temporary directory and sockets of the loopback.

use super::*;
use crate::dma_buf::Arena;
use crate::units::BLOCK_BYTES;
use std::net::{Shutdown, TcpListener};
use std::path::PathBuf;
use std::pin::pin;

fn block_on<T>(ring: &Ring, future: impl Future<Output = T>) -> T {
    let mut future = pin!(future);
    loop {
        if let Poll::Ready(output) = future.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
            return output;
        }
        ring.wait(Some(Nanos::from_secs(10)));
    }
}

fn poll_once<T>(future: Pin<&mut impl Future<Output = T>>) -> Poll<T> {
    future.poll(&mut Context::from_waker(Waker::noop()))
}

struct TempFile(PathBuf);

impl TempFile {
    fn new(name: &str) -> (TempFile, Fd) {
        let path = std::env::temp_dir().join(format!("cairn-ring-{}-{name}", std::process::id()));
        let file = File::options().create(true).truncate(true).read(true).write(true).open(&path);
        (TempFile(path), Fd::new(file.unwrap()))
    }
}

impl Drop for TempFile {
    fn drop(&mut self) {
        std::fs::remove_file(&self.0).unwrap();
    }
}

fn patterned(arena: &Arena, bytes: usize, seed: u64) -> DmaBuf {
    let mut buf = arena.alloc(bytes);
    crate::prng::Prng::new(seed).fill(&mut buf);
    buf
}

fn socket_pair() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    (client, listener.accept().unwrap().0)
}

#[test]
fn a_failed_flush_is_known_also_when_nobody_waits_for_it_any_more() {
    let ring = Ring::new(8).unwrap();
    // It has nothing to flush, and says so.
    let null = Fd::new(File::options().write(true).open("/dev/null").unwrap());
    let (waited, dropped) = (Arc::default(), Arc::default());
    block_on(&ring, ring.sync_data(&null, &waited)).unwrap_err();
    assert_eq!(waited.load(Ordering::SeqCst), libc::EINVAL);
    {
        let mut flush = pin!(ring.sync_data(&null, &dropped));
        assert!(poll_once(flush.as_mut()).is_pending());
    }
    while ring.in_flight() > 0 {
        ring.wait(Some(Nanos::from_secs(10)));
    }
    assert_eq!(dropped.load(Ordering::SeqCst), libc::EINVAL);
}

#[test]
fn what_is_written_in_slices_is_read_back_in_one_piece() {
    let ring = Ring::new(8).unwrap();
    let arena = Arena::heap();
    let (_file, fd) = TempFile::new("slices");
    // More slices than one command takes, of uneven lengths.
    let source = DmaSlice::whole(patterned(&arena, 1 << 20, 1));
    let mut slices = Vec::new();
    let mut start = 0;
    for number in 0.. {
        let end = (start + 1 + number % 700).min(source.len());
        slices.push(source.slice(start..end));
        start = end;
        if start == source.len() {
            break;
        }
    }
    assert!(slices.len() > 2 * SLICES_MAX);
    let offset = 3 * BLOCK_BYTES as u64;
    block_on(&ring, async {
        ring.write_at(&fd, slices, offset, Durability::Durable).await.unwrap();
        ring.sync_data(&fd, &Arc::default()).await.unwrap();
        let (back, result) = ring.read_at(&fd, arena.alloc(1 << 20), offset).await;
        result.unwrap();
        assert!(back[..] == source[..]);
    });
    assert_eq!(ring.in_flight(), 0);
}

#[test]
fn a_read_past_the_end_is_an_error_and_a_punched_hole_reads_as_zero() {
    let ring = Ring::new(8).unwrap();
    let arena = Arena::heap();
    let (_file, fd) = TempFile::new("hole");
    block_on(&ring, async {
        let data = DmaSlice::whole(patterned(&arena, 3 * BLOCK_BYTES, 2));
        ring.write_at(&fd, vec![data.clone()], 0, Durability::Cached).await.unwrap();
        ring.punch_hole(&fd, BLOCK_BYTES as u64, BLOCK_BYTES as u64).await.unwrap();
        let (back, result) = ring.read_at(&fd, arena.alloc(3 * BLOCK_BYTES), 0).await;
        result.unwrap();
        assert!(back[..4096] == data[..4096] && back[8192..] == data[8192..]);
        assert!(back[4096..8192].iter().all(|&byte| byte == 0));
        let (_, result) = ring.read_at(&fd, back, BLOCK_BYTES as u64).await;
        assert_eq!(result.unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
    });
}

#[test]
fn more_commands_than_the_queue_holds_all_complete() {
    let ring = Ring::new(2).unwrap();
    let arena = Arena::heap();
    let (_file, fd) = TempFile::new("many");
    let mut writes: Vec<_> = (0..100_u64)
        .map(|block| {
            let data = DmaSlice::whole(patterned(&arena, BLOCK_BYTES, block));
            let offset = block * BLOCK_BYTES as u64;
            Box::pin(ring.write_at(&fd, vec![data], offset, Durability::Cached))
        })
        .collect();
    block_on(&ring, async {
        // All are started before the first is waited for.
        let mut results: Vec<_> =
            writes.iter_mut().map(|write| poll_once(write.as_mut())).collect();
        for (write, result) in writes.iter_mut().zip(&mut results) {
            if result.is_pending() {
                *result = Poll::Ready(write.as_mut().await);
            }
            assert!(matches!(result, Poll::Ready(Ok(()))));
        }
        for block in 0..100 {
            let offset = block * BLOCK_BYTES as u64;
            let (back, result) = ring.read_at(&fd, arena.alloc(BLOCK_BYTES), offset).await;
            result.unwrap();
            assert!(back[..] == patterned(&arena, BLOCK_BYTES, block)[..]);
        }
    });
}

#[test]
fn a_write_whose_future_is_dropped_still_happens_and_frees_its_buffer_afterwards() {
    let ring = Ring::new(8).unwrap();
    let arena = Arena::heap();
    let (_file, fd) = TempFile::new("dropped");
    let data = DmaSlice::whole(patterned(&arena, BLOCK_BYTES, 3));
    {
        let mut write = pin!(ring.write_at(&fd, vec![data], 0, Durability::Durable));
        assert!(poll_once(write.as_mut()).is_pending());
    }
    assert_eq!(ring.in_flight(), 1);
    assert_eq!(arena.usage().heap_bytes, BLOCK_BYTES as u64, "the kernel still has it");
    while ring.in_flight() > 0 {
        ring.wait(None);
    }
    assert_eq!(arena.usage().heap_bytes, 0);
    let (back, result) = block_on(&ring, ring.read_at(&fd, arena.alloc(BLOCK_BYTES), 0));
    result.unwrap();
    assert!(back[..] == patterned(&arena, BLOCK_BYTES, 3)[..]);
}

#[test]
fn a_dropped_receive_keeps_its_buffer_until_the_kernel_has_let_go() {
    let ring = Ring::new(8).unwrap();
    let arena = Arena::heap();
    let (client, server) = socket_pair();
    let fd = Fd::new(server);
    {
        let mut recv = pin!(ring.recv(&fd, arena.alloc(BLOCK_BYTES), 0));
        assert!(poll_once(recv.as_mut()).is_pending());
        ring.poll();
        assert!(poll_once(recv.as_mut()).is_pending(), "nobody has sent anything");
    }
    assert_eq!(arena.usage().heap_bytes, BLOCK_BYTES as u64);
    while ring.in_flight() > 0 {
        ring.wait(None); // ends by the cancel alone: the peer stays silent
    }
    assert_eq!(arena.usage().heap_bytes, 0);
    drop(client);
}

#[test]
fn dropping_the_ring_with_a_receive_in_flight_frees_everything() {
    let ring = Ring::new(8).unwrap();
    let arena = Arena::heap();
    let (client, server) = socket_pair();
    let fd = Fd::new(server);
    {
        let mut recv = pin!(ring.recv(&fd, arena.alloc(BLOCK_BYTES), 0));
        assert!(poll_once(recv.as_mut()).is_pending());
        ring.wait(Some(Nanos(0)));
    }
    drop(ring);
    assert_eq!(arena.usage().heap_bytes, 0);
    drop(client);
}

#[test]
fn an_echo_over_the_ring_returns_every_byte() {
    let ring = Ring::new(8).unwrap();
    let arena = Arena::heap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let client = std::thread::spawn(move || {
        let mut sent = vec![0; 3 << 20];
        crate::prng::Prng::new(4).fill(&mut sent);
        let mut stream = TcpStream::connect(address).unwrap();
        let mut writer = stream.try_clone().unwrap();
        let outgoing = sent.clone();
        let writing = std::thread::spawn(move || {
            writer.write_all(&outgoing).unwrap();
            writer.shutdown(Shutdown::Write).unwrap();
        });
        let mut back = Vec::new();
        stream.read_to_end(&mut back).unwrap();
        writing.join().unwrap();
        assert!(back == sent);
    });
    block_on(&ring, async {
        let stream = ring.accept(&Fd::new(listener)).await.unwrap();
        assert!(stream.peer_addr().unwrap().ip().is_loopback());
        let fd = Fd::new(stream);
        loop {
            let (buf, result) = ring.recv(&fd, arena.alloc(64 << 10), 100).await;
            match result.unwrap() {
                0 => break,
                bytes => {
                    let slice = DmaSlice::whole(buf).slice(100..100 + bytes);
                    let middle = bytes / 2;
                    let halves = vec![slice.slice(0..middle), slice.slice(middle..bytes)];
                    ring.send(&fd, halves).await.unwrap();
                }
            }
        }
    });
    client.join().unwrap();
}

#[test]
fn shutting_a_socket_down_ends_the_receive_and_the_accept_that_wait_on_it() {
    let ring = Ring::new(8).unwrap();
    let arena = Arena::heap();
    let (client, server) = socket_pair();
    let fd = Fd::new(server);
    let mut recv = pin!(ring.recv(&fd, arena.alloc(BLOCK_BYTES), 0));
    assert!(poll_once(recv.as_mut()).is_pending());
    ring.poll();
    fd.shutdown();
    assert_eq!(block_on(&ring, recv).1.unwrap(), 0);
    drop(client);

    let listener = Fd::new(TcpListener::bind("127.0.0.1:0").unwrap());
    let mut accept = pin!(ring.accept(&listener));
    assert!(poll_once(accept.as_mut()).is_pending());
    ring.poll();
    listener.shutdown();
    assert!(block_on(&ring, accept).is_err());
}

#[test]
fn another_thread_ends_a_sleep_also_when_it_woke_before_the_sleep_began() {
    let ring = Ring::new(8).unwrap();
    for _ in 0..3 {
        let waker = ring.waker();
        let other = std::thread::spawn(move || waker.wake());
        assert_eq!(ring.wait(None), 1);
        other.join().unwrap();
    }
    ring.waker().wake();
    ring.waker().wake();
    assert_eq!(ring.wait(None), 1);
    assert_eq!(ring.wait(Some(Nanos(1000))), 0, "both wake-ups ended one sleep");
}

#[test]
fn an_error_of_the_kernel_comes_back_with_its_number() {
    let ring = Ring::new(8).unwrap();
    let (file, _writable) = TempFile::new("readonly");
    let read_only = Fd::new(File::open(&file.0).unwrap());
    let data = DmaSlice::whole(Arena::heap().alloc(BLOCK_BYTES));
    let write = ring.write_at(&read_only, vec![data], 0, Durability::Cached);
    assert_eq!(block_on(&ring, write).unwrap_err().raw_os_error(), Some(libc::EBADF));
}
