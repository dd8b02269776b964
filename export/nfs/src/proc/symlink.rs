//! SYMLINK (RFC 1813, section 3.3.10). The target is the client's: its bytes are kept as they are.

use crate::attr::set_attr;
use crate::context::{Context, Target};
use crate::name::new_name;
use crate::proc::create::{MadeRes, made};
use crate::wire::{Encode, SymlinkArgs};
use cairn_base::door::Doors;
use cairn_engine::op;
use cairn_net::xdr::Encoder;

pub async fn symlink<D: Doors>(call: &Context<'_, D>, args: SymlinkArgs<'_>, to: &mut Encoder) {
    make(call, args).await.encode(to);
}

async fn make<D: Doors>(call: &Context<'_, D>, args: SymlinkArgs<'_>) -> MadeRes {
    let Target { export, ino: dir, cred } = call.target_to_change(args.place.dir)?;
    let op = op::Symlink {
        cred,
        dir,
        name: new_name(args.place.name)?,
        set: set_attr(&args.attributes),
        target: args.target.to_vec(),
    };
    let answer = call.carry_out(op).await;
    made(call, export.id, dir, answer).await
}
