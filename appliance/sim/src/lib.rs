//! A world from a seed: the real engine on the real reactors, over simulated doors.
//!
//! Everything that is not deterministic enters the program by four doors (`cairn_base::door`). Here
//! they are simulated: devices that lose exactly what a power cut may take (`media.rs`, `disk.rs`),
//! a clock that moves when told (`clock.rs`), randomness from the seed. N shards run on one thread,
//! stepped by `machine.rs`, so one number is the whole experiment: the same seed takes the same path,
//! which the digest of all events proves.
//!
//! Beside the seeds there are all short scripts, with the power cut everywhere (`exhaustive/`).
//!
//! Clients ask the engine, or over NFS through the frontend (`nfs/`): then all of the daemon but its
//! sockets runs.
//!
//! `scenario.rs` and `run.rs` are what a seed does: clients at work (`workload.rs`), cuts, restarts. What must be
//! true is in `model/`, which knows intent, and in `check/`, which looks at the whole.

mod archive;
mod blow;
pub mod check;
pub mod client;
pub mod clock;
mod damage;
pub mod digest;
pub mod disk;
mod engine;
pub mod entropy;
pub mod exhaustive;
mod failing;
pub mod fault;
pub mod machine;
pub mod media;
pub mod model;
pub mod mutation;
pub mod nfs;
pub mod parallel;
mod read_back;
mod run;
pub mod sabotage;
pub mod scenario;
pub mod script;
pub mod seeds;
pub mod shrink;
pub mod verdict;
pub mod workload;
pub mod world;
