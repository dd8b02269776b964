//! The one TCP port: finds out what a call wants, has it done, and answers.
//!
//! NFS, MOUNT and the port mapper answer on the same port, so a client needs to be told one number
//! and a firewall one rule. A call for a program we do not have (clients probe for NFSACL) is refused
//! and the connection lives on; so it is with a version, a procedure, or arguments that cannot be
//! decoded.
//!
//! One `NfsServer` belongs to one shard and serves the connections that this shard accepted. A call
//! is carried out where the engine's mail takes it; nothing here knows which shard that is.
//!
//! Calls that only read, and WRITEs, run inside their connection's future and end with it. Calls that
//! change names or attributes run as tasks in this server's gate, under a key (`call_identity.rs`) by
//! which the engine knows them again: if the connection breaks they still come to their end, and a
//! client that asks again on a new one is told what became of the first time.

use crate::call_identity::CallIdentity;
use crate::context::Context;
use crate::counts::ProcedureCounts;
use crate::export::Exports;
use crate::handle::HandleSeal;
use crate::limits::{IO_BYTES_MAX, READDIR_BYTES_MAX};
use crate::mount_wire::MountProcedure;
use crate::portmap_wire::PortmapProcedure;
use crate::wire::{Args, Procedure};
use crate::{mount, mount_wire, portmap, portmap_wire, proc, wire};
use cairn_base::door::Doors;
use cairn_engine::{CallKey, Shard};
use cairn_net::rpc::{self, CallHeader, Credential, Refusal};
use cairn_net::server::Call;
use cairn_net::xdr::{Decoder, Encoder, UNIT_BYTES, XdrError};
use cairn_reactor::Gate;
use smallvec::SmallVec;
use std::cell::RefCell;
use std::future::Future;
use std::rc::Rc;

/// Bytes of arguments that tell calls apart. Those that pass the reply cache are shorter: two
/// handles, two names, or a name and the target of a symbolic link.
const IDENTIFYING_BYTES: usize = 8 << 10;
/// Of a write: where it goes, and how its payload begins.
const IDENTIFYING_WRITE_BYTES: usize = 256;

/// As many are taken at a time, while there are so many.
const PIECE_BYTES: usize = 32;

const _: () = assert!(IDENTIFYING_BYTES.is_multiple_of(PIECE_BYTES));

#[derive(Clone, Debug)]
pub struct NfsConfig {
    pub exports: Exports,
    /// Where this server listens, for clients that ask the port mapper.
    pub port: u16,
}

impl NfsConfig {
    /// The root directory, for clients on this machine.
    pub fn loopback(port: u16) -> NfsConfig {
        NfsConfig { exports: Exports::loopback_root(), port }
    }
}

pub struct NfsServer<D: Doors> {
    shard: Rc<Shard<D>>,
    seal: HandleSeal,
    exports: RefCell<Rc<Exports>>,
    port: u16,
    gate: Gate,
    counts: Rc<ProcedureCounts>,
}

impl<D: Doors> NfsServer<D> {
    pub fn new(shard: Rc<Shard<D>>, config: NfsConfig) -> Rc<NfsServer<D>> {
        let seal = HandleSeal::new(shard.handle_key(), shard.fsid());
        let gate = shard.reactor().gate("nfs call");
        let NfsConfig { exports, port } = config;
        let exports = RefCell::new(Rc::new(exports));
        let counts = Rc::default();
        Rc::new(NfsServer { shard, seal, exports, port, gate, counts })
    }

    /// From the next call on, also of clients that have mounted already. Calls that are under way
    /// end as they began.
    pub fn use_exports(&self, exports: Exports) {
        self.exports.replace(Rc::new(exports));
    }

    /// The handler of `cairn_net::server::serve_connection`.
    pub async fn answer(self: Rc<Self>, call: Call) -> Option<Encoder> {
        match Route::of(&call.header) {
            Ok(Route::Nfs(procedure)) => {
                let began = self.shard.monotonic();
                let counts = self.counts.clone();
                let shard = self.shard.clone();
                let answer = if changes_names_or_attributes(procedure) {
                    self.answer_once(call, procedure).await
                } else if procedure == Procedure::Write {
                    Some(self.write(call).await)
                } else {
                    Some(self.carry_out(&call, Route::Nfs(procedure), None).await)
                };
                counts.note(procedure, shard.monotonic().saturating_sub(began));
                answer
            }
            Ok(route) => Some(self.carry_out(&call, route, None).await),
            Err(refusal) => Some(rpc::refuse(call.header.xid, refusal)),
        }
    }

    /// Bytes that the answer of a call may have beside its fields: what it asks to read or to be
    /// listed, as far as it would get it.
    pub fn answer_bytes_max(&self, call: &Call) -> usize {
        let args = call.args();
        let (bytes, most) = match Route::of(&call.header) {
            Ok(Route::Nfs(Procedure::Read)) => {
                (decode::<wire::ReadArgs<'_>>(args).map(|args| args.count), IO_BYTES_MAX)
            }
            Ok(Route::Nfs(Procedure::Readdir)) => {
                (decode::<wire::ReaddirArgs<'_>>(args).map(|args| args.count), READDIR_BYTES_MAX)
            }
            Ok(Route::Nfs(Procedure::Readdirplus)) => (
                decode::<wire::ReaddirplusArgs<'_>>(args).map(|args| args.maxcount),
                READDIR_BYTES_MAX,
            ),
            Ok(_) | Err(_) => return 0,
        };
        // What cannot be decoded is refused with a few bytes.
        bytes.map_or(0, |bytes| bytes.min(most) as usize)
    }

    pub fn counts(&self) -> &Rc<ProcedureCounts> {
        &self.counts
    }

    /// Lets the calls that outlive their connections come to their end, and takes no new ones.
    pub fn close(&self) -> impl Future<Output = ()> + use<D> {
        self.gate.close()
    }

    pub(crate) fn shard(&self) -> &Rc<Shard<D>> {
        &self.shard
    }

    pub(crate) fn seal(&self) -> &HandleSeal {
        &self.seal
    }

    pub(crate) fn exports(&self) -> Rc<Exports> {
        self.exports.borrow().clone()
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    async fn answer_once(self: Rc<Self>, call: Call, procedure: Procedure) -> Option<Encoder> {
        let once = Some(self.call_key(&call, IDENTIFYING_BYTES));
        let server = self.clone();
        let carry_out = async move { server.carry_out(&call, Route::Nfs(procedure), once).await };
        let task = self.gate.spawn_with(Box::pin(carry_out));
        // The gate is closed: we are going down, and the client will ask again.
        Some(task.ok()?.await)
    }

    fn call_key(&self, call: &Call, bytes_max: usize) -> CallKey {
        let identity = CallIdentity {
            client: call.peer.ip(),
            xid: call.header.xid,
            procedure: call.header.procedure,
            uid: match &call.header.credential {
                Credential::Sys(sys) => sys.uid,
                Credential::None => u32::MAX,
            },
            args: &identifying_bytes(call.args(), bytes_max),
        };
        identity.key(&self.shard.handle_key())
    }

    async fn write(&self, mut call: Call) -> Encoder {
        let once = Some(self.call_key(&call, IDENTIFYING_WRITE_BYTES));
        let Some(writing) = proc::Writing::taken(&mut call) else {
            return self.carry_out(&call, Route::Nfs(Procedure::Write), once).await;
        };
        let mut to = rpc::success(call.header.xid);
        let context = Context { server: self, call: &call, exports: self.exports(), once };
        proc::write(&context, writing, &mut to).await;
        to
    }

    async fn carry_out(&self, call: &Call, route: Route, once: Option<CallKey>) -> Encoder {
        let mut to = rpc::success(call.header.xid);
        let context = Context { server: self, call, exports: self.exports(), once };
        let done = match route {
            Route::Nfs(procedure) => nfs(&context, procedure, &mut to).await,
            Route::Mount(procedure) => mount(&context, procedure, &mut to).await,
            Route::Portmap(procedure) => portmap(&context, procedure, &mut to),
        };
        match done {
            Ok(()) => to,
            Err(_) => rpc::refuse(call.header.xid, Refusal::GarbageArguments),
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Route {
    Nfs(Procedure),
    Mount(MountProcedure),
    Portmap(PortmapProcedure),
}

impl Route {
    fn of(header: &CallHeader) -> Result<Route, Refusal> {
        let version = match header.program {
            wire::PROGRAM => wire::VERSION,
            mount_wire::PROGRAM => mount_wire::VERSION,
            portmap_wire::PROGRAM => portmap_wire::VERSION,
            _ => return Err(Refusal::ProgramUnavailable),
        };
        if header.version != version {
            return Err(Refusal::ProgramMismatch { low: version, high: version });
        }
        let procedure = header.procedure;
        let route = match header.program {
            wire::PROGRAM => Procedure::parse(procedure).map(Route::Nfs),
            mount_wire::PROGRAM => MountProcedure::parse(procedure).map(Route::Mount),
            _ => PortmapProcedure::parse(procedure).map(Route::Portmap),
        };
        route.ok_or(Refusal::ProcedureUnavailable)
    }
}

/// What tells the arguments of one call from those of another.
fn identifying_bytes(mut args: Decoder<'_>, bytes_max: usize) -> SmallVec<[u8; 256]> {
    let mut bytes = SmallVec::new();
    while bytes.len() < bytes_max {
        if let Ok(piece) = args.fixed::<PIECE_BYTES>() {
            bytes.extend_from_slice(&piece);
        } else if let Ok(word) = args.fixed::<UNIT_BYTES>() {
            bytes.extend_from_slice(&word);
        } else {
            break;
        }
    }
    bytes
}

/// The procedures that answer differently when they are carried out again.
fn changes_names_or_attributes(procedure: Procedure) -> bool {
    match procedure {
        Procedure::Setattr
        | Procedure::Create
        | Procedure::Mkdir
        | Procedure::Symlink
        | Procedure::Mknod
        | Procedure::Remove
        | Procedure::Rmdir
        | Procedure::Rename
        | Procedure::Link => true,
        Procedure::Null
        | Procedure::Getattr
        | Procedure::Lookup
        | Procedure::Access
        | Procedure::Readlink
        | Procedure::Read
        | Procedure::Write
        | Procedure::Readdir
        | Procedure::Readdirplus
        | Procedure::Fsstat
        | Procedure::Fsinfo
        | Procedure::Pathconf
        | Procedure::Commit => false,
    }
}

fn decode<'a, A: Args<'a>>(mut args: Decoder<'a>) -> Result<A, XdrError> {
    A::decode(&mut args)
}

async fn nfs<D: Doors>(
    context: &Context<'_, D>,
    procedure: Procedure,
    to: &mut Encoder,
) -> Result<(), XdrError> {
    let args = context.call.args();
    match procedure {
        Procedure::Null => {}
        Procedure::Getattr => proc::getattr(context, decode(args)?, to).await,
        Procedure::Setattr => proc::setattr(context, decode(args)?, to).await,
        Procedure::Lookup => proc::lookup(context, decode(args)?, to).await,
        Procedure::Access => proc::access(context, decode(args)?, to).await,
        Procedure::Readlink => proc::readlink(context, decode(args)?, to).await,
        Procedure::Read => proc::read(context, decode(args)?, to).await,
        Procedure::Write => {
            let writing = proc::Writing::copied(&decode(args)?, context.shard().arena());
            proc::write(context, writing, to).await;
        }
        Procedure::Create => proc::create(context, decode(args)?, to).await,
        Procedure::Mkdir => proc::mkdir(context, decode(args)?, to).await,
        Procedure::Symlink => proc::symlink(context, decode(args)?, to).await,
        Procedure::Mknod => proc::mknod(context, decode(args)?, to).await,
        Procedure::Remove => proc::remove(context, decode(args)?, to).await,
        Procedure::Rmdir => proc::rmdir(context, decode(args)?, to).await,
        Procedure::Rename => proc::rename(context, decode(args)?, to).await,
        Procedure::Link => proc::link(context, decode(args)?, to).await,
        Procedure::Readdir => proc::readdir(context, decode(args)?, to).await,
        Procedure::Readdirplus => proc::readdirplus(context, decode(args)?, to).await,
        Procedure::Fsstat => proc::fsstat(context, decode(args)?, to).await,
        Procedure::Fsinfo => proc::fsinfo(context, decode(args)?, to).await,
        Procedure::Pathconf => proc::pathconf(context, decode(args)?, to).await,
        Procedure::Commit => proc::commit(context, decode(args)?, to).await,
    }
    Ok(())
}

async fn mount<D: Doors>(
    context: &Context<'_, D>,
    procedure: MountProcedure,
    to: &mut Encoder,
) -> Result<(), XdrError> {
    let args = context.call.args();
    match procedure {
        MountProcedure::Null => {}
        MountProcedure::Mnt => mount::mnt(context, decode(args)?, to).await,
        MountProcedure::Dump => mount::dump(to),
        MountProcedure::Umnt => mount::umnt(decode(args)?),
        MountProcedure::UmntAll => {}
        MountProcedure::Export => mount::export(&context.exports, to),
    }
    Ok(())
}

fn portmap<D: Doors>(
    context: &Context<'_, D>,
    procedure: PortmapProcedure,
    to: &mut Encoder,
) -> Result<(), XdrError> {
    let port = context.server.port();
    match procedure {
        PortmapProcedure::Null => {}
        PortmapProcedure::Getport => portmap::getport(port, decode(context.call.args())?, to),
        PortmapProcedure::Dump => portmap::dump(port, to),
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A call from the wire: xid 9, the given program, version and procedure, AUTH_NONE.
    #[rustfmt::skip]
    fn call(program: [u8; 4], version: u8, procedure: u8) -> [u8; 40] {
        let [a, b, c, d] = program;
        [
            0, 0, 0, 9,  0, 0, 0, 0,  0, 0, 0, 2,
            a, b, c, d,  0, 0, 0, version,  0, 0, 0, procedure,
            0, 0, 0, 0,  0, 0, 0, 0,
            0, 0, 0, 0,  0, 0, 0, 0,
        ]
    }

    fn route(program: [u8; 4], version: u8, procedure: u8) -> Result<Route, Refusal> {
        let call = call(program, version, procedure);
        let (header, _) = rpc::decode_call(&call).unwrap();
        Route::of(&header)
    }

    const NFS: [u8; 4] = [0, 1, 0x86, 0xa3];
    const MOUNT: [u8; 4] = [0, 1, 0x86, 0xa5];
    const PORTMAP: [u8; 4] = [0, 1, 0x86, 0xa0];
    const NFSACL: [u8; 4] = [0, 3, 0x0d, 0x5b];

    #[test]
    fn three_programs_answer_on_one_port() {
        assert_eq!(route(NFS, 3, 0), Ok(Route::Nfs(Procedure::Null)));
        assert_eq!(route(NFS, 3, 21), Ok(Route::Nfs(Procedure::Commit)));
        assert_eq!(route(MOUNT, 3, 1), Ok(Route::Mount(MountProcedure::Mnt)));
        assert_eq!(route(PORTMAP, 2, 3), Ok(Route::Portmap(PortmapProcedure::Getport)));
    }

    #[test]
    fn an_unknown_program_is_unavailable_whatever_its_version() {
        assert_eq!(route(NFSACL, 3, 0), Err(Refusal::ProgramUnavailable));
        assert_eq!(route([0, 0, 0, 0], 0, 0), Err(Refusal::ProgramUnavailable));
    }

    #[test]
    fn a_wrong_version_is_told_the_right_one_before_the_procedure_is_looked_at() {
        for (program, version, right) in [
            (NFS, 2, 3),
            (NFS, 4, 3),
            (MOUNT, 1, 3),
            (MOUNT, 2, 3),
            (PORTMAP, 3, 2),
            (PORTMAP, 4, 2),
        ] {
            let mismatch = Refusal::ProgramMismatch { low: right, high: right };
            assert_eq!(route(program, version, 99), Err(mismatch));
        }
    }

    #[test]
    fn a_procedure_behind_the_last_one_is_unavailable() {
        for (program, version, procedure) in [(NFS, 3, 22), (MOUNT, 3, 6), (PORTMAP, 2, 5)] {
            assert_eq!(route(program, version, procedure), Err(Refusal::ProcedureUnavailable));
        }
    }

    #[test]
    fn arguments_that_end_early_are_noticed() {
        let handle = [0, 0, 0, 8, 1, 2, 3, 4, 5, 6, 7];
        assert_eq!(decode::<wire::Handle<'_>>(Decoder::new(&handle)), Err(XdrError::Short));
    }
}
