//! The bytes that are written: slices of one random block of memory, told apart by where they begin.
//!
//! Filling a payload with fresh random bytes costs more than some servers need to store it. So 64 MiB
//! are filled once, and a payload is a piece of them that starts at any multiple of eight: no two
//! blocks of a test are alike unless that is asked for, a server that compresses or shares blocks
//! gains nothing, and nothing is copied on the way out. A piece is recomputed from what it was written
//! for (file, place, generation), which is how `verify` knows what to expect.
//!
//! With `compress`, that share of every 4 KiB is zeros; with `repeat`, that share of the pieces is one
//! and the same. Both are off unless asked for: a ratio between servers that differ in such things
//! would say nothing about either.

use std::ops::Range;

const POOL_BYTES: usize = 64 << 20;
const PERIOD_BYTES: usize = 4096;
const STEP_BYTES: usize = 8;
/// The longest piece.
pub const PIECE_BYTES_MAX: usize = 16 << 20;

pub struct Pattern {
    pool: Vec<u8>,
    repeat_percent: u8,
}

/// A part of the pattern.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Piece {
    start: usize,
    end: usize,
}

impl Piece {
    pub fn length(self) -> usize {
        self.end - self.start
    }

    /// Drops bytes from the front.
    pub fn skip(&mut self, bytes: usize) {
        self.start += bytes;
        assert!(self.start <= self.end, "more was sent than there is");
    }

    fn range(self) -> Range<usize> {
        self.start..self.end
    }
}

/// Percentages, 0 to 100.
#[derive(Clone, Copy, Debug, Default)]
pub struct Sameness {
    pub compress_percent: u8,
    pub repeat_percent: u8,
}

impl Pattern {
    pub fn new(sameness: Sameness) -> Pattern {
        let mut pool = vec![0; POOL_BYTES];
        let mut random = fastrand::Rng::with_seed(0x6361_6972_6e21);
        let zeros = PERIOD_BYTES * usize::from(sameness.compress_percent) / 100;
        for period in pool.chunks_mut(PERIOD_BYTES) {
            random.fill(&mut period[zeros..]);
        }
        Pattern { pool, repeat_percent: sameness.repeat_percent }
    }

    pub fn bytes(&self, piece: Piece) -> &[u8] {
        &self.pool[piece.range()]
    }

    /// The piece of `length` bytes that belongs to `what`. Equal questions have equal answers.
    pub fn piece(&self, what: u64, length: usize) -> Piece {
        assert!(length <= PIECE_BYTES_MAX, "pieces are short");
        let mut random = fastrand::Rng::with_seed(what);
        let repeats = random.u8(0..100) < self.repeat_percent;
        let starts = (POOL_BYTES - PIECE_BYTES_MAX) / STEP_BYTES;
        let start = if repeats { 0 } else { random.usize(0..starts) * STEP_BYTES };
        Piece { start, end: start + length }
    }
}

/// One number for a place in a file, for `piece`.
pub fn place(file: u64, offset: u64, generation: u64) -> u64 {
    // Odd multipliers keep the three apart; the generator behind `piece` mixes further.
    file.wrapping_mul(0x9e37_79b9_7f4a_7c15)
        ^ offset.wrapping_mul(0xbf58_476d_1ce4_e5b9)
        ^ generation.wrapping_mul(0x94d0_49bb_1331_11eb)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_place_gives_the_same_bytes_and_another_place_gives_others() {
        let pattern = Pattern::new(Sameness::default());
        let of = |file, offset, generation| {
            pattern.bytes(pattern.piece(place(file, offset, generation), 64))
        };
        assert_eq!(of(1, 4096, 0), of(1, 4096, 0));
        for other in [of(2, 4096, 0), of(1, 8192, 0), of(1, 4096, 1)] {
            assert_ne!(of(1, 4096, 0), other);
        }
    }

    #[test]
    fn sameness_is_as_much_as_was_asked_for() {
        let half = Pattern::new(Sameness { compress_percent: 50, repeat_percent: 0 });
        let piece = half.piece(77, PERIOD_BYTES);
        let zeros = half.bytes(piece).iter().filter(|byte| **byte == 0).count();
        assert!((2048..2200).contains(&zeros), "{zeros} zeros of 4096");
        let same = Pattern::new(Sameness { compress_percent: 0, repeat_percent: 100 });
        assert_eq!(same.piece(1, 4096), same.piece(2, 4096));
    }
}
