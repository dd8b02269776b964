//! An NFS client over a link in memory, with an independent implementation's encoders and decoders.

use cairn_base::door::{Link, LinkError};
use cairn_base::{DmaBuf, DmaSlice};
use cairn_engine::Shard;
use cairn_net::Budget;
use cairn_net::server::{ConnectionLimits, serve_connection};
use cairn_nfs::{NfsServer, mount_wire, wire};
use cairn_sim::world::World;
use nfs3_types::mount;
use nfs3_types::nfs3::{self, Nfs3Result, nfs_fh3, nfsstat3};
use nfs3_types::xdr_codec::{Opaque, Pack, Unpack};
use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::future::poll_fn;
use std::net::SocketAddr;
use std::rc::Rc;
use std::task::{Poll, Waker};

/// Both directions of a connection.
struct Pipe {
    peer: SocketAddr,
    to_server: RefCell<VecDeque<u8>>,
    to_client: RefCell<Vec<u8>>,
    broken: Cell<bool>,
    waiting: RefCell<Vec<Waker>>,
}

impl Pipe {
    fn wake_all(&self) {
        for waker in self.waiting.take() {
            waker.wake();
        }
    }

    async fn until<T>(&self, mut check: impl FnMut() -> Option<T>) -> T {
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
    fn answer(&self, xid: u32) -> Option<Vec<u8>> {
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
        self.broken.set(true);
        self.wake_all();
    }

    fn peer(&self) -> SocketAddr {
        self.peer
    }
}

/// Whoever may connect: the shard and what it serves.
#[derive(Clone)]
pub struct Service {
    pub shard: Rc<Shard<World>>,
    pub server: Rc<NfsServer<World>>,
}

impl Service {
    pub fn connect(&self, peer: &str) -> Client {
        let pipe = Rc::new(Pipe {
            peer: peer.parse().expect("an address"),
            to_server: RefCell::default(),
            to_client: RefCell::default(),
            broken: Cell::new(false),
            waiting: RefCell::default(),
        });
        let (link, shard, server) = (pipe.clone(), self.shard.clone(), self.server.clone());
        let gate = self.shard.reactor().gate("test connection");
        gate.spawn(async move {
            let handler = |call| (server.answer_bytes_max(&call), server.clone().answer(call));
            let (limits, budget) = (ConnectionLimits::DEFAULT, Budget::new(usize::MAX));
            let reactor = shard.reactor().clone();
            let sleep = |length| reactor.sleep(length);
            let served =
                serve_connection(&*link, shard.arena(), limits, &budget, sleep, handler).await;
            // Tests break connections, so an error is an end like any other.
            let _ended = served;
        })
        .expect("the gate is open");
        Client { pipe, xid: Cell::new(1), uid: Cell::new(0) }
    }
}

pub struct Client {
    pipe: Rc<Pipe>,
    xid: Cell<u32>,
    uid: Cell<u32>,
}

pub fn packed(value: &impl Pack) -> Vec<u8> {
    let mut bytes = Vec::new();
    value.pack(&mut bytes).expect("a vector takes everything");
    bytes
}

fn unpacked<R: Unpack>(bytes: &[u8]) -> R {
    let (value, used) = R::unpack(&mut &bytes[..]).expect("a well-formed answer");
    assert_eq!(used, bytes.len(), "all of the answer is used");
    value
}

impl Client {
    /// From now on everything is asked as this user.
    pub fn act_as(&self, uid: u32) {
        self.uid.set(uid);
    }

    /// The xid that the next call will have.
    pub fn next_xid(&self) -> u32 {
        self.xid.get()
    }

    pub fn set_next_xid(&self, xid: u32) {
        self.xid.set(xid);
    }

    pub fn break_off(&self) {
        self.pipe.close();
    }

    /// Sends a call and does not wait.
    pub fn send(&self, program: u32, version: u32, procedure: u32, args: &[u8]) -> u32 {
        let xid = self.xid.get();
        self.xid.set(xid + 1);
        let mut call = Vec::new();
        for word in [xid, 0, 2, program, version, procedure] {
            call.extend(word.to_be_bytes());
        }
        // AUTH_SYS: stamp, an empty machine name, uid, gid, no groups.
        for word in [1, 20, 0, 0, self.uid.get(), self.uid.get(), 0] {
            call.extend(word.to_be_bytes());
        }
        call.extend([0; 8]);
        call.extend(args);
        let mark = 0x8000_0000 | u32::try_from(call.len()).expect("a short call");
        let mut stream = self.pipe.to_server.borrow_mut();
        stream.extend(mark.to_be_bytes());
        stream.extend(call);
        drop(stream);
        self.pipe.wake_all();
        xid
    }

    pub async fn answer(&self, xid: u32) -> Vec<u8> {
        self.pipe.until(|| self.pipe.answer(xid)).await
    }

    /// The whole answer, from its xid on.
    pub async fn ask(&self, program: u32, version: u32, procedure: u32, args: &[u8]) -> Vec<u8> {
        let xid = self.send(program, version, procedure, args);
        self.answer(xid).await
    }

    /// accept_stat of an answer, and what follows it.
    pub fn accepted(answer: &[u8]) -> (u32, &[u8]) {
        let (head, results) = answer.split_at(24);
        assert_eq!(head[4..20], [0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
        (u32::from_be_bytes(head[20..].try_into().expect("four bytes")), results)
    }

    pub async fn nfs<R: Unpack>(&self, procedure: nfs3::NFS_PROGRAM, args: &impl Pack) -> R {
        let answer = self.ask(wire::PROGRAM, wire::VERSION, procedure as u32, &packed(args)).await;
        let (stat, results) = Client::accepted(&answer);
        assert_eq!(stat, 0, "the call was carried out");
        unpacked(results)
    }

    pub async fn mount(&self, path: &str) -> Result<nfs_fh3, u32> {
        let path = packed(&mount::dirpath(Opaque::borrowed(path.as_bytes())));
        let answer = self.ask(mount_wire::PROGRAM, mount_wire::VERSION, 1, &path).await;
        let (stat, results) = Client::accepted(&answer);
        assert_eq!(stat, 0, "the call was carried out");
        match unpacked(results) {
            mount::mountres3::Ok(mounted) => {
                assert_eq!(mounted.auth_flavors, [1]);
                Ok(nfs_fh3 { data: Opaque::owned(mounted.fhandle.0.to_vec()) })
            }
            mount::mountres3::Err(stat) => Err(stat as u32),
        }
    }
}

/// The status of a result.
pub fn stat<T, E>(result: &Nfs3Result<T, E>) -> nfsstat3 {
    match result {
        Nfs3Result::Ok(_) => nfsstat3::NFS3_OK,
        Nfs3Result::Err((stat, _)) => *stat,
    }
}
