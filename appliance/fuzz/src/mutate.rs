//! One input out of others: what breaks parsers, in the proportions in which it has done so.
//!
//! Parsers of lengths and counts break at the numbers next to their bounds, so most changes are of
//! numbers where they stand (2, 4 or 8 bytes, either order of bytes): one more, one less, the largest,
//! what is left of the input. The others are bits, bytes, cuts, and parts of other inputs. An input is
//! a function of the corpus and the generator's state, and of nothing else.

use cairn_base::prng::Prng;

/// Changes of one input.
const STEPS_MAX: u64 = 5;

/// Of inputs whose first byte is a mode, so many get any.
const ANY_MODE_PERCENT: u64 = 40;

/// A changed copy of one of `seeds`, at most `bytes_max` long. `modes` is the number of values that the
/// first byte has; 0 where it is none apart.
pub fn mutated(seeds: &[Vec<u8>], modes: u8, bytes_max: usize, prng: &mut Prng) -> Vec<u8> {
    let mut input = pick(seeds, prng).to_vec();
    for _ in 0..1 + prng.below(STEPS_MAX) {
        step(&mut input, seeds, prng);
    }
    if modes > 0 && prng.percent(ANY_MODE_PERCENT) && !input.is_empty() {
        input[0] = prng.below(modes.into()) as u8;
    }
    input.truncate(bytes_max);
    input
}

fn pick<'a>(seeds: &'a [Vec<u8>], prng: &mut Prng) -> &'a [u8] {
    match seeds.len() {
        0 => &[],
        count => &seeds[prng.below(count as u64) as usize],
    }
}

/// A place in `0..len`, of which there is one.
fn place(len: usize, prng: &mut Prng) -> usize {
    prng.below(len as u64) as usize
}

fn step(input: &mut Vec<u8>, seeds: &[Vec<u8>], prng: &mut Prng) {
    if input.is_empty() {
        input.extend_from_slice(pick(seeds, prng));
        input.push(prng.next_u64() as u8);
        return;
    }
    match prng.below(16) {
        0..=1 => {
            let at = place(input.len(), prng);
            input[at] ^= 1 << prng.below(8);
        }
        2..=3 => {
            let at = place(input.len(), prng);
            input[at] = byte(prng);
        }
        4..=8 => number(input, prng),
        9 => input.truncate(place(input.len(), prng)),
        10 => remove(input, prng),
        11 => repeat(input, prng),
        12 => insert(input, prng),
        13..=14 => splice(input, pick(seeds, prng), prng),
        _ => swap(input, prng),
    }
}

/// Bytes that mean something to somebody more often than others.
fn byte(prng: &mut Prng) -> u8 {
    const LIKELY: [u8; 16] =
        [0, 1, 2, 7, 8, 0x0f, 0x10, 0x20, b'/', b'.', b'0', 0x7f, 0x80, 0xf0, 0xfe, 0xff];
    match prng.below(3) {
        0 => prng.next_u64() as u8,
        _ => LIKELY[place(LIKELY.len(), prng)],
    }
}

/// Another number where one may stand.
fn number(input: &mut [u8], prng: &mut Prng) {
    let width = 1 << prng.below(4);
    let Some(last) = input.len().checked_sub(width) else { return };
    let at = place(last + 1, prng);
    let (left, whole) = ((input.len() - at - width) as u64, input.len() as u64);
    let field = &mut input[at..at + width];
    let big = prng.percent(50);
    let mut bytes = [0; 8];
    bytes[..width].copy_from_slice(field);
    if big {
        bytes[..width].reverse();
    }
    let old = u64::from_le_bytes(bytes);
    let top = u64::MAX >> (64 - 8 * width);
    let new = match prng.below(12) {
        0 => old.wrapping_add(1),
        1 => old.wrapping_sub(1),
        2 => old.wrapping_add(prng.below(64)),
        3 => old.wrapping_sub(prng.below(64)),
        4 => old.wrapping_mul(2),
        5 => top,
        6 => top / 2 + prng.below(2),
        7 => top.wrapping_sub(prng.below(5000)),
        8 => left.wrapping_add(prng.below(3)).wrapping_sub(1),
        9 => whole,
        10 => 0,
        _ => 1 << prng.below(8 * width as u64),
    };
    let mut bytes = new.to_le_bytes();
    if big {
        bytes[..width].reverse();
    }
    field.copy_from_slice(&bytes[..width]);
}

/// Where a short part of the input is: its begin and its length, at least 1.
fn part(len: usize, prng: &mut Prng) -> (usize, usize) {
    let at = place(len, prng);
    (at, 1 + place((len - at).min(64), prng))
}

fn remove(input: &mut Vec<u8>, prng: &mut Prng) {
    let (at, len) = part(input.len(), prng);
    input.drain(at..at + len);
}

fn repeat(input: &mut Vec<u8>, prng: &mut Prng) {
    let (at, len) = part(input.len(), prng);
    let most = if prng.percent(10) { 200 } else { 3 };
    let times = 1 + place(most, prng);
    let repeated = input[at..at + len].repeat(times);
    input.splice(at..at, repeated);
}

fn insert(input: &mut Vec<u8>, prng: &mut Prng) {
    let at = place(input.len() + 1, prng);
    let fill = byte(prng);
    let bytes: Vec<u8> = (0..1 + prng.below(16)).map(|_| fill).collect();
    input.splice(at..at, bytes);
}

/// A part of another input, in place of as much or of nothing.
fn splice(input: &mut Vec<u8>, other: &[u8], prng: &mut Prng) {
    if other.is_empty() {
        return;
    }
    let (from, len) = part(other.len(), prng);
    let len = if prng.percent(20) { other.len() - from } else { len };
    let at = place(input.len() + 1, prng);
    let end = if prng.percent(50) { at } else { (at + len).min(input.len()) };
    input.splice(at..end, other[from..from + len].iter().copied());
}

fn swap(input: &mut [u8], prng: &mut Prng) {
    let (at, len) = part(input.len(), prng);
    let to = place(input.len() - len + 1, prng);
    if at.abs_diff(to) >= len {
        let (low, high) = (at.min(to), at.max(to));
        let (front, back) = input.split_at_mut(high);
        front[low..low + len].swap_with_slice(&mut back[..len]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_makes_the_same_inputs_and_another_makes_others() {
        let seeds = vec![b"one input of some length".to_vec(), b"another".to_vec()];
        let inputs = |seed| {
            let mut prng = Prng::new(seed);
            (0..100).map(|_| mutated(&seeds, 4, 64, &mut prng)).collect::<Vec<_>>()
        };
        assert_eq!(inputs(1), inputs(1));
        assert_ne!(inputs(1), inputs(2));
        assert!(inputs(3).iter().all(|input| input.len() <= 64));
    }

    #[test]
    fn empty_and_tiny_inputs_are_changed_too() {
        let mut prng = Prng::new(9);
        for seeds in [vec![], vec![vec![]], vec![vec![7]], vec![vec![1, 2, 3]]] {
            for _ in 0..2_000 {
                mutated(&seeds, 8, 100, &mut prng);
            }
        }
    }

    #[test]
    fn a_number_becomes_one_more_in_either_order_of_bytes() {
        let mut prng = Prng::new(1);
        let seed = [0, 0, 0, 5, 0, 0, 0];
        let mut seen = [false; 2];
        for _ in 0..20_000 {
            let mut input = seed;
            number(&mut input, &mut prng);
            seen[0] |= input[..4] == [0, 0, 0, 6];
            seen[1] |= input[3..] == [6, 0, 0, 0];
        }
        assert_eq!(seen, [true; 2]);
    }
}
