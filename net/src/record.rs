//! Record marking (RFC 5531, section 11): where one RPC message ends in a stream of bytes.
//!
//! A record is a row of fragments; each begins with four bytes that hold its length and whether it
//! is the last. This is the state machine only. It never holds payload: it says what the next bytes
//! are, and `server.rs` decides where they go, so that the body of a large WRITE can be received
//! straight into its own buffer.
//!
//! What always holds: the bytes of a record are counted when a mark announces them, before anybody
//! makes room, so a peer cannot make us hold more than `record_bytes_max`; and a record has at most
//! `fragments_max` marks, so a peer cannot keep one open for ever with empty fragments. After an
//! error the stream has no meaning any more: the connection is closed, nothing is resynchronised.

/// Bytes of a record mark.
pub const MARK_BYTES: usize = 4;

const LAST_FRAGMENT: u32 = 1 << 31;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RecordLimits {
    pub record_bytes_max: usize,
    pub fragments_max: u32,
}

impl RecordLimits {
    /// The largest WRITE (1 MiB) and what stands around it. Clients send one fragment a record;
    /// some libraries cut at 8 or 64 KiB.
    pub const DEFAULT: RecordLimits =
        RecordLimits { record_bytes_max: (1 << 20) + (64 << 10), fragments_max: 256 };
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RecordError {
    /// A mark announces more than a record may hold.
    TooLarge { bytes: usize },
    /// The record goes on and on.
    TooManyFragments,
}

/// What the bytes given to `step` turned out to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// All bytes were used and a mark is still incomplete, or there were none.
    Hungry,
    /// A fragment begins; the record now needs room for `record_bytes` in all, and grows no further
    /// if this is the last.
    Fragment { record_bytes: usize, last: bool },
    /// The first `bytes` of what was left are the record's next bytes.
    Body { bytes: usize },
    /// The record is complete; the next byte belongs to another.
    End,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Mark { seen: [u8; MARK_BYTES], have: usize },
    Body { left: usize, last: bool },
}

const MARK: State = State::Mark { seen: [0; MARK_BYTES], have: 0 };

#[derive(Clone, Debug)]
pub struct Framing {
    limits: RecordLimits,
    state: State,
    record_bytes: usize,
    fragments: u32,
}

impl Framing {
    pub fn new(limits: RecordLimits) -> Self {
        Framing { limits, state: MARK, record_bytes: 0, fragments: 0 }
    }

    /// Takes one step over `input` and says how many of its bytes the step used.
    pub fn step(&mut self, input: &[u8]) -> Result<(usize, Step), RecordError> {
        match self.state {
            State::Mark { mut seen, have } => {
                let used = input.len().min(MARK_BYTES - have);
                seen[have..have + used].copy_from_slice(&input[..used]);
                if have + used < MARK_BYTES {
                    self.state = State::Mark { seen, have: have + used };
                    return Ok((used, Step::Hungry));
                }
                let step = self.fragment(u32::from_be_bytes(seen))?;
                Ok((used, step))
            }
            State::Body { left: 0, last: true } => {
                self.state = MARK;
                self.record_bytes = 0;
                self.fragments = 0;
                Ok((0, Step::End))
            }
            State::Body { left: 0, last: false } => {
                self.state = MARK;
                self.step(input)
            }
            State::Body { left, .. } => match left.min(input.len()) {
                0 => Ok((0, Step::Hungry)),
                bytes => {
                    self.placed(bytes);
                    Ok((bytes, Step::Body { bytes }))
                }
            },
        }
    }

    /// Bytes of the current fragment still to come; what may be received straight into its record.
    pub fn fragment_left(&self) -> usize {
        match self.state {
            State::Body { left, .. } => left,
            State::Mark { .. } => 0,
        }
    }

    /// `bytes` of the current fragment went to their record without passing through `step`.
    pub fn placed(&mut self, bytes: usize) {
        match &mut self.state {
            State::Body { left, .. } => {
                *left = left.checked_sub(bytes).expect("no more than the fragment holds");
            }
            State::Mark { .. } => assert_eq!(bytes, 0, "between fragments there are only marks"),
        }
    }

    /// Whether the stream may end here without cutting a record.
    pub fn at_boundary(&self) -> bool {
        self.fragments == 0 && self.state == MARK
    }

    fn fragment(&mut self, mark: u32) -> Result<Step, RecordError> {
        let last = mark & LAST_FRAGMENT != 0;
        let left = (mark & !LAST_FRAGMENT) as usize;
        // Cannot wrap: below the limit so far, plus less than 2^31.
        let bytes = self.record_bytes + left;
        if bytes > self.limits.record_bytes_max {
            return Err(RecordError::TooLarge { bytes });
        }
        self.fragments += 1;
        if self.fragments > self.limits.fragments_max {
            return Err(RecordError::TooManyFragments);
        }
        self.record_bytes = bytes;
        self.state = State::Body { left, last };
        Ok(Step::Fragment { record_bytes: bytes, last })
    }
}

/// The mark of a record sent as one fragment.
pub fn single_fragment_mark(bytes: usize) -> [u8; MARK_BYTES] {
    let bytes = u32::try_from(bytes).ok().filter(|bytes| bytes & LAST_FRAGMENT == 0);
    (bytes.expect("replies are below 2 GiB") | LAST_FRAGMENT).to_be_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;
    use cairn_base::prng::Prng;

    const SMALL: RecordLimits = RecordLimits { record_bytes_max: 64, fragments_max: 4 };

    /// Feeds `stream` in pieces of `piece` bytes and returns the records found.
    fn records(
        limits: RecordLimits,
        stream: &[u8],
        piece: usize,
    ) -> (Vec<Vec<u8>>, Result<bool, RecordError>) {
        let mut framing = Framing::new(limits);
        let mut found = Vec::new();
        let mut record = Vec::new();
        for mut input in stream.chunks(piece) {
            loop {
                let (used, step) = match framing.step(input) {
                    Ok(step) => step,
                    Err(error) => return (found, Err(error)),
                };
                match step {
                    Step::Body { bytes } => {
                        assert_eq!(bytes, used);
                        record.extend_from_slice(&input[..bytes]);
                    }
                    Step::Fragment { record_bytes, .. } => {
                        assert!(record_bytes <= limits.record_bytes_max);
                        assert!(record.len() <= record_bytes);
                    }
                    Step::End => found.push(std::mem::take(&mut record)),
                    Step::Hungry => assert_eq!(used, input.len()),
                }
                input = &input[used..];
                if step == Step::Hungry {
                    break;
                }
            }
        }
        (found, Ok(framing.at_boundary()))
    }

    fn fragment(bytes: &[u8], last: bool) -> Vec<u8> {
        let mark = u32::try_from(bytes.len()).unwrap() | if last { LAST_FRAGMENT } else { 0 };
        [&mark.to_be_bytes()[..], bytes].concat()
    }

    #[test]
    fn records_come_out_the_same_in_whatever_pieces_they_arrive() {
        let stream = [
            fragment(b"one", true),
            fragment(b"tw", false),
            fragment(b"", false),
            fragment(b"o and more", true),
            fragment(b"", true),
            fragment(b"three", false),
            fragment(b"", true),
        ]
        .concat();
        let want: Vec<Vec<u8>> = [&b"one"[..], b"two and more", b"", b"three"]
            .iter()
            .map(|record| record.to_vec())
            .collect();
        for piece in 1..=stream.len() {
            assert_eq!(records(SMALL, &stream, piece), (want.clone(), Ok(true)), "piece {piece}");
        }
    }

    #[test]
    fn a_stream_that_ends_inside_a_record_is_not_at_a_boundary() {
        let stream = fragment(b"abc", true);
        for cut in 1..stream.len() {
            assert_eq!(records(SMALL, &stream[..cut], 1), (vec![], Ok(false)), "cut {cut}");
        }
        assert_eq!(records(SMALL, &fragment(b"abc", false), 9), (vec![], Ok(false)));
    }

    #[test]
    fn a_mark_of_two_gigabytes_is_refused_at_once() {
        let want = Err(RecordError::TooLarge { bytes: (1 << 31) - 1 });
        assert_eq!(records(SMALL, &[0xff; 4], 4).1, want);
        assert_eq!(records(RecordLimits::DEFAULT, &[0x7f, 0xff, 0xff, 0xff], 1).1, want);
    }

    #[test]
    fn fragments_together_may_not_outgrow_the_record_limit() {
        let exact = [fragment(&[1; 60], false), fragment(&[2; 4], true)].concat();
        assert_eq!(records(SMALL, &exact, 7).0.len(), 1);
        let over = [fragment(&[1; 60], false), fragment(&[2; 5], true)].concat();
        assert_eq!(records(SMALL, &over, 7).1, Err(RecordError::TooLarge { bytes: 65 }));
    }

    #[test]
    fn a_record_that_never_ends_is_refused() {
        let forever = fragment(b"", false).repeat(5);
        assert_eq!(records(SMALL, &forever, 3).1, Err(RecordError::TooManyFragments));
    }

    #[test]
    fn the_limits_are_counted_anew_for_each_record() {
        let stream = [fragment(&[3; 32], false), fragment(&[4; 32], true)].concat().repeat(50);
        assert_eq!(records(SMALL, &stream, 13).0.len(), 50);
    }

    #[test]
    fn bytes_placed_directly_count_like_bytes_stepped_over() {
        let mut framing = Framing::new(SMALL);
        assert_eq!(
            framing.step(&fragment(&[0; 10], true)[..4]),
            Ok((4, Step::Fragment { record_bytes: 10, last: true }))
        );
        assert_eq!(framing.fragment_left(), 10);
        framing.placed(7);
        assert_eq!(framing.step(&[1, 2, 3, 9]), Ok((3, Step::Body { bytes: 3 })));
        assert_eq!(framing.step(&[9]), Ok((0, Step::End)));
    }

    #[test]
    fn random_bytes_never_break_the_machine() {
        let mut prng = Prng::new(11);
        for _ in 0..2_000 {
            let mut stream = vec![0; 200];
            prng.fill(&mut stream);
            // Without small marks nearly every stream would end at its first one.
            for byte in stream.iter_mut().step_by(3) {
                *byte &= 0x80;
            }
            let piece = 1 + prng.below(40) as usize;
            let (whole, end) = records(SMALL, &stream, 200);
            assert_eq!(records(SMALL, &stream, piece), (whole, end));
        }
    }
}
