//! What the file system should be: the oracle, which knows intent and nothing of the engine.
//!
//! `file.rs` is one file's bytes and what a crash may leave of them; `tree.rs` is names and nodes;
//! `history.rs` is all the trees that could be true given what concurrent clients were told, with
//! `footprint.rs` to say what matters to what and `reading.rs` for answers that change nothing.

pub mod act;
pub mod file;
pub mod footprint;
pub mod history;
pub mod reading;
pub mod seen;
pub mod tree;
