//! An NFS client over a link in memory, with an independent implementation's encoders and decoders.

use super::pipe::Pipe;
use crate::world::World;
use cairn_base::Nanos;
use cairn_engine::Shard;
use cairn_net::Budget;
use cairn_net::server::{ConnectionLimits, serve_connection};
use cairn_nfs::{NfsServer, mount_wire, wire};
use nfs3_types::mount;
use nfs3_types::nfs3::{self, Nfs3Result, nfs_fh3, nfsstat3};
use nfs3_types::xdr_codec::{Opaque, Pack, Unpack};
use std::cell::{Cell, RefCell};
use std::net::SocketAddr;
use std::rc::Rc;

/// Whoever may connect: the shard and what it serves.
#[derive(Clone)]
pub struct Service {
    pub shard: Rc<Shard<World>>,
    pub server: Rc<NfsServer<World>>,
}

impl Service {
    /// A client at that address.
    pub fn connect(&self, peer: &str) -> Caller {
        let peer = peer.parse().expect("an address");
        let pipe = RefCell::new(self.open(peer));
        Caller { service: self.clone(), peer, pipe, xid: Cell::new(1), uid: Cell::new(0) }
    }

    fn open(&self, peer: SocketAddr) -> Rc<Pipe> {
        let pipe = Rc::new(Pipe::new(peer));
        let (link, shard, server) = (pipe.clone(), self.shard.clone(), self.server.clone());
        let gate = self.shard.reactor().gate("simulated connection");
        let served = async move {
            let handler = |call| (server.answer_bytes_max(&call), server.clone().answer(call));
            let (limits, budget) = (ConnectionLimits::DEFAULT, Budget::new(usize::MAX));
            let reactor = shard.reactor().clone();
            let sleep = |length| reactor.sleep(length);
            let served =
                serve_connection(&*link, shard.arena(), limits, &budget, sleep, handler).await;
            // Clients break connections, so an error is an end like any other.
            let _ended = served;
        };
        gate.spawn(served).expect("a new gate is open");
        pipe
    }
}

pub struct Caller {
    service: Service,
    peer: SocketAddr,
    pipe: RefCell<Rc<Pipe>>,
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

impl Caller {
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
        self.pipe().break_off();
    }

    /// Sends a call and does not wait.
    pub fn send(&self, program: u32, version: u32, procedure: u32, args: &[u8]) -> u32 {
        let (xid, call) = self.call(program, version, procedure, args);
        self.pipe().send_record(&call);
        xid
    }

    pub async fn answer(&self, xid: u32) -> Vec<u8> {
        let pipe = self.pipe();
        pipe.until(|| pipe.answer(xid)).await
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
        self.nfs_sent(procedure, args, Sending::Once).await
    }

    /// Asks as a client does whose network is bad.
    pub async fn nfs_sent<R: Unpack>(
        &self,
        procedure: nfs3::NFS_PROGRAM,
        args: &impl Pack,
        sending: Sending,
    ) -> R {
        let (program, version) = (wire::PROGRAM, wire::VERSION);
        let (xid, call) = self.call(program, version, procedure as u32, &packed(args));
        if self.pipe().is_broken() {
            self.reconnect();
        }
        self.pipe().send_record(&call);
        match sending {
            Sending::Once => {}
            Sending::Twice => self.pipe().send_record(&call),
            Sending::Reconnecting { after } => {
                // The server has taken some of it up by then, or all.
                self.service.shard.reactor().sleep(after).await;
                self.break_off();
                self.reconnect();
                self.pipe().send_record(&call);
            }
        }
        let answer = self.answer(xid).await;
        let (stat, results) = Caller::accepted(&answer);
        assert_eq!(stat, 0, "the call was carried out");
        unpacked(results)
    }

    pub async fn mount(&self, path: &str) -> Result<nfs_fh3, u32> {
        let path = packed(&mount::dirpath(Opaque::borrowed(path.as_bytes())));
        let answer = self.ask(mount_wire::PROGRAM, mount_wire::VERSION, 1, &path).await;
        let (stat, results) = Caller::accepted(&answer);
        assert_eq!(stat, 0, "the call was carried out");
        match unpacked(results) {
            mount::mountres3::Ok(mounted) => {
                assert_eq!(mounted.auth_flavors, [1]);
                Ok(nfs_fh3 { data: Opaque::owned(mounted.fhandle.0.to_vec()) })
            }
            mount::mountres3::Err(stat) => Err(stat as u32),
        }
    }

    fn pipe(&self) -> Rc<Pipe> {
        self.pipe.borrow().clone()
    }

    fn reconnect(&self) {
        self.pipe.replace(self.service.open(self.peer));
    }

    fn call(&self, program: u32, version: u32, procedure: u32, args: &[u8]) -> (u32, Vec<u8>) {
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
        (xid, call)
    }
}

/// How often a call goes out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sending {
    Once,
    /// Again with the same xid, at once.
    Twice,
    /// The connection breaks after this time; again with the same xid on another one.
    Reconnecting {
        after: Nanos,
    },
}

/// The status of a result.
pub fn stat<T, E>(result: &Nfs3Result<T, E>) -> nfsstat3 {
    match result {
        Nfs3Result::Ok(_) => nfsstat3::NFS3_OK,
        Nfs3Result::Err((stat, _)) => *stat,
    }
}
