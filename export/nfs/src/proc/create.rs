//! CREATE (RFC 1813, section 3.3.8), and the answer it shares with MKDIR, SYMLINK and MKNOD.
//!
//! An exclusive CREATE leaves its verifier with the file; the engine recognises it when the same call
//! comes again.

use crate::attr::set_attr;
use crate::context::{Context, SealedHandle, Target};
use crate::name::new_name;
use crate::wire::{self, CreateArgs, CreateOk, Encode, Handle, Outcome, PostOpAttributes};
use cairn_base::door::Doors;
use cairn_engine::FsError;
use cairn_engine::op::{self, CreateHow, Created};
use cairn_format::InodeNo;
use cairn_net::xdr::Encoder;

pub async fn create<D: Doors>(call: &Context<'_, D>, args: CreateArgs<'_>, to: &mut Encoder) {
    make(call, args).await.encode(to);
}

async fn make<D: Doors>(call: &Context<'_, D>, args: CreateArgs<'_>) -> MadeRes {
    let Target { export, ino: dir, cred } = call.target_to_change(args.place.dir)?;
    let how = match args.how {
        wire::CreateHow::Unchecked(set) => CreateHow::Unchecked(set_attr(&set)),
        wire::CreateHow::Guarded(set) => CreateHow::Guarded(set_attr(&set)),
        wire::CreateHow::Exclusive(verifier) => CreateHow::Exclusive(verifier),
    };
    let op = op::Create { cred, dir, name: new_name(args.place.name)?, how };
    let answer = call.carry_out(op).await;
    made(call, export.id, dir, answer).await
}

/// A new object, ready to be encoded.
pub struct Made {
    handle: SealedHandle,
    attributes: PostOpAttributes,
    dir_change: wire::Change,
}

pub type MadeRes = Outcome<Made, wire::Change>;

/// What the engine said about a new object in `dir`.
pub async fn made<D: Doors>(
    call: &Context<'_, D>,
    export: crate::export::ExportId,
    dir: InodeNo,
    answer: Result<Created, FsError>,
) -> MadeRes {
    match answer {
        Ok(created) => Ok(Made {
            handle: call.sealed(export, created.ino),
            attributes: Some(call.attributes(&created.attr)),
            dir_change: call.change(&created.dir),
        }),
        Err(error) => Err(call.failed_change(error, dir).await),
    }
}

impl Encode for Made {
    fn encode(self, to: &mut Encoder) {
        CreateOk {
            object: Some(Handle(&self.handle)),
            attributes: self.attributes,
            dir_change: self.dir_change,
        }
        .encode(to);
    }
}
