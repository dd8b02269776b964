//! READ (RFC 1813, section 3.3.6). The bytes go out of the buffers that the device or a client
//! filled; they are not copied.

use crate::context::Context;
use crate::limits::IO_BYTES_MAX;
use crate::wire::{Encode, NfsStat, ReadArgs, ReadOk, ReadRes};
use cairn_base::door::Doors;
use cairn_engine::limits::FILE_BYTES_MAX;
use cairn_engine::op::{self, Wanted};
use cairn_net::xdr::Encoder;

pub async fn read<D: Doors>(call: &Context<'_, D>, args: ReadArgs<'_>, to: &mut Encoder) {
    ask(call, args).await.encode(to);
}

async fn ask<D: Doors>(call: &Context<'_, D>, args: ReadArgs<'_>) -> ReadRes {
    let target = call.target(args.file)?;
    let ino = target.ino;
    if args.offset > FILE_BYTES_MAX {
        return Err(NfsStat::Inval.into());
    }
    let len = args.count.min(IO_BYTES_MAX);
    let op = op::Read { cred: target.cred, ino, offset: args.offset, len };
    let data = match call.shard().call(op).await {
        Ok(data) => data,
        Err(error) => {
            let wanted = Wanted::Read { offset: args.offset, len };
            let stat = call.stat(error, target.export, ino, wanted).await;
            return Err(call.failed_with(stat, ino).await);
        }
    };
    Ok(ReadOk { attributes: Some(call.attributes(&data.attr)), eof: data.eof, data: data.parts })
}
