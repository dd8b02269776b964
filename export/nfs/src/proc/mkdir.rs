//! MKDIR (RFC 1813, section 3.3.9).

use crate::attr::set_attr;
use crate::context::{Context, Target};
use crate::name::new_name;
use crate::proc::create::{MadeRes, made};
use crate::wire::{Encode, MkdirArgs};
use cairn_base::door::Doors;
use cairn_engine::op;
use cairn_net::xdr::Encoder;

pub async fn mkdir<D: Doors>(call: &Context<'_, D>, args: MkdirArgs<'_>, to: &mut Encoder) {
    make(call, args).await.encode(to);
}

async fn make<D: Doors>(call: &Context<'_, D>, args: MkdirArgs<'_>) -> MadeRes {
    let Target { export, ino: dir, cred } = call.target_to_change(args.place.dir)?;
    let name = new_name(args.place.name)?;
    let op = op::Mkdir { cred, dir, name, set: set_attr(&args.attributes) };
    let answer = call.carry_out(op).await;
    made(call, export.id, dir, answer).await
}
