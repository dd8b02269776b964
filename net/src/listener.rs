//! A listening TCP port over the shard's ring.
//!
//! Several shards may listen on one port (`Sharing::WithinUser`); the kernel spreads connections over
//! them by address. The same would also let a second daemon of the same user listen there and take
//! half of the connections without anybody noticing. So `bind` is exclusive unless told otherwise, and
//! whoever shares a port calls `assert_free` once before.
//!
//! Errors of single connections that died in the queue are not errors of the listener: `accept`
//! goes on to the next. What it does return needs somebody to act: close, or give up connections.

use crate::stream::Stream;
use cairn_base::ring::{Fd, Ring};
use socket2::{Domain, Protocol, Socket, Type};
use std::cell::Cell;
use std::fmt;
use std::io;
use std::net::SocketAddr;

/// Connections that wait to be accepted; the kernel's own default bound is 4,096.
const BACKLOG: i32 = 1024;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sharing {
    Exclusive,
    /// With other listeners of this user that say the same.
    WithinUser,
}

/// The port cannot be had.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BindError {
    pub addr: SocketAddr,
    pub errno: i32,
}

impl fmt::Display for BindError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "cannot listen on {}: {}", self.addr, io::Error::from_raw_os_error(self.errno))
    }
}

impl std::error::Error for BindError {}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AcceptError {
    /// `close` was called.
    Closed,
    /// Out of descriptors or memory, say (errno). It may pass, but not by asking again at once.
    Failed(i32),
}

pub struct Listener {
    ring: Ring,
    fd: Fd,
    local: SocketAddr,
    closed: Cell<bool>,
}

impl Listener {
    /// Port 0 is any free one; `local_addr` says which it became.
    pub fn bind(ring: &Ring, addr: SocketAddr, sharing: Sharing) -> Result<Listener, BindError> {
        let failed = |error: io::Error| BindError { addr, errno: errno(&error) };
        let socket = bound(addr, sharing).map_err(failed)?;
        socket.listen(BACKLOG).map_err(failed)?;
        let listener = std::net::TcpListener::from(socket);
        let local = listener.local_addr().map_err(failed)?;
        Ok(Listener { ring: ring.clone(), fd: Fd::new(listener), local, closed: Cell::new(false) })
    }

    /// Fails when anybody at all listens on `addr`.
    pub fn assert_free(addr: SocketAddr) -> Result<(), BindError> {
        let socket = bound(addr, Sharing::Exclusive).and_then(|socket| socket.listen(1));
        socket.map_err(|error| BindError { addr, errno: errno(&error) })
    }

    pub fn local_addr(&self) -> SocketAddr {
        self.local
    }

    /// The next connection.
    pub async fn accept(&self) -> Result<Stream, AcceptError> {
        loop {
            if self.closed.get() {
                return Err(AcceptError::Closed);
            }
            let accepted = self.ring.accept(&self.fd).await;
            match accepted.and_then(|socket| Stream::new(&self.ring, socket)) {
                Ok(stream) => return Ok(stream),
                Err(_) if self.closed.get() => return Err(AcceptError::Closed),
                Err(error) if is_of_one_connection(errno(&error)) => {}
                Err(error) => return Err(AcceptError::Failed(errno(&error))),
            }
        }
    }

    /// A waiting `accept` returns `Closed`. Connections accepted before live on.
    pub fn close(&self) {
        if !self.closed.replace(true) {
            self.fd.shutdown();
        }
    }
}

fn bound(addr: SocketAddr, sharing: Sharing) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(addr), Type::STREAM, Some(Protocol::TCP))?;
    if addr.is_ipv6() {
        socket.set_only_v6(false)?; // "[::]" is every address of the machine
    }
    // Connections of an earlier run that linger in TIME_WAIT do not count as users of the port.
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(sharing == Sharing::WithinUser)?;
    socket.bind(&addr.into())?;
    Ok(socket)
}

/// What accept(2) and the first options of a socket report about a connection that is gone: the
/// errors that the manual page says to treat like "try again", and those of a reset.
fn is_of_one_connection(errno: i32) -> bool {
    matches!(
        errno,
        libc::EINTR
            | libc::ECONNABORTED
            | libc::ECONNRESET
            | libc::ENOTCONN
            | libc::EPROTO
            | libc::ENOPROTOOPT
            | libc::EPERM
            | libc::ENETDOWN
            | libc::ENETUNREACH
            | libc::EHOSTDOWN
            | libc::EHOSTUNREACH
            | libc::ENONET
            | libc::EOPNOTSUPP
            | libc::ETIMEDOUT
    )
}

fn errno(error: &io::Error) -> i32 {
    error.raw_os_error().unwrap_or(libc::EIO)
}
