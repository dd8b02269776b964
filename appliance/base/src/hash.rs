//! The hashes of the tree: each is a well-kept crate's, named here once with what it is used for.

use std::hash::{BuildHasherDefault, Hasher};

/// CRC-32C (Castagnoli), of data blocks and of self-describing blocks.
pub fn crc32c(bytes: &[u8]) -> u32 {
    crc_fast::checksum(crc_fast::CrcAlgorithm::Crc32Iscsi, bytes) as u32
}

/// What a CRC-32C adds to that of a longer piece when so many bytes follow: the checksum of pieces side by
/// side is the XOR of each one's, shifted by what follows it.
pub fn crc32c_shifted(crc: u32, followed_by: u64) -> u32 {
    let algorithm = crc_fast::CrcAlgorithm::Crc32Iscsi;
    crc_fast::checksum_combine(algorithm, u64::from(crc), 0, followed_by) as u32
}

/// XXH3-64, of tree nodes as their parents name them.
pub fn xxh3(bytes: &[u8]) -> u64 {
    twox_hash::XxHash3_64::oneshot(bytes)
}

/// SipHash-2-4 with 128 bits out: keyed, so that nobody can choose colliding names.
pub fn siphash128(key: &[u8; 16], bytes: &[u8]) -> u128 {
    siphasher::sip128::SipHasher24::new_with_key(key).hash(bytes).as_u128()
}

/// SipHash-2-4 with 64 bits out: the MAC of file handles.
pub fn siphash64(key: &[u8; 16], bytes: &[u8]) -> u64 {
    siphasher::sip::SipHasher24::new_with_key(key).hash(bytes)
}

/// A hash map whose order of iteration is the same in every run. Keys from outside do not go in
/// here unkeyed: they are numbers we made.
pub type Map<K, V> = std::collections::HashMap<K, V, BuildHasherDefault<FixedHasher>>;
pub type Set<K> = std::collections::HashSet<K, BuildHasherDefault<FixedHasher>>;

/// FxHash-like mixing with a final avalanche: our keys are counters and block numbers.
#[derive(Clone, Default)]
pub struct FixedHasher(u64);

impl Hasher for FixedHasher {
    fn write(&mut self, bytes: &[u8]) {
        for chunk in bytes.chunks(8) {
            let mut word = [0; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            self.write_u64(u64::from_le_bytes(word));
        }
    }

    fn write_u8(&mut self, n: u8) {
        self.write_u64(u64::from(n));
    }

    fn write_u16(&mut self, n: u16) {
        self.write_u64(u64::from(n));
    }

    fn write_u32(&mut self, n: u32) {
        self.write_u64(u64::from(n));
    }

    fn write_usize(&mut self, n: usize) {
        self.write_u64(n as u64);
    }

    fn write_u64(&mut self, n: u64) {
        self.0 = (self.0.rotate_left(5) ^ n).wrapping_mul(0x517c_c1b7_2722_0a95);
    }

    fn finish(&self) -> u64 {
        let z = (self.0 ^ (self.0 >> 32)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        z ^ (z >> 29)
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn crc32c_of_the_rfc_3720_vector() {
        assert_eq!(super::crc32c(&[0; 32]), 0x8a91_36aa);
        assert_eq!(super::crc32c(b"123456789"), 0xe306_9283);
    }

    #[test]
    fn pieces_side_by_side_have_the_sum_of_their_shifted_checksums() {
        let bytes: Vec<u8> = (0..9000u32).map(|n| (n * 7 + n / 251) as u8).collect();
        let (head, tail) = bytes.split_at(4096);
        let sum = super::crc32c_shifted(super::crc32c(head), tail.len() as u64);
        assert_eq!(sum ^ super::crc32c(tail), super::crc32c(&bytes));
    }
}
