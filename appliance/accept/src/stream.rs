//! A blocking TCP stream in the clothes that nfs3_client wants.
//!
//! The client crate is written over futures. A test is easier to read as one thread per connection,
//! and a kill is easier to place between two calls than between two polls. So the stream blocks
//! inside `poll`, with a time limit, and a future over it is always ready at its first poll.

use nfs3_client::io::{AsyncRead, AsyncWrite};
use socket2::{Domain, Protocol, Socket, Type};
use std::io::{self, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::pin::pin;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

/// How long a single answer may take before the server counts as silent. Far above anything that
/// is merely slow: a debug build under the whole test run on a small machine.
pub const PATIENCE: Duration = Duration::from_secs(60);

pub struct Stream(TcpStream);

impl Stream {
    /// `local`: where from.
    pub fn connect(to: SocketAddr, local: Option<SocketAddr>) -> io::Result<Stream> {
        let stream = connect_from(to, local)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        Ok(Stream(stream))
    }
}

/// A connection from an address of this machine, or from any.
pub fn connect_from(to: SocketAddr, local: Option<SocketAddr>) -> io::Result<TcpStream> {
    let Some(local) = local else { return TcpStream::connect_timeout(&to, PATIENCE) };
    let socket = Socket::new(Domain::for_address(to), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    socket.bind(&local.into())?;
    socket.connect_timeout(&to.into(), PATIENCE)?;
    Ok(socket.into())
}

impl AsyncRead for Stream {
    async fn async_read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        match self.0.read(buf)? {
            // The crate's read_exact would turn for ever on a stream that has ended.
            0 if !buf.is_empty() => Err(ErrorKind::UnexpectedEof.into()),
            read => Ok(read),
        }
    }
}

impl AsyncWrite for Stream {
    async fn async_write(&mut self, buf: &[u8]) -> io::Result<usize> {
        match self.0.write(buf)? {
            0 if !buf.is_empty() => Err(ErrorKind::WriteZero.into()),
            written => Ok(written),
        }
    }
}

/// Runs a future whose I/O blocks.
pub fn finish<F: Future>(future: F) -> F::Output {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(output) => output,
        Poll::Pending => unreachable!("a future over a blocking stream never waits"),
    }
}
