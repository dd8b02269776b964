//! From the credential of a call to whom it acts for, under an export's squash rule.
//!
//! AUTH_SYS is believed as far as the export believes its clients: `Root` keeps a client's
//! administrator from being ours, `All` makes everybody the anonymous user. A call without a
//! credential is anonymous under every rule.
//!
//! Squashing root replaces id 0 wherever it stands: as user, as group, and among the supplementary
//! groups, since a group of 0 opens doors just as well.

use cairn_net::rpc::Credential;
use smallvec::SmallVec;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Squash {
    None,
    #[default]
    Root,
    All,
}

/// Whom squashed callers become.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Anonymous {
    pub uid: u32,
    pub gid: u32,
}

impl Anonymous {
    /// The ids of "nobody" and "nogroup" on the usual client.
    pub const NOBODY: Anonymous = Anonymous { uid: 65534, gid: 65534 };
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    pub uid: u32,
    pub gid: u32,
    pub groups: SmallVec<[u32; 16]>,
}

pub fn identity(credential: &Credential, squash: Squash, anonymous: Anonymous) -> Identity {
    let root = squash == Squash::Root;
    match credential {
        Credential::Sys(sys) if squash != Squash::All => {
            let uid = if root && sys.uid == 0 { anonymous.uid } else { sys.uid };
            let group = |gid: u32| if root && gid == 0 { anonymous.gid } else { gid };
            let groups = sys.groups().iter().map(|gid| group(*gid)).collect();
            Identity { uid, gid: group(sys.gid), groups }
        }
        Credential::Sys(_) | Credential::None => {
            Identity { uid: anonymous.uid, gid: anonymous.gid, groups: SmallVec::new() }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use cairn_net::rpc::decode_call;
    use cairn_net::xdr::Encoder;

    fn sys(uid: u32, gid: u32, groups: &[u32]) -> Credential {
        let mut body = Encoder::new();
        body.u32(0);
        body.opaque(b"client");
        body.u32(uid);
        body.u32(gid);
        body.counted(groups, |to, group| to.u32(*group));
        let mut call = Encoder::new();
        for word in [1, 0, 2, crate::wire::PROGRAM, crate::wire::VERSION, 0, 1] {
            call.u32(word);
        }
        call.opaque(&body.parts().0);
        call.u32(0);
        call.opaque(&[]);
        let record = call.parts().0;
        decode_call(&record).expect("a well-formed call").0.credential
    }

    fn who(credential: &Credential, squash: Squash) -> (u32, u32, Vec<u32>) {
        let got = identity(credential, squash, Anonymous { uid: 90, gid: 91 });
        (got.uid, got.gid, got.groups.to_vec())
    }

    #[test]
    fn root_squash_replaces_zero_wherever_it_stands_and_nothing_else() {
        assert_eq!(who(&sys(0, 0, &[0, 7]), Squash::Root), (90, 91, vec![91, 7]));
        assert_eq!(who(&sys(5, 0, &[]), Squash::Root), (5, 91, vec![]));
        assert_eq!(who(&sys(5, 6, &[7]), Squash::Root), (5, 6, vec![7]));
    }

    #[test]
    fn no_squash_believes_root_and_all_believes_nobody() {
        assert_eq!(who(&sys(0, 0, &[0]), Squash::None), (0, 0, vec![0]));
        assert_eq!(who(&sys(5, 6, &[7]), Squash::All), (90, 91, vec![]));
    }

    #[test]
    fn a_call_without_a_credential_is_anonymous_even_where_root_is_root() {
        assert_eq!(who(&Credential::None, Squash::None), (90, 91, vec![]));
    }
}
