//! Fuzzing: what strangers can write is given to the parsers that meet it first, and what must hold
//! afterwards is asserted.
//!
//! A target (`target/`, one file each) is a plain function over bytes. It calls the parser of the
//! product, never one of its own, and says whether the bytes were accepted or why not. That nothing
//! panics is the least of what it asks: what was accepted lies within the input, comes back the same
//! from the writer where there is one, and had a checksum that is right. What it may hold in memory at
//! once is bounded for each target (`tally.rs`), so that a length that is believed too early is found.
//!
//! The same functions are run in two ways. `runner.rs` replays a small corpus and seeded mutations of
//! it (`mutate.rs`) on the toolchain that builds the product, so every change is checked with it, and
//! a failure has a seed. `fuzz/` hands the functions to libFuzzer, which is better at finding its way
//! and wants a nightly toolchain. Both need the way behind the checksums: a first byte of the input
//! says, among other things, whether the checksum is mended before the bytes are parsed.
//!
//! What always holds: a target is a pure function of its input, and an input of the corpus named
//! `crash-…` failed once. `docs/fuzzing.md` has the commands.

pub mod corpus;
pub mod mutate;
pub mod runner;
pub mod specimen;
pub mod targets;

#[expect(unsafe_code, reason = "counts what a target allocates, as the process's allocator")]
pub mod tally;

pub use targets::{TARGETS, Target, Verdict};

#[global_allocator]
static ALLOCATOR: tally::Tally = tally::Tally;
