//! MOUNT and the port mapper: a path from somebody who has no handle yet, and which export it means.
//!
//! The first byte of an input: 0 to 5 are MOUNT's procedures, 8 to 15 those of the port mapper, from
//! its first on.

use super::nfs_args::kind_of;
use super::{Target, Verdict, is_within, mode_of};
use crate::specimen::Specimen;
use cairn_engine::Name;
use cairn_format::InodeNo;
use cairn_net::xdr::{Decoder, Encoder, XdrError};
use cairn_nfs::export::{Export, ExportId, Exports, components};
use cairn_nfs::mount_wire::{DirPath, MountProcedure};
use cairn_nfs::portmap_wire::{Mapping, PortmapProcedure, TCP, encode_mappings};
use cairn_nfs::wire::Args;

const PORTMAP: u8 = 8;

pub const TARGET: Target = Target {
    name: "mount_args",
    run,
    modes: 16,
    bytes_max: 2 << 10,
    heap_max: 64 << 10,
    specimens,
};

fn specimens() -> Vec<Specimen> {
    let path = |path: &[u8]| {
        let mut to = Encoder::new();
        to.opaque(path);
        to.parts().0
    };
    let mnt = MountProcedure::Mnt as u8;
    let words: Vec<u8> = [100_003, 3, TCP, 0].into_iter().flat_map(u32::to_be_bytes).collect();
    vec![
        Specimen::new("mnt-root", &[&[mnt], &path(b"/")]),
        Specimen::new("mnt-below", &[&[mnt], &path(b"//projects/a//b/x/")]),
        Specimen::new("mnt-empty", &[&[mnt], &path(b"")]),
        Specimen::new("mnt-elsewhere", &[&[mnt], &path(b"/projectsX")]),
        Specimen::new("umnt", &[&[MountProcedure::Umnt as u8], &path(b"/projects")]),
        Specimen::new("export", &[&[MountProcedure::Export as u8]]),
        Specimen::new("getport", &[&[PORTMAP + 3], &words]),
        Specimen::new("dump", &[&[PORTMAP + 4]]),
    ]
}

pub fn run(input: &[u8]) -> Verdict {
    let (number, args) = mode_of(input);
    let read =
        if number >= PORTMAP { portmap(number - PORTMAP, args) } else { mount(number, args) };
    match read {
        Some(Ok(())) => Verdict::Accepted,
        Some(Err(error)) => Verdict::Refused(kind_of(error)),
        None => Verdict::Refused("procedure or export".into()),
    }
}

fn mount(number: u8, args: &[u8]) -> Option<Result<(), XdrError>> {
    match MountProcedure::parse(number.into())? {
        MountProcedure::Mnt | MountProcedure::Umnt => {
            let path = match DirPath::decode(&mut Decoder::new(args)) {
                Ok(path) => path,
                Err(error) => return Some(Err(error)),
            };
            assert!(path.0.len() <= 1024 && is_within(path.0, args));
            serving(path.0).then_some(Ok(()))
        }
        MountProcedure::Null
        | MountProcedure::Dump
        | MountProcedure::UmntAll
        | MountProcedure::Export => Some(Ok(())),
    }
}

/// `/projects` and `/projects/a/b`, so that one lies in the other and `/` is nobody's.
fn exports() -> Exports {
    let root = Exports::loopback_root();
    let like = root.iter().next().expect("it has one");
    let export = |id, path: &[u8]| Export {
        id: ExportId(id),
        path: components(path).map(Box::from).collect(),
        root: InodeNo::ROOT,
        ..like.clone()
    };
    Exports::new(vec![export(1, b"/projects"), export(2, b"/projects/a/b")])
}

/// Whether an export serves the path; the longest that it begins with does.
fn serving(path: &[u8]) -> bool {
    let exports = exports();
    let parts: Vec<&[u8]> = components(path).collect();
    assert!(parts.iter().all(|part| !part.is_empty() && !part.contains(&b'/')));
    let want = match parts[..] {
        [b"projects", b"a", b"b", ..] => Some((2, 3)),
        [b"projects", ..] => Some((1, 1)),
        _ => None,
    };
    let found = exports.serving(path);
    assert_eq!(found.as_ref().map(|(export, _)| export.id.0), want.map(|(id, _)| id));
    let (Some((_, below)), Some((_, skipped))) = (found, want) else { return false };
    assert_eq!(below, parts[skipped..]);
    for part in below {
        if let Ok(name) = Name::parse(part) {
            assert_eq!(name.as_bytes(), part);
        }
    }
    true
}

fn portmap(number: u8, args: &[u8]) -> Option<Result<(), XdrError>> {
    if PortmapProcedure::parse(number.into())? != PortmapProcedure::Getport {
        return Some(Ok(()));
    }
    let mapping = match Mapping::decode(&mut Decoder::new(args)) {
        Ok(mapping) => mapping,
        Err(error) => return Some(Err(error)),
    };
    let mut to = Encoder::new();
    encode_mappings(&mut to, [mapping]);
    let (listed, _) = to.parts();
    assert_eq!(listed[4..20], args[..16], "a mapping is listed as it was asked for");
    Some(Ok(()))
}
