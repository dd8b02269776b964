//! What no user means to do, and all of them will: files that are no pool, messages that are no
//! RPC, handles that are nobody's, a disk that is full.
//!
//! Each gets a clear answer, and nobody else notices: after every attack another connection is
//! served, by the same daemon.

mod full;
mod handle;
mod pool;
mod wire;

use cairn_accept::nfs3_types::nfs3::*;
use cairn_accept::{Answer, Client, Served};
use std::fmt::Debug;

/// The same daemon still serves, on a connection that was open all the time and on a new one.
#[track_caller]
pub fn still_serves(served: &mut Served, open: &mut Client) {
    if let Err(error) = open.null() {
        panic!("a connection beside the attack broke: {error}{}", served.last_words());
    }
    let root = open.root().clone();
    open.getattr(&root).expect("getattr on the connection beside");
    served.connect().getattr(&root).expect("getattr on a new connection");
    if let Some(daemon) = served.daemon("still_serves") {
        daemon.expect_alive().expect("the daemon lives");
    }
}

#[track_caller]
pub fn refused<T: Debug>(answer: Answer<T>, with: &[nfsstat3]) {
    match answer {
        Ok(reply) => panic!("want a refusal with one of {with:?}, it was done: {reply:?}"),
        Err(fault) => assert!(
            fault.status().is_some_and(|status| with.contains(&status)),
            "want a refusal with one of {with:?}, got {fault}"
        ),
    }
}
