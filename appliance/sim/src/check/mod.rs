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
use cairn_engine::error::FsError;

/// What a check came to that found no fault of the model's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unfit {
    Wrong(String),
    /// It met this on its way: to be explained by what was hit.
    Damage(FsError),
}

impl From<String> for Unfit {
    fn from(what: String) -> Unfit {
        Unfit::Wrong(what)
    }
}

impl Unfit {
    fn of(read: FsError, what: &str) -> Unfit {
        if read.is_trouble() {
            Unfit::Damage(read)
        } else {
            Unfit::Wrong(format!("{what}: {read}"))
        }
    }

    /// Where nothing was hit, damage is as wrong as anything.
    pub fn into_text(self) -> String {
        match self {
            Unfit::Wrong(what) => what,
            Unfit::Damage(error) => format!("{error}, where nothing was hit"),
        }
    }
}

/// Runs every check that asks the engine, while no client is at work. The outer error is the
/// machine's, the inner one is what was found.
pub fn all(world: &mut World, tree: &Tree) -> Result<Result<(), String>, Halt> {
    accounting::check(world, tree)
}
