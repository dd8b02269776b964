//! WRITE (RFC 1813, section 3.3.7).
//!
//! The payload stands somewhere in the record it arrived in. The engine wants it where it will lie
//! in the file's blocks: the first byte at its offset within a block. A large payload of whole blocks
//! was received that way, and its record's buffer goes to the device as it is. Any other is copied
//! once, here, into a buffer that does; what stands around it in the first and last block is the
//! engine's to fill.
//!
//! More than we said we take is cut, and the client sends the rest again. The verifier changes when
//! unstable data may have been lost, which is how a client knows to send it again.

use crate::context::Context;
use crate::limits::IO_BYTES_MAX;
use crate::wire::{Args, Encode, Handle, NfsStat, Stable, WriteArgs, WriteOk, WriteRes};
use cairn_base::door::Doors;
use cairn_base::{Arena, BLOCK_BYTES, DmaBuf};
use cairn_engine::limits::FILE_BYTES_MAX;
use cairn_engine::op::{self, Stability, Wanted};
use cairn_net::server::Call;
use cairn_net::xdr::Encoder;
use std::borrow::Cow;

/// Where the payload begins in the arguments, beside the handle: its length, offset, count, stability,
/// and the payload's length.
const PAYLOAD_AT: usize = 4 + 8 + 4 + 4 + 4;

/// What a client wants written.
pub struct Writing<'a> {
    file: Cow<'a, [u8]>,
    offset: u64,
    stable: Stable,
    count: usize,
    /// The payload, each byte at its place within its block.
    data: DmaBuf,
}

impl<'a> Writing<'a> {
    pub fn copied(args: &WriteArgs<'a>, arena: &Arena) -> Writing<'a> {
        let payload = args.data;
        let payload = &payload[..payload.len().min(IO_BYTES_MAX as usize)];
        Writing {
            file: Cow::Borrowed(args.file.0),
            offset: args.offset,
            stable: args.stable,
            count: payload.len(),
            data: placed(arena, args.offset, payload),
        }
    }

    /// Takes the payload out of the call, where it lies as it should.
    pub fn taken(call: &mut Call) -> Option<Writing<'static>> {
        let args = WriteArgs::decode(&mut call.args()).ok()?;
        let count = args.data.len();
        if count > IO_BYTES_MAX as usize || !args.offset.is_multiple_of(BLOCK_BYTES as u64) {
            return None;
        }
        let (file, offset, stable) = (args.file.0.to_vec(), args.offset, args.stable);
        let at = PAYLOAD_AT + file.len().next_multiple_of(4);
        let data = call.give_args(at..at + count)?;
        Some(Writing { file: Cow::Owned(file), offset, stable, count, data })
    }
}

pub async fn write<D: Doors>(call: &Context<'_, D>, what: Writing<'_>, to: &mut Encoder) {
    ask(call, what).await.encode(to);
}

async fn ask<D: Doors>(call: &Context<'_, D>, what: Writing<'_>) -> WriteRes {
    let Writing { file, offset, stable, count, data } = what;
    let target = call.target_to_change(Handle(&file))?;
    let ino = target.ino;
    let fits = offset.checked_add(count as u64).is_some_and(|end| end <= FILE_BYTES_MAX);
    if !fits {
        return Err(NfsStat::FBig.into());
    }
    let stability = stability(stable);
    let op = op::Write { cred: target.cred, ino, offset, data, len: count, stability };
    match call.carry_out(op).await {
        Ok(written) => Ok(WriteOk {
            change: call.change(&written.change),
            count: count as u32,
            committed: committed(written.stability),
            verifier: written.verifier.to_be_bytes(),
        }),
        Err(error) => {
            let stat = call.stat(error, target.export, ino, Wanted::Write).await;
            Err(call.failed_change_with(stat, ino).await)
        }
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

fn committed(stability: Stability) -> Stable {
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
