//! Thousands of connections that are there and do next to nothing: each from one of many addresses of
//! this machine, each stopped at another place of a record. Those that the server closes come back.

use super::Run;
use crate::clock::pause;
use crate::raw::{self, LAST};
use crate::stream::connect_from;
use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::sync::atomic::Ordering;
use std::time::Duration;

/// From one address; below what the server allows, so that it is their sum that counts.
const FROM_ONE_ADDRESS: usize = 50;
/// New connections between two looks at the others.
const NEW_AT_ONCE: usize = 200;
const LOOK_EVERY: Duration = Duration::from_millis(20);

pub fn hold(run: &Run, connections: usize) {
    let mut places: Vec<Option<TcpStream>> = (0..connections).map(|_| None).collect();
    let mut dice = fastrand::Rng::with_seed(run.seed);
    let mut next = 0;
    while !run.is_over() {
        for _ in 0..NEW_AT_ONCE.min(connections) {
            if run.is_over() {
                break;
            }
            let place = &mut places[next % connections];
            match place {
                None => *place = open(run, next % connections, &mut dice),
                Some(stream) => {
                    if !lives(stream, &mut dice) {
                        run.crowd_closed_by_server.fetch_add(1, Ordering::Relaxed);
                        *place = None;
                    }
                }
            }
            next += 1;
        }
        let open = places.iter().flatten().count() as u64;
        run.crowd_open.store(open, Ordering::Relaxed);
        pause(LOOK_EVERY);
    }
}

fn open(run: &Run, nth: usize, dice: &mut fastrand::Rng) -> Option<TcpStream> {
    let address = 1 + u32::try_from(nth / FROM_ONE_ADDRESS).ok()?;
    let from = Ipv4Addr::from_bits(Ipv4Addr::new(127, 0, 1, 0).to_bits() + address);
    let mut stream = connect_from(run.server.nfs, Some(SocketAddr::from((from, 0)))).ok()?;
    stream.set_nonblocking(true).ok()?;
    let call = raw::bytes_of(&raw::call(7, raw::NFS, 3, 0, &[]));
    let mark = (LAST | call.len() as u32).to_be_bytes();
    let huge = (LAST | (1 << 20)).to_be_bytes();
    // Four of eight say nothing at all, as clients with nothing to do.
    let begun: Vec<u8> = match nth % 8 {
        0 => mark[..2].to_vec(),
        1 => [&mark[..], &call[..dice.usize(0..call.len())]].concat(),
        2 => [&huge[..], &vec![0; dice.usize(0..4096)]].concat(),
        3 => [&mark[..], &call].concat(),
        _ => Vec::new(),
    };
    // The server may have closed it already.
    let _ = stream.write_all(&begun);
    Some(stream)
}

/// Looks whether it is still open; one in a while gets another byte.
fn lives(stream: &mut TcpStream, dice: &mut fastrand::Rng) -> bool {
    if dice.u32(0..50) == 0 && stream.write_all(&[0]).is_err() {
        return false;
    }
    match stream.read(&mut [0; 256]) {
        Ok(0) => false,
        Ok(_) => true,
        Err(error) => error.kind() == ErrorKind::WouldBlock,
    }
}
