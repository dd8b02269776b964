//! RMDIR (RFC 1813, section 3.3.13): an empty directory.

use crate::context::{Context, Target};
use crate::name::directory_name;
use crate::wire::{DirOp, Encode, RemoveRes};
use cairn_base::door::Doors;
use cairn_engine::op;
use cairn_net::xdr::Encoder;

pub async fn rmdir<D: Doors>(call: &Context<'_, D>, args: DirOp<'_>, to: &mut Encoder) {
    ask(call, args).await.encode(to);
}

async fn ask<D: Doors>(call: &Context<'_, D>, args: DirOp<'_>) -> RemoveRes {
    let Target { ino: dir, cred, .. } = call.target_to_change(args.dir)?;
    let name = directory_name(args.name)?;
    match call.carry_out(op::Rmdir { cred, dir, name }).await {
        Ok(change) => Ok(call.change(&change)),
        Err(error) => Err(call.failed_change(error, dir).await),
    }
}
