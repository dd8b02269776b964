//! RPC calls and replies (RFC 5531), with AUTH_SYS as root, and the record marks of TCP.
//!
//! An xid names the slot of its connection in the low bits, so a reply finds its waiter by an index.
//! The bits above count the calls of that slot: a reply to an earlier call does not pass for the
//! answer to this one.

use crate::xdr::{Decoder, Encoder};
use anyhow::{Result, bail, ensure};

pub const NFS: Program = Program { number: 100_003, version: 3 };
pub const MOUNT: Program = Program { number: 100_005, version: 3 };
pub const PORTMAP: Program = Program { number: 100_000, version: 2 };

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Program {
    pub number: u32,
    pub version: u32,
}

/// Set in a record mark when the record ends with this fragment (RFC 5531 section 11).
pub const LAST_FRAGMENT: u32 = 1 << 31;
pub const MARK_BYTES: usize = 4;

const SLOT_BITS: u32 = 12;
/// How many calls one connection can have open.
pub const SLOTS_MAX: usize = 1 << SLOT_BITS;

pub fn xid(slot: usize, call_count: u32) -> u32 {
    let slot = u32::try_from(slot).expect("slots are few");
    (call_count << SLOT_BITS) | slot
}

pub fn slot_of(xid: u32) -> usize {
    usize::try_from(xid).expect("usize has 32 bits") & (SLOTS_MAX - 1)
}

const AUTH_SYS: u32 = 1;

/// The call's header; the record mark is put before it when the length is known.
pub fn encode_call(out: &mut Vec<u8>, xid: u32, program: Program, procedure: u32) {
    let mut call = Encoder::new(out);
    call.u32(xid).u32(0).u32(2).u32(program.number).u32(program.version).u32(procedure);
    // stamp, machine name, uid, gid, no further groups
    call.u32(AUTH_SYS).u32(32).u32(0).opaque(b"cairn-bench").u32(0).u32(0).u32(0);
    call.u32(0).u32(0);
}

/// Leaves the decoder at the procedure's results.
pub fn decode_reply(reply: &mut Decoder<'_>) -> Result<()> {
    reply.u32()?; // the xid, which led us here
    ensure!(reply.u32()? == 1, "the server sent a call");
    if reply.u32()? != 0 {
        bail!("the server denies the call (RPC version or credentials)");
    }
    reply.u32()?;
    reply.opaque(400)?;
    match reply.u32()? {
        0 => Ok(()),
        1 => bail!("the server does not have this RPC program (PROG_UNAVAIL)"),
        2 => bail!("the server does not have this version of the program (PROG_MISMATCH)"),
        3 => bail!("the server does not have this procedure (PROC_UNAVAIL)"),
        4 => bail!("the server cannot decode our arguments (GARBAGE_ARGS)"),
        other => bail!("the server answers with RPC accept status {other}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_xid_leads_back_to_its_slot_and_differs_between_calls() {
        assert_eq!(slot_of(xid(5, 1)), 5);
        assert_eq!(slot_of(xid(SLOTS_MAX - 1, u32::MAX)), SLOTS_MAX - 1);
        assert_ne!(xid(5, 1), xid(5, 2));
    }

    #[test]
    fn a_refused_call_is_an_error_that_says_why() {
        let denied = [0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0, 1];
        assert!(decode_reply(&mut Decoder::new(&denied)).is_err());
        let mut unavailable = vec![];
        Encoder::new(&mut unavailable).u32(1).u32(1).u32(0).u32(0).u32(0).u32(1);
        let error = decode_reply(&mut Decoder::new(&unavailable)).expect_err("no such program");
        assert!(error.to_string().contains("PROG_UNAVAIL"));
    }
}
