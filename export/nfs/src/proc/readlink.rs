//! READLINK (RFC 1813, section 3.3.5).

use crate::context::Context;
use crate::wire::{Encode, Handle, Outcome, PostOpAttributes, ReadlinkOk, ReadlinkRes};
use cairn_base::door::Doors;
use cairn_engine::op;
use cairn_net::xdr::Encoder;

pub async fn readlink<D: Doors>(call: &Context<'_, D>, symlink: Handle<'_>, to: &mut Encoder) {
    let link = ask(call, symlink).await;
    let outcome: ReadlinkRes<'_> = match &link {
        Ok(link) => {
            let attributes = Some(call.attributes(&link.attr));
            Ok(ReadlinkOk { attributes, target: &link.target })
        }
        Err(failure) => Err(*failure),
    };
    outcome.encode(to);
}

async fn ask<D: Doors>(
    call: &Context<'_, D>,
    symlink: Handle<'_>,
) -> Outcome<op::LinkText, PostOpAttributes> {
    let target = call.target(symlink)?;
    let ino = target.ino;
    match call.shard().call(op::Readlink { cred: target.cred, ino }).await {
        Ok(link) => Ok(link),
        Err(error) => Err(call.failed(error, ino).await),
    }
}
