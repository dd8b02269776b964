//! The network side of one shard: its listeners, its connections, and how they end.
//!
//! Every shard listens on the same ports and the kernel spreads connections over them; whichever
//! shard a connection lands on serves it, and the engine routes each call to where its inode lives.
//!
//! Connections are counted over all shards (`tally.rs`); one too many is closed as it comes, which a
//! client takes for a server that is busy. What those of this shard hold in memory together is
//! bounded too (`cairn_net::Budget`, by `memory.rs`).
//!
//! At the end, nothing new is accepted and nothing more is read, but calls that were read are
//! answered: to `cairn_net` the peers look as if they had finished sending (`Draining`). A peer that
//! does not take its answers is cut off after a while.

use crate::doors::RealDoors;
use crate::frontend_mail::{Limits, Rules, Turned};
use crate::observed::{Open, Traffic};
use crate::tally::{Full, Place, Tally};
use cairn_base::door::{Link, LinkError};
use cairn_base::{Arena, DmaBuf, DmaSlice, Nanos};
use cairn_net::listener::{AcceptError, Listener};
use cairn_net::server::{ConnectionError, ConnectionLimits, serve_connection};
use cairn_net::stream::Stream;
use cairn_net::{Budget, InboxError};
use cairn_nfs::NfsServer;
use cairn_reactor::{Either, Gate, Handle, race};
use std::cell::Cell;
use std::net::SocketAddr;
use std::rc::Rc;

/// Out of descriptors or memory: other connections may end meanwhile.
const ACCEPT_PAUSE: Nanos = Nanos::from_millis(100);
/// How long connections may take to send what they owe, at the end.
const DRAIN_MAX: Nanos = Nanos::from_secs(2);

/// Where calls and answers live, and how much of it they may hold.
pub struct Buffers {
    pub arena: Arena,
    pub budget: Budget,
}

pub struct Frontend {
    desk: Rc<Desk>,
    listeners: Vec<Rc<Listener>>,
    acceptor: Gate,
}

/// What the acceptors and the connections of one shard have in common.
struct Desk {
    handle: Handle,
    server: Rc<NfsServer<RealDoors>>,
    arena: Arena,
    connections: Gate,
    tally: Tally,
    budget: Budget,
    limits: Cell<Limits>,
    traffic: Rc<Traffic>,
}

impl Frontend {
    /// Begins to accept.
    pub fn start(
        handle: &Handle,
        server: Rc<NfsServer<RealDoors>>,
        listeners: Vec<Listener>,
        buffers: Buffers,
        tally: Tally,
        limits: Limits,
        traffic: Rc<Traffic>,
    ) -> Frontend {
        let Buffers { arena, budget } = buffers;
        let desk = Rc::new(Desk {
            handle: handle.clone(),
            server,
            arena,
            connections: handle.gate("nfs connection"),
            tally,
            budget,
            limits: Cell::new(limits),
            traffic,
        });
        let acceptor = handle.gate("nfs listener");
        let listeners: Vec<_> = listeners.into_iter().map(Rc::new).collect();
        for listener in &listeners {
            let accept = accept(listener.clone(), desk.clone());
            acceptor.spawn(accept).expect("the gate was just made");
        }
        Frontend { desk, listeners, acceptor }
    }

    /// Exports hold from the next call on, also on connections that are open. Of the limits, the
    /// numbers hold for connections that come, and the times for them too.
    pub fn use_rules(&self, rules: Rules) {
        self.desk.server.use_exports(rules.exports);
        self.desk.limits.set(rules.limits);
    }

    pub fn turned(&self) -> Turned {
        let traffic = &self.desk.traffic;
        Turned { refused: traffic.refused.get(), cut: traffic.cut.get() }
    }

    /// Ends when no call of a client is under way here and none can come.
    pub fn close(&self) -> impl Future<Output = ()> + use<> {
        let (desk, acceptor) = (self.desk.clone(), self.acceptor.clone());
        self.listeners.iter().for_each(|listener| listener.close());
        async move {
            acceptor.close().await;
            let drained = desk.connections.close();
            // Those that are left are cut off with their tasks, at the end of the reactor.
            let _late = desk.handle.timeout(DRAIN_MAX, drained).await;
            desk.server.close().await;
        }
    }
}

impl Desk {
    fn place(&self, stream: &Stream) -> Result<Place, Full> {
        let limits = self.limits.get();
        let client = stream.peer().ip();
        self.tally.enter(client, limits.connections_max, limits.connections_per_client_max)
    }
}

async fn accept(listener: Rc<Listener>, desk: Rc<Desk>) {
    loop {
        match listener.accept().await {
            Ok(stream) => match desk.place(&stream) {
                Ok(place) => {
                    let serve = serve(stream, desk.clone(), place);
                    if desk.connections.spawn(serve).is_err() {
                        return;
                    }
                }
                Err(full) => {
                    stream.close();
                    tracing::debug!("no place for a connection of {}: {full:?}", stream.peer());
                    desk.traffic.refused.add(1);
                }
            },
            Err(AcceptError::Closed) => return,
            Err(AcceptError::Failed(errno)) => {
                tracing::warn!("cannot accept a connection: errno {errno}");
                desk.handle.sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

async fn serve(stream: Stream, desk: Rc<Desk>, place: Place) {
    let Limits { record_time_max, send_time_max, .. } = desk.limits.get();
    let limits = ConnectionLimits { record_time_max, send_time_max, ..ConnectionLimits::DEFAULT };
    let open = Open::new(&desk.traffic);
    let link = Draining { stream, gate: desk.connections.clone(), arena: desk.arena.clone(), open };
    let server = &desk.server;
    let answer = |call| (server.answer_bytes_max(&call), server.clone().answer(call));
    let sleep = |length| desk.handle.sleep(length);
    let ended = serve_connection(&link, &desk.arena, limits, &desk.budget, sleep, answer).await;
    if let Err(error) = ended {
        tracing::debug!("connection of {} ended: {error:?}", link.peer());
        match error {
            ConnectionError::Inbox(InboxError::Slow) | ConnectionError::SendTooSlow => {
                desk.traffic.cut.add(1);
            }
            ConnectionError::Inbox(_) | ConnectionError::NotACall | ConnectionError::Send(_) => {}
        }
    }
    link.close();
    drop(place);
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
