//! GETATTR (RFC 1813, section 3.3.1).

use crate::context::Context;
use crate::wire::{Encode, GetattrRes, Handle};
use cairn_base::door::Doors;
use cairn_engine::op;
use cairn_net::xdr::Encoder;

pub async fn getattr<D: Doors>(call: &Context<'_, D>, object: Handle<'_>, to: &mut Encoder) {
    ask(call, object).await.encode(to);
}

async fn ask<D: Doors>(call: &Context<'_, D>, object: Handle<'_>) -> GetattrRes {
    let target = call.target(object)?;
    let attr = call.shard().call(op::Getattr { ino: target.ino }).await?;
    Ok(call.attributes(&attr))
}
