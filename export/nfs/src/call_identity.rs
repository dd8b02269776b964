//! By what a repeated call is recognised.
//!
//! A keyed hash over the client's address (not its port: a new connection has another one), the xid,
//! the procedure, who asks, and the arguments. The xid alone is not enough, as clients behind one
//! address choose theirs independently. The hash is keyed so that nobody can make two calls look like
//! one. What is remembered under it, and where, is the engine's matter (`engine/src/once.rs`).

use cairn_base::hash::siphash128;
use cairn_engine::CallKey;
use cairn_net::rpc::Xid;
use smallvec::SmallVec;
use std::net::{IpAddr, Ipv6Addr};

/// What makes two calls the same call.
pub struct CallIdentity<'a> {
    pub client: IpAddr,
    pub xid: Xid,
    pub procedure: u32,
    pub uid: u32,
    pub args: &'a [u8],
}

/// A client's address in one form, however its connection shows it.
pub fn one_form(client: IpAddr) -> Ipv6Addr {
    match client.to_canonical() {
        IpAddr::V4(address) => address.to_ipv6_mapped(),
        IpAddr::V6(address) => address,
    }
}

impl CallIdentity<'_> {
    pub fn key(&self, secret: &[u8; 16]) -> CallKey {
        let mut bytes = SmallVec::<[u8; 256]>::new();
        bytes.extend_from_slice(&one_form(self.client).octets());
        bytes.extend_from_slice(&self.xid.0.to_be_bytes());
        bytes.extend_from_slice(&self.procedure.to_be_bytes());
        bytes.extend_from_slice(&self.uid.to_be_bytes());
        bytes.extend_from_slice(self.args);
        CallKey(siphash128(secret, &bytes))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_part_of_a_calls_identity_tells_calls_apart_but_the_form_of_the_address_does_not() {
        let of = |client: &str, xid, procedure, uid, args| {
            let client = client.parse().unwrap();
            CallIdentity { client, xid: Xid(xid), procedure, uid, args }.key(&[1; 16])
        };
        let call = of("127.0.0.1", 1, 8, 0, b"args");
        assert_eq!(of("::ffff:127.0.0.1", 1, 8, 0, b"args"), call);
        assert_ne!(of("127.0.0.2", 1, 8, 0, b"args"), call);
        assert_ne!(of("127.0.0.1", 2, 8, 0, b"args"), call);
        assert_ne!(of("127.0.0.1", 1, 9, 0, b"args"), call);
        assert_ne!(of("127.0.0.1", 1, 8, 1, b"args"), call);
        assert_ne!(of("127.0.0.1", 1, 8, 0, b"arg"), call);
    }
}
