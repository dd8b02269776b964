//! Observers: one invariant a file, each looking at the whole and sharing nothing with the engine's
//! own bookkeeping beyond its answers.

pub mod accounting;
pub mod deletions;
pub mod extents;
pub mod indexes;
pub mod names;
pub mod reserve;
#[cfg(test)]
mod sample;
pub mod seqs;
pub mod stream;
pub mod versions;
pub mod whole;

use crate::machine::Halt;
use crate::model::tree::Tree;
use crate::world::World;

/// Runs every check that asks the engine, while no client is at work. The outer error is the
/// machine's, the inner one is what was found.
pub fn all(world: &mut World, tree: &Tree) -> Result<Result<(), String>, Halt> {
    accounting::check(world, tree)
}
