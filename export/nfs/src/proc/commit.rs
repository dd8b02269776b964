//! COMMIT (RFC 1813, section 3.3.21): what was written unstable is durable when this is answered.

use crate::context::Context;
use crate::wire::{CommitArgs, CommitOk, CommitRes, Encode, NfsStat};
use cairn_base::door::Doors;
use cairn_engine::limits::FILE_BYTES_MAX;
use cairn_engine::op;
use cairn_net::xdr::Encoder;

pub async fn commit<D: Doors>(call: &Context<'_, D>, args: CommitArgs<'_>, to: &mut Encoder) {
    ask(call, args).await.encode(to);
}

async fn ask<D: Doors>(call: &Context<'_, D>, args: CommitArgs<'_>) -> CommitRes {
    let target = call.target(args.file)?;
    let ino = target.ino;
    if args.offset > FILE_BYTES_MAX {
        return Err(NfsStat::Inval.into());
    }
    // To both sides 0 means: to the end.
    let len = args.count.into();
    let op = op::Commit { cred: target.cred, ino, offset: args.offset, len };
    match call.shard().call(op).await {
        Ok(committed) => Ok(CommitOk {
            change: call.change(&committed.change),
            verifier: committed.verifier.to_be_bytes(),
        }),
        Err(error) => Err(call.failed_change(error, ino).await),
    }
}
