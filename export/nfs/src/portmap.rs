//! The port mapper's answers: every program we have is at the port the question came to.
//!
//! Clients that can be told both ports never ask. The others find us only where we are reached at
//! port 111, or through a port mapper of the machine that we were registered with.

use crate::portmap_wire::{Mapping, TCP, encode_mappings, encode_port};
use crate::{mount_wire, portmap_wire, wire};
use cairn_net::xdr::Encoder;

const PROGRAMS: [(u32, u32); 3] = [
    (portmap_wire::PROGRAM, portmap_wire::VERSION),
    (wire::PROGRAM, wire::VERSION),
    (mount_wire::PROGRAM, mount_wire::VERSION),
];

/// Another version of a program we have is at our port too: there its client learns which versions
/// there are (RFC 1833, section 3.2).
pub fn getport(port: u16, wanted: Mapping, to: &mut Encoder) {
    let here =
        wanted.protocol == TCP && PROGRAMS.iter().any(|(program, _)| *program == wanted.program);
    encode_port(to, here.then_some(port));
}

pub fn dump(port: u16, to: &mut Encoder) {
    let mapping =
        |(program, version)| Mapping { program, version, protocol: TCP, port: port.into() };
    encode_mappings(to, PROGRAMS.map(mapping));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn port_of(program: u32, version: u32, protocol: u32) -> Vec<u8> {
        let mut to = Encoder::new();
        getport(2049, Mapping { program, version, protocol, port: 0 }, &mut to);
        to.parts().0
    }

    #[test]
    fn our_programs_are_here_over_tcp_only() {
        for program in [100_000, 100_003, 100_005] {
            assert_eq!(port_of(program, 3, 6), [0, 0, 8, 1]);
            assert_eq!(port_of(program, 3, 17), [0; 4]);
        }
        assert_eq!(port_of(100_227, 3, 6), [0; 4]);
    }

    #[test]
    fn dump_lists_the_three_programs() {
        let mut to = Encoder::new();
        dump(2049, &mut to);
        let bytes = to.parts().0;
        assert_eq!(bytes.len(), 3 * 20 + 4);
        #[rustfmt::skip]
        let nfs = [0, 0, 0, 1,  0, 1, 0x86, 0xa3,  0, 0, 0, 3,  0, 0, 0, 6,  0, 0, 8, 1];
        assert_eq!(bytes[20..40], nfs);
        assert_eq!(bytes[60..], [0; 4]);
    }
}
