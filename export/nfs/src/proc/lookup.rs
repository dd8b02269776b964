//! LOOKUP (RFC 1813, section 3.3.3), with `.` and `..`.
//!
//! `..` does not lead out of an export: at its root it is the root itself, as at the root of every
//! file system.

use crate::context::{Context, SealedHandle};
use crate::name::plain_name;
use crate::wire::{DirOp, Encode, Handle, LookupOk, LookupRes, NfsStat, Outcome, PostOpAttributes};
use cairn_base::door::Doors;
use cairn_engine::attr::FileKind;
use cairn_engine::op;
use cairn_net::xdr::Encoder;

struct Found {
    handle: SealedHandle,
    attributes: PostOpAttributes,
    dir_attributes: PostOpAttributes,
}

pub async fn lookup<D: Doors>(call: &Context<'_, D>, args: DirOp<'_>, to: &mut Encoder) {
    let found = find(call, args).await;
    let outcome: LookupRes<'_> = match &found {
        Ok(found) => Ok(LookupOk {
            object: Handle(&found.handle),
            attributes: found.attributes,
            dir_attributes: found.dir_attributes,
        }),
        Err(failure) => Err(*failure),
    };
    outcome.encode(to);
}

async fn find<D: Doors>(
    call: &Context<'_, D>,
    args: DirOp<'_>,
) -> Outcome<Found, PostOpAttributes> {
    let target = call.target(args.dir)?;
    let (export, cred, dir) = (target.export, target.cred, target.ino);
    let answer = match args.name {
        b"." => return itself(call, args).await,
        b".." if dir == export.root => return itself(call, args).await,
        b".." => call.shard().call(op::Parent { cred, dir }).await,
        name => call.shard().call(op::Lookup { cred, dir, name: plain_name(name)? }).await,
    };
    let found = match answer {
        Ok(found) => found,
        Err(error) => return Err(call.failed(error, dir).await),
    };
    let attributes = match &found.attr {
        Some(attr) => Some(call.attributes(attr)),
        None => call.attributes_of(found.child).await,
    };
    Ok(Found {
        handle: call.sealed(export.id, found.child),
        attributes,
        dir_attributes: Some(call.attributes(&found.dir)),
    })
}

async fn itself<D: Doors>(
    call: &Context<'_, D>,
    args: DirOp<'_>,
) -> Outcome<Found, PostOpAttributes> {
    let target = call.target(args.dir)?;
    let attr = call.shard().call(op::Getattr { ino: target.ino }).await?;
    let attributes = Some(call.attributes(&attr));
    if attr.kind != FileKind::Directory {
        return Err(crate::wire::Failure { stat: NfsStat::NotDir, body: attributes });
    }
    let handle = call.sealed(target.export.id, target.ino);
    Ok(Found { handle, attributes, dir_attributes: attributes })
}
