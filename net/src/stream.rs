//! One TCP connection over the shard's ring: the real implementor of the link door.
//!
//! Small answers must not wait for more, so Nagle's algorithm is off. A peer that vanished without a
//! word is noticed: an idle connection by keepalive, one with unacknowledged bytes by the kernel's
//! user timeout. NFS clients reconnect and ask again, so a connection given up too early costs
//! little, and one kept for ever holds buffers.

use cairn_base::door::{Link, LinkError};
use cairn_base::ring::{Fd, Ring};
use cairn_base::{DmaBuf, DmaSlice};
use socket2::{SockRef, TcpKeepalive};
use std::cell::Cell;
use std::io;
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

/// A silent peer is asked after a minute, and given up a minute later.
const KEEPALIVE_IDLE: Duration = Duration::from_secs(60);
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(10);
const KEEPALIVE_PROBES: u32 = 6;
/// A peer that does not acknowledge what was sent is given up as soon as a silent one.
const UNACKNOWLEDGED_MAX: Duration = Duration::from_secs(120);

pub struct Stream {
    ring: Ring,
    fd: Fd,
    peer: SocketAddr,
    closed: Cell<bool>,
}

impl Stream {
    /// Fails when the peer is gone already.
    pub fn new(ring: &Ring, socket: TcpStream) -> io::Result<Stream> {
        let keepalive = TcpKeepalive::new()
            .with_time(KEEPALIVE_IDLE)
            .with_interval(KEEPALIVE_INTERVAL)
            .with_retries(KEEPALIVE_PROBES);
        socket.set_nodelay(true)?;
        let options = SockRef::from(&socket);
        options.set_tcp_keepalive(&keepalive)?;
        options.set_tcp_user_timeout(Some(UNACKNOWLEDGED_MAX))?;
        let peer = socket.peer_addr()?;
        // A socket for both families reports ::ffff:10.0.0.1; export rules say 10.0.0.1.
        let peer = SocketAddr::new(peer.ip().to_canonical(), peer.port());
        Ok(Stream { ring: ring.clone(), fd: Fd::new(socket), peer, closed: Cell::new(false) })
    }

    fn error(&self, error: io::Error) -> LinkError {
        if self.closed.get() {
            return LinkError::Closed;
        }
        // The ring's own errors, which carry no number, mean that the peer takes no more bytes.
        LinkError::Broken(error.raw_os_error().unwrap_or(libc::EPIPE))
    }
}

impl Link for Stream {
    async fn recv(&self, buf: DmaBuf, from: usize) -> (DmaBuf, Result<usize, LinkError>) {
        if self.closed.get() {
            return (buf, Err(LinkError::Closed));
        }
        let (buf, received) = self.ring.recv(&self.fd, buf, from).await;
        let received = match received {
            // `close` ends a waiting receive like the end of the stream.
            Ok(0) if self.closed.get() => Err(LinkError::Closed),
            Ok(bytes) => Ok(bytes),
            Err(error) => Err(self.error(error)),
        };
        (buf, received)
    }

    async fn send(&self, bufs: Vec<DmaSlice>) -> Result<(), LinkError> {
        if self.closed.get() {
            return Err(LinkError::Closed);
        }
        self.ring.send(&self.fd, bufs).await.map_err(|error| self.error(error))
    }

    fn close(&self) {
        if !self.closed.replace(true) {
            self.fd.shutdown();
        }
    }

    fn peer(&self) -> SocketAddr {
        self.peer
    }
}
