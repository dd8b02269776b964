//! One network connection as a stream of bytes, in the shape a polled loop wants: buffers go in by
//! value and come back, and dropping a future abandons the wait, not the buffer.

use crate::dma_buf::{DmaBuf, DmaSlice};
use std::future::Future;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LinkError {
    /// The peer is gone, or the connection broke (errno).
    Broken(i32),
    /// `close` was called here.
    Closed,
}

pub trait Link: 'static {
    /// Receives at least one byte into `buf[from..]`; 0 means the peer has finished sending.
    fn recv(
        &self,
        buf: DmaBuf,
        from: usize,
    ) -> impl Future<Output = (DmaBuf, Result<usize, LinkError>)>;

    /// Sends all bytes of all slices, in order.
    fn send(&self, bufs: Vec<DmaSlice>) -> impl Future<Output = Result<(), LinkError>>;

    /// Ends both directions; waiting calls return `Closed`.
    fn close(&self);

    /// The peer's address, for export rules and logs.
    fn peer(&self) -> std::net::SocketAddr;
}
