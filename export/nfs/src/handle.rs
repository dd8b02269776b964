//! File handles: what a client holds instead of an inode, and how we know that we made it.
//!
//! A handle names an inode of a pool as seen through one export, and nothing else. There is no state
//! behind it, so it survives restarts, another number of shards and, later, another node. Clients
//! cannot make one up: the last eight bytes are a MAC over the rest, under a key that was made at
//! format. An inode number is never used twice, so there is no generation in it either.
//!
//! The 29 bytes (NFSv3 allows 64, and 32 is what old clients can take):
//!
//! | bytes | what |
//! |---|---|
//! | 1 | version of this layout, 1 |
//! | 8 | the first half of the pool's identity |
//! | 8 | inode number, big endian |
//! | 4 | export id, big endian |
//! | 8 | SipHash-2-4 of the 21 bytes before it |
//!
//! A handle of our shape that names another pool is `Foreign`: its MAC is under a key we do not
//! have, and the usual reason is a pool that was formatted anew under a mounted client. The client
//! must learn that the file is gone (NFS3ERR_STALE), not that its handle is broken. Everything else
//! that we did not make is `Malformed` (NFS3ERR_BADHANDLE).
//!
//! What a handle does not prove is that its holder may use it: that is asked of the export at every
//! use (`server.rs`), and of the inode's mode by the engine.

use crate::export::ExportId;
use cairn_base::hash::siphash64;
use cairn_format::InodeNo;

pub const HANDLE_BYTES: usize = 1 + 8 + 8 + 4 + MAC_BYTES;
pub const FSID_BYTES: usize = 8;

const VERSION: u8 = 1;
const MAC_BYTES: usize = 8;
const SEALED_BYTES: usize = HANDLE_BYTES - MAC_BYTES;

const _: () = assert!(HANDLE_BYTES <= 32);

/// An inode, seen through an export.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FileHandle {
    pub export: ExportId,
    pub ino: InodeNo,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HandleError {
    /// Not one of ours: another shape, or a MAC that is not ours.
    Malformed,
    /// The shape is ours, the pool is not.
    Foreign,
}

/// Makes and reads the handles of one pool.
#[derive(Clone)]
pub struct HandleSeal {
    key: [u8; 16],
    fsid: [u8; FSID_BYTES],
}

impl HandleSeal {
    /// `pool` is the pool's whole identity, of which handles carry the first half.
    pub fn new(key: [u8; 16], pool: [u8; 16]) -> HandleSeal {
        let (fsid, _) = pool.split_first_chunk().expect("8 is less than 16");
        HandleSeal { key, fsid: *fsid }
    }

    /// The pool as attributes name it.
    pub fn fsid(&self) -> u64 {
        u64::from_be_bytes(self.fsid)
    }

    pub fn encode(&self, handle: FileHandle) -> [u8; HANDLE_BYTES] {
        let mut bytes = [0; HANDLE_BYTES];
        let (sealed, mac) = bytes.split_at_mut(SEALED_BYTES);
        sealed[0] = VERSION;
        sealed[1..9].copy_from_slice(&self.fsid);
        sealed[9..17].copy_from_slice(&handle.ino.raw().to_be_bytes());
        sealed[17..].copy_from_slice(&handle.export.0.to_be_bytes());
        mac.copy_from_slice(&self.mac(sealed));
        bytes
    }

    pub fn decode(&self, bytes: &[u8]) -> Result<FileHandle, HandleError> {
        let bytes: &[u8; HANDLE_BYTES] = bytes.try_into().map_err(|_| HandleError::Malformed)?;
        let (sealed, mac) = bytes.split_at(SEALED_BYTES);
        if sealed[0] != VERSION {
            return Err(HandleError::Malformed);
        }
        if sealed[1..9] != self.fsid {
            return Err(HandleError::Foreign);
        }
        if !same(mac, &self.mac(sealed)) {
            return Err(HandleError::Malformed);
        }
        let ino = sealed[9..17].first_chunk().copied().map(u64::from_be_bytes);
        let export = sealed[17..].first_chunk().copied().map(u32::from_be_bytes);
        // The MAC is ours, so both are numbers that `encode` was given.
        match (ino.and_then(InodeNo::from_raw), export) {
            (Some(ino), Some(export)) => Ok(FileHandle { export: ExportId(export), ino }),
            _ => Err(HandleError::Malformed),
        }
    }

    fn mac(&self, sealed: &[u8]) -> [u8; MAC_BYTES] {
        siphash64(&self.key, sealed).to_be_bytes()
    }
}

/// Takes the same time wherever the difference is, so that a MAC cannot be found byte by byte.
fn same(a: &[u8], b: &[u8]) -> bool {
    a.iter().zip(b).fold(0, |difference, (a, b)| difference | (a ^ b)) == 0
}

#[cfg(test)]
mod tests {
    use super::*;
    use cairn_base::prng::Prng;

    const POOL: [u8; 16] = *b"cairn-pool-0001x";

    fn seal() -> HandleSeal {
        HandleSeal::new([7; 16], POOL)
    }

    fn handle(ino: u64, export: u32) -> FileHandle {
        FileHandle { export: ExportId(export), ino: InodeNo::from_raw(ino).unwrap() }
    }

    #[test]
    fn a_handle_gives_back_its_inode_and_export() {
        for (ino, export) in [(1, 0), (u64::MAX, u32::MAX), (0x1234_5678_9abc, 3)] {
            let bytes = seal().encode(handle(ino, export));
            assert_eq!(seal().decode(&bytes), Ok(handle(ino, export)));
        }
    }

    #[test]
    fn the_layout_is_fixed_because_clients_keep_handles_over_restarts() {
        let bytes = seal().encode(handle(0x0102_0304_0506_0708, 0x0a0b_0c0d));
        assert_eq!(bytes[0], 1);
        assert_eq!(&bytes[1..9], b"cairn-po");
        assert_eq!(bytes[9..21], [1, 2, 3, 4, 5, 6, 7, 8, 0x0a, 0x0b, 0x0c, 0x0d]);
        assert_eq!(bytes[21..], siphash64(&[7; 16], &bytes[..21]).to_be_bytes());
    }

    #[test]
    fn any_changed_bit_is_noticed() {
        let good = seal().encode(handle(77, 1));
        for bit in 0..HANDLE_BYTES * 8 {
            let mut forged = good;
            forged[bit / 8] ^= 1 << (bit % 8);
            let want = match bit / 8 {
                1..9 => HandleError::Foreign,
                _ => HandleError::Malformed,
            };
            assert_eq!(seal().decode(&forged), Err(want), "bit {bit}");
        }
    }

    #[test]
    fn a_handle_cut_short_or_drawn_out_is_malformed() {
        let good = seal().encode(handle(77, 1));
        for len in 0..HANDLE_BYTES {
            assert_eq!(seal().decode(&good[..len]), Err(HandleError::Malformed));
        }
        let long = [&good[..], &[0]].concat();
        assert_eq!(seal().decode(&long), Err(HandleError::Malformed));
    }

    #[test]
    fn another_pools_handle_is_foreign_and_another_keys_handle_is_malformed() {
        let foreign = HandleSeal::new([7; 16], *b"other-pool-0001x").encode(handle(77, 1));
        assert_eq!(seal().decode(&foreign), Err(HandleError::Foreign));
        let forged = HandleSeal::new([8; 16], POOL).encode(handle(77, 1));
        assert_eq!(seal().decode(&forged), Err(HandleError::Malformed));
    }

    #[test]
    fn rubbish_is_never_a_handle() {
        let mut prng = Prng::new(3);
        for _ in 0..10_000 {
            let mut bytes = [0; 64];
            bytes.fill_with(|| prng.next_u64() as u8);
            let len = prng.below(65) as usize;
            assert!(seal().decode(&bytes[..len]).is_err());
        }
    }
}
