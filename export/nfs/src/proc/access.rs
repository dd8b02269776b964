//! ACCESS (RFC 1813, section 3.3.4): what the caller could do, for clients that check an open.
//!
//! The engine knows read, write and execute; NFS splits them by what they mean on the object. A bit
//! that means nothing there (LOOKUP of a file, DELETE of anything but a directory's entries) is not
//! granted. The answer is advice: every operation checks for itself.

use crate::context::Context;
use crate::export::Mode;
use crate::wire::{AccessArgs, AccessOk, AccessRes, Encode, access as bit};
use cairn_base::door::Doors;
use cairn_engine::attr::{FileKind, Rights};
use cairn_engine::op;
use cairn_net::xdr::Encoder;

pub async fn access<D: Doors>(call: &Context<'_, D>, args: AccessArgs<'_>, to: &mut Encoder) {
    ask(call, args).await.encode(to);
}

async fn ask<D: Doors>(call: &Context<'_, D>, args: AccessArgs<'_>) -> AccessRes {
    let target = call.target(args.object)?;
    let ino = target.ino;
    let want = Rights::READ.and(Rights::WRITE).and(Rights::EXECUTE);
    let answer = match call.shard().call(op::Access { cred: target.cred, ino, want }).await {
        Ok(answer) => answer,
        Err(error) => return Err(call.failed(error, ino).await),
    };
    let allowed = allowed(answer.attr.kind, answer.granted, target.export.mode);
    Ok(AccessOk { attributes: Some(call.attributes(&answer.attr)), access: args.access & allowed })
}

fn allowed(kind: FileKind, granted: Rights, mode: Mode) -> u32 {
    let changes = bit::MODIFY | bit::EXTEND | bit::DELETE;
    let (write, execute) = match kind {
        FileKind::Directory => (changes, bit::LOOKUP),
        FileKind::Regular
        | FileKind::Symlink
        | FileKind::Block
        | FileKind::Character
        | FileKind::Fifo
        | FileKind::Socket => (bit::MODIFY | bit::EXTEND, bit::EXECUTE),
    };
    let when = |right, bits| if granted.has(right) { bits } else { 0 };
    let all =
        when(Rights::READ, bit::READ) | when(Rights::WRITE, write) | when(Rights::EXECUTE, execute);
    match mode {
        Mode::ReadWrite => all,
        Mode::ReadOnly => all & !changes,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: Rights = Rights(7);

    #[test]
    fn a_directory_is_searched_and_a_file_is_executed() {
        let dir = |granted| allowed(FileKind::Directory, granted, Mode::ReadWrite);
        let file = |granted| allowed(FileKind::Regular, granted, Mode::ReadWrite);
        assert_eq!(dir(ALL), 0x1f);
        assert_eq!(file(ALL), 0x2d);
        assert_eq!((dir(Rights::EXECUTE), file(Rights::EXECUTE)), (0x02, 0x20));
        assert_eq!((dir(Rights::WRITE), file(Rights::WRITE)), (0x1c, 0x0c));
        assert_eq!((dir(Rights(0)), file(Rights(0))), (0, 0));
    }

    #[test]
    fn a_read_only_export_grants_no_change_to_anybody() {
        assert_eq!(allowed(FileKind::Directory, ALL, Mode::ReadOnly), 0x03);
        assert_eq!(allowed(FileKind::Regular, ALL, Mode::ReadOnly), 0x21);
    }
}
