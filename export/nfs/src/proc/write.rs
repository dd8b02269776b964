//! WRITE (RFC 1813, section 3.3.7).
//!
//! The payload stands somewhere in the record it arrived in. The engine wants it where it will lie
//! in the file's blocks: the first byte at its offset within a block. So it is copied once, here, into
//! a buffer that goes to the device as it is; what stands around it in the first and last block is
//! the engine's to fill.
//!
//! More than we said we take is cut, and the client sends the rest again. The verifier changes when
//! unstable data may have been lost, which is how a client knows to send it again.

use crate::context::Context;
use crate::limits::IO_BYTES_MAX;
use crate::wire::{Encode, NfsStat, Stable, WriteArgs, WriteOk, WriteRes};
use cairn_base::door::Doors;
use cairn_base::{Arena, BLOCK_BYTES, DmaBuf};
use cairn_engine::limits::FILE_BYTES_MAX;
use cairn_engine::op::{self, Stability};
use cairn_net::xdr::Encoder;

pub async fn write<D: Doors>(call: &Context<'_, D>, args: WriteArgs<'_>, to: &mut Encoder) {
    ask(call, args).await.encode(to);
}

async fn ask<D: Doors>(call: &Context<'_, D>, args: WriteArgs<'_>) -> WriteRes {
    let target = call.target_to_change(args.file)?;
    let ino = target.ino;
    let count = u32::try_from(args.data.len()).unwrap_or(u32::MAX).min(IO_BYTES_MAX);
    let fits = args.offset.checked_add(count.into()).is_some_and(|end| end <= FILE_BYTES_MAX);
    if !fits {
        return Err(NfsStat::FBig.into());
    }
    let len = count as usize;
    let op = op::Write {
        cred: target.cred,
        ino,
        offset: args.offset,
        data: placed(call.shard().arena(), args.offset, &args.data[..len]),
        len,
        stability: stability(args.stable),
    };
    match call.shard().call(op).await {
        Ok(written) => Ok(WriteOk {
            change: call.change(&written.change),
            count,
            committed: stable(written.stability),
            verifier: written.verifier.to_be_bytes(),
        }),
        Err(error) => Err(call.failed_change(error, ino).await),
    }
}

/// The payload in a buffer of its own, each byte at its place within its block.
fn placed(arena: &Arena, offset: u64, payload: &[u8]) -> DmaBuf {
    let start = (offset % BLOCK_BYTES as u64) as usize;
    let mut buf = arena.alloc(start + payload.len());
    buf[start..start + payload.len()].copy_from_slice(payload);
    buf
}

fn stability(stable: Stable) -> Stability {
    match stable {
        Stable::Unstable => Stability::Unstable,
        Stable::DataSync => Stability::DataSync,
        Stable::FileSync => Stability::FileSync,
    }
}

fn stable(stability: Stability) -> Stable {
    match stability {
        Stability::Unstable => Stable::Unstable,
        Stability::DataSync => Stable::DataSync,
        Stability::FileSync => Stable::FileSync,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_payload_lies_at_its_offset_within_a_block() {
        let arena = Arena::heap();
        for offset in [0, 1, 4095, 4096, 10_000, FILE_BYTES_MAX] {
            let start = (offset % 4096) as usize;
            let buf = placed(&arena, offset, b"payload");
            assert_eq!(&buf[start..start + 7], b"payload");
            assert!(buf.len().is_multiple_of(BLOCK_BYTES));
        }
        assert_eq!(placed(&arena, 4095, b"ab").len(), 2 * BLOCK_BYTES);
    }
}
