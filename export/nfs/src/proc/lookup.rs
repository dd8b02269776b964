//! LOOKUP (RFC 1813, section 3.3.3), with `.` and `..`.
//!
//! `..` does not lead out of an export: at its root it is the root itself, as at the root of every
//! file system. A directory that was moved out of its export, through another one that holds both
//! places, would lead out by another way; so where an export is a part of the pool, the way up from
//! a parent is followed to the export's root before its handle is given.

use crate::context::{Context, SealedHandle};
use crate::export::Export;
use crate::limits::ANCESTORS_MAX;
use crate::name::plain_name;
use crate::status::nfs_stat;
use crate::wire::{DirOp, Encode, Handle, LookupOk, LookupRes, NfsStat, Outcome, PostOpAttributes};
use cairn_base::door::Doors;
use cairn_engine::attr::FileKind;
use cairn_engine::{Cred, op};
use cairn_format::InodeNo;
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
        b".." => match call.shard().call(op::Parent { cred, dir }).await {
            Ok(found) if !is_inside(call, export, found.child).await? => {
                return Err(NfsStat::Acces.into());
            }
            answer => answer,
        },
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

/// Whether `dir` lies below the export's root, or is it.
async fn is_inside<D: Doors>(
    call: &Context<'_, D>,
    export: &Export,
    mut dir: InodeNo,
) -> Result<bool, NfsStat> {
    if export.root == InodeNo::ROOT {
        return Ok(true);
    }
    for _ in 0..ANCESTORS_MAX {
        if dir == export.root || dir == InodeNo::ROOT {
            return Ok(dir == export.root);
        }
        let up = call.shard().call(op::Parent { cred: Cred::root(), dir }).await;
        dir = up.map_err(nfs_stat)?.child;
    }
    Ok(false)
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
