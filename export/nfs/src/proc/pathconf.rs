//! PATHCONF (RFC 1813, section 3.3.20): the same for every object, as FSINFO's HOMOGENEOUS says.

use crate::context::Context;
use crate::wire::{Encode, Handle, PathconfOk, PathconfRes};
use cairn_base::door::Doors;
use cairn_engine::limits::LINKS_MAX;
use cairn_engine::name::NAME_BYTES_MAX;
use cairn_engine::op;
use cairn_net::xdr::Encoder;

pub async fn pathconf<D: Doors>(call: &Context<'_, D>, object: Handle<'_>, to: &mut Encoder) {
    ask(call, object).await.encode(to);
}

async fn ask<D: Doors>(call: &Context<'_, D>, object: Handle<'_>) -> PathconfRes {
    let target = call.target(object)?;
    let attr = call.shard().call(op::Getattr { ino: target.ino }).await?;
    Ok(PathconfOk {
        attributes: Some(call.attributes(&attr)),
        link_max: LINKS_MAX,
        name_max: NAME_BYTES_MAX as u32,
        no_trunc: true,
        chown_restricted: true,
        case_insensitive: false,
        case_preserving: true,
    })
}
