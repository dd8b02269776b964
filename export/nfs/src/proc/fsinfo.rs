//! FSINFO (RFC 1813, section 3.3.19): what this server can do, asked once at mount.

use crate::context::Context;
use crate::limits::{IO_BYTES_MAX, IO_MULTIPLE, READDIR_PREFERRED};
use crate::wire::{Encode, FsinfoOk, FsinfoRes, Handle, NfsTime, property};
use cairn_base::door::Doors;
use cairn_engine::limits::FILE_BYTES_MAX;
use cairn_engine::op;
use cairn_net::xdr::Encoder;

pub async fn fsinfo<D: Doors>(call: &Context<'_, D>, root: Handle<'_>, to: &mut Encoder) {
    ask(call, root).await.encode(to);
}

async fn ask<D: Doors>(call: &Context<'_, D>, root: Handle<'_>) -> FsinfoRes {
    let target = call.target(root)?;
    let attr = call.shard().call(op::Getattr { ino: target.ino }).await?;
    Ok(FsinfoOk {
        attributes: Some(call.attributes(&attr)),
        read_max: IO_BYTES_MAX,
        read_preferred: IO_BYTES_MAX,
        read_multiple: IO_MULTIPLE,
        write_max: IO_BYTES_MAX,
        write_preferred: IO_BYTES_MAX,
        write_multiple: IO_MULTIPLE,
        readdir_preferred: READDIR_PREFERRED,
        file_size_max: FILE_BYTES_MAX,
        time_delta: NfsTime { seconds: 0, nanos: 1 },
        properties: property::LINK
            | property::SYMLINK
            | property::HOMOGENEOUS
            | property::CAN_SET_TIME,
    })
}
