//! ONC RPC by hand: bytes that no well-behaved client would send.
//!
//! A message is a list of 32-bit words behind a record mark (RFC 5531, 8 to 11). Tests that send a
//! wrong length, a wrong version or noise build it here, and read what comes back as words too.

use crate::stream::{PATIENCE, connect_from};
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};

pub const NFS: u32 = 100_003;
pub const MOUNT: u32 = 100_005;
pub const PORTMAP: u32 = 100_000;
/// A sideband protocol of another vendor that `cp -a` asks for.
pub const NFSACL: u32 = 100_227;

/// The record mark's flag of a last fragment.
pub const LAST: u32 = 1 << 31;

/// What a server says to a call, without the results.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    Success,
    ProgramUnavailable,
    ProgramMismatch { low: u32, high: u32 },
    ProcedureUnavailable,
    GarbageArguments,
    SystemError,
    RpcMismatch { low: u32, high: u32 },
    AuthError(u32),
}

/// A reply: the call it answers, the verdict, and the words of the results.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reply {
    pub xid: u32,
    pub verdict: Verdict,
    pub results: Vec<u32>,
}

/// The words of a call with AUTH_NONE, without its record mark.
pub fn call(xid: u32, program: u32, version: u32, procedure: u32, arguments: &[u32]) -> Vec<u32> {
    let mut words = vec![xid, 0, 2, program, version, procedure, 0, 0, 0, 0];
    words.extend_from_slice(arguments);
    words
}

/// The words of a call with AUTH_SYS as root.
pub fn call_as_root(xid: u32, procedure: u32, arguments: &[u32]) -> Vec<u32> {
    let credential = [1, 20, 0, 0, 0, 0, 0];
    let mut words = vec![xid, 0, 2, NFS, 3, procedure];
    words.extend_from_slice(&credential);
    words.extend_from_slice(&[0, 0]);
    words.extend_from_slice(arguments);
    words
}

/// A variable-length opaque as words, padded with zeros.
pub fn opaque(bytes: &[u8]) -> Vec<u32> {
    let mut words = vec![u32::try_from(bytes.len()).expect("a short opaque")];
    words.extend(bytes.chunks(4).map(|chunk| {
        let mut word = [0; 4];
        word[..chunk.len()].copy_from_slice(chunk);
        u32::from_be_bytes(word)
    }));
    words
}

pub fn bytes_of(words: &[u32]) -> Vec<u8> {
    words.iter().flat_map(|word| word.to_be_bytes()).collect()
}

/// A connection that sends whatever it is told to.
pub struct Wire(TcpStream);

impl Wire {
    pub fn connect(to: SocketAddr) -> io::Result<Wire> {
        Wire::connect_from(to, None)
    }

    /// `local`: the address of this machine that it comes from.
    pub fn connect_from(to: SocketAddr, local: Option<SocketAddr>) -> io::Result<Wire> {
        let stream = connect_from(to, local)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        Ok(Wire(stream))
    }

    pub fn send_bytes(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.0.write_all(bytes)
    }

    /// Sends words as one record.
    pub fn send(&mut self, words: &[u32]) -> io::Result<()> {
        let bytes = u32::try_from(words.len() * 4).expect("a short record");
        let mut message = vec![LAST | bytes];
        message.extend_from_slice(words);
        self.send_bytes(&bytes_of(&message))
    }

    /// Says that nothing more will come.
    pub fn end(&mut self) -> io::Result<()> {
        self.0.shutdown(std::net::Shutdown::Write)
    }

    /// Reads one record and takes it apart.
    pub fn reply(&mut self) -> io::Result<Reply> {
        let mut words = Vec::new();
        loop {
            let mark = self.word()?;
            let length = (mark & !LAST) as usize;
            if length > 4 << 20 || !length.is_multiple_of(4) {
                return Err(io::Error::other(format!("a fragment of {length} bytes")));
            }
            let mut bytes = vec![0; length];
            self.0.read_exact(&mut bytes)?;
            words.extend(
                bytes
                    .chunks_exact(4)
                    .map(|word| u32::from_be_bytes(word.try_into().expect("chunks of four bytes"))),
            );
            if mark & LAST != 0 {
                break;
            }
        }
        parse(&words).ok_or_else(|| io::Error::other(format!("not an RPC reply: {words:x?}")))
    }

    pub fn ask(&mut self, words: &[u32]) -> io::Result<Reply> {
        self.send(words)?;
        self.reply()
    }

    /// The socket itself, for what is not blocking.
    pub fn socket(&self) -> &TcpStream {
        &self.0
    }

    /// Waits until the server has closed the connection; what it still sends is dropped.
    pub fn wait_until_closed(&mut self) -> io::Result<()> {
        let mut sink = [0; 4096];
        loop {
            match self.0.read(&mut sink) {
                Ok(0) => return Ok(()),
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::ConnectionReset => return Ok(()),
                Err(error) => return Err(error),
            }
        }
    }

    fn word(&mut self) -> io::Result<u32> {
        let mut word = [0; 4];
        self.0.read_exact(&mut word)?;
        Ok(u32::from_be_bytes(word))
    }
}

fn parse(words: &[u32]) -> Option<Reply> {
    const ACCEPTED: u32 = 0;
    let reply = |xid: &u32, verdict, results: &[u32]| {
        Some(Reply { xid: *xid, verdict, results: results.to_vec() })
    };
    match words {
        [xid, 1, ACCEPTED, _flavor, verifier_bytes, rest @ ..] => {
            let rest = rest.get((*verifier_bytes as usize).div_ceil(4)..)?;
            match rest {
                [0, results @ ..] => reply(xid, Verdict::Success, results),
                [1] => reply(xid, Verdict::ProgramUnavailable, &[]),
                [2, low, high] => {
                    reply(xid, Verdict::ProgramMismatch { low: *low, high: *high }, &[])
                }
                [3] => reply(xid, Verdict::ProcedureUnavailable, &[]),
                [4] => reply(xid, Verdict::GarbageArguments, &[]),
                [5] => reply(xid, Verdict::SystemError, &[]),
                _ => None,
            }
        }
        [xid, 1, 1, 0, low, high] => {
            reply(xid, Verdict::RpcMismatch { low: *low, high: *high }, &[])
        }
        [xid, 1, 1, 1, why] => reply(xid, Verdict::AuthError(*why), &[]),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn replies_written_by_hand_are_understood() {
        let of = |words: &[u32]| parse(words).map(|reply| reply.verdict);
        assert_eq!(of(&[9, 1, 0, 0, 0, 0, 77]), Some(Verdict::Success));
        assert_eq!(of(&[9, 1, 0, 0, 0, 1]), Some(Verdict::ProgramUnavailable));
        let mismatch = Verdict::ProgramMismatch { low: 3, high: 3 };
        assert_eq!(of(&[9, 1, 0, 0, 0, 2, 3, 3]), Some(mismatch));
        assert_eq!(of(&[9, 1, 1, 0, 2, 2]), Some(Verdict::RpcMismatch { low: 2, high: 2 }));
        assert_eq!(of(&[9, 1, 1, 1, 5]), Some(Verdict::AuthError(5)));
        assert_eq!(of(&[9, 0, 0, 0, 0, 0]), None);
        assert_eq!(of(&[9, 1, 0, 0, 400, 0]), None);
    }

    #[test]
    fn an_opaque_is_padded_to_words() {
        assert_eq!(opaque(b"abcde"), [5, 0x6162_6364, 0x6500_0000]);
        assert_eq!(bytes_of(&opaque(b"")), [0, 0, 0, 0]);
    }
}
