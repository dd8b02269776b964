//! SETATTR (RFC 1813, section 3.3.2): attributes and size, if the guard agrees.

use crate::attr::{set_attr, time};
use crate::context::Context;
use crate::wire::{Encode, SetattrArgs, SetattrRes};
use cairn_base::door::Doors;
use cairn_engine::op;
use cairn_net::xdr::Encoder;

pub async fn setattr<D: Doors>(call: &Context<'_, D>, args: SetattrArgs<'_>, to: &mut Encoder) {
    set(call, args).await.encode(to);
}

async fn set<D: Doors>(call: &Context<'_, D>, args: SetattrArgs<'_>) -> SetattrRes {
    let target = call.target_to_change(args.object)?;
    let ino = target.ino;
    let op = op::Setattr {
        cred: target.cred,
        ino,
        set: set_attr(&args.attributes),
        guard: args.guard.map(time),
    };
    match call.carry_out(op).await {
        Ok(change) => Ok(call.change(&change)),
        Err(error) => Err(call.failed_change(error, ino).await),
    }
}
