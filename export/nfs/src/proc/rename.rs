//! RENAME (RFC 1813, section 3.3.14). Both directories are seen through one export: two exports are
//! two file systems to their clients, even where the pool is the same.

use crate::context::{Context, Target};
use crate::name::plain_name;
use crate::status::nfs_stat;
use crate::wire::{Change, Encode, Failure, NfsStat, RenameArgs, RenameChanges, RenameRes};
use cairn_base::door::Doors;
use cairn_engine::{FsError, op};
use cairn_format::InodeNo;
use cairn_net::xdr::Encoder;

pub async fn rename<D: Doors>(call: &Context<'_, D>, args: RenameArgs<'_>, to: &mut Encoder) {
    ask(call, args).await.encode(to);
}

async fn ask<D: Doors>(call: &Context<'_, D>, args: RenameArgs<'_>) -> RenameRes {
    let Target { export, ino: from_dir, cred } = call.target_to_change(args.from.dir)?;
    let target = call.target_to_change(args.to.dir)?;
    let to_dir = target.ino;
    if target.export.id != export.id {
        return Err(NfsStat::XDev.into());
    }
    let from_name = plain_name(args.from.name)?;
    let to_name = plain_name(args.to.name)?;
    let op = op::Rename { cred, from_dir, from_name, to_dir, to_name };
    match call.carry_out(op).await {
        Ok(renamed) => Ok(RenameChanges {
            from_dir: call.change(&renamed.from),
            to_dir: call.change(&renamed.to),
        }),
        Err(error) => Err(failed(call, error, from_dir, to_dir).await),
    }
}

async fn failed<D: Doors>(
    call: &Context<'_, D>,
    error: FsError,
    from_dir: InodeNo,
    to_dir: InodeNo,
) -> Failure<RenameChanges> {
    let from = call.attributes_after(nfs_stat(error), from_dir).await;
    let to = match from_dir == to_dir {
        true => from,
        false => call.attributes_after(nfs_stat(error), to_dir).await,
    };
    let unchanged = |after| Change { before: None, after };
    let body = RenameChanges { from_dir: unchanged(from), to_dir: unchanged(to) };
    Failure { stat: nfs_stat(error), body }
}
