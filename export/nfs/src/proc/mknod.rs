//! MKNOD (RFC 1813, section 3.3.11): device nodes, sockets and pipes. Other kinds have procedures of
//! their own, and asking for one here is BADTYPE.

use crate::attr::set_attr;
use crate::context::{Context, Target};
use crate::name::new_name;
use crate::proc::create::{MadeRes, made};
use crate::wire::{Device, Encode, MknodArgs, MknodData, NfsStat};
use cairn_base::door::Doors;
use cairn_engine::attr::{FileKind, Rdev};
use cairn_engine::op;
use cairn_net::xdr::Encoder;

pub async fn mknod<D: Doors>(call: &Context<'_, D>, args: MknodArgs<'_>, to: &mut Encoder) {
    make(call, args).await.encode(to);
}

async fn make<D: Doors>(call: &Context<'_, D>, args: MknodArgs<'_>) -> MadeRes {
    let Target { export, ino: dir, cred } = call.target_to_change(args.place.dir)?;
    let (kind, set, device) = match args.what {
        MknodData::Character(set, device) => (FileKind::Character, set, device),
        MknodData::Block(set, device) => (FileKind::Block, set, device),
        MknodData::Socket(set) => (FileKind::Socket, set, Device::default()),
        MknodData::Fifo(set) => (FileKind::Fifo, set, Device::default()),
        MknodData::Other(_) => return Err(NfsStat::BadType.into()),
    };
    let op = op::Mknod {
        cred,
        dir,
        name: new_name(args.place.name)?,
        set: set_attr(&set),
        kind,
        rdev: Rdev { major: device.major, minor: device.minor },
    };
    let answer = call.carry_out(op).await;
    made(call, export.id, dir, answer).await
}
