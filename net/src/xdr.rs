//! XDR (RFC 4506), the only codec for it in the tree.
//!
//! Decoding borrows: a name, a handle or a WRITE payload is a slice of the record it arrived in, so
//! nothing is allocated before somebody decides to keep it. Every read is checked against what is
//! left, and every variable length against a bound the caller names, because the lengths come from
//! strangers. Padding bytes are skipped, not compared with zero: some clients leave rubbish there.
//!
//! Encoding writes the small fields into one growing buffer. File data does not go through it: a
//! payload is handed over as the `DmaSlice`s it already lies in, the encoder remembers where they
//! belong, and the sender puts header, payload and padding on the wire as one vector.
//!
//! What always holds: everything encoded is a multiple of four bytes, and `Encoder::len` is the exact
//! number of bytes that will be sent, payloads included (READDIR's size limits rely on it).

use cairn_base::DmaSlice;

/// The unit of XDR: every item takes a multiple of it (RFC 4506, section 3).
pub const UNIT_BYTES: usize = 4;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum XdrError {
    /// The bytes end before the item does.
    Short,
    /// A length above the bound of its field.
    TooLong { bytes: u32 },
    /// A boolean that is neither 0 nor 1.
    NotABool { found: u32 },
    /// A discriminant that its enumeration does not have.
    NotAnOption { found: u32 },
    /// Bytes left over behind the last item.
    Trailing { bytes: usize },
}

/// `len` rounded up to whole units.
pub const fn padded(len: usize) -> usize {
    len.next_multiple_of(UNIT_BYTES)
}

/// What a variable-length opaque or string of `len` bytes takes on the wire.
pub const fn opaque_bytes(len: usize) -> usize {
    UNIT_BYTES + padded(len)
}

/// Reads items from the front of a borrowed record.
#[derive(Clone, Debug)]
pub struct Decoder<'a> {
    rest: &'a [u8],
}

impl<'a> Decoder<'a> {
    pub fn new(bytes: &'a [u8]) -> Self {
        Decoder { rest: bytes }
    }

    /// Bytes not read yet.
    pub fn remaining(&self) -> usize {
        self.rest.len()
    }

    fn take(&mut self, bytes: usize) -> Result<&'a [u8], XdrError> {
        let (taken, rest) = self.rest.split_at_checked(bytes).ok_or(XdrError::Short)?;
        self.rest = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], XdrError> {
        let (taken, rest) = self.rest.split_first_chunk::<N>().ok_or(XdrError::Short)?;
        self.rest = rest;
        Ok(*taken)
    }

    pub fn u32(&mut self) -> Result<u32, XdrError> {
        Ok(u32::from_be_bytes(self.array()?))
    }

    pub fn i32(&mut self) -> Result<i32, XdrError> {
        Ok(i32::from_be_bytes(self.array()?))
    }

    pub fn u64(&mut self) -> Result<u64, XdrError> {
        Ok(u64::from_be_bytes(self.array()?))
    }

    pub fn i64(&mut self) -> Result<i64, XdrError> {
        Ok(i64::from_be_bytes(self.array()?))
    }

    pub fn bool(&mut self) -> Result<bool, XdrError> {
        match self.u32()? {
            0 => Ok(false),
            1 => Ok(true),
            found => Err(XdrError::NotABool { found }),
        }
    }

    /// An opaque of a length both sides know.
    pub fn fixed<const N: usize>(&mut self) -> Result<[u8; N], XdrError> {
        let bytes = self.array::<N>()?;
        self.take(padded(N) - N)?;
        Ok(bytes)
    }

    /// An opaque or string that carries its length, at most `max` bytes of it.
    pub fn opaque(&mut self, max: usize) -> Result<&'a [u8], XdrError> {
        let bytes = self.u32()?;
        let len = usize::try_from(bytes).map_err(|_| XdrError::TooLong { bytes })?;
        if len > max {
            return Err(XdrError::TooLong { bytes });
        }
        let opaque = self.take(len)?;
        self.take(padded(len) - len)?;
        Ok(opaque)
    }

    /// Optional data (RFC 4506, section 4.19).
    pub fn option<T>(
        &mut self,
        item: impl FnOnce(&mut Self) -> Result<T, XdrError>,
    ) -> Result<Option<T>, XdrError> {
        if self.bool()? { item(self).map(Some) } else { Ok(None) }
    }

    /// A counted array of at most `max` items. Room is not made for more items than the bytes that
    /// are left can hold, whatever the count says.
    pub fn counted<T>(
        &mut self,
        max: usize,
        mut item: impl FnMut(&mut Self) -> Result<T, XdrError>,
    ) -> Result<Vec<T>, XdrError> {
        let count = self.count(max)?;
        let mut items = Vec::with_capacity(count.min(self.remaining() / UNIT_BYTES));
        for _ in 0..count {
            items.push(item(self)?);
        }
        Ok(items)
    }

    /// The count in front of an array, for callers with a place of their own for the items.
    pub fn count(&mut self, max: usize) -> Result<usize, XdrError> {
        let bytes = self.u32()?;
        match usize::try_from(bytes) {
            Ok(count) if count <= max => Ok(count),
            _ => Err(XdrError::TooLong { bytes }),
        }
    }

    /// Ends the reading: nothing may be left.
    pub fn finish(self) -> Result<(), XdrError> {
        match self.rest.len() {
            0 => Ok(()),
            bytes => Err(XdrError::Trailing { bytes }),
        }
    }
}

/// Payload slices that stand in front of byte `at` of the encoded fields.
#[derive(Debug)]
pub struct Payload {
    pub at: usize,
    pub slice: DmaSlice,
}

/// Writes items one behind the other.
#[derive(Debug, Default)]
pub struct Encoder {
    fields: Vec<u8>,
    payloads: Vec<Payload>,
    payload_bytes: usize,
}

impl Encoder {
    pub fn new() -> Self {
        Encoder::default()
    }

    pub fn with_capacity(bytes: usize) -> Self {
        Encoder { fields: Vec::with_capacity(bytes), ..Encoder::default() }
    }

    /// Bytes this will be on the wire, payloads included.
    pub fn len(&self) -> usize {
        self.fields.len() + self.payload_bytes
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub fn u32(&mut self, value: u32) {
        self.fields.extend_from_slice(&value.to_be_bytes());
    }

    pub fn i32(&mut self, value: i32) {
        self.fields.extend_from_slice(&value.to_be_bytes());
    }

    pub fn u64(&mut self, value: u64) {
        self.fields.extend_from_slice(&value.to_be_bytes());
    }

    pub fn i64(&mut self, value: i64) {
        self.fields.extend_from_slice(&value.to_be_bytes());
    }

    pub fn bool(&mut self, value: bool) {
        self.u32(u32::from(value));
    }

    /// An opaque of a length both sides know.
    pub fn fixed(&mut self, bytes: &[u8]) {
        self.fields.extend_from_slice(bytes);
        self.pad(bytes.len());
    }

    /// An opaque or string with its length in front.
    pub fn opaque(&mut self, bytes: &[u8]) {
        self.u32(wire_len(bytes.len()));
        self.fixed(bytes);
    }

    /// An opaque whose bytes stay where they are; an empty one is as good as none.
    pub fn payload(&mut self, slices: impl IntoIterator<Item = DmaSlice>) {
        let length_at = self.mark();
        self.u32(0);
        let at = self.fields.len();
        let mut bytes = 0;
        for slice in slices {
            if !slice.is_empty() {
                bytes += slice.len();
                self.payloads.push(Payload { at, slice });
            }
        }
        self.payload_bytes += bytes;
        self.patch_u32(length_at, wire_len(bytes));
        self.pad(bytes);
    }

    pub fn option<T>(&mut self, value: Option<T>, item: impl FnOnce(&mut Self, T)) {
        self.bool(value.is_some());
        if let Some(value) = value {
            item(self, value);
        }
    }

    /// A counted array.
    pub fn counted<T>(&mut self, items: &[T], mut item: impl FnMut(&mut Self, &T)) {
        self.u32(wire_len(items.len()));
        for each in items {
            item(self, each);
        }
    }

    /// Where the next field will stand, for `patch_u32`.
    pub fn mark(&self) -> Mark {
        Mark(self.fields.len())
    }

    /// Replaces a u32 written at `mark`.
    pub fn patch_u32(&mut self, mark: Mark, value: u32) {
        let place = self.fields.get_mut(mark.0..).and_then(|tail| tail.first_chunk_mut());
        *place.expect("a mark is patched after its u32 was written") = value.to_be_bytes();
    }

    /// Takes back everything encoded since `mark`, which no payload may follow.
    pub fn rewind(&mut self, mark: Mark) {
        assert!(self.payloads.last().is_none_or(|last| last.at <= mark.0), "fields only");
        self.fields.truncate(mark.0);
    }

    /// The fields, and the payloads that stand between them, in order.
    pub fn parts(self) -> (Vec<u8>, Vec<Payload>) {
        (self.fields, self.payloads)
    }

    fn pad(&mut self, len: usize) {
        const ZEROS: [u8; UNIT_BYTES] = [0; UNIT_BYTES];
        self.fields.extend_from_slice(&ZEROS[..padded(len) - len]);
    }
}

/// A place in an encoder's fields.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mark(usize);

fn wire_len(len: usize) -> u32 {
    u32::try_from(len).expect("nothing we send comes near 4 GiB")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_item_is_short_when_one_byte_is_missing() {
        let bytes = [0u8; 16];
        assert_eq!(Decoder::new(&bytes[..3]).u32(), Err(XdrError::Short));
        assert_eq!(Decoder::new(&bytes[..3]).i32(), Err(XdrError::Short));
        assert_eq!(Decoder::new(&bytes[..7]).u64(), Err(XdrError::Short));
        assert_eq!(Decoder::new(&bytes[..7]).i64(), Err(XdrError::Short));
        assert_eq!(Decoder::new(&bytes[..3]).bool(), Err(XdrError::Short));
        assert_eq!(Decoder::new(&bytes[..7]).fixed::<8>(), Err(XdrError::Short));
        assert_eq!(Decoder::new(&[0, 0, 0, 1, 9, 0, 0]).opaque(4), Err(XdrError::Short));
        assert_eq!(Decoder::new(&[0, 0, 0, 2, 9]).opaque(4), Err(XdrError::Short));
        assert_eq!(Decoder::new(&[0, 0, 0, 1]).option(|d| d.u32()), Err(XdrError::Short));
    }

    #[test]
    fn numbers_are_big_endian() {
        let mut decoder = Decoder::new(&[
            0, 0, 1, 2, // u32
            0xff, 0xff, 0xff, 0xfe, // i32
            1, 0, 0, 0, 0, 0, 0, 2, // u64
        ]);
        assert_eq!(decoder.u32(), Ok(0x102));
        assert_eq!(decoder.i32(), Ok(-2));
        assert_eq!(decoder.u64(), Ok(0x0100_0000_0000_0002));
        assert_eq!(decoder.finish(), Ok(()));
    }

    #[test]
    fn a_length_above_its_bound_is_refused_before_the_bytes_are_looked_at() {
        let huge = [0xff, 0xff, 0xff, 0xff];
        assert_eq!(Decoder::new(&huge).opaque(64), Err(XdrError::TooLong { bytes: u32::MAX }));
        assert_eq!(
            Decoder::new(&huge).counted(16, |d| d.u32()),
            Err(XdrError::TooLong { bytes: u32::MAX })
        );
        assert_eq!(
            Decoder::new(&[0, 0, 0, 5, 1, 2, 3, 4, 5, 0, 0, 0]).opaque(4),
            Err(XdrError::TooLong { bytes: 5 })
        );
    }

    #[test]
    fn an_enormous_count_within_its_bound_allocates_only_what_the_bytes_can_hold() {
        let mut decoder = Decoder::new(&[0x7f, 0xff, 0xff, 0xff, 0, 0, 0, 1]);
        assert_eq!(decoder.counted(usize::MAX, |d| d.u32()), Err(XdrError::Short));
    }

    #[test]
    fn a_bool_is_zero_or_one() {
        assert_eq!(Decoder::new(&[0, 0, 0, 2]).bool(), Err(XdrError::NotABool { found: 2 }));
        assert_eq!(
            Decoder::new(&[0, 0, 1, 0, 0, 0, 0, 0]).option(|d| d.u32()),
            Err(XdrError::NotABool { found: 256 })
        );
    }

    #[test]
    fn padding_is_skipped_whatever_it_holds() {
        let mut decoder = Decoder::new(&[0, 0, 0, 1, b'x', 0xaa, 0xbb, 0xcc, 0, 0, 0, 7]);
        assert_eq!(decoder.opaque(255), Ok(&b"x"[..]));
        assert_eq!(decoder.u32(), Ok(7));
    }

    #[test]
    fn leftover_bytes_are_reported() {
        let mut decoder = Decoder::new(&[0, 0, 0, 1, 2]);
        assert_eq!(decoder.u32(), Ok(1));
        assert_eq!(decoder.remaining(), 1);
        assert_eq!(decoder.finish(), Err(XdrError::Trailing { bytes: 1 }));
    }

    #[test]
    fn opaques_are_padded_with_zeros_to_whole_units() {
        for len in 0..9 {
            let mut encoder = Encoder::new();
            encoder.opaque(&vec![7; len]);
            assert_eq!(encoder.len(), opaque_bytes(len));
            let (fields, _) = encoder.parts();
            assert_eq!(fields.len() % UNIT_BYTES, 0);
            assert_eq!(fields[..4], u32::try_from(len).unwrap().to_be_bytes());
            assert!(fields[4..4 + len].iter().all(|b| *b == 7));
            assert!(fields[4 + len..].iter().all(|b| *b == 0));
        }
    }

    #[test]
    fn a_patched_field_and_a_rewound_tail_leave_the_rest_alone() {
        let mut encoder = Encoder::new();
        let mark = encoder.mark();
        encoder.u32(0);
        encoder.u64(5);
        let tail = encoder.mark();
        encoder.opaque(b"gone");
        encoder.rewind(tail);
        encoder.patch_u32(mark, 0x0a0b_0c0d);
        encoder.option(Some(3), |e, v| e.u32(v));
        encoder.option(None::<u32>, |e, v| e.u32(v));
        let (fields, _) = encoder.parts();
        assert_eq!(
            fields,
            [10, 11, 12, 13, 0, 0, 0, 0, 0, 0, 0, 5, 0, 0, 0, 1, 0, 0, 0, 3, 0, 0, 0, 0]
        );
    }
}
