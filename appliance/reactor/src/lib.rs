//! One polled loop per core: tasks, timers, and mail between the cores.
//!
//! A shard is one thread that never blocks. Its loop polls its devices and its network, then its
//! mail, then gives the reactor a turn: timers that are due, then tasks that are ready, within a
//! budget. This crate is the part of that loop that is the same for the daemon and the simulator. It
//! knows no io_uring, reads no clock and starts no thread: time arrives as an argument of `turn`, and
//! who polls what around the turn is for `daemon` and `sim` to say.
//!
//! The order of everything here follows from the order of the calls alone, so a simulated run
//! repeats. Tasks are not `Send` and never migrate; what they share on their core is `Rc` and `Cell`
//! (`local.rs`), and what crosses cores is mail (`mail.rs`, `post.rs`). Every task belongs to a gate
//! (`gate.rs`): shutting down is closing gates.

mod gate;
mod idle;
mod local;
mod mail;
mod post;
mod race;
mod reactor;
mod stall;
#[expect(unsafe_code, reason = "wakers are raw: std's safe one would need atomics and Send")]
mod task;
mod timer;

pub use gate::{Gate, JoinHandle};
pub use idle::{Action, Idle, IdlePolicy};
pub use local::{
    Guard, Notify, OneshotReceiver, OneshotSender, Receiver, Semaphore, Sender, TrySendError,
    WaitList, channel, oneshot,
};
pub use mail::{Full, Port, mesh};
pub use post::{Busy, Letter, Post, Replier, Slot};
pub use race::{Either, race};
pub use reactor::{Config, Handle, Reactor, Turn, virtual_time};
pub use stall::{StallLimit, Stalls};
pub use timer::{Elapsed, Sleep};

/// The other side is gone for good: a gate that was closed, a channel whose other end was dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Closed;
