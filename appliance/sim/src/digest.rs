//! One number for everything that happened: the proof that a seed replays.
//!
//! Each event is folded in as it happens: device commands with their content, completions, requests,
//! replies, cuts. Order matters, so two runs with the same digest took the same path. What is not
//! folded in may differ between runs, which is why nothing else (addresses, sizes of allocations,
//! time of day) may reach a decision.

use cairn_base::hash::xxh3;
use std::cell::Cell;
use std::fmt;
use std::rc::Rc;

/// What kind of event a folded number stands for, so that equal numbers of two kinds differ.
#[derive(Clone, Copy, Debug)]
#[repr(u64)]
pub enum Event {
    Submit = 1,
    Complete,
    Cut,
    Turn,
    Request,
    Reply,
    Boot,
    Observe,
}

/// A shared handle: the disk, the clients and the world fold into one state.
#[derive(Clone, Default)]
pub struct Digest {
    state: Rc<Cell<u64>>,
}

impl Digest {
    pub fn new(seed: u64) -> Digest {
        Digest { state: Rc::new(Cell::new(seed ^ 0x6361_6972_6e00_0001)) }
    }

    pub fn fold(&self, event: Event, words: &[u64]) {
        let mut state = mix(self.state.get() ^ event as u64);
        for &word in words {
            state = mix(state.rotate_left(23) ^ word);
        }
        self.state.set(state);
    }

    pub fn fold_bytes(&self, event: Event, bytes: &[u8]) {
        self.fold(event, &[bytes.len() as u64, xxh3(bytes)]);
    }

    pub fn value(&self) -> u64 {
        self.state.get()
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.value())
    }
}

/// One multiplication of twice the width, folded: every bit of the input reaches every bit out.
fn mix(x: u64) -> u64 {
    let wide = u128::from(x ^ 0x9e37_79b9_7f4a_7c15) * 0xd6e8_feb8_6659_fd93_u128;
    (wide as u64) ^ ((wide >> 64) as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn order_and_kind_of_events_matter() {
        let of = |events: &[(Event, u64)]| {
            let digest = Digest::new(7);
            for &(event, word) in events {
                digest.fold(event, &[word]);
            }
            digest.value()
        };
        let first = of(&[(Event::Submit, 1), (Event::Reply, 2)]);
        assert_eq!(first, of(&[(Event::Submit, 1), (Event::Reply, 2)]));
        assert_ne!(first, of(&[(Event::Reply, 2), (Event::Submit, 1)]));
        assert_ne!(first, of(&[(Event::Submit, 1), (Event::Request, 2)]));
    }
}
