//! Registration with the machine's rpcbind, so that clients find NFS and MOUNT without being told a
//! port: `SET` when the daemon serves, `UNSET` when it ends.
//!
//! Version 3 of the protocol (RFC 1833, section 2.2.1) knows both TCP over IPv4 (netid `tcp`) and over
//! IPv6 (`tcp6`); rpcbind derives from it what clients of version 2 ask for. It lets only the machine
//! itself register, which it believes of its Unix socket, and over the network of reserved ports; so
//! the socket is tried first.
//!
//! A daemon that was killed leaves its entries behind. rpcbind takes the same ones again, and refuses
//! others for a program that is there already: that is somebody else's NFS server, or an entry whose
//! port nobody serves any more, and either is for the operator to sort out.

use crate::error::Failure;
use cairn_net::rpc::Xid;
use cairn_net::xdr::{Decoder, Encoder, XdrError};
use cairn_nfs::{mount_wire, portmap_wire, wire};
use nix::errno::Errno;
use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

const SOCKET: &str = "/run/rpcbind.sock";
const PORT: u16 = 111;
const VERSION: u32 = 3;
const SET: u32 = 1;
const UNSET: u32 = 2;
/// It answers from memory.
const PATIENCE: Duration = Duration::from_secs(5);
const ANSWER_BYTES_MAX: usize = 1024;

const PROGRAMS: [(u32, u32); 2] =
    [(wire::PROGRAM, wire::VERSION), (mount_wire::PROGRAM, mount_wire::VERSION)];

/// What is registered; taken back by `unset`.
#[derive(Debug)]
pub struct Registered(Vec<Mapping>);

#[derive(Clone, Debug, PartialEq, Eq)]
struct Mapping {
    program: u32,
    version: u32,
    netid: &'static str,
    /// A universal address: that of the host, then the port's two bytes.
    address: String,
}

/// Registers every program for every kind of address among `listen`.
pub fn register(listen: &[SocketAddr]) -> Result<Registered, Failure> {
    let mappings = mappings(listen);
    let mut registered = Registered(Vec::new());
    for mapping in mappings {
        let taken = match ask(SET, &mapping) {
            Ok(taken) => taken,
            Err(error) => {
                registered.unset();
                return Err(unreachable(&error));
            }
        };
        if !taken {
            registered.unset();
            return Err(refused(&mapping));
        }
        registered.0.push(mapping);
    }
    Ok(registered)
}

impl Registered {
    /// What cannot be taken back is told and left: the daemon ends all the same.
    pub fn unset(&self) {
        for mapping in &self.0 {
            match ask(UNSET, mapping) {
                Ok(true) => {}
                Ok(false) => tracing::warn!(
                    "rpcbind keeps program {} ({}); `rpcinfo -d {} {}` takes it away",
                    mapping.program,
                    mapping.netid,
                    mapping.program,
                    mapping.version
                ),
                Err(error) => tracing::warn!("{}", unreachable(&error)),
            }
        }
    }
}

fn unreachable(error: &io::Error) -> Failure {
    let what = format!(
        "cannot register with rpcbind, which answers neither at {SOCKET} nor on port {PORT} of this \
         machine: start it, or leave portmap out and give clients the port"
    );
    // What a socket with a time limit says when it has passed.
    match error.kind() {
        io::ErrorKind::WouldBlock => Failure::io(what, &Errno::ETIMEDOUT.into()),
        _ => Failure::io(what, error),
    }
}

fn refused(mapping: &Mapping) -> Failure {
    let Mapping { program, version, netid, .. } = mapping;
    Failure::new(
        Errno::EADDRINUSE,
        format!(
            "rpcbind (port {PORT}) refuses to register program {program} version {version} ({netid}): \
             another server has it, or we may not (rpcinfo -p lists; rpcinfo -d {program} {version} \
             takes away what is left of one that is gone)"
        ),
    )
}

/// The first address of each kind. `[::]` takes IPv4 as well.
fn mappings(listen: &[SocketAddr]) -> Vec<Mapping> {
    let v6 = listen.iter().find(|at| at.is_ipv6());
    let v4 = listen.iter().find(|at| at.is_ipv4()).copied().or_else(|| {
        let both = v6.filter(|at| at.ip().is_unspecified())?;
        Some(SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), both.port()))
    });
    let kinds = [("tcp", v4), ("tcp6", v6.copied())];
    let mut mappings = Vec::new();
    for (netid, at) in kinds {
        let Some(at) = at else { continue };
        let [high, low] = at.port().to_be_bytes();
        let address = format!("{}.{high}.{low}", at.ip());
        mappings.extend(PROGRAMS.map(|(program, version)| Mapping {
            program,
            version,
            netid,
            address: address.clone(),
        }));
    }
    mappings
}

trait Stream: Read + Write {}
impl<T: Read + Write> Stream for T {}

fn connect() -> io::Result<Box<dyn Stream>> {
    if let Ok(stream) = UnixStream::connect(Path::new(SOCKET)) {
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        return Ok(Box::new(stream));
    }
    let at = SocketAddr::from((Ipv4Addr::LOCALHOST, PORT));
    let stream = TcpStream::connect_timeout(&at, PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    Ok(Box::new(stream))
}

fn ask(procedure: u32, mapping: &Mapping) -> io::Result<bool> {
    exchange(&mut connect()?, procedure, mapping)
}

/// One call and its answer.
fn exchange(stream: &mut impl Stream, procedure: u32, mapping: &Mapping) -> io::Result<bool> {
    let xid = Xid(std::process::id());
    let call = call(xid, procedure, mapping);
    stream.write_all(&cairn_net::record::single_fragment_mark(call.len()))?;
    stream.write_all(&call)?;
    let mut mark = [0; 4];
    stream.read_exact(&mut mark)?;
    let bytes = (u32::from_be_bytes(mark) & 0x7fff_ffff) as usize;
    let mut answer = vec![0; bytes.min(ANSWER_BYTES_MAX)];
    stream.read_exact(&mut answer)?;
    parse(xid, &answer).map_err(|_| io::Error::other("it answered what is no answer of rpcbind"))
}

fn call(xid: Xid, procedure: u32, mapping: &Mapping) -> Vec<u8> {
    const CALL: u32 = 0;
    const RPC_VERSION: u32 = 2;
    let mut to = Encoder::new();
    for word in [xid.0, CALL, RPC_VERSION, portmap_wire::PROGRAM, VERSION, procedure] {
        to.u32(word);
    }
    // No credential and no verifier.
    for word in [0; 4] {
        to.u32(word);
    }
    to.u32(mapping.program);
    to.u32(mapping.version);
    to.opaque(mapping.netid.as_bytes());
    to.opaque(mapping.address.as_bytes());
    // It fills in the owner itself.
    to.opaque(b"");
    to.parts().0
}

/// The boolean of an accepted answer.
fn parse(xid: Xid, answer: &[u8]) -> Result<bool, XdrError> {
    let mut from = Decoder::new(answer);
    let head = [from.u32()?, from.u32()?, from.u32()?, from.u32()?];
    from.opaque(ANSWER_BYTES_MAX)?;
    let status = from.u32()?;
    // REPLY, MSG_ACCEPTED, any verifier, SUCCESS (RFC 5531, section 9).
    if head[..3] != [xid.0, 1, 0] || status != 0 {
        return Err(XdrError::NotAnOption { found: status });
    }
    from.bool()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(texts: &[&str]) -> Vec<SocketAddr> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    #[test]
    fn each_kind_of_address_is_registered_once_for_each_program() {
        let shown = |listen: &[&str]| -> Vec<(u32, &'static str, String)> {
            let mappings = mappings(&at(listen)).into_iter();
            mappings.map(|m| (m.program, m.netid, m.address)).collect()
        };
        let of = |netid, address: &str| {
            [100_003, 100_005].map(|program| (program, netid, address.to_owned()))
        };
        assert_eq!(shown(&["127.0.0.1:2049"]), of("tcp", "127.0.0.1.8.1"));
        assert_eq!(shown(&["[::1]:2049"]), of("tcp6", "::1.8.1"));
        let both = [of("tcp", "0.0.0.0.8.1"), of("tcp6", "::.8.1")].concat();
        assert_eq!(shown(&["[::]:2049"]), both);
        let both = [of("tcp", "10.0.0.1.8.1"), of("tcp6", "::1.8.2")].concat();
        assert_eq!(shown(&["10.0.0.1:2049", "10.0.0.2:2049", "[::1]:2050"]), both);
    }

    #[test]
    fn a_call_has_the_bytes_of_the_rfc() {
        let mapping = mappings(&at(&["127.0.0.1:2049"])).remove(0);
        #[rustfmt::skip]
        let want = [
            &[0, 0, 0, 9,  0, 0, 0, 0,  0, 0, 0, 2,  0, 1, 0x86, 0xa0,  0, 0, 0, 3,  0, 0, 0, 1][..],
            &[0; 16],
            &[0, 1, 0x86, 0xa3,  0, 0, 0, 3,  0, 0, 0, 3], b"tcp\0",
            &[0, 0, 0, 13], b"127.0.0.1.8.1\0\0\0",
            &[0, 0, 0, 0],
        ];
        assert_eq!(call(Xid(9), SET, &mapping), want.concat());
    }

    #[test]
    fn only_an_accepted_answer_to_our_call_is_believed() {
        let mut answer = [0, 0, 0, 9, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
        let with = |head: &[u8], taken: u8| parse(Xid(9), &[head, &[0, 0, 0, taken]].concat());
        assert_eq!(with(&answer, 1), Ok(true));
        assert_eq!(with(&answer, 0), Ok(false));
        assert!(parse(Xid(9), &answer).is_err());
        answer[3] = 8;
        assert!(with(&answer, 1).is_err());
        answer[3] = 9;
        answer[23] = 1; // PROG_UNAVAIL
        assert!(with(&answer, 1).is_err());
    }

    #[test]
    fn a_call_and_its_answer_go_over_a_socket() {
        let (mut ours, mut theirs) = UnixStream::pair().unwrap();
        let mapping = mappings(&at(&["127.0.0.1:2049"])).remove(0);
        let answering = std::thread::spawn(move || {
            let mut mark = [0; 4];
            theirs.read_exact(&mut mark).unwrap();
            let mut call = vec![0; (u32::from_be_bytes(mark) & 0x7fff_ffff) as usize];
            theirs.read_exact(&mut call).unwrap();
            let answer = [&call[..4], &[0, 0, 0, 1], &[0; 16], &[0, 0, 0, 1]].concat();
            theirs.write_all(&[0x80, 0, 0, 28]).unwrap();
            theirs.write_all(&answer).unwrap();
        });
        assert!(exchange(&mut ours, SET, &mapping).unwrap());
        answering.join().unwrap();
    }
}
