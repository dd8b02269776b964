//! A connection in memory: what one side sends the other takes, in order and in any pieces.

use cairn_base::door::{Link, LinkError};
use cairn_base::{DmaBuf, DmaSlice};
use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::future::poll_fn;
use std::net::SocketAddr;
use std::task::{Poll, Waker};

/// Both directions of a connection.
pub(super) struct Pipe {
    peer: SocketAddr,
    to_server: RefCell<VecDeque<u8>>,
    to_client: RefCell<Vec<u8>>,
    broken: Cell<bool>,
    waiting: RefCell<Vec<Waker>>,
}

impl Pipe {
    pub(super) fn new(peer: SocketAddr) -> Pipe {
        Pipe {
            peer,
            to_server: RefCell::default(),
            to_client: RefCell::default(),
            broken: Cell::new(false),
            waiting: RefCell::default(),
        }
    }

    pub(super) fn send_record(&self, record: &[u8]) {
        let mark = 0x8000_0000 | u32::try_from(record.len()).expect("a short call");
        let mut stream = self.to_server.borrow_mut();
        stream.extend(mark.to_be_bytes());
        stream.extend(record);
        drop(stream);
        self.wake_all();
    }

    pub(super) fn is_broken(&self) -> bool {
        self.broken.get()
    }

    pub(super) fn break_off(&self) {
        self.broken.set(true);
        self.wake_all();
    }

    pub(super) fn wake_all(&self) {
        for waker in self.waiting.take() {
            waker.wake();
        }
    }

    pub(super) async fn until<T>(&self, mut check: impl FnMut() -> Option<T>) -> T {
        poll_fn(|cx| match check() {
            Some(found) => Poll::Ready(found),
            None => {
                self.waiting.borrow_mut().push(cx.waker().clone());
                Poll::Pending
            }
        })
        .await
    }

    /// Takes the answer to `xid` out of the stream.
    pub(super) fn answer(&self, xid: u32) -> Option<Vec<u8>> {
        let mut stream = self.to_client.borrow_mut();
        let mut at = 0;
        while let Some(mark) = stream[at..].first_chunk().copied().map(u32::from_be_bytes) {
            assert_ne!(mark & 0x8000_0000, 0, "one fragment an answer");
            let end = at + 4 + (mark & 0x7fff_ffff) as usize;
            if stream[at + 4..at + 8] == xid.to_be_bytes() {
                let record: Vec<u8> = stream.drain(at..end).collect();
                return Some(record[4..].to_vec());
            }
            at = end;
        }
        None
    }
}

impl Link for Pipe {
    async fn recv(&self, mut buf: DmaBuf, from: usize) -> (DmaBuf, Result<usize, LinkError>) {
        let received = self
            .until(|| {
                let mut stream = self.to_server.borrow_mut();
                if self.broken.get() {
                    return Some(Err(LinkError::Broken(104)));
                }
                let bytes = stream.len().min(buf.len() - from);
                for (place, byte) in buf[from..].iter_mut().zip(stream.drain(..bytes)) {
                    *place = byte;
                }
                (bytes > 0).then_some(Ok(bytes))
            })
            .await;
        (buf, received)
    }

    async fn send(&self, bufs: Vec<DmaSlice>) -> Result<(), LinkError> {
        if self.broken.get() {
            return Err(LinkError::Broken(32));
        }
        for buf in bufs {
            self.to_client.borrow_mut().extend_from_slice(&buf);
        }
        self.wake_all();
        Ok(())
    }

    fn close(&self) {
        self.break_off();
    }

    fn peer(&self) -> SocketAddr {
        self.peer
    }
}
