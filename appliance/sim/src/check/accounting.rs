//! The pool's totals agree with what is there.

use crate::machine::Halt;
use crate::model::tree::Tree;
use crate::world::World;

/// Inodes counted by the engine are the inodes of the tree; what is free is not more than what is.
pub fn check(world: &mut World, tree: &Tree) -> Result<Result<(), String>, Halt> {
    let shard = world.shards()[0].clone();
    let totals = world.machine().run(0, async move { shard.statfs().await })?;
    let totals = match totals {
        Ok(totals) => totals,
        Err(error) => return Ok(Err(format!("statfs: {error}"))),
    };
    let right = tree.nodes().count() as u64;
    if totals.inodes != right {
        return Ok(Err(format!("statfs counts {} inodes where there are {right}", totals.inodes)));
    }
    if totals.blocks_free > totals.blocks {
        return Ok(Err(format!("{} blocks free of {}", totals.blocks_free, totals.blocks)));
    }
    Ok(Ok(()))
}
