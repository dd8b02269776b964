//! NFS version 3 (RFC 1813) as the workloads call it: one method of `Slot` for each procedure, which
//! encodes, waits, checks the status and reads what the workloads need of the results.
//!
//! Anything but success is an error with the procedure's name: a benchmark that counts failures as
//! work measures the wrong thing. A short READ or WRITE is one too, although the protocol allows it;
//! no server we compare with does so inside a file.

use crate::lane::Slot;
use crate::pattern::Piece;
use crate::rpc::{self, Program};
use crate::wire::Reply;
use crate::xdr::{Decoder, Encoder};
use anyhow::{Context, Result, bail, ensure};

/// A file handle, at most 64 bytes (RFC 1813 section 2.4). Short enough to be copied about.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Handle {
    bytes: [u8; HANDLE_BYTES_MAX],
    length: usize,
}

const HANDLE_BYTES_MAX: usize = 64;
const FATTR_BYTES: usize = 84;

impl Handle {
    /// Of no file: for connections that only mount.
    pub const NONE: Handle = Handle { bytes: [0; HANDLE_BYTES_MAX], length: 0 };

    fn decode(reply: &mut Decoder<'_>) -> Result<Handle> {
        let read = reply.opaque(HANDLE_BYTES_MAX)?;
        let mut bytes = [0; HANDLE_BYTES_MAX];
        bytes[..read.len()].copy_from_slice(read);
        Ok(Handle { bytes, length: read.len() })
    }

    fn as_bytes(&self) -> &[u8] {
        &self.bytes[..self.length]
    }
}

/// How far a WRITE must have come before it is answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stability {
    Unstable,
    FileSync,
}

/// The server's answer to a WRITE or COMMIT: it changes when unstable data may have been lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Verifier(pub u64);

#[derive(Clone, Copy, Debug)]
pub struct Limits {
    pub read_bytes_max: u32,
    pub write_bytes_max: u32,
}

/// One page of a listing.
pub struct Page {
    pub names: Vec<Vec<u8>>,
    pub cookie: u64,
    pub verifier: u64,
    pub is_last: bool,
}

const NULL: u32 = 0;
const GETATTR: u32 = 1;
const LOOKUP: u32 = 3;
const READ: u32 = 6;
const WRITE: u32 = 7;
const CREATE: u32 = 8;
const MKDIR: u32 = 9;
const REMOVE: u32 = 12;
const RMDIR: u32 = 13;
const RENAME: u32 = 14;
const READDIR: u32 = 16;
const READDIRPLUS: u32 = 17;
const FSINFO: u32 = 19;
const COMMIT: u32 = 21;

impl Slot {
    pub async fn null(&self) -> Result<()> {
        self.call((rpc::NFS, NULL), None, |_| ()).await.context("NULL")?;
        Ok(())
    }

    /// The file's size.
    pub async fn getattr(&self, file: &Handle) -> Result<u64> {
        let reply = self.nfs(GETATTR, |call| {
            call.opaque(file.as_bytes());
        });
        let reply = reply.await.context("GETATTR")?;
        let mut attributes = results(&reply).context("GETATTR")?;
        attributes.skip(20)?; // type, mode, links, uid, gid
        attributes.u64()
    }

    pub async fn lookup(&self, directory: &Handle, name: &[u8]) -> Result<Handle> {
        let reply = self.nfs(LOOKUP, |call| {
            call.opaque(directory.as_bytes()).opaque(name);
        });
        let reply = reply.await.context("LOOKUP")?;
        Handle::decode(&mut results(&reply).context("LOOKUP")?)
    }

    /// Exactly `length` bytes, shown to `look`.
    pub async fn read(
        &self,
        file: &Handle,
        (offset, length): (u64, usize),
        look: impl FnOnce(&[u8]) -> Result<()>,
    ) -> Result<()> {
        let reply = self.nfs(READ, |call| {
            call.opaque(file.as_bytes()).u64(offset).u32(count(length));
        });
        let reply = reply.await.context("READ")?;
        let mut read = results(&reply).context("READ")?;
        skip_attributes(&mut read)?;
        read.skip(8)?; // count, end of file
        let data = read.opaque(length)?;
        ensure!(data.len() == length, "READ of {length} at {offset} gave {} bytes", data.len());
        look(data)
    }

    pub async fn write(
        &self,
        file: &Handle,
        offset: u64,
        piece: Piece,
        stability: Stability,
    ) -> Result<Verifier> {
        let wanted = match stability {
            Stability::Unstable => 0,
            Stability::FileSync => 2,
        };
        let length = piece.length();
        let reply = self.call((rpc::NFS, WRITE), Some(piece), |call| {
            call.opaque(file.as_bytes()).u64(offset).u32(count(length)).u32(wanted);
        });
        let reply = reply.await.context("WRITE")?;
        let mut written = results(&reply).context("WRITE")?;
        skip_change(&mut written)?;
        let taken = written.u32()?;
        ensure!(taken == count(length), "WRITE of {length} at {offset} took {taken} bytes");
        let committed = written.u32()?;
        ensure!(committed >= wanted, "WRITE was less stable ({committed}) than asked ({wanted})");
        Ok(Verifier(written.u64()?))
    }

    pub async fn commit(&self, file: &Handle) -> Result<Verifier> {
        let reply = self.nfs(COMMIT, |call| {
            call.opaque(file.as_bytes()).u64(0).u32(0); // all of the file
        });
        let reply = reply.await.context("COMMIT")?;
        let mut committed = results(&reply).context("COMMIT")?;
        skip_change(&mut committed)?;
        Ok(Verifier(committed.u64()?))
    }

    /// A new file; a name that exists is an error.
    pub async fn create(&self, directory: &Handle, name: &[u8]) -> Result<Handle> {
        let reply = self.nfs(CREATE, |call| {
            call.opaque(directory.as_bytes()).opaque(name).u32(1); // GUARDED
            encode_mode(call, 0o644);
        });
        let reply = reply.await.context("CREATE")?;
        let mut created = results(&reply).context("CREATE")?;
        ensure!(created.bool()?, "CREATE gave no handle");
        Handle::decode(&mut created)
    }

    pub async fn mkdir(&self, directory: &Handle, name: &[u8]) -> Result<Handle> {
        let reply = self.nfs(MKDIR, |call| {
            call.opaque(directory.as_bytes()).opaque(name);
            encode_mode(call, 0o755);
        });
        let reply = reply.await.context("MKDIR")?;
        let mut created = results(&reply).context("MKDIR")?;
        ensure!(created.bool()?, "MKDIR gave no handle");
        Handle::decode(&mut created)
    }

    pub async fn remove(&self, directory: &Handle, name: &[u8]) -> Result<()> {
        let reply = self.nfs(REMOVE, |call| {
            call.opaque(directory.as_bytes()).opaque(name);
        });
        results(&reply.await.context("REMOVE")?).context("REMOVE").map(drop)
    }

    pub async fn rmdir(&self, directory: &Handle, name: &[u8]) -> Result<()> {
        let reply = self.nfs(RMDIR, |call| {
            call.opaque(directory.as_bytes()).opaque(name);
        });
        results(&reply.await.context("RMDIR")?).context("RMDIR").map(drop)
    }

    /// Within one directory.
    pub async fn rename(&self, directory: &Handle, from: &[u8], to: &[u8]) -> Result<()> {
        let reply = self.nfs(RENAME, |call| {
            call.opaque(directory.as_bytes()).opaque(from).opaque(directory.as_bytes()).opaque(to);
        });
        results(&reply.await.context("RENAME")?).context("RENAME").map(drop)
    }

    pub async fn readdir(&self, directory: &Handle, from: &Page) -> Result<Page> {
        let reply = self.nfs(READDIR, |call| {
            call.opaque(directory.as_bytes()).u64(from.cookie).u64(from.verifier).u32(32 << 10);
        });
        let reply = reply.await.context("READDIR")?;
        let mut listing = results(&reply).context("READDIR")?;
        let mut page = Page::start_of(&mut listing)?;
        while listing.bool()? {
            listing.skip(8)?; // file id
            page.names.push(listing.opaque(255)?.to_vec());
            page.cookie = listing.u64()?;
        }
        page.is_last = listing.bool()?;
        Ok(page)
    }

    /// As `readdir`, but the names are only counted, together with their attributes and handles.
    pub async fn readdirplus(&self, directory: &Handle, from: &Page) -> Result<(Page, u64)> {
        let reply = self.nfs(READDIRPLUS, |call| {
            call.opaque(directory.as_bytes()).u64(from.cookie).u64(from.verifier);
            call.u32(32 << 10).u32(64 << 10);
        });
        let reply = reply.await.context("READDIRPLUS")?;
        let mut listing = results(&reply).context("READDIRPLUS")?;
        let mut page = Page::start_of(&mut listing)?;
        let mut entries = 0;
        while listing.bool()? {
            listing.skip(8)?;
            listing.opaque(255)?;
            page.cookie = listing.u64()?;
            skip_attributes(&mut listing)?;
            if listing.bool()? {
                listing.opaque(HANDLE_BYTES_MAX)?;
            }
            entries += 1;
        }
        page.is_last = listing.bool()?;
        Ok((page, entries))
    }

    pub async fn fsinfo(&self, root: &Handle) -> Result<Limits> {
        let reply = self.nfs(FSINFO, |call| {
            call.opaque(root.as_bytes());
        });
        let reply = reply.await.context("FSINFO")?;
        let mut info = results(&reply).context("FSINFO")?;
        skip_attributes(&mut info)?;
        let read_bytes_max = info.u32()?;
        info.skip(8)?; // preferred size and multiple
        Ok(Limits { read_bytes_max, write_bytes_max: info.u32()? })
    }

    /// An error where MOUNT is not served.
    pub async fn has_mount(&self) -> Result<()> {
        self.call((rpc::MOUNT, 0), None, |_| ()).await.context("MOUNT")?;
        Ok(())
    }

    /// MNT of the MOUNT program (RFC 1813 section 5.2.1).
    pub async fn mount(&self, path: &str) -> Result<Handle> {
        let reply = self.call((rpc::MOUNT, 1), None, |call| {
            call.opaque(path.as_bytes());
        });
        let reply = reply.await.with_context(|| format!("MNT {path}"))?;
        let mut mounted = reply.results();
        match mounted.u32()? {
            0 => Handle::decode(&mut mounted),
            2 => bail!("MNT {path}: the server exports no such path (NOENT)"),
            13 => bail!("MNT {path}: the export does not admit this client (ACCES)"),
            status => bail!("MNT {path}: status {status}"),
        }
    }

    /// Asks a port mapper where a program listens over TCP (RFC 1833 section 3); 0 is nowhere.
    pub async fn getport(&self, program: Program) -> Result<u32> {
        let reply = self.call((rpc::PORTMAP, 3), None, |call| {
            call.u32(program.number).u32(program.version).u32(6).u32(0);
        });
        reply.await.context("GETPORT")?.results().u32()
    }

    fn nfs(
        &self,
        procedure: u32,
        arguments: impl FnOnce(&mut Encoder<'_>),
    ) -> impl Future<Output = Result<Reply<'_>>> {
        self.call((rpc::NFS, procedure), None, arguments)
    }
}

impl Page {
    /// Where a listing begins.
    pub const FIRST: Page = Page { names: Vec::new(), cookie: 0, verifier: 0, is_last: false };

    fn start_of(listing: &mut Decoder<'_>) -> Result<Page> {
        skip_attributes(listing)?;
        Ok(Page { verifier: listing.u64()?, ..Page::FIRST })
    }
}

/// What follows a successful status.
fn results<'r>(reply: &'r Reply<'_>) -> Result<Decoder<'r>> {
    let mut results = reply.results();
    match results.u32()? {
        0 => Ok(results),
        status => bail!("status {status} ({})", status_name(status)),
    }
}

/// RFC 1813 section 2.6, as far as a benchmark may meet them.
fn status_name(status: u32) -> &'static str {
    match status {
        1 => "PERM",
        2 => "NOENT",
        5 => "IO",
        13 => "ACCES",
        17 => "EXIST",
        20 => "NOTDIR",
        21 => "ISDIR",
        22 => "INVAL",
        27 => "FBIG",
        28 => "NOSPC",
        30 => "ROFS",
        66 => "NOTEMPTY",
        69 => "DQUOT",
        70 => "STALE",
        10_001 => "BADHANDLE",
        10_004 => "NOTSUPP",
        10_006 => "SERVERFAULT",
        10_008 => "JUKEBOX",
        _ => "see RFC 1813, section 2.6",
    }
}

fn skip_attributes(reply: &mut Decoder<'_>) -> Result<()> {
    if reply.bool()? { reply.skip(FATTR_BYTES) } else { Ok(()) }
}

/// Attributes before and after (wcc_data).
fn skip_change(reply: &mut Decoder<'_>) -> Result<()> {
    if reply.bool()? {
        reply.skip(24)?; // size, mtime, ctime
    }
    skip_attributes(reply)
}

/// A set of attributes that names the mode alone.
fn encode_mode(call: &mut Encoder<'_>, mode: u32) {
    call.u32(1).u32(mode).u32(0).u32(0).u32(0).u32(0).u32(0);
}

fn count(length: usize) -> u32 {
    u32::try_from(length).expect("transfers are at most 16 MiB")
}
