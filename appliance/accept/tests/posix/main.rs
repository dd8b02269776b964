//! What the operations mean, asked over NFS by a client that is not ours.
//!
//! One file per theme. Each test has a server and a directory of its own; with CAIRN_ACCEPT_FOREIGN
//! (`served.rs` of the library) the same questions go to another server, to try the questions.
//! Where the protocol leaves the status open, a test takes each that a client would understand.

mod attributes;
mod create;
mod data;
mod file_system;
mod link;
mod listing;
mod permission;
mod rename;
mod special;

use cairn_accept::nfs3_types::nfs3::*;
use cairn_accept::{Answer, Client, Cred, Made, Served, set_mode};
use std::fmt::Debug;

/// A server, a connection as root, and a directory that everybody may use.
pub struct Place {
    pub served: Served,
    pub root: Client,
    pub home: nfs_fh3,
}

impl Place {
    pub fn start(test: &str) -> Option<Place> {
        let served = Served::start(test)?;
        let mut root = served.connect();
        let home = served.home(&mut root);
        Some(Place { served, root, home })
    }

    pub fn user(&self, uid: u32, gid: u32) -> Client {
        self.served.connect_as(&Cred::user(uid, gid))
    }

    /// A new directory in the home, made by root.
    pub fn dir(&mut self, name: &str, mode: u32) -> nfs_fh3 {
        let made = self.root.mkdir(&self.home, name.as_bytes(), with_mode(mode)).expect("mkdir");
        // The mode of the call may have been cut by a mask.
        self.root.setattr(&made.handle, with_mode(mode)).expect("setattr");
        made.handle
    }

    /// A new file in the home, made by root, with something in it.
    pub fn file(&mut self, name: &str, mode: u32, bytes: &[u8]) -> nfs_fh3 {
        let made = create(&mut self.root, &self.home, name, mode);
        write(&mut self.root, &made.handle, 0, bytes);
        self.root.setattr(&made.handle, with_mode(mode)).expect("setattr");
        made.handle
    }
}

pub fn with_mode(mode: u32) -> sattr3 {
    sattr3 { mode: set_mode(mode), ..sattr3::default() }
}

pub fn create(client: &mut Client, dir: &nfs_fh3, name: &str, mode: u32) -> Made {
    client.create(dir, name.as_bytes(), createhow3::GUARDED(with_mode(mode))).expect("create")
}

pub fn mkdir(client: &mut Client, dir: &nfs_fh3, name: &str) -> nfs_fh3 {
    client.mkdir(dir, name.as_bytes(), with_mode(0o755)).expect("mkdir").handle
}

/// A synchronous write of everything.
pub fn write(client: &mut Client, file: &nfs_fh3, offset: u64, bytes: &[u8]) {
    if bytes.is_empty() {
        return;
    }
    let written = client.write(file, offset, bytes, stable_how::FILE_SYNC).expect("write");
    assert_eq!(written.count as usize, bytes.len(), "all of a small write");
}

/// Up to `count` bytes; short only at the end of the file.
pub fn read(client: &mut Client, file: &nfs_fh3, offset: u64, count: u32) -> Vec<u8> {
    let part = client.read(file, offset, count).expect("read");
    assert_eq!(part.count as usize, part.data.len(), "count and data of one reply");
    assert!(part.eof || part.data.len() == count as usize, "short and not at the end");
    part.data.0.into_owned()
}

pub fn fileid(client: &mut Client, object: &nfs_fh3) -> u64 {
    client.getattr(object).expect("getattr").fileid
}

pub fn exists(client: &mut Client, dir: &nfs_fh3, name: &str) -> bool {
    match client.lookup(dir, name.as_bytes()) {
        Ok(_) => true,
        Err(fault) if fault.is_no_entry() => false,
        Err(fault) => panic!("lookup of {name}: {fault}"),
    }
}

/// The call must have been refused with one of these.
#[track_caller]
pub fn refused<T: Debug>(answer: Answer<T>, with: &[nfsstat3]) {
    match answer {
        Ok(reply) => panic!("want a refusal with one of {with:?}, it was done: {reply:?}"),
        Err(fault) => {
            let status = fault.status();
            assert!(
                status.is_some_and(|status| with.contains(&status)),
                "want a refusal with one of {with:?}, got {fault}"
            );
        }
    }
}

/// The weak cache consistency data of a change: there, and of this object.
#[track_caller]
pub fn changed(place: &Served, wcc: &wcc_data, fileid: u64) {
    if place.is_foreign() {
        return; // optional in the protocol, promised by us
    }
    let Nfs3Option::Some(before) = wcc.before else { panic!("no attributes before: {wcc:?}") };
    let Nfs3Option::Some(after) = &wcc.after else { panic!("no attributes after: {wcc:?}") };
    assert_eq!(after.fileid, fileid, "attributes of another object: {wcc:?}");
    assert!(time(&before.ctime) < time(&after.ctime), "a change moves ctime: {wcc:?}");
}

pub fn time(time: &nfstime3) -> (u32, u32) {
    (time.seconds, time.nseconds)
}
