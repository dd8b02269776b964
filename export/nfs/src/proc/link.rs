//! LINK (RFC 1813, section 3.3.15): one more name for a file, within one export.

use crate::context::{Context, Target};
use crate::name::new_name;
use crate::status::nfs_stat;
use crate::wire::{Change, Encode, Failure, LinkArgs, LinkChanges, LinkRes, NfsStat};
use cairn_base::door::Doors;
use cairn_engine::op;
use cairn_net::xdr::Encoder;

pub async fn link<D: Doors>(call: &Context<'_, D>, args: LinkArgs<'_>, to: &mut Encoder) {
    ask(call, args).await.encode(to);
}

async fn ask<D: Doors>(call: &Context<'_, D>, args: LinkArgs<'_>) -> LinkRes {
    let Target { export, ino, cred } = call.target_to_change(args.file)?;
    let target = call.target_to_change(args.link.dir)?;
    let dir = target.ino;
    if target.export.id != export.id {
        return Err(NfsStat::XDev.into());
    }
    let name = new_name(args.link.name)?;
    match call.carry_out(op::Link { cred, ino, dir, name }).await {
        Ok(linked) => Ok(LinkChanges {
            attributes: Some(call.attributes(&linked.attr)),
            dir_change: call.change(&linked.dir),
        }),
        Err(error) => {
            let attributes = call.attributes_after(nfs_stat(error), ino).await;
            let after = call.attributes_after(nfs_stat(error), dir).await;
            let body = LinkChanges { attributes, dir_change: Change { before: None, after } };
            Err(Failure { stat: nfs_stat(error), body })
        }
    }
}
