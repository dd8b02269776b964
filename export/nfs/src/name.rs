//! Names from the wire, and what `.` and `..` mean in each place.
//!
//! The engine knows no dots: every directory has them and none stores them. LOOKUP resolves them
//! (`proc/lookup.rs`). Where a name is to be made they exist already (EXIST). Where one is to go, `.`
//! and `..` are refused the way RFC 1813 words it for RMDIR and RENAME (sections 3.3.13 and 3.3.14).

use crate::status::nfs_stat;
use crate::wire::NfsStat;
use cairn_engine::Name;

/// For CREATE, MKDIR, SYMLINK, MKNOD and LINK.
pub fn new_name(raw: &[u8]) -> Result<Name, NfsStat> {
    match raw {
        b"." | b".." => Err(NfsStat::Exist),
        _ => Name::parse(raw).map_err(nfs_stat),
    }
}

/// For RMDIR.
pub fn directory_name(raw: &[u8]) -> Result<Name, NfsStat> {
    match raw {
        b"." => Err(NfsStat::Inval),
        b".." => Err(NfsStat::Exist),
        _ => Name::parse(raw).map_err(nfs_stat),
    }
}

/// For REMOVE and both names of RENAME.
pub fn plain_name(raw: &[u8]) -> Result<Name, NfsStat> {
    Name::parse(raw).map_err(nfs_stat)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dots_exist_where_a_name_is_to_be_made_and_cannot_go() {
        for dots in [&b"."[..], b".."] {
            assert_eq!(new_name(dots), Err(NfsStat::Exist));
            assert_eq!(plain_name(dots), Err(NfsStat::Inval));
        }
        assert_eq!(directory_name(b"."), Err(NfsStat::Inval));
        assert_eq!(directory_name(b".."), Err(NfsStat::Exist));
        assert!(new_name(b"...").is_ok());
    }

    #[test]
    fn what_no_name_can_be_is_refused_everywhere() {
        for parse in [new_name, directory_name, plain_name] {
            assert_eq!(parse(b""), Err(NfsStat::Inval));
            assert_eq!(parse(b"a/b"), Err(NfsStat::Inval));
            assert_eq!(parse(b"a\0"), Err(NfsStat::Inval));
            assert_eq!(parse(&[b'x'; 256]), Err(NfsStat::NameTooLong));
            assert!(parse(&[b'x'; 255]).is_ok());
        }
    }
}
