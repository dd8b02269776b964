//! The four doors: everything that is not deterministic comes in here, and nowhere else.
//!
//! `Doors` bundles them so that a shard has one type parameter. There is no `dyn` on the I/O path:
//! the daemon and the simulator each compile the engine for their own doors.

mod clock;
mod disk;
mod entropy;
mod link;

pub use clock::Clock;
pub use disk::{Disk, Durability, MediaError};
pub use entropy::Entropy;
pub use link::{Link, LinkError};

/// One set of doors. `daemon` has the real one, `sim` the simulated one.
pub trait Doors: 'static {
    type Disk: Disk;
    type Clock: Clock;
    type Entropy: Entropy;
}
