//! MOUNT (RFC 1813, appendix I): from a path to the first handle.
//!
//! The path names an export or a directory below one, and the way down is walked as the caller: who
//! may not search a directory cannot mount what lies behind it. Symbolic links are not followed, as
//! the path is ours and not the client's.
//!
//! No list of mounts is kept. It would be a guess after the first client that went away without
//! saying so, and nothing may depend on it; so DUMP is empty and UMNT has nothing to do. Version 1 and
//! 2 of the protocol carry handles of NFSv2 and are refused.

use crate::context::{Context, SealedHandle};
use crate::export::Exports;
use crate::mount_wire::{
    DirPath, ExportLine, MntRes, MountError, Mounted, encode_dump, encode_exports,
};
use crate::status::mount_error;
use crate::wire::{Encode, Handle};
use cairn_base::door::Doors;
use cairn_engine::attr::FileKind;
use cairn_engine::{FsError, Name, op};
use cairn_net::rpc::AUTH_SYS;
use cairn_net::xdr::Encoder;

/// AUTH_NONE is understood as well, but a client that finds it in the list may take it to mean that
/// nobody's identity counts.
const FLAVORS: [u32; 1] = [AUTH_SYS];

pub async fn mnt<D: Doors>(call: &Context<'_, D>, path: DirPath<'_>, to: &mut Encoder) {
    let found = find(call, path).await;
    let outcome: MntRes<'_> = match &found {
        Ok(handle) => Ok(Mounted { handle: Handle(handle), flavors: &FLAVORS }),
        Err(error) => Err(*error),
    };
    outcome.encode(to);
}

async fn find<D: Doors>(
    call: &Context<'_, D>,
    path: DirPath<'_>,
) -> Result<SealedHandle, MountError> {
    let (export, below) = call.exports.serving(path.0).ok_or(MountError::NoEnt)?;
    if !export.admits(call.call.peer) {
        return Err(MountError::Acces);
    }
    let cred = export.cred(&call.call.header.credential);
    let mut dir = export.root;
    for component in below {
        let name = Name::parse(component).map_err(mount_error)?;
        let step = op::Lookup { cred: cred.clone(), dir, name };
        let found = call.shard().call(step).await.map_err(mount_error)?;
        if found.kind != FileKind::Directory {
            return Err(mount_error(FsError::NotDirectory));
        }
        dir = found.child;
    }
    Ok(call.sealed(export.id, dir))
}

pub fn dump(to: &mut Encoder) {
    encode_dump(to, []);
}

pub fn umnt(_path: DirPath<'_>) {}

pub fn export(exports: &Exports, to: &mut Encoder) {
    let lines: Vec<_> = exports.iter().map(|export| (export.name(), export.groups())).collect();
    let groups: Vec<Vec<&[u8]>> = lines
        .iter()
        .map(|(_, groups)| groups.iter().map(|group| group.as_bytes()).collect())
        .collect();
    let lines = lines.iter().zip(&groups);
    encode_exports(to, lines.map(|((name, _), groups)| ExportLine { dir: DirPath(name), groups }));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn export_lists_the_root_with_its_clients() {
        let mut to = Encoder::new();
        export(&Exports::loopback_root(), &mut to);
        #[rustfmt::skip]
        let want = [
            &[0, 0, 0, 1,  0, 0, 0, 1, b'/', 0, 0, 0][..],
            &[0, 0, 0, 1,  0, 0, 0, 11], b"127.0.0.0/8\0",
            &[0, 0, 0, 1,  0, 0, 0, 7], b"::1/128\0",
            &[0, 0, 0, 0,  0, 0, 0, 0],
        ];
        assert_eq!(to.parts().0, want.concat());
    }

    #[test]
    fn nobody_is_listed_as_having_mounted_anything() {
        let mut to = Encoder::new();
        dump(&mut to);
        assert_eq!(to.parts().0, [0; 4]);
    }
}
