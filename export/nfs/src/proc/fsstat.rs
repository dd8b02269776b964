//! FSSTAT (RFC 1813, section 3.3.18): how full the pool is.
//!
//! There is no table of inodes that could run out: a file takes space when it is made. So as many
//! files are free as there are free blocks, which is on the careful side.

use crate::context::Context;
use crate::wire::{Encode, FsstatOk, FsstatRes, Handle};
use cairn_base::BLOCK_BYTES;
use cairn_base::door::Doors;
use cairn_net::xdr::Encoder;

pub async fn fsstat<D: Doors>(call: &Context<'_, D>, root: Handle<'_>, to: &mut Encoder) {
    ask(call, root).await.encode(to);
}

async fn ask<D: Doors>(call: &Context<'_, D>, root: Handle<'_>) -> FsstatRes {
    let ino = call.target(root)?.ino;
    let totals = match call.shard().statfs().await {
        Ok(totals) => totals,
        Err(error) => return Err(call.failed(error, ino).await),
    };
    let bytes = |blocks: u64| blocks.saturating_mul(BLOCK_BYTES as u64);
    let free = totals.blocks_free;
    Ok(FsstatOk {
        attributes: call.attributes_of(ino).await,
        total_bytes: bytes(totals.blocks),
        free_bytes: bytes(free),
        available_bytes: bytes(free),
        total_files: totals.inodes.saturating_add(free),
        free_files: free,
        available_files: free,
        invariant_secs: 0,
    })
}
