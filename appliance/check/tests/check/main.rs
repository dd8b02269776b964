//! The verifier against pools made by hand: a sound one passes, and each way of being unsound is
//! found and named.

mod bytes;
mod clean;
mod disk;
mod items;
mod pool;
mod structure;
mod world;
