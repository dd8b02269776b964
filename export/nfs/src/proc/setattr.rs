//! SETATTR (RFC 1813, section 3.3.2): attributes and size, if the guard agrees.

use crate::attr::{set_attr, time};
use crate::context::Context;
use crate::wire::{Encode, SetattrArgs, SetattrRes};
use cairn_base::door::Doors;
use cairn_engine::op::{self, Wanted};
use cairn_net::xdr::Encoder;

pub async fn setattr<D: Doors>(call: &Context<'_, D>, args: SetattrArgs<'_>, to: &mut Encoder) {
    set(call, args).await.encode(to);
}

async fn set<D: Doors>(call: &Context<'_, D>, args: SetattrArgs<'_>) -> SetattrRes {
    let target = call.target_to_change(args.object)?;
    let ino = target.ino;
    let set = set_attr(&args.attributes);
    let size = set.size;
    let op = op::Setattr { cred: target.cred, ino, set, guard: args.guard.map(time) };
    match call.carry_out(op).await {
        Ok(change) => Ok(call.change(&change)),
        Err(error) => {
            let wanted = Wanted::Size(size.unwrap_or_default());
            let stat = call.stat(error, target.export, ino, wanted).await;
            Err(call.failed_change_with(stat, ino).await)
        }
    }
}
