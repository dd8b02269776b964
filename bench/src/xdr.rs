//! The little XDR that an NFS client needs (RFC 4506), written for it alone.
//!
//! The load generator judges servers, ours among them, so it does not use the codec of the server:
//! a misreading that both shared would cancel out. It is also the reason why reading is checked at
//! every step and writing is not.

use anyhow::{Context, Result, ensure};

/// Appends to a call that is being built.
pub struct Encoder<'a> {
    out: &'a mut Vec<u8>,
}

impl<'a> Encoder<'a> {
    pub fn new(out: &'a mut Vec<u8>) -> Encoder<'a> {
        Encoder { out }
    }

    pub fn u32(&mut self, value: u32) -> &mut Self {
        self.out.extend_from_slice(&value.to_be_bytes());
        self
    }

    pub fn u64(&mut self, value: u64) -> &mut Self {
        self.out.extend_from_slice(&value.to_be_bytes());
        self
    }

    /// Bytes whose length the reader knows.
    pub fn fixed(&mut self, bytes: &[u8]) -> &mut Self {
        self.out.extend_from_slice(bytes);
        self.out.extend_from_slice(&[0; 3][..padding(bytes.len())]);
        self
    }

    pub fn opaque(&mut self, bytes: &[u8]) -> &mut Self {
        self.u32(u32::try_from(bytes.len()).expect("we send nothing of 4 GiB")).fixed(bytes)
    }
}

/// How many zero bytes follow `length` bytes.
pub fn padding(length: usize) -> usize {
    length.wrapping_neg() & 3
}

/// Reads a reply. Every length comes from the server and is believed only after a look.
#[derive(Clone)]
pub struct Decoder<'a> {
    rest: &'a [u8],
}

impl<'a> Decoder<'a> {
    pub fn new(bytes: &'a [u8]) -> Decoder<'a> {
        Decoder { rest: bytes }
    }

    pub fn remaining(&self) -> usize {
        self.rest.len()
    }

    pub fn u32(&mut self) -> Result<u32> {
        let (head, rest) = self.rest.split_first_chunk().context("the reply ends too early")?;
        self.rest = rest;
        Ok(u32::from_be_bytes(*head))
    }

    pub fn u64(&mut self) -> Result<u64> {
        let (head, rest) = self.rest.split_first_chunk().context("the reply ends too early")?;
        self.rest = rest;
        Ok(u64::from_be_bytes(*head))
    }

    pub fn bool(&mut self) -> Result<bool> {
        let value = self.u32()?;
        ensure!(value <= 1, "the reply has the boolean {value}");
        Ok(value == 1)
    }

    pub fn opaque(&mut self, longest: usize) -> Result<&'a [u8]> {
        let length = usize::try_from(self.u32()?)?;
        ensure!(length <= longest, "the reply has {length} bytes where {longest} are allowed");
        let padded = length + padding(length);
        ensure!(padded <= self.rest.len(), "the reply ends too early");
        let (bytes, rest) = self.rest.split_at(padded);
        self.rest = rest;
        Ok(&bytes[..length])
    }

    pub fn skip(&mut self, bytes: usize) -> Result<()> {
        self.rest = self.rest.get(bytes..).context("the reply ends too early")?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_padded_to_four_and_read_back() {
        let mut out = Vec::new();
        Encoder::new(&mut out).opaque(b"abcde").u32(7);
        assert_eq!(out, b"\0\0\0\x05abcde\0\0\0\0\0\0\x07");
        let mut reply = Decoder::new(&out);
        assert_eq!(reply.opaque(5).expect("five bytes"), b"abcde");
        assert_eq!(reply.u32().expect("a number"), 7);
        assert_eq!(reply.remaining(), 0);
    }

    #[test]
    fn a_length_beyond_the_reply_is_refused() {
        assert!(Decoder::new(b"\xff\xff\xff\xff").opaque(usize::MAX).is_err());
        assert!(Decoder::new(b"\0\0\0\x08abcdefgh").opaque(7).is_err());
        assert!(Decoder::new(b"\0\0\0\x02ab").opaque(8).is_err(), "the padding is missing");
    }
}
