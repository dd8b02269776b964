//! The network side of one shard: its listener, its connections, and how they end.
//!
//! Every shard listens on the same port and the kernel spreads connections over them; whichever
//! shard a connection lands on serves it, and the engine routes each call to where its inode lives.
//!
//! At the end, nothing new is accepted and nothing more is read, but calls that were read are
//! answered: to `cairn_net` the peers look as if they had finished sending (`Draining`). A peer that
//! does not take its answers is cut off after a while.

use crate::doors::RealDoors;
use crate::observed::{Open, Traffic};
use cairn_base::door::{Link, LinkError};
use cairn_base::{Arena, DmaBuf, DmaSlice, Nanos};
use cairn_net::listener::{AcceptError, Listener};
use cairn_net::server::{ConnectionLimits, serve_connection};
use cairn_net::stream::Stream;
use cairn_nfs::NfsServer;
use cairn_reactor::{Either, Gate, Handle, race};
use std::net::SocketAddr;
use std::rc::Rc;

/// Connections of one shard; more are closed as they come. Each may hold `ConnectionLimits` of
/// memory.
const CONNECTIONS_MAX: usize = 4096;
/// Out of descriptors or memory: other connections may end meanwhile.
const ACCEPT_PAUSE: Nanos = Nanos::from_millis(100);
/// How long connections may take to send what they owe, at the end.
const DRAIN_MAX: Nanos = Nanos::from_secs(2);

pub struct Frontend {
    handle: Handle,
    server: Rc<NfsServer<RealDoors>>,
    listener: Rc<Listener>,
    connections: Gate,
    acceptor: Gate,
}

impl Frontend {
    /// Begins to accept.
    pub fn start(
        handle: &Handle,
        server: Rc<NfsServer<RealDoors>>,
        listener: Listener,
        arena: Arena,
        traffic: Rc<Traffic>,
    ) -> Frontend {
        let frontend = Frontend {
            handle: handle.clone(),
            server,
            listener: Rc::new(listener),
            connections: handle.gate("nfs connection"),
            acceptor: handle.gate("nfs listener"),
        };
        let accept = accept(
            frontend.listener.clone(),
            handle.clone(),
            frontend.connections.clone(),
            frontend.server.clone(),
            arena,
            traffic,
        );
        frontend.acceptor.spawn(accept).expect("the gate was just made");
        frontend
    }

    /// Ends when no call of a client is under way here and none can come.
    pub async fn close(self) {
        self.listener.close();
        self.acceptor.close().await;
        let drained = self.connections.close();
        // Those that are left are cut off with their tasks, at the end of the reactor.
        let _late = self.handle.timeout(DRAIN_MAX, drained).await;
        self.server.close().await;
    }
}

async fn accept(
    listener: Rc<Listener>,
    handle: Handle,
    connections: Gate,
    server: Rc<NfsServer<RealDoors>>,
    arena: Arena,
    traffic: Rc<Traffic>,
) {
    loop {
        match listener.accept().await {
            Ok(stream) if connections.inside() < CONNECTIONS_MAX => {
                let open = Open::new(&traffic);
                let serve = serve(stream, connections.clone(), server.clone(), arena.clone(), open);
                if connections.spawn(serve).is_err() {
                    return;
                }
            }
            Ok(stream) => {
                traffic.refused.add(1);
                stream.close();
            }
            Err(AcceptError::Closed) => return,
            Err(AcceptError::Failed(errno)) => {
                tracing::warn!("cannot accept a connection: errno {errno}");
                handle.sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

async fn serve(
    stream: Stream,
    gate: Gate,
    server: Rc<NfsServer<RealDoors>>,
    arena: Arena,
    open: Open,
) {
    let link = Draining { stream, gate, arena: arena.clone(), open };
    let answer = |call| server.clone().answer(call);
    let ended = serve_connection(&link, &arena, ConnectionLimits::DEFAULT, answer).await;
    if let Err(error) = ended {
        tracing::debug!("connection of {} ended: {error:?}", link.peer());
    }
    link.close();
}

/// A connection whose peer seems to finish sending when the gate closes.
struct Draining {
    stream: Stream,
    gate: Gate,
    arena: Arena,
    open: Open,
}

impl Link for Draining {
    async fn recv(&self, buf: DmaBuf, from: usize) -> (DmaBuf, Result<usize, LinkError>) {
        let bytes = buf.len();
        if self.gate.is_closed() {
            return (buf, Ok(0));
        }
        match race(self.stream.recv(buf, from), self.gate.closing()).await {
            Either::Left((buf, received)) => {
                if let Ok(bytes) = received {
                    self.open.traffic().received.add(bytes as u64);
                }
                (buf, received)
            }
            // The ring keeps the buffer; nothing more is read, so what it may still get is lost.
            Either::Right(()) => (self.arena.alloc(bytes), Ok(0)),
        }
    }

    async fn send(&self, bufs: Vec<DmaSlice>) -> Result<(), LinkError> {
        let bytes: usize = bufs.iter().map(|buf| buf.len()).sum();
        self.stream.send(bufs).await?;
        self.open.traffic().sent.add(bytes as u64);
        Ok(())
    }

    fn close(&self) {
        self.stream.close();
    }

    fn peer(&self) -> SocketAddr {
        self.stream.peer()
    }
}
