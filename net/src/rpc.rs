//! ONC RPC version 2 (RFC 5531): the head of a call, and the heads of all the answers it can get.
//!
//! A call whose head cannot be read has no xid to answer to: the connection is closed. A head that
//! can be read but not accepted (wrong RPC version, a credential we do not take) is denied, and the
//! connection lives on. What follows the head belongs to the program and is left to it, undecoded.
//!
//! The credential is copied out: it is small, and the call's arguments outlive the borrow of its
//! head. The machine name inside is checked and dropped; nothing trusts it. AUTH_SYS is a claim, not
//! a proof: which clients may make it is for the exports to say.

use crate::xdr::{Decoder, Encoder, XdrError};

/// Ties an answer to its call; the caller chose it, and it means nothing else.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Xid(pub u32);

const RPC_VERSION: u32 = 2;

// msg_type, reply_stat and reject_stat (RFC 5531, section 9).
const CALL: u32 = 0;
const REPLY: u32 = 1;
const MSG_ACCEPTED: u32 = 0;
const MSG_DENIED: u32 = 1;
const RPC_MISMATCH: u32 = 0;
const AUTH_ERROR: u32 = 1;

// auth_flavor (RFC 5531, section 8.2).
pub const AUTH_NONE: u32 = 0;
pub const AUTH_SYS: u32 = 1;

/// The body of a credential or a verifier (RFC 5531, section 8.2).
const AUTH_BYTES_MAX: usize = 400;
/// RFC 5531, appendix A.
const MACHINE_NAME_BYTES_MAX: usize = 255;
const GROUPS_MAX: usize = 16;

/// xid, message type, accepted, an empty verifier, accept_stat.
const ACCEPTED_HEAD_BYTES: usize = 24;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CallHeader {
    pub xid: Xid,
    pub program: u32,
    pub version: u32,
    pub procedure: u32,
    pub credential: Credential,
}

/// Who the caller says it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Credential {
    None,
    Sys(AuthSys),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AuthSys {
    pub stamp: u32,
    pub uid: u32,
    pub gid: u32,
    groups: [u32; GROUPS_MAX],
    group_count: usize,
}

impl AuthSys {
    /// The supplementary groups, at most 16, as sent.
    pub fn groups(&self) -> &[u32] {
        &self.groups[..self.group_count]
    }

    fn decode(body: &[u8]) -> Result<Self, XdrError> {
        let mut body = Decoder::new(body);
        let stamp = body.u32()?;
        body.opaque(MACHINE_NAME_BYTES_MAX)?;
        let uid = body.u32()?;
        let gid = body.u32()?;
        let mut groups = [0; GROUPS_MAX];
        let group_count = body.count(GROUPS_MAX)?;
        for group in &mut groups[..group_count] {
            *group = body.u32()?;
        }
        Ok(AuthSys { stamp, uid, gid, groups, group_count })
    }
}

/// Why a record is not a call we can pass on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RpcError {
    /// Not the head of a call: nobody can be answered.
    NotACall,
    /// To be answered with `deny`.
    Denied { xid: Xid, denial: Denial },
}

/// Answers to a call that is not let in at all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Denial {
    RpcMismatch,
    BadCredential,
    BadVerifier,
    TooWeak,
}

/// Answers to a call that came in, but was not carried out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    ProgramUnavailable,
    ProgramMismatch { low: u32, high: u32 },
    ProcedureUnavailable,
    GarbageArguments,
    SystemError,
}

/// Reads the head of a call; the decoder stands at its arguments.
pub fn decode_call(record: &[u8]) -> Result<(CallHeader, Decoder<'_>), RpcError> {
    let mut decoder = Decoder::new(record);
    let (xid, message) = xid_and_type(&mut decoder).map_err(|_| RpcError::NotACall)?;
    if message != CALL {
        return Err(RpcError::NotACall);
    }
    let denied = |denial| RpcError::Denied { xid, denial };
    let version = decoder.u32().map_err(|_| RpcError::NotACall)?;
    if version != RPC_VERSION {
        return Err(denied(Denial::RpcMismatch));
    }
    let [program, version, procedure] = three(&mut decoder).map_err(|_| RpcError::NotACall)?;
    let credential = credential(&mut decoder).map_err(|_| denied(Denial::BadCredential))?;
    verifier(&mut decoder).map_err(|_| denied(Denial::BadVerifier))?;
    Ok((CallHeader { xid, program, version, procedure, credential }, decoder))
}

/// The head of an answer whose results follow.
pub fn success(xid: Xid) -> Encoder {
    const SUCCESS: u32 = 0;
    accepted(xid, SUCCESS)
}

pub fn refuse(xid: Xid, refusal: Refusal) -> Encoder {
    // accept_stat (RFC 5531, section 9).
    match refusal {
        Refusal::ProgramUnavailable => accepted(xid, 1),
        Refusal::ProgramMismatch { low, high } => {
            let mut encoder = accepted(xid, 2);
            encoder.u32(low);
            encoder.u32(high);
            encoder
        }
        Refusal::ProcedureUnavailable => accepted(xid, 3),
        Refusal::GarbageArguments => accepted(xid, 4),
        Refusal::SystemError => accepted(xid, 5),
    }
}

pub fn deny(xid: Xid, denial: Denial) -> Encoder {
    let mut encoder = Encoder::with_capacity(ACCEPTED_HEAD_BYTES);
    encoder.u32(xid.0);
    encoder.u32(REPLY);
    encoder.u32(MSG_DENIED);
    // auth_stat (RFC 5531, section 9).
    let auth_stat = match denial {
        Denial::RpcMismatch => {
            encoder.u32(RPC_MISMATCH);
            encoder.u32(RPC_VERSION);
            encoder.u32(RPC_VERSION);
            return encoder;
        }
        Denial::BadCredential => 1,
        Denial::BadVerifier => 3,
        Denial::TooWeak => 5,
    };
    encoder.u32(AUTH_ERROR);
    encoder.u32(auth_stat);
    encoder
}

fn accepted(xid: Xid, accept_stat: u32) -> Encoder {
    // Attributes and a handle fit behind the head without growing.
    let mut encoder = Encoder::with_capacity(ACCEPTED_HEAD_BYTES + 256);
    encoder.u32(xid.0);
    encoder.u32(REPLY);
    encoder.u32(MSG_ACCEPTED);
    encoder.u32(AUTH_NONE);
    encoder.opaque(&[]);
    encoder.u32(accept_stat);
    encoder
}

fn xid_and_type(decoder: &mut Decoder<'_>) -> Result<(Xid, u32), XdrError> {
    Ok((Xid(decoder.u32()?), decoder.u32()?))
}

fn three(decoder: &mut Decoder<'_>) -> Result<[u32; 3], XdrError> {
    Ok([decoder.u32()?, decoder.u32()?, decoder.u32()?])
}

fn credential(decoder: &mut Decoder<'_>) -> Result<Credential, XdrError> {
    let flavor = decoder.u32()?;
    let body = decoder.opaque(AUTH_BYTES_MAX)?;
    match flavor {
        AUTH_NONE => Ok(Credential::None),
        AUTH_SYS => AuthSys::decode(body).map(Credential::Sys),
        found => Err(XdrError::NotAnOption { found }),
    }
}

/// Neither flavor we take puts anything into its verifier, so only its bounds matter.
fn verifier(decoder: &mut Decoder<'_>) -> Result<(), XdrError> {
    decoder.u32()?;
    decoder.opaque(AUTH_BYTES_MAX)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use cairn_base::prng::Prng;

    /// xid 0x11223344, NFS (100003) version 3 procedure 1, AUTH_SYS "abc" 1000:100 [4, 24], one
    /// argument word 0xdeadbeef; written out from RFC 5531.
    #[rustfmt::skip]
    const CALL_BYTES: [u8; 84] = [
        0x11, 0x22, 0x33, 0x44,  0, 0, 0, 0,  0, 0, 0, 2,
        0, 1, 0x86, 0xa3,  0, 0, 0, 3,  0, 0, 0, 1,
        0, 0, 0, 1,  0, 0, 0, 36,
            0, 0, 0, 9,  0, 0, 0, 3,  b'a', b'b', b'c', 0,
            0, 0, 3, 0xe8,  0, 0, 0, 100,
            0, 0, 0, 2,  0, 0, 0, 4,  0, 0, 0, 24,
            0, 0, 0, 77, // behind the body's last field: ignored
        0, 0, 0, 0,  0, 0, 0, 0,
        0xde, 0xad, 0xbe, 0xef, 0, 0, 0, 0,
    ];

    fn bytes(encoder: Encoder) -> Vec<u8> {
        encoder.parts().0
    }

    #[test]
    fn a_call_is_read_up_to_its_arguments() {
        let (header, mut args) = decode_call(&CALL_BYTES).unwrap();
        assert_eq!(header.xid, Xid(0x1122_3344));
        assert_eq!((header.program, header.version, header.procedure), (100_003, 3, 1));
        let Credential::Sys(sys) = header.credential else { panic!("AUTH_SYS") };
        assert_eq!((sys.stamp, sys.uid, sys.gid), (9, 1000, 100));
        assert_eq!(sys.groups(), [4, 24]);
        assert_eq!(args.u32(), Ok(0xdead_beef));
        assert_eq!(args.remaining(), 4);
    }

    #[test]
    fn auth_none_is_a_credential() {
        let call = [&CALL_BYTES[..24], &[0; 16]].concat();
        let (header, args) = decode_call(&call).unwrap();
        assert_eq!(header.credential, Credential::None);
        assert_eq!(args.finish(), Ok(()));
    }

    #[test]
    fn a_cut_head_is_nobodys_call_and_a_cut_credential_is_denied() {
        for cut in 0..CALL_BYTES.len() - 8 {
            let got = decode_call(&CALL_BYTES[..cut]).map(|_| ()).unwrap_err();
            let xid = Xid(0x1122_3344);
            let want = match cut {
                0..24 => RpcError::NotACall,
                24..68 => RpcError::Denied { xid, denial: Denial::BadCredential },
                _ => RpcError::Denied { xid, denial: Denial::BadVerifier },
            };
            assert_eq!(got, want, "cut at {cut}");
        }
    }

    #[test]
    fn what_is_not_a_call_of_version_2_is_told_apart() {
        let mut reply = CALL_BYTES;
        reply[7] = 1;
        assert_eq!(decode_call(&reply).unwrap_err(), RpcError::NotACall);
        let mut old = CALL_BYTES;
        old[11] = 1;
        assert_eq!(
            decode_call(&old).unwrap_err(),
            RpcError::Denied { xid: Xid(0x1122_3344), denial: Denial::RpcMismatch }
        );
    }

    #[test]
    fn seventeen_groups_a_long_machine_name_or_a_foreign_flavor_are_a_bad_credential() {
        let denied = Err(RpcError::Denied { xid: Xid(0x1122_3344), denial: Denial::BadCredential });
        let credential = |flavor: u32, body: &[u8]| {
            let mut encoder = Encoder::new();
            encoder.u32(flavor);
            encoder.opaque(body);
            encoder.u32(AUTH_NONE);
            encoder.opaque(&[]);
            let call = [&CALL_BYTES[..24], &bytes(encoder)].concat();
            decode_call(&call).map(|(header, _)| header.credential)
        };
        let sys = |name: usize, groups: usize| {
            let mut encoder = Encoder::new();
            encoder.u32(0);
            encoder.opaque(&vec![b'm'; name]);
            encoder.u32(0);
            encoder.u32(0);
            encoder.counted(&vec![5; groups], |e, group| e.u32(*group));
            bytes(encoder)
        };
        let Ok(Credential::Sys(most)) = credential(AUTH_SYS, &sys(255, 16)) else {
            panic!("the largest credential is taken")
        };
        assert_eq!(most.groups(), [5; 16]);
        assert_eq!(credential(AUTH_SYS, &sys(1, 17)), denied);
        assert_eq!(credential(AUTH_SYS, &sys(256, 0)), denied);
        assert_eq!(credential(AUTH_SYS, &[]), denied);
        assert_eq!(credential(AUTH_NONE, &[0; 404]), denied);
        for flavor in [2, 3, 6, 7, u32::MAX] {
            assert_eq!(credential(flavor, &[]), denied);
        }
    }

    #[test]
    fn answers_have_the_bytes_of_the_rfc() {
        let xid = Xid(7);
        let accepted = |stat: u8| {
            let mut want = vec![0, 0, 0, 7, 0, 0, 0, 1, 0, 0, 0, 0];
            want.extend([0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, stat]);
            want
        };
        assert_eq!(bytes(success(xid)), accepted(0));
        assert_eq!(bytes(success(xid)).len(), ACCEPTED_HEAD_BYTES);
        assert_eq!(bytes(refuse(xid, Refusal::ProgramUnavailable)), accepted(1));
        let mut mismatch = accepted(2);
        mismatch.extend([0, 0, 0, 3, 0, 0, 0, 4]);
        assert_eq!(bytes(refuse(xid, Refusal::ProgramMismatch { low: 3, high: 4 })), mismatch);
        assert_eq!(bytes(refuse(xid, Refusal::ProcedureUnavailable)), accepted(3));
        assert_eq!(bytes(refuse(xid, Refusal::GarbageArguments)), accepted(4));
        assert_eq!(bytes(refuse(xid, Refusal::SystemError)), accepted(5));
        let denied = |tail: &[u8]| [&[0, 0, 0, 7, 0, 0, 0, 1, 0, 0, 0, 1][..], tail].concat();
        assert_eq!(
            bytes(deny(xid, Denial::RpcMismatch)),
            denied(&[0, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 2])
        );
        assert_eq!(bytes(deny(xid, Denial::BadCredential)), denied(&[0, 0, 0, 1, 0, 0, 0, 1]));
        assert_eq!(bytes(deny(xid, Denial::BadVerifier)), denied(&[0, 0, 0, 1, 0, 0, 0, 3]));
        assert_eq!(bytes(deny(xid, Denial::TooWeak)), denied(&[0, 0, 0, 1, 0, 0, 0, 5]));
    }

    #[test]
    fn mutated_calls_are_taken_or_refused_and_nothing_else_happens() {
        let mut prng = Prng::new(5531);
        let mut taken = 0;
        for _ in 0..100_000 {
            let mut call = CALL_BYTES.to_vec();
            for _ in 0..1 + prng.below(4) {
                let at = prng.below(call.len() as u64) as usize;
                call[at] = prng.next_u64() as u8;
            }
            call.truncate(call.len() - prng.below(12) as usize);
            if let Ok((header, args)) = decode_call(&call) {
                taken += 1;
                assert!(args.remaining() < call.len() - 24);
                if let Credential::Sys(sys) = header.credential {
                    assert!(sys.groups().len() <= GROUPS_MAX);
                }
            }
        }
        assert!((1..100_000).contains(&taken), "{taken} of the mutations were harmless");
    }
}
