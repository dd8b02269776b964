//! Makes memory ready before shards need it.
//!
//! The kernel zeroes a page when it is first touched, and a machine that has to fetch it from its host takes
//! longer still. A thread of its own does that a little ahead of the shards, slowly, so that it takes a
//! small part of a core; the data cache grows no faster than that (`data/cached_runs.rs`).

use cairn_base::Arena;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

/// So much at a time, and then a pause: 160 MiB a second.
const STEP_BYTES: usize = 16 << 20;
const PAUSE: Duration = Duration::from_millis(100);

/// A daemon that has little to do keeps little ready.
fn ahead(carved_bytes: usize) -> usize {
    (carved_bytes / 2).clamp(STEP_BYTES, 512 << 20)
}

pub(crate) struct Warmer {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Warmer {
    pub fn start(arena: Arena) -> io::Result<Warmer> {
        let stop = Arc::new(AtomicBool::new(false));
        let asked = Arc::clone(&stop);
        let work = move || {
            while !asked.load(Ordering::Relaxed) {
                arena.warm(STEP_BYTES, ahead);
                std::thread::park_timeout(PAUSE);
            }
        };
        let thread = std::thread::Builder::new().name("warmer".into()).spawn(work)?;
        Ok(Warmer { stop, thread: Some(thread) })
    }
}

impl Drop for Warmer {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            thread.thread().unpark();
            // It holds nothing but memory; a panic in it has been reported already.
            let _ = thread.join();
        }
    }
}
