//! The same work over many things, on all cores, told in the order of the things.
//!
//! A simulated world lives on one thread. Worlds have nothing to do with each other, so threads take
//! one after the other; what they came to is told as if they had come one by one, and the digest over
//! many seeds stays a number that two runs can compare.

use std::collections::BTreeMap;
use std::sync::mpsc;
use std::sync::{Mutex, PoisonError};

/// Does `work` on all of `things`; `tell` hears of each with its result, in order.
pub fn in_order<T: Send, R: Send>(
    things: impl Iterator<Item = T> + Send,
    work: impl Fn(&T) -> R + Sync,
    mut tell: impl FnMut(T, R),
) {
    let threads = std::thread::available_parallelism().map_or(1, |count| count.get());
    let things = Mutex::new(things.enumerate());
    let (done, results) = mpsc::channel();
    std::thread::scope(|scope| {
        for _ in 0..threads {
            let (things, work, done) = (&things, &work, done.clone());
            scope.spawn(move || {
                let next = || things.lock().unwrap_or_else(PoisonError::into_inner).next();
                while let Some((number, thing)) = next() {
                    let result = work(&thing);
                    // The caller takes everything until the last thread has ended.
                    let _ = done.send((number, thing, result));
                }
            });
        }
        drop(done);
        let (mut early, mut next) = (BTreeMap::new(), 0);
        for (number, thing, result) in results {
            early.insert(number, (thing, result));
            while let Some((thing, result)) = early.remove(&next) {
                tell(thing, result);
                next += 1;
            }
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_come_in_the_order_of_the_things_however_long_each_takes() {
        let work = |n: &u64| {
            (0..(100 - n) * 1000).for_each(|spin| _ = std::hint::black_box(spin));
            2 * n
        };
        let mut told = Vec::new();
        in_order(0..100, work, |thing, result| told.push((thing, result)));
        let right: Vec<(u64, u64)> = (0..100).map(|n| (n, 2 * n)).collect();
        assert_eq!(told, right);
    }
}
