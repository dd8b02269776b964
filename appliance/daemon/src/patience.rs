//! Waiting for a daemon that was killed: its ring lets go of sockets and locks a little after the
//! process is gone, so whoever starts in its place is refused for some milliseconds.

use crate::error::Failure;
use nix::errno::Errno;
use std::time::Duration;

const TRIES: u32 = 60;
const PAUSE: Duration = Duration::from_millis(50);

/// Tries again while the answer is "in use", for three seconds at most.
pub fn patiently<T>(mut attempt: impl FnMut() -> Result<T, Failure>) -> Result<T, Failure> {
    for _ in 0..TRIES {
        match attempt() {
            Err(failure) if matches!(failure.errno, Errno::EADDRINUSE | Errno::EBUSY) => pause(),
            other => return other,
        }
    }
    attempt()
}

#[expect(clippy::disallowed_methods, reason = "nothing runs yet whose time could come by a door")]
fn pause() {
    std::thread::sleep(PAUSE);
}
